//! The running agent: its listeners, and the tasks that keep cache, link and health.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::associations;
use crate::cache::{Cache, CacheParts, PodCredentials, PodUse};
use crate::config::AgentConfig;
use crate::guard;
use crate::handler::{Endpoint, EndpointParts};
use crate::handover::HandoverError;
use crate::health::{Health, Probes, State, reach};
use crate::holder::holder;
use crate::link::{IPV4, IPV6, LINK, LinkError, Network, is_set_up, set_up};
use crate::listen::{ListenLimits, serve};
use crate::metrics::Metrics;
use crate::pods::PodTable;
use crate::sockets::{Listening, Role, Sockets};

/// Time between two attempts to bind an address.
const BIND_EVERY: Duration = Duration::from_secs(30);
/// Time between two looks at the link.
const LINK_EVERY: Duration = Duration::from_secs(60);
/// How long a process that takes over waits until it knows what it needs to answer as the one before does: pods and keys, and
/// then its packet filter.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another process has the port.
    #[error(
        "{address} is in use{}; stop the process that listens there, such as another pod identity agent",
        by.as_ref().map_or(String::new(), |by| format!(" by {by}"))
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// The process, if it could be found.
        by: Option<String>,
    },
    /// A required address, or every address, cannot be listened on.
    #[error("could not listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no address to listen on.
    #[error("there is no address to listen on")]
    NoAddress,
    /// The link for IPv4 cannot be set up.
    #[error("the link `{LINK}` cannot be set up")]
    Link(#[from] LinkError),
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Randomness,
    /// The directory for handing over sockets cannot be used.
    #[error(transparent)]
    Handover(#[from] HandoverError),
}

/// A running agent.
pub struct Agent {
    cache: Arc<Cache>,
    pods: Option<watch::Receiver<Option<Arc<PodTable>>>>,
    metrics: Arc<Metrics>,
    endpoint: Endpoint,
    addresses: Vec<SocketAddr>,
    probes: Option<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    tasks: TaskTracker,
    shutdown: watch::Sender<bool>,
}

impl Agent {
    /// Runs an agent until `shutdown` ends, and then until the requests under way are answered.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn run(
        config: AgentConfig,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let agent = Self::start(config).await?;
        shutdown.await;
        agent.stop().await;
        Ok(())
    }

    /// Starts an agent: sets up the link, binds, and starts the tasks. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the link cannot be set up for IPv4, a port is taken, a required address or all of them cannot be bound, or probes
    /// or metrics cannot.
    pub async fn start(config: AgentConfig) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let health = Arc::new(Health::default());
        let (shutdown, stop) = watch::channel(false);
        let tasks = TaskTracker::new();
        if let Some(network) = &config.link {
            set_up_links(&**network, &config.listen, &health).await?;
        }
        let mut predecessor = None;
        if let Some(handover) = &config.handover {
            handover.check()?;
            predecessor = handover.take().await;
        }
        let inherited = predecessor
            .as_mut()
            .map(|before| std::mem::take(&mut before.sockets));
        let sockets = Sockets::new(config.handover.is_some(), inherited.unwrap_or_default());
        let (filter_open, mut opened) = watch::channel(false);
        let takes_over = predecessor.is_some();
        if takes_over {
            // Until then the process before answers alone.
            let known = async {
                known(config.pods.clone()).await;
                known(config.keys.clone()).await;
            };
            let _ = tokio::time::timeout(TAKE_OVER, known).await;
        }
        let (pods, clock) = (config.pods.clone(), Arc::clone(&config.clock));
        let cache = Cache::new(CacheParts {
            auth: config.auth,
            rate: config.calls,
            settings: config.cache,
            clock: config.clock,
            chance: config.chance,
            metrics: Arc::clone(&metrics),
            events: Arc::clone(&config.events),
            pods: config.pods.clone(),
        });
        let endpoint = Endpoint::new(EndpointParts {
            hosts: config.hosts,
            limits: config.requests,
            cache: Arc::clone(&cache),
            metrics: Arc::clone(&metrics),
            events: config.events,
            bind_source: config.bind_source,
            pods: config.pods,
            keys: config.keys,
            keys_wanted: config.keys_wanted,
        })
        .map_err(|_| StartError::Randomness)?;

        let required = (config.require_ipv4, config.require_ipv6);
        let bound = bind_all(&sockets, &config.listen, required)?;
        let mut addresses = Vec::new();
        for (address, listener) in bound {
            let server = Server {
                endpoint: endpoint.clone(),
                limits: config.connections,
                metrics: Arc::clone(&metrics),
                health: Arc::clone(&health),
                sockets: Arc::clone(&sockets),
                stop: stop.clone(),
            };
            if let Ok(listening) = &listener
                && let Ok(address) = listening.listener.local_addr()
            {
                addresses.push(address);
            }
            tasks.spawn(server.keep(address, listener));
        }
        let probe_limits = ListenLimits {
            connections: 64,
            head_bytes: 16 << 10,
            ..ListenLimits::default()
        };
        let mut others = Vec::new();
        for (address, with_metrics) in [(config.probes, false), (config.metrics, true)] {
            let Some(address) = address else {
                others.push(None);
                continue;
            };
            let role = if with_metrics {
                Role::Metrics
            } else {
                Role::Probes
            };
            let listening = sockets
                .bind(role, address)
                .map_err(|source| bind_error(address, source))?;
            others.push(listening.listener.local_addr().ok());
            let handler = Probes {
                health: Arc::clone(&health),
                cache: Arc::clone(&cache),
                metrics: with_metrics.then(|| Arc::clone(&metrics)),
            };
            let metrics = Arc::clone(&metrics);
            tasks.spawn(serve(
                listening,
                handler,
                probe_limits,
                metrics,
                stop.clone(),
            ));
        }
        if let Some(guard) = config.guard {
            let shared = guard::Shared {
                cache: Arc::clone(&cache),
                pods: pods.clone(),
                metrics: Arc::clone(&metrics),
                health: Arc::clone(&health),
                clock,
                sockets: Arc::clone(&sockets),
                takes_over: takes_over.then_some(filter_open),
                stop: stop.clone(),
            };
            guard::start(guard, shared, &tasks);
        } else {
            drop(filter_open);
        }
        tasks.spawn(Arc::clone(&cache).maintain(stop.clone()));
        tasks.spawn(reach(Arc::clone(&cache), stop.clone()));
        tasks.spawn(Arc::clone(&health).check_listeners(Arc::clone(&metrics), stop.clone()));
        if let Some(associations) = config.associations {
            tasks.spawn(associations::follow(
                associations,
                Arc::clone(&cache),
                stop.clone(),
            ));
        }
        if let Some(network) = config.link {
            tasks.spawn(keep_links(network, config.listen, health, stop));
        }
        if let Some(handover) = config.handover {
            let listener = handover.offer()?;
            let (sockets, stop) = (Arc::clone(&sockets), shutdown.subscribe());
            tasks.spawn(handover.serve(listener, sockets, shutdown.clone(), stop));
        }
        if let Some(predecessor) = predecessor {
            // Ends early where there is no filter to wait for.
            let _ = tokio::time::timeout(TAKE_OVER, opened.wait_for(|open| *open)).await;
            predecessor.relieve().await;
        }
        tasks.close();
        let mut others = others.into_iter().flatten();
        let probes = config.probes.and_then(|_| others.next());
        Ok(Self {
            cache,
            pods,
            metrics,
            endpoint,
            addresses,
            probes,
            metrics_address: others.next(),
            tasks,
            shutdown,
        })
    }

    /// The addresses that credentials are served on now.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the probes are served.
    #[must_use]
    pub const fn probes(&self) -> Option<SocketAddr> {
        self.probes
    }

    /// Where the metrics are served.
    #[must_use]
    pub const fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Who has credentials in the cache, and how often they were read: what `agent top` shows.
    #[must_use]
    pub fn uses(&self) -> Vec<PodUse> {
        self.cache.uses()
    }

    /// The pods of this node as the agent knows them, if it has a feed of them. For those who look at pods as well, such as the
    /// metadata guard.
    #[must_use]
    pub fn pods(&self) -> Option<watch::Receiver<Option<Arc<PodTable>>>> {
        self.pods.clone()
    }

    /// The cached credentials, by pod. For those who hand them out in another way than the endpoint.
    #[must_use]
    pub fn credentials(&self) -> PodCredentials {
        PodCredentials::new(Arc::clone(&self.cache))
    }

    /// The association of a service account changed or is gone: its credentials are fetched anew at the next request.
    pub fn association_changed(&self, namespace: &str, service_account: &str) {
        self.cache.forget(|identity, _| {
            &*identity.namespace == namespace && &*identity.service_account == service_account
        });
    }

    /// Answers a request without a connection: what the listeners do, for benches and tests.
    #[doc(hidden)]
    pub async fn answer(
        &self,
        source: IpAddr,
        method: &http::Method,
        uri: &http::Uri,
        headers: &http::HeaderMap,
    ) -> http::Response<http_body_util::Full<bytes::Bytes>> {
        let caller = crate::pods::Caller::new(source, None);
        self.endpoint.answer(caller, method, uri, headers).await
    }

    /// Stops listening, lets requests under way finish, and ends.
    pub async fn stop(self) {
        self.shutdown.send_replace(true);
        self.tasks.wait().await;
    }
}

/// What serves one address.
struct Server {
    endpoint: Endpoint,
    limits: ListenLimits,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    sockets: Arc<Sockets>,
    stop: watch::Receiver<bool>,
}

impl Server {
    /// Serves the address, binding it later if it cannot be bound now.
    async fn keep(mut self, address: SocketAddr, first: io::Result<Listening>) {
        let mut next = Some(first);
        let mut warned = false;
        let again = || self.sockets.bind(Role::Credentials, address);
        let listening = loop {
            match next.take().unwrap_or_else(again) {
                Ok(listening) => break listening,
                Err(error) => {
                    if !warned {
                        tracing::warn!(%address, %error, "an address cannot be listened on; it is tried again every 30 s");
                        warned = true;
                    }
                    self.metrics.bind_up(address.ip(), false);
                    let detail = error.to_string();
                    self.health
                        .report(format!("bind {address}"), State::Warning, detail);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(BIND_EVERY) => {}
                _ = self.stop.wait_for(|stop| *stop) => return,
            }
        };
        let address = listening.listener.local_addr().unwrap_or(address);
        self.health
            .report(format!("bind {address}"), State::Fine, "");
        self.health.bound(address);
        self.metrics.bind_up(address.ip(), true);
        tracing::info!(%address, "credentials are served");
        serve(
            listening,
            self.endpoint,
            self.limits,
            self.metrics,
            self.stop,
        )
        .await;
    }
}

type Bound = Vec<(SocketAddr, io::Result<Listening>)>;

/// Waits until something is known; for nothing, if nobody would tell.
async fn known<T>(feed: Option<watch::Receiver<Option<T>>>) {
    if let Some(mut feed) = feed {
        let _ = feed.wait_for(Option::is_some).await;
    }
}

/// Binds what can be bound; a port that somebody else has is always an error.
fn bind_all(
    sockets: &Arc<Sockets>,
    addresses: &[SocketAddr],
    (require_ipv4, require_ipv6): (bool, bool),
) -> Result<Bound, StartError> {
    let mut bound = Vec::new();
    for address in addresses {
        let required = if address.is_ipv4() {
            require_ipv4
        } else {
            require_ipv6
        };
        match sockets.bind(Role::Credentials, *address) {
            Err(source) if required || source.kind() == io::ErrorKind::AddrInUse => {
                return Err(bind_error(*address, source));
            }
            outcome => bound.push((*address, outcome)),
        }
    }
    if bound.iter().any(|(_, outcome)| outcome.is_ok()) {
        return Ok(bound);
    }
    let failed = bound.into_iter().find_map(|(address, outcome)| {
        let source = outcome.err()?;
        Some(StartError::Bind { address, source })
    });
    Err(failed.unwrap_or(StartError::NoAddress))
}

fn bind_error(address: SocketAddr, source: io::Error) -> StartError {
    if source.kind() == io::ErrorKind::AddrInUse {
        let by = holder(address);
        StartError::InUse { address, by }
    } else {
        StartError::Bind { address, source }
    }
}

/// The endpoint's addresses among those that are listened on.
fn link_addresses(listen: &[SocketAddr]) -> impl Iterator<Item = IpAddr> {
    let own = [IPV4, IPV6];
    let wanted = own.map(|own| listen.iter().any(|address| address.ip() == own));
    own.into_iter()
        .zip(wanted)
        .filter(|(_, wanted)| *wanted)
        .map(|(address, _)| address)
}

/// Sets the link up for both families; only IPv4 is necessary.
async fn set_up_links(
    network: &dyn Network,
    listen: &[SocketAddr],
    health: &Health,
) -> Result<(), StartError> {
    for address in link_addresses(listen) {
        let part = format!("link {address}");
        match set_up(network, LINK, address).await {
            Ok(steps) => {
                health.report(part, State::Fine, "");
                tracing::info!(%address, steps = steps.len(), "the link is set up");
            }
            Err(error) if address.is_ipv6() => {
                tracing::warn!(%address, error = &error as &dyn std::error::Error, "the link has no IPv6 address");
                health.report(part, State::Warning, error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Some network daemons remove links that they do not know.
async fn keep_links(
    network: Arc<dyn Network>,
    listen: Vec<SocketAddr>,
    health: Arc<Health>,
    mut stop: watch::Receiver<bool>,
) {
    let mut warned = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LINK_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        for address in link_addresses(&listen) {
            let part = format!("link {address}");
            if is_set_up(&*network, LINK, address).await.is_ok_and(|is| is) {
                health.report(part, State::Fine, "");
                continue;
            }
            let state = if address.is_ipv4() {
                State::Failed
            } else {
                State::Warning
            };
            match set_up(&*network, LINK, address).await {
                Ok(_) => {
                    tracing::warn!(%address, "the link was not as it must be and is set up again");
                    health.report(part, State::Fine, "");
                    warned = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut warned, true) {
                        tracing::warn!(%address, error = &error as &dyn std::error::Error, "the link is not as it must be and cannot be set up again");
                    }
                    health.report(part, state, error.to_string());
                }
            }
        }
    }
}

//! The metadata guard: pods' requests for instance metadata end here and not at the node's service (imds spec, section 5).
//!
//! ```text
//!   pod ── http://169.254.169.254 ──▶ packet filter ──▶ server ── who is it: pods of the node, by source address
//!                                       │                 │
//!                                     drop, while         ├── decide (crate imds, pure)
//!                                     no guard runs       ├── roles: a token for the pod ──▶ the agent's cache ──▶ auth service
//!                                                         │   others, without association: IRSA, then annotations of predecessors
//!                                                         └── node: harmless values, asked once, kept
//! ```
//!
//! The original destination of a connection does not matter: what is asked of the node's service is taken from a list, and its
//! address is a constant or the operator's. No answer ever holds the node's credentials, whatever fails; only `audit`, which an
//! operator chooses to find out who depends on them, passes requests on.

mod blocked;
pub mod capture;
mod events;
mod hosts;
mod keyfile;
mod metrics;
mod node;
mod others;
mod roles;
mod server;
mod sources;
mod strays;
mod untaint;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_imds::decision::{Mode, Settings};
use countersign_imds::rules::Target;
use countersign_upstream::clock::Clock;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

pub use blocked::{BLOCKED_FILE, BlockedWorkload};
use capture::{Capture, Filter, FilterKind, Succession};
pub(crate) use hosts::cgroup_id;
pub use hosts::{HostGuard, HostGuardError, NoWorkload, Workload};
pub(crate) use metrics::GuardMetrics;
pub use sources::{AccountRole, Compatible, Irsa, STS_AUDIENCE, ServiceAccountRoles};
pub use untaint::NodeTaint;

use crate::cache::Cache;
use crate::chance::SystemChance;
use crate::health::{Health, State};
use crate::limit::Rate;
use crate::link::{IPV4, IPV6, Routes};
use crate::listen::{Handler, ListenLimits, serve};
use crate::metrics::Metrics;
use crate::pods::{Pod, PodTable};
use crate::sockets::{Listening, Role, Sockets};
use crate::token::Digester;

/// The port that connections of pods are sent to.
pub const PORT: u16 = 2706;
/// Time between two attempts to bind.
const BIND_EVERY: Duration = Duration::from_secs(10);

/// What the guard needs of Kubernetes.
pub trait GuardApi: Send + Sync + 'static {
    /// A token of the pod's service account, bound to the pod (TokenRequest).
    fn token<'a>(
        &'a self,
        pod: &'a Pod,
        audience: &'a str,
    ) -> BoxFuture<'a, Result<Zeroizing<String>, GuardApiError>>;

    /// The pods of this node, read now: asked when a pod calls that the watch does not know yet.
    fn pods(&self) -> BoxFuture<'_, Result<PodTable, GuardApiError>>;

    /// Puts an Event on a pod. Failures are the implementation's to log.
    fn event<'a>(&'a self, pod: &'a Pod, event: PodEvent) -> BoxFuture<'a, ()>;
}

/// Kubernetes did not answer, or not as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GuardApiError(pub String);

/// What is told about a pod (imds spec, section 5.6); each at most once an hour and pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PodEvent {
    /// The trust policy of its role does not let it have the role.
    RoleForbidden,
    /// Its namespace does not let it have the role that its annotation names.
    RoleNotAllowed,
    /// Its credentials could not be had.
    CredentialError,
    /// It asked for the node's role or secrets.
    NodeRoleBlocked,
    /// Likewise, in `audit`: it got them.
    NodeRoleUsed,
}

impl PodEvent {
    /// The Event's reason.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::RoleForbidden | Self::RoleNotAllowed => "RoleForbidden",
            Self::CredentialError => "CredentialError",
            Self::NodeRoleBlocked => "NodeRoleBlocked",
            Self::NodeRoleUsed => "NodeRoleUsed",
        }
    }

    /// The Event's message.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::RoleForbidden => "The pod's role may not be assumed; look at its trust policy",
            Self::RoleNotAllowed => {
                "The pod's annotation iam.amazonaws.com/role names a role that it may not have; look at the list of its namespace"
            }
            Self::CredentialError => {
                "Credentials for the pod could not be had; the log of the node's agent says why"
            }
            Self::NodeRoleBlocked => {
                "The pod asked instance metadata for the node's role or secrets and was refused; give its service account a role of its own"
            }
            Self::NodeRoleUsed => {
                "The pod used the node's role or secrets from instance metadata; it will be refused once the guard blocks"
            }
        }
    }
}

/// Everything that the guard is started with. [`GuardConfig::new`] gives the defaults.
///
/// - `listen`: port 2706 of the agent's own link, `169.254.170.23` and `[fd00:ec2::23]`.
/// - `services`: `169.254.169.254:80`, and `[fd00:ec2::254]:80` where that cannot be connected to.
/// - `filter`: `nft`, or `iptables` where there is none.
/// - `per_pod`: 20/s, burst 40; `node`: 500/s, burst 500. [`GuardConfig::for_pods`] gives the second for a larger node.
/// - `routes`, `hosts`: none.
/// - `state_dir`: `/run/countersign`, for the key of session tokens and the list of who was blocked.
pub struct GuardConfig {
    /// What is decided by.
    pub settings: Settings,
    /// Where the guard listens; connections of pods are sent to the first of each family.
    pub listen: Vec<SocketAddr>,
    /// The node's metadata service: the first of these addresses that can be connected to.
    pub services: Vec<SocketAddr>,
    /// The packet filter; `None` leaves it to the operator.
    pub filter: Option<Filter>,
    /// With it a pod gets answers only when its requests come in by the interface that the node's route to exactly its address
    /// leads to (`--verify-interface`). Needs `nft`, and the port after that of `listen`. Not in `audit`, which refuses nobody.
    pub routes: Option<Arc<dyn Routes>>,
    /// Pods on the host's network; without it they reach the service as processes of the node do. Needs `nft`. Not in `audit`.
    pub hosts: Option<HostGuard>,
    /// Limit of each pod.
    pub per_pod: Rate,
    /// Limit of all pods together.
    pub node: Rate,
    /// Where files are kept that must survive the agent and not the boot: a directory in memory that only root can read.
    pub state_dir: PathBuf,
    /// Kubernetes; without it nobody gets a role, and an unknown pod is waited for by the watch alone.
    pub api: Option<Arc<dyn GuardApi>>,
    /// The audience of the tokens that the auth service takes.
    pub audience: Box<str>,
    /// The node's taint, which goes when the guard answers; `None` leaves it alone. Needs `filter`.
    pub taint: Option<Arc<dyn NodeTaint>>,
    /// In `serve`, roles of service accounts without an association, by their own annotation.
    pub irsa: Option<Irsa>,
    /// In `serve`, roles of pods with neither, by the annotations of kube2iam or kiam.
    pub compatible: Option<Compatible>,
}

impl GuardConfig {
    /// The defaults.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            listen: [IPV4, IPV6].map(|ip| SocketAddr::new(ip, PORT)).to_vec(),
            services: vec![
                SocketAddr::new(countersign_imds::IPV4.into(), 80),
                SocketAddr::new(countersign_imds::IPV6.into(), 80),
            ],
            filter: None,
            routes: None,
            hosts: None,
            per_pod: Rate {
                per_second: 20.0,
                burst: 40,
            },
            node: Rate {
                per_second: 500.0,
                burst: 500,
            },
            state_dir: "/run/countersign".into(),
            api: None,
            audience: crate::token::AUDIENCE.into(),
            taint: None,
            irsa: None,
            compatible: None,
        }
    }

    /// For a node with at most this many pods: each may ask ten times a second, where that is more than the 500/s of section
    /// 5.5, which would turn away most of what 250 pods ask (section 7, item 5).
    #[must_use]
    pub fn for_pods(mut self, pods: u32) -> Self {
        let rate = pods.saturating_mul(10).max(500);
        self.node = Rate {
            per_second: rate.into(),
            burst: rate,
        };
        self
    }
}

/// What the agent gives the guard.
pub(crate) struct Shared {
    pub(crate) cache: Arc<Cache>,
    pub(crate) pods: Option<watch::Receiver<Option<Arc<PodTable>>>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sockets: Arc<Sockets>,
    /// To be told when the packet filter is open, by a process that takes over from another one.
    pub(crate) takes_over: Option<watch::Sender<bool>>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// Starts the guard's tasks. The packet filter is closed before anything else happens, and opened to the guard only after the
/// guard has answered a request of its own.
///
/// A filter that cannot be set is not fatal to the agent, whose endpoint would be gone without closing anything: it is tried
/// again, and readiness fails meanwhile.
pub(crate) fn start(config: GuardConfig, shared: Shared, tasks: &TaskTracker) {
    let Shared {
        cache,
        pods,
        metrics,
        health,
        clock,
        sockets,
        takes_over,
        stop,
    } = shared;
    let mode = config.settings.mode;
    let (ready, bound) = watch::channel(Vec::new());
    let ready = Arc::new(ready);
    let unsupported = unsupported(&config);
    // The port of those who are refused for the interface that they came by.
    let strays = |address: &SocketAddr| address.port().checked_add(1);
    let hosts = config.hosts.map(Arc::new);
    if let Some(mut filter) = config.filter {
        if config.routes.is_some()
            && let Some(port) = config.listen.first().and_then(strays)
        {
            filter.send_strays_to(port);
        }
        let host = hosts.as_ref().map(|hosts| {
            // The first rules are those without any pod: nobody is let through whom nobody knows.
            let (rules, of_rules) = watch::channel(Some(hosts.rules(None)));
            tasks.spawn(Arc::clone(hosts).follow(pods.clone(), rules, stop.clone()));
            of_rules
        });
        let succession = Succession {
            takes_over,
            sockets: Arc::clone(&sockets),
        };
        let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
        let capture = Capture::new(filter, mode, host, health, metrics, succession);
        if let Some(taint) = config.taint {
            tasks.spawn(untaint::keep(taint, capture.in_force(), stop.clone()));
        }
        tasks.spawn(capture.keep(bound, stop.clone()));
    }
    // Without a key nothing can be answered: the filter stays closed, and the agent unready, until somebody sees to it.
    let stay_closed = |problem: String, mut stop: watch::Receiver<bool>| {
        tracing::error!(
            problem,
            "the metadata guard cannot answer; its filter stays closed"
        );
        health.report("imds guard sessions", State::Failed, problem);
        let ready = Arc::clone(&ready);
        tasks.spawn(async move {
            let _ = stop.wait_for(|stop| *stop).await;
            drop(ready);
        });
    };
    if let Some(problem) = unsupported {
        return stay_closed(problem.to_owned(), stop);
    }
    let key = match keyfile::Sessions::open(&config.state_dir) {
        Ok(key) => key,
        Err(error) => return stay_closed(error.to_string(), stop),
    };
    let blocked = Arc::new(blocked::Blocked::new(&config.state_dir));
    let digester = match Digester::new() {
        Ok(digester) => digester,
        Err(_) => return stay_closed("no randomness".to_owned(), stop),
    };
    let events = events::Events::new(config.api.clone());
    let compat = config.compatible.as_ref().map(|c| c.predecessor);
    let others = (config.irsa.is_some() || config.compatible.is_some()).then(|| {
        let chance = Arc::new(SystemChance);
        others::Others::new(config.irsa, config.compatible, chance)
    });
    let roles = (mode == Mode::Serve).then(|| {
        Arc::new(roles::Roles::new(
            cache,
            digester,
            config.api.clone(),
            config.audience,
            others,
        ))
    });
    if let (Some(roles), Some(pods)) = (&roles, &pods) {
        tasks.spawn(roles::prefetch(
            Arc::clone(roles),
            pods.clone(),
            Arc::clone(&metrics),
            stop.clone(),
        ));
        if roles.others().is_some() {
            tasks.spawn(others::keep(Arc::clone(roles), pods.clone(), stop.clone()));
        }
    }
    let guard = server::Guard::new(server::GuardParts {
        settings: config.settings,
        roles,
        compat,
        node: node::NodeMetadata::new(&config.services),
        pods,
        api: config.api,
        routes: config.routes.clone(),
        hosts,
        sessions: key,
        blocked: Arc::clone(&blocked),
        events,
        metrics: Arc::clone(&metrics),
        clock,
        per_pod: config.per_pod,
        node_rate: config.node,
    });
    tasks.spawn(blocked.keep(stop.clone()));

    for address in config.listen.iter().copied() {
        if config.routes.is_some()
            && let Some(port) = strays(&address)
        {
            tasks.spawn(keep(
                SocketAddr::new(address.ip(), port),
                strays::Strays(Arc::clone(&metrics)),
                (Arc::clone(&metrics), Arc::clone(&sockets)),
                None,
                stop.clone(),
            ));
        }
        tasks.spawn(keep(
            address,
            guard.clone(),
            (Arc::clone(&metrics), Arc::clone(&sockets)),
            Some(Arc::clone(&ready)),
            stop.clone(),
        ));
    }
}

/// Why the options do not go together. The filter stays closed then: whoever asked for a check does not go without it.
fn unsupported(config: &GuardConfig) -> Option<&'static str> {
    let audit = config.settings.mode == Mode::Audit;
    let nft = config
        .filter
        .as_ref()
        .is_some_and(|filter| filter.kind() == FilterKind::Nft);
    match (config.routes.is_some(), config.hosts.is_some()) {
        (false, false) => None,
        _ if audit => {
            Some("audit refuses nobody: not for an interface, and not for the host's network")
        }
        _ if !nft => {
            Some("interfaces are verified, and pods on the host's network guarded, by nft alone")
        }
        _ => None,
    }
}

/// Listens on one address, sooner or later.
async fn keep(
    address: SocketAddr,
    handler: impl Handler,
    (metrics, sockets): (Arc<Metrics>, Arc<Sockets>),
    ready: Option<Arc<watch::Sender<Vec<SocketAddr>>>>,
    mut stop: watch::Receiver<bool>,
) {
    let role = if ready.is_some() {
        Role::Guard
    } else {
        Role::Strays
    };
    let mut warned = false;
    let listening: Listening = loop {
        match sockets.bind(role, address) {
            Ok(listening) => break listening,
            Err(error) if !warned => {
                warned = true;
                tracing::warn!(%address, %error, "the metadata guard cannot listen; pods get no metadata over this family until it can");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(BIND_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    };
    let address = listening.listener.local_addr().unwrap_or(address);
    tracing::info!(%address, "the metadata guard answers");
    if let Some(ready) = &ready {
        ready.send_modify(|bound| bound.push(address));
    }
    let limits = ListenLimits {
        head_bytes: 16 << 10,
        ..ListenLimits::default()
    };
    serve(listening, handler, limits, metrics, stop).await;
    if let Some(ready) = ready {
        ready.send_modify(|bound| bound.retain(|other| *other != address));
    }
}

/// Where connections are sent, of the addresses that are listened on.
fn target(bound: &[SocketAddr]) -> Option<Target> {
    let port = bound.first()?.port();
    let of_port = |address: &&SocketAddr| address.port() == port;
    let ipv4 = bound.iter().filter(of_port).find_map(|at| match at.ip() {
        IpAddr::V4(ip) if ip != Ipv4Addr::UNSPECIFIED => Some(ip),
        _ => None,
    });
    let ipv6 = bound.iter().filter(of_port).find_map(|at| match at.ip() {
        IpAddr::V6(ip) if !ip.is_unspecified() => Some(ip),
        _ => None,
    });
    (ipv4.is_some() || ipv6.is_some()).then_some(Target { ipv4, ipv6, port })
}

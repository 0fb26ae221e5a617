//! What an agent is started with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use countersign_upstream::clock::{Clock, SystemClock};
use tokio::sync::{Notify, watch};

use crate::associations::Associations;
use crate::auth::AuthService;
use crate::cache::CacheSettings;
use crate::chance::{Chance, SystemChance};
use crate::events::{DecisionLog, NoEvents};
use crate::gate::CallRate;
use crate::guard::GuardConfig;
use crate::handler::RequestLimits;
use crate::handover::Handover;
use crate::link::{IPV4, IPV6, Network};
use crate::listen::ListenLimits;
use crate::pods::{BindSource, PodTable};
use crate::token::ClusterKeys;

/// Everything that an agent is started with. [`AgentConfig::new`] gives the defaults.
///
/// - `listen`: `169.254.170.23:80` and `[fd00:ec2::23]:80`; each is bound on its own.
/// - `require_ipv4`, `require_ipv6`: no; an address that cannot be bound is tried again every 30 s while another one is bound.
/// - `hosts`: the two addresses, whatever is listened on: the `Host` header must be one of them.
/// - `probes`: `127.0.0.1:2703`.
/// - `metrics`: none; the caller knows the node's address, and all addresses are not the default.
/// - `link`: none; with one, link, addresses and routes are made at the start and looked after every 60 s.
/// - `bind_source`: warn.
/// - `pods`, `keys`, `keys_wanted`, `associations`, `guard`, `handover`: none.
pub struct AgentConfig {
    /// The auth service.
    pub auth: Arc<dyn AuthService>,
    /// Where credentials are served.
    pub listen: Vec<SocketAddr>,
    /// Whether the start fails without an IPv4 address.
    pub require_ipv4: bool,
    /// Whether the start fails without an IPv6 address.
    pub require_ipv6: bool,
    /// What may stand in the `Host` header, without port. Addresses only: a name could be anybody's.
    pub hosts: Vec<IpAddr>,
    /// Where `/healthz` and `/readyz` are served.
    pub probes: Option<SocketAddr>,
    /// Where `/metrics` is served, and the two again.
    pub metrics: Option<SocketAddr>,
    /// Who makes the link.
    pub link: Option<Arc<dyn Network>>,
    /// What to do with tokens that come from somebody else than their pod.
    pub bind_source: BindSource,
    /// The pods of this node, kept fresh by whoever holds the other end; `None` inside until they are known.
    pub pods: Option<watch::Receiver<Option<Arc<PodTable>>>>,
    /// The keys that sign the cluster's tokens, kept fresh likewise. Without them a token is shown to the auth service before
    /// it gets anything, and a rotated token costs a call.
    pub keys: Option<watch::Receiver<Option<Arc<ClusterKeys>>>>,
    /// Told when a token names a key that is not among `keys`. Whoever keeps the keys fresh waits for it, and limits how often
    /// it reads them: anybody can make up key ids.
    pub keys_wanted: Option<Arc<Notify>>,
    /// Who tells that associations changed.
    pub associations: Option<Arc<dyn Associations>>,
    /// The cache.
    pub cache: CacheSettings,
    /// Calls of the auth service.
    pub calls: CallRate,
    /// Requests of pods.
    pub requests: RequestLimits,
    /// Connections of pods.
    pub connections: ListenLimits,
    /// The metadata guard.
    pub guard: Option<GuardConfig>,
    /// Where the sockets of the process before are, and those for the process after.
    pub handover: Option<Handover>,
    /// Where decisions are recorded.
    pub events: Arc<dyn DecisionLog>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for jitter.
    pub chance: Arc<dyn Chance>,
}

impl AgentConfig {
    /// The defaults.
    #[must_use]
    pub fn new(auth: Arc<dyn AuthService>) -> Self {
        Self {
            auth,
            listen: [IPV4, IPV6].map(|ip| SocketAddr::new(ip, 80)).to_vec(),
            require_ipv4: false,
            require_ipv6: false,
            hosts: vec![IPV4, IPV6],
            probes: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 2703)),
            metrics: None,
            link: None,
            bind_source: BindSource::default(),
            pods: None,
            keys: None,
            keys_wanted: None,
            associations: None,
            cache: CacheSettings::default(),
            calls: CallRate::default(),
            requests: RequestLimits::default(),
            connections: ListenLimits::default(),
            guard: None,
            handover: None,
            events: Arc::new(NoEvents),
            clock: Arc::new(SystemClock),
            chance: Arc::new(SystemChance),
        }
    }

    /// Sizes cache and calls for a node with at most this many pods.
    #[must_use]
    pub fn for_pods(mut self, pods: u32) -> Self {
        let entries = pods.max(1).saturating_mul(4);
        self.cache.capacity = usize::try_from(entries).unwrap_or(usize::MAX);
        self.calls = CallRate::for_pods(pods);
        self
    }

    /// Renews after at most this time; zero keeps no credentials at all.
    #[must_use]
    pub fn max_retention(mut self, retention: Duration) -> Self {
        self.cache.retention = retention;
        if retention.is_zero() {
            self.cache.capacity = 0;
        }
        self
    }
}

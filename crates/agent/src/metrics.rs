//! Metrics: the reference's names, so that dashboards go on working, and ours (agent spec, section 10).
//!
//! Label values come from closed sets only, and none names a pod.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use crate::guard::GuardMetrics;

/// Seconds: from a cached answer to the whole budget of a call.
const BUCKETS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.02, 0.05, 0.1, 0.3, 1.0, 2.5, 5.0,
];
/// Every status that the agent answers with.
const STATUSES: [u16; 8] = [200, 400, 403, 404, 405, 429, 500, 503];

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the cache.
    Cache,
    /// From a call that another request had started, or a failure that is remembered.
    Flight,
    /// From a call of its own.
    Upstream,
    /// From the checks: nothing was looked up.
    Checks,
}

impl Source {
    const ALL: [Self; 4] = [Self::Cache, Self::Flight, Self::Upstream, Self::Checks];

    const fn label(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Flight => "flight",
            Self::Upstream => "upstream",
            Self::Checks => "checks",
        }
    }
}

/// What happened to an entry of the cache, in the reference's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheState {
    /// Renewed, which the reference calls `hit`.
    Hit,
    /// Not there.
    Miss,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    r#type: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultSourceLabel {
    result: &'static str,
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressLabel {
    address: String,
}

/// A counter that is printed without `_total`: the names of the reference end as they are.
#[derive(Debug, Clone, Default)]
struct Plain(Arc<AtomicU64>);

impl Plain {
    fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

impl EncodeMetric for Plain {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let value = i64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        encoder.encode_gauge(&value)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Plain {
    const TYPE: MetricType = MetricType::Unknown;
}

/// All metrics of the agent and the registry that prints them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    responses: Vec<(u16, Plain)>,
    states: Family<StateLabel, Plain>,
    errors: Family<ErrorLabel, Plain>,
    /// Indexed by source; success first, then refused.
    requests: Vec<[Histogram; 2]>,
    entries: Gauge<i64, AtomicI64>,
    renewals: Family<ResultLabel, Counter>,
    upstream: Family<ResultLabel, Histogram>,
    misuse: Counter,
    refusals: Family<ReasonLabel, Counter>,
    bind_up: Family<AddressLabel, Gauge>,
    turned_away: Counter,
    pub(crate) guard: GuardMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every metric.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let responses = Family::<CodeLabel, Plain>::default();
        let states = Family::default();
        let errors = Family::default();
        let requests = Family::<ResultSourceLabel, Histogram>::new_with_constructor(|| {
            Histogram::new(BUCKETS)
        });
        let upstream =
            Family::<ResultLabel, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let of_status = STATUSES
            .map(|code| {
                let counter = responses.get_or_create(&CodeLabel { code }).clone();
                (code, counter)
            })
            .to_vec();
        let of_source = Source::ALL
            .map(|source| {
                ["success", "refused"].map(|result| {
                    let label = ResultSourceLabel {
                        result,
                        source: source.label(),
                    };
                    requests.get_or_create(&label).clone()
                })
            })
            .to_vec();
        let (entries, renewals, misuse) = (Gauge::default(), Family::default(), Counter::default());
        let (refusals, bind_up, turned_away) =
            (Family::default(), Family::default(), Counter::default());

        let reference = registry.sub_registry_with_prefix("pod_identity");
        reference.register("http_response", "Answers by status", responses);
        reference.register(
            "cache_errors",
            "Failed renewals by kind and error code",
            errors.clone(),
        );
        reference.register(
            "cache_state",
            "Renewed (hit), missed and evicted entries of the cache",
            states.clone(),
        );
        let ours = registry.sub_registry_with_prefix("countersign_agent");
        ours.register(
            "request_seconds",
            "Time of an answer by result and source",
            requests,
        );
        ours.register(
            "cache_entries",
            "Pods with cached credentials",
            entries.clone(),
        );
        ours.register("renewals", "Renewals by result", renewals.clone());
        ours.register(
            "upstream_seconds",
            "Time of a call of the auth service by result",
            upstream.clone(),
        );
        ours.register(
            "token_misuse",
            "Tokens that came from somebody else than their pod",
            misuse.clone(),
        );
        ours.register("refusals", "Refused requests by reason", refusals.clone());
        ours.register(
            "bind_up",
            "1 while the address is listened on and accepts connections",
            bind_up.clone(),
        );
        ours.register(
            "connections_turned_away",
            "Connections closed because their address had too many",
            turned_away.clone(),
        );
        let guard = GuardMetrics::register(&mut registry);
        Self {
            guard,
            registry,
            responses: of_status,
            states,
            errors,
            requests: of_source,
            entries,
            renewals,
            upstream,
            misuse,
            refusals,
            bind_up,
            turned_away,
        }
    }

    /// Counts one answer.
    pub(crate) fn answered(&self, status: u16, source: Source, took: Duration) {
        if let Some((_, counter)) = self.responses.iter().find(|(code, _)| *code == status) {
            counter.add(1);
        }
        if let Some([success, refused]) = self.requests.get(source as usize) {
            let histogram = if status == 200 { success } else { refused };
            histogram.observe(took.as_secs_f64());
        }
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn cache_state(&self, state: CacheState) {
        let state = match state {
            CacheState::Hit => "hit",
            CacheState::Miss => "miss",
        };
        self.states.get_or_create(&StateLabel { state }).add(1);
    }

    pub(crate) fn evicted(&self, count: u64) {
        if count > 0 {
            let label = StateLabel { state: "evicted" };
            self.states.get_or_create(&label).add(count);
        }
    }

    pub(crate) fn entries(&self, count: usize) {
        self.entries.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn cache_error(&self, is_final: bool, code: &'static str) {
        let r#type = if is_final {
            "NonRecoverable"
        } else {
            "Recoverable"
        };
        self.errors
            .get_or_create(&ErrorLabel { r#type, code })
            .add(1);
    }

    pub(crate) fn renewal(&self, result: &'static str) {
        self.renewals.get_or_create(&ResultLabel { result }).inc();
    }

    pub(crate) fn upstream(&self, result: &'static str, took: Duration) {
        self.upstream
            .get_or_create(&ResultLabel { result })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn misuse(&self) {
        self.misuse.inc();
    }

    pub(crate) fn turned_away(&self) {
        self.turned_away.inc();
    }

    pub(crate) fn bind_up(&self, address: IpAddr, up: bool) {
        let address = address.to_string();
        self.bind_up
            .get_or_create(&AddressLabel { address })
            .set(i64::from(up));
    }

    /// The OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}

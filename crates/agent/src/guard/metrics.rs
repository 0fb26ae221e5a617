//! The guard's metrics (imds spec, section 5.6). Labels come from closed sets, and none names a pod.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use countersign_imds::decision::{CLASSES, Refusal};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds: from a cached answer to all the time that a pod is waited for.
const BUCKETS: [f64; 11] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabel {
    class: &'static str,
    decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// What the packet filter does with pods' requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuardState {
    /// Nothing is set: they reach the node's service.
    Open = 0,
    /// They are dropped.
    Drop = 1,
    /// They reach the guard.
    Redirect = 2,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct GuardMetrics {
    requests: Family<DecisionLabel, Counter>,
    seconds: Family<ClassLabel, Histogram>,
    blocked: Family<ReasonLabel, Counter>,
    state: Gauge<i64, AtomicI64>,
    ambiguous: Counter,
    prefetch: Family<ResultLabel, Counter>,
}

impl GuardMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            blocked: Family::default(),
            state: Gauge::default(),
            ambiguous: Counter::default(),
            prefetch: Family::default(),
        };
        for reason in Refusal::REASONS {
            drop(metrics.blocked.get_or_create(&ReasonLabel { reason }));
        }
        for class in CLASSES {
            drop(metrics.seconds.get_or_create(&ClassLabel { class }));
        }
        let ours = registry.sub_registry_with_prefix("countersign_imds");
        ours.register(
            "requests",
            "Requests for instance metadata by class and decision",
            metrics.requests.clone(),
        );
        ours.register("seconds", "Time of an answer", metrics.seconds.clone());
        ours.register(
            "blocked",
            "Refused requests by reason",
            metrics.blocked.clone(),
        );
        ours.register(
            "guard_state",
            "What happens to pods' requests: 0 nothing, 1 dropped, 2 answered by the guard",
            metrics.state.clone(),
        );
        ours.register(
            "ambiguous",
            "Requests from addresses that more than one pod has",
            metrics.ambiguous.clone(),
        );
        ours.register(
            "prefetch",
            "Credentials fetched before a pod asked, by result",
            metrics.prefetch.clone(),
        );
        metrics
    }

    pub(crate) fn answered(&self, class: &'static str, decision: &'static str, took: Duration) {
        let label = DecisionLabel { class, decision };
        self.requests.get_or_create(&label).inc();
        self.seconds
            .get_or_create(&ClassLabel { class })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn blocked(&self, reason: &'static str) {
        self.blocked.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn state(&self, state: GuardState) {
        self.state.set(state as i64);
    }

    pub(crate) fn ambiguous(&self) {
        self.ambiguous.inc();
    }

    pub(crate) fn prefetched(&self, result: &'static str) {
        self.prefetch.get_or_create(&ResultLabel { result }).inc();
    }
}

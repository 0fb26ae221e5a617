//! Metrics: the reference's names, so that dashboards go on working, and ours.
//!
//! Label values come from closed sets only; a peer cannot make a new one.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Buckets of the reference's latency histogram, seconds (the Go client's defaults).
const LATENCY_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Buckets of the reference's end-to-end reload latency, seconds.
const RELOAD_BUCKETS: [f64; 8] = [1.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0];
/// Buckets of a token's age at review, seconds; a token lives 900.
const AGE_BUCKETS: [f64; 8] = [1.0, 5.0, 15.0, 60.0, 120.0, 300.0, 600.0, 900.0];

/// How a review ended, in the reference's words (`uknown_user` is misspelt there, and dashboards rely on it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReviewResult {
    /// A user was found.
    Success,
    /// The request was no TokenReview.
    MalformedRequest,
    /// The token broke a local rule.
    InvalidToken,
    /// STS refused or could not be asked.
    StsError,
    /// STS throttled.
    StsThrottling,
    /// The identity is verified but maps to nobody.
    UnknownUser,
}

impl ReviewResult {
    const ALL: [Self; 6] = [
        Self::Success,
        Self::MalformedRequest,
        Self::InvalidToken,
        Self::StsError,
        Self::StsThrottling,
        Self::UnknownUser,
    ];

    /// The label value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::MalformedRequest => "malformed_request",
            Self::InvalidToken => "invalid_token",
            Self::StsError => "sts_error",
            Self::StsThrottling => "sts_throttling",
            Self::UnknownUser => "uknown_user",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// A label `type` with a fixed set of values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TypeLabel {
    r#type: &'static str,
}

/// A label `section` of the aws-auth ConfigMap or a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SectionLabel {
    section: &'static str,
}

/// A label pair of backend and kind of entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EntriesLabel {
    backend: &'static str,
    kind: &'static str,
}

/// All metrics of the process and the registry that prints them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    latency: [Histogram; 6],
    denials: Family<ReasonLabel, Counter>,
    token_age: Histogram,
    events_lost: Counter,
    reload_latency: Family<TypeLabel, Histogram>,
    config_stale: Family<SectionLabel, Gauge>,
    config_errors: Counter,
    entries: Family<EntriesLabel, Gauge>,
    aws_requests: Family<AwsLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AwsLabel {
    service: &'static str,
    operation: &'static str,
    code: &'static str,
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
        let latency_family = Family::<ResultLabel, Histogram>::new_with_constructor(|| {
            Histogram::new(LATENCY_BUCKETS)
        });
        let latency = ReviewResult::ALL.map(|result| {
            latency_family
                .get_or_create(&ResultLabel {
                    result: result.label(),
                })
                .clone()
        });
        let reload_latency =
            Family::<TypeLabel, Histogram>::new_with_constructor(|| Histogram::new(RELOAD_BUCKETS));
        let denials = Family::default();
        let token_age = Histogram::new(AGE_BUCKETS);
        let events_lost = Counter::default();
        let config_stale = Family::default();
        let config_errors = Counter::default();
        let entries = Family::default();
        let aws_requests = Family::default();

        let reference = registry.sub_registry_with_prefix("aws_iam_authenticator");
        reference.register(
            "authenticate_latency_seconds",
            "Authenticate call latency",
            latency_family,
        );
        reference.register(
            "dynamic_e2e_latency_seconds",
            "End to end latency of a dynamic file update",
            reload_latency.clone(),
        );
        let ours = registry.sub_registry_with_prefix("countersign");
        ours.register("denials", "Refused reviews by reason code", denials.clone());
        ours.register(
            "token_age_seconds",
            "Age of tokens when reviewed",
            token_age.clone(),
        );
        ours.register(
            "events_lost",
            "Decision events that could not be written",
            events_lost.clone(),
        );
        ours.register(
            "mapping_config_stale",
            "1 while a section is served from its last good version",
            config_stale.clone(),
        );
        ours.register(
            "mapping_config_errors",
            "Broken sections and entries seen at reload",
            config_errors.clone(),
        );
        ours.register(
            "mapping_entries",
            "Mapping entries in force",
            entries.clone(),
        );
        ours.register(
            "aws_requests",
            "AWS API requests by operation and error code",
            aws_requests.clone(),
        );
        Self {
            registry,
            latency,
            denials,
            token_age,
            events_lost,
            reload_latency,
            config_stale,
            config_errors,
            entries,
            aws_requests,
        }
    }

    /// Adds a counter that another part of the process keeps as a plain atomic.
    pub fn register_counter(
        &mut self,
        prefix: &str,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.registry
            .sub_registry_with_prefix(prefix)
            .register_collector(Box::new(Reading {
                name,
                help,
                kind: ReadingKind::Counter,
                read: Box::new(read),
            }));
    }

    /// Adds a gauge that another part of the process keeps as a plain atomic.
    pub fn register_gauge(
        &mut self,
        prefix: &str,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.registry
            .sub_registry_with_prefix(prefix)
            .register_collector(Box::new(Reading {
                name,
                help,
                kind: ReadingKind::Gauge,
                read: Box::new(read),
            }));
    }

    /// Adds a whole collector, for families whose labels another part of the process knows.
    pub fn register_collector(
        &mut self,
        collector: Box<dyn prometheus_client::collector::Collector>,
    ) {
        self.registry.register_collector(collector);
    }

    /// Counts one review.
    pub fn review(&self, result: ReviewResult, took: Duration) {
        if let Some(histogram) = self.latency.get(result as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Counts one refusal by its reason code.
    pub fn denial(&self, reason: &'static str) {
        self.denials.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Records how old a token was when it was accepted, in seconds.
    pub fn token_age(&self, seconds: f64) {
        self.token_age.observe(seconds);
    }

    /// The counter of decision events that were not written.
    #[must_use]
    pub fn events_lost(&self) -> &Counter<u64, AtomicU64> {
        &self.events_lost
    }

    /// Records the time from a dynamic file's own timestamp to its being in force; `kind` is `dynamic_file` or `dynamic_backend_mode`.
    pub fn reload_latency(&self, kind: &'static str, took: Duration) {
        self.reload_latency
            .get_or_create(&TypeLabel { r#type: kind })
            .observe(took.as_secs_f64());
    }

    /// Marks a section as served from its last good version.
    pub fn section_stale(&self, section: &'static str, stale: bool) {
        self.config_stale
            .get_or_create(&SectionLabel { section })
            .set(i64::from(stale));
    }

    /// Counts a broken section or entry.
    pub fn config_error(&self) {
        self.config_errors.inc();
    }

    /// Sets the number of entries of one kind in one backend.
    pub fn mapping_entries(&self, backend: &'static str, kind: &'static str, count: usize) {
        self.entries
            .get_or_create(&EntriesLabel { backend, kind })
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts an AWS API request; `code` is empty for success.
    pub fn aws_request(&self, service: &'static str, operation: &'static str, code: &'static str) {
        self.aws_requests
            .get_or_create(&AwsLabel {
                service,
                operation,
                code,
            })
            .inc();
    }

    /// The OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}

enum ReadingKind {
    Counter,
    Gauge,
}

/// A metric read from elsewhere when it is printed.
struct Reading {
    name: &'static str,
    help: &'static str,
    kind: ReadingKind,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl prometheus_client::collector::Collector for Reading {
    fn encode(
        &self,
        mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeMetric;
        use prometheus_client::metrics::MetricType;
        let value = (self.read)();
        match self.kind {
            ReadingKind::Counter => {
                let counter = prometheus_client::metrics::counter::ConstCounter::new(value);
                counter.encode(encoder.encode_descriptor(
                    self.name,
                    self.help,
                    None,
                    MetricType::Counter,
                )?)
            }
            ReadingKind::Gauge => {
                let gauge = prometheus_client::metrics::gauge::ConstGauge::new(
                    i64::try_from(value).unwrap_or(i64::MAX),
                );
                gauge.encode(encoder.encode_descriptor(
                    self.name,
                    self.help,
                    None,
                    MetricType::Gauge,
                )?)
            }
        }
    }
}

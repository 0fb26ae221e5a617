//! The admission webhook's numbers: the reference's names, so that dashboards go on working, and ours (webhook spec, section 11).

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::webhook::mutate::ClusterMutator;

/// Buckets of the reference's latency histogram, microseconds.
const REFERENCE_BUCKETS: [f64; 7] = [
    125_000.0,
    250_000.0,
    500_000.0,
    1_000_000.0,
    2_000_000.0,
    4_000_000.0,
    8_000_000.0,
];
/// Buckets of ours, seconds: 0.25 ms to 4 s.
const BUCKETS: [f64; 15] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0,
    2.0, 4.0,
];
/// The slots of the summary's hour.
const SLOTS: usize = 6;
const SLOT: Duration = Duration::from_secs(600);
/// Its classes of durations: powers of the square root of two, from a microsecond on.
const CLASSES: usize = 64;

/// What became of a request that was an AdmissionReview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutated {
    /// The word of the decision, from a closed set.
    pub decision: &'static str,
    /// Whether it is container credentials that were chosen.
    pub by_association: bool,
    /// Whether the pod is changed.
    pub patched: bool,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// Whether the account could not be read.
    pub unread: bool,
    /// Whether the account does not exist.
    pub missing: bool,
    /// The codes of the warnings.
    pub warnings: Vec<&'static str>,
}

impl Mutated {
    /// A body that could not be decided.
    #[must_use]
    pub fn error() -> Self {
        Self {
            decision: "error",
            by_association: false,
            patched: false,
            dry_run: false,
            unread: false,
            missing: false,
            warnings: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabel {
    decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    decision: &'static str,
    dry_run: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    path: &'static str,
    code: u16,
}

/// What the webhook counts as it answers.
#[derive(Debug)]
pub struct MutateMetrics {
    seconds: Family<DecisionLabel, Histogram>,
    decisions: Family<DecisionLabels, Counter>,
    warnings: Family<ReasonLabel, Counter>,
    latencies: Histogram,
    rotated: Histogram,
    numbers: Arc<Numbers>,
}

/// What the reference's names are made of, since a counter of OpenMetrics would get another name.
#[derive(Debug)]
struct Numbers {
    requests: Mutex<Vec<(RequestLabels, u64)>>,
    summary: Mutex<Summary>,
    by_container: AtomicU64,
    by_irsa: AtomicU64,
    missing: AtomicU64,
    used: AtomicBool,
    certificate_ends: AtomicI64,
}

/// Durations of the last hour, in classes.
#[derive(Debug)]
struct Summary {
    slots: [[u32; CLASSES]; SLOTS],
    at: usize,
    since: Instant,
    sum: f64,
    count: u64,
}

impl MutateMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            decisions: Family::default(),
            warnings: Family::default(),
            latencies: Histogram::new(REFERENCE_BUCKETS),
            rotated: Histogram::new([3600.0, 86_400.0, 604_800.0, 2_592_000.0, 31_536_000.0]),
            numbers: Arc::new(Numbers {
                requests: Mutex::default(),
                summary: Mutex::new(Summary::new(Instant::now())),
                by_container: AtomicU64::new(0),
                by_irsa: AtomicU64::new(0),
                missing: AtomicU64::new(0),
                used: AtomicBool::new(false),
                certificate_ends: AtomicI64::new(0),
            }),
        };
        let ours = registry.sub_registry_with_prefix("countersign_webhook");
        ours.register(
            "mutate_seconds",
            "AdmissionReviews answered, by decision",
            metrics.seconds.clone(),
        );
        ours.register(
            "decisions",
            "Decisions about pods",
            metrics.decisions.clone(),
        );
        ours.register(
            "warnings",
            "Admission warnings by reason",
            metrics.warnings.clone(),
        );
        registry.register(
            "http_request_latencies",
            "Latency of AdmissionReviews in microseconds",
            metrics.latencies.clone(),
        );
        registry.register(
            "certificate_manager_server_rotation_seconds",
            "How long the serving certificate that was replaced had been in use",
            metrics.rotated.clone(),
        );
        registry.register_collector(Box::new(Reference(Arc::clone(&metrics.numbers))));
        metrics
    }

    /// The label of a method: a client cannot make a new one.
    pub(crate) fn verb(&self, method: &Method) -> &'static str {
        match *method {
            Method::POST => "POST",
            Method::GET => "GET",
            _ => "other",
        }
    }

    /// Counts one request; `mutated` is absent when it was no AdmissionReview.
    pub(crate) fn served(
        &self,
        verb: &'static str,
        code: u16,
        mutated: Option<&Mutated>,
        took: Duration,
    ) {
        let numbers = &self.numbers;
        let labels = RequestLabels {
            verb,
            path: "/mutate",
            code,
        };
        {
            let mut requests = lock(&numbers.requests);
            match requests.iter_mut().find(|(known, _)| *known == labels) {
                Some((_, count)) => *count += 1,
                None => requests.push((labels, 1)),
            }
        }
        let micros = took.as_secs_f64() * 1e6;
        self.latencies.observe(micros);
        lock(&numbers.summary).observe(micros, Instant::now());
        let Some(mutated) = mutated else { return };
        self.seconds
            .get_or_create(&DecisionLabel {
                decision: mutated.decision,
            })
            .observe(took.as_secs_f64());
        self.decisions
            .get_or_create(&DecisionLabels {
                decision: mutated.decision,
                dry_run: if mutated.dry_run { "true" } else { "false" },
            })
            .inc();
        for reason in &mutated.warnings {
            self.warnings.get_or_create(&ReasonLabel { reason }).inc();
        }
        if mutated.missing || mutated.unread {
            numbers.missing.fetch_add(1, Ordering::Relaxed);
        }
        if mutated.patched {
            numbers.used.store(true, Ordering::Relaxed);
            let counter = match mutated.by_association {
                true => &numbers.by_container,
                false => &numbers.by_irsa,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// When the serving certificate of the webhooks ends, seconds since the epoch.
    #[must_use]
    pub fn certificate_ends_at(&self) -> Option<i64> {
        let ends = self.numbers.certificate_ends.load(Ordering::Relaxed);
        (ends != 0).then_some(ends)
    }

    /// Tells when the serving certificate ends, and how long the one before was in use.
    pub(crate) fn certificate(&self, ends_at: i64, before: Option<Duration>) {
        self.numbers
            .certificate_ends
            .store(ends_at, Ordering::Relaxed);
        if let Some(before) = before {
            self.rotated.observe(before.as_secs_f64());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Summary {
    fn new(now: Instant) -> Self {
        Self {
            slots: [[0; CLASSES]; SLOTS],
            at: 0,
            since: now,
            sum: 0.0,
            count: 0,
        }
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.duration_since(self.since).as_secs() / SLOT.as_secs();
        for _ in 0..passed.min(SLOTS as u64) {
            self.at = (self.at + 1) % SLOTS;
            if let Some(slot) = self.slots.get_mut(self.at) {
                *slot = [0; CLASSES];
            }
        }
        if passed > 0 {
            self.since += SLOT * u32::try_from(passed).unwrap_or(u32::MAX);
        }
    }

    fn observe(&mut self, micros: f64, now: Instant) {
        self.turn(now);
        self.sum += micros;
        self.count += 1;
        let class = (micros.max(1.0).log2() * 2.0) as usize;
        let slot = self.slots.get_mut(self.at);
        if let Some(count) = slot.and_then(|slot| slot.get_mut(class.min(CLASSES - 1))) {
            *count = count.saturating_add(1);
        }
    }

    /// The upper end of the class that the quantile is in, microseconds; none in an hour without requests.
    fn quantile(&self, part: f64) -> Option<f64> {
        let total: u64 = self.slots.iter().flatten().map(|n| u64::from(*n)).sum();
        if total == 0 {
            return None;
        }
        let wanted = (part * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for class in 0..CLASSES {
            seen += self
                .slots
                .iter()
                .filter_map(|slot| slot.get(class))
                .map(|n| u64::from(*n))
                .sum::<u64>();
            if seen >= wanted {
                return Some(2f64.powf((class as f64 + 1.0) / 2.0));
            }
        }
        None
    }
}

#[derive(Debug)]
struct Reference(Arc<Numbers>);

impl Collector for Reference {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let numbers = &self.0;
        let load = |counter: &AtomicU64| gauge(counter.load(Ordering::Relaxed));
        let requests = lock(&numbers.requests).clone();
        let mut family = encoder.encode_descriptor(
            "http_request_count",
            "Requests to the admission webhook",
            None,
            MetricType::Unknown,
        )?;
        for (labels, count) in &requests {
            gauge(*count).encode(family.encode_family(labels)?)?;
        }
        let (quantiles, sum, count) = {
            let mut summary = lock(&numbers.summary);
            summary.turn(Instant::now());
            let parts = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99)];
            let quantiles = parts.map(|(name, part)| (name, summary.quantile(part)));
            (quantiles, summary.sum, summary.count)
        };
        let name = "http_request_duration_microseconds";
        let help = "Duration of requests to the admission webhook in the last hour";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
        for (part, value) in quantiles {
            if let Some(value) = value {
                let labels = [("quantile", part)];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let sum_name = "http_request_duration_microseconds_sum";
        ConstGauge::new(sum).encode(encoder.encode_descriptor(
            sum_name,
            help,
            None,
            MetricType::Unknown,
        )?)?;
        let count_name = "http_request_duration_microseconds_count";
        gauge(count).encode(encoder.encode_descriptor(
            count_name,
            help,
            None,
            MetricType::Unknown,
        )?)?;
        let mut family = encoder.encode_descriptor(
            "pod_identity_webhook_pod_count",
            "Pods that were given credentials, by method",
            None,
            MetricType::Unknown,
        )?;
        for (method, counter) in [
            ("container_credentials", &numbers.by_container),
            ("sts_web_identity", &numbers.by_irsa),
        ] {
            let labels = [("method", method)];
            load(counter).encode(family.encode_family(&labels)?)?;
        }
        load(&numbers.missing).encode(encoder.encode_descriptor(
            "pod_identity_webhook_missing_sa_count",
            "Pods whose service account was not found",
            None,
            MetricType::Unknown,
        )?)?;
        gauge(u64::from(numbers.used.load(Ordering::Relaxed))).encode(
            encoder.encode_descriptor(
                "pod_identity_webhook_used",
                "1 once a pod was given credentials",
                None,
                MetricType::Gauge,
            )?,
        )?;
        let ends = numbers.certificate_ends.load(Ordering::Relaxed);
        if ends != 0 {
            let left = ends.saturating_sub(jiff::Timestamp::now().as_second());
            ConstGauge::new(left).encode(encoder.encode_descriptor(
                "countersign_webhook_certificate_expiry_seconds",
                "Seconds until the serving certificate of the webhooks ends",
                None,
                MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// What the sources of the clusters keep.
#[derive(Debug)]
pub(super) struct MutateSources(pub(super) Vec<Arc<ClusterMutator>>);

impl Collector for MutateSources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (mut accounts, mut keys, mut identities) = (0, 0, 0);
        let (mut errors, mut unmutated, mut evicted) = (0, 0, 0);
        let mut reads = [("found", 0), ("missing", 0), ("error", 0), ("refused", 0)];
        for cluster in &self.0 {
            if let Some(source) = &cluster.accounts {
                accounts += source.health().accounts as u64;
                let counted = source.reads();
                let values = [
                    counted.found,
                    counted.missing,
                    counted.failed,
                    counted.refused,
                ];
                for ((_, sum), value) in reads.iter_mut().zip(values) {
                    *sum += value;
                }
            }
            if let Some(map) = &cluster.role_map {
                keys += map.current().map.len() as u64;
                errors += map.errors_total();
            }
            if let Some(file) = &cluster.identities {
                identities += file.current().len() as u64;
                errors += file.errors_total();
            }
            if let Some(found) = &cluster.unmutated {
                let found = found.borrow();
                unmutated += found.pods as u64;
                evicted += found.evicted_total;
            }
        }
        let mut family = encoder.encode_descriptor(
            "countersign_webhook_cache_objects",
            "Objects that the admission webhook knows, by kind",
            None,
            MetricType::Gauge,
        )?;
        for (kind, count) in [
            ("service_account", accounts),
            ("role_map_key", keys),
            ("identity", identities),
        ] {
            let labels = [("kind", kind)];
            gauge(count).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "countersign_webhook_api_reads",
            "Reads of service accounts that the watch had not told about, by result",
            None,
            MetricType::Counter,
        )?;
        for (result, count) in reads {
            let labels = [("result", result)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        ConstCounter::new(errors).encode(encoder.encode_descriptor(
            "countersign_webhook_config_errors",
            "Texts and keys of the role map and of the identities file that were refused",
            None,
            MetricType::Counter,
        )?)?;
        gauge(unmutated).encode(encoder.encode_descriptor(
            "countersign_webhook_unmutated_pods",
            "Pods that lack the credentials that they should have",
            None,
            MetricType::Gauge,
        )?)?;
        ConstCounter::new(evicted).encode(encoder.encode_descriptor(
            "countersign_webhook_evicted_pods",
            "Pods that were evicted because they lacked their credentials",
            None,
            MetricType::Counter,
        )?)
    }
}

//! Numbers that other crates keep as plain values, read when metrics are printed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use countersign_mapping::BackendKind;
use countersign_sources::{LatencyHistogram, Mappings, SourceKind};
use countersign_upstream::ec2::InstanceLookup;
use countersign_upstream::sts::StsVerifier;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::audit::{Counters, DropReason};

/// Mapping sources by cluster.
#[derive(Debug)]
pub(super) struct Sources(pub(super) Vec<(String, Arc<Mappings>)>);

/// STS and EC2.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) sts: Option<StsVerifier>,
    pub(super) nodes: Option<InstanceLookup>,
}

/// The audit log.
#[derive(Debug)]
pub(super) struct AuditLog(pub(super) Arc<Counters>);

impl Collector for AuditLog {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counters = &self.0;
        let dropped = DropReason::ALL.map(|reason| (reason.as_str(), counters.dropped(reason)));
        let mut out = Writer(&mut encoder);
        out.counter(
            "countersign_audit_records",
            "Audit records written",
            counters.written(),
        )?;
        out.counter(
            "countersign_audit_bytes",
            "Bytes of audit records written",
            counters.bytes(),
        )?;
        out.labelled(
            "countersign_audit_dropped",
            "Audit records dropped by reason",
            "reason",
            &dropped,
        )?;
        out.counter(
            "countersign_audit_refused_calls",
            "Calls refused because their audit record could not be kept",
            counters.refused(),
        )?;
        out.counter(
            "countersign_audit_rotations",
            "Audit log files finished",
            counters.rotations(),
        )?;
        out.gauge(
            "countersign_audit_queue_length",
            "Audit records waiting to be written",
            counters.queued(),
        )
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let health: Vec<_> = self
            .0
            .iter()
            .map(|(name, mappings)| (name.as_str(), mappings.health()))
            .collect();
        let failures = |backend: BackendKind| -> u64 {
            health
                .iter()
                .flat_map(|(_, health)| &health.sources)
                .filter(|source| source.source == SourceKind::Backend(backend))
                .map(|source| source.failures_total)
                .sum()
        };
        let uses = |backend| {
            health
                .iter()
                .any(|(_, health)| health.backends.contains(&backend))
        };
        let only = health
            .iter()
            .any(|(_, health)| health.backends == [BackendKind::DynamicFile]);
        let mut out = Writer(&mut encoder);
        out.counter(
            "aws_iam_authenticator_configmap_watch_failures",
            "Failed watches of the aws-auth ConfigMap",
            failures(BackendKind::EksConfigMap),
        )?;
        out.counter(
            "aws_iam_authenticator_dynamicfile_failures",
            "Failed reads of the dynamic file",
            failures(BackendKind::DynamicFile),
        )?;
        out.gauge(
            "aws_iam_authenticator_dynamic_file_enabled",
            "1 while the dynamic file is one of the backends",
            u64::from(uses(BackendKind::DynamicFile)),
        )?;
        out.gauge(
            "aws_iam_authenticator_dynamic_file_only",
            "1 while the dynamic file is the only backend",
            u64::from(only),
        )?;
        self.latencies(&mut encoder)?;

        let mut stale = encoder.encode_descriptor(
            "countersign_mapping_config_stale",
            "1 while something older than the source is in force",
            None,
            MetricType::Gauge,
        )?;
        for (cluster, health) in &health {
            for source in &health.sources {
                for section in &source.stale {
                    let labels = [
                        ("cluster", *cluster),
                        ("backend", source.source.as_str()),
                        ("section", section.section.key()),
                    ];
                    ConstGauge::new(1).encode(stale.encode_family(&labels)?)?;
                }
            }
        }
        let mut errors = encoder.encode_descriptor(
            "countersign_mapping_config_errors",
            "Broken texts met when mappings were read",
            None,
            MetricType::Counter,
        )?;
        for (cluster, health) in &health {
            for source in &health.sources {
                let labels = [("cluster", *cluster), ("backend", source.source.as_str())];
                ConstCounter::new(source.config_errors_total)
                    .encode(errors.encode_family(&labels)?)?;
            }
        }
        let mut reloads = encoder.encode_descriptor(
            "countersign_mapping_reloads",
            "New mapping rules that took effect",
            None,
            MetricType::Counter,
        )?;
        for (cluster, health) in &health {
            for source in &health.sources {
                let labels = [("cluster", *cluster), ("backend", source.source.as_str())];
                ConstCounter::new(source.reloads_total).encode(reloads.encode_family(&labels)?)?;
            }
        }
        let mut entries = encoder.encode_descriptor(
            "countersign_mapping_entries",
            "Mapping entries in force",
            None,
            MetricType::Gauge,
        )?;
        for (cluster, health) in &health {
            for source in &health.sources {
                let counts = source.entries;
                for (kind, count) in [
                    ("roles", counts.roles),
                    ("users", counts.users),
                    ("accounts", counts.accounts),
                ] {
                    let labels = [
                        ("cluster", *cluster),
                        ("backend", source.source.as_str()),
                        ("kind", kind),
                    ];
                    let count = i64::try_from(count).unwrap_or(i64::MAX);
                    ConstGauge::new(count).encode(entries.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Sources {
    fn latencies(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "aws_iam_authenticator_dynamic_e2e_latency_seconds",
            "From the time written in a dynamic file to the time it took effect",
            None,
            MetricType::Histogram,
        )?;
        let mut sums: Vec<(&'static str, LatencyHistogram)> = Vec::new();
        for (_, mappings) in &self.0 {
            for (kind, histogram) in mappings.latencies() {
                match sums.iter_mut().find(|(known, _)| *known == kind) {
                    None => sums.push((kind, histogram)),
                    Some((_, sum)) => {
                        sum.buckets
                            .iter_mut()
                            .zip(histogram.buckets)
                            .for_each(|(to, from)| *to += from);
                        sum.count += histogram.count;
                        sum.sum += histogram.sum;
                    }
                }
            }
        }
        for (kind, histogram) in sums {
            let mut buckets: Vec<(f64, u64)> = LatencyHistogram::BOUNDS
                .into_iter()
                .zip(histogram.buckets)
                .collect();
            let within: u64 = histogram.buckets.iter().sum();
            buckets.push((f64::MAX, histogram.count.saturating_sub(within)));
            let labels = [("type", kind)];
            let mut encoder = family.encode_family(&labels)?;
            encoder.encode_histogram::<NoLabelSet>(
                histogram.sum,
                histogram.count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

impl Collector for Upstream {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(sts) = &self.sts {
            encode_sts(sts, &mut encoder)?;
        }
        if let Some(nodes) = &self.nodes {
            let counters = nodes.counters();
            let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            let mut out = Writer(&mut encoder);
            out.counter(
                "aws_iam_authenticator_ec2_describe_instances_calls",
                "Calls of EC2 DescribeInstances",
                read(&counters.calls),
            )?;
            out.counter(
                "countersign_ec2_unreachable",
                "EC2 calls without an answer",
                read(&counters.unreachable),
            )?;
            out.counter(
                "countersign_ec2_throttled",
                "EC2 calls that were throttled",
                read(&counters.throttled),
            )?;
            out.counter(
                "countersign_node_cache_hits",
                "Node names found in the cache",
                read(&counters.hits),
            )?;
            out.counter(
                "countersign_node_cache_misses",
                "Node names looked up",
                read(&counters.misses),
            )?;
            out.counter(
                "countersign_node_cache_evictions",
                "Node names evicted",
                read(&counters.evictions),
            )?;
        }
        Ok(())
    }
}

fn encode_sts(sts: &StsVerifier, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let numbers = sts.snapshot();
    let mut responses = encoder.encode_descriptor(
        "aws_iam_authenticator_sts_responses",
        "Answers of STS by status",
        None,
        MetricType::Counter,
    )?;
    for ((status, region), count) in &numbers.responses {
        let status = status.to_string();
        let labels = [
            ("ResponseCode", status.as_str()),
            ("StsRegion", region.as_str()),
        ];
        ConstCounter::new(*count).encode(responses.encode_family(&labels)?)?;
    }
    for (name, help, values) in [
        (
            "aws_iam_authenticator_sts_connection_failures",
            "STS calls without an answer",
            &numbers.connection_failures,
        ),
        (
            "aws_iam_authenticator_sts_throttling",
            "STS calls that were throttled",
            &numbers.throttled,
        ),
    ] {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (region, count) in values {
            ConstCounter::new(*count)
                .encode(family.encode_family(&[("StsRegion", region.as_str())])?)?;
        }
    }
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let mut out = Writer(encoder);
    out.labelled(
        "countersign_sts_cache_hits",
        "Verdicts found in a cache",
        "kind",
        &[
            ("identity", numbers.identity_hits),
            ("rejection", numbers.rejection_hits),
        ],
    )?;
    out.counter(
        "countersign_sts_cache_misses",
        "Tokens that no cache knew",
        numbers.misses,
    )?;
    out.counter(
        "countersign_sts_cache_evictions",
        "Verdicts evicted from a full cache",
        numbers.evictions,
    )?;
    out.counter(
        "countersign_sts_coalesced",
        "Reviews that shared another's STS call",
        numbers.coalesced,
    )?;
    out.counter(
        "countersign_sts_stale_uses",
        "Identities used past their time during an outage",
        numbers.stale_uses,
    )?;
    out.labelled(
        "countersign_sts_refused",
        "Tokens refused without asking STS",
        "limit",
        &[
            ("queue_full", numbers.refused_queue_full),
            ("queue_timeout", numbers.refused_queue_timeout),
            ("share", numbers.refused_share),
            ("expired_in_queue", numbers.expired_in_queue),
        ],
    )?;
    out.gauge(
        "countersign_sts_waiters",
        "Reviews that wait for STS",
        numbers.waiters,
    )?;
    out.gauge(
        "countersign_sts_in_flight",
        "STS calls under way",
        count(numbers.in_flight),
    )?;
    out.gauge(
        "countersign_sts_queued",
        "STS calls waiting for a place",
        count(numbers.queued),
    )?;
    out.gauge(
        "countersign_sts_identities",
        "Identities in the cache",
        count(numbers.identities),
    )
}

/// Single values.
struct Writer<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Writer<'_, '_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)
    }

    fn labelled(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(&str, u64)],
    ) -> Result<(), fmt::Error> {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in values {
            let labels = [(label, *value)];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

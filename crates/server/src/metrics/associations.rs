//! Numbers of associations that are learnt from elsewhere, and of those that are objects of a cluster, read when metrics are printed.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::association_objects::SyncedCluster;
use crate::webhook::mutate::{AssociationSource, ClusterMutator, KeptHealth};

/// Associations that the admission webhook keeps.
#[derive(Debug)]
pub(super) struct Kept(pub(super) Vec<Arc<ClusterMutator>>);

impl Collector for Kept {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let kept: Vec<(&str, KeptHealth)> = self
            .0
            .iter()
            .filter_map(|cluster| {
                let source: &Arc<dyn AssociationSource> = cluster.associations.as_ref()?;
                Some((cluster.name.as_str(), source.health()?))
            })
            .collect();
        if kept.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "countersign_webhook_associations",
            "Associations that were learnt from elsewhere",
            None,
            MetricType::Gauge,
        )?;
        for (cluster, health) in &kept {
            let labels = [("cluster", *cluster), ("source", health.from.as_str())];
            ConstGauge::new(number(health.associations)).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "countersign_webhook_associations_read_timestamp_seconds",
            "When they were read last; 0 for never",
            None,
            MetricType::Gauge,
        )?;
        for (cluster, health) in &kept {
            let labels = [("cluster", *cluster), ("source", health.from.as_str())];
            let read_at = health.read_at.map_or(0, |at| at.as_second());
            ConstGauge::new(read_at).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "countersign_webhook_association_reads",
            "How often they were read, by result",
            None,
            MetricType::Counter,
        )?;
        for (cluster, health) in &kept {
            let reads = health.reads;
            for (result, count) in [
                ("ok", reads.ok),
                ("throttled", reads.throttled),
                ("refused", reads.refused),
                ("failed", reads.failed),
            ] {
                let source = health.from.as_str();
                let labels = [
                    ("cluster", *cluster),
                    ("source", source),
                    ("result", result),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Associations as objects.
#[derive(Debug)]
pub(super) struct Objects(pub(super) Vec<SyncedCluster>);

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "countersign_association_objects",
            "PodIdentityAssociation objects of the cluster, by what became of them",
            None,
            MetricType::Gauge,
        )?;
        for cluster in &self.0 {
            let state = cluster.states.borrow().clone();
            for (is, count) in [
                ("accepted", state.accepted),
                ("conflict", state.conflicts),
                ("refused", state.refused),
                ("mirror", state.mirrors),
            ] {
                let labels = [("cluster", cluster.name.as_str()), ("state", is)];
                ConstGauge::new(number(count)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "countersign_association_object_failures",
            "How often objects or associations could not be read or written",
            None,
            MetricType::Counter,
        )?;
        for cluster in &self.0 {
            let written = cluster.states.borrow().failures;
            let read = cluster.objects.borrow().failures;
            let labels = [("cluster", cluster.name.as_str())];
            ConstCounter::new(written.saturating_add(read))
                .encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

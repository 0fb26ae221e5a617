//! Numbers of access policies that are written as RBAC objects, read when metrics are printed.

use std::fmt;

use countersign_sources::kubernetes::ProjectionState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::projection::ProjectedCluster;

#[derive(Debug)]
pub(super) struct Projections(pub(super) Vec<ProjectedCluster>);

type Number = fn(&ProjectionState) -> i64;

const GAUGES: [(&str, &str, Number); 3] = [
    (
        "countersign_projection_objects",
        "RBAC objects that the cluster should hold for its access policies",
        |state| number(state.objects),
    ),
    (
        "countersign_projection_foreign_objects",
        "RBAC objects of others that have names which access policies need",
        |state| number(state.foreign.len()),
    ),
    (
        "countersign_projection_synced_timestamp_seconds",
        "When the cluster last held all that was wanted; 0 for never",
        |state| state.synced_at.map_or(0, |at| at.as_second()),
    ),
];

impl Collector for Projections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for cluster in &self.0 {
                let value = value(&cluster.states.borrow());
                ConstGauge::new(value).encode(family.encode_family(&labels(cluster))?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "countersign_projection_failures",
            "How often the cluster could not be read, or not be made to hold all that was wanted",
            None,
            MetricType::Counter,
        )?;
        for cluster in &self.0 {
            let failures = cluster.states.borrow().failures;
            ConstCounter::new(failures).encode(family.encode_family(&labels(cluster))?)?;
        }
        Ok(())
    }
}

fn labels(cluster: &ProjectedCluster) -> [(&'static str, &str); 2] {
    [
        ("cluster", cluster.name.as_str()),
        ("mode", cluster.delivery.as_str()),
    ]
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

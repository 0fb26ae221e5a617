//! Numbers of access entries and of the file of custom access policies, read when metrics are printed.

use std::fmt;
use std::sync::Arc;

use countersign_store::Directory;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::access_policies::AccessPolicies;

#[derive(Debug)]
pub(super) struct Access {
    pub(super) policies: Arc<AccessPolicies>,
    pub(super) directory: Option<Directory>,
    /// Whether principals are kept here, so that it can be told which are gone.
    pub(super) has_principals: bool,
}

impl Collector for Access {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(directory) = &self.directory {
            let snapshot = directory.snapshot();
            let entries = snapshot
                .clusters()
                .map(|cluster| snapshot.access_entry_count(&cluster.record.id))
                .sum();
            gauge(
                &mut encoder,
                "countersign_access_entries",
                "Access entries of all clusters",
                entries,
            )?;
            if self.has_principals {
                gauge(
                    &mut encoder,
                    "countersign_access_entries_dead",
                    "Access entries whose principal is not there any more",
                    snapshot.dead_access_entry_count(),
                )?;
            }
        }
        let health = self.policies.health();
        gauge(
            &mut encoder,
            "countersign_access_policies_stale",
            "1 while the file of custom access policies is refused and the last good one is in force",
            usize::from(health.problem.is_some()),
        )?;
        for (name, help, value) in [
            (
                "countersign_access_policies_reloads",
                "Files of custom access policies that were put in force",
                health.reloads,
            ),
            (
                "countersign_access_policies_refused",
                "Files of custom access policies that were refused",
                health.refused,
            ),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: usize,
) -> Result<(), fmt::Error> {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

//! Numbers of the store, read when metrics are printed.

use std::fmt;

use countersign_store::LagHistogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::store_health::StoreHealth;

#[derive(Debug)]
pub(super) struct Store(pub(super) StoreHealth);

impl Collector for Store {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let labels = [("kind", self.0.kind())];
        let mut revision = encoder.encode_descriptor(
            "countersign_store_revision",
            "Revision of the store that this replica answers from",
            None,
            MetricType::Gauge,
        )?;
        let number = i64::try_from(self.0.revision().get()).unwrap_or(i64::MAX);
        ConstGauge::new(number).encode(revision.encode_family(&labels)?)?;
        let mut staleness = encoder.encode_descriptor(
            "countersign_store_staleness_seconds",
            "For how long changes of the store have not arrived",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(self.0.staleness().as_secs_f64())
            .encode(staleness.encode_family(&labels)?)?;
        histogram(
            &mut encoder,
            "countersign_store_write_seconds",
            "From the beginning of a write here until it is visible here",
            self.0.own_lag(),
        )?;
        match self.0.shared_lag() {
            None => Ok(()),
            Some(lag) => histogram(
                &mut encoder,
                "countersign_store_lag_seconds",
                "From the beginning of a write on any replica until it arrives here, by the writer's clock",
                &lag,
            ),
        }
    }
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    lag: &LagHistogram,
) -> Result<(), fmt::Error> {
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    let counts = lag.counts();
    let bounds = LagHistogram::BOUNDS.into_iter().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    encoder.encode_histogram::<NoLabelSet>(lag.sum(), counts.iter().sum(), &buckets, None)
}

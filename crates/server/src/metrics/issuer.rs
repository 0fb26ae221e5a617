//! Numbers of issuers (IRSA spec, section 11), read when metrics are printed.
//!
//! The label `issuer` is the URL of a cluster's issuer, and `others` for all issuers that are fetched: what is fetched is
//! chosen by providers that callers make.

use std::fmt;
use std::sync::Arc;

use countersign_oidc::Schedule;
use countersign_upstream::jwks::FetchResult;
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::issuer::{ClusterIssuers, Counted};
use crate::web_identity::WebIdentity;

const OTHERS: &str = "others";

#[derive(Debug)]
pub(super) struct Issuers {
    pub(super) clusters: Option<Arc<ClusterIssuers>>,
    pub(super) others: Arc<WebIdentity>,
}

impl Collector for Issuers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.fetches(&mut encoder)?;
        let Some(issuers) = &self.clusters else {
            return Ok(());
        };
        let counters = issuers.counters();
        counter(
            &mut encoder,
            (
                "countersign_oidc_document_requests",
                "Requests for documents of clusters' issuers",
            ),
            counters.documents(),
            ["document", "code"],
        )?;
        counter(
            &mut encoder,
            (
                "countersign_bound_check_from_memory",
                "Tokens taken for alive by what the API server said before it went away",
            ),
            counters.bound_from_memory(),
            ["", ""],
        )?;
        counter(
            &mut encoder,
            (
                "countersign_bound_check_failures",
                "Tokens whose pod or service account is gone, or not known to be there",
            ),
            counters.not_bound(),
            ["reason", ""],
        )?;
        self.ages(&mut encoder, issuers)
    }
}

impl Issuers {
    fn fetches(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let others = self.others.keys().counters();
        let mut fetches = encoder.encode_descriptor(
            "countersign_oidc_fetch",
            "Key sets asked for, of clusters at their API servers and of others at their issuers",
            None,
            MetricType::Counter,
        )?;
        for (result, label) in [
            (FetchResult::Ok, "ok"),
            (FetchResult::Unreachable, "unreachable"),
            (FetchResult::Untrusted, "untrusted"),
            (FetchResult::Unusable, "unusable"),
        ] {
            let labels = [("issuer", OTHERS), ("result", label)];
            ConstCounter::new(others.fetches(result)).encode(fetches.encode_family(&labels)?)?;
        }
        let pulls = self.clusters.iter().flat_map(|issuers| {
            let all = issuers.counters().pulls().all();
            all.into_iter()
                .map(|((cluster, result, _), count)| (cluster, result, count))
        });
        for (cluster, result, count) in pulls {
            let labels = [("issuer", &*cluster), ("result", result)];
            ConstCounter::new(count).encode(fetches.encode_family(&labels)?)?;
        }
        let mut stale = encoder.encode_descriptor(
            "countersign_oidc_stale_keys",
            "Uses of keys that should have been asked for anew and could not be",
            None,
            MetricType::Counter,
        )?;
        let labels = [("issuer", OTHERS)];
        ConstCounter::new(others.stale_uses()).encode(stale.encode_family(&labels)?)?;
        let uses = self
            .clusters
            .iter()
            .flat_map(|issuers| issuers.counters().stale().all());
        for ((cluster, ..), count) in uses {
            let labels = [("issuer", &*cluster)];
            ConstCounter::new(count).encode(stale.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn ages(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        issuers: &ClusterIssuers,
    ) -> Result<(), fmt::Error> {
        let now = Timestamp::now();
        let mut ages = encoder.encode_descriptor(
            "countersign_oidc_key_age_seconds",
            "Time since a generated key was made, or since keys of another source last changed",
            None,
            MetricType::Gauge,
        )?;
        let snapshot = issuers.directory().snapshot();
        let mut clusters: Vec<_> = snapshot.clusters().collect();
        clusters.sort_by(|a, b| a.arn.cmp(&b.arn));
        for cluster in clusters {
            let Some(entry) = snapshot.cluster_keys(&cluster.record.id) else {
                continue;
            };
            let changed = entry.record.modified.as_second();
            for id in entry.keys.ids() {
                let made = entry
                    .signing
                    .lives(Schedule::CLUSTER, now)
                    .find(|life| life.key.id() == id)
                    .map_or(changed, |life| life.made);
                let labels = [("cluster", &*cluster.arn), ("kid", id)];
                let age = now.as_second().saturating_sub(made).max(0);
                ConstGauge::new(age).encode(ages.encode_family(&labels)?)?;
            }
        }
        let mut due = encoder.encode_descriptor(
            "countersign_oidc_rotation_due",
            "Whether a rotation of generated keys waits for its next step, which somebody has to take",
            None,
            MetricType::Gauge,
        )?;
        for (cluster, step) in issuers.due(&snapshot, now) {
            let labels = [("cluster", &*cluster), ("step", step.step)];
            ConstGauge::new(1_i64).encode(due.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    counted: &Counted,
    [first, second]: [&'static str; 2],
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for ((cluster, one, two), count) in counted.all() {
        let labels: Vec<(&str, &str)> = [("cluster", &*cluster), (first, one), (second, two)]
            .into_iter()
            .filter(|(label, _)| !label.is_empty())
            .collect();
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

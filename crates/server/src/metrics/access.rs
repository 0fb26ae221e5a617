//! Numbers of access entries and of the file of custom access policies, read when metrics are printed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_store::{Directory, DirectorySnapshot, Revision};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::access_policies::AccessPolicies;

#[derive(Debug)]
pub(super) struct Access {
    policies: Arc<AccessPolicies>,
    directory: Option<Directory>,
    /// Counted once for each state of the directory.
    counted: Mutex<Option<(Revision, Counts)>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    entries: i64,
    dead: i64,
    unbound: i64,
}

impl Access {
    pub(super) fn new(policies: Arc<AccessPolicies>, directory: Option<Directory>) -> Self {
        Self {
            policies,
            directory,
            counted: Mutex::default(),
        }
    }

    fn counts(&self, directory: &Directory) -> Counts {
        let snapshot = directory.snapshot();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        match *counted {
            Some((revision, counts)) if revision == snapshot.revision() => counts,
            _ => {
                let counts = count(&snapshot);
                *counted = Some((snapshot.revision(), counts));
                counts
            }
        }
    }
}

/// An entry is dead when its principal belongs to an account that is known here and is not there any more (EKS API spec,
/// section 7.4). Of other accounts nobody can tell.
fn count(snapshot: &DirectorySnapshot) -> Counts {
    let mut counts = Counts::default();
    for cluster in snapshot.clusters() {
        for entry in snapshot.access_entries(&cluster.record.id, None) {
            counts.entries += 1;
            match &entry.record.principal_id {
                None => counts.unbound += 1,
                Some(id) if is_dead(snapshot, &entry.record.principal_arn, id) => counts.dead += 1,
                Some(_) => {}
            }
        }
    }
    counts
}

fn is_dead(snapshot: &DirectorySnapshot, arn: &str, id: &str) -> bool {
    let account = countersign_access::Principal::parse(arn).map(|principal| principal.account());
    account.is_ok_and(|account| {
        snapshot.account(account).is_some()
            && *id != *account.as_str()
            && snapshot.principal(id).is_none()
    })
}

impl Collector for Access {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(directory) = &self.directory {
            let counts = self.counts(directory);
            for (name, help, value) in [
                (
                    "countersign_access_entries",
                    "Access entries of all clusters",
                    counts.entries,
                ),
                (
                    "countersign_access_entries_dead",
                    "Access entries whose principal is not there any more",
                    counts.dead,
                ),
                (
                    "countersign_access_entries_unbound",
                    "Access entries that nobody has used yet and that have no unique id",
                    counts.unbound,
                ),
            ] {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
            }
        }
        let health = self.policies.health();
        let stale = ConstGauge::new(i64::from(health.problem.is_some()));
        stale.encode(encoder.encode_descriptor(
            "countersign_access_policies_stale",
            "1 while the file of custom access policies is refused and the last good one is in force",
            None,
            MetricType::Gauge,
        )?)?;
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

//! What the rotation of generated keys waits for (IRSA spec, section 2.4).
//!
//! Countersign makes and publishes keys, and kube-apiserver signs with them: it takes a new one when it is started with it. So a
//! timer here could do the first of five steps alone, and a key that no API server has helps nobody. What a timer can do is to
//! notice: the step that is due stands in `issuer keys list`, in `/readyz?verbose` and in a metric.

use countersign_oidc::{RotationAdvice, Schedule};
use countersign_store::{ClusterKeysEntry, DirectorySnapshot};
use jiff::Timestamp;

use super::ClusterIssuers;
use crate::health::{Report, State};

/// A step of a rotation that an operator has to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationStep {
    /// `rotate` or `remove`; the label of the metric.
    pub step: &'static str,
    /// What is so, and what to do.
    pub text: String,
}

/// The step that is due for the keys of a cluster of this name; nothing for keys that others made.
#[must_use]
pub fn step_of(cluster: &str, entry: &ClusterKeysEntry, now: Timestamp) -> Option<RotationStep> {
    Some(match entry.signing.advice(Schedule::CLUSTER, now)? {
        RotationAdvice::Rotate { kid, age_seconds } => RotationStep {
            step: "rotate",
            text: format!(
                "the signing key {kid} is {} days old: `countersign issuer keys rotate --cluster {cluster}`; six minutes later \
                 `countersign issuer flags`, and restart kube-apiserver, which signs",
                age_seconds / 86_400
            ),
        },
        RotationAdvice::Remove { kid } => RotationStep {
            step: "remove",
            text: format!(
                "no token of the key {kid} lives, if kube-apiserver was restarted with the next one: \
                 `countersign issuer keys remove --kid {kid} --cluster {cluster}`"
            ),
        },
    })
}

impl ClusterIssuers {
    /// The steps that are due at `now`, by the ARN of the cluster, in its order.
    pub(crate) fn due(
        &self,
        snapshot: &DirectorySnapshot,
        now: Timestamp,
    ) -> Vec<(String, RotationStep)> {
        let mut due: Vec<_> = snapshot
            .clusters()
            .filter_map(|cluster| {
                let entry = snapshot.cluster_keys(&cluster.record.id)?;
                let step = step_of(&cluster.record.name, entry, now)?;
                Some((cluster.arn.to_string(), step))
            })
            .collect();
        due.sort_by(|a, b| a.0.cmp(&b.0));
        due
    }

    /// Adds a warning for every step of a rotation that is due.
    pub fn report(&self, report: &mut Report, now: Timestamp) {
        for (cluster, step) in self.due(&self.directory.snapshot(), now) {
            report.add(format!("issuer {cluster}"), State::Warning, step.text);
        }
    }
}

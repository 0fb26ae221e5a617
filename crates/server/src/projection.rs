//! Access policies as RBAC objects of a cluster (EKS API spec, section 18.2): which clusters want them, what they should hold, and
//! how far they are.
//!
//! ```text
//!   snapshot (entries of the cluster) ─┐
//!                                      ├─► Projection, when it is another one ──► ProjectionWriter ──► RBAC objects
//!   policies and access rules in force ┘
//! ```
//!
//! While changes of the store do not arrive nothing is written: a replica that is cut off would give back what others have taken
//! away since. Nobody gets in through that replica either once [`StoreHealth`](crate::store_health::StoreHealth) says so, and
//! without the group of a TokenReview the objects give nobody anything.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use countersign_access::{AccessRules, AggregatedRules, CompiledPolicies, EntryType};
use countersign_sources::kubernetes::{OwnedEntry, Projection, ProjectionState};
use countersign_store::records::AuthenticationMode;
use countersign_store::{Directory, DirectorySnapshot, FeedState, Revision};
use tokio::sync::watch;

use crate::access_policies::{AccessPolicies, InForce};
use crate::aggregation::AggregatedCluster;
use crate::health::{Report, State};
use crate::webhook::entries::Registered;

/// How often the snapshot is looked at. All changes in between are one.
const LOOK: Duration = Duration::from_millis(250);

/// How access policies get into force in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// kube-apiserver asks the authorizer.
    #[default]
    Webhook,
    /// RBAC objects, bound to the group that TokenReviews name.
    Projection,
    /// Both; either is enough to be allowed.
    Both,
}

/// It is none of the three.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `webhook`, `projection` or `both`")]
pub struct UnknownDelivery(String);

impl Delivery {
    /// As it is written in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Projection => "projection",
            Self::Both => "both",
        }
    }

    /// Whether RBAC objects are written, and TokenReviews name the group of the caller's entry.
    #[must_use]
    pub const fn projects(self) -> bool {
        matches!(self, Self::Projection | Self::Both)
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Delivery {
    type Err = UnknownDelivery;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "webhook" => Ok(Self::Webhook),
            "projection" => Ok(Self::Projection),
            "both" => Ok(Self::Both),
            other => Err(UnknownDelivery(other.chars().take(64).collect())),
        }
    }
}

/// A cluster that RBAC objects are written to, or taken away from.
#[derive(Debug, Clone)]
pub struct ProjectedCluster {
    /// Its name.
    pub name: String,
    /// With [`Delivery::Webhook`] what was written before is taken away.
    pub delivery: Delivery,
    /// How far it is.
    pub states: watch::Receiver<ProjectionState>,
}

impl ProjectedCluster {
    /// Adds the check `cluster NAME access-policies`. It never makes the process unready: other replicas would do no better.
    pub fn report(&self, report: &mut Report) {
        let state = self.states.borrow();
        let mut detail = self.delivery.to_string();
        detail.push_str(&match (state.synced_at, self.delivery.projects()) {
            (None, true) => ", RBAC objects not written yet".to_owned(),
            (None, false) => ", RBAC objects written before may still be there".to_owned(),
            (Some(at), _) => format!(", {} RBAC objects as of {at}", state.objects),
        });
        if let Some(problem) = &state.problem {
            detail.push_str(&format!(": {problem}"));
        }
        if !state.foreign.is_empty() {
            let names: Vec<&str> = state.foreign.iter().take(5).map(String::as_str).collect();
            detail.push_str(&format!(
                "; {} of others have names that are needed: {}",
                state.foreign.len(),
                names.join(", ")
            ));
        }
        let fine = state.synced_at.is_some() && state.problem.is_none() && state.foreign.is_empty();
        let state = if fine { State::Ok } else { State::Warning };
        report.add(
            format!("cluster {} access-policies", self.name),
            state,
            detail,
        );
    }
}

/// What was seen last.
struct Seen {
    revision: Revision,
    aggregated: Option<Arc<AggregatedRules>>,
    in_force: Arc<InForce>,
    policies: Arc<CompiledPolicies>,
}

/// Tells the writer of a cluster what it should hold, whenever that changes, until the writer ends.
///
/// That is what the authorizer goes by (EKS API spec, section 9): the entries of the cluster while its mode has them, and none when
/// the cluster is not registered (any more). An access rule is an entry whose id is the rule's. Custom policies with `aggregate` are
/// written with what the ClusterRoles of `roles` add.
pub async fn follow(
    directory: Directory,
    policies: Arc<AccessPolicies>,
    cluster: Registered,
    roles: Option<Arc<AggregatedCluster>>,
    wanted: watch::Sender<Option<Arc<Projection>>>,
) {
    let mut seen: Option<Seen> = None;
    loop {
        if matches!(*directory.feed().state(), FeedState::Behind { .. }) {
            if seen.take().is_some() {
                wanted.send_replace(None);
            }
        } else {
            let snapshot = directory.snapshot();
            let in_force = Guard::into_inner(policies.current());
            let aggregated = roles
                .as_ref()
                .filter(|_| in_force.aggregates())
                .map(|roles| roles.rules());
            let before = seen.take().filter(|seen| {
                Arc::ptr_eq(&seen.in_force, &in_force) && are_same(&seen.aggregated, &aggregated)
            });
            let (revision, compiled) = match before {
                Some(seen) => (Some(seen.revision), seen.policies),
                None => (None, Arc::new(in_force.policies().clone())),
            };
            if revision != Some(snapshot.revision()) {
                let entries = entries_of(&snapshot, &cluster, in_force.rules());
                wanted.send_if_modified(|known| {
                    let same = known.as_ref().is_some_and(|known| {
                        known.entries == entries
                            && Arc::ptr_eq(&known.policies, &compiled)
                            && are_same(&known.aggregated, &aggregated)
                    });
                    if !same {
                        *known = Some(Arc::new(Projection {
                            entries,
                            policies: Arc::clone(&compiled),
                            aggregated: aggregated.clone(),
                        }));
                    }
                    !same
                });
            }
            seen = Some(Seen {
                revision: snapshot.revision(),
                aggregated,
                in_force,
                policies: compiled,
            });
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = wanted.closed() => return,
        }
    }
}

fn are_same(one: &Option<Arc<AggregatedRules>>, other: &Option<Arc<AggregatedRules>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// What takes away everything that was written.
#[must_use]
pub fn nothing() -> Projection {
    Projection {
        entries: Vec::new(),
        policies: Arc::new(CompiledPolicies::builtin().clone()),
        aggregated: None,
    }
}

fn entries_of(
    snapshot: &DirectorySnapshot,
    cluster: &Registered,
    rules: &AccessRules,
) -> Vec<OwnedEntry> {
    let Some(cluster) = cluster.find(snapshot) else {
        return Vec::new();
    };
    if cluster.record.authentication_mode == AuthenticationMode::ConfigMap {
        return Vec::new();
    }
    let entries = snapshot
        .access_entries(&cluster.record.id, None)
        .map(|entry| &entry.record)
        .filter(|record| record.entry_type.takes_policies() && !record.associations.is_empty())
        .map(|record| OwnedEntry {
            uuid: record.uuid.clone(),
            principal_arn: record.principal_arn.clone(),
            entry_type: record.entry_type,
            associations: record
                .associations
                .iter()
                .map(|association| (association.policy_arn.clone(), association.scope.clone()))
                .collect(),
        });
    let rules = rules
        .iter()
        .filter(|rule| rule.is_for_cluster(&cluster.record.name))
        .map(|rule| OwnedEntry {
            uuid: rule.id().into(),
            principal_arn: format!("access rule {}", rule.name).into(),
            entry_type: EntryType::Standard,
            associations: rule
                .associations()
                .map(|(policy_arn, scope)| (policy_arn.into(), scope.clone()))
                .collect(),
        });
    entries.chain(rules).collect()
}

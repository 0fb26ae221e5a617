//! What the ClusterRoles of clusters add to custom policies with `aggregate` (EKS API spec, section 18.1).
//!
//! ClusterRoles are watched from the moment a policy in force needs them. Until they were listed, and in a cluster that cannot be
//! read, such a policy grants its own rules; once they were read, what was read last stays in force while the watch fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_access::AggregatedRules;
use countersign_sources::kubernetes::KubernetesAccess;
use countersign_sources::rbac::{LiveRbac, RbacWatch};
use countersign_store::DirectorySnapshot;
use jiff::Timestamp;

use crate::access_policies::AccessPolicies;
use crate::health::{Report, State};
use crate::webhook::entries::Registered;

/// How often policies and ClusterRoles are looked at. All changes in between are one.
const LOOK: Duration = Duration::from_millis(250);
/// Pause after no client could be made.
const RETRY_AFTER: Duration = Duration::from_secs(5);
const KIND: &str = "clusterroles";

/// The clusters whose ClusterRoles can be read. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Aggregation {
    clusters: Arc<[Arc<AggregatedCluster>]>,
}

/// A cluster whose ClusterRoles can be read.
pub struct AggregatedCluster {
    name: String,
    registered: Registered,
    live: Arc<LiveRbac>,
    rules: ArcSwap<AggregatedRules>,
}

impl fmt::Debug for AggregatedCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AggregatedCluster")
            .field("name", &self.name)
            .field("registered", &self.registered)
            .finish_non_exhaustive()
    }
}

impl Aggregation {
    /// These clusters.
    #[must_use]
    pub fn new(clusters: Vec<Arc<AggregatedCluster>>) -> Self {
        Self {
            clusters: clusters.into(),
        }
    }

    /// What the ClusterRoles of the cluster with this id add; absent if they cannot be read. O(clusters of the configuration).
    #[must_use]
    pub fn rules_of(&self, snapshot: &DirectorySnapshot, id: &str) -> Option<Arc<AggregatedRules>> {
        let is_it = |cluster: &&Arc<AggregatedCluster>| {
            let found = cluster.registered.find(snapshot);
            found.is_some_and(|found| &*found.record.id == id)
        };
        self.clusters.iter().find(is_it).map(|found| found.rules())
    }
}

impl AggregatedCluster {
    /// A cluster of which nothing is known yet.
    #[must_use]
    pub fn new(name: &str, registered: Registered) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            registered,
            live: LiveRbac::new(),
            rules: ArcSwap::default(),
        })
    }

    /// What its ClusterRoles add, as they were read last.
    #[must_use]
    pub fn rules(&self) -> Arc<AggregatedRules> {
        self.rules.load_full()
    }

    /// Adds the check `cluster NAME cluster-roles` while a policy needs them. It never makes the process unready: without them a
    /// policy grants less.
    pub fn report(&self, policies: &AccessPolicies, report: &mut Report) {
        if !policies.current().aggregates() {
            return;
        }
        let health = self.live.health();
        let Some(kind) = health.kinds.iter().find(|kind| kind.resource == KIND) else {
            return;
        };
        let (state, mut detail) = match (kind.synced, &kind.failing) {
            (true, None) => (State::Ok, format!("as of version {}", kind.version)),
            (true, Some(problem)) => (
                State::Warning,
                format!(
                    "version {} in force, not kept up to date: {problem}",
                    kind.version
                ),
            ),
            (false, problem) => (
                State::Warning,
                format!(
                    "not read, so that policies with `aggregate` grant their own rules only: {}",
                    problem
                        .as_deref()
                        .unwrap_or("the API server was not reached yet")
                ),
            ),
        };
        if !kind.refused.is_empty() {
            detail.push_str(&format!("; {} cannot be read", kind.refused.len()));
        }
        report.add(
            format!("cluster {} cluster-roles", self.name),
            state,
            detail,
        );
    }

    /// Keeps the rules up to date for as long as the process runs, from the moment a policy needs them.
    pub async fn follow(self: Arc<Self>, access: KubernetesAccess, policies: Arc<AccessPolicies>) {
        while !policies.current().aggregates() {
            tokio::time::sleep(LOOK).await;
        }
        let client = loop {
            match access.client().await {
                Ok(client) => break client,
                Err(error) => {
                    let problem = with_causes(&error);
                    tracing::warn!(cluster = self.name, problem, "ClusterRoles cannot be read");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        };
        let watching = RbacWatch::of_cluster_roles(&self.live).run(client, Timestamp::now);
        let collecting = async {
            let mut seen = None;
            loop {
                let index = self.live.index();
                if !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &index)) {
                    let rules = AggregatedRules::of(&index);
                    // Whoever compares by address is not to see a change where there is none.
                    if rules != **self.rules.load() {
                        self.rules.store(Arc::new(rules));
                    }
                    seen = Some(index);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::join!(watching, collecting);
    }
}

/// An error with its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

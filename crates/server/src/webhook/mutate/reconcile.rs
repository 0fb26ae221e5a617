//! Pods that should have credentials and came out without: the other side of `failurePolicy: Ignore` (webhook spec, section 8.2).
//!
//! All pods are looked through now and then, and each is decided again as if it were made now, with what the watches know; the
//! API server is asked about no account. A pod that would get the volume and has none was missed, or its account got its role or
//! association later. That is told once at its controller, and counted.
//!
//! With `restartUnmutated` such pods are evicted, one in a pass, under their disruption budgets, and only where nothing is lost:
//! pods of a ReplicaSet, StatefulSet, DaemonSet or ReplicationController whose other pods are ready. When the pod that comes in
//! its place lacks the volume too, evicting helps nothing, and this controller is left alone from then on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use countersign_pods::Review;
use countersign_sources::kubernetes::{Eviction, PodOwner, PodSweep, SweptPod};
use jiff::Timestamp;
use tokio::sync::watch;

use super::ClusterMutator;

/// Kinds that make a new pod for one that was evicted, without counting it as a failure.
const RESTARTABLE: [&str; 4] = [
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "ReplicationController",
];
/// Pods that are told about, and remembered; the others are counted.
const MAX_TOLD: usize = 10_000;
/// Events in one pass.
const MAX_EVENTS: usize = 50;

/// Settings of a [`Reconciler`].
#[derive(Debug, Clone, Copy)]
pub struct ReconcilerOptions {
    /// Pause between two looks. Default 60 s.
    pub every: Duration,
    /// Whether such pods are evicted.
    pub restart: bool,
}

impl Default for ReconcilerOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(60),
            restart: false,
        }
    }
}

/// What the last look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unmutated {
    /// Pods that lack their credentials.
    pub pods: usize,
    /// Pods that were evicted since the start.
    pub evicted_total: u64,
    /// Why the pods could not be looked through.
    pub problem: Option<String>,
}

/// Looks for pods without the credentials that they should have.
#[derive(Debug)]
pub struct Reconciler {
    mutator: Arc<ClusterMutator>,
    sweep: PodSweep,
    options: ReconcilerOptions,
    found: watch::Sender<Unmutated>,
    told: HashSet<String>,
    /// When a pod of a controller, by its uid, was evicted last.
    evicted: HashMap<String, Timestamp>,
}

/// A pod that lacks its credentials.
struct Missed {
    namespace: String,
    name: String,
    uid: String,
    owner: Option<PodOwner>,
    created: Option<Timestamp>,
    code: &'static str,
}

#[derive(Default)]
struct Pass {
    missed: Vec<Missed>,
    count: usize,
    uids: HashSet<String>,
    /// Controllers that have a pod which is not ready or goes.
    unsettled: HashSet<String>,
    owners: HashSet<String>,
}

impl Reconciler {
    /// A reconciler that has not begun. What it finds goes to `found`, whose receiver stands in `mutator`.
    #[must_use]
    pub fn new(
        mutator: Arc<ClusterMutator>,
        sweep: PodSweep,
        options: ReconcilerOptions,
        found: watch::Sender<Unmutated>,
    ) -> Self {
        Self {
            mutator,
            sweep,
            options,
            found,
            told: HashSet::new(),
            evicted: HashMap::new(),
        }
    }

    /// Looks for ever.
    pub async fn run(mut self, clock: impl Fn() -> Timestamp + Send) {
        loop {
            tokio::time::sleep(self.options.every).await;
            self.look(clock()).await;
        }
    }

    /// Looks once.
    pub async fn look(&mut self, now: Timestamp) {
        let mut pass = Pass::default();
        let mutator = Arc::clone(&self.mutator);
        let looked = self
            .sweep
            .look_through(|pod| pass.take(&mutator, pod))
            .await;
        if let Err(problem) = looked {
            // Once: where the right is missing, it is in every look.
            if self.found.borrow().problem.as_ref() != Some(&problem) {
                tracing::warn!(problem, "pods cannot be looked through");
            }
            self.found
                .send_modify(|found| found.problem = Some(problem));
            return;
        }
        // The same order in all replicas, so that they mean the same pod.
        pass.missed
            .sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        self.told.retain(|uid| pass.uids.contains(uid));
        self.evicted.retain(|owner, _| pass.owners.contains(owner));
        self.found.send_modify(|found| {
            found.pods = pass.count;
            found.problem = None;
        });
        self.tell(&pass, now).await;
        if self.options.restart {
            self.evict(&pass, now).await;
        }
    }

    async fn tell(&mut self, pass: &Pass, now: Timestamp) {
        let mut events = 0;
        for pod in &pass.missed {
            if events >= MAX_EVENTS {
                break;
            }
            if !self.told.insert(pod.uid.clone()) {
                continue;
            }
            events += 1;
            let note = format!(
                "pod {} runs without the credentials that its service account gives it ({}): it was made while the webhook \
                 could not be asked, or before the role or association; delete it so that it is made again",
                pod.name, pod.code
            );
            let target = (&*pod.namespace, &*pod.name, &*pod.uid);
            let told = self
                .sweep
                .tell(
                    target,
                    pod.owner.as_ref(),
                    "CredentialsNotInjected",
                    &note,
                    now,
                )
                .await;
            if let Err(problem) = told {
                tracing::warn!(
                    problem,
                    namespace = pod.namespace,
                    pod = pod.name,
                    "no event about a pod without credentials could be made"
                );
            }
        }
    }

    async fn evict(&mut self, pass: &Pass, now: Timestamp) {
        for pod in &pass.missed {
            let Some(owner) = &pod.owner else { continue };
            let restartable = RESTARTABLE.contains(&&*owner.kind);
            let helped = match (self.evicted.get(&owner.uid), pod.created) {
                (None, _) => true,
                // Made after the last eviction, and still without.
                (Some(last), Some(created)) => created < *last,
                (Some(_), None) => false,
            };
            if !restartable || !helped || pass.unsettled.contains(&owner.uid) {
                continue;
            }
            match self.sweep.evict(&pod.namespace, &pod.name, &pod.uid).await {
                Eviction::Done => {
                    tracing::info!(
                        namespace = pod.namespace,
                        pod = pod.name,
                        "evicted, to be made again with credentials"
                    );
                    self.evicted.insert(owner.uid.clone(), now);
                    self.found.send_modify(|found| found.evicted_total += 1);
                    return;
                }
                Eviction::NotNow => {}
                Eviction::Failed(problem) => {
                    tracing::warn!(
                        problem,
                        namespace = pod.namespace,
                        pod = pod.name,
                        "could not be evicted"
                    );
                    return;
                }
            }
        }
    }
}

impl Pass {
    fn take(&mut self, mutator: &ClusterMutator, pod: &SweptPod<'_>) {
        if pod.finished {
            return;
        }
        if let Some(owner) = &pod.owner {
            self.owners.insert(owner.uid.clone());
            // A pod that is not ready may be the very one that lacks its credentials; another one of its controller counts.
            if pod.deleting {
                self.unsettled.insert(owner.uid.clone());
            }
        }
        if pod.deleting {
            return;
        }
        let Some(code) = lacks(mutator, pod) else {
            if let Some(owner) = &pod.owner
                && !pod.ready
            {
                self.unsettled.insert(owner.uid.clone());
            }
            return;
        };
        self.count += 1;
        if self.missed.len() < MAX_TOLD {
            self.uids.insert(pod.uid.to_owned());
            self.missed.push(Missed {
                namespace: pod.namespace.to_owned(),
                name: pod.name.to_owned(),
                uid: pod.uid.to_owned(),
                owner: pod.owner.clone(),
                created: pod.created,
                code,
            });
        }
    }
}

/// By what the pod should have credentials that it lacks.
fn lacks(mutator: &ClusterMutator, pod: &SweptPod<'_>) -> Option<&'static str> {
    let review = Review::of_pod(pod.namespace, pod.json.as_bytes()).ok()?;
    let account = review.account()?;
    let known = mutator.known(account.namespace, account.name)?;
    mutator.decide(&review, Some(&known), |decision| {
        decision.lacks_credentials().then(|| decision.code())
    })
}

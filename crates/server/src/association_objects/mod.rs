//! Pod identity associations as objects of a cluster, both ways (agent spec, section 9).
//!
//! ```text
//!   PodIdentityAssociation objects ─┐                    ┌─► associations of the store      those that objects ask for
//!                                   ├─► plan ──► confirm ┼─► objects labelled as mirrors    those of the EKS API, with `mirror`
//!   snapshot (associations, roles) ─┘                    └─► statuses of objects
//! ```
//!
//! One owner each: an association belongs to the object that asked for it, or to the EKS API. That of an object is shown by the
//! EKS API with an `ownerArn`, and changed there by nobody; that of the EKS API is shown as an object, and what somebody
//! edits there is put back.
//!
//! Several replicas are in nobody's way. Each plans alone, and every write is a compare: associations with the revision that was
//! planned on, objects with the version that was seen. A watch may be late, so that nothing is given or taken away for an object
//! before the API server itself, past every cache, says that the object is as the plan has it.
//!
//! While changes of the store do not arrive, or the objects cannot be read, nothing is done: what is in force stays.

mod plan;
mod status;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use countersign_pods::AllowList;
use countersign_sources::kubernetes::{
    AssociationObject, AssociationObjects, AssociationObjectsState, ObjectError, ObjectName,
    ObjectNow,
};
use countersign_store::{
    ClusterEntry, ClusterPlace, Directory, DirectorySnapshot, FeedState, Revision,
};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::aws::check_association_object;
use crate::health::{Report, State};
use crate::webhook::entries::Registered;
use plan::{Gone, Inputs, Plan, Put, Verdict};

/// How often the snapshot is looked at. All changes in between are one.
const LOOK: Duration = Duration::from_millis(250);
/// Pause before what failed, or was not confirmed, is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Pause before looking whether namespaces are there now which mirrors wait for.
const NAMESPACES: Duration = Duration::from_secs(30);

/// What is done with `PodIdentityAssociation` objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ObjectMode {
    /// Nothing. Associations that objects asked for belong to the EKS API from now on.
    #[default]
    Off,
    /// Objects become associations.
    Read,
    /// And associations of the EKS API are shown as objects.
    Mirror,
}

/// It is none of the three.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `off`, `read` or `mirror`")]
pub struct UnknownObjectMode(String);

impl ObjectMode {
    /// As it is written in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Read => "read",
            Self::Mirror => "mirror",
        }
    }
}

impl fmt::Display for ObjectMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ObjectMode {
    type Err = UnknownObjectMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "read" => Ok(Self::Read),
            "mirror" => Ok(Self::Mirror),
            other => Err(UnknownObjectMode(other.chars().take(64).collect())),
        }
    }
}

/// How far a cluster is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncState {
    /// When associations and objects last agreed.
    pub synced_at: Option<Timestamp>,
    /// Objects whose association is in force.
    pub accepted: usize,
    /// Objects that something older counts in the place of.
    pub conflicts: usize,
    /// Objects that give nothing.
    pub refused: usize,
    /// Objects that show an association of the EKS API.
    pub mirrors: usize,
    /// Associations of the EKS API whose namespace is not there.
    pub without_namespace: usize,
    /// What is the matter, if anything is.
    pub problem: Option<String>,
    /// How often something could not be read or written.
    pub failures: u64,
}

/// A cluster whose objects and associations are kept alike.
#[derive(Debug, Clone)]
pub struct SyncedCluster {
    /// Its name.
    pub name: String,
    /// What is done.
    pub mode: ObjectMode,
    /// How far it is.
    pub states: watch::Receiver<SyncState>,
    /// What is known of its objects.
    pub objects: watch::Receiver<Arc<AssociationObjectsState>>,
}

impl SyncedCluster {
    /// Adds the check `cluster NAME association-objects`. It never makes the process unready: other replicas would do no better, and
    /// what is in force stays.
    pub fn report(&self, report: &mut Report) {
        let state = self.states.borrow();
        let objects = self.objects.borrow();
        let mut detail = format!(
            "{}, {} objects in force, {} in conflict, {} refused, {} mirrors",
            self.mode, state.accepted, state.conflicts, state.refused, state.mirrors
        );
        if state.without_namespace > 0 {
            let waiting = state.without_namespace;
            detail.push_str(&format!("; {waiting} associations have no namespace yet"));
        }
        if state.synced_at.is_none() {
            detail.push_str("; not compared yet");
        }
        for problem in objects.problem.iter().chain(&state.problem) {
            detail.push_str(&format!("; {problem}"));
        }
        let fine =
            state.synced_at.is_some() && state.problem.is_none() && objects.problem.is_none();
        let state = if fine { State::Ok } else { State::Warning };
        report.add(
            format!("cluster {} association-objects", self.name),
            state,
            detail,
        );
    }
}

/// Keeps objects and associations of one cluster alike.
#[derive(Debug)]
pub struct AssociationSync {
    directory: Directory,
    cluster: Registered,
    objects: AssociationObjects,
    mode: ObjectMode,
    allow: AllowList,
    /// Whether roles may be ones that only AWS knows.
    roles_elsewhere: bool,
    /// Whether objects may say of sessions what EKS does not know.
    extensions: bool,
    states: watch::Sender<SyncState>,
    /// Statuses that were written, and what the API server made of them. A CRD whose schema drops members would else be written to
    /// again and again.
    written: HashMap<ObjectName, (Value, Value)>,
}

/// What came of a round.
#[derive(Debug, Default)]
struct Round {
    state: SyncState,
    /// Something was not as the plan had it; what it is will be told soon.
    unconfirmed: bool,
    failures: u64,
}

impl Round {
    fn failed(&mut self, problem: String) {
        self.failures = self.failures.saturating_add(1);
        self.state.problem.get_or_insert(problem);
    }
}

impl AssociationSync {
    /// A sync that has not begun, and what it says about itself.
    #[must_use]
    pub fn new(
        directory: Directory,
        cluster: Registered,
        objects: AssociationObjects,
        mode: ObjectMode,
        allow: AllowList,
        roles_elsewhere: bool,
        extensions: bool,
    ) -> (Self, watch::Receiver<SyncState>) {
        let (states, receiver) = watch::channel(SyncState::default());
        let sync = Self {
            directory,
            cluster,
            objects,
            mode,
            allow,
            roles_elsewhere,
            extensions,
            states,
            written: HashMap::new(),
        };
        (sync, receiver)
    }

    /// Compares for ever, whenever something changed.
    pub async fn run(
        mut self,
        mut known: watch::Receiver<Arc<AssociationObjectsState>>,
        clock: impl Fn() -> Timestamp + Send,
    ) {
        let mut seen: Option<Revision> = None;
        let mut again: Option<Instant> = None;
        let mut changed = true;
        loop {
            let objects = known.borrow_and_update().clone();
            let is_live = !matches!(*self.directory.feed().state(), FeedState::Behind { .. });
            let snapshot = self.directory.snapshot();
            let is_due = changed
                || seen != Some(snapshot.revision())
                || again.is_some_and(|at| at <= Instant::now());
            if is_live && objects.known && is_due {
                seen = Some(snapshot.revision());
                changed = false;
                let round = self.round(&snapshot, &objects, &clock).await;
                again = match &round {
                    round if round.unconfirmed || round.state.problem.is_some() => Some(RETRY),
                    round if round.state.without_namespace > 0 => Some(NAMESPACES),
                    _ => None,
                }
                .map(|pause| Instant::now() + pause);
                self.told(round, clock());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                more = known.changed() => match more {
                    Ok(()) => changed = true,
                    Err(_) => return,
                },
            }
        }
    }

    fn told(&self, round: Round, now: Timestamp) {
        self.states.send_modify(|before| {
            if let Some(problem) = &round.state.problem
                && before.problem.as_ref() != Some(problem)
            {
                tracing::warn!(problem, "association objects and associations do not agree");
            }
            let agrees = round.state.problem.is_none();
            *before = SyncState {
                synced_at: if agrees { Some(now) } else { before.synced_at },
                failures: before.failures.saturating_add(round.failures),
                ..round.state
            };
        });
    }

    async fn round(
        &mut self,
        snapshot: &DirectorySnapshot,
        objects: &AssociationObjectsState,
        clock: &(impl Fn() -> Timestamp + Send),
    ) -> Round {
        let mut round = Round::default();
        let Some(cluster) = self.cluster.find(snapshot) else {
            return round;
        };
        let associations: Vec<_> = snapshot
            .pod_identity_associations(&cluster.record.id, None)
            .map(|known| &known.record)
            .collect();
        let Plan {
            puts,
            gone,
            verdicts,
            new_mirrors,
            edited_mirrors,
            old_mirrors,
        } = plan::plan(&Inputs {
            cluster: &cluster.record,
            associations: &associations,
            objects: &objects.objects,
            allow: &self.allow,
            mirror: self.mode == ObjectMode::Mirror,
            check: &|new| {
                check_association_object(
                    snapshot,
                    &cluster.record,
                    new,
                    self.roles_elsewhere,
                    self.extensions,
                )
            },
        });
        for verdict in verdicts.values() {
            match verdict {
                Verdict::Accepted { .. } => round.state.accepted += 1,
                Verdict::Mirrored { .. } => round.state.mirrors += 1,
                Verdict::Conflict { .. } => round.state.conflicts += 1,
                Verdict::Refused(_) => round.state.refused += 1,
                Verdict::Pending => {}
            }
        }
        // What is taken away comes first: quotas, and nothing is given longer than it should be.
        for gone in &gone {
            self.take_away(cluster, gone, objects, &mut round, clock())
                .await;
        }
        for put in &puts {
            self.give(cluster, put, &mut round, clock()).await;
        }
        for object in &old_mirrors {
            let outcome = self.objects.delete(object).await;
            round.wrote(&object.key(), outcome);
        }
        for (object, patch) in edited_mirrors {
            let outcome = self.objects.patch_mirror(&object, patch).await;
            round.wrote(&object.key(), outcome);
        }
        for (key, spec) in &new_mirrors {
            match self.objects.create_mirror(key, spec).await {
                Err(ObjectError::NotFound) => round.state.without_namespace += 1,
                outcome => round.wrote(key, outcome),
            }
        }
        self.written.retain(|key, _| verdicts.contains_key(key));
        for (key, verdict) in &verdicts {
            if let Some(object) = objects.objects.get(key) {
                self.write_status(object, verdict, &mut round, clock())
                    .await;
            }
        }
        round
    }

    /// Makes or changes the association of an object that the API server confirms.
    async fn give(&self, cluster: &ClusterEntry, put: &Put, round: &mut Round, now: Timestamp) {
        let (object, new) = (&put.object, &put.new);
        let key = object.key();
        match self.objects.look(&key).await {
            Ok(ObjectNow::There(there))
                if there.uid == object.uid
                    && there.generation == object.generation
                    && !there.deleting => {}
            Ok(_) => {
                round.unconfirmed = true;
                return;
            }
            Err(error) => return round.failed(shown(&key, &error.to_string())),
        }
        let place = place_of(cluster);
        match self.directory.put_object_association(place, new, now).await {
            Ok(made) => tracing::info!(
                cluster = %cluster.record.name,
                namespace = %key.0,
                object = %key.1,
                service_account = %new.service_account,
                role = %new.role_arn,
                association = %made.id,
                "an object gives a role to a service account"
            ),
            Err(error) => round.failed(shown(&key, &error.to_string())),
        }
    }

    /// Deletes an association whose object the API server confirms to be gone, or to be the one that gives nothing.
    async fn take_away(
        &self,
        cluster: &ClusterEntry,
        gone: &Gone,
        objects: &AssociationObjectsState,
        round: &mut Round,
        now: Timestamp,
    ) {
        // Not the version: whoever may annotate the object, or write its status, could put this off for ever.
        let planned_on = objects.objects.get(&gone.object);
        let planned_on = planned_on.map(|known| (&known.uid, known.generation));
        match self.objects.look(&gone.object).await {
            Ok(ObjectNow::Gone) => {}
            Ok(ObjectNow::There(there)) if planned_on == Some((&there.uid, there.generation)) => {}
            Ok(ObjectNow::There(_)) => {
                round.unconfirmed = true;
                return;
            }
            Err(error) => return round.failed(shown(&gone.object, &error.to_string())),
        }
        let place = place_of(cluster);
        let deleted = self
            .directory
            .delete_pod_identity_association(place, &gone.id, Some(&gone.owner), now)
            .await;
        match deleted {
            Ok(was) => tracing::info!(
                cluster = %cluster.record.name,
                namespace = %was.namespace,
                object = %gone.object.1,
                service_account = %was.service_account,
                role = %was.role_arn,
                association = %was.id,
                "an object gives a role no longer"
            ),
            // Somebody else was faster, or it has another owner by now: the next look tells.
            Err(
                countersign_store::DirectoryError::NoSuch { .. }
                | countersign_store::DirectoryError::OwnedByAddon { .. },
            ) => round.unconfirmed = true,
            Err(error) => round.failed(shown(&gone.object, &error.to_string())),
        }
    }

    async fn write_status(
        &mut self,
        object: &AssociationObject,
        verdict: &Verdict,
        round: &mut Round,
        now: Timestamp,
    ) {
        let Some(status) = status::render(object, verdict, now) else {
            return;
        };
        let key = object.key();
        if let Some((wrote, result)) = self.written.get(&key)
            && status::same(wrote, &status)
            && *result == object.status
        {
            return;
        }
        match self.objects.write_status(&key, &status).await {
            Ok(result) => {
                self.written.insert(key, (status, result));
            }
            Err(ObjectError::NotFound) => {}
            Err(error) => round.failed(shown(&key, &format!("status: {error}"))),
        }
    }
}

impl Round {
    /// Takes note of a write of an object.
    fn wrote(&mut self, key: &ObjectName, outcome: Result<(), ObjectError>) {
        match outcome {
            Ok(()) | Err(ObjectError::NotFound) => {}
            Err(ObjectError::Conflict) => self.unconfirmed = true,
            Err(ObjectError::Failed(problem)) => self.failed(shown(key, &problem)),
        }
    }
}

fn place_of(cluster: &ClusterEntry) -> ClusterPlace<'_> {
    let record = &cluster.record;
    ClusterPlace {
        account: record.account,
        region: &record.region,
        name: &record.name,
    }
}

fn shown((namespace, name): &ObjectName, problem: &str) -> String {
    format!("{namespace}/{name}: {problem}")
}

/// Makes the associations that objects asked for ones of the EKS API: they stay in force, and can be changed and deleted there.
pub async fn release(directory: &Directory, cluster: &Registered, now: Timestamp) {
    let snapshot = directory.snapshot();
    let Some(cluster) = cluster.find(&snapshot) else {
        return;
    };
    match directory
        .release_object_associations(place_of(cluster), now)
        .await
    {
        Ok(0) => {}
        Ok(count) => tracing::info!(
            cluster = %cluster.record.name,
            count,
            "associations of objects belong to the EKS API from now on"
        ),
        Err(error) => tracing::error!(
            cluster = %cluster.record.name,
            problem = %error,
            "associations of objects could not be released"
        ),
    }
}

#[cfg(test)]
mod tests;

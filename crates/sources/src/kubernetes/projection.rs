//! Access entries kept as RBAC objects in a cluster (EKS API spec, section 18.2).
//!
//! ```text
//!   Projection (entries, policies) ─┐
//!   namespaces, watched ────────────┼──► project ──► diff ──► create, apply, delete
//!   our objects, listed ────────────┘
//! ```
//!
//! Needed permissions: `list` and `watch` on `namespaces`; `get`, `list`, `create`, `patch` and `delete` on `clusterroles`,
//! `clusterrolebindings` and `rolebindings`; and, since the rights that are written are not held, `escalate` and `bind` on
//! `clusterroles`.
//!
//! Several writers of one cluster, as replicas over one store, are in nobody's way: each makes what is missing and takes away what is
//! not wanted, and whoever comes second sees that it is done. One that sees other entries than the rest, because its store is away,
//! must be told that nothing is known.
//!
//! Objects of others are never touched: ours are found by label and name, a new one is created and not applied, so that
//! one of the same name is noticed, and what is changed or deleted must still be in the version that was seen.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use countersign_access::projection::{
    MANAGED_BY, ProjectedEntry, TooManyObjects, diff, is_managed, key_of, project,
};
use countersign_access::{AccessScope, AggregatedRules, CompiledPolicies, EntryType};
use countersign_rbac::{BindingKind, Change, Manifest, Object, ObjectKey, RoleKind};
use futures::future::join;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::RETRY_AFTER;
use super::list_watch::{ListWatch, Step};
use crate::health::Problem;

/// Who owns the fields that are written.
const FIELD_MANAGER: &str = "countersign";
/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Namespaces that are handled; far more than any cluster has.
const MAX_NAMESPACES: usize = 50_000;
/// Events of namespaces that are handled as one.
const MAX_BURST: usize = 1_000;
/// Comparisons made at once.
const MAX_ROUNDS: usize = 8;
/// Time for one call.
const ANSWER: Duration = Duration::from_secs(30);

/// What a cluster should hold.
#[derive(Debug, Clone)]
pub struct Projection {
    /// The entries of the cluster.
    pub entries: Vec<OwnedEntry>,
    /// The policies.
    pub policies: Arc<CompiledPolicies>,
    /// What the cluster's ClusterRoles add to policies with `aggregate`, if known.
    pub aggregated: Option<Arc<AggregatedRules>>,
}

/// An access entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedEntry {
    /// Its id, which names its group.
    pub uuid: Box<str>,
    /// Its principal ARN.
    pub principal_arn: Box<str>,
    /// Its type.
    pub entry_type: EntryType,
    /// Policy ARNs and scopes.
    pub associations: Vec<(Box<str>, AccessScope)>,
}

/// Settings of a [`ProjectionWriter`].
#[derive(Debug, Clone)]
pub struct ProjectionOptions {
    /// Pause after a failure. Default 5 s.
    pub retry_after: Duration,
    /// Pause before looking for what others changed. Default 5 min.
    pub look_again_after: Duration,
}

impl Default for ProjectionOptions {
    fn default() -> Self {
        Self {
            retry_after: RETRY_AFTER,
            look_again_after: Duration::from_secs(300),
        }
    }
}

/// How far a cluster is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectionState {
    /// When the cluster last held all that was wanted.
    pub synced_at: Option<Timestamp>,
    /// How many objects it should hold.
    pub objects: usize,
    /// Names that others use: as `ClusterRole countersign:policy:X`.
    pub foreign: Vec<String>,
    /// What is the matter, if anything is.
    pub problem: Option<Problem>,
    /// How often the cluster could not be read, or not be made to hold all that was wanted.
    pub failures: u64,
}

/// Keeps the objects of a cluster as they are wanted.
pub struct ProjectionWriter {
    client: Client,
    options: ProjectionOptions,
    state: watch::Sender<ProjectionState>,
}

impl fmt::Debug for ProjectionWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectionWriter")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Why a round did not reach its end.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("the API server answers {code} {reason} to a {what}")]
    Api {
        what: &'static str,
        code: u16,
        reason: String,
    },
    #[error("the API server does not answer to a {0}")]
    Unreachable(&'static str),
    #[error(transparent)]
    TooMany(#[from] TooManyObjects),
}

/// What others did while changes were made.
#[derive(Default)]
struct Outrun {
    /// Objects that have names which were to be given.
    met: Vec<Object>,
    /// Something was changed or taken away meanwhile.
    changed: bool,
}

/// Logs a problem, unless it is the one that is known.
fn tell(known: Option<&Problem>, problem: &Problem) {
    if known.is_none_or(|known| known.message != problem.message) {
        tracing::warn!(problem = %problem.message, "RBAC objects could not be made what the access policies ask");
    }
}

impl ProjectionWriter {
    /// A writer that has not begun, and what it says about itself.
    #[must_use]
    pub fn new(
        client: Client,
        options: ProjectionOptions,
    ) -> (Self, watch::Receiver<ProjectionState>) {
        let (state, states) = watch::channel(ProjectionState::default());
        let writer = Self {
            client,
            options,
            state,
        };
        (writer, states)
    }

    /// Writes until nobody sends projections any more.
    ///
    /// As long as `None` is sent nothing is known, and nothing is done: what is there stays. A projection without entries
    /// takes everything away.
    pub async fn run(
        self,
        projections: watch::Receiver<Option<Arc<Projection>>>,
        clock: impl Fn() -> Timestamp,
    ) {
        let (found, namespaces) = watch::channel(None);
        let watching = self.watch_namespaces(found);
        let writing = self.write(projections, namespaces, clock);
        futures::pin_mut!(watching, writing);
        futures::future::select(watching, writing).await;
    }

    async fn watch_namespaces(&self, found: watch::Sender<Option<Arc<BTreeSet<String>>>>) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let mut watch = ListWatch::new(api, None);
        let mut names = BTreeSet::new();
        let mut failed = false;
        loop {
            match watch.next().await {
                Ok(step) => {
                    take(&mut names, step);
                    for _ in 0..MAX_BURST {
                        let Some(step) = watch.ready() else { break };
                        take(&mut names, step);
                    }
                    found.send_if_modified(|known| {
                        let changed = known.as_deref() != Some(&names);
                        if changed {
                            *known = Some(Arc::new(names.clone()));
                        }
                        // After a failure also without news, so that it is no longer told.
                        changed || failed
                    });
                    failed = false;
                }
                Err(error) => {
                    failed = true;
                    let message = format!("namespaces: {}", error.summary());
                    self.fail(Problem::new(message));
                    tokio::time::sleep(self.options.retry_after).await;
                }
            }
        }
    }

    async fn write(
        &self,
        mut projections: watch::Receiver<Option<Arc<Projection>>>,
        mut namespaces: watch::Receiver<Option<Arc<BTreeSet<String>>>>,
        clock: impl Fn() -> Timestamp,
    ) {
        loop {
            let projection = projections.borrow_and_update().clone();
            let known = namespaces.borrow_and_update().clone();
            let mut pause = self.options.look_again_after;
            if let (Some(projection), Some(known)) = (projection, known) {
                match self.round(&projection, &known).await {
                    Ok(state) => {
                        if state.problem.is_some() {
                            pause = self.options.retry_after;
                        }
                        self.reached(state, clock());
                    }
                    Err(error) => {
                        self.fail(Problem::new(error.to_string()));
                        pause = self.options.retry_after;
                    }
                }
            }
            tokio::select! {
                changed = projections.changed() => if changed.is_err() { return },
                changed = namespaces.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes note of a round that reached its end, and logs what is new about it.
    fn reached(&self, state: ProjectionState, now: Timestamp) {
        self.state.send_modify(|before| {
            match &state.problem {
                Some(problem) => tell(before.problem.as_ref(), problem),
                None if before.synced_at.is_none() || before.problem.is_some() => {
                    tracing::info!(objects = state.objects, "RBAC objects are as the access policies ask");
                }
                None => {}
            }
            if state.foreign != before.foreign && !state.foreign.is_empty() {
                tracing::warn!(
                    objects = %state.foreign.join(", "),
                    "RBAC objects of others have the names that access policies need; those policies are not in force"
                );
            }
            let whole = state.problem.is_none();
            *before = ProjectionState {
                synced_at: if whole { Some(now) } else { before.synced_at },
                failures: before.failures.saturating_add(u64::from(!whole)),
                ..state
            };
        });
    }

    fn fail(&self, problem: Problem) {
        self.state.send_modify(|state| {
            tell(state.problem.as_ref(), &problem);
            state.failures = state.failures.saturating_add(1);
            state.problem = Some(problem);
        });
    }

    /// Lists, compares and changes. Names of others are found when an object cannot be created, and the comparison is made
    /// again with them.
    async fn round(
        &self,
        projection: &Projection,
        namespaces: &BTreeSet<String>,
    ) -> Result<ProjectionState, RoundError> {
        let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
        let entries = projection.entries.iter().map(|entry| ProjectedEntry {
            uuid: &entry.uuid,
            principal_arn: &entry.principal_arn,
            entry_type: entry.entry_type,
            associations: entry
                .associations
                .iter()
                .map(|(arn, scope)| (&**arn, scope)),
        });
        let aggregated = projection.aggregated.as_deref();
        let wanted = project(entries, &projection.policies, aggregated, &namespaces)?;
        let mut existing = self.list().await?;
        let mut state = ProjectionState {
            objects: wanted.len(),
            ..ProjectionState::default()
        };
        // Each time round more names of others are known; more come only while somebody makes them.
        for _ in 0..MAX_ROUNDS {
            let plan = diff(&existing, &wanted);
            state.foreign = plan.foreign.iter().map(shown).collect();
            let Outrun { met, changed } = self.apply(plan.changes, &existing, &mut state).await?;
            if met.is_empty() && !changed {
                return Ok(state);
            }
            existing = self.list().await?;
            existing.extend(met.into_iter().filter(|object| !is_managed(object)));
        }
        let problem = Problem::new("the objects change faster than they can be compared");
        state.problem.get_or_insert(problem);
        Ok(state)
    }

    /// Makes the changes in their order, and returns what others did meanwhile.
    ///
    /// When the API server refuses one of them the others are made nevertheless, except for bindings to a role that could
    /// not be written.
    async fn apply(
        &self,
        changes: Vec<Change>,
        existing: &[Object],
        state: &mut ProjectionState,
    ) -> Result<Outrun, RoundError> {
        let versions: HashMap<ObjectKey, String> = existing
            .iter()
            .map(|object| (key_of(object), object.metadata().resource_version.clone()))
            .collect();
        let mut missing_roles: HashSet<String> = HashSet::new();
        let mut outrun = Outrun::default();
        let mut deleted: HashSet<ObjectKey> = HashSet::new();
        for change in changes {
            let version = versions.get(&key(&change)).cloned();
            let outcome = match &change {
                Change::Delete(gone) => {
                    deleted.insert(gone.clone());
                    self.delete(gone, version).await
                }
                Change::Put(Object::Binding(binding))
                    if missing_roles.contains(&binding.role_ref.name) =>
                {
                    continue;
                }
                Change::Put(object) => {
                    let version = version.filter(|_| !deleted.contains(&key_of(object)));
                    self.put(object, version, &mut outrun.met).await
                }
            };
            match outcome {
                Ok(true) => {}
                Ok(false) => {
                    if let Change::Put(Object::Role(role)) = &change {
                        missing_roles.insert(role.metadata.name.clone());
                    }
                }
                Err(error @ RoundError::Api { .. }) => {
                    if let Change::Put(Object::Role(role)) = &change {
                        missing_roles.insert(role.metadata.name.clone());
                    }
                    // Another version than the one that was seen: it is compared again.
                    if matches!(error, RoundError::Api { code: 409, .. }) {
                        outrun.changed = true;
                        continue;
                    }
                    let message = format!("{}: {error}", shown(&key(&change)));
                    state.problem.get_or_insert(Problem::new(message));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(outrun)
    }

    async fn list(&self) -> Result<Vec<Object>, RoundError> {
        let (roles, (cluster, namespaced)) = join(
            list::<ClusterRole>(&self.client),
            join(
                list::<ClusterRoleBinding>(&self.client),
                list::<RoleBinding>(&self.client),
            ),
        )
        .await;
        let mut objects = roles?;
        objects.extend(cluster?);
        objects.extend(namespaced?);
        Ok(objects)
    }

    /// Whether the object is ours now; if somebody else has its name, theirs is put into `met`.
    async fn put(
        &self,
        object: &Object,
        version: Option<String>,
        met: &mut Vec<Object>,
    ) -> Result<bool, RoundError> {
        let name = &object.metadata().name;
        let client = &self.client;
        match &object {
            Object::Role(_) => {
                let api: Api<ClusterRole> = Api::all(client.clone());
                put(&api, name, object, version, met).await
            }
            Object::Binding(binding) if binding.kind == BindingKind::ClusterRoleBinding => {
                let api: Api<ClusterRoleBinding> = Api::all(client.clone());
                put(&api, name, object, version, met).await
            }
            Object::Binding(binding) => {
                let namespace = &binding.metadata.namespace;
                let api: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
                put(&api, name, object, version, met).await
            }
        }
    }

    async fn delete(&self, key: &ObjectKey, version: Option<String>) -> Result<bool, RoundError> {
        let client = self.client.clone();
        match key {
            ObjectKey::Role { name, .. } => {
                delete(&Api::<ClusterRole>::all(client), name, version).await
            }
            ObjectKey::Binding {
                kind: BindingKind::ClusterRoleBinding,
                name,
                ..
            } => delete(&Api::<ClusterRoleBinding>::all(client), name, version).await,
            ObjectKey::Binding {
                kind: BindingKind::RoleBinding,
                namespace,
                name,
            } => {
                delete(
                    &Api::<RoleBinding>::namespaced(client, namespace),
                    name,
                    version,
                )
                .await
            }
        }
    }
}

/// Namespaces that are going away are left to the API server, which deletes what is in them.
fn take(names: &mut BTreeSet<String>, step: Step<Namespace>) {
    let put = |names: &mut BTreeSet<String>, namespace: &Namespace| {
        let name = namespace.name_any();
        if namespace.metadata.deletion_timestamp.is_some() {
            names.remove(&name);
        } else if names.len() < MAX_NAMESPACES {
            names.insert(name);
        }
    };
    match step {
        Step::Listed { objects, .. } => {
            names.clear();
            objects.iter().for_each(|namespace| put(names, namespace));
        }
        Step::Applied(namespace) => put(names, &namespace),
        Step::Deleted(namespace) => {
            names.remove(&namespace.name_any());
        }
        Step::Resumed => {}
    }
}

async fn list<K>(client: &Client) -> Result<Vec<Object>, RoundError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let (key, value) = MANAGED_BY;
    let mut params = ListParams::default()
        .labels(&format!("{key}={value}"))
        .limit(PAGE);
    let mut objects = Vec::new();
    loop {
        let page = answer("list", api.list(&params)).await?;
        objects.extend(page.items.iter().filter_map(object_of));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(objects),
        }
    }
}

async fn put<K>(
    api: &Api<K>,
    name: &str,
    object: &Object,
    version: Option<String>,
    met: &mut Vec<Object>,
) -> Result<bool, RoundError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    let mut manifest = Manifest::from(object);
    let Some(version) = version else {
        let typed = serde_json::to_value(&manifest).and_then(serde_json::from_value::<K>);
        let Ok(typed) = typed else {
            return Ok(false);
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        return match answer("create", api.create(&params, &typed)).await {
            Err(RoundError::Api { code: 409, .. }) => {
                let there = answer("get", api.get(name)).await?;
                let there = object_of(&there).ok_or(RoundError::Api {
                    what: "create",
                    code: 422,
                    reason: "an object that cannot be read has the name".to_owned(),
                })?;
                met.push(there);
                Ok(false)
            }
            outcome => outcome.map(|_| true),
        };
    };
    manifest.metadata.resource_version = version;
    let params = PatchParams::apply(FIELD_MANAGER).force();
    answer("patch", api.patch(name, &params, &Patch::Apply(&manifest)))
        .await
        .map(|_| true)
}

async fn delete<K>(api: &Api<K>, name: &str, version: Option<String>) -> Result<bool, RoundError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = DeleteParams {
        preconditions: version.map(|version| Preconditions {
            resource_version: Some(version),
            uid: None,
        }),
        ..DeleteParams::default()
    };
    match answer("delete", api.delete(name, &params)).await {
        // It is gone meanwhile.
        Err(RoundError::Api { code: 404, .. }) => Ok(true),
        outcome => outcome.map(|_| true),
    }
}

async fn answer<T>(
    what: &'static str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, RoundError> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(RoundError::Api {
            what,
            code: status.code,
            reason: status.reason.chars().take(64).collect(),
        }),
        Ok(Err(_)) | Err(_) => Err(RoundError::Unreachable(what)),
    }
}

fn object_of<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Option<Object> {
    let mut manifest: Manifest = serde_json::from_value(serde_json::to_value(object).ok()?).ok()?;
    manifest.api_version = K::api_version(&()).into_owned();
    manifest.kind = K::kind(&()).into_owned();
    Object::try_from(manifest).ok()
}

fn key(change: &Change) -> ObjectKey {
    match change {
        Change::Put(object) => key_of(object),
        Change::Delete(key) => key.clone(),
    }
}

fn shown(key: &ObjectKey) -> String {
    match key {
        ObjectKey::Role {
            kind: RoleKind::ClusterRole,
            name,
            ..
        } => format!("ClusterRole {name}"),
        ObjectKey::Role {
            namespace, name, ..
        } => format!("Role {namespace}/{name}"),
        ObjectKey::Binding {
            kind: BindingKind::ClusterRoleBinding,
            name,
            ..
        } => format!("ClusterRoleBinding {name}"),
        ObjectKey::Binding {
            namespace, name, ..
        } => format!("RoleBinding {namespace}/{name}"),
    }
}

//! Roles and bindings of a live cluster, kept fresh.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_rbac::{BindingKind, Change, Index, Object, ObjectKey, RoleKind};
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde::Serialize;

use super::live::{Kind, MAX_OBJECTS, index_of, read, unread};
use crate::kubernetes::RETRY_AFTER;
use crate::kubernetes::list_watch::{ListWatch, Step};

/// Events that are applied as one.
const MAX_BURST: usize = 1000;

/// Roles and bindings of a cluster as they are now: an index to ask, and how fresh it is.
///
/// Until each kind was listed, and for a kind that may not be listed, every "no" of the index is incomplete. Whatever fails
/// later leaves what was read last in force, and is reported.
#[derive(Debug)]
pub struct LiveRbac {
    index: ArcSwap<Index>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    kinds: [KindState; 4],
}

#[derive(Debug, Default)]
struct KindState {
    synced: bool,
    version: String,
    failing: Option<(String, Timestamp)>,
    failures: u64,
    /// Objects that could not be read, by key.
    refused: Vec<String>,
}

/// How fresh the index is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RbacHealth {
    /// Grows with each new index.
    pub generation: u64,
    /// The four kinds.
    pub kinds: Vec<KindHealth>,
}

/// How fresh one kind is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KindHealth {
    /// `clusterroles` and so on.
    pub resource: &'static str,
    /// Whether it was listed since the start.
    pub synced: bool,
    /// The resource version in force.
    pub version: String,
    /// What fails now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// How often a list or watch failed.
    pub failures_total: u64,
    /// Objects that could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

impl RbacHealth {
    /// Whether each kind was listed at least once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.kinds.iter().all(|kind| kind.synced)
    }
}

impl LiveRbac {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let live = Self {
            index: ArcSwap::from_pointee(Index::default()),
            state: Mutex::new(State::default()),
        };
        live.rebuild(&mut live.lock(), Vec::new());
        Arc::new(live)
    }

    /// The index. A decision loads it once.
    #[must_use]
    pub fn index(&self) -> Arc<Index> {
        self.index.load_full()
    }

    /// How fresh it is.
    #[must_use]
    pub fn health(&self) -> RbacHealth {
        let state = self.lock();
        let kinds = Kind::ALL.iter().zip(&state.kinds);
        RbacHealth {
            generation: state.generation,
            kinds: kinds
                .map(|(kind, state)| KindHealth {
                    resource: kind.plural(),
                    synced: state.synced,
                    version: state.version.clone(),
                    failing: state.failing.as_ref().map(|(reason, _)| reason.clone()),
                    failing_since: state.failing.as_ref().map(|(_, since)| *since),
                    failures_total: state.failures,
                    refused: state.refused.clone(),
                })
                .collect(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a list of one kind in the place of what was there of that kind.
    fn listed(&self, kind: Kind, objects: Vec<DynamicObject>, version: String) {
        let mut state = self.lock();
        let mut refused = Vec::new();
        if objects.len() > MAX_OBJECTS {
            refused.push(format!("more than {MAX_OBJECTS} {}", kind.plural()));
        }
        let mut kept = Vec::with_capacity(objects.len().min(MAX_OBJECTS));
        for object in objects.into_iter().take(MAX_OBJECTS) {
            match read(kind, object) {
                Ok(object) => kept.push(object),
                Err(reason) => refused.push(reason),
            }
        }
        let index = self.index.load();
        let roles = index
            .roles()
            .into_iter()
            .map(|role| (**role).clone().into());
        let bindings = index.bindings().map(|binding| binding.clone().into());
        let others = roles.chain(bindings);
        kept.extend(others.filter(|object: &Object| object.kind() != kind.name()));
        if let Some(of_kind) = state.of(kind) {
            *of_kind = KindState {
                synced: true,
                version,
                failing: None,
                failures: of_kind.failures,
                refused,
            };
        }
        self.rebuild(&mut state, kept);
    }

    /// Applies a burst of changes as one new version.
    fn changed(&self, kind: Kind, steps: Vec<Step<DynamicObject>>) {
        let mut state = self.lock();
        let mut index = Index::clone(&self.index.load());
        let mut unreadable = false;
        for step in steps {
            let (object, applied) = match step {
                Step::Applied(object) => (object, true),
                Step::Deleted(object) => (object, false),
                Step::Listed { .. } | Step::Resumed => continue,
            };
            if let Some(of_kind) = state.of(kind) {
                of_kind.version = object.resource_version().unwrap_or_default();
            }
            let key = key(kind, &object);
            let change = if applied {
                read(kind, object).map(Change::Put)
            } else {
                Ok(Change::Delete(key.clone()))
            };
            // An object that cannot be read grants nothing that we know of: its earlier version must not go on granting.
            let change = change.unwrap_or_else(|reason| {
                unreadable = true;
                if let Some(of_kind) = state.of(kind) {
                    of_kind.refused.push(reason);
                    of_kind.refused.truncate(100);
                }
                Change::Delete(key)
            });
            if let Err(refused) = index.apply(change) {
                tracing::warn!(%refused, "an object of the Kubernetes API is not indexed");
            }
        }
        if unreadable {
            let reason = format!("some {} cannot be read", kind.plural());
            index.mark_unread(unread(reason));
        }
        self.publish(&mut state, index);
    }

    fn failed(&self, kind: Kind, reason: String, now: Timestamp) {
        let mut state = self.lock();
        let Some(of_kind) = state.of(kind) else {
            return;
        };
        of_kind.failures += 1;
        let since = of_kind.failing.take().map_or(now, |(_, since)| since);
        of_kind.failing = Some((reason, since));
        // The index tells why a kind is missing; once it was read, the last good version is what counts.
        if !of_kind.synced {
            let index = self.index.load();
            let roles = index
                .roles()
                .into_iter()
                .map(|role| (**role).clone().into());
            let bindings = index.bindings().map(|binding| binding.clone().into());
            let objects = roles.chain(bindings).collect();
            self.rebuild(&mut state, objects);
        }
    }

    fn resumed(&self, kind: Kind) {
        if let Some(of_kind) = self.lock().of(kind) {
            of_kind.failing = None;
        }
    }

    fn rebuild(&self, state: &mut State, objects: Vec<Object>) {
        let mut missing = Vec::new();
        for (kind, of_kind) in Kind::ALL.iter().zip(&state.kinds) {
            if !of_kind.synced {
                let why = of_kind.failing.as_ref().map(|(reason, _)| reason.as_str());
                missing.push(unread(format!(
                    "{} were not listed yet: {}",
                    kind.plural(),
                    why.unwrap_or("the API server was not reached")
                )));
            }
            missing.extend(of_kind.refused.iter().map(|reason| unread(reason.as_str())));
        }
        self.publish(state, index_of(objects, missing));
    }

    fn publish(&self, state: &mut State, index: Index) {
        state.generation += 1;
        self.index.store(Arc::new(index));
    }
}

impl State {
    fn of(&mut self, kind: Kind) -> Option<&mut KindState> {
        let place = Kind::ALL.iter().position(|one| *one == kind)?;
        self.kinds.get_mut(place)
    }
}

/// Keeps a [`LiveRbac`] up to date: one list-and-watch for each kind.
#[derive(Debug)]
pub struct RbacWatch {
    live: Arc<LiveRbac>,
    kinds: &'static [Kind],
    retry_after: Duration,
}

impl RbacWatch {
    /// A watch that has not begun. Pauses 5 s after a failure.
    #[must_use]
    pub fn new(live: &Arc<LiveRbac>) -> Self {
        Self {
            live: Arc::clone(live),
            kinds: &Kind::ALL,
            retry_after: RETRY_AFTER,
        }
    }

    /// A watch of ClusterRoles alone, which needs no right to read anything else. The index holds no bindings then, and says that
    /// the other kinds were not listed.
    #[must_use]
    pub fn of_cluster_roles(live: &Arc<LiveRbac>) -> Self {
        Self {
            kinds: &[Kind::ClusterRole],
            ..Self::new(live)
        }
    }

    /// Pauses for another time after a failure.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = pause;
        self
    }

    /// Watches for ever.
    pub async fn run(self, client: Client, clock: impl Fn() -> Timestamp + Send + Sync) {
        let watches = self
            .kinds
            .iter()
            .map(|kind| self.watch(*kind, &client, &clock));
        futures::future::join_all(watches).await;
    }

    async fn watch(&self, kind: Kind, client: &Client, clock: &(impl Fn() -> Timestamp + Sync)) {
        let mut watch = ListWatch::new(kind.api(client, None), None);
        loop {
            match watch.next().await {
                Ok(Step::Listed { objects, version }) => {
                    self.live.listed(kind, objects, version);
                }
                Ok(Step::Resumed) => self.live.resumed(kind),
                Ok(step) => {
                    let mut steps = vec![step];
                    let mut relisted = None;
                    while steps.len() < MAX_BURST {
                        match watch.ready() {
                            Some(Step::Listed { objects, version }) => {
                                relisted = Some((objects, version));
                                break;
                            }
                            Some(step) => steps.push(step),
                            None => break,
                        }
                    }
                    self.live.changed(kind, steps);
                    if let Some((objects, version)) = relisted {
                        self.live.listed(kind, objects, version);
                    }
                }
                Err(error) => {
                    let reason = error.summary();
                    tracing::warn!(
                        resource = kind.plural(),
                        reason,
                        "roles and bindings are not up to date"
                    );
                    self.live.failed(kind, reason, clock());
                    tokio::time::sleep(self.retry_after).await;
                }
            }
        }
    }
}

fn key(kind: Kind, object: &DynamicObject) -> ObjectKey {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    match kind {
        Kind::ClusterRole => ObjectKey::Role {
            kind: RoleKind::ClusterRole,
            namespace: String::new(),
            name,
        },
        Kind::Role => ObjectKey::Role {
            kind: RoleKind::Role,
            namespace,
            name,
        },
        Kind::ClusterRoleBinding => ObjectKey::Binding {
            kind: BindingKind::ClusterRoleBinding,
            namespace: String::new(),
            name,
        },
        Kind::RoleBinding => ObjectKey::Binding {
            kind: BindingKind::RoleBinding,
            namespace,
            name,
        },
    }
}

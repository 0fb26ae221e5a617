//! The ConfigMap with roles by account (webhook spec, section 3.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_pods::{ROLE_MAP_CONFIG_MAP, ROLE_MAP_KEY, RoleMap};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Resource};

use super::RETRY_AFTER;
use super::list_watch::{ListWatch, Step};

/// Who reports events.
const CONTROLLER: &str = "countersign.io/pod-identity";
/// Keys that one event names.
const NAMED_KEYS: usize = 5;

/// Settings of a [`RoleMapWatch`].
#[derive(Debug, Clone)]
pub struct RoleMapOptions {
    /// Namespace of the ConfigMap. Default `eks`.
    pub namespace: String,
    /// Who reports events: the name of this pod or host.
    pub instance: String,
    /// Pause after a failure. Default 5 s.
    pub retry_after: Duration,
}

impl Default for RoleMapOptions {
    fn default() -> Self {
        Self {
            namespace: "eks".to_owned(),
            instance: "countersign".to_owned(),
            retry_after: RETRY_AFTER,
        }
    }
}

/// The role map in force.
#[derive(Debug, Default)]
pub struct RoleMapState {
    /// Roles by account.
    pub map: RoleMap,
    /// Whether the ConfigMap was looked for once.
    pub listed: bool,
    /// Its version, empty without one.
    pub version: String,
    /// Why the ConfigMap as it is now is not in force, or part of it; the last good one is.
    pub problem: Option<String>,
    /// Why it cannot be reached.
    pub failing: Option<String>,
}

/// Keeps the role map up to date. Clones share it.
#[derive(Debug, Clone)]
pub struct RoleMapWatch {
    state: Arc<ArcSwap<RoleMapState>>,
    errors: Arc<AtomicU64>,
    options: RoleMapOptions,
}

impl RoleMapWatch {
    /// An empty map that was not looked for yet.
    #[must_use]
    pub fn new(options: RoleMapOptions) -> Self {
        Self {
            state: Arc::default(),
            errors: Arc::default(),
            options,
        }
    }

    /// The map in force.
    #[must_use]
    pub fn current(&self) -> arc_swap::Guard<Arc<RoleMapState>> {
        self.state.load()
    }

    /// How often a text or key was refused.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Watches for ever.
    pub async fn run(self, client: Client, clock: impl Fn() -> Timestamp + Send) {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &self.options.namespace);
        let events: Api<Event> = Api::namespaced(client, &self.options.namespace);
        let field = format!("metadata.name={ROLE_MAP_CONFIG_MAP}");
        let mut watch = ListWatch::new(api, Some(&field));
        let is_ours =
            |object: &ConfigMap| object.metadata.name.as_deref() == Some(ROLE_MAP_CONFIG_MAP);
        loop {
            let taken = match watch.next().await {
                Ok(Step::Listed { objects, .. }) => objects.into_iter().find(&is_ours),
                Ok(Step::Applied(object)) if is_ours(&object) => Some(object),
                Ok(Step::Deleted(object)) if is_ours(&object) => None,
                Ok(Step::Applied(_) | Step::Deleted(_)) => continue,
                Ok(Step::Resumed) => {
                    self.change(|state| state.failing = None);
                    continue;
                }
                Err(error) => {
                    let summary = error.summary();
                    tracing::warn!(problem = summary, "the role map cannot be watched");
                    self.change(|state| state.failing = Some(summary));
                    tokio::time::sleep(self.options.retry_after).await;
                    continue;
                }
            };
            if let Some(event) = self.take(taken.as_ref(), clock())
                // A permission that is missing must not hold up the roles.
                && let Err(error) = events.create(&PostParams::default(), &event).await
            {
                tracing::warn!(%error, "no event about the role map could be made");
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut RoleMapState)) {
        let current = self.state.load();
        let mut next = RoleMapState {
            map: current.map.clone(),
            listed: current.listed,
            version: current.version.clone(),
            problem: current.problem.clone(),
            failing: current.failing.clone(),
        };
        change(&mut next);
        self.state.store(Arc::new(next));
    }

    /// Takes a version of the ConfigMap, or that there is none; what to tell about it.
    pub fn take(&self, object: Option<&ConfigMap>, now: Timestamp) -> Option<Event> {
        let Some(object) = object else {
            self.state.store(Arc::new(RoleMapState {
                listed: true,
                ..RoleMapState::default()
            }));
            return None;
        };
        let version = object.metadata.resource_version.clone().unwrap_or_default();
        let text = object.data.as_ref().and_then(|data| data.get(ROLE_MAP_KEY));
        let read = text.map_or_else(
            || Ok((RoleMap::default(), Vec::new())),
            |text| RoleMap::parse(text),
        );
        let before = self.state.load().problem.clone();
        let problem = match read {
            Ok((map, refused)) => {
                self.errors
                    .fetch_add(refused.len() as u64, Ordering::Relaxed);
                let problem = (!refused.is_empty()).then(|| {
                    let named = refused.iter().take(NAMED_KEYS).map(|(key, error)| {
                        let key: String = key.escape_debug().take(64).collect();
                        format!("`{key}`: {error}")
                    });
                    let named: Vec<String> = named.collect();
                    format!("{} keys are ignored: {}", refused.len(), named.join("; "))
                });
                self.state.store(Arc::new(RoleMapState {
                    map,
                    listed: true,
                    version,
                    problem: problem.clone(),
                    failing: None,
                }));
                problem?
            }
            Err(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                let problem =
                    format!("key `{ROLE_MAP_KEY}`: {error}; the last good version stays in force");
                let told = problem.clone();
                self.change(|state| {
                    state.listed = true;
                    state.failing = None;
                    state.problem = Some(told);
                });
                problem
            }
        };
        if before.as_ref() == Some(&problem) {
            return None;
        }
        tracing::error!(
            problem,
            "ConfigMap {ROLE_MAP_CONFIG_MAP} is not usable as it is"
        );
        Some(self.event(object, problem, now))
    }

    fn event(&self, object: &ConfigMap, problem: String, now: Timestamp) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{ROLE_MAP_CONFIG_MAP}.{:x}", now.as_nanosecond())),
                namespace: Some(self.options.namespace.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some("RoleMapInvalid".to_owned()),
            action: Some("LoadRoleMap".to_owned()),
            note: Some(problem.chars().take(1000).collect()),
            event_time: Some(MicroTime(now)),
            regarding: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("ConfigMap".to_owned()),
                resource_version: object.metadata.resource_version.clone(),
                ..object.object_ref(&())
            }),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.options.instance.chars().take(128).collect()),
            ..Event::default()
        }
    }
}

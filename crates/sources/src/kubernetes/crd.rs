//! `IAMIdentityMapping` objects (authentication spec, section 3.7, backend CRD).
//!
//! Keys come from `spec` at every change. The status is written for people and never read for a decision: otherwise whoever
//! may write statuses could redirect a mapping.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_mapping::{BackendKind, crd};
use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::sync::watch;

use super::RETRY_AFTER;
use super::list_watch::{ListWatch, Step};
use super::status::{Desired, StatusWriter};
use crate::health::{Problem, SourceKind};
use crate::mappings::{Mappings, Update};

const SOURCE: SourceKind = SourceKind::Backend(BackendKind::Crd);

/// Objects that are read; far more than anybody has, and a bound on what somebody can make us hold.
const MAX_OBJECTS: usize = 100_000;
/// Events that are handled as one.
const MAX_BURST: usize = 1000;

/// Settings of a [`CrdWatch`].
#[derive(Debug, Clone)]
pub struct CrdOptions {
    /// Pause after a failure. Default 5 s.
    pub retry_after: Duration,
    /// Pause before looking again whether the CRD is installed. Default 30 s.
    pub look_again_after: Duration,
}

impl Default for CrdOptions {
    fn default() -> Self {
        Self {
            retry_after: RETRY_AFTER,
            look_again_after: Duration::from_secs(30),
        }
    }
}

/// Keeps the rules of all `IAMIdentityMapping` objects up to date, and their statuses.
///
/// A cluster without the CRD is a cluster without such rules: that is no failure, and holds up no other backend.
#[derive(Debug)]
pub struct CrdWatch {
    mappings: Arc<Mappings>,
    options: CrdOptions,
    objects: BTreeMap<String, Object>,
    version: String,
}

/// An object as it was seen last.
#[derive(Debug, Clone)]
struct Object {
    created_at: i64,
    generation: Option<i64>,
    spec: Result<crd::Spec, String>,
    status: Value,
}

impl CrdWatch {
    /// A watch that has not begun.
    #[must_use]
    pub fn new(mappings: &Arc<Mappings>, options: CrdOptions) -> Self {
        Self {
            mappings: Arc::clone(mappings),
            options,
            objects: BTreeMap::new(),
            version: String::new(),
        }
    }

    /// Watches for ever.
    pub async fn run(
        mut self,
        client: Client,
        clock: impl Fn() -> Timestamp + Send + Clone + 'static,
    ) {
        let api: Api<DynamicObject> = Api::all_with(client, &resource());
        let (wanted, statuses) = watch::channel(Arc::new(BTreeMap::new()));
        let writer = StatusWriter::new(api.clone(), self.options.retry_after);
        let writing = writer.run(statuses, clock.clone());
        let watching = self.watch(ListWatch::new(api, None), wanted, clock);
        futures::future::join(watching, writing).await;
    }

    async fn watch(
        &mut self,
        mut watch: ListWatch<DynamicObject>,
        wanted: watch::Sender<Arc<BTreeMap<String, Desired>>>,
        clock: impl Fn() -> Timestamp,
    ) {
        loop {
            match watch.next().await {
                Ok(Step::Resumed) => self.mappings.reached(SOURCE),
                Ok(step) => {
                    self.take(step);
                    for _ in 0..MAX_BURST {
                        let Some(step) = watch.ready() else { break };
                        self.take(step);
                    }
                    let statuses = self.publish(clock());
                    wanted.send_replace(Arc::new(statuses));
                }
                Err(error) if error.is_not_found() => {
                    self.absent(clock());
                    tokio::time::sleep(self.options.look_again_after).await;
                }
                Err(error) => {
                    let problem = Problem::new(error.summary());
                    self.mappings.fail(SOURCE, problem, clock());
                    tokio::time::sleep(self.options.retry_after).await;
                }
            }
        }
    }

    fn take(&mut self, step: Step<DynamicObject>) {
        match step {
            Step::Listed { objects, version } => {
                self.version = version;
                self.objects.clear();
                for object in objects {
                    self.put(object);
                }
            }
            Step::Applied(object) => {
                self.version = object.resource_version().unwrap_or_default();
                self.put(object);
            }
            Step::Deleted(object) => {
                self.version = object.resource_version().unwrap_or_default();
                self.objects.remove(&object.name_any());
            }
            Step::Resumed => {}
        }
    }

    fn put(&mut self, object: DynamicObject) {
        let name = object.name_any();
        if self.objects.len() >= MAX_OBJECTS && !self.objects.contains_key(&name) {
            tracing::error!(%name, "too many IAMIdentityMappings; this one is ignored");
            return;
        }
        let field = |name: &str| object.data.get(name).cloned().unwrap_or(Value::Null);
        let created = object.metadata.creation_timestamp.as_ref();
        let object = Object {
            created_at: created.map_or(i64::MAX, |time| time.0.as_second()),
            generation: object.metadata.generation,
            spec: serde_json::from_value(field("spec")).map_err(|error| error.to_string()),
            status: field("status"),
        };
        self.objects.insert(name, object);
    }

    /// The CRD is not installed.
    fn absent(&mut self, now: Timestamp) {
        let note = "the IAMIdentityMapping CRD is not installed";
        let health = self.mappings.health();
        let known = health
            .sources
            .iter()
            .any(|s| s.source == SOURCE && s.synced && s.note.as_deref() == Some(note));
        self.objects.clear();
        if known {
            self.mappings.reached(SOURCE);
        } else {
            let update = Update {
                synced: true,
                note: Some(note.to_owned()),
                ..Update::default()
            };
            self.mappings.publish(BackendKind::Crd, update, now);
        }
    }

    /// Puts all objects in force and returns the statuses that they should have.
    fn publish(&self, now: Timestamp) -> BTreeMap<String, Desired> {
        let sound: Vec<crd::Object> = self
            .objects
            .iter()
            .filter_map(|(name, object)| {
                Some(crd::Object {
                    name: name.clone(),
                    created_at: object.created_at,
                    spec: object.spec.clone().ok()?,
                })
            })
            .collect();
        let read = crd::read(&sound, &self.mappings.options().mapping);
        let mut statuses: BTreeMap<String, crd::Status> = read
            .statuses
            .into_iter()
            .map(|status| (status.name.clone(), status))
            .collect();
        let update = Update {
            entries: read.entries,
            version: self.version.clone(),
            findings: read.findings,
            synced: true,
            ..Update::default()
        };
        self.mappings.publish(BackendKind::Crd, update, now);
        self.objects
            .iter()
            .map(|(name, object)| {
                let status = statuses.remove(name).unwrap_or_else(|| crd::Status {
                    name: name.clone(),
                    canonical_arn: None,
                    ready: false,
                    error: object.spec.as_ref().err().map(|error| {
                        let error: String = error.chars().take(256).collect();
                        format!("the spec cannot be read: {error}")
                    }),
                    conflicts_with: None,
                });
                let desired = Desired {
                    status,
                    generation: object.generation,
                    current: object.status.clone(),
                };
                (name.clone(), desired)
            })
            .collect()
    }
}

fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("iamauthenticator.k8s.aws", "v1alpha1", "IAMIdentityMapping");
    ApiResource::from_gvk_with_plural(&kind, "iamidentitymappings")
}

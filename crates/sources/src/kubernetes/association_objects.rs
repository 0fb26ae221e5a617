//! `PodIdentityAssociation` objects of a cluster: watched, and written to as far as somebody asks (agent spec, section 9).
//!
//! Needed permissions: `list` and `watch` on `podidentityassociations`; to make them associations `get`, and `patch` on
//! `podidentityassociations/status`; to show associations as objects `create`, `patch` and `delete` besides.
//!
//! The status is written for people and never read for a decision: otherwise whoever may write statuses could give roles.
//!
//! A cluster without the CRD says nothing about associations: what was known of its objects stays. An API server that has just
//! started may not know the kind yet, and taking every pod's role away for that would be an outage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_pods::{
    ASSOCIATION_GROUP, ASSOCIATION_KIND, ASSOCIATION_PLURAL, ASSOCIATION_VERSION, AssociationSpec,
    MIRROR_LABEL,
};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::RETRY_AFTER;
use super::list_watch::{ListWatch, Step, WatchError};

/// Who owns the fields that are written.
const FIELD_MANAGER: &str = "countersign";
/// Objects that are read: four times the associations that a cluster may have, and a bound on what somebody can make us hold.
const MAX_OBJECTS: usize = 20_000;
/// Events that are handled as one.
const MAX_BURST: usize = 1_000;
/// Longest status that is kept, bytes of its JSON; a longer one counts as none and is written anew.
const MAX_STATUS: usize = 16 << 10;
/// Time for one call.
const ANSWER: Duration = Duration::from_secs(10);
/// What is told where the CRD is missing.
const NOT_INSTALLED: &str = "the PodIdentityAssociation CRD is not installed";

/// Namespace and name of an object.
pub type ObjectName = (Box<str>, Box<str>);

/// Settings of a watch.
#[derive(Debug, Clone)]
pub struct AssociationObjectOptions {
    /// Pause after a failure. Default 5 s.
    pub retry_after: Duration,
    /// Pause before looking again whether the CRD is installed. Default 30 s.
    pub look_again_after: Duration,
}

impl Default for AssociationObjectOptions {
    fn default() -> Self {
        Self {
            retry_after: RETRY_AFTER,
            look_again_after: Duration::from_secs(30),
        }
    }
}

/// An object as it was seen last.
#[derive(Debug, Clone, PartialEq)]
pub struct AssociationObject {
    /// Its namespace, which is that of the association.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its uid: another one when it was made again.
    pub uid: Box<str>,
    /// Its resourceVersion.
    pub version: Box<str>,
    /// Counts changes of the spec.
    pub generation: Option<i64>,
    /// When it was made, seconds since the epoch.
    pub created: i64,
    /// Whether it is going away, and waits for somebody's finalizer.
    pub deleting: bool,
    /// Whether it says of itself that it shows an association of the EKS API.
    pub is_labelled_mirror: bool,
    /// What it asks for, or what is the matter.
    pub spec: Result<AssociationSpec, String>,
    /// The spec as it stands there, for comparison.
    pub written: Value,
    /// The status as it stands there.
    pub status: Value,
}

impl AssociationObject {
    /// Its namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectName {
        (self.namespace.clone(), self.name.clone())
    }

    fn of(object: &DynamicObject) -> Option<Self> {
        let metadata = &object.metadata;
        let field = |name: &str| object.data.get(name).cloned().unwrap_or(Value::Null);
        let written = field("spec");
        let spec = AssociationSpec::parse(&written);
        let status = field("status");
        let is_short = serde_json::to_vec(&status).is_ok_and(|text| text.len() <= MAX_STATUS);
        let labels = metadata.labels.as_ref();
        Some(Self {
            namespace: metadata.namespace.as_deref()?.into(),
            name: metadata.name.as_deref()?.into(),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            version: metadata
                .resource_version
                .as_deref()
                .unwrap_or_default()
                .into(),
            generation: metadata.generation,
            created: metadata
                .creation_timestamp
                .as_ref()
                .map_or(i64::MAX, |time| time.0.as_second()),
            deleting: metadata.deletion_timestamp.is_some(),
            is_labelled_mirror: labels
                .and_then(|labels| labels.get(MIRROR_LABEL))
                .is_some_and(|value| value == "true"),
            // What cannot be read may be as large as etcd allows.
            written: if spec.is_ok() { written } else { Value::Null },
            spec,
            status: if is_short { status } else { Value::Null },
        })
    }
}

/// What is known of the objects of a cluster.
#[derive(Debug, Clone, Default)]
pub struct AssociationObjectsState {
    /// Whether it was found out once which objects there are, or that there is no CRD.
    pub listed: bool,
    /// Whether `objects` is what the cluster has: not before the first list, and not without the CRD.
    pub known: bool,
    /// The objects, by namespace and name.
    pub objects: Arc<BTreeMap<ObjectName, Arc<AssociationObject>>>,
    /// Why they cannot be read now; the last known ones stay.
    pub problem: Option<String>,
    /// How often they could not be read.
    pub failures: u64,
}

/// The objects of a cluster: a watch, and what is written to them.
#[derive(Clone)]
pub struct AssociationObjects {
    client: Client,
    options: AssociationObjectOptions,
}

impl std::fmt::Debug for AssociationObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AssociationObjects")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What the API server says about an object now, past every cache.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectNow {
    /// It is there.
    There(Box<AssociationObject>),
    /// It is not, or there is no CRD.
    Gone,
}

/// Why something could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Somebody else was faster; it is compared again.
    #[error("it was changed meanwhile")]
    Conflict,
    /// It is gone, or its namespace is not there.
    #[error("it, or its namespace, is not there")]
    NotFound,
    /// The API server does not let us, or cannot be asked.
    #[error("{0}")]
    Failed(String),
}

impl AssociationObjects {
    /// The objects of the cluster behind this client. Nothing is asked yet.
    #[must_use]
    pub fn new(client: Client, options: AssociationObjectOptions) -> Self {
        Self { client, options }
    }

    /// Watches until nobody listens any more.
    pub async fn run(self, states: watch::Sender<Arc<AssociationObjectsState>>) {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource());
        let mut watch = ListWatch::new(api, None);
        let mut objects: BTreeMap<ObjectName, Arc<AssociationObject>> = BTreeMap::new();
        loop {
            let step = tokio::select! {
                step = watch.next() => step,
                () = states.closed() => return,
            };
            match step {
                Ok(step) => {
                    take(&mut objects, step);
                    for _ in 0..MAX_BURST {
                        let Some(step) = watch.ready() else { break };
                        take(&mut objects, step);
                    }
                    let objects = Arc::new(objects.clone());
                    change(&states, |state| {
                        state.listed = true;
                        state.known = true;
                        state.objects = objects;
                        state.problem = None;
                    });
                }
                Err(error) if error.is_not_found() => {
                    change(&states, |state| {
                        state.listed = true;
                        state.known = false;
                        state.problem = Some(NOT_INSTALLED.to_owned());
                    });
                    tokio::time::sleep(self.options.look_again_after).await;
                }
                Err(error) => {
                    let problem = error.summary();
                    let is_new = states.borrow().problem.as_ref() != Some(&problem);
                    if is_new {
                        tracing::warn!(problem, "PodIdentityAssociation objects cannot be watched");
                    }
                    change(&states, |state| {
                        state.failures = state.failures.saturating_add(1);
                        state.problem = Some(problem);
                    });
                    tokio::time::sleep(self.options.retry_after).await;
                }
            }
        }
    }

    /// Asks the API server itself about an object.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn look(&self, (namespace, name): &ObjectName) -> Result<ObjectNow, ObjectError> {
        let found = answer(self.api(namespace).get_opt(name)).await?;
        Ok(found
            .as_ref()
            .and_then(AssociationObject::of)
            .map_or(ObjectNow::Gone, |object| ObjectNow::There(object.into())))
    }

    /// Makes an object that shows an association.
    ///
    /// # Errors
    /// [`ObjectError::Conflict`] when the name is taken, [`ObjectError::NotFound`] when the namespace is not there.
    pub async fn create_mirror(
        &self,
        (namespace, name): &ObjectName,
        spec: &Value,
    ) -> Result<(), ObjectError> {
        let mut object = DynamicObject::new(name, &resource());
        object.metadata.namespace = Some(namespace.to_string());
        object.metadata.labels = Some([(MIRROR_LABEL.to_owned(), "true".to_owned())].into());
        object.data = json!({ "spec": spec });
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        answer(self.api(namespace).create(&params, &object))
            .await
            .map(|_| ())
    }

    /// Changes the spec of an object in the version that was seen, and labels it as one that shows an association.
    ///
    /// # Errors
    /// [`ObjectError::Conflict`] when it has another version now.
    pub async fn patch_mirror(
        &self,
        object: &AssociationObject,
        spec: Option<Value>,
    ) -> Result<(), ObjectError> {
        let mut patch = json!({"metadata": {
            "resourceVersion": object.version,
            "labels": {MIRROR_LABEL: "true"},
        }});
        if let (Some(spec), Some(members)) = (spec, patch.as_object_mut()) {
            members.insert("spec".to_owned(), spec);
        }
        let api = self.api(&object.namespace);
        answer(api.patch(&object.name, &params(), &Patch::Merge(patch)))
            .await
            .map(|_| ())
    }

    /// Deletes an object in the version that was seen.
    ///
    /// # Errors
    /// [`ObjectError::Conflict`] when it has another version now.
    pub async fn delete(&self, object: &AssociationObject) -> Result<(), ObjectError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                resource_version: Some(object.version.to_string()),
                uid: Some(object.uid.to_string()),
            }),
            ..DeleteParams::default()
        };
        let api = self.api(&object.namespace);
        match answer(api.delete(&object.name, &params)).await {
            Err(ObjectError::NotFound) => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    /// Writes the status of an object, and returns what the API server made of it.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`] when it is gone.
    pub async fn write_status(
        &self,
        (namespace, name): &ObjectName,
        status: &Value,
    ) -> Result<Value, ObjectError> {
        let patch = Patch::Merge(json!({ "status": status }));
        let api = self.api(namespace);
        let object = answer(api.patch_status(name, &params(), &patch)).await?;
        Ok(object.data.get("status").cloned().unwrap_or(Value::Null))
    }

    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource())
    }
}

fn take(objects: &mut BTreeMap<ObjectName, Arc<AssociationObject>>, step: Step<DynamicObject>) {
    match step {
        Step::Listed { objects: all, .. } => {
            objects.clear();
            for object in &all {
                put(objects, object);
            }
        }
        Step::Applied(object) => put(objects, &object),
        Step::Deleted(object) => {
            let namespace = object.namespace().unwrap_or_default();
            objects.remove(&(namespace.into(), object.name_any().into()));
        }
        Step::Resumed => {}
    }
}

fn put(objects: &mut BTreeMap<ObjectName, Arc<AssociationObject>>, object: &DynamicObject) {
    let Some(object) = AssociationObject::of(object) else {
        return;
    };
    let key = object.key();
    if objects.len() >= MAX_OBJECTS && !objects.contains_key(&key) {
        tracing::error!(namespace = %key.0, name = %key.1, "too many PodIdentityAssociations; this one is ignored");
        return;
    }
    objects.insert(key, Arc::new(object));
}

fn change(
    states: &watch::Sender<Arc<AssociationObjectsState>>,
    with: impl FnOnce(&mut AssociationObjectsState),
) {
    states.send_modify(|state| with(Arc::make_mut(state)));
}

async fn answer<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ObjectError> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(ObjectError::NotFound),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(ObjectError::Conflict),
        Ok(Err(error)) => Err(ObjectError::Failed(WatchError::from(error).summary())),
        Err(_) => Err(ObjectError::Failed(
            "the API server does not answer".to_owned(),
        )),
    }
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk(ASSOCIATION_GROUP, ASSOCIATION_VERSION, ASSOCIATION_KIND);
    ApiResource::from_gvk_with_plural(&kind, ASSOCIATION_PLURAL)
}

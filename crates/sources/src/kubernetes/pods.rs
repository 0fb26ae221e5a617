//! Pods that run, looked through now and then, and what is done about single ones: an Event, an eviction (webhook spec, section 8.2).

use std::fmt;

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::list_watch::WatchError;
use super::raw;

const PATH: &str = "/api/v1/pods";
/// Pods in one page; a pod may have a mebibyte.
const PAGE: usize = 100;
/// Who reports events.
const CONTROLLER: &str = "countersign.io/pod-identity";

/// Looks through all pods of a cluster.
#[derive(Clone)]
pub struct PodSweep {
    client: Client,
    instance: String,
}

/// A pod as the sweep shows it.
#[derive(Debug, Clone)]
pub struct SweptPod<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// Unique id.
    pub uid: &'a str,
    /// What made it, if something did that makes a new one in its place.
    pub owner: Option<PodOwner>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it came to its end.
    pub finished: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// The whole object, JSON.
    pub json: &'a str,
}

/// The controller of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodOwner {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its unique id.
    pub uid: String,
}

/// What became of an eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Eviction {
    /// The pod goes.
    Done,
    /// A disruption budget does not allow it now, or the pod is gone or another one.
    NotNow,
    /// It is refused or failed.
    Failed(String),
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OwnerReference {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
    conditions: Option<Vec<Condition>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl fmt::Debug for PodSweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PodSweep")
    }
}

impl PodSweep {
    /// Nothing is asked yet. `instance` is who reports events: the name of this pod or host.
    #[must_use]
    pub fn new(client: Client, instance: &str) -> Self {
        Self {
            client,
            instance: instance.chars().take(128).collect(),
        }
    }

    /// Shows every pod to `look`, a page at a time: never more than one page is held.
    ///
    /// # Errors
    /// What the API server answers, in words; what was shown before stays shown.
    pub async fn look_through(
        &self,
        mut look: impl FnMut(&SweptPod<'_>) + Send,
    ) -> Result<(), String> {
        let mut next = String::new();
        loop {
            let page: raw::Page<Box<RawValue>> = raw::page(&self.client, PATH, PAGE, &next)
                .await
                .map_err(|error: WatchError| error.summary())?;
            for json in &page.items {
                let json = json.get();
                // One that cannot be read is one that was not made by this API server.
                let Ok(pod) = serde_json::from_str::<Pod>(json) else {
                    continue;
                };
                look(&SweptPod {
                    owner: pod.metadata.owner(),
                    created: pod
                        .metadata
                        .creation_timestamp
                        .as_deref()
                        .and_then(|text| text.parse().ok()),
                    deleting: pod.metadata.deletion_timestamp.is_some(),
                    finished: matches!(&*pod.status.phase, "Succeeded" | "Failed"),
                    ready: pod.status.is_ready(),
                    namespace: &pod.metadata.namespace,
                    name: &pod.metadata.name,
                    uid: &pod.metadata.uid,
                    json,
                });
            }
            next = page.metadata.next;
            if next.is_empty() {
                return Ok(());
            }
        }
    }

    /// Tells about a pod, at its controller when it has one: that is what people look at.
    ///
    /// # Errors
    /// What the API server answers.
    pub async fn tell(
        &self,
        (namespace, name, uid): (&str, &str, &str),
        owner: Option<&PodOwner>,
        reason: &str,
        note: &str,
        now: Timestamp,
    ) -> Result<(), String> {
        let pod = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let (regarding, related) = match owner {
            None => (pod, None),
            Some(owner) => {
                let owner = ObjectReference {
                    api_version: Some(owner.api_version.clone()),
                    kind: Some(owner.kind.clone()),
                    name: Some(owner.name.clone()),
                    namespace: Some(namespace.to_owned()),
                    uid: Some(owner.uid.clone()),
                    ..ObjectReference::default()
                };
                (owner, Some(pod))
            }
        };
        let short: String = name.chars().take(200).collect();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{short}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some(reason.to_owned()),
            action: Some("InjectCredentials".to_owned()),
            note: Some(note.chars().take(1000).collect()),
            event_time: Some(MicroTime(now)),
            regarding: Some(regarding),
            related,
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => Ok(()),
            Err(error) => Err(WatchError::from(error).summary()),
        }
    }

    /// Evicts this very pod, under its disruption budgets.
    pub async fn evict(&self, namespace: &str, name: &str, uid: &str) -> Eviction {
        if !raw::is_name(namespace, 63) || !raw::is_name(name, 253) {
            return Eviction::Failed("the pod's name is none".to_owned());
        }
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes());
        let request = match request {
            Ok(request) => request,
            Err(error) => return Eviction::Failed(error.to_string()),
        };
        match self.client.request_text(request).await {
            Ok(_) => Eviction::Done,
            Err(Error::Api(status)) if matches!(status.code, 404 | 409 | 429) => Eviction::NotNow,
            Err(error) => Eviction::Failed(WatchError::from(error).summary()),
        }
    }
}

impl Metadata {
    fn owner(&self) -> Option<PodOwner> {
        let mut owners = self.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        Some(PodOwner {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        })
    }
}

impl Status {
    fn is_ready(&self) -> bool {
        let mut conditions = self.conditions.iter().flatten();
        conditions.any(|condition| condition.kind == "Ready" && condition.status == "True")
    }
}

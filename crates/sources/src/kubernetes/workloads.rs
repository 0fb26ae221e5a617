//! Pods, service accounts and workloads of a cluster: read for a command, and the few changes that move pods to other credentials.
//!
//! Needed permissions: `get` on `pods`, `serviceaccounts` and `daemonsets`, `list` on `pods`, `serviceaccounts` and `namespaces`; for
//! changes `patch` on `serviceaccounts` and on the workloads that are restarted.

use std::path::Path;

use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::AccessError;
use crate::rbac::cluster_client;

/// Objects asked for at once.
const PAGE: u32 = 500;
/// Pages of one list.
const MAX_PAGES: usize = 1000;
/// Who makes changes.
const MANAGER: &str = "countersign-pods";

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `v1` Pod.
    Pod,
    /// `v1` ServiceAccount.
    ServiceAccount,
    /// `v1` Namespace.
    Namespace,
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

impl Kind {
    /// The workload of this kind, as owner references name it; `None` for kinds that cannot be restarted.
    #[must_use]
    pub fn workload(name: &str) -> Option<Self> {
        match name {
            "Deployment" => Some(Self::Deployment),
            "StatefulSet" => Some(Self::StatefulSet),
            "DaemonSet" => Some(Self::DaemonSet),
            _ => None,
        }
    }

    fn resource(self) -> ApiResource {
        let (group, kind, plural) = match self {
            Self::Pod => ("", "Pod", "pods"),
            Self::ServiceAccount => ("", "ServiceAccount", "serviceaccounts"),
            Self::Namespace => ("", "Namespace", "namespaces"),
            Self::Deployment => ("apps", "Deployment", "deployments"),
            Self::StatefulSet => ("apps", "StatefulSet", "statefulsets"),
            Self::DaemonSet => ("apps", "DaemonSet", "daemonsets"),
        };
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural)
    }
}

/// Why the cluster did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// There is no way to it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No runtime to ask on.
    #[error("the client of the Kubernetes API cannot be started")]
    Runtime(#[from] std::io::Error),
    /// It refused, or could not be reached.
    #[error("the Kubernetes API did not answer: {0}")]
    Api(String),
    /// A list that does not end.
    #[error("the list of {0} does not end")]
    TooLong(String),
}

/// A cluster, asked by one command at a time. Methods block: call them outside of any runtime.
pub struct Workloads {
    runtime: Runtime,
    client: Client,
    /// The namespace of the context.
    pub namespace: String,
}

impl std::fmt::Debug for Workloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workloads")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Workloads {
    /// Finds the cluster that a person means, as [`cluster_client`] does. Nothing is asked yet.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used, or there is no way to a cluster.
    pub fn connect(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
    ) -> Result<Self, WorkloadError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (client, namespace) = runtime.block_on(cluster_client(kubeconfig, context))?;
        Ok(Self {
            runtime,
            client,
            namespace,
        })
    }

    /// One object; `None` if there is none of the name.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub fn get(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, WorkloadError> {
        let api = self.api(kind, Some(namespace));
        let object = self.runtime.block_on(api.get_opt(name)).map_err(failed)?;
        Ok(object.map(|object| value(&object)))
    }

    /// All objects of a kind in one namespace or all, those that `fields` and `labels` select.
    ///
    /// # Errors
    /// When the API server refuses or does not answer, or the list does not end.
    pub fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        (fields, labels): (Option<&str>, Option<&str>),
    ) -> Result<Vec<Value>, WorkloadError> {
        let api = self.api(kind, namespace);
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.field_selector = fields.map(str::to_owned);
        parameters.label_selector = labels.map(str::to_owned);
        self.runtime.block_on(async {
            let mut all = Vec::new();
            for _ in 0..MAX_PAGES {
                let page = api.list(&parameters).await.map_err(failed)?;
                all.extend(page.items.iter().map(value));
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => parameters = parameters.continue_token(&token),
                    None => return Ok(all),
                }
            }
            Err(WorkloadError::TooLong(kind.resource().plural))
        })
    }

    /// Sets or removes an annotation.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub fn annotate(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        (key, value): (&str, Option<&str>),
    ) -> Result<(), WorkloadError> {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.patch(kind, namespace, name, &patch)
    }

    /// Has the pods of a workload made again, as `kubectl rollout restart` does: by an annotation of their template.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub fn restart(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        at: &str,
    ) -> Result<(), WorkloadError> {
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": at});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        self.patch(kind, namespace, name, &patch)
    }

    fn patch(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), WorkloadError> {
        let api = self.api(kind, Some(namespace));
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        let patched = api.patch(name, &parameters, &patch);
        self.runtime.block_on(patched).map_err(failed)?;
        Ok(())
    }

    fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = kind.resource();
        match namespace.filter(|_| kind != Kind::Namespace) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }
}

/// An object as JSON.
fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object)
        .unwrap_or_else(|_| json!({"metadata": {"name": object.name_any()}}))
}

fn failed(error: kube::Error) -> WorkloadError {
    WorkloadError::Api(match error {
        kube::Error::Api(status) => {
            let message: String = status.message.chars().take(256).collect();
            format!("{message} (HTTP {})", status.code)
        }
        other => other.to_string().chars().take(256).collect(),
    })
}

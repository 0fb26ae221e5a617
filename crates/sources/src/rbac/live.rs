//! Roles and bindings of a live cluster: read once, for a command.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use countersign_rbac::{
    AggregationRule, Index, Manifest, ManifestSubject, Metadata, Object, PolicyRule, RBAC_GROUP,
    RoleRef, Unread,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config, ResourceExt};
use serde::Deserialize;

use crate::kubernetes::AccessError;
use crate::kubernetes::list_watch::{ListWatch, Step, WatchError};

/// Objects of one kind that are taken; far more than any cluster has.
pub(super) const MAX_OBJECTS: usize = 500_000;

/// The four kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    ClusterRole,
    ClusterRoleBinding,
    Role,
    RoleBinding,
}

/// What a cluster holds.
#[derive(Debug, Default)]
pub struct Live {
    /// Roles and bindings, each with its resource version as origin.
    pub objects: Vec<Object>,
    /// What could not be listed, and why.
    pub unread: Vec<Unread>,
    /// Names of all namespaces; absent if they could not be listed.
    pub namespaces: Option<Vec<String>>,
}

/// Nothing could be read.
#[derive(Debug, thiserror::Error)]
#[error("the Kubernetes API could not be asked for roles and bindings: {0}")]
pub struct LiveError(String);

impl Live {
    /// An index of it, with what could not be read marked.
    #[must_use]
    pub fn index(self) -> Index {
        index_of(self.objects, self.unread)
    }
}

/// A client of the cluster that a person means: a kubeconfig and context that are named, else those of `KUBECONFIG` and
/// `~/.kube/config`, else the pod's service account. Also the namespace that the context is in.
///
/// # Errors
/// When the kubeconfig cannot be used, or there is no way to a cluster.
pub async fn cluster_client(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<(Client, String), AccessError> {
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(AccessError::Kubeconfig)?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(AccessError::Kubeconfig)?
        }
        None => match Config::from_kubeconfig(&options).await {
            Ok(config) => config,
            // A context that is named is in a kubeconfig, or nowhere.
            Err(error) if context.is_some() => return Err(AccessError::Kubeconfig(error)),
            Err(_) => Config::incluster().map_err(AccessError::InCluster)?,
        },
    };
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(AccessError::Client)?;
    Ok((client, namespace))
}

/// Lists the four kinds once. A kind that may not be listed in the whole cluster is listed in `namespace`, if one is named:
/// then the answer is whole for questions about that namespace, and only for those.
///
/// # Errors
/// When no kind could be listed at all.
pub async fn list(client: &Client, namespace: Option<&str>) -> Result<Live, LiveError> {
    let mut live = Live::default();
    let (a, b, c, d, namespaces) = futures::join!(
        list_kind(client, Kind::ClusterRole, namespace),
        list_kind(client, Kind::ClusterRoleBinding, namespace),
        list_kind(client, Kind::Role, namespace),
        list_kind(client, Kind::RoleBinding, namespace),
        namespaces(client),
    );
    let mut failures = 0;
    let mut last = String::new();
    for (kind, listed) in Kind::ALL.into_iter().zip([a, b, c, d]) {
        match listed {
            Ok(objects) => {
                for object in objects {
                    match read(kind, object) {
                        Ok(object) => live.objects.push(object),
                        Err(reason) => live.unread.push(unread(reason)),
                    }
                }
            }
            Err(error) => {
                failures += 1;
                last = error.summary();
                live.unread.push(unread(format!(
                    "{} could not be listed: {last}",
                    kind.plural()
                )));
            }
        }
    }
    if failures == Kind::ALL.len() {
        return Err(LiveError(last));
    }
    live.namespaces = namespaces;
    Ok(live)
}

/// The `data` of `kube-system/aws-auth`; empty if there is no such object.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn read_aws_auth(client: &Client) -> Result<BTreeMap<String, String>, LiveError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    match api.get_opt("aws-auth").await {
        Ok(object) => Ok(object.and_then(|object| object.data).unwrap_or_default()),
        Err(error) => Err(LiveError(WatchError::from(error).summary())),
    }
}

async fn list_kind(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
) -> Result<Vec<DynamicObject>, WatchError> {
    let all = kind.api(client, None);
    match first_list(all).await {
        Err(error) if error.is_forbidden() && kind.is_namespaced() => match namespace {
            Some(namespace) => first_list(kind.api(client, Some(namespace))).await,
            None => Err(error),
        },
        other => other,
    }
}

async fn first_list(api: Api<DynamicObject>) -> Result<Vec<DynamicObject>, WatchError> {
    match ListWatch::new(api, None).next().await? {
        Step::Listed { objects, .. } => Ok(objects),
        Step::Applied(_) | Step::Deleted(_) | Step::Resumed => Ok(Vec::new()),
    }
}

async fn namespaces(client: &Client) -> Option<Vec<String>> {
    let api: Api<Namespace> = Api::all(client.clone());
    match ListWatch::new(api, None).next().await.ok()? {
        Step::Listed { objects, .. } => Some(objects.iter().map(ResourceExt::name_any).collect()),
        Step::Applied(_) | Step::Deleted(_) | Step::Resumed => None,
    }
}

pub(super) fn unread(reason: impl Into<Arc<str>>) -> Unread {
    Unread {
        namespace: None,
        reason: reason.into(),
    }
}

pub(super) fn index_of(objects: Vec<Object>, unread_before: Vec<Unread>) -> Index {
    let (mut index, refused) = Index::build(objects);
    for entry in unread_before {
        index.mark_unread(entry);
    }
    for refused in refused {
        index.mark_unread(unread(refused.to_string()));
    }
    index
}

/// An object of the API as one of ours.
pub(super) fn read(kind: Kind, object: DynamicObject) -> Result<Object, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        #[serde(default)]
        rules: Option<Vec<PolicyRule>>,
        #[serde(default)]
        aggregation_rule: Option<AggregationRule>,
        #[serde(default)]
        role_ref: Option<RoleRef>,
        #[serde(default)]
        subjects: Option<Vec<ManifestSubject>>,
    }
    let name = object.name_any();
    let version = object.resource_version().unwrap_or_default();
    let failed = |error: String| format!("{} {name} cannot be read: {error}", kind.name());
    let body: Body =
        serde_json::from_value(object.data).map_err(|error| failed(error.to_string()))?;
    let metadata = object.metadata;
    let created = metadata.creation_timestamp;
    let manifest = Manifest {
        api_version: format!("{RBAC_GROUP}/v1"),
        kind: kind.name().to_owned(),
        metadata: Metadata {
            name: metadata.name.unwrap_or_default(),
            namespace: metadata.namespace.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            resource_version: version.clone(),
            creation_timestamp: created.map(|time| time.0.to_string()).unwrap_or_default(),
        },
        aggregation_rule: body.aggregation_rule,
        rules: body.rules,
        role_ref: body.role_ref,
        subjects: body.subjects,
    };
    let mut object = Object::try_from(manifest).map_err(|error| failed(error.to_string()))?;
    object.set_origin(format!("resourceVersion {version}"));
    Ok(object)
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [
        Self::ClusterRole,
        Self::ClusterRoleBinding,
        Self::Role,
        Self::RoleBinding,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ClusterRole => "ClusterRole",
            Self::ClusterRoleBinding => "ClusterRoleBinding",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
        }
    }

    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::ClusterRole => "clusterroles",
            Self::ClusterRoleBinding => "clusterrolebindings",
            Self::Role => "roles",
            Self::RoleBinding => "rolebindings",
        }
    }

    const fn is_namespaced(self) -> bool {
        matches!(self, Self::Role | Self::RoleBinding)
    }

    pub(super) fn api(self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(RBAC_GROUP, "v1", self.name());
        let resource = ApiResource::from_gvk_with_plural(&kind, self.plural());
        match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }
}

//! Mapping rules in the Kubernetes API: the `aws-auth` ConfigMap and `IAMIdentityMapping` objects.
//!
//! Service accounts, the role map and pods for the admission webhook.
//!
//! Needed permissions: `list` and `watch` on `configmaps` in `kube-system` (and `get` on `aws-auth`), `get`, `list` and `watch` on
//! `iamidentitymappings`, `patch` on `iamidentitymappings/status`, `create` on `events` in the group `events.k8s.io`.

mod aws_auth;
mod ca_bundle;
mod crd;
pub(crate) mod list_watch;
mod node_pods;
mod objects;
mod pod_tokens;
mod pods;
mod projection;
mod raw;
mod role_map;
mod service_accounts;
pub(crate) mod status;
mod tls_secret;
mod token_keys;
mod tokens;
mod workloads;

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

pub use aws_auth::{AwsAuthOptions, AwsAuthWatch};
pub use ca_bundle::{BundleOutcome, CaBundle};
pub use crd::{CrdOptions, CrdWatch};
pub use node_pods::{InvalidNodeName, NodePod, NodePodList, NodePods};
pub use objects::list_objects;
pub use pod_tokens::{PodReference, PodTokens};
pub use pods::{Eviction, PodOwner, PodSweep, SweptPod};
pub use projection::{
    OwnedEntry, Projection, ProjectionOptions, ProjectionState, ProjectionWriter,
};
pub use role_map::{RoleMapOptions, RoleMapState, RoleMapWatch};
pub use service_accounts::{
    AccountLookup, AccountReads, AccountsHealth, ServiceAccountOptions, ServiceAccounts,
};
pub use tls_secret::{HeldSecret, TlsSecret, Written};
pub use token_keys::{KeysUnreadable, TokenKeys};
pub use tokens::{TokenApi, TokenApiError, TokenVerdict};
pub use workloads::{Kind as WorkloadKind, WorkloadError, Workloads};

/// Who reports events and writes statuses.
pub(crate) const CONTROLLER: &str = "countersign.io/mappings";

/// Pause after a failed list or watch.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Where the Kubernetes API is, and as whom to ask it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubernetesAccess {
    /// `server.kubeconfig`: a kubeconfig file; without it the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// `server.master`: a URL in the place of the one found.
    pub master: Option<String>,
}

/// There is no way to the Kubernetes API.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig cannot be used")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// Not in a cluster.
    #[error("no kubeconfig is configured, and this is not a pod with a service account")]
    InCluster(#[source] kube::config::InClusterError),
    /// `server.master` is no URL.
    #[error("`master` is no URL: `{0}`")]
    Master(String),
    /// The client cannot be made.
    #[error("the client of the Kubernetes API cannot be made")]
    Client(#[source] kube::Error),
}

impl KubernetesAccess {
    /// A client. Nothing is asked yet.
    ///
    /// It does not retry by itself: the loops here do, and count each failure.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used, or there is neither kubeconfig nor service account.
    pub async fn client(&self) -> Result<Client, AccessError> {
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(AccessError::Kubeconfig)?;
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                    .await
                    .map_err(AccessError::Kubeconfig)?
            }
            None => match (&self.master, Config::incluster()) {
                (_, Ok(config)) => config,
                (Some(master), Err(_)) => Config::new(url(master)?),
                (None, Err(error)) => return Err(AccessError::InCluster(error)),
            },
        };
        if let Some(master) = &self.master {
            config.cluster_url = url(master)?;
        }
        config.default_retry = false;
        Client::try_from(config).map_err(AccessError::Client)
    }
}

fn url(text: &str) -> Result<http::Uri, AccessError> {
    text.parse::<http::Uri>()
        .ok()
        .filter(|url| url.scheme().is_some() && url.authority().is_some())
        .ok_or_else(|| AccessError::Master(text.to_owned()))
}

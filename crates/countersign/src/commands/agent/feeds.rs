//! What the agent is told while it runs: the pods of the node, the keys of the cluster, and changed associations.

use std::sync::Arc;
use std::time::Duration;

use countersign_agent::pods::{Pod, PodTable};
use countersign_agent::token::{AUDIENCE, ClusterKeys};
use countersign_oidc::KeySet;
use countersign_sources::kubernetes::{
    KubernetesAccess, NodePod, NodePodList, NodePods, TokenKeys,
};
use tokio::sync::{Notify, watch};

use super::flags::{BindSourceFlag, RunArgs};
use crate::report::Failure;

/// Time between two reads of the keys when nobody asks for them.
const KEYS_EVERY: Duration = Duration::from_secs(300);
/// Least time between two reads, whatever tokens name: anybody can make up key ids.
const KEYS_APART: Duration = Duration::from_secs(10);
/// Annotations that the pod table keeps: the roles of kube2iam and kiam, which the metadata guard reads.
const ANNOTATIONS: [&str; 4] = [
    "iam.amazonaws.com/role",
    "iam.amazonaws.com/external-id",
    "iam.amazonaws.com/session-name",
    "iam.amazonaws.com/allowed-roles",
];

/// The feeds from the Kubernetes API.
pub(super) struct Feeds {
    pub(super) pods: watch::Receiver<Option<Arc<PodTable>>>,
    pub(super) keys: watch::Receiver<Option<Arc<ClusterKeys>>>,
    pub(super) keys_wanted: Arc<Notify>,
}

/// Starts them, if the node has a name.
pub(super) async fn start(args: &RunArgs) -> Result<Option<Feeds>, Failure> {
    let Some(node) = &args.node_name else {
        if args.bind_source == BindSourceFlag::Enforce {
            return Err(Failure::usage(anyhow::anyhow!(
                "--bind-source enforce needs the pods of the node: give --node-name"
            )));
        }
        tracing::warn!(
            "no --node-name: pods are not watched, so credentials of deleted pods run out instead of going at once, and \
             nobody looks where tokens come from"
        );
        return Ok(None);
    };
    let access = KubernetesAccess {
        kubeconfig: args.kubeconfig.clone(),
        master: None,
    };
    let client = access.client().await.map_err(|error| {
        Failure::usage(error).hint(
            "run in a pod with a service account, give --kubeconfig, or leave out --node-name to watch no pods",
        )
    })?;
    let watched = NodePods::new(node, ANNOTATIONS.map(str::to_owned)).map_err(Failure::usage)?;
    let (pods, of_pods) = watch::channel(None);
    let for_pods = client.clone();
    tokio::spawn(async move {
        let publish = |list: NodePodList| {
            pods.send_replace(Some(Arc::new(table(list))));
        };
        watched.run(for_pods, publish).await;
    });
    let keys_wanted = Arc::new(Notify::new());
    let (keys, of_keys) = watch::channel(None);
    let wanted = Arc::clone(&keys_wanted);
    tokio::spawn(async move {
        let mut failing = false;
        loop {
            let pause = match TokenKeys::read(&client).await.map_err(|e| e.to_string()) {
                Ok(read) => match KeySet::parse(read.jwks.as_bytes()) {
                    Ok(set) => {
                        failing = false;
                        let issuer = read.issuer.into();
                        keys.send_replace(Some(Arc::new(ClusterKeys {
                            issuer,
                            audience: AUDIENCE.into(),
                            keys: set,
                        })));
                        KEYS_EVERY
                    }
                    Err(error) => complain(&mut failing, &error.to_string()),
                },
                Err(error) => complain(&mut failing, &error),
            };
            tokio::time::sleep(KEYS_APART).await;
            let _ = tokio::time::timeout(pause, wanted.notified()).await;
        }
    });
    Ok(Some(Feeds {
        pods: of_pods,
        keys: of_keys,
        keys_wanted,
    }))
}

/// The pause before the next read. What was read before stays.
fn complain(failing: &mut bool, error: &str) -> Duration {
    if !std::mem::replace(failing, true) {
        tracing::warn!(
            error,
            "the keys of the cluster's tokens cannot be read; tokens that are new are shown to the auth service"
        );
    }
    KEYS_APART
}

pub(super) fn table(list: NodePodList) -> PodTable {
    PodTable::new(list.pods.into_iter().map(pod), list.node_addresses)
}

fn pod(pod: NodePod) -> Pod {
    let annotations = pod.annotations.into_iter();
    Pod {
        uid: pod.uid.into(),
        namespace: pod.namespace.into(),
        name: pod.name.into(),
        addresses: pod.addresses,
        host_network: pod.host_network,
        terminated: pod.terminated,
        service_account: pod.service_account.into(),
        deleted: pod
            .deleted
            .and_then(|end| jiff::Timestamp::from_second(end).ok()),
        annotations: annotations
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
    }
}

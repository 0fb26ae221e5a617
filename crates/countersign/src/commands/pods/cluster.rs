//! Facts from the Kubernetes API.

use countersign_podreview::{AccountFacts, AgentFacts, Fact, PodFacts};
use countersign_sources::kubernetes::{WorkloadError, WorkloadKind, Workloads};
use serde_json::Value;

use super::KubernetesArgs;

/// Names by which the agent of EKS Pod Identity is known: AWS's and ours.
const AGENTS: [&str; 2] = ["eks-pod-identity-agent", "countersign-agent"];

impl KubernetesArgs {
    pub(super) fn connect(&self) -> Result<Workloads, WorkloadError> {
        Workloads::connect(self.kubeconfig.as_deref(), self.context.as_deref())
    }
}

/// A service account.
pub(super) fn account(cluster: &Workloads, namespace: &str, name: &str) -> Fact<AccountFacts> {
    match cluster.get(WorkloadKind::ServiceAccount, namespace, name) {
        Ok(Some(object)) => Fact::Known(AccountFacts::of_object(&object)),
        Ok(None) => Fact::Missing,
        Err(error) => Fact::Unread(error.to_string()),
    }
}

/// The agent on the node of a pod.
pub(super) fn agent(cluster: &Workloads, pod: &PodFacts) -> Fact<AgentFacts> {
    let Some(node) = &pod.node else {
        return Fact::Unread("the pod is on no node yet".to_owned());
    };
    let fields = format!("spec.nodeName={node}");
    let pods = cluster.list(WorkloadKind::Pod, None, (Some(&fields), None));
    let pods = match pods {
        Ok(pods) => pods,
        Err(error) => return Fact::Unread(error.to_string()),
    };
    match pods.iter().find(|object| is_agent(object)) {
        Some(object) => Fact::Known(AgentFacts {
            pod: match PodFacts::of_object(object) {
                Ok(pod) => format!("{}/{}", pod.namespace, pod.name),
                Err(error) => error.to_string(),
            },
            ready: PodFacts::is_ready(object),
        }),
        None => Fact::Missing,
    }
}

fn is_agent(object: &Value) -> bool {
    let Ok(pod) = PodFacts::of_object(object) else {
        return false;
    };
    let label = pod.labels.get("app.kubernetes.io/name");
    let owner = pod.owner.as_ref().filter(|owner| owner.kind == "DaemonSet");
    let owner = owner.map(|owner| owner.name.as_str());
    AGENTS
        .iter()
        .any(|agent| label.map(String::as_str) == Some(agent) || owner == Some(agent))
        && !pod.has_ended()
}

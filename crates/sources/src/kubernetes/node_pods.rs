//! The pods of one node, stripped to what an agent on it needs (agent spec, section 4.1).
//!
//! Needed permissions: `list` and `watch` on `pods`. RBAC cannot limit that to a node; the field selector limits what is sent.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::Deserialize;

use super::RETRY_AFTER;
use super::list_watch::{ListWatch, Step};

/// Pods that are kept at most; the largest nodes have some hundreds.
const MAX_PODS: usize = 4096;
/// Addresses of one pod or node that are kept: one of each family is what Kubernetes gives.
const MAX_ADDRESSES: usize = 8;
/// Longest annotation that is kept.
const MAX_ANNOTATION: usize = 4096;
/// Events that are applied as one.
const MAX_BURST: usize = 1000;

/// A pod of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePod {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// Whether `status.phase` is `Succeeded` or `Failed`.
    pub terminated: bool,
    /// `metadata.deletionTimestamp`, the end of its grace; in seconds since 1970.
    pub deleted: Option<i64>,
    /// The annotations that were asked for.
    pub annotations: BTreeMap<String, String>,
}

/// The pods of the node at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodePodList {
    /// All of them.
    pub pods: Vec<NodePod>,
    /// The node's own addresses, as its pods report them (`status.hostIPs`).
    pub node_addresses: Vec<IpAddr>,
}

/// Watches the pods of one node.
#[derive(Debug, Clone)]
pub struct NodePods {
    node: String,
    annotations: BTreeSet<String>,
    retry_after: Duration,
}

/// The name cannot be one of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no node name; it has 1 to 253 lower-case letters, digits, `-` and `.`")]
pub struct InvalidNodeName(pub(super) String);

impl NodePods {
    /// The pods of the node of this name (`spec.nodeName`), with the annotations of these keys and no others.
    ///
    /// # Errors
    /// When the name cannot be one of a node: it becomes part of a selector.
    pub fn new(
        node: &str,
        annotations: impl IntoIterator<Item = String>,
    ) -> Result<Self, InvalidNodeName> {
        let fine = (1..=253).contains(&node.len())
            && node
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
        if !fine {
            return Err(InvalidNodeName(node.chars().take(253).collect()));
        }
        Ok(Self {
            node: node.to_owned(),
            annotations: annotations.into_iter().collect(),
            retry_after: RETRY_AFTER,
        })
    }

    /// Pause after a failure. Default 5 s.
    #[must_use]
    pub const fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = pause;
        self
    }

    /// The pods now, in one read.
    ///
    /// # Errors
    /// What the API server said, or why it could not be asked.
    pub(crate) async fn read(&self, client: &Client) -> Result<NodePodList, String> {
        let api: Api<SlimPod> = Api::all(client.clone());
        let parameters = kube::api::ListParams::default()
            .fields(&format!("spec.nodeName={}", self.node))
            .limit(u32::try_from(MAX_PODS).unwrap_or(u32::MAX));
        let listed = api.list(&parameters).await.map_err(|error| match error {
            kube::Error::Api(status) => format!("status {}", status.code),
            other => other.to_string().chars().take(256).collect(),
        })?;
        let mut pods = HashMap::new();
        for object in listed.items {
            self.put(&mut pods, object);
        }
        Ok(all(&pods))
    }

    /// Watches for ever, and calls `publish` with all pods whenever any changed. Until the first list it is not called; while
    /// the API server cannot be reached, what was published last stays.
    pub async fn run(self, client: Client, mut publish: impl FnMut(NodePodList) + Send) {
        let api: Api<SlimPod> = Api::all(client);
        let selector = format!("spec.nodeName={}", self.node);
        let mut watch = ListWatch::new(api, Some(&selector));
        let mut pods: HashMap<String, (NodePod, Vec<IpAddr>)> = HashMap::new();
        let mut failing = false;
        loop {
            let mut changed = false;
            match watch.next().await {
                Ok(step) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("the pods of this node are watched again");
                    }
                    changed |= self.apply(&mut pods, step);
                    for _ in 0..MAX_BURST {
                        let Some(step) = watch.ready() else { break };
                        changed |= self.apply(&mut pods, step);
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let error = error.summary();
                        tracing::warn!(
                            error,
                            "the pods of this node cannot be watched; what is known of them stays, and it is tried again"
                        );
                    }
                    tokio::time::sleep(self.retry_after).await;
                }
            }
            if changed {
                publish(all(&pods));
            }
        }
    }

    fn apply(
        &self,
        pods: &mut HashMap<String, (NodePod, Vec<IpAddr>)>,
        step: Step<SlimPod>,
    ) -> bool {
        match step {
            Step::Listed { objects, .. } => {
                pods.clear();
                for object in objects {
                    self.put(pods, object);
                }
                true
            }
            Step::Applied(object) => self.put(pods, object),
            Step::Deleted(object) => object
                .metadata
                .uid
                .is_some_and(|uid| pods.remove(&uid).is_some()),
            Step::Resumed => false,
        }
    }

    /// Whether that changed anything.
    fn put(&self, pods: &mut HashMap<String, (NodePod, Vec<IpAddr>)>, object: SlimPod) -> bool {
        let Some((pod, hosts)) = self.strip(object) else {
            return false;
        };
        if pods.len() >= MAX_PODS && !pods.contains_key(&pod.uid) {
            tracing::warn!("this node has more than {MAX_PODS} pods; one is left out");
            return false;
        }
        let new = (pod, hosts);
        if pods.get(&new.0.uid) == Some(&new) {
            return false;
        }
        pods.insert(new.0.uid.clone(), new);
        true
    }

    /// What is kept of it; nothing without a name. A pod of another node, which a selector should have kept away, is none.
    fn strip(&self, object: SlimPod) -> Option<(NodePod, Vec<IpAddr>)> {
        if object.spec.node_name.as_deref() != Some(self.node.as_str()) {
            return None;
        }
        let metadata = object.metadata;
        let status = object.status.unwrap_or_default();
        let mut annotations = metadata.annotations.unwrap_or_default();
        annotations
            .retain(|key, value| self.annotations.contains(key) && value.len() <= MAX_ANNOTATION);
        let terminated = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let pod = NodePod {
            uid: metadata.uid?,
            namespace: metadata.namespace?,
            name: metadata.name?,
            service_account: object.spec.service_account_name.unwrap_or_default(),
            addresses: addresses(status.pod_ip, status.pod_ips),
            host_network: object.spec.host_network.unwrap_or_default(),
            terminated,
            deleted: metadata.deletion_timestamp.map(|end| end.0.as_second()),
            annotations,
        };
        Some((pod, addresses(status.host_ip, status.host_ips)))
    }
}

fn all(pods: &HashMap<String, (NodePod, Vec<IpAddr>)>) -> NodePodList {
    let node: BTreeSet<IpAddr> = pods.values().flat_map(|(_, hosts)| hosts.clone()).collect();
    NodePodList {
        pods: pods.values().map(|(pod, _)| pod.clone()).collect(),
        node_addresses: node.into_iter().take(4 * MAX_ADDRESSES).collect(),
    }
}

/// The list has the single one as its first; servers before 1.28 know no list for hosts.
fn addresses(single: Option<String>, list: Option<Vec<Address>>) -> Vec<IpAddr> {
    let list = list.unwrap_or_default().into_iter().map(|entry| entry.ip);
    let mut found: Vec<IpAddr> = Vec::new();
    for text in single.into_iter().chain(list.flatten()) {
        if let Ok(address) = text.parse::<IpAddr>()
            && !found.contains(&address)
            && found.len() < MAX_ADDRESSES
        {
            found.push(address);
        }
    }
    found
}

/// A pod without all that nobody here reads.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SlimPod {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: SlimSpec,
    status: Option<SlimStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimSpec {
    node_name: Option<String>,
    service_account_name: Option<String>,
    host_network: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<Address>>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    #[serde(rename = "hostIPs")]
    host_ips: Option<Vec<Address>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Address {
    ip: Option<String>,
}

impl Resource for SlimPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(dynamic: &()) -> Cow<'_, str> {
        Pod::kind(dynamic)
    }

    fn group(dynamic: &()) -> Cow<'_, str> {
        Pod::group(dynamic)
    }

    fn version(dynamic: &()) -> Cow<'_, str> {
        Pod::version(dynamic)
    }

    fn plural(dynamic: &()) -> Cow<'_, str> {
        Pod::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn pod(text: &str) -> SlimPod {
        serde_json::from_str(text).unwrap()
    }

    fn node() -> NodePods {
        NodePods::new("node-a", ["iam.amazonaws.com/role".to_owned()]).unwrap()
    }

    #[test]
    fn a_pod_is_stripped_to_what_is_needed() {
        let (pod, hosts) = node()
            .strip(pod(r#"{
                "metadata": {"uid": "u1", "namespace": "orchard", "name": "picker-0", "resourceVersion": "7",
                    "annotations": {"iam.amazonaws.com/role": "reader", "other": "x"}, "labels": {"a": "b"}},
                "spec": {"nodeName": "node-a", "serviceAccountName": "picker", "containers": [{"name": "c", "env": []}]},
                "status": {"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}, {"ip": "odd"}, {}],
                    "hostIP": "192.168.0.1", "hostIPs": [{"ip": "192.168.0.1"}, {"ip": "fd01::1"}]}}"#))
            .unwrap();
        assert_eq!(
            (pod.uid.as_str(), pod.service_account.as_str()),
            ("u1", "picker")
        );
        assert_eq!(
            pod.addresses,
            [
                "10.0.0.7".parse::<IpAddr>().unwrap(),
                "fd00::7".parse().unwrap()
            ]
        );
        assert_eq!(pod.annotations.len(), 1);
        assert!(!pod.host_network && !pod.terminated);
        assert_eq!(hosts.len(), 2);
    }

    #[test]
    fn pods_of_other_nodes_and_pods_without_names_are_left_out() {
        for text in [
            r#"{"metadata": {"uid": "u", "namespace": "n", "name": "p"}, "spec": {"nodeName": "node-b"}}"#,
            r#"{"metadata": {"uid": "u", "namespace": "n", "name": "p"}, "spec": {}}"#,
            r#"{"metadata": {"namespace": "n", "name": "p"}, "spec": {"nodeName": "node-a"}}"#,
            "{}",
        ] {
            assert_eq!(node().strip(pod(text)), None, "{text}");
        }
        for name in ["", "Node", "a b", "a,metadata.name=b", &"a".repeat(254)] {
            assert!(NodePods::new(name, []).is_err(), "{name}");
        }
    }

    #[test]
    fn steps_change_the_list_only_when_something_changed() {
        let node = node();
        let mut pods = HashMap::new();
        let of = |uid: &str, phase: &str| {
            pod(&format!(
                r#"{{"metadata": {{"uid": "{uid}", "namespace": "n", "name": "{uid}"}}, "spec": {{"nodeName": "node-a"}},
                    "status": {{"phase": "{phase}", "hostIP": "192.168.0.1"}}}}"#
            ))
        };
        let listed = |objects| Step::Listed {
            objects,
            version: String::new(),
        };
        for (step, changed, left) in [
            (
                listed(vec![of("a", "Running"), of("b", "Running")]),
                true,
                2,
            ),
            (Step::Applied(of("a", "Running")), false, 2),
            (Step::Applied(of("a", "Failed")), true, 2),
            (Step::Deleted(of("a", "Failed")), true, 1),
            (Step::Deleted(of("a", "Failed")), false, 1),
            (Step::Resumed, false, 1),
            (Step::Applied(of("c", "Pending")), true, 2),
            (listed(vec![]), true, 0),
        ] {
            assert_eq!(node.apply(&mut pods, step), changed);
            assert_eq!(all(&pods).pods.len(), left);
        }
    }
}

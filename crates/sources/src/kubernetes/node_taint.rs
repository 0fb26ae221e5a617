//! A taint of one node, taken away: what a node's agent does when it has made the node safe for pods.
//!
//! Needed permissions: `get` and `patch` on `nodes`. RBAC knows no "own node"; the path here names one node and no other.

use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use super::node_pods::InvalidNodeName;
use super::pod_tokens::reason;
use super::raw;

/// A taint of one node.
#[derive(Clone)]
pub struct NodeTaintRemoval {
    client: Client,
    path: String,
    key: Box<str>,
    effect: Box<str>,
}

impl NodeTaintRemoval {
    /// The taint `key` with `effect`, such as `NoSchedule`, whatever its value. Nothing is asked yet.
    ///
    /// # Errors
    /// When the name is no name of a node.
    pub fn new(
        client: Client,
        node: &str,
        key: &str,
        effect: &str,
    ) -> Result<Self, InvalidNodeName> {
        if !raw::is_name(node, 253) || node.contains("..") {
            return Err(InvalidNodeName(node.chars().take(64).collect()));
        }
        Ok(Self {
            client,
            path: format!("/api/v1/nodes/{node}"),
            key: key.into(),
            effect: effect.into(),
        })
    }

    /// Takes the taint away; whether it was there. Other taints stay, also those that somebody adds meanwhile: the change holds
    /// only for the place in the list where the taint was read.
    ///
    /// # Errors
    /// What the API server said, or why it could not be asked. A list that changed meanwhile is such an error: try again.
    pub async fn remove(&self) -> Result<bool, String> {
        #[derive(Deserialize)]
        struct Node {
            #[serde(default)]
            spec: Spec,
        }
        #[derive(Default, Deserialize)]
        struct Spec {
            #[serde(default)]
            taints: Vec<Value>,
        }
        let node: Node = raw::get(&self.client, &self.path).await.map_err(reason)?;
        let is = |taint: &Value, field: &str, wanted: &str| {
            taint.get(field).and_then(Value::as_str) == Some(wanted)
        };
        let mut taints = node.spec.taints.iter().enumerate();
        let found = taints
            .find(|(_, taint)| is(taint, "key", &self.key) && is(taint, "effect", &self.effect));
        let Some((at, taint)) = found else {
            return Ok(false);
        };
        let path = format!("/spec/taints/{at}");
        let patch = json!([
            {"op": "test", "path": path, "value": taint},
            {"op": "remove", "path": path},
        ]);
        let request = http::Request::patch(&self.path)
            .header("content-type", "application/json-patch+json")
            .body(patch.to_string().into_bytes())
            .map_err(|error| error.to_string())?;
        self.client.request_text(request).await.map_err(reason)?;
        Ok(true)
    }
}

impl std::fmt::Debug for NodeTaintRemoval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeTaintRemoval")
            .field("path", &self.path)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

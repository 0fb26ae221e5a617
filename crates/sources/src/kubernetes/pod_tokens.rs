//! Tokens of service accounts, bound to a pod, and Events on pods: what a node's agent asks for on a pod's behalf.
//!
//! Needed permissions: `create` on `serviceaccounts/token` and on `events`. For an agent with a node's credentials the API server
//! limits the tokens to pods of the node; for any other account they reach every service account of the cluster, so an admission
//! policy should limit them (see the documentation of the metadata guard).

use kube::Client;
use serde::Deserialize;
use serde_json::json;

use super::node_pods::{NodePodList, NodePods};

/// Seconds that a token is asked for.
const SECONDS: u32 = 3600;

/// A pod by its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodReference<'p> {
    /// `metadata.namespace`.
    pub namespace: &'p str,
    /// `metadata.name`.
    pub name: &'p str,
    /// `metadata.uid`.
    pub uid: &'p str,
}

/// Asks the API server on behalf of pods.
#[derive(Clone)]
pub struct PodTokens {
    client: Client,
    reporter: String,
}

impl PodTokens {
    /// With this client; `reporter` is the instance that Events name, such as the node.
    #[must_use]
    pub fn new(client: Client, reporter: &str) -> Self {
        Self {
            client,
            reporter: reporter.chars().take(128).collect(),
        }
    }

    /// The pods of a node now, in one read.
    ///
    /// # Errors
    /// What the API server said, or why it could not be asked.
    pub async fn pods(&self, node: &NodePods) -> Result<NodePodList, String> {
        node.read(&self.client).await
    }

    /// A token of the service account that is bound to the pod (TokenRequest).
    ///
    /// # Errors
    /// What the API server said, or why it could not be asked. No error has the token in it.
    pub async fn token(
        &self,
        pod: PodReference<'_>,
        service_account: &str,
        audience: &str,
    ) -> Result<String, String> {
        #[derive(Deserialize)]
        struct Answer {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            token: String,
        }
        for name in [pod.namespace, pod.name, service_account] {
            is_name(name).then_some(()).ok_or("a name is no DNS name")?;
        }
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{service_account}/token",
            pod.namespace
        );
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": [audience], "expirationSeconds": SECONDS,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid},
            },
        });
        let request = post(&path, &body)?;
        let answer: Answer = self.client.request(request).await.map_err(reason)?;
        Ok(answer.status.token)
    }

    /// Puts a warning on the pod.
    ///
    /// # Errors
    /// What the API server said, or why it could not be asked.
    pub async fn warn(
        &self,
        pod: PodReference<'_>,
        reason_of: &str,
        message: &str,
        now: jiff::Timestamp,
    ) -> Result<(), String> {
        is_name(pod.namespace)
            .then_some(())
            .ok_or("a namespace is no DNS name")?;
        let path = format!("/api/v1/namespaces/{}/events", pod.namespace);
        let body = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": "countersign-imds-", "namespace": pod.namespace},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
            "reason": reason_of, "message": message, "type": "Warning",
            "source": {"component": "countersign-imds", "host": self.reporter},
            "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "count": 1,
        });
        let request = post(&path, &body)?;
        let _: serde_json::Value = self.client.request(request).await.map_err(reason)?;
        Ok(())
    }
}

fn post(path: &str, body: &serde_json::Value) -> Result<http::Request<Vec<u8>>, String> {
    http::Request::post(path)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| error.to_string())
}

/// What the API server said, on one line.
pub(super) fn reason(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            let message: String = status.message.chars().take(200).collect();
            format!(
                "status {}: {}",
                status.code,
                message.replace(char::is_control, " ")
            )
        }
        other => other.to_string().chars().take(200).collect(),
    }
}

/// What may stand in a path: a DNS name.
fn is_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && !name.contains("..")
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

impl std::fmt::Debug for PodTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodTokens")
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}

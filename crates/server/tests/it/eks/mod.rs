//! The EKS API in process: signed requests in, statuses, codes and bodies out.

mod access_entries;
mod access_policies;
mod clients;
mod clusters;
mod dry_run;
mod operations;
mod permissions;
mod pod_identity;
mod pod_identity_clients;
mod protocol;
mod tags;
mod updates;

use countersign_store::records::AuthenticationMode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::*;

const VIEW: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";
const EDIT: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy";
const CLUSTER_ADMIN: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy";
const CONTROL_PLANE: &str = "arn:aws:iam::111122223333:role/control-plane";

/// What was answered.
#[derive(Debug)]
struct Reply {
    status: u16,
    /// `x-amzn-errortype`; empty for a success.
    code: String,
    body: Value,
    headers: http::HeaderMap,
}

impl Reply {
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// What is said beside the answer.
    fn warnings(&self) -> Vec<String> {
        let values = self.headers.get_all("x-countersign-warning").iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    /// The body of a success.
    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
    }

    /// An error with this code, and a message that begins with this text.
    #[track_caller]
    fn refused(&self, status: u16, code: &str, message: &str) {
        assert_eq!((self.status, &*self.code), (status, code), "{self:?}");
        assert!(self.message().starts_with(message), "{message}: {self:?}");
    }

    #[track_caller]
    fn invalid(&self, message: &str) {
        self.refused(400, "InvalidParameterException", message);
    }

    #[track_caller]
    fn not_found(&self, message: &str) {
        self.refused(404, "ResourceNotFoundException", message);
    }

    #[track_caller]
    fn denied(&self) {
        self.refused(403, "AccessDeniedException", "User: ");
    }
}

impl World {
    /// One request signed for EKS. `target` is path and query as they are on the wire.
    async fn eks(&self, keys: &Keys, method: &str, target: &str, body: &Value) -> Reply {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.rest((keys, "eks"), (method, target), body.as_bytes(), now())
            .await
    }

    async fn rest(
        &self,
        (keys, service): (&Keys, &str),
        (method, target): (&str, &str),
        body: &[u8],
        when: Timestamp,
    ) -> Reply {
        let headers = signed(keys, service, (method, target), body, when);
        self.unsigned(method, target, body, &headers).await
    }

    async fn unsigned(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
        headers: &[(String, String)],
    ) -> Reply {
        let (status, headers, bytes) = self.send_rest((method, target), body, headers).await;
        Reply {
            status,
            code: headers
                .get("x-amzn-errortype")
                .map_or_else(String::new, |code| code.to_str().unwrap().to_owned()),
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            headers,
        }
    }

    /// A cluster `name` in a mode, made by `ana`; its creator has no entry.
    async fn cluster(&self, name: &str, mode: AuthenticationMode) {
        if self
            .directory
            .snapshot()
            .role(self.account, "control-plane")
            .is_none()
        {
            self.role("control-plane", &trusts(ACCOUNT, ASSUME, ""))
                .await;
        }
        let body = create(
            name,
            json!({"accessConfig": {
                "authenticationMode": mode.as_str(),
                "bootstrapClusterCreatorAdminPermissions": mode == AuthenticationMode::ConfigMap,
            }}),
        );
        self.eks(&self.ana, "POST", "/clusters", &body).await.ok();
    }
}

/// The body of CreateCluster, with more members or other ones.
fn create(name: &str, more: Value) -> Value {
    let mut body = json!({
        "name": name,
        "roleArn": CONTROL_PLANE,
        "resourcesVpcConfig": {"subnetIds": ["subnet-1", "subnet-2"]},
    });
    for (member, value) in more.as_object().unwrap() {
        body[member] = value.clone();
    }
    body
}

/// The path of an entry, as SDKs write it.
fn entry(cluster: &str, principal: &str) -> String {
    format!("/clusters/{cluster}/access-entries/{}", escape(principal))
}

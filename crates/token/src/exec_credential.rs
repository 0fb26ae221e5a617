//! ExecCredential: what client-go passes to a credential plugin and what it wants back (authentication spec, section 6.2).

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Longest `KUBERNETES_EXEC_INFO` that is read; with cluster data it carries a CA bundle.
const MAX_EXEC_INFO: usize = 1 << 20;

/// The versions of `client.authentication.k8s.io` that exist or existed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ApiVersion {
    /// `v1`
    V1,
    /// `v1beta1`, used whenever the client does not tell.
    #[default]
    V1Beta1,
    /// `v1alpha1`, removed from current clients.
    V1Alpha1,
}

impl ApiVersion {
    /// The value of `apiVersion`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "client.authentication.k8s.io/v1",
            Self::V1Beta1 => "client.authentication.k8s.io/v1beta1",
            Self::V1Alpha1 => "client.authentication.k8s.io/v1alpha1",
        }
    }

    fn of(text: &str) -> Option<Self> {
        [Self::V1, Self::V1Beta1, Self::V1Alpha1]
            .into_iter()
            .find(|version| version.as_str() == text)
    }
}

/// Something to tell the person on stderr about `KUBERNETES_EXEC_INFO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It is not a JSON object.
    NotAnObject,
    /// It names a version that current clients no longer know.
    Deprecated,
    /// It names a version nobody knows.
    Unrecognized,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnObject => {
                "KUBERNETES_EXEC_INFO is not a JSON object; answering in client.authentication.k8s.io/v1beta1"
            }
            Self::Deprecated => {
                "the user entry of the kubeconfig uses client.authentication.k8s.io/v1alpha1, which current Kubernetes clients no longer have; write it anew with `countersign kubeconfig`"
            }
            Self::Unrecognized => {
                "KUBERNETES_EXEC_INFO names an unknown apiVersion; answering in client.authentication.k8s.io/v1beta1"
            }
        })
    }
}

/// What `KUBERNETES_EXEC_INFO` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecInfo {
    /// The version to answer in.
    pub api_version: ApiVersion,
    /// What to say on stderr, if anything.
    pub note: Option<Note>,
    /// `spec.interactive`: whether stdin is the person's. `None` if the client does not tell.
    pub interactive: Option<bool>,
    /// `spec.cluster.config.clusterID`: the cluster id in the extension `client.authentication.k8s.io/exec` of the kubeconfig's
    /// cluster, passed with `provideClusterInfo: true`. One user entry can serve many clusters with it.
    pub cluster_id: Option<String>,
}

impl ExecInfo {
    /// Reads the value of `KUBERNETES_EXEC_INFO`; unset and empty mean the same.
    ///
    /// | value | answered version |
    /// |---|---|
    /// | unset, empty, no `apiVersion` | v1beta1 |
    /// | v1, v1beta1 | the same |
    /// | v1alpha1 | the same, with a note |
    /// | not a JSON object, another version | v1beta1, with a note |
    #[must_use]
    pub fn parse(value: Option<&str>) -> Self {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Self::default();
        };
        let not_an_object = Self {
            note: Some(Note::NotAnObject),
            ..Self::default()
        };
        if value.len() > MAX_EXEC_INFO {
            return not_an_object;
        }
        let Ok(serde_json::Value::Object(object)) = serde_json::from_str(value) else {
            return not_an_object;
        };
        let (api_version, note) = match object.get("apiVersion") {
            None | Some(serde_json::Value::Null) => (ApiVersion::default(), None),
            Some(serde_json::Value::String(text)) if text.is_empty() => {
                (ApiVersion::default(), None)
            }
            Some(text) => match text.as_str().and_then(ApiVersion::of) {
                Some(ApiVersion::V1Alpha1) => (ApiVersion::V1Alpha1, Some(Note::Deprecated)),
                Some(version) => (version, None),
                None => (ApiVersion::default(), Some(Note::Unrecognized)),
            },
        };
        let spec = object.get("spec");
        let cluster_id = spec
            .and_then(|spec| spec.pointer("/cluster/config/clusterID"))
            .and_then(serde_json::Value::as_str)
            .filter(|id| !id.is_empty())
            .map(str::to_owned);
        Self {
            api_version,
            note,
            interactive: spec
                .and_then(|spec| spec.get("interactive"))
                .and_then(serde_json::Value::as_bool),
            cluster_id,
        }
    }
}

/// How `spec` is written; clients ignore it, people who compare outputs do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spec {
    /// `{"interactive":false}`, as `aws-iam-authenticator token` writes it.
    Interactive,
    /// `{}`, as `aws eks get-token` writes it.
    Empty,
}

/// The answer of a credential plugin. Keys are printed in the order kind, apiVersion, spec, status.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecCredential<'a> {
    kind: &'static str,
    api_version: &'static str,
    spec: SpecBody,
    status: Status<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SpecBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    interactive: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    expiration_timestamp: String,
    token: &'a str,
}

impl fmt::Debug for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("expiration_timestamp", &self.expiration_timestamp)
            .finish_non_exhaustive()
    }
}

impl<'a> ExecCredential<'a> {
    /// An answer with `token`, to be used until `expires_at` (printed in whole seconds, rounded down).
    #[must_use]
    pub fn new(api_version: ApiVersion, spec: Spec, expires_at: Timestamp, token: &'a str) -> Self {
        Self {
            kind: "ExecCredential",
            api_version: api_version.as_str(),
            spec: SpecBody {
                interactive: (spec == Spec::Interactive).then_some(false),
            },
            status: Status {
                expiration_timestamp: expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                token,
            },
        }
    }

    /// One line of JSON, without a line break.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        Zeroizing::new(serde_json::to_string(self).unwrap_or_default())
    }
}

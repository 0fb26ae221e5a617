//! What is known of a cluster's access configuration, as data: `countersign access list -o json` writes it,
//! `--entries FILE` reads it.
//!
//! Names and values are those of the EKS API where it has any. Unknown fields are passed over, so that a later version's
//! file can be read.

use std::collections::BTreeMap;
use std::fmt;

use countersign_access::{AccessScope, EntryType};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Version of everything that commands of access review write.
pub const API_VERSION: &str = "countersign.dev/v1";
const KIND: &str = "AccessSnapshot";

/// Largest file that is read; 3,000 entries with ten policies each have about 6 MiB.
pub const MAX_SNAPSHOT: usize = 64 << 20;

/// Access entries of a cluster with everything that decides about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessSnapshot {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `AccessSnapshot`.
    pub kind: String,
    /// The cluster.
    pub cluster: ClusterFacts,
    /// The entries in byte order of principal ARN.
    #[serde(default)]
    pub entries: Vec<EntryFacts>,
    /// The `data` of `kube-system/aws-auth`; empty if there is no such object, absent if it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_auth: Option<BTreeMap<String, String>>,
    /// Principals of IAM as they are now, where that was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<PrincipalFacts>,
    /// What should be here and could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete_reasons: Vec<String>,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// Its name.
    pub name: String,
    /// `arn:P:eks:R:A:cluster/NAME`, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// Where identities come from.
    pub authentication_mode: Mode,
    /// Who made it, where known: AWS does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<CreatorFacts>,
}

/// Who made a cluster, which in mode `CONFIG_MAP` is an administrator that no list shows (EKS API spec, section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatorFacts {
    /// IAM ARN with its path.
    pub principal_arn: String,
    /// Its unique id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
}

/// Which sources of identities a cluster has (EKS API spec, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// `aws-auth` only.
    #[serde(rename = "CONFIG_MAP")]
    ConfigMap,
    /// Access entries, then `aws-auth`.
    #[serde(rename = "API_AND_CONFIG_MAP")]
    ApiAndConfigMap,
    /// Access entries only.
    #[serde(rename = "API")]
    Api,
}

/// One access entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryFacts {
    /// The principal, with its IAM path, as it was given when the entry was made.
    pub principal_arn: String,
    /// The type.
    #[serde(rename = "type", default)]
    pub entry_type: EntryType,
    /// The username, a template.
    pub username: String,
    /// Groups.
    #[serde(default)]
    pub kubernetes_groups: Vec<String>,
    /// `arn:P:eks:R:A:access-entry/…`, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_entry_arn: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// When it was changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<Timestamp>,
    /// To which principal it belongs.
    #[serde(default)]
    pub binding: EntryBinding,
    /// Access policies in byte order of policy ARN.
    #[serde(default)]
    pub associated_access_policies: Vec<PolicyFacts>,
}

/// To which principal an entry belongs (EKS API spec, section 7.4). The ARN is for people; the unique id decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
pub enum EntryBinding {
    /// The principal with this id, which is there.
    Bound {
        /// `AROA…`, `AIDA…`, or the account id of root.
        principal_id: String,
    },
    /// The first principal that authenticates with this account, kind and name.
    Unbound,
    /// A principal that is gone: the entry lets nobody in.
    Dead {
        /// The id of the principal that is gone.
        principal_id: String,
        /// The principal that has the ARN's name now, if any has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        now_id: Option<String>,
    },
    /// Nobody told: AWS does not show it.
    #[default]
    Unknown,
}

/// An access policy of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyFacts {
    /// `arn:P:eks::aws:cluster-access-policy/NAME`
    pub policy_arn: String,
    /// Where it is in force.
    pub access_scope: ScopeFacts,
    /// When it was associated first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub associated_at: Option<Timestamp>,
    /// When its scope was set last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<Timestamp>,
}

/// An access scope as the EKS API writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopeFacts {
    /// `cluster` or `namespace`.
    #[serde(rename = "type")]
    pub kind: ScopeKind,
    /// Namespaces and patterns.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// The two kinds of scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeKind {
    /// Everything that the rules say.
    Cluster,
    /// Requests in the listed namespaces.
    Namespace,
}

/// A principal of IAM as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalFacts {
    /// ARN with its path, or as it was asked if there is no such principal.
    pub principal_arn: String,
    /// Its unique id; absent if there is no such principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
}

/// A file is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an access snapshot: expected `apiVersion: countersign.dev/v1` and `kind: AccessSnapshot`, found `{api_version}` and `{kind}`"
)]
pub struct NotASnapshot {
    /// What it says of its version.
    pub api_version: String,
    /// What it says of its kind.
    pub kind: String,
}

impl AccessSnapshot {
    /// A snapshot without entries.
    #[must_use]
    pub fn new(cluster: ClusterFacts) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            cluster,
            entries: Vec::new(),
            aws_auth: None,
            principals: Vec::new(),
            incomplete_reasons: Vec::new(),
        }
    }

    /// The same snapshot, once its kind and version are checked and its lists are in order.
    ///
    /// # Errors
    /// When it says that it is something else.
    pub fn checked(mut self) -> Result<Self, NotASnapshot> {
        if self.api_version != API_VERSION || self.kind != KIND {
            let shown = |text: &str| text.chars().take(64).collect();
            return Err(NotASnapshot {
                api_version: shown(&self.api_version),
                kind: shown(&self.kind),
            });
        }
        self.entries
            .sort_by(|a, b| a.principal_arn.cmp(&b.principal_arn));
        for entry in &mut self.entries {
            // The order in which policies are asked (section 9.3).
            entry
                .associated_access_policies
                .sort_by(|a, b| a.policy_arn.cmp(&b.policy_arn));
        }
        Ok(self)
    }
}

impl Mode {
    /// The word the EKS API has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "CONFIG_MAP",
            Self::ApiAndConfigMap => "API_AND_CONFIG_MAP",
            Self::Api => "API",
        }
    }

    /// Whether access entries are asked.
    #[must_use]
    pub const fn reads_entries(self) -> bool {
        !matches!(self, Self::ConfigMap)
    }

    /// Whether `aws-auth` is asked.
    #[must_use]
    pub const fn reads_config_map(self) -> bool {
        !matches!(self, Self::Api)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl EntryBinding {
    /// One word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Bound { .. } => "bound",
            Self::Unbound => "unbound",
            Self::Dead { .. } => "dead",
            Self::Unknown => "unknown",
        }
    }

    /// The id that a caller must have, if the entry is bound to one.
    #[must_use]
    pub fn principal_id(&self) -> Option<&str> {
        match self {
            Self::Bound { principal_id } | Self::Dead { principal_id, .. } => Some(principal_id),
            Self::Unbound | Self::Unknown => None,
        }
    }
}

/// `bound AROA1`, `dead AROA1 (now AROA2)`
impl fmt::Display for EntryBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound { principal_id } => write!(f, "bound {principal_id}"),
            Self::Dead {
                principal_id,
                now_id: Some(now),
            } => write!(f, "dead {principal_id} (now {now})"),
            Self::Dead {
                principal_id,
                now_id: None,
            } => write!(f, "dead {principal_id} (gone)"),
            Self::Unbound | Self::Unknown => f.write_str(self.as_str()),
        }
    }
}

impl PolicyFacts {
    /// The name at the end of the ARN.
    #[must_use]
    pub fn name(&self) -> &str {
        policy_name(&self.policy_arn)
    }
}

/// The name at the end of a policy's ARN.
#[must_use]
pub fn policy_name(arn: &str) -> &str {
    arn.rsplit_once('/').map_or(arn, |(_, name)| name)
}

impl ScopeFacts {
    /// As the decision takes it.
    #[must_use]
    pub fn to_scope(&self) -> AccessScope {
        match self.kind {
            ScopeKind::Cluster => AccessScope::Cluster,
            ScopeKind::Namespace => {
                AccessScope::Namespace(self.namespaces.iter().map(|n| n.as_str().into()).collect())
            }
        }
    }
}

impl From<&AccessScope> for ScopeFacts {
    fn from(scope: &AccessScope) -> Self {
        match scope {
            AccessScope::Cluster => Self {
                kind: ScopeKind::Cluster,
                namespaces: Vec::new(),
            },
            AccessScope::Namespace(namespaces) => Self {
                kind: ScopeKind::Namespace,
                namespaces: namespaces.iter().map(|n| n.to_string()).collect(),
            },
        }
    }
}

/// `cluster`, or the namespaces.
impl fmt::Display for ScopeFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ScopeKind::Cluster => f.write_str("cluster"),
            ScopeKind::Namespace => f.write_str(&self.namespaces.join(",")),
        }
    }
}

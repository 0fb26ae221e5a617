//! What is known, and what could not be found out.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::sessions::{SessionSettings, is_pattern};

/// Something that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is there.
    Known(T),
    /// It is known not to be there.
    Missing,
    /// It could not be found out, with the reason.
    Unread(String),
    /// Nobody asked, since nothing depended on it.
    #[default]
    Unasked,
}

impl<T> Fact<T> {
    /// The value, if it is known.
    #[must_use]
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Missing | Self::Unread(_) | Self::Unasked => None,
        }
    }

    /// Why it is not known, where nobody knows.
    #[must_use]
    pub fn unread(&self) -> Option<&str> {
        match self {
            Self::Unread(reason) => Some(reason),
            Self::Unasked => Some("it was not asked for"),
            Self::Known(_) | Self::Missing => None,
        }
    }
}

/// A cluster of the EKS API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// `identity.oidc.issuer`, with its scheme.
    pub issuer: Option<String>,
}

impl ClusterFacts {
    /// A field of the ARN: 1 the partition, 3 the region, 4 the account.
    fn field(&self, at: usize) -> &str {
        self.arn.split(':').nth(at).unwrap_or_default()
    }

    /// The partition, `aws` where the ARN does not tell.
    #[must_use]
    pub fn partition(&self) -> &str {
        match self.field(1) {
            "" => "aws",
            partition => partition,
        }
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        self.field(3)
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> &str {
        self.field(4)
    }

    /// The issuer without its scheme: the prefix of condition keys, and the end of the provider's ARN.
    #[must_use]
    pub fn issuer_path(&self) -> Option<&str> {
        self.issuer.as_deref()?.strip_prefix("https://")
    }

    /// The ARN that the provider of this cluster's issuer has in an account.
    #[must_use]
    pub fn provider_arn(&self, account: &str) -> Option<String> {
        let issuer = self.issuer_path()?;
        let partition = self.partition();
        Some(format!(
            "arn:{partition}:iam::{account}:oidc-provider/{issuer}"
        ))
    }
}

/// A service account, with its annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl AccountFacts {
    /// Reads a ServiceAccount; absent members are empty.
    #[must_use]
    pub fn of_object(object: &serde_json::Value) -> Self {
        let metadata = object.get("metadata");
        let text = |name: &str| {
            let value = metadata.and_then(|metadata| metadata.get(name));
            value
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            namespace: text("namespace"),
            name: text("name"),
            annotations: crate::pod::string_map(metadata.and_then(|m| m.get("annotations"))),
        }
    }

    /// The role of the annotation; an empty one is none.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        let role = self.annotations.get(crate::ROLE_ANNOTATION)?;
        Some(role.as_str()).filter(|role| !role.is_empty())
    }
}

/// An association of EKS Pod Identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociationFacts {
    /// `a-` and 17 characters.
    pub id: String,
    /// The namespace, or a pattern.
    pub namespace: String,
    /// The service account, or a pattern.
    pub service_account: String,
    /// The role.
    pub role_arn: String,
    /// The role of the second hop.
    pub target_role_arn: Option<String>,
    /// What is sent as `sts:ExternalId` on the second hop.
    pub external_id: Option<String>,
    /// Whether sessions carry no tags.
    pub disable_session_tags: bool,
    /// The session policy.
    pub policy: Option<String>,
    /// The add-on that owns it.
    pub owner_arn: Option<String>,
    /// Seconds since 1970 at which it was made.
    pub created_at: Option<i64>,
    /// What it says of sessions beyond what EKS knows.
    #[serde(flatten)]
    pub sessions: SessionSettings,
}

impl AssociationFacts {
    /// `NAMESPACE/NAME` as it stands in the association, when one of them is a pattern.
    #[must_use]
    pub fn pattern(&self) -> Option<String> {
        (is_pattern(&self.namespace) || is_pattern(&self.service_account))
            .then(|| format!("{}/{}", self.namespace, self.service_account))
    }
}

/// A role of IAM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleFacts {
    /// Its ARN, with the path.
    pub arn: String,
    /// Its trust policy, decoded.
    pub trust: String,
    /// Its tags.
    pub tags: Vec<(String, String)>,
}

/// An OpenID Connect provider of IAM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderFacts {
    /// Its ARN.
    pub arn: String,
    /// `ClientIDList`: the audiences it takes.
    pub client_ids: Vec<String>,
}

/// The agent of EKS Pod Identity on the pod's node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentFacts {
    /// Namespace and name of the agent's pod.
    pub pod: String,
    /// Whether it is ready.
    pub ready: bool,
}

/// The account and name of a role ARN.
#[must_use]
pub(crate) fn role_parts(arn: &str) -> Option<(&str, &str)> {
    if !countersign_pods::is_role_arn(arn) {
        return None;
    }
    let account = arn.split(':').nth(4)?;
    let name = arn.rsplit('/').next()?;
    Some((account, name))
}

//! Pod identity associations of clusters (EKS API spec, section 10).

use countersign_arn::{AccountId, Tag};
use countersign_session::{InvalidPodSessions, PodSessions};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plain::{self, Plain};
use super::{Cluster, DecodeError, RecordKey, is_pattern};
use crate::Value;

/// The IAM role that the pods of a service account get.
///
/// The key has the cluster's id, so that a new cluster of the same name has none, and namespace and service account, of
/// which a cluster has at most one association. There is no external id in it: see [`external_id`](Self::external_id).
///
/// Namespace and service account may be patterns, which EKS does not know: see
/// [`is_pattern`](super::is_pattern). Nor does EKS know what [`sessions`](Self::sessions) says. A version of this program that
/// knows neither reads no record that has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodIdentityAssociation {
    /// The account of the cluster.
    pub account: AccountId,
    /// The [id](Cluster::id) of the cluster.
    pub cluster_id: Box<str>,
    /// `a-` and 17 lower-case letters or digits; another one when the association is made again.
    pub id: Box<str>,
    /// The Kubernetes namespace, or a pattern.
    pub namespace: Box<str>,
    /// The Kubernetes service account, or a pattern.
    pub service_account: Box<str>,
    /// ARN of the role, in the account of the cluster.
    pub role_arn: Box<str>,
    /// ARN of the role that is assumed with the credentials of the first, in any account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_role_arn: Option<Box<str>>,
    /// Whether sessions go without the six tags; `None` when it was never said, and then they have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_session_tags: Option<bool>,
    /// Session policy, as it was given. Only there while session tags are disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<str>>,
    /// ARN of the add-on that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_arn: Option<Box<str>>,
    /// What it says of sessions beyond what EKS knows.
    #[serde(default, skip_serializing_if = "PodSessions::is_empty")]
    pub sessions: PodSessions,
    /// Tags, keys unique with case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed; tags do not count.
    pub modified: Timestamp,
}

impl PodIdentityAssociation {
    /// `arn:P:eks:R:A:podidentityassociation/CLUSTER/ID`
    #[must_use]
    pub fn arn(&self, cluster: &Cluster) -> String {
        format!(
            "arn:{}:eks:{}:{}:podidentityassociation/{}/{}",
            cluster.partition, cluster.region, cluster.account, cluster.name, self.id
        )
    }

    /// What the target role may ask for as `sts:ExternalId`: `REGION/ACCOUNT/CLUSTER/NAMESPACE/SERVICE_ACCOUNT`; `None`
    /// without a target role.
    ///
    /// It is sent when session tags are disabled, and shown whenever there is a target role (EKS API spec, section 10.3).
    /// It depends on nothing that can change, so it is not stored. Of an association with patterns it shows these, as a
    /// `StringLike` test in a trust policy would have them; what is sent has the pod's own names
    /// ([`external_id_of`](Self::external_id_of)), since STS takes no `*`.
    #[must_use]
    pub fn external_id(&self, cluster: &Cluster) -> Option<String> {
        self.external_id_of(cluster, &self.namespace, &self.service_account)
    }

    /// What is sent as `sts:ExternalId` for a pod of this service account.
    #[must_use]
    pub fn external_id_of(
        &self,
        cluster: &Cluster,
        namespace: &str,
        service_account: &str,
    ) -> Option<String> {
        self.target_role_arn.as_ref()?;
        Some(format!(
            "{}/{}/{}/{namespace}/{service_account}",
            cluster.region, cluster.account, cluster.name
        ))
    }

    /// Whether it is for more than one service account.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        is_pattern(&self.namespace) || is_pattern(&self.service_account)
    }

    /// Whether what it says of sessions goes together.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check_sessions(&self) -> Result<(), InvalidPodSessions> {
        self.sessions
            .check(!self.has_session_tags(), self.target_role_arn.is_some())
    }

    /// Whether sessions carry tags.
    #[must_use]
    pub fn has_session_tags(&self) -> bool {
        !self.disable_session_tags.unwrap_or(false)
    }

    /// The key that it is stored under.
    #[must_use]
    pub fn key(&self) -> RecordKey<'_> {
        RecordKey::PodIdentityAssociation {
            account: self.account,
            cluster_id: &self.cluster_id,
            namespace: &self.namespace,
            service_account: &self.service_account,
        }
    }

    pub(super) fn decode(
        account: AccountId,
        rest: &str,
        value: &[u8],
    ) -> Result<Self, DecodeError> {
        let association: Self = plain::decode(Some(account), rest, value)?;
        // Whoever wrote it meant sessions to be limited; a session with tags would not be.
        if association.policy.is_some() && association.has_session_tags() {
            return Err(DecodeError::Malformed {
                what: "it has a session policy while session tags are on".to_owned(),
            });
        }
        association
            .check_sessions()
            .map_err(|invalid| DecodeError::Malformed {
                what: invalid.to_string(),
            })?;
        Ok(association)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        plain::encode(self)
    }
}

impl Plain for PodIdentityAssociation {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        let mut parts = rest.splitn(3, '/');
        account == Some(self.account)
            && parts.next() == Some(&*self.cluster_id)
            && parts.next() == Some(&*self.namespace)
            && parts.next() == Some(&*self.service_account)
    }
}

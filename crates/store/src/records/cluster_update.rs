//! Changes of clusters that callers may follow (EKS API spec, section 6).

use countersign_arn::AccountId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::plain::{self, Plain};
use crate::Value;

/// A change of a cluster's configuration, or of an add-on's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterUpdate {
    /// The account of the cluster.
    pub account: AccountId,
    /// The [id](super::Cluster::id) of the cluster.
    pub cluster_id: Box<str>,
    /// The add-on that was changed, for an update that is of one and not of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon: Option<Box<str>>,
    /// A UUID.
    pub id: Box<str>,
    /// EKS's word for what was changed, such as `AccessConfigUpdate`.
    pub kind: Box<str>,
    /// `params`: type and value, in the order they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(Box<str>, Box<str>)>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it is over.
    pub settles: Timestamp,
    /// What it comes to when it is over.
    pub outcome: UpdateStatus,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<UpdateError>,
}

/// The state of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UpdateStatus {
    /// It is under way.
    InProgress,
    /// It failed; its errors say why.
    Failed,
    /// It was called off.
    Cancelled,
    /// It is done.
    Successful,
}

impl UpdateStatus {
    /// The word the EKS API has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "InProgress",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Successful => "Successful",
        }
    }
}

/// Why an update failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateError {
    /// `errorCode`
    pub code: Box<str>,
    /// `errorMessage`
    pub message: Box<str>,
    /// `resourceIds`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_ids: Vec<Box<str>>,
}

impl ClusterUpdate {
    /// Its state at `now`. The answer to the call that started it says [`UpdateStatus::InProgress`] in any case.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> UpdateStatus {
        if now < self.settles {
            UpdateStatus::InProgress
        } else {
            self.outcome
        }
    }

    pub(super) fn decode(
        account: AccountId,
        rest: &str,
        value: &[u8],
    ) -> Result<Self, DecodeError> {
        plain::decode(Some(account), rest, value)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        plain::encode(self)
    }
}

impl Plain for ClusterUpdate {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account)
            && rest.split_once('/') == Some((&*self.cluster_id, &*self.id))
    }
}

//! Add-ons of clusters (EKS API spec, section 14).

use countersign_arn::{AccountId, Tag};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plain::{self, Plain};
use super::{Cluster, ClusterStatus, DecodeError, LatestUpdate};
use crate::Value;

/// An add-on of one cluster, as it was asked for. Nothing is installed by the record.
///
/// The key has the cluster's id and the add-on's name. The pod identity associations that it owns are records of their own,
/// which name its ARN as their owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addon {
    /// The account of the cluster.
    pub account: AccountId,
    /// The [id](Cluster::id) of the cluster.
    pub cluster_id: Box<str>,
    /// The name, one of the catalogue's.
    pub name: Box<str>,
    /// What ends the add-on's ARN; another one when the add-on is made again.
    pub uuid: Box<str>,
    /// `vX.Y.Z-eksbuild.N`
    pub version: Box<str>,
    /// `serviceAccountRoleArn`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_role_arn: Option<Box<str>>,
    /// `configurationValues`, as they were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_values: Option<Box<str>>,
    /// The namespace it is in, when one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Box<str>>,
    /// Tags, keys unique with case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last updated; tags do not count.
    pub modified: Timestamp,
    /// Until when it is being created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settles: Option<Timestamp>,
    /// Its latest update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<LatestUpdate>,
    /// Set while it is being deleted: when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Timestamp>,
}

impl Addon {
    /// `arn:P:eks:R:A:addon/CLUSTER/NAME/UUID`
    #[must_use]
    pub fn arn(&self, cluster: &Cluster) -> String {
        format!(
            "arn:{}:eks:{}:{}:addon/{}/{}/{}",
            cluster.partition, cluster.region, cluster.account, cluster.name, self.name, self.uuid
        )
    }

    /// Its state at `now`: `CREATING`, `ACTIVE`, `UPDATING` or `DELETING`; `None` when it is gone and its record only waits
    /// to be swept. The answers to the calls that create and delete it say so in any case.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Option<ClusterStatus> {
        if let Some(gone) = self.deleting {
            return (now < gone).then_some(ClusterStatus::Deleting);
        }
        Some(if self.settles.is_some_and(|settles| now < settles) {
            ClusterStatus::Creating
        } else if self.running_update(now).is_some() {
            ClusterStatus::Updating
        } else {
            ClusterStatus::Active
        })
    }

    /// The update that is under way at `now`.
    #[must_use]
    pub fn running_update(&self, now: Timestamp) -> Option<&LatestUpdate> {
        self.update.as_ref().filter(|update| now < update.settles)
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

impl Plain for Addon {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account)
            && rest.split_once('/') == Some((&*self.cluster_id, &*self.name))
    }
}

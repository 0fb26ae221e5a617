//! OIDC identity provider configs of clusters: whose tokens of people are taken (EKS API spec, section 12).

use std::collections::BTreeMap;

use countersign_arn::{AccountId, Tag};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plain::{self, Plain};
use super::{Cluster, ClusterStatus, DecodeError};
use crate::Value;

/// An issuer whose tokens authenticate people to one cluster.
///
/// The key has the cluster's id, so that a new cluster of the same name has none, and the name. There is no change of one:
/// only its tags, and that it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityProviderConfig {
    /// The account of the cluster.
    pub account: AccountId,
    /// The [id](Cluster::id) of the cluster.
    pub cluster_id: Box<str>,
    /// The name, unique in the cluster, with case.
    pub name: Box<str>,
    /// What ends the config's ARN; another one when the config is made again.
    pub uuid: Box<str>,
    /// The issuer, unique in the cluster, byte for byte.
    pub issuer_url: Box<str>,
    /// What tokens must have among their audiences.
    pub client_id: Box<str>,
    /// The claim that is the username; `None` is `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_claim: Option<Box<str>>,
    /// What usernames begin with, as it was given: `-` is nothing, `None` is the default of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_prefix: Option<Box<str>>,
    /// The claim that has the groups; without it there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<Box<str>>,
    /// What groups begin with, as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_prefix: Option<Box<str>>,
    /// Claims that must be there and have this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub required_claims: BTreeMap<Box<str>, Box<str>>,
    /// Tags, keys unique with case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it is shown as being created; it is in force at once all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settles: Option<Timestamp>,
    /// Set while it is being deleted: when it is gone. It lets nobody in meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Timestamp>,
}

impl IdentityProviderConfig {
    /// `arn:P:eks:R:A:identityproviderconfig/CLUSTER/oidc/NAME/UUID`
    #[must_use]
    pub fn arn(&self, cluster: &Cluster) -> String {
        format!(
            "arn:{}:eks:{}:{}:identityproviderconfig/{}/oidc/{}/{}",
            cluster.partition, cluster.region, cluster.account, cluster.name, self.name, self.uuid
        )
    }

    /// Its state at `now`: `CREATING`, `ACTIVE` or `DELETING`; `None` when it is gone and its record only waits to be swept.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Option<ClusterStatus> {
        match (self.deleting, self.settles) {
            (Some(gone), _) => (now < gone).then_some(ClusterStatus::Deleting),
            (None, Some(settles)) if now < settles => Some(ClusterStatus::Creating),
            (None, _) => Some(ClusterStatus::Active),
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

impl Plain for IdentityProviderConfig {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account)
            && rest.split_once('/') == Some((&*self.cluster_id, &*self.name))
    }
}

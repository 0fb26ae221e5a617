//! Registered clusters.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use countersign_arn::{AccountId, Partition, Tag};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Body, ClusterSettings, DecodeError, decode_body, encode_body, no_items};
use crate::Value;

/// A Kubernetes cluster whose identities Countersign manages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The account it belongs to.
    pub account: AccountId,
    /// Partition of its account.
    pub partition: Partition,
    /// The region it belongs to.
    pub region: Box<str>,
    /// The name, unique per account and region.
    pub name: Box<str>,
    /// 32 upper-case hexadecimal digits; another one when a cluster of the same name is made again.
    pub id: Box<str>,
    /// Where identities come from.
    pub authentication_mode: AuthenticationMode,
    /// Whether the creator was made administrator at creation; never changes (EKS API spec, section 4.2).
    pub bootstrap_creator_admin: bool,
    /// Who created it.
    pub creator: Creator,
    /// URL of the Kubernetes API, once known.
    pub endpoint: Option<Box<str>>,
    /// CA certificates of the Kubernetes API as PEM, once known.
    pub certificate_authority: Option<Box<str>>,
    /// ARN of the IAM role of the control plane, if one was given.
    pub role_arn: Option<Box<str>>,
    /// Kubernetes version as `1.NN`, if one was given.
    pub version: Option<Box<str>>,
    /// Tags, keys unique with case.
    pub tags: Vec<Tag>,
    /// Whether DeleteCluster is refused.
    pub deletion_protection: bool,
    /// Everything else that was given.
    pub settings: ClusterSettings,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it is being created; `None` for a cluster that was there at once.
    pub settles: Option<Timestamp>,
    /// The latest update.
    pub update: Option<LatestUpdate>,
    /// Set while it is being deleted: when it is gone. Nobody gets in meanwhile.
    pub deleting: Option<Timestamp>,
}

/// The latest update of a cluster, which may be under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatestUpdate {
    /// The id of the [`ClusterUpdate`](super::ClusterUpdate).
    pub id: Box<str>,
    /// When it is over.
    pub settles: Timestamp,
}

/// Where a cluster is in its life (EKS API spec, section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterStatus {
    /// It was made a moment ago.
    Creating,
    /// Nothing is under way.
    Active,
    /// An update is under way.
    Updating,
    /// It is being deleted.
    Deleting,
}

impl ClusterStatus {
    /// The word the EKS API has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }
}

/// The permanent identity behind the call that created a cluster: a user, a role with its path, or the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Creator {
    /// IAM ARN with the path.
    pub principal_arn: Box<str>,
    /// `AIDA…`, `AROA…`, or the account id for root: a recreated principal of the same ARN is not the creator.
    pub principal_id: Box<str>,
}

/// Which sources of identities a cluster has (authentication spec, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AuthenticationMode {
    /// The `aws-auth` ConfigMap only.
    #[serde(rename = "CONFIG_MAP")]
    ConfigMap,
    /// Access entries first, then `aws-auth`.
    #[serde(rename = "API_AND_CONFIG_MAP")]
    ApiAndConfigMap,
    /// Access entries only.
    #[serde(rename = "API")]
    Api,
}

/// The text is none of the three modes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown authentication mode `{0}`; one of CONFIG_MAP, API_AND_CONFIG_MAP, API")]
pub struct UnknownAuthenticationMode(pub String);

impl AuthenticationMode {
    /// The word the EKS API has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "CONFIG_MAP",
            Self::ApiAndConfigMap => "API_AND_CONFIG_MAP",
            Self::Api => "API",
        }
    }

    /// Whether EKS changes from this mode to `next`: one step forward, never back, never over a step.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::ConfigMap, Self::ApiAndConfigMap) | (Self::ApiAndConfigMap, Self::Api)
        )
    }
}

impl fmt::Display for AuthenticationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AuthenticationMode {
    type Err = UnknownAuthenticationMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::ConfigMap, Self::ApiAndConfigMap, Self::Api]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| UnknownAuthenticationMode(text.chars().take(64).collect()))
    }
}

impl Cluster {
    /// `arn:P:eks:R:A:cluster/NAME`
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:{}:eks:{}:{}:cluster/{}",
            self.partition, self.region, self.account, self.name
        )
    }

    /// Its state at `now`; `None` when it is gone and its record only waits to be swept. The answers to the calls that
    /// create and delete it say so in any case.
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
        region: &str,
        name: &str,
        value: &[u8],
    ) -> Result<Self, DecodeError> {
        let body: ClusterBody<'_> = decode_body(value)?;
        Ok(Self {
            account,
            partition: body.partition,
            region: region.into(),
            name: name.into(),
            id: body.id.into(),
            authentication_mode: body.authentication_mode,
            bootstrap_creator_admin: body.bootstrap_creator_admin,
            creator: body.creator.into_owned(),
            endpoint: body.endpoint.map(Into::into),
            certificate_authority: body.certificate_authority.map(Into::into),
            role_arn: body.role_arn.map(Into::into),
            version: body.version.map(Into::into),
            tags: body.tags.into_owned(),
            deletion_protection: body.deletion_protection,
            settings: body.settings.into_owned(),
            created: body.created,
            settles: body.settles,
            update: body.update.map(Cow::into_owned),
            deleting: body.deleting,
        })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&ClusterBody {
            v: ClusterBody::VERSION,
            partition: self.partition,
            id: (*self.id).into(),
            authentication_mode: self.authentication_mode,
            bootstrap_creator_admin: self.bootstrap_creator_admin,
            creator: Cow::Borrowed(&self.creator),
            endpoint: self.endpoint.as_deref().map(Into::into),
            certificate_authority: self.certificate_authority.as_deref().map(Into::into),
            role_arn: self.role_arn.as_deref().map(Into::into),
            version: self.version.as_deref().map(Into::into),
            tags: self.tags.as_slice().into(),
            deletion_protection: self.deletion_protection,
            settings: Cow::Borrowed(&self.settings),
            created: self.created,
            settles: self.settles,
            update: self.update.as_ref().map(Cow::Borrowed),
            deleting: self.deleting,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterBody<'a> {
    v: u32,
    #[serde(default)]
    partition: Partition,
    #[serde(borrow)]
    id: Cow<'a, str>,
    authentication_mode: AuthenticationMode,
    bootstrap_creator_admin: bool,
    creator: Cow<'a, Creator>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    certificate_authority: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    role_arn: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    version: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "no_items")]
    tags: Cow<'a, [Tag]>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deletion_protection: bool,
    #[serde(default, skip_serializing_if = "ClusterSettings::is_default")]
    settings: Cow<'a, ClusterSettings>,
    created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settles: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update: Option<Cow<'a, LatestUpdate>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleting: Option<Timestamp>,
}

impl Body for ClusterBody<'_> {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

//! Registered clusters.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use countersign_arn::{AccountId, Partition};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, decode_body, encode_body};
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
    /// When it was made.
    pub created: Timestamp,
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
            created: body.created,
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
            created: self.created,
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
    created: Timestamp,
}

impl Body for ClusterBody<'_> {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

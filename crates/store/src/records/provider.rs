//! Identity providers: OpenID Connect and SAML.

use countersign_arn::{AccountId, Partition, Tag};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::plain::{self, Plain};
use crate::Value;

/// An OpenID Connect provider (IAM API spec, section 4.10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProvider {
    /// The account it lives in.
    pub account: AccountId,
    /// Partition of its account.
    pub partition: Partition,
    /// The issuer's URL without `https://`, host in lower case.
    pub url: Box<str>,
    /// Audiences that are accepted, in the order they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_ids: Vec<Box<str>>,
    /// SHA-1 of CA certificates, 40 hexadecimal digits each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thumbprints: Vec<Box<str>>,
    /// When it was made.
    pub created: Timestamp,
    /// Tags, keys unique ignoring case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

impl OidcProvider {
    /// `arn:P:iam::A:oidc-provider/host/path`
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:{}:iam::{}:oidc-provider/{}",
            self.partition, self.account, self.url
        )
    }

    pub(super) fn decode(account: AccountId, url: &str, value: &[u8]) -> Result<Self, DecodeError> {
        plain::decode(Some(account), url, value)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        plain::encode(self)
    }
}

impl Plain for OidcProvider {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account) && *self.url == *rest
    }
}

/// A SAML provider (IAM API spec, section 4.15).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamlProvider {
    /// The account it lives in.
    pub account: AccountId,
    /// Partition of its account.
    pub partition: Partition,
    /// The name, with case.
    pub name: Box<str>,
    /// What GetSAMLProvider shows as its UUID.
    pub uuid: Box<str>,
    /// The metadata document, deflated, in base64: a value has to fit into the store.
    pub document: Box<str>,
    /// When it was made.
    pub created: Timestamp,
    /// When the metadata ceases to be good.
    pub valid_until: Timestamp,
    /// Tags, keys unique ignoring case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

impl SamlProvider {
    /// `arn:P:iam::A:saml-provider/Name`
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:{}:iam::{}:saml-provider/{}",
            self.partition, self.account, self.name
        )
    }

    pub(super) fn decode(
        account: AccountId,
        name: &str,
        value: &[u8],
    ) -> Result<Self, DecodeError> {
        plain::decode(Some(account), name, value)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        plain::encode(self)
    }
}

impl Plain for SamlProvider {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account) && *self.name == *rest
    }
}

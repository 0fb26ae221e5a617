//! Managed policies: those of customers, and those of AWS that were imported.

use aws_lc_rs::digest;
use countersign_arn::{AccountId, Partition, Tag};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plain::{self, Plain};
use super::{DecodeError, fold_name};
use crate::Value;

/// A customer managed policy (IAM API spec, section 4.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedPolicy {
    /// The account it lives in.
    pub account: AccountId,
    /// Partition of its account.
    pub partition: Partition,
    /// The name with the case that was given; the key has it in lower case.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// `ANPA…`
    pub id: Box<str>,
    /// When it was made.
    pub created: Timestamp,
    /// When its newest version was made, or its default version changed.
    pub updated: Timestamp,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Box<str>>,
    /// Tags, keys unique with case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// At least one, in the order they were made.
    pub versions: Vec<PolicyVersion>,
    /// Number of the version in force.
    pub default_version: u32,
    /// Number that the next version gets; numbers are never used again.
    pub next_version: u32,
}

/// A version of a managed policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyVersion {
    /// 3 for `v3`.
    pub number: u32,
    /// When it was made.
    pub created: Timestamp,
    /// The exact text.
    pub document: Box<str>,
}

/// A managed policy of AWS that was imported. It belongs to no account, and its ARN has the partition of who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsPolicy {
    /// The name, with case; unique over all paths.
    pub name: Box<str>,
    /// `/`, `/service-role/`, `/aws-service-role/`, `/job-function/`, …
    pub path: Box<str>,
    /// `ANPA…`
    pub id: Box<str>,
    /// When AWS made it.
    pub created: Timestamp,
    /// When AWS made its default version.
    pub updated: Timestamp,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Box<str>>,
    /// Those that were imported, in the order of their numbers.
    pub versions: Vec<PolicyVersion>,
    /// Number of the version in force.
    pub default_version: u32,
}

fn version(versions: &[PolicyVersion], number: u32) -> Option<&PolicyVersion> {
    versions.iter().find(|version| version.number == number)
}

impl ManagedPolicy {
    /// `arn:P:iam::A:policy/path/Name`
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:{}:iam::{}:policy{}{}",
            self.partition, self.account, self.path, self.name
        )
    }

    /// The version with this number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&PolicyVersion> {
        version(&self.versions, number)
    }

    /// The document in force. Empty, and so of no use to anybody, when the default version is missing.
    #[must_use]
    pub fn default_document(&self) -> &str {
        self.version(self.default_version)
            .map_or("", |version| &version.document)
    }

    pub(super) fn decode(
        account: AccountId,
        folded: &str,
        value: &[u8],
    ) -> Result<Self, DecodeError> {
        plain::decode(Some(account), folded, value)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        plain::encode(self)
    }
}

impl Plain for ManagedPolicy {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account) && fold_name(&self.name) == rest
    }
}

impl AwsPolicy {
    /// An id for a policy of AWS whose own id is not known. It follows from the name and is the same everywhere.
    #[must_use]
    pub fn stand_in_id(name: &str) -> String {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        let letters = digest.as_ref().iter().take(17).filter_map(|byte| {
            let letter = ALPHABET.get(usize::from(byte % 32))?;
            Some(char::from(*letter))
        });
        "ANPA".chars().chain(letters).collect()
    }

    /// When AWS made its first managed policies: the date of a policy of AWS whose own date is not known.
    #[must_use]
    pub fn unknown_date() -> Timestamp {
        Timestamp::from_second(1_423_247_986).unwrap_or_default()
    }

    /// `policy/path/Name`, what follows `arn:P:iam::aws:`.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("policy{}{}", self.path, self.name)
    }

    /// The version with this number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&PolicyVersion> {
        version(&self.versions, number)
    }

    /// The document in force. Empty when the default version is missing.
    #[must_use]
    pub fn default_document(&self) -> &str {
        self.version(self.default_version)
            .map_or("", |version| &version.document)
    }

    pub(super) fn decode(name: &str, value: &[u8]) -> Result<Self, DecodeError> {
        plain::decode(None, name, value)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        plain::encode(self)
    }
}

impl Plain for AwsPolicy {
    fn belongs_to(&self, _: Option<AccountId>, rest: &str) -> bool {
        *self.name == *rest
    }
}

//! Instance profiles.

use countersign_arn::{AccountId, Partition, Tag};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plain::{self, Plain};
use super::{DecodeError, fold_name};
use crate::Value;

/// An instance profile (IAM API spec, section 4.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceProfile {
    /// The account it lives in.
    pub account: AccountId,
    /// Partition of its account.
    pub partition: Partition,
    /// The name with the case that was given; the key has it in lower case.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// `AIPA…`
    pub id: Box<str>,
    /// When it was made.
    pub created: Timestamp,
    /// Unique id of its role, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Box<str>>,
    /// Tags, keys unique ignoring case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

impl InstanceProfile {
    /// `arn:P:iam::A:instance-profile/path/Name`
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:{}:iam::{}:instance-profile{}{}",
            self.partition, self.account, self.path, self.name
        )
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

impl Plain for InstanceProfile {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account) && fold_name(&self.name) == rest
    }
}

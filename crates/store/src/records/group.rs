//! IAM groups.

use countersign_arn::{AccountId, Partition};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plain::{self, Plain};
use super::{DecodeError, InlinePolicy, fold_name};
use crate::Value;

/// An IAM group (IAM API spec, section 2.1). Who is in it stands in the users' records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The account it lives in.
    pub account: AccountId,
    /// Partition of its account.
    pub partition: Partition,
    /// The name with the case that was given; the key has it in lower case.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// `AGPA…`
    pub id: Box<str>,
    /// When it was made.
    pub created: Timestamp,
    /// Inline identity policies, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<InlinePolicy>,
    /// ARNs of attached managed policies, in the order they were attached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<Box<str>>,
}

impl Group {
    /// `arn:P:iam::A:group/path/Name`
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:{}:iam::{}:group{}{}",
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

impl Plain for Group {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account) && fold_name(&self.name) == rest
    }
}

//! Virtual MFA devices.

use countersign_arn::{AccountId, Partition, Tag};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::plain::{self, Plain};
use crate::{SealedSecret, Value};

/// The name under which an MFA device's seed is sealed, see [`Sealer::seal`](crate::Sealer::seal).
pub const SEED_FIELD: &str = "seed";

/// A virtual MFA device (IAM API spec, section 4.17).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MfaDevice {
    /// The account it lives in.
    pub account: AccountId,
    /// Partition of its account.
    pub partition: Partition,
    /// The name, with case; unique in the account over all paths.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// When it was made.
    pub created: Timestamp,
    /// The seed as base32 text, sealed for this record.
    pub seed: SealedSecret,
    /// Whose it is, once it is enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<EnabledMfa>,
    /// Number of the last 30-second step whose code was accepted: a code is good once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_step: Option<i64>,
    /// Steps that the device's clock is ahead of ours, found out when it was enabled or synchronised.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drift: i64,
    /// Tags, keys unique ignoring case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

/// Whose a device is, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnabledMfa {
    /// Unique id of the user; the account id for the root user.
    pub user_id: Box<str>,
    /// When it was enabled.
    pub at: Timestamp,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl MfaDevice {
    /// `arn:P:iam::A:mfa/path/Name`, which is its serial number.
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:{}:iam::{}:mfa{}{}",
            self.partition, self.account, self.path, self.name
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

impl Plain for MfaDevice {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account) && *self.name == *rest
    }
}

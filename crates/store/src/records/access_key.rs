//! Long-term access keys.

use std::borrow::Cow;

use countersign_arn::AccountId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, decode_body, encode_body};
use crate::{SealedSecret, Value};

/// The name under which an access key's secret is sealed, see [`Sealer::seal`](crate::Sealer::seal).
pub const SECRET_FIELD: &str = "secret";

/// A long-term access key of a user.
///
/// When it was last used is not here: that is written on use, and belongs to no record that the request path compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// `AKIA…`
    pub id: Box<str>,
    /// Account of its user.
    pub account: AccountId,
    /// Unique id of its user: the key does not pass to a new user of the same name.
    pub user_id: Box<str>,
    /// The secret, sealed for this record.
    pub secret: SealedSecret,
    /// Whether it authenticates.
    pub status: AccessKeyStatus,
    /// When it was made.
    pub created: Timestamp,
}

/// Whether an access key authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AccessKeyStatus {
    /// It does.
    Active,
    /// It fails authentication at once.
    Inactive,
}

impl AccessKeyStatus {
    /// The word the IAM API has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Inactive => "Inactive",
        }
    }
}

impl AccessKey {
    pub(super) fn decode(id: &str, value: &[u8]) -> Result<Self, DecodeError> {
        let body: AccessKeyBody<'_> = decode_body(value)?;
        Ok(Self {
            id: id.into(),
            account: body.account,
            user_id: body.user_id.into(),
            secret: body.secret,
            status: body.status,
            created: body.created,
        })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&AccessKeyBody {
            v: AccessKeyBody::VERSION,
            account: self.account,
            user_id: (*self.user_id).into(),
            secret: self.secret.clone(),
            status: self.status,
            created: self.created,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessKeyBody<'a> {
    v: u32,
    account: AccountId,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    secret: SealedSecret,
    status: AccessKeyStatus,
    created: Timestamp,
}

impl Body for AccessKeyBody<'_> {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

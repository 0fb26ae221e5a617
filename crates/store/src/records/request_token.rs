//! Requests that were answered, so that the same request is answered alike again (EKS API spec, section 1.6).

use aws_lc_rs::digest;
use countersign_arn::AccountId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::plain::{self, Plain};
use crate::Value;

/// How long a request token is remembered.
pub const REQUEST_TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// What a request came with so that it is done once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestToken {
    /// The account of the caller.
    pub account: AccountId,
    /// The region that was called.
    pub region: Box<str>,
    /// The operation, such as `CreateAccessEntry`.
    pub operation: Box<str>,
    /// `clientRequestToken`, 1 to 128 characters.
    pub token: Box<str>,
    /// Hash of the canonical form of all other parameters.
    pub parameters: [u8; 32],
}

impl RequestToken {
    /// What the record is stored under: the token may have characters that no key has.
    #[must_use]
    pub fn digest(&self) -> String {
        digest::digest(&digest::SHA256, self.token.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// A request that was done, and the answer it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnsweredRequest {
    /// The account of the caller.
    pub account: AccountId,
    /// The region that was called.
    pub region: Box<str>,
    /// The operation.
    pub operation: Box<str>,
    /// SHA-256 of the token, in hexadecimal.
    pub token: Box<str>,
    /// Hash of the parameters.
    #[serde(with = "bytes")]
    pub parameters: Box<[u8]>,
    /// The answer.
    #[serde(with = "bytes")]
    pub answer: Box<[u8]>,
    /// When it was done.
    pub created: Timestamp,
}

impl AnsweredRequest {
    /// Whether it is too old to be remembered.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.created) >= REQUEST_TOKEN_LIFETIME
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

impl Plain for AnsweredRequest {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        let mut parts = rest.splitn(3, '/');
        account == Some(self.account)
            && parts.next() == Some(&*self.region)
            && parts.next() == Some(&*self.operation)
            && parts.next() == Some(&*self.token)
    }
}

/// Bytes as base64.
mod bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Box<[u8]>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD_NO_PAD
            .decode(text)
            .map(Into::into)
            .map_err(|_| D::Error::custom("not base64"))
    }
}

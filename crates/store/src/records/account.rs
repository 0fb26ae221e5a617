//! Accounts and their aliases.

use std::borrow::Cow;

use countersign_arn::{AccountId, Partition};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, decode_body, encode_body};
use crate::Value;

/// An AWS account of the embedded IAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The 12 digits.
    pub id: AccountId,
    /// Partition of all ARNs in the account; never changes.
    pub partition: Partition,
    /// The alias, also kept as [`AccountAlias`].
    pub alias: Option<Box<str>>,
    /// The organization, `o-…`.
    pub organization_id: Option<Box<str>>,
    /// When it was made.
    pub created: Timestamp,
}

/// Keeps an alias unique over all accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountAlias {
    /// The alias.
    pub alias: Box<str>,
    /// Whose it is.
    pub account: AccountId,
}

impl Account {
    pub(super) fn decode(id: AccountId, value: &[u8]) -> Result<Self, DecodeError> {
        let body: AccountBody<'_> = decode_body(value)?;
        Ok(Self {
            id,
            partition: body.partition,
            alias: body.alias.map(Into::into),
            organization_id: body.organization_id.map(Into::into),
            created: body.created,
        })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&AccountBody {
            v: AccountBody::VERSION,
            partition: self.partition,
            alias: self.alias.as_deref().map(Into::into),
            organization_id: self.organization_id.as_deref().map(Into::into),
            created: self.created,
        })
    }
}

impl AccountAlias {
    pub(super) fn decode(alias: &str, value: &[u8]) -> Result<Self, DecodeError> {
        let body: AliasBody = decode_body(value)?;
        Ok(Self {
            alias: alias.into(),
            account: body.account,
        })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&AliasBody {
            v: AliasBody::VERSION,
            account: self.account,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountBody<'a> {
    v: u32,
    #[serde(default)]
    partition: Partition,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    alias: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    organization_id: Option<Cow<'a, str>>,
    created: Timestamp,
}

impl Body for AccountBody<'_> {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasBody {
    v: u32,
    account: AccountId,
}

impl Body for AliasBody {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

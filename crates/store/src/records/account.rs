//! Accounts and their aliases.

use std::borrow::Cow;

use countersign_arn::{AccountId, Partition};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, decode_body, encode_body, no_items};
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
    /// Ids of the root user's access keys, in the order they were made.
    pub root_keys: Vec<Box<str>>,
    /// The password policy; absent = IAM's default one.
    pub password_policy: Option<PasswordPolicy>,
    /// The issuer of GetWebIdentityToken, when the account has it switched on.
    pub outbound_federation: Option<OutboundFederation>,
    /// When the last credential report was made.
    pub credential_report: Option<Timestamp>,
}

/// What passwords of an account must be like (IAM API spec, section 4.16).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordPolicy {
    /// 6 to 128 characters.
    pub minimum_length: u32,
    /// At least one of ``!@#$%^&*()_+-=[]{}|'``.
    pub require_symbols: bool,
    /// At least one digit.
    pub require_numbers: bool,
    /// At least one of A-Z.
    pub require_uppercase: bool,
    /// At least one of a-z.
    pub require_lowercase: bool,
    /// Whether ChangePassword is allowed to everyone.
    pub allow_users_to_change: bool,
    /// Days, 1 to 1,095.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_days: Option<u32>,
    /// How many earlier passwords may not come again, 1 to 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse_prevention: Option<u32>,
    /// Whether an expired password cannot be changed by its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_expiry: Option<bool>,
}

/// The switch and the address of an account's own tokens for outside services (STS spec, section 2.9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundFederation {
    /// The opaque last part of the issuer's URL; stays when it is switched off and on again.
    pub hash: Box<str>,
    /// Whether tokens are given out.
    pub enabled: bool,
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
            root_keys: body.root_keys.into_owned(),
            password_policy: body.password_policy.map(Cow::into_owned),
            outbound_federation: body.outbound_federation.map(Cow::into_owned),
            credential_report: body.credential_report,
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
            root_keys: self.root_keys.as_slice().into(),
            password_policy: self.password_policy.as_ref().map(Cow::Borrowed),
            outbound_federation: self.outbound_federation.as_ref().map(Cow::Borrowed),
            credential_report: self.credential_report,
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
    #[serde(default, skip_serializing_if = "no_items")]
    root_keys: Cow<'a, [Box<str>]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password_policy: Option<Cow<'a, PasswordPolicy>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbound_federation: Option<Cow<'a, OutboundFederation>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential_report: Option<Timestamp>,
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

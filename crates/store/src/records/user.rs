//! IAM users.

use std::borrow::Cow;
use std::fmt;

use countersign_arn::{AccountId, Partition, Tag};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, InlinePolicy, decode_body, encode_body, fold_name, no_items};
use crate::Value;

/// An IAM user (IAM API spec, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The account it lives in.
    pub account: AccountId,
    /// Partition of its account, kept here so that a user's ARN needs no second record.
    pub partition: Partition,
    /// The name with the case that was given; the key has it in lower case.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// `AIDA…`; another one when a user of the same name is made again.
    pub id: Box<str>,
    /// When it was made.
    pub created: Timestamp,
    /// Tags, keys unique ignoring case.
    pub tags: Vec<Tag>,
    /// Ids of its access keys, in the order they were made.
    ///
    /// The list is here so that a change of a user's keys is a change of the user: two writers who both add a key, or
    /// one who adds a key while the other deletes the user, meet in this record, and one of them has to look again.
    pub access_keys: Vec<Box<str>>,
    /// Inline identity policies, by name.
    pub policies: Vec<InlinePolicy>,
    /// ARNs of attached managed policies, in the order they were attached.
    pub attached: Vec<Box<str>>,
    /// ARN of the permissions boundary.
    pub boundary: Option<Box<str>>,
    /// Unique ids of the groups it is in, in the order it was added.
    pub groups: Vec<Box<str>>,
    /// Names of its enabled MFA devices.
    pub mfa_devices: Vec<Box<str>>,
    /// Its password.
    pub login: Option<LoginProfile>,
}

/// A user's password for sign-in pages (IAM API spec, section 4.16).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginProfile {
    /// When the profile was made.
    pub created: Timestamp,
    /// The Argon2id hash, in the PHC string form.
    pub hash: Box<str>,
    /// When the password was set.
    pub changed: Timestamp,
    /// Whether it has to be changed at the next sign-in.
    pub reset_required: bool,
    /// Hashes of earlier passwords, newest first, as many as the password policy may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<Box<str>>,
}

impl fmt::Debug for LoginProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginProfile")
            .field("created", &self.created)
            .field("changed", &self.changed)
            .field("reset_required", &self.reset_required)
            .finish_non_exhaustive()
    }
}

impl User {
    /// `arn:P:iam::A:user/path/Name`
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:{}:iam::{}:user{}{}",
            self.partition, self.account, self.path, self.name
        )
    }

    pub(super) fn decode(
        account: AccountId,
        folded: &str,
        value: &[u8],
    ) -> Result<Self, DecodeError> {
        let body: UserBody<'_> = decode_body(value)?;
        if fold_name(&body.name) != folded {
            return Err(DecodeError::Key);
        }
        Ok(Self {
            account,
            partition: body.partition,
            name: body.name.into(),
            path: body.path.into(),
            id: body.id.into(),
            created: body.created,
            tags: body.tags.into_owned(),
            access_keys: body.access_keys.into_owned(),
            policies: body.policies.into_owned(),
            attached: body.attached.into_owned(),
            boundary: body.boundary.map(Into::into),
            groups: body.groups.into_owned(),
            mfa_devices: body.mfa_devices.into_owned(),
            login: body.login.map(Cow::into_owned),
        })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&UserBody {
            v: UserBody::VERSION,
            partition: self.partition,
            name: (*self.name).into(),
            path: (*self.path).into(),
            id: (*self.id).into(),
            created: self.created,
            tags: self.tags.as_slice().into(),
            access_keys: self.access_keys.as_slice().into(),
            policies: self.policies.as_slice().into(),
            attached: self.attached.as_slice().into(),
            boundary: self.boundary.as_deref().map(Into::into),
            groups: self.groups.as_slice().into(),
            mfa_devices: self.mfa_devices.as_slice().into(),
            login: self.login.as_ref().map(Cow::Borrowed),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserBody<'a> {
    v: u32,
    #[serde(default)]
    partition: Partition,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    created: Timestamp,
    #[serde(default, skip_serializing_if = "no_items")]
    tags: Cow<'a, [Tag]>,
    #[serde(default, skip_serializing_if = "no_items")]
    access_keys: Cow<'a, [Box<str>]>,
    #[serde(default, skip_serializing_if = "no_items")]
    policies: Cow<'a, [InlinePolicy]>,
    #[serde(default, skip_serializing_if = "no_items")]
    attached: Cow<'a, [Box<str>]>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    boundary: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "no_items")]
    groups: Cow<'a, [Box<str>]>,
    #[serde(default, skip_serializing_if = "no_items")]
    mfa_devices: Cow<'a, [Box<str>]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    login: Option<Cow<'a, LoginProfile>>,
}

impl Body for UserBody<'_> {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

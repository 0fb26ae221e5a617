//! IAM roles, and the inline policies of users and roles.

use std::borrow::Cow;

use countersign_arn::{AccountId, Partition, Tag};
use countersign_policy::PrincipalIds;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, decode_body, encode_body, fold_name};
use crate::Value;

/// An IAM role (IAM API spec, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The account it lives in.
    pub account: AccountId,
    /// Partition of its account, kept here so that a role's ARN needs no second record.
    pub partition: Partition,
    /// The name with the case that was given; the key has it in lower case.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// `AROA…`; another one when a role of the same name is made again.
    pub id: Box<str>,
    /// When it was made.
    pub created: Timestamp,
    /// What it is for.
    pub description: Option<Box<str>>,
    /// The longest session that may be asked for, 3,600 to 43,200 seconds.
    pub max_session_duration: u32,
    /// Who may assume it.
    pub trust: TrustPolicy,
    /// Tags, keys unique ignoring case.
    pub tags: Vec<Tag>,
    /// Inline identity policies, by name.
    pub policies: Vec<InlinePolicy>,
    /// ARNs of attached managed policies, in the order they were attached.
    pub attached: Vec<Box<str>>,
    /// ARN of the permissions boundary.
    pub boundary: Option<Box<str>>,
}

/// A trust policy as it was written, and the unique ids of the users and roles it names.
///
/// A name means the entity that had it when the policy was written: one that is made again under the same name is not
/// trusted (policy language spec, section 1.6).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustPolicy {
    /// The exact text.
    pub document: Box<str>,
    /// The ids behind its principals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<TrustedPrincipal>,
}

/// One user or role that a trust policy names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedPrincipal {
    /// Index of the statement.
    pub statement: usize,
    /// Index of the entry inside its `Principal`.
    pub entry: usize,
    /// `AIDA…` or `AROA…`.
    pub id: Box<str>,
}

/// An inline policy of a user, group or role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InlinePolicy {
    /// The name, with case: unlike names of users and roles, names of policies differ by it.
    pub name: Box<str>,
    /// The exact text.
    pub document: Box<str>,
}

impl TrustPolicy {
    /// The text, and what its principals were found to be when it was checked.
    #[must_use]
    pub fn new(document: impl Into<Box<str>>, principals: &PrincipalIds) -> Self {
        Self {
            document: document.into(),
            principals: principals
                .iter()
                .map(|(slot, id)| TrustedPrincipal {
                    statement: slot.statement,
                    entry: slot.entry,
                    id: id.into(),
                })
                .collect(),
        }
    }
}

impl Role {
    /// `arn:P:iam::A:role/path/Name`
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:{}:iam::{}:role{}{}",
            self.partition, self.account, self.path, self.name
        )
    }

    /// Whether it belongs to an AWS service, which alone changes it: roles below `/aws-service-role/` and `/aws-reserved/`
    /// (IAM API spec, section 4.4).
    #[must_use]
    pub fn is_protected(&self) -> bool {
        ["/aws-service-role/", "/aws-reserved/"]
            .iter()
            .any(|path| self.path.starts_with(path))
    }

    pub(super) fn decode(
        account: AccountId,
        folded: &str,
        value: &[u8],
    ) -> Result<Self, DecodeError> {
        let body: RoleBody<'_> = decode_body(value)?;
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
            description: body.description.map(Into::into),
            max_session_duration: body.max_session_duration,
            trust: body.trust.into_owned(),
            tags: body.tags.into_owned(),
            policies: body.policies.into_owned(),
            attached: body.attached.into_owned(),
            boundary: body.boundary.map(Into::into),
        })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&RoleBody {
            v: RoleBody::VERSION,
            partition: self.partition,
            name: (*self.name).into(),
            path: (*self.path).into(),
            id: (*self.id).into(),
            created: self.created,
            description: self.description.as_deref().map(Into::into),
            max_session_duration: self.max_session_duration,
            trust: Cow::Borrowed(&self.trust),
            tags: self.tags.as_slice().into(),
            policies: self.policies.as_slice().into(),
            attached: self.attached.as_slice().into(),
            boundary: self.boundary.as_deref().map(Into::into),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleBody<'a> {
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
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    max_session_duration: u32,
    trust: Cow<'a, TrustPolicy>,
    #[serde(default, skip_serializing_if = "super::no_items")]
    tags: Cow<'a, [Tag]>,
    #[serde(default, skip_serializing_if = "super::no_items")]
    policies: Cow<'a, [InlinePolicy]>,
    #[serde(default, skip_serializing_if = "super::no_items")]
    attached: Cow<'a, [Box<str>]>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    boundary: Option<Cow<'a, str>>,
}

impl Body for RoleBody<'_> {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

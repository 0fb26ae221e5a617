//! Users, groups and roles as what has policies.

use countersign_arn::AccountId;

use super::access_keys::find_user;
use super::groups::find_group;
use super::roles::find_role;
use super::{Directory, DirectoryError, Protection};
use crate::records::{Group, InlinePolicy, Role, User};
use crate::{DirectorySnapshot, EntityKind, Key, Revision, Transaction, Value};

/// A user, group or role of an account, by name; names are compared ignoring case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entity<'a> {
    /// The account it lives in.
    pub account: AccountId,
    /// What it is.
    pub kind: EntityKind,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Entity<'a> {
    /// A user.
    #[must_use]
    pub const fn user(account: AccountId, name: &'a str) -> Self {
        Self {
            account,
            kind: EntityKind::User,
            name,
        }
    }

    /// A group.
    #[must_use]
    pub const fn group(account: AccountId, name: &'a str) -> Self {
        Self {
            account,
            kind: EntityKind::Group,
            name,
        }
    }

    /// A role.
    #[must_use]
    pub const fn role(account: AccountId, name: &'a str) -> Self {
        Self {
            account,
            kind: EntityKind::Role,
            name,
        }
    }
}

/// The record of an [`Entity`] on its way to its next state.
pub(super) struct Changing {
    key: Key,
    modified: Revision,
    record: Record,
}

enum Record {
    User(User),
    Group(Group),
    Role(Role),
}

impl Changing {
    pub(super) fn attached(&mut self) -> &mut Vec<Box<str>> {
        match &mut self.record {
            Record::User(user) => &mut user.attached,
            Record::Group(group) => &mut group.attached,
            Record::Role(role) => &mut role.attached,
        }
    }

    pub(super) fn policies(&mut self) -> &mut Vec<InlinePolicy> {
        match &mut self.record {
            Record::User(user) => &mut user.policies,
            Record::Group(group) => &mut group.policies,
            Record::Role(role) => &mut role.policies,
        }
    }

    /// `None` for groups: they have no boundary.
    pub(super) fn boundary(&mut self) -> Option<&mut Option<Box<str>>> {
        match &mut self.record {
            Record::User(user) => Some(&mut user.boundary),
            Record::Group(_) => None,
            Record::Role(role) => Some(&mut role.boundary),
        }
    }

    /// The name with the case it was given when the entity was made.
    pub(super) fn name(&self) -> &str {
        match &self.record {
            Record::User(user) => &user.name,
            Record::Group(group) => &group.name,
            Record::Role(role) => &role.name,
        }
    }

    /// Writes the record, if it is still the one that was looked at.
    pub(super) fn write(&self) -> Transaction {
        self.unchanged().put(&self.key, self.encode())
    }

    /// Writes nothing, if the record is still the one that was looked at.
    pub(super) fn unchanged(&self) -> Transaction {
        Transaction::new().if_unchanged(&self.key, self.modified)
    }

    fn encode(&self) -> Value {
        match &self.record {
            Record::User(user) => user.encode(),
            Record::Group(group) => group.encode(),
            Record::Role(role) => role.encode(),
        }
    }
}

impl Directory {
    /// The entity, to be changed; a protected role only through a handle that may.
    pub(super) fn changing(
        &self,
        snapshot: &DirectorySnapshot,
        entity: Entity<'_>,
    ) -> Result<Changing, DirectoryError> {
        let Entity {
            account,
            kind,
            name,
        } = entity;
        Ok(match kind {
            EntityKind::User => {
                let (key, user) = find_user(snapshot, account, name)?;
                Changing {
                    key,
                    modified: user.modified,
                    record: Record::User(user.record.clone()),
                }
            }
            EntityKind::Group => {
                let (key, group) = find_group(snapshot, account, name)?;
                Changing {
                    key,
                    modified: group.modified,
                    record: Record::Group(group.record.clone()),
                }
            }
            EntityKind::Role => {
                let (key, role) = find_role(snapshot, account, name)?;
                self.check_protection(&role.record)?;
                Changing {
                    key,
                    modified: role.modified,
                    record: Record::Role(role.record.clone()),
                }
            }
        })
    }

    /// Roles of AWS services are changed by those only (IAM API spec, section 4.4).
    pub(super) fn check_protection(&self, role: &Role) -> Result<(), DirectoryError> {
        match self.1 {
            Protection::On if role.is_protected() => {
                Err(DirectoryError::Protected(role.name.clone()))
            }
            Protection::On | Protection::Off => Ok(()),
        }
    }
}

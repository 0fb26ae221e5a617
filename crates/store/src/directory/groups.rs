//! Groups, and who is in them.

use countersign_arn::AccountId;
use countersign_arn::unique_id::Kind;
use jiff::Timestamp;

use super::access_keys::find_user;
use super::vacancy::Vacancy;
use super::{Directory, DirectoryError, Thing, missing, readable};
use crate::records::{Group, RecordKey, check_group_name, check_path, fold_name};
use crate::snapshot::GroupEntry;
use crate::{DirectorySnapshot, Key, Transaction};

/// A group to create.
#[derive(Debug, Clone)]
pub struct NewGroup {
    /// The account it lives in.
    pub account: AccountId,
    /// The name, unique in the account ignoring case and path.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
}

/// What changes about a group; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct GroupChange {
    /// Another name.
    pub name: Option<Box<str>>,
    /// Another path.
    pub path: Option<Box<str>>,
}

impl Directory {
    /// Creates a group without members, with a new unique id.
    ///
    /// # Errors
    /// When the account is not there, or has a group of this name ignoring case; see [`DirectoryError`].
    pub async fn create_group(
        &self,
        new: NewGroup,
        now: Timestamp,
    ) -> Result<Group, DirectoryError> {
        check_group_name(&new.name)?;
        check_path(&new.path)?;
        let limit = self.0.quotas.groups_per_account;
        self.write(|snapshot| {
            let key = RecordKey::Group {
                account: new.account,
                name: &new.name,
            };
            let place = Vacancy::in_account(snapshot, new.account, key)?
                .unless(snapshot.group(new.account, &new.name).is_some(), || {
                    DirectoryError::exists(Thing::Group, &new.name)
                })?
                .within("GroupsPerAccount", limit, snapshot.group_count(new.account))?;
            let id = self.new_id(Kind::Group, new.account, |id| {
                snapshot.principal(id).is_some()
            })?;
            let group = Group {
                account: new.account,
                partition: place.partition,
                name: new.name.clone(),
                path: new.path.clone(),
                id: id.into(),
                created: now,
                policies: Vec::new(),
                attached: Vec::new(),
            };
            Ok((place.fill(group.encode()), group))
        })
        .await
    }

    /// Gives a group another name or path. Its id, its policies and its members stay.
    ///
    /// # Errors
    /// When the group is not there, or another one has the name; see [`DirectoryError`].
    pub async fn update_group(
        &self,
        account: AccountId,
        name: &str,
        change: GroupChange,
    ) -> Result<Group, DirectoryError> {
        change.name.as_deref().map_or(Ok(()), check_group_name)?;
        change.path.as_deref().map_or(Ok(()), check_path)?;
        self.write(|snapshot| {
            let (key, group) = find_group(snapshot, account, name)?;
            let mut changed = group.record.clone();
            if let Some(path) = &change.path {
                changed.path.clone_from(path);
            }
            if let Some(name) = &change.name {
                changed.name.clone_from(name);
            }
            let mut transaction = Transaction::new().if_unchanged(&key, group.modified);
            if fold_name(&changed.name) == fold_name(&group.record.name) {
                transaction = transaction.put(&key, changed.encode());
            } else {
                let new_key = free_name(snapshot, account, &changed.name)?;
                transaction = transaction
                    .if_absent(&new_key)
                    .delete(&key)
                    .put(&new_key, changed.encode());
            }
            Ok((transaction, changed))
        })
        .await
    }

    /// Deletes a group that has neither policies nor members.
    ///
    /// # Errors
    /// When it is not there, or has some, in the order of the IAM API spec, section 2.4; see [`DirectoryError`].
    pub async fn delete_group(&self, account: AccountId, name: &str) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, group) = find_group(snapshot, account, name)?;
            let conflict = |what| Err(DirectoryError::DeleteConflict { what });
            if !group.record.attached.is_empty() {
                return conflict("attached policies");
            }
            if !group.record.policies.is_empty() {
                return conflict("policies");
            }
            if snapshot.group_members(group, None).next().is_some() {
                return conflict("members");
            }
            // Whoever adds a member writes the group's record again, so that one of the two has to look again.
            let transaction = Transaction::new()
                .if_unchanged(&key, group.modified)
                .delete(&key);
            Ok((transaction, ()))
        })
        .await
    }

    /// Puts a user into a group. It may be in it already.
    ///
    /// With both names unknown, the user is named (IAM API spec, section 3).
    ///
    /// # Errors
    /// When one of them is not there, or the user is in as many groups as it may; see [`DirectoryError`].
    pub async fn add_user_to_group(
        &self,
        account: AccountId,
        group_name: &str,
        user_name: &str,
    ) -> Result<(), DirectoryError> {
        let limit = self.0.quotas.groups_per_user;
        self.write(|snapshot| {
            let (user_key, user) = find_user(snapshot, account, user_name)?;
            let (group_key, group) = find_group(snapshot, account, group_name)?;
            let compared = Transaction::new()
                .if_unchanged(&user_key, user.modified)
                .if_unchanged(&group_key, group.modified);
            if user.record.groups.contains(&group.record.id) {
                return Ok((compared, ()));
            }
            if user.record.groups.len() >= limit {
                return Err(DirectoryError::QuotaExceeded {
                    quota: "GroupsPerUser",
                    limit,
                });
            }
            let mut changed = user.record.clone();
            changed.groups.push(group.record.id.clone());
            // The group is written as it is, so that a deletion which saw it without members conflicts.
            let transaction = compared
                .put(&user_key, changed.encode())
                .put(&group_key, group.record.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Takes a user out of a group. It need not be in it.
    ///
    /// With both names unknown, the user is named (IAM API spec, section 3).
    ///
    /// # Errors
    /// When one of them is not there; see [`DirectoryError`].
    pub async fn remove_user_from_group(
        &self,
        account: AccountId,
        group_name: &str,
        user_name: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (user_key, user) = find_user(snapshot, account, user_name)?;
            let (_, group) = find_group(snapshot, account, group_name)?;
            let compared = Transaction::new().if_unchanged(&user_key, user.modified);
            if !user.record.groups.contains(&group.record.id) {
                return Ok((compared, ()));
            }
            let mut changed = user.record.clone();
            changed.groups.retain(|id| *id != group.record.id);
            Ok((compared.put(&user_key, changed.encode()), ()))
        })
        .await
    }
}

/// The key of a group that does not exist yet.
fn free_name(
    snapshot: &DirectorySnapshot,
    account: AccountId,
    name: &str,
) -> Result<Key, DirectoryError> {
    let key = readable(snapshot, RecordKey::Group { account, name })?;
    if snapshot.group(account, name).is_some() {
        return Err(DirectoryError::exists(Thing::Group, name));
    }
    Ok(key)
}

pub(super) fn find_group<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    name: &str,
) -> Result<(Key, &'s GroupEntry), DirectoryError> {
    let key = RecordKey::Group { account, name };
    let Some(group) = snapshot.group(account, name) else {
        let error = DirectoryError::NoSuch {
            what: Thing::Group,
            name: name.into(),
        };
        return Err(missing(snapshot, key, error));
    };
    Ok((key.to_key()?, group))
}

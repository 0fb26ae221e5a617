//! Users.

use countersign_arn::unique_id::Kind;
use countersign_arn::{AccountId, Tag};
use jiff::Timestamp;

use super::access_keys::find_user;
use super::attachments::hold_policy;
use super::vacancy::Vacancy;
use super::{Directory, DirectoryError, Thing, readable};
use crate::Transaction;
use crate::records::{RecordKey, User, check_path, check_tags, check_user_name};

/// What to change of a user; what is not given stays.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// A new name.
    pub name: Option<Box<str>>,
    /// A new path.
    pub path: Option<Box<str>>,
}

/// A user to create.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The account it lives in.
    pub account: AccountId,
    /// The name, unique in the account ignoring case.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl Directory {
    /// Creates a user, with a new unique id.
    ///
    /// # Errors
    /// When the account is not there, or has a user of this name ignoring case; see [`DirectoryError`].
    pub async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User, DirectoryError> {
        self.create_bounded_user(new, None, now).await
    }

    /// Creates a user within a permissions boundary: the ARN of a managed policy.
    ///
    /// # Errors
    /// As [`create_user`](Self::create_user), and when there is no such policy.
    pub async fn create_bounded_user(
        &self,
        new: NewUser,
        boundary: Option<Box<str>>,
        now: Timestamp,
    ) -> Result<User, DirectoryError> {
        check_user_name(&new.name)?;
        check_path(&new.path)?;
        check_tags(&new.tags)?;
        let limit = self.0.quotas.users_per_account;
        self.write(|snapshot| {
            let place = Vacancy::in_account(
                snapshot,
                new.account,
                RecordKey::User {
                    account: new.account,
                    name: &new.name,
                },
            )?
            .unless(snapshot.user(new.account, &new.name).is_some(), || {
                DirectoryError::UserExists(new.name.clone())
            })?
            .within("UsersPerAccount", limit, snapshot.user_count(new.account))?;
            let id = self.new_id(Kind::User, new.account, |id| {
                snapshot.principal(id).is_some()
            })?;
            let user = User {
                account: new.account,
                partition: place.partition,
                name: new.name.clone(),
                path: new.path.clone(),
                id: id.into(),
                created: now,
                tags: new.tags.clone(),
                access_keys: Vec::new(),
                policies: Vec::new(),
                attached: Vec::new(),
                boundary: boundary.clone(),
                groups: Vec::new(),
                mfa_devices: Vec::new(),
                login: None,
            };
            let mut transaction = place.fill(user.encode());
            if let Some(arn) = &boundary {
                let what = Thing::Boundary;
                transaction = hold_policy(transaction, snapshot, new.account, arn, what)?;
            }
            Ok((transaction, user))
        })
        .await
    }

    /// Gives a user another name or path. Its id, and with it all that it has, stays; its ARN changes.
    ///
    /// # Errors
    /// When it is not there, or another user has the new name ignoring case; see [`DirectoryError`].
    pub async fn update_user(
        &self,
        account: AccountId,
        name: &str,
        change: UserChange,
    ) -> Result<User, DirectoryError> {
        if let Some(name) = &change.name {
            check_user_name(name)?;
        }
        if let Some(path) = &change.path {
            check_path(path)?;
        }
        self.write(|snapshot| {
            let (key, user) = find_user(snapshot, account, name)?;
            let mut changed = user.record.clone();
            if let Some(path) = &change.path {
                changed.path.clone_from(path);
            }
            if let Some(name) = &change.name {
                changed.name.clone_from(name);
            }
            let name = &changed.name;
            let new_key = readable(snapshot, RecordKey::User { account, name })?;
            let transaction = Transaction::new().if_unchanged(&key, user.modified);
            let transaction = if new_key == key {
                transaction
            } else if snapshot.user(account, name).is_some() {
                return Err(DirectoryError::UserExists(name.clone()));
            } else {
                transaction.if_absent(&new_key).delete(&key)
            };
            Ok((transaction.put(&new_key, changed.encode()), changed))
        })
        .await
    }

    /// Deletes a user on which nothing hangs.
    ///
    /// # Errors
    /// When it is not there, or has attached or inline policies, access keys, a password or MFA devices, or is in a group,
    /// asked in this order; see [`DirectoryError`].
    pub async fn delete_user(&self, account: AccountId, name: &str) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, user) = find_user(snapshot, account, name)?;
            let record = &user.record;
            let hanging = [
                (!record.attached.is_empty(), "attached policies"),
                (!record.policies.is_empty(), "policies"),
                (!record.access_keys.is_empty(), "access keys"),
                (record.login.is_some(), "a login profile"),
                (!record.mfa_devices.is_empty(), "MFA devices"),
                (!record.groups.is_empty(), "groups"),
            ];
            if let Some((_, what)) = hanging.into_iter().find(|(hangs, _)| *hangs) {
                return Err(DirectoryError::DeleteConflict { what });
            }
            Ok((
                Transaction::new()
                    .if_unchanged(&key, user.modified)
                    .delete(&key),
                (),
            ))
        })
        .await
    }
}

//! Users.

use countersign_arn::unique_id::Kind;
use countersign_arn::{AccountId, Tag};
use jiff::Timestamp;

use super::access_keys::find_user;
use super::{Directory, DirectoryError, readable};
use crate::Transaction;
use crate::records::{RecordKey, User, check_path, check_tags, check_user_name};

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
        check_user_name(&new.name)?;
        check_path(&new.path)?;
        check_tags(&new.tags)?;
        let limit = self.0.quotas.users_per_account;
        self.write(|snapshot| {
            let account_key = readable(snapshot, RecordKey::Account(new.account))?;
            let account = snapshot
                .account(new.account)
                .ok_or(DirectoryError::NoSuchAccount(new.account))?;
            let key = readable(
                snapshot,
                RecordKey::User {
                    account: new.account,
                    name: &new.name,
                },
            )?;
            if snapshot.user(new.account, &new.name).is_some() {
                return Err(DirectoryError::UserExists(new.name.clone()));
            }
            if snapshot.user_count(new.account) >= limit {
                return Err(DirectoryError::QuotaExceeded {
                    quota: "UsersPerAccount",
                    limit,
                });
            }
            let id = self.new_id(Kind::User, new.account, |id| {
                snapshot.principal(id).is_some()
            })?;
            let user = User {
                account: new.account,
                partition: account.record.partition,
                name: new.name.clone(),
                path: new.path.clone(),
                id: id.into(),
                created: now,
                tags: new.tags.clone(),
                access_keys: Vec::new(),
                policies: Vec::new(),
                attached: Vec::new(),
                boundary: None,
                groups: Vec::new(),
                mfa_devices: Vec::new(),
                login: None,
            };
            let transaction = Transaction::new()
                .if_unchanged(&account_key, account.modified)
                .if_absent(&key)
                .put(&key, user.encode());
            Ok((transaction, user))
        })
        .await
    }

    /// Deletes a user that has neither access keys nor inline policies.
    ///
    /// # Errors
    /// When it is not there, or has some; see [`DirectoryError`].
    pub async fn delete_user(&self, account: AccountId, name: &str) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, user) = find_user(snapshot, account, name)?;
            if !user.record.access_keys.is_empty() {
                return Err(DirectoryError::DeleteConflict {
                    what: "access keys",
                });
            }
            if !user.record.policies.is_empty() {
                return Err(DirectoryError::DeleteConflict { what: "policies" });
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

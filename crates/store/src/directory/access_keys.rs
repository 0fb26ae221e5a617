//! Access keys of users.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use countersign_arn::AccountId;
use countersign_arn::unique_id::Kind;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{Directory, DirectoryError, is_unusable, missing, readable};
use crate::records::{AccessKey, AccessKeyStatus, RecordKey, SECRET_FIELD, User};
use crate::snapshot::{AccessKeyEntry, UserEntry};
use crate::{DirectorySnapshot, SecretString, Transaction};

/// What may be shown of an access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKeyMetadata {
    /// `AKIA…`
    pub id: Box<str>,
    /// Name of its user, with the case that it was given.
    pub user_name: Box<str>,
    /// Whether it authenticates.
    pub status: AccessKeyStatus,
    /// When it was made.
    pub created: Timestamp,
}

/// A new access key, with the secret that can be had only now.
#[derive(Debug)]
pub struct CreatedAccessKey {
    /// The key.
    pub metadata: AccessKeyMetadata,
    /// Its secret: 40 characters of `A-Za-z0-9+/`.
    pub secret: SecretString,
}

impl Directory {
    /// Creates an access key for a user. The secret is sealed in the store and can be read out only here.
    ///
    /// # Errors
    /// When the user is not there, or has as many keys as it may; see [`DirectoryError`].
    pub async fn create_access_key(
        &self,
        account: AccountId,
        user_name: &str,
        now: Timestamp,
    ) -> Result<CreatedAccessKey, DirectoryError> {
        let limit = self.0.quotas.access_keys_per_user;
        self.write(|snapshot| {
            let (user_key, user) = find_user(snapshot, account, user_name)?;
            if user.record.access_keys.len() >= limit {
                return Err(DirectoryError::QuotaExceeded {
                    quota: "AccessKeysPerUser",
                    limit,
                });
            }
            let id = self.new_id(Kind::AccessKey, account, |id| {
                snapshot.has_access_key_id(id) || is_unusable(snapshot, RecordKey::AccessKey(id))
            })?;
            // 30 random bytes in base64 are 40 characters, each of the 64 equally likely.
            let random = Zeroizing::new(self.0.random.bytes::<30>()?);
            let secret = SecretString::new(STANDARD_NO_PAD.encode(*random));
            let key = RecordKey::AccessKey(&id).to_key()?;
            let record = AccessKey {
                id: id.as_str().into(),
                account,
                user_id: user.record.id.clone(),
                secret: self.0.sealer.seal(&key, SECRET_FIELD, &secret)?,
                status: AccessKeyStatus::Active,
                created: now,
            };
            let mut changed = user.record.clone();
            changed.access_keys.push(id.into());
            let transaction = Transaction::new()
                .if_unchanged(&user_key, user.modified)
                .if_absent(&key)
                .put(&user_key, changed.encode())
                .put(&key, record.encode());
            let metadata = AccessKeyMetadata {
                id: record.id,
                user_name: changed.name,
                status: record.status,
                created: now,
            };
            Ok((transaction, CreatedAccessKey { metadata, secret }))
        })
        .await
    }

    /// Makes an access key work, or stop working. An inactive key fails at once.
    ///
    /// # Errors
    /// When the user is not there or has no such key; see [`DirectoryError`].
    pub async fn set_access_key_status(
        &self,
        account: AccountId,
        user_name: &str,
        id: &str,
        status: AccessKeyStatus,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (_, user) = find_user(snapshot, account, user_name)?;
            let (key, entry) = find_key(snapshot, user, id)?;
            let record = AccessKey {
                id: id.into(),
                account,
                user_id: entry.user_id.clone(),
                secret: self.0.sealer.seal(&key, SECRET_FIELD, entry.secret())?,
                status,
                created: entry.created,
            };
            let transaction = Transaction::new()
                .if_unchanged(&key, entry.modified)
                .put(&key, record.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Deletes an access key.
    ///
    /// # Errors
    /// When the user is not there or has no such key; see [`DirectoryError`].
    pub async fn delete_access_key(
        &self,
        account: AccountId,
        user_name: &str,
        id: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (user_key, user) = find_user(snapshot, account, user_name)?;
            let listed = user.record.access_keys.iter().any(|listed| **listed == *id);
            if !listed {
                return Err(DirectoryError::NoSuchAccessKey(id.into()));
            }
            let mut changed: User = user.record.clone();
            changed.access_keys.retain(|listed| **listed != *id);
            // Without a compare on the key itself: whatever it is now, it goes. A key whose record cannot be read can so
            // be taken away from its user.
            let transaction = Transaction::new()
                .if_unchanged(&user_key, user.modified)
                .put(&user_key, changed.encode())
                .delete(&RecordKey::AccessKey(id).to_key()?);
            Ok((transaction, ()))
        })
        .await
    }

    /// The access keys of a user, in the order they were made.
    ///
    /// # Errors
    /// When the user is not there.
    pub fn access_keys(
        &self,
        account: AccountId,
        user_name: &str,
    ) -> Result<Vec<AccessKeyMetadata>, DirectoryError> {
        let snapshot = self.snapshot();
        let (_, user) = find_user(&snapshot, account, user_name)?;
        let keys = snapshot.access_keys_of(user).map(|key| AccessKeyMetadata {
            id: (*key.id).into(),
            user_name: user.record.name.clone(),
            status: key.status,
            created: key.created,
        });
        Ok(keys.collect())
    }
}

pub(super) fn find_user<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    name: &str,
) -> Result<(crate::Key, &'s UserEntry), DirectoryError> {
    let key = RecordKey::User { account, name };
    let Some(user) = snapshot.user(account, name) else {
        return Err(missing(
            snapshot,
            key,
            DirectoryError::NoSuchUser(name.into()),
        ));
    };
    Ok((key.to_key()?, user))
}

fn find_key<'s>(
    snapshot: &'s DirectorySnapshot,
    user: &UserEntry,
    id: &str,
) -> Result<(crate::Key, &'s AccessKeyEntry), DirectoryError> {
    let no_such_key = || DirectoryError::NoSuchAccessKey(id.into());
    if !user.record.access_keys.iter().any(|listed| **listed == *id) {
        return Err(no_such_key());
    }
    let key = readable(snapshot, RecordKey::AccessKey(id))?;
    let found = snapshot.access_key(id).ok_or_else(no_such_key)?;
    Ok((key, found.key))
}

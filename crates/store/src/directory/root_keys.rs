//! Access keys of the root user. No API makes them; they are made on the server's machine (IAM API spec, section 5.8).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use countersign_arn::AccountId;
use countersign_arn::unique_id::Kind;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{
    AccessKeyMetadata, CreatedAccessKey, Directory, DirectoryError, is_unusable, missing, readable,
};
use crate::records::{AccessKey, AccessKeyStatus, RecordKey, SECRET_FIELD};
use crate::snapshot::AccountEntry;
use crate::{DirectorySnapshot, Key, SecretString, Transaction};

/// What stands for the root user where a user's name would.
pub const ROOT_USER_NAME: &str = "root";

/// Root keys of one account, as AWS has it.
const ROOT_KEYS: usize = 2;

impl Directory {
    /// Creates an access key for the root user of an account. The secret is sealed in the store and can be read out only
    /// here. The quota is exact.
    ///
    /// # Errors
    /// When the account is not there, or has two root keys; see [`DirectoryError`].
    pub async fn create_root_key(
        &self,
        account: AccountId,
        now: Timestamp,
    ) -> Result<CreatedAccessKey, DirectoryError> {
        self.write(|snapshot| {
            let (account_key, entry) = find_account(snapshot, account)?;
            if entry.record.root_keys.len() >= ROOT_KEYS {
                return Err(DirectoryError::QuotaExceeded {
                    quota: "AccessKeysPerUser",
                    limit: ROOT_KEYS,
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
                user_id: account.as_str().into(),
                secret: self.0.sealer.seal(&key, SECRET_FIELD, &secret)?,
                status: AccessKeyStatus::Active,
                created: now,
            };
            let mut changed = entry.record.clone();
            changed.root_keys.push(id.into());
            let transaction = Transaction::new()
                .if_unchanged(&account_key, entry.modified)
                .if_absent(&key)
                .put(&account_key, changed.encode())
                .put(&key, record.encode());
            let metadata = AccessKeyMetadata {
                id: record.id,
                user_name: ROOT_USER_NAME.into(),
                status: record.status,
                created: now,
            };
            Ok((transaction, CreatedAccessKey { metadata, secret }))
        })
        .await
    }

    /// Deletes an access key of the root user.
    ///
    /// # Errors
    /// When the account is not there or its root user has no such key; see [`DirectoryError`].
    pub async fn delete_root_key(
        &self,
        account: AccountId,
        id: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (account_key, entry) = find_account(snapshot, account)?;
            if !entry.record.root_keys.iter().any(|listed| **listed == *id) {
                return Err(DirectoryError::NoSuchAccessKey(id.into()));
            }
            let mut changed = entry.record.clone();
            changed.root_keys.retain(|listed| **listed != *id);
            // Without a compare on the key itself: whatever it is now, it goes.
            let transaction = Transaction::new()
                .if_unchanged(&account_key, entry.modified)
                .put(&account_key, changed.encode())
                .delete(&RecordKey::AccessKey(id).to_key()?);
            Ok((transaction, ()))
        })
        .await
    }

    /// The access keys of the root user, in the order they were made.
    ///
    /// # Errors
    /// When the account is not there.
    pub fn root_keys(&self, account: AccountId) -> Result<Vec<AccessKeyMetadata>, DirectoryError> {
        let snapshot = self.snapshot();
        let (_, entry) = find_account(&snapshot, account)?;
        let keys = entry.record.root_keys.iter().filter_map(|id| {
            let key = snapshot.access_key(id)?.key;
            Some(AccessKeyMetadata {
                id: (*key.id).into(),
                user_name: ROOT_USER_NAME.into(),
                status: key.status,
                created: key.created,
            })
        });
        Ok(keys.collect())
    }
}

fn find_account(
    snapshot: &DirectorySnapshot,
    id: AccountId,
) -> Result<(Key, &AccountEntry), DirectoryError> {
    let key = RecordKey::Account(id);
    match snapshot.account(id) {
        Some(entry) => Ok((readable(snapshot, key)?, entry)),
        None => Err(missing(snapshot, key, DirectoryError::NoSuchAccount(id))),
    }
}

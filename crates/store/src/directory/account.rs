//! What an account says about itself: its alias.

use countersign_arn::AccountId;

use super::accounts::find_account;
use super::{Directory, DirectoryError, Thing, readable};
use crate::records::{AccountAlias, RecordKey, check_account_alias};
use crate::{DirectorySnapshot, Transaction};

impl Directory {
    /// Gives an account an alias, in the place of the one it has (IAM API spec, section 4.12).
    ///
    /// # Errors
    /// When the account is not there, or another one has the alias; see [`DirectoryError`].
    pub async fn set_account_alias(
        &self,
        account: AccountId,
        alias: &str,
    ) -> Result<(), DirectoryError> {
        check_account_alias(alias)?;
        self.write(|snapshot| {
            let (key, entry) = find_account(snapshot, account)?;
            let compared = Transaction::new().if_unchanged(&key, entry.modified);
            if entry.record.alias.as_deref() == Some(alias) {
                return Ok((compared, ()));
            }
            if snapshot.account_of_alias(alias).is_some() {
                return Err(DirectoryError::AliasTaken(alias.into()));
            }
            let alias_key = readable(snapshot, RecordKey::AccountAlias(alias))?;
            let mut changed = entry.record.clone();
            let before = changed.alias.replace(alias.into());
            let record = AccountAlias {
                alias: alias.into(),
                account,
            };
            let transaction = without_alias(compared, snapshot, before.as_deref())?
                .if_absent(&alias_key)
                .put(&alias_key, record.encode())
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Takes its alias from an account.
    ///
    /// # Errors
    /// When the account is not there, or its alias is not this one; see [`DirectoryError`].
    pub async fn delete_account_alias(
        &self,
        account: AccountId,
        alias: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, entry) = find_account(snapshot, account)?;
            let mut changed = entry.record.clone();
            if changed.alias.take().as_deref() != Some(alias) {
                return Err(DirectoryError::NoSuch {
                    what: Thing::AccountAlias,
                    name: alias.into(),
                });
            }
            let compared = Transaction::new().if_unchanged(&key, entry.modified);
            let transaction =
                without_alias(compared, snapshot, Some(alias))?.put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }
}

/// Deletes the record that keeps an alias unique, if there is one.
fn without_alias(
    transaction: Transaction,
    snapshot: &DirectorySnapshot,
    alias: Option<&str>,
) -> Result<Transaction, DirectoryError> {
    let Some((alias, modified)) =
        alias.and_then(|alias| Some((alias, snapshot.alias_revision(alias)?)))
    else {
        return Ok(transaction);
    };
    let key = readable(snapshot, RecordKey::AccountAlias(alias))?;
    Ok(transaction.if_unchanged(&key, modified).delete(&key))
}

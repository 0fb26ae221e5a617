//! Accounts.

use countersign_arn::{AccountId, Partition};
use jiff::Timestamp;

use super::{Directory, DirectoryError, readable};
use crate::records::{
    Account, AccountAlias, RecordKey, check_account_alias, check_organization_id,
};
use crate::snapshot::AccountEntry;
use crate::{DirectorySnapshot, Key, Transaction};

/// An account to create.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The 12 digits.
    pub id: AccountId,
    /// Partition of its ARNs.
    pub partition: Partition,
    /// The alias, unique over all accounts.
    pub alias: Option<Box<str>>,
    /// The organization, `o-…`.
    pub organization_id: Option<Box<str>>,
}

impl Directory {
    /// Creates an account.
    ///
    /// # Errors
    /// When it, or the alias, exists; see [`DirectoryError`].
    pub async fn create_account(
        &self,
        new: NewAccount,
        now: Timestamp,
    ) -> Result<Account, DirectoryError> {
        if let Some(alias) = &new.alias {
            check_account_alias(alias)?;
        }
        if let Some(id) = &new.organization_id {
            check_organization_id(id)?;
        }
        let NewAccount {
            id,
            partition,
            alias,
            organization_id,
        } = new;
        let account = Account {
            id,
            partition,
            alias,
            organization_id,
            created: now,
            root_keys: Vec::new(),
            password_policy: None,
            outbound_federation: None,
            credential_report: None,
        };
        self.write(|snapshot| {
            if snapshot.account(account.id).is_some() {
                return Err(DirectoryError::AccountExists(account.id));
            }
            let key = readable(snapshot, RecordKey::Account(account.id))?;
            let mut transaction = Transaction::new()
                .if_absent(&key)
                .put(&key, account.encode());
            if let Some(alias) = &account.alias {
                if snapshot.account_of_alias(alias).is_some() {
                    return Err(DirectoryError::AliasTaken(alias.clone()));
                }
                let key = readable(snapshot, RecordKey::AccountAlias(alias))?;
                let record = AccountAlias {
                    alias: alias.clone(),
                    account: account.id,
                };
                transaction = transaction.if_absent(&key).put(&key, record.encode());
            }
            Ok((transaction, account.clone()))
        })
        .await
    }

    /// Deletes an account that has nothing in it.
    ///
    /// # Errors
    /// When it is not there, or anything that somebody made is in it; see [`DirectoryError`].
    pub async fn delete_account(&self, id: AccountId) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let key = readable(snapshot, RecordKey::Account(id))?;
            let account = snapshot
                .account(id)
                .ok_or(DirectoryError::NoSuchAccount(id))?;
            let hanging = [
                (snapshot.user_count(id) > 0, "users"),
                (!account.record.root_keys.is_empty(), "root access keys"),
                (snapshot.role_count(id) > 0, "roles"),
                (snapshot.group_count(id) > 0, "groups"),
                (snapshot.managed_policy_count(id) > 0, "managed policies"),
                (snapshot.instance_profile_count(id) > 0, "instance profiles"),
                (
                    snapshot.oidc_providers(id).next().is_some()
                        || snapshot.saml_providers(id).next().is_some(),
                    "identity providers",
                ),
                (
                    snapshot.mfa_devices(id, None).next().is_some(),
                    "MFA devices",
                ),
                (
                    snapshot
                        .clusters()
                        .any(|cluster| cluster.record.account == id),
                    "clusters",
                ),
            ];
            if let Some((_, what)) = hanging.into_iter().find(|(hangs, _)| *hangs) {
                return Err(DirectoryError::DeleteConflict { what });
            }
            let mut transaction = Transaction::new()
                .if_unchanged(&key, account.modified)
                .delete(&key);
            for prefix in RecordKey::account_prefixes(id)? {
                if snapshot.has_unusable_below(&prefix) {
                    return Err(DirectoryError::DeleteConflict {
                        what: "records of a later version",
                    });
                }
                // Creating a user does not change the account's record, so that users of one account can be created at
                // the same time; this is what notices one that was created just now.
                transaction = transaction.if_prefix_untouched(prefix, snapshot.revision());
            }
            if let Some(alias) = &account.record.alias
                && let Some(modified) = snapshot.alias_revision(alias)
            {
                let key = readable(snapshot, RecordKey::AccountAlias(alias))?;
                transaction = transaction.if_unchanged(&key, modified).delete(&key);
            }
            Ok((transaction, ()))
        })
        .await
    }
}

pub(super) fn find_account(
    snapshot: &DirectorySnapshot,
    id: AccountId,
) -> Result<(Key, &AccountEntry), DirectoryError> {
    let key = readable(snapshot, RecordKey::Account(id))?;
    let account = snapshot
        .account(id)
        .ok_or(DirectoryError::NoSuchAccount(id))?;
    Ok((key, account))
}

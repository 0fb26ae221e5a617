//! Roles.

use countersign_arn::unique_id::Kind;
use countersign_arn::{AccountId, Tag};
use jiff::Timestamp;

use super::policies::{check_document, size};
use super::{Directory, DirectoryError, missing, readable};
use crate::records::{
    RecordKey, Role, TrustPolicy, check_description, check_max_session_duration, check_path,
    check_role_name, check_tags,
};
use crate::snapshot::RoleEntry;
use crate::{DirectorySnapshot, Key, Transaction};

/// A role to create. What its trust policy says is checked by who takes it from outside.
#[derive(Debug, Clone)]
pub struct NewRole {
    /// The account it lives in.
    pub account: AccountId,
    /// The name, unique in the account ignoring case and path.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// Who may assume it.
    pub trust: TrustPolicy,
    /// 3,600 to 43,200 seconds.
    pub max_session_duration: u32,
    /// What it is for.
    pub description: Option<Box<str>>,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl Directory {
    /// Creates a role, with a new unique id.
    ///
    /// # Errors
    /// When the account is not there, or has a role of this name ignoring case; see [`DirectoryError`].
    pub async fn create_role(&self, new: NewRole, now: Timestamp) -> Result<Role, DirectoryError> {
        check_role_name(&new.name)?;
        check_path(&new.path)?;
        check_tags(&new.tags)?;
        check_max_session_duration(new.max_session_duration)?;
        new.description
            .as_deref()
            .map_or(Ok(()), check_description)?;
        self.check_trust(&new.trust)?;
        let limit = self.0.quotas.roles_per_account;
        self.write(|snapshot| {
            let account_key = readable(snapshot, RecordKey::Account(new.account))?;
            let account = snapshot
                .account(new.account)
                .ok_or(DirectoryError::NoSuchAccount(new.account))?;
            let key = readable(
                snapshot,
                RecordKey::Role {
                    account: new.account,
                    name: &new.name,
                },
            )?;
            if snapshot.role(new.account, &new.name).is_some() {
                return Err(DirectoryError::RoleExists(new.name.clone()));
            }
            if snapshot.role_count(new.account) >= limit {
                return Err(DirectoryError::QuotaExceeded {
                    quota: "RolesPerAccount",
                    limit,
                });
            }
            let id = self.new_id(Kind::Role, new.account, |id| {
                snapshot.principal(id).is_some()
            })?;
            let role = Role {
                account: new.account,
                partition: account.record.partition,
                name: new.name.clone(),
                path: new.path.clone(),
                id: id.into(),
                created: now,
                description: new.description.clone(),
                max_session_duration: new.max_session_duration,
                trust: new.trust.clone(),
                tags: new.tags.clone(),
                policies: Vec::new(),
                attached: Vec::new(),
                boundary: None,
            };
            let transaction = Transaction::new()
                .if_unchanged(&account_key, account.modified)
                .if_absent(&key)
                .put(&key, role.encode());
            Ok((transaction, role))
        })
        .await
    }

    /// Puts another trust policy in the place of a role's. Sessions that exist go on.
    ///
    /// # Errors
    /// When the role is not there; see [`DirectoryError`].
    pub async fn set_trust_policy(
        &self,
        account: AccountId,
        role_name: &str,
        trust: TrustPolicy,
    ) -> Result<(), DirectoryError> {
        self.check_trust(&trust)?;
        self.write(|snapshot| {
            let (key, role) = find_role(snapshot, account, role_name)?;
            let mut changed = role.record.clone();
            changed.trust = trust.clone();
            let transaction = Transaction::new()
                .if_unchanged(&key, role.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Deletes a role that has no inline policies. Its sessions are dead at once: they name its unique id.
    ///
    /// # Errors
    /// When it is not there, or has inline policies; see [`DirectoryError`].
    pub async fn delete_role(&self, account: AccountId, name: &str) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, role) = find_role(snapshot, account, name)?;
            if !role.record.policies.is_empty() {
                return Err(DirectoryError::DeleteConflict { what: "policies" });
            }
            let transaction = Transaction::new()
                .if_unchanged(&key, role.modified)
                .delete(&key);
            Ok((transaction, ()))
        })
        .await
    }

    fn check_trust(&self, trust: &TrustPolicy) -> Result<(), DirectoryError> {
        check_document(&trust.document)?;
        let limit = self.0.quotas.trust_policy_chars;
        if size(&trust.document) > limit {
            return Err(DirectoryError::QuotaExceeded {
                quota: "ACLSizePerRole",
                limit,
            });
        }
        Ok(())
    }
}

pub(super) fn find_role<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    name: &str,
) -> Result<(Key, &'s RoleEntry), DirectoryError> {
    let key = RecordKey::Role { account, name };
    let Some(role) = snapshot.role(account, name) else {
        return Err(missing(
            snapshot,
            key,
            DirectoryError::NoSuchRole(name.into()),
        ));
    };
    Ok((key.to_key()?, role))
}

//! Inline policies of users and roles. Documents are kept byte for byte; what they say is checked by who takes them from
//! outside.

use countersign_arn::AccountId;

use super::access_keys::find_user;
use super::roles::find_role;
use super::{Directory, DirectoryError};
use crate::Transaction;
use crate::records::{InlinePolicy, InvalidField, check_policy_name, check_policy_text};

impl Directory {
    /// Gives a user an inline policy, in the place of the one with this name if there is one.
    ///
    /// # Errors
    /// When the user is not there, or its policies become too large; see [`DirectoryError`].
    pub async fn put_user_policy(
        &self,
        account: AccountId,
        user_name: &str,
        policy: InlinePolicy,
    ) -> Result<(), DirectoryError> {
        check(&policy)?;
        let limit = self.0.quotas.user_policy_chars;
        self.write(|snapshot| {
            let (key, user) = find_user(snapshot, account, user_name)?;
            let mut changed = user.record.clone();
            put(&mut changed.policies, &policy, limit)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, user.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Takes an inline policy from a user.
    ///
    /// # Errors
    /// When the user is not there, or has no such policy; see [`DirectoryError`].
    pub async fn delete_user_policy(
        &self,
        account: AccountId,
        user_name: &str,
        policy_name: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, user) = find_user(snapshot, account, user_name)?;
            let mut changed = user.record.clone();
            remove(&mut changed.policies, policy_name)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, user.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Gives a role an inline policy, in the place of the one with this name if there is one.
    ///
    /// # Errors
    /// When the role is not there, or its policies become too large; see [`DirectoryError`].
    pub async fn put_role_policy(
        &self,
        account: AccountId,
        role_name: &str,
        policy: InlinePolicy,
    ) -> Result<(), DirectoryError> {
        check(&policy)?;
        let limit = self.0.quotas.role_policy_chars;
        self.write(|snapshot| {
            let (key, role) = find_role(snapshot, account, role_name)?;
            let mut changed = role.record.clone();
            put(&mut changed.policies, &policy, limit)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, role.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Takes an inline policy from a role.
    ///
    /// # Errors
    /// When the role is not there, or has no such policy; see [`DirectoryError`].
    pub async fn delete_role_policy(
        &self,
        account: AccountId,
        role_name: &str,
        policy_name: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, role) = find_role(snapshot, account, role_name)?;
            let mut changed = role.record.clone();
            remove(&mut changed.policies, policy_name)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, role.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }
}

fn check(policy: &InlinePolicy) -> Result<(), InvalidField> {
    check_policy_name(&policy.name)?;
    check_document(&policy.document)
}

pub(super) fn check_document(text: &str) -> Result<(), InvalidField> {
    check_policy_text(text)
}

/// Characters without any white space: never more than what IAM counts, so that this refuses nothing that IAM accepts.
pub(super) fn size(text: &str) -> usize {
    text.chars().filter(|c| !c.is_ascii_whitespace()).count()
}

fn put(
    policies: &mut Vec<InlinePolicy>,
    policy: &InlinePolicy,
    limit: usize,
) -> Result<(), DirectoryError> {
    match policies.iter_mut().find(|known| known.name == policy.name) {
        Some(known) => known.clone_from(policy),
        None => policies.push(policy.clone()),
    }
    let total: usize = policies.iter().map(|policy| size(&policy.document)).sum();
    if total > limit {
        return Err(DirectoryError::QuotaExceeded {
            quota: "PolicySize",
            limit,
        });
    }
    Ok(())
}

fn remove(policies: &mut Vec<InlinePolicy>, name: &str) -> Result<(), DirectoryError> {
    let before = policies.len();
    policies.retain(|policy| *policy.name != *name);
    if policies.len() == before {
        return Err(DirectoryError::NoSuchPolicy(name.into()));
    }
    Ok(())
}

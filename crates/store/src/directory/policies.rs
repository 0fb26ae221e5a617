//! Inline policies of users, groups and roles. Documents are kept byte for byte; what they say is checked by who takes them
//! from outside.

use countersign_arn::AccountId;
use countersign_policy::size_without_whitespace;

use super::{Directory, DirectoryError, Entity, Quotas};
use crate::EntityKind;
use crate::records::{InlinePolicy, InvalidField, check_policy_name, check_policy_text};

impl Directory {
    /// Gives a user, group or role an inline policy, in the place of the one with this name if there is one. Names differ by
    /// case.
    ///
    /// # Errors
    /// When the entity is not there, is a protected role, or its policies become too large; see [`DirectoryError`].
    pub async fn put_inline_policy(
        &self,
        entity: Entity<'_>,
        policy: InlinePolicy,
    ) -> Result<(), DirectoryError> {
        check(&policy)?;
        let limit = limit(&self.0.quotas, entity.kind);
        self.write(|snapshot| {
            let mut changing = self.changing(snapshot, entity)?;
            let policies = changing.policies();
            match policies.iter_mut().find(|known| known.name == policy.name) {
                Some(known) => known.clone_from(&policy),
                None => policies.push(policy.clone()),
            }
            let total: usize = policies.iter().map(|policy| size(&policy.document)).sum();
            if total > limit {
                return Err(DirectoryError::InlinePoliciesTooLarge {
                    kind: entity.kind,
                    name: changing.name().into(),
                    limit,
                });
            }
            Ok((changing.write(), ()))
        })
        .await
    }

    /// Takes an inline policy from a user, group or role.
    ///
    /// # Errors
    /// When the entity is not there, is a protected role, or has no such policy; see [`DirectoryError`].
    pub async fn delete_inline_policy(
        &self,
        entity: Entity<'_>,
        policy_name: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let mut changing = self.changing(snapshot, entity)?;
            let policies = changing.policies();
            let before = policies.len();
            policies.retain(|policy| *policy.name != *policy_name);
            if policies.len() == before {
                return Err(DirectoryError::NoSuchPolicy(policy_name.into()));
            }
            Ok((changing.write(), ()))
        })
        .await
    }

    /// [`put_inline_policy`](Self::put_inline_policy) for a user.
    ///
    /// # Errors
    /// As there.
    pub async fn put_user_policy(
        &self,
        account: AccountId,
        user_name: &str,
        policy: InlinePolicy,
    ) -> Result<(), DirectoryError> {
        self.put_inline_policy(Entity::user(account, user_name), policy)
            .await
    }

    /// [`put_inline_policy`](Self::put_inline_policy) for a role.
    ///
    /// # Errors
    /// As there.
    pub async fn put_role_policy(
        &self,
        account: AccountId,
        role_name: &str,
        policy: InlinePolicy,
    ) -> Result<(), DirectoryError> {
        self.put_inline_policy(Entity::role(account, role_name), policy)
            .await
    }
}

fn check(policy: &InlinePolicy) -> Result<(), InvalidField> {
    check_policy_name(&policy.name)?;
    check_document(&policy.document)
}

const fn limit(quotas: &Quotas, kind: EntityKind) -> usize {
    match kind {
        EntityKind::User => quotas.user_policy_chars,
        EntityKind::Group => quotas.group_policy_chars,
        EntityKind::Role => quotas.role_policy_chars,
    }
}

pub(super) fn check_document(text: &str) -> Result<(), InvalidField> {
    check_policy_text(text)
}

/// What quotas count of a document (policy language spec, section 2).
pub(super) fn size(text: &str) -> usize {
    size_without_whitespace(text)
}

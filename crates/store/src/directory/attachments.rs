//! Managed policies attached to users, groups and roles (IAM API spec, section 4.7).

use countersign_arn::{AccountId, Arn};

use super::managed_policies::policy_key;
use super::{Directory, DirectoryError, Entity, Thing, missing};
use crate::{DirectorySnapshot, EntityKind, PolicyRef, Transaction};

impl Directory {
    /// Attaches a managed policy, of the same account or of AWS, to a user, group or role. Attaching it again succeeds and
    /// changes nothing.
    ///
    /// # Errors
    /// When the entity or the policy is not there, the entity is a protected role or has as many policies as it may, or the
    /// policy is one for service-linked roles; see [`DirectoryError`].
    pub async fn attach_policy(
        &self,
        entity: Entity<'_>,
        policy_arn: &str,
    ) -> Result<(), DirectoryError> {
        let limit = self.0.quotas.attached_policies;
        self.write(|snapshot| {
            let mut changing = self.changing(snapshot, entity)?;
            let attached = changing.attached();
            if attached.iter().any(|known| **known == *policy_arn) {
                return Ok((changing.unchanged(), ()));
            }
            let full = attached.len() >= limit;
            attached.push(policy_arn.into());
            let transaction = hold_policy(
                changing.write(),
                snapshot,
                entity.account,
                policy_arn,
                Thing::AttachablePolicy,
            )?;
            if full {
                let quota = match entity.kind {
                    EntityKind::User => "PoliciesPerUser",
                    EntityKind::Group => "PoliciesPerGroup",
                    EntityKind::Role => "PoliciesPerRole",
                };
                return Err(DirectoryError::QuotaExceeded { quota, limit });
            }
            Ok((transaction, ()))
        })
        .await
    }

    /// Detaches a managed policy from a user, group or role.
    ///
    /// # Errors
    /// When the entity is not there, is a protected role, or does not have the policy; see [`DirectoryError`].
    pub async fn detach_policy(
        &self,
        entity: Entity<'_>,
        policy_arn: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let mut changing = self.changing(snapshot, entity)?;
            let attached = changing.attached();
            let before = attached.len();
            attached.retain(|known| **known != *policy_arn);
            if attached.len() == before {
                return Err(DirectoryError::NoSuch {
                    what: Thing::ManagedPolicy,
                    name: policy_arn.into(),
                });
            }
            Ok((changing.write(), ()))
        })
        .await
    }
}

/// Adds to a transaction which gives the policy to somebody what keeps the policy there: the record of a customer's policy
/// is written again as it is, so that whoever deletes it at the same time has to look again. The policies of AWS stay.
///
/// A policy of another account, or of AWS in another partition, is not there.
pub(super) fn hold_policy(
    transaction: Transaction,
    snapshot: &DirectorySnapshot,
    account: AccountId,
    arn: &str,
    what: Thing,
) -> Result<Transaction, DirectoryError> {
    let no_such = || DirectoryError::NoSuch {
        what,
        name: arn.into(),
    };
    let policy = snapshot.policy_by_arn(arn);
    match policy {
        Some(PolicyRef::Customer(policy)) if policy.record.account == account => {
            let key = policy_key(policy)?;
            Ok(transaction
                .if_unchanged(&key, policy.modified)
                .put(&key, policy.record.encode()))
        }
        Some(policy @ (PolicyRef::Imported(_) | PolicyRef::Shipped(_))) => {
            let partition = snapshot
                .account(account)
                .ok_or(DirectoryError::NoSuchAccount(account))?
                .record
                .partition;
            if !Arn::parse(arn).is_ok_and(|arn| arn.partition == partition.id()) {
                return Err(no_such());
            }
            if !policy.is_attachable() {
                return Err(DirectoryError::NotAttachable(arn.into()));
            }
            Ok(transaction)
        }
        Some(PolicyRef::Customer(_)) => Err(no_such()),
        None => Err(match super::managed_policies::key_of_arn(account, arn) {
            Some(key) => missing(snapshot, key, no_such()),
            None => no_such(),
        }),
    }
}

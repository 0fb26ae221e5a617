//! Access policies of access entries (EKS API spec, section 8).

use countersign_access::AccessScope;
use jiff::Timestamp;

use super::access_entries::plan_change;
use super::{ClusterPlace, Directory, DirectoryError, Thing};
use crate::records::PolicyAssociation;

/// An access policy that was associated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociatedPolicy {
    /// The association as it is now.
    pub association: PolicyAssociation,
    /// The scope that it had before, when the policy was associated already.
    pub replaced: Option<AccessScope>,
}

impl Directory {
    /// Associates an access policy. One that is associated already gets the new scope in place of the old one, and keeps
    /// the time at which it was first associated.
    ///
    /// # Errors
    /// When the entry is not there, or its type has no policies; see [`DirectoryError`].
    pub async fn associate_access_policy(
        &self,
        place: ClusterPlace<'_>,
        principal_arn: &str,
        policy_arn: &str,
        scope: &AccessScope,
        now: Timestamp,
    ) -> Result<AssociatedPolicy, DirectoryError> {
        self.write(|snapshot| {
            plan_change(snapshot, place, principal_arn, now, |entry| {
                if !entry.entry_type.takes_policies() {
                    return Err(DirectoryError::EntryTypeRefuses(entry.entry_type));
                }
                let known = entry.association(policy_arn);
                let replaced = known.map(|known| known.scope.clone());
                let association = PolicyAssociation {
                    policy_arn: policy_arn.into(),
                    scope: scope.clone(),
                    associated: known.map_or(now, |known| known.associated),
                    modified: now,
                };
                entry
                    .associations
                    .retain(|known| *known.policy_arn != *policy_arn);
                entry.associations.push(association.clone());
                entry
                    .associations
                    .sort_by(|a, b| a.policy_arn.cmp(&b.policy_arn));
                Ok(AssociatedPolicy {
                    association,
                    replaced,
                })
            })
        })
        .await
    }

    /// Takes an access policy off an entry.
    ///
    /// # Errors
    /// When the entry is not there, or has no such policy; see [`DirectoryError`].
    pub async fn disassociate_access_policy(
        &self,
        place: ClusterPlace<'_>,
        principal_arn: &str,
        policy_arn: &str,
        now: Timestamp,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            plan_change(snapshot, place, principal_arn, now, |entry| {
                let before = entry.associations.len();
                entry
                    .associations
                    .retain(|known| *known.policy_arn != *policy_arn);
                if entry.associations.len() == before {
                    return Err(DirectoryError::NoSuch {
                        what: Thing::PolicyAssociation,
                        name: policy_arn.into(),
                    });
                }
                Ok(())
            })
        })
        .await
    }
}

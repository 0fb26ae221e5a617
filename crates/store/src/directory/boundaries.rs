//! Permissions boundaries of users and roles (IAM API spec, section 4.9).

use super::attachments::hold_policy;
use super::{Directory, DirectoryError, Entity, Thing};
use crate::records::InvalidField;

impl Directory {
    /// Makes a managed policy, of the same account or of AWS, the permissions boundary of a user or role.
    ///
    /// # Errors
    /// When the entity or the policy is not there, the entity is a protected role or a group, or the policy is one for
    /// service-linked roles; see [`DirectoryError`].
    pub async fn put_boundary(
        &self,
        entity: Entity<'_>,
        policy_arn: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let mut changing = self.changing(snapshot, entity)?;
            *changing.boundary().ok_or(NOT_FOR_GROUPS)? = Some(policy_arn.into());
            let transaction = hold_policy(
                changing.write(),
                snapshot,
                entity.account,
                policy_arn,
                Thing::Boundary,
            )?;
            Ok((transaction, ()))
        })
        .await
    }

    /// Takes the permissions boundary from a user or role; without one, nothing changes.
    ///
    /// # Errors
    /// When the entity is not there, or is a protected role or a group; see [`DirectoryError`].
    pub async fn delete_boundary(&self, entity: Entity<'_>) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let mut changing = self.changing(snapshot, entity)?;
            let had_one = changing.boundary().ok_or(NOT_FOR_GROUPS)?.take().is_some();
            let transaction = if had_one {
                changing.write()
            } else {
                changing.unchanged()
            };
            Ok((transaction, ()))
        })
        .await
    }
}

const NOT_FOR_GROUPS: InvalidField = InvalidField {
    field: "what gets a permissions boundary",
    expected: "a user or role",
};

//! Roles of AWS services (IAM API spec, section 5.6).

use countersign_arn::AccountId;
use jiff::{SignedDuration, Timestamp};

use super::roles::find_role;
use super::{Directory, DirectoryError, NewRole};
use crate::records::{DeletionFailure, Job, JobKind, RecordKey, Role};
use crate::{DirectorySnapshot, Key, RoleEntry, Transaction};

/// For how long it can be asked what became of a deletion.
const JOBS_KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Old jobs that one deletion clears away.
const JOBS_CLEARED: usize = 32;
/// Resources named by a deletion that failed.
const USES_NAMED: usize = 20;

const BELOW: &str = "/aws-service-role/";

impl Directory {
    /// Creates the role of a service, with the service's own policy attached. Its path is `/aws-service-role/SERVICE/`.
    ///
    /// # Errors
    /// When the account is not there, or has a role of this name ignoring case; see [`DirectoryError`].
    pub async fn create_service_linked_role(
        &self,
        new: NewRole,
        policy_arn: &str,
        now: Timestamp,
    ) -> Result<Role, DirectoryError> {
        self.danger_change_protected_roles()
            .create_role_with(new, &[policy_arn.into()], now)
            .await
    }

    /// Deletes the role of a service, unless the service still uses it; either way there is a job afterwards that says what
    /// became of it. Jobs are kept for 30 days.
    ///
    /// `by` is who asks. Answers the job's id, `task/aws-service-role/SERVICE/ROLE/UUID`.
    ///
    /// # Errors
    /// When there is no such role, or it belongs to no service; see [`DirectoryError`].
    pub async fn delete_service_linked_role(
        &self,
        account: AccountId,
        name: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<Box<str>, DirectoryError> {
        let uuid = self.new_uuid()?;
        self.write(|snapshot| {
            let (key, role) = find_role(snapshot, account, name)?;
            let service = role
                .record
                .path
                .strip_prefix(BELOW)
                .and_then(|path| path.strip_suffix('/'))
                .ok_or_else(|| DirectoryError::NoSuchRole(name.into()))?;
            let id: Box<str> =
                format!("task{BELOW}{service}/{}/{uuid}", role.record.name).into();
            let resources = uses(snapshot, role, service);
            let mut transaction = Transaction::new().if_unchanged(&key, role.modified);
            let failed = if resources.is_empty() {
                transaction = transaction
                    .if_prefix_untouched(
                        Key::new(format!("cluster/{account}/"))?,
                        snapshot.revision(),
                    )
                    .delete(&key);
                None
            } else {
                Some(DeletionFailure {
                    reason: "A service-linked role cannot be deleted while resources of the service use it."
                        .into(),
                    resources,
                })
            };
            let job = Job {
                account,
                id: id.clone(),
                created: now,
                by: by.into(),
                kind: JobKind::ServiceLinkedRoleDeletion {
                    role: role.arn.as_ref().into(),
                    failed,
                },
            };
            let job_key = RecordKey::Job { account, id: &id }.to_key()?;
            transaction = transaction.if_absent(&job_key).put(&job_key, job.encode());
            for old in old_jobs(snapshot, account, now) {
                transaction = transaction.delete(&RecordKey::Job { account, id: old }.to_key()?);
            }
            Ok((transaction, id))
        })
        .await
    }
}

/// Region and ARN of what uses the role: clusters use the role of EKS itself.
fn uses(
    snapshot: &DirectorySnapshot,
    role: &RoleEntry,
    service: &str,
) -> Vec<(Box<str>, Box<str>)> {
    if service != "eks.amazonaws.com" {
        return Vec::new();
    }
    let mut uses: Vec<_> = snapshot
        .clusters()
        .filter(|cluster| cluster.record.account == role.record.account)
        .map(|cluster| (cluster.record.region.clone(), cluster.arn.as_ref().into()))
        .collect();
    uses.sort();
    uses.truncate(USES_NAMED);
    uses
}

fn old_jobs(
    snapshot: &DirectorySnapshot,
    account: AccountId,
    now: Timestamp,
) -> impl Iterator<Item = &str> {
    snapshot
        .jobs(account)
        .map(|job| &job.record)
        .filter(move |job| {
            matches!(job.kind, JobKind::ServiceLinkedRoleDeletion { .. })
                && now.duration_since(job.created) > JOBS_KEPT
        })
        .map(|job| &*job.id)
        .take(JOBS_CLEARED)
}

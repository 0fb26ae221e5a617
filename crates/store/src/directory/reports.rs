//! Reports and the jobs that make them.

use countersign_arn::AccountId;
use jiff::{SignedDuration, Timestamp};

use super::{Directory, DirectoryError, readable};
use crate::Transaction;
use crate::records::{Account, Job, JobKind, RecordKey};

/// Reports of last access that an account keeps; the oldest give way.
const JOBS: usize = 500;
/// Old jobs that one new one takes along.
const REMOVED_AT_ONCE: usize = 32;

impl Directory {
    /// Notes that a credential report was asked for at `now`, unless one was within `fresh`. Says whether it is new.
    ///
    /// # Errors
    /// When the account is not there; see [`DirectoryError`].
    pub async fn start_credential_report(
        &self,
        account: AccountId,
        fresh: SignedDuration,
        now: Timestamp,
    ) -> Result<bool, DirectoryError> {
        let is_fresh =
            |report: Option<Timestamp>| report.is_some_and(|at| now.duration_since(at) <= fresh);
        let known = self
            .snapshot()
            .account(account)
            .and_then(|account| account.record.credential_report);
        if is_fresh(known) {
            return Ok(false);
        }
        self.write(|snapshot| {
            let key = readable(snapshot, RecordKey::Account(account))?;
            let entry = snapshot
                .account(account)
                .ok_or(DirectoryError::NoSuchAccount(account))?;
            let mut record = Account::clone(&entry.record);
            let new = !is_fresh(record.credential_report);
            if new {
                record.credential_report = Some(now);
            }
            let transaction = Transaction::new()
                .if_unchanged(&key, entry.modified)
                .put(&key, record.encode());
            Ok((transaction, new))
        })
        .await
    }

    /// Stores a job that reports last access. Jobs of this kind from before `oldest` are removed, and the oldest of 500.
    ///
    /// # Errors
    /// When the account is not there; see [`DirectoryError`].
    pub async fn start_access_report(
        &self,
        job: &Job,
        oldest: Timestamp,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            snapshot
                .account(job.account)
                .ok_or(DirectoryError::NoSuchAccount(job.account))?;
            let key = readable(
                snapshot,
                RecordKey::Job {
                    account: job.account,
                    id: &job.id,
                },
            )?;
            let mut known: Vec<(Timestamp, &str)> = snapshot
                .jobs(job.account)
                .filter(|known| matches!(known.record.kind, JobKind::ServiceLastAccessed { .. }))
                .map(|known| (known.record.created, &*known.record.id))
                .collect();
            known.sort_unstable();
            let surplus = (known.len() + 1).saturating_sub(JOBS);
            let mut transaction = Transaction::new().if_absent(&key).put(&key, job.encode());
            for (index, (created, id)) in known.iter().take(REMOVED_AT_ONCE).enumerate() {
                if index < surplus || *created < oldest {
                    let old = RecordKey::Job {
                        account: job.account,
                        id,
                    };
                    transaction = transaction.delete(&readable(snapshot, old)?);
                }
            }
            Ok((transaction, ()))
        })
        .await
    }
}

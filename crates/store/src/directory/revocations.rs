//! Sessions ended before their time (STS spec, section 8.5, item 2).

use countersign_session::{RevocationRow, RevocationTarget};
use jiff::Timestamp;

use super::{Directory, DirectoryError, readable};
use crate::records::{RecordKey, Revocation};
use crate::transaction::limits;
use crate::{Key, Revision, Transaction};

/// Rows there may be; beyond, all sessions are better ended by [`Directory::retire_session_keys`]. Bounds what a change of
/// the list costs every replica.
const REVOCATIONS: usize = 10_000;

impl Directory {
    /// Ends the sessions of `target` that were issued before `before`, or before `now`. When this has answered, they are
    /// dead on this replica; on others as soon as they have seen the change.
    ///
    /// There is one row for a target: of two revocations the later moment counts.
    ///
    /// # Errors
    /// When no session can have such a name, when `before` is after `now`, or when there are 10,000 rows; see
    /// [`DirectoryError`].
    pub async fn revoke_sessions(
        &self,
        target: RevocationTarget,
        before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<RevocationRow, DirectoryError> {
        target.check()?;
        let row = RevocationRow::new(target, before, now)?;
        self.drop_ended_revocations(now).await?;
        let id = row.target.id();
        self.write(|snapshot| {
            let key = readable(snapshot, RecordKey::Revocation(&id))?;
            let (transaction, row) = match snapshot.revocation(&key) {
                Some((known, modified)) => (
                    Transaction::new().if_unchanged(&key, *modified),
                    row.clone().merged(known.clone()),
                ),
                None if snapshot.revocation_count() >= REVOCATIONS => {
                    return Err(DirectoryError::QuotaExceeded {
                        quota: "SessionRevocations",
                        limit: REVOCATIONS,
                    });
                }
                None => (Transaction::new().if_absent(&key), row.clone()),
            };
            let record = Revocation { row };
            Ok((transaction.put(&key, record.encode()), record.row))
        })
        .await
    }

    /// Drops the rows that can mean no session any more; says how many. Cheap when there is none.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub async fn drop_ended_revocations(&self, now: Timestamp) -> Result<usize, DirectoryError> {
        let mut dropped = 0_usize;
        loop {
            let count = self
                .write(|snapshot| {
                    let ended: Vec<(&Key, Revision)> = snapshot
                        .revocation_entries()
                        .filter(|(_, (row, _))| row.is_over(now))
                        .map(|(key, (_, modified))| (key, *modified))
                        .take(limits::OPERATIONS)
                        .collect();
                    let transaction =
                        ended
                            .iter()
                            .fold(Transaction::new(), |transaction, (key, modified)| {
                                transaction.if_unchanged(key, *modified).delete(key)
                            });
                    Ok((transaction, ended.len()))
                })
                .await?;
            dropped = dropped.saturating_add(count);
            if count < limits::OPERATIONS {
                return Ok(dropped);
            }
        }
    }
}

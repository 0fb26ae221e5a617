//! What was used when.

use jiff::Timestamp;

use super::{Directory, DirectoryError, readable};
use crate::records::{LastUsed, RecordKey};
use crate::{DirectorySnapshot, Transaction};

/// Records in one transaction; each is a compare and a write.
const CHUNK: usize = 64;

impl Directory {
    /// Merges what was seen here into what is stored: of every use the latest stays, whichever replica saw it. Uses before
    /// `oldest` are forgotten. Returns how many records were written.
    ///
    /// Records of principals and keys that are gone are not written, nor those that would not change.
    ///
    /// # Errors
    /// When the store cannot be written; what came before in `seen` is stored then.
    pub async fn merge_last_used(
        &self,
        seen: &[LastUsed],
        oldest: Timestamp,
    ) -> Result<usize, DirectoryError> {
        let mut written = 0;
        for chunk in seen.chunks(CHUNK) {
            if chunk
                .iter()
                .all(|seen| merged(&self.snapshot(), seen, oldest).is_none())
            {
                continue;
            }
            written += self
                .write(|snapshot| {
                    let mut transaction = Transaction::new();
                    let mut count = 0;
                    for merged in chunk
                        .iter()
                        .filter_map(|seen| merged(snapshot, seen, oldest))
                    {
                        let key = RecordKey::LastUsed {
                            account: merged.account,
                            id: &merged.id,
                        };
                        // A record of a later version stays as it is.
                        let Ok(key) = readable(snapshot, key) else {
                            continue;
                        };
                        // No id is the beginning of another, so that the prefix is this record alone.
                        transaction = transaction
                            .if_prefix_untouched(key.clone(), snapshot.revision())
                            .put(&key, merged.encode());
                        count += 1;
                    }
                    Ok((transaction, count))
                })
                .await?;
        }
        Ok(written)
    }

    /// Removes what is stored of principals and keys that are gone, and uses before `oldest` of those that are not. At most
    /// `most` records in one go; returns how many were removed or changed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn forget_last_used(
        &self,
        oldest: Timestamp,
        most: usize,
    ) -> Result<usize, DirectoryError> {
        let snapshot = self.snapshot();
        let stale: Vec<LastUsed> = snapshot
            .all_last_used()
            .filter(|used| !exists(&snapshot, used) || !is_recent(used, oldest))
            .take(most)
            .map(|used| LastUsed::clone(used))
            .collect();
        let mut changed = 0;
        for chunk in stale.chunks(CHUNK) {
            changed += self
                .write(|snapshot| {
                    let mut transaction = Transaction::new();
                    let mut count = 0;
                    for used in chunk {
                        let Some(used) = snapshot.last_used(&used.id) else {
                            continue;
                        };
                        let key = readable(
                            snapshot,
                            RecordKey::LastUsed {
                                account: used.account,
                                id: &used.id,
                            },
                        )?;
                        transaction =
                            transaction.if_prefix_untouched(key.clone(), snapshot.revision());
                        let mut left = LastUsed::clone(used);
                        transaction = if exists(snapshot, used) && left.forget_before(oldest) {
                            transaction.put(&key, left.encode())
                        } else {
                            transaction.delete(&key)
                        };
                        count += 1;
                    }
                    Ok((transaction, count))
                })
                .await?;
        }
        Ok(changed)
    }
}

/// The record as it would be stored; none when there is nothing to store.
fn merged(snapshot: &DirectorySnapshot, seen: &LastUsed, oldest: Timestamp) -> Option<LastUsed> {
    if !exists(snapshot, seen) {
        return None;
    }
    let known = snapshot.last_used(&seen.id);
    let mut merged = known.map_or_else(
        || LastUsed {
            account: seen.account,
            id: seen.id.clone(),
            password: None,
            services: std::collections::BTreeMap::new(),
        },
        |known| LastUsed::clone(known),
    );
    merged.merge(seen);
    let something = merged.forget_before(oldest);
    (something && known.is_none_or(|known| **known != merged)).then_some(merged)
}

/// Whether the user, role, access key or root user is there.
fn exists(snapshot: &DirectorySnapshot, used: &LastUsed) -> bool {
    snapshot.principal(&used.id).is_some()
        || snapshot.has_access_key_id(&used.id)
        || (*used.id == *used.account.as_str() && snapshot.account(used.account).is_some())
}

fn is_recent(used: &LastUsed, oldest: Timestamp) -> bool {
    used.password.is_none_or(|at| at >= oldest)
        && used
            .services
            .values()
            .all(|used| used.at >= oldest && used.actions.values().all(|used| used.at >= oldest))
}

//! The one thread that writes: it takes all waiting transactions into one database transaction and one `fsync`.

use std::sync::Arc;

use redb::{Database, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot};

use super::history::Publisher;
use super::open::{META, RECORDS, REVISION};
use crate::{Batch, Change, CommitError, Compare, Operation, Revision, Transaction};

/// Transactions that share an `fsync`; bounds the memory of a group and how long its first member waits.
const GROUP: usize = 512;
const GROUP_BYTES: usize = 8 * 1024 * 1024;
const REVISION_BYTES: usize = 8;

pub(super) struct Request {
    pub(super) transaction: Transaction,
    pub(super) reply: oneshot::Sender<Result<Revision, CommitError>>,
}

pub(super) struct Writer {
    pub(super) database: Arc<Database>,
    pub(super) revision: Revision,
    pub(super) publisher: Publisher,
}

/// What became of one member of a group.
enum Outcome {
    /// Applied, or without effect at this revision.
    Done(Revision),
    Conflict(CommitError),
}

enum GroupError {
    /// Before the commit: certainly not applied.
    NotWritten(redb::Error),
    /// During the commit.
    Unknown(redb::Error),
}

#[derive(Debug, thiserror::Error)]
#[error("an earlier write failed: {0}; restart the process when the disk is well again")]
struct Failed(Arc<str>);

impl Writer {
    /// Runs until every sender is gone.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut failed: Option<Arc<str>> = None;
        while let Some(first) = requests.blocking_recv() {
            let group = collect(first, &mut requests);
            if let Some(reason) = &failed {
                for request in group {
                    let error = CommitError::Unavailable(Box::new(Failed(Arc::clone(reason))));
                    let _ = request.reply.send(Err(error));
                }
                continue;
            }
            match self.write(&group) {
                Ok((outcomes, batches)) => {
                    if let Some(last) = batches.last() {
                        self.revision = last.revision;
                    }
                    self.publisher.publish(batches);
                    for (request, outcome) in group.into_iter().zip(outcomes) {
                        // The caller may have gone; what it asked for is done all the same.
                        let _ = request.reply.send(match outcome {
                            Outcome::Done(revision) => Ok(revision),
                            Outcome::Conflict(error) => Err(error),
                        });
                    }
                }
                Err(error) => {
                    // After a failed commit nobody knows what is on the disk, so nothing may be built on it before
                    // the file was opened anew.
                    let (unknown, error) = match error {
                        GroupError::NotWritten(error) => (false, error),
                        GroupError::Unknown(error) => (true, error),
                    };
                    let reason: Arc<str> = error.to_string().into();
                    tracing::error!(%reason, "the store could not write");
                    if unknown {
                        failed = Some(Arc::clone(&reason));
                    }
                    for request in group {
                        let source: Box<dyn std::error::Error + Send + Sync> =
                            reason.to_string().into();
                        let _ = request.reply.send(Err(if unknown {
                            CommitError::Indeterminate(source)
                        } else {
                            CommitError::Unavailable(source)
                        }));
                    }
                }
            }
        }
    }

    fn write(&self, group: &[Request]) -> Result<(Vec<Outcome>, Vec<Batch>), GroupError> {
        let not_written = |error: redb::Error| GroupError::NotWritten(error);
        let transaction = self
            .database
            .begin_write()
            .map_err(|e| not_written(e.into()))?;
        let (outcomes, batches) = {
            let mut records = transaction
                .open_table(RECORDS)
                .map_err(|e| not_written(e.into()))?;
            let (outcomes, batches) = self
                .apply_all(group, &mut records)
                .map_err(|e| not_written(e.into()))?;
            if let Some(last) = batches.last() {
                let mut meta = transaction
                    .open_table(META)
                    .map_err(|e| not_written(e.into()))?;
                meta.insert(REVISION, last.revision.get())
                    .map_err(|e| not_written(e.into()))?;
            }
            (outcomes, batches)
        };
        if batches.is_empty() {
            transaction.abort().map_err(|e| not_written(e.into()))?;
        } else {
            // Durability is `Immediate` by default: this returns after fsync.
            transaction
                .commit()
                .map_err(|e| GroupError::Unknown(e.into()))?;
        }
        Ok((outcomes, batches))
    }

    fn apply_all(
        &self,
        group: &[Request],
        records: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(Vec<Outcome>, Vec<Batch>), redb::StorageError> {
        let mut outcomes = Vec::with_capacity(group.len());
        let mut batches: Vec<Batch> = Vec::with_capacity(group.len());
        let mut revision = self.revision;
        for request in group {
            if let Some(key) = failed_compare(&request.transaction, records)? {
                outcomes.push(Outcome::Conflict(CommitError::Conflict { key, revision }));
                continue;
            }
            let changes = apply(&request.transaction, revision.next(), records)?;
            if !changes.is_empty() {
                revision = revision.next();
                batches.push(Batch {
                    revision,
                    changes: changes.into(),
                    catching_up: false,
                });
            }
            outcomes.push(Outcome::Done(revision));
        }
        Ok((outcomes, batches))
    }
}

fn collect(first: Request, requests: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.transaction.bytes();
    let mut group = vec![first];
    while group.len() < GROUP && bytes < GROUP_BYTES {
        let Ok(next) = requests.try_recv() else { break };
        bytes = bytes.saturating_add(next.transaction.bytes());
        group.push(next);
    }
    group
}

fn failed_compare(
    transaction: &Transaction,
    records: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<crate::Key>, redb::StorageError> {
    for compare in transaction.compares() {
        let holds = match compare {
            Compare::Absent(key) => records.get(key.as_str())?.is_none(),
            Compare::Unchanged(key, revision) => records
                .get(key.as_str())?
                .is_some_and(|stored| split(stored.value()).is_some_and(|(at, _)| at == *revision)),
            Compare::PrefixUntouched { prefix, since } => {
                let mut holds = true;
                for entry in records.range(prefix.as_str()..)? {
                    let (key, stored) = entry?;
                    if !key.value().starts_with(prefix.as_str()) {
                        break;
                    }
                    if split(stored.value()).is_none_or(|(at, _)| at > *since) {
                        holds = false;
                        break;
                    }
                }
                holds
            }
        };
        if !holds {
            return Ok(Some(compare.key().clone()));
        }
    }
    Ok(None)
}

fn apply(
    transaction: &Transaction,
    revision: Revision,
    records: &mut Table<'_, &'static str, &'static [u8]>,
) -> Result<Vec<Change>, redb::StorageError> {
    let mut changes = Vec::with_capacity(transaction.operations().len());
    for operation in transaction.operations() {
        match operation {
            Operation::Put(key, value) => {
                let mut stored = Vec::with_capacity(REVISION_BYTES.saturating_add(value.len()));
                stored.extend_from_slice(&revision.get().to_be_bytes());
                stored.extend_from_slice(value);
                records.insert(key.as_str(), stored.as_slice())?;
                changes.push(Change::Put(key.clone(), value.clone()));
            }
            Operation::Delete(key) => {
                if records.remove(key.as_str())?.is_some() {
                    changes.push(Change::Delete(key.clone()));
                }
            }
        }
    }
    Ok(changes)
}

/// A stored value taken apart; `None` if it is not one of ours.
pub(super) fn split(stored: &[u8]) -> Option<(Revision, &[u8])> {
    let (revision, value) = stored.split_first_chunk::<REVISION_BYTES>()?;
    Some((Revision::new(u64::from_be_bytes(*revision)), value))
}

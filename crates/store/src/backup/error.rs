//! What can go wrong on the way out of a store and back into one.

use std::io;

use crate::{CommitError, Key, LoadError};

/// Why a backup was not written, or cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The first line is not that of a backup.
    #[error("this is no backup of countersign: its first line says nothing of the kind")]
    NotABackup,
    /// A later version wrote it.
    #[error("the backup has format {found}, this version reads format {known}")]
    Newer {
        /// Its format.
        found: u32,
        /// The latest format known here.
        known: u32,
    },
    /// It ends before its end.
    #[error("the backup is cut off behind line {line}; take another one")]
    Truncated {
        /// The last line that is whole.
        line: u64,
    },
    /// A line is not what it should be.
    #[error("the backup is damaged in line {line}: {what}")]
    Malformed {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The checksum is that of other bytes.
    #[error("the backup is damaged: its SHA-256 is not the one in its last line")]
    Checksum,
    /// The file was changed between the check and the restore.
    #[error("the backup was changed while it was read")]
    Changed,
    /// The store is itself a part of something.
    #[error(
        "a restore into this store was not finished, so it is no source of anything; restore again with `--replace`"
    )]
    UnfinishedRestore,
    /// The store hands out records in no order.
    #[error("the store hands out `{key}` out of order")]
    Order {
        /// The record.
        key: Key,
    },
    /// The file could not be read.
    #[error("the backup could not be read")]
    Read(#[source] io::Error),
    /// The file could not be written.
    #[error("the backup could not be written")]
    Write(#[source] io::Error),
    /// The store could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why a store does not have what it should have after a restore.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The target is in use by something. Nothing was written.
    #[error("the target has {records} records already; `--replace` deletes them first")]
    NotEmpty {
        /// How many there are.
        records: u64,
    },
    /// The target has a part of an earlier restore. Nothing was written.
    #[error("an earlier restore into the target was not finished; `--replace` begins anew")]
    Unfinished,
    /// Somebody else writes to the target. It is marked as unfinished.
    #[error(
        "`{key}` was written by somebody else meanwhile; stop every server on the target, then restore again with `--replace`"
    )]
    NotAlone {
        /// The record.
        key: Key,
    },
    /// What was read back is not what was written. The target is marked as unfinished.
    #[error(
        "what was read back from the target is not what was written; restore again with `--replace`"
    )]
    NotTheSame,
    /// The source.
    #[error(transparent)]
    Source(#[from] BackupError),
    /// The target could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The target could not be written. It may be marked as unfinished.
    #[error(transparent)]
    Commit(CommitError),
}

impl From<CommitError> for RestoreError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict { key, .. } => Self::NotAlone { key },
            other => Self::Commit(other),
        }
    }
}

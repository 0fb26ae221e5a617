//! The seam between the product and whatever keeps its records.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, TryStreamExt};

use crate::{InvalidTransaction, Key, LagHistogram, Revision, Transaction, Value};

/// Durable records with atomic, conditional writes and an ordered feed of changes.
///
/// # Contract
///
/// **Order.** All transactions that change something form one sequence; each takes a [`Revision`] greater than every
/// one before it. Two replicas that watch see the same sequence.
///
/// **Atomicity.** Compares and writes of a transaction are one step: nobody sees a part of it, and no other
/// transaction comes in between. Of two transactions that compare the same state and change it, one wins and the other
/// gets [`CommitError::Conflict`].
///
/// **Durability.** When `commit` has answered with a revision, the change survives the loss of power and `kill -9`.
/// A change that was not acknowledged may survive too, but only as a whole.
///
/// **Visibility.** When `commit` has answered, a `load` or a `watch` on the same handle that starts afterwards has the
/// change.
///
/// **Not found** is never an error: a key that is not there satisfies [`Absent`](crate::Compare::Absent), fails
/// [`Unchanged`](crate::Compare::Unchanged), and deleting it does nothing.
///
/// **No effect.** A transaction without writes, or whose only writes are deletions of what is not there, takes no
/// revision and makes no batch. It answers the revision at which its compares held.
///
/// **Limits** are those of [`limits`](crate::limits), the same for all implementations.
///
/// **Retrying.** `Conflict`: after reading again. `Unavailable`: as it is, later. `Indeterminate`: only after looking
/// whether it happened. `Invalid`: never.
///
/// **Cancelling.** A `commit` future that is dropped may or may not have committed.
pub trait Store: Send + Sync + 'static {
    /// Reads everything, as it was at one revision.
    ///
    /// Records come in key order, in pages, so that a million of them need not be in memory twice. To follow the store
    /// without a gap, [`watch`](Self::watch) behind the revision of the load.
    fn load(&self) -> StoreFuture<'_, Result<Load, LoadError>>;

    /// Applies the transaction if all its compares hold, and answers once it is durable.
    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<Revision, CommitError>>;

    /// Every batch with a revision greater than `after`, in order and without gaps, then those to come.
    ///
    /// A batch is exactly one transaction and becomes visible after it is durable. A batch without changes is a progress
    /// mark: the reader has seen everything up to its revision. The first item is one, so that the reader knows that it is
    /// connected; others come when the store's revision has passed the last batch (as by writes of a neighbour), at most
    /// about a second later, so that waiting for the revision of a commit always ends.
    ///
    /// The stream never ends by itself: its last item is an error. [`WatchError::Compacted`] says that the way from `after` to now is not known any more, or
    /// that `after` is ahead of this store (as when a backup was put back); the reader has to load again. A reader that
    /// is slow gets the same answer; it never slows down writers and never makes the store keep unbounded history.
    fn watch(&self, after: Revision) -> WatchStream;

    /// What keeps the records, for people: `redb`, `etcd`.
    fn kind(&self) -> &'static str {
        "other"
    }

    /// How late watches of this handle see what others commit, from the beginning of the commit, by the writers' clocks;
    /// none where there are no others.
    fn lag(&self) -> Option<Arc<LagHistogram>> {
        None
    }
}

/// What an asynchronous operation of [`Store`] returns; boxed, so that the product can hold an `Arc<dyn Store>`.
pub type StoreFuture<'a, T> = BoxFuture<'a, T>;
/// Batches in order; an error is the last item.
pub type WatchStream = BoxStream<'static, Result<Batch, WatchError>>;
/// The records of a [`Load`], in key order; an error is the last item.
pub type RecordPages = BoxStream<'static, Result<Vec<Record>, LoadError>>;

/// A consistent view of the whole store.
pub struct Load {
    /// The revision of the view.
    pub revision: Revision,
    /// Its records.
    pub pages: RecordPages,
}

impl Load {
    /// All records at once.
    ///
    /// # Errors
    /// When a page could not be read.
    pub async fn collect(self) -> Result<(Revision, Vec<Record>), LoadError> {
        let records = self.pages.try_concat().await?;
        Ok((self.revision, records))
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: Key,
    /// Its bytes.
    pub value: Value,
    /// The transaction that last wrote it.
    pub modified: Revision,
}

/// What one transaction changed. Each key occurs at most once. Without changes it is a progress mark, see
/// [`Store::watch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The transaction's revision, which is also that of every record it put.
    pub revision: Revision,
    /// The changes, without order among themselves; none in a progress mark.
    pub changes: Arc<[Change]>,
    /// Whether the store was further than this when the watch began: who follows it is still behind.
    pub catching_up: bool,
}

/// The new state of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The record has this value now.
    Put(Key, Value),
    /// There is no such record any more.
    Delete(Key),
}

impl Change {
    /// The key that changed.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// Where an implementation's own error goes.
pub(crate) type Source = Box<dyn Error + Send + Sync>;

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The store does not answer now; asking again may help.
    #[error("the store could not be read")]
    Unavailable(#[source] Source),
    /// The view at a revision is gone, as when the store's history was compacted while a slow reader was on the way; another
    /// load succeeds.
    #[error("the view of the store at revision {at} is gone, it has to be loaded again")]
    Superseded {
        /// The revision of the load.
        at: Revision,
    },
    /// What is stored is not what this implementation writes; asking again does not help.
    #[error("the store holds something that is no record: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
}

/// Why a transaction was not applied, or is not known to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A compare did not hold; nothing was written.
    #[error("`{key}` has changed since it was read")]
    Conflict {
        /// Key or prefix of the first compare that failed, in the transaction's order.
        key: Key,
        /// The revision at which it failed: a reader that has caught up to it sees why.
        revision: Revision,
    },
    /// The transaction itself is wrong; nothing was written.
    #[error(transparent)]
    Invalid(#[from] InvalidTransaction),
    /// The store does not take writes now; nothing was written.
    #[error("the store does not take writes now")]
    Unavailable(#[source] Source),
    /// The store failed while it wrote: the transaction may have happened or not.
    #[error("the store failed during the write, it may or may not have happened")]
    Indeterminate(#[source] Source),
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The changes behind the given revision are not known (any more): load, and watch from there.
    #[error(
        "the changes behind revision {after} are not available, the store has to be loaded again"
    )]
    Compacted {
        /// Where the reader was.
        after: Revision,
    },
    /// The store does not answer now; watching again from the last batch may help.
    #[error("the store cannot be watched now")]
    Unavailable(#[source] Source),
}

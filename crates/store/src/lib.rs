//! Durable state: a transactional store with watch, and the typed directory of accounts, users, keys and clusters on it.
//!
//! ```text
//!            Directory                     typed operations: create_user, create_access_key, ...
//!     commit │      ▲ reads                every write is a transaction that compares what it read
//!            ▼      │
//!        dyn Store  │                      load · commit · watch: redb in one file, or anything that passes `conformance`
//!      watch │      │
//!            ▼      │
//!        SnapshotFeed ──► DirectorySnapshot    immutable, indexed; the request path loads one `Arc` and only looks up
//! ```
//!
//! * [`Store`] is the seam: its contract is in the trait's documentation, its tests in `conformance`.
//! * [`RedbStore`] is the embedded implementation.

mod key;
mod redb_store;
mod store;
mod transaction;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use key::{InvalidKey, Key, Revision, Value};
pub use redb_store::{OpenStoreError, RedbOptions, RedbStore};
pub use store::{
    Batch, Change, CommitError, Load, LoadError, Record, RecordPages, Store, StoreFuture,
    WatchError, WatchStream,
};
pub use transaction::{Compare, InvalidTransaction, Operation, Transaction, limits};

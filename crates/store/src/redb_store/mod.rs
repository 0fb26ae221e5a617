//! The embedded store: one file, one process, durable at every acknowledged write.

mod history;
mod open;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures::stream;
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable};
use tokio::sync::{mpsc, oneshot};

use self::history::{History, history};
pub use self::open::OpenStoreError;
use self::open::{META, RECORDS, REVISION, open_file, prepare};
pub(crate) use self::open::{create_directory, private};
use self::writer::{Request, Writer, split};
use crate::{
    CommitError, Key, Load, LoadError, Record, Revision, Store, StoreFuture, Transaction,
    WatchStream,
};

/// Transactions that may wait for the writer; further callers wait to be queued.
const QUEUE: usize = 1024;
const PAGE_RECORDS: usize = 1024;

/// Settings of [`RedbStore`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedbOptions {
    /// Bytes of database pages kept in memory. Default 64 MiB: the product answers from its own snapshot, and reads the
    /// database only at start.
    pub cache_bytes: usize,
    /// Batches kept for watches that resume. Default 16,384.
    pub history_batches: usize,
    /// Bytes of batches kept for watches that resume. Default 64 MiB.
    pub history_bytes: usize,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            history_batches: 16_384,
            history_bytes: 64 << 20,
        }
    }
}

/// A [`Store`] in one redb file.
///
/// One thread writes. Transactions that arrive while it waits for the disk are committed together by the next `fsync`,
/// so that throughput grows with the number of writers while each is still acknowledged only after its own data is
/// durable. Loads read a frozen view and block nobody. History for watches is kept in memory and bounded; after a
/// restart, or for a reader that is too slow, a watch answers [`Compacted`](crate::WatchError::Compacted).
///
/// Dropping the store waits until the transactions that were queued are written and the file's lock is free again.
pub struct RedbStore {
    database: Arc<Database>,
    history: History,
    /// `None` only while dropping.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the writer of the store has stopped")]
struct WriterStopped;

impl RedbStore {
    /// Opens the database file, or creates it (0600, its directory 0700). Blocks; after an unclean stop of a large store
    /// for seconds.
    ///
    /// # Errors
    /// See [`OpenStoreError`]; a file that is in use says so.
    pub fn open(path: &Path, options: &RedbOptions) -> Result<Self, OpenStoreError> {
        let (database, revision) = open_file(path, options.cache_bytes)?;
        Self::start(database, revision, options, path)
    }

    /// A store that is gone with the process, for tests and for trying things out.
    ///
    /// # Errors
    /// When the writer's thread cannot be started.
    pub fn in_memory() -> Result<Self, OpenStoreError> {
        Self::in_memory_with(&RedbOptions::default())
    }

    /// [`in_memory`](Self::in_memory) with settings.
    ///
    /// # Errors
    /// When the writer's thread cannot be started.
    pub fn in_memory_with(options: &RedbOptions) -> Result<Self, OpenStoreError> {
        let path = Path::new(":memory:");
        let database = Builder::new()
            .set_cache_size(options.cache_bytes)
            .create_with_backend(InMemoryBackend::new())
            .map_err(|error| OpenStoreError::Damaged {
                path: path.to_owned(),
                source: Box::new(error.into()),
            })?;
        let revision = prepare(&database, path)?;
        Self::start(database, revision, options, path)
    }

    /// Forgets the history: every watch that is not up to date gets [`Compacted`](crate::WatchError::Compacted).
    pub fn compact_history(&self) {
        self.history.compact();
    }

    fn start(
        database: Database,
        revision: Revision,
        options: &RedbOptions,
        path: &Path,
    ) -> Result<Self, OpenStoreError> {
        let database = Arc::new(database);
        let (publisher, history) =
            history(revision, options.history_batches, options.history_bytes);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            database: Arc::clone(&database),
            revision,
            publisher,
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(receiver))
            .map_err(|source| OpenStoreError::File {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            database,
            history,
            requests: Some(sender),
            writer: Some(writer),
        })
    }
}

impl Store for RedbStore {
    fn load(&self) -> StoreFuture<'_, Result<Load, LoadError>> {
        Box::pin(async move {
            let (begun, revision) = oneshot::channel();
            let (pages, mut receiver) = mpsc::channel(2);
            let database = Arc::clone(&self.database);
            // A thread of its own: it waits for the reader of its pages, who may need the runtime's blocking threads.
            std::thread::Builder::new()
                .name("store-reader".into())
                .spawn(move || read_all(&database, begun, &pages))
                .map_err(|error| LoadError::Unavailable(Box::new(error)))?;
            let revision = revision
                .await
                .unwrap_or_else(|_| Err(LoadError::Unavailable("the reader was stopped".into())))?;
            // The view may already have a transaction that is being published; a watch from here must know it.
            self.history.reaches(revision).await?;
            let pages = stream::poll_fn(move |cx| receiver.poll_recv(cx));
            Ok(Load {
                revision,
                pages: Box::pin(pages),
            })
        })
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            transaction.check()?;
            let (reply, answer) = oneshot::channel();
            let stopped = || CommitError::Unavailable(Box::new(WriterStopped));
            let requests = self.requests.as_ref().ok_or_else(stopped)?;
            requests
                .send(Request { transaction, reply })
                .await
                .map_err(|_| stopped())?;
            // The writer had the transaction and is gone without an answer.
            answer
                .await
                .map_err(|_| CommitError::Indeterminate(Box::new(WriterStopped)))?
        })
    }

    fn watch(&self, after: Revision) -> WatchStream {
        self.history.watch(after)
    }

    fn kind(&self) -> &'static str {
        "redb"
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").finish_non_exhaustive()
    }
}

type Pages = mpsc::Sender<Result<Vec<Record>, LoadError>>;

/// Sends the revision of a frozen view, then its records, until the receiver is gone.
fn read_all(
    database: &Database,
    begun: oneshot::Sender<Result<Revision, LoadError>>,
    pages: &Pages,
) {
    let view = database
        .begin_read()
        .map_err(redb::Error::from)
        .and_then(|transaction| {
            let records = transaction.open_table(RECORDS)?;
            let revision = transaction
                .open_table(META)?
                .get(REVISION)?
                .map_or(0, |v| v.value());
            Ok((records, Revision::new(revision)))
        });
    let records = match view {
        Ok((records, revision)) => {
            if begun.send(Ok(revision)).is_err() {
                return;
            }
            records
        }
        Err(error) => {
            let _ = begun.send(Err(LoadError::Unavailable(Box::new(error))));
            return;
        }
    };
    if let Err(error) = send_pages(&records, pages) {
        let _ = pages.blocking_send(Err(error));
    }
}

fn send_pages(
    records: &impl ReadableTable<&'static str, &'static [u8]>,
    pages: &Pages,
) -> Result<(), LoadError> {
    let unavailable = |error: redb::StorageError| LoadError::Unavailable(Box::new(error));
    let mut page = Vec::with_capacity(PAGE_RECORDS);
    for entry in records.iter().map_err(unavailable)? {
        let (key, stored) = entry.map_err(unavailable)?;
        page.push(record(key.value(), stored.value())?);
        if page.len() == PAGE_RECORDS {
            let full = std::mem::replace(&mut page, Vec::with_capacity(PAGE_RECORDS));
            if pages.blocking_send(Ok(full)).is_err() {
                return Ok(());
            }
        }
    }
    if !page.is_empty() {
        let _ = pages.blocking_send(Ok(page));
    }
    Ok(())
}

fn record(key: &str, stored: &[u8]) -> Result<Record, LoadError> {
    let damaged = || LoadError::Damaged {
        what: format!("record `{}`", key.escape_debug()),
    };
    let (modified, value) = split(stored).ok_or_else(damaged)?;
    let key = Key::new(key).map_err(|_| damaged())?;
    Ok(Record {
        key,
        value: value.into(),
        modified,
    })
}

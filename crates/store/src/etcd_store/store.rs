//! [`EtcdStore`].

use std::fmt;
use std::sync::Arc;

use super::connection::Connections;
use super::options::EtcdOptions;
use super::{load, transact, watch};
use crate::metrics::LagHistogram;
use crate::{
    CommitError, Load, LoadError, Random, Revision, Store, StoreFuture, Transaction, WatchStream,
};

/// A [`Store`] on etcd (v3 API, 3.4 and later).
///
/// * **Several members.** One is used at a time. When it does not answer, reads go on to the next; a write goes on only while
///   it is certain that nothing was done, and is [`Indeterminate`](CommitError::Indeterminate) otherwise.
/// * **Away.** Once etcd has not answered, writes are refused at once with [`Unavailable`](CommitError::Unavailable); every
///   half a second one of them asks whether it is back. A watch finds out by itself that etcd, or its leader, is away, within
///   two heartbeats and the time of a request, and ends.
/// * **Put back.** After a connection was lost, watch and write compare what they have seen with what is there. An etcd that
///   was restored from a backup, or is another one, gets [`Compacted`](crate::WatchError::Compacted), also when its
///   revisions have meanwhile come to be larger than they were.
/// * **Others' keys** below the prefix are ignored, if they are no records. Others' *records* are records.
///
/// Clones share everything.
#[derive(Clone)]
pub struct EtcdStore {
    connections: Arc<Connections>,
    random: Random,
    lag: Arc<LagHistogram>,
}

impl EtcdStore {
    /// A store at these members; nothing is asked of them before the first use. `random` makes every transaction
    /// recognizable.
    #[must_use]
    pub fn new(options: EtcdOptions, random: Random) -> Self {
        Self {
            connections: Arc::new(Connections::new(options)),
            random,
            lag: Arc::default(),
        }
    }
}

impl Store for EtcdStore {
    fn load(&self) -> StoreFuture<'_, Result<Load, LoadError>> {
        Box::pin(load::load(&self.connections))
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<Revision, CommitError>> {
        Box::pin(
            async move { transact::commit(&self.connections, &self.random, &transaction).await },
        )
    }

    fn watch(&self, after: Revision) -> WatchStream {
        watch::watch(&self.connections, &self.lag, after)
    }

    fn kind(&self) -> &'static str {
        "etcd"
    }

    fn lag(&self) -> Option<Arc<LagHistogram>> {
        Some(Arc::clone(&self.lag))
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore")
            .field("options", &self.connections.options)
            .finish_non_exhaustive()
    }
}

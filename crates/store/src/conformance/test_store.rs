//! The store that tests of what lies above run on: in memory, or on a real etcd.

use crate::{
    CommitError, Load, LoadError, OpenStoreError, RedbStore, Revision, Store, StoreFuture,
    Transaction, WatchStream,
};

/// An empty store for one test.
///
/// It is in memory, unless `COUNTERSIGN_TEST_STORE` names an etcd (`etcd://HOST:PORT`) and the feature `etcd` is on: then it is
/// there, below a prefix of its own. So the same tests run on both.
#[derive(Debug)]
pub enum TestStore {
    /// In memory.
    Redb(RedbStore),
    /// On the etcd of the environment.
    #[cfg(feature = "etcd")]
    Etcd(crate::EtcdStore),
}

impl TestStore {
    /// A new one.
    ///
    /// # Errors
    /// When the thread of the store in memory cannot be started.
    ///
    /// # Panics
    /// When `COUNTERSIGN_TEST_STORE` names no etcd.
    pub fn in_memory() -> Result<Self, OpenStoreError> {
        #[cfg(feature = "etcd")]
        if let Ok(address) = std::env::var("COUNTERSIGN_TEST_STORE") {
            let random = crate::Random::system();
            let (mut options, _) =
                crate::EtcdOptions::parse(&address, || jiff::Timestamp::UNIX_EPOCH)
                    .expect("COUNTERSIGN_TEST_STORE is the address of an etcd");
            let name: u64 = u64::from_be_bytes(random.bytes().expect("random bytes"));
            options.prefix = format!("/test-{name:016x}/");
            // All tests at once ask one etcd, on the processors that they need themselves.
            options.request_timeout = std::time::Duration::from_secs(20);
            return Ok(Self::Etcd(crate::EtcdStore::new(options, random)));
        }
        RedbStore::in_memory().map(Self::Redb)
    }

    fn inner(&self) -> &dyn Store {
        match self {
            Self::Redb(store) => store,
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store,
        }
    }
}

impl Store for TestStore {
    fn load(&self) -> StoreFuture<'_, Result<Load, LoadError>> {
        self.inner().load()
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<Revision, CommitError>> {
        self.inner().commit(transaction)
    }

    fn watch(&self, after: Revision) -> WatchStream {
        self.inner().watch(after)
    }

    fn kind(&self) -> &'static str {
        self.inner().kind()
    }

    fn lag(&self) -> Option<std::sync::Arc<crate::LagHistogram>> {
        self.inner().lag()
    }
}

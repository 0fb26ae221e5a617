//! The snapshot follows its store, and says so when it cannot.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_arn::{AccountId, Partition};
use countersign_store::records::{Account, RecordKey};
use countersign_store::{
    CommitError, FeedState, FeedStopped, Load, LoadError, RedbStore, Revision, RootKey, Sealer,
    SnapshotFeed, Store, StoreFuture, Transaction, WatchError, WatchStream,
};
use futures::{StreamExt, stream};
use tokio::sync::oneshot;

/// A store whose watches and loads can be made to fail.
struct Flaky {
    inner: RedbStore,
    cut: Mutex<Option<oneshot::Sender<WatchError>>>,
    refuse_watch: AtomicBool,
    refuse_load: AtomicBool,
    panic_on_watch: AtomicBool,
    /// Batches say that there is more.
    catching_up: Arc<AtomicBool>,
    loads: AtomicUsize,
    watches: AtomicUsize,
}

impl Flaky {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: RedbStore::in_memory().unwrap(),
            cut: Mutex::new(None),
            refuse_watch: AtomicBool::new(false),
            refuse_load: AtomicBool::new(false),
            panic_on_watch: AtomicBool::new(false),
            catching_up: Arc::default(),
            loads: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
        })
    }

    /// Ends the watch that runs.
    fn cut(&self, error: WatchError) {
        self.cut
            .lock()
            .unwrap()
            .take()
            .unwrap()
            .send(error)
            .unwrap();
    }

    async fn put(&self, n: u64) -> Revision {
        let account = Account {
            id: AccountId::from_number(n).unwrap(),
            partition: Partition::Aws,
            alias: None,
            organization_id: None,
            created: jiff::Timestamp::UNIX_EPOCH,
            root_keys: Vec::new(),
            password_policy: None,
            outbound_federation: None,
            credential_report: None,
        };
        let key = RecordKey::Account(account.id).to_key().unwrap();
        self.inner
            .commit(Transaction::new().put(&key, account.encode()))
            .await
            .unwrap()
    }
}

impl Store for Flaky {
    fn load(&self) -> StoreFuture<'_, Result<Load, LoadError>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        if self.refuse_load.load(Ordering::SeqCst) {
            return Box::pin(async { Err(LoadError::Unavailable("no load".into())) });
        }
        self.inner.load()
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<Revision, CommitError>> {
        self.inner.commit(transaction)
    }

    fn watch(&self, after: Revision) -> WatchStream {
        self.watches.fetch_add(1, Ordering::SeqCst);
        assert!(
            !self.panic_on_watch.load(Ordering::SeqCst),
            "the watch panics, as the test wants"
        );
        if self.refuse_watch.load(Ordering::SeqCst) {
            return stream::iter([Err(WatchError::Unavailable("no watch".into()))]).boxed();
        }
        let (cut, cutting) = oneshot::channel();
        *self.cut.lock().unwrap() = Some(cut);
        let until = stream::once(async move {
            match cutting.await {
                Ok(error) => Err(error),
                Err(_) => futures::future::pending().await,
            }
        });
        let mut ended = false;
        let catching_up = Arc::clone(&self.catching_up);
        let batches = self.inner.watch(after).map(move |item| {
            item.map(|mut batch| {
                batch.catching_up |= catching_up.load(Ordering::SeqCst);
                batch
            })
        });
        stream::select(batches, until)
            .take_while(move |item| {
                let keep = !ended;
                ended = item.is_err();
                async move { keep }
            })
            .boxed()
    }
}

async fn start(store: &Arc<Flaky>) -> SnapshotFeed {
    let sealer = Sealer::new(&RootKey::from_bytes([1; 32]), &[]).unwrap();
    SnapshotFeed::start(Arc::clone(store) as Arc<dyn Store>, Arc::new(sealer))
        .await
        .unwrap()
}

fn has(feed: &SnapshotFeed, n: u64) -> bool {
    feed.current()
        .account(AccountId::from_number(n).unwrap())
        .is_some()
}

/// Lets the feed run until the condition holds. With the clock paused, its pauses take no time.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    panic!("it did not happen");
}

#[tokio::test]
async fn what_was_there_and_what_comes_is_in_the_snapshot() {
    let store = Flaky::new();
    store.put(1).await;
    let feed = start(&store).await;
    assert!(has(&feed, 1));
    let kept = feed.current();
    let revision = store.put(2).await;
    feed.wait_for(revision).await.unwrap();
    assert!(has(&feed, 2));
    assert!(feed.revision() >= revision);
    assert!(
        kept.revision() < revision,
        "a snapshot that is held does not change"
    );
    assert_eq!(*feed.state(), FeedState::Live);
    assert_eq!(feed.staleness(), Duration::ZERO);
}

#[tokio::test]
async fn waiting_for_what_is_there_already_ends_at_once() {
    let store = Flaky::new();
    let revision = store.put(1).await;
    let feed = start(&store).await;
    feed.wait_for(Revision::ZERO).await.unwrap();
    feed.wait_for(revision).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn compacted_watch_leads_to_a_new_load() {
    let store = Flaky::new();
    let feed = start(&store).await;
    until(|| store.cut.lock().unwrap().is_some()).await;
    store.refuse_watch.store(true, Ordering::SeqCst);
    store.cut(WatchError::Compacted {
        after: Revision::ZERO,
    });
    until(|| *feed.state() != FeedState::Live).await;
    let revision = store.put(1).await;
    store.inner.compact_history();
    store.refuse_watch.store(false, Ordering::SeqCst);
    feed.wait_for(revision).await.unwrap();
    assert!(has(&feed, 1));
    assert!(store.loads.load(Ordering::SeqCst) >= 2);
    let revision = store.put(2).await;
    feed.wait_for(revision).await.unwrap();
    assert_eq!(*feed.state(), FeedState::Live);
}

#[tokio::test(start_paused = true)]
async fn lost_store_leaves_the_last_snapshot_in_force_and_is_taken_up_again() {
    let store = Flaky::new();
    store.put(1).await;
    let feed = start(&store).await;
    until(|| store.cut.lock().unwrap().is_some()).await;
    store.refuse_watch.store(true, Ordering::SeqCst);
    store.cut(WatchError::Unavailable("cut".into()));
    until(|| *feed.state() != FeedState::Live).await;
    let FeedState::Behind { since, reason } = (*feed.state()).clone() else {
        panic!("not behind")
    };
    assert!(reason.contains("cut"), "{reason}");
    let revision = store.put(2).await;
    assert!(has(&feed, 1) && !has(&feed, 2));

    let tried = store.watches.load(Ordering::SeqCst);
    until(|| store.watches.load(Ordering::SeqCst) >= tried + 8).await;
    assert!(
        feed.staleness() >= Duration::from_secs(5),
        "pauses between attempts grow"
    );
    let FeedState::Behind { since: still, .. } = (*feed.state()).clone() else {
        panic!("not behind")
    };
    assert_eq!(since, still, "it counts from when the store was lost");

    store.refuse_watch.store(false, Ordering::SeqCst);
    feed.wait_for(revision).await.unwrap();
    assert!(has(&feed, 2));
    assert_eq!(*feed.state(), FeedState::Live);
    assert_eq!(
        store.loads.load(Ordering::SeqCst),
        1,
        "what the history has is not loaded again"
    );
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_behind_until_it_has_caught_up() {
    let store = Flaky::new();
    let feed = start(&store).await;
    until(|| store.cut.lock().unwrap().is_some()).await;
    store.catching_up.store(true, Ordering::SeqCst);
    store.cut(WatchError::Unavailable("cut".into()));
    until(|| *feed.state() != FeedState::Live).await;
    let FeedState::Behind { since, .. } = (*feed.state()).clone() else {
        panic!("not behind")
    };
    let revision = store.put(1).await;
    feed.wait_for(revision).await.unwrap();
    assert!(has(&feed, 1), "what has come is in force");
    let FeedState::Behind { since: still, .. } = (*feed.state()).clone() else {
        panic!("says that it follows while there is more to come")
    };
    assert_eq!(since, still);

    // The same for a snapshot that was loaded anew.
    let loads = store.loads.load(Ordering::SeqCst);
    store.cut(WatchError::Compacted { after: revision });
    until(|| store.loads.load(Ordering::SeqCst) > loads).await;
    let revision = store.put(2).await;
    feed.wait_for(revision).await.unwrap();
    assert_ne!(*feed.state(), FeedState::Live);

    store.catching_up.store(false, Ordering::SeqCst);
    let revision = store.put(3).await;
    feed.wait_for(revision).await.unwrap();
    until(|| *feed.state() == FeedState::Live).await;
}

#[tokio::test(start_paused = true)]
async fn store_without_news_is_live_again_when_it_can_be_watched() {
    let store = Flaky::new();
    let feed = start(&store).await;
    until(|| store.cut.lock().unwrap().is_some()).await;
    store.cut(WatchError::Unavailable("cut".into()));
    until(|| *feed.state() != FeedState::Live).await;
    until(|| *feed.state() == FeedState::Live).await;
}

#[tokio::test(start_paused = true)]
async fn failed_reload_is_tried_again() {
    let store = Flaky::new();
    store.put(1).await;
    let feed = start(&store).await;
    until(|| store.cut.lock().unwrap().is_some()).await;
    store.refuse_load.store(true, Ordering::SeqCst);
    store.cut(WatchError::Compacted {
        after: Revision::ZERO,
    });
    until(|| store.loads.load(Ordering::SeqCst) >= 4).await;
    assert!(has(&feed, 1));
    assert!(
        matches!(&*feed.state(), FeedState::Behind { reason, .. } if reason.contains("no load"))
    );
    let revision = store.put(2).await;
    store.refuse_load.store(false, Ordering::SeqCst);
    feed.wait_for(revision).await.unwrap();
    assert!(has(&feed, 2));
}

#[tokio::test]
async fn first_load_that_fails_is_an_error() {
    let store = Flaky::new();
    store.refuse_load.store(true, Ordering::SeqCst);
    let sealer = Sealer::new(&RootKey::from_bytes([1; 32]), &[]).unwrap();
    assert!(SnapshotFeed::start(store, Arc::new(sealer)).await.is_err());
}

#[tokio::test]
async fn feed_that_died_is_not_live_and_nobody_waits_for_it() {
    let store = Flaky::new();
    store.panic_on_watch.store(true, Ordering::SeqCst);
    let feed = start(&store).await;
    let revision = store.put(1).await;
    assert_eq!(feed.wait_for(revision).await, Err(FeedStopped));
    assert!(matches!(&*feed.state(), FeedState::Behind { .. }));
}

#[tokio::test]
async fn feed_stops_with_its_last_clone() {
    let store = Flaky::new();
    let feed = start(&store).await;
    let other = feed.clone();
    drop(feed);
    other.wait_for(store.put(1).await).await.unwrap();
    drop(other);
    while Arc::strong_count(&store) > 1 {
        tokio::task::yield_now().await;
    }
}

//! The embedded store keeps the contract of the seam.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use countersign_store::{
    RedbOptions, RedbStore, Revision, Store, Transaction, WatchError, conformance,
};
use futures::StreamExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb_in_memory_is_a_store() {
    conformance::run(
        async || RedbStore::in_memory().unwrap(),
        async |store: &RedbStore| store.compact_history(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb_in_a_file_is_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let made = std::sync::atomic::AtomicUsize::new(0);
    conformance::run(
        async || {
            let n = made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            RedbStore::open(
                &directory.path().join(format!("{n}.redb")),
                &RedbOptions::default(),
            )
            .unwrap()
        },
        async |store: &RedbStore| store.compact_history(),
    )
    .await;
}

#[tokio::test]
async fn slow_watch_is_compacted_by_count_and_by_bytes() {
    for options in [
        RedbOptions {
            history_batches: 3,
            ..RedbOptions::default()
        },
        RedbOptions {
            history_bytes: 3_000,
            ..RedbOptions::default()
        },
    ] {
        let store = RedbStore::in_memory_with(&options).unwrap();
        let key = countersign_store::Key::new("k").unwrap();
        let mut slow = store.watch(Revision::ZERO);
        assert!(slow.next().await.unwrap().unwrap().changes.is_empty());
        for _ in 0..10 {
            store
                .commit(Transaction::new().put(&key, vec![0; 700]))
                .await
                .unwrap();
        }
        match slow.next().await {
            Some(Err(WatchError::Compacted {
                after: Revision::ZERO,
            })) => {}
            other => panic!("expected the history to be compacted, got {other:?}"),
        }
        let mut near = store
            .watch(Revision::new(8))
            .filter(|b| {
                let has_changes = !b.as_ref().unwrap().changes.is_empty();
                async move { has_changes }
            })
            .boxed();
        assert_eq!(
            near.next().await.unwrap().unwrap().revision,
            Revision::new(9)
        );
    }
}

#[tokio::test]
async fn watch_ends_with_an_error_when_the_store_is_closed() {
    let store = RedbStore::in_memory().unwrap();
    let mut watch = store.watch(Revision::ZERO);
    assert!(watch.next().await.unwrap().is_ok());
    drop(store);
    assert!(matches!(
        watch.next().await,
        Some(Err(WatchError::Unavailable(_)))
    ));
    assert!(watch.next().await.is_none());
}

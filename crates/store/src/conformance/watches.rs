//! Watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::join_all;

use super::{commit, conflict, expect_compacted, key, load, next, put, shown, within};
use crate::{Change, Revision, Store, Transaction, limits};

pub(super) async fn first_item_is_a_progress_mark(store: &impl Store) {
    let (now, _) = load(store).await;
    let mut watch = store.watch(now);
    let first = within(watch.next())
        .await
        .expect("an item")
        .expect("a batch");
    assert!(first.changes.is_empty());
    assert!(first.revision >= now);
}

pub(super) async fn batch_is_one_transaction(store: &impl Store) {
    let (now, _) = load(store).await;
    let mut watch = store.watch(now);
    put(store, "b", "0").await;
    let revision = commit(
        store,
        Transaction::new()
            .put(&key("a"), b"1".as_slice())
            .delete(&key("b"))
            .put(&key("c"), b"".as_slice()),
    )
    .await;
    next(&mut watch).await;
    let batch = next(&mut watch).await;
    assert_eq!(batch.revision, revision);
    assert_eq!(shown(&batch), ["+a=1", "+c=", "-b"]);
}

pub(super) async fn deletes_are_seen_and_deletes_of_nothing_are_not(store: &impl Store) {
    let (now, _) = load(store).await;
    let mut watch = store.watch(now);
    put(store, "a", "1").await;
    commit(store, Transaction::new().delete(&key("nothing"))).await;
    commit(store, Transaction::new()).await;
    let deleted = commit(
        store,
        Transaction::new().delete(&key("a")).delete(&key("nothing")),
    )
    .await;
    assert_eq!(shown(&next(&mut watch).await), ["+a=1"]);
    let batch = next(&mut watch).await;
    assert_eq!(
        (batch.revision, shown(&batch)),
        (deleted, vec!["-a".to_owned()])
    );
}

pub(super) async fn watch_from_the_past_replays_without_gap(store: &impl Store) {
    let (start, _) = load(store).await;
    let mut revisions = Vec::new();
    for n in 0..700 {
        revisions.push(put(store, &format!("k{}", n % 5), &n.to_string()).await);
    }
    for skip in [0, 1, 350, 699] {
        let after = if skip == 0 {
            start
        } else {
            revisions[skip - 1]
        };
        let mut watch = store.watch(after);
        for (n, revision) in revisions.iter().enumerate().skip(skip) {
            let batch = next(&mut watch).await;
            assert_eq!(batch.revision, *revision);
            assert_eq!(shown(&batch), [format!("+k{}={n}", n % 5)]);
        }
    }
}

pub(super) async fn watch_resumes_behind_the_last_batch(store: &impl Store) {
    let (start, _) = load(store).await;
    let revisions = [
        put(store, "a", "1").await,
        put(store, "a", "2").await,
        put(store, "a", "3").await,
    ];
    let mut first = store.watch(start);
    let seen = next(&mut first).await.revision;
    drop(first);
    let mut second = store.watch(seen);
    assert_eq!(next(&mut second).await.revision, revisions[1]);
    assert_eq!(next(&mut second).await.revision, revisions[2]);
}

pub(super) async fn watch_waits_for_what_comes(store: &impl Store) {
    let (now, _) = load(store).await;
    let mut watch = store.watch(now);
    let first = within(watch.next())
        .await
        .expect("an item")
        .expect("a batch");
    assert!(first.changes.is_empty());
    let (batch, revision) = futures::join!(next(&mut watch), put(store, "a", "1"));
    assert_eq!(batch.revision, revision);
}

pub(super) async fn conflicting_transactions_are_not_seen(store: &impl Store) {
    let (now, _) = load(store).await;
    let mut watch = store.watch(now);
    put(store, "a", "1").await;
    conflict(
        store,
        Transaction::new()
            .if_absent(&key("a"))
            .put(&key("a"), b"2".as_slice()),
    )
    .await;
    let last = put(store, "b", "1").await;
    next(&mut watch).await;
    assert_eq!(next(&mut watch).await.revision, last);
}

pub(super) async fn waiting_for_any_commit_ends(store: &impl Store) {
    let (now, _) = load(store).await;
    let mut watch = store.watch(now);
    put(store, "a", "1").await;
    let nothing = commit(store, Transaction::new().delete(&key("nothing"))).await;
    let (_, conflicting) = conflict(store, Transaction::new().if_absent(&key("a"))).await;
    let mut reached = Revision::ZERO;
    while reached < nothing.max(conflicting) {
        reached = within(watch.next())
            .await
            .expect("an item")
            .expect("a batch")
            .revision;
    }
}

pub(super) async fn two_watches_see_the_same(store: &impl Store) {
    let (now, _) = load(store).await;
    let (mut one, mut two) = (store.watch(now), store.watch(now));
    for n in 0..50 {
        put(store, &format!("k{n}"), "1").await;
    }
    for _ in 0..50 {
        assert_eq!(next(&mut one).await, next(&mut two).await);
    }
}

pub(super) async fn large_values_arrive_whole(store: &impl Store) {
    let (now, _) = load(store).await;
    let mut watch = store.watch(now);
    let value: Vec<u8> = (0..limits::VALUE_BYTES).map(|n| (n % 251) as u8).collect();
    commit(store, Transaction::new().put(&key("a"), value.clone())).await;
    match &*next(&mut watch).await.changes {
        [Change::Put(at, put)] => assert!(at.as_str() == "a" && **put == *value),
        other => panic!("expected one put, got {other:?}"),
    }
}

pub(super) async fn order_is_the_same_for_load_and_watch_under_concurrent_commits<S: Store>(
    store: &Arc<S>,
) {
    const WRITERS: usize = 8;
    const EACH: usize = 40;
    let (start, _) = load(&**store).await;
    let mut watch = store.watch(start);
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut revisions = Vec::new();
            for n in 0..EACH {
                let shared = format!("shared/{}", n % 3);
                let transaction = Transaction::new()
                    .put(&key(&format!("own/{writer}")), n.to_string().into_bytes())
                    .put(&key(&shared), format!("{writer}:{n}").into_bytes());
                revisions.push(commit(&*store, transaction).await);
            }
            revisions
        })
    });
    let mut acknowledged = Vec::new();
    for revisions in join_all(writers).await {
        let revisions = revisions.expect("a writer");
        assert!(
            revisions.is_sorted_by(|a, b| a < b),
            "a later commit has a later revision"
        );
        acknowledged.extend(revisions);
    }
    acknowledged.sort();
    let mut state = BTreeMap::new();
    for revision in acknowledged {
        let batch = next(&mut watch).await;
        assert_eq!(
            batch.revision, revision,
            "every acknowledged transaction is one batch, in order"
        );
        assert_eq!(batch.changes.len(), 2);
        for change in batch.changes.iter() {
            match change {
                Change::Put(key, value) => {
                    state.insert(key.clone(), (value.clone(), batch.revision))
                }
                Change::Delete(key) => state.remove(key),
            };
        }
    }
    let (_, records) = load(&**store).await;
    let loaded: BTreeMap<_, _> = records
        .into_iter()
        .map(|r| (r.key, (r.value, r.modified)))
        .collect();
    assert_eq!(state, loaded, "folding the batches gives what a load gives");
}

pub(super) async fn compacted_history_is_said_so<S: Store>(store: &S, compact: &impl AsyncFn(&S)) {
    let (start, _) = load(store).await;
    let first = put(store, "a", "1").await;
    let second = put(store, "a", "2").await;
    let mut behind = store.watch(start);
    assert_eq!(next(&mut behind).await.revision, first);
    drop(behind);
    compact(store).await;
    for after in [start, first] {
        expect_compacted(&mut store.watch(after), after).await;
    }
    let mut current = store.watch(second);
    let third = put(store, "a", "3").await;
    assert_eq!(next(&mut current).await.revision, third);
}

pub(super) async fn load_and_watch_after_compaction<S: Store>(
    store: &S,
    compact: &impl AsyncFn(&S),
) {
    put(store, "a", "1").await;
    put(store, "b", "1").await;
    compact(store).await;
    let (revision, records) = load(store).await;
    assert_eq!(records.len(), 2);
    let mut watch = store.watch(revision);
    let third = put(store, "a", "2").await;
    assert_eq!(next(&mut watch).await.revision, third);
}

pub(super) async fn a_revision_of_the_future_is_compacted(store: &impl Store) {
    let revision = put(store, "a", "1").await;
    let future = Revision::new(revision.get() + 1_000_000);
    expect_compacted(&mut store.watch(future), future).await;
}

//! The suite that every implementation of [`Store`] runs.
//!
//! An implementation's test is one call of [`run`]. A violated rule panics with the rule's name in the backtrace. Nothing
//! here sleeps: what has to happen is waited for, within a limit that only a broken store reaches.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this module is a test"
)]

mod commits;
mod test_store;
mod watches;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

pub use self::test_store::TestStore;
use crate::{
    Batch, Change, CommitError, Key, Record, Revision, Store, Transaction, WatchError, WatchStream,
};

/// Longer than anything a working store takes.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs every check, each on a store of its own.
///
/// `fresh` makes an empty store. `compact` makes it forget its history, so that a watch from any revision before the last one
/// can no longer be served.
///
/// # Panics
/// When the store breaks a rule of its contract.
pub async fn run<S, F, C>(fresh: F, compact: C)
where
    S: Store,
    F: AsyncFn() -> S,
    C: AsyncFn(&S),
{
    commits::empty_store_has_no_records(&fresh().await).await;
    commits::put_is_loaded_with_its_revision(&fresh().await).await;
    commits::records_load_in_byte_order_over_several_pages(&fresh().await).await;
    commits::put_replaces_value_and_revision(&fresh().await).await;
    commits::put_of_the_same_value_is_a_change(&fresh().await).await;
    commits::delete_removes_and_a_put_brings_back(&fresh().await).await;
    commits::delete_of_nothing_has_no_effect(&fresh().await).await;
    commits::empty_transaction_answers_and_changes_nothing(&fresh().await).await;
    commits::compare_absent(&fresh().await).await;
    commits::compare_unchanged(&fresh().await).await;
    commits::compare_prefix_untouched(&fresh().await).await;
    commits::prefix_does_not_reach_neighbours(&fresh().await).await;
    commits::compares_see_the_state_before_the_transaction(&fresh().await).await;
    commits::first_failing_compare_is_named_and_nothing_is_written(&fresh().await).await;
    commits::transaction_is_all_or_nothing_over_many_keys(&fresh().await).await;
    commits::limits_are_kept_to_the_byte(&fresh().await).await;
    commits::a_key_written_twice_is_refused(&fresh().await).await;
    commits::empty_values_are_values(&fresh().await).await;
    commits::load_is_frozen_while_others_write(&fresh().await).await;

    let store = Arc::new(fresh().await);
    commits::one_of_many_writers_wins_a_compare(&store).await;
    let store = Arc::new(fresh().await);
    commits::no_update_is_lost_between_racing_writers(&store).await;
    let store = Arc::new(fresh().await);
    commits::racing_transfers_keep_the_sum(&store).await;

    watches::first_item_is_a_progress_mark(&fresh().await).await;
    watches::batch_is_one_transaction(&fresh().await).await;
    watches::deletes_are_seen_and_deletes_of_nothing_are_not(&fresh().await).await;
    watches::watch_from_the_past_replays_without_gap(&fresh().await).await;
    watches::watch_resumes_behind_the_last_batch(&fresh().await).await;
    watches::watch_waits_for_what_comes(&fresh().await).await;
    watches::conflicting_transactions_are_not_seen(&fresh().await).await;
    watches::waiting_for_any_commit_ends(&fresh().await).await;
    watches::two_watches_see_the_same(&fresh().await).await;
    watches::large_values_arrive_whole(&fresh().await).await;
    let store = Arc::new(fresh().await);
    watches::order_is_the_same_for_load_and_watch_under_concurrent_commits(&store).await;
    let store = fresh().await;
    watches::compacted_history_is_said_so(&store, &compact).await;
    let store = fresh().await;
    watches::load_and_watch_after_compaction(&store, &compact).await;
    watches::a_revision_of_the_future_is_compacted(&fresh().await).await;
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a key")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("an answer in time")
}

async fn commit(store: &impl Store, transaction: Transaction) -> Revision {
    within(store.commit(transaction)).await.expect("a commit")
}

async fn put(store: &impl Store, at: &str, value: &str) -> Revision {
    commit(store, Transaction::new().put(&key(at), value.as_bytes())).await
}

async fn load(store: &impl Store) -> (Revision, Vec<Record>) {
    within(async {
        store
            .load()
            .await
            .expect("a load")
            .collect()
            .await
            .expect("all pages")
    })
    .await
}

async fn get(store: &impl Store, at: &str) -> Option<Record> {
    load(store)
        .await
        .1
        .into_iter()
        .find(|record| record.key.as_str() == at)
}

async fn text(store: &impl Store, at: &str) -> Option<String> {
    let record = get(store, at).await?;
    Some(String::from_utf8(record.value.to_vec()).expect("text"))
}

/// The key in conflict; panics if it is none.
async fn conflict(store: &impl Store, transaction: Transaction) -> (String, Revision) {
    match within(store.commit(transaction)).await {
        Err(CommitError::Conflict { key, revision }) => (key.as_str().to_owned(), revision),
        other => panic!("expected a conflict, got {other:?}"),
    }
}

/// The next batch that has changes.
async fn next(watch: &mut WatchStream) -> Batch {
    loop {
        let batch = within(watch.next())
            .await
            .expect("an item")
            .expect("a batch");
        if !batch.changes.is_empty() {
            return batch;
        }
    }
}

async fn expect_compacted(watch: &mut WatchStream, at: Revision) {
    match within(watch.next()).await {
        Some(Err(WatchError::Compacted { after })) => assert_eq!(after, at),
        other => panic!("expected the history to be compacted, got {other:?}"),
    }
    assert!(
        within(watch.next()).await.is_none(),
        "an error is the last item"
    );
}

/// A batch as sorted text: `+key=value`, `-key`.
fn shown(batch: &Batch) -> Vec<String> {
    let mut changes: Vec<String> = batch
        .changes
        .iter()
        .map(|change| match change {
            Change::Put(key, value) => format!("+{key}={}", String::from_utf8_lossy(value)),
            Change::Delete(key) => format!("-{key}"),
        })
        .collect();
    changes.sort();
    changes
}

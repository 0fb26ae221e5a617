//! Transactions and loads.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::join_all;

use super::{commit, conflict, get, key, load, put, text, within};
use crate::{CommitError, InvalidTransaction, Operation, Revision, Store, Transaction, limits};

pub(super) async fn empty_store_has_no_records(store: &impl Store) {
    assert!(load(store).await.1.is_empty());
}

pub(super) async fn put_is_loaded_with_its_revision(store: &impl Store) {
    let (before, _) = load(store).await;
    let revision = put(store, "a", "1").await;
    assert!(revision > before, "a change takes a later revision");
    let (loaded, records) = load(store).await;
    assert!(
        loaded >= revision,
        "an acknowledged write is in the next load"
    );
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].modified, revision);
    assert_eq!(&*records[0].value, b"1");
}

pub(super) async fn records_load_in_byte_order_over_several_pages(store: &impl Store) {
    // Byte order is neither alphabetical nor that of insertion: `B` < `a` < `ä`.
    let mut expected: Vec<String> = (0..2_600)
        .map(|n| format!("k/{:04}", n * 7919 % 2_600))
        .collect();
    expected.extend(["B", "a", "a/b", "a-b", "ä", "z"].map(str::to_owned));
    for chunk in expected.chunks(100) {
        let transaction = chunk
            .iter()
            .fold(Transaction::new(), |t, at| t.put(&key(at), at.as_bytes()));
        commit(store, transaction).await;
    }
    expected.sort();
    let (_, records) = load(store).await;
    let loaded: Vec<&str> = records.iter().map(|record| record.key.as_str()).collect();
    assert_eq!(loaded, expected);
    assert!(
        records
            .iter()
            .all(|record| *record.value == *record.key.as_str().as_bytes())
    );
}

pub(super) async fn put_replaces_value_and_revision(store: &impl Store) {
    let first = put(store, "a", "1").await;
    let second = put(store, "a", "2").await;
    assert!(second > first);
    let record = get(store, "a").await.expect("the record");
    assert_eq!((&*record.value, record.modified), (b"2".as_slice(), second));
}

pub(super) async fn put_of_the_same_value_is_a_change(store: &impl Store) {
    let first = put(store, "a", "1").await;
    let second = put(store, "a", "1").await;
    assert!(second > first);
    let stale = Transaction::new()
        .if_unchanged(&key("a"), first)
        .put(&key("a"), b"2".as_slice());
    conflict(store, stale).await;
}

pub(super) async fn delete_removes_and_a_put_brings_back(store: &impl Store) {
    let first = put(store, "a", "1").await;
    let deleted = commit(store, Transaction::new().delete(&key("a"))).await;
    assert!(deleted > first);
    assert!(get(store, "a").await.is_none());
    let again = put(store, "a", "1").await;
    assert!(
        again > deleted,
        "a record that is made again does not get its old revision back"
    );
}

pub(super) async fn delete_of_nothing_has_no_effect(store: &impl Store) {
    let first = put(store, "a", "1").await;
    let nothing = commit(store, Transaction::new().delete(&key("b"))).await;
    assert!(nothing >= first);
    let mixed = commit(
        store,
        Transaction::new()
            .delete(&key("b"))
            .put(&key("c"), b"1".as_slice()),
    )
    .await;
    assert!(mixed > first, "the other writes of the transaction count");
    assert_eq!(load(store).await.1.len(), 2);
}

pub(super) async fn empty_transaction_answers_and_changes_nothing(store: &impl Store) {
    let nothing = commit(store, Transaction::new()).await;
    let first = put(store, "a", "1").await;
    assert!(nothing < first);
    let checked = commit(store, Transaction::new().if_unchanged(&key("a"), first)).await;
    assert!(checked >= first);
    conflict(store, Transaction::new().if_absent(&key("a"))).await;
    assert_eq!(get(store, "a").await.expect("the record").modified, first);
}

pub(super) async fn compare_absent(store: &impl Store) {
    let create = |value: &str| {
        Transaction::new()
            .if_absent(&key("a"))
            .put(&key("a"), value.as_bytes())
    };
    let first = commit(store, create("1")).await;
    let (at, revision) = conflict(store, create("2")).await;
    assert_eq!(at, "a");
    assert!(revision >= first);
    assert_eq!(text(store, "a").await.as_deref(), Some("1"));
    commit(store, Transaction::new().delete(&key("a"))).await;
    commit(store, create("3")).await;
    assert_eq!(text(store, "a").await.as_deref(), Some("3"));
}

pub(super) async fn compare_unchanged(store: &impl Store) {
    let change = |at: Revision, value: &str| {
        Transaction::new()
            .if_unchanged(&key("a"), at)
            .put(&key("a"), value.as_bytes())
    };
    conflict(store, change(Revision::ZERO, "absent")).await;
    let first = put(store, "a", "1").await;
    let second = commit(store, change(first, "2")).await;
    for wrong in [
        first,
        second.next(),
        Revision::ZERO,
        Revision::new(u64::MAX >> 1),
    ] {
        conflict(store, change(wrong, "wrong")).await;
    }
    commit(store, Transaction::new().delete(&key("a"))).await;
    conflict(store, change(second, "deleted")).await;
    assert!(get(store, "a").await.is_none());
}

pub(super) async fn compare_prefix_untouched(store: &impl Store) {
    let seen = put(store, "user/1/a", "1").await;
    let touch = |since: Revision| {
        Transaction::new()
            .if_prefix_untouched(key("user/1/"), since)
            .put(&key("mark"), b"x".as_slice())
    };
    commit(store, touch(seen)).await;
    let later = put(store, "user/1/b", "1").await;
    let (at, _) = conflict(store, touch(seen)).await;
    assert_eq!(at, "user/1/");
    commit(store, touch(later)).await;
    put(store, "user/1/a", "2").await;
    conflict(store, touch(later)).await;
    commit(store, Transaction::new().delete(&key("user/1/a"))).await;
    commit(store, touch(later)).await;
}

pub(super) async fn prefix_does_not_reach_neighbours(store: &impl Store) {
    let (seen, _) = load(store).await;
    for neighbour in [
        "user/1",
        "user/10",
        "user/1.",
        "user/10/a",
        "user/2/a",
        "user0",
        "tser/1/z",
    ] {
        put(store, neighbour, "1").await;
    }
    let transaction = Transaction::new().if_prefix_untouched(key("user/1/"), seen);
    commit(store, transaction).await;
}

pub(super) async fn compares_see_the_state_before_the_transaction(store: &impl Store) {
    let both = Transaction::new()
        .if_absent(&key("a"))
        .if_absent(&key("b"))
        .put(&key("a"), b"1".as_slice())
        .put(&key("b"), b"1".as_slice());
    let revision = commit(store, both).await;
    let (_, records) = load(store).await;
    assert!(
        records.iter().all(|record| record.modified == revision),
        "one transaction, one revision"
    );
    let swap = Transaction::new()
        .if_unchanged(&key("a"), revision)
        .delete(&key("a"))
        .put(&key("c"), b"1".as_slice());
    commit(store, swap).await;
}

pub(super) async fn first_failing_compare_is_named_and_nothing_is_written(store: &impl Store) {
    let revision = put(store, "a", "1").await;
    let transaction = Transaction::new()
        .if_unchanged(&key("a"), revision)
        .if_unchanged(&key("b"), revision)
        .if_absent(&key("a"))
        .put(&key("x"), b"1".as_slice())
        .delete(&key("a"));
    let (at, _) = conflict(store, transaction).await;
    assert_eq!(at, "b");
    let (_, records) = load(store).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].modified, revision);
}

pub(super) async fn transaction_is_all_or_nothing_over_many_keys(store: &impl Store) {
    let keys: Vec<_> = (0..limits::OPERATIONS)
        .map(|n| key(&format!("k/{n:03}")))
        .collect();
    let all = |value: &'static [u8]| {
        keys.iter()
            .fold(Transaction::new(), |t, key| t.put(key, value))
    };
    let revision = commit(store, all(b"1")).await;
    conflict(store, all(b"2").if_absent(&keys[77])).await;
    let (_, records) = load(store).await;
    assert_eq!(records.len(), keys.len());
    assert!(
        records
            .iter()
            .all(|record| record.modified == revision && *record.value == *b"1")
    );
    let none = keys.iter().fold(Transaction::new(), Transaction::delete);
    commit(store, none).await;
    assert!(load(store).await.1.is_empty());
}

pub(super) async fn limits_are_kept_to_the_byte(store: &impl Store) {
    let value = vec![7_u8; limits::VALUE_BYTES];
    let longest = key(&"k".repeat(limits::KEY_BYTES));
    commit(store, Transaction::new().put(&longest, value.clone())).await;
    assert_eq!(
        &*get(store, longest.as_str())
            .await
            .expect("the record")
            .value,
        value.as_slice()
    );

    let too_large = Transaction::new().put(&key("a"), vec![7_u8; limits::VALUE_BYTES + 1]);
    refused(store, too_large, |e| {
        matches!(e, InvalidTransaction::ValueTooLarge { .. })
    })
    .await;

    let rest = limits::TRANSACTION_BYTES - 2 - limits::VALUE_BYTES;
    let sized = |rest: usize| {
        Transaction::new()
            .put(&key("a"), value.clone())
            .put(&key("b"), vec![7_u8; rest])
    };
    commit(store, sized(rest)).await;
    refused(store, sized(rest).delete(&key("c")), |e| {
        matches!(e, InvalidTransaction::TooLarge { .. })
    })
    .await;

    let compares = (0..=limits::OPERATIONS).fold(Transaction::new(), |t, n| {
        t.if_absent(&key(&format!("n{n}")))
    });
    let writes =
        (0..=limits::OPERATIONS).fold(Transaction::new(), |t, n| t.delete(&key(&format!("n{n}"))));
    for transaction in [compares, writes] {
        refused(store, transaction, |e| {
            matches!(e, InvalidTransaction::TooManyOperations { .. })
        })
        .await;
    }
}

pub(super) async fn a_key_written_twice_is_refused(store: &impl Store) {
    for second in [
        Operation::Put(key("a"), b"2".as_slice().into()),
        Operation::Delete(key("a")),
    ] {
        let transaction = Transaction::new().put(&key("a"), b"1".as_slice());
        let transaction = match second {
            Operation::Put(key, value) => transaction.put(&key, value),
            Operation::Delete(key) => transaction.delete(&key),
        };
        refused(store, transaction, |e| {
            matches!(e, InvalidTransaction::DuplicateKey { .. })
        })
        .await;
    }
    assert!(load(store).await.1.is_empty());
}

pub(super) async fn empty_values_are_values(store: &impl Store) {
    put(store, "a", "").await;
    assert_eq!(text(store, "a").await.as_deref(), Some(""));
    conflict(store, Transaction::new().if_absent(&key("a"))).await;
}

pub(super) async fn load_is_frozen_while_others_write(store: &impl Store) {
    for n in 0..30 {
        let hundred = (0..100).fold(Transaction::new(), |t, m| {
            t.put(&key(&format!("k/{n:02}/{m:02}")), b"old".as_slice())
        });
        commit(store, hundred).await;
    }
    let mut frozen = within(store.load()).await.expect("a load");
    let revision = frozen.revision;
    commit(
        store,
        Transaction::new()
            .put(&key("k/29/99"), b"new".as_slice())
            .delete(&key("k/29/98")),
    )
    .await;
    put(store, "z", "new").await;
    let mut records = Vec::new();
    while let Some(page) = within(frozen.pages.next()).await {
        records.extend(page.expect("a page"));
    }
    assert_eq!(records.len(), 3_000);
    assert!(
        records
            .iter()
            .all(|r| *r.value == *b"old" && r.modified <= revision)
    );
}

pub(super) async fn one_of_many_writers_wins_a_compare<S: Store>(store: &Arc<S>) {
    for round in 0..20 {
        let at = key(&format!("round/{round}"));
        let racers = (0..8).map(|n| {
            let (store, at) = (Arc::clone(store), at.clone());
            tokio::spawn(async move {
                let transaction = Transaction::new().if_absent(&at).put(&at, vec![n]);
                within(store.commit(transaction)).await
            })
        });
        let results = join_all(racers).await;
        let mut won = None;
        for (n, result) in results.into_iter().enumerate() {
            match result.expect("a racer") {
                Ok(revision) => {
                    assert!(won.is_none(), "two writers won the same compare");
                    won = Some((u8::try_from(n).expect("few racers"), revision));
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(other) => panic!("expected a conflict, got {other:?}"),
            }
        }
        let (winner, revision) = won.expect("one writer wins");
        let record = get(&**store, at.as_str()).await.expect("the record");
        assert_eq!(
            (&*record.value, record.modified),
            ([winner].as_slice(), revision)
        );
    }
}

pub(super) async fn no_update_is_lost_between_racing_writers<S: Store>(store: &Arc<S>) {
    const WRITERS: u64 = 6;
    const EACH: u64 = 20;
    put(&**store, "counter", "0").await;
    let writers = (0..WRITERS).map(|_| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for _ in 0..EACH {
                loop {
                    let record = get(&*store, "counter").await.expect("the counter");
                    let count: u64 = std::str::from_utf8(&record.value)
                        .expect("text")
                        .parse()
                        .expect("a number");
                    let transaction = Transaction::new()
                        .if_unchanged(&record.key, record.modified)
                        .put(&record.key, (count + 1).to_string().into_bytes());
                    match within(store.commit(transaction)).await {
                        Ok(_) => break,
                        Err(CommitError::Conflict { .. }) => {}
                        Err(other) => panic!("expected a conflict, got {other:?}"),
                    }
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("a writer");
    }
    assert_eq!(
        text(&**store, "counter").await,
        Some((WRITERS * EACH).to_string())
    );
}

pub(super) async fn racing_transfers_keep_the_sum<S: Store>(store: &Arc<S>) {
    const BOXES: usize = 4;
    for n in 0..BOXES {
        put(&**store, &format!("box/{n}"), "100").await;
    }
    let movers = (0..BOXES).map(|from| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for step in 1..=15 {
                let to = (from + 1 + step % (BOXES - 1)) % BOXES;
                loop {
                    let (_, records) = load(&*store).await;
                    let amounts: Vec<i64> = records
                        .iter()
                        .map(|r| {
                            std::str::from_utf8(&r.value)
                                .expect("text")
                                .parse()
                                .expect("a number")
                        })
                        .collect();
                    assert_eq!(
                        amounts.iter().sum::<i64>(),
                        400,
                        "a load saw half of a transaction"
                    );
                    let (a, b) = (&records[from], &records[to]);
                    let transaction = Transaction::new()
                        .if_unchanged(&a.key, a.modified)
                        .if_unchanged(&b.key, b.modified)
                        .put(&a.key, (amounts[from] - 1).to_string().into_bytes())
                        .put(&b.key, (amounts[to] + 1).to_string().into_bytes());
                    if within(store.commit(transaction)).await.is_ok() {
                        break;
                    }
                }
            }
        })
    });
    for mover in join_all(movers).await {
        mover.expect("a mover");
    }
}

async fn refused(
    store: &impl Store,
    transaction: Transaction,
    why: impl Fn(&InvalidTransaction) -> bool,
) {
    match within(store.commit(transaction)).await {
        Err(CommitError::Invalid(reason)) if why(&reason) => {}
        other => panic!("expected the transaction to be refused, got {other:?}"),
    }
}

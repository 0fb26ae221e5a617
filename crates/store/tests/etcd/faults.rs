//! What can happen to an etcd, one thing at a time.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use countersign_store::{
    Batch, Change, CommitError, EtcdOptions, EtcdStore, Key, Random, Revision, Store, Transaction,
    WatchError, WatchStream,
};
use futures::StreamExt;
use jiff::Timestamp;

use crate::proxy::{Line, Proxy};
use crate::server::Etcd;
use crate::suite::options;

const LIMIT: Duration = Duration::from_secs(30);

fn store(options: EtcdOptions) -> EtcdStore {
    EtcdStore::new(options, Random::system())
}

fn through(proxy: &Proxy) -> EtcdOptions {
    let endpoint = format!("127.0.0.1:{}", proxy.port);
    EtcdOptions::new(&[endpoint], "/faults", Timestamp::now).unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn put(at: &str, value: &str) -> Transaction {
    Transaction::new().put(&key(at), value.as_bytes())
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("an answer in time")
}

async fn item(watch: &mut WatchStream) -> Result<Batch, WatchError> {
    within(watch.next()).await.expect("an item")
}

/// The next batch with changes.
async fn next(watch: &mut WatchStream) -> Batch {
    loop {
        let batch = item(watch).await.unwrap();
        if !batch.changes.is_empty() {
            return batch;
        }
    }
}

async fn revision_of(store: &EtcdStore) -> Revision {
    let load = within(store.load()).await.unwrap();
    let revision = load.revision;
    within(load.collect()).await.unwrap();
    revision
}

/// Commits until it works.
async fn commit_at_last(store: &EtcdStore, transaction: &Transaction) -> Revision {
    let deadline = Instant::now() + LIMIT;
    loop {
        match within(store.commit(transaction.clone())).await {
            Ok(revision) => return revision,
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Watches from `after` until the store can be watched again.
async fn watch_at_last(store: &EtcdStore, after: Revision) -> (WatchStream, Batch) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut watch = store.watch(after);
        match item(&mut watch).await {
            Ok(first) => return (watch, first),
            Err(WatchError::Unavailable(reason)) => {
                assert!(Instant::now() < deadline, "{reason}");
            }
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn expect_unavailable(watch: &mut WatchStream, limit: Duration) {
    let begun = Instant::now();
    loop {
        match item(watch).await {
            Ok(batch) => assert!(batch.changes.is_empty(), "{batch:?}"),
            Err(WatchError::Unavailable(_)) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(
        begun.elapsed() < limit,
        "noticed after {:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_others_below_the_prefix_break_nothing() {
    let Some(etcd) = Etcd::start("keys_of_others_below_the_prefix_break_nothing", 1).await else {
        return;
    };
    let store = store(options(&etcd, "/faults"));
    let mut other = etcd.client().await;
    let start = revision_of(&store).await;
    let mut watch = store.watch(start);
    item(&mut watch).await.unwrap();
    let first = store.commit(put("a", "1")).await.unwrap();
    let large = vec![b'x'; 600_000];
    for name in [
        b"/faults/r/\xff\xfe".as_slice(),
        b"/faults/r/",
        b"/faults/r/a\nb",
        b"/faults/notes",
        b"/faults/r",
        "/faults/r/".repeat(300).as_bytes(),
    ] {
        other.put(name, large.clone(), None).await.unwrap();
        other.delete(name, None).await.unwrap();
        other.put(name, "x", None).await.unwrap();
    }
    other.put("/faultsandmore/r/b", "x", None).await.unwrap();
    let last = store.commit(put("z", "1")).await.unwrap();
    assert_eq!(next(&mut watch).await.revision, first);
    assert_eq!(next(&mut watch).await.revision, last);
    let (_, records) = store.load().await.unwrap().collect().await.unwrap();
    let keys: Vec<&str> = records.iter().map(|record| record.key.as_str()).collect();
    assert_eq!(keys, ["a", "z"]);

    // A record that somebody else writes is a record, and compares see it.
    other.put("/faults/r/m", "2", None).await.unwrap();
    let batch = next(&mut watch).await;
    assert!(matches!(&*batch.changes, [Change::Put(at, _)] if at.as_str() == "m"));
    let absent = Transaction::new().if_absent(&key("m"));
    match store.commit(absent).await {
        Err(CommitError::Conflict { revision, .. }) => assert!(revision >= batch.revision),
        other => panic!("{other:?}"),
    }
    // The head too is only a key: without it, or with another's, nothing is lost.
    for value in [None, Some("nonsense")] {
        match value {
            None => drop(other.delete("/faults/head", None).await.unwrap()),
            Some(value) => drop(other.put("/faults/head", value, None).await.unwrap()),
        }
        let revision = store.commit(put("n", "1")).await.unwrap();
        assert_eq!(next(&mut watch).await.revision, revision);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_follow_neighbours_within_a_second_and_a_half() {
    let Some(etcd) = Etcd::start("marks_follow_neighbours_within_a_second_and_a_half", 1).await
    else {
        return;
    };
    let store = store(options(&etcd, "/faults"));
    let start = revision_of(&store).await;
    let mut watch = store.watch(start);
    item(&mut watch).await.unwrap();
    let mut neighbour = etcd.client().await;
    let put = neighbour.put("/elsewhere", "x", None).await.unwrap();
    let begun = Instant::now();
    let mark = item(&mut watch).await.unwrap();
    assert!(mark.changes.is_empty());
    assert_eq!(
        i64::try_from(mark.revision.get()).unwrap(),
        put.header().unwrap().revision()
    );
    assert!(
        begun.elapsed() < Duration::from_millis(1500),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_is_compacted_while_it_is_read_says_so() {
    use countersign_store::LoadError;
    let Some(etcd) = Etcd::start("a_view_that_is_compacted_while_it_is_read_says_so", 1).await
    else {
        return;
    };
    let store = store(options(&etcd, "/faults"));
    for n in 0..30 {
        let hundred = (0..100).fold(Transaction::new(), |t, m| {
            t.put(&key(&format!("k/{n:02}/{m:02}")), b"x".as_slice())
        });
        store.commit(hundred).await.unwrap();
    }
    let mut load = store.load().await.unwrap();
    assert!(load.pages.next().await.unwrap().is_ok());
    let now = store.commit(put("a", "1")).await.unwrap();
    let mut admin = etcd.client().await;
    admin
        .compact(i64::try_from(now.get()).unwrap(), None)
        .await
        .unwrap();
    let ended = loop {
        match load.pages.next().await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    match ended {
        Some(Err(LoadError::Superseded { at })) => assert_eq!(at, load.revision),
        other => panic!("{other:?}"),
    }
    assert!(load.pages.next().await.is_none());
    let (_, records) = store.load().await.unwrap().collect().await.unwrap();
    assert_eq!(records.len(), 3_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_noticed_writes_fail_fast_and_nothing_is_missed() {
    let name = "a_partition_is_noticed_writes_fail_fast_and_nothing_is_missed";
    let Some(etcd) = Etcd::start(name, 1).await else {
        return;
    };
    let direct = store(options(&etcd, "/faults"));
    for line in [Line::Stalled, Line::Cut] {
        let proxy = Proxy::to(etcd.members[0].client_port).await;
        let store = store(through(&proxy));
        let start = revision_of(&store).await;
        let mut watch = store.watch(start);
        item(&mut watch).await.unwrap();
        let seen = store.commit(put("a", "1")).await.unwrap();
        assert_eq!(next(&mut watch).await.revision, seen);

        proxy.set(line);
        let missed = direct.commit(put("a", "2")).await.unwrap();
        // Two heartbeats and two requests without an answer; a cut is seen at once.
        expect_unavailable(&mut watch, Duration::from_secs(8)).await;
        // One may ask whether etcd is back; all others are refused without asking.
        let begun = Instant::now();
        for n in 0..200 {
            match store.commit(put("b", "1")).await {
                Err(CommitError::Unavailable(_)) => {}
                other => panic!("{line:?} {n}: {other:?}"),
            }
        }
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{line:?}: {:?}",
            begun.elapsed()
        );

        proxy.set(Line::Open);
        let (mut watch, first) = watch_at_last(&store, seen).await;
        assert!(first.changes.is_empty());
        let batch = next(&mut watch).await;
        assert_eq!(
            batch.revision, missed,
            "{line:?}: what happened meanwhile comes"
        );
        let again = commit_at_last(&store, &put("b", "2")).await;
        assert_eq!(next(&mut watch).await.revision, again);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_member_is_asked_when_one_is_killed() {
    let Some(mut etcd) = Etcd::start("the_next_member_is_asked_when_one_is_killed", 3).await else {
        return;
    };
    let store = store(options(&etcd, "/faults"));
    let start = revision_of(&store).await;
    let mut watch = store.watch(start);
    item(&mut watch).await.unwrap();
    let mut seen = store.commit(put("a", "0")).await.unwrap();
    assert_eq!(next(&mut watch).await.revision, seen);
    for round in 1..=2 {
        let leader = etcd.leader().await;
        etcd.kill(leader);
        let revision = commit_at_last(&store, &put("a", &round.to_string())).await;
        // The watch may have been on the member that is gone; what is seen after it is without a gap.
        let batch = match next_or_end(&mut watch).await {
            Some(batch) => batch,
            None => {
                let (again, _) = watch_at_last(&store, seen).await;
                watch = again;
                next(&mut watch).await
            }
        };
        assert!(batch.revision <= revision);
        seen = batch.revision;
        while seen < revision {
            seen = next(&mut watch).await.revision;
        }
        etcd.run(leader);
        etcd.wait().await;
    }
}

async fn next_or_end(watch: &mut WatchStream) -> Option<Batch> {
    loop {
        match item(watch).await {
            Ok(batch) if batch.changes.is_empty() => {}
            Ok(batch) => return Some(batch),
            Err(WatchError::Unavailable(_)) => return None,
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_the_watch_ends_and_writes_are_refused() {
    let Some(mut etcd) =
        Etcd::start("without_a_leader_the_watch_ends_and_writes_are_refused", 3).await
    else {
        return;
    };
    let store = store(options(&etcd, "/faults"));
    let start = revision_of(&store).await;
    let mut watch = store.watch(start);
    item(&mut watch).await.unwrap();
    // The member that is asked first stays, and has nobody to agree with.
    etcd.kill(1);
    etcd.kill(2);
    expect_unavailable(&mut watch, Duration::from_secs(15)).await;
    let refused = within(store.commit(put("a", "lost"))).await;
    assert!(
        matches!(refused, Err(CommitError::Unavailable(_))),
        "{refused:?}"
    );
    etcd.run(1);
    let revision = commit_at_last(&store, &put("a", "kept")).await;
    let (mut watch, _) = watch_at_last(&store, start).await;
    let batch = next(&mut watch).await;
    assert_eq!(batch.revision, revision, "what was refused did not happen");
}

/// An etcd that is put back from a backup of its data, and goes on until its revisions are larger than before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_was_put_back_is_loaded_again_and_never_followed() {
    let name = "an_etcd_that_was_put_back_is_loaded_again_and_never_followed";
    let Some(mut etcd) = Etcd::start(name, 1).await else {
        return;
    };
    for grown in [false, true] {
        let writer = store(options(&etcd, "/faults"));
        let reader = store(options(&etcd, "/faults"));
        commit_at_last(&writer, &put("base", "1")).await;
        etcd.kill(0);
        let backup = etcd.dir.path().join("backup");
        copy(&etcd.data_dir(0), &backup);
        etcd.run(0);
        etcd.wait().await;

        let start = revision_of(&reader).await;
        let mut watch = reader.watch(start);
        item(&mut watch).await.unwrap();
        let mut seen = start;
        for n in 0..5 {
            seen = commit_at_last(&writer, &put("lost", &n.to_string())).await;
        }
        while next(&mut watch).await.revision < seen {}

        etcd.kill(0);
        std::fs::remove_dir_all(etcd.data_dir(0)).unwrap();
        copy(&backup, &etcd.data_dir(0));
        std::fs::remove_dir_all(&backup).unwrap();
        etcd.run(0);
        etcd.wait().await;
        let other = store(options(&etcd, "/faults"));
        other.load().await.unwrap();
        if grown {
            for n in 0..40 {
                commit_at_last(&other, &put("other", &n.to_string())).await;
            }
        }
        // A write planned on what is lost is refused, although a record of that revision may exist.
        let planned = Transaction::new().if_unchanged(&key("lost"), seen);
        let refused = within(reader.commit(planned.put(&key("lost"), b"x".as_slice()))).await;
        assert!(refused.is_err(), "grown: {grown}: {refused:?}");
        let ended = loop {
            match watch.next().await {
                Some(Ok(batch)) => assert!(batch.revision <= seen, "{batch:?}"),
                Some(Err(WatchError::Unavailable(_))) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    watch = reader.watch(seen);
                }
                Some(Err(WatchError::Compacted { .. })) => break true,
                Some(Err(_)) | None => break false,
            }
        };
        assert!(ended, "grown: {grown}");
        let (_, records) = reader.load().await.unwrap().collect().await.unwrap();
        assert!(records.iter().all(|record| record.key.as_str() != "lost"));
        commit_at_last(&reader, &Transaction::new().delete(&key("other"))).await;
    }
}

#[tokio::test]
async fn nobody_there_is_said_at_once_and_names_the_address() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let endpoint = format!("127.0.0.1:{port}");
    let options = EtcdOptions::new(&[&endpoint], "", Timestamp::now).unwrap();
    let store = store(options);
    let begun = Instant::now();
    let error = store.load().await.unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        reason.contains(&endpoint) && reason.contains("refused"),
        "{reason}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let refused = store.commit(put("a", "1")).await;
    assert!(
        matches!(refused, Err(CommitError::Unavailable(_))),
        "{refused:?}"
    );
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

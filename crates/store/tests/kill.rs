//! `kill -9` at any time loses no acknowledged write.
//!
//! The test runs itself as a child that writes and reports every acknowledgement through a pipe, kills it while it
//! writes, opens the store again and looks for everything that was reported.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]
#![cfg(unix)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use countersign_store::{Key, RedbOptions, RedbStore, Revision, Store, Transaction};

const ROUNDS: u64 = 200;
const WRITERS: u64 = 4;
const STORE: &str = "COUNTERSIGN_TEST_KILL_STORE";
const ROUND: &str = "COUNTERSIGN_TEST_KILL_ROUND";

#[test]
fn no_acknowledged_write_is_lost_over_two_hundred_kills() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut acknowledged: HashMap<String, (u64, u64)> = HashMap::new();
    let mut acknowledgements = 0;
    for round in 0..ROUNDS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let reports = killed_after(&path, round, random % 12, random >> 40);
        acknowledgements += reports.len();
        for report in reports {
            acknowledged.insert(report.key, (report.revision, report.value));
        }
        runtime.block_on(check(&path, round, &acknowledged));
    }
    assert!(
        acknowledgements as u64 > ROUNDS,
        "the child was killed before it did anything"
    );
    println!("{acknowledgements} acknowledged writes over {ROUNDS} kills");
}

struct Report {
    key: String,
    revision: u64,
    value: u64,
}

/// Runs a child until it has acknowledged so many writes, and then a little longer; all that it has reported.
fn killed_after(path: &Path, round: u64, acknowledgements: u64, spin: u64) -> Vec<Report> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "child_writes_until_it_is_killed",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(STORE, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut reports = Vec::new();
    let mut line = String::new();
    let mut killed = false;
    loop {
        if !killed && reports.len() as u64 >= acknowledgements {
            // Not at an acknowledgement but somewhere between two: a write takes some hundred microseconds.
            for _ in 0..spin % 200_000 {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            killed = true;
        }
        line.clear();
        if lines.read_line(&mut line).unwrap() == 0 {
            break;
        }
        if let Some(report) = parse(&line) {
            reports.push(report);
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself in round {round}");
    reports
}

/// `ack KEY REVISION VALUE`; the harness prints other lines, and the last one may be cut.
fn parse(line: &str) -> Option<Report> {
    let mut words = line.strip_suffix('\n')?.strip_prefix("ack ")?.split(' ');
    let report = Report {
        key: words.next()?.to_owned(),
        revision: words.next()?.parse().ok()?,
        value: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(report)
}

async fn check(path: &Path, round: u64, acknowledged: &HashMap<String, (u64, u64)>) {
    let store = RedbStore::open(path, &RedbOptions::default()).unwrap();
    let (revision, records) = store.load().await.unwrap().collect().await.unwrap();
    let records: HashMap<&str, (u64, u64)> = records
        .iter()
        .map(|record| {
            let value = u64::from_be_bytes((*record.value).try_into().unwrap());
            assert!(
                record.modified <= revision,
                "a record is newer than the store"
            );
            (record.key.as_str(), (record.modified.get(), value))
        })
        .collect();
    for (key, (at, value)) in acknowledged {
        let found = records.get(key.as_str());
        // A later write to the same key may have happened without its acknowledgement.
        assert!(
            found
                .is_some_and(|(modified, now)| (modified, now) == (at, value)
                    || (modified > at && now > value)),
            "round {round}: `{key}` was acknowledged at revision {at} as {value}, and is {found:?}"
        );
    }
    for (key, record) in &records {
        if let Some(twin) = key.strip_prefix("left/") {
            let right = records.get(format!("right/{twin}").as_str());
            assert_eq!(right, Some(record), "round {round}: half of a transaction");
        }
    }
    let deleted = records
        .keys()
        .filter(|key| key.starts_with("temporary/"))
        .count() as u64;
    assert!(deleted <= WRITERS, "round {round}: deletions came back");
}

/// Does nothing when it is run as a test; the other test runs it with the variables set.
#[test]
fn child_writes_until_it_is_killed() {
    let (Ok(path), Ok(round)) = (std::env::var(STORE), std::env::var(ROUND)) else {
        return;
    };
    let round: u64 = round.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Arc::new(RedbStore::open(Path::new(&path), &RedbOptions::default()).unwrap());
        let writers = (0..WRITERS).map(|writer| write(Arc::clone(&store), round, writer));
        futures::future::join_all(writers).await;
    });
}

async fn write(store: Arc<RedbStore>, round: u64, writer: u64) {
    let key = |text: String| Key::new(text).unwrap();
    let twin = format!("{writer}/{}", round % 16);
    let (left, right) = (key(format!("left/{twin}")), key(format!("right/{twin}")));
    let temporary = key(format!("temporary/{writer}"));
    for n in 0.. {
        let value = round * 1_000_000 + n;
        let bytes = value.to_be_bytes();
        let both = Transaction::new()
            .put(&left, bytes.as_slice())
            .put(&right, bytes.as_slice());
        let both = if n % 2 == 0 {
            both.put(&temporary, bytes.as_slice())
        } else {
            both.delete(&temporary)
        };
        let own = key(format!("own/{}/{writer}/{}", round % 8, n % 8));
        let revision = store.commit(both).await.unwrap();
        acknowledge(&[&left, &right], revision, value);
        let revision = store
            .commit(Transaction::new().put(&own, bytes.as_slice()))
            .await
            .unwrap();
        acknowledge(&[&own], revision, value);
    }
}

/// One write to the pipe for each, so that a line is there as a whole or not at all.
fn acknowledge(keys: &[&Key], revision: Revision, value: u64) {
    let mut out = std::io::stdout().lock();
    for key in keys {
        out.write_all(format!("ack {key} {revision} {value}\n").as_bytes())
            .unwrap();
    }
    out.flush().unwrap();
}

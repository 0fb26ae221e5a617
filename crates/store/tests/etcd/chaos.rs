//! Everything at once: three replicas on three members, while a replica is killed, the leader is killed, and the network
//! between a replica and etcd stalls and breaks.
//!
//! What must hold: no acknowledged write is lost; a revocation that a replica has acknowledged is in force there at once, and
//! on every other replica after [`STATED_LAG`], unless that replica says that it is behind.
//!
//! The short form runs in `./test`, `./chaos` runs the long one (`COUNTERSIGN_TEST_CHAOS_WRITES`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use countersign_arn::{AccountId, Partition};
use countersign_store::records::AccessKeyStatus;
use countersign_store::{
    CommitError, Directory, DirectoryError, EtcdOptions, EtcdStore, NewAccount, NewUser, Quotas,
    Random, RootKey, Sealer, Store,
};
use jiff::Timestamp;

use crate::proxy::{Line, Proxy};
use crate::server::Etcd;

/// After this long, another replica has seen a change or says that it is behind: two heartbeats and two requests without an
/// answer, and what a busy machine adds.
const STATED_LAG: Duration = Duration::from_secs(8);
const REPLICAS: usize = 3;
const WRITERS: usize = 2;
const SHORT: u64 = 900;
const CHILD: &str = "COUNTERSIGN_TEST_CHAOS_CHILD";
const ENDPOINTS: &str = "COUNTERSIGN_TEST_CHAOS_ENDPOINTS";

fn account() -> AccountId {
    AccountId::from_number(111_122_223_333).unwrap()
}

fn user(name: &str) -> NewUser {
    NewUser {
        account: account(),
        name: name.into(),
        path: "/".into(),
        tags: Vec::new(),
    }
}

async fn open(endpoints: &[String]) -> Directory {
    let options = EtcdOptions::new(endpoints, "/chaos", Timestamp::now).unwrap();
    let store: Arc<dyn Store> = Arc::new(EtcdStore::new(options, Random::system()));
    let quotas = Quotas {
        users_per_account: 1_000_000,
        ..Quotas::default()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let sealer = Sealer::new(&RootKey::from_bytes([7; 32]), &[]).unwrap();
        let store = Arc::clone(&store);
        match Directory::open(store, sealer, Random::system(), quotas.clone()).await {
            Ok(directory) => return directory,
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether an error may come when etcd is in trouble; everything else is a fault of ours.
fn is_trouble(error: &DirectoryError) -> bool {
    matches!(
        error,
        DirectoryError::Behind
            | DirectoryError::Contended
            | DirectoryError::Store(CommitError::Unavailable(_) | CommitError::Indeterminate(_))
    )
}

struct Replica {
    directory: Directory,
    /// One for each member, so that a partition is the replica's alone.
    proxies: Vec<Proxy>,
}

impl Replica {
    /// Waits until a replica that was cut off says that it is behind, and tells how long that took.
    async fn says_so(&self, line: Line) -> Duration {
        let cut = Instant::now();
        while self.directory.feed().staleness() == Duration::ZERO {
            assert!(
                cut.elapsed() < STATED_LAG,
                "a replica without etcd ({line:?}) says nothing for {STATED_LAG:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cut.elapsed()
    }

    fn set(&self, line: Line) {
        for proxy in &self.proxies {
            proxy.set(line);
        }
    }
}

/// What was acknowledged, and how long it took to be seen elsewhere.
#[derive(Default)]
struct Ledger {
    users: BTreeSet<String>,
    /// Access keys that were deactivated, or whose deactivation was acknowledged.
    revoked: BTreeSet<String>,
    lags: Vec<Duration>,
    troubles: BTreeMap<String, u64>,
    /// What must not be, found by tasks that nobody waits for.
    violations: Vec<String>,
}

struct World {
    replicas: Vec<Replica>,
    ledger: Mutex<Ledger>,
    writes: AtomicU64,
    stop: AtomicBool,
    /// Revocations that are still being looked for elsewhere.
    pending: AtomicU64,
}

impl World {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn trouble(&self, error: &DirectoryError) {
        assert!(is_trouble(error), "{error:?}");
        *self.ledger().troubles.entry(error.to_string()).or_default() += 1;
    }

    fn is_active(&self, replica: usize, key: &str) -> bool {
        let snapshot = self.replicas[replica].directory.snapshot();
        snapshot
            .access_key(key)
            .is_some_and(|found| found.key.active_secret().is_some())
    }
}

/// Creates users, gives each a key, and takes every key back.
async fn write(world: Arc<World>, replica: usize, writer: usize, writes: u64) {
    let directory = world.replicas[replica].directory.clone();
    let mut n = 0;
    while world.writes.load(Ordering::Relaxed) < writes && !world.stop.load(Ordering::Relaxed) {
        n += 1;
        let name = format!("u-{replica}-{writer}-{n}");
        if let Err(error) = directory.create_user(user(&name), Timestamp::now()).await {
            world.trouble(&error);
            tokio::time::sleep(Duration::from_millis(30)).await;
            continue;
        }
        world.writes.fetch_add(1, Ordering::Relaxed);
        world.ledger().users.insert(name.clone());
        assert!(
            directory.snapshot().user(account(), &name).is_some() || directory.unseen().is_some(),
            "{name} was acknowledged and is not visible"
        );
        let key = match directory
            .create_access_key(account(), &name, Timestamp::now())
            .await
        {
            Ok(created) => created.metadata.id.to_string(),
            Err(error) => {
                world.trouble(&error);
                continue;
            }
        };
        world.writes.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        match directory
            .set_access_key_status(account(), &name, &key, AccessKeyStatus::Inactive)
            .await
        {
            Err(error) => {
                world.trouble(&error);
                continue;
            }
            Ok(()) => world.writes.fetch_add(1, Ordering::Relaxed),
        };
        assert!(
            !world.is_active(replica, &key) || directory.unseen().is_some(),
            "{key} was revoked here and is let in"
        );
        world.ledger().revoked.insert(key.clone());
        for other in (0..REPLICAS).filter(|other| *other != replica) {
            world.pending.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(seen(Arc::clone(&world), other, key.clone(), begun));
        }
    }
}

/// Another replica sees a revocation, or says that it is behind.
async fn seen(world: Arc<World>, replica: usize, key: String, begun: Instant) {
    let acknowledged = Instant::now();
    loop {
        let snapshot = world.replicas[replica].directory.snapshot();
        let is_there = snapshot.access_key(&key).is_some();
        drop(snapshot);
        if is_there && !world.is_active(replica, &key) {
            world.ledger().lags.push(begun.elapsed());
            break;
        }
        if acknowledged.elapsed() > STATED_LAG {
            let staleness = world.replicas[replica].directory.feed().staleness();
            // It may have come back between the two looks; then it has the change now.
            if staleness == Duration::ZERO && (!is_there || world.is_active(replica, &key)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let snapshot = world.replicas[replica].directory.snapshot();
                if snapshot.access_key(&key).is_none() || world.is_active(replica, &key) {
                    world.ledger().violations.push(format!(
                        "replica {replica} does not know that {key} was revoked, {STATED_LAG:?} after it was, and says nothing"
                    ));
                }
            }
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.pending.fetch_sub(1, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_acknowledged_is_lost_and_nothing_revoked_is_let_in() {
    let name = "nothing_acknowledged_is_lost_and_nothing_revoked_is_let_in";
    let Some(mut etcd) = Etcd::start(name, 3).await else {
        return;
    };
    let writes = std::env::var("COUNTERSIGN_TEST_CHAOS_WRITES")
        .map_or(SHORT, |text| text.parse().expect("a number of writes"));
    let first = open(&etcd.endpoints()).await;
    let new = NewAccount {
        id: account(),
        partition: Partition::Aws,
        alias: None,
        organization_id: None,
    };
    first.create_account(new, Timestamp::now()).await.unwrap();

    let mut replicas = Vec::new();
    for n in 0..REPLICAS {
        let mut proxies = Vec::new();
        for member in 0..3 {
            // Every replica begins with another member.
            let port = etcd.members[(n + member) % 3].client_port;
            proxies.push(Proxy::to(port).await);
        }
        let endpoints: Vec<String> = proxies
            .iter()
            .map(|proxy| format!("127.0.0.1:{}", proxy.port))
            .collect();
        replicas.push(Replica {
            directory: open(&endpoints).await,
            proxies,
        });
    }
    let world = Arc::new(World {
        replicas,
        ledger: Mutex::default(),
        writes: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        pending: AtomicU64::new(0),
    });

    // Quiet first, for the lag that is stated in docs/store.md.
    run(&world, writes / 3).await;
    let mut quiet = std::mem::take(&mut world.ledger().lags);
    println!(
        "{} writes without faults; {}",
        world.writes.load(Ordering::Relaxed),
        shown(&mut quiet)
    );
    assert!(
        world.ledger().troubles.is_empty(),
        "{:?}",
        world.ledger().troubles
    );

    let writers = tokio::spawn({
        let world = Arc::clone(&world);
        async move { run(&world, writes).await }
    });
    let child = children(&etcd.endpoints(), Arc::clone(&world));
    let mut faults = 0;
    let mut slowest = Duration::ZERO;
    while !writers.is_finished() || faults < 4 {
        let replica = &world.replicas[faults % REPLICAS];
        match faults % 4 {
            0 => {
                let leader = etcd.leader().await;
                etcd.kill(leader);
                tokio::time::sleep(Duration::from_secs(3)).await;
                etcd.run(leader);
                etcd.wait().await;
            }
            1 => {
                replica.set(Line::Stalled);
                let noticed = replica.says_so(Line::Stalled).await;
                slowest = slowest.max(noticed);
                tokio::time::sleep(Duration::from_secs(6).saturating_sub(noticed)).await;
                replica.set(Line::Open);
            }
            2 => {
                replica.set(Line::Cut);
                slowest = slowest.max(replica.says_so(Line::Cut).await);
                tokio::time::sleep(Duration::from_secs(2)).await;
                replica.set(Line::Open);
            }
            _ => {
                let member = faults % etcd.members.len();
                etcd.kill(member);
                tokio::time::sleep(Duration::from_secs(1)).await;
                etcd.run(member);
                etcd.wait().await;
            }
        }
        faults += 1;
        // Long enough for replicas to come back, and for writers to do something in between.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(faults < 400, "the writers do not come to an end");
    }
    writers.await.unwrap();
    world.stop.store(true, Ordering::Relaxed);
    let kills = child.await.unwrap();

    // Every replica comes to the same end, and so does one that starts now.
    let last = open(&etcd.endpoints()).await;
    let end = last.snapshot();
    for replica in &world.replicas {
        let reached = replica.directory.feed().wait_for(end.revision());
        tokio::time::timeout(Duration::from_secs(30), reached)
            .await
            .expect("a replica does not come back")
            .unwrap();
    }
    let deadline = Instant::now() + 2 * STATED_LAG;
    while world.pending.load(Ordering::Relaxed) > 0 {
        assert!(
            Instant::now() < deadline,
            "somebody still looks for a revocation"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ledger = world.ledger();
    assert!(ledger.violations.is_empty(), "{:#?}", ledger.violations);
    let snapshots = world
        .replicas
        .iter()
        .map(|replica| replica.directory.snapshot());
    for snapshot in snapshots.chain([end]) {
        for name in &ledger.users {
            assert!(
                snapshot.user(account(), name).is_some(),
                "{name} was acknowledged and is lost"
            );
        }
        for key in &ledger.revoked {
            let found = snapshot.access_key(key).expect("the key");
            assert!(
                found.key.active_secret().is_none(),
                "{key} was revoked and is let in"
            );
        }
    }
    let mut lags = ledger.lags.clone();
    println!(
        "{} acknowledged writes, {} users and {} revocations, {faults} faults, {kills} kills of a replica; {}",
        world.writes.load(Ordering::Relaxed),
        ledger.users.len(),
        ledger.revoked.len(),
        shown(&mut lags)
    );
    println!("a replica that was cut off said so after {slowest:.1?} at most");
    println!("refused meanwhile: {:?}", ledger.troubles);
    assert!(kills > 0, "no replica was killed");
    assert!(!ledger.revoked.is_empty());
}

/// All writers, until there are so many writes in all.
async fn run(world: &Arc<World>, writes: u64) {
    let writers = (0..REPLICAS * WRITERS).map(|n| {
        // Names of a later run are others.
        let writer = n / REPLICAS + usize::try_from(writes).unwrap() * 10;
        tokio::spawn(write(Arc::clone(world), n % REPLICAS, writer, writes))
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
}

fn shown(lags: &mut [Duration]) -> String {
    lags.sort();
    let at = |share: f64| {
        let index = (lags.len() as f64 * share) as usize;
        let lag = lags.get(index.min(lags.len().saturating_sub(1)));
        lag.map_or(0.0, |lag| lag.as_secs_f64() * 1e3)
    };
    format!(
        "from the beginning of a write to visible on another replica: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms ({} samples)",
        at(0.5),
        at(0.99),
        at(1.0),
        lags.len()
    )
}

/// Starts replicas as processes of their own, and kills them while they write; how many.
fn children(endpoints: &[String], world: Arc<World>) -> tokio::task::JoinHandle<usize> {
    let endpoints = endpoints.join(",");
    tokio::task::spawn_blocking(move || {
        let mut kills = 0;
        while !world.stop.load(Ordering::Relaxed) {
            let mut child = Running(child(&endpoints, kills));
            let mut lines = BufReader::new(child.0.stdout.take().unwrap());
            let wanted = 5 + kills * 7 % 20;
            let mut acknowledged = Vec::new();
            let mut line = String::new();
            loop {
                line.clear();
                if lines.read_line(&mut line).unwrap() == 0 {
                    break;
                }
                acknowledged.extend(
                    line.strip_suffix('\n')
                        .and_then(|line| line.strip_prefix("ack "))
                        .map(str::to_owned),
                );
                // It goes on writing; what it reports until it is dead counts as well.
                if acknowledged.len() == wanted || world.stop.load(Ordering::Relaxed) {
                    child.0.kill().unwrap();
                }
            }
            world
                .writes
                .fetch_add(acknowledged.len() as u64, Ordering::Relaxed);
            world.ledger().users.extend(acknowledged);
            kills += 1;
        }
        kills
    })
}

/// A child that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn child(endpoints: &str, round: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "chaos::child_writes_until_it_is_killed",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, round.to_string())
        .env(ENDPOINTS, endpoints)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Does nothing when it is run as a test; the other test runs it with the variables set.
#[tokio::test]
async fn child_writes_until_it_is_killed() {
    let (Ok(round), Ok(endpoints)) = (std::env::var(CHILD), std::env::var(ENDPOINTS)) else {
        return;
    };
    let endpoints: Vec<String> = endpoints.split(',').map(str::to_owned).collect();
    let directory = open(&endpoints).await;
    for n in 0..1_000_000 {
        let name = format!("child-{round}-{n}");
        match directory.create_user(user(&name), Timestamp::now()).await {
            Ok(_) => {
                let mut out = std::io::stdout().lock();
                out.write_all(format!("ack {name}\n").as_bytes()).unwrap();
                out.flush().unwrap();
            }
            Err(error) => {
                assert!(is_trouble(&error), "{error:?}");
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
    }
}

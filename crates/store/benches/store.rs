//! Commits, lookups and loads of the store. `cargo bench -p countersign-store`
//!
//! `COUNTERSIGN_BENCH_KEYS` sets the number of access keys (default 100,000), `COUNTERSIGN_BENCH_DIR` the directory of
//! the files: what a commit costs is decided by the disk below it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_access::{AccessScope, EntryType};
use countersign_arn::unique_id::{self, Kind};
use countersign_arn::{AccountId, Partition};
use countersign_store::records::{
    AccessEntry, AccessKey, AccessKeyStatus, Account, AnyRecord, AuthenticationMode, Cluster,
    ClusterSettings, Creator, EntryPrincipal, PolicyAssociation, PrincipalKind, RecordKey,
    SECRET_FIELD, User,
};
use countersign_store::{
    Batch, Change, DirectorySnapshot, Key, RedbOptions, RedbStore, RootKey, Sealer, SecretString,
    Store, Transaction, Value, limits,
};
use futures::future::join_all;
use jiff::Timestamp;

const USERS_PER_ACCOUNT: u64 = 5_000;
const LOOKUPS: usize = 200_000;
/// More than thirty times as many as a cluster has on EKS.
const ACCESS_ENTRIES: usize = 100_000;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
#[allow(unsafe_code, reason = "counting allocations takes an allocator")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let keys = std::env::var("COUNTERSIGN_BENCH_KEYS").map_or(100_000, |n| n.parse().unwrap());
    let directory = match std::env::var("COUNTERSIGN_BENCH_DIR") {
        Ok(parent) => tempfile::tempdir_in(parent).unwrap(),
        Err(_) => tempfile::tempdir().unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        fsyncs(directory.path());
        for writers in [1, 16, 64] {
            commits(directory.path(), writers).await;
        }
        let sealer = Arc::new(Sealer::new(&RootKey::from_bytes([1; 32]), &[]).unwrap());
        let ids = fill(&directory.path().join("full.redb"), keys, &sealer).await;
        let snapshot = load(directory.path(), &sealer).await;
        lookups(&snapshot, &ids);
        folds(&snapshot, &ids, &sealer);
    });
}

/// What the disk gives at most: one small write and one `fsync` after the other.
fn fsyncs(directory: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(directory.join("fsync")).unwrap();
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < Duration::from_secs(1) {
        file.write_all(&[0; 512]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    println!("plain write and fsync            {count:>10} /s");
}

async fn commits(directory: &Path, writers: usize) {
    let path = directory.join(format!("commits-{writers}.redb"));
    let store = Arc::new(RedbStore::open(&path, &RedbOptions::default()).unwrap());
    let start = Instant::now();
    let tasks = (0..writers).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            let key = Key::new(format!("k/{writer}")).unwrap();
            while start.elapsed() < Duration::from_secs(2) {
                let begun = Instant::now();
                store
                    .commit(Transaction::new().put(&key, vec![7; 300]))
                    .await
                    .unwrap();
                latencies.push(begun.elapsed());
            }
            latencies
        })
    });
    let mut latencies: Vec<Duration> = join_all(tasks)
        .await
        .into_iter()
        .flat_map(Result::unwrap)
        .collect();
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    latencies.sort();
    let median = latencies[latencies.len() / 2];
    let p99 = latencies[latencies.len() * 99 / 100];
    println!(
        "commits, {writers:>2} writers              {rate:>10.0} /s   median {median:?}, p99 {p99:?}"
    );
}

fn cluster_id(n: usize) -> Box<str> {
    format!("{n:032X}").into()
}

fn entry_principal_id(n: usize) -> Box<str> {
    format!("AROARTX3GSDSU{n:08}").into()
}

fn some_account(n: u64) -> AccountId {
    AccountId::from_number(111_122_223_333 + n).unwrap()
}

/// Two keys for each user, 5,000 users in each account, a hundred clusters, and 100,000 access entries in one of them.
async fn fill(path: &Path, keys: u64, sealer: &Sealer) -> Vec<String> {
    let start = Instant::now();
    let store = RedbStore::open(path, &RedbOptions::default()).unwrap();
    let now = Timestamp::from_second(1_780_000_000).unwrap();
    let partition = Partition::Aws;
    let mut records: Vec<(Key, Value)> = Vec::new();
    let mut ids = Vec::new();
    for n in 0..keys / 2 {
        let account = some_account(n / USERS_PER_ACCOUNT);
        if n % USERS_PER_ACCOUNT == 0 {
            let record = Account {
                id: account,
                partition,
                alias: None,
                organization_id: None,
                created: now,
                root_keys: Vec::new(),
                password_policy: None,
                outbound_federation: None,
                credential_report: None,
            };
            records.push((
                RecordKey::Account(account).to_key().unwrap(),
                record.encode(),
            ));
        }
        // An id takes five bits of each byte.
        let random = |salt: u8| {
            let mut bytes = [salt; 16];
            for (place, byte) in bytes.iter_mut().skip(1).take(6).enumerate() {
                *byte = (n >> (5 * place)) as u8 & 31;
            }
            bytes
        };
        let user_id: Box<str> = unique_id::encode(Kind::User, account, random(0)).into();
        let mut listed: Vec<Box<str>> = Vec::new();
        for salt in [1, 2] {
            let id = unique_id::encode(Kind::AccessKey, account, random(salt));
            let key = RecordKey::AccessKey(&id).to_key().unwrap();
            let secret = SecretString::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
            let record = AccessKey {
                id: id.as_str().into(),
                account,
                user_id: user_id.clone(),
                secret: sealer.seal(&key, SECRET_FIELD, &secret).unwrap(),
                status: AccessKeyStatus::Active,
                created: now,
            };
            records.push((key, record.encode()));
            listed.push(id.as_str().into());
            ids.push(id);
        }
        let name = format!("Some.User-{n:07}");
        let key = RecordKey::User {
            account,
            name: &name,
        }
        .to_key()
        .unwrap();
        let record = User {
            account,
            partition,
            name: name.into(),
            path: "/teams/platform/".into(),
            id: user_id,
            created: now,
            tags: Vec::new(),
            access_keys: listed,
            policies: Vec::new(),
            attached: Vec::new(),
            boundary: None,
            groups: Vec::new(),
            mfa_devices: Vec::new(),
            login: None,
        };
        records.push((key, record.encode()));
    }
    for n in 0..100 {
        let (account, region, name) = (some_account(0), "eu-central-1", format!("cluster-{n}"));
        let key = RecordKey::Cluster {
            account,
            region,
            name: &name,
        }
        .to_key()
        .unwrap();
        let record = Cluster {
            account,
            partition,
            region: region.into(),
            name: name.into(),
            id: cluster_id(n),
            authentication_mode: AuthenticationMode::Api,
            bootstrap_creator_admin: true,
            creator: Creator {
                principal_arn: "arn".into(),
                principal_id: "id".into(),
            },
            endpoint: None,
            certificate_authority: None,
            role_arn: None,
            version: None,
            tags: Vec::new(),
            deletion_protection: false,
            settings: ClusterSettings::default(),
            created: now,
            settles: None,
            update: None,
            deleting: None,
        };
        records.push((key, record.encode()));
    }
    for n in 0..ACCESS_ENTRIES {
        let arn = format!("arn:aws:iam::{}:role/teams/Role-{n:06}", some_account(0));
        let principal = EntryPrincipal::parse(&arn).unwrap().key();
        let key = RecordKey::AccessEntry {
            account: some_account(0),
            cluster_id: &cluster_id(77),
            principal: &principal,
        }
        .to_key()
        .unwrap();
        let record = AccessEntry {
            account: some_account(0),
            cluster_id: cluster_id(77),
            uuid: format!("{n:036}").into(),
            principal_arn: arn.into(),
            principal_id: Some(entry_principal_id(n)),
            entry_type: EntryType::Standard,
            groups: vec!["developers".into()],
            username: None,
            tags: Vec::new(),
            associations: vec![PolicyAssociation {
                policy_arn: "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy".into(),
                scope: AccessScope::Namespace(vec!["dev-*".into()]),
                associated: now,
                modified: now,
            }],
            created: now,
            modified: now,
        };
        records.push((key, record.encode()));
    }
    let chunks: Vec<_> = records.chunks(limits::OPERATIONS).collect();
    for several in chunks.chunks(64) {
        let commits = several.iter().map(|chunk| {
            let transaction = chunk.iter().fold(Transaction::new(), |t, (key, value)| {
                t.put(key, value.clone())
            });
            store.commit(transaction)
        });
        for result in join_all(commits).await {
            result.unwrap();
        }
    }
    println!(
        "{keys} access keys written          {:>10.2?}",
        start.elapsed()
    );
    // What a process that was killed leaves behind: the file as it is while the store is open.
    std::fs::copy(path, path.with_file_name("killed.redb")).unwrap();
    ids
}

async fn load(directory: &Path, sealer: &Arc<Sealer>) -> DirectorySnapshot {
    let bytes = std::fs::metadata(directory.join("full.redb"))
        .unwrap()
        .len();
    println!("file                             {:>10} MB", bytes >> 20);
    let start = Instant::now();
    drop(RedbStore::open(&directory.join("killed.redb"), &RedbOptions::default()).unwrap());
    println!(
        "open after a kill                {:>10.2?}",
        start.elapsed()
    );
    let before = resident();
    let start = Instant::now();
    let store = RedbStore::open(&directory.join("full.redb"), &RedbOptions::default()).unwrap();
    println!(
        "open                             {:>10.2?}",
        start.elapsed()
    );
    let (start, started) = (Instant::now(), busy());
    let snapshot = DirectorySnapshot::load(&store, sealer).await.unwrap();
    println!(
        "load into a snapshot             {:>10.2?}   {:.2?} of them busy",
        start.elapsed(),
        busy() - started
    );
    println!(
        "resident memory grew by          {:>10} MB",
        resident().saturating_sub(before) >> 20
    );
    stages(&store, sealer).await;
    snapshot
}

/// Where the time of a load goes.
async fn stages(store: &RedbStore, sealer: &Sealer) {
    let (start, started) = (Instant::now(), busy());
    let (_, records) = store.load().await.unwrap().collect().await.unwrap();
    println!(
        "  reading                        {:>10.2?}   {:.2?} of them busy here",
        start.elapsed(),
        busy() - started
    );
    let started = busy();
    let decoded: Vec<_> = records
        .iter()
        .filter_map(|record| {
            Some((
                &record.key,
                AnyRecord::decode(&record.key, &record.value).ok()?,
            ))
        })
        .collect();
    println!(
        "  decoding                       {:>10.2?}",
        busy() - started
    );
    let started = busy();
    for (key, record) in &decoded {
        if let AnyRecord::AccessKey(record) = record {
            black_box(sealer.open(key, SECRET_FIELD, &record.secret).unwrap());
        }
    }
    println!(
        "  opening secrets                {:>10.2?}",
        busy() - started
    );
}

fn lookups(snapshot: &DirectorySnapshot, ids: &[String]) {
    let pick = |n: usize| &ids[n.wrapping_mul(7_919) % ids.len()];
    measure("access key, with its user", |n| {
        assert!(black_box(snapshot.access_key(pick(n))).is_some());
    });
    measure("access key, unknown", |_| {
        assert!(black_box(snapshot.access_key(black_box("AKIAUNKNOWNUNKNOWN00"))).is_none());
    });
    let users: Vec<_> = snapshot.users(some_account(0), None).take(1_000).collect();
    measure("principal by unique id", |n| {
        assert!(black_box(snapshot.principal(&users[n % users.len()].record.id)).is_some());
    });
    measure("user by name", |n| {
        assert!(
            black_box(snapshot.user(some_account(0), &users[n % users.len()].record.name))
                .is_some()
        );
    });
    measure("cluster by name", |_| {
        assert!(black_box(snapshot.cluster_named(black_box("cluster-77"))).is_ok());
    });
    let cluster = cluster_id(77);
    let ids: Vec<_> = (0..ACCESS_ENTRIES).map(entry_principal_id).collect();
    let pick = |n: usize| &*ids[n.wrapping_mul(7_919) % ids.len()];
    measure("access entry of a principal", |n| {
        let found = snapshot.access_entry_of_principal(&cluster, pick(n));
        assert!(black_box(found).is_some());
    });
    measure("access entry, unknown principal", |_| {
        let unknown = black_box("AROAUNKNOWNUNKNOWN000");
        assert!(black_box(snapshot.access_entry_of_principal(&cluster, unknown)).is_none());
    });
    let account = some_account(0);
    measure("access entry by name", |_| {
        let (kind, name) = (PrincipalKind::Role, black_box("Role-077777"));
        let found = snapshot.access_entry_named(&cluster, account, kind, name);
        assert!(black_box(found).is_some());
    });
    let arn = |n: usize| format!("arn:aws:iam::{account}:role/teams/Role-{:06}", n * 991);
    let arns: Vec<_> = (0..100).map(arn).collect();
    measure("page of 100 access entries", |n| {
        let page = snapshot.access_entries(&cluster, Some(&arns[n % arns.len()]));
        assert_eq!(black_box(page.take(100).count()), 100);
    });
}

fn folds(snapshot: &DirectorySnapshot, ids: &[String], sealer: &Sealer) {
    let found = snapshot.access_key(&ids[0]).unwrap();
    let mut record = found.owner.user().unwrap().record.clone();
    record.path = "/other/".into();
    let key = RecordKey::User {
        account: record.account,
        name: &record.name,
    }
    .to_key()
    .unwrap();
    let batch = Batch {
        revision: snapshot.revision().next(),
        changes: [Change::Put(key, record.encode())].into(),
        catching_up: false,
    };
    let changes = 10_000_u32;
    let start = busy();
    for _ in 0..changes {
        let mut next = snapshot.clone();
        next.apply(&batch, sealer);
        black_box(&next);
    }
    println!(
        "one change, to a new snapshot    {:>10.2?}",
        (busy() - start) / changes
    );
}

fn measure(what: &str, mut lookup: impl FnMut(usize)) {
    (0..LOOKUPS / 10).for_each(&mut lookup);
    let start = busy();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    (0..LOOKUPS).for_each(&mut lookup);
    let end = ALLOCATIONS.load(Ordering::Relaxed);
    let each = (busy() - start) / u32::try_from(LOOKUPS).unwrap();
    let allocations = end - allocations;
    println!("{what:<32} {each:>10.2?}   {allocations} allocations in {LOOKUPS} lookups");
}

/// How long this thread has had a processor: on a shared machine that says more than the wall clock.
fn busy() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = times
        .split(' ')
        .next()
        .and_then(|nanos| nanos.parse().ok())
        .unwrap_or_default();
    Duration::from_nanos(nanos)
}

/// Resident bytes of this process; 0 where `/proc` does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map_or(0, |kb| kb << 10)
}

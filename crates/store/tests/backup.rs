//! Backups: whole or refused, and a restore that is done or says that it is not.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_arn::{AccountId, Partition};
use countersign_store::backup::{
    BackupError, BackupFile, RestoreError, Summary, export, pages_of, restore, write,
};
use countersign_store::records::{AuthenticationMode, ClusterUpdate, Creator, RequestToken};
use countersign_store::{
    ClusterPlace, CommitError, Directory, Key, Load, LoadError, NewAccount, NewAddon, NewCluster,
    NewIdentityProviderConfig, NewPodIdentityAssociation, NewUser, Once, OpenDirectoryError,
    Quotas, Random, RedbStore, Revision, RootKey, Sealer, Store, StoreFuture, Transaction, Value,
    WatchStream, fuzz, limits,
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_780_000_000).unwrap()
}

fn root_key() -> RootKey {
    RootKey::from_bytes([7; 32])
}

async fn directory(store: &Arc<RedbStore>) -> Result<Directory, OpenDirectoryError> {
    let sealer = Sealer::new(&root_key(), &[]).unwrap();
    let store = Arc::clone(store) as Arc<dyn Store>;
    Directory::open(store, sealer, Random::system(), Quotas::default()).await
}

/// A store with an account, a user and a key; the key's secret beside it.
async fn filled() -> (Arc<RedbStore>, String) {
    let store = Arc::new(RedbStore::in_memory().unwrap());
    let directory = directory(&store).await.unwrap();
    let account: AccountId = "111122223333".parse().unwrap();
    let new = NewAccount {
        id: account,
        partition: Partition::Aws,
        alias: Some("orchard".into()),
        organization_id: None,
    };
    directory.create_account(new, now()).await.unwrap();
    let new = NewUser {
        account,
        name: "Ana".into(),
        path: "/".into(),
        tags: Vec::new(),
    };
    directory.create_user(new, now()).await.unwrap();
    let key = directory
        .create_access_key(account, "Ana", now())
        .await
        .unwrap();
    directory.maintain_session_keys(now()).await.unwrap();
    let creator = Creator {
        principal_arn: "arn:aws:iam::111122223333:root".into(),
        principal_id: "111122223333".into(),
    };
    let new = NewCluster::new(account, "eu-central-1", "demo", creator);
    directory.create_cluster(new, now()).await.unwrap();
    let place = ClusterPlace {
        account,
        region: "eu-central-1",
        name: "demo",
    };
    let token = RequestToken {
        account,
        region: "eu-central-1".into(),
        operation: "UpdateClusterConfig".into(),
        token: "token".into(),
        parameters: [1; 32],
    };
    let once = Once {
        token: &token,
        answer: &|update: &ClusterUpdate| update.id.as_bytes().to_vec(),
    };
    let mode = AuthenticationMode::ApiAndConfigMap;
    directory
        .set_authentication_mode(place, mode, SignedDuration::ZERO, Some(&once), now())
        .await
        .unwrap();
    let new = NewPodIdentityAssociation {
        namespace: "orchard".into(),
        service_account: "picker".into(),
        role_arn: "arn:aws:iam::111122223333:role/picker".into(),
        target_role_arn: None,
        disable_session_tags: Some(true),
        policy: Some("{}".into()),
        owner_arn: None,
        sessions: countersign_session::PodSessions {
            name_template: Some("{pod}".into()),
            duration_seconds: Some(900),
            ..countersign_session::PodSessions::default()
        },
        tags: Vec::new(),
    };
    directory
        .create_pod_identity_association(place, new, None, now())
        .await
        .unwrap();
    let new = NewIdentityProviderConfig {
        name: "corp".into(),
        issuer_url: "https://id.example".into(),
        client_id: "kubernetes".into(),
        username_claim: None,
        username_prefix: None,
        groups_claim: None,
        groups_prefix: None,
        required_claims: Default::default(),
        tags: Vec::new(),
    };
    directory
        .associate_identity_provider_config(place, new, SignedDuration::ZERO, None, now())
        .await
        .unwrap();
    let new = NewAddon {
        name: "vpc-cni".into(),
        version: "v1.19.0-eksbuild.1".into(),
        service_account_role_arn: None,
        configuration_values: None,
        namespace: None,
        associations: Vec::new(),
        tags: Vec::new(),
    };
    directory
        .create_addon(place, new, SignedDuration::ZERO, None, now())
        .await
        .unwrap();
    (store, key.secret.expose().to_owned())
}

async fn text(store: &dyn Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(store, now(), &mut bytes).await.unwrap();
    bytes
}

async fn exported(store: &dyn Store) -> (Vec<u8>, Summary) {
    let mut bytes = Vec::new();
    let summary = export(store, &mut bytes).await.unwrap();
    (bytes, summary)
}

fn file(directory: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join("backup");
    std::fs::write(&path, bytes).unwrap();
    path
}

async fn restore_file(
    path: &Path,
    target: &dyn Store,
    replace: bool,
) -> Result<countersign_store::backup::Restored, RestoreError> {
    let pages = BackupFile::open(path)?.pages()?;
    restore(pages, target, "the test", replace, now(), &|_| {}).await
}

async fn put(store: &dyn Store, records: &[(&str, &[u8])]) {
    for (key, value) in records {
        let key = Key::new(*key).unwrap();
        store
            .commit(Transaction::new().put(&key, Value::from(*value)))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn two_restores_of_one_backup_export_the_same_bytes() {
    let (store, secret) = filled().await;
    let bytes = text(&*store).await;
    let readable = String::from_utf8(bytes.clone()).unwrap();
    assert!(!readable.contains(&secret), "secrets stay sealed");
    assert!(readable.contains(&root_key().id()));
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &bytes);
    let opened = BackupFile::open(&path).unwrap();
    assert_eq!(opened.header().created, now());
    assert_eq!(
        opened.summary().root_keys.iter().collect::<Vec<_>>(),
        [&root_key().id()]
    );
    let (original, summary) = exported(&*store).await;
    assert_eq!(*opened.summary(), summary);
    for _ in 0..2 {
        let target = Arc::new(RedbStore::in_memory().unwrap());
        let restored = restore_file(&path, &*target, false).await.unwrap();
        assert_eq!((&restored.content, restored.deleted), (&summary, 0));
        assert_eq!(
            exported(&*target).await,
            (original.clone(), summary.clone())
        );
        let directory = directory(&target).await.unwrap();
        let account = "111122223333".parse().unwrap();
        let snapshot = directory.snapshot();
        let user = snapshot.user(account, "ana").unwrap();
        let key = snapshot.access_keys_of(user).next().unwrap();
        assert_eq!(key.active_secret().unwrap().expose(), secret);
        let cluster = snapshot.cluster_named("demo").unwrap();
        let id = &cluster.record.id;
        let entry = snapshot.access_entry_of_principal(id, "111122223333");
        assert_eq!(entry.unwrap().record.associations.len(), 1);
        assert_eq!(snapshot.cluster_updates(id).count(), 2);
        assert!(snapshot.identity_provider_config(id, "corp").is_some());
        assert!(snapshot.addon(id, "vpc-cni").is_some());
        let association = snapshot.pod_identity_association(id, "orchard", "picker");
        assert_eq!(association.unwrap().record.policy.as_deref(), Some("{}"));
        for kind in [
            "access-entry/",
            "cluster-update/",
            "request-token/",
            "pod-identity-association/",
        ] {
            assert!(readable.contains(kind), "{kind}");
        }
    }
}

#[tokio::test]
async fn every_value_that_a_store_can_have_comes_back_byte_for_byte() {
    let source = RedbStore::in_memory().unwrap();
    let largest = vec![b'x'; limits::VALUE_BYTES];
    let long = format!("odd/{}", "\u{fc}\"\\".repeat(200));
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let records: Vec<(&str, &[u8])> = vec![
        ("odd/empty", b""),
        ("odd/null", b"null"),
        ("odd/space", b" {\"v\": 1 } "),
        ("odd/spaced", b"{\"v\": 1 , \"w\":1.50e+1}"),
        ("odd/lines", b"{\n\"v\":1}"),
        ("odd/binary", &[0, 255, 10, 13, 34]),
        ("odd/twice", b"{\"v\":1,\"v\":2}"),
        ("odd/escape", "\"\\u00fc \u{2028} \u{fc}\"".as_bytes()),
        ("odd/deep", deep.as_bytes()),
        ("odd/largest", &largest),
        (&long, b"{}"),
    ];
    put(&source, &records).await;
    let dir = tempfile::tempdir().unwrap();
    let target = RedbStore::in_memory().unwrap();
    restore_file(&file(&dir, &text(&source).await), &target, false)
        .await
        .unwrap();
    let (_, loaded) = target.load().await.unwrap().collect().await.unwrap();
    assert_eq!(loaded.len(), records.len());
    for (key, value) in records {
        let found = loaded.iter().find(|record| record.key.as_str() == key);
        assert_eq!(&*found.unwrap().value, value, "{key}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_before_anything_is_written() {
    let (store, _) = filled().await;
    let whole = text(&*store).await;
    let dir = tempfile::tempdir().unwrap();
    // Whichever single byte changes, and wherever the file ends.
    for at in (0..whole.len()).step_by(5) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(
            BackupFile::open(&file(&dir, &changed)).is_err(),
            "byte {at}"
        );
    }
    for end in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        let path = file(&dir, &whole[..end]);
        let target = RedbStore::in_memory().unwrap();
        assert!(restore_file(&path, &target, true).await.is_err(), "{end}");
        assert_eq!(target.load().await.unwrap().revision, Revision::ZERO);
    }
    let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
    let joined = |lines: &[&[u8]]| lines.concat();
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    let mut missing = lines.clone();
    missing.remove(1);
    let mut twice = lines.clone();
    twice.insert(1, lines[1]);
    let mut more = lines.clone();
    more.push(b"{}\n");
    for (what, lines) in [
        ("swapped", swapped),
        ("missing", missing),
        ("twice", twice),
        ("more", more),
    ] {
        assert!(
            BackupFile::open(&file(&dir, &joined(&lines))).is_err(),
            "{what}"
        );
    }
}

#[test]
fn what_is_no_backup_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = |bytes: &[u8]| BackupFile::open(&file(&dir, bytes)).unwrap_err();
    assert!(matches!(error(b""), BackupError::NotABackup));
    assert!(matches!(error(b"\n"), BackupError::NotABackup));
    assert!(matches!(error(b"{}\n"), BackupError::NotABackup));
    assert!(matches!(error(&[0; 4096]), BackupError::NotABackup));
    assert!(matches!(
        error(&vec![b'x'; 1 << 20]),
        BackupError::NotABackup
    ));
    assert!(matches!(
        error(b"{\"countersignBackup\":2,\"sections\":[]}\n"),
        BackupError::Newer { found: 2, known: 1 }
    ));
    let header = b"{\"countersignBackup\":1,\"created\":\"2026-01-01T00:00:00Z\",\"revision\":1}\n";
    assert!(matches!(error(header), BackupError::Truncated { line: 1 }));
    let endless = [&header[..], b"{\"key\":\"", &vec![b'x'; 2 << 20]].concat();
    assert!(matches!(
        error(&endless),
        BackupError::Malformed { line: 2, .. }
    ));
}

#[tokio::test]
async fn a_target_with_records_is_replaced_only_when_asked_for() {
    let (store, _) = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &text(&*store).await);
    let target = RedbStore::in_memory().unwrap();
    let many: Vec<String> = (0..300).map(|n| format!("stale/{n}")).collect();
    for key in &many {
        put(&target, &[(key, b"{}")]).await;
    }
    let before = target.load().await.unwrap().revision;
    let refused = restore_file(&path, &target, false).await;
    assert!(matches!(
        refused,
        Err(RestoreError::NotEmpty { records: 300 })
    ));
    assert_eq!(target.load().await.unwrap().revision, before);
    let restored = restore_file(&path, &target, true).await.unwrap();
    assert_eq!(restored.deleted, 300);
    assert_eq!(exported(&target).await, exported(&*store).await);
    // And once more over itself.
    let restored = restore_file(&path, &target, true).await.unwrap();
    assert_eq!(restored.deleted, restored.content.records);
    assert_eq!(exported(&target).await, exported(&*store).await);
}

/// A store that fails from a commit on, as a disk that is full.
struct Failing {
    store: Arc<RedbStore>,
    commits: AtomicUsize,
    limit: usize,
}

impl Store for Failing {
    fn load(&self) -> StoreFuture<'_, Result<Load, LoadError>> {
        self.store.load()
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<Revision, CommitError>> {
        if self.commits.fetch_add(1, Ordering::Relaxed) >= self.limit {
            return Box::pin(async { Err(CommitError::Unavailable("full".into())) });
        }
        self.store.commit(transaction)
    }

    fn watch(&self, after: Revision) -> WatchStream {
        self.store.watch(after)
    }
}

#[tokio::test]
async fn a_restore_that_breaks_off_is_recognised_wherever_it_breaks_off() {
    let (store, _) = filled().await;
    let large = vec![b'"'; limits::VALUE_BYTES];
    for n in 0..3 {
        put(&*store, &[(&format!("zz/{n}"), &large)]).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &text(&*store).await);
    let mut limit = 0;
    loop {
        let inner = Arc::new(RedbStore::in_memory().unwrap());
        put(&*inner, &[("old/1", b"{}")]).await;
        let target = Failing {
            store: Arc::clone(&inner),
            commits: AtomicUsize::new(0),
            limit,
        };
        let outcome = restore_file(&path, &target, true).await;
        let marked = matches!(
            directory(&inner).await,
            Err(OpenDirectoryError::RestoreUnfinished { .. })
        );
        if outcome.is_ok() {
            assert!(!marked);
            break;
        }
        assert!(
            matches!(outcome, Err(RestoreError::Commit(_))),
            "{outcome:?}"
        );
        if limit == 0 {
            let (_, records) = inner.load().await.unwrap().collect().await.unwrap();
            assert_eq!(records[0].key.as_str(), "old/1", "nothing was touched");
        } else {
            assert!(marked, "after {limit} commits");
            assert!(matches!(
                restore_file(&path, &*inner, false).await,
                Err(RestoreError::Unfinished)
            ));
            let mut bytes = Vec::new();
            assert!(matches!(
                write(&*inner, now(), &mut bytes).await,
                Err(BackupError::UnfinishedRestore)
            ));
            restore_file(&path, &*inner, true).await.unwrap();
            assert_eq!(exported(&*inner).await, exported(&*store).await);
            directory(&inner).await.unwrap();
        }
        limit += 1;
    }
    assert!(limit > 5, "mark, delete, several puts, unmark: {limit}");
}

#[tokio::test]
async fn a_running_directory_takes_no_writes_during_a_restore() {
    let (store, _) = filled().await;
    let directory = directory(&store).await.unwrap();
    put(
        &*store,
        &[(
            "meta/restore",
            br#"{"v":1,"started":"2026-01-01T00:00:00Z","from":"x"}"#,
        )],
    )
    .await;
    let at = store.load().await.unwrap().revision;
    directory.feed().wait_for(at).await.unwrap();
    let refused = directory.retire_session_keys(now()).await;
    assert!(refused.unwrap_err().to_string().contains("being restored"));
    // Nor does a mark of a later version go unnoticed.
    put(&*store, &[("meta/restore", br#"{"v":9}"#)]).await;
    drop(directory);
    assert!(matches!(
        self::directory(&store).await,
        Err(OpenDirectoryError::RestoreUnfinished { .. })
    ));
}

#[tokio::test]
async fn somebody_else_who_writes_meanwhile_is_noticed() {
    /// Puts a record of the source into the target after the mark, as a server on the target would.
    struct Busy(Arc<RedbStore>, AtomicUsize);
    impl Store for Busy {
        fn load(&self) -> StoreFuture<'_, Result<Load, LoadError>> {
            self.0.load()
        }

        fn commit(
            &self,
            transaction: Transaction,
        ) -> StoreFuture<'_, Result<Revision, CommitError>> {
            Box::pin(async move {
                if self.1.fetch_add(1, Ordering::Relaxed) == 1 {
                    put(&*self.0, &[("account/111122223333", b"{}")]).await;
                }
                self.0.commit(transaction).await
            })
        }

        fn watch(&self, after: Revision) -> WatchStream {
            self.0.watch(after)
        }
    }
    let (store, _) = filled().await;
    let (_, pages) = pages_of(&*store).await.unwrap();
    let target = Busy(Arc::new(RedbStore::in_memory().unwrap()), 0.into());
    let refused = restore(pages, &target, "x", false, now(), &|_| {}).await;
    assert!(
        matches!(refused, Err(RestoreError::NotAlone { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn migration_moves_everything_and_reads_it_back() {
    let (store, _) = filled().await;
    let pages: Vec<String> = (0..3000).map(|n| format!("bulk/{n:05}")).collect();
    let transactions = pages.chunks(limits::OPERATIONS).map(|keys| {
        keys.iter().fold(Transaction::new(), |transaction, key| {
            transaction.put(
                &Key::new(key.as_str()).unwrap(),
                Value::from(&b"{\"v\":1}"[..]),
            )
        })
    });
    for transaction in transactions {
        store.commit(transaction).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let target = RedbStore::open(&dir.path().join("store.redb"), &Default::default()).unwrap();
    let (_, pages) = pages_of(&*store).await.unwrap();
    let seen = AtomicUsize::new(0);
    let progress = |count: u64| seen.store(usize::try_from(count).unwrap(), Ordering::Relaxed);
    let moved = restore(pages, &target, "x", false, now(), &progress)
        .await
        .unwrap();
    assert_eq!(seen.into_inner() as u64, moved.content.records);
    assert_eq!(exported(&target).await, exported(&*store).await);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Equal content has equal exports and digests; different content has different ones.
    #[test]
    fn exports_are_equal_exactly_for_equal_content(
        left in proptest::collection::btree_map("[a-z]{1,3}", proptest::collection::vec(any::<u8>(), 0..8), 0..6),
        right in proptest::collection::btree_map("[a-z]{1,3}", proptest::collection::vec(any::<u8>(), 0..8), 0..6),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let of = |records: &std::collections::BTreeMap<String, Vec<u8>>| {
            runtime.block_on(async {
                let store = RedbStore::in_memory().unwrap();
                for (key, value) in records.iter().rev() {
                    put(&store, &[(key, value)]).await;
                }
                exported(&store).await
            })
        };
        let (one, other) = (of(&left), of(&right));
        prop_assert_eq!(left == right, one.0 == other.0);
        prop_assert_eq!(left == right, one.1.content == other.1.content);
    }
}

#[tokio::test]
async fn hostile_backups_do_not_panic() {
    let (store, _) = filled().await;
    let whole = text(&*store).await;
    countersign_mutation::run(
        fuzz::backup,
        &[whole],
        &countersign_mutation::characters("{}[]\",:\n0"),
        2000,
    );
}

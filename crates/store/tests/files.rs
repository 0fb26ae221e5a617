//! What is on the disk: permissions, the lock, the root key's file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_store::{
    DataDir, Key, OpenDataDirError, OpenStoreError, Random, RandomUnavailable, RedbOptions,
    RedbStore, Revision, RootKey, RootKeyError, RootKeySource, Store, Transaction,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn open(directory: &Path, root_key: RootKeySource) -> Result<DataDir, OpenDataDirError> {
    DataDir::open(
        directory,
        root_key,
        &Random::system(),
        &RedbOptions::default(),
    )
}

#[test]
fn first_start_makes_everything_private() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/data");
    drop(open(&directory, RootKeySource::DataDir).unwrap());
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("store.redb")), 0o600);
    assert_eq!(mode(&directory.join("root.key")), 0o600);
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["root.key", "store.redb"],
        "nothing else is left behind"
    );
}

#[test]
fn second_start_has_the_same_root_key() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), RootKeySource::DataDir)
        .unwrap()
        .root_key
        .id();
    let second = open(directory.path(), RootKeySource::DataDir)
        .unwrap()
        .root_key
        .id();
    assert_eq!(first, second);
    let elsewhere = tempfile::tempdir().unwrap();
    assert_ne!(
        first,
        open(elsewhere.path(), RootKeySource::DataDir)
            .unwrap()
            .root_key
            .id()
    );
}

#[test]
fn root_key_that_others_can_read_is_refused_and_the_error_says_what_to_run() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), RootKeySource::DataDir).unwrap());
    let path = directory.path().join("root.key");
    for exposed in [0o640, 0o604, 0o620, 0o660, 0o644, 0o777, 0o601] {
        fs::set_permissions(&path, Permissions::from_mode(exposed)).unwrap();
        let error = open(directory.path(), RootKeySource::DataDir).unwrap_err();
        assert!(
            matches!(
                error,
                OpenDataDirError::RootKey(RootKeyError::Exposed { .. })
            ),
            "{exposed:o}"
        );
        let text = error.to_string();
        assert!(
            text.contains(&format!("chmod 0600 {}", path.display())),
            "{text}"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    open(directory.path(), RootKeySource::DataDir).unwrap();
}

#[test]
fn given_root_key_file_may_be_read_by_its_group_as_mounted_secrets_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("given.key");
    fs::write(&path, "00".repeat(32)).unwrap();
    for allowed in [0o400, 0o440, 0o600, 0o640] {
        fs::set_permissions(&path, Permissions::from_mode(allowed)).unwrap();
        RootKey::read(&path).unwrap();
    }
    for exposed in [0o444, 0o460, 0o644, 0o604, 0o602] {
        fs::set_permissions(&path, Permissions::from_mode(exposed)).unwrap();
        assert!(
            matches!(RootKey::read(&path), Err(RootKeyError::Exposed { .. })),
            "{exposed:o}"
        );
    }
}

#[test]
fn given_root_key_writes_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let key = RootKey::from_bytes([1; 32]);
    let id = key.id();
    let opened = open(directory.path(), RootKeySource::Given(key)).unwrap();
    assert_eq!(opened.root_key.id(), id);
    assert!(!directory.path().join("root.key").exists());
}

#[test]
fn lost_root_key_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), RootKeySource::DataDir).unwrap());
    fs::remove_file(directory.path().join("root.key")).unwrap();
    let error = open(directory.path(), RootKeySource::DataDir).unwrap_err();
    assert!(matches!(error, OpenDataDirError::RootKeyMissing { .. }));
    assert!(error.to_string().contains("put the key back from a backup"));
    assert!(!directory.path().join("root.key").exists());
}

#[test]
fn missing_given_file_is_an_error_and_is_not_generated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("given.key");
    assert!(matches!(
        RootKey::read(&path),
        Err(RootKeyError::File { .. })
    ));
    assert!(!path.exists());
}

#[test]
fn root_key_texts() {
    let bytes = [0xA5; 32];
    let id = RootKey::from_bytes(bytes).id();
    let base64 = STANDARD.encode(bytes);
    let hex = "a5".repeat(32);
    for good in [
        base64.clone(),
        hex.clone(),
        hex.to_uppercase(),
        format!("  {base64}\r\n"),
        format!("{hex}\n"),
    ] {
        assert_eq!(
            RootKey::parse(&good, "the input").unwrap().id(),
            id,
            "{good:?}"
        );
    }
    let bad = [
        String::new(),
        " ".into(),
        hex[..62].into(),
        format!("{hex}a5"),
        format!("{}g", &hex[..63]),
        format!("+{}", &hex[..63]),
        STANDARD.encode([1; 31]),
        STANDARD.encode([1; 33]),
        base64.trim_end_matches('=').into(),
        base64.replace('=', "!"),
        format!("{base64}{base64}"),
        "ä".repeat(32),
        "a".repeat(100_000),
    ];
    for text in bad {
        let error = RootKey::parse(&text, "the given value")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("the given value is not a root key"),
            "{error}"
        );
        assert!(
            text.len() < 3 || !error.contains(&text),
            "an error does not show the key"
        );
    }
}

#[test]
fn racing_first_starts_agree_on_one_root_key() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        let ids: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        RootKey::read_or_generate(&path, &Random::system())
                            .unwrap()
                            .id()
                    })
                })
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect()
        });
        let stored = RootKey::read(&path).unwrap().id();
        assert!(ids.iter().all(|id| *id == stored));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn no_random_bytes_means_no_root_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root.key");
    let none = Random::danger_predictable(|_| Err(RandomUnavailable));
    assert!(matches!(
        RootKey::read_or_generate(&path, &none),
        Err(RootKeyError::Random(_))
    ));
    assert!(!path.exists());
}

#[test]
fn store_in_use_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let first = RedbStore::open(&path, &RedbOptions::default()).unwrap();
    let error = RedbStore::open(&path, &RedbOptions::default()).unwrap_err();
    assert!(matches!(error, OpenStoreError::InUse { .. }));
    assert!(
        error
            .to_string()
            .contains("stop that one, or use another data directory"),
        "{error}"
    );
    drop(first);
    RedbStore::open(&path, &RedbOptions::default()).unwrap();
}

#[test]
fn store_file_that_became_readable_is_made_private_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    drop(RedbStore::open(&path, &RedbOptions::default()).unwrap());
    fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    drop(RedbStore::open(&path, &RedbOptions::default()).unwrap());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn file_that_is_no_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    fs::write(
        &path,
        "not a database, but longer than any header of one".repeat(500),
    )
    .unwrap();
    let before = fs::read(&path).unwrap();
    assert!(matches!(
        RedbStore::open(&path, &RedbOptions::default()).unwrap_err(),
        OpenStoreError::Damaged { .. } | OpenStoreError::File { .. }
    ));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn path_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = RedbStore::open(&file.join("store.redb"), &RedbOptions::default()).unwrap_err();
    assert!(matches!(error, OpenStoreError::File { .. }));
    assert!(error.to_string().contains(&file.display().to_string()));
}

#[tokio::test]
async fn records_and_revisions_survive_a_restart_and_history_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let key = Key::new("k").unwrap();
    let mut last = Revision::ZERO;
    for n in 0..5_u8 {
        let store = RedbStore::open(&path, &RedbOptions::default()).unwrap();
        let (revision, records) = store.load().await.unwrap().collect().await.unwrap();
        assert_eq!(revision, last);
        assert_eq!(records.len(), usize::from(n > 0));
        last = store
            .commit(Transaction::new().put(&key, vec![n]))
            .await
            .unwrap();
        assert!(last > revision);
    }
    let store = RedbStore::open(&path, &RedbOptions::default()).unwrap();
    let first = futures::StreamExt::next(&mut store.watch(Revision::ZERO)).await;
    assert!(matches!(
        first,
        Some(Err(countersign_store::WatchError::Compacted { .. }))
    ));
}

#[tokio::test]
async fn secrets_are_not_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let opened = open(directory.path(), RootKeySource::DataDir).unwrap();
    let sealer = countersign_store::Sealer::new(&opened.root_key, &[]).unwrap();
    let secret = "a secret that is easily found in a file";
    let key = Key::new("access-key/AKIA1").unwrap();
    let sealed = sealer
        .seal(
            &key,
            "secret",
            &countersign_store::SecretString::new(secret),
        )
        .unwrap();
    opened
        .store
        .commit(Transaction::new().put(&key, sealed.as_stored().as_bytes()))
        .await
        .unwrap();
    drop(opened);
    let file = fs::read(directory.path().join("store.redb")).unwrap();
    let find = |what: &str| {
        file.windows(what.len())
            .any(|window| window == what.as_bytes())
    };
    assert!(find("access-key/AKIA1"));
    assert!(!find(secret));
}

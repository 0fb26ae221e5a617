//! Opening: the root key, and what is there already.

use countersign_store::conformance::TestStore;
use countersign_store::{
    Directory, DirectoryError, Key, OpenDirectoryError, Quotas, Random, RootKey, Sealer, Store,
    Transaction,
};
use futures::future::join_all;
use std::sync::Arc;

use jiff::SignedDuration;

use super::*;

#[tokio::test]
async fn secret_is_nowhere_in_the_store() {
    let (store, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let created = directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap();
    let (_, records) = store.load().await.unwrap().collect().await.unwrap();
    for record in records {
        assert!(!String::from_utf8_lossy(&record.value).contains(created.secret.expose()));
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (store, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let created = directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap();
    directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap();
    drop(directory);
    let snapshot = open(&store).await.snapshot();
    let found = snapshot.access_key(&created.metadata.id).unwrap();
    assert_eq!(
        found.key.active_secret().unwrap().expose(),
        created.secret.expose()
    );
    assert!(snapshot.account(account(0)).is_some());
    assert!(snapshot.cluster_named("demo").is_ok());
}

#[tokio::test]
async fn wrong_root_key_is_found_at_start() {
    let (store, directory) = with_account().await;
    drop(directory);
    let store = store as Arc<dyn Store>;
    let open = |sealer| {
        Directory::open(
            Arc::clone(&store),
            sealer,
            Random::system(),
            Quotas::default(),
        )
    };
    let error = open(sealer(2)).await.unwrap_err();
    assert!(matches!(error, OpenDirectoryError::WrongRootKey { .. }));
    let text = error.to_string();
    assert!(
        text.contains(sealer(1).key_id()) && text.contains(sealer(2).key_id()),
        "{text}"
    );
    open(sealer(1)).await.unwrap();
}

#[tokio::test]
async fn new_root_key_takes_over_when_the_old_one_is_given_too() {
    let (store, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let created = directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap();
    drop(directory);
    let store = store as Arc<dyn Store>;
    let open = |sealer| {
        Directory::open(
            Arc::clone(&store),
            sealer,
            Random::system(),
            Quotas::default(),
        )
    };
    let both = || {
        Sealer::new(
            &RootKey::from_bytes([2; 32]),
            &[RootKey::from_bytes([1; 32])],
        )
        .unwrap()
    };
    for _ in 0..2 {
        let directory = open(both()).await.unwrap();
        assert!(
            directory
                .snapshot()
                .access_key(&created.metadata.id)
                .is_some()
        );
    }
    assert!(matches!(
        open(sealer(1)).await,
        Err(OpenDirectoryError::WrongRootKey { .. })
    ));
}

#[tokio::test]
async fn store_without_its_check_record_is_refused() {
    let (store, directory) = with_account().await;
    drop(directory);
    let key = Key::new("meta/seal-check").unwrap();
    store.commit(Transaction::new().delete(&key)).await.unwrap();
    let opened = Directory::open(
        store as Arc<dyn Store>,
        sealer(1),
        Random::system(),
        Quotas::default(),
    )
    .await;
    assert!(matches!(opened, Err(OpenDirectoryError::CheckMissing)));
}

#[tokio::test]
async fn damaged_check_record_is_refused() {
    let (store, directory) = with_account().await;
    drop(directory);
    let key = Key::new("meta/seal-check").unwrap();
    let other = sealer(1)
        .seal(&key, "another", &countersign_store::SecretString::new("x"))
        .unwrap();
    let value = format!("{{\"v\":1,\"sealed\":{:?}}}", other.as_stored());
    store
        .commit(Transaction::new().put(&key, value.into_bytes()))
        .await
        .unwrap();
    let opened = Directory::open(
        store as Arc<dyn Store>,
        sealer(1),
        Random::system(),
        Quotas::default(),
    )
    .await;
    assert!(matches!(opened, Err(OpenDirectoryError::CheckDamaged(_))));
}

#[tokio::test]
async fn racing_first_starts_share_one_check_record() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let starts = (0..6).map(|_| open(&store));
    for directory in join_all(starts).await {
        directory.create_account(new_account(0), now()).await.ok();
        assert_eq!(directory.snapshot().accounts().count(), 1);
    }
}

#[tokio::test]
async fn records_of_a_later_version_are_kept_and_not_written_over() {
    let (store, directory) = with_account().await;
    let later: &[u8] = br#"{"v":2,"what":"we do not know"}"#;
    let keys = [
        "user/111122223333/ana",
        "cluster/111122223333/eu-central-1/demo",
        "account/111122223334",
        "role/111122223333/ops",
    ]
    .map(|key| Key::new(key).unwrap());
    let put = keys
        .iter()
        .fold(Transaction::new(), |t, key| t.put(key, later));
    let revision = store.commit(put).await.unwrap();
    directory.feed().wait_for(revision).await.unwrap();
    assert_eq!(directory.snapshot().unusable_count(), 4);

    let unreadable = |error: DirectoryError| {
        assert!(
            matches!(error, DirectoryError::Unreadable { .. }),
            "{error:?}"
        )
    };
    unreadable(
        directory
            .create_user(new_user("Ana"), now())
            .await
            .unwrap_err(),
    );
    unreadable(directory.delete_user(account(0), "ana").await.unwrap_err());
    unreadable(
        directory
            .create_access_key(account(0), "ana", now())
            .await
            .map(|_| ())
            .unwrap_err(),
    );
    unreadable(
        directory
            .create_cluster(new_cluster("demo"), now())
            .await
            .unwrap_err(),
    );
    unreadable(
        directory
            .delete_cluster(place("demo"), SignedDuration::ZERO, now())
            .await
            .unwrap_err(),
    );
    unreadable(
        directory
            .create_account(new_account(1), now())
            .await
            .unwrap_err(),
    );
    assert!(matches!(
        directory.delete_account(account(0)).await,
        Err(DirectoryError::DeleteConflict { .. })
    ));

    let (_, records) = store.load().await.unwrap().collect().await.unwrap();
    for key in &keys {
        assert_eq!(
            &*records
                .iter()
                .find(|record| record.key == *key)
                .unwrap()
                .value,
            later
        );
    }
}

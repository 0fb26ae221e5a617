//! The directory: what may be created, changed and deleted, and by how many at once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_arn::{AccountId, Partition, Tag};
use countersign_store::records::{AccessKeyStatus, AuthenticationMode, Creator};
use countersign_store::{
    ClusterNameError, Directory, DirectoryError, Key, NewAccount, NewCluster, NewUser,
    OpenDirectoryError, Principal, Quotas, Random, RedbStore, RootKey, Sealer, Store, Transaction,
};
use futures::future::join_all;
use jiff::Timestamp;

const REGION: &str = "eu-central-1";

fn now() -> Timestamp {
    Timestamp::from_second(1_780_000_000).unwrap()
}

fn account(n: u64) -> AccountId {
    AccountId::from_number(111_122_223_333 + n).unwrap()
}

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&RootKey::from_bytes([byte; 32]), &[]).unwrap()
}

async fn open(store: &Arc<RedbStore>) -> Directory {
    let store = Arc::clone(store) as Arc<dyn Store>;
    Directory::open(store, sealer(1), Random::system(), Quotas::default())
        .await
        .unwrap()
}

async fn with_account() -> (Arc<RedbStore>, Directory) {
    let store = Arc::new(RedbStore::in_memory().unwrap());
    let directory = open(&store).await;
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    (store, directory)
}

fn new_account(n: u64) -> NewAccount {
    NewAccount {
        id: account(n),
        partition: Partition::Aws,
        alias: None,
        organization_id: None,
    }
}

fn new_user(name: &str) -> NewUser {
    NewUser {
        account: account(0),
        name: name.into(),
        path: "/".into(),
        tags: Vec::new(),
    }
}

fn new_cluster(name: &str) -> NewCluster {
    NewCluster {
        account: account(0),
        region: REGION.into(),
        name: name.into(),
        authentication_mode: AuthenticationMode::ConfigMap,
        bootstrap_creator_admin: true,
        creator: Creator {
            principal_arn: "arn:aws:iam::111122223333:user/ana".into(),
            principal_id: "AIDA".into(),
        },
        endpoint: None,
        certificate_authority: None,
    }
}

#[tokio::test]
async fn access_key_leads_to_its_user() {
    let (_, directory) = with_account().await;
    let user = NewUser {
        path: "/ops/".into(),
        ..new_user("Ana")
    };
    let user = directory.create_user(user, now()).await.unwrap();
    let created = directory
        .create_access_key(account(0), "ANA", now())
        .await
        .unwrap();

    let snapshot = directory.snapshot();
    let found = snapshot.access_key(&created.metadata.id).unwrap();
    assert_eq!(
        found.key.active_secret().unwrap().expose(),
        created.secret.expose()
    );
    assert_eq!(&*found.owner.arn, "arn:aws:iam::111122223333:user/ops/Ana");
    assert_eq!(found.owner.record, {
        let mut user = user.clone();
        user.access_keys.push(created.metadata.id.clone());
        user
    });
    assert_eq!(found.owner.record.id.len(), 21);
    assert!(
        user.id.starts_with("AIDARTX3GSDS"),
        "the account is in the id: {}",
        user.id
    );
    let Some(Principal::User(principal)) = snapshot.principal(&user.id) else {
        panic!("no principal")
    };
    assert_eq!(&*principal.arn, &*found.owner.arn);
    assert!(snapshot.access_key("AKIANOBODYHASTHISKEY").is_none());
}

#[tokio::test]
async fn ids_and_secrets_have_the_form_of_aws() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let created = directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap();
    let id = &created.metadata.id;
    assert!(id.len() == 20 && id.starts_with("AKIARTX3GSDS"), "{id}");
    assert_eq!(countersign_arn::unique_id::account_of(id), Some(account(0)));
    let secret = created.secret.expose();
    assert_eq!(secret.len(), 40);
    assert!(
        secret
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    );
    assert!(!format!("{created:?}").contains(secret));
}

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
    let store = Arc::new(RedbStore::in_memory().unwrap());
    let starts = (0..6).map(|_| open(&store));
    for directory in join_all(starts).await {
        directory.create_account(new_account(0), now()).await.ok();
        assert_eq!(directory.snapshot().accounts().count(), 1);
    }
}

#[tokio::test]
async fn user_names_are_unique_ignoring_case_and_path_and_keep_their_case() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("Ana"), now()).await.unwrap();
    for (name, path) in [("Ana", "/"), ("ana", "/"), ("ANA", "/other/")] {
        let user = NewUser {
            path: path.into(),
            ..new_user(name)
        };
        assert!(matches!(
            directory.create_user(user, now()).await,
            Err(DirectoryError::UserExists(_))
        ));
    }
    let snapshot = directory.snapshot();
    assert_eq!(
        &*snapshot.user(account(0), "aNA").unwrap().record.name,
        "Ana"
    );
    directory
        .create_account(new_account(1), now())
        .await
        .unwrap();
    directory
        .create_user(
            NewUser {
                account: account(1),
                ..new_user("ana")
            },
            now(),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn invalid_names_are_refused_before_the_store_is_asked() {
    let (store, directory) = with_account().await;
    let (before, _) = store.load().await.unwrap().collect().await.unwrap();
    let tag = |key: &str| Tag {
        key: key.into(),
        value: "".into(),
    };
    for user in [
        new_user(""),
        new_user("a/b"),
        NewUser {
            path: "ops".into(),
            ..new_user("ana")
        },
        NewUser {
            tags: vec![tag("a"), tag("A")],
            ..new_user("ana")
        },
    ] {
        assert!(matches!(
            directory.create_user(user, now()).await,
            Err(DirectoryError::Invalid(_))
        ));
    }
    for cluster in [
        new_cluster("-a"),
        new_cluster(""),
        NewCluster {
            region: "EU".into(),
            ..new_cluster("a")
        },
    ] {
        assert!(matches!(
            directory.create_cluster(cluster, now()).await,
            Err(DirectoryError::Invalid(_))
        ));
    }
    let bad = NewAccount {
        alias: Some("A".into()),
        ..new_account(5)
    };
    assert!(matches!(
        directory.create_account(bad, now()).await,
        Err(DirectoryError::Invalid(_))
    ));
    let bad = NewAccount {
        organization_id: Some("x".into()),
        ..new_account(5)
    };
    assert!(matches!(
        directory.create_account(bad, now()).await,
        Err(DirectoryError::Invalid(_))
    ));
    assert_eq!(store.load().await.unwrap().revision, before);
}

#[tokio::test]
async fn what_does_not_exist_is_said_so_even_if_it_cannot_exist() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let long = "x".repeat(5_000);
    for name in ["bob", "", "a/b", "a\0b", "ana\n", long.as_str()] {
        let error = directory
            .create_access_key(account(0), name, now())
            .await
            .unwrap_err();
        assert!(matches!(error, DirectoryError::NoSuchUser(_)), "{error:?}");
        let error = directory.delete_user(account(0), name).await.unwrap_err();
        assert!(matches!(error, DirectoryError::NoSuchUser(_)), "{error:?}");
        let error = directory
            .delete_cluster(account(0), REGION, name)
            .await
            .unwrap_err();
        assert!(
            matches!(error, DirectoryError::NoSuchCluster(_)),
            "{error:?}"
        );
        let error = directory
            .delete_access_key(account(0), "ana", name)
            .await
            .unwrap_err();
        assert!(
            matches!(error, DirectoryError::NoSuchAccessKey(_)),
            "{error:?}"
        );
        let error = directory
            .set_access_key_status(account(0), "ana", name, AccessKeyStatus::Active)
            .await;
        assert!(
            matches!(error, Err(DirectoryError::NoSuchAccessKey(_))),
            "{error:?}"
        );
    }
    let user = NewUser {
        account: account(7),
        ..new_user("ana")
    };
    assert!(matches!(
        directory.create_user(user, now()).await,
        Err(DirectoryError::NoSuchAccount(_))
    ));
    assert!(matches!(
        directory.delete_account(account(7)).await,
        Err(DirectoryError::NoSuchAccount(_))
    ));
}

#[tokio::test]
async fn inactive_key_has_no_secret_to_verify_with_and_gets_it_back() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let created = directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap();
    let id = created.metadata.id;
    for (status, active) in [
        (AccessKeyStatus::Inactive, false),
        (AccessKeyStatus::Inactive, false),
        (AccessKeyStatus::Active, true),
    ] {
        directory
            .set_access_key_status(account(0), "ana", &id, status)
            .await
            .unwrap();
        let snapshot = directory.snapshot();
        let secret = snapshot.access_key(&id).unwrap().key.active_secret();
        assert_eq!(
            secret.map(|s| s.expose()),
            active.then(|| created.secret.expose())
        );
        assert_eq!(
            directory.access_keys(account(0), "ana").unwrap()[0].status,
            status
        );
    }
}

#[tokio::test]
async fn keys_of_others_cannot_be_touched() {
    let (_, directory) = with_account().await;
    for name in ["ana", "bob"] {
        directory.create_user(new_user(name), now()).await.unwrap();
    }
    let id = directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap()
        .metadata
        .id;
    let status = directory
        .set_access_key_status(account(0), "bob", &id, AccessKeyStatus::Inactive)
        .await;
    assert!(matches!(status, Err(DirectoryError::NoSuchAccessKey(_))));
    let deleted = directory.delete_access_key(account(0), "bob", &id).await;
    assert!(matches!(deleted, Err(DirectoryError::NoSuchAccessKey(_))));
    assert!(
        directory
            .snapshot()
            .access_key(&id)
            .unwrap()
            .key
            .active_secret()
            .is_some()
    );
}

#[tokio::test]
async fn deleted_key_is_gone_and_makes_room() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let first = directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap()
        .metadata
        .id;
    directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap();
    let full = directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap_err();
    assert_eq!(
        full.to_string(),
        "cannot exceed quota for AccessKeysPerUser: 2"
    );
    directory
        .delete_access_key(account(0), "ana", &first)
        .await
        .unwrap();
    assert!(directory.snapshot().access_key(&first).is_none());
    directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap();
}

#[tokio::test]
async fn user_with_keys_stays_and_account_with_users_or_clusters_stays() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let id = directory
        .create_access_key(account(0), "ana", now())
        .await
        .unwrap()
        .metadata
        .id;
    directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap();
    let stays = |result: Result<(), DirectoryError>, has: &str| match result {
        Err(DirectoryError::DeleteConflict { what }) => assert_eq!(what, has),
        other => panic!("expected `{has}` to stay, got {other:?}"),
    };
    stays(
        directory.delete_user(account(0), "ana").await,
        "access keys",
    );
    stays(directory.delete_account(account(0)).await, "users");
    directory
        .delete_access_key(account(0), "ana", &id)
        .await
        .unwrap();
    directory.delete_user(account(0), "ANA").await.unwrap();
    stays(directory.delete_account(account(0)).await, "clusters");
    directory
        .delete_cluster(account(0), REGION, "demo")
        .await
        .unwrap();
    directory.delete_account(account(0)).await.unwrap();
    assert!(directory.snapshot().accounts().next().is_none());
}

#[tokio::test]
async fn recreated_user_is_another_principal() {
    let (_, directory) = with_account().await;
    let first = directory.create_user(new_user("ana"), now()).await.unwrap();
    directory.delete_user(account(0), "ana").await.unwrap();
    let second = directory.create_user(new_user("ana"), now()).await.unwrap();
    assert_eq!(first.arn(), second.arn());
    assert_ne!(first.id, second.id);
    let snapshot = directory.snapshot();
    assert!(snapshot.principal(&first.id).is_none());
    assert!(snapshot.principal(&second.id).is_some());
}

#[tokio::test]
async fn aliases_are_unique_and_free_again_with_their_account() {
    let (_, directory) = with_account().await;
    let aliased = |n| NewAccount {
        alias: Some("dev".into()),
        ..new_account(n)
    };
    directory.create_account(aliased(1), now()).await.unwrap();
    assert!(matches!(
        directory.create_account(aliased(2), now()).await,
        Err(DirectoryError::AliasTaken(_))
    ));
    assert!(matches!(
        directory.create_account(aliased(1), now()).await,
        Err(DirectoryError::AccountExists(_))
    ));
    assert_eq!(
        directory.snapshot().account_of_alias("dev"),
        Some(account(1))
    );
    directory.delete_account(account(1)).await.unwrap();
    assert_eq!(directory.snapshot().account_of_alias("dev"), None);
    directory.create_account(aliased(2), now()).await.unwrap();
}

#[tokio::test]
async fn cluster_names_are_unique_per_account_and_region_with_case() {
    let (_, directory) = with_account().await;
    directory
        .create_account(new_account(1), now())
        .await
        .unwrap();
    let first = directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap();
    assert!(matches!(
        directory.create_cluster(new_cluster("demo"), now()).await,
        Err(DirectoryError::ClusterExists(_))
    ));
    directory
        .create_cluster(new_cluster("Demo"), now())
        .await
        .unwrap();
    assert_eq!(
        &*directory.snapshot().cluster_named("demo").unwrap().arn,
        "arn:aws:eks:eu-central-1:111122223333:cluster/demo"
    );
    let second = directory
        .create_cluster(
            NewCluster {
                account: account(1),
                ..new_cluster("demo")
            },
            now(),
        )
        .await
        .unwrap();
    directory
        .create_cluster(
            NewCluster {
                region: "us-east-1".into(),
                ..new_cluster("demo")
            },
            now(),
        )
        .await
        .unwrap();
    assert_ne!(first.id, second.id);
    let snapshot = directory.snapshot();
    assert_eq!(
        snapshot.cluster_named("demo").unwrap_err(),
        ClusterNameError::Ambiguous { count: 3 }
    );
    assert_eq!(
        snapshot.cluster_named("nothing").unwrap_err(),
        ClusterNameError::Unknown
    );
    assert_eq!(
        snapshot
            .cluster(account(1), REGION, "demo")
            .unwrap()
            .record
            .id,
        second.id
    );
    assert!(snapshot.cluster(account(1), "us-east-1", "demo").is_none());
    assert_eq!(snapshot.clusters().count(), 4);
}

#[tokio::test]
async fn authentication_mode_goes_forward_step_by_step() {
    use AuthenticationMode::{Api, ApiAndConfigMap, ConfigMap};
    let (_, directory) = with_account().await;
    directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap();
    let set = |mode| directory.set_authentication_mode(account(0), REGION, "demo", mode);
    for (mode, allowed) in [
        (ConfigMap, false),
        (Api, false),
        (ApiAndConfigMap, true),
        (ApiAndConfigMap, false),
        (ConfigMap, false),
        (Api, true),
        (ApiAndConfigMap, false),
        (Api, false),
    ] {
        let result = set(mode).await;
        assert_eq!(result.is_ok(), allowed, "{mode}: {result:?}");
    }
    let hidden_admin = NewCluster {
        bootstrap_creator_admin: false,
        ..new_cluster("other")
    };
    let refused = directory.create_cluster(hidden_admin, now()).await;
    assert!(matches!(refused, Err(DirectoryError::CreatorMustBeAdmin)));
}

#[tokio::test]
async fn endpoint_is_set_later_and_the_rest_stays() {
    let (_, directory) = with_account().await;
    let before = directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap();
    let set = async |endpoint, pem| {
        directory
            .set_cluster_endpoint(account(0), REGION, "demo", endpoint, pem)
            .await
            .unwrap()
    };
    set(Some("https://one"), None).await;
    let after = set(None, Some("PEM")).await;
    assert_eq!(after.endpoint.as_deref(), Some("https://one"));
    assert_eq!(after.certificate_authority.as_deref(), Some("PEM"));
    assert_eq!((after.id, after.creator), (before.id, before.creator));
}

#[tokio::test]
async fn quotas_are_kept() {
    let store = Arc::new(RedbStore::in_memory().unwrap());
    let quotas = Quotas {
        users_per_account: 2,
        access_keys_per_user: 1,
        clusters_per_region: 1,
    };
    let directory = Directory::open(store, sealer(1), Random::system(), quotas)
        .await
        .unwrap();
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    for name in ["a", "b"] {
        directory.create_user(new_user(name), now()).await.unwrap();
    }
    let full = directory
        .create_user(new_user("c"), now())
        .await
        .unwrap_err();
    assert_eq!(
        full.to_string(),
        "cannot exceed quota for UsersPerAccount: 2"
    );
    directory
        .create_access_key(account(0), "a", now())
        .await
        .unwrap();
    assert!(
        directory
            .create_access_key(account(0), "a", now())
            .await
            .is_err()
    );
    directory
        .create_cluster(new_cluster("a"), now())
        .await
        .unwrap();
    assert!(
        directory
            .create_cluster(new_cluster("b"), now())
            .await
            .is_err()
    );
    directory
        .create_cluster(
            NewCluster {
                region: "other".into(),
                ..new_cluster("b")
            },
            now(),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn taken_key_ids_are_not_given_again() {
    // Counts in a byte, so that ids come again: the third key can only be made when the first two are passed over.
    let counter = Arc::new(AtomicU64::new(0));
    let random = Random::danger_predictable(move |bytes| {
        let n = counter.fetch_add(1, Ordering::Relaxed);
        bytes.fill(if n < 12 { 7 } else { (n % 251) as u8 });
        Ok(())
    });
    let store = Arc::new(RedbStore::in_memory().unwrap());
    let directory = Directory::open(store, sealer(1), random, Quotas::default())
        .await
        .unwrap();
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    let mut ids = BTreeSet::new();
    for name in ["a", "b", "c"] {
        ids.insert(
            directory
                .create_user(new_user(name), now())
                .await
                .unwrap()
                .id,
        );
        ids.insert(
            directory
                .create_access_key(account(0), name, now())
                .await
                .unwrap()
                .metadata
                .id,
        );
    }
    assert_eq!(ids.len(), 6);
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
            .delete_cluster(account(0), REGION, "demo")
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_replicas_never_give_a_user_more_keys_than_allowed() {
    let (store, directory) = with_account().await;
    let other = open(&store).await;
    for round in 0..10 {
        let name = format!("user-{round}");
        directory.create_user(new_user(&name), now()).await.unwrap();
        other
            .feed()
            .wait_for(directory.snapshot().revision())
            .await
            .unwrap();
        let writers = (0..8).map(|n| {
            let (directory, name) = (
                if n % 2 == 0 {
                    directory.clone()
                } else {
                    other.clone()
                },
                name.clone(),
            );
            tokio::spawn(async move { directory.create_access_key(account(0), &name, now()).await })
        });
        let made: Vec<_> = join_all(writers)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(made.iter().filter(|result| result.is_ok()).count(), 2);
        for result in made.into_iter().filter_map(Result::err) {
            assert!(
                matches!(result, DirectoryError::QuotaExceeded { .. }),
                "{result:?}"
            );
        }
        assert_eq!(directory.access_keys(account(0), &name).unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_replicas_creates_a_user() {
    let (store, directory) = with_account().await;
    let other = open(&store).await;
    for round in 0..10 {
        let writers = (0..8).map(|n| {
            let directory = if n % 2 == 0 {
                directory.clone()
            } else {
                other.clone()
            };
            let name = if n % 3 == 0 {
                format!("USER-{round}")
            } else {
                format!("user-{round}")
            };
            tokio::spawn(async move { directory.create_user(new_user(&name), now()).await })
        });
        let made: Vec<_> = join_all(writers)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(made.iter().filter(|result| result.is_ok()).count(), 1);
        assert!(
            made.iter()
                .filter_map(|r| r.as_ref().err())
                .all(|e| matches!(e, DirectoryError::UserExists(_)))
        );
    }
    assert_eq!(directory.snapshot().user_count(account(0)), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_in_an_account_that_is_deleted_while_users_are_created() {
    let (store, directory) = with_account().await;
    let other = open(&store).await;
    for round in 1..20 {
        directory
            .create_account(new_account(round), now())
            .await
            .unwrap();
        other
            .feed()
            .wait_for(directory.snapshot().revision())
            .await
            .unwrap();
        let create = {
            let other = other.clone();
            let user = NewUser {
                account: account(round),
                ..new_user("ana")
            };
            tokio::spawn(async move { other.create_user(user, now()).await })
        };
        let delete = {
            let directory = directory.clone();
            tokio::spawn(async move { directory.delete_account(account(round)).await })
        };
        let (created, deleted) = (create.await.unwrap(), delete.await.unwrap());
        assert_ne!(created.is_ok(), deleted.is_ok(), "{created:?} {deleted:?}");
        let loaded = countersign_store::DirectorySnapshot::load(&*store, &Arc::new(sealer(1)))
            .await
            .unwrap();
        assert_eq!(
            loaded.user_count(account(round)),
            usize::from(created.is_ok())
        );
        assert_eq!(loaded.account(account(round)).is_some(), created.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn user_is_deleted_or_gets_a_key_but_not_both() {
    let (store, directory) = with_account().await;
    let other = open(&store).await;
    for round in 0..20 {
        let name = format!("user-{round}");
        directory.create_user(new_user(&name), now()).await.unwrap();
        other
            .feed()
            .wait_for(directory.snapshot().revision())
            .await
            .unwrap();
        let create = {
            let (other, name) = (other.clone(), name.clone());
            tokio::spawn(async move { other.create_access_key(account(0), &name, now()).await })
        };
        let delete = {
            let (directory, name) = (directory.clone(), name.clone());
            tokio::spawn(async move { directory.delete_user(account(0), &name).await })
        };
        let (created, deleted) = (create.await.unwrap(), delete.await.unwrap());
        assert_ne!(created.is_ok(), deleted.is_ok(), "{created:?} {deleted:?}");
    }
    let snapshot = directory.snapshot();
    let with_keys: usize = snapshot
        .users(account(0), None)
        .map(|user| snapshot.access_keys_of(user).count())
        .sum();
    assert_eq!(with_keys, snapshot.access_key_count());
}

#[tokio::test]
async fn users_are_listed_in_order_from_where_one_stopped() {
    let (_, directory) = with_account().await;
    for name in ["bob", "Ana", "dora", "Carl"] {
        directory.create_user(new_user(name), now()).await.unwrap();
    }
    let snapshot = directory.snapshot();
    let names = |after| -> Vec<&str> {
        snapshot
            .users(account(0), after)
            .map(|user| &*user.record.name)
            .collect()
    };
    assert_eq!(names(None), ["Ana", "bob", "Carl", "dora"]);
    assert_eq!(names(Some("BOB")), ["Carl", "dora"]);
    assert_eq!(names(Some("between")), ["bob", "Carl", "dora"]);
    assert!(names(Some("z")).is_empty());
    assert_eq!(snapshot.users(account(9), None).count(), 0);
}

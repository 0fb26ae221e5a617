//! Accounts and users.

use countersign_arn::Tag;
use countersign_store::conformance::TestStore;
use countersign_store::records::AccessKeyStatus;
use countersign_store::{
    Directory, DirectoryError, NewAccount, NewCluster, NewUser, Quotas, Random, Store,
};
use std::sync::Arc;

use jiff::SignedDuration;

use super::*;

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
    let (_, before) = store.load().await.unwrap().collect().await.unwrap();
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
    let (_, after) = store.load().await.unwrap().collect().await.unwrap();
    assert_eq!(after, before);
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
            .delete_cluster(place(name), SignedDuration::ZERO, now())
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
        .delete_cluster(place("demo"), SignedDuration::ZERO, now())
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
async fn quotas_are_kept() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let quotas = Quotas {
        users_per_account: 2,
        access_keys_per_user: 1,
        clusters_per_region: 1,
        ..Quotas::default()
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

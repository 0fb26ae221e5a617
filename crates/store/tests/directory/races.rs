//! Several writers and several replicas at once.

use countersign_store::{DirectoryError, NewUser};
use futures::future::join_all;
use std::sync::Arc;

use super::*;

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

//! Keys of the root user: at most two, listed by the account, gone with their record.

use countersign_store::{DirectoryError, KeyOwner};

use crate::{account, now, open, with_account};

#[tokio::test]
async fn a_root_key_is_found_with_its_account_as_owner_until_it_is_deleted() {
    let (store, directory) = with_account().await;
    let created = directory.create_root_key(account(0), now()).await.unwrap();
    assert_eq!(created.secret.expose().len(), 40);
    assert_eq!(&*created.metadata.user_name, "root");
    drop(directory);
    let directory = open(&store).await;
    let snapshot = directory.snapshot();
    let found = snapshot.access_key(&created.metadata.id).unwrap();
    assert!(matches!(found.owner, KeyOwner::Root(owner) if owner.record.id == account(0)));
    assert_eq!(&*found.key.user_id, account(0).as_str());
    assert_eq!(
        found.key.active_secret().unwrap().expose(),
        created.secret.expose()
    );
    let listed = directory.root_keys(account(0)).unwrap();
    assert_eq!(listed, std::slice::from_ref(&created.metadata));
    assert!(matches!(
        directory.delete_account(account(0)).await,
        Err(DirectoryError::DeleteConflict {
            what: "root access keys"
        })
    ));
    directory
        .delete_root_key(account(0), &created.metadata.id)
        .await
        .unwrap();
    assert!(
        directory
            .snapshot()
            .access_key(&created.metadata.id)
            .is_none()
    );
    assert_eq!(directory.root_keys(account(0)).unwrap(), []);
    directory.delete_account(account(0)).await.unwrap();
}

#[tokio::test]
async fn there_are_two_at_most_even_when_made_at_once() {
    let (store, directory) = with_account().await;
    let other = open(&store).await;
    let made = futures::future::join_all((0..6).map(|n| {
        let directory = if n % 2 == 0 { &directory } else { &other };
        directory.create_root_key(account(0), now())
    }))
    .await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 2);
    let refused = made.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(
        refused,
        DirectoryError::QuotaExceeded { limit: 2, .. }
    ));
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let (_, directory) = with_account().await;
    assert!(matches!(
        directory.create_root_key(account(1), now()).await,
        Err(DirectoryError::NoSuchAccount(_))
    ));
    assert!(matches!(
        directory.root_keys(account(1)),
        Err(DirectoryError::NoSuchAccount(_))
    ));
    assert!(matches!(
        directory
            .delete_root_key(account(0), "AKIARTX3GSDSXFDOCIS2")
            .await,
        Err(DirectoryError::NoSuchAccessKey(_))
    ));
}

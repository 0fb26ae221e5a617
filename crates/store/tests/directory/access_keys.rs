//! Access keys.

use countersign_store::conformance::TestStore;
use countersign_store::records::AccessKeyStatus;
use countersign_store::{Directory, DirectoryError, NewUser, Principal, Quotas, Random};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

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
    assert_eq!(
        &*found.owner.user().unwrap().arn,
        "arn:aws:iam::111122223333:user/ops/Ana"
    );
    assert_eq!(found.owner.user().unwrap().record, {
        let mut user = user.clone();
        user.access_keys.push(created.metadata.id.clone());
        user
    });
    assert_eq!(found.owner.user().unwrap().record.id.len(), 21);
    assert!(
        user.id.starts_with("AIDARTX3GSDS"),
        "the account is in the id: {}",
        user.id
    );
    let Some(Principal::User(principal)) = snapshot.principal(&user.id) else {
        panic!("no principal")
    };
    assert_eq!(&*principal.arn, &*found.owner.user().unwrap().arn);
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
async fn taken_key_ids_are_not_given_again() {
    // Counts in a byte, so that ids come again: the third key can only be made when the first two are passed over.
    let counter = Arc::new(AtomicU64::new(0));
    let random = Random::danger_predictable(move |bytes| {
        let n = counter.fetch_add(1, Ordering::Relaxed);
        bytes.fill(if n < 12 { 7 } else { (n % 251) as u8 });
        Ok(())
    });
    let store = Arc::new(TestStore::in_memory().unwrap());
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

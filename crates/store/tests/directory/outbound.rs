//! Tokens for outside services: an account's switch, and the keys that all accounts share.

use std::sync::Arc;

use countersign_oidc::{Algorithm, Schedule};
use countersign_store::records::RecordKey;
use countersign_store::{DirectoryError, Store, Transaction, Value};
use jiff::SignedDuration;

use crate::{account, new_account, now, open, with_account};

#[tokio::test]
async fn the_switch_says_whether_it_moved_and_the_issuer_stays() {
    let (_, directory) = with_account().await;
    let switch = async |on| directory.set_outbound_federation(account(0), on).await;
    assert_eq!(switch(false).await.unwrap(), None);
    let on = switch(true).await.unwrap().unwrap();
    assert!(on.enabled && on.hash.len() == 32);
    assert_eq!(switch(true).await.unwrap(), None);
    let off = switch(false).await.unwrap().unwrap();
    assert!(!off.enabled && off.hash == on.hash);
    assert_eq!(switch(true).await.unwrap(), Some(on));
    directory
        .create_account(new_account(1), now())
        .await
        .unwrap();
    let other = directory
        .set_outbound_federation(account(1), true)
        .await
        .unwrap();
    assert_ne!(other.unwrap().hash, off.hash);
    let nobody = directory.set_outbound_federation(account(7), true).await;
    assert!(matches!(nobody, Err(DirectoryError::NoSuchAccount(_))));
}

#[tokio::test]
async fn keys_are_made_when_they_are_needed_and_rotated_after_a_week() {
    let (store, directory) = with_account().await;
    directory.maintain_outbound_keys(now()).await.unwrap();
    assert!(directory.snapshot().outbound_keys().is_none());
    directory
        .set_outbound_federation(account(0), true)
        .await
        .unwrap();
    directory.maintain_outbound_keys(now()).await.unwrap();
    let first = Arc::clone(directory.snapshot().outbound_keys().unwrap());
    for algorithm in [Algorithm::Rs256, Algorithm::Es384] {
        assert!(first.keys.signing(algorithm, now()).is_some());
    }
    drop(directory);
    let directory = open(&store).await;
    directory.maintain_outbound_keys(now()).await.unwrap();
    let again = Arc::clone(directory.snapshot().outbound_keys().unwrap());
    assert_eq!(again.modified, first.modified, "nothing was due");
    let document = |keys: &countersign_oidc::IssuerKeys, at| keys.document(Schedule::OUTBOUND, at);
    assert_eq!(document(&again.keys, now()), document(&first.keys, now()));

    let later = now() + SignedDuration::from_hours(7 * 24);
    let replica = open(&store).await;
    let (one, two) = tokio::join!(
        directory.maintain_outbound_keys(later),
        replica.maintain_outbound_keys(later)
    );
    one.unwrap();
    two.unwrap();
    let rotated = Arc::clone(directory.snapshot().outbound_keys().unwrap());
    assert_eq!(rotated.keys.published(Schedule::OUTBOUND, later).len(), 4);
    // Not before verifiers can know it.
    let id = |at| {
        let key = rotated.keys.signing(Algorithm::Es384, at).unwrap();
        key.id().to_owned()
    };
    assert_eq!(
        id(later),
        first.keys.signing(Algorithm::Es384, now()).unwrap().id()
    );
    assert_ne!(id(later), id(later + SignedDuration::from_secs(360)));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_not_written_over() {
    let (store, directory) = with_account().await;
    directory
        .set_outbound_federation(account(0), true)
        .await
        .unwrap();
    let key = RecordKey::OutboundKeys.to_key().unwrap();
    let later = Value::from(&br#"{"v":9}"#[..]);
    store
        .commit(Transaction::new().put(&key, later))
        .await
        .unwrap();
    let directory_again = open(&store).await;
    let refused = directory_again.maintain_outbound_keys(now()).await;
    assert!(
        matches!(refused, Err(DirectoryError::Unreadable { .. })),
        "{refused:?}"
    );
    drop(directory);
}

#[tokio::test]
async fn private_keys_are_not_in_the_store_as_they_are() {
    let (store, directory) = with_account().await;
    directory
        .set_outbound_federation(account(0), true)
        .await
        .unwrap();
    directory.maintain_outbound_keys(now()).await.unwrap();
    let encoded = {
        let snapshot = directory.snapshot();
        let keys = &snapshot.outbound_keys().unwrap().keys;
        assert!(!format!("{keys:?}").contains("pkcs8"));
        keys.encode().unwrap()
    };
    let secret = String::from_utf8_lossy(&encoded).into_owned();
    let part = secret.split("\"pkcs8\":\"").nth(1).unwrap()[..60].to_owned();
    let store: &crate::TestStore = &store;
    let countersign_store::Load { mut pages, .. } = store.load().await.unwrap();
    let mut seen = 0;
    while let Some(page) = futures::StreamExt::next(&mut pages).await {
        for record in page.unwrap().iter() {
            seen += 1;
            assert!(!String::from_utf8_lossy(&record.value).contains(&part));
        }
    }
    assert!(seen >= 2);
}

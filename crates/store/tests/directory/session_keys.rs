//! The keys of session tokens: made once, rotated by whoever comes first, unreadable at rest.

use std::sync::Arc;

use countersign_session::KeyState;
use countersign_store::conformance::TestStore;
use countersign_store::records::RecordKey;
use countersign_store::{DirectoryError, Store, Transaction, Value};
use jiff::SignedDuration;

use crate::{now, open};

#[tokio::test]
async fn first_start_makes_one_key_and_a_deployment_that_later_starts_keep() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    assert!(directory.snapshot().session_keys().is_none());
    directory.maintain_session_keys(now()).await.unwrap();
    let first = Arc::clone(directory.snapshot().session_keys().unwrap());
    assert!(first.deployment.as_str().starts_with("d-"));
    drop(directory);
    let directory = open(&store).await;
    directory.maintain_session_keys(now()).await.unwrap();
    let snapshot = directory.snapshot();
    let second = snapshot.session_keys().unwrap();
    assert_eq!(first.deployment, second.deployment);
    assert_eq!(first.ring.status(now()), second.ring.status(now()));
    assert_eq!(first.modified, second.modified, "nothing was due");
}

#[tokio::test]
async fn a_key_is_replaced_after_a_week_and_opens_on() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    directory.maintain_session_keys(now()).await.unwrap();
    let later = now() + SignedDuration::from_hours(7 * 24);
    for _ in 0..3 {
        directory.maintain_session_keys(later).await.unwrap();
    }
    let states = |at| {
        let snapshot = directory.snapshot();
        let status = snapshot.session_keys().unwrap().ring.status(at);
        status.iter().map(|key| key.state).collect::<Vec<_>>()
    };
    assert_eq!(states(later), [KeyState::Sealing, KeyState::Opening]);
    let warm = later + SignedDuration::from_secs(60);
    assert_eq!(states(warm), [KeyState::Opening, KeyState::Sealing]);
    // Keys of one instant are in no particular order.
    let end = warm + SignedDuration::from_secs(1);
    directory.retire_session_keys(end).await.unwrap();
    assert_eq!(
        states(end),
        [KeyState::Retired, KeyState::Retired, KeyState::Sealing]
    );
}

#[tokio::test]
async fn replicas_that_start_at_once_agree_on_one_key() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let replicas = [open(&store).await, open(&store).await, open(&store).await];
    let made = replicas
        .iter()
        .map(|replica| replica.maintain_session_keys(now()));
    for result in futures::future::join_all(made).await {
        result.unwrap();
    }
    let fresh = open(&store).await.snapshot();
    let keys = fresh.session_keys().unwrap();
    assert_eq!(keys.ring.status(now()).len(), 1);
    for replica in &replicas {
        let snapshot = replica.snapshot();
        let seen = snapshot.session_keys().unwrap();
        assert_eq!(seen.deployment, keys.deployment);
        assert_eq!(seen.ring.status(now()), keys.ring.status(now()));
    }
}

#[tokio::test]
async fn a_ring_that_cannot_be_read_is_reported_and_never_replaced() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    let key = RecordKey::SessionKeys.to_key().unwrap();
    let record = Value::from(br#"{"v":2,"later":true}"#.as_slice());
    let revision = store
        .commit(Transaction::new().put(&key, record))
        .await
        .unwrap();
    directory.feed().wait_for(revision).await.unwrap();
    assert_eq!(directory.snapshot().unusable_count(), 1);
    assert!(matches!(
        directory.maintain_session_keys(now()).await,
        Err(DirectoryError::Unreadable { .. })
    ));
}

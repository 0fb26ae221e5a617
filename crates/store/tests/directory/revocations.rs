//! Revocations: replicated, merged, dropped in time, and never given back because a row cannot be read.

use std::sync::Arc;

use countersign_arn::Partition;
use countersign_session::{
    RevocationTarget, Revoked, SessionKind, SessionPrincipal, SessionRecord,
};
use countersign_store::conformance::TestStore;
use countersign_store::records::RecordKey;
use countersign_store::{Directory, DirectoryError, Key, Store, Transaction, Value};
use jiff::{SignedDuration, Timestamp};

use crate::{account, now, open};

const KEY_ID: &str = "ASIARTX3GSDS7RSUJJ3G";

fn session(role: &str, issued: Timestamp) -> SessionRecord {
    SessionRecord::new(
        SessionKind::AssumedRole,
        Partition::Aws,
        account(0),
        SessionPrincipal::Role {
            id: "AROARTX3GSDSURLGMXGED".into(),
            path: "/".into(),
            name: role.into(),
            session_name: "alice".into(),
        },
        issued,
        issued + SignedDuration::from_hours(1),
    )
}

fn of_role(name: &str) -> RevocationTarget {
    RevocationTarget::Role {
        account: account(0),
        name: name.into(),
    }
}

fn revoked(directory: &Directory, role: &str, issued: Timestamp) -> bool {
    directory
        .snapshot()
        .revoked(&session(role, issued), KEY_ID)
        .is_some()
}

async fn put(store: &TestStore, key: &str, value: &str) {
    let key = Key::new(key).unwrap();
    let transaction = Transaction::new().put(&key, Value::from(value.as_bytes()));
    store.commit(transaction).await.unwrap();
}

#[tokio::test]
async fn a_revocation_is_in_force_when_it_is_answered_and_on_every_replica_and_after_a_restart() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let (here, there) = (open(&store).await, open(&store).await);
    let before = now() - SignedDuration::from_secs(1);
    assert!(!revoked(&here, "Dev", before));
    here.revoke_sessions(of_role("Dev"), None, now())
        .await
        .unwrap();
    assert!(revoked(&here, "Dev", before));
    assert!(!revoked(&here, "Dev", now()), "issued afterwards");
    assert!(!revoked(&here, "Ops", before), "another role");
    there.feed().wait_for(here.feed().revision()).await.unwrap();
    assert!(revoked(&there, "Dev", before));
    drop((here, there));
    let again = open(&store).await;
    assert!(revoked(&again, "Dev", before));
    let snapshot = again.snapshot();
    let rows: Vec<String> = snapshot.revocations().map(|row| row.target.id()).collect();
    assert_eq!(rows, ["role/111122223333/dev"]);
}

#[tokio::test]
async fn of_two_revocations_of_one_target_the_later_moment_counts() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    let later = now() + SignedDuration::from_secs(100);
    directory
        .revoke_sessions(of_role("Dev"), Some(later), later)
        .await
        .unwrap();
    let row = directory
        .revoke_sessions(of_role("DEV"), Some(now()), later)
        .await
        .unwrap();
    assert_eq!(row.before, later);
    assert_eq!(directory.snapshot().revocations().count(), 1);
    assert!(revoked(&directory, "Dev", now()));
}

#[tokio::test]
async fn writers_that_revoke_at_once_lose_nothing() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let replicas = [open(&store).await, open(&store).await];
    let revocations = (0..40).map(|n| {
        let directory = replicas[n % 2].clone();
        async move {
            let name = format!("role-{}", n / 2);
            directory
                .revoke_sessions(of_role(&name), None, now())
                .await
                .unwrap();
        }
    });
    futures::future::join_all(revocations).await;
    let rows = open(&store).await.snapshot().revocations().count();
    assert_eq!(rows, 20);
}

#[tokio::test]
async fn rows_are_dropped_when_no_session_can_be_meant_any_more() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    for n in 0..300 {
        let name = format!("role-{n}");
        directory
            .revoke_sessions(of_role(&name), None, now())
            .await
            .unwrap();
    }
    let longest = SignedDuration::from_mins(36 * 60 + 15);
    let end = now() + longest;
    let early = end - SignedDuration::from_secs(1);
    assert_eq!(directory.drop_ended_revocations(early).await.unwrap(), 0);
    directory.maintain_session_keys(early).await.unwrap();
    assert_eq!(directory.snapshot().revocations().count(), 300);
    directory.maintain_session_keys(end).await.unwrap();
    assert_eq!(directory.snapshot().revocations().count(), 0);
    assert!(!revoked(
        &directory,
        "role-1",
        now() - SignedDuration::from_secs(1)
    ));
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    let nobody = RevocationTarget::AccessKey {
        id: "AKIARTX3GSDS7RSUJJ3G".into(),
    };
    assert!(matches!(
        directory.revoke_sessions(nobody, None, now()).await,
        Err(DirectoryError::RevocationTarget(_))
    ));
    let tomorrow = now() + SignedDuration::from_hours(24);
    assert!(matches!(
        directory
            .revoke_sessions(of_role("Dev"), Some(tomorrow), now())
            .await,
        Err(DirectoryError::RevocationInFuture(_))
    ));
    assert_eq!(directory.snapshot().revocations().count(), 0);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_ends_every_session_of_its_target() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    let far = now() + SignedDuration::from_hours(1000);
    for value in ["nonsense", r#"{"v":2,"until":7}"#] {
        put(&store, "revocation/role/111122223333/dev", value).await;
        directory
            .feed()
            .wait_for(store.load().await.unwrap().revision)
            .await
            .unwrap();
        assert!(revoked(&directory, "Dev", far), "{value}");
        assert!(!revoked(&directory, "Ops", far), "{value}");
        assert_eq!(directory.snapshot().unusable_count(), 1);
        assert!(matches!(
            directory.revoke_sessions(of_role("Dev"), None, now()).await,
            Err(DirectoryError::Unreadable { .. })
        ));
        // Nor is it dropped: nobody knows when it ends.
        directory.drop_ended_revocations(far).await.unwrap();
        assert!(revoked(&directory, "Dev", far));
    }
    put(
        &store,
        "revocation/role/111122223333/dev",
        r#"{"v":1,"before":"2020-01-01T00:00:00Z","made":"2020-01-01T00:00:00Z"}"#,
    )
    .await;
    directory
        .feed()
        .wait_for(store.load().await.unwrap().revision)
        .await
        .unwrap();
    assert!(!revoked(&directory, "Dev", far));
}

#[tokio::test]
async fn a_row_whose_target_cannot_be_read_ends_every_session() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    put(&store, "revocation/moon-phase/full", r#"{"v":1}"#).await;
    directory
        .feed()
        .wait_for(store.load().await.unwrap().revision)
        .await
        .unwrap();
    let far = now() + SignedDuration::from_hours(1000);
    let said = directory.snapshot().revoked(&session("Dev", far), KEY_ID);
    assert!(matches!(said, Some(Revoked::Session { .. })), "{said:?}");
    let key = Key::new("revocation/moon-phase/full").unwrap();
    store.commit(Transaction::new().delete(&key)).await.unwrap();
    directory
        .feed()
        .wait_for(store.load().await.unwrap().revision)
        .await
        .unwrap();
    assert!(!revoked(&directory, "Dev", far));
}

#[tokio::test]
async fn a_key_that_is_revoked_stays_dead_whenever_it_was_issued() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    let target = RevocationTarget::AccessKey { id: KEY_ID.into() };
    directory
        .revoke_sessions(target.clone(), None, now())
        .await
        .unwrap();
    let snapshot = directory.snapshot();
    let later = session("Dev", now() + SignedDuration::from_secs(5));
    assert_eq!(snapshot.revoked(&later, KEY_ID), Some(Revoked::Key));
    assert_eq!(snapshot.revoked(&later, "ASIARTX3GSDS7RSUJJ3H"), None);
    let id = target.id();
    let key = RecordKey::Revocation(&id).to_key().unwrap();
    assert_eq!(key.as_str(), "revocation/key/ASIARTX3GSDS7RSUJJ3G");
}

#[tokio::test]
async fn rotation_keeps_sessions_and_retiring_ends_them() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    directory.maintain_session_keys(now()).await.unwrap();
    let opening = |at: Timestamp| {
        let snapshot = directory.snapshot();
        let status = snapshot.session_keys().unwrap().ring.status(at);
        let retired = countersign_session::KeyState::Retired;
        (
            status.len(),
            status.iter().filter(|key| key.state != retired).count(),
        )
    };
    directory.rotate_session_keys(now()).await.unwrap();
    assert_eq!(opening(now()), (2, 2));
    directory.retire_session_keys(now()).await.unwrap();
    assert_eq!(opening(now()), (3, 1));
}

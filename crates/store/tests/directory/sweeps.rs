//! What clusters leave behind.

use countersign_access::EntryType;
use countersign_store::records::{AuthenticationMode, ClusterStatus};
use countersign_store::{DirectoryError, Key, NewAccessEntry, NewCluster, Revision, Value};
use jiff::{SignedDuration, ToSpan};

use super::*;

const NONE: SignedDuration = SignedDuration::ZERO;

async fn filled(directory: &Directory, name: &str, entries: usize) -> Box<str> {
    let new = NewCluster {
        authentication_mode: AuthenticationMode::Api,
        ..new_cluster(name)
    };
    let id = directory.create_cluster(new, now()).await.unwrap().id;
    for n in 1..entries {
        let new = NewAccessEntry {
            principal_arn: format!("arn:aws:iam::111122223333:role/r{n}").into(),
            principal_id: Some(format!("AROA{n}").into()),
            entry_type: EntryType::Standard,
            groups: Vec::new(),
            username: None,
            tags: Vec::new(),
        };
        directory
            .create_access_entry(place(name), new, None, now())
            .await
            .unwrap();
    }
    directory
        .update_cluster(place(name), "LoggingUpdate", NONE, None, now(), |_| {
            Ok(Vec::new())
        })
        .await
        .unwrap();
    id
}

async fn keys(directory: &Directory, kind: &str) -> usize {
    let (_, records) = directory
        .store()
        .load()
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let of_kind = records
        .iter()
        .filter(|record| record.key.as_str().starts_with(kind));
    of_kind.count()
}

#[tokio::test]
async fn a_new_cluster_of_the_name_has_nothing_of_the_old_one() {
    let (_, directory) = with_account().await;
    let old = filled(&directory, "demo", 130).await;
    let kept = filled(&directory, "kept", 2).await;
    directory
        .delete_cluster(place("demo"), NONE, now())
        .await
        .unwrap();
    let new = filled(&directory, "demo", 1).await;
    assert_ne!(old, new);
    let snapshot = directory.snapshot();
    assert!(snapshot.cluster_by_id(&old).is_none());
    assert_eq!(snapshot.access_entry_count(&old), 0);
    assert!(snapshot.access_entry_of_principal(&old, "AROA1").is_none());
    assert_eq!(snapshot.cluster_updates(&old).count(), 0);
    assert_eq!(snapshot.access_entry_count(&new), 1);
    assert!(snapshot.access_entry_of_principal(&new, "AROA1").is_none());
    assert_eq!(keys(&directory, "access-entry/").await, 133);
    // More than one transaction takes.
    assert_eq!(directory.sweep_clusters(now()).await.unwrap(), 131);
    assert_eq!(directory.sweep_clusters(now()).await.unwrap(), 0);
    assert_eq!(keys(&directory, "access-entry/").await, 3);
    assert_eq!(keys(&directory, "cluster-update/").await, 2);
    let snapshot = directory.snapshot();
    assert_eq!(snapshot.access_entry_count(&new), 1);
    assert_eq!(snapshot.access_entry_count(&kept), 2);
}

#[tokio::test]
async fn a_cluster_is_deleting_until_it_has_settled() {
    let (_, directory) = with_account().await;
    let id = filled(&directory, "demo", 2).await;
    let delete = async |at| {
        directory
            .delete_cluster(place("demo"), SignedDuration::from_mins(2), at)
            .await
    };
    let deleted = delete(now()).await.unwrap();
    let gone = now() + 2.minutes();
    assert_eq!(deleted.status(now()), Some(ClusterStatus::Deleting));
    assert_eq!(deleted.status(gone), None);
    let snapshot = directory.snapshot();
    assert!(place("demo").find(&snapshot, now()).is_ok());
    let missing = place("demo").find(&snapshot, gone).unwrap_err();
    assert!(matches!(missing, DirectoryError::NoSuchCluster(_)));
    assert!(snapshot.cluster_named("demo").is_err(), "nobody gets in");
    assert_eq!(snapshot.access_entry_count(&id), 0);
    assert_eq!(snapshot.cluster_updates(&id).count(), 1);
    assert!(matches!(
        delete(now()).await,
        Err(DirectoryError::ClusterDeleting(_))
    ));
    assert!(matches!(
        delete(gone).await,
        Err(DirectoryError::NoSuchCluster(_))
    ));
    let taken = directory.create_cluster(new_cluster("demo"), now()).await;
    assert!(matches!(taken, Err(DirectoryError::ClusterExists(_))));
    assert_eq!(directory.sweep_clusters(now()).await.unwrap(), 0);
    // The name is free before anything is swept.
    let new = directory
        .create_cluster(new_cluster("demo"), gone)
        .await
        .unwrap();
    assert_eq!(directory.sweep_clusters(gone).await.unwrap(), 3);
    assert_eq!(
        directory
            .snapshot()
            .cluster_named("demo")
            .unwrap()
            .record
            .id,
        new.id
    );
    directory
        .delete_cluster(place("demo"), SignedDuration::from_mins(2), gone)
        .await
        .unwrap();
    directory
        .maintain_session_keys(gone + 1.hour())
        .await
        .unwrap();
    assert_eq!(keys(&directory, "cluster/").await, 0);
}

#[tokio::test]
async fn what_hangs_on_a_cluster_that_cannot_be_read_stays() {
    let (store, directory) = with_account().await;
    filled(&directory, "demo", 3).await;
    let key = Key::new(format!("cluster/{}/{REGION}/demo", account(0))).unwrap();
    let later: Revision = store
        .commit(Transaction::new().put(&key, Value::from(&b"{\"v\":2}"[..])))
        .await
        .unwrap();
    directory.feed().wait_for(later).await.unwrap();
    assert_eq!(directory.sweep_clusters(now()).await.unwrap(), 0);
    assert_eq!(keys(&directory, "access-entry/").await, 3);
    let error = directory
        .delete_cluster(place("demo"), NONE, now())
        .await
        .unwrap_err();
    assert!(
        matches!(error, DirectoryError::Unreadable { .. }),
        "{error:?}"
    );
}

//! Changes of clusters, and what they are while they settle.

use countersign_store::records::{
    AuthenticationMode, ClusterSettings, ClusterStatus, ClusterUpdate, LogType, SupportType,
    UpdateStatus, VpcConfig,
};
use countersign_store::{DirectoryError, NewCluster, Refused, UpdateParams};
use jiff::{SignedDuration, ToSpan};

use super::*;

const NONE: SignedDuration = SignedDuration::ZERO;

async fn log(directory: &Directory, at: Timestamp) -> Result<ClusterUpdate, DirectoryError> {
    let settling = SignedDuration::from_mins(2);
    directory
        .update_cluster(
            place("demo"),
            "LoggingUpdate",
            settling,
            None,
            at,
            |cluster| {
                let logs = &mut cluster.settings.logs;
                if !logs.remove(&LogType::Audit) {
                    logs.insert(LogType::Audit);
                }
                Ok(vec![("ClusterLogging".into(), "{}".into())])
            },
        )
        .await
        .map(|outcome| outcome.done().unwrap())
}

#[tokio::test]
async fn one_update_at_a_time() {
    let (_, directory) = with_account().await;
    let new = NewCluster {
        settling: SignedDuration::from_mins(1),
        ..new_cluster("demo")
    };
    let id = directory.create_cluster(new, now()).await.unwrap().id;
    let status = |seconds: i64| {
        let snapshot = directory.snapshot();
        let cluster = snapshot.cluster_by_id(&id).unwrap();
        cluster.record.status(now() + seconds.seconds())
    };
    assert_eq!(status(59), Some(ClusterStatus::Creating));
    assert_eq!(status(60), Some(ClusterStatus::Active));
    let early = log(&directory, now()).await.unwrap_err();
    assert!(
        matches!(early, DirectoryError::ClusterBusy { update: None, .. }),
        "{early:?}"
    );
    let begun = now() + 60.seconds();
    let first = log(&directory, begun).await.unwrap();
    assert_eq!(status(179), Some(ClusterStatus::Updating));
    assert_eq!(status(180), Some(ClusterStatus::Active));
    let second = log(&directory, now() + 179.seconds()).await.unwrap_err();
    let DirectoryError::ClusterBusy { update, .. } = second else {
        panic!("{second:?}");
    };
    assert_eq!(update, Some(first.id.clone()));
    let busy = directory
        .set_authentication_mode(
            place("demo"),
            AuthenticationMode::ApiAndConfigMap,
            NONE,
            None,
            begun,
        )
        .await;
    assert!(matches!(busy, Err(DirectoryError::ClusterBusy { .. })));
    let second = log(&directory, now() + 180.seconds()).await.unwrap();
    let snapshot = directory.snapshot();
    let ids: Vec<_> = snapshot
        .cluster_updates(&id)
        .map(|update| &update.record.id)
        .collect();
    assert_eq!(ids, [&first.id, &second.id]);
    let first = snapshot.cluster_update(&id, &first.id).unwrap();
    assert_eq!(
        first.record.status(now() + 179.seconds()),
        UpdateStatus::InProgress
    );
    assert_eq!(
        first.record.status(now() + 180.seconds()),
        UpdateStatus::Successful
    );
    assert_eq!(
        first.record.params,
        [("ClusterLogging".into(), "{}".into())]
    );
    assert!(snapshot.cluster_update(&id, "x").is_none());
    assert!(snapshot.cluster_update("x", &second.id).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_replicas_one_updates() {
    let (store, directory) = with_account().await;
    directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap();
    let other = open(&store).await;
    let writers = (0..8).map(|n| {
        let directory = if n % 2 == 0 { &directory } else { &other }.clone();
        tokio::spawn(async move { log(&directory, now()).await })
    });
    let made = futures::future::join_all(writers).await;
    let done: Vec<_> = made
        .iter()
        .filter(|made| made.as_ref().unwrap().is_ok())
        .collect();
    assert_eq!(done.len(), 1, "{made:?}");
}

#[tokio::test]
async fn what_an_update_changes() {
    let (_, directory) = with_account().await;
    let settings = ClusterSettings {
        vpc: Some(VpcConfig {
            subnet_ids: vec!["subnet-1".into()],
            ..VpcConfig::default()
        }),
        ..ClusterSettings::default()
    };
    let new = NewCluster {
        settings: settings.clone(),
        version: Some("1.31".into()),
        role_arn: Some("arn:aws:iam::111122223333:role/eks".into()),
        ..new_cluster("demo")
    };
    let before = directory.create_cluster(new, now()).await.unwrap();
    let update = async |kind: &str,
                        change: fn(
        &mut countersign_store::records::Cluster,
    ) -> Result<UpdateParams, Refused>| {
        directory
            .update_cluster(place("demo"), kind, NONE, None, now(), change)
            .await
    };
    update("VersionUpdate", |cluster| {
        cluster.version = Some("1.32".into());
        cluster.settings.support_type = Some(SupportType::Standard);
        cluster.deletion_protection = true;
        cluster.id = "other".into();
        cluster.name = "other".into();
        cluster.authentication_mode = AuthenticationMode::Api;
        cluster.creator.principal_id = "other".into();
        cluster.deleting = Some(now());
        cluster.tags.clear();
        Ok(Vec::new())
    })
    .await
    .unwrap();
    let snapshot = directory.snapshot();
    let after = &snapshot.cluster(account(0), REGION, "demo").unwrap().record;
    let mut expected = before.clone();
    expected.version = Some("1.32".into());
    expected.settings.support_type = Some(SupportType::Standard);
    expected.deletion_protection = true;
    expected.update.clone_from(&after.update);
    assert_eq!(*after, expected);
    let refused = update("LoggingUpdate", |_| {
        Err(Refused("No changes needed".into()))
    })
    .await;
    assert_eq!(refused.unwrap_err().to_string(), "No changes needed");
    assert_eq!(directory.snapshot().cluster_updates(&before.id).count(), 1);
    let protected = directory.delete_cluster(place("demo"), NONE, now()).await;
    assert!(matches!(
        protected,
        Err(DirectoryError::DeletionProtected(_))
    ));
    update("DeletionProtectionUpdate", |cluster| {
        cluster.deletion_protection = false;
        Ok(Vec::new())
    })
    .await
    .unwrap();
    directory
        .delete_cluster(place("demo"), NONE, now())
        .await
        .unwrap();
    assert!(directory.snapshot().cluster_named("demo").is_err());
}

#[tokio::test]
async fn old_updates_give_way() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let quotas = Quotas {
        updates_per_cluster: 3,
        ..Quotas::default()
    };
    let store = Arc::clone(&store) as Arc<dyn Store>;
    let directory = Directory::open(store, sealer(1), Random::system(), quotas)
        .await
        .unwrap();
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    let id = directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap()
        .id;
    let kept = || -> Vec<Timestamp> {
        let snapshot = directory.snapshot();
        snapshot
            .cluster_updates(&id)
            .map(|update| update.record.created)
            .collect()
    };
    let day = |n: i64| now() + SignedDuration::from_hours(24 * n);
    for n in 0..5 {
        log(&directory, day(n)).await.unwrap();
    }
    assert_eq!(kept(), [day(2), day(3), day(4)]);
    directory.sweep_clusters(day(92)).await.unwrap();
    assert_eq!(kept(), [day(2), day(3), day(4)]);
    assert_eq!(directory.sweep_clusters(day(93)).await.unwrap(), 1);
    assert_eq!(kept(), [day(3), day(4)]);
    log(&directory, day(500)).await.unwrap();
    assert_eq!(kept(), [day(500)]);
}

#[tokio::test]
async fn modes_go_forward_and_bring_the_creator_along() {
    use AuthenticationMode::{Api, ApiAndConfigMap, ConfigMap};
    let (_, directory) = with_account().await;
    let id = directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap()
        .id;
    let entries = || directory.snapshot().access_entry_count(&id);
    for (mode, allowed, count) in [
        (ConfigMap, false, 0),
        (Api, false, 0),
        (ApiAndConfigMap, true, 1),
        (ApiAndConfigMap, false, 1),
        (ConfigMap, false, 1),
    ] {
        let result = directory
            .set_authentication_mode(place("demo"), mode, NONE, None, now())
            .await;
        match result {
            Ok(outcome) => {
                assert!(allowed, "{mode}");
                let update = outcome.done().unwrap();
                assert_eq!(&*update.kind, "AccessConfigUpdate");
                let value = "\"API_AND_CONFIG_MAP\"";
                assert_eq!(update.params, [("AuthenticationMode".into(), value.into())]);
                assert_eq!(update.status(now()), UpdateStatus::Successful);
            }
            Err(DirectoryError::UnsupportedModeChange { to, .. }) => {
                assert!(!allowed && to == mode, "{mode}");
            }
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(entries(), count, "{mode}");
    }
    let creator = "arn:aws:iam::111122223333:user/ana";
    directory
        .delete_access_entry(place("demo"), creator, now())
        .await
        .unwrap();
    directory
        .set_authentication_mode(place("demo"), Api, NONE, None, now())
        .await
        .unwrap();
    assert_eq!(entries(), 0, "only the first step makes the entry");
}

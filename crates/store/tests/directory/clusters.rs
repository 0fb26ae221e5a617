//! Clusters.

use countersign_store::records::AuthenticationMode;
use countersign_store::{ClusterNameError, DirectoryError, NewCluster};

use jiff::SignedDuration;

use super::*;

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
    let set = |mode| {
        directory.set_authentication_mode(place("demo"), mode, SignedDuration::ZERO, None, now())
    };
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

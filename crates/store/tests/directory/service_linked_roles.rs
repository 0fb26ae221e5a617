//! Roles of AWS services, made and deleted.

use countersign_store::records::{DeletionFailure, JobKind};
use countersign_store::{DirectoryError, NewRole};
use jiff::SignedDuration;

use crate::{account, new_cluster, new_role, now, place, with_account};

const POLICY: &str = "arn:aws:iam::aws:policy/aws-service-role/AmazonEKSServiceRolePolicy";
const NAME: &str = "AWSServiceRoleForAmazonEKS";

fn eks() -> NewRole {
    NewRole {
        path: "/aws-service-role/eks.amazonaws.com/".into(),
        ..new_role(NAME)
    }
}

#[tokio::test]
async fn a_role_in_use_stays_and_the_job_says_why() {
    let (_, directory) = with_account().await;
    let make = || directory.create_service_linked_role(eks(), POLICY, now());
    let role = make().await.unwrap();
    assert_eq!(role.attached, [Box::from(POLICY)]);
    assert!(role.is_protected());
    assert!(matches!(make().await, Err(DirectoryError::RoleExists(_))));
    directory
        .create_cluster(new_cluster("prod"), now())
        .await
        .unwrap();
    let delete = || directory.delete_service_linked_role(account(0), NAME, "AIDA1", now());
    let first = delete().await.unwrap();
    let prefix = format!("task/aws-service-role/eks.amazonaws.com/{NAME}/");
    let uuid = first.strip_prefix(&*prefix).unwrap();
    assert_eq!(uuid.len(), 36);
    assert_eq!(&uuid[14..15], "4");
    assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
    let failed = |id: &str| {
        let snapshot = directory.snapshot();
        let job = &snapshot.job(account(0), id).unwrap().record;
        assert_eq!(&*job.by, "AIDA1");
        match &job.kind {
            JobKind::ServiceLinkedRoleDeletion { failed, .. } => failed.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(
        failed(&first),
        Some(DeletionFailure { resources, .. })
            if resources == [(
                "eu-central-1".into(),
                "arn:aws:eks:eu-central-1:111122223333:cluster/prod".into()
            )]
    ));
    assert!(directory.snapshot().role(account(0), NAME).is_some());
    directory
        .delete_cluster(place("prod"), SignedDuration::ZERO, now())
        .await
        .unwrap();
    let second = delete().await.unwrap();
    assert_ne!(first, second);
    assert_eq!(failed(&second), None);
    assert!(directory.snapshot().role(account(0), NAME).is_none());
    assert_eq!(
        directory.snapshot().policy_use_count(account(0), POLICY),
        (0, 0)
    );
    assert!(matches!(delete().await, Err(DirectoryError::NoSuchRole(_))));
    make().await.unwrap();
}

#[tokio::test]
async fn roles_of_customers_are_not_deleted_this_way() {
    let (_, directory) = with_account().await;
    directory.create_role(new_role("ops"), now()).await.unwrap();
    assert!(matches!(
        directory
            .delete_service_linked_role(account(0), "ops", "AIDA1", now())
            .await,
        Err(DirectoryError::NoSuchRole(_))
    ));
    assert!(directory.snapshot().role(account(0), "ops").is_some());
}

#[tokio::test]
async fn what_became_of_a_deletion_is_kept_for_a_month() {
    let (_, directory) = with_account().await;
    let mut ids = Vec::new();
    for day in [0, 10, 31] {
        let at = now() + SignedDuration::from_hours(24 * day);
        directory
            .create_service_linked_role(eks(), POLICY, at)
            .await
            .unwrap();
        let deleted = directory.delete_service_linked_role(account(0), NAME, "AIDA1", at);
        ids.push(deleted.await.unwrap());
    }
    let snapshot = directory.snapshot();
    let kept: Vec<_> = ids
        .iter()
        .map(|id| snapshot.job(account(0), id).is_some())
        .collect();
    assert_eq!(kept, [false, true, true]);
}

//! Instance profiles, and roles of AWS services.

use countersign_store::records::Creator;
use countersign_store::{ClusterPlace, NewCluster};
use jiff::SignedDuration;

use super::{ADMIN, DOCUMENT, OF_SERVICE, add_role, decoded, ok, pages, part, parts, refused};
use crate::world::{ACCOUNT, ASSUME, Given, World, now, trusts};

#[tokio::test]
async fn instance_profiles_hold_a_role() {
    let world = World::new().await;
    for name in ["node", "other"] {
        add_role(&world, name).await;
    }
    let profile = ("InstanceProfileName", "NODES");
    let made = ok(
        &world,
        "CreateInstanceProfile",
        &[
            ("InstanceProfileName", "Nodes"),
            ("Path", "/eks/"),
            ("Tags.member.1.Key", "k"),
            ("Tags.member.1.Value", "v"),
        ],
    )
    .await;
    assert_eq!(
        part(&made, "Arn"),
        "arn:aws:iam::111122223333:instance-profile/eks/Nodes"
    );
    assert!(
        made.contains("<Roles/>") && made.contains("<Tags>"),
        "{made}"
    );
    refused(
        &world,
        "CreateInstanceProfile",
        &[profile],
        (
            409,
            "EntityAlreadyExists",
            "Instance Profile NODES already exists.",
        ),
    )
    .await;
    let role = ("RoleName", "node");
    let absent = [profile, ("RoleName", "other")];
    refused(
        &world,
        "RemoveRoleFromInstanceProfile",
        &absent,
        (
            404,
            "NoSuchEntity",
            "Role other in Instance Profile NODES cannot be found.",
        ),
    )
    .await;
    let none = ok(&world, "ListInstanceProfilesForRole", &[role]).await;
    assert!(none.contains("<InstanceProfiles/>"), "{none}");
    ok(&world, "AddRoleToInstanceProfile", &[profile, role]).await;
    refused(
        &world,
        "AddRoleToInstanceProfile",
        &absent,
        (
            409,
            "LimitExceeded",
            "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1",
        ),
    )
    .await;
    let got = ok(&world, "GetInstanceProfile", &[profile]).await;
    assert_eq!(part(&got, "RoleName"), "node");
    assert!(got.contains("AssumeRolePolicyDocument") && !got.contains("MaxSessionDuration"));
    assert_eq!(part(&part(&got, "Tags"), "Key"), "k");
    ok(
        &world,
        "CreateInstanceProfile",
        &[("InstanceProfileName", "more")],
    )
    .await;
    ok(
        &world,
        "AddRoleToInstanceProfile",
        &[("InstanceProfileName", "more"), role],
    )
    .await;
    for action in ["ListInstanceProfiles", "ListInstanceProfilesForRole"] {
        let given: &[(&str, &str)] = if action == "ListInstanceProfiles" {
            &[]
        } else {
            &[role]
        };
        assert_eq!(
            pages(&world, action, given, "InstanceProfileName").await,
            ["more", "Nodes"],
            "{action}"
        );
    }
    let eks = ok(&world, "ListInstanceProfiles", &[("PathPrefix", "/eks/")]).await;
    assert_eq!(parts(&eks, "InstanceProfileName"), ["Nodes"]);
    let none = ("InstanceProfileName", "none");
    for (action, given) in [
        ("GetInstanceProfile", vec![none]),
        ("DeleteInstanceProfile", vec![none]),
        ("AddRoleToInstanceProfile", vec![none, role]),
        ("ListInstanceProfileTags", vec![none]),
    ] {
        let text = "Instance Profile none cannot be found.";
        refused(&world, action, &given, (404, "NoSuchEntity", text)).await;
    }
}

#[tokio::test]
async fn service_linked_roles_are_made_protected_and_deleted() {
    let world = World::new().await;
    let eks = ("AWSServiceName", "eks.amazonaws.com");
    let made = ok(&world, "CreateServiceLinkedRole", &[eks]).await;
    let name = "AWSServiceRoleForAmazonEKS";
    assert_eq!(
        part(&made, "Arn"),
        format!("arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/{name}")
    );
    assert!(
        decoded(&part(&made, "AssumeRolePolicyDocument")).contains("eks.amazonaws.com"),
        "{made}"
    );
    let role = ("RoleName", name);
    let attached = ok(&world, "ListAttachedRolePolicies", &[role]).await;
    assert_eq!(part(&attached, "PolicyArn"), OF_SERVICE);
    let input = |text: &'static str| (400, "InvalidInput", text);
    refused(
        &world,
        "CreateServiceLinkedRole",
        &[eks],
        input(
            "Service role name AWSServiceRoleForAmazonEKS has been taken in this account, please try a different suffix.",
        ),
    )
    .await;
    refused(
        &world,
        "CreateServiceLinkedRole",
        &[eks, ("CustomSuffix", "x")],
        input("Custom suffix is not allowed for eks.amazonaws.com"),
    )
    .await;
    refused(
        &world,
        "CreateServiceLinkedRole",
        &[("AWSServiceName", "x.amazonaws.com")],
        input("x.amazonaws.com has no service-linked role."),
    )
    .await;
    let scaling = [
        ("AWSServiceName", "autoscaling.amazonaws.com"),
        ("CustomSuffix", "x"),
    ];
    let made = ok(&world, "CreateServiceLinkedRole", &scaling).await;
    assert_eq!(part(&made, "RoleName"), "AWSServiceRoleForAutoScaling_x");
    let protected = "Cannot perform the operation on the protected role 'AWSServiceRoleForAmazonEKS' - this role is only modifiable by AWS";
    let trust = trusts(ACCOUNT, ASSUME, "");
    ok(
        &world,
        "CreateInstanceProfile",
        &[("InstanceProfileName", "nodes")],
    )
    .await;
    let table: &[(&str, Given<'_>)] = &[
        ("DeleteRole", &[role]),
        ("UpdateRole", &[role]),
        (
            "UpdateAssumeRolePolicy",
            &[role, ("PolicyDocument", &trust)],
        ),
        ("AttachRolePolicy", &[role, ("PolicyArn", ADMIN)]),
        ("DetachRolePolicy", &[role, ("PolicyArn", OF_SERVICE)]),
        (
            "PutRolePolicy",
            &[role, ("PolicyName", "p"), ("PolicyDocument", DOCUMENT)],
        ),
        ("DeleteRolePolicy", &[role, ("PolicyName", "p")]),
        (
            "PutRolePermissionsBoundary",
            &[role, ("PermissionsBoundary", ADMIN)],
        ),
        ("DeleteRolePermissionsBoundary", &[role]),
        (
            "AddRoleToInstanceProfile",
            &[role, ("InstanceProfileName", "nodes")],
        ),
    ];
    for (action, given) in table {
        refused(
            &world,
            action,
            given,
            (400, "UnmodifiableEntity", protected),
        )
        .await;
    }
    let described = [role, ("Description", "ours")];
    ok(&world, "UpdateRoleDescription", &described).await;
    let creator = Creator {
        principal_arn: "arn:aws:iam::111122223333:user/ana".into(),
        principal_id: "AIDA".into(),
    };
    let cluster = NewCluster::new(world.account, "eu-central-1", "prod", creator);
    world
        .directory
        .create_cluster(cluster, now())
        .await
        .unwrap();
    let delete = async || {
        let body = ok(&world, "DeleteServiceLinkedRole", &[role]).await;
        let task = part(&body, "DeletionTaskId");
        let given = [("DeletionTaskId", &*task)];
        ok(&world, "GetServiceLinkedRoleDeletionStatus", &given).await
    };
    let failed = delete().await;
    assert_eq!(part(&failed, "Status"), "FAILED");
    assert_eq!(part(&failed, "Region"), "eu-central-1");
    assert!(failed.contains("<member>arn:aws:eks:eu-central-1:111122223333:cluster/prod</member>"));
    let place = ClusterPlace {
        account: world.account,
        region: "eu-central-1",
        name: "prod",
    };
    world
        .directory
        .delete_cluster(place, SignedDuration::ZERO, now())
        .await
        .unwrap();
    let deleted = delete().await;
    assert_eq!(part(&deleted, "Status"), "SUCCEEDED");
    assert!(!deleted.contains("Reason"), "{deleted}");
    refused(
        &world,
        "DeleteServiceLinkedRole",
        &[role],
        (
            404,
            "NoSuchEntity",
            "The role with name AWSServiceRoleForAmazonEKS cannot be found.",
        ),
    )
    .await;
    let task = "task/aws-service-role/eks.amazonaws.com/x/y";
    refused(
        &world,
        "GetServiceLinkedRoleDeletionStatus",
        &[("DeletionTaskId", task)],
        (
            404,
            "NoSuchEntity",
            "The deletion task with id task/aws-service-role/eks.amazonaws.com/x/y cannot be found.",
        ),
    )
    .await;
}

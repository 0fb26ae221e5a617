//! What IAM policies say about calls of EKS (EKS API spec, section 15).

use countersign_store::records::AuthenticationMode::{Api, ApiAndConfigMap};
use serde_json::{Value, json};

use super::*;

fn allow(action: &str, resource: &str, condition: Value) -> Value {
    let mut statement = json!({"Effect": "Allow", "Action": action, "Resource": resource});
    if !condition.is_null() {
        statement["Condition"] = condition;
    }
    statement
}

fn document(statements: &[Value]) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// The worked guard of section 15.2: developers may only hand out the view policy in team namespaces.
#[tokio::test]
async fn developers_hand_out_the_view_policy_in_team_namespaces_only() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let role = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let guard = document(&[
        allow(
            "eks:CreateAccessEntry",
            "arn:aws:eks:*:111122223333:cluster/c1",
            json!({
                "StringEquals": {"eks:accessEntryType": "STANDARD"},
                "Null": {"eks:kubernetesGroups": "true", "eks:username": "true"},
            }),
        ),
        allow(
            "eks:AssociateAccessPolicy",
            "arn:aws:eks:*:111122223333:access-entry/c1/*",
            json!({
                "ArnEquals": {"eks:policyArn": VIEW},
                "StringEquals": {"eks:accessScope": "namespace"},
                "ForAllValues:StringLike": {"eks:namespaces": "team-*"},
            }),
        ),
    ]);
    world.allow_user("bob", &guard).await;
    let entries = "/clusters/c1/access-entries";
    let policies = format!("{}/access-policies", entry("c1", &role));
    let create = |more: Value| {
        let mut body = json!({ "principalArn": role });
        for (member, value) in more.as_object().unwrap() {
            body[member] = value.clone();
        }
        body
    };
    let associate = |policy: &str, scope: Value| json!({"policyArn": policy, "accessScope": scope});
    let team = json!({"type": "namespace", "namespaces": ["team-a"]});
    let more = json!({"type": "namespace", "namespaces": ["team-a", "prod"]});
    for (target, body, allowed) in [
        (entries, create(json!({"kubernetesGroups": ["x"]})), false),
        (entries, create(json!({"username": "x"})), false),
        (entries, create(json!({"type": "EC2_LINUX"})), false),
        (entries, create(json!({"tags": {"a": "b"}})), false),
        ("/clusters/c2/access-entries", create(json!({})), false),
        (entries, create(json!({})), true),
        (&*policies, associate(VIEW, team.clone()), true),
        (&*policies, associate(VIEW, more), false),
        (
            &*policies,
            associate(VIEW, json!({"type": "cluster"})),
            false,
        ),
        (&*policies, associate(EDIT, team), false),
    ] {
        let reply = world.eks(&world.bob, "POST", target, &body).await;
        if allowed {
            reply.ok();
        } else {
            reply.denied();
        }
    }
}

/// What each call asks for, told apart by allowing exactly that.
#[tokio::test]
async fn every_call_is_about_its_resource() {
    let world = World::new().await;
    world.cluster("c1", ApiAndConfigMap).await;
    let trust = trusts(ACCOUNT, ASSUME, "");
    let role = world.role("Dev", &trust).await;
    let nodes = world.role("Nodes", &trust).await;
    world.role("More", &trust).await;
    let body = json!({"principalArn": role, "kubernetesGroups": ["dev"], "tags": {"Team": "blue"}});
    let made = world
        .eks(&world.ana, "POST", "/clusters/c1/access-entries", &body)
        .await
        .ok();
    let entry_arn = made["accessEntry"]["accessEntryArn"]
        .as_str()
        .unwrap()
        .to_owned();
    let here = "arn:aws:eks:us-east-1:111122223333";
    let cluster = format!("{here}:cluster/c1");
    let absent = format!(
        "{here}:access-entry/c1/role/111122223333/none/00000000-0000-0000-0000-000000000000"
    );
    let path = entry("c1", &role);
    let none = entry("c1", "arn:aws:iam::111122223333:role/none");
    let pass = |service: &str| json!({"StringEquals": {"iam:PassedToService": service}});
    let entry_keys = json!({
        "StringEquals": {
            "eks:clusterName": "c1",
            "eks:accessEntryType": "STANDARD",
            "eks:username": "arn:aws:sts::111122223333:assumed-role/Dev/{{SessionName}}",
            "aws:ResourceTag/Team": "blue",
        },
        "ArnEquals": {"eks:principalArn": role},
        "ForAnyValue:StringEquals": {"eks:kubernetesGroups": "dev"},
    });
    let groups = |groups: &str| json!({"ForAllValues:StringEquals": {"countersign:newKubernetesGroups": groups}, "Null": {"countersign:newUsername": "true"}});
    let new_cluster = create(
        "c2",
        json!({"tags": {"a": "b"}, "accessConfig": {"authenticationMode": "API"}}),
    );
    let create_cluster = allow(
        "eks:CreateCluster",
        "*",
        json!({
            "StringEquals": {"eks:authenticationMode": "API", "aws:RequestTag/a": "b"},
            "Bool": {"eks:endpointPublicAccess": "true", "eks:bootstrapClusterCreatorAdminPermissions": "true"},
        }),
    );
    let tag_cluster = allow(
        "eks:TagResource",
        &format!("{here}:cluster/c2"),
        Value::Null,
    );
    let pass_cluster = allow("iam:PassRole", CONTROL_PLANE, pass("eks.amazonaws.com"));
    let create_entry = allow(
        "eks:CreateAccessEntry",
        &cluster,
        json!({"StringEquals": {"eks:accessEntryType": "EC2_LINUX"}}),
    );
    let node = json!({"principalArn": nodes, "type": "EC2_LINUX"});
    for (statements, method, target, body, expected) in [
        (
            vec![allow("eks:DescribeCluster", &cluster, Value::Null)],
            "GET",
            "/clusters/c1",
            Value::Null,
            200,
        ),
        (
            vec![allow(
                "eks:DescribeCluster",
                &format!("{here}:cluster/c2"),
                Value::Null,
            )],
            "GET",
            "/clusters/c1",
            Value::Null,
            403,
        ),
        (
            vec![allow(
                "eks:DescribeCluster",
                &format!("{here}:cluster/*"),
                Value::Null,
            )],
            "GET",
            "/clusters/none",
            Value::Null,
            404,
        ),
        (
            vec![allow("eks:ListClusters", &cluster, Value::Null)],
            "GET",
            "/clusters",
            Value::Null,
            403,
        ),
        (
            vec![allow(
                "eks:ListClusters",
                "*",
                json!({"StringEquals": {"aws:RequestedRegion": "us-east-1"}}),
            )],
            "GET",
            "/clusters",
            Value::Null,
            200,
        ),
        (
            vec![allow("eks:ListAccessPolicies", "*", Value::Null)],
            "GET",
            "/access-policies",
            Value::Null,
            200,
        ),
        (
            vec![allow(
                "eks:DescribeAccessEntry",
                &entry_arn,
                entry_keys.clone(),
            )],
            "GET",
            &*path,
            Value::Null,
            200,
        ),
        (
            vec![allow("eks:DescribeAccessEntry", &cluster, Value::Null)],
            "GET",
            &*path,
            Value::Null,
            403,
        ),
        (
            vec![allow("eks:DescribeAccessEntry", &absent, Value::Null)],
            "GET",
            &*none,
            Value::Null,
            404,
        ),
        (
            vec![allow("eks:DescribeAccessEntry", &entry_arn, Value::Null)],
            "GET",
            &*none,
            Value::Null,
            403,
        ),
        (
            vec![allow("eks:ListAccessEntries", &cluster, Value::Null)],
            "GET",
            "/clusters/c1/access-entries",
            Value::Null,
            200,
        ),
        (
            vec![allow("eks:UpdateAccessEntry", &entry_arn, groups("dev"))],
            "POST",
            &*path,
            json!({"kubernetesGroups": ["ops"]}),
            403,
        ),
        (
            vec![allow("eks:UpdateAccessEntry", &entry_arn, groups("dev"))],
            "POST",
            &*path,
            json!({"username": "x"}),
            403,
        ),
        (
            vec![allow("eks:UpdateAccessEntry", &entry_arn, groups("dev"))],
            "POST",
            &*path,
            json!({"kubernetesGroups": ["dev"]}),
            200,
        ),
        (
            vec![create_entry.clone()],
            "POST",
            "/clusters/c1/access-entries",
            node.clone(),
            403,
        ),
        (
            vec![
                create_entry.clone(),
                allow("iam:PassRole", &nodes, pass("eks.amazonaws.com")),
            ],
            "POST",
            "/clusters/c1/access-entries",
            node.clone(),
            403,
        ),
        (
            vec![
                create_entry,
                allow("iam:PassRole", &nodes, pass("ec2.amazonaws.com")),
            ],
            "POST",
            "/clusters/c1/access-entries",
            node,
            200,
        ),
        (
            vec![create_cluster.clone(), tag_cluster.clone()],
            "POST",
            "/clusters",
            new_cluster.clone(),
            403,
        ),
        (
            vec![create_cluster.clone(), pass_cluster.clone()],
            "POST",
            "/clusters",
            new_cluster.clone(),
            403,
        ),
        (
            vec![tag_cluster.clone(), pass_cluster.clone()],
            "POST",
            "/clusters",
            new_cluster.clone(),
            403,
        ),
        (
            vec![create_cluster, tag_cluster, pass_cluster],
            "POST",
            "/clusters",
            new_cluster,
            200,
        ),
        (
            vec![allow(
                "eks:UpdateClusterConfig",
                &cluster,
                json!({"Bool": {"eks:endpointPublicAccess": "false"}}),
            )],
            "POST",
            "/clusters/c1/update-config",
            json!({"resourcesVpcConfig": {"endpointPublicAccess": true, "endpointPrivateAccess": true}}),
            403,
        ),
        (
            vec![allow(
                "eks:UpdateClusterConfig",
                &cluster,
                json!({"Bool": {"eks:loggingType/audit": "true"}}),
            )],
            "POST",
            "/clusters/c1/update-config",
            json!({"logging": {"clusterLogging": [{"types": ["audit"], "enabled": true}]}}),
            200,
        ),
        (
            vec![allow(
                "eks:TagResource",
                &entry_arn,
                json!({"ForAllValues:StringEquals": {"aws:TagKeys": "Team"}, "StringEquals": {"aws:ResourceTag/Team": "blue"}}),
            )],
            "POST",
            &*format!("/tags/{}", escape(&entry_arn)),
            json!({"tags": {"Team": "red"}}),
            200,
        ),
        (
            vec![allow(
                "eks:UntagResource",
                &cluster,
                json!({"ForAllValues:StringEquals": {"aws:TagKeys": "Team"}}),
            )],
            "DELETE",
            &*format!("/tags/{}?tagKeys=Other", escape(&cluster)),
            Value::Null,
            403,
        ),
        (
            vec![allow(
                "eks:DisassociateAccessPolicy",
                &entry_arn,
                json!({"ArnEquals": {"eks:policyArn": VIEW}}),
            )],
            "DELETE",
            &*format!("{path}/access-policies/{}", escape(EDIT)),
            Value::Null,
            403,
        ),
        (
            vec![allow(
                "eks:DisassociateAccessPolicy",
                &entry_arn,
                json!({"ArnEquals": {"eks:policyArn": VIEW}}),
            )],
            "DELETE",
            &*format!("{path}/access-policies/{}", escape(VIEW)),
            Value::Null,
            404,
        ),
        (
            vec![allow("eks:ListNodegroups", &cluster, Value::Null)],
            "GET",
            "/clusters/c1/node-groups",
            Value::Null,
            200,
        ),
        (
            vec![allow(
                "eks:DescribeAddon",
                &format!("{here}:addon/c1/vpc-cni/*"),
                Value::Null,
            )],
            "GET",
            "/clusters/c1/addons/vpc-cni",
            Value::Null,
            404,
        ),
        (
            vec![allow("eks:DeleteCluster", &cluster, Value::Null)],
            "DELETE",
            "/clusters/c1",
            Value::Null,
            200,
        ),
    ] {
        let policy = document(&statements);
        world.allow_user("bob", &policy).await;
        let reply = world.eks(&world.bob, method, target, &body).await;
        assert_eq!(
            reply.status, expected,
            "{method} {target} {body} under {policy}: {reply:?}"
        );
    }
}

/// A statement that denies public endpoints also denies the default.
#[tokio::test]
async fn defaults_of_new_clusters_can_be_denied() {
    let world = World::new().await;
    world
        .role("control-plane", &trusts(ACCOUNT, ASSUME, ""))
        .await;
    let mut deny = allow(
        "eks:CreateCluster",
        "*",
        json!({"Bool": {"eks:endpointPublicAccess": "true"}}),
    );
    deny["Effect"] = json!("Deny");
    world
        .allow_user("bob", &document(&[allow("*", "*", Value::Null), deny]))
        .await;
    let vpc = |vpc: Value| create("c1", json!({ "resourcesVpcConfig": vpc }));
    for (body, status) in [
        (vpc(json!({})), 403),
        (vpc(json!({"endpointPublicAccess": true})), 403),
        (vpc(json!({"endpointPublicAccess": null})), 403),
        (
            vpc(json!({"endpointPublicAccess": false, "endpointPrivateAccess": true})),
            200,
        ),
    ] {
        let reply = world.eks(&world.bob, "POST", "/clusters", &body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
    }
}

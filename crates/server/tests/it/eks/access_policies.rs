//! Access policies (EKS API spec, section 8).

use std::sync::Arc;

use countersign_server::access_policies::AccessPolicies;
use countersign_server::aws::EksOptions;
use countersign_store::records::AuthenticationMode::Api;
use serde_json::{Value, json};

use super::*;

const UNKNOWN: &str = "The specified policyArn could not be found. You can view your available access policies with 'list-access-policies'";
const NOT_ASSOCIATED: &str = "The specified policyArn could not be found. You can view your associated access policies with 'list-associated-access-policies'";

async fn world() -> (World, String) {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let role = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let body = json!({ "principalArn": role });
    let target = "/clusters/c1/access-entries";
    world.eks(&world.ana, "POST", target, &body).await.ok();
    (world, role)
}

#[tokio::test]
async fn an_association_is_made_replaced_and_taken_away() {
    let (world, role) = world().await;
    let path = format!("{}/access-policies", entry("c1", &role));
    let scope = |namespaces: Value| json!({"type": "namespace", "namespaces": namespaces});
    for (policy, given, shown) in [
        (
            VIEW,
            scope(json!(["dev-*", "b", "b"])),
            scope(json!(["dev-*", "b"])),
        ),
        (EDIT, scope(json!(["*"])), scope(json!(["*"]))),
        (
            VIEW,
            json!({"type": "cluster"}),
            json!({"type": "cluster", "namespaces": []}),
        ),
        (VIEW, scope(json!(["staging"])), scope(json!(["staging"]))),
    ] {
        let body = json!({"policyArn": policy, "accessScope": given});
        let answer = world.eks(&world.ana, "POST", &path, &body).await.ok();
        assert_eq!(
            (&answer["clusterName"], &answer["principalArn"]),
            (&json!("c1"), &json!(role))
        );
        let association = &answer["associatedAccessPolicy"];
        assert_eq!(
            (&association["policyArn"], &association["accessScope"]),
            (&json!(policy), &shown)
        );
        assert_eq!(association["associatedAt"], json!(1773480413.25));
    }
    let found = world.eks(&world.ana, "GET", &path, &Value::Null).await.ok();
    let listed: Vec<&Value> = found["associatedAccessPolicies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|association| &association["policyArn"])
        .collect();
    assert_eq!(listed, [EDIT, VIEW]);
    let page = world
        .eks(
            &world.ana,
            "GET",
            &format!("{path}?maxResults=1"),
            &Value::Null,
        )
        .await
        .ok();
    assert_eq!(
        (&page["clusterName"], &page["principalArn"]),
        (&json!("c1"), &json!(role))
    );
    let token = escape(page["nextToken"].as_str().unwrap());
    let page = world
        .eks(
            &world.ana,
            "GET",
            &format!("{path}?nextToken={token}"),
            &Value::Null,
        )
        .await
        .ok();
    assert_eq!(page["associatedAccessPolicies"][0]["policyArn"], VIEW);
    let one = format!("{path}/{}", escape(VIEW));
    assert_eq!(
        world
            .eks(&world.ana, "DELETE", &one, &Value::Null)
            .await
            .ok(),
        json!({})
    );
    for policy in [VIEW, "x", "arn:aws:iam::aws:policy/ReadOnlyAccess"] {
        let one = format!("{path}/{}", escape(policy));
        world
            .eks(&world.ana, "DELETE", &one, &Value::Null)
            .await
            .not_found(NOT_ASSOCIATED);
    }
}

#[tokio::test]
async fn what_cannot_be_associated_is_refused_in_the_order_and_words_of_eks() {
    let (world, role) = world().await;
    let nodes = world.role("Nodes", &trusts(ACCOUNT, ASSUME, "")).await;
    let auto = world.role("Auto", &trusts(ACCOUNT, ASSUME, "")).await;
    for (principal, kind) in [(&nodes, "EC2_LINUX"), (&auto, "EC2")] {
        let body = json!({"principalArn": principal, "type": kind});
        world
            .eks(&world.ana, "POST", "/clusters/c1/access-entries", &body)
            .await
            .ok();
    }
    let format = "The policyArn parameter format is not valid";
    let whole = json!({"type": "cluster"});
    let named = |policy: &str| json!({"policyArn": policy, "accessScope": {"type": "cluster"}});
    let scoped = |scope: Value| json!({"policyArn": VIEW, "accessScope": scope});
    let extra = "accessScope should not include namespaces if the type is not set as namespace";
    let empty = "At least 1 namespace must be provided if the type is set as namespace";
    for (principal, body, status, message) in [
        (
            &*role,
            json!({"accessScope": whole}),
            400,
            "The parameter policyArn is required",
        ),
        (
            &*role,
            json!({"policyArn": VIEW}),
            400,
            "The parameter accessScope is required",
        ),
        (
            &*role,
            scoped(json!({})),
            400,
            "The specified accessScope type is invalid",
        ),
        (
            &*role,
            scoped(json!({"type": "CLUSTER"})),
            400,
            "The parameter accessScope.type must be one of [cluster, namespace]",
        ),
        (&*role, scoped(json!({"type": "namespace"})), 400, empty),
        (
            &*role,
            scoped(json!({"type": "namespace", "namespaces": []})),
            400,
            empty,
        ),
        (
            &*role,
            scoped(json!({"type": "cluster", "namespaces": ["a"]})),
            400,
            extra,
        ),
        (
            &*role,
            scoped(json!({"type": "namespace", "namespaces": ["A"]})),
            400,
            "The specified namespace is invalid",
        ),
        (&*role, named(""), 400, format),
        (
            &*role,
            named("arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"),
            400,
            format,
        ),
        (
            &*role,
            named("arn:aws:eks::aws:cluster-access-policy/None"),
            404,
            UNKNOWN,
        ),
        (
            &*role,
            named("arn:aws-cn:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"),
            404,
            UNKNOWN,
        ),
        (
            &*role,
            named("arn:aws:eks:aws:cluster-access-policy/AmazonEKSViewPolicy"),
            404,
            UNKNOWN,
        ),
        (
            &*role,
            named("arn:aws:eks:::cluster-access-policy/AmazonEKSViewPolicy"),
            404,
            UNKNOWN,
        ),
        (
            &*role,
            named("arn:aws:eks::444455556666:cluster-access-policy/AmazonEKSViewPolicy"),
            404,
            UNKNOWN,
        ),
        (
            &*role,
            named("arn:aws:eks::aws:cluster-access-policy/AmazonEKSComputePolicy"),
            400,
            "The specified policyArn can only be associated with service-linked roles",
        ),
        (
            "arn:aws:iam::111122223333:role/none",
            named(VIEW),
            404,
            "The specified principalArn could not be found.",
        ),
        (
            &*nodes,
            named(VIEW),
            400,
            "This operation can only be performed on Access Entries with a type of \"STANDARD\".",
        ),
    ] {
        let path = format!("{}/access-policies", entry("c1", principal));
        let reply = world.eks(&world.ana, "POST", &path, &body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert!(reply.message().starts_with(message), "{message}: {reply:?}");
    }
    let path = format!("{}/access-policies", entry("none", &role));
    world
        .eks(&world.ana, "POST", &path, &named(VIEW))
        .await
        .not_found("No cluster found for name: none.");
    let path = format!("{}/access-policies", entry("c1", &auto));
    let policy = named("arn:aws:eks::aws:cluster-access-policy/AmazonEKSAutoNodePolicy");
    world.eks(&world.ana, "POST", &path, &policy).await.ok();
}

#[tokio::test]
async fn what_a_caller_may_not_have_meant_is_said_beside_the_answer() {
    let (world, role) = world().await;
    let path = format!("{}/access-policies", entry("c1", &role));
    let within = |namespaces: &[&str]| json!({"type": "namespace", "namespaces": namespaces});
    let many: Vec<String> = (0..150).map(|at| format!("n{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let view = |change: &str| vec![format!("the scope of {VIEW} is {change}")];
    let secret = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSLoadBalancingPolicy";
    for (policy, scope, warnings) in [
        (VIEW, within(&["a", "b"]), vec![]),
        (VIEW, within(&["b", "a"]), vec![]),
        (VIEW, within(&["a"]), view("narrowed: from b,a to a")),
        (
            VIEW,
            within(&["a", "a-*"]),
            view("widened: from a to a,a-*"),
        ),
        (
            VIEW,
            within(&["a-b", "c"]),
            view("narrowed in part and widened in part: from a,a-* to a-b,c"),
        ),
        (
            VIEW,
            json!({"type": "cluster"}),
            view("widened: from a-b,c to cluster"),
        ),
        (VIEW, within(&["*"]), view("narrowed: from cluster to *")),
        (
            VIEW,
            within(&many),
            view("narrowed: from * to n0,n1,n2,n3,+146"),
        ),
        (VIEW, within(&many), vec![]),
        (
            VIEW,
            within(&many[1..]),
            view("changed: from n0,n1,n2,n3,+146 to n1,n2,n3,n4,+145"),
        ),
        (EDIT, within(&["a"]), vec![]),
        (
            secret,
            json!({"type": "cluster"}),
            vec![format!(
                "no rules of {secret} are known here: it grants nothing"
            )],
        ),
    ] {
        let body = json!({"policyArn": policy, "accessScope": scope});
        let reply = world.eks(&world.ana, "POST", &path, &body).await;
        assert_eq!(reply.warnings(), warnings, "{body}");
        reply.ok();
    }
    // Groups and username are what an update is for, and a call that fails changed nothing.
    let body = json!({"kubernetesGroups": ["g"], "username": "u:{{SessionName}}"});
    let reply = world
        .eks(&world.ana, "POST", &entry("c1", &role), &body)
        .await;
    assert!(reply.warnings().is_empty(), "{reply:?}");
    reply.ok();
    let body = json!({"policyArn": VIEW, "accessScope": {"type": "cluster"}});
    let denied = world.eks(&world.bob, "POST", &path, &body).await;
    assert!(denied.warnings().is_empty(), "{denied:?}");
    denied.denied();
}

#[tokio::test]
async fn all_policies_are_listed_in_pages() {
    let (world, _) = world().await;
    let mut names = Vec::new();
    let mut target = "/access-policies?maxResults=10".to_owned();
    loop {
        let page = world
            .eks(&world.ana, "GET", &target, &Value::Null)
            .await
            .ok();
        for policy in page["accessPolicies"].as_array().unwrap() {
            let name = policy["name"].as_str().unwrap();
            assert_eq!(
                policy["arn"],
                format!("arn:aws:eks::aws:cluster-access-policy/{name}")
            );
            names.push(name.to_owned());
        }
        let Some(token) = page["nextToken"].as_str() else {
            break;
        };
        target = format!("/access-policies?maxResults=10&nextToken={}", escape(token));
    }
    assert_eq!(names.len(), 37);
    assert!(names.is_sorted());
}

#[tokio::test]
async fn a_policies_file_that_is_read_again_counts_with_the_next_call() {
    let (mut world, role) = world().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policies.yaml");
    std::fs::write(&file, "policies: []\n").unwrap();
    let policies = Arc::new(AccessPolicies::load(&file).unwrap());
    world.api = world.api.with_eks(EksOptions {
        policies: Arc::clone(&policies),
        ..EksOptions::default()
    });
    let arn = "arn:aws:eks::111122223333:cluster-access-policy/WidgetReader";
    let path = format!("{}/access-policies", entry("c1", &role));
    let body = json!({"policyArn": arn, "accessScope": {"type": "cluster"}});
    let listed = async |world: &World| {
        let all = world
            .eks(&world.ana, "GET", "/access-policies", &Value::Null)
            .await
            .ok();
        let all = all["accessPolicies"].as_array().unwrap();
        (
            all.len(),
            all.last().map(|policy| policy["arn"] == json!(arn)),
        )
    };
    let custom = "policies:\n- name: WidgetReader\n  rules:\n  - {apiGroups: [example.com], resources: [widgets], verbs: [get]}\n";
    for (text, known) in [
        ("policies: []\n", false),
        (custom, true),
        ("# none\n", false),
    ] {
        std::fs::write(&file, text).unwrap();
        policies.reload(now());
        assert_eq!(listed(&world).await, (37 + usize::from(known), Some(known)));
        let answer = world.eks(&world.ana, "POST", &path, &body).await;
        if known {
            answer.ok();
        } else {
            answer.not_found(UNKNOWN);
        }
    }
}

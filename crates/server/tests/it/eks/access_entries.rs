//! Access entries (EKS API spec, section 7).

use countersign_store::records::AuthenticationMode::Api;
use serde_json::{Value, json};

use super::*;

const TARGET: &str = "/clusters/c1/access-entries";
const MISSING: &str = "The specified principalArn could not be found. You can view your available access entries with 'list-access-entries'.";

async fn world() -> World {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let trust = trusts(ACCOUNT, ASSUME, "");
    world
        .role_with("Dev", &trust, |role| role.path = "/team/".into())
        .await;
    world.role("Nodes", &trust).await;
    world
}

#[tokio::test]
async fn an_entry_shows_what_was_given_and_the_defaults_of_its_type() {
    let world = world().await;
    let dev = "arn:aws:iam::111122223333:role/team/Dev";
    let nodes = "arn:aws:iam::111122223333:role/Nodes";
    let bob = "arn:aws:iam::111122223333:user/bob";
    let root = "arn:aws:iam::444455556666:root";
    for (principal, more, username, groups, kind, arn) in [
        (
            dev,
            json!({"kubernetesGroups": ["b", "a", "b"]}),
            "arn:aws:sts::111122223333:assumed-role/Dev/{{SessionName}}",
            json!(["b", "a"]),
            "STANDARD",
            "role/111122223333/Dev",
        ),
        (
            dev,
            json!({"username": "ops:{{SessionNameRaw}}"}),
            "ops:{{SessionNameRaw}}",
            json!([]),
            "STANDARD",
            "role/111122223333/Dev",
        ),
        (
            bob,
            json!({"type": "STANDARD"}),
            bob,
            json!([]),
            "STANDARD",
            "user/111122223333/bob",
        ),
        (
            root,
            json!({}),
            root,
            json!([]),
            "STANDARD",
            "root/444455556666/root",
        ),
        (
            nodes,
            json!({"type": "EC2_LINUX"}),
            "system:node:{{EC2PrivateDNSName}}",
            json!(["system:nodes"]),
            "EC2_LINUX",
            "role/111122223333/Nodes",
        ),
        (
            nodes,
            json!({"type": "EC2_WINDOWS", "kubernetesGroups": []}),
            "system:node:{{EC2PrivateDNSName}}",
            json!(["system:nodes", "eks:kube-proxy-windows"]),
            "EC2_WINDOWS",
            "role/111122223333/Nodes",
        ),
        (
            nodes,
            json!({"type": "HYBRID_LINUX"}),
            "system:node:{{SessionName}}",
            json!(["system:nodes"]),
            "HYBRID_LINUX",
            "role/111122223333/Nodes",
        ),
        (
            nodes,
            json!({"type": "EC2"}),
            "system:node:{{EC2PrivateDNSName}}",
            json!(["system:nodes"]),
            "EC2",
            "role/111122223333/Nodes",
        ),
    ] {
        let mut body = more;
        body["principalArn"] = json!(principal);
        body["tags"] = json!({"K": "v"});
        let made = world.eks(&world.ana, "POST", TARGET, &body).await.ok();
        let shown = &made["accessEntry"];
        for (member, expected) in [
            ("clusterName", json!("c1")),
            ("principalArn", json!(principal)),
            ("username", json!(username)),
            ("kubernetesGroups", groups),
            ("type", json!(kind)),
            ("tags", json!({"K": "v"})),
            ("createdAt", json!(1773480413.25)),
            ("modifiedAt", json!(1773480413.25)),
        ] {
            assert_eq!(shown[member], expected, "{body}");
        }
        let prefix = format!("arn:aws:eks:us-east-1:111122223333:access-entry/c1/{arn}/");
        let uuid = shown["accessEntryArn"]
            .as_str()
            .unwrap()
            .strip_prefix(&*prefix);
        assert_eq!(uuid.unwrap().len(), 36, "{shown}");
        let path = entry("c1", principal);
        let found = world.eks(&world.ana, "GET", &path, &Value::Null).await.ok();
        assert_eq!(found, made);
        let reply = world.eks(&world.ana, "POST", TARGET, &body).await;
        reply.refused(
            409,
            "ResourceInUseException",
            "The specified access entry resource is already in use on this cluster.",
        );
        let deleted = world.eks(&world.ana, "DELETE", &path, &Value::Null).await;
        assert_eq!(deleted.ok(), json!({}));
        for method in ["DELETE", "GET"] {
            world
                .eks(&world.ana, method, &path, &Value::Null)
                .await
                .not_found(MISSING);
        }
    }
}

/// Values are checked before it is looked whether the cluster is there; so nothing here depends on it.
#[tokio::test]
async fn values_are_refused_in_the_order_and_words_of_eks() {
    let world = world().await;
    let role = |more: Value| {
        let mut body = json!({"principalArn": "arn:aws:iam::111122223333:role/Nodes"});
        for (member, value) in more.as_object().unwrap() {
            body[member] = value.clone();
        }
        body
    };
    let format = "The principalArn parameter format is not valid";
    let types = "[EC2_LINUX, EC2_WINDOWS, FARGATE_LINUX, HYBRID_LINUX, EC2]";
    let node_role = format!("AccessEntry principalArn must be IAM role when using types {types}");
    let node_account = format!(
        "AccessEntry principalArn must be from the same account as the cluster when using types {types}"
    );
    let many: Vec<String> = (0..101).map(|at| format!("g{at}")).collect();
    for (body, message) in [
        (json!({}), "The parameter principalArn is required"),
        (json!({"principalArn": ""}), format),
        (json!({"principalArn": "*"}), format),
        (
            json!({"principalArn": "arn:aws:sts::111122223333:assumed-role/Dev/ana"}),
            format,
        ),
        (
            json!({"principalArn": "arn:aws:iam::111122223333:group/devs"}),
            format,
        ),
        (
            json!({"principalArn": "arn:aws-cn:iam::111122223333:role/Dev"}),
            format,
        ),
        (
            json!({"principalArn": "arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/X"}),
            "The caller is not allowed to modify access entries with a principalArn value of a Service Linked Role",
        ),
        (
            role(json!({"type": "NODE"})),
            "The specified type is invalid",
        ),
        (
            json!({"principalArn": "arn:aws:iam::111122223333:user/bob", "type": "EC2_LINUX"}),
            &*node_role,
        ),
        (
            json!({"principalArn": "arn:aws:iam::444455556666:role/Nodes", "type": "EC2"}),
            &*node_account,
        ),
        (
            role(json!({"type": "EC2_LINUX", "kubernetesGroups": ["a"]})),
            "The specified kubernetesGroups is invalid: setting kubernetesGroups is not allowed when the type is \"EC2_LINUX\"",
        ),
        (
            role(json!({"type": "EC2_WINDOWS", "username": "a"})),
            "The specified username is invalid: setting username is not allowed when the type is \"EC2_WINDOWS\"",
        ),
        (
            role(json!({"username": "system:x", "kubernetesGroups": ["system:masters"]})),
            "The username must not begin with system:",
        ),
        (
            role(json!({"username": "iam:x"})),
            "The username must not begin with iam:",
        ),
        (
            role(json!({"kubernetesGroups": ["a", "system:masters"]})),
            "The kubernetes group name system:masters is invalid, it cannot start with system:",
        ),
        (
            role(json!({"kubernetesGroups": [""]})),
            "The specified kubernetesGroups is invalid",
        ),
        (
            role(json!({"kubernetesGroups": many})),
            "The specified kubernetesGroups is invalid: 101 groups",
        ),
        (
            role(json!({"username": "{{SessionName}}"})),
            "The specified username is invalid: a colon must stand",
        ),
        (
            role(json!({"username": "a:{{AccountID}}"})),
            "The specified username is invalid",
        ),
        (
            role(json!({"username": ""})),
            "The specified username is invalid",
        ),
        (
            role(json!({"username": "a".repeat(257)})),
            "The specified username is invalid",
        ),
        (
            role(json!({"tags": {"aws:x": ""}})),
            "Tag keys beginning with aws: are reserved",
        ),
        (
            role(json!({"tags": {"": "x"}})),
            "The parameter tags key must have 1 to 128 characters",
        ),
        (
            role(json!({"clientRequestToken": "t".repeat(129)})),
            "clientRequestToken must have 1 to 128 characters",
        ),
    ] {
        for cluster in ["c1", "none"] {
            let target = format!("/clusters/{cluster}/access-entries");
            let reply = world.eks(&world.ana, "POST", &target, &body).await;
            reply.invalid(message);
            assert_eq!(reply.body["clusterName"], cluster);
        }
    }
    let reply = world
        .eks(
            &world.ana,
            "POST",
            "/clusters/none/access-entries",
            &role(json!({})),
        )
        .await;
    reply.not_found("No cluster found for name: none.");
    for (principal, message) in [
        (
            "arn:aws:iam::111122223333:role/none",
            "The specified principalArn is invalid: invalid principal.",
        ),
        (
            "arn:aws:iam::111122223333:role/Dev",
            "The specified principalArn is invalid: invalid principal. Use the full ARN including its path: arn:aws:iam::111122223333:role/team/Dev",
        ),
        (
            "arn:aws:iam::111122223333:role/team/dev",
            "The specified principalArn is invalid: invalid principal.",
        ),
        (
            "arn:aws:iam::999999999999:root",
            "The specified principalArn is invalid: invalid principal.",
        ),
        (
            "arn:aws:iam::444455556666:user/none",
            "The specified principalArn is invalid: invalid principal.",
        ),
    ] {
        let body = json!({ "principalArn": principal });
        world
            .eks(&world.ana, "POST", TARGET, &body)
            .await
            .invalid(message);
    }
}

#[tokio::test]
async fn an_update_replaces_what_it_names() {
    let world = world().await;
    let dev = "arn:aws:iam::111122223333:role/team/Dev";
    let nodes = "arn:aws:iam::111122223333:role/Nodes";
    for body in [
        json!({"principalArn": dev, "kubernetesGroups": ["a"]}),
        json!({"principalArn": nodes, "type": "EC2_LINUX"}),
    ] {
        world.eks(&world.ana, "POST", TARGET, &body).await.ok();
    }
    let path = entry("c1", dev);
    let default = "arn:aws:sts::111122223333:assumed-role/Dev/{{SessionName}}";
    for (body, groups, username) in [
        (json!({}), json!(["a"]), default),
        (
            json!({"kubernetesGroups": ["b", "c"]}),
            json!(["b", "c"]),
            default,
        ),
        (
            json!({"username": "dev:{{SessionName}}"}),
            json!(["b", "c"]),
            "dev:{{SessionName}}",
        ),
        (
            json!({"kubernetesGroups": [], "username": "dev"}),
            json!([]),
            "dev",
        ),
        (
            json!({"kubernetesGroups": null, "username": null}),
            json!([]),
            "dev",
        ),
    ] {
        let answer = world.eks(&world.ana, "POST", &path, &body).await.ok();
        let shown = &answer["accessEntry"];
        assert_eq!(
            (&shown["kubernetesGroups"], &shown["username"]),
            (&groups, &json!(username)),
            "{body}"
        );
    }
    let standard =
        "This operation can only be performed on Access Entries with a type of \"STANDARD\".";
    let none = "arn:aws:iam::111122223333:role/none";
    let linked = "arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/X";
    for (principal, body, status, message) in [
        (nodes, json!({"kubernetesGroups": ["x"]}), 400, standard),
        (nodes, json!({}), 400, standard),
        (
            nodes,
            json!({"username": "system:node:{{EC2PrivateDNSName}}"}),
            400,
            "The username must not begin with system:",
        ),
        (
            dev,
            json!({"kubernetesGroups": ["eks:x"]}),
            400,
            "The kubernetes group name eks:x is invalid",
        ),
        (none, json!({"kubernetesGroups": ["x"]}), 404, MISSING),
        ("nobody", json!({}), 404, MISSING),
        (
            linked,
            json!({}),
            400,
            "The caller is not allowed to modify access entries",
        ),
    ] {
        let reply = world
            .eks(&world.ana, "POST", &entry("c1", principal), &body)
            .await;
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(reply.message().starts_with(message), "{reply:?}");
    }
    let reply = world
        .eks(&world.ana, "DELETE", &entry("c1", linked), &Value::Null)
        .await;
    reply.invalid("The caller is not allowed to modify access entries");
    // Done once, whatever happened in between.
    let once = json!({"kubernetesGroups": ["once"], "clientRequestToken": "u1"});
    let first = world.eks(&world.ana, "POST", &path, &once).await.ok();
    world
        .eks(
            &world.ana,
            "POST",
            &path,
            &json!({"kubernetesGroups": ["later"]}),
        )
        .await
        .ok();
    assert_eq!(
        world.eks(&world.ana, "POST", &path, &once).await.ok(),
        first
    );
    let found = world.eks(&world.ana, "GET", &path, &Value::Null).await.ok();
    assert_eq!(found["accessEntry"]["kubernetesGroups"], json!(["later"]));
}

#[tokio::test]
async fn entries_are_listed_by_arn_and_by_policy() {
    let world = world().await;
    let mut principals = Vec::new();
    for at in 0..7 {
        let name = format!("R{at}");
        principals.push(world.role(&name, &trusts(ACCOUNT, ASSUME, "")).await);
    }
    for (at, principal) in principals.iter().enumerate().rev() {
        let body = json!({ "principalArn": principal });
        world.eks(&world.ana, "POST", TARGET, &body).await.ok();
        if at % 2 == 0 {
            let path = format!("{}/access-policies", entry("c1", principal));
            let scope = json!({"policyArn": VIEW, "accessScope": {"type": "cluster"}});
            world.eks(&world.ana, "POST", &path, &scope).await.ok();
        }
    }
    let all = world
        .eks(&world.ana, "GET", TARGET, &Value::Null)
        .await
        .ok();
    assert_eq!(all, json!({ "accessEntries": principals }));
    let filter = format!("associatedPolicyArn={}", escape(VIEW));
    let first = world
        .eks(
            &world.ana,
            "GET",
            &format!("{TARGET}?maxResults=3&{filter}"),
            &Value::Null,
        )
        .await
        .ok();
    assert_eq!(
        first["accessEntries"],
        json!([principals[0], principals[2], principals[4]])
    );
    let token = escape(first["nextToken"].as_str().unwrap());
    let rest = world
        .eks(
            &world.ana,
            "GET",
            &format!("{TARGET}?{filter}&nextToken={token}"),
            &Value::Null,
        )
        .await
        .ok();
    assert_eq!(rest, json!({ "accessEntries": [principals[6]] }));
    let reply = world
        .eks(
            &world.ana,
            "GET",
            &format!("{TARGET}?nextToken={token}"),
            &Value::Null,
        )
        .await;
    reply.invalid("The nextToken parameter is not one of an earlier page of this list");
    for (arn, status) in [
        ("x", 400),
        ("arn:aws:eks::aws:cluster-access-policy/None", 404),
    ] {
        let target = format!("{TARGET}?associatedPolicyArn={}", escape(arn));
        assert_eq!(
            world
                .eks(&world.ana, "GET", &target, &Value::Null)
                .await
                .status,
            status
        );
    }
}

/// An entry is for the principal that had the ARN when it was made (section 7.4).
#[tokio::test]
async fn the_unique_id_of_the_principal_is_kept() {
    let world = world().await;
    let dev = "arn:aws:iam::111122223333:role/team/Dev";
    world
        .eks(&world.ana, "POST", TARGET, &json!({ "principalArn": dev }))
        .await
        .ok();
    let snapshot = world.directory.snapshot();
    let cluster = snapshot.cluster(world.account, "us-east-1", "c1").unwrap();
    let id = &snapshot.role(world.account, "Dev").unwrap().record.id;
    let bound = snapshot
        .access_entry_of_principal(&cluster.record.id, id)
        .unwrap();
    assert_eq!(&*bound.record.principal_arn, dev);
}

//! Every operation of EKS in the tables: refused without permission, and known by its route when it is not offered.

use countersign_server::aws::operation_catalogue;
use countersign_store::records::AuthenticationMode::Api;
use serde_json::{Value, json};

use super::*;

fn rows() -> Vec<Value> {
    operation_catalogue()
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["service"] == "eks")
        .cloned()
        .collect()
}

/// A value for a label or a required member.
fn value(name: &str, kind: &Value) -> Value {
    match (name, kind["type"].as_str().unwrap()) {
        ("principalArn", _) => json!("arn:aws:iam::111122223333:user/ana"),
        ("roleArn", _) => json!(CONTROL_PLANE),
        ("policyArn", _) => json!(VIEW),
        ("resourceArn", _) => json!("arn:aws:eks:us-east-1:111122223333:cluster/c1"),
        (_, "string") => kind["enum"].get(0).cloned().unwrap_or(json!("c1")),
        (_, "integer") => kind["min"].clone(),
        (_, "boolean") => json!(true),
        (_, "list") => json!([value(name, &kind["of"])]),
        (_, "map") => json!({"k": "v"}),
        (_, "structure") => required(&kind["members"], |_| true),
        (_, other) => panic!("{other}"),
    }
}

fn required(members: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let members = members.as_array().unwrap().iter();
    Value::Object(
        members
            .filter(|member| member["required"] == true && wanted(member))
            .map(|member| {
                let name = member["name"].as_str().unwrap();
                (name.to_owned(), value(name, &member["kind"]))
            })
            .collect(),
    )
}

#[tokio::test]
async fn every_implemented_operation_is_refused_without_permission() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let before = world
        .eks(&world.ana, "GET", "/clusters/c1", &Value::Null)
        .await
        .ok();
    let (mut refused, mut unknown) = (0, 0);
    for row in rows() {
        let mut target = row["path"].as_str().unwrap().to_owned();
        let mut body = Value::Null;
        if row["offered"] == true {
            for member in row["parameters"].as_array().unwrap() {
                let name = member["name"].as_str().unwrap();
                if let Some(label) = member["place"]["label"].as_str() {
                    let value = value(name, &member["kind"]);
                    target =
                        target.replace(&format!("{{{label}}}"), &escape(value.as_str().unwrap()));
                } else if member["place"] == "query" && member["required"] == true {
                    target.push_str(&format!("?{name}=x"));
                }
            }
            body = required(&row["parameters"], |member| member["place"] == "body");
        }
        let method = row["method"].as_str().unwrap();
        if method != "POST" {
            body = Value::Null;
        }
        target = target.replace(['{', '}'], "");
        let reply = world.eks(&world.bob, method, &target, &body).await;
        if row["offered"] == true {
            reply.denied();
            let name = row["name"].as_str().unwrap();
            assert!(
                reply
                    .message()
                    .contains(&format!("perform: eks:{name} on resource: ")),
                "{reply:?}"
            );
            refused += 1;
        } else {
            reply.refused(
                404,
                "UnknownOperationException",
                row["name"].as_str().unwrap(),
            );
            let unsigned = world.unsigned(method, &target, b"", &[]).await;
            unsigned.refused(403, "MissingAuthenticationTokenException", "");
            unknown += 1;
        }
    }
    assert!(refused > 40 && unknown > 20, "{refused} {unknown}");
    let after = world
        .eks(&world.ana, "GET", "/clusters/c1", &Value::Null)
        .await
        .ok();
    assert_eq!(before, after);
}

/// Lists of what cannot exist are empty, and single ones are not found, once the cluster is there.
#[tokio::test]
async fn what_no_cluster_has_is_truthfully_absent() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    for (target, list) in [
        ("node-groups", "nodegroups"),
        ("fargate-profiles", "fargateProfileNames"),
        ("addons", "addons"),
        ("capabilities", "capabilities"),
        ("pod-identity-associations", "associations"),
        ("identity-provider-configs", "identityProviderConfigs"),
    ] {
        let at = |cluster: &str| format!("/clusters/{cluster}/{target}");
        let found = world
            .eks(&world.ana, "GET", &at("c1"), &Value::Null)
            .await
            .ok();
        assert_eq!(found, json!({ list: [] }));
        world
            .eks(&world.ana, "GET", &at("none"), &Value::Null)
            .await
            .not_found("No cluster found for name: none.");
    }
    for (target, member, name) in [
        (
            "node-groups/x",
            "nodegroupName",
            "No node group found for name: x.",
        ),
        (
            "fargate-profiles/x",
            "fargateProfileName",
            "No Fargate Profile found with name: x.",
        ),
        ("addons/x", "addonName", "No addon: x found in cluster: c1"),
        ("capabilities/x", "", "No capability found for name: x."),
        (
            "pod-identity-associations/a-1",
            "",
            "No pod identity association found for ID: a-1",
        ),
    ] {
        for method in ["GET", "DELETE"] {
            let target = format!("/clusters/c1/{target}");
            let reply = world.eks(&world.ana, method, &target, &Value::Null).await;
            reply.not_found(name);
            assert_eq!(reply.body["clusterName"], "c1");
            assert!(member.is_empty() || reply.body[member] == "x", "{reply:?}");
        }
    }
    let config = json!({"identityProviderConfig": {"type": "oidc", "name": "corp"}});
    for verb in ["describe", "disassociate"] {
        let target = format!("/clusters/c1/identity-provider-configs/{verb}");
        let reply = world.eks(&world.ana, "POST", &target, &config).await;
        reply.not_found("No config found for cluster: c1, config type: oidc, config name: corp");
    }
}

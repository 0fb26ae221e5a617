//! Every operation of the service models: implemented, or listed with the reason why not; and every implemented one that is
//! signed is refused to a user without any policy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use countersign_server::aws::operation_catalogue;
use serde_json::Value;

use crate::world::*;

/// Operations that need no permission, and what they are answered without one.
const NEED_NO_PERMISSION: &[(&str, &str)] = &[
    ("sts GetCallerIdentity", "none can be denied"),
    ("sts GetSessionToken", "a policy can only deny it"),
];

fn rows() -> Vec<Value> {
    operation_catalogue().as_array().unwrap().clone()
}

fn name_of(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap();
    format!("{} {}", text("service"), text("name"))
}

fn list_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/operations.txt")
}

/// `SERVICE OPERATION: implemented`, `SERVICE OPERATION: not offered: REASON`, or `SERVICE OPERATION: later: WITH WHAT`;
/// sorted, one a line.
fn listed() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(list_file()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.is_sorted(), "the list of operations is not sorted");
    let split = |line: &str| {
        let (name, state) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), state.to_owned())
    };
    let listed: BTreeMap<String, String> = lines.iter().map(|line| split(line)).collect();
    assert_eq!(listed.len(), lines.len(), "an operation is listed twice");
    listed
}

/// What is implemented may only grow. With `COUNTERSIGN_GROW_OPERATIONS` set, operations that are newly implemented are
/// written into the list; nothing else about it can be changed but by hand.
#[test]
fn every_operation_is_implemented_or_listed_with_a_reason() {
    let mut listed = listed();
    let offered: BTreeMap<String, bool> = rows()
        .iter()
        .map(|row| (name_of(row), row["offered"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        listed.keys().collect::<BTreeSet<_>>(),
        offered.keys().collect::<BTreeSet<_>>(),
        "operations.txt and the tables of operations name different operations"
    );
    let mut grown = Vec::new();
    for (name, offered) in &offered {
        let state = listed.get_mut(name).unwrap();
        match (state.as_str(), offered) {
            ("implemented", true) => {}
            ("implemented", false) => panic!("{name} was implemented and is not any more"),
            (_, true) => {
                *state = "implemented".to_owned();
                grown.push(name);
            }
            (reason, false) => {
                let reason = ["not offered: ", "later: "]
                    .iter()
                    .find_map(|prefix| reason.strip_prefix(prefix))
                    .unwrap_or_default();
                assert!(!reason.is_empty(), "{name} has no reason");
            }
        }
    }
    if std::env::var_os("COUNTERSIGN_GROW_OPERATIONS").is_some() {
        let lines: Vec<String> = listed
            .iter()
            .map(|(name, state)| format!("{name}: {state}\n"))
            .collect();
        std::fs::write(list_file(), lines.concat()).unwrap();
        return;
    }
    assert!(
        grown.is_empty(),
        "implemented by now, and to be written so in tests/data/operations.txt \
         (COUNTERSIGN_GROW_OPERATIONS=1 does it): {grown:?}"
    );
}

/// A value that satisfies a parameter's constraints, under its name on the wire.
fn generate(name: &str, wire: &str, kind: &Value, given: &mut Vec<(String, String)>) {
    match kind["type"].as_str().unwrap() {
        "string" => given.push((wire.to_owned(), text(name, kind))),
        "integer" => given.push((wire.to_owned(), kind["min"].to_string())),
        "boolean" => given.push((wire.to_owned(), "true".to_owned())),
        "list" => generate(name, &format!("{wire}.member.1"), &kind["of"], given),
        "structure" => {
            let members = kind["members"].as_array().unwrap();
            for member in members {
                // `PolicyArns` of STS have a member that the model calls optional.
                if member["required"] == true || members.len() == 1 {
                    let inner = member["name"].as_str().unwrap();
                    generate(inner, &format!("{wire}.{inner}"), &member["kind"], given);
                }
            }
        }
        other => panic!("{other}"),
    }
}

fn text(name: &str, kind: &Value) -> String {
    if let Some(choice) = kind["enum"].as_array().and_then(|choices| choices.first()) {
        return choice.as_str().unwrap().to_owned();
    }
    let iam = |resource: &str| format!("arn:aws:iam::111122223333:{resource}");
    match name {
        "RoleArn" => iam("role/none"),
        "TargetPrincipal" => "444455556666".to_owned(),
        "PolicyArn" | "PermissionsBoundary" | "arn" => iam("policy/none"),
        "PolicySourceArn" | "Arn" | "CallerArn" => iam("user/bob"),
        "OpenIDConnectProviderArn" => iam("oidc-provider/none.example"),
        "SAMLProviderArn" => iam("saml-provider/none"),
        "SerialNumber" => iam("mfa/none"),
        "PolicyDocument" | "PolicyInputList" => ALL.to_owned(),
        "AssumeRolePolicyDocument" => trusts(ACCOUNT, ASSUME, ""),
        "AccountAlias" => "alias".to_owned(),
        "AWSServiceName" => "eks.amazonaws.com".to_owned(),
        "Url" => "https://none.example".to_owned(),
        "VersionId" => "v1".to_owned(),
        "TokenCode" | "AuthenticationCode1" | "AuthenticationCode2" => "123456".to_owned(),
        "ActionNames" => "iam:GetUser".to_owned(),
        "JobId" => "00000000-0000-4000-8000-000000000000".to_owned(),
        "SigningAlgorithm" => "RS256".to_owned(),
        "NewPath" | "Path" | "PathPrefix" => "/".to_owned(),
        _ => {
            let least = kind["min"].as_u64().unwrap_or(0).max(4);
            let most = kind["max"].as_u64().unwrap_or(u64::MAX);
            "none".repeat(usize::try_from(least.div_ceil(4)).unwrap())
                [..usize::try_from(least.min(most)).unwrap()]
                .to_owned()
        }
    }
}

#[tokio::test]
async fn every_implemented_operation_is_refused_without_permission() {
    let world = World::new().await;
    let mut refused = BTreeSet::new();
    for row in rows() {
        // Operations of EKS and EKS Auth are called by path; `eks::operations` and `eks_auth::refusals` do the same with them.
        if row["offered"] != true || row["signed"] != true {
            continue;
        }
        if row["service"] == "eks" || row["service"] == "eks-auth" {
            continue;
        }
        let name = name_of(&row);
        let mut given = vec![(
            "Action".to_owned(),
            row["name"].as_str().unwrap().to_owned(),
        )];
        for parameter in row["parameters"].as_array().unwrap() {
            if parameter["required"] == true {
                let of = parameter["name"].as_str().unwrap();
                generate(of, of, &parameter["kind"], &mut given);
            }
        }
        let given: Vec<(&str, &str)> = given
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let needs_permission = !NEED_NO_PERMISSION.iter().any(|(known, _)| *known == name);
        let (status, code, message) = if name.starts_with("sts ") {
            let answer = world.call(&world.bob, &given, now()).await;
            let (status, code, message) = error(&answer);
            (status, code.to_owned(), message.to_owned())
        } else {
            refusal(&world.iam(&world.bob, &given).await)
        };
        if needs_permission {
            assert_eq!(
                (status, &*code),
                (403, "AccessDenied"),
                "{name} {given:?}: {message}"
            );
            let who = "User: arn:aws:iam::111122223333:user/bob is not authorized to perform";
            assert!(message.starts_with(who), "{name}: {message}");
            refused.insert(name);
        } else {
            assert_eq!(status, 200, "{name} {given:?}: {message}");
        }
    }
    assert!(refused.len() > 130, "{}: {refused:?}", refused.len());
    // Nothing of what was refused happened.
    let snapshot = world.directory.snapshot();
    assert_eq!(snapshot.user_count(world.account), 2);
    assert_eq!(snapshot.role_count(world.account), 0);
    assert_eq!(snapshot.managed_policy_count(world.account), 0);
}

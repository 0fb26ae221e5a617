//! Pod identity associations (EKS API spec, section 10; pod identity spec, sections 6 and 9).

use countersign_server::aws::EksOptions;
use countersign_store::NewPodIdentityAssociation;
use countersign_store::records::AuthenticationMode::{Api, ConfigMap};
use serde_json::{Value, json};

use super::*;

const TARGET: &str = "/clusters/c1/pod-identity-associations";
const PICKER: &str = "arn:aws:iam::111122223333:role/team/Picker";
const OTHER: &str = "arn:aws:iam::111122223333:role/Other";
const UNTRUSTING: &str = "arn:aws:iam::111122223333:role/Untrusting";
const ELSEWHERE: &str = "arn:aws:iam::444455556666:role/Target";
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}"#;
const UNTRUSTED: &str = "Trust policy of the role provided is invalid.";
const POLICY_NEEDS: &str = "When policy is specified, disableSessionTags must be set to true";
const DRY: &[(&str, &str)] = &[("x-countersign-dry-run", "true")];

/// A trust policy with one statement for the service.
fn pods(actions: &str, condition: Value) -> String {
    let mut statement = json!({
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": serde_json::from_str::<Value>(actions).unwrap(),
    });
    if !condition.is_null() {
        statement["Condition"] = condition;
    }
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

const BOTH: &str = r#"["sts:AssumeRole", "sts:TagSession"]"#;

async fn world() -> World {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let trust = pods(BOTH, Value::Null);
    world
        .role_with("Picker", &trust, |role| role.path = "/team/".into())
        .await;
    world.role("Other", &trust).await;
    world.role("Untrusting", &trusts(ACCOUNT, ASSUME, "")).await;
    world
}

fn body(namespace: &str, service_account: &str, more: &Value) -> Value {
    let mut body = json!({
        "namespace": namespace,
        "serviceAccount": service_account,
        "roleArn": PICKER,
    });
    for (member, value) in more.as_object().unwrap() {
        body[member] = value.clone();
    }
    body
}

fn path(id: &str) -> String {
    format!("{TARGET}/{id}")
}

impl World {
    async fn associate(&self, namespace: &str, service_account: &str, more: Value) -> Reply {
        let body = body(namespace, service_account, &more);
        self.eks(&self.ana, "POST", TARGET, &body).await
    }

    /// The id of a new association.
    async fn associated(&self, namespace: &str, service_account: &str, more: Value) -> String {
        let made = self.associate(namespace, service_account, more).await.ok();
        let id = made["association"]["associationId"].as_str();
        id.unwrap().to_owned()
    }
}

#[tokio::test]
async fn an_association_shows_what_was_given() {
    let world = world().await;
    let external = "us-east-1/111122223333/c1/orchard/picker";
    let absent = Value::Null;
    for (more, expected) in [
        (
            json!({}),
            [
                absent.clone(),
                absent.clone(),
                absent.clone(),
                absent.clone(),
            ],
        ),
        (
            json!({"disableSessionTags": false, "tags": {"K": "v"}}),
            [json!(false), absent.clone(), absent.clone(), absent.clone()],
        ),
        (
            json!({"targetRoleArn": ELSEWHERE}),
            [
                absent.clone(),
                json!(ELSEWHERE),
                json!(external),
                absent.clone(),
            ],
        ),
        (
            json!({"targetRoleArn": ELSEWHERE, "disableSessionTags": true, "policy": POLICY}),
            [
                json!(true),
                json!(ELSEWHERE),
                json!(external),
                json!(POLICY),
            ],
        ),
    ] {
        let made = world
            .associate("orchard", "picker", more.clone())
            .await
            .ok();
        let shown = &made["association"];
        let id = shown["associationId"].as_str().unwrap().to_owned();
        assert_eq!((id.len(), &id[..2]), (19, "a-"), "{shown}");
        let arn = format!("arn:aws:eks:us-east-1:111122223333:podidentityassociation/c1/{id}");
        for (member, expected) in [
            ("clusterName", json!("c1")),
            ("namespace", json!("orchard")),
            ("serviceAccount", json!("picker")),
            ("roleArn", json!(PICKER)),
            ("associationArn", json!(arn)),
            ("tags", more.get("tags").cloned().unwrap_or(json!({}))),
            ("createdAt", json!(1773480413.25)),
            ("modifiedAt", json!(1773480413.25)),
            ("ownerArn", Value::Null),
        ] {
            assert_eq!(shown[member], expected, "{member}: {more}");
        }
        let optional = [
            "disableSessionTags",
            "targetRoleArn",
            "externalId",
            "policy",
        ];
        for (member, expected) in optional.iter().zip(expected) {
            assert_eq!(shown[member], expected, "{member}: {more}");
        }
        let found = world.eks(&world.ana, "GET", &path(&id), &Value::Null).await;
        assert_eq!(found.ok(), made);
        let listed = world
            .eks(&world.ana, "GET", TARGET, &Value::Null)
            .await
            .ok();
        let summary = json!({
            "clusterName": "c1",
            "namespace": "orchard",
            "serviceAccount": "picker",
            "associationArn": arn,
            "associationId": id,
        });
        assert_eq!(
            listed,
            json!({"associations": [summary]}),
            "no role in lists"
        );
        world
            .associate("orchard", "picker", json!({}))
            .await
            .refused(
                409,
                "ResourceInUseException",
                &format!("Association already exists: {id}"),
            );
        let deleted = world
            .eks(&world.ana, "DELETE", &path(&id), &Value::Null)
            .await;
        assert_eq!(deleted.ok(), made, "the deleted one is shown");
        for method in ["GET", "DELETE", "POST"] {
            let body = json!({"roleArn": PICKER});
            let body = if method == "POST" {
                &body
            } else {
                &Value::Null
            };
            let reply = world.eks(&world.ana, method, &path(&id), body).await;
            reply.not_found(&format!("No pod identity association found for ID: {id}"));
        }
    }
}

/// Every case has the fault it is refused for, and the faults of those behind it where they can be together.
#[tokio::test]
async fn values_are_refused_in_the_order_and_words_of_eks() {
    let world = world().await;
    let invalid = "InvalidParameterException";
    let namespace = "The parameter namespace contains invalid characters. It should conform to the regular expression ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    let account = r"The parameter serviceAccount contains invalid characters. It should conform to the regular expression ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    let role = "The roleArn parameter format is not valid";
    let foreign = "Cross-account pass role is not allowed.";
    let long = "x".repeat(64);
    let longer = "x".repeat(254);
    let large = format!("{}{POLICY}", " ".repeat(2048));
    let missing_cluster = "/clusters/none/pod-identity-associations";
    let no_cluster = "No cluster found for name: none.";
    let bad = json!({"roleArn": "x", "policy": "x"});
    let by_role = |arn: &str| json!({"roleArn": arn, "policy": "x"});
    for (at, names, more, (status, code, message)) in [
        (
            missing_cluster,
            ("Orchard", "A"),
            bad.clone(),
            (400, invalid, namespace),
        ),
        (
            missing_cluster,
            ("", "A"),
            bad.clone(),
            (400, invalid, namespace),
        ),
        (
            missing_cluster,
            ("a.b", "A"),
            bad.clone(),
            (400, invalid, namespace),
        ),
        (
            missing_cluster,
            ("-a", "A"),
            bad.clone(),
            (400, invalid, namespace),
        ),
        (
            missing_cluster,
            ("ä", "A"),
            bad.clone(),
            (400, invalid, namespace),
        ),
        (
            missing_cluster,
            (&*long, "A"),
            bad.clone(),
            (
                400,
                invalid,
                "The parameter namespace must have at most 63 characters",
            ),
        ),
        (
            missing_cluster,
            ("a", "A"),
            bad.clone(),
            (400, invalid, account),
        ),
        (
            missing_cluster,
            ("a", "a."),
            bad.clone(),
            (400, invalid, account),
        ),
        (
            missing_cluster,
            ("a", "a/b"),
            bad.clone(),
            (400, invalid, account),
        ),
        (
            missing_cluster,
            ("a", &*longer),
            bad.clone(),
            (
                400,
                invalid,
                "The parameter serviceAccount must have at most 253 characters",
            ),
        ),
        (missing_cluster, ("a", "b.c"), bad, (400, invalid, role)),
        (
            missing_cluster,
            ("a", "b"),
            by_role(ACCOUNT),
            (400, invalid, role),
        ),
        (
            missing_cluster,
            ("a", "b"),
            by_role("arn:aws:iam::111122223333:user/ana"),
            (400, invalid, role),
        ),
        (
            missing_cluster,
            ("a", "b"),
            by_role("arn:aws-cn:iam::111122223333:role/Picker"),
            (400, invalid, role),
        ),
        (
            missing_cluster,
            ("a", "b"),
            by_role("arn:aws:iam::111122223333:role/team/"),
            (400, invalid, role),
        ),
        (
            missing_cluster,
            ("a", "b"),
            by_role(ELSEWHERE),
            (403, "AccessDeniedException", foreign),
        ),
        (
            missing_cluster,
            ("a", "b"),
            json!({"targetRoleArn": "x"}),
            (
                400,
                invalid,
                "The targetRoleArn parameter format is not valid",
            ),
        ),
        (
            missing_cluster,
            ("a", "b"),
            json!({"targetRoleArn": ""}),
            (
                400,
                invalid,
                "The targetRoleArn parameter format is not valid",
            ),
        ),
        (
            missing_cluster,
            ("a", "b"),
            json!({"tags": {"aws:x": "y"}}),
            (400, invalid, "Tag keys beginning with aws: are reserved"),
        ),
        (
            missing_cluster,
            ("a", "b"),
            by_role(UNTRUSTING),
            (404, "ResourceNotFoundException", no_cluster),
        ),
        (
            TARGET,
            ("a", "b"),
            by_role(UNTRUSTING),
            (400, invalid, UNTRUSTED),
        ),
        (
            TARGET,
            ("a", "b"),
            by_role("arn:aws:iam::111122223333:role/None"),
            (400, invalid, UNTRUSTED),
        ),
        (
            TARGET,
            ("a", "b"),
            by_role("arn:aws:iam::111122223333:role/Picker"),
            (400, invalid, UNTRUSTED),
        ),
        (
            TARGET,
            ("a", "b"),
            json!({"policy": "x"}),
            (400, invalid, POLICY_NEEDS),
        ),
        (
            TARGET,
            ("a", "b"),
            json!({"policy": POLICY, "disableSessionTags": false}),
            (400, invalid, POLICY_NEEDS),
        ),
        (
            TARGET,
            ("a", "b"),
            json!({"policy": large, "disableSessionTags": true}),
            (400, invalid, "The policy provided is invalid: it has "),
        ),
        (
            TARGET,
            ("a", "b"),
            json!({"policy": "x", "disableSessionTags": true}),
            (400, invalid, "The policy provided is invalid: "),
        ),
        (
            TARGET,
            ("a", "b"),
            json!({"policy": pods(BOTH, Value::Null), "disableSessionTags": true}),
            (400, invalid, "The policy provided is invalid: "),
        ),
    ] {
        let body = body(names.0, names.1, &more);
        let reply = world.eks(&world.ana, "POST", at, &body).await;
        reply.refused(status, code, message);
    }
    for missing in ["namespace", "serviceAccount", "roleArn"] {
        let mut body = body("a", "b", &json!({}));
        body.as_object_mut().unwrap().remove(missing);
        let reply = world.eks(&world.ana, "POST", TARGET, &body).await;
        reply.invalid("");
        assert!(reply.message().contains(missing), "{reply:?}");
    }
    let listed = world
        .eks(&world.ana, "GET", TARGET, &Value::Null)
        .await
        .ok();
    assert_eq!(listed, json!({"associations": []}), "nothing was made");
}

/// The trust policy must let the service do both under some conditions; where the conditions cannot hold for the association's
/// pods, a warning says so.
#[tokio::test]
async fn trust_policies_are_decided_by_the_policy_engine() {
    let world = world().await;
    let tag = |key: &str, value: &str| {
        let key = format!("aws:RequestTag/{key}");
        json!({"StringEquals": {key: value}})
    };
    let statements =
        |statements: Value| json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let service = json!({"Service": "pods.eks.amazonaws.com"});
    let cluster = "arn:aws:eks:us-east-1:111122223333:cluster/c1";
    let (fine, refused, warned) = (Some(false), None, Some(true));
    let tags_off = json!({"disableSessionTags": true});
    for (name, trust, more, expected) in [
        ("both", pods(BOTH, Value::Null), json!({}), fine),
        (
            "all of STS",
            pods(r#""sts:*""#, Value::Null),
            json!({}),
            fine,
        ),
        (
            "no TagSession",
            pods(r#""sts:AssumeRole""#, Value::Null),
            json!({}),
            refused,
        ),
        // EKS asks for both, also when no tags are passed.
        (
            "no TagSession, no tags",
            pods(r#""sts:AssumeRole""#, Value::Null),
            tags_off.clone(),
            refused,
        ),
        (
            "no AssumeRole",
            pods(r#""sts:TagSession""#, Value::Null),
            json!({}),
            refused,
        ),
        (
            "another principal",
            trusts(ACCOUNT, EVERYTHING, ""),
            json!({}),
            refused,
        ),
        (
            "another service",
            pods(BOTH, Value::Null).replace("pods.eks", "ec2"),
            json!({}),
            refused,
        ),
        (
            "two statements",
            statements(json!([
                {"Effect": "Allow", "Principal": service, "Action": "sts:AssumeRole"},
                {"Effect": "Allow", "Principal": service, "Action": "sts:TagSession"},
            ])),
            json!({}),
            fine,
        ),
        (
            "denied",
            statements(json!([
                {"Effect": "Allow", "Principal": service, "Action": ["sts:AssumeRole", "sts:TagSession"]},
                {"Effect": "Deny", "Principal": service, "Action": "sts:TagSession"},
            ])),
            json!({}),
            refused,
        ),
        (
            "denied to others",
            statements(json!([
                {"Effect": "Allow", "Principal": service, "Action": ["sts:AssumeRole", "sts:TagSession"]},
                {"Effect": "Deny", "Principal": service, "Action": "sts:AssumeRole",
                 "Condition": {"StringNotEquals": {"aws:RequestTag/kubernetes-namespace": "orchard"}}},
            ])),
            json!({}),
            fine,
        ),
        (
            "denied to these",
            statements(json!([
                {"Effect": "Allow", "Principal": service, "Action": ["sts:AssumeRole", "sts:TagSession"]},
                {"Effect": "Deny", "Principal": service, "Action": "sts:AssumeRole",
                 "Condition": {"StringEquals": {"aws:RequestTag/kubernetes-namespace": "orchard"}}},
            ])),
            json!({}),
            warned,
        ),
        (
            "this namespace",
            pods(BOTH, tag("kubernetes-namespace", "orchard")),
            json!({}),
            fine,
        ),
        (
            "another namespace",
            pods(BOTH, tag("kubernetes-namespace", "meadow")),
            json!({}),
            warned,
        ),
        (
            "a pod",
            pods(BOTH, tag("kubernetes-pod-name", "picker-0")),
            json!({}),
            fine,
        ),
        (
            "tags that are not passed",
            pods(BOTH, tag("kubernetes-namespace", "orchard")),
            tags_off.clone(),
            warned,
        ),
        (
            "this cluster",
            pods(
                BOTH,
                json!({"ArnEquals": {"aws:SourceArn": cluster}, "StringEquals": {"aws:SourceAccount": "111122223333"}}),
            ),
            json!({}),
            fine,
        ),
        (
            "another cluster",
            pods(
                BOTH,
                json!({"ArnEquals": {"aws:SourceArn": format!("{cluster}2")}}),
            ),
            json!({}),
            warned,
        ),
        (
            "the organization of the source",
            pods(
                BOTH,
                json!({"StringEquals": {"aws:SourceOrgID": "o-exampleorg1"}}),
            ),
            json!({}),
            fine,
        ),
        // A service has no organization of its own.
        (
            "the organization of the principal",
            pods(
                BOTH,
                json!({"StringEquals": {"aws:PrincipalOrgID": "o-exampleorg1"}}),
            ),
            json!({}),
            warned,
        ),
        (
            "what only the call has",
            pods(
                BOTH,
                json!({"StringLike": {"sts:RoleSessionName": "eks-*"}}),
            ),
            json!({}),
            fine,
        ),
        (
            "a variable",
            pods(
                BOTH,
                json!({"StringEquals": {"aws:RequestTag/kubernetes-namespace": "${aws:RequestTag/kubernetes-pod-name}"}}),
            ),
            json!({}),
            fine,
        ),
    ] {
        let arn = world.role("Trying", &trust).await;
        let mut more = more;
        more["roleArn"] = json!(arn);
        let reply = world.associate("orchard", "picker", more).await;
        let hopeless = format!(
            "the conditions of the trust policy of {arn} hold for no pod of orchard/picker: they get no credentials until it is changed"
        );
        match expected {
            None => reply.invalid(&format!(
                "{UNTRUSTED} It must let pods.eks.amazonaws.com do sts:AssumeRole and sts:TagSession, and it does not allow sts:"
            )),
            Some(warned) => {
                assert_eq!(reply.warnings().contains(&hopeless), warned, "{name}: {reply:?}");
                let made = reply.ok();
                let id = made["association"]["associationId"].as_str().unwrap();
                world.eks(&world.ana, "DELETE", &path(id), &Value::Null).await.ok();
            }
        }
        world
            .directory
            .delete_role(world.account, "Trying")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_share_of_the_packed_policy_size_is_told() {
    let world = world().await;
    let percent = |warning: &str, before: &str| -> u32 {
        let rest = warning.split_once(before).unwrap().1;
        rest.split_once('%').unwrap().0.parse().unwrap()
    };
    let long = "n".repeat(63);
    let mut last = (0, 0);
    for (namespace, account) in [
        ("a", "b"),
        ("orchard", "picker"),
        (&*long, &*"s.t".repeat(40)),
    ] {
        let reply = world.associate(namespace, account, json!({})).await;
        let warnings = reply.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let here = percent(&warnings[0], "session tags take up to ");
        let at_aws = percent(&warnings[0], "AWS counts about ");
        assert!(here > 20 && here <= 100 && here >= last.0, "{warnings:?}");
        assert!(at_aws > 60 && at_aws > last.1, "{warnings:?}");
        last = (here, at_aws);
        reply.ok();
    }
    let off = |policy: Option<&str>| match policy {
        Some(policy) => json!({"disableSessionTags": true, "policy": policy}),
        None => json!({"disableSessionTags": true}),
    };
    let reply = world.associate("off", "one", off(None)).await;
    assert_eq!(reply.warnings(), [""; 0], "neither tags nor policy");
    let reply = world.associate("off", "two", off(Some(POLICY))).await;
    assert!(percent(&reply.warnings()[0], "the session policy takes ") > 5);
    let actions: Vec<String> = (0..60_u64)
        .map(|n| format!("s3:Get{:016x}", (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let statement = json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
    let large = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
    assert!(large.len() <= 2048, "{}", large.len());
    let reply = world.associate("off", "three", off(Some(&large))).await;
    let warning = &reply.warnings()[0];
    assert!(warning.contains("% of"), "{warning}");
    reply.ok();
}

#[tokio::test]
async fn updates_are_checked_as_what_comes_of_them() {
    let world = world().await;
    let id = world.associated("orchard", "picker", json!({})).await;
    let invalid = "InvalidParameterException";
    // Each case changes the outcome of the one before.
    for (change, expected) in [
        (json!({}), Err((400, invalid, "At least one of roleArn"))),
        (
            json!({"namespace": "meadow"}),
            Err((400, invalid, "At least one of roleArn")),
        ),
        (
            json!({"roleArn": "x"}),
            Err((400, invalid, "The roleArn parameter format is not valid")),
        ),
        (
            json!({"roleArn": ELSEWHERE}),
            Err((
                403,
                "AccessDeniedException",
                "Cross-account pass role is not allowed.",
            )),
        ),
        (
            json!({"roleArn": UNTRUSTING}),
            Err((400, invalid, UNTRUSTED)),
        ),
        (json!({"policy": POLICY}), Err((400, invalid, POLICY_NEEDS))),
        (
            json!({"policy": "x", "disableSessionTags": true}),
            Err((400, invalid, "The policy provided is invalid: ")),
        ),
        (
            json!({"policy": POLICY, "disableSessionTags": true}),
            Ok((PICKER, json!(true), Value::Null, json!(POLICY))),
        ),
        (
            json!({"disableSessionTags": false}),
            Err((400, invalid, POLICY_NEEDS)),
        ),
        (
            json!({"roleArn": OTHER, "targetRoleArn": ELSEWHERE}),
            Ok((OTHER, json!(true), json!(ELSEWHERE), json!(POLICY))),
        ),
        (
            json!({"targetRoleArn": "x"}),
            Err((
                400,
                invalid,
                "The targetRoleArn parameter format is not valid",
            )),
        ),
        (
            json!({"targetRoleArn": "", "policy": "", "disableSessionTags": false}),
            Ok((OTHER, json!(false), Value::Null, Value::Null)),
        ),
    ] {
        let reply = world.eks(&world.ana, "POST", &path(&id), &change).await;
        match expected {
            Err((status, code, message)) => reply.refused(status, code, message),
            Ok((role, disabled, target, policy)) => {
                let made = reply.ok();
                let shown = &made["association"];
                assert_eq!(shown["roleArn"], role, "{change}");
                assert_eq!(shown["disableSessionTags"], disabled, "{change}");
                assert_eq!(shown["targetRoleArn"], target, "{change}");
                assert_eq!(shown["policy"], policy, "{change}");
                let external = "us-east-1/111122223333/c1/orchard/picker";
                let external = if target.is_null() {
                    Value::Null
                } else {
                    json!(external)
                };
                assert_eq!(shown["externalId"], external, "{change}");
                assert_eq!(shown["namespace"], "orchard");
                let found = world.eks(&world.ana, "GET", &path(&id), &Value::Null).await;
                assert_eq!(found.ok(), made);
            }
        }
    }
    // The role may have been changed meanwhile: then it is refused whatever the update is about.
    world
        .directory
        .delete_role(world.account, "Other")
        .await
        .unwrap();
    let change = json!({"disableSessionTags": true});
    let reply = world.eks(&world.ana, "POST", &path(&id), &change).await;
    reply.invalid(UNTRUSTED);
    let reply = world
        .eks(&world.ana, "POST", &path("a-none"), &change)
        .await;
    reply.not_found("No pod identity association found for ID: a-none");
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages() {
    let world = world().await;
    let all = [
        ("a", "a"),
        ("a", "b"),
        ("a-b", "a"),
        ("b", "a"),
        ("b", "a.b"),
        ("b", "a0"),
    ];
    for (namespace, account) in all.iter().rev() {
        world.associated(namespace, account, json!({})).await;
    }
    let names = |listed: &Value| -> Vec<(String, String)> {
        let name = |one: &Value, member: &str| one[member].as_str().unwrap().to_owned();
        let one = |one| (name(one, "namespace"), name(one, "serviceAccount"));
        listed["associations"]
            .as_array()
            .unwrap()
            .iter()
            .map(one)
            .collect()
    };
    let owned = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    };
    let get = async |query: &str| {
        world
            .eks(&world.ana, "GET", &format!("{TARGET}{query}"), &Value::Null)
            .await
    };
    for (query, expected) in [
        ("", &all[..]),
        ("?namespace=a", &all[..2]),
        (
            "?serviceAccount=a",
            &[("a", "a"), ("a-b", "a"), ("b", "a")][..],
        ),
        ("?namespace=b&serviceAccount=a0", &all[5..]),
        ("?namespace=none", &[][..]),
        ("?namespace=A%2F", &[][..]),
    ] {
        assert_eq!(names(&get(query).await.ok()), owned(expected), "{query}");
    }
    for filter in ["", "&serviceAccount=a"] {
        let whole = names(&get(&format!("?maxResults=100{filter}")).await.ok());
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = get(&format!("?maxResults=2{filter}{token}")).await.ok();
            let of_page = names(&page);
            assert!((1..=2).contains(&of_page.len()), "{page}");
            found.extend(of_page);
            let Some(next) = page["nextToken"].as_str() else {
                break;
            };
            token = format!("&nextToken={}", escape(next));
        }
        assert_eq!(found, whole, "{filter}");
    }
    let first = get("?maxResults=1").await.ok();
    let token = escape(first["nextToken"].as_str().unwrap());
    // A page begins behind the last entry, whether that is there or not.
    let id = first["associations"][0]["associationId"].as_str().unwrap();
    world
        .eks(&world.ana, "DELETE", &path(id), &Value::Null)
        .await
        .ok();
    assert_eq!(
        names(&get(&format!("?nextToken={token}")).await.ok()),
        owned(&all[1..])
    );
    world.cluster("c2", ConfigMap).await;
    let other = format!("/clusters/c2/pod-identity-associations?nextToken={token}");
    for reply in [
        get(&format!("?nextToken={token}&namespace=a")).await,
        get("?nextToken=x").await,
        world.eks(&world.ana, "GET", &other, &Value::Null).await,
    ] {
        reply.invalid("The nextToken parameter is not one of an earlier page of this list");
    }
    for outside in ["?maxResults=0", "?maxResults=101"] {
        get(outside).await.invalid("");
    }
}

#[tokio::test]
async fn associations_have_tags_with_codes_of_their_own() {
    let world = world().await;
    let id = world
        .associated("a", "b", json!({"tags": {"k": "v"}}))
        .await;
    let arn = format!("arn:aws:eks:us-east-1:111122223333:podidentityassociation/c1/{id}");
    let at = |arn: &str| format!("/tags/{}", escape(arn));
    let tags = json!({"tags": {"K": "w", "k": "x"}});
    world.eks(&world.ana, "POST", &at(&arn), &tags).await.ok();
    let target = format!("{}?tagKeys=K&tagKeys=none", at(&arn));
    world
        .eks(&world.ana, "DELETE", &target, &Value::Null)
        .await
        .ok();
    let shown = world
        .eks(&world.ana, "GET", &at(&arn), &Value::Null)
        .await
        .ok();
    assert_eq!(shown, json!({"tags": {"k": "x"}}));
    let found = world
        .eks(&world.ana, "GET", &path(&id), &Value::Null)
        .await
        .ok();
    assert_eq!(found["association"]["tags"], json!({"k": "x"}));
    assert_eq!(
        found["association"]["modifiedAt"],
        found["association"]["createdAt"]
    );
    for (arn, tags, status, code) in [
        (format!("{arn}x"), &tags, 404, "NotFoundException"),
        (arn.replace("/c1/", "/c2/"), &tags, 404, "NotFoundException"),
        (
            arn.replace("us-east-1", "us-east-2"),
            &tags,
            404,
            "NotFoundException",
        ),
        (
            arn.clone(),
            &json!({"tags": {"aws:k": "v"}}),
            400,
            "BadRequestException",
        ),
        (
            arn.clone(),
            &json!({"tags": {}}),
            400,
            "BadRequestException",
        ),
    ] {
        let reply = world.eks(&world.ana, "POST", &at(&arn), tags).await;
        reply.refused(status, code, "");
    }
    let many: serde_json::Map<String, Value> =
        (0..50).map(|n| (format!("t{n}"), json!(""))).collect();
    let reply = world
        .eks(&world.ana, "POST", &at(&arn), &json!({"tags": many}))
        .await;
    reply.refused(400, "BadRequestException", "A resource has at most 50 tags");
}

/// What each call asks for, told apart by allowing exactly that.
#[tokio::test]
async fn permissions_are_those_of_the_action_and_of_passing_the_role() {
    let world = world().await;
    let id = world
        .associated("a", "b", json!({"tags": {"team": "blue"}}))
        .await;
    let cluster = "arn:aws:eks:us-east-1:111122223333:cluster/c1";
    let own = format!("arn:aws:eks:us-east-1:111122223333:podidentityassociation/c1/{id}");
    let none = "arn:aws:eks:us-east-1:111122223333:podidentityassociation/c1/a-none";
    let statement = |action: &str, resource: &str, condition: Value| json!({"Effect": "Allow", "Action": action, "Resource": resource, "Condition": condition});
    let pass = |resource: &str, to: &str| {
        let condition = json!({"StringEquals": {"iam:PassedToService": to}});
        statement("iam:PassRole", resource, condition)
    };
    let to_pods = || pass(PICKER, "pods.eks.amazonaws.com");
    let create = || statement("eks:CreatePodIdentityAssociation", cluster, json!({}));
    let change = || statement("eks:UpdatePodIdentityAssociation", &own, json!({}));
    let made = body("c", "d", &json!({}));
    let tagged = body("e", "f", &json!({"tags": {"team": "red"}}));
    let foreign = body("c", "d", &json!({"roleArn": ELSEWHERE}));
    let role = json!({"roleArn": PICKER});
    let flag = json!({"disableSessionTags": true});
    let new_tag =
        "arn:aws:eks:us-east-1:111122223333:podidentityassociation/c1/a-00000000000000000";
    let red = json!({"StringEquals": {"aws:RequestTag/team": "red"}});
    let blue = json!({"StringEquals": {"aws:ResourceTag/team": "blue"}});
    let nothing = Value::Null;
    for (what, statements, (method, target, body), allowed) in [
        (
            "no PassRole",
            vec![create()],
            ("POST", TARGET, &made),
            false,
        ),
        (
            "PassRole to another service",
            vec![create(), pass(PICKER, "ec2.amazonaws.com")],
            ("POST", TARGET, &made),
            false,
        ),
        (
            "PassRole of another role",
            vec![create(), pass(OTHER, "pods.eks.amazonaws.com")],
            ("POST", TARGET, &made),
            false,
        ),
        (
            "only PassRole",
            vec![to_pods()],
            ("POST", TARGET, &made),
            false,
        ),
        (
            "create",
            vec![create(), to_pods()],
            ("POST", TARGET, &made),
            true,
        ),
        (
            "no TagResource",
            vec![create(), to_pods()],
            ("POST", TARGET, &tagged),
            false,
        ),
        (
            "tagged",
            vec![
                create(),
                to_pods(),
                statement("eks:TagResource", new_tag, red.clone()),
            ],
            ("POST", TARGET, &tagged),
            true,
        ),
        (
            "update without PassRole",
            vec![change()],
            ("POST", &*path(&id), &role),
            false,
        ),
        (
            "update of something else without PassRole",
            vec![change()],
            ("POST", &*path(&id), &flag),
            false,
        ),
        (
            "update",
            vec![change(), to_pods()],
            ("POST", &*path(&id), &flag),
            true,
        ),
        (
            "update of another one",
            vec![change(), to_pods()],
            ("POST", &*path("a-none"), &flag),
            false,
        ),
        (
            "describe by tag",
            vec![statement("eks:DescribePodIdentityAssociation", "*", blue)],
            ("GET", &*path(&id), &nothing),
            true,
        ),
        (
            "describe by another tag",
            vec![statement(
                "eks:DescribePodIdentityAssociation",
                "*",
                json!({"StringEquals": {"aws:ResourceTag/team": "red"}}),
            )],
            ("GET", &*path(&id), &nothing),
            false,
        ),
        (
            "list",
            vec![statement(
                "eks:ListPodIdentityAssociations",
                cluster,
                json!({}),
            )],
            ("GET", TARGET, &nothing),
            true,
        ),
        (
            "delete another one",
            vec![statement(
                "eks:DeletePodIdentityAssociation",
                none,
                json!({}),
            )],
            ("DELETE", &*path(&id), &nothing),
            false,
        ),
        (
            "delete",
            vec![statement(
                "eks:DeletePodIdentityAssociation",
                &own,
                json!({}),
            )],
            ("DELETE", &*path(&id), &nothing),
            true,
        ),
    ] {
        let document = json!({"Version": "2012-10-17", "Statement": statements});
        world.allow_user("bob", &document.to_string()).await;
        let reply = world.eks(&world.bob, method, target, body).await;
        let status = if allowed { 200 } else { 403 };
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        if !allowed {
            reply.denied();
        }
    }
    // Nobody can pass a role of another account, whatever his policies say.
    let reply = world.eks(&world.ana, "POST", TARGET, &foreign).await;
    reply.refused(
        403,
        "AccessDeniedException",
        "Cross-account pass role is not allowed.",
    );
    let document = json!({"Version": "2012-10-17", "Statement": [
        statement("eks:DescribePodIdentityAssociation", none, json!({})),
    ]});
    world.allow_user("bob", &document.to_string()).await;
    let reply = world
        .eks(&world.bob, "GET", &path("a-none"), &Value::Null)
        .await;
    reply.not_found("No pod identity association found for ID: a-none");
}

#[tokio::test]
async fn a_request_is_done_once_and_a_dry_run_never() {
    let world = world().await;
    let token = "00000000-1111-2222-3333-444444444444";
    let with_token = |more: Value| {
        let mut more = more;
        more["clientRequestToken"] = json!(token);
        more
    };
    let dry = async |method: &str, target: &str, body: &Value| {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let bytes = text.as_bytes();
        let headers = signed_with(&world.ana, "eks", (method, target), bytes, now(), DRY);
        let before = world.directory.feed().revision();
        let reply = world.unsigned(method, target, bytes, &headers).await;
        if reply.status == 200 {
            assert_eq!(reply.headers["x-countersign-dry-run"], "true", "{reply:?}");
        }
        assert_eq!(
            world.directory.feed().revision(),
            before,
            "{method} {target}"
        );
        reply
    };
    let new = with_token(body("a", "b", &json!({})));
    let tried = dry("POST", TARGET, &new).await;
    assert_eq!(tried.warnings().len(), 1);
    tried.ok();
    let first = world.eks(&world.ana, "POST", TARGET, &new).await.ok();
    let again = world.eks(&world.ana, "POST", TARGET, &new).await.ok();
    assert_eq!(first, again);
    dry("POST", TARGET, &body("a", "b", &json!({})))
        .await
        .refused(
            409,
            "ResourceInUseException",
            "Association already exists: a-",
        );
    let other = with_token(body("a", "c", &json!({})));
    let reply = world.eks(&world.ana, "POST", TARGET, &other).await;
    reply.invalid("clientRequestToken was already used with different parameters");
    let id = first["association"]["associationId"].as_str().unwrap();
    let change = with_token(json!({"roleArn": OTHER}));
    let shown = dry("POST", &path(id), &change).await.ok();
    assert_eq!(shown["association"]["roleArn"], OTHER);
    let changed = world.eks(&world.ana, "POST", &path(id), &change).await.ok();
    let back = json!({"roleArn": PICKER});
    world.eks(&world.ana, "POST", &path(id), &back).await.ok();
    let again = world.eks(&world.ana, "POST", &path(id), &change).await.ok();
    assert_eq!(changed, again, "the first answer, and nothing is changed");
    let now_there = world
        .eks(&world.ana, "GET", &path(id), &Value::Null)
        .await
        .ok();
    assert_eq!(now_there["association"]["roleArn"], PICKER);
    dry("DELETE", &path(id), &Value::Null).await.ok();
    world
        .eks(&world.ana, "DELETE", &path(id), &Value::Null)
        .await
        .ok();
}

#[tokio::test]
async fn what_an_addon_owns_is_not_changed_here() {
    let world = world().await;
    let addon = "arn:aws:eks:us-east-1:111122223333:addon/c1/vpc-cni/0";
    let place = countersign_store::ClusterPlace {
        account: world.account,
        region: "us-east-1",
        name: "c1",
    };
    let new = NewPodIdentityAssociation {
        namespace: "kube-system".into(),
        service_account: "aws-node".into(),
        role_arn: PICKER.into(),
        target_role_arn: None,
        disable_session_tags: None,
        policy: None,
        owner_arn: Some(addon.into()),
        sessions: countersign_session::PodSessions::default(),
        tags: Vec::new(),
    };
    let made = world
        .directory
        .create_pod_identity_association(place, new, None, now())
        .await;
    let id = made.unwrap().done().unwrap().id;
    let listed = world
        .eks(&world.ana, "GET", TARGET, &Value::Null)
        .await
        .ok();
    assert_eq!(listed["associations"][0]["ownerArn"], addon);
    for (method, body) in [("POST", json!({"roleArn": OTHER})), ("DELETE", Value::Null)] {
        let reply = world.eks(&world.ana, method, &path(&id), &body).await;
        let text = format!("The pod identity association {id} belongs to the add-on {addon}.");
        reply.refused(400, "InvalidRequestException", &text);
    }
}

/// Where AWS keeps the roles, one that is not known here is taken without a look at its trust policy.
#[tokio::test]
async fn a_role_that_only_aws_knows_is_taken_unchecked() {
    let mut world = world().await;
    world.api = world.api.with_eks(EksOptions {
        roles_elsewhere: true,
        ..EksOptions::default()
    });
    let role = "arn:aws:iam::111122223333:role/AtAws";
    let reply = world.associate("a", "b", json!({"roleArn": role})).await;
    let unchecked = format!("the trust policy of {role} was not checked, as AWS keeps it");
    assert!(reply.warnings()[0].starts_with(&unchecked), "{reply:?}");
    reply.ok();
    // What is known is still looked at.
    let reply = world
        .associate("c", "d", json!({"roleArn": UNTRUSTING}))
        .await;
    reply.invalid(UNTRUSTED);
}

#[tokio::test]
async fn a_cluster_that_goes_takes_its_associations_with_it() {
    let world = world().await;
    let id = world.associated("a", "b", json!({})).await;
    world
        .eks(&world.ana, "DELETE", "/clusters/c1", &Value::Null)
        .await
        .ok();
    let no_cluster = "No cluster found for name: c1.";
    for (method, target, body) in [
        ("GET", path(&id), Value::Null),
        ("DELETE", path(&id), Value::Null),
        ("POST", path(&id), json!({"roleArn": PICKER})),
        ("GET", TARGET.to_owned(), Value::Null),
        ("POST", TARGET.to_owned(), body("a", "b", &json!({}))),
    ] {
        let reply = world.eks(&world.ana, method, &target, &body).await;
        reply.not_found(no_cluster);
    }
    world.cluster("c1", ConfigMap).await;
    let reply = world.eks(&world.ana, "GET", &path(&id), &Value::Null).await;
    reply.not_found("No pod identity association found for ID: ");
    // The authentication mode of the cluster does not matter.
    world.associated("a", "b", json!({})).await;
}

//! Trust policies, and what is told of them and of the size of sessions.

use super::*;

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
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[1].starts_with("a role that pods assume further"),
            "{warnings:?}"
        );
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

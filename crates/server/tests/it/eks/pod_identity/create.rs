//! What a new association takes, shows and refuses.

use super::*;

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
    assert_eq!(tried.warnings().len(), 2, "{tried:?}");
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

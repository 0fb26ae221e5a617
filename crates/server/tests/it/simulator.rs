//! The policy simulator over the wire: decisions, statements with their positions, the source of stored policies, pages.

use crate::world::{ALL, World, part, refusal};

const S3: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::home/${aws:username}/*"}]}"#;
const DENY: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"s3:*","Resource":"*"}}"#;

/// The call, and status, code and message of its answer.
type Case<'a> = (Vec<(&'a str, &'a str)>, u16, &'a str, &'a str);

async fn ok(world: &World, parameters: &[(&str, &str)]) -> String {
    let answer = world.iam(&world.ana, parameters).await;
    assert_eq!(answer.0, 200, "{parameters:?}: {}", answer.2);
    answer.2
}

#[tokio::test]
async fn documents_of_the_request_are_decided_with_their_positions() {
    let world = World::new().await;
    let answer = ok(
        &world,
        &[
            ("Action", "SimulateCustomPolicy"),
            ("PolicyInputList.member.1", ALL),
            ("PolicyInputList.member.2", DENY),
            ("ActionNames.member.1", "s3:GetObject"),
            ("ActionNames.member.2", "ec2:RunInstances"),
        ],
    )
    .await;
    let results: Vec<&str> = answer.split("<EvalActionName>").skip(1).collect();
    let [s3, ec2] = results[..] else {
        panic!("{answer}")
    };
    assert_eq!(part(s3, "EvalDecision"), "explicitDeny");
    assert_eq!(part(s3, "SourcePolicyId"), "PolicyInputList.2");
    assert_eq!(part(part(s3, "StartPosition"), "Column"), "38");
    assert_eq!(part(ec2, "EvalDecision"), "allowed");
    assert_eq!(part(ec2, "SourcePolicyId"), "PolicyInputList.1");
    assert_eq!(part(&answer, "IsTruncated"), "false");
}

#[tokio::test]
async fn the_policies_of_a_user_are_simulated_with_its_own_facts() {
    let world = World::new().await;
    world.allow_user("bob", S3).await;
    let bob = "arn:aws:iam::111122223333:user/bob";
    let source = ("PolicySourceArn", bob);
    let action = ("ActionNames.member.1", "s3:GetObject");
    let answer = ok(
        &world,
        &[
            ("Action", "SimulatePrincipalPolicy"),
            source,
            action,
            ("ResourceArns.member.1", "arn:aws:s3:::home/bob/notes"),
            ("ResourceArns.member.2", "arn:aws:s3:::home/ana/notes"),
        ],
    )
    .await;
    assert_eq!(part(&answer, "EvalDecision"), "implicitDeny");
    let resources: Vec<&str> = answer.split("<EvalResourceDecision>").skip(1).collect();
    assert!(resources[0].starts_with("allowed<"), "{answer}");
    assert!(resources[1].starts_with("implicitDeny<"), "{answer}");
    assert_eq!(part(resources[0], "SourcePolicyType"), "user");
    assert!(part(resources[0], "SourcePolicyId").starts_with("user_bob_"));

    let boundary = ok(
        &world,
        &[
            ("Action", "SimulatePrincipalPolicy"),
            source,
            action,
            ("ResourceArns.member.1", "arn:aws:s3:::home/bob/notes"),
            ("PermissionsBoundaryPolicyInputList.member.1", DENY),
        ],
    )
    .await;
    assert_eq!(part(&boundary, "EvalDecision"), "explicitDeny");
    assert_eq!(part(&boundary, "AllowedByPermissionsBoundary"), "false");

    let without = ok(
        &world,
        &[
            ("Action", "SimulatePrincipalPolicy"),
            source,
            action,
            ("ResourceArns.member.1", "arn:aws:s3:::home/bob/notes"),
            ("PolicyExclusionList.member.1.PolicyType", "inline"),
        ],
    )
    .await;
    assert_eq!(part(&without, "EvalDecision"), "implicitDeny");

    let keys = ok(
        &world,
        &[("Action", "GetContextKeysForPrincipalPolicy"), source],
    )
    .await;
    assert_eq!(
        part(part(&keys, "ContextKeyNames"), "member"),
        "aws:username"
    );
}

#[tokio::test]
async fn pages_of_one_are_the_whole_answer() {
    let world = World::new().await;
    let actions = ["s3:GetObject", "s3:PutObject", "sqs:SendMessage"];
    let mut marker = String::new();
    let mut seen = Vec::new();
    loop {
        let mut call = vec![
            ("Action", "SimulateCustomPolicy"),
            ("PolicyInputList.member.1", ALL),
            ("MaxItems", "1"),
            ("ActionNames.member.1", actions[0]),
            ("ActionNames.member.2", actions[1]),
            ("ActionNames.member.3", actions[2]),
        ];
        if !marker.is_empty() {
            call.push(("Marker", &marker));
        }
        let answer = ok(&world, &call).await;
        seen.push(part(&answer, "EvalActionName").to_owned());
        if part(&answer, "IsTruncated") == "false" {
            break;
        }
        marker = part(&answer, "Marker").to_owned();
    }
    assert_eq!(seen, actions);
}

#[tokio::test]
async fn what_cannot_be_simulated_is_refused() {
    let world = World::new().await;
    let custom = ("Action", "SimulateCustomPolicy");
    let all = ("PolicyInputList.member.1", ALL);
    let action = ("ActionNames.member.1", "s3:GetObject");
    let principal = ("Action", "SimulatePrincipalPolicy");
    let cases: &[Case<'_>] = &[
        (
            vec![custom, ("PolicyInputList.member.1", "{"), action],
            400,
            "InvalidInput",
            "Invalid policy document in PolicyInputList.1",
        ),
        (
            vec![custom, all, ("ActionNames.member.1", "s3:*")],
            400,
            "InvalidInput",
            "Invalid Action Name: s3:*",
        ),
        (
            vec![custom, all, action, ("ResourcePolicy", ALL)],
            400,
            "InvalidInput",
            "CallerArn must be given",
        ),
        (
            vec![custom, all, action, ("ResourceArns.member.1", "bucket")],
            400,
            "InvalidInput",
            "Invalid resource",
        ),
        (
            vec![
                custom,
                all,
                action,
                ("ContextEntries.member.1.ContextKeyName", "aws:username"),
                ("ContextEntries.member.1.ContextKeyType", "string"),
                ("ContextEntries.member.1.ContextKeyValues.member.1", "a"),
                ("ContextEntries.member.1.ContextKeyValues.member.2", "b"),
            ],
            400,
            "InvalidInput",
            "The context key aws:username is of the type string",
        ),
        (
            vec![
                principal,
                ("PolicySourceArn", "arn:aws:iam::111122223333:user/nobody"),
                action,
            ],
            404,
            "NoSuchEntity",
            "The user with name nobody cannot be found.",
        ),
        (
            vec![
                principal,
                ("PolicySourceArn", "arn:aws:iam::111122223333:mfa/phone"),
                action,
            ],
            400,
            "InvalidInput",
            "Invalid Entity Arn: arn:aws:iam::111122223333:mfa/phone",
        ),
    ];
    for (parameters, status, code, message) in cases {
        let (got_status, got_code, got) = refusal(&world.iam(&world.ana, parameters).await);
        assert_eq!(
            (got_status, &*got_code),
            (*status, *code),
            "{parameters:?}: {got}"
        );
        assert!(got.starts_with(message), "{parameters:?}: {got}");
    }
}

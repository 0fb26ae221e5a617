//! GetAccessKeyInfo, DecodeAuthorizationMessage and AssumeRoot.

use countersign_store::NewUser;
use countersign_store::records::{AccessKeyStatus, InlinePolicy};
use serde_json::Value;

use crate::world::*;

#[tokio::test]
async fn the_account_of_a_key_is_known_or_stands_in_its_id() {
    let world = World::new().await;
    let inactive = &world.bob.id;
    world
        .directory
        .set_access_key_status(world.account, "bob", inactive, AccessKeyStatus::Inactive)
        .await
        .unwrap();
    let temporary = {
        let (_, answer) = world
            .call(&world.ana, &[("Action", "GetSessionToken")], now())
            .await;
        credentials(result_of(&answer, "GetSessionToken")).id
    };
    let none = |id: &str| format!("The access key ID {id} does not say which account it is of.");
    let table = [
        (&*world.ana.id, Ok("111122223333")),
        (inactive, Ok("111122223333")),
        (&temporary, Ok("111122223333")),
        ("ASIARTX3GSDS7RSUJJ3G", Ok("111122223333")),
        ("AKIARZPUZDIKKJDEGXDN", Ok("123456789012")),
        ("AKIAQAAAAAAAZ7YWB5WK", Ok("000000000001")),
        ("AKIA6RVFFB775NJ72CEU", Ok("999999999999")),
        ("AKIAIOSFODNN7EXAMPLE", Err(none("AKIAIOSFODNN7EXAMPLE"))),
        ("AKIAJOSFODNN7EXAMPLE", Err(none("AKIAJOSFODNN7EXAMPLE"))),
        ("AROARTX3GSDSURLGMXGED", Err(none("AROARTX3GSDSURLGMXGED"))),
        ("AKIARZPUZDIKKJDEGXDNN", Err(none("AKIARZPUZDIKKJDEGXDNN"))),
        ("AKIA000000000000", Err(none("AKIA000000000000"))),
        (
            "AKIA",
            Err("1 validation error detected: Value 'AKIA' at 'accessKeyId' failed to satisfy constraint: Member must have length greater than or equal to 16".to_owned()),
        ),
        (
            "AKIA RZPUZDIKKJDEGXD",
            Err(r"1 validation error detected: Value 'AKIA RZPUZDIKKJDEGXD' at 'accessKeyId' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w]*".to_owned()),
        ),
    ];
    for (id, expected) in table {
        let given = [("Action", "GetAccessKeyInfo"), ("AccessKeyId", id)];
        let answer = world.call(&world.ana, &given, now()).await;
        match expected {
            Ok(account) => {
                assert_eq!(answer.0, 200, "{id}: {}", answer.1);
                assert_eq!(result_of(&answer.1, "GetAccessKeyInfo")["Account"], account);
            }
            Err(message) => {
                assert_eq!(error(&answer), (400, "ValidationError", &*message), "{id}");
            }
        }
    }
}

/// The blob that comes with a denial of a call of IAM.
async fn denial(world: &World, keys: &Keys) -> String {
    let (status, headers, body) = world
        .iam(keys, &[("Action", "GetUser"), ("UserName", "ana")])
        .await;
    assert_eq!(status, 403, "{body}");
    headers["x-countersign-denial"].to_str().unwrap().to_owned()
}

async fn decode(world: &World, keys: &Keys, message: &str, seconds: i64) -> Answered {
    let given = [
        ("Action", "DecodeAuthorizationMessage"),
        ("EncodedMessage", message),
    ];
    world.call(keys, &given, after(seconds)).await
}

#[tokio::test]
async fn a_denial_can_be_read_in_its_own_account_for_a_day() {
    let world = World::new().await;
    let foreign = "444455556666".parse().unwrap();
    let new = NewUser {
        account: foreign,
        name: "zoe".into(),
        path: "/".into(),
        tags: Vec::new(),
    };
    world.directory.create_user(new, now()).await.unwrap();
    let all = InlinePolicy {
        name: "all".into(),
        document: ALL.into(),
    };
    world
        .directory
        .put_user_policy(foreign, "zoe", all)
        .await
        .unwrap();
    let key = world
        .directory
        .create_access_key(foreign, "zoe", now())
        .await
        .unwrap();
    let zoe = Keys {
        id: key.metadata.id.to_string(),
        secret: key.secret.expose().to_owned(),
        token: None,
    };

    let message = denial(&world, &world.bob).await;
    let (status, answer) = decode(&world, &world.ana, &message, 86_399).await;
    assert_eq!(status, 200, "{answer}");
    let result = result_of(&answer, "DecodeAuthorizationMessage");
    let decoded: Value = serde_json::from_str(result["DecodedMessage"].as_str().unwrap()).unwrap();
    assert_eq!(decoded["allowed"], false);
    assert_eq!(decoded["explicitDeny"], false);
    assert_eq!(decoded["matchedStatements"]["items"], serde_json::json!([]));
    let context = &decoded["context"];
    assert_eq!(context["action"], "iam:GetUser");
    assert_eq!(context["resource"], "arn:aws:iam::111122223333:user/ana");
    assert_eq!(
        context["principal"]["arn"],
        "arn:aws:iam::111122223333:user/bob"
    );
    let conditions = context["conditions"]["items"].as_array().unwrap();
    let source = conditions
        .iter()
        .find(|item| {
            item["key"]
                .as_str()
                .unwrap()
                .eq_ignore_ascii_case("aws:SourceIp")
        })
        .unwrap();
    assert_eq!(source["values"]["items"][0]["value"], "192.0.2.7");

    let deny = r#"{"Version":"2012-10-17","Statement":{"Sid":"NoUsers","Effect":"Deny","Action":"iam:GetUser","Resource":"*"}}"#;
    world.allow_user("bob", deny).await;
    let explicit = denial(&world, &world.bob).await;
    let (_, answer) = decode(&world, &world.ana, &explicit, 0).await;
    let result = result_of(&answer, "DecodeAuthorizationMessage");
    let decoded: Value = serde_json::from_str(result["DecodedMessage"].as_str().unwrap()).unwrap();
    assert_eq!(decoded["explicitDeny"], true);
    assert_eq!(
        decoded["matchedStatements"]["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let mut flipped = message.clone().into_bytes();
    let at = flipped.len() / 2;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let token = world.session_token().await;
    for (why, keys, message, seconds) in [
        ("too old", &world.ana, &*message, 86_400),
        ("of another account", &zoe, &message, 0),
        ("damaged", &world.ana, &flipped, 0),
        ("cut", &world.ana, &message[..message.len() - 4], 0),
        ("no message", &world.ana, "x", 0),
        ("a session token", &world.ana, &token, 0),
    ] {
        let answer = decode(&world, keys, message, seconds).await;
        assert_eq!(
            error(&answer),
            (
                400,
                "InvalidAuthorizationMessageException",
                "Message is not valid"
            ),
            "{why}"
        );
    }
    let refused = decode(&world, &world.bob, &message, 0).await;
    assert_eq!(
        error(&refused).2,
        "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: sts:DecodeAuthorizationMessage on resource: * \
         because no identity-based policy allows the sts:DecodeAuthorizationMessage action"
    );
}

impl World {
    async fn session_token(&self) -> String {
        let (_, answer) = self
            .call(&self.ana, &[("Action", "GetSessionToken")], now())
            .await;
        credentials(result_of(&answer, "GetSessionToken"))
            .token
            .unwrap()
    }
}

#[tokio::test]
async fn nobody_assumes_root() {
    let world = World::new().await;
    let root = world.root().await;
    let deny_task = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
        {"Effect":"Deny","Action":"sts:AssumeRoot","Resource":"*","Condition":{"StringLike":{"sts:TaskPolicyArn":"*S3UnlockBucketPolicy"}}}]}"#;
    let audit = "arn:aws:iam::aws:policy/root-task/IAMAuditRootUserCredentials";
    let unlock = "arn:aws:iam::aws:policy/root-task/S3UnlockBucketPolicy";
    let (own, other) = (
        "arn:aws:iam::111122223333:root",
        "arn:aws:iam::444455556666:root",
    );
    let denied = |caller: &str, target: &str, why: &str| {
        (
            403,
            "AccessDenied",
            format!(
                "User: arn:aws:iam::111122223333:{caller} is not authorized to perform: sts:AssumeRoot on resource: {target}{why}"
            ),
        )
    };
    let invalid = |message: &str| (400, "ValidationError", message.to_owned());
    let no_policy = " because no identity-based policy allows the sts:AssumeRoot action";
    let explicit = " with an explicit deny in an identity-based policy";
    world.allow_user("ana", deny_task).await;
    let table = [
        (&world.bob, own, audit, denied("user/bob", own, no_policy)),
        (&world.bob, other, audit, denied("user/bob", other, "")),
        (&world.ana, other, audit, denied("user/ana", other, "")),
        (
            &world.ana,
            "444455556666",
            audit,
            denied("user/ana", other, ""),
        ),
        (&world.ana, own, audit, denied("user/ana", own, "")),
        (&world.ana, own, unlock, denied("user/ana", own, explicit)),
        (&root, other, audit, denied("root", other, "")),
        (
            &world.ana,
            "arn:aws:iam::444455556666:user/x",
            audit,
            invalid("arn:aws:iam::444455556666:user/x is invalid"),
        ),
        (
            &world.ana,
            "no such target",
            audit,
            invalid("no such target is invalid"),
        ),
    ];
    for (keys, target, task, (status, code, message)) in table {
        let given = [
            ("Action", "AssumeRoot"),
            ("TargetPrincipal", target),
            ("TaskPolicyArn.arn", task),
        ];
        let answer = world.call(keys, &given, now()).await;
        assert_eq!(error(&answer), (status, code, &*message), "{target} {task}");
    }
    let given = [("Action", "AssumeRoot"), ("TargetPrincipal", own)];
    let answer = world.call(&world.ana, &given, now()).await;
    assert_eq!(
        error(&answer).2,
        "1 validation error detected: Value null at 'taskPolicyArn' failed to satisfy constraint: Member must not be null"
    );
}

//! What every IAM operation has in common: service, parameters, permission, pages, errors.

use countersign_store::Entity;
use countersign_store::records::InlinePolicy;

use crate::world::{Keys, World, now, part, refusal};

async fn allow(world: &World, user: &str, document: &str) {
    let policy = InlinePolicy {
        name: "p".into(),
        document: document.into(),
    };
    world
        .directory
        .put_user_policy(world.account, user, policy)
        .await
        .unwrap();
}

#[tokio::test]
async fn users_and_keys_are_made_listed_renamed_and_deleted() {
    let world = World::new().await;
    let ana = &world.ana;
    let made = world
        .iam(
            ana,
            &[
                ("Action", "CreateUser"),
                ("UserName", "Cara"),
                ("Path", "/team/"),
                ("Tags.member.1.Key", "k"),
                ("Tags.member.1.Value", "v"),
            ],
        )
        .await;
    assert_eq!(made.0, 200, "{}", made.2);
    assert_eq!(
        part(&made.2, "Arn"),
        "arn:aws:iam::111122223333:user/team/Cara"
    );
    assert_eq!(part(part(&made.2, "Tags"), "Key"), "k");
    let id = part(&made.2, "UserId").to_owned();
    let key = world
        .iam(ana, &[("Action", "CreateAccessKey"), ("UserName", "cara")])
        .await;
    assert_eq!(part(&key.2, "UserName"), "Cara");
    let keys = Keys {
        id: part(&key.2, "AccessKeyId").to_owned(),
        secret: part(&key.2, "SecretAccessKey").to_owned(),
        token: None,
    };
    allow(
        &world,
        "Cara",
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::111122223333:user/*/${aws:username}"}}"#,
    )
    .await;
    let own = world.iam(&keys, &[("Action", "GetUser")]).await;
    assert_eq!(part(&own.2, "UserId"), id, "{}", own.2);
    let renamed = world
        .iam(
            ana,
            &[
                ("Action", "UpdateUser"),
                ("UserName", "CARA"),
                ("NewUserName", "Carla"),
            ],
        )
        .await;
    assert_eq!(renamed.0, 200, "{}", renamed.2);
    assert!(!renamed.2.contains("Result"), "{}", renamed.2);
    let own = world.iam(&keys, &[("Action", "GetUser")]).await;
    assert_eq!(part(&own.2, "UserName"), "Carla");
    assert_eq!(part(&own.2, "UserId"), id);
    let last = world
        .iam(
            ana,
            &[
                ("Action", "GetAccessKeyLastUsed"),
                ("AccessKeyId", &keys.id),
            ],
        )
        .await;
    assert_eq!(part(&last.2, "Region"), "us-east-1");
    assert_eq!(part(&last.2, "ServiceName"), "iam");
    let conflict = world
        .iam(ana, &[("Action", "DeleteUser"), ("UserName", "Carla")])
        .await;
    assert_eq!(
        refusal(&conflict),
        (
            409,
            "DeleteConflict".into(),
            "Cannot delete entity, must delete policies first.".into()
        )
    );
    world
        .directory
        .delete_inline_policy(Entity::user(world.account, "Carla"), "p")
        .await
        .unwrap();
    for (action, more) in [
        ("UpdateAccessKey", Some(("Status", "Inactive"))),
        ("DeleteAccessKey", None),
    ] {
        let mut given = vec![
            ("Action", action),
            ("UserName", "Carla"),
            ("AccessKeyId", &keys.id),
        ];
        given.extend(more);
        let answer = world.iam(ana, &given).await;
        assert_eq!(answer.0, 200, "{}", answer.2);
        let refused = world.iam(&keys, &[("Action", "GetUser")]).await;
        assert_eq!(refused.0, 403, "{}", refused.2);
    }
    let deleted = world
        .iam(ana, &[("Action", "DeleteUser"), ("UserName", "Carla")])
        .await;
    assert_eq!(deleted.0, 200, "{}", deleted.2);
    let gone = world
        .iam(ana, &[("Action", "GetUser"), ("UserName", "Carla")])
        .await;
    assert_eq!(
        refusal(&gone),
        (
            404,
            "NoSuchEntity".into(),
            "The user with name Carla cannot be found.".into()
        )
    );
}

#[tokio::test]
async fn faults_of_parameters_are_told_together_in_iams_words() {
    let world = World::new().await;
    let long = "a".repeat(65);
    let table: &[(&[(&str, &str)], &str)] = &[
        (
            &[("Action", "CreateUser")],
            "1 validation error detected: Value at 'userName' failed to satisfy constraint: Member must not be null",
        ),
        (
            &[("Action", "CreateUser"), ("UserName", "a b")],
            "The specified value for userName is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-",
        ),
        (
            &[("Action", "CreateUser"), ("UserName", "a"), ("Path", "x")],
            "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.",
        ),
        (
            &[
                ("Action", "CreateUser"),
                ("UserName", &long),
                ("PermissionsBoundary", "x"),
            ],
            "2 validation errors detected: Value at 'userName' failed to satisfy constraint: Member must have length less than or equal to 64; \
             Value at 'permissionsBoundary' failed to satisfy constraint: Member must have length greater than or equal to 20",
        ),
        (
            &[("Action", "ListUsers"), ("MaxItems", "0")],
            "1 validation error detected: Value at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            &[
                ("Action", "UpdateAccessKey"),
                ("AccessKeyId", "AKIAIOSFODNN7EXAMPLE"),
                ("Status", "x"),
            ],
            "1 validation error detected: Value at 'status' failed to satisfy constraint: Member must satisfy enum value set",
        ),
        (
            &[("Action", "ListUsers"), ("Marker", "made-up")],
            "Invalid Marker.",
        ),
    ];
    for (given, message) in table {
        let answer = world.iam(&world.ana, given).await;
        assert_eq!(
            refusal(&answer),
            (400, "ValidationError".into(), (*message).to_owned()),
            "{given:?}"
        );
    }
}

#[tokio::test]
async fn permission_is_asked_before_existence_and_says_which_layer_refused() {
    let world = World::new().await;
    for name in ["ana", "nobody"] {
        let answer = world
            .iam(&world.bob, &[("Action", "GetUser"), ("UserName", name)])
            .await;
        let resource = format!("arn:aws:iam::111122223333:user/{name}");
        assert_eq!(
            refusal(&answer),
            (
                403,
                "AccessDenied".into(),
                format!(
                    "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: iam:GetUser on resource: {resource} \
                     because no identity-based policy allows the iam:GetUser action"
                )
            )
        );
        assert!(answer.1.contains_key("x-countersign-denial"));
    }
    allow(
        &world,
        "bob",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"},
            {"Effect":"Deny","Action":"iam:GetUser","Resource":"arn:aws:iam::111122223333:user/ana"},
            {"Effect":"Deny","Action":"iam:TagUser","Resource":"*"},
            {"Effect":"Deny","Action":"iam:CreateUser","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/k":"bad"}}}]}"#,
    )
    .await;
    // Letter case of the name is no way around the deny: the ARN is the one it is stored under.
    let answer = world
        .iam(&world.bob, &[("Action", "GetUser"), ("UserName", "ANA")])
        .await;
    assert_eq!(
        refusal(&answer).2,
        "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: iam:GetUser on resource: \
         arn:aws:iam::111122223333:user/ana with an explicit deny in an identity-based policy"
    );
    for (value, action) in [("good", "iam:TagUser"), ("bad", "iam:CreateUser")] {
        let answer = world
            .iam(
                &world.bob,
                &[
                    ("Action", "CreateUser"),
                    ("UserName", "new"),
                    ("Tags.member.1.Key", "k"),
                    ("Tags.member.1.Value", value),
                ],
            )
            .await;
        let (status, _, message) = refusal(&answer);
        assert_eq!(status, 403);
        assert!(
            message.contains(&format!("perform: {action} on")),
            "{message}"
        );
    }
    let made = world
        .iam(&world.bob, &[("Action", "CreateUser"), ("UserName", "new")])
        .await;
    assert_eq!(made.0, 200, "{}", made.2);
}

#[tokio::test]
async fn lists_come_in_pages_whose_markers_are_bound_to_the_call() {
    let world = World::new().await;
    for name in ["d1", "D2", "d3"] {
        let made = world
            .iam(&world.ana, &[("Action", "CreateUser"), ("UserName", name)])
            .await;
        assert_eq!(made.0, 200, "{}", made.2);
    }
    let mut names = Vec::new();
    let mut marker = String::new();
    loop {
        let mut given = vec![("Action", "ListUsers"), ("MaxItems", "2")];
        if !marker.is_empty() {
            given.push(("Marker", &marker));
        }
        let (status, _, body) = world.iam(&world.ana, &given).await;
        assert_eq!(status, 200, "{body}");
        names.extend(
            body.split("<UserName>")
                .skip(1)
                .map(|rest| rest.split('<').next().unwrap().to_owned()),
        );
        let next = part(&body, "Marker").to_owned();
        assert_eq!(part(&body, "IsTruncated"), (!next.is_empty()).to_string());
        if next.is_empty() {
            break;
        }
        assert!(next.len() <= 320);
        marker = next;
    }
    assert_eq!(names, ["ana", "bob", "d1", "D2", "d3"]);
    for given in [
        vec![
            ("Action", "ListUsers"),
            ("Marker", &*marker),
            ("PathPrefix", "/x/"),
        ],
        vec![("Action", "ListAccessKeys"), ("Marker", &*marker)],
    ] {
        let answer = world.iam(&world.ana, &given).await;
        assert_eq!(refusal(&answer).2, "Invalid Marker.", "{given:?}");
    }
    let none = world
        .iam(
            &world.ana,
            &[("Action", "ListUsers"), ("PathPrefix", "/x/")],
        )
        .await;
    assert!(none.2.contains("<Users/>"), "{}", none.2);
}

#[tokio::test]
async fn an_action_is_answered_by_the_service_it_was_signed_for_only() {
    let world = World::new().await;
    let user = [("Action", "GetUser")];
    let (status, _, body) = world
        .send(&world.ana, ("sts", "2010-05-08"), &user, now())
        .await;
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(
        (status, part(&body, "Code")),
        (403, "SignatureDoesNotMatch")
    );
    assert!(
        part(&body, "Message").contains("correct service: 'iam'"),
        "{body}"
    );
    for (service, version, action) in [
        ("iam", "2010-05-08", "GetCallerIdentity"),
        ("iam", "2010-05-08", "UploadSSHPublicKey"),
        ("iam", "2010-05-08", "AcceptDelegationRequest"),
        ("sts", "2011-06-15", "GetDelegatedAccessToken"),
    ] {
        let given = [("Action", action)];
        let (status, _, body) = world
            .send(&world.ana, (service, version), &given, now())
            .await;
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(status, 400, "{body}");
        let text = format!("Could not find operation {action} for version {version}");
        assert!(
            body.contains("InvalidAction") && body.contains(&text),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_role_session_has_no_user_of_its_own() {
    let world = World::new().await;
    let role = world
        .role(
            "dev",
            &crate::world::trusts(crate::world::ACCOUNT, crate::world::ASSUME, ""),
        )
        .await;
    world.allow_role("dev", crate::world::ALL).await;
    let session = world.session(&world.ana, &role, &[], now()).await;
    for action in ["GetUser", "CreateAccessKey", "ListAccessKeys"] {
        let answer = world.iam(&session, &[("Action", action)]).await;
        assert_eq!(
            refusal(&answer),
            (
                400,
                "ValidationError".into(),
                "Must specify userName when calling with non-User credentials".into()
            )
        );
    }
    let unknown = [
        ("Action", "GetAccessKeyLastUsed"),
        ("AccessKeyId", "AKIAIOSFODNN7EXAMPLE"),
    ];
    let answer = world.iam(&session, &unknown).await;
    assert_eq!(
        refusal(&answer).2,
        "User: arn:aws:sts::111122223333:assumed-role/dev/s1 is not authorized to perform iam:GetAccessKeyLastUsed on resource: access key AKIAIOSFODNN7EXAMPLE"
    );
}

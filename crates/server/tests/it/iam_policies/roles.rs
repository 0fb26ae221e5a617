//! Roles.

use super::{
    DOCUMENT, OF_SERVICE, POLICY, Refusal, add_role, decoded, ok, pages, part, parts, refused,
    with_policy,
};
use crate::world::{ACCOUNT, ASSUME, Given, trusts};

#[tokio::test]
async fn roles_are_made_read_listed_changed_and_deleted() {
    let world = with_policy().await;
    let trust = format!(" {}\n", trusts(ACCOUNT, ASSUME, ""));
    let made = ok(
        &world,
        "CreateRole",
        &[
            ("RoleName", "Reader"),
            ("Path", "/team//x/"),
            ("AssumeRolePolicyDocument", &trust),
            ("Description", "who reads"),
            ("MaxSessionDuration", "7200"),
            ("PermissionsBoundary", POLICY),
            ("Tags.member.1.Key", "Team"),
            ("Tags.member.1.Value", "blue"),
        ],
    )
    .await;
    assert_eq!(
        part(&made, "Arn"),
        "arn:aws:iam::111122223333:role/team//x/Reader"
    );
    assert_eq!(decoded(&part(&made, "AssumeRolePolicyDocument")), trust);
    assert_eq!(part(&made, "PermissionsBoundaryType"), "Policy");
    assert_eq!(part(&made, "PermissionsBoundaryArn"), POLICY);
    assert_eq!(part(&part(&made, "Tags"), "Value"), "blue");
    for absent in ["Description", "MaxSessionDuration", "RoleLastUsed"] {
        assert!(!made.contains(absent), "{made}");
    }
    let got = ok(&world, "GetRole", &[("RoleName", "READER")]).await;
    assert_eq!(part(&got, "RoleId"), part(&made, "RoleId"));
    assert_eq!(part(&got, "Description"), "who reads");
    assert_eq!(part(&got, "MaxSessionDuration"), "7200");
    assert!(got.contains("<RoleLastUsed/>"), "{got}");
    assert!(got.contains("<PermissionsBoundary>") && got.contains("<Tags>"));
    add_role(&world, "plain").await;
    let plain = ok(&world, "GetRole", &[("RoleName", "plain")]).await;
    assert_eq!(part(&plain, "MaxSessionDuration"), "3600");
    for absent in ["Description", "Tags", "PermissionsBoundary"] {
        assert!(!plain.contains(absent), "{plain}");
    }
    assert_eq!(
        pages(&world, "ListRoles", &[], "RoleName").await,
        ["plain", "Reader"]
    );
    let team = ok(&world, "ListRoles", &[("PathPrefix", "/team/")]).await;
    assert_eq!(parts(&team, "RoleName"), ["Reader"]);
    assert_eq!(part(&team, "MaxSessionDuration"), "7200");
    assert_eq!(part(&team, "Description"), "who reads");
    for absent in ["Tags", "PermissionsBoundary", "RoleLastUsed"] {
        assert!(!team.contains(absent), "{team}");
    }
    let updated = ok(
        &world,
        "UpdateRole",
        &[("RoleName", "reader"), ("MaxSessionDuration", "3600")],
    )
    .await;
    assert!(updated.contains("<UpdateRoleResult>"), "{updated}");
    let described = ok(
        &world,
        "UpdateRoleDescription",
        &[("RoleName", "reader"), ("Description", "again")],
    )
    .await;
    assert_eq!(part(&described, "Description"), "again");
    assert_eq!(part(&described, "MaxSessionDuration"), "3600");
    let trust = trusts("arn:aws:iam::111122223333:user/bob", ASSUME, "");
    let changed = ok(
        &world,
        "UpdateAssumeRolePolicy",
        &[("RoleName", "reader"), ("PolicyDocument", &trust)],
    )
    .await;
    assert!(!changed.contains("Result"), "{changed}");
    let shown = async || {
        let got = ok(&world, "GetRole", &[("RoleName", "reader")]).await;
        decoded(&part(&got, "AssumeRolePolicyDocument"))
    };
    assert_eq!(shown().await, trust);
    let bob = world.directory.snapshot();
    let bob = &bob.user(world.account, "bob").unwrap().record;
    let key = [("UserName", "bob"), ("AccessKeyId", &*world.bob.id)];
    ok(&world, "DeleteAccessKey", &key).await;
    ok(&world, "DeleteUser", &[("UserName", "bob")]).await;
    let gone = trust.replace("arn:aws:iam::111122223333:user/bob", &bob.id);
    assert_eq!(shown().await, gone);
    ok(&world, "CreateUser", &[("UserName", "bob")]).await;
    assert_eq!(shown().await, gone, "another bob is not trusted");
    ok(&world, "DeleteRole", &[("RoleName", "reader")]).await;
    refused(
        &world,
        "GetRole",
        &[("RoleName", "Reader")],
        (
            404,
            "NoSuchEntity",
            "The role with name Reader cannot be found.",
        ),
    )
    .await;
}

#[tokio::test]
async fn what_no_role_may_be_is_refused_in_iams_words() {
    let world = with_policy().await;
    add_role(&world, "dev").await;
    let good = trusts(ACCOUNT, ASSUME, "");
    let nobody = trusts("arn:aws:iam::111122223333:user/nobody", ASSUME, "");
    let other_action = trusts(ACCOUNT, r#""s3:Get""#, "");
    let resource = good.replace(r#""Effect""#, r#""Resource":"*","Effect""#);
    let cases: &[(Given<'_>, Refusal<'_>)] = &[
        (
            &[("RoleName", "DEV"), ("AssumeRolePolicyDocument", "x")],
            (
                409,
                "EntityAlreadyExists",
                "Role with name DEV already exists.",
            ),
        ),
        (
            &[("RoleName", "a"), ("AssumeRolePolicyDocument", "x")],
            (
                400,
                "MalformedPolicyDocument",
                "This policy contains invalid Json",
            ),
        ),
        (
            &[
                ("RoleName", "a"),
                ("AssumeRolePolicyDocument", &other_action),
            ],
            (
                400,
                "MalformedPolicyDocument",
                "AssumeRole policy may only specify STS AssumeRole actions.",
            ),
        ),
        (
            &[("RoleName", "a"), ("AssumeRolePolicyDocument", &resource)],
            (
                400,
                "MalformedPolicyDocument",
                "Has prohibited field Resource",
            ),
        ),
        (
            &[("RoleName", "a"), ("AssumeRolePolicyDocument", &nobody)],
            (
                400,
                "MalformedPolicyDocument",
                "Invalid principal in policy: \"AWS\":\"arn:aws:iam::111122223333:user/nobody\"",
            ),
        ),
        (
            &[
                ("RoleName", "a"),
                ("AssumeRolePolicyDocument", &good),
                (
                    "PermissionsBoundary",
                    "arn:aws:iam::111122223333:policy/none",
                ),
            ],
            (
                404,
                "NoSuchEntity",
                "Scope ARN: arn:aws:iam::111122223333:policy/none does not exist or is not attachable.",
            ),
        ),
        (
            &[
                ("RoleName", "a"),
                ("AssumeRolePolicyDocument", &good),
                ("PermissionsBoundary", "arn:aws:iam::111122223333:role/dev"),
            ],
            (
                400,
                "InvalidInput",
                "ARN arn:aws:iam::111122223333:role/dev is not valid.",
            ),
        ),
        (
            &[
                ("RoleName", "a"),
                ("AssumeRolePolicyDocument", &good),
                ("PermissionsBoundary", OF_SERVICE),
            ],
            (
                400,
                "PolicyNotAttachable",
                "Cannot attach a Service Role Policy to a Customer Role.",
            ),
        ),
        (
            &[
                ("RoleName", "a"),
                ("AssumeRolePolicyDocument", &good),
                ("Path", "/aws-service-role/eks.amazonaws.com/"),
            ],
            (
                400,
                "InvalidInput",
                "The path /aws-service-role/eks.amazonaws.com/ is for roles that are made by AWS.",
            ),
        ),
        (
            &[
                ("RoleName", "a"),
                ("AssumeRolePolicyDocument", &good),
                ("Tags.member.1.Key", "Team"),
                ("Tags.member.1.Value", ""),
                ("Tags.member.2.Key", "team"),
                ("Tags.member.2.Value", ""),
            ],
            (
                400,
                "InvalidInput",
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            ),
        ),
        (
            &[
                ("RoleName", "a"),
                ("AssumeRolePolicyDocument", &good),
                ("Description", "\u{7f}"),
                ("MaxSessionDuration", "3599"),
            ],
            (
                400,
                "ValidationError",
                "2 validation errors detected: Value at 'description' failed to satisfy constraint: Member must satisfy regular expression \
                 pattern: [\\u0009\\u000A\\u000D\\u0020-\\u007E\\u00A1-\\u00FF]*; Value at 'maxSessionDuration' failed to satisfy \
                 constraint: Member must have value greater than or equal to 3600",
            ),
        ),
    ];
    for (given, expected) in cases {
        refused(&world, "CreateRole", given, *expected).await;
    }
    for (action, document) in [
        ("CreateRole", "AssumeRolePolicyDocument"),
        ("UpdateAssumeRolePolicy", "PolicyDocument"),
    ] {
        let name = if action == "CreateRole" { "a" } else { "dev" };
        let large = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Sid":"{}","Effect":"Allow","Principal":{{"AWS":"{ACCOUNT}"}},"Action":"sts:AssumeRole"}}}}"#,
            "x".repeat(2048)
        );
        refused(
            &world,
            action,
            &[("RoleName", name), (document, &large)],
            (
                409,
                "LimitExceeded",
                "Cannot exceed quota for ACLSizePerRole: 2048",
            ),
        )
        .await;
    }
    refused(
        &world,
        "UpdateAssumeRolePolicy",
        &[("RoleName", "none"), ("PolicyDocument", "x")],
        (
            404,
            "NoSuchEntity",
            "The role with name none cannot be found.",
        ),
    )
    .await;
}

#[tokio::test]
async fn deleting_is_refused_while_something_hangs_on_it_in_iams_order() {
    let world = with_policy().await;
    add_role(&world, "dev").await;
    let role = ("RoleName", "dev");
    let profile = ("InstanceProfileName", "nodes");
    ok(&world, "CreateInstanceProfile", &[profile]).await;
    ok(&world, "AddRoleToInstanceProfile", &[profile, role]).await;
    let inline = ("PolicyName", "i");
    ok(
        &world,
        "PutRolePolicy",
        &[role, inline, ("PolicyDocument", DOCUMENT)],
    )
    .await;
    let policy = ("PolicyArn", POLICY);
    ok(&world, "AttachRolePolicy", &[role, policy]).await;
    let conflict = |text: &'static str| (409, "DeleteConflict", text);
    let detach = "Cannot delete entity, must detach all policies first.";
    refused(&world, "DeleteRole", &[role], conflict(detach)).await;
    refused(
        &world,
        "DeletePolicy",
        &[policy],
        conflict("Cannot delete a policy attached to entities."),
    )
    .await;
    ok(&world, "DetachRolePolicy", &[role, policy]).await;
    refused(
        &world,
        "DeleteRole",
        &[role],
        conflict("Cannot delete entity, must delete policies first."),
    )
    .await;
    ok(&world, "DeleteRolePolicy", &[role, inline]).await;
    let remove = "Cannot delete entity, must remove roles from instance profile first.";
    refused(&world, "DeleteRole", &[role], conflict(remove)).await;
    refused(
        &world,
        "DeleteInstanceProfile",
        &[profile],
        conflict(remove),
    )
    .await;
    ok(&world, "RemoveRoleFromInstanceProfile", &[profile, role]).await;
    ok(&world, "DeleteInstanceProfile", &[profile]).await;
    ok(&world, "DeleteRole", &[role]).await;
    ok(&world, "DeletePolicy", &[policy]).await;
}

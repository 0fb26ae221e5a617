//! What users and roles have: attached and inline policies, boundaries, tags.

use super::{
    ADMIN, DOCUMENT, OF_SERVICE, POLICY, add_role, decoded, ok, pages, part, parts, refused, send,
    with_policy,
};
use crate::world::World;

#[tokio::test]
async fn policies_are_attached_listed_and_detached() {
    let world = with_policy().await;
    add_role(&world, "dev").await;
    let user = ("UserName", "BOB");
    let role = ("RoleName", "Dev");
    let group = ("GroupName", "Ops");
    ok(&world, "CreateGroup", &[("GroupName", "ops")]).await;
    for (kind, entity) in [("User", user), ("Role", role), ("Group", group)] {
        let attach = format!("Attach{kind}Policy");
        let detach = format!("Detach{kind}Policy");
        let list = format!("ListAttached{kind}Policies");
        for arn in [POLICY, ADMIN, POLICY] {
            let body = ok(&world, &attach, &[entity, ("PolicyArn", arn)]).await;
            assert!(!body.contains("Result"), "{body}");
        }
        assert_eq!(
            pages(&world, &list, &[entity], "PolicyArn").await,
            [ADMIN, POLICY]
        );
        let none = ok(&world, &list, &[entity, ("PathPrefix", "/x/")]).await;
        assert!(none.contains("<AttachedPolicies/>"), "{none}");
        let table = [
            (
                "arn:aws:iam::aws:policy/NoSuchPolicy",
                (
                    404,
                    "NoSuchEntity",
                    "Policy arn:aws:iam::aws:policy/NoSuchPolicy does not exist or is not attachable.",
                ),
            ),
            (
                "arn:aws-cn:iam::aws:policy/AdministratorAccess",
                (
                    404,
                    "NoSuchEntity",
                    "Policy arn:aws-cn:iam::aws:policy/AdministratorAccess does not exist or is not attachable.",
                ),
            ),
            (
                "this-is-not-an-arn-at-all",
                (
                    400,
                    "ValidationError",
                    "ARN this-is-not-an-arn-at-all is not valid.",
                ),
            ),
            (
                OF_SERVICE,
                (
                    400,
                    "PolicyNotAttachable",
                    "Cannot attach a Service Role Policy to a Customer Role.",
                ),
            ),
        ];
        for (arn, expected) in table {
            refused(&world, &attach, &[entity, ("PolicyArn", arn)], expected).await;
        }
        ok(&world, &detach, &[entity, ("PolicyArn", ADMIN)]).await;
        refused(
            &world,
            &detach,
            &[entity, ("PolicyArn", ADMIN)],
            (
                404,
                "NoSuchEntity",
                "Policy arn:aws:iam::aws:policy/AdministratorAccess was not found.",
            ),
        )
        .await;
    }
    for (action, entity, text) in [
        (
            "AttachUserPolicy",
            ("UserName", "no"),
            "The user with name no cannot be found.",
        ),
        (
            "DetachGroupPolicy",
            ("GroupName", "no"),
            "The group with name no cannot be found.",
        ),
        (
            "AttachRolePolicy",
            ("RoleName", "no"),
            "The role with name no cannot be found.",
        ),
    ] {
        let given = [entity, ("PolicyArn", POLICY)];
        refused(&world, action, &given, (404, "NoSuchEntity", text)).await;
    }
    let bounded = [role, ("PermissionsBoundary", ADMIN)];
    ok(&world, "PutRolePermissionsBoundary", &bounded).await;
    let got = ok(&world, "GetPolicy", &[("PolicyArn", POLICY)]).await;
    assert_eq!(part(&got, "AttachmentCount"), "3");
    assert!(got.contains("<Tags/>"), "{got}");
    let got = ok(&world, "GetPolicy", &[("PolicyArn", ADMIN)]).await;
    assert_eq!(part(&got, "AttachmentCount"), "0");
    assert_eq!(part(&got, "PermissionsBoundaryUsageCount"), "1");
    let users = ok(&world, "ListEntitiesForPolicy", &[("PolicyArn", POLICY)]).await;
    assert_eq!(parts(&users, "UserName"), ["bob"]);
    assert_eq!(parts(&users, "RoleName"), ["dev"]);
    assert_eq!(parts(&users, "GroupName"), ["ops"]);
    let users = ok(&world, "ListEntitiesForPolicy", &[("PolicyArn", ADMIN)]).await;
    assert!(users.contains("<PolicyGroups/>"), "{users}");
    for (filter, usage, expected) in [
        (Some("Role"), None, ["", "dev"]),
        (Some("User"), None, ["bob", ""]),
        (Some("Group"), None, ["", ""]),
        (None, Some("PermissionsBoundary"), ["", ""]),
        (None, Some("PermissionsPolicy"), ["bob", "dev"]),
    ] {
        let mut given = vec![("PolicyArn", POLICY)];
        given.extend(filter.map(|filter| ("EntityFilter", filter)));
        given.extend(usage.map(|usage| ("PolicyUsageFilter", usage)));
        let body = ok(&world, "ListEntitiesForPolicy", &given).await;
        assert_eq!([part(&body, "UserName"), part(&body, "RoleName")], expected);
    }
    let given = [("PolicyArn", POLICY)];
    assert_eq!(
        pages(&world, "ListEntitiesForPolicy", &given, "member")
            .await
            .len(),
        3
    );
}

#[tokio::test]
async fn inline_policies_are_put_read_listed_and_deleted() {
    let world = World::new().await;
    add_role(&world, "dev").await;
    ok(&world, "CreateGroup", &[("GroupName", "ops")]).await;
    for (kind, entity, canonical, limit) in [
        ("User", ("UserName", "BOB"), "bob", 2048),
        ("Role", ("RoleName", "DEV"), "dev", 10_240),
        ("Group", ("GroupName", "OPS"), "ops", 5120),
    ] {
        let [put, get, list, delete] = [
            format!("Put{kind}Policy"),
            format!("Get{kind}Policy"),
            format!("List{kind}Policies"),
            format!("Delete{kind}Policy"),
        ];
        for name in ["b", "B", "a", "b"] {
            let given = [entity, ("PolicyName", name), ("PolicyDocument", DOCUMENT)];
            ok(&world, &put, &given).await;
        }
        let named = [entity, ("PolicyName", "b")];
        let got = ok(&world, &get, &named).await;
        assert_eq!(decoded(&part(&got, "PolicyDocument")), DOCUMENT);
        assert_eq!(part(&got, &format!("{kind}Name")), canonical);
        assert_eq!(
            pages(&world, &list, &[entity], "member").await,
            ["a", "B", "b"]
        );
        ok(&world, &delete, &named).await;
        let text = format!(
            "The {} policy with name b cannot be found.",
            kind.to_lowercase()
        );
        for action in [&get, &delete] {
            refused(&world, action, &named, (404, "NoSuchEntity", &text)).await;
        }
        let large = DOCUMENT.replace("s3:Get*", &format!("s3:{}", "x".repeat(limit)));
        let text = format!(
            "Maximum policy size of {limit} bytes exceeded for {} {canonical}",
            kind.to_lowercase()
        );
        let given = [entity, ("PolicyName", "c"), ("PolicyDocument", &*large)];
        refused(&world, &put, &given, (409, "LimitExceeded", &text)).await;
    }
    for (action, given, text) in [
        (
            "PutUserPolicy",
            [
                ("UserName", "no"),
                ("PolicyName", "p"),
                ("PolicyDocument", "x"),
            ],
            "The user with name no cannot be found.",
        ),
        (
            "PutGroupPolicy",
            [
                ("GroupName", "no"),
                ("PolicyName", "p"),
                ("PolicyDocument", "x"),
            ],
            "The group with name no cannot be found.",
        ),
        (
            "PutRolePolicy",
            [
                ("RoleName", "no"),
                ("PolicyName", "p"),
                ("PolicyDocument", "x"),
            ],
            "The role with name no cannot be found.",
        ),
    ] {
        refused(&world, action, &given, (404, "NoSuchEntity", text)).await;
    }
}

#[tokio::test]
async fn boundaries_limit_what_policies_allow() {
    let world = with_policy().await;
    let bob = ("UserName", "bob");
    let may = async |expected: u16| {
        let (status, body) = send(&world, &world.bob, "ListUsers", &[]).await;
        assert_eq!(status, expected, "{body}");
        body
    };
    let admin = [bob, ("PolicyArn", ADMIN)];
    may(403).await;
    ok(&world, "AttachUserPolicy", &admin).await;
    may(200).await;
    let put = async |arn: &str| {
        let given = [bob, ("PermissionsBoundary", arn)];
        ok(&world, "PutUserPermissionsBoundary", &given).await
    };
    put(POLICY).await;
    let body = may(403).await;
    assert!(
        body.contains("because no permissions boundary allows the iam:ListUsers action"),
        "{body}"
    );
    put(ADMIN).await;
    may(200).await;
    let got = ok(&world, "GetUser", &[bob]).await;
    assert_eq!(part(&got, "PermissionsBoundaryArn"), ADMIN);
    for _ in 0..2 {
        ok(&world, "DeleteUserPermissionsBoundary", &[bob]).await;
    }
    let got = ok(&world, "GetUser", &[bob]).await;
    assert!(!got.contains("PermissionsBoundary"), "{got}");
    may(200).await;
    refused(
        &world,
        "PutUserPermissionsBoundary",
        &[
            bob,
            ("PermissionsBoundary", "arn:aws:iam::111122223333:user/bob"),
        ],
        (
            400,
            "InvalidInput",
            "ARN arn:aws:iam::111122223333:user/bob is not valid.",
        ),
    )
    .await;
    ok(&world, "DetachUserPolicy", &admin).await;
    may(403).await;
}

#[tokio::test]
async fn tags_are_put_replaced_listed_and_removed() {
    let world = with_policy().await;
    add_role(&world, "dev").await;
    ok(
        &world,
        "CreateInstanceProfile",
        &[("InstanceProfileName", "nodes")],
    )
    .await;
    for (kind, entity, expected) in [
        ("User", ("UserName", "bob"), ["TEAM", "other"].as_slice()),
        ("Role", ("RoleName", "dev"), &["TEAM", "other"]),
        (
            "InstanceProfile",
            ("InstanceProfileName", "nodes"),
            &["TEAM", "other"],
        ),
        ("Policy", ("PolicyArn", POLICY), &["team", "other", "TEAM"]),
    ] {
        let [tag, untag, list] = [
            format!("Tag{kind}"),
            format!("Untag{kind}"),
            format!("List{kind}Tags"),
        ];
        if kind == "User" {
            let given = [entity, ("TagKeys.member.1", "Team")];
            ok(&world, &untag, &given).await;
        }
        for keys in [["team", "other"], ["TEAM", "other"]] {
            let given = [
                entity,
                ("Tags.member.1.Key", keys[0]),
                ("Tags.member.1.Value", "1"),
                ("Tags.member.2.Key", keys[1]),
                ("Tags.member.2.Value", ""),
            ];
            ok(&world, &tag, &given).await;
        }
        assert_eq!(pages(&world, &list, &[entity], "Key").await, expected);
        let given = [
            entity,
            ("TagKeys.member.1", "team"),
            ("TagKeys.member.2", "absent"),
        ];
        ok(&world, &untag, &given).await;
        assert_eq!(
            pages(&world, &list, &[entity], "Key").await.len(),
            expected.len() - 1
        );
        let reserved = [
            entity,
            ("Tags.member.1.Key", "AWS:x"),
            ("Tags.member.1.Value", ""),
        ];
        let text = "Tag keys beginning with aws: are reserved.";
        refused(&world, &tag, &reserved, (400, "InvalidInput", text)).await;
        let names: Vec<_> = (1..=50)
            .map(|n| {
                [
                    (format!("Tags.member.{n}.Key"), format!("n{n}")),
                    (format!("Tags.member.{n}.Value"), String::new()),
                ]
            })
            .collect();
        let mut given = vec![entity];
        given.extend(
            names
                .iter()
                .flatten()
                .map(|(name, value)| (&**name, &**value)),
        );
        refused(
            &world,
            &tag,
            &given,
            (
                409,
                "LimitExceeded",
                "The number of tags has reached the maximum limit.",
            ),
        )
        .await;
    }
    refused(
        &world,
        "TagRole",
        &[
            ("RoleName", "no"),
            ("Tags.member.1.Key", "a"),
            ("Tags.member.1.Value", ""),
        ],
        (
            404,
            "NoSuchEntity",
            "The role with name no cannot be found.",
        ),
    )
    .await;
    refused(
        &world,
        "UntagRole",
        &[("RoleName", "dev"), ("TagKeys.member.1", "a#b")],
        (
            400,
            "ValidationError",
            "1 validation error detected: Value at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [Member must have \
             length less than or equal to 128, Member must have length greater than or equal to 1, Member must satisfy regular expression \
             pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+]",
        ),
    )
    .await;
}

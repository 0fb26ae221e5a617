//! Roles, managed policies, attachments, inline policies, boundaries, instance profiles, tags and service-linked roles: what
//! IAM answers, word by word.

use countersign_store::records::{AwsPolicy, PolicyVersion};
use countersign_store::{NewCluster, records::AuthenticationMode, records::Creator};

use crate::world::{ACCOUNT, ASSUME, Given, Keys, World, now, trusts};

const POLICY: &str = "arn:aws:iam::111122223333:policy/p";
const ADMIN: &str = "arn:aws:iam::aws:policy/AdministratorAccess";
const OF_SERVICE: &str = "arn:aws:iam::aws:policy/aws-service-role/AmazonEKSServiceRolePolicy";
const DOCUMENT: &str = " {\"Version\": \"2012-10-17\",\n\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"s3:Get*\",\"Resource\":\"*\"}}\t";

fn parts(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open)
        .skip(1)
        .map(|rest| rest.split(&close).next().unwrap().to_owned())
        .collect()
}

fn part(text: &str, name: &str) -> String {
    parts(text, name).into_iter().next().unwrap_or_default()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

async fn send(world: &World, keys: &Keys, action: &str, more: Given<'_>) -> (u16, String) {
    let mut given = vec![("Action", action)];
    given.extend(more);
    let (status, _, body) = world.iam(keys, &given).await;
    (status, body)
}

/// An answer that must be a success.
async fn ok(world: &World, action: &str, more: Given<'_>) -> String {
    let (status, body) = send(world, &world.ana, action, more).await;
    assert_eq!(status, 200, "{action}: {body}");
    body
}

/// An answer that must be this error.
async fn refused(world: &World, action: &str, more: Given<'_>, expected: (u16, &str, &str)) {
    let (status, body) = send(world, &world.ana, action, more).await;
    let message = part(&body, "Message")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&amp;", "&");
    assert_eq!(
        (status, &*part(&body, "Code"), &*message),
        expected,
        "{action} {more:?}"
    );
}

/// All pages of a list, one entry each.
async fn pages(world: &World, action: &str, more: Given<'_>, entry: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut marker = String::new();
    loop {
        let mut given = vec![("MaxItems", "1")];
        given.extend(more);
        if !marker.is_empty() {
            given.push(("Marker", &marker));
        }
        let body = ok(world, action, &given).await;
        let found = parts(&body, entry);
        assert!(found.len() <= 1, "{body}");
        all.extend(found);
        let next = part(&body, "Marker");
        assert_eq!(part(&body, "IsTruncated"), (!next.is_empty()).to_string());
        if next.is_empty() {
            return all;
        }
        assert!(next.len() <= 320, "{}", next.len());
        marker = next;
    }
}

async fn with_policy() -> World {
    let world = World::new().await;
    ok(
        &world,
        "CreatePolicy",
        &[("PolicyName", "p"), ("PolicyDocument", DOCUMENT)],
    )
    .await;
    world
}

async fn add_role(world: &World, name: &str) {
    let trust = trusts(ACCOUNT, ASSUME, "");
    let given = [("RoleName", name), ("AssumeRolePolicyDocument", &*trust)];
    ok(world, "CreateRole", &given).await;
}

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
    let cases: &[(&[(&str, &str)], (u16, &str, &str))] = &[
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

#[tokio::test]
async fn policies_have_versions_and_come_back_byte_for_byte() {
    let world = World::new().await;
    let made = ok(
        &world,
        "CreatePolicy",
        &[
            ("PolicyName", "Deploy"),
            ("Path", "/team/"),
            ("PolicyDocument", DOCUMENT),
            ("Description", "what deploys"),
            ("Tags.member.1.Key", "k"),
            ("Tags.member.1.Value", "v"),
        ],
    )
    .await;
    let arn = "arn:aws:iam::111122223333:policy/team/Deploy";
    for (member, value) in [
        ("Arn", arn),
        ("Path", "/team/"),
        ("DefaultVersionId", "v1"),
        ("AttachmentCount", "0"),
        ("PermissionsBoundaryUsageCount", "0"),
        ("IsAttachable", "true"),
        ("UpdateDate", "2026-03-14T09:26:53Z"),
        ("Value", "v"),
    ] {
        assert_eq!(part(&made, member), value, "{made}");
    }
    assert!(!made.contains("Description") && !made.contains("Document"));
    let policy = ("PolicyArn", arn);
    let got = ok(&world, "GetPolicy", &[policy]).await;
    assert_eq!(part(&got, "Description"), "what deploys");
    assert_eq!(part(&got, "PolicyId"), part(&made, "PolicyId"));
    assert!(!got.contains("Document"));
    let text = DOCUMENT.replace("s3:Get*", "s3:Put*");
    let version = async |text: &str, default| {
        let given = [policy, ("PolicyDocument", text), ("SetAsDefault", default)];
        ok(&world, "CreatePolicyVersion", &given).await
    };
    let second = version(&text, "false").await;
    assert_eq!(part(&second, "VersionId"), "v2");
    assert_eq!(part(&second, "IsDefaultVersion"), "false");
    assert!(!second.contains("Document"), "{second}");
    assert_eq!(part(&version("{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Deny\",\"Action\":\"*\",\"Resource\":\"*\"}]}", "true").await, "IsDefaultVersion"), "true");
    let got = ok(&world, "GetPolicyVersion", &[policy, ("VersionId", "v2")]).await;
    assert_eq!(decoded(&part(&got, "Document")), text);
    assert_eq!(part(&got, "IsDefaultVersion"), "false");
    assert_eq!(
        pages(&world, "ListPolicyVersions", &[policy], "VersionId").await,
        ["v1", "v2", "v3"]
    );
    let got = ok(&world, "GetPolicy", &[policy]).await;
    assert_eq!(part(&got, "DefaultVersionId"), "v3");
    refused(
        &world,
        "DeletePolicyVersion",
        &[policy, ("VersionId", "v3")],
        (
            409,
            "DeleteConflict",
            "Cannot delete the default version of a policy.",
        ),
    )
    .await;
    ok(
        &world,
        "SetDefaultPolicyVersion",
        &[policy, ("VersionId", "v2")],
    )
    .await;
    ok(
        &world,
        "DeletePolicyVersion",
        &[policy, ("VersionId", "v3")],
    )
    .await;
    for expected in ["v4", "v5", "v6"] {
        assert_eq!(part(&version(&text, "false").await, "VersionId"), expected);
    }
    refused(
        &world,
        "CreatePolicyVersion",
        &[policy, ("PolicyDocument", &text)],
        (
            409,
            "LimitExceeded",
            "A managed policy can have up to 5 versions. Before you create a new version, you must delete an existing version.",
        ),
    )
    .await;
    refused(
        &world,
        "DeletePolicy",
        &[policy],
        (
            409,
            "DeleteConflict",
            "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. \
             The default version is deleted with the policy.",
        ),
    )
    .await;
    for number in ["v9", "v1.x", "v99999999999"] {
        let text = format!("Policy {arn} version {number} does not exist or is not attachable.");
        for action in [
            "GetPolicyVersion",
            "SetDefaultPolicyVersion",
            "DeletePolicyVersion",
        ] {
            let given = [policy, ("VersionId", number)];
            refused(&world, action, &given, (404, "NoSuchEntity", &text)).await;
        }
    }
    for number in ["v1", "v4", "v5", "v6"] {
        ok(
            &world,
            "DeletePolicyVersion",
            &[policy, ("VersionId", number)],
        )
        .await;
    }
    ok(&world, "DeletePolicy", &[policy]).await;
    let none = format!("Policy {arn} was not found.");
    for action in ["GetPolicy", "DeletePolicy", "ListPolicyTags"] {
        refused(&world, action, &[policy], (404, "NoSuchEntity", &none)).await;
    }
    let none = format!("Policy {arn} does not exist or is not attachable.");
    for action in ["ListPolicyVersions", "ListEntitiesForPolicy"] {
        refused(&world, action, &[policy], (404, "NoSuchEntity", &none)).await;
    }
}

#[tokio::test]
async fn policies_that_may_not_be_made_or_changed_are_refused_in_iams_words() {
    let world = with_policy().await;
    let malformed = |text: &'static str| (400, "MalformedPolicyDocument", text);
    let large = DOCUMENT.replace("s3:Get*", &format!("s3:{}", "x".repeat(6144)));
    let documents: &[(&str, (u16, &str, &str))] = &[
        ("x", malformed("Syntax errors in policy.")),
        (
            r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#,
            malformed("Policy document must be version 2012-10-17 or greater."),
        ),
        (
            r#"{"Version":"2012-10-17","Statement":{"Effect":"allow","Action":"s3:*","Resource":"*"}}"#,
            malformed("The policy failed legacy parsing"),
        ),
        (
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"invalid"}}"#,
            malformed("Policy statement must contain resources."),
        ),
        (
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s:3:ListBucket","Resource":"sdfsadf"}}"#,
            malformed("Resource sdfsadf must be in ARN format or \"*\"."),
        ),
        (
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":""}}"#,
            malformed("Resource  must be in ARN format or \"*\"."),
        ),
        (
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"","Resource":"*"}}"#,
            malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."),
        ),
        (
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"a a:b","Resource":"*"}}"#,
            malformed("Vendor a a is not valid"),
        ),
        (
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::111122223333:x"}}"#,
            malformed(
                "IAM resource path must either be \"*\", root, or start with user/, federated-user/, role/, group/, instance-profile/, \
                 mfa/, server-certificate/, policy/, sms-mfa/, saml-provider/, oidc-provider/, report/, access-report/.",
            ),
        ),
        (
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}}"#,
            malformed("Policy document should not specify a principal."),
        ),
        (
            &large,
            (
                409,
                "LimitExceeded",
                "Cannot exceed quota for PolicySize: 6144",
            ),
        ),
    ];
    for (document, expected) in documents {
        let document = ("PolicyDocument", *document);
        let name = ("PolicyName", "q");
        refused(&world, "CreatePolicy", &[name, document], *expected).await;
        let arn = ("PolicyArn", POLICY);
        refused(&world, "CreatePolicyVersion", &[arn, document], *expected).await;
        if expected.1 == "MalformedPolicyDocument" {
            let given = [("UserName", "bob"), name, document];
            refused(&world, "PutUserPolicy", &given, *expected).await;
        }
    }
    refused(
        &world,
        "CreatePolicy",
        &[("PolicyName", "P"), ("PolicyDocument", "x")],
        (
            409,
            "EntityAlreadyExists",
            "A policy called P already exists. Duplicate names are not allowed.",
        ),
    )
    .await;
    refused(
        &world,
        "CreatePolicy",
        &[
            ("PolicyName", "q"),
            ("PolicyDocument", DOCUMENT),
            ("Tags.member.1.Key", "a"),
            ("Tags.member.1.Value", ""),
            ("Tags.member.2.Key", "a"),
            ("Tags.member.2.Value", ""),
        ],
        (400, "InvalidInput", "Duplicate tag keys found."),
    )
    .await;
    let version = ("VersionId", "v1");
    let document = ("PolicyDocument", DOCUMENT);
    let admin = ("PolicyArn", ADMIN);
    let tag = [("Tags.member.1.Key", "a"), ("Tags.member.1.Value", "")];
    let update = "Cannot update policies outside your own account.";
    let table: &[(&str, &[(&str, &str)], &str)] = &[
        (
            "DeletePolicy",
            &[admin],
            "Cannot delete policies outside your own account.",
        ),
        (
            "DeletePolicyVersion",
            &[admin, version],
            "Cannot delete policy versions for policies outside your own account.",
        ),
        ("CreatePolicyVersion", &[admin, document], update),
        ("SetDefaultPolicyVersion", &[admin, version], update),
        ("TagPolicy", &[admin, tag[0], tag[1]], update),
        ("UntagPolicy", &[admin, ("TagKeys.member.1", "a")], update),
    ];
    for (action, given, text) in table {
        refused(&world, action, given, (403, "AccessDenied", text)).await;
    }
}

#[tokio::test]
async fn policies_are_attached_listed_and_detached() {
    let world = with_policy().await;
    add_role(&world, "dev").await;
    let user = ("UserName", "BOB");
    let role = ("RoleName", "Dev");
    for (kind, entity) in [("User", user), ("Role", role)] {
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
    assert_eq!(part(&got, "AttachmentCount"), "2");
    assert!(got.contains("<Tags/>"), "{got}");
    let got = ok(&world, "GetPolicy", &[("PolicyArn", ADMIN)]).await;
    assert_eq!(part(&got, "AttachmentCount"), "0");
    assert_eq!(part(&got, "PermissionsBoundaryUsageCount"), "1");
    let users = ok(&world, "ListEntitiesForPolicy", &[("PolicyArn", POLICY)]).await;
    assert_eq!(parts(&users, "UserName"), ["bob"]);
    assert_eq!(parts(&users, "RoleName"), ["dev"]);
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
        2
    );
}

#[tokio::test]
async fn policies_are_listed_by_scope_and_use() {
    let world = with_policy().await;
    let long = "Z".repeat(128);
    ok(
        &world,
        "CreatePolicy",
        &[
            ("PolicyName", &*long),
            ("Path", "/team/"),
            ("PolicyDocument", DOCUMENT),
        ],
    )
    .await;
    ok(
        &world,
        "AttachUserPolicy",
        &[("UserName", "bob"), ("PolicyArn", POLICY)],
    )
    .await;
    ok(
        &world,
        "PutUserPermissionsBoundary",
        &[("UserName", "bob"), ("PermissionsBoundary", ADMIN)],
    )
    .await;
    let all = pages(&world, "ListPolicies", &[], "PolicyName").await;
    assert!(all.len() >= 44, "{}", all.len());
    assert_eq!(all[all.len() - 2..], ["p".to_owned(), long.clone()]);
    for (given, expected) in [
        (vec![("Scope", "Local")], vec!["p", &*long]),
        (
            vec![("Scope", "Local"), ("PathPrefix", "/team/")],
            vec![&*long],
        ),
        (vec![("OnlyAttached", "true")], vec!["p"]),
        (vec![("PolicyUsageFilter", "PermissionsPolicy")], vec!["p"]),
        (
            vec![("PolicyUsageFilter", "PermissionsBoundary")],
            vec!["AdministratorAccess"],
        ),
        (
            vec![("Scope", "AWS"), ("PathPrefix", "/service-role/")],
            vec!["AmazonEBSCSIDriverPolicy", "AmazonEFSCSIDriverPolicy"],
        ),
    ] {
        assert_eq!(
            pages(&world, "ListPolicies", &given, "PolicyName").await,
            expected
        );
    }
    let listed = ok(&world, "ListPolicies", &[("Scope", "Local")]).await;
    assert!(!listed.contains("<Tags") && !listed.contains("Description"));
    let admin = [("PolicyArn", ADMIN), ("VersionId", "v1")];
    let version = ok(&world, "GetPolicyVersion", &admin).await;
    assert!(decoded(&part(&version, "Document")).contains("\"Action\""));
    let versions = ok(&world, "ListPolicyVersions", &[("PolicyArn", ADMIN)]).await;
    assert_eq!(parts(&versions, "VersionId"), ["v1"]);
    let tags = ok(&world, "ListPolicyTags", &[("PolicyArn", ADMIN)]).await;
    assert!(tags.contains("<Tags/>"), "{tags}");
    let imported = AwsPolicy {
        name: "ViewOnlyAccess".into(),
        path: "/job-function/".into(),
        id: "ANPAI22R6XPEATWPFPI7A".into(),
        created: now(),
        updated: now(),
        description: Some("sees".into()),
        versions: vec![PolicyVersion {
            number: 17,
            created: now(),
            document: DOCUMENT.into(),
        }],
        default_version: 17,
    };
    let arn = (
        "PolicyArn",
        "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess",
    );
    let attach = [("UserName", "bob"), arn];
    refused(
        &world,
        "AttachUserPolicy",
        &attach,
        (
            404,
            "NoSuchEntity",
            "Policy arn:aws:iam::aws:policy/job-function/ViewOnlyAccess does not exist or is not attachable.",
        ),
    )
    .await;
    world
        .directory
        .import_aws_policies(&[imported])
        .await
        .unwrap();
    ok(&world, "AttachUserPolicy", &attach).await;
    let got = ok(&world, "GetPolicy", &[arn]).await;
    assert_eq!(part(&got, "PolicyId"), "ANPAI22R6XPEATWPFPI7A");
    assert_eq!(part(&got, "DefaultVersionId"), "v17");
}

#[tokio::test]
async fn inline_policies_are_put_read_listed_and_deleted() {
    let world = World::new().await;
    add_role(&world, "dev").await;
    for (kind, entity, canonical, limit) in [
        ("User", ("UserName", "BOB"), "bob", 2048),
        ("Role", ("RoleName", "DEV"), "dev", 10_240),
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
async fn instance_profiles_hold_a_role() {
    let world = World::new().await;
    for name in ["node", "other"] {
        add_role(&world, name).await;
    }
    let profile = ("InstanceProfileName", "NODES");
    let made = ok(
        &world,
        "CreateInstanceProfile",
        &[
            ("InstanceProfileName", "Nodes"),
            ("Path", "/eks/"),
            ("Tags.member.1.Key", "k"),
            ("Tags.member.1.Value", "v"),
        ],
    )
    .await;
    assert_eq!(
        part(&made, "Arn"),
        "arn:aws:iam::111122223333:instance-profile/eks/Nodes"
    );
    assert!(
        made.contains("<Roles/>") && made.contains("<Tags>"),
        "{made}"
    );
    refused(
        &world,
        "CreateInstanceProfile",
        &[profile],
        (
            409,
            "EntityAlreadyExists",
            "Instance Profile NODES already exists.",
        ),
    )
    .await;
    let role = ("RoleName", "node");
    let absent = [profile, ("RoleName", "other")];
    refused(
        &world,
        "RemoveRoleFromInstanceProfile",
        &absent,
        (
            404,
            "NoSuchEntity",
            "Role other in Instance Profile NODES cannot be found.",
        ),
    )
    .await;
    let none = ok(&world, "ListInstanceProfilesForRole", &[role]).await;
    assert!(none.contains("<InstanceProfiles/>"), "{none}");
    ok(&world, "AddRoleToInstanceProfile", &[profile, role]).await;
    refused(
        &world,
        "AddRoleToInstanceProfile",
        &absent,
        (
            409,
            "LimitExceeded",
            "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1",
        ),
    )
    .await;
    let got = ok(&world, "GetInstanceProfile", &[profile]).await;
    assert_eq!(part(&got, "RoleName"), "node");
    assert!(got.contains("AssumeRolePolicyDocument") && !got.contains("MaxSessionDuration"));
    assert_eq!(part(&part(&got, "Tags"), "Key"), "k");
    ok(
        &world,
        "CreateInstanceProfile",
        &[("InstanceProfileName", "more")],
    )
    .await;
    ok(
        &world,
        "AddRoleToInstanceProfile",
        &[("InstanceProfileName", "more"), role],
    )
    .await;
    for action in ["ListInstanceProfiles", "ListInstanceProfilesForRole"] {
        let given: &[(&str, &str)] = if action == "ListInstanceProfiles" {
            &[]
        } else {
            &[role]
        };
        assert_eq!(
            pages(&world, action, given, "InstanceProfileName").await,
            ["more", "Nodes"],
            "{action}"
        );
    }
    let eks = ok(&world, "ListInstanceProfiles", &[("PathPrefix", "/eks/")]).await;
    assert_eq!(parts(&eks, "InstanceProfileName"), ["Nodes"]);
    let none = ("InstanceProfileName", "none");
    for (action, given) in [
        ("GetInstanceProfile", vec![none]),
        ("DeleteInstanceProfile", vec![none]),
        ("AddRoleToInstanceProfile", vec![none, role]),
        ("ListInstanceProfileTags", vec![none]),
    ] {
        let text = "Instance Profile none cannot be found.";
        refused(&world, action, &given, (404, "NoSuchEntity", text)).await;
    }
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

#[tokio::test]
async fn service_linked_roles_are_made_protected_and_deleted() {
    let world = World::new().await;
    let eks = ("AWSServiceName", "eks.amazonaws.com");
    let made = ok(&world, "CreateServiceLinkedRole", &[eks]).await;
    let name = "AWSServiceRoleForAmazonEKS";
    assert_eq!(
        part(&made, "Arn"),
        format!("arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/{name}")
    );
    assert!(
        decoded(&part(&made, "AssumeRolePolicyDocument")).contains("eks.amazonaws.com"),
        "{made}"
    );
    let role = ("RoleName", name);
    let attached = ok(&world, "ListAttachedRolePolicies", &[role]).await;
    assert_eq!(part(&attached, "PolicyArn"), OF_SERVICE);
    let input = |text: &'static str| (400, "InvalidInput", text);
    refused(
        &world,
        "CreateServiceLinkedRole",
        &[eks],
        input(
            "Service role name AWSServiceRoleForAmazonEKS has been taken in this account, please try a different suffix.",
        ),
    )
    .await;
    refused(
        &world,
        "CreateServiceLinkedRole",
        &[eks, ("CustomSuffix", "x")],
        input("Custom suffix is not allowed for eks.amazonaws.com"),
    )
    .await;
    refused(
        &world,
        "CreateServiceLinkedRole",
        &[("AWSServiceName", "x.amazonaws.com")],
        input("x.amazonaws.com has no service-linked role."),
    )
    .await;
    let scaling = [
        ("AWSServiceName", "autoscaling.amazonaws.com"),
        ("CustomSuffix", "x"),
    ];
    let made = ok(&world, "CreateServiceLinkedRole", &scaling).await;
    assert_eq!(part(&made, "RoleName"), "AWSServiceRoleForAutoScaling_x");
    let protected = "Cannot perform the operation on the protected role 'AWSServiceRoleForAmazonEKS' - this role is only modifiable by AWS";
    let trust = trusts(ACCOUNT, ASSUME, "");
    ok(
        &world,
        "CreateInstanceProfile",
        &[("InstanceProfileName", "nodes")],
    )
    .await;
    let table: &[(&str, &[(&str, &str)])] = &[
        ("DeleteRole", &[role]),
        ("UpdateRole", &[role]),
        (
            "UpdateAssumeRolePolicy",
            &[role, ("PolicyDocument", &trust)],
        ),
        ("AttachRolePolicy", &[role, ("PolicyArn", ADMIN)]),
        ("DetachRolePolicy", &[role, ("PolicyArn", OF_SERVICE)]),
        (
            "PutRolePolicy",
            &[role, ("PolicyName", "p"), ("PolicyDocument", DOCUMENT)],
        ),
        ("DeleteRolePolicy", &[role, ("PolicyName", "p")]),
        (
            "PutRolePermissionsBoundary",
            &[role, ("PermissionsBoundary", ADMIN)],
        ),
        ("DeleteRolePermissionsBoundary", &[role]),
        (
            "AddRoleToInstanceProfile",
            &[role, ("InstanceProfileName", "nodes")],
        ),
    ];
    for (action, given) in table {
        refused(
            &world,
            action,
            given,
            (400, "UnmodifiableEntity", protected),
        )
        .await;
    }
    let described = [role, ("Description", "ours")];
    ok(&world, "UpdateRoleDescription", &described).await;
    let cluster = NewCluster {
        account: world.account,
        region: "eu-central-1".into(),
        name: "prod".into(),
        authentication_mode: AuthenticationMode::ConfigMap,
        bootstrap_creator_admin: true,
        creator: Creator {
            principal_arn: "arn:aws:iam::111122223333:user/ana".into(),
            principal_id: "AIDA".into(),
        },
        endpoint: None,
        certificate_authority: None,
    };
    world
        .directory
        .create_cluster(cluster, now())
        .await
        .unwrap();
    let delete = async || {
        let body = ok(&world, "DeleteServiceLinkedRole", &[role]).await;
        let task = part(&body, "DeletionTaskId");
        let given = [("DeletionTaskId", &*task)];
        ok(&world, "GetServiceLinkedRoleDeletionStatus", &given).await
    };
    let failed = delete().await;
    assert_eq!(part(&failed, "Status"), "FAILED");
    assert_eq!(part(&failed, "Region"), "eu-central-1");
    assert!(failed.contains("<member>arn:aws:eks:eu-central-1:111122223333:cluster/prod</member>"));
    world
        .directory
        .delete_cluster(world.account, "eu-central-1", "prod")
        .await
        .unwrap();
    let deleted = delete().await;
    assert_eq!(part(&deleted, "Status"), "SUCCEEDED");
    assert!(!deleted.contains("Reason"), "{deleted}");
    refused(
        &world,
        "DeleteServiceLinkedRole",
        &[role],
        (
            404,
            "NoSuchEntity",
            "The role with name AWSServiceRoleForAmazonEKS cannot be found.",
        ),
    )
    .await;
    let task = "task/aws-service-role/eks.amazonaws.com/x/y";
    refused(
        &world,
        "GetServiceLinkedRoleDeletionStatus",
        &[("DeletionTaskId", task)],
        (
            404,
            "NoSuchEntity",
            "The deletion task with id task/aws-service-role/eks.amazonaws.com/x/y cannot be found.",
        ),
    )
    .await;
}

/// Every operation, called by somebody who may do nothing: refused before it is looked whether anything exists.
#[tokio::test]
async fn nothing_is_done_without_permission() {
    const ROLE: &str = "arn:aws:iam::111122223333:role/r";
    const USER: &str = "arn:aws:iam::111122223333:user/u";
    const GROUP: &str = "arn:aws:iam::111122223333:group/g";
    const PROFILE: &str = "arn:aws:iam::111122223333:instance-profile/i";
    let world = World::new().await;
    let (role, user, group) = (("RoleName", "r"), ("UserName", "u"), ("GroupName", "g"));
    let (profile, policy) = (("InstanceProfileName", "i"), ("PolicyArn", POLICY));
    let (named, document) = (("PolicyName", "p"), ("PolicyDocument", "x"));
    let boundary = ("PermissionsBoundary", POLICY);
    let trust = ("AssumeRolePolicyDocument", "x");
    let tag = [("Tags.member.1.Key", "k"), ("Tags.member.1.Value", "v")];
    let key = ("TagKeys.member.1", "k");
    let version = ("VersionId", "v1");
    let oidc = (
        "OpenIDConnectProviderArn",
        "arn:aws:iam::111122223333:oidc-provider/o.example",
    );
    let saml = (
        "SAMLProviderArn",
        "arn:aws:iam::111122223333:saml-provider/s",
    );
    let device = ("SerialNumber", "arn:aws:iam::111122223333:mfa/m");
    let slr = "arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS";
    let table: Vec<(&str, Vec<(&str, &str)>, &str)> = vec![
        ("CreateRole", vec![role, trust], ROLE),
        ("GetRole", vec![role], ROLE),
        ("ListRoles", vec![], "*"),
        ("UpdateRole", vec![role], ROLE),
        (
            "UpdateRoleDescription",
            vec![role, ("Description", "")],
            ROLE,
        ),
        ("UpdateAssumeRolePolicy", vec![role, document], ROLE),
        ("DeleteRole", vec![role], ROLE),
        ("CreateInstanceProfile", vec![profile], PROFILE),
        ("GetInstanceProfile", vec![profile], PROFILE),
        ("ListInstanceProfiles", vec![], "*"),
        ("ListInstanceProfilesForRole", vec![role], ROLE),
        ("AddRoleToInstanceProfile", vec![profile, role], PROFILE),
        (
            "RemoveRoleFromInstanceProfile",
            vec![profile, role],
            PROFILE,
        ),
        ("DeleteInstanceProfile", vec![profile], PROFILE),
        ("CreatePolicy", vec![named, document], POLICY),
        ("GetPolicy", vec![policy], POLICY),
        ("ListPolicies", vec![], "*"),
        ("DeletePolicy", vec![policy], POLICY),
        ("CreatePolicyVersion", vec![policy, document], POLICY),
        ("GetPolicyVersion", vec![policy, version], POLICY),
        ("ListPolicyVersions", vec![policy], POLICY),
        ("SetDefaultPolicyVersion", vec![policy, version], POLICY),
        ("DeletePolicyVersion", vec![policy, version], POLICY),
        ("ListEntitiesForPolicy", vec![policy], POLICY),
        ("AttachUserPolicy", vec![user, policy], USER),
        ("DetachUserPolicy", vec![user, policy], USER),
        ("ListAttachedUserPolicies", vec![user], USER),
        ("AttachGroupPolicy", vec![group, policy], GROUP),
        ("DetachGroupPolicy", vec![group, policy], GROUP),
        ("ListAttachedGroupPolicies", vec![group], GROUP),
        ("AttachRolePolicy", vec![role, policy], ROLE),
        ("DetachRolePolicy", vec![role, policy], ROLE),
        ("ListAttachedRolePolicies", vec![role], ROLE),
        ("PutUserPolicy", vec![user, named, document], USER),
        ("GetUserPolicy", vec![user, named], USER),
        ("ListUserPolicies", vec![user], USER),
        ("DeleteUserPolicy", vec![user, named], USER),
        ("PutGroupPolicy", vec![group, named, document], GROUP),
        ("GetGroupPolicy", vec![group, named], GROUP),
        ("ListGroupPolicies", vec![group], GROUP),
        ("DeleteGroupPolicy", vec![group, named], GROUP),
        ("PutRolePolicy", vec![role, named, document], ROLE),
        ("GetRolePolicy", vec![role, named], ROLE),
        ("ListRolePolicies", vec![role], ROLE),
        ("DeleteRolePolicy", vec![role, named], ROLE),
        ("PutUserPermissionsBoundary", vec![user, boundary], USER),
        ("DeleteUserPermissionsBoundary", vec![user], USER),
        ("PutRolePermissionsBoundary", vec![role, boundary], ROLE),
        ("DeleteRolePermissionsBoundary", vec![role], ROLE),
        ("TagUser", vec![user, tag[0], tag[1]], USER),
        ("UntagUser", vec![user, key], USER),
        ("ListUserTags", vec![user], USER),
        ("TagRole", vec![role, tag[0], tag[1]], ROLE),
        ("UntagRole", vec![role, key], ROLE),
        ("ListRoleTags", vec![role], ROLE),
        ("TagPolicy", vec![policy, tag[0], tag[1]], POLICY),
        ("UntagPolicy", vec![policy, key], POLICY),
        ("ListPolicyTags", vec![policy], POLICY),
        ("TagInstanceProfile", vec![profile, tag[0], tag[1]], PROFILE),
        ("UntagInstanceProfile", vec![profile, key], PROFILE),
        ("ListInstanceProfileTags", vec![profile], PROFILE),
        (
            "TagOpenIDConnectProvider",
            vec![oidc, tag[0], tag[1]],
            oidc.1,
        ),
        ("UntagOpenIDConnectProvider", vec![oidc, key], oidc.1),
        ("ListOpenIDConnectProviderTags", vec![oidc], oidc.1),
        ("TagSAMLProvider", vec![saml, tag[0], tag[1]], saml.1),
        ("UntagSAMLProvider", vec![saml, key], saml.1),
        ("ListSAMLProviderTags", vec![saml], saml.1),
        ("TagMFADevice", vec![device, tag[0], tag[1]], device.1),
        ("UntagMFADevice", vec![device, key], device.1),
        ("ListMFADeviceTags", vec![device], device.1),
        (
            "CreateServiceLinkedRole",
            vec![("AWSServiceName", "eks.amazonaws.com")],
            slr,
        ),
        ("DeleteServiceLinkedRole", vec![role], ROLE),
        (
            "GetServiceLinkedRoleDeletionStatus",
            vec![(
                "DeletionTaskId",
                "task/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS/x",
            )],
            slr,
        ),
    ];
    let before = world.directory.snapshot().revision();
    for (action, given, resource) in table {
        let (status, body) = send(&world, &world.bob, action, &given).await;
        assert_eq!(
            (status, &*part(&body, "Code")),
            (403, "AccessDenied"),
            "{body}"
        );
        assert_eq!(
            part(&body, "Message"),
            format!(
                "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: iam:{action} on resource: {resource} \
                 because no identity-based policy allows the iam:{action} action"
            )
        );
    }
    assert_eq!(world.directory.snapshot().revision(), before);
}

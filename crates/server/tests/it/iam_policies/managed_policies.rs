//! Managed policies, the customer's and AWS's.

use countersign_store::records::{AwsPolicy, PolicyVersion};

use super::{
    ADMIN, DOCUMENT, POLICY, Refusal, decoded, ok, pages, part, parts, refused, with_policy,
};
use crate::world::{Given, World, now};

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
    let documents: &[(&str, Refusal<'_>)] = &[
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
    let table: &[(&str, Given<'_>, &str)] = &[
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

//! Which policies decide a call: attached and inline ones, those of groups, boundaries, session policies, tags, root.

use countersign_arn::Partition;
use countersign_arn::unique_id::{self, Kind};
use countersign_store::records::{Group, InlinePolicy, RecordKey};
use countersign_store::{Store as _, Transaction};

use crate::world::*;

const READ: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:GetUser","Resource":"*"}}"#;
const DENY: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"iam:GetUser","Resource":"*"}}"#;
const OTHER: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"eks:*","Resource":"*"}}"#;

impl World {
    /// A call that must succeed.
    async fn done(&self, keys: &Keys, given: Given<'_>) -> String {
        let (status, _, body) = self.iam(keys, given).await;
        assert_eq!(status, 200, "{given:?}: {body}");
        body
    }

    async fn managed_policy(&self, name: &str, document: &str) -> String {
        let given = [
            ("Action", "CreatePolicy"),
            ("PolicyName", name),
            ("PolicyDocument", document),
        ];
        part(&self.done(&self.ana, &given).await, "Arn").to_owned()
    }

    /// Makes `bob` the one member of a group with one inline policy.
    async fn put_group(&self, document: &str) {
        let group = Group {
            account: self.account,
            partition: Partition::Aws,
            name: "staff".into(),
            path: "/".into(),
            id: unique_id::encode(Kind::Group, self.account, [9; 16]).into(),
            created: now(),
            policies: vec![InlinePolicy {
                name: "g".into(),
                document: document.into(),
            }],
            attached: Vec::new(),
        };
        let mut user = self
            .directory
            .snapshot()
            .user(self.account, "bob")
            .unwrap()
            .record
            .clone();
        user.groups = vec![group.id.clone()];
        let account = self.account;
        let group_key = RecordKey::Group {
            account,
            name: "staff",
        };
        let user_key = RecordKey::User {
            account,
            name: "bob",
        };
        let transaction = Transaction::new()
            .put(&group_key.to_key().unwrap(), group.encode())
            .put(&user_key.to_key().unwrap(), user.encode());
        let revision = self.store.commit(transaction).await.unwrap();
        self.directory.feed().wait_for(revision).await.unwrap();
    }

    /// The reason for which `keys` may not read the user `ana`; nothing when they may.
    async fn reason(&self, keys: &Keys) -> String {
        let answer = self
            .iam(keys, &[("Action", "GetUser"), ("UserName", "ana")])
            .await;
        let (status, code, message) = refusal(&answer);
        if status == 200 {
            return String::new();
        }
        assert_eq!((status, &*code), (403, "AccessDenied"), "{message}");
        let (_, reason) = message
            .split_once("perform: iam:GetUser on resource: arn:aws:iam::111122223333:user/ana ")
            .unwrap_or_else(|| panic!("{message}"));
        reason.to_owned()
    }
}

const NO_IDENTITY: &str = "because no identity-based policy allows the iam:GetUser action";
const NO_BOUNDARY: &str = "because no permissions boundary allows the iam:GetUser action";
const NO_SESSION: &str = "because no session policy allows the iam:GetUser action";

#[tokio::test]
async fn every_kind_of_policy_decides() {
    let world = World::new().await;
    let (ana, bob) = (&world.ana, &world.bob);
    let user = ("UserName", "bob");
    assert_eq!(world.reason(bob).await, NO_IDENTITY);

    let read = world.managed_policy("read", READ).await;
    let other = world.managed_policy("other", OTHER).await;
    world
        .done(
            ana,
            &[("Action", "AttachUserPolicy"), user, ("PolicyArn", &read)],
        )
        .await;
    assert_eq!(world.reason(bob).await, "", "attached");

    world
        .done(
            ana,
            &[
                ("Action", "PutUserPermissionsBoundary"),
                user,
                ("PermissionsBoundary", &other),
            ],
        )
        .await;
    assert_eq!(world.reason(bob).await, NO_BOUNDARY);
    world
        .done(
            ana,
            &[
                ("Action", "PutUserPermissionsBoundary"),
                user,
                ("PermissionsBoundary", &read),
            ],
        )
        .await;
    assert_eq!(world.reason(bob).await, "", "within the boundary");

    world
        .done(
            ana,
            &[("Action", "DetachUserPolicy"), user, ("PolicyArn", &read)],
        )
        .await;
    assert_eq!(
        world.reason(bob).await,
        NO_IDENTITY,
        "a boundary grants nothing"
    );
    world.put_group(READ).await;
    assert_eq!(world.reason(bob).await, "", "of the group");
    world.put_group(DENY).await;
    world.allow_user("bob", READ).await;
    let denied = world.reason(bob).await;
    assert!(
        denied.starts_with("with an explicit deny in an identity-based policy"),
        "{denied}"
    );

    // The policy that is attached is the one that decides, in the version that is the default now.
    world.put_group(OTHER).await;
    assert_eq!(world.reason(bob).await, "");
    let given = [
        ("Action", "CreatePolicyVersion"),
        ("PolicyArn", &*read),
        ("PolicyDocument", OTHER),
        ("SetAsDefault", "true"),
    ];
    world.done(ana, &given).await;
    assert_eq!(world.reason(bob).await, NO_BOUNDARY);
}

#[tokio::test]
async fn a_session_can_do_what_role_and_session_policies_both_allow() {
    let world = World::new().await;
    let role = world.role("dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let read = world.managed_policy("read", READ).await;
    let other = world.managed_policy("other", OTHER).await;
    let table: &[(&str, Given<'_>, &str)] = &[
        (ALL, &[], ""),
        (OTHER, &[], NO_IDENTITY),
        (ALL, &[("Policy", READ)], ""),
        (ALL, &[("Policy", OTHER)], NO_SESSION),
        (
            ALL,
            &[("Policy", DENY)],
            "with an explicit deny in a session policy",
        ),
        (OTHER, &[("Policy", READ)], NO_IDENTITY),
        (ALL, &[("PolicyArns.member.1.arn", &read)], ""),
        (ALL, &[("PolicyArns.member.1.arn", &other)], NO_SESSION),
        (
            ALL,
            &[("Policy", OTHER), ("PolicyArns.member.1.arn", &read)],
            "",
        ),
    ];
    for (identity, more, reason) in table {
        world.allow_role("dev", identity).await;
        let session = world.session(&world.ana, &role, more, now()).await;
        assert_eq!(world.reason(&session).await, *reason, "{identity} {more:?}");
    }
    // A session policy that is gone allows nothing.
    world.allow_role("dev", ALL).await;
    let more = [("PolicyArns.member.1.arn", &*read)];
    let session = world.session(&world.ana, &role, &more, now()).await;
    world
        .done(
            &world.ana,
            &[("Action", "DeletePolicy"), ("PolicyArn", &read)],
        )
        .await;
    assert_eq!(world.reason(&session).await, NO_SESSION);
}

#[tokio::test]
async fn tags_of_caller_resource_and_request_decide() {
    let world = World::new().await;
    let allow = |action: &str, condition: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"{action}","Resource":"*","Condition":{condition}}}}}"#
        )
    };
    let get: Given<'_> = &[("Action", "GetUser"), ("UserName", "ana")];
    let tag = |value| {
        vec![
            ("Action", "TagUser"),
            ("UserName", "ana"),
            ("Tags.member.1.Key", "Stage"),
            ("Tags.member.1.Value", value),
        ]
    };
    let (good, bad) = (tag("test"), tag("live"));
    let mut two = good.clone();
    two.extend([("Tags.member.2.Key", "More"), ("Tags.member.2.Value", "x")]);
    let untag: Given<'_> = &[
        ("Action", "UntagUser"),
        ("UserName", "ana"),
        ("TagKeys.member.1", "Team"),
    ];
    let of_request = r#"{"StringEquals":{"aws:RequestTag/Stage":"test"},"ForAllValues:StringEquals":{"aws:TagKeys":["Stage"]}}"#;
    let table = [
        (
            allow(
                "iam:GetUser",
                r#"{"StringEquals":{"aws:PrincipalTag/Team":"blue"}}"#,
            ),
            get,
            true,
        ),
        (
            allow(
                "iam:GetUser",
                r#"{"StringEquals":{"aws:PrincipalTag/TEAM":"blue"}}"#,
            ),
            get,
            true,
        ),
        (
            allow(
                "iam:GetUser",
                r#"{"StringEquals":{"aws:PrincipalTag/Team":"red"}}"#,
            ),
            get,
            false,
        ),
        (
            allow(
                "iam:GetUser",
                r#"{"StringEquals":{"aws:ResourceTag/Team":"blue"}}"#,
            ),
            get,
            true,
        ),
        (
            allow(
                "iam:GetUser",
                r#"{"StringEquals":{"iam:ResourceTag/Team":"blue"}}"#,
            ),
            get,
            true,
        ),
        (
            allow(
                "iam:GetUser",
                r#"{"StringEquals":{"iam:ResourceTag/Team":"red"}}"#,
            ),
            get,
            false,
        ),
        (
            allow(
                "iam:GetUser",
                r#"{"StringEquals":{"aws:ResourceTag/Team":"${aws:PrincipalTag/Team}"}}"#,
            ),
            get,
            true,
        ),
        (allow("iam:TagUser", of_request), &*good, true),
        (allow("iam:TagUser", of_request), &*bad, false),
        (allow("iam:TagUser", of_request), &*two, false),
        (
            allow(
                "iam:UntagUser",
                r#"{"StringEquals":{"aws:TagKeys":"Stage"}}"#,
            ),
            untag,
            false,
        ),
    ];
    for (document, given, allowed) in table {
        world.allow_user("bob", &document).await;
        let answer = world.iam(&world.bob, given).await;
        let expected = if allowed { 200 } else { 403 };
        assert_eq!(answer.0, expected, "{document} {given:?}: {}", answer.2);
    }

    // Tags of a session override those of its role, and are seen as the principal's.
    let role = world
        .role_with("dev", &trusts(ACCOUNT, EVERYTHING, ""), |new| {
            new.tags = vec![crate::world::tag("Team", "green")];
        })
        .await;
    let condition = r#"{"StringEquals":{"aws:PrincipalTag/Team":"blue"}}"#;
    world
        .allow_role("dev", &allow("iam:GetUser", condition))
        .await;
    for (value, reason) in [("", NO_IDENTITY), ("red", NO_IDENTITY), ("blue", "")] {
        let tags = [
            ("Tags.member.1.Key", "team"),
            ("Tags.member.1.Value", value),
        ];
        let more = if value.is_empty() { &[][..] } else { &tags };
        let session = world.session(&world.ana, &role, more, now()).await;
        assert_eq!(world.reason(&session).await, reason, "{value}");
    }
}

#[tokio::test]
async fn root_needs_no_policy() {
    let world = World::new().await;
    let root = world.root().await;
    assert_eq!(world.reason(&root).await, "");
    world
        .done(
            &root,
            &[("Action", "CreateUser"), ("UserName", "made-by-root")],
        )
        .await;
    let own = world.whoami(&root, now()).await;
    let who = result_of(&own.1, "GetCallerIdentity");
    assert_eq!(who["Arn"], "arn:aws:iam::111122223333:root");
    assert_eq!(who["UserId"], "111122223333");
    let role = world.role("dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let refused = world.assume(&root, &role, &[], now()).await;
    assert_eq!(
        error(&refused),
        (
            403,
            "AccessDenied",
            "Roles may not be assumed by root accounts."
        )
    );
}

//! AssumeRole in process: every check of a request, and what trust and identity policies decide.

use crate::world::*;

use countersign_store::NewRole;
use countersign_store::records::{TrustPolicy, TrustedPrincipal};

#[tokio::test]
async fn an_answer_has_all_members_and_its_keys_are_the_role() {
    let world = World::new().await;
    let role = world
        .role_with("Dev", &trusts(ACCOUNT, EVERYTHING, ""), |new| {
            new.path = "/team/".into()
        })
        .await;
    let (status, answer) = world.assume(&world.ana, &role, &[], now()).await;
    assert_eq!(status, 200, "{answer}");
    let members = result(&answer);
    assert_eq!(
        members["Credentials"]["Expiration"], 1773484013.0,
        "whole seconds, an hour later"
    );
    assert!(members["PackedPolicySize"].is_null() && members["SourceIdentity"].is_null());
    assert_eq!(
        members["AssumedRoleUser"]["Arn"],
        "arn:aws:sts::111122223333:assumed-role/Dev/s1"
    );
    assert!(
        members["Credentials"]["AccessKeyId"]
            .as_str()
            .unwrap()
            .starts_with("ASIARTX3GSDS")
    );
    assert!(
        members["Credentials"]["SessionToken"]
            .as_str()
            .unwrap()
            .len()
            <= 320
    );

    let keys = world.session(&world.ana, &role, &[], now()).await;
    let (_, answer) = world.whoami(&keys, after(3599)).await;
    let identity = &answer["GetCallerIdentityResponse"]["GetCallerIdentityResult"];
    assert_eq!(
        identity["Arn"],
        "arn:aws:sts::111122223333:assumed-role/Dev/s1"
    );
    let id = world
        .directory
        .snapshot()
        .role(world.account, "dev")
        .unwrap()
        .record
        .id
        .clone();
    assert_eq!(identity["UserId"], format!("{id}:s1"));
}

#[tokio::test]
async fn constraints_are_answered_together_with_awss_texts() {
    let world = World::new().await;
    let role = world.role("Dev", &trusts(ACCOUNT, EVERYTHING, "")).await;
    let long = "a".repeat(65);
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("RoleSessionName", "Session1:2")],
            r"1 validation error detected: Value 'Session1:2' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
        ),
        (
            &[("RoleSessionName", &long), ("DurationSeconds", "899")],
            "2 validation errors detected: Value '",
        ),
        (
            &[("DurationSeconds", "43201")],
            "1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200",
        ),
        (
            &[("DurationSeconds", "1h")],
            "1 validation error detected: Value '1h' at 'durationSeconds'",
        ),
        (
            &[("ExternalId", "x")],
            "1 validation error detected: Value at 'externalId' failed to satisfy constraint: Member must have length greater than or equal to 2",
        ),
        (
            &[("TokenCode", "12345")],
            "1 validation error detected: Value at 'tokenCode'",
        ),
        (
            &[("SourceIdentity", "a:b")],
            "1 validation error detected: Value 'a:b' at 'sourceIdentity'",
        ),
        (
            &[("Tags.member.1.Key", "a")],
            "1 validation error detected: Value null at 'tags.1.member.value' failed to satisfy constraint: Member must not be null",
        ),
        (
            &[("Tags.member.7.Key", "a*"), ("Tags.member.7.Value", "")],
            "1 validation error detected: Value 'a*' at 'tags.1.member.key'",
        ),
        (
            &[("Policy", "\u{100}")],
            "1 validation error detected: Value '\u{100}' at 'policy'",
        ),
        (
            &[("PolicyArns.member.1.arn", "x")],
            "1 validation error detected: Value 'x' at 'policyArns.1.member.arn'",
        ),
        (
            &[(
                "ProvidedContexts.member.1.ProviderArn",
                "arn:aws:iam::aws:contextProvider/IdentityCenter",
            )],
            "Provided contexts are not supported.",
        ),
    ];
    for (more, expected) in cases {
        let answered = world.assume(&world.ana, &role, more, now()).await;
        let (status, code, message) = error(&answered);
        assert_eq!((status, code), (400, "ValidationError"), "{more:?}");
        assert!(message.starts_with(expected), "{more:?}: {message}");
    }
    for arn in [
        "nothing-valid-in-here",
        "arn::b:::something/test-role",
        "arn:a::::something/test-role",
        "arn:a:::something/test-role",
        "arn:a:a::aaaaaaaaaa:",
    ] {
        let answered = world.assume(&world.ana, arn, &[], now()).await;
        assert_eq!(
            error(&answered),
            (400, "ValidationError", &*format!("{arn} is invalid"))
        );
    }
    let answered = world
        .call(&world.ana, &[("Action", "AssumeRole")], now())
        .await;
    assert_eq!(
        error(&answered).2,
        "2 validation errors detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null; \
         Value null at 'roleSessionName' failed to satisfy constraint: Member must not be null"
    );
}

#[tokio::test]
async fn tags_mfa_durations_and_policies_are_refused_as_aws_refuses_them() {
    let world = World::new().await;
    let role = world
        .role_with("Dev", &trusts(ACCOUNT, EVERYTHING, ""), |new| {
            new.max_session_duration = 7200
        })
        .await;
    let large = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"a:{}","Resource":"*"}}}}"#,
        "x".repeat(2048)
    );
    let cases: &[(Given<'_>, u16, &str, &str)] = &[
        (
            &[
                ("Tags.member.1.Key", "A"),
                ("Tags.member.1.Value", "1"),
                ("Tags.member.2.Key", "a"),
                ("Tags.member.2.Value", "2"),
            ],
            400,
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ),
        (
            &[("TransitiveTagKeys.member.1", "team")],
            400,
            "InvalidParameterValue",
            "The specified transitive tag key must be included in the requested tags.",
        ),
        (
            &[("Tags.member.1.Key", "aws:x"), ("Tags.member.1.Value", "1")],
            400,
            "InvalidParameterValue",
            "Tag keys must not begin with aws:",
        ),
        (
            &[
                ("SerialNumber", "arn:aws:iam::111122223333:mfa/ana"),
                ("TokenCode", "123456"),
            ],
            403,
            "AccessDenied",
            "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.",
        ),
        (
            &[("TokenCode", "123456")],
            403,
            "AccessDenied",
            "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.",
        ),
        (
            &[("DurationSeconds", "7201")],
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ),
        (
            &[("Policy", "{")],
            400,
            "MalformedPolicyDocument",
            "Syntax errors in policy.",
        ),
        (
            &[(
                "PolicyArns.member.1.arn",
                "arn:aws:iam::aws:policy/NoSuchPolicy",
            )],
            400,
            "MalformedPolicyDocument",
            "Policy arn:aws:iam::aws:policy/NoSuchPolicy",
        ),
        (
            &[(
                "PolicyArns.member.1.arn",
                "arn:aws:iam::111122223333:policy/Own",
            )],
            400,
            "MalformedPolicyDocument",
            "Policy arn:aws:iam::111122223333:policy/Own",
        ),
        (
            &[("Policy", &large)],
            400,
            "PackedPolicyTooLarge",
            "Packed policy consumes ",
        ),
    ];
    for (more, status, code, text) in cases {
        let answered = world.assume(&world.ana, &role, more, now()).await;
        let (got_status, got_code, message) = error(&answered);
        assert_eq!(
            (got_status, got_code),
            (*status, *code),
            "{more:?}: {message}"
        );
        assert!(message.starts_with(text), "{more:?}: {message}");
    }
    let good: &[(&str, &str)] = &[
        ("Policy", ALL),
        (
            "PolicyArns.member.1.arn",
            "arn:aws:iam::aws:policy/AdministratorAccess",
        ),
        ("Tags.member.1.Key", "SessionTag1"),
        ("Tags.member.1.Value", "v"),
        ("TransitiveTagKeys.member.1", "sessiontag1"),
        ("SourceIdentity", "ana"),
        ("DurationSeconds", "900"),
    ];
    let (status, answer) = world.assume(&world.ana, &role, good, now()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(result(&answer)["SourceIdentity"], "ana");
    assert!((1..=100).contains(&result(&answer)["PackedPolicySize"].as_i64().unwrap()));
}

#[tokio::test]
async fn trust_and_identity_policies_decide_and_every_refusal_looks_alike() {
    let world = World::new().await;
    let bob = "arn:aws:iam::111122223333:user/bob";
    let yes = |key: &str, value: &str| format!(r#"{{"StringEquals":{{"{key}":"{value}"}}}}"#);
    let roles = [
        ("Account", trusts(ACCOUNT, ASSUME, "")),
        ("Bob", trusts(bob, ASSUME, "")),
        (
            "Nobody",
            trusts("arn:aws:iam::444455556666:root", ASSUME, ""),
        ),
        (
            "External",
            trusts(bob, ASSUME, &yes("sts:ExternalId", "4711")),
        ),
        (
            "Session",
            trusts(bob, ASSUME, &yes("sts:RoleSessionName", "${aws:username}")),
        ),
        (
            "Team",
            trusts(bob, ASSUME, &yes("aws:PrincipalTag/team", "blue")),
        ),
        (
            "Org",
            trusts(bob, ASSUME, &yes("aws:PrincipalOrgID", "o-exampleorg1")),
        ),
        (
            "Address",
            trusts(
                bob,
                ASSUME,
                r#"{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"},"Bool":{"aws:SecureTransport":"true"}}"#,
            ),
        ),
        (
            "Mfa",
            trusts(
                bob,
                ASSUME,
                r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#,
            ),
        ),
        (
            "Later",
            trusts(
                bob,
                ASSUME,
                r#"{"DateGreaterThan":{"aws:CurrentTime":"2026-03-14T09:30:00Z"}}"#,
            ),
        ),
        (
            "Tagged",
            trusts(bob, EVERYTHING, &yes("aws:RequestTag/team", "red")),
        ),
    ];
    for (name, trust) in &roles {
        world.role(name, trust).await;
    }
    let tagged: &[(&str, &str)] = &[
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "red"),
    ];
    let source: &[(&str, &str)] = &[("SourceIdentity", "bob")];
    let cases: &[(&Keys, &str, Given<'_>, Option<&str>)] = &[
        (&world.ana, "Account", &[], None),
        (&world.bob, "Account", &[], Some("sts:AssumeRole")),
        (&world.bob, "Bob", &[], None),
        (&world.ana, "Bob", &[], Some("sts:AssumeRole")),
        (&world.ana, "Nobody", &[], Some("sts:AssumeRole")),
        (&world.ana, "Unknown", &[], Some("sts:AssumeRole")),
        (&world.ana, "path/Account", &[], Some("sts:AssumeRole")),
        (&world.ana, "account", &[], Some("sts:AssumeRole")),
        (&world.bob, "External", &[], Some("sts:AssumeRole")),
        (
            &world.bob,
            "External",
            &[("ExternalId", "4712")],
            Some("sts:AssumeRole"),
        ),
        (&world.bob, "External", &[("ExternalId", "4711")], None),
        (&world.bob, "Session", &[], Some("sts:AssumeRole")),
        (&world.bob, "Session", &[("RoleSessionName", "bob")], None),
        (&world.bob, "Team", &[], None),
        (&world.bob, "Org", &[], None),
        (&world.bob, "Address", &[], None),
        (&world.bob, "Mfa", &[], Some("sts:AssumeRole")),
        (&world.bob, "Later", &[], Some("sts:AssumeRole")),
        (&world.bob, "Tagged", tagged, None),
        (&world.bob, "Tagged", &[], Some("sts:AssumeRole")),
        (&world.bob, "Bob", tagged, Some("sts:TagSession")),
        (&world.bob, "Bob", source, Some("sts:SetSourceIdentity")),
        (&world.ana, "Account", source, Some("sts:SetSourceIdentity")),
    ];
    for (keys, name, more, refused) in cases {
        let role = format!("arn:aws:iam::111122223333:role/{name}");
        let answered = world.assume(keys, &role, more, now()).await;
        let user = if keys.id == world.ana.id {
            "ana"
        } else {
            "bob"
        };
        match refused {
            None => assert_eq!(answered.0, 200, "{user} {name} {more:?}: {}", answered.1),
            Some(action) => {
                let message =
                    not_authorized(&format!("iam::111122223333:user/{user}"), action, &role);
                assert_eq!(
                    error(&answered),
                    (403, "AccessDenied", &*message),
                    "{user} {name} {more:?}"
                );
            }
        }
    }
    let later = world
        .assume(
            &world.bob,
            "arn:aws:iam::111122223333:role/Later",
            &[],
            after(600),
        )
        .await;
    assert_eq!(later.0, 200, "{}", later.1);
}

#[tokio::test]
async fn a_changed_trust_policy_counts_at_once() {
    let world = World::new().await;
    let role = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    assert_eq!(world.assume(&world.ana, &role, &[], now()).await.0, 200);
    let nobody = trusts("arn:aws:iam::444455556666:root", ASSUME, "");
    let trust = TrustPolicy {
        document: nobody.into(),
        principals: Vec::new(),
    };
    world
        .directory
        .set_trust_policy(world.account, "Dev", trust)
        .await
        .unwrap();
    assert_eq!(world.assume(&world.ana, &role, &[], now()).await.0, 403);
}

#[tokio::test]
async fn a_trusted_name_is_the_entity_that_had_it_when_the_policy_was_written() {
    let world = World::new().await;
    let bob = world
        .directory
        .snapshot()
        .user(world.account, "bob")
        .unwrap()
        .record
        .id
        .clone();
    let trust = trusts("arn:aws:iam::111122223333:user/bob", ASSUME, "");
    let bound = |id: &str| {
        vec![TrustedPrincipal {
            statement: 0,
            entry: 0,
            id: id.into(),
        }]
    };
    let old = world
        .role_with("Old", &trust, |new| {
            new.trust.principals = bound("AIDARTX3GSDSXFDOCIS2A")
        })
        .await;
    let new = world
        .role_with("New", &trust, |new| new.trust.principals = bound(&bob))
        .await;
    assert_eq!(world.assume(&world.bob, &old, &[], now()).await.0, 403);
    assert_eq!(world.assume(&world.bob, &new, &[], now()).await.0, 200);
}

#[tokio::test]
async fn across_accounts_both_sides_must_allow() {
    let world = World::new().await;
    let trust = TrustPolicy {
        document: trusts(ACCOUNT, ASSUME, "").into(),
        principals: Vec::new(),
    };
    let new = NewRole {
        account: "444455556666".parse().unwrap(),
        name: "Far".into(),
        path: "/".into(),
        trust,
        max_session_duration: 3600,
        description: None,
        tags: Vec::new(),
        boundary: None,
    };
    let role = world.directory.create_role(new, now()).await.unwrap().arn();
    let (status, answer) = world.assume(&world.ana, &role, &[], now()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        result(&answer)["AssumedRoleUser"]["Arn"],
        "arn:aws:sts::444455556666:assumed-role/Far/s1"
    );
    let refused = world.assume(&world.bob, &role, &[], now()).await;
    let message = not_authorized("iam::111122223333:user/bob", "sts:AssumeRole", &role);
    assert_eq!(error(&refused), (403, "AccessDenied", &*message));
}

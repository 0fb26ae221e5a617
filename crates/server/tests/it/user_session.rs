//! GetSessionToken and GetFederationToken, the root user, and what temporary keys may not do.

use countersign_session::{SessionKind, SessionPrincipal, SessionRandomness, SessionRecord, issue};
use countersign_store::{MfaOwner, NewMfaDevice, totp_code};
use serde_json::Value;

use crate::world::*;

const HALF: &str =
    "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.";
const NO_DEVICE: &str = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.";

fn least(value: &str, least: u32) -> String {
    format!(
        "1 validation error detected: Value '{value}' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to {least}"
    )
}

fn most(value: &str, most: u32) -> String {
    format!(
        "1 validation error detected: Value '{value}' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to {most}"
    )
}

fn policy(effect: &str, action: &str, resource: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"{effect}","Action":{action},"Resource":"{resource}"}}}}"#
    )
}

fn with<'a>(action: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut given = vec![("Action", action)];
    given.extend(more);
    given
}

/// How long the credentials of a result last, counted from the second of the call.
fn seconds(result: &Value) -> i64 {
    result["Credentials"]["Expiration"].as_f64().unwrap() as i64 - now().as_second()
}

#[tokio::test]
async fn session_tokens_are_the_users_own_and_end_in_time() {
    let world = World::new().await;
    let root = world.root().await;
    let user = "arn:aws:iam::111122223333:user/bob";
    let account = "arn:aws:iam::111122223333:root";
    for (keys, arn, asked, lasts) in [
        (&world.bob, user, None, 43_200),
        (&world.bob, user, Some("900"), 900),
        (&world.bob, user, Some("129600"), 129_600),
        (&root, account, None, 3600),
        (&root, account, Some("900"), 900),
        (&root, account, Some("129600"), 3600),
    ] {
        let more: Vec<_> = asked
            .map(|asked| ("DurationSeconds", asked))
            .into_iter()
            .collect();
        let (status, answer) = world
            .call(keys, &with("GetSessionToken", &more), now())
            .await;
        assert_eq!(status, 200, "{answer}");
        let result = result_of(&answer, "GetSessionToken");
        assert_eq!(result.as_object().unwrap().len(), 1, "{result}");
        assert_eq!(seconds(result), lasts, "{arn} {asked:?}");
        let session = credentials(result);
        assert!(session.id.starts_with("ASIA"));
        let (status, answer) = world.whoami(&session, after(lasts - 1)).await;
        assert_eq!(status, 200, "{answer}");
        let who = result_of(&answer, "GetCallerIdentity");
        assert_eq!(who["Arn"], arn);
        assert_eq!(who["Account"], "111122223333");
        let (_, own) = world.whoami(keys, now()).await;
        assert_eq!(
            who["UserId"],
            result_of(&own, "GetCallerIdentity")["UserId"]
        );
        let over = world.whoami(&session, after(lasts)).await;
        assert_eq!(error(&over).1, "ExpiredToken", "{arn} {asked:?}");
    }
}

#[tokio::test]
async fn session_tokens_are_refused_in_awss_words() {
    let world = World::new().await;
    let role = world.role("dev", &trusts(ACCOUNT, ASSUME, "")).await;
    world.allow_role("dev", ALL).await;
    let role_session = world.session(&world.ana, &role, &[], now()).await;
    let serial = ("SerialNumber", "arn:aws:iam::111122223333:mfa/bob");
    let code = ("TokenCode", "123456");
    let table: &[(&Keys, Given<'_>, u16, &str, &str)] = &[
        (
            &world.bob,
            &[("DurationSeconds", "899")],
            400,
            "ValidationError",
            &least("899", 900),
        ),
        (
            &world.bob,
            &[("DurationSeconds", "129601")],
            400,
            "ValidationError",
            &most("129601", 129_600),
        ),
        (&world.bob, &[serial], 403, "AccessDenied", HALF),
        (&world.bob, &[code], 403, "AccessDenied", HALF),
        (&world.bob, &[serial, code], 403, "AccessDenied", NO_DEVICE),
        (
            &role_session,
            &[],
            403,
            "AccessDenied",
            "Cannot call GetSessionToken with session credentials",
        ),
    ];
    for (keys, more, status, code, message) in table {
        let answer = world
            .call(keys, &with("GetSessionToken", more), now())
            .await;
        assert_eq!(error(&answer), (*status, *code, *message), "{more:?}");
        // AssumeRole words the faults of MFA alike.
        if more.contains(&serial) || more.iter().any(|(name, _)| *name == "TokenCode") {
            let answer = world.assume(&world.ana, &role, more, now()).await;
            assert_eq!(error(&answer), (*status, *code, *message), "{more:?}");
        }
    }
    world
        .allow_user("bob", &policy("Deny", r#""sts:GetSessionToken""#, "*"))
        .await;
    let denied = world
        .call(&world.bob, &with("GetSessionToken", &[]), now())
        .await;
    assert_eq!(
        error(&denied).2,
        "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: sts:GetSessionToken on resource: * with an explicit deny in an identity-based policy"
    );
}

#[tokio::test]
async fn federated_users_have_their_name_and_what_was_asked_for() {
    let world = World::new().await;
    let root = world.root().await;
    for (keys, more, lasts, packed) in [
        (&world.ana, &[][..], 43_200, false),
        (
            &world.ana,
            &[("DurationSeconds", "129600"), ("Policy", ALL)][..],
            129_600,
            true,
        ),
        (
            &world.ana,
            &[("Tags.member.1.Key", "a"), ("Tags.member.1.Value", "b")][..],
            43_200,
            true,
        ),
        (&root, &[][..], 3600, false),
        (&root, &[("DurationSeconds", "7200")][..], 3600, false),
    ] {
        let mut given = with("GetFederationToken", &[("Name", "Eve")]);
        given.extend(more);
        let (status, answer) = world.call(keys, &given, now()).await;
        assert_eq!(status, 200, "{answer}");
        let result = result_of(&answer, "GetFederationToken");
        let arn = "arn:aws:sts::111122223333:federated-user/Eve";
        assert_eq!(result["FederatedUser"]["Arn"], arn);
        assert_eq!(
            result["FederatedUser"]["FederatedUserId"],
            "111122223333:Eve"
        );
        assert_eq!(seconds(result), lasts, "{more:?}");
        let size = result["PackedPolicySize"].as_i64().unwrap();
        assert_eq!(size > 0, packed, "{more:?}: {size}");
        let session = credentials(result);
        let (status, answer) = world.whoami(&session, now()).await;
        assert_eq!(status, 200, "{answer}");
        let who = result_of(&answer, "GetCallerIdentity");
        assert_eq!(who["Arn"], arn);
        assert_eq!(who["UserId"], "111122223333:Eve");
    }
}

#[tokio::test]
async fn federation_needs_permission_for_the_name_and_for_tags() {
    let world = World::new().await;
    let role = world.role("dev", &trusts(ACCOUNT, ASSUME, "")).await;
    world.allow_role("dev", ALL).await;
    let role_session = world.session(&world.ana, &role, &[], now()).await;
    let name = ("Name", "Eve");
    let long = "a".repeat(33);
    let missing = "arn:aws:iam::111122223333:policy/missing";
    let tag = |value| {
        [
            ("Tags.member.1.Key", "team"),
            ("Tags.member.1.Value", value),
        ]
    };
    let (blue, red) = (tag("blue"), tag("red"));
    let denied = |action: &str, name: &str| {
        format!(
            "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: {action} on resource: \
             arn:aws:sts::111122223333:federated-user/{name} because no identity-based policy allows the {action} action"
        )
    };
    let answer = world
        .call(&world.bob, &with("GetFederationToken", &[name]), now())
        .await;
    assert_eq!(
        error(&answer),
        (
            403,
            "AccessDenied",
            &*denied("sts:GetFederationToken", "Eve")
        )
    );
    let allowed = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"sts:GetFederationToken","Resource":"arn:aws:sts::111122223333:federated-user/E*"},
        {"Effect":"Allow","Action":"sts:TagSession","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":"blue"},"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}}]}"#;
    world.allow_user("bob", allowed).await;
    /// Who calls with what, and the status, code and message of the answer.
    type Case<'a> = (&'a Keys, Vec<(&'a str, &'a str)>, u16, &'a str, String);
    let table: &[Case<'_>] = &[
        (&world.bob, vec![name], 200, "", String::new()),
        (
            &world.bob,
            [&[name][..], &blue].concat(),
            200,
            "",
            String::new(),
        ),
        (
            &world.bob,
            vec![("Name", "Mallory")],
            403,
            "AccessDenied",
            denied("sts:GetFederationToken", "Mallory"),
        ),
        (
            &world.bob,
            [&[name][..], &red].concat(),
            403,
            "AccessDenied",
            denied("sts:TagSession", "Eve"),
        ),
        (
            &world.ana,
            [
                &[name][..],
                &blue,
                &[("Tags.member.2.Key", "TEAM"), ("Tags.member.2.Value", "x")],
            ]
            .concat(),
            400,
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.".into(),
        ),
        (
            &world.ana,
            vec![name, ("PolicyArns.member.1.arn", missing)],
            400,
            "MalformedPolicyDocument",
            format!("Policy {missing} does not exist or is not attachable."),
        ),
        (
            &world.ana,
            vec![name, ("DurationSeconds", "60")],
            400,
            "ValidationError",
            least("60", 900),
        ),
        (
            &world.ana,
            vec![("Name", &long)],
            400,
            "ValidationError",
            format!(
                "1 validation error detected: Value '{long}' at 'name' failed to satisfy constraint: Member must have length less than or equal to 32"
            ),
        ),
        (
            &role_session,
            vec![name],
            403,
            "AccessDenied",
            "Cannot call GetFederationToken with session credentials".into(),
        ),
    ];
    for (keys, given, status, code, message) in table {
        let answer = world
            .call(keys, &with("GetFederationToken", given), now())
            .await;
        if *status == 200 {
            assert_eq!(answer.0, 200, "{given:?}: {}", answer.1);
        } else {
            assert_eq!(
                error(&answer),
                (*status, *code, message.as_str()),
                "{given:?}"
            );
        }
    }
    let broken = with("GetFederationToken", &[name, ("Policy", "{")]);
    let answer = world.call(&world.ana, &broken, now()).await;
    assert_eq!(
        (error(&answer).0, error(&answer).1),
        (400, "MalformedPolicyDocument")
    );
}

/// Credentials of a kind that no call of these tests gives.
fn sealed(world: &World, change: impl FnOnce(&mut SessionRecord)) -> Keys {
    let snapshot = world.directory.snapshot();
    let user = snapshot.user(world.account, "ana").unwrap();
    let principal = SessionPrincipal::User {
        id: user.record.id.clone(),
        path: user.record.path.clone(),
        name: user.record.name.clone(),
    };
    let issued = jiff::Timestamp::from_second(now().as_second()).unwrap();
    let mut record = SessionRecord::new(
        SessionKind::SessionToken,
        user.record.partition,
        world.account,
        principal,
        issued,
        after(3600),
    );
    change(&mut record);
    let keys = snapshot.session_keys().unwrap();
    let random = SessionRandomness::from_random(&[3; 44]);
    let issued = issue(&record, &keys.ring, &keys.deployment, &random, now()).unwrap();
    Keys {
        id: issued.access_key_id.to_string(),
        secret: issued.secret.expose().to_owned(),
        token: Some(issued.token.expose().to_owned()),
    }
}

/// Who calls whom, with which answer: nothing means that it is allowed.
#[tokio::test]
async fn temporary_keys_are_restricted_whatever_policies_allow() {
    let world = World::new().await;
    let root = world.root().await;
    let trust = trusts(ACCOUNT, EVERYTHING, "");
    let role = world.role("dev", &trust).await;
    world.allow_role("dev", ALL).await;
    let of = async |keys: &Keys, given: Given<'_>, operation: &str| {
        let (status, answer) = world.call(keys, given, now()).await;
        assert_eq!(status, 200, "{answer}");
        credentials(result_of(&answer, operation))
    };
    let role_session = world.session(&world.ana, &role, &[], now()).await;
    let plain = of(&world.ana, &with("GetSessionToken", &[]), "GetSessionToken").await;
    let mfa = sealed(&world, |record| record.mfa_at = Some(record.issued));
    let federation = [("Name", "Eve"), ("Policy", ALL)];
    let federated = of(
        &world.ana,
        &with("GetFederationToken", &federation),
        "GetFederationToken",
    )
    .await;
    let of_root = of(&root, &with("GetSessionToken", &[]), "GetSessionToken").await;
    let root_mfa = sealed(&world, |record| {
        record.principal = SessionPrincipal::Root;
        record.mfa_at = Some(record.issued);
    });
    let fed_by_root = of(
        &root,
        &with("GetFederationToken", &federation),
        "GetFederationToken",
    )
    .await;

    let who = ("sts", "GetCallerIdentity", &[][..]);
    let assume = (
        "sts",
        "AssumeRole",
        &[("RoleArn", &*role), ("RoleSessionName", "s1")][..],
    );
    let token = ("sts", "GetSessionToken", &[][..]);
    let federate = ("sts", "GetFederationToken", &[("Name", "Eve")][..]);
    let info = (
        "sts",
        "GetAccessKeyInfo",
        &[("AccessKeyId", "AKIARZPUZDIKKJDEGXDN")][..],
    );
    let users = ("iam", "ListUsers", &[][..]);
    const NO_SESSION: &str = "AccessDenied: Cannot call OP with session credentials";
    const NO_ROOT: &str = "AccessDenied: Roles may not be assumed by root accounts.";
    const INVALID_KEY: &str =
        "InvalidClientTokenId: The security token included in the request is invalid";
    let table = [
        (
            "role session",
            &role_session,
            ["", "", NO_SESSION, NO_SESSION, "", ""],
        ),
        (
            "session token",
            &plain,
            ["", "", NO_SESSION, NO_SESSION, NO_SESSION, INVALID_KEY],
        ),
        (
            "session token with MFA",
            &mfa,
            ["", "", NO_SESSION, NO_SESSION, NO_SESSION, ""],
        ),
        (
            "federated user",
            &federated,
            [
                "",
                NO_SESSION,
                NO_SESSION,
                NO_SESSION,
                NO_SESSION,
                INVALID_KEY,
            ],
        ),
        (
            "federated user of root",
            &fed_by_root,
            [
                "",
                NO_SESSION,
                NO_SESSION,
                NO_SESSION,
                NO_SESSION,
                INVALID_KEY,
            ],
        ),
        ("root", &root, ["", NO_ROOT, "", "", "", ""]),
        (
            "session token of root",
            &of_root,
            ["", NO_ROOT, NO_SESSION, NO_SESSION, NO_SESSION, INVALID_KEY],
        ),
        (
            "session token of root with MFA",
            &root_mfa,
            ["", NO_ROOT, NO_SESSION, NO_SESSION, NO_SESSION, ""],
        ),
    ];
    for (kind, keys, expected) in table {
        let calls = [who, assume, token, federate, info, users];
        for ((service, action, more), expected) in calls.into_iter().zip(expected) {
            let given = with(action, more);
            let got = if service == "sts" {
                let answer = world.call(keys, &given, now()).await;
                match error(&answer) {
                    (200, ..) => String::new(),
                    (403, code, message) => format!("{code}: {message}"),
                    other => format!("{other:?}"),
                }
            } else {
                let answer = world.iam(keys, &given).await;
                match refusal(&answer) {
                    (200, ..) => String::new(),
                    (403, code, message) => format!("{code}: {message}"),
                    other => format!("{other:?}"),
                }
            };
            assert_eq!(got, expected.replace("OP", action), "{kind}: {action}");
        }
    }
}

#[tokio::test]
async fn a_session_that_was_got_with_a_code_says_so_for_as_long_as_policies_want() {
    let world = World::new().await;
    let new = NewMfaDevice {
        account: world.account,
        name: "phone".into(),
        path: "/".into(),
        tags: Vec::new(),
    };
    let device = world.directory.create_mfa_device(new, now()).await.unwrap();
    let shown = |seconds| totp_code(&device.seed, after(seconds)).unwrap();
    let serial = "arn:aws:iam::111122223333:mfa/phone";
    let codes = (shown(-60), shown(-30));
    world
        .directory
        .enable_mfa_device(
            world.account,
            MfaOwner::User("bob"),
            serial,
            [&codes.0, &codes.1],
            now(),
        )
        .await
        .unwrap();
    world
        .allow_user(
            "bob",
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:GetUser","Resource":"*",
                "Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"},"NumericLessThan":{"aws:MultiFactorAuthAge":"600"}}}}"#,
        )
        .await;
    let code = shown(0);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let with_code = |code| {
        [
            ("Action", "GetSessionToken"),
            ("SerialNumber", serial),
            ("TokenCode", code),
        ]
    };
    let refused = (
        403,
        "AccessDenied",
        "MultiFactorAuthentication failed with invalid MFA one time pass code.",
    );
    let answer = world.call(&world.bob, &with_code(wrong), now()).await;
    assert_eq!(error(&answer), refused);
    let others = world.call(&world.ana, &with_code(&code), now()).await;
    assert_eq!(error(&others), (403, "AccessDenied", NO_DEVICE));
    let (status, answer) = world.call(&world.bob, &with_code(&code), now()).await;
    assert_eq!(status, 200, "{answer}");
    let session = credentials(result_of(&answer, "GetSessionToken"));
    let again = world.call(&world.bob, &with_code(&code), now()).await;
    assert_eq!(error(&again), refused, "a code is good once");
    for (who, keys, seconds, expected) in [
        ("long-term key", &world.bob, 0, 403),
        ("session", &session, 0, 200),
        ("session", &session, 599, 200),
        ("session", &session, 600, 403),
    ] {
        let get = [("Action", "GetUser")];
        let iam = ("iam", "2010-05-08");
        let (status, _, body) = world.send(keys, iam, &get, after(seconds)).await;
        let body = String::from_utf8_lossy(&body);
        assert_eq!(status, expected, "{who} after {seconds} s: {body}");
    }
}

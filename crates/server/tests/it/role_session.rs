//! Role sessions in process, with a clock moved by hand: chains, limits, and what ends a session.

use crate::world::*;
use std::sync::Arc;

use countersign_mapping::{BackendKind, MappingOptions, MappingTable, mounted_file};
use countersign_server::access_policies::AccessPolicies;
use countersign_server::webhook::authenticate::{
    ClusterAuthenticator, ClusterOptions, ReviewOptions, Verifier,
};
use countersign_server::webhook::denial::DenyMode;
use countersign_server::webhook::entries::PrincipalBinding;
use countersign_sigv4::{Credentials, Request, SecretKey, Signer};
use countersign_sources::{Mappings, MappingsOptions};
use countersign_token::{Options, Rules, mint};

#[tokio::test]
async fn a_chain_keeps_transitive_tags_and_source_identity_and_lasts_an_hour() {
    let world = World::new().await;
    let (a, b) = (
        world
            .role_with("A", &trusts(ACCOUNT, EVERYTHING, ""), |new| {
                new.tags = vec![tag("Heart", "1")]
            })
            .await,
        world
            .role_with(
                "B",
                &trusts(
                    ACCOUNT,
                    EVERYTHING,
                    r#"{"StringEquals":{"aws:PrincipalTag/Star":"1"}}"#,
                ),
                |new| {
                    new.tags = vec![tag("Sun", "2")];
                },
            )
            .await,
    );
    let condition = r#"{"StringEquals":{"aws:PrincipalTag/Star":"1","aws:PrincipalTag/Heart":"1","aws:PrincipalTag/Sun":"2","sts:SourceIdentity":"ana","aws:SourceIdentity":"ana"},"Null":{"aws:RequestTag/Star":"true"}}"#;
    let c = world
        .role("C", &trusts(ACCOUNT, EVERYTHING, condition))
        .await;
    for name in ["A", "B", "C"] {
        world.allow_role(name, ALL).await;
    }
    let transitive: &[(&str, &str)] = &[
        ("Tags.member.1.Key", "Star"),
        ("Tags.member.1.Value", "1"),
        ("Tags.member.2.Key", "Heart"),
        ("Tags.member.2.Value", "1"),
        ("TransitiveTagKeys.member.1", "Star"),
        ("TransitiveTagKeys.member.2", "Heart"),
        ("SourceIdentity", "ana"),
        ("DurationSeconds", "43200"),
    ];
    let first = world.session(&world.ana, &a, transitive, now()).await;
    let again = world
        .assume(
            &first,
            &b,
            &[("Tags.member.1.Key", "sTAR"), ("Tags.member.1.Value", "2")],
            now(),
        )
        .await;
    assert_eq!(
        error(&again),
        (
            400,
            "InvalidParameterValue",
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session."
        )
    );
    let other = world
        .assume(&first, &b, &[("SourceIdentity", "bob")], now())
        .await;
    assert_eq!(error(&other).1, "AccessDenied");
    let long = world
        .assume(&first, &b, &[("DurationSeconds", "3601")], now())
        .await;
    assert_eq!(
        error(&long),
        (
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
        )
    );
    let second = world
        .session(&first, &b, &[("SourceIdentity", "ana")], now())
        .await;
    let (status, answer) = world.assume(&second, &c, &[], now()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(result(&answer)["SourceIdentity"], "ana");
    let plain = world.role("Plain", &trusts(ACCOUNT, ASSUME, "")).await;
    let refused = world.assume(&second, &plain, &[], now()).await;
    let message = not_authorized(
        "sts::111122223333:assumed-role/B/s1",
        "sts:TagSession",
        &plain,
    );
    assert_eq!(
        error(&refused),
        (403, "AccessDenied", &*message),
        "inherited tags need sts:TagSession"
    );
}

#[tokio::test]
async fn session_policies_limit_what_the_session_may_assume() {
    let world = World::new().await;
    let a = world.role("A", &trusts(ACCOUNT, ASSUME, "")).await;
    let b = world.role("B", &trusts(ACCOUNT, ASSUME, "")).await;
    let own = world
        .role(
            "Own",
            &trusts("arn:aws:sts::111122223333:assumed-role/A/s1", ASSUME, ""),
        )
        .await;
    world.allow_role("A", ALL).await;
    let only_eks = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"eks:*","Resource":"*"}}"#;
    let free = world.session(&world.ana, &a, &[], now()).await;
    let limited = world
        .session(&world.ana, &a, &[("Policy", only_eks)], now())
        .await;
    let by_arn = [(
        "PolicyArns.member.1.arn",
        "arn:aws:iam::aws:policy/AdministratorAccess",
    )];
    let admin = world.session(&world.ana, &a, &by_arn, now()).await;
    assert_eq!(world.assume(&free, &b, &[], now()).await.0, 200);
    assert_eq!(world.assume(&limited, &b, &[], now()).await.0, 403);
    assert_eq!(world.assume(&admin, &b, &[], now()).await.0, 200);
    let direct = world.assume(&limited, &own, &[], now()).await;
    assert_eq!(
        direct.0, 200,
        "a grant to the session itself is not limited: {}",
        direct.1
    );
}

#[tokio::test]
async fn a_chain_has_at_most_ten_sessions() {
    let world = World::new().await;
    let role = world.role("Loop", &trusts(ACCOUNT, ASSUME, "")).await;
    world.allow_role("Loop", ALL).await;
    let mut keys = world.ana.clone();
    for _ in 0..10 {
        keys = world.session(&keys, &role, &[], now()).await;
    }
    let answered = world.assume(&keys, &role, &[], now()).await;
    assert_eq!(
        error(&answered),
        (
            403,
            "AccessDenied",
            "A chain of roles has at most 10 sessions."
        )
    );
}

#[tokio::test]
async fn a_session_ends_with_its_time_its_role_and_its_key() {
    let world = World::new().await;
    let trust = trusts(ACCOUNT, ASSUME, "");
    let role = world.role("Dev", &trust).await;
    let keys = world.session(&world.ana, &role, &[], now()).await;
    assert_eq!(world.whoami(&keys, after(3599)).await.0, 200);
    let over = world.whoami(&keys, after(3600)).await;
    assert_eq!(
        error(&over),
        (
            403,
            "ExpiredToken",
            "The security token included in the request is expired"
        )
    );
    world
        .directory
        .delete_role(world.account, "Dev")
        .await
        .unwrap();
    assert_eq!(error(&world.whoami(&keys, now()).await), INVALID);
    world.role("Dev", &trust).await;
    assert_eq!(
        error(&world.whoami(&keys, now()).await),
        INVALID,
        "another role of the same name"
    );
    let keys = world.session(&world.ana, &role, &[], now()).await;
    assert_eq!(world.whoami(&keys, now()).await.0, 200);
    world.directory.retire_session_keys(now()).await.unwrap();
    assert_eq!(error(&world.whoami(&keys, now()).await), INVALID);
    let keys = world.session(&world.ana, &role, &[], now()).await;
    assert_eq!(world.whoami(&keys, now()).await.0, 200);
}

#[tokio::test]
async fn a_token_is_good_with_its_own_key_whole_and_unchanged() {
    let world = World::new().await;
    let role = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let (one, two) = (
        world.session(&world.ana, &role, &[], now()).await,
        world.session(&world.ana, &role, &[], now()).await,
    );
    assert_ne!(one.token, two.token);
    let swapped = Keys {
        token: two.token.clone(),
        ..one.clone()
    };
    assert_eq!(error(&world.whoami(&swapped, now()).await), INVALID);
    let long_term = Keys {
        token: one.token.clone(),
        ..world.ana.clone()
    };
    assert_eq!(error(&world.whoami(&long_term, now()).await), INVALID);
    let full_stop = format!("{}.", INVALID.2);
    let bare = Keys {
        token: None,
        ..one.clone()
    };
    assert_eq!(
        error(&world.whoami(&bare, now()).await),
        (403, INVALID.1, &*full_stop)
    );
    let stolen = Keys {
        secret: "x".repeat(40),
        ..one.clone()
    };
    assert_eq!(
        error(&world.whoami(&stolen, now()).await).1,
        "SignatureDoesNotMatch"
    );
    let token = one.token.clone().unwrap();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = Keys {
            token: Some(String::from_utf8(bytes).unwrap()),
            ..one.clone()
        };
        let answered = world.whoami(&changed, now()).await;
        // The last character carries bits that are no part of the content; a decoder that took them would accept it.
        assert_eq!(error(&answered), INVALID, "character {at}");
    }
    assert_eq!(world.whoami(&one, now()).await.0, 200);
}

#[tokio::test]
async fn a_role_sessions_kubernetes_token_is_mapped_by_its_role() {
    let world = World::new().await;
    let role = world
        .role_with("Dev", &trusts(ACCOUNT, EVERYTHING, ""), |new| {
            new.path = "/team/".into()
        })
        .await;
    let keys = world
        .session(
            &world.ana,
            &role,
            &[("RoleSessionName", "alice"), ("SourceIdentity", "ana")],
            now(),
        )
        .await;
    let options = MappingOptions::default();
    let text = "server:\n  mapRoles:\n  - rolearn: arn:aws:iam::111122223333:role/Dev\n    username: dev:{{SessionName}}\n    groups: [developers]\n";
    let entries = mounted_file::parse(text, &options).unwrap().entries;
    let mappings = Mappings::new(&[BackendKind::MountedFile], MappingsOptions::default());
    mappings.set_table(
        MappingTable::new(BackendKind::MountedFile, entries, &options),
        "1",
        now(),
    );
    let cluster = ClusterAuthenticator::new(ClusterOptions {
        name: "demo".into(),
        cluster_id: "demo".into(),
        mappings,
        registered: None,
        names_entry: false,
        shared: Arc::new(ReviewOptions {
            rules: Rules::new(Options {
                trusted_endpoints: vec![ENDPOINT.into()],
                ..Options::default()
            })
            .unwrap(),
            verifiers: vec![Verifier::Embedded(Arc::clone(&world.keys))],
            nodes: None,
            directory: Some(world.directory.clone()),
            people: None,
            store: None,
            principal_binding: PrincipalBinding::FirstUse,
            policies: Arc::new(AccessPolicies::builtin()),
            deny_mode: DenyMode::Review,
            upstream_failure_status: 500,
        }),
    });
    let presigned = |keys: &Keys, when| {
        let secret = SecretKey::new(&keys.secret);
        let headers: [(&str, &[u8]); 2] = [("host", HOST.as_bytes()), ("x-k8s-aws-id", b"demo")];
        let mut request = Request::new("GET", b"/?Action=GetCallerIdentity&Version=2011-06-15");
        request.headers = &headers;
        let credentials = Credentials {
            key_id: &keys.id,
            secret: &secret,
            session_token: keys.token.as_deref(),
        };
        let signed = Signer::new(credentials, "us-east-1", "sts")
            .presign(&request, 60, when)
            .unwrap();
        mint(&format!("{ENDPOINT}?{signed}")).to_string()
    };
    let token = presigned(&keys, now());
    assert!(
        token.len() < 4096,
        "authenticators in the field take no longer ones"
    );
    let accepted = cluster.review(&token, now()).await.outcome.unwrap();
    assert_eq!(accepted.username(), "dev:alice");
    assert_eq!(accepted.groups(), ["developers"]);
    let extra = |key: &str| {
        let extra = accepted
            .identity()
            .extra
            .iter()
            .find(|extra| extra.key == key);
        extra
            .map(|extra| extra.values.join(","))
            .unwrap_or_default()
    };
    assert_eq!(extra("sessionName"), "alice");
    assert_eq!(extra("countersign.io/source-identity"), "ana");
    assert_eq!(extra("accessKeyId"), keys.id);
    let reason = async |token: &str, when| match cluster.review(token, when).await.outcome {
        Ok(accepted) => format!("user {}", accepted.username()),
        Err(denial) => denial.reason.into_owned(),
    };
    assert_eq!(
        reason(&presigned(&keys, after(3599)), after(3599)).await,
        "user dev:alice"
    );
    assert_eq!(
        reason(&presigned(&keys, after(3600)), after(3600)).await,
        "sts_rejected:ExpiredToken"
    );
    let forged = Keys {
        token: Some(format!("{}A", keys.token.clone().unwrap())),
        ..keys.clone()
    };
    assert_eq!(
        reason(&presigned(&forged, now()), now()).await,
        "sts_rejected:InvalidClientTokenId"
    );
    world
        .directory
        .delete_role(world.account, "Dev")
        .await
        .unwrap();
    assert_eq!(
        reason(&token, now()).await,
        "sts_rejected:InvalidClientTokenId"
    );
}

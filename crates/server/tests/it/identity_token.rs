//! Tokens for outside services: the switch, the tokens, and the documents by which others verify them (STS spec,
//! section 2.9).

use countersign_oidc::{Discovery, KeySet, TimeRules, UnverifiedToken};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::web_identity::WebWorld;
use crate::world::*;

const AUDIENCE: &str = "https://vault.example";

async fn enable(world: &WebWorld) -> String {
    let (status, _, body) = world
        .world
        .iam(
            &world.world.ana,
            &[("Action", "EnableOutboundWebIdentityFederation")],
        )
        .await;
    assert_eq!(status, 200, "{body}");
    between(&body, "<IssuerIdentifier>", "</IssuerIdentifier>")
}

fn between(text: &str, before: &str, behind: &str) -> String {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{text}"));
    rest.split_once(behind).unwrap().0.to_owned()
}

async fn token(world: &WebWorld, keys: &Keys, more: Given<'_>) -> Answered {
    let mut all = vec![
        ("Action", "GetWebIdentityToken"),
        ("Audience.member.1", AUDIENCE),
        ("SigningAlgorithm", "ES384"),
    ];
    all.retain(|(name, _)| !more.iter().any(|(known, _)| known == name));
    all.extend(more);
    world.world.call(keys, &all, now()).await
}

fn text_of(answered: &Answered) -> String {
    assert_eq!(answered.0, 200, "{}", answered.1);
    let result = &answered.1["GetWebIdentityTokenResponse"]["GetWebIdentityTokenResult"];
    result["WebIdentityToken"].as_str().unwrap().to_owned()
}

/// Status, headers and body of a document.
async fn document(
    world: &WebWorld,
    method: &str,
    path: &str,
    known: Option<&str>,
) -> (u16, http::HeaderMap, String) {
    let mut request = http::Request::builder().method(method).uri(path);
    if let Some(known) = known {
        request = request.header("if-none-match", known);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let answer = world.world.api.document(&head, now()).unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (
        parts.status.as_u16(),
        parts.headers,
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

fn payload(token: &str) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part);
    serde_json::from_slice(&bytes.unwrap()).unwrap()
}

#[tokio::test]
async fn others_verify_the_token_with_the_documents_of_its_issuer() {
    let world = WebWorld::new().await;
    let issuer = enable(&world).await;
    assert!(
        issuer.starts_with("https://cs.example/outbound/"),
        "{issuer}"
    );
    let path = issuer.strip_prefix("https://cs.example").unwrap();
    let (status, headers, body) = document(
        &world,
        "GET",
        &format!("{path}/.well-known/openid-configuration"),
        None,
    )
    .await;
    assert_eq!(
        (status, &headers["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let discovery = Discovery::parse(body.as_bytes(), &issuer).unwrap();
    assert_eq!(
        discovery.jwks_uri(),
        format!("{issuer}/.well-known/jwks.json")
    );
    let (_, headers, body) = document(
        &world,
        "GET",
        &format!("{path}/.well-known/jwks.json"),
        None,
    )
    .await;
    assert_eq!(headers["content-type"], "application/jwk-set+json");
    assert_eq!(headers["cache-control"], "public, max-age=300");
    let keys = KeySet::parse(body.as_bytes()).unwrap();
    assert_eq!(keys.len(), 2);

    for algorithm in ["RS256", "ES384"] {
        let given = [("SigningAlgorithm", algorithm), ("DurationSeconds", "60")];
        let text = text_of(&token(&world, &world.world.ana, &given).await);
        let read = UnverifiedToken::parse(&text).unwrap();
        assert_eq!(read.issuer(), issuer);
        let verified = read.verify(&keys).unwrap();
        let accepted = verified
            .accept(&[AUDIENCE], TimeRules::default(), now())
            .unwrap();
        assert_eq!(
            &*accepted.claims().subject,
            "arn:aws:iam::111122223333:user/ana"
        );
        let claims = payload(&text);
        let at = now().as_second();
        assert_eq!(
            (&claims["iat"], &claims["exp"]),
            (&json!(at), &json!(at + 60))
        );
        assert_eq!(claims["aud"], AUDIENCE);
        assert_eq!(
            claims["https://sts.amazonaws.com/"],
            json!({"aws_account": "111122223333", "source_region": "us-east-1", "org_id": "o-exampleorg1", "principal_tags": {"Team": "blue"}})
        );
        let id = claims["jti"].as_str().unwrap();
        assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
    }
    let given = [
        ("Audience.member.2", "second"),
        ("Tags.member.1.Key", "ticket"),
        ("Tags.member.1.Value", "4711"),
    ];
    let claims = payload(&text_of(&token(&world, &world.world.ana, &given).await));
    assert_eq!(claims["aud"], json!([AUDIENCE, "second"]));
    assert_eq!(
        claims["https://sts.amazonaws.com/"]["request_tags"],
        json!({"ticket": "4711"})
    );
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        300
    );
}

#[tokio::test]
async fn a_session_speaks_for_its_role_and_not_beyond_its_end() {
    let world = WebWorld::new().await;
    enable(&world).await;
    let role = world
        .world
        .role_with("Dev", &trusts(ACCOUNT, EVERYTHING, ""), |new| {
            new.path = "/team/".into();
            new.tags = vec![tag("Heart", "1")];
        })
        .await;
    world.world.allow_role("Dev", ALL).await;
    let given = [
        ("DurationSeconds", "900"),
        ("Tags.member.1.Key", "Star"),
        ("Tags.member.1.Value", "2"),
    ];
    let session = world
        .world
        .session(&world.world.ana, &role, &given, now())
        .await;
    let claims = payload(&text_of(
        &token(&world, &session, &[("DurationSeconds", "900")]).await,
    ));
    assert_eq!(claims["sub"], "arn:aws:iam::111122223333:role/team/Dev");
    assert_eq!(
        claims["https://sts.amazonaws.com/"]["principal_tags"],
        json!({"Heart": "1", "Star": "2"})
    );
    let answered = token(&world, &session, &[("DurationSeconds", "901")]).await;
    assert_eq!(
        error(&answered),
        (
            403,
            "SessionDurationEscalationException",
            "The requested token duration would extend the session beyond its original expiration time."
        )
    );
}

#[tokio::test]
async fn the_switch_works_both_ways_and_the_issuer_stays() {
    let world = WebWorld::new().await;
    let off = "Outbound web identity federation is not enabled for your account.";
    let info = [("Action", "GetOutboundWebIdentityFederationInfo")];
    let disable = [("Action", "DisableOutboundWebIdentityFederation")];
    for action in [&info, &disable] {
        let (status, _, body) = world.world.iam(&world.world.ana, action).await;
        assert_eq!(status, 404);
        assert!(
            body.contains("<Code>FeatureDisabled</Code>") && body.contains(off),
            "{body}"
        );
    }
    let disabled = (403, "OutboundWebIdentityFederationDisabledException", off);
    assert_eq!(error(&token(&world, &world.world.ana, &[]).await), disabled);
    let issuer = enable(&world).await;
    let (status, _, body) = world
        .world
        .iam(
            &world.world.ana,
            &[("Action", "EnableOutboundWebIdentityFederation")],
        )
        .await;
    assert_eq!(status, 409);
    assert!(body.contains("<Code>FeatureEnabled</Code>"), "{body}");
    let (_, _, body) = world.world.iam(&world.world.ana, &info).await;
    assert_eq!(between(&body, "<IssuerIdentifier>", "<"), issuer);
    assert_eq!(between(&body, "<JwtVendingEnabled>", "<"), "true");
    text_of(&token(&world, &world.world.ana, &[]).await);

    let (status, _, body) = world.world.iam(&world.world.ana, &disable).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(error(&token(&world, &world.world.ana, &[]).await), disabled);
    // Tokens that were handed out before stay verifiable.
    let path = issuer.strip_prefix("https://cs.example").unwrap();
    let (status, _, _) = document(
        &world,
        "GET",
        &format!("{path}/.well-known/jwks.json"),
        None,
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(enable(&world).await, issuer);
}

#[tokio::test]
async fn tokens_need_permission_for_what_is_asked() {
    let world = WebWorld::new().await;
    enable(&world).await;
    let answered = token(&world, &world.world.bob, &[]).await;
    assert_eq!((answered.0, error(&answered).1), (403, "AccessDenied"));
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:GetWebIdentityToken","Resource":"*","Condition":{
        "ForAllValues:StringEquals":{"sts:IdentityTokenAudience":["https://vault.example","b"]},
        "NumericLessThanEquals":{"sts:DurationSeconds":"300"},"StringEquals":{"sts:SigningAlgorithm":"ES384"}}}]}"#;
    let policy = countersign_store::records::InlinePolicy {
        name: "p".into(),
        document: policy.into(),
    };
    let directory = &world.world.directory;
    directory
        .put_user_policy(world.world.account, "bob", policy)
        .await
        .unwrap();
    let cases: &[(Given<'_>, bool)] = &[
        (&[], true),
        (&[("Audience.member.2", "b")], true),
        (&[("Audience.member.2", "c")], false),
        (&[("DurationSeconds", "301")], false),
        (&[("SigningAlgorithm", "RS256")], false),
        // Tags need an action of their own.
        (
            &[("Tags.member.1.Key", "a"), ("Tags.member.1.Value", "b")],
            false,
        ),
    ];
    for (more, allowed) in cases {
        let answered = token(&world, &world.world.bob, more).await;
        assert_eq!(answered.0 == 200, *allowed, "{more:?}: {}", answered.1);
    }
    for action in [
        "EnableOutboundWebIdentityFederation",
        "DisableOutboundWebIdentityFederation",
        "GetOutboundWebIdentityFederationInfo",
    ] {
        let (status, _, body) = world
            .world
            .iam(&world.world.bob, &[("Action", action)])
            .await;
        assert_eq!(status, 403, "{body}");
    }
}

#[tokio::test]
async fn odd_parameters_are_refused() {
    let world = WebWorld::new().await;
    enable(&world).await;
    let long = "x".repeat(1000);
    let cases: &[(Given<'_>, &str, &str)] = &[
        (
            &[("SigningAlgorithm", "ES256")],
            "ValidationError",
            "1 validation error detected: Value 'ES256' at 'signingAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RS256, ES384]",
        ),
        (
            &[("DurationSeconds", "59")],
            "ValidationError",
            "1 validation error detected: Value '59' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 60",
        ),
        (
            &[
                ("Tags.member.1.Key", "a"),
                ("Tags.member.1.Value", "b"),
                ("Tags.member.2.Key", "A"),
                ("Tags.member.2.Value", "b"),
            ],
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ),
    ];
    for (more, code, text) in cases {
        let answered = token(&world, &world.world.ana, more).await;
        assert_eq!(error(&answered), (400, *code, *text));
    }
    let names: Vec<(String, String)> = (1..=10)
        .map(|n| (format!("Audience.member.{n}"), long.clone()))
        .chain((1..=50).flat_map(|n| {
            [
                (
                    format!("Tags.member.{n}.Key"),
                    format!("k{n}{}", "k".repeat(100)),
                ),
                (format!("Tags.member.{n}.Value"), "v".repeat(256)),
            ]
        }))
        .collect();
    let given: Vec<(&str, &str)> = names
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let answered = token(&world, &world.world.ana, &given).await;
    assert_eq!(
        (answered.0, error(&answered).1),
        (400, "JWTPayloadSizeExceededException")
    );
}

#[tokio::test]
async fn our_own_tokens_are_no_credentials_here() {
    let world = WebWorld::new().await;
    let issuer = enable(&world).await;
    world
        .provider(
            "111122223333",
            issuer.strip_prefix("https://").unwrap(),
            &[AUDIENCE],
        )
        .await;
    let text = text_of(&token(&world, &world.world.ana, &[]).await);
    let answered = world
        .assume("arn:aws:iam::111122223333:role/Dev", &text, &[], now())
        .await;
    assert_eq!(
        error(&answered),
        (
            400,
            "InvalidIdentityToken",
            "Tokens from GetWebIdentityToken cannot be exchanged for credentials"
        )
    );
}

#[tokio::test]
async fn documents_are_cached_and_nothing_else_is_there() {
    let world = WebWorld::new().await;
    let issuer = enable(&world).await;
    let path = issuer.strip_prefix("https://cs.example").unwrap();
    let keys = format!("{path}/.well-known/jwks.json");
    let (_, headers, body) = document(&world, "GET", &keys, None).await;
    let tag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert!(!body.contains("\"d\""));
    for (method, path, known, status) in [
        ("HEAD", keys.as_str(), None, 200),
        ("GET", &keys, Some(tag.as_str()), 304),
        ("GET", &keys, Some("*"), 304),
        ("GET", &keys, Some("\"other\""), 200),
        ("POST", &keys, None, 405),
        ("DELETE", "/outbound/x", None, 405),
        (
            "GET",
            "/outbound/0123456789abcdef/.well-known/jwks.json",
            None,
            404,
        ),
        ("GET", "/outbound/", None, 404),
        ("GET", "/outbound//.well-known/jwks.json", None, 404),
        ("GET", path, None, 404),
    ] {
        let (answered, headers, body) = document(&world, method, path, known).await;
        assert_eq!(answered, status, "{method} {path}");
        if status == 404 {
            assert_eq!(body, "{}");
        }
        if status == 405 {
            assert_eq!(headers["allow"], "GET, HEAD");
        }
    }
    let weak = format!("\"a\", W/{tag}");
    assert_eq!(document(&world, "GET", &keys, Some(&weak)).await.0, 304);
    let (head, ()) = http::Request::get("/elsewhere")
        .body(())
        .unwrap()
        .into_parts();
    assert!(world.world.api.document(&head, now()).is_none());
}

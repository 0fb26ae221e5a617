//! SAML providers of IAM, and AssumeRoleWithSAML.

use std::net::SocketAddr;

use bytes::Bytes;
use countersign_arn::Tag;
use countersign_saml::name_qualifier;
use countersign_server::listen::Peer;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::Value;

use crate::identity_provider::{ENTITY, Idp, PROVIDER, ROLE, Response};
use crate::world::{Answered, HOST, Keys, World, after, error, escape, now, trusts};

/// What a role that trusts the provider says.
fn trusting(actions: &str, condition: &str) -> String {
    trusts(PROVIDER, actions, condition).replace("\"AWS\"", "\"Federated\"")
}

const ASSUME: &str = r#"["sts:AssumeRoleWithSAML","sts:TagSession","sts:SetSourceIdentity"]"#;
const NOT_AUTHORIZED: (u16, &str, &str) = (
    403,
    "AccessDenied",
    "Not authorized to perform sts:AssumeRoleWithSAML",
);

fn genuine() -> Response {
    Response::valid("2026-03-14T09:26:00Z", "2026-03-14T09:31:00Z")
}

fn part<'t>(text: &'t str, name: &str) -> &'t str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close))
        .map_or("", |(inner, _)| inner)
}

struct Saml {
    world: World,
    idp: Idp,
    /// Assertions made so far: each needs an ID of its own.
    made: std::cell::Cell<u32>,
}

impl Saml {
    /// A provider `corp` and a role `Dev` that trusts it.
    async fn new() -> Self {
        let world = World::new().await;
        let idp = Idp::new();
        let saml = Self {
            world,
            idp,
            made: std::cell::Cell::new(0),
        };
        saml.create("corp", &saml.idp.metadata()).await;
        saml.world.role("Dev", &trusting(ASSUME, "")).await;
        saml
    }

    async fn iam(&self, given: &[(&str, &str)]) -> (u16, String) {
        let (status, _, body) = self.world.iam(&self.world.ana, given).await;
        (status, body)
    }

    async fn create(&self, name: &str, metadata: &str) {
        let (status, body) = self
            .iam(&[
                ("Action", "CreateSAMLProvider"),
                ("Name", name),
                ("SAMLMetadataDocument", metadata),
            ])
            .await;
        assert_eq!(status, 200, "{body}");
    }

    /// A response with an assertion that was never used.
    fn fresh(&self, response: &Response) -> String {
        let number = self.made.get() + 1;
        self.made.set(number);
        let id = format!("_a{number}");
        let xml = response.xml().replace("\"_a\"", &format!("\"{id}\""));
        crate::identity_provider::encoded(&self.idp.signed(&xml, &id))
    }

    async fn assume(&self, response: &str, more: &[(&str, &str)], when: Timestamp) -> Answered {
        let mut given = vec![
            ("Action", "AssumeRoleWithSAML"),
            ("Version", "2011-06-15"),
            ("SAMLAssertion", response),
        ];
        for (name, value) in [("RoleArn", ROLE), ("PrincipalArn", PROVIDER)] {
            if !more.iter().any(|(known, _)| *known == name) {
                given.push((name, value));
            }
        }
        given.extend(more);
        let body: Vec<String> = given
            .iter()
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        let (head, ()) = http::Request::post("/")
            .header("host", HOST)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(())
            .unwrap()
            .into_parts();
        let peer = Peer {
            address: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            tls: true,
        };
        let answer = self
            .world
            .api
            .answer(
                &head,
                &Bytes::from(body.join("&")),
                peer,
                when,
                "6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b",
            )
            .await;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// With a response that was never used.
    async fn ask(&self, response: &Response, more: &[(&str, &str)]) -> Answered {
        self.assume(&self.fresh(response), more, now()).await
    }
}

fn result(answered: &Answered) -> &Value {
    assert_eq!(answered.0, 200, "{}", answered.1);
    &answered.1["AssumeRoleWithSAMLResponse"]["AssumeRoleWithSAMLResult"]
}

fn keys(result: &Value) -> Keys {
    let text = |name: &str| result["Credentials"][name].as_str().unwrap().to_owned();
    Keys {
        id: text("AccessKeyId"),
        secret: text("SecretAccessKey"),
        token: Some(text("SessionToken")),
    }
}

#[tokio::test]
async fn an_assertion_buys_a_session() {
    let saml = Saml::new().await;
    let response = genuine()
        .with("PrincipalTag:Team", &["blue"])
        .with("TransitiveTagKeys", &["team"])
        .with("SourceIdentity", &["alice.w"]);
    let answered = saml.ask(&response, &[("DurationSeconds", "900")]).await;
    let result = result(&answered);
    let members: Vec<&str> = result
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for (member, expected) in [
        ("Subject", "alice"),
        ("SubjectType", "persistent"),
        ("Issuer", ENTITY),
        ("Audience", "https://signin.aws.amazon.com/saml"),
        (
            "NameQualifier",
            &*name_qualifier(ENTITY, "111122223333", "corp"),
        ),
        ("SourceIdentity", "alice.w"),
    ] {
        assert_eq!(result[member], expected, "{members:?}");
    }
    assert!(
        result["PackedPolicySize"]
            .as_i64()
            .is_some_and(|size| size > 0)
    );
    assert_eq!(
        result["AssumedRoleUser"]["Arn"],
        "arn:aws:sts::111122223333:assumed-role/Dev/alice"
    );

    let session = keys(result);
    let (status, identity) = saml.world.whoami(&session, after(899)).await;
    assert_eq!(status, 200, "{identity}");
    assert_eq!(saml.world.whoami(&session, after(900)).await.0, 403);

    // What the session says of its origin is what policies of the next role see.
    let condition = format!(
        r#"{{"StringEquals":{{"saml:sub":"alice","saml:sub_type":"persistent","saml:namequalifier":"{}",
            "aws:FederatedProvider":"{PROVIDER}","aws:PrincipalTag/Team":"blue","aws:SourceIdentity":"alice.w"}}}}"#,
        name_qualifier(ENTITY, "111122223333", "corp")
    );
    let next = trusts(
        ROLE,
        r#"["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]"#,
        &condition,
    );
    let next = saml.world.role("Next", &next).await;
    let (status, answer) = saml.world.assume(&session, &next, &[], after(1)).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn responses_signed_by_other_implementations_buy_sessions() {
    let saml = Saml::new().await;
    let metadata = include_str!("../../../saml/tests/data/metadata.xml");
    let (status, body) = saml
        .iam(&[
            ("Action", "UpdateSAMLProvider"),
            ("SAMLProviderArn", PROVIDER),
            ("SAMLMetadataDocument", metadata),
        ])
        .await;
    assert_eq!(status, 200, "{body}");
    let response = include_str!("../../../saml/tests/data/xmlsec-rsa-sha256-assertion.xml");
    let response = crate::identity_provider::encoded(response);
    let when: Timestamp = "2026-03-14T10:26:53Z".parse().unwrap();
    let answered = saml.assume(&response, &[], when).await;
    assert_eq!(result(&answered)["Subject"], "alice & b\u{f6}b");
}

#[tokio::test]
async fn trust_policies_see_the_assertion() {
    let saml = Saml::new().await;
    let qualifier = name_qualifier(ENTITY, "111122223333", "corp");
    let equals = |key: &str, value: &str| format!(r#"{{"StringEquals":{{"{key}":"{value}"}}}}"#);
    let any =
        |key: &str, value: &str| format!(r#"{{"ForAnyValue:StringEquals":{{"{key}":"{value}"}}}}"#);
    let response = genuine()
        .with("PrincipalTag:Team", &["blue"])
        .with_attribute("urn:oid:2.5.4.3", &["Alice", "Alice W"])
        .with_attribute(
            "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
            &["Alice W"],
        );
    let cases = [
        (
            ASSUME,
            equals("SAML:aud", "https://signin.aws.amazon.com/saml"),
            true,
        ),
        (
            ASSUME,
            equals("SAML:aud", "https://example.com/saml"),
            false,
        ),
        (ASSUME, equals("saml:iss", ENTITY), true),
        (ASSUME, equals("saml:sub", "alice"), true),
        (ASSUME, equals("saml:sub", "mallory"), false),
        (ASSUME, equals("saml:sub_type", "persistent"), true),
        (ASSUME, equals("saml:doc", "111122223333/corp"), true),
        (ASSUME, equals("saml:namequalifier", &qualifier), true),
        (ASSUME, any("saml:cn", "Alice W"), true),
        (ASSUME, any("saml:cn", "Bob"), false),
        (ASSUME, equals("saml:name", "Alice W"), true),
        (ASSUME, equals("saml:mail", "alice@example.com"), false),
        (ASSUME, equals("sts:RoleSessionName", "alice"), true),
        (ASSUME, equals("aws:RequestTag/Team", "blue"), true),
        (ASSUME, equals("aws:FederatedProvider", PROVIDER), true),
        (
            ASSUME,
            r#"{"Null":{"aws:PrincipalArn":"true"}}"#.to_owned(),
            true,
        ),
        (r#""sts:AssumeRoleWithSAML""#, String::new(), false),
        (
            r#"["sts:AssumeRole","sts:TagSession"]"#,
            String::new(),
            false,
        ),
        (
            r#"["sts:AssumeRoleWithWebIdentity","sts:TagSession"]"#,
            String::new(),
            false,
        ),
    ];
    for (number, (actions, condition, good)) in cases.iter().enumerate() {
        let name = format!("R{number}");
        let role = saml.world.role(&name, &trusting(actions, condition)).await;
        let response = response
            .clone()
            .with("Role", &[&format!("{role},{PROVIDER}")]);
        let answered = saml.ask(&response, &[("RoleArn", &role)]).await;
        assert_eq!(
            answered.0 == 200,
            *good,
            "{actions} {condition}: {}",
            answered.1
        );
    }
    // The action that failed is named.
    let only = saml
        .world
        .role("Only", &trusting(r#""sts:AssumeRoleWithSAML""#, ""))
        .await;
    let offered = response
        .clone()
        .with("Role", &[&format!("{only},{PROVIDER}")]);
    let answered = saml.ask(&offered, &[("RoleArn", &only)]).await;
    assert_eq!(
        error(&answered).2,
        "Not authorized to perform sts:TagSession"
    );
}

#[tokio::test]
async fn roles_that_are_not_offered_or_do_not_trust_are_refused_alike() {
    let saml = Saml::new().await;
    let role = |name: &str| format!("arn:aws:iam::111122223333:role/{name}");
    saml.world
        .role(
            "Other",
            &trusts("arn:aws:iam::111122223333:root", r#""sts:*""#, ""),
        )
        .await;
    saml.world
        .role("Anyone", &trusts("*", r#""sts:*""#, ""))
        .await;
    saml.world
        .role(
            "AWSReservedSSO_Admin_0123456789abcdef",
            &trusting(ASSUME, ""),
        )
        .await;
    let names = [
        "Other",
        "Anyone",
        "Unknown",
        "AWSReservedSSO_Admin_0123456789abcdef",
        "dev",
    ];
    for name in names {
        let role = role(name);
        let offered = genuine().with("Role", &[&format!("{role},{PROVIDER}")]);
        let answered = saml.ask(&offered, &[("RoleArn", &role)]).await;
        assert_eq!(error(&answered), NOT_AUTHORIZED, "{name}");
    }
    let not_offered = genuine().with("Role", &[&format!("{},{PROVIDER}", role("Other"))]);
    assert_eq!(error(&saml.ask(&not_offered, &[]).await), NOT_AUTHORIZED);
}

#[tokio::test]
async fn providers_that_are_not_there_vouch_for_nobody() {
    let saml = Saml::new().await;
    saml.create(
        "second",
        &Idp::named("https://second.example.com/").metadata(),
    )
    .await;
    let no_provider = (
        400,
        "InvalidIdentityToken",
        "Specified provider doesn't exist.",
    );
    let cases = [
        (
            "arn:aws:iam::111122223333:saml-provider/absent",
            no_provider,
        ),
        ("arn:aws:iam::111122223333:saml-provider/Corp", no_provider),
        ("arn:aws:iam::444455556666:saml-provider/corp", no_provider),
        ("arn:aws:iam::111122223333:oidc-provider/corp", no_provider),
        (
            "arn:aws-cn:iam::111122223333:saml-provider/corp",
            no_provider,
        ),
        (
            "arn:aws:iam::111122223333:saml-provider/second",
            (
                400,
                "InvalidIdentityToken",
                "Issuer not present in specified provider",
            ),
        ),
        (
            "not-an-arn-but-long-enough",
            (
                400,
                "ValidationError",
                "not-an-arn-but-long-enough is invalid",
            ),
        ),
    ];
    for (provider, expected) in cases {
        let answered = saml.ask(&genuine(), &[("PrincipalArn", provider)]).await;
        assert_eq!(error(&answered), expected, "{provider}");
    }
}

#[tokio::test]
async fn an_assertion_is_used_once() {
    let saml = Saml::new().await;
    let used = (
        400,
        "InvalidIdentityToken",
        "Response has been used before, or too many responses are still valid.",
    );
    // A call that fails does not use it up.
    let once = saml.fresh(&genuine());
    let other = [("RoleArn", "arn:aws:iam::111122223333:role/Other")];
    assert_eq!(
        error(&saml.assume(&once, &other, now()).await),
        NOT_AUTHORIZED
    );
    assert_eq!(saml.assume(&once, &[], now()).await.0, 200);
    assert_eq!(error(&saml.assume(&once, &[], now()).await), used);
    assert_eq!(error(&saml.assume(&once, &[], after(546)).await), used);
    // Until it has expired with all tolerance.
    let late = saml.assume(&once, &[], after(548)).await;
    assert_eq!(error(&late).1, "ExpiredTokenException");
    // Another signature does not make another assertion.
    let again = genuine().xml().replace("\"_a\"", "\"_a1\"");
    let again = crate::identity_provider::encoded(&saml.idp.signed(&again, "_a1"));
    assert_eq!(error(&saml.assume(&again, &[], now()).await), used);
}

#[tokio::test]
async fn sessions_end_with_the_session_at_the_identity_provider() {
    let saml = Saml::new().await;
    let mut response = genuine();
    response.statements =
        r#"<saml:AuthnStatement SessionNotOnOrAfter="2026-03-14T09:36:53Z"/>"#.into();
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[], "2026-03-14T09:36:53Z"),
        (&[("DurationSeconds", "900")], "2026-03-14T09:36:53Z"),
        (&[("DurationSeconds", "43200")], "2026-03-14T09:36:53Z"),
    ];
    for (more, expected) in cases {
        let answered = saml.ask(&response, more).await;
        let expires: Timestamp = expected.parse().unwrap();
        let expiration = &result(&answered)["Credentials"]["Expiration"];
        assert_eq!(expiration.as_f64().unwrap() as i64, expires.as_second());
    }
    let answered = saml.ask(&genuine(), &[("DurationSeconds", "899")]).await;
    assert_eq!(error(&answered).1, "ValidationError");
    saml.world
        .role_with("Short", &trusting(ASSUME, ""), |role| {
            role.max_session_duration = 3600
        })
        .await;
    let short = "arn:aws:iam::111122223333:role/Short";
    let offered = genuine().with("Role", &[&format!("{short},{PROVIDER}")]);
    let answered = saml
        .ask(&offered, &[("RoleArn", short), ("DurationSeconds", "3601")])
        .await;
    assert_eq!(
        error(&answered),
        (
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_response_reaches_the_caller() {
    let saml = Saml::new().await;
    let forged = Idp::new();
    let mut failed = genuine();
    failed.status = "urn:oasis:names:tc:SAML:2.0:status:Responder".into();
    let cases = [
        ("bm90IFhNTA==".to_owned(), 400, "InvalidIdentityToken"),
        ("%%%%".to_owned(), 400, "InvalidIdentityToken"),
        (genuine().signed_by(&forged), 400, "InvalidIdentityToken"),
        (failed.signed_by(&saml.idp), 403, "IDPRejectedClaim"),
        (
            Response::valid("2026-03-14T09:00:00Z", "2026-03-14T09:05:00Z").signed_by(&saml.idp),
            400,
            "ExpiredTokenException",
        ),
        ("AAA".to_owned(), 400, "ValidationError"),
    ];
    for (response, status, code) in cases {
        let answered = saml.assume(&response, &[], now()).await;
        assert_eq!((answered.0, error(&answered).1), (status, code));
        // Nothing of the assertion is repeated.
        assert!(
            !answered.1.to_string().contains(&response),
            "{}",
            answered.1
        );
    }
    let tags = genuine()
        .with("PrincipalTag:Team", &["a"])
        .with("PrincipalTag:team", &["b"]);
    assert_eq!(
        error(&saml.ask(&tags, &[]).await).1,
        "InvalidParameterValue"
    );
}

#[tokio::test]
async fn metadata_that_changes_takes_effect_at_once() {
    let saml = Saml::new().await;
    assert_eq!(saml.ask(&genuine(), &[]).await.0, 200);
    let rotated = Idp::new();
    let update = async |metadata: String| {
        let (status, body) = saml
            .iam(&[
                ("Action", "UpdateSAMLProvider"),
                ("SAMLProviderArn", PROVIDER),
                ("SAMLMetadataDocument", &metadata),
            ])
            .await;
        assert_eq!(
            (status, part(&body, "SAMLProviderArn")),
            (200, PROVIDER),
            "{body}"
        );
    };
    update(rotated.metadata()).await;
    let invalid = (400, "InvalidIdentityToken", "Response signature invalid");
    assert_eq!(error(&saml.ask(&genuine(), &[]).await), invalid);
    assert_eq!(
        saml.assume(&genuine().signed_by(&rotated), &[], now())
            .await
            .0,
        200
    );
    update(
        saml.idp
            .metadata_with(" validUntil=\"2026-03-14T09:26:53Z\""),
    )
    .await;
    let expired = (
        400,
        "InvalidIdentityToken",
        "The metadata of the specified provider has expired.",
    );
    assert_eq!(error(&saml.ask(&genuine(), &[]).await), expired);
    let (status, _) = saml
        .iam(&[
            ("Action", "DeleteSAMLProvider"),
            ("SAMLProviderArn", PROVIDER),
        ])
        .await;
    assert_eq!(status, 200);
    let gone = (
        400,
        "InvalidIdentityToken",
        "Specified provider doesn't exist.",
    );
    assert_eq!(error(&saml.ask(&genuine(), &[]).await), gone);
}

#[tokio::test]
async fn session_policies_limit_the_session() {
    let saml = Saml::new().await;
    saml.world.allow_role("Dev", crate::world::ALL).await;
    let nothing =
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
    for (policy, status) in [(None, 200), (Some(nothing), 403)] {
        let more: Vec<_> = policy.map(|text| ("Policy", text)).into_iter().collect();
        let answered = saml.ask(&genuine(), &more).await;
        let session = keys(result(&answered));
        let (got, _, body) = saml
            .world
            .iam(&session, &[("Action", "ListSAMLProviders")])
            .await;
        assert_eq!(got, status, "{body}");
    }
}

#[tokio::test]
async fn providers_are_made_shown_changed_tagged_and_deleted() {
    let saml = Saml::new().await;
    let metadata = saml
        .idp
        .metadata_with(" validUntil=\"2030-01-01T00:00:00Z\"");
    let arn = "arn:aws:iam::111122223333:saml-provider/a.b_c-9";
    let (status, body) = saml
        .iam(&[
            ("Action", "CreateSAMLProvider"),
            ("Name", "a.b_c-9"),
            ("SAMLMetadataDocument", &metadata),
            ("AssertionEncryptionMode", "Allowed"),
            ("Tags.member.1.Key", "Team"),
            ("Tags.member.1.Value", "blue"),
        ])
        .await;
    assert_eq!(
        (status, part(&body, "SAMLProviderArn")),
        (200, arn),
        "{body}"
    );
    assert_eq!(part(part(&body, "Tags"), "Key"), "Team");

    let get = async || {
        saml.iam(&[("Action", "GetSAMLProvider"), ("SAMLProviderArn", arn)])
            .await
    };
    let (_, body) = get().await;
    let document = part(&body, "SAMLMetadataDocument")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&");
    assert_eq!(document, metadata);
    assert_eq!(part(&body, "ValidUntil"), "2030-01-01T00:00:00Z");
    assert_eq!(part(&body, "CreateDate"), "2026-03-14T09:26:53Z");
    assert_eq!(part(&body, "AssertionEncryptionMode"), "Allowed");
    assert!(body.contains("<PrivateKeyList/>"), "{body}");
    assert_eq!(part(&body, "SAMLProviderUUID").len(), 26);

    let (_, body) = saml.iam(&[("Action", "ListSAMLProviders")]).await;
    let at = |text: &str| body.find(text).unwrap();
    assert!(at(arn) < at(PROVIDER), "{body}");
    // Metadata without an end is good for a hundred years.
    assert!(body.contains("2126-03-14T09:26:53Z"), "{body}");

    let tag = [
        ("Action", "TagSAMLProvider"),
        ("SAMLProviderArn", arn),
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "red"),
        ("Tags.member.2.Key", "cost"),
        ("Tags.member.2.Value", ""),
    ];
    assert_eq!(saml.iam(&tag).await.0, 200);
    let tags = async |marker: Option<String>| {
        let mut given = vec![
            ("Action", "ListSAMLProviderTags"),
            ("SAMLProviderArn", arn),
            ("MaxItems", "1"),
        ];
        if let Some(marker) = &marker {
            given.push(("Marker", marker));
        }
        saml.iam(&given).await.1
    };
    let first = tags(None).await;
    assert_eq!(
        (part(&first, "Key"), part(&first, "IsTruncated")),
        ("team", "true"),
        "{first}"
    );
    let second = tags(Some(part(&first, "Marker").to_owned())).await;
    assert_eq!(
        (part(&second, "Key"), part(&second, "IsTruncated")),
        ("cost", "false")
    );
    let untag = [
        ("Action", "UntagSAMLProvider"),
        ("SAMLProviderArn", arn),
        ("TagKeys.member.1", "COST"),
        ("TagKeys.member.2", "absent"),
    ];
    assert_eq!(saml.iam(&untag).await.0, 200);
    let snapshot = saml.world.directory.snapshot();
    let provider = snapshot
        .saml_provider(saml.world.account, "a.b_c-9")
        .unwrap();
    let left = Tag {
        key: "team".into(),
        value: "red".into(),
    };
    assert_eq!(provider.record.tags, [left]);

    for status in [200, 404] {
        let delete = [("Action", "DeleteSAMLProvider"), ("SAMLProviderArn", arn)];
        assert_eq!(saml.iam(&delete).await.0, status);
    }
    assert_eq!(get().await.0, 404);
}

#[tokio::test]
async fn what_iam_refuses_about_providers() {
    let saml = Saml::new().await;
    let metadata = saml.idp.metadata();
    let plain = "x".repeat(1000);
    let absent = "arn:aws:iam::111122223333:saml-provider/absent";
    let create = |more: &[(&'static str, &'static str)], document: &str| {
        let mut given: Vec<(&'static str, String)> = vec![
            ("Action", "CreateSAMLProvider".to_owned()),
            ("SAMLMetadataDocument", document.to_owned()),
        ];
        if !more.iter().any(|(name, _)| *name == "Name") {
            given.push(("Name", "new".to_owned()));
        }
        given.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        given
    };
    let update = |more: &[(&'static str, &str)]| {
        let mut given = vec![("Action", "UpdateSAMLProvider".to_owned())];
        given.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        given
    };
    let cases: Vec<(Vec<(&str, String)>, u16, &str, &str)> = vec![
        (
            create(&[("Name", "corp")], &metadata),
            409,
            "EntityAlreadyExists",
            "SAMLProvider with name corp already exists.",
        ),
        (
            create(&[("Name", "a b")], &metadata),
            400,
            "ValidationError",
            "The specified value for name is invalid.",
        ),
        (
            create(&[], "short"),
            400,
            "ValidationError",
            "greater than or equal to 1000",
        ),
        (
            create(&[], &plain),
            400,
            "InvalidInput",
            "Could not parse metadata: ",
        ),
        (
            create(&[("AssertionEncryptionMode", "Required")], &metadata),
            400,
            "InvalidInput",
            "Encrypted SAML assertions are not supported",
        ),
        (
            create(&[("AssertionEncryptionMode", "Maybe")], &metadata),
            400,
            "ValidationError",
            "enum value set",
        ),
        (
            create(
                &[("AddPrivateKey", "-----BEGIN PRIVATE KEY-----")],
                &metadata,
            ),
            400,
            "InvalidInput",
            "Encrypted SAML assertions are not supported",
        ),
        (
            create(
                &[("Tags.member.1.Key", "AWS:x"), ("Tags.member.1.Value", "")],
                &metadata,
            ),
            400,
            "InvalidInput",
            "reserved",
        ),
        (
            update(&[("SAMLProviderArn", PROVIDER)]),
            400,
            "InvalidInput",
            "Unable to update identity provider. No updates are defined for metadata or encryption assertion.",
        ),
        (
            update(&[
                ("SAMLProviderArn", absent),
                ("SAMLMetadataDocument", &metadata),
            ]),
            404,
            "NoSuchEntity",
            "Manifest not found for arn arn:aws:iam::111122223333:saml-provider/absent",
        ),
        (
            update(&[
                (
                    "SAMLProviderArn",
                    "arn:aws:iam::444455556666:saml-provider/corp",
                ),
                ("SAMLMetadataDocument", &metadata),
            ]),
            403,
            "AccessDenied",
            "not authorized to perform: iam:UpdateSAMLProvider on resource: arn:aws:iam::444455556666:saml-provider/corp",
        ),
        (
            update(&[
                ("SAMLProviderArn", "this is no arn but long"),
                ("SAMLMetadataDocument", &metadata),
            ]),
            400,
            "ValidationError",
            "ARN this is no arn but long is not valid.",
        ),
    ];
    for (given, status, code, message) in cases {
        let given: Vec<(&str, &str)> = given
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let (got, body) = saml.iam(&given).await;
        let text = part(&body, "Message");
        assert_eq!((got, part(&body, "Code")), (status, code), "{body}");
        assert!(text.contains(message), "{text}");
    }

    // Without permission nothing is learned of what is there.
    let bob = &saml.world.bob;
    for (action, arn) in [
        ("GetSAMLProvider", PROVIDER),
        ("GetSAMLProvider", absent),
        ("DeleteSAMLProvider", PROVIDER),
        ("ListSAMLProviderTags", absent),
    ] {
        let given = [("Action", action), ("SAMLProviderArn", arn)];
        let (status, _, body) = saml.world.iam(bob, &given).await;
        assert_eq!((status, part(&body, "Code")), (403, "AccessDenied"));
        let text = part(&body, "Message");
        assert!(
            text.contains(&format!("iam:{action} on resource: {arn}")),
            "{text}"
        );
    }
}

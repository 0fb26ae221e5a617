//! `AssumeRoleWithSAML`.

use super::*;

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
    let metadata = include_str!("../../../../saml/tests/data/metadata.xml");
    let (status, body) = saml
        .iam(&[
            ("Action", "UpdateSAMLProvider"),
            ("SAMLProviderArn", PROVIDER),
            ("SAMLMetadataDocument", metadata),
        ])
        .await;
    assert_eq!(status, 200, "{body}");
    let response = include_str!("../../../../saml/tests/data/xmlsec-rsa-sha256-assertion.xml");
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

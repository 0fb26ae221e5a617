//! SAML providers in IAM.

use super::*;

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

/// Parameters of a call, and the status, code and part of the message it is refused with.
type Refused = (Vec<(&'static str, String)>, u16, &'static str, &'static str);

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
    let cases: Vec<Refused> = vec![
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

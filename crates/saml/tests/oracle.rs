//! Canonical forms and signatures made by other implementations (`data/generate.py`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "functions beside the tests"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_saml::xml::{Document, Limits};
use countersign_saml::{Canonicalization, Metadata, Options, Refusal, SignatureFault, verify};
use jiff::Timestamp;

const METADATA: &str = include_str!("data/metadata.xml");

fn now() -> Timestamp {
    "2026-03-14T10:26:53Z".parse().unwrap()
}

#[test]
fn canonical_forms_are_those_of_lxml() {
    let cases: serde_json::Value =
        serde_json::from_str(include_str!("data/canonical.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 150);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let document = Document::parse(text, &Limits::RESPONSE);
        let document = document.unwrap_or_else(|error| panic!("{error}: {text}"));
        for variant in case["variants"].as_array().unwrap() {
            let prefixes = variant["prefixes"].as_array().unwrap().iter();
            let method = Canonicalization {
                comments: variant["comments"].as_bool().unwrap(),
                inclusive: prefixes
                    .map(|prefix| prefix.as_str().unwrap().into())
                    .collect(),
            };
            let written = method.write(document.root(), None, 1 << 20).unwrap();
            assert_eq!(
                written,
                variant["expected"].as_str().unwrap(),
                "{text} {method:?}"
            );
        }
    }
}

#[test]
fn signatures_of_xmlsec_and_signxml_verify() {
    let metadata = Metadata::parse(METADATA).unwrap();
    let cases = [
        include_str!("data/xmlsec-rsa-sha256-assertion.xml"),
        include_str!("data/xmlsec-rsa-sha384-response.xml"),
        include_str!("data/xmlsec-rsa-sha512-both.xml"),
        include_str!("data/xmlsec-ecdsa-sha256-assertion.xml"),
        include_str!("data/xmlsec-ecdsa-sha384-response.xml"),
        include_str!("data/xmlsec-comments-assertion.xml"),
        include_str!("data/signxml-assertion.xml"),
        include_str!("data/signxml-response.xml"),
    ];
    for (number, document) in cases.into_iter().enumerate() {
        let response = STANDARD.encode(document);
        let assertion = verify(&response, &metadata, now(), &Options::default());
        let assertion = assertion.unwrap_or_else(|refusal| panic!("{number}: {refusal}"));
        assert_eq!(&*assertion.subject, "alice & b\u{f6}b");
        assert_eq!(&*assertion.claims.session_name, "alice");
        assert!(assertion.offers(
            "arn:aws:iam::111122223333:role/Dev",
            "arn:aws:iam::111122223333:saml-provider/corp"
        ));

        // The same with one signed character changed.
        for (from, to) in [
            ("role/Dev", "role/Dew"),
            (">alice<", ">alicf<"),
            ("10:31:00Z\" R", "10:41:00Z\" R"),
        ] {
            let changed = document.replace(from, to);
            assert_ne!(changed, document, "{number}: {from}");
            let refusal = verify(
                &STANDARD.encode(changed),
                &metadata,
                now(),
                &Options::default(),
            );
            assert!(
                matches!(
                    refusal,
                    Err(Refusal::Signature {
                        fault: SignatureFault::Digest,
                        ..
                    })
                ),
                "{number}: {refusal:?}"
            );
        }
        // What no signature covers may change.
        let crlf = document.replace('\n', "\r\n");
        assert!(
            verify(
                &STANDARD.encode(crlf),
                &metadata,
                now(),
                &Options::default()
            )
            .is_ok()
        );
    }
}

#[test]
fn comments_are_never_signed_and_never_divide_text() {
    let metadata = Metadata::parse(METADATA).unwrap();
    for document in [
        include_str!("data/xmlsec-comments-assertion.xml"),
        include_str!("data/xmlsec-rsa-sha256-assertion.xml"),
    ] {
        for comment in ["<!-- another -->", "", "<!--a--><!--b-->"] {
            let changed = document.replace("<!-- a comment -->", comment);
            assert_ne!(changed, document);
            let response = STANDARD.encode(changed);
            let assertion = verify(&response, &metadata, now(), &Options::default()).unwrap();
            assert_eq!(&*assertion.subject, "alice & b\u{f6}b");
        }
    }
}

#[test]
fn good_signatures_with_sha1_are_refused() {
    let metadata = Metadata::parse(METADATA).unwrap();
    let cases = [
        (include_str!("data/refused-sha1.xml"), "signature"),
        (include_str!("data/refused-sha1-digest.xml"), "digest"),
    ];
    for (document, expected) in cases {
        let refusal = verify(
            &STANDARD.encode(document),
            &metadata,
            now(),
            &Options::default(),
        );
        let Err(Refusal::Signature {
            fault: SignatureFault::Algorithm { what, .. },
            ..
        }) = refusal
        else {
            panic!("{refusal:?}");
        };
        assert_eq!(what, expected);
    }
}

#[test]
fn namespaces_are_escaped_like_attribute_values() {
    let document = Document::parse("<n:a xmlns:n='urn:a&amp;\"&lt;'/>", &Limits::RESPONSE).unwrap();
    let written = Canonicalization::default().write(document.root(), None, 1 << 10);
    assert_eq!(
        written.unwrap(),
        "<n:a xmlns:n=\"urn:a&amp;&quot;&lt;\"></n:a>"
    );
}

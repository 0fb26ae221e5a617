//! Metadata of identity providers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "functions beside the tests"
)]

mod common;

use common::*;
use countersign_saml::{Metadata, SigningKey, UnusableKey};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

fn entities(inside: &str, attributes: &str) -> String {
    format!(
        r#"<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"{attributes}>{inside}</md:EntitiesDescriptor>"#
    )
}

#[test]
fn one_or_several_identity_providers_are_read() {
    let one = Idp::named("https://one.example.com/");
    let two = Idp::named("https://two.example.com/");
    let service = r#"<md:EntityDescriptor entityID="https://sp.example.com/"><md:SPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"/></md:EntityDescriptor>"#;
    let text = entities(
        &format!("{service}{}{}", one.metadata(), two.metadata()),
        "",
    );
    let metadata = Metadata::parse(&text).unwrap();
    let names: Vec<_> = metadata
        .providers()
        .iter()
        .map(|provider| provider.entity_id())
        .collect();
    assert_eq!(
        names,
        ["https://one.example.com/", "https://two.example.com/"]
    );
    assert!(metadata.provider("https://two.example.com/").is_some());
    assert!(metadata.provider("https://two.example.com").is_none());
    assert!(metadata.provider("https://sp.example.com/").is_none());
    assert_eq!(metadata.valid_until(), None);
}

#[test]
fn keys_are_those_for_signing_or_for_everything() {
    let idp = Idp::new();
    let signing = idp.metadata();
    let both = signing.replace(" use=\"signing\"", "");
    assert_eq!(Metadata::parse(&signing), Metadata::parse(&both));
    let encryption = signing.replace("\"signing\"", "\"encryption\"");
    assert!(
        Metadata::parse(&encryption)
            .unwrap_err()
            .to_string()
            .contains("no signing certificate")
    );
    // The same certificate twice is one key.
    let descriptor_from = signing.find("<md:KeyDescriptor").unwrap();
    let descriptor_to = signing.find("<md:SingleSignOn").unwrap();
    let descriptor = signing.get(descriptor_from..descriptor_to).unwrap();
    let twice = signing.replace(descriptor, &descriptor.repeat(12));
    assert_eq!(Metadata::parse(&twice), Metadata::parse(&signing));
}

#[test]
fn the_earliest_end_counts() {
    let idp = Idp::new();
    let text = idp.metadata_with(" validUntil=\"2030-01-01T00:00:00Z\"");
    let cases = [
        (text.clone(), "2030-01-01T00:00:00Z"),
        (
            entities(&text, " validUntil=\"2029-01-01T00:00:00Z\""),
            "2029-01-01T00:00:00Z",
        ),
        (
            entities(&text, " validUntil=\"2031-01-01T00:00:00Z\""),
            "2030-01-01T00:00:00Z",
        ),
        (
            text.replace(
                "<md:IDPSSODescriptor",
                "<md:IDPSSODescriptor validUntil=\"2028-01-01T00:00:00.5Z\"",
            ),
            "2028-01-01T00:00:00.5Z",
        ),
    ];
    for (text, expected) in cases {
        let metadata = Metadata::parse(&text).unwrap();
        assert_eq!(
            metadata
                .valid_until()
                .map(|until| until.to_string())
                .as_deref(),
            Some(expected)
        );
    }
}

#[test]
fn what_is_no_metadata_is_refused_and_named() {
    let idp = Idp::new();
    let good = idp.metadata();
    let certificate = idp.certificate();
    let eleven: String = (0..11)
        .map(|number| good.replace("/metadata\"", &format!("/{number}\"")))
        .collect();
    let cases = [
        (String::new(), "not XML"),
        ("hello".to_owned(), "not XML"),
        (format!("<!DOCTYPE a>{good}"), "document type"),
        ("<a/>".to_owned(), "not `a`"),
        (
            good.replace("SAML:2.0:metadata", "SAML:1.0:metadata"),
            "not `EntityDescriptor`",
        ),
        (
            good.replace("IDPSSODescriptor", "SPSSODescriptor"),
            "no IDPSSODescriptor",
        ),
        (
            good.replace("SAML:2.0:protocol", "SAML:1.1:protocol"),
            "no IDPSSODescriptor",
        ),
        (good.replace(" entityID=", " x="), "entityID"),
        (good.replace(ENTITY, ""), "entityID"),
        (good.replace(ENTITY, &"x".repeat(1025)), "entityID"),
        (entities(&format!("{good}{good}"), ""), "entityID"),
        (entities(&eleven, ""), "more than 10 identity providers"),
        (entities("", ""), "no IDPSSODescriptor"),
        (
            good.replace(&certificate, "!!!"),
            "not an X.509 certificate",
        ),
        (
            good.replace(&certificate, "aGVsbG8="),
            "not an X.509 certificate",
        ),
        (good.replace(&certificate, ""), "not an X.509 certificate"),
        (
            idp.metadata_with(" validUntil=\"never\""),
            "`never` is not an instant",
        ),
    ];
    for (text, expected) in cases {
        let error = Metadata::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn at_most_ten_keys() {
    let idp = Idp::new();
    let metadata = |count: usize| {
        let data: String = (0..count)
            .map(|_| {
                format!(
                    "<ds:X509Certificate>{}</ds:X509Certificate>",
                    Idp::new().certificate()
                )
            })
            .collect();
        idp.metadata().replace(
            &format!(
                "<ds:X509Certificate>{}</ds:X509Certificate>",
                idp.certificate()
            ),
            &data,
        )
    };
    assert_eq!(
        Metadata::parse(&metadata(10))
            .unwrap()
            .providers()
            .first()
            .unwrap()
            .keys()
            .len(),
        10
    );
    let error = Metadata::parse(&metadata(11)).unwrap_err().to_string();
    assert!(
        error.contains("more than 10 signing certificates"),
        "{error}"
    );
}

#[test]
fn keys_of_other_kinds_are_passed_over_beside_a_usable_one() {
    let certificate = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        CertificateParams::default()
            .self_signed(&key)
            .unwrap()
            .der()
            .to_vec()
    };
    let other = certificate(&PKCS_ED25519);
    assert_eq!(SigningKey::from_certificate(&other), Err(UnusableKey::Type));
    let mut trailing = certificate(&PKCS_ECDSA_P384_SHA384);
    assert!(SigningKey::from_certificate(&trailing).is_ok());
    trailing.push(0);
    assert_eq!(
        SigningKey::from_certificate(&trailing),
        Err(UnusableKey::NotACertificate)
    );

    let idp = Idp::new();
    let other = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, other);
    let only = idp.metadata().replace(&idp.certificate(), &other);
    let error = Metadata::parse(&only).unwrap_err().to_string();
    assert!(error.contains("neither RSA nor ECDSA"), "{error}");
    let element = format!(
        "<ds:X509Certificate>{}</ds:X509Certificate>",
        idp.certificate()
    );
    let beside = idp.metadata().replace(
        &element,
        &format!("<ds:X509Certificate>{other}</ds:X509Certificate>{element}"),
    );
    assert_eq!(Metadata::parse(&beside), Metadata::parse(&idp.metadata()));
}

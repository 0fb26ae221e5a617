//! Keys, key sets, issuers and discovery documents (IRSA spec, sections 2.1 to 2.4).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use countersign_oidc::{
    Algorithm, Discovery, DiscoveryError, InvalidIssuer, InvalidKey, IssuerUrl, KeySet,
    KeySetError, KeyType, PublicKey, discovery_document, discovery_url,
};
use serde_json::{Value, json};

#[test]
fn ids_are_digests_of_the_subject_public_key_info() {
    for (pem, id, kind) in [
        (RSA_PEM, RSA_ID, KeyType::Rsa),
        (EC_PEM, EC_ID, KeyType::P256),
    ] {
        let keys = PublicKey::from_pem(pem.as_bytes()).unwrap();
        let [key] = keys.as_slice() else {
            panic!("{keys:?}")
        };
        assert_eq!(key.id(), id);
        assert_eq!(key.id().len(), 43);
        assert_ne!(key.id(), "ciUZsqkiFHnh2ohuQQjhq86sB-qyY2oZFWYbC7U5GOM");
        assert_eq!(key.key_type(), kind);
        assert_eq!(&PublicKey::from_spki(&key.spki()).unwrap(), key);
    }
    let document = KeySet::document([(
        &PublicKey::from_pem(EC_PEM.as_bytes()).unwrap()[0],
        Algorithm::Es256,
    )]);
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(
        document,
        json!({"keys": [{
            "kty": "EC", "use": "sig", "alg": "ES256", "kid": EC_ID, "crv": "P-256",
            "x": "GXM-gudVYEdoOFT7sfDtfumvG8b2nP3qyOU1z43TGHA",
            "y": "4BtQWg_kHec8bx2DpuFXKXsGbEtO6EXKRBy_piGh3h0",
        }]})
    );
}

#[test]
fn several_keys_of_one_file_are_read() {
    let both = format!("{RSA_PEM}\n{EC_PEM}");
    let keys = PublicKey::from_pem(both.as_bytes()).unwrap();
    let set = KeySet::of(keys).unwrap();
    assert_eq!(set.ids().collect::<Vec<_>>(), [RSA_ID, EC_ID]);
    for text in [
        "",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        assert!(PublicKey::from_pem(text.as_bytes()).is_err());
    }
}

#[test]
fn the_form_of_a_public_key_is_exact() {
    let good = PublicKey::from_pem(RSA_PEM.as_bytes()).unwrap()[0].spki();
    let mut longer = good.clone();
    longer.push(0);
    let mut other = good.clone();
    other[1] = 0x84;
    for der in [
        longer,
        other,
        good[..good.len() - 1].to_vec(),
        Vec::new(),
        vec![0x30, 0x80],
    ] {
        assert_eq!(PublicKey::from_spki(&der), Err(InvalidKey::Rejected));
    }
}

#[test]
fn keys_that_cannot_be_used_are_skipped() {
    let rsa = |n: &[u8], e: &[u8]| json!({"kty": "RSA", "n": base64(n), "e": base64(e)});
    let modulus = |bytes: usize| [vec![0xc1; bytes - 1], vec![1]].concat();
    let e = &[1, 0, 1];
    let cases: Vec<(&str, Value, InvalidKey)> = vec![
        ("text", json!("key"), InvalidKey::Member("kty")),
        ("no kty", json!({}), InvalidKey::Member("kty")),
        (
            "oct",
            json!({"kty": "oct", "k": "AAAA"}),
            InvalidKey::Unsupported,
        ),
        (
            "OKP",
            json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
            InvalidKey::Unsupported,
        ),
        ("no curve", json!({"kty": "EC"}), InvalidKey::Member("crv")),
        (
            "curve",
            with(P256.jwk(), json!({"crv": "secp256k1"})),
            InvalidKey::Unsupported,
        ),
        (
            "other curve",
            with(P256.jwk(), json!({"crv": "P-384"})),
            InvalidKey::Member("x"),
        ),
        (
            "y",
            with(P256.jwk(), json!({"y": "AAAA"})),
            InvalidKey::Member("y"),
        ),
        (
            "off the curve",
            with(P256.jwk(), json!({"y": base64([7; 32])})),
            InvalidKey::Rejected,
        ),
        (
            "zero point",
            with(
                P256.jwk(),
                json!({"x": base64([0; 32]), "y": base64([0; 32])}),
            ),
            InvalidKey::Rejected,
        ),
        (
            "no n",
            json!({"kty": "RSA", "e": "AQAB"}),
            InvalidKey::Member("n"),
        ),
        (
            "padded n",
            with(RSA.jwk(), json!({"n": "AAA="})),
            InvalidKey::Member("n"),
        ),
        ("1024 bits", rsa(&modulus(128), e), InvalidKey::Modulus),
        (
            "2047 bits",
            rsa(&[vec![0x41], vec![1; 255]].concat(), e),
            InvalidKey::Modulus,
        ),
        ("8200 bits", rsa(&modulus(1025), e), InvalidKey::Modulus),
        (
            "zeros in front do not count",
            rsa(&[vec![0; 200], modulus(128)].concat(), e),
            InvalidKey::Modulus,
        ),
        ("even modulus", rsa(&[0xc0; 256], e), InvalidKey::Modulus),
        ("no exponent", rsa(&modulus(256), &[]), InvalidKey::Exponent),
        (
            "exponent 1",
            rsa(&modulus(256), &[0, 1]),
            InvalidKey::Exponent,
        ),
        (
            "even exponent",
            rsa(&modulus(256), &[1, 0, 0]),
            InvalidKey::Exponent,
        ),
        (
            "huge exponent",
            rsa(&modulus(256), &[1, 0, 0, 0, 1]),
            InvalidKey::Exponent,
        ),
        (
            "encryption",
            with(RSA.jwk(), json!({"use": "enc"})),
            InvalidKey::OtherUse,
        ),
        (
            "operations",
            with(RSA.jwk(), json!({"key_ops": ["encrypt"]})),
            InvalidKey::OtherUse,
        ),
        (
            "operations text",
            with(RSA.jwk(), json!({"key_ops": "verify"})),
            InvalidKey::OtherUse,
        ),
        (
            "algorithm",
            with(RSA.jwk(), json!({"alg": "RSA-OAEP"})),
            InvalidKey::OtherUse,
        ),
        (
            "algorithm of the other type",
            with(RSA.jwk(), json!({"alg": "ES256"})),
            InvalidKey::Member("alg"),
        ),
        (
            "algorithm of another curve",
            with(P256.jwk(), json!({"alg": "ES384"})),
            InvalidKey::Member("alg"),
        ),
        (
            "private",
            with(RSA.jwk(), json!({"d": "AAAA"})),
            InvalidKey::Private,
        ),
        (
            "kid",
            with(RSA.jwk(), json!({"kid": 1})),
            InvalidKey::Member("kid"),
        ),
    ];
    for (name, bad, reason) in cases {
        let read = set(&[bad.clone(), with(RSA.jwk(), json!({"kid": "good"}))]);
        let skipped: Vec<_> = read
            .skipped()
            .iter()
            .map(|key| (key.index, key.reason))
            .collect();
        assert_eq!(skipped, [(0, reason)], "{name}");
        assert_eq!(read.ids().collect::<Vec<_>>(), ["good"], "{name}");
        let alone = KeySet::parse(json!({"keys": [bad]}).to_string().as_bytes());
        assert_eq!(alone.unwrap_err(), KeySetError::NoUsableKey, "{name}");
    }
    for fine in [
        with(
            RSA.jwk(),
            json!({"use": "sig", "key_ops": ["verify"], "x5t": "x", "extra": {}}),
        ),
        rsa(&modulus(256), &[3]),
    ] {
        assert_eq!(set(&[fine]).len(), 1);
    }
}

#[test]
fn key_sets_are_bounded_and_unambiguous() {
    let many = |count: usize, key: Value| json!({"keys": vec![key; count]}).to_string();
    let cases: Vec<(String, Option<KeySetError>)> = vec![
        ("{".into(), Some(KeySetError::Malformed)),
        ("[]".into(), Some(KeySetError::Malformed)),
        (r#"{"keys":{}}"#.into(), Some(KeySetError::Malformed)),
        (r#"{"keys":[]}"#.into(), Some(KeySetError::NoUsableKey)),
        (
            r#"{"keys":[],"keys":[]}"#.into(),
            Some(KeySetError::Malformed),
        ),
        (
            format!(r#"{{"keys":[{{"kty":"RSA","kty":"RSA"}},{}]}}"#, RSA.jwk()),
            Some(KeySetError::Malformed),
        ),
        (many(100, RSA.jwk()), None),
        (many(101, RSA.jwk()), Some(KeySetError::TooManyKeys)),
        (many(101, P256.jwk()), Some(KeySetError::TooManyKeys)),
        (
            format!("{}{}", many(1, RSA.jwk()), " ".repeat(256 * 1024)),
            Some(KeySetError::TooLarge),
        ),
    ];
    for (document, refused) in cases {
        let read = KeySet::parse(document.as_bytes()).err();
        assert_eq!(read, refused, "{:.80}", document);
    }
    let unknown = [vec![json!({"kty": "X"}); 1000], vec![RSA.jwk()]].concat();
    let read = set(&unknown);
    assert_eq!((read.len(), read.skipped().len()), (1, 200));
}

#[test]
fn issuers_are_https_urls() {
    let good = [
        ("https://issuer.example", "issuer.example", "issuer.example"),
        (
            "https://issuer.example/",
            "issuer.example/",
            "issuer.example",
        ),
        (
            "https://issuer.example/id/0A1B",
            "issuer.example/id/0A1B",
            "issuer.example",
        ),
        ("https://h:8443/x/", "h:8443/x/", "h"),
        (
            "https://login.example/a%20b/v2.0",
            "login.example/a%20b/v2.0",
            "login.example",
        ),
    ];
    for (text, prefix, host) in good {
        let issuer: IssuerUrl = text.parse().unwrap();
        assert_eq!(issuer.as_str(), text);
        assert_eq!((issuer.without_scheme(), issuer.host()), (prefix, host));
    }
    let long = format!("https://h/{}", "a".repeat(246));
    let bad = [
        ("http://issuer.example", InvalidIssuer::Scheme),
        ("HTTPS://issuer.example", InvalidIssuer::Scheme),
        ("issuer.example", InvalidIssuer::Scheme),
        ("", InvalidIssuer::Scheme),
        ("https://", InvalidIssuer::Host),
        ("https:///x", InvalidIssuer::Host),
        ("https://user@h/x", InvalidIssuer::Host),
        ("https://user:pass@h/x", InvalidIssuer::Port),
        ("https://h.example\\@evil", InvalidIssuer::Host),
        ("https://[::1]/x", InvalidIssuer::Host),
        ("https://a..b", InvalidIssuer::Host),
        ("https://-a", InvalidIssuer::Host),
        ("https://h?x", InvalidIssuer::Host),
        ("https://h#x", InvalidIssuer::Host),
        ("https://h\u{e9}", InvalidIssuer::Host),
        ("https://h:0", InvalidIssuer::Port),
        ("https://h:+80", InvalidIssuer::Port),
        ("https://h:65536", InvalidIssuer::Port),
        ("https://h:", InvalidIssuer::Port),
        ("https://h/x?y", InvalidIssuer::Path),
        ("https://h/x#y", InvalidIssuer::Path),
        ("https://h/x y", InvalidIssuer::Path),
        ("https://h/../x", InvalidIssuer::Path),
        ("https://h/x\r\n", InvalidIssuer::Path),
        (&long, InvalidIssuer::TooLong),
    ];
    for (text, refused) in bad {
        assert_eq!(text.parse::<IssuerUrl>(), Err(refused), "{text}");
    }
}

#[test]
fn discovery_documents_are_those_of_the_issuer() {
    let issuer = "https://issuer.example/id/1";
    let of = |issuer: &str, uri: &str| json!({"issuer": issuer, "jwks_uri": uri}).to_string();
    let keys = "https://keys.example/jwks?tenant=1";
    assert_eq!(
        Discovery::parse(of(issuer, keys).as_bytes(), issuer)
            .unwrap()
            .jwks_uri(),
        keys
    );
    let other = |found: &str| DiscoveryError::OtherIssuer {
        found: found.to_owned(),
    };
    let cases: Vec<(String, DiscoveryError)> = vec![
        ("[]".into(), DiscoveryError::Malformed),
        ("{".into(), DiscoveryError::Malformed),
        ("{}".into(), other("")),
        (
            of("https://issuer.example/id/1/", keys),
            other("https://issuer.example/id/1/"),
        ),
        (
            of("https://ISSUER.example/id/1", keys),
            other("https://ISSUER.example/id/1"),
        ),
        (of(&"x".repeat(9000), keys), other(&"x".repeat(300))),
        (
            format!(r#"{{"issuer":"{issuer}","issuer":"{issuer}","jwks_uri":"{keys}"}}"#),
            DiscoveryError::Malformed,
        ),
        (
            json!({"issuer": issuer}).to_string(),
            DiscoveryError::KeySetUri,
        ),
        (
            of(issuer, "http://issuer.example/keys"),
            DiscoveryError::KeySetUri,
        ),
        (of(issuer, "/keys"), DiscoveryError::KeySetUri),
        (of(issuer, "https://"), DiscoveryError::KeySetUri),
        (of(issuer, "https://user@h/keys"), DiscoveryError::KeySetUri),
        (
            of(issuer, "https://h\\@169.254.169.254/keys"),
            DiscoveryError::KeySetUri,
        ),
        (of(issuer, "https://h/keys#x"), DiscoveryError::KeySetUri),
        (of(issuer, "https://h/ke ys"), DiscoveryError::KeySetUri),
        (" ".repeat(256 * 1024 + 1), DiscoveryError::TooLarge),
    ];
    for (document, refused) in cases {
        let read = Discovery::parse(document.as_bytes(), issuer);
        assert_eq!(read.unwrap_err(), refused, "{:.120}", document);
    }
}

#[test]
fn our_discovery_documents_are_read_by_ourselves() {
    let issuer = "https://cs.example/outbound/1";
    let document = discovery_document(
        issuer,
        "https://cs.example/outbound/1/.well-known/jwks.json",
        [Algorithm::Rs256, Algorithm::Es384, Algorithm::Rs256],
    );
    assert!(Discovery::parse(document.as_bytes(), issuer).is_ok());
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(
        document["id_token_signing_alg_values_supported"],
        json!(["ES384", "RS256"])
    );
    assert_eq!(document["response_types_supported"], json!(["id_token"]));
    assert_eq!(document["subject_types_supported"], json!(["public"]));
    for (issuer, url) in [
        ("https://h", "https://h/.well-known/openid-configuration"),
        ("https://h/", "https://h/.well-known/openid-configuration"),
        (
            "https://h/x/",
            "https://h/x/.well-known/openid-configuration",
        ),
        (
            "https://h/x",
            "https://h/x/.well-known/openid-configuration",
        ),
    ] {
        assert_eq!(discovery_url(issuer), url);
    }
}

//! ID tokens of people: what is read, and whose signature counts.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

mod common;

use common::*;
use countersign_oidc::{Algorithm, TokenError, UnverifiedIdToken};
use serde_json::json;

fn verdict(token: &str, keys: &countersign_oidc::KeySet) -> Result<String, TokenError> {
    let token = UnverifiedIdToken::parse(token)?;
    let verified = token.verify(keys)?;
    let subject = verified.claim("sub").unwrap();
    Ok(format!(
        "{} {}",
        verified.issuer(),
        subject.as_str().unwrap()
    ))
}

fn person() -> String {
    json!({"iss": "https://id.example", "sub": "ana", "exp": NOW + 60}).to_string()
}

#[test]
fn every_algorithm_verifies_with_its_own_key_and_no_other() {
    let pairs = [&*RSA, &*P256, &*P384, &*P521];
    for algorithm in Algorithm::ALL {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"k"}}"#);
        let token = pair(algorithm).token(algorithm, &header, &person());
        for other in pairs {
            let keys = set(&[with(other.jwk(), json!({"kid": "k"}))]);
            let same = std::ptr::eq(other, pair(algorithm));
            let got = verdict(&token, &keys);
            assert_eq!(got.is_ok(), same, "{algorithm} {got:?}");
        }
        // A key that says what it is for serves nothing else.
        for alg in Algorithm::ALL {
            if alg.key_type() == algorithm.key_type() {
                let jwk = with(
                    pair(algorithm).jwk(),
                    json!({"kid": "k", "alg": alg.name()}),
                );
                let got = verdict(&token, &set(&[jwk])).is_ok();
                assert_eq!(got, alg == algorithm, "{algorithm} with a key for {alg}");
            }
        }
    }
}

#[test]
fn a_token_without_a_key_id_is_tried_with_all_keys() {
    let token = RSA.token(Algorithm::Rs256, r#"{"alg":"RS256"}"#, &person());
    let (own, other) = (
        with(RSA.jwk(), json!({"kid": "a"})),
        with(OTHER_RSA.jwk(), json!({"kid": "b"})),
    );
    for (what, keys, good) in [
        ("its own", vec![own.clone()], true),
        ("another first", vec![other.clone(), own], true),
        ("only another", vec![other], false),
    ] {
        assert_eq!(verdict(&token, &set(&keys)).is_ok(), good, "{what}");
    }
}

#[test]
fn what_is_no_id_token_and_what_is_a_bad_one() {
    let keys = keys();
    let payload = base64(person());
    let header = base64(r#"{"alg":"RS256","kid":"k1"}"#);
    let good = RSA.token(Algorithm::Rs256, r#"{"alg":"RS256","kid":"k1"}"#, &person());
    assert_eq!(verdict(&good, &keys).unwrap(), "https://id.example ana");
    let signature = good.rsplit('.').next().unwrap();
    let with_header = |text: &str| format!("{}.{payload}.{signature}", base64(text));
    let with_payload = |text: &str| format!("{header}.{}.{signature}", base64(text));
    // `no`: nobody's token, so that nobody is asked. Else a token of its issuer with this fault.
    for (what, token, expected) in [
        ("empty", String::new(), "no"),
        (
            "a k8s-aws-v1 token",
            "k8s-aws-v1.aHR0cHM6Ly9hLmI".into(),
            "no",
        ),
        (
            "one with dots",
            format!("k8s-aws-v1.{payload}.{signature}"),
            "no",
        ),
        ("two parts", format!("{header}.{payload}"), "no"),
        ("four parts", format!("{good}.AAAA"), "no"),
        ("padding", format!("{header}=.{payload}.{signature}"), "no"),
        (
            "a signature that is no base64url",
            format!("{header}.{payload}.+"),
            "no",
        ),
        ("a payload that is a list", with_payload("[]"), "no"),
        ("no issuer", with_payload(r#"{"sub":"ana"}"#), "no"),
        (
            "an issuer that is a number",
            with_payload(r#"{"iss":1}"#),
            "no",
        ),
        ("an empty issuer", with_payload(r#"{"iss":""}"#), "no"),
        (
            "two subjects",
            with_payload(r#"{"iss":"i","sub":"a","sub":"b"}"#),
            "no",
        ),
        (
            "too long",
            format!("{header}.{}.AA", "A".repeat(20_000)),
            "no",
        ),
        ("none", with_header(r#"{"alg":"none"}"#), "algorithm"),
        (
            "HS256",
            with_header(r#"{"alg":"HS256","kid":"k1"}"#),
            "algorithm",
        ),
        ("no algorithm", with_header("{}"), "algorithm"),
        (
            "crit",
            with_header(r#"{"alg":"RS256","crit":["b64"]}"#),
            "extension",
        ),
        ("a header that is text", with_header("RS256"), "header"),
        (
            "a header with two algorithms",
            with_header(r#"{"alg":"RS256","alg":"ES256"}"#),
            "header",
        ),
        (
            "a key id that is a number",
            with_header(r#"{"alg":"RS256","kid":1}"#),
            "header",
        ),
        (
            "an unknown key",
            with_header(r#"{"alg":"RS256","kid":"k2"}"#),
            "key",
        ),
        (
            "another algorithm",
            with_header(r#"{"alg":"ES256","kid":"k1"}"#),
            "key",
        ),
        (
            "another payload",
            with_payload(r#"{"iss":"https://id.example","sub":"eve"}"#),
            "signature",
        ),
        ("no signature", format!("{header}.{payload}."), "signature"),
        (
            "the family changed",
            with_header(r#"{"alg":"PS256","kid":"k1"}"#),
            "signature",
        ),
    ] {
        let got = match UnverifiedIdToken::parse(&token) {
            Err(_) => "no",
            Ok(parsed) => match parsed.verify(&keys).map(|_| ()) {
                Err(TokenError::NotAJwt(_)) => "header",
                Err(TokenError::UnsupportedAlgorithm) => "algorithm",
                Err(TokenError::Extension(_)) => "extension",
                Err(TokenError::UnknownKey(_)) => "key",
                Err(TokenError::BadSignature) => "signature",
                other => panic!("{what}: {other:?}"),
            },
        };
        assert_eq!(got, expected, "{what}");
    }
    let shown = format!("{:?}", UnverifiedIdToken::parse(&good).unwrap());
    assert!(
        !shown.contains("ana") && !shown.contains(signature),
        "{shown}"
    );
}

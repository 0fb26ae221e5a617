//! Tokens: forged, odd, late, early, for others (IRSA spec, sections 4.2, 6.2, 6.3 and 12).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use countersign_oidc::{Algorithm, Code, TokenError, UnverifiedToken};
use serde_json::{Value, json};

const CLIENT: &[&str] = &["sts.amazonaws.com"];
const NOT_A_JWT: &str = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)";
const NO_KEY: &str = "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements";

#[test]
fn the_token_of_the_specification_verifies_until_five_minutes_after_it_ends() {
    let keys = registered();
    let cases = [
        (1_893_456_100, None),
        (1_893_542_400 + 299, None),
        (
            1_893_542_400 + 300,
            Some(
                "Token expired: current date/time 1893542700 must be before the expiration date/time 1893542400",
            ),
        ),
        (1_893_456_000 - 300, None),
        (
            1_893_456_000 - 301,
            Some(
                "Token not yet valid: current date/time 1893455699 must not be before the nbf date/time 1893456000",
            ),
        ),
    ];
    for (now, refused) in cases {
        let told =
            outcome(token(), &keys, CLIENT, now).map_err(|error| error.message().into_owned());
        assert_eq!(told.as_ref().err().map(String::as_str), refused, "{now}");
    }
    let token = UnverifiedToken::parse(token()).unwrap();
    assert_eq!(token.key_id(), Some(RSA_ID));
    let claims = token.verify(&keys).unwrap().claims().clone();
    assert_eq!(&*claims.subject, "system:serviceaccount:orchard:picker");
    assert_eq!(
        &*claims.issuer,
        "https://issuer.countersign.example/id/0A1B2C3D4E5F60718293A4B5C6D7E8F9"
    );
    let kubernetes = claims.kubernetes.unwrap();
    assert_eq!(&*kubernetes.namespace, "orchard");
    assert_eq!(&*kubernetes.service_account.name, "picker");
    assert_eq!(&*kubernetes.pod.unwrap().name, "picker-0");
    assert_eq!(
        kubernetes.node.unwrap().uid.as_deref(),
        Some("7c9d8a10-1111-4222-8333-444455556666")
    );
    assert_eq!(
        claims.token_id.as_deref(),
        Some("3d2f8b1e-5a64-4f0e-9c1d-7b0a4e6f2c11")
    );
}

#[test]
fn every_algorithm_verifies_with_its_own_key_and_no_other() {
    let pairs = [&*RSA, &*P256, &*P384, &*P521];
    for algorithm in Algorithm::ALL.into_iter().filter(|a| !a.is_pss()) {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"k"}}"#);
        let token = pair(algorithm).token(algorithm, &header, &claims().to_string());
        for other in pairs {
            let keys = set(&[with(other.jwk(), json!({"kid": "k"}))]);
            let same = std::ptr::eq(other, pair(algorithm));
            assert_eq!(
                outcome(&token, &keys, CLIENT, NOW).is_ok(),
                same,
                "{algorithm}"
            );
        }
    }
}

#[test]
fn forged_tokens_are_refused() {
    let good = signed(&claims());
    let keys = keys();
    assert!(outcome(&good, &keys, CLIENT, NOW).is_ok());
    let [header, payload, signature]: [&str; 3] =
        good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let admin = base64(with(claims(), json!({"sub": "system:serviceaccount:a:admin"})).to_string());
    let none = base64(r#"{"alg":"none"}"#);
    let header_of = |text: &str| base64(text);
    let unsupported = "The token must be signed with RS256, RS384, RS512, ES256, ES384 or ES512";
    let bad = "The signature of the token is not valid";
    // HMAC with the public key's bytes as its secret: what a verifier computes that lets the header choose.
    let hs = header_of(r#"{"alg":"HS256","kid":"k1"}"#);
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, RSA_PEM.as_bytes());
    let mac = aws_lc_rs::hmac::sign(&secret, format!("{hs}.{payload}").as_bytes());
    let wrong_key = OTHER_RSA.token(
        Algorithm::Rs256,
        r#"{"alg":"RS256","kid":"k1"}"#,
        &claims().to_string(),
    );
    // The attacker's own key in the header.
    let embedded = OTHER_RSA.token(
        Algorithm::Rs256,
        &json!({"alg": "RS256", "kid": "k1", "jwk": OTHER_RSA.jwk()}).to_string(),
        &claims().to_string(),
    );
    let cases: Vec<(&str, String, &str)> = vec![
        ("payload", format!("{header}.{admin}.{signature}"), bad),
        ("no signature", format!("{header}.{payload}."), bad),
        (
            "short signature",
            format!("{header}.{payload}.{}", &signature[..8]),
            bad,
        ),
        (
            "zero signature",
            format!("{header}.{payload}.{}", base64([0; 256])),
            bad,
        ),
        ("none", format!("{none}.{payload}."), unsupported),
        (
            "none with signature",
            format!("{none}.{payload}.{signature}"),
            unsupported,
        ),
        (
            "None",
            format!("{}.{payload}.", header_of(r#"{"alg":"None"}"#)),
            unsupported,
        ),
        (
            "HS256",
            format!("{hs}.{payload}.{}", base64(mac.as_ref())),
            unsupported,
        ),
        (
            "PS256",
            format!("{}.{payload}.{signature}", header_of(r#"{"alg":"PS256"}"#)),
            unsupported,
        ),
        (
            "EdDSA",
            format!("{}.{payload}.{signature}", header_of(r#"{"alg":"EdDSA"}"#)),
            unsupported,
        ),
        (
            "rs256",
            format!("{}.{payload}.{signature}", header_of(r#"{"alg":"rs256"}"#)),
            unsupported,
        ),
        (
            "no alg",
            format!("{}.{payload}.{signature}", header_of(r#"{"kid":"k1"}"#)),
            unsupported,
        ),
        (
            "alg list",
            format!(
                "{}.{payload}.{signature}",
                header_of(r#"{"alg":["RS256"]}"#)
            ),
            unsupported,
        ),
        (
            "other hash",
            format!(
                "{}.{payload}.{signature}",
                header_of(r#"{"alg":"RS512","kid":"k1"}"#)
            ),
            bad,
        ),
        (
            "other type",
            format!(
                "{}.{payload}.{signature}",
                header_of(r#"{"alg":"ES256","kid":"k1"}"#)
            ),
            NO_KEY,
        ),
        (
            "other kid",
            format!(
                "{}.{payload}.{signature}",
                header_of(r#"{"alg":"RS256","kid":"k2"}"#)
            ),
            NO_KEY,
        ),
        ("wrong key", wrong_key, bad),
        ("embedded key", embedded, bad),
        (
            "crit",
            format!(
                "{}.{payload}.{signature}",
                header_of(r#"{"alg":"RS256","crit":["exp"]}"#)
            ),
            "The token header must not contain crit",
        ),
        (
            "b64",
            format!(
                "{}.{payload}.{signature}",
                header_of(r#"{"alg":"RS256","b64":false}"#)
            ),
            "The token header must not contain b64",
        ),
        (
            "kid number",
            format!(
                "{}.{payload}.{signature}",
                header_of(r#"{"alg":"RS256","kid":1}"#)
            ),
            NOT_A_JWT,
        ),
        (
            "kid long",
            format!(
                "{}.{payload}.{signature}",
                header_of(&json!({"alg": "RS256", "kid": "k".repeat(1025)}).to_string())
            ),
            NOT_A_JWT,
        ),
        (
            "typ number",
            format!(
                "{}.{payload}.{signature}",
                header_of(r#"{"alg":"RS256","typ":1}"#)
            ),
            NOT_A_JWT,
        ),
        (
            "header twice",
            format!(
                "{}.{payload}.{signature}",
                header_of(r#"{"alg":"RS256","alg":"RS256"}"#)
            ),
            NOT_A_JWT,
        ),
        (
            "header list",
            format!("{}.{payload}.{signature}", header_of(r#"["RS256"]"#)),
            NOT_A_JWT,
        ),
        ("opaque", "ya29.opaque-access-token".into(), NOT_A_JWT),
        ("empty", String::new(), NOT_A_JWT),
        ("two parts", format!("{header}.{payload}"), NOT_A_JWT),
        ("four parts", format!("{good}.x"), NOT_A_JWT),
        (
            "encrypted",
            format!("{header}.{payload}.{signature}.a.b"),
            NOT_A_JWT,
        ),
        (
            "padding",
            format!("{header}.{payload}.{signature}=="),
            NOT_A_JWT,
        ),
        (
            "other alphabet",
            format!("{header}.{payload}.+/{signature}"),
            NOT_A_JWT,
        ),
        ("stray bits", format!("{header}.{payload}.AB"), NOT_A_JWT),
        ("space", format!(" {good}"), NOT_A_JWT),
        ("newline", format!("{good}\n"), NOT_A_JWT),
        (
            "JSON form",
            json!({"payload": payload, "signatures": []}).to_string(),
            NOT_A_JWT,
        ),
        (
            "long",
            format!("{header}.{}.{signature}", "A".repeat(20_000)),
            NOT_A_JWT,
        ),
        (
            "deep",
            RSA.token(
                Algorithm::Rs256,
                r#"{"alg":"RS256","kid":"k1"}"#,
                &format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500)),
            ),
            NOT_A_JWT,
        ),
        (
            "two values",
            RSA.token(
                Algorithm::Rs256,
                r#"{"alg":"RS256","kid":"k1"}"#,
                &format!("{}{{}}", claims()),
            ),
            NOT_A_JWT,
        ),
        (
            "no UTF-8",
            format!("{header}.{}.{signature}", base64(b"{\"iss\":\"\xff\"}")),
            NOT_A_JWT,
        ),
    ];
    for (name, token, text) in cases {
        let error = outcome(&token, &keys, CLIENT, NOW).unwrap_err();
        assert_eq!(error.message(), text, "{name}");
        assert_eq!(error.code(), Code::InvalidIdentityToken, "{name}");
        assert_eq!(error.code().status(), 400);
    }
}

#[test]
fn any_changed_character_of_a_good_token_makes_it_a_bad_one() {
    let good = token();
    let keys = registered();
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(outcome(&changed, &keys, CLIENT, NOW).is_err(), "{at}");
    }
}

#[test]
fn claims_have_their_forms() {
    let null = Value::Null;
    let text = |text: &str| Some(text.to_owned());
    let cases: Vec<(&str, Value, Option<String>)> = vec![
        ("iss", null.clone(), text("Missing a required claim: iss")),
        ("sub", null.clone(), text("Missing a required claim: sub")),
        ("aud", null.clone(), text("Missing a required claim: aud")),
        ("exp", null.clone(), text("Missing a required claim: exp")),
        ("iat", null.clone(), text("Missing a required claim: iat")),
        ("nbf", null.clone(), None),
        ("aud", json!([]), text("Missing a required claim: aud")),
        (
            "aud",
            json!([1]),
            text("The claim aud must be a text or a list of texts"),
        ),
        (
            "aud",
            json!({"a": 1}),
            text("The claim aud must be a text or a list of texts"),
        ),
        (
            "aud",
            json!(""),
            text("The claim aud must be a text or a list of texts"),
        ),
        ("aud", json!("sts.amazonaws.com"), None),
        (
            "aud",
            json!((0..101).map(|n| n.to_string()).collect::<Vec<_>>()),
            text("The claim aud must be at most 100 audiences"),
        ),
        ("iss", json!(7), text("The claim iss must be a text")),
        ("iss", json!(""), text("The claim iss must be a text")),
        ("sub", json!(["a"]), text("The claim sub must be a text")),
        ("sub", json!("é".repeat(255)), None),
        (
            "sub",
            json!("é".repeat(256)),
            text("The claim sub must be at most 255 characters long"),
        ),
        (
            "exp",
            json!(1_893_459_600.5),
            text("The claim exp must be an integer"),
        ),
        (
            "exp",
            json!(1_893_459_600.0),
            text("The claim exp must be an integer"),
        ),
        (
            "exp",
            json!("1893459600"),
            text("The claim exp must be an integer"),
        ),
        (
            "exp",
            json!(u64::MAX),
            text("The claim exp must be an integer"),
        ),
        ("exp", json!(i64::MAX), None),
        (
            "exp",
            json!(i64::MIN),
            text(
                "Token expired: current date/time 1893456100 must be before the expiration date/time -9223372036854775808",
            ),
        ),
        (
            "iat",
            json!(1e300),
            text("The claim iat must be an integer"),
        ),
        ("iat", json!(NOW + 300), None),
        (
            "iat",
            json!(NOW + 301),
            text(
                "Token not yet valid: current date/time 1893456100 must not be before the iat date/time 1893456401",
            ),
        ),
        (
            "iat",
            json!(i64::MAX),
            text(
                "Token not yet valid: current date/time 1893456100 must not be before the iat date/time 9223372036854775807",
            ),
        ),
        ("iat", json!(NOW - 605_100), None),
        (
            "iat",
            json!(NOW - 605_101),
            text("Token too old: current date/time 1893456100, issued at date/time 1892850999"),
        ),
        ("nbf", json!(NOW + 300), None),
        (
            "nbf",
            json!(NOW + 301),
            text(
                "Token not yet valid: current date/time 1893456100 must not be before the nbf date/time 1893456401",
            ),
        ),
        ("nbf", json!(true), text("The claim nbf must be an integer")),
        ("azp", json!(1), text("The claim azp must be a text")),
        ("amr", json!(["pwd", "mfa"]), None),
        (
            "amr",
            json!([1]),
            text("The claim amr must be a text or a list of texts"),
        ),
        ("jti", json!(12), None),
        ("kubernetes.io", json!("mine"), None),
        ("kubernetes.io", json!({"namespace": 1}), None),
    ];
    let keys = keys();
    for (claim, value, refused) in cases {
        let changed = with(claims(), json!({claim: value.clone()}));
        let told = outcome(&signed(&changed), &keys, CLIENT, NOW);
        let told = told.map_err(|error| error.message().into_owned());
        assert_eq!(told.err(), refused, "{claim} = {value}");
        if value.is_null() {
            let mut without = claims();
            without.as_object_mut().unwrap().remove(claim);
            let told = outcome(&signed(&without), &keys, CLIENT, NOW);
            assert_eq!(
                told.err().map(|error| error.message().into_owned()),
                refused
            );
        }
    }
    let twice = claims().to_string().replacen('{', r#"{"sub":"other","#, 1);
    let token = RSA.token(Algorithm::Rs256, r#"{"alg":"RS256","kid":"k1"}"#, &twice);
    let told = outcome(&token, &keys, CLIENT, NOW).unwrap_err();
    assert_eq!(told.message(), NOT_A_JWT);
    let inner = claims()
        .to_string()
        .replacen('{', r#"{"x":[{"y":1,"y":2}],"#, 1);
    let token = RSA.token(Algorithm::Rs256, r#"{"alg":"RS256","kid":"k1"}"#, &inner);
    assert_eq!(
        outcome(&token, &keys, CLIENT, NOW).unwrap_err().message(),
        NOT_A_JWT
    );
}

#[test]
fn the_audience_is_the_authorized_party_or_the_only_one_that_is_listed() {
    let refused = "Incorrect token audience";
    type Case = (
        Value,
        Option<&'static str>,
        &'static [&'static str],
        Result<&'static str, &'static str>,
    );
    let cases: &[Case] = &[
        (json!("a"), None, &["a"], Ok("a")),
        (json!(["a"]), None, &["b", "a"], Ok("a")),
        (json!(["a", "b"]), None, &["b"], Ok("b")),
        (json!(["a", "a"]), None, &["a"], Ok("a")),
        (json!(["a", "b"]), None, &["a", "b"], Err(refused)),
        (json!(["a", "b"]), None, &["c"], Err(refused)),
        (json!("a"), None, &[], Err(refused)),
        (json!("a"), None, &["A"], Err(refused)),
        (json!("a"), None, &["ab", "*"], Err(refused)),
        (json!("a"), Some("c"), &["c"], Ok("c")),
        (json!("a"), Some("c"), &["a"], Err(refused)),
        (json!(["a", "b"]), Some("a"), &["a", "b"], Ok("a")),
    ];
    for (audience, party, listed, expected) in cases {
        let mut of = with(claims(), json!({"aud": audience}));
        if let Some(party) = party {
            of = with(of, json!({"azp": party}));
        }
        let told = outcome(&signed(&of), &keys(), listed, NOW);
        let told = told.map_err(|error| error.message().into_owned());
        assert_eq!(
            told.as_deref().map_err(String::as_str),
            *expected,
            "{audience} {party:?} {listed:?}"
        );
    }
}

#[test]
fn a_token_without_kid_needs_the_only_key_of_its_algorithm() {
    let header = r#"{"alg":"RS256"}"#;
    let empty = r#"{"alg":"RS256","kid":""}"#;
    let a = || with(RSA.jwk(), json!({"kid": "a"}));
    let cases: Vec<(&str, Vec<Value>, bool)> = vec![
        ("one", vec![a()], true),
        ("one of the algorithm", vec![a(), P256.jwk()], true),
        (
            "the same twice",
            vec![a(), with(RSA.jwk(), json!({"kid": ""}))],
            true,
        ),
        ("without id", vec![RSA.jwk()], true),
        (
            "two",
            vec![a(), with(OTHER_RSA.jwk(), json!({"kid": "b"}))],
            false,
        ),
        (
            "two, one for another algorithm",
            vec![
                a(),
                with(OTHER_RSA.jwk(), json!({"kid": "b", "alg": "RS512"})),
            ],
            true,
        ),
        ("none", vec![P256.jwk()], false),
    ];
    for (name, keys, accepted) in cases {
        let keys = set(&keys);
        for header in [header, empty] {
            let token = RSA.token(Algorithm::Rs256, header, &claims().to_string());
            let told = outcome(&token, &keys, CLIENT, NOW);
            assert_eq!(told.is_ok(), accepted, "{name}: {told:?}");
            assert!(
                accepted || matches!(told, Err(TokenError::UnknownKey(_))),
                "{name}"
            );
        }
    }
    // A token that names a key does not take one without a name.
    let keys = set(&[RSA.jwk()]);
    assert!(outcome(&signed(&claims()), &keys, CLIENT, NOW).is_err());
}

#[test]
fn a_key_says_which_algorithm_it_is_for() {
    let token = signed(&claims());
    for (algorithm, accepted) in [("RS256", true), ("RS512", false)] {
        let keys = set(&[with(RSA.jwk(), json!({"kid": "k1", "alg": algorithm}))]);
        assert_eq!(
            outcome(&token, &keys, CLIENT, NOW).is_ok(),
            accepted,
            "{algorithm}"
        );
    }
}

#[test]
fn of_several_keys_with_the_same_id_one_has_to_verify() {
    let named = |jwk| with(jwk, json!({"kid": "k1"}));
    let keys = set(&[named(OTHER_RSA.jwk()), named(P256.jwk()), named(RSA.jwk())]);
    assert!(outcome(&signed(&claims()), &keys, CLIENT, NOW).is_ok());
}

#[test]
fn nothing_prints_the_token() {
    let parsed = UnverifiedToken::parse(token()).unwrap();
    let printed = format!("{parsed:?}");
    for part in token().split('.') {
        assert!(!printed.contains(part));
    }
    assert!(printed.contains("issuer.countersign.example"));
}

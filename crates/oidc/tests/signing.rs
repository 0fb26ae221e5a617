//! Our own keys and tokens.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;

use common::*;
use countersign_oidc::{
    Algorithm, IssuerKeys, MAX_ISSUER_KEYS, RotationAdvice, RotationError, Schedule, SigningError,
    SigningKey, UnverifiedToken,
};
use serde_json::{Value, json};

const RULES: Schedule = Schedule::OUTBOUND;

fn key(algorithm: Algorithm) -> Arc<SigningKey> {
    Arc::new(SigningKey::generate(algorithm).unwrap())
}

#[test]
fn what_we_sign_we_verify() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384] {
        let key = key(algorithm);
        let token = key.sign(&claims()).unwrap();
        let header = token.split('.').next().unwrap();
        let header =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header);
        let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
        assert_eq!(
            header,
            json!({"alg": algorithm.name(), "kid": key.id(), "typ": "JWT"})
        );
        let keys = IssuerKeys::default()
            .rotated(Arc::clone(&key), RULES, at(NOW))
            .unwrap();
        let published = keys.document(RULES, at(NOW));
        let set = countersign_oidc::KeySet::parse(published.as_bytes()).unwrap();
        assert!(outcome(&token, &set, &["sts.amazonaws.com"], NOW).is_ok());
        let again = SigningKey::from_pkcs8(algorithm, &key.pkcs8().unwrap()).unwrap();
        assert_eq!(again.id(), key.id());
        assert!(!format!("{key:?}").contains(&base64(&*key.pkcs8().unwrap())[..40]));
    }
}

#[test]
fn keys_are_of_their_algorithm() {
    for algorithm in [Algorithm::Rs384, Algorithm::Rs512, Algorithm::Es512] {
        assert_eq!(
            SigningKey::generate(algorithm).unwrap_err(),
            SigningError::Algorithm
        );
    }
    let rsa = key(Algorithm::Rs256).pkcs8().unwrap();
    let ec = key(Algorithm::Es384).pkcs8().unwrap();
    for (algorithm, der) in [
        (Algorithm::Es384, &rsa),
        (Algorithm::Rs256, &ec),
        (Algorithm::Es256, &ec),
    ] {
        assert_eq!(
            SigningKey::from_pkcs8(algorithm, der).unwrap_err(),
            SigningError::Key
        );
    }
    assert_eq!(
        key(Algorithm::Es256).sign(&"text").unwrap_err(),
        SigningError::Claims
    );
}

#[test]
fn a_rotation_never_signs_with_a_key_that_verifiers_may_not_know() {
    let (first, second) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let start = IssuerKeys::default();
    assert!(start.signing(Algorithm::Es256, at(NOW)).is_none());
    assert!(start.is_due(Algorithm::Es256, RULES, at(NOW)));
    let one = start.rotated(Arc::clone(&first), RULES, at(NOW)).unwrap();
    let week = NOW + RULES.rotate_every;
    assert!(!one.is_due(Algorithm::Es256, RULES, at(week - 1)));
    assert!(one.is_due(Algorithm::Es256, RULES, at(week)));
    assert!(one.is_due(Algorithm::Rs256, RULES, at(NOW)));
    let two = one.rotated(Arc::clone(&second), RULES, at(week)).unwrap();
    // (time, signs, published)
    let cases: [(i64, &SigningKey, &[&SigningKey]); 5] = [
        (week, &first, &[&first, &second]),
        (week + 359, &first, &[&first, &second]),
        (week + 360, &second, &[&first, &second]),
        (week + 360 + 3900, &second, &[&first, &second]),
        (week + 360 + 3901, &second, &[&second]),
    ];
    for (now, signs, published) in cases {
        assert_eq!(
            two.signing(Algorithm::Es256, at(now)).unwrap().id(),
            signs.id(),
            "{now}"
        );
        let ids: Vec<_> = two
            .published(RULES, at(now))
            .iter()
            .map(|key| key.id().to_owned())
            .collect();
        let expected: Vec<_> = published.iter().map(|key| key.id()).collect();
        assert_eq!(ids, expected, "{now}");
        assert_eq!(
            two.key_set(RULES, at(now))
                .unwrap()
                .ids()
                .collect::<Vec<_>>(),
            expected
        );
    }
    assert_eq!(
        two.rotated(second, RULES, at(week)).unwrap_err(),
        RotationError::Known
    );
    let without = two.without(first.id());
    assert_eq!(without.published(RULES, at(week)).len(), 1);
    assert!(without.signing(Algorithm::Es256, at(week)).is_none());
}

#[test]
fn an_old_key_asks_for_the_next_one_and_the_one_before_to_be_removed() {
    let (first, second) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let one = IssuerKeys::default()
        .rotated(Arc::clone(&first), RULES, at(NOW))
        .unwrap();
    let week = NOW + RULES.rotate_every;
    let two = one.rotated(Arc::clone(&second), RULES, at(week)).unwrap();
    let rotate = |kid, age_seconds| Some(RotationAdvice::Rotate { kid, age_seconds });
    let remove = |kid| Some(RotationAdvice::Remove { kid });
    let cases = [
        (&IssuerKeys::default(), NOW, None),
        (&one, NOW, None),
        (&one, week - 1, None),
        (&one, week, rotate(first.id(), RULES.rotate_every)),
        (
            &one,
            week + 86_400,
            rotate(first.id(), RULES.rotate_every + 86_400),
        ),
        // While a rotation is under way there is nothing to do but to wait.
        (&two, week, None),
        (&two, week + 360, None),
        (&two, week + 360 + 3900, None),
        (&two, week + 360 + 3901, remove(first.id())),
        (&two, 2 * week, remove(first.id())),
        (&two.without(first.id()), week + 7200, None),
        (
            &two.without(first.id()),
            week + RULES.rotate_every,
            rotate(second.id(), RULES.rotate_every),
        ),
    ];
    for (keys, now, advice) in cases {
        assert_eq!(keys.advice(RULES, at(now)), advice, "{}", now - NOW);
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_turn_the_order_round() {
    let one = IssuerKeys::default()
        .rotated(key(Algorithm::Es256), RULES, at(NOW))
        .unwrap();
    let second = key(Algorithm::Es256);
    let two = one
        .rotated(Arc::clone(&second), RULES, at(NOW - 100_000))
        .unwrap();
    assert_eq!(
        two.signing(Algorithm::Es256, at(NOW + 1)).unwrap().id(),
        second.id()
    );
}

#[test]
fn rotations_without_end_are_refused() {
    let mut keys = IssuerKeys::default();
    for _ in 0..MAX_ISSUER_KEYS {
        keys = keys.rotated(key(Algorithm::Es256), RULES, at(NOW)).unwrap();
    }
    assert_eq!(
        keys.rotated(key(Algorithm::Es256), RULES, at(NOW))
            .unwrap_err(),
        RotationError::TooMany
    );
}

#[test]
fn stored_keys_come_back() {
    let keys = IssuerKeys::default()
        .rotated(key(Algorithm::Rs256), RULES, at(NOW))
        .and_then(|keys| keys.rotated(key(Algorithm::Es384), RULES, at(NOW)))
        .and_then(|keys| keys.rotated(key(Algorithm::Es384), RULES, at(NOW + 5)))
        .unwrap();
    let stored = keys.encode().unwrap();
    let again = IssuerKeys::decode(&stored).unwrap();
    assert_eq!(again.encode().unwrap(), stored);
    for now in [NOW, NOW + 365, NOW + 9999] {
        for algorithm in [Algorithm::Rs256, Algorithm::Es384] {
            let id = |keys: &IssuerKeys| keys.signing(algorithm, at(now)).unwrap().id().to_owned();
            assert_eq!(id(&keys), id(&again));
        }
        assert_eq!(
            keys.document(RULES, at(now)),
            again.document(RULES, at(now))
        );
    }
    for broken in [&b"{}"[..], b"[{}]", b"", &stored[..stored.len() - 2]] {
        assert!(IssuerKeys::decode(broken).is_err());
    }
    let token = keys
        .signing(Algorithm::Es384, at(NOW))
        .unwrap()
        .sign(&claims())
        .unwrap();
    assert!(UnverifiedToken::parse(&token).is_ok());
}

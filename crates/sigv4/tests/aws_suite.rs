//! The 38 cases of the test suite of aws-c-auth, each as header and as query signature.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

mod common;

use common::{Message, time};
use countersign_sigv4::{AuthError, KeyLookup, Parsed, PathRule, SecretKey, ServicePolicy};
use serde::Deserialize;

#[derive(Deserialize)]
struct Suite {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    service: String,
    server_time: String,
    normalize: bool,
    token_added_after_signing: bool,
    header: Signed,
    query: Signed,
}

#[derive(Deserialize)]
struct Signed {
    #[serde(flatten)]
    message: Message,
    canonical_request: String,
    string_to_sign: String,
    signature: String,
}

fn cases() -> Vec<Case> {
    let suite: Suite = serde_json::from_str(include_str!("data/aws-signing-suite.json")).unwrap();
    assert_eq!(suite.cases.len(), 38);
    suite.cases
}

fn policy(case: &Case) -> ServicePolicy {
    let mut policy = ServicePolicy::for_service(case.service.clone());
    policy.paths = if case.normalize {
        PathRule::Normalise
    } else {
        PathRule::AsSent
    };
    policy
}

fn verify(case: &Case, signed: &Signed, policy: &ServicePolicy) -> Result<(), AuthError> {
    let secret = SecretKey::new(case.secret_access_key.clone());
    signed.message.with(|request| {
        let parsed = Parsed::from_request(request, policy, time(&case.server_time))?;
        assert_eq!(parsed.key_id(), case.access_key_id);
        assert_eq!(
            parsed.session_token(),
            case.session_token.as_deref(),
            "{}",
            case.name
        );
        if !(case.token_added_after_signing && signed.message.target.contains("X-Amz-Signature")) {
            assert_eq!(
                parsed.canonical_request(request.body),
                signed.canonical_request,
                "{}",
                case.name
            );
            assert_eq!(
                parsed.string_to_sign(request.body),
                signed.string_to_sign,
                "{}",
                case.name
            );
        }
        parsed.verify(KeyLookup::Secret(&secret)).map(|_| ())
    })
}

#[test]
fn every_header_case_verifies() {
    for case in cases() {
        assert_eq!(
            verify(&case, &case.header, &policy(&case)),
            Ok(()),
            "{}",
            case.name
        );
    }
}

#[test]
fn every_query_case_verifies_but_the_token_added_after_signing() {
    for case in cases() {
        let want = if case.token_added_after_signing {
            Err(AuthError::SignatureMismatch)
        } else {
            Ok(())
        };
        assert_eq!(
            verify(&case, &case.query, &policy(&case)),
            want,
            "{}",
            case.name
        );
    }
}

#[test]
fn a_token_added_to_the_url_after_signing_verifies_with_the_second_try() {
    let case = cases()
        .into_iter()
        .find(|c| c.name == "post-sts-header-after")
        .unwrap();
    let mut policy = policy(&case);
    policy.retry_without_token = true;
    assert_eq!(verify(&case, &case.query, &policy), Ok(()));
}

#[test]
fn no_case_verifies_with_another_signature() {
    for case in cases() {
        for signed in [&case.header, &case.query] {
            let swapped = if signed.signature.starts_with('0') {
                '1'
            } else {
                '0'
            };
            let wrong = format!("{swapped}{}", signed.signature.get(1..).unwrap());
            let mut message = signed.message.clone();
            message.target = message.target.replace(&signed.signature, &wrong);
            for (_, value) in &mut message.headers {
                *value = value.replace(&signed.signature, &wrong);
            }
            let mut policy = policy(&case);
            policy.retry_without_token = true;
            let signed = Signed {
                message,
                canonical_request: signed.canonical_request.clone(),
                string_to_sign: signed.string_to_sign.clone(),
                signature: wrong,
            };
            assert_eq!(
                verify(&case, &signed, &policy),
                Err(AuthError::SignatureMismatch),
                "{}",
                case.name
            );
        }
    }
}

//! The worked vectors, and what becomes of them when one thing is changed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

mod common;

use common::{Store, policy, time, vector, vectors};
use countersign_sigv4::{
    AuthError, Kind, Parsed, PathRule, PayloadCoverage, Protocol, Regions, ServicePolicy, Verified,
};

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";

#[test]
fn every_vector_verifies_with_the_published_canonical_request_and_string_to_sign() {
    let store = Store::new();
    for v in vectors().vectors {
        let (now, policy) = (time(&v.server_time), policy(&v.service));
        v.message.with(|request| {
            let parsed = Parsed::from_request(request, &policy, now)
                .unwrap_or_else(|e| panic!("{}: {e}", v.name));
            assert_eq!(
                parsed.canonical_request(request.body),
                v.canonical_request,
                "{}",
                v.name
            );
            assert_eq!(
                parsed.string_to_sign(request.body),
                v.string_to_sign,
                "{}",
                v.name
            );
            assert_eq!(
                parsed.session_token(),
                v.session_token.as_deref(),
                "{}",
                v.name
            );
            let verified = parsed
                .verify(store.lookup(&parsed, now))
                .unwrap_or_else(|e| panic!("{}: {e}", v.name));
            assert_eq!(verified.key_id(), v.access_key_id);
            assert_eq!(
                (&verified.scope().region, &verified.scope().service),
                (&v.region, &v.service)
            );
            let presigned = v.message.target.contains("X-Amz-Signature");
            assert_eq!(
                verified.kind(),
                if presigned { Kind::Query } else { Kind::Header }
            );
            assert!(verified.was_signed("Host") && !verified.was_signed("user-agent"));
            let unsigned = v.canonical_request.ends_with("UNSIGNED-PAYLOAD");
            let coverage = if unsigned {
                PayloadCoverage::Unsigned
            } else {
                PayloadCoverage::Whole
            };
            assert_eq!(verified.payload(), coverage, "{}", v.name);
        });
    }
}

#[test]
fn every_mutation_gives_the_named_code_status_and_message() {
    for m in vectors().mutations {
        let mut store = Store::new();
        store.session_expires = m.session_expires.as_deref().map(time);
        let (now, policy) = (time(&m.server_time), policy(&m.service));
        let outcome: Result<Verified, AuthError> = m.message.with(|request| {
            let parsed = Parsed::from_request(request, &policy, now)?;
            parsed.verify(store.lookup(&parsed, now))
        });
        match (outcome, &m.expect_code) {
            (Ok(_), None) => assert_eq!(m.expect_status, 200, "{}", m.name),
            (Err(error), Some(code)) => {
                let wire = error.wire(Protocol::Query);
                assert_eq!(
                    (wire.status, wire.code),
                    (m.expect_status, code.as_str()),
                    "{}",
                    m.name
                );
                match m.expect_message.as_deref() {
                    None => assert_eq!(wire.message, "", "{}", m.name),
                    Some("(long text)") => assert_eq!(wire.message, MISMATCH, "{}", m.name),
                    Some(text) if code == "MalformedQueryString" => {
                        assert_eq!(wire.message, format!("{text}: %ZZ"), "{}", m.name);
                    }
                    Some(text) => assert_eq!(wire.message, text, "{}", m.name),
                }
                if let Some(code) = &m.rest_json_code {
                    assert_eq!(error.wire(Protocol::RestJson).code, code, "{}", m.name);
                    assert_eq!(error.wire(Protocol::Json11).status, 400, "{}", m.name);
                }
            }
            (outcome, _) => panic!("{}: {outcome:?}", m.name),
        }
    }
}

#[test]
fn paths_with_dot_or_empty_segments_are_refused_before_authentication_by_default() {
    let v = vector("path-normalisation");
    let policy = ServicePolicy::for_service("eks");
    v.message.with(|request| {
        let error = Parsed::from_request(request, &policy, time(&v.server_time)).unwrap_err();
        let wire = error.wire(Protocol::RestJson);
        assert_eq!((wire.status, wire.code, &*wire.message), (400, "", ""));
    });
}

#[test]
fn a_json_service_allows_five_minutes_and_names_them() {
    let v = vector("eks-json-post");
    let policy = policy("eks");
    v.message.with(|request| {
        for edge in ["20260314T093153Z", "20260314T092153Z"] {
            assert!(Parsed::from_request(request, &policy, time(edge)).is_ok(), "{edge}");
        }
        let late = Parsed::from_request(request, &policy, time("20260314T093154Z")).unwrap_err();
        assert_eq!(
            late.message(),
            "Signature expired: 20260314T092653Z is now earlier than 20260314T092654Z (20260314T093154Z - 5 min.)"
        );
    });
}

#[test]
fn a_region_that_is_not_listed_fails_the_scope() {
    let v = vector("sts-presigned-eks-token");
    let mut policy = policy("sts");
    policy.regions = Regions::Listed(vec!["eu-west-1".into()]);
    v.message.with(|request| {
        let error = Parsed::from_request(request, &policy, time(&v.server_time)).unwrap_err();
        assert_eq!(
            error.message(),
            "Credential should be scoped to a valid region, not 'us-west-2'."
        );
    });
}

#[test]
fn a_request_for_one_service_does_not_authenticate_another() {
    let v = vector("eks-auth-assume-role-for-pod-identity");
    let policy = policy("eks");
    v.message.with(|request| {
        let error = Parsed::from_request(request, &policy, time(&v.server_time)).unwrap_err();
        assert_eq!(
            error.message(),
            "Credential should be scoped to correct service: 'eks'."
        );
        assert_eq!(
            error.wire(Protocol::RestJson).code,
            "InvalidSignatureException"
        );
    });
}

#[test]
fn unsigned_payload_needs_s3_and_tls() {
    let v = vector("unsigned-payload-header");
    let (now, store, s3) = (time(&v.server_time), Store::new(), policy("s3"));
    v.message.with(|request| {
        let mut plain = *request;
        plain.tls = false;
        let parsed = Parsed::from_request(&plain, &s3, now).unwrap();
        assert_eq!(
            parsed.verify(store.lookup(&parsed, now)).unwrap_err(),
            AuthError::SignatureMismatch
        );
        let mut not_s3 = s3.clone();
        not_s3.s3 = false;
        let parsed = Parsed::from_request(request, &not_s3, now).unwrap();
        assert_eq!(
            parsed.verify(store.lookup(&parsed, now)).unwrap_err(),
            AuthError::SignatureMismatch
        );
    });
}

#[test]
fn a_presigned_s3_url_lives_until_its_expiry_and_no_longer_than_a_week() {
    let v = vector("s3-presigned-unsigned-payload");
    let policy = policy("s3");
    let outcome = |target: &str, now: &str| {
        let mut message = v.message.clone();
        message.target = target.to_owned();
        message.with(|request| Parsed::from_request(request, &policy, time(now)).map(|_| ()))
    };
    let target = &v.message.target;
    assert_eq!(outcome(target, "20260321T092653Z"), Ok(()));
    assert_eq!(
        outcome(target, "20260321T092654Z"),
        Err(AuthError::PresignedExpired)
    );
    assert_eq!(
        outcome(target, "20260314T091152Z"),
        Err(AuthError::PresignedNotYetValid)
    );
    for bad in ["604801", "0", "-1", "+1", "x", "", "99999999999999999999"] {
        let target = target.replace("X-Amz-Expires=604800", &format!("X-Amz-Expires={bad}"));
        assert_eq!(
            outcome(&target, &v.server_time),
            Err(AuthError::BadExpires),
            "{bad}"
        );
    }
    assert_eq!(
        outcome(&target.replace("X-Amz-Expires=604800&", ""), &v.server_time),
        Err(AuthError::BadExpires)
    );
}

#[test]
fn sts_ignores_a_missing_or_absurd_expiry() {
    let v = vector("sts-presigned-eks-token");
    let policy = policy("sts");
    for replacement in ["", "X-Amz-Expires=x&"] {
        let mut message = v.message.clone();
        message.target = message.target.replace("X-Amz-Expires=60&", replacement);
        message.with(|request| {
            assert!(Parsed::from_request(request, &policy, time(&v.server_time)).is_ok())
        });
    }
}

#[test]
fn path_rule_of_s3_is_single_encoding() {
    assert_eq!(ServicePolicy::for_service("s3").paths, PathRule::Single);
    assert_eq!(ServicePolicy::for_service("sts").paths, PathRule::Plain);
}

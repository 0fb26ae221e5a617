//! The in-process path for tokens: the same verdicts as the general path, and its own stricter rules.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

mod common;

use common::{Store, Vector, policy, time, vector, vectors};
use countersign_sigv4::{
    AuthError, BadRequest, Credentials, EscapeFault, Header, KeyLookup, Parsed, Presigned, Request,
    SecretKey, ServicePolicy, Signer, SigningKey,
};
use proptest::prelude::*;

const CLUSTER: &str = "x-k8s-aws-id";

fn tokens() -> Vec<Vector> {
    vectors()
        .vectors
        .into_iter()
        .filter(|v| v.name.starts_with("sts-presigned"))
        .collect()
}

fn fast(v: &Vector, query: &str, cluster: &str) -> Result<(), AuthError> {
    let (policy, now, store) = (
        ServicePolicy::for_service("sts"),
        time(&v.server_time),
        Store::new(),
    );
    let presigned = Presigned::from_query(query, &policy, now)?;
    let token = presigned.session_token();
    let key = store.find(presigned.credential().key_id, token.as_deref(), now);
    let host = v.message.header("host").unwrap();
    presigned
        .verify(
            host,
            "/",
            &[(CLUSTER, cluster), ("accept", "application/json")],
            &policy,
            key,
        )
        .map(|_| ())
}

fn general(v: &Vector, query: &str) -> Result<(), AuthError> {
    let (policy, now, store) = (
        ServicePolicy::for_service("sts"),
        time(&v.server_time),
        Store::new(),
    );
    let mut message = v.message.clone();
    message.target = format!("/?{query}");
    message.with(|request| {
        let parsed = Parsed::from_request(request, &policy, now)?;
        parsed.verify(store.lookup(&parsed, now)).map(|_| ())
    })
}

#[test]
fn token_vectors_verify_and_say_what_was_signed() {
    for v in tokens() {
        let (policy, now, store) = (policy("sts"), time(&v.server_time), Store::new());
        let presigned = Presigned::from_query(v.message.query(), &policy, now).unwrap();
        assert_eq!(
            presigned.session_token().as_deref(),
            v.session_token.as_deref()
        );
        let key = store.find(&v.access_key_id, v.session_token.as_deref(), now);
        let (host, cluster) = (
            v.message.header("host").unwrap(),
            v.message.header(CLUSTER).unwrap(),
        );
        let verified = presigned
            .verify(host, "/", &[(CLUSTER, cluster)], &policy, key)
            .unwrap();
        assert!(
            verified.was_signed("X-K8s-Aws-Id")
                && verified.was_signed("host")
                && !verified.was_signed("accept")
        );
        assert_eq!(
            (verified.key_id(), verified.region()),
            (v.access_key_id.as_str(), "us-west-2")
        );
        assert_eq!(verified.date().as_str(), "20260314T092653Z");
        let general = verified.to_verified();
        assert_eq!(
            (general.key_id(), &*general.scope().service),
            (v.access_key_id.as_str(), "sts")
        );
    }
}

#[test]
fn the_digest_of_a_session_token_is_that_of_the_decoded_token() {
    let v = vector("sts-presigned-eks-token-temp");
    let policy = policy("sts");
    let presigned =
        Presigned::from_query(v.message.query(), &policy, time(&v.server_time)).unwrap();
    let plain = v.message.query().replace("%2B", "%2b").replace("%3D", "=");
    let again = Presigned::from_query(&plain, &policy, time(&v.server_time)).unwrap();
    assert_eq!(
        presigned.session_token_sha256(),
        again.session_token_sha256()
    );
    assert_eq!(again.session_token().as_deref(), v.session_token.as_deref());
    let other = v.message.query().replace("CSv1", "CSv2");
    let other = Presigned::from_query(&other, &policy, time(&v.server_time)).unwrap();
    assert_ne!(
        presigned.session_token_sha256(),
        other.session_token_sha256()
    );
}

/// The worked example of the token format: key, secret, region, cluster and time are given, the signature follows.
#[test]
fn the_worked_token_is_made_and_verified_bit_for_bit() {
    let secret = SecretKey::new("countersign/example+secret/key0000000001");
    let credentials = Credentials {
        key_id: "AKIDCOUNTERSIGN00001",
        secret: &secret,
        session_token: None,
    };
    let now = time("20260102T030405Z");
    let headers: [Header<'_>; 2] = [
        ("host", b"sts.eu-west-1.amazonaws.com"),
        (CLUSTER, b"demo-cluster"),
    ];
    let mut request = Request::new("GET", b"/?Action=GetCallerIdentity&Version=2011-06-15");
    request.headers = &headers;
    let query = Signer::new(credentials, "eu-west-1", "sts")
        .presign(&request, 60, now)
        .unwrap();
    let signature = "92286a2db1f5ef0106a5058f42d8644bae09b797ef81e535bfb36e6ced06c383";
    assert_eq!(
        query,
        format!(
            "Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDCOUNTERSIGN00001%2F20260102%2Feu-west-1%2Fsts%2Faws4_request&X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Signature={signature}"
        )
    );
    let policy = ServicePolicy::for_service("sts");
    let key = SigningKey::derive(&secret, "20260102", "eu-west-1", "sts");
    for (host, path, cluster, want) in [
        ("sts.eu-west-1.amazonaws.com", "/", "demo-cluster", true),
        ("sts.eu-west-1.amazonaws.com", "", "demo-cluster", true),
        ("sts.eu-west-1.amazonaws.com", "/sts", "demo-cluster", false),
        (
            "sts.eu-west-1.amazonaws.com:443",
            "/",
            "demo-cluster",
            false,
        ),
        ("sts.eu-west-1.amazonaws.com", "/", "Demo-cluster", false),
        ("sts.eu-west-1.amazonaws.com", "/", "", false),
    ] {
        let presigned = Presigned::from_query(&query, &policy, now).unwrap();
        let outcome = presigned.verify(
            host,
            path,
            &[(CLUSTER, cluster)],
            &policy,
            KeyLookup::SigningKey(&key),
        );
        assert_eq!(outcome.is_ok(), want, "{host} {path} {cluster}");
    }
}

/// Clients write the parameters in different orders: the AWS CLI puts the session token after the signed headers, Go before
/// them, Java first. The order is not signed.
#[test]
fn parameters_in_any_order_verify() {
    for v in tokens() {
        let cluster = v.message.header(CLUSTER).unwrap();
        let mut parts: Vec<&str> = v.message.query().split('&').collect();
        for turn in 0..parts.len() {
            parts.rotate_left(1);
            let mut other = parts.clone();
            if turn % 2 == 0 {
                other.reverse();
            }
            let query = other.join("&");
            assert_eq!(fast(&v, &query, cluster), Ok(()), "{query}");
            assert_eq!(general(&v, &query), Ok(()), "{query}");
        }
    }
}

/// Every bit of every byte. Two changes are none, since neither is in the canonical text: the case of a hex
/// digit of an escape, and the letter case of the name `X-Amz-Signature` itself.
#[test]
fn no_bit_of_a_token_can_be_flipped() {
    for v in tokens() {
        let cluster = v.message.header(CLUSTER).unwrap();
        let query = v.message.query();
        let unsigned_name = query.rfind("X-Amz-Signature").unwrap();
        let unsigned_name = unsigned_name..unsigned_name + "X-Amz-Signature".len();
        for at in 0..query.len() {
            for bit in 0..7 {
                let mut bytes = query.as_bytes().to_vec();
                *bytes.get_mut(at).unwrap() ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                if fast(&v, &changed, cluster).is_ok() {
                    let before = query.get(at.saturating_sub(2)..at).unwrap_or_default();
                    let same = before.contains('%') || unsigned_name.contains(&at);
                    assert!(same, "{} byte {at}: {changed}", v.name);
                    assert!(changed.eq_ignore_ascii_case(query), "{changed}");
                }
            }
        }
    }
}

#[test]
fn names_in_other_letter_case_are_read_and_signed_as_received() {
    let v = vector("sts-presigned-eks-token");
    let lower = v.message.query().replace("X-Amz-", "x-amz-");
    // The signature was made over other names, so reading succeeds and the signature does not.
    assert_eq!(
        fast(&v, &lower, "prod-blue"),
        Err(AuthError::SignatureMismatch)
    );
    assert_eq!(general(&v, &lower), Err(AuthError::Missing));
}

#[test]
fn parameters_that_differ_only_in_letter_case_are_refused() {
    let v = vector("sts-presigned-eks-token");
    for (name, value) in [
        (
            "x-amz-credential",
            "AKIAFAKE%2F20260314%2Fus-west-2%2Fsts%2Faws4_request",
        ),
        (
            "X-Amz-Credential",
            "AKIAFAKE%2F20260314%2Fus-west-2%2Fsts%2Faws4_request",
        ),
        ("X-AMZ-SIGNEDHEADERS", "host"),
        ("x-amz-signature", "00"),
        ("X-Amz-%44ate", "20260314T092653Z"),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
    ] {
        for query in [
            format!("{name}={value}&{}", v.message.query()),
            format!("{}&{name}={value}", v.message.query()),
        ] {
            let error = fast(&v, &query, "prod-blue").unwrap_err();
            assert!(
                matches!(
                    error,
                    AuthError::BadRequest(BadRequest::RepeatedParameter(_))
                ),
                "{query}: {error:?}"
            );
        }
    }
}

#[test]
fn a_header_the_verifier_does_not_supply_cannot_be_signed() {
    let secret = Store::new().long_term.1;
    let credentials = Credentials {
        key_id: "AKIARTX3GSDSXFDOCIS2",
        secret: &secret,
        session_token: None,
    };
    let now = time("20260314T092653Z");
    let policy = ServicePolicy::for_service("sts");
    let headers: [Header<'_>; 3] = [("host", b"h"), (CLUSTER, b"c"), ("x-extra", b"")];
    let mut request = Request::new("GET", b"/");
    request.headers = &headers;
    let query = Signer::new(credentials, "us-west-2", "sts")
        .presign(&request, 60, now)
        .unwrap();
    let verify = |extra: &[(&str, &str)]| {
        let presigned = Presigned::from_query(&query, &policy, now).unwrap();
        presigned
            .verify("h", "/", extra, &policy, KeyLookup::Secret(&secret))
            .map(|_| ())
    };
    assert_eq!(verify(&[(CLUSTER, "c"), ("x-extra", "")]), Ok(()));
    // An absent header and an empty one are the same text, so only the rule tells them apart.
    assert_eq!(verify(&[(CLUSTER, "c")]), Err(AuthError::SignatureMismatch));
    let too_many = [
        (CLUSTER, "c"),
        ("x-extra", ""),
        ("a", ""),
        ("b", ""),
        ("d", ""),
        ("e", ""),
        ("f", ""),
        ("g", ""),
    ];
    assert_eq!(verify(&too_many), Err(AuthError::SignatureMismatch));
}

#[test]
fn hostile_queries_are_refused_with_the_fault_named() {
    let v = vector("sts-presigned-eks-token");
    let query = v.message.query();
    let flood = format!("{query}{}", "&a=b".repeat(20));
    let long_headers = query.replace("host%3B", &format!("host%3B{}%3B", "x".repeat(500)));
    let long_credential = query.replace("AKIA", &"A".repeat(500));
    for (query, want) in [
        ("", AuthError::Missing),
        ("X-Amz-Algorithm=AWS4-HMAC-SHA1", AuthError::Missing),
        ("a=%", AuthError::MalformedQuery(EscapeFault::Incomplete)),
        (
            "%zz=a",
            AuthError::MalformedQuery(EscapeFault::NotHex(*b"zz")),
        ),
        (&flood, AuthError::BadRequest(BadRequest::TooManyParameters)),
        (&long_headers, AuthError::SignatureMismatch),
    ] {
        assert_eq!(fast(&v, query, "prod-blue"), Err(want), "{query}");
    }
    assert!(matches!(
        fast(&v, &long_credential, "prod-blue"),
        Err(AuthError::CredentialParts(_))
    ));
    let unsigned_host = query.replace("host%3Bx-k8s-aws-id", "x-k8s-aws-id");
    assert_eq!(
        fast(&v, &unsigned_host, "prod-blue"),
        Err(AuthError::HostNotSigned)
    );
    for bad in [
        "x-k8s-aws-id%3Bhost",
        "Host%3Bx-k8s-aws-id",
        "host%3Bhost%3Bx-k8s-aws-id",
        "host%3B%3Bx-k8s-aws-id",
    ] {
        let query = query.replace("host%3Bx-k8s-aws-id", bad);
        assert_eq!(
            fast(&v, &query, "prod-blue"),
            Err(AuthError::SignatureMismatch),
            "{bad}"
        );
    }
}

/// The query with the name of the signature as AWS writes it: the one parameter that is in no text that is signed, so that
/// taking names in any letter case shows there.
fn with_exact_name(query: &str) -> String {
    let parameters = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("X-Amz-Signature") => {
                format!("X-Amz-Signature={value}")
            }
            _ => parameter.to_owned(),
        });
    parameters.collect::<Vec<_>>().join("&")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn both_paths_give_the_same_verdict(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in proptest::option::of(any::<u8>())
    ) {
        let all = tokens();
        let v = which.get(&all);
        let cluster = v.message.header(CLUSTER).unwrap();
        let mut query = v.message.query().as_bytes().to_vec();
        if let Some(byte) = byte {
            *at.get_mut(&mut query) = byte;
        }
        let Ok(query) = String::from_utf8(query) else { return Ok(()) };
        let (fast, general) = (fast(v, &query, cluster), general(v, &with_exact_name(&query)));
        prop_assert_eq!(fast.is_ok(), general.is_ok(), "{:?} {:?} {}", fast, general, query);
    }
}

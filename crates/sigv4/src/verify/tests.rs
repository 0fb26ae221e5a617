//! What a refusal costs, and the rules that no vector covers.

use super::*;
use crate::crypto::hook::hmacs;
use crate::error::{BadRequest, Protocol};
use crate::presigned::Presigned;
use crate::request::Header;
use crate::sign::{Credentials, Signer};

const NOW: &str = "2026-03-14T09:26:53Z";
const HOST: Header<'static> = ("Host", b"sts.us-west-2.amazonaws.com");

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn secret() -> SecretKey {
    SecretKey::new("cSx7/Q2pYd+4kEwZ9vLr0TfHnB1uGmJa3oRiXeKs")
}

fn sts() -> ServicePolicy {
    ServicePolicy::for_service("sts")
}

/// Signs a GET to STS and gives its headers back.
fn signed(headers: &[Header<'_>]) -> Vec<(String, Vec<u8>)> {
    let secret = secret();
    let credentials = Credentials {
        key_id: "AKIARTX3GSDSXFDOCIS2",
        secret: &secret,
        session_token: None,
    };
    let request = Request {
        headers,
        ..Request::new("GET", b"/?Action=GetCallerIdentity")
    };
    let added = Signer::new(credentials, "us-west-2", "sts")
        .sign(&request, now())
        .unwrap();
    let given = headers.iter().map(|(n, v)| ((*n).to_owned(), v.to_vec()));
    given
        .chain(
            added
                .headers()
                .map(|(n, v)| (n.to_owned(), v.as_bytes().to_vec())),
        )
        .collect()
}

/// Parses a GET to STS with these headers and lends the outcome.
fn parse<T>(
    headers: &[(String, Vec<u8>)],
    f: impl FnOnce(Result<Parsed<'_>, AuthError>) -> T,
) -> T {
    let headers: Vec<Header<'_>> = headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_slice()))
        .collect();
    let request = Request {
        headers: &headers,
        ..Request::new("GET", b"/?Action=GetCallerIdentity")
    };
    let policy = sts();
    f(Parsed::from_request(&request, &policy, now()))
}

fn with_authorization(headers: &mut [(String, Vec<u8>)], change: impl FnOnce(String) -> String) {
    let (_, value) = headers
        .iter_mut()
        .find(|(n, _)| n == "authorization")
        .unwrap();
    *value = change(String::from_utf8(value.clone()).unwrap()).into_bytes();
}

/// Section 9 item 6: the work of a refusal does not depend on its reason. The time it takes is in the bench.
#[test]
fn an_unknown_key_costs_as_many_hmacs_as_a_bad_signature_cached_or_not() {
    let mut headers = signed(&[HOST]);
    with_authorization(&mut headers, |v| format!("{}{}", &v[..v.len() - 4], "0000"));
    let right = secret();
    let wrong = SecretKey::new("wrong");
    parse(&headers, |parsed| {
        let parsed = parsed.unwrap();
        let scope = parsed.scope();
        let cached = SigningKey::derive(&right, &scope.date, &scope.region, &scope.service);
        let whole_chain = 5;
        for key in [
            KeyLookup::Secret(&right),
            KeyLookup::Secret(&wrong),
            KeyLookup::SigningKey(&cached),
            KeyLookup::Unknown,
            KeyLookup::Inactive,
            KeyLookup::TokenMissing,
            KeyLookup::TokenInvalid,
            KeyLookup::TokenExpired,
        ] {
            let cost = hmacs(|| assert!(parsed.verify(key).is_err()));
            assert_eq!(cost, whole_chain, "{key:?}");
        }
    });
    parse(&signed(&[HOST]), |parsed| {
        let parsed = parsed.unwrap();
        let scope = parsed.scope();
        let cached = SigningKey::derive(&right, &scope.date, &scope.region, &scope.service);
        let cost = hmacs(|| assert!(parsed.verify(KeyLookup::SigningKey(&cached)).is_ok()));
        assert_eq!(cost, 1, "only success is cheap");
        assert!(
            parsed.verify(KeyLookup::Unknown).is_err(),
            "a right signature does not help an unknown key"
        );
    });
}

#[test]
fn the_in_process_path_costs_the_same_for_every_refusal_too() {
    let secret = secret();
    let credentials = Credentials {
        key_id: "AKIARTX3GSDSXFDOCIS2",
        secret: &secret,
        session_token: None,
    };
    let headers = [HOST, ("x-k8s-aws-id", b"prod".as_slice())];
    let request = Request {
        headers: &headers,
        ..Request::new("GET", b"/?Action=GetCallerIdentity")
    };
    let query = Signer::new(credentials, "us-west-2", "sts")
        .presign(&request, 60, now())
        .unwrap();
    let policy = sts();
    let host = "sts.us-west-2.amazonaws.com";
    let cached = SigningKey::derive(&secret, "20260314", "us-west-2", "sts");
    let verify = |key: KeyLookup<'_>, cluster: &str| {
        let presigned = Presigned::from_query(&query, &policy, now()).unwrap();
        presigned
            .verify(host, "/", &[("x-k8s-aws-id", cluster)], &policy, key)
            .map(|_| ())
    };
    for (key, cluster) in [
        (KeyLookup::Secret(&secret), "other"),
        (KeyLookup::SigningKey(&cached), "other"),
        (KeyLookup::Unknown, "prod"),
        (KeyLookup::TokenExpired, "prod"),
    ] {
        assert_eq!(
            hmacs(|| assert!(verify(key, cluster).is_err())),
            5,
            "{key:?}"
        );
    }
    assert_eq!(
        hmacs(|| verify(KeyLookup::SigningKey(&cached), "prod").unwrap()),
        1
    );
}

#[test]
fn a_list_with_a_repeated_or_empty_or_absurd_number_of_names_never_matches() {
    let many: String = (0..200).map(|i| format!(";x-{i:03}")).collect();
    for list in [
        "host;host;x-amz-date",
        "host;;x-amz-date",
        "host;x-amz-date;",
        "Host;host;x-amz-date",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("host;x-amz-date{many}")])
    {
        let mut headers = signed(&[HOST]);
        with_authorization(&mut headers, |v| v.replace("host;x-amz-date", &list));
        // Signed consistently for exactly this list, so that the list is the only fault.
        let signature = parse(&headers, |parsed| {
            let parsed = parsed.unwrap();
            let key = SigningKey::derive(&secret(), "20260314", "us-west-2", "sts");
            key.sign_hex(&[parsed.string_to_sign(Payload::Empty).as_bytes()])
        });
        with_authorization(&mut headers, |v| {
            format!(
                "{}Signature={}",
                v.split("Signature=").next().unwrap(),
                String::from_utf8_lossy(&signature)
            )
        });
        parse(&headers, |parsed| {
            let error = parsed
                .unwrap()
                .verify(KeyLookup::Secret(&secret()))
                .unwrap_err();
            assert_eq!(error, AuthError::SignatureMismatch, "{list}");
        });
    }
}

#[test]
fn a_sloppy_list_verifies_when_the_client_signed_it_so() {
    let mut headers = signed(&[HOST]);
    with_authorization(&mut headers, |v| {
        v.replace("host;x-amz-date", "x-amz-date;Host")
    });
    let signature = parse(&headers, |parsed| {
        let parsed = parsed.unwrap();
        assert!(
            parsed
                .canonical_request(Payload::Empty)
                .contains("\nx-amz-date:20260314T092653Z\nHost:sts.")
        );
        let key = SigningKey::derive(&secret(), "20260314", "us-west-2", "sts");
        key.sign_hex(&[parsed.string_to_sign(Payload::Empty).as_bytes()])
    });
    with_authorization(&mut headers, |v| {
        format!(
            "{}Signature={}",
            v.split("Signature=").next().unwrap(),
            String::from_utf8_lossy(&signature)
        )
    });
    parse(&headers, |parsed| {
        let parsed = parsed.unwrap();
        let verified = parsed.verify(KeyLookup::Secret(&secret())).unwrap();
        assert!(verified.was_signed("host"));
    });
}

#[test]
fn authorization_parts_come_in_any_order_with_or_without_blanks_and_the_last_wins() {
    let base = signed(&[HOST]);
    let changes: [fn(String) -> String; 4] = [
        |v| v.replace(", ", ","),
        |v| v.replace(", ", " ,\t "),
        |v| {
            let (scheme, rest) = v.split_once(' ').unwrap();
            let mut parts: Vec<&str> = rest.split(", ").collect();
            parts.reverse();
            format!("{scheme} {}", parts.join(", "))
        },
        |v| {
            v.replace(
                "AWS4-HMAC-SHA256 ",
                "AWS4-HMAC-SHA256 Signature=00, Extra=1, ",
            )
        },
    ];
    for change in changes {
        let mut headers = base.clone();
        with_authorization(&mut headers, change);
        parse(&headers, |parsed| {
            let parsed = parsed.unwrap();
            assert!(parsed.verify(KeyLookup::Secret(&secret())).is_ok());
        });
    }
}

#[test]
fn the_one_aws_authorization_header_among_several_is_used_and_two_are_refused() {
    let mut headers = signed(&[HOST]);
    headers.insert(0, ("authorization".into(), b"Bearer x".to_vec()));
    parse(&headers, |parsed| {
        assert!(parsed.unwrap().verify(KeyLookup::Secret(&secret())).is_ok())
    });
    let second = headers.last().unwrap().clone();
    headers.push(second);
    parse(&headers, |parsed| {
        let error = parsed.unwrap_err();
        assert_eq!(error, AuthError::RepeatedAuthorization);
        assert_eq!(error.wire(Protocol::Query).code, "IncompleteSignature");
    });
}

#[test]
fn headers_that_could_be_read_two_ways_are_refused_when_repeated() {
    for name in [
        "Host",
        "X-Amz-Date",
        "x-amz-security-token",
        "X-Amz-Content-SHA256",
        "content-length",
    ] {
        let mut headers = signed(&[HOST]);
        headers.extend([
            (name.to_owned(), b"1".to_vec()),
            (name.to_ascii_lowercase(), b"1".to_vec()),
        ]);
        parse(&headers, |parsed| {
            let error = parsed.unwrap_err();
            assert!(
                matches!(error, AuthError::BadRequest(BadRequest::RepeatedHeader(_))),
                "{name}"
            );
            assert_eq!(error.wire(Protocol::Query).status, 400);
        });
    }
}

#[test]
fn authority_stands_in_for_host_and_must_not_contradict_it() {
    let mut headers = signed(&[HOST]);
    headers[0].0 = ":authority".to_owned();
    parse(&headers, |parsed| {
        assert!(parsed.unwrap().verify(KeyLookup::Secret(&secret())).is_ok())
    });
    headers.push(("host".into(), b"evil.example".to_vec()));
    parse(&headers, |parsed| {
        assert_eq!(
            parsed.unwrap_err(),
            AuthError::BadRequest(BadRequest::RepeatedHeader("host"))
        );
    });
}

#[test]
fn a_forwarded_host_counts_only_when_the_caller_says_so() {
    let signed = signed(&[HOST]);
    let mut headers: Vec<Header<'_>> = signed
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_slice()))
        .collect();
    headers[0].1 = b"backend:8080";
    headers.push(("X-Forwarded-Host", HOST.1));
    let policy = sts();
    let mut request = Request {
        headers: &headers,
        ..Request::new("GET", b"/?Action=GetCallerIdentity")
    };
    let verify = |request: &Request<'_>| {
        Parsed::from_request(request, &policy, now())
            .unwrap()
            .verify(KeyLookup::Secret(&secret()))
            .map(|_| ())
    };
    assert_eq!(verify(&request), Err(AuthError::SignatureMismatch));
    request.forwarded_host = Some(HOST.1);
    assert_eq!(verify(&request), Ok(()));
}

#[test]
fn the_date_used_must_be_signed() {
    let mut headers = signed(&[HOST]);
    with_authorization(&mut headers, |v| v.replace("host;x-amz-date", "host"));
    parse(&headers, |parsed| {
        let error = parsed.unwrap_err();
        assert_eq!(error, AuthError::DateNotSigned);
        assert_eq!(
            error.wire(Protocol::RestJson).code,
            "InvalidSignatureException"
        );
    });
}

#[test]
fn the_body_is_whatever_was_signed_given_as_bytes_or_as_hash() {
    let secret = secret();
    let credentials = Credentials {
        key_id: "AK",
        secret: &secret,
        session_token: None,
    };
    let body = b"Action=GetCallerIdentity";
    let given = [
        HOST,
        (
            "content-type",
            b"application/x-www-form-urlencoded".as_slice(),
        ),
    ];
    let mut request = Request {
        headers: &given,
        ..Request::new("POST", b"/")
    };
    request.body = Payload::Bytes(body);
    let added = Signer::new(credentials, "us-west-2", "sts")
        .sign(&request, now())
        .unwrap();
    let mut headers = given.to_vec();
    headers.extend(added.headers().map(|(n, v)| (n, v.as_bytes())));
    request.headers = &headers;
    request.body = Payload::Empty;
    let policy = sts();
    let parsed = Parsed::from_request(&request, &policy, now()).unwrap();
    let key = KeyLookup::Secret(&secret);
    assert!(parsed.verify_body(key, Payload::Bytes(body)).is_ok());
    assert!(
        parsed
            .verify_body(key, Payload::Sha256(crate::crypto::sha256(body)))
            .is_ok()
    );
    assert_eq!(
        parsed.verify(key).unwrap_err(),
        AuthError::SignatureMismatch
    );
    assert!(
        parsed
            .verify_body(key, Payload::Bytes(b"Action=GetCallerIdentity\n"))
            .is_err()
    );
}

#[test]
fn a_declared_hash_must_be_that_of_the_body() {
    let hash = hex(&crate::crypto::sha256(b"other"));
    for declared in [
        hash.as_slice(),
        UNSIGNED,
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        b"",
        b"x",
    ] {
        let headers = signed(&[HOST, ("x-amz-content-sha256", declared)]);
        parse(&headers, |parsed| {
            let error = parsed
                .unwrap()
                .verify(KeyLookup::Secret(&secret()))
                .unwrap_err();
            assert_eq!(
                error,
                AuthError::SignatureMismatch,
                "{}",
                String::from_utf8_lossy(declared)
            );
        });
    }
    let headers = signed(&[HOST, ("x-amz-content-sha256", EMPTY_SHA256)]);
    parse(&headers, |parsed| {
        assert!(parsed.unwrap().verify(KeyLookup::Secret(&secret())).is_ok())
    });
}

#[test]
fn a_query_service_takes_get_and_form_posts_only() {
    let outcome = |method: &str, content_type: &[u8]| {
        let headers = [HOST, ("Content-Type", content_type)];
        let request = Request {
            headers: &headers,
            ..Request::new(method, b"/")
        };
        check_request(&request, &sts())
            .err()
            .map(|e| e.wire(Protocol::Query))
    };
    for content_type in [
        &b"application/x-www-form-urlencoded"[..],
        b"Application/X-WWW-Form-URLEncoded ; charset=utf-8",
        b"",
    ] {
        assert_eq!(outcome("POST", content_type), None);
    }
    let wrong = outcome("POST", b"application/json").unwrap();
    assert_eq!((wrong.status, wrong.code), (415, "InvalidContentType"));
    let wrong = outcome("PUT", b"application/json").unwrap();
    assert_eq!((wrong.status, wrong.allow), (405, Some("GET, POST")));
    assert_eq!(outcome("GET", b"application/json"), None);
}

#[test]
fn nothing_secret_is_printed() {
    let headers = signed(&[HOST, ("x-amz-meta", b"hidden")]);
    parse(&headers, |parsed| {
        let parsed = parsed.unwrap();
        let text = format!("{parsed:?} {:?}", parsed.request);
        let signature = String::from_utf8_lossy(parsed.signature()).into_owned();
        assert!(
            !text.contains(&signature) && !text.contains("hidden"),
            "{text}"
        );
    });
    let mut bad = headers.clone();
    with_authorization(&mut bad, |v| v.replace("SignedHeaders=", "SignedHeaders "));
    parse(&bad, |parsed| {
        let error = parsed.unwrap_err();
        assert!(error.message().contains("Signature="));
        assert!(!format!("{error} {error:?}").contains("Signature="));
    });
}

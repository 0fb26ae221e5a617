//! Names, statuses and messages of every refusal, per protocol.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use countersign_sigv4::{
    AuthError, BadRequest, Header, Offered, Parsed, Protocol, Request, ServicePolicy,
    mismatch_with_strings,
};

/// One row per fault, one column per protocol.
#[test]
fn error_names_follow_the_table_of_protocols() {
    use Protocol::{Ec2, Json11, Query, RestJson};
    let incomplete = AuthError::CredentialParts("x".into());
    let rows = [
        (
            &AuthError::Missing,
            [
                (Query, "MissingAuthenticationToken", 403),
                (RestJson, "MissingAuthenticationTokenException", 403),
                (Json11, "MissingAuthenticationTokenException", 400),
                (Ec2, "AuthFailure", 401),
            ],
        ),
        (
            &incomplete,
            [
                (Query, "IncompleteSignature", 400),
                (RestJson, "IncompleteSignatureException", 403),
                (Json11, "IncompleteSignatureException", 400),
                (Ec2, "IncompleteSignature", 400),
            ],
        ),
        (
            &AuthError::KeyInvalid,
            [
                (Query, "InvalidClientTokenId", 403),
                (RestJson, "UnrecognizedClientException", 403),
                (Json11, "UnrecognizedClientException", 400),
                (Ec2, "AuthFailure", 401),
            ],
        ),
        (
            &AuthError::TokenExpired,
            [
                (Query, "ExpiredToken", 403),
                (RestJson, "ExpiredTokenException", 403),
                (Json11, "ExpiredTokenException", 400),
                (Ec2, "RequestExpired", 400),
            ],
        ),
        (
            &AuthError::SignatureMismatch,
            [
                (Query, "SignatureDoesNotMatch", 403),
                (RestJson, "InvalidSignatureException", 403),
                (Json11, "InvalidSignatureException", 400),
                (Ec2, "SignatureDoesNotMatch", 403),
            ],
        ),
    ];
    for (error, columns) in rows {
        for (protocol, code, status) in columns {
            let wire = error.wire(protocol);
            assert_eq!(
                (wire.code, wire.status),
                (code, status),
                "{error} {protocol:?}"
            );
            assert_eq!(
                wire.message,
                error.message(),
                "the text is the same in every protocol"
            );
        }
    }
}

#[test]
fn an_unauthenticated_client_never_gets_a_server_error() {
    let errors = [
        AuthError::BadRequest(BadRequest::Target),
        AuthError::ContentType,
        AuthError::Method,
        AuthError::BothKinds,
        AuthError::Missing,
        AuthError::RepeatedAuthorization,
        AuthError::HostNotSigned,
        AuthError::DateNotSigned,
        AuthError::BadDate(String::new()),
        AuthError::TokenInvalid,
        AuthError::KeyInvalid,
        AuthError::SignatureMismatch,
        AuthError::ContentSha256Mismatch,
        AuthError::BadExpires,
        AuthError::PresignedExpired,
        AuthError::PresignedNotYetValid,
    ];
    for error in errors {
        for protocol in [
            Protocol::Query,
            Protocol::RestJson,
            Protocol::Json11,
            Protocol::Ec2,
            Protocol::RestXml,
        ] {
            assert!((400..500).contains(&error.wire(protocol).status), "{error}");
        }
    }
}

#[test]
fn unknown_key_and_bad_token_differ_by_a_full_stop() {
    assert_eq!(
        AuthError::KeyInvalid.message(),
        "The security token included in the request is invalid."
    );
    assert_eq!(
        AuthError::TokenInvalid.message(),
        "The security token included in the request is invalid"
    );
}

fn refused(target: &str, headers: &[Header<'_>]) -> (&'static str, String) {
    let request = Request {
        headers,
        ..Request::new("GET", target.as_bytes())
    };
    let policy = ServicePolicy::for_service("sts");
    let error = Parsed::from_request(&request, &policy, "2026-03-14T09:26:53Z".parse().unwrap())
        .unwrap_err();
    let wire = error.wire(Protocol::Query);
    (wire.code, wire.message.into_owned())
}

#[test]
fn all_missing_parts_are_named_in_order() {
    assert_eq!(
        refused("/", &[("Authorization", b"AWS4-HMAC-SHA256")]),
        (
            "IncompleteSignature",
            "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256".to_owned()
        )
    );
    assert_eq!(
        refused("/?X-Amz-Algorithm=AWS4-HMAC-SHA256", &[("X-Amz-Date", b"20260314T092653Z")]),
        (
            "IncompleteSignature",
            "AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string parameters must include 'X-Amz-Signature'. AWS query-string parameters must include 'X-Amz-SignedHeaders'. AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string parameters.".to_owned()
        )
    );
}

#[test]
fn escapes_in_the_query_are_judged_before_the_authentication() {
    for (target, message) in [
        ("/?a=%", "Incomplete trailing escape % sequence"),
        ("/?a=%4&b=1", "Incomplete trailing escape % sequence"),
        ("/?a%zq=1", "Illegal hex character in escape % pattern: %zq"),
    ] {
        assert_eq!(
            refused(target, &[("Authorization", b"Bearer x")]),
            ("MalformedQueryString", message.to_owned())
        );
    }
}

#[test]
fn other_algorithms_and_schemes_are_named_and_sigv4a_is_one_of_them() {
    for (value, name) in [
        ("Basic dTpw", "Basic"),
        (
            "AWS4-ECDSA-P256-SHA256 Credential=a",
            "AWS4-ECDSA-P256-SHA256",
        ),
        ("aws4-hmac-sha256 Credential=a", "aws4-hmac-sha256"),
        ("", ""),
    ] {
        let (code, message) = refused("/", &[("Authorization", value.as_bytes())]);
        assert_eq!(
            (code, message),
            (
                "IncompleteSignature",
                format!("Unsupported AWS 'algorithm': '{name}'.")
            )
        );
    }
    let (code, _) = refused("/?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256", &[]);
    assert_eq!(code, "MissingAuthenticationToken");
}

#[test]
fn what_a_request_offers_is_told_without_judging_it() {
    let offered = |target: &str, headers: &[Header<'_>]| {
        Offered::by(&Request {
            headers,
            ..Request::new("POST", target.as_bytes())
        })
    };
    let header: [Header<'_>; 1] = [("authorization", b"anything")];
    assert_eq!(
        offered("/?x-amz-algorithm=a&X-Amz-Signature=b", &[]),
        Offered::Nothing
    );
    assert_eq!(offered("/", &header), Offered::Header);
    assert_eq!(offered("/?X-Amz-Algorithm", &[]), Offered::Query);
    assert_eq!(offered("/?%58-Amz-Algorithm=", &header), Offered::Both);
}

#[test]
fn the_computed_texts_can_be_appended_to_a_mismatch() {
    let text = mismatch_with_strings("GET\n/", "AWS4-HMAC-SHA256\n");
    assert!(text.starts_with(&*AuthError::SignatureMismatch.message()));
    assert!(text.contains("should have been\n'GET\n/'"));
}

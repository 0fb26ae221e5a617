//! Each cause is produced with a client that has the fault, and must be named.

use super::*;
use crate::canonical::{Parts, StringToSign, params, sort};
use crate::crypto::{EMPTY_SHA256, Sha256Sink, hex, sha256};
use crate::key::SigningKey;
use crate::request::Header;

const SECRET: &str = "cSx7/Q2pYd+4kEwZ9vLr0TfHnB1uGmJa3oRiXeKs";
const NOW: &str = "2026-03-14T09:26:53Z";

/// What arrives at the server.
struct Received<'a> {
    service: &'a str,
    region: &'a str,
    method: &'a str,
    target: &'a str,
    host: &'a str,
    body: &'a [u8],
}

const RECEIVED: Received<'static> = Received {
    service: "eks",
    region: "eu-west-1",
    method: "POST",
    target: "/clusters/a%3Ab?x=1+2&a=3",
    host: "eks.example",
    body: b"{}\n",
};

/// What a client with a fault signs in its place.
struct Faulty<'a> {
    target: &'a str,
    host: &'a str,
    payload: Vec<u8>,
    region: &'a str,
    secret: &'a str,
    date: &'a str,
    paths: PathRule,
    sorted: bool,
}

fn right(received: &Received<'static>) -> Faulty<'static> {
    Faulty {
        target: received.target,
        host: received.host,
        payload: hex(&sha256(received.body)).to_vec(),
        region: received.region,
        secret: SECRET,
        date: "20260314T092653Z",
        paths: PathRule::Normalise,
        sorted: true,
    }
}

fn sign(received: &Received<'_>, faulty: &Faulty<'_>) -> String {
    let list = "host;x-amz-date";
    let headers: [Header<'_>; 2] = [
        ("host", faulty.host.as_bytes()),
        ("x-amz-date", b"20260314T092653Z"),
    ];
    let request = Request {
        headers: &headers,
        ..Request::new(received.method, faulty.target.as_bytes())
    };
    let mut kept: Vec<_> = params(request.query.unwrap_or_default()).collect();
    if faulty.sorted {
        sort(&mut kept);
    }
    let mut hash = Sha256Sink::new();
    Parts {
        request: &request,
        path_rule: faulty.paths,
        params: &kept,
        signed_headers: list,
        payload: &faulty.payload,
    }
    .write(&mut hash);
    let scope = (&faulty.date[..8], faulty.region, received.service);
    let to_sign = StringToSign::new(faulty.date, scope, hash.finish());
    let key = SigningKey::derive(&SecretKey::new(faulty.secret), scope.0, scope.1, scope.2);
    let signature = key.sign_hex(&to_sign.pieces());
    format!(
        "AWS4-HMAC-SHA256 Credential=AK/20260314/{}/{}/aws4_request, SignedHeaders={list}, Signature={}",
        received.region,
        received.service,
        String::from_utf8_lossy(&signature)
    )
}

fn explained(
    received: &Received<'_>,
    authorization: &str,
    secret: &str,
    hosts: &[String],
    now: &str,
) -> Explanation {
    let headers: [Header<'_>; 3] = [
        ("Host", received.host.as_bytes()),
        ("X-Amz-Date", b"20260314T092653Z"),
        ("Authorization", authorization.as_bytes()),
    ];
    let mut request = Request {
        headers: &headers,
        ..Request::new(received.method, received.target.as_bytes())
    };
    request.body = if received.body.is_empty() {
        Payload::Empty
    } else {
        Payload::Bytes(received.body)
    };
    let context = Context {
        external_hosts: hosts,
        now: Some(now.parse().unwrap()),
        policy: None,
    };
    explain(&request, &SecretKey::new(secret), &context)
}

fn explain_fault(
    received: Received<'static>,
    fault: impl FnOnce(&mut Faulty<'static>),
) -> Explanation {
    let mut faulty = right(&received);
    fault(&mut faulty);
    let authorization = sign(&received, &faulty);
    explained(
        &received,
        &authorization,
        SECRET,
        &["public.example:9443".to_owned()],
        NOW,
    )
}

#[test]
fn a_right_signature_verifies_and_needs_no_explanation() {
    let explanation = explain_fault(RECEIVED, |_| {});
    assert!(matches!(explanation.verdict, Verdict::Verifies));
    assert!(explanation.findings.is_empty() && explanation.parts().is_empty());
    assert!(
        explanation
            .canonical_request
            .starts_with("POST\n/clusters/a%253Ab\na=3&x=1%202\n")
    );
}

#[test]
fn each_cause_is_named() {
    type Fault = fn(&mut Faulty<'static>);
    let cases: [(Fault, Variant); 16] = [
        (|f| f.paths = PathRule::Single, Variant::PathEncodedOnce),
        (
            |f| f.target = "/clusters/a%3Ab?x=1%2B2&a=3",
            Variant::PlusAsEscape,
        ),
        (|f| f.sorted = false, Variant::QueryOrder),
        (|f| f.host = "eks.example:8443", host("eks.example:8443")),
        (
            |f| f.host = "public.example:9443",
            host("public.example:9443"),
        ),
        (
            |f| f.payload = hex(&sha256(b"{}")).to_vec(),
            Variant::BodyWithoutNewline,
        ),
        (
            |f| f.payload = hex(&sha256(b"{}\n\n")).to_vec(),
            Variant::BodyWithNewline,
        ),
        (|f| f.payload = EMPTY_SHA256.to_vec(), Variant::BodyEmpty),
        (
            |f| f.payload = b"UNSIGNED-PAYLOAD".to_vec(),
            Variant::UnsignedPayload,
        ),
        (
            |f| f.region = "us-east-1",
            Variant::Region("us-east-1".into()),
        ),
        (
            |f| f.secret = "cSx7/Q2pYd+4kEwZ9vLr0TfHnB1uGmJa3oRiXeKs\n",
            Variant::SecretPadded {
                before: "",
                after: "\n",
            },
        ),
        (
            |f| f.secret = " cSx7/Q2pYd+4kEwZ9vLr0TfHnB1uGmJa3oRiXeKs",
            Variant::SecretPadded {
                before: " ",
                after: "",
            },
        ),
        (
            |f| f.secret = "cSx7\\/Q2pYd+4kEwZ9vLr0TfHnB1uGmJa3oRiXeKs",
            Variant::SecretEscaped,
        ),
        (|f| f.date = "20260314T112653Z", Variant::ClockShifted(2)),
        (|f| f.date = "20260313T222653Z", Variant::ClockShifted(-11)),
        (|f| f.host = "eks.example:443", host("eks.example:443")),
    ];
    for (fault, want) in cases {
        let explanation = explain_fault(RECEIVED, fault);
        let Verdict::Differs(found) = &explanation.verdict else {
            panic!("{want:?}: {}", explanation.verdict);
        };
        assert_eq!(found, std::slice::from_ref(&want));
        assert!(explanation.parts().contains(&want.part()));
        let sentence = explanation.verdict.to_string();
        assert!(
            !sentence.contains('\n') && !sentence.contains(SECRET),
            "{sentence}"
        );
    }
}

fn host(signed: &str) -> Variant {
    Variant::Host {
        signed: signed.into(),
        received: "eks.example".into(),
    }
}

#[test]
fn a_dropped_port_is_told_in_one_sentence() {
    let explanation = explain_fault(RECEIVED, |f| f.host = "eks.example:8443");
    assert_eq!(
        explanation.verdict.to_string(),
        "the client signed host eks.example:8443, the server received eks.example: a proxy dropped the port"
    );
    let with_port = Received {
        host: "eks.example:8080",
        ..RECEIVED
    };
    let explanation = explain_fault(with_port, |f| f.host = "eks.example");
    assert!(
        explanation.verdict.to_string().ends_with("added the port"),
        "{}",
        explanation.verdict
    );
}

#[test]
fn paths_with_dots_signed_as_sent_are_named() {
    let dotted = Received {
        target: "/clusters/./a//b",
        ..RECEIVED
    };
    let explanation = explain_fault(dotted, |f| f.paths = PathRule::AsSent);
    assert!(matches!(&explanation.verdict, Verdict::Differs(v) if *v == [Variant::PathAsSent]));
    let s3 = Received {
        service: "s3",
        target: "/a%20b",
        ..RECEIVED
    };
    let explanation = explain_fault(s3, |_| {});
    assert!(
        matches!(&explanation.verdict, Verdict::Differs(v) if *v == [Variant::PathNormalised]),
        "{}",
        explanation.verdict
    );
}

#[test]
fn two_causes_together_are_found() {
    let explanation = explain_fault(RECEIVED, |f| {
        f.host = "eks.example:8443";
        f.payload = hex(&sha256(b"{}")).to_vec();
    });
    let Verdict::Differs(found) = &explanation.verdict else {
        panic!("{}", explanation.verdict)
    };
    assert_eq!(
        found,
        &[host("eks.example:8443"), Variant::BodyWithoutNewline]
    );
    assert!(
        explanation
            .verdict
            .to_string()
            .contains("; besides, the client signed the body without")
    );
}

#[test]
fn faults_of_the_given_secret_are_named() {
    let authorization = sign(&RECEIVED, &right(&RECEIVED));
    for (given, want) in [
        (format!("{SECRET}\n"), Variant::SecretTrimmed),
        (SECRET.replace('/', "\\/"), Variant::SecretUnescaped),
    ] {
        let explanation = explained(&RECEIVED, &authorization, &given, &[], NOW);
        assert!(
            matches!(&explanation.verdict, Verdict::Differs(v) if *v == [want]),
            "{}",
            explanation.verdict
        );
    }
    let explanation = explained(&RECEIVED, &authorization, "another", &[], NOW);
    assert!(matches!(explanation.verdict, Verdict::Unexplained));
}

#[test]
fn a_token_added_after_signing_is_named() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/data/aws-signing-suite.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    let case = cases
        .iter()
        .find(|c| c["name"] == "post-sts-header-after")
        .unwrap();
    let target = case["query"]["target"].as_str().unwrap();
    let headers: [Header<'_>; 1] = [("Host", b"example.amazonaws.com")];
    let request = Request {
        headers: &headers,
        ..Request::new("POST", target.as_bytes())
    };
    let secret = SecretKey::new(case["secret_access_key"].as_str().unwrap());
    let explanation = explain(&request, &secret, &Context::default());
    assert!(matches!(&explanation.verdict, Verdict::Differs(v) if *v == [Variant::TokenLeftOut]));
}

#[test]
fn a_clock_off_by_whole_hours_is_told_from_one_that_drifts() {
    let authorization = sign(&RECEIVED, &right(&RECEIVED));
    let finding = |now: &str| {
        explained(&RECEIVED, &authorization, SECRET, &[], now)
            .findings
            .join("\n")
    };
    assert!(finding("2026-03-14T11:27:40Z").contains("2 whole hours before the server's"));
    assert!(finding("2026-03-14T08:26:53Z").contains("1 whole hour after the server's"));
    assert!(finding("2026-03-14T10:06:53Z").contains("correct the clock"));
    assert!(finding("2026-03-14T09:26:54Z").is_empty());
}

#[test]
fn signed_headers_that_did_not_arrive_are_listed() {
    let authorization = sign(&RECEIVED, &right(&RECEIVED))
        .replace("host;x-amz-date", "accept-encoding;host;x-amz-date");
    let explanation = explained(&RECEIVED, &authorization, SECRET, &[], NOW);
    assert_eq!(
        explanation.findings,
        ["the client signed headers that did not arrive, so a proxy dropped them: accept-encoding"]
    );
}

#[test]
fn a_request_that_is_refused_earlier_is_said_to_be() {
    let explanation = explained(&RECEIVED, "Bearer x", SECRET, &[], NOW);
    assert!(matches!(
        explanation.verdict,
        Verdict::Refused(AuthError::UnsupportedAlgorithm(_))
    ));
    assert!(
        explanation
            .verdict
            .to_string()
            .contains("refused before its signature is checked")
    );
    let explanation = explained(
        &RECEIVED,
        "AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host;x-amz-date, Signature=0",
        SECRET,
        &[],
        NOW,
    );
    assert!(matches!(
        explanation.verdict,
        Verdict::Refused(AuthError::CredentialParts(_))
    ));
}

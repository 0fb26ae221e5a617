//! Answers of STS, as a table in `tests/data/sts-responses.json`.
#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

use countersign_arn::Partition;
use countersign_token::sts::{MAX_BODY, Replayed, StsError, parse_response};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    name: String,
    status: u16,
    body: String,
    class: Option<String>,
    #[serde(default)]
    text: String,
    request_id: Option<String>,
    #[serde(default)]
    definite: bool,
    canonical: Option<String>,
    user_id: Option<String>,
    session: Option<String>,
}

const REPLAYED: Replayed<'static> = Replayed {
    partition: Partition::Aws,
    access_key_id: "ASIAEXAMPLE",
    sts_endpoint: "sts.eu-west-1.amazonaws.com",
    region: "eu-west-1",
};

#[test]
fn every_answer_has_one_class() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/sts-responses.json")).unwrap();
    for case in cases {
        match parse_response(case.status, case.body.as_bytes(), &REPLAYED) {
            Ok(identity) => {
                assert_eq!(case.class, None, "{}", case.name);
                assert_eq!(identity.canonical_arn(), case.canonical.unwrap());
                assert_eq!(identity.user_id(), case.user_id.unwrap());
                assert_eq!(identity.session_name(), case.session.unwrap());
                assert_eq!(identity.access_key_id(), "ASIAEXAMPLE");
                assert_eq!(identity.sts_endpoint(), "sts.eu-west-1.amazonaws.com");
            }
            Err(error) => {
                assert_eq!(
                    Some(error.class().to_string()),
                    case.class,
                    "{}: {error}",
                    case.name
                );
                assert!(
                    error.to_string().contains(&case.text),
                    "{}: {error}",
                    case.name
                );
                assert!(error.to_string().starts_with("sts getCallerIdentity "));
                assert!(!error.to_string().contains(char::is_control));
                assert_eq!(error.is_definite(), case.definite, "{}", case.name);
                if case.request_id.is_some() {
                    assert_eq!(error.request_id(), case.request_id.as_deref());
                }
            }
        }
    }
}

#[test]
fn an_answer_of_65_kib_is_refused_whatever_it_says() {
    let body = format!(
        r#"{{"GetCallerIdentityResponse":{{"GetCallerIdentityResult":{{"Account":"444455556666","Arn":"arn:aws:iam::444455556666:root","UserId":"444455556666"}}}}{}}}"#,
        " ".repeat(MAX_BODY)
    );
    let error = parse_response(200, body.as_bytes(), &REPLAYED).unwrap_err();
    assert_eq!(error, StsError::body_too_large());
    assert_eq!(error.class().to_string(), "sts_bad_response");
    let throttled = parse_response(500, body.as_bytes(), &REPLAYED).unwrap_err();
    assert_eq!(throttled.class().to_string(), "sts_unreachable");
}

#[test]
fn a_deeply_nested_answer_is_refused() {
    let body = format!("{{\"x\":{}", "[".repeat(60_000));
    assert!(parse_response(200, body.as_bytes(), &REPLAYED).is_err());
    assert!(parse_response(400, body.as_bytes(), &REPLAYED).is_err());
}

#[test]
fn a_failed_connection_is_unreachable() {
    let error = StsError::unreachable("connection refused", "eu-west-1");
    assert_eq!(error.class().to_string(), "sts_unreachable");
    assert_eq!(
        error.to_string(),
        "sts getCallerIdentity failed: error during GET: connection refused on eu-west-1 endpoint"
    );
}

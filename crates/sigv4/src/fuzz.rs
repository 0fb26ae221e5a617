//! Entry points for fuzzing everything that reads bytes from outside. None of them may panic.

use crate::auth::{Offered, check_request};
use crate::capture::Captured;
use crate::explain::{Context, explain};
use crate::key::SecretKey;
use crate::policy::{PathRule, ServicePolicy};
use crate::presigned::Presigned;
use crate::request::{Header, Payload, Request};
use crate::time::AmzDate;
use crate::verify::{KeyLookup, Parsed};

const NOW: &str = "2026-03-14T09:26:53Z";

/// A presigned query, read by the general path and by the in-process one.
pub fn presigned_query(data: &[u8]) {
    let headers: [Header<'_>; 2] = [
        ("host", b"sts.us-west-2.amazonaws.com"),
        ("x-k8s-aws-id", b"prod-blue"),
    ];
    let request = Request {
        query: Some(data),
        headers: &headers,
        ..Request::new("GET", b"/")
    };
    verify_everywhere(&request);
    let Ok(now) = NOW.parse() else { return };
    let policy = ServicePolicy::for_service("sts");
    let query = String::from_utf8_lossy(data);
    if let Ok(presigned) = Presigned::from_query(&query, &policy, now) {
        let _ = (
            presigned.session_token(),
            presigned.session_token_sha256(),
            format!("{presigned:?}"),
        );
        let _ = presigned.verify(
            "sts.us-west-2.amazonaws.com",
            "/",
            &[("x-k8s-aws-id", "prod-blue")],
            &policy,
            KeyLookup::Unknown,
        );
    }
}

/// Lines: a request line without its version, then headers. `Authorization` is one of them.
pub fn header_signature(data: &[u8]) {
    let mut lines = data.split(|b| *b == b'\n');
    let first = lines.next().unwrap_or_default();
    let (method, target) = first.split_at(first.iter().position(|b| *b == b' ').unwrap_or(0));
    let method = String::from_utf8_lossy(method);
    let owned: Vec<(String, &[u8])> = lines
        .map(|line| {
            let (name, value) = line.split_at(line.iter().position(|b| *b == b':').unwrap_or(0));
            (
                String::from_utf8_lossy(name).into_owned(),
                value.get(1..).unwrap_or_default(),
            )
        })
        .collect();
    let headers: Vec<Header<'_>> = owned
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let mut request = Request::new(&method, target.trim_ascii());
    request.headers = &headers;
    verify_everywhere(&request);
}

/// A capture of any form, and the explanation of what is in it.
pub fn capture(data: &[u8]) {
    let _ = Captured::detect(data);
    let secret = SecretKey::new("a/b\\/c ");
    let Ok(now) = NOW.parse() else { return };
    let (raw, curl, har) = (
        Captured::from_raw(data),
        Captured::from_curl(&String::from_utf8_lossy(data)),
        Captured::from_har(data),
    );
    let one_of_har = har.ok().and_then(|all| all.into_iter().last());
    if let Some(captured) = curl.ok().or(one_of_har).or(raw.ok()) {
        captured.with_request(|request| {
            let context = Context {
                now: Some(now),
                ..Context::default()
            };
            let explanation = explain(request, &secret, &context);
            let _ = (
                format!("{:?} {}", explanation, explanation.verdict),
                explanation.parts(),
            );
        });
    }
}

/// Dates in either form.
pub fn date(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for date in [AmzDate::parse(data), AmzDate::parse_http(&text)]
        .into_iter()
        .flatten()
    {
        let _ = (
            date.day().len(),
            date.plus_seconds(i64::MAX),
            date.plus_seconds(-86_400),
        );
    }
}

fn verify_everywhere(request: &Request<'_>) {
    let Ok(now) = NOW.parse() else { return };
    let _ = Offered::by(request);
    for service in ["sts", "eks", "s3"] {
        for paths in [
            PathRule::Plain,
            PathRule::Normalise,
            PathRule::AsSent,
            PathRule::Single,
        ] {
            let mut policy = ServicePolicy::for_service(service);
            policy.paths = paths;
            policy.retry_without_token = true;
            let _ = check_request(request, &policy);
            match Parsed::from_request(request, &policy, now) {
                Ok(parsed) => {
                    let _ = parsed.verify_body(KeyLookup::Unknown, Payload::Bytes(b"x"));
                    let _ = (
                        parsed.canonical_request(request.body),
                        parsed.string_to_sign(request.body),
                    );
                    let _ = format!("{parsed:?}");
                }
                Err(error) => {
                    let _ = (error.message(), format!("{error} {error:?}"));
                }
            }
        }
    }
}

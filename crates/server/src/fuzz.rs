//! Entry points for fuzzing; none may panic.

use std::path::Path;

use crate::aws::query::{Format, Member, Parameters, error, success};
use crate::config;
use crate::webhook::wire;

/// A TokenReview body.
pub fn token_review(data: &[u8]) {
    if let Ok(review) = wire::parse(data) {
        let answer = wire::render(
            review.version,
            &wire::Verdict::Denied {
                error: Some(&review.token),
            },
        );
        assert!(serde_json::from_slice::<serde_json::Value>(&answer).is_ok());
    }
}

/// A configuration file.
pub fn configuration(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let Ok(loaded) = config::parse(text.to_owned(), Path::new("fuzz.yaml")) else {
            return;
        };
        if let Some(section) = &loaded.config.countersign.pod_identity_webhook {
            let _ = section.read(None, Some("eu-west-1"));
        }
    }
}

/// The form of a call to AssumeRole.
pub fn assume_role(data: &[u8]) {
    if let Ok(parameters) = Parameters::parse("", data) {
        crate::aws::read_assume_role(&parameters);
    }
}

/// A form read against the shape of every operation.
pub fn shapes(data: &[u8]) {
    if let Ok(parameters) = Parameters::parse("", data) {
        crate::aws::read_all_shapes(&parameters);
    }
}

/// Query string and form of an AWS Query request; the first newline separates them.
pub fn query(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let query = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let body = parts.next().unwrap_or_default();
    let Ok(parameters) = Parameters::parse(&query, body) else {
        return;
    };
    let _ = Format::of_accept(parameters.get("Accept"));
    for (name, value) in parameters.iter() {
        let member = Member::Structure(vec![
            ("Name", Member::Text(name.into())),
            ("Value", Member::Text(value.into())),
        ]);
        let _ = success(Format::Xml, "urn:fuzz", "Fuzz", &member, "id");
        let json = success(Format::Json, "urn:fuzz", "Fuzz", &member, "id");
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        let _ = error(Format::Xml, "urn:fuzz", 400, "Fuzz", value, "id");
    }
}

/// A request as the audit log records it. The first line is service, operation, user agent and message, with `|` between.
pub fn audit_record(data: &[u8]) {
    use crate::audit::{Decision, Event, Identity, MAX_RECORD, record};
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let head = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let mut words = head.split('|');
    let mut word = || words.next().unwrap_or_default();
    let (service, operation, user_agent, message) = (word(), word(), word(), word());
    let dry_run = words.next().is_some();
    let Ok(parameters) = Parameters::parse("", parts.next().unwrap_or_default()) else {
        return;
    };
    let line = record(&Event {
        time: jiff::Timestamp::UNIX_EPOCH,
        request_id: "",
        event_id: "",
        service,
        operation,
        region: user_agent,
        identity: Identity::Unknown {
            access_key_id: Some(message),
        },
        recipient: None,
        source: std::net::Ipv4Addr::LOCALHOST.into(),
        user_agent,
        parameters: Some(&parameters),
        input: None,
        response: None,
        dry_run,
        error: Some((message, message)),
        decision: Decision::default(),
        pod: None,
        resources: &[message],
        tls: None,
        kubernetes: None,
        host: user_agent,
    });
    assert!(line.len() <= MAX_RECORD);
    assert!(!line.contains(&b'\n'));
    assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
}

/// A REST-JSON request: method, path, query string and body, each but the last on a line of its own.
pub fn rest_request(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (method, path, query) = (text(), text(), text());
    crate::aws::read_rest(&method, &path, &query, parts.next().unwrap_or_default());
}

/// A request on the socket of local administration.
pub fn admin_request(data: &[u8]) {
    crate::admin::read_request(data);
}

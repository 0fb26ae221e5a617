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
        let _ = config::parse(text.to_owned(), Path::new("fuzz.yaml"));
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

/// A request on the socket of local administration.
pub fn admin_request(data: &[u8]) {
    crate::admin::read_request(data);
}

//! Entry points for fuzzing; none may panic.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use jiff::Timestamp;

use crate::link::{IPV4, IPV6};
use crate::request::{check_route, token_text};
use crate::token::TokenFacts;

/// `data` as the head of a request, line by line: target, then headers. What is accepted must fulfil what was checked.
pub fn request(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next(), parts.next());
        let name = HeaderName::from_bytes(name.unwrap_or_default());
        let value = HeaderValue::from_bytes(value.unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let _ = check_route(&Method::GET, &uri);
    match token_text(&uri, &headers, &[IPV4, IPV6]) {
        Ok(text) => {
            assert!(!text.is_empty() && text.len() <= 16 << 10);
            assert!(!headers.contains_key("x-forwarded-for"));
            token(text.as_bytes());
        }
        Err(refusal) => {
            assert!(refusal.status().is_client_error());
            let body = refusal.body("id");
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        }
    }
}

/// `data` as a token.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match TokenFacts::read(text, Timestamp::UNIX_EPOCH) {
        Ok(facts) => {
            assert!(facts.expires > 0);
            assert!(!facts.identity.pod_uid.is_empty());
            assert_eq!(facts.identity.key(), facts.identity.key());
        }
        Err(refusal) => assert_eq!(refusal.status(), StatusCode::BAD_REQUEST),
    }
}

/// `data` as an answer of the auth service, good or bad.
pub fn answer(data: &[u8]) {
    if let Ok(issued) = crate::Issued::from_answer(data) {
        assert_eq!(issued.account.len(), 12);
        assert!(!issued.expose_secret().is_empty());
    }
    if let Ok(role) = crate::auth::annotated_answer(data) {
        assert!(!role.secret_access_key.is_empty() && !role.shown.contains('\n'));
    }
    let _ = crate::associations::state_of(data);
    let _ = crate::associations::first_listed(data);
    for status in [200, 400, 403, 404, 429, 500] {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let _ = crate::auth::failure(status, &HeaderMap::new(), data);
        let _ = crate::auth::annotated_refusal(status, &HeaderMap::new(), data);
    }
}

/// `data` as what the kernel says about a socket.
pub fn socket(data: &[u8]) {
    let _ = crate::guard::cgroup_id(data);
}

/// `data` as a line by which a process of the agent offers its sockets, or asks for them.
pub fn handover(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        crate::handover::read_any(text);
    }
}

//! Answers on the wire.

use bytes::Bytes;
use countersign_store::Revision;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::Full;

use super::query::{self, Format};
use super::{ApiError, Service, dry_run};
use crate::listen::Answer;

/// Carries the sealed explanation of a denial, for DecodeAuthorizationMessage.
const DENIAL_HEADER: &str = "x-countersign-denial";
/// Says what a caller may not have meant, once for each warning.
const WARNING_HEADER: &str = "x-countersign-warning";
/// Has the revision of the store at which what was written is in force here, when it is not yet.
const PENDING_HEADER: &str = "x-countersign-pending";

/// An error in the form of the Query protocol.
pub(super) fn query_error(
    format: Format,
    service: Service,
    error: &ApiError,
    request_id: &str,
) -> Answer {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = if error.code.is_empty() {
        String::new()
    } else {
        query::error(
            format,
            service.namespace(),
            error.status,
            error.code,
            &error.message,
            request_id,
        )
    };
    let mut answer = answer(status, format.content_type(), text, request_id);
    if error.code == "Throttling" {
        // Every limit is of calls a second.
        let second = HeaderValue::from_static("1");
        answer.headers_mut().insert(header::RETRY_AFTER, second);
    }
    if let Some(denial) = &error.denial
        && let Ok(value) = HeaderValue::from_str(denial)
    {
        answer.headers_mut().insert(DENIAL_HEADER, value);
    }
    answer
}

/// An error in the form of REST-JSON services; `members` of the body stand beside the message. A request that cannot be
/// understood at all has no code, and is answered without a body.
pub(super) fn rest_error(
    error: &ApiError,
    members: Option<serde_json::Map<String, serde_json::Value>>,
    request_id: &str,
) -> Answer {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = match members {
        _ if error.code.is_empty() => String::new(),
        Some(members) => serde_json::Value::Object(members).to_string(),
        None => serde_json::json!({ "message": error.message }).to_string(),
    };
    let mut answer = answer(status, "application/json", text, request_id);
    let headers = answer.headers_mut();
    if !error.code.is_empty() {
        headers.insert("x-amzn-errortype", HeaderValue::from_static(error.code));
    }
    if let Some(denial) = &error.denial
        && let Ok(value) = HeaderValue::from_str(denial)
    {
        headers.insert(DENIAL_HEADER, value);
    }
    answer
}

/// Adds what is told beside an answer: that nothing was done, and what to look at (EKS API spec, section 18.2).
pub(super) fn note(headers: &mut HeaderMap, dry_run: bool, warnings: &[String]) {
    if dry_run {
        headers.insert(dry_run::HEADER, HeaderValue::from_static("true"));
    }
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(warning) {
            headers.append(WARNING_HEADER, value);
        }
    }
}

/// Adds that the write is durable and this replica does not see it yet (Pod Identity spec, section 9).
pub(super) fn note_pending(headers: &mut HeaderMap, pending: Option<Revision>) {
    if let Some(revision) = pending {
        headers.insert(PENDING_HEADER, HeaderValue::from(revision.get()));
    }
}

/// An answer with this body.
pub(super) fn answer(
    status: StatusCode,
    content_type: &'static str,
    text: String,
    request_id: &str,
) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-amzn-requestid", id);
    }
    answer
}

//! The issuers of our own tokens, one for each account that has them switched on, and the documents by which others verify
//! such tokens (STS spec, section 2.9).
//!
//! All accounts share the signing keys of the deployment: a token says whose it is in `iss`, and only this service signs.
//! The documents stay when an account switches its tokens off, because tokens handed out before are good until they end.

use aws_lc_rs::digest;
use bytes::Bytes;
use countersign_oidc::{Schedule, discovery_document};
use countersign_store::DirectorySnapshot;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;

use crate::listen::Answer;

/// Where issuers are, below the public URL.
const PREFIX: &str = "/outbound/";
const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/.well-known/jwks.json";

/// The issuer of an account.
pub(crate) fn issuer(public_url: &str, hash: &str) -> String {
    format!("{public_url}{PREFIX}{hash}")
}

/// Whether a token claims to be of one of our own issuers.
pub(crate) fn is_own_issuer(public_url: &str, issuer: &str) -> bool {
    !public_url.is_empty()
        && issuer
            .strip_prefix(public_url)
            .is_some_and(|rest| rest.starts_with(PREFIX))
}

/// Answers a request for a document of an issuer; `None` for other paths.
pub(crate) fn answer(
    snapshot: &DirectorySnapshot,
    public_url: &str,
    (method, path, headers): (&Method, &str, &HeaderMap),
    now: Timestamp,
) -> Option<Answer> {
    let rest = path.strip_prefix(PREFIX)?;
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut answer = document(StatusCode::METHOD_NOT_ALLOWED, "application/json", "{}");
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(answer);
    }
    let found = rest.find('/').and_then(|at| rest.split_at_checked(at));
    let text = found.and_then(|(hash, of)| text(snapshot, public_url, hash, of, now));
    let Some((content_type, text)) = text else {
        return Some(document(StatusCode::NOT_FOUND, "application/json", "{}"));
    };
    let tag = entity_tag(&text);
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|known| matches_tag(known.trim(), &tag)));
    let mut answer = if known {
        document(StatusCode::NOT_MODIFIED, content_type, "")
    } else {
        document(StatusCode::OK, content_type, &text)
    };
    let answered = answer.headers_mut();
    answered.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answered.insert(ETAG, tag);
    }
    Some(answer)
}

fn text(
    snapshot: &DirectorySnapshot,
    public_url: &str,
    hash: &str,
    of: &str,
    now: Timestamp,
) -> Option<(&'static str, String)> {
    let known = snapshot.accounts().any(|account| {
        let federation = account.record.outbound_federation.as_ref();
        federation.is_some_and(|federation| *federation.hash == *hash)
    });
    let keys = &snapshot.outbound_keys().filter(|_| known)?.keys;
    let issuer = issuer(public_url, hash);
    match of {
        DISCOVERY => {
            let published = keys.published(Schedule::OUTBOUND, now);
            let algorithms = published.iter().map(|key| key.algorithm());
            let document = discovery_document(&issuer, &format!("{issuer}{KEYS}"), algorithms);
            Some(("application/json", document))
        }
        KEYS => Some((
            "application/jwk-set+json",
            keys.document(Schedule::OUTBOUND, now),
        )),
        _ => None,
    }
}

fn document(status: StatusCode, content_type: &'static str, text: &str) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // The documents are public: pages of any origin may read them.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

/// The digest of the text, in quotes.
fn entity_tag(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("\"{hex}\"")
}

/// Weak comparison (RFC 9110, section 8.8.3.2), which is the one for `If-None-Match`.
fn matches_tag(known: &str, tag: &str) -> bool {
    known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
}

//! The public documents of issuers, with what HTTP says about them (IRSA spec, sections 2.2, 2.3 and 2.5).

use aws_lc_rs::digest;
use bytes::Bytes;
use countersign_oidc::{Algorithm, discovery_document};
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::Full;

use super::{ClusterIssuers, PREFIX};
use crate::listen::Answer;

const DISCOVERY: &str = ".well-known/openid-configuration";
const KEYS: &str = "keys";
const JSON: &str = "application/json";
const JWK_SET: &str = "application/jwk-set+json";
/// What the counter calls a cluster that is not there.
const UNKNOWN: &str = "unknown";

impl ClusterIssuers {
    /// Answers a request for a document of a cluster's issuer; `None` for other paths.
    ///
    /// What is not there takes the same way as what is, so that the time says nothing about which ids exist.
    pub(crate) fn answer(
        &self,
        (method, path, headers): (&Method, &str, &HeaderMap),
    ) -> Option<Answer> {
        let rest = path
            .strip_prefix(PREFIX)
            .or_else(|| path.strip_prefix(&*self.base_path)?.strip_prefix(PREFIX))?;
        let (id, of) = rest.split_once('/').unwrap_or((rest, ""));
        let snapshot = self.directory.feed().load();
        let cluster = snapshot.cluster_by_id(id);
        let keys = snapshot.cluster_keys(id);
        let issuer = self.url_of(id.get(..super::ID_CHARS).unwrap_or_default());
        let (name, content_type, text) = match of {
            DISCOVERY => {
                let algorithms: Vec<_> = match keys {
                    Some(keys) => keys.keys.algorithms().collect(),
                    None => vec![Algorithm::Rs256],
                };
                let text = discovery_document(&issuer, &format!("{issuer}/{KEYS}"), algorithms);
                ("discovery", JSON, text)
            }
            KEYS => {
                let text = keys.map_or("", |keys| &keys.document);
                ("keys", JWK_SET, text.to_owned())
            }
            _ => ("other", JSON, String::new()),
        };
        let tag = entity_tag(&text);
        let there = keys.is_some() && matches!(of, DISCOVERY | KEYS);
        let (code, answer) = if !matches!(*method, Method::GET | Method::HEAD) {
            ("405", not_allowed())
        } else if !there {
            ("404", document(StatusCode::NOT_FOUND, JSON, "{}"))
        } else {
            let answer = conditional(headers, content_type, &text, &tag);
            let code = match answer.status() {
                StatusCode::NOT_MODIFIED => "304",
                _ => "200",
            };
            (code, answer)
        };
        let cluster = cluster.map_or(UNKNOWN, |cluster| &*cluster.arn);
        self.counters.document(cluster, name, code);
        Some(answer)
    }
}

/// The document, or that the client has it already.
pub(crate) fn conditional(
    headers: &HeaderMap,
    content_type: &'static str,
    text: &str,
    tag: &str,
) -> Answer {
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|known| matches_tag(known.trim(), tag)));
    let mut answer = if known {
        document(StatusCode::NOT_MODIFIED, content_type, "")
    } else {
        document(StatusCode::OK, content_type, text)
    };
    let answered = answer.headers_mut();
    answered.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    if let Ok(tag) = HeaderValue::from_str(tag) {
        answered.insert(ETAG, tag);
    }
    answer
}

/// Documents are only read.
pub(crate) fn not_allowed() -> Answer {
    let mut answer = document(StatusCode::METHOD_NOT_ALLOWED, JSON, "{}");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

pub(crate) fn document(status: StatusCode, content_type: &'static str, text: &str) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // The documents are public: pages of any origin may read them.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

/// The digest of the text, in quotes.
pub(crate) fn entity_tag(text: &str) -> String {
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

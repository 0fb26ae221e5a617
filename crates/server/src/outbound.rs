//! The issuers of our own tokens, one for each account that has them switched on, and the documents by which others verify
//! such tokens (STS spec, section 2.9).
//!
//! All accounts share the signing keys of the deployment: a token says whose it is in `iss`, and only this service signs.
//! The documents stay when an account switches its tokens off, because tokens handed out before are good until they end.

use countersign_oidc::{Schedule, discovery_document};
use countersign_store::DirectorySnapshot;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;

use crate::issuer::{conditional, document, entity_tag, not_allowed};
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
        return Some(not_allowed());
    }
    let found = rest.find('/').and_then(|at| rest.split_at_checked(at));
    let text = found.and_then(|(hash, of)| text(snapshot, public_url, hash, of, now));
    let Some((content_type, text)) = text else {
        return Some(document(StatusCode::NOT_FOUND, "application/json", "{}"));
    };
    let tag = entity_tag(&text);
    Some(conditional(headers, content_type, &text, &tag))
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

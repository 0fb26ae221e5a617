//! The decision events: one JSON object per review, for auditors and for whoever asks why.
//!
//! Never in it: the token, its URL, the signature, a session token, a body of STS. The fingerprint is the first 16 hex digits of
//! the SHA-256 of the signature, enough to find the same token again and worth nothing to an attacker.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use countersign_rbac::review::{AccessReview, NonResourceAttributes, ResourceAttributes};
use countersign_store::records::AuthenticationMode;
use jiff::Timestamp;
use serde::Serialize;

use super::authenticate::{ClusterAuthenticator, Review};
use super::authorize::Ruling;
use super::denial::DenialClass;
use super::wire::ReviewVersion;
use crate::listen::Peer;

/// Events about garbage per second; other issuers' tokens reach the webhook regularly, and scanners send them by the thousand.
const GARBAGE_PER_SECOND: u32 = 5;

/// Lets through a few garbage events a second and counts the rest.
#[derive(Debug, Default)]
pub(super) struct GarbageLimit {
    second: AtomicI64,
    said: AtomicU32,
}

impl GarbageLimit {
    /// Whether this review gets an event. All but garbage do.
    pub(super) fn admits(&self, review: &Review, now: Timestamp) -> bool {
        let garbage = matches!(
            &review.outcome,
            Err(denial) if matches!(denial.class, DenialClass::Token | DenialClass::Person)
        );
        if !garbage {
            return true;
        }
        let second = now.as_second();
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.said.store(0, Ordering::Relaxed);
        }
        self.said.fetch_add(1, Ordering::Relaxed) < GARBAGE_PER_SECOND
    }
}

/// One decision, as it is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionEvent<'a> {
    time: Timestamp,
    event: &'static str,
    cluster: &'a str,
    decision: &'static str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    nearest: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Identity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hides: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_mode: Option<&'static str>,
    mapping_generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'static str>,
    micros: Micros,
    api_version: &'static str,
    client: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    arn: &'a str,
    canonical_arn: &'a str,
    account_id: &'a str,
    user_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    session_name: &'a str,
    access_key_id: &'a str,
    sts_endpoint: &'a str,
}

/// Where the time went, in microseconds.
#[derive(Debug, Serialize)]
struct Micros {
    total: u64,
    sts: u64,
    lookup: u64,
}

impl<'a> DecisionEvent<'a> {
    /// The event of one review.
    #[must_use]
    pub fn new(
        cluster: &'a ClusterAuthenticator,
        review: &'a Review,
        version: ReviewVersion,
        peer: Peer,
        now: Timestamp,
        took: Duration,
    ) -> Self {
        let accepted = review.outcome.as_ref().ok();
        let denial = review.outcome.as_ref().err();
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // Identities of scrubbed accounts stay out of every log.
        let identity = review.identity.as_ref().filter(|_| !review.is_scrubbed);
        Self {
            time: now,
            event: "authenticate",
            cluster: cluster.name(),
            decision: if accepted.is_some() { "allow" } else { "deny" },
            reason: denial.map_or("mapped", |denial| &denial.reason),
            error: denial
                .filter(|_| !review.is_scrubbed)
                .map(|denial| denial.text.as_str()),
            nearest: denial
                .filter(|_| !review.is_scrubbed)
                .map_or(&[], |denial| denial.nearest.as_slice()),
            identity: identity.map(|identity| Identity {
                arn: identity.arn(),
                canonical_arn: identity.canonical_arn(),
                account_id: identity.caller().account_str(),
                user_id: identity.user_id(),
                session_name: identity.session_name(),
                access_key_id: identity.access_key_id(),
                sts_endpoint: identity.sts_endpoint(),
            }),
            username: accepted.map(|accepted| accepted.username()),
            uid: accepted.map(|accepted| accepted.uid()),
            groups: accepted.map_or(&[], |accepted| accepted.groups()),
            backend: accepted.map(|accepted| accepted.backend()),
            rule: accepted.map(|accepted| accepted.rule()),
            hides: review.hides.as_deref(),
            authentication_mode: review.mode.map(AuthenticationMode::as_str),
            mapping_generation: review.mapping_generation,
            token: review.fingerprint.map(hex),
            cache: review.cache,
            micros: Micros {
                total: micros(took),
                sts: micros(review.sts_time),
                lookup: micros(review.lookup_time),
            },
            api_version: version.as_str(),
            client: client(peer),
        }
    }

    /// The event as JSON without a newline.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        line(self)
    }
}

/// One answer of the authorizer, as it is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizeEvent<'a> {
    time: Timestamp,
    event: &'static str,
    cluster: &'a str,
    decision: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a ResourceAttributes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    non_resource: Option<&'a NonResourceAttributes>,
    micros: u64,
    api_version: &'static str,
    client: String,
}

impl<'a> AuthorizeEvent<'a> {
    /// The event of one review.
    #[must_use]
    pub fn new(
        cluster: &'a str,
        review: &'a AccessReview,
        ruling: &'a Ruling,
        peer: Peer,
        now: Timestamp,
        took: Duration,
    ) -> Self {
        Self {
            time: now,
            event: "authorize",
            cluster,
            decision: ruling.outcome.label(),
            reason: &ruling.reason,
            error: &ruling.error,
            username: &review.spec.user,
            principal_id: ruling.principal_id.as_deref(),
            rule: ruling.rule.as_deref(),
            authentication_mode: ruling.mode.map(AuthenticationMode::as_str),
            resource: review.spec.resource.as_ref(),
            non_resource: review.spec.non_resource.as_ref(),
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            api_version: review.version.as_str(),
            client: client(peer),
        }
    }

    /// The event as JSON without a newline.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        line(self)
    }
}

fn line(event: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(1024);
    if serde_json::to_writer(&mut line, event).is_err() {
        line.clear();
    }
    line
}

fn client(peer: Peer) -> String {
    peer.address.ip().to_canonical().to_string()
}

fn hex(bytes: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(bytes))
}

//! Decision events: who got credentials, who was refused and why. Neither tokens nor secrets nor session tokens are part of one.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::pods::Pod;
use crate::token::PodIdentity;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The auth service gave credentials, for a request or a renewal. Answers from the cache are counted, not recorded.
    Issued,
    /// A pod got the credentials of another pod of its service account, whose association has session tags disabled.
    Shared,
    /// A request was refused.
    Refused,
    /// A token came from somebody else than its pod; whether that was refused is in `status`.
    Misuse,
    /// Cached credentials were dropped because the auth service refused to renew them.
    Dropped,
}

/// One decision. Members that do not apply are absent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision<'a> {
    /// When.
    pub time: Timestamp,
    /// What.
    pub outcome: Outcome,
    /// The id that the caller was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// Why, from a closed set ([`crate::Refusal::reason`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Where the request came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<IpAddr>,
    /// Whose token it is, by its own words unless `accepted`.
    #[serde(flatten, serialize_with = "identity")]
    pub identity: Option<&'a PodIdentity>,
    /// Whether the token was accepted by the auth service or the keys of the cluster.
    pub accepted: bool,
    /// The pod that called, by its address, where it is another one than the token's.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "caller")]
    pub caller: Option<&'a Pod>,
    /// The association.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub association_id: Option<&'a str>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_arn: Option<&'a str>,
    /// Its access key id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<&'a str>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl<'a> Decision<'a> {
    /// A decision of which only the kind is known.
    #[must_use]
    pub const fn new(time: Timestamp, outcome: Outcome) -> Self {
        Self {
            time,
            outcome,
            request_id: None,
            reason: None,
            status: None,
            source_address: None,
            identity: None,
            accepted: false,
            caller: None,
            association_id: None,
            session_arn: None,
            access_key_id: None,
            expires_at: None,
        }
    }

    /// One line of JSON without a newline.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Where decisions go. An implementation returns at once: it queues, or drops and counts.
pub trait DecisionLog: Send + Sync + 'static {
    /// Takes one decision.
    fn record(&self, decision: &Decision<'_>);
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl DecisionLog for NoEvents {
    fn record(&self, _: &Decision<'_>) {}
}

fn identity<S: serde::Serializer>(
    identity: &Option<&PodIdentity>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Names<'a> {
        namespace: &'a str,
        service_account: &'a str,
        pod: &'a str,
        pod_uid: &'a str,
    }
    identity
        .map(|identity| Names {
            namespace: &identity.namespace,
            service_account: &identity.service_account,
            pod: &identity.pod,
            pod_uid: &identity.pod_uid,
        })
        .serialize(serializer)
}

fn caller<S: serde::Serializer>(caller: &Option<&Pod>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Names<'a> {
        namespace: &'a str,
        pod: &'a str,
        pod_uid: &'a str,
    }
    caller
        .map(|pod| Names {
            namespace: &pod.namespace,
            pod: &pod.name,
            pod_uid: &pod.uid,
        })
        .serialize(serializer)
}

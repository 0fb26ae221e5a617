//! What a session token says, to people and programs.

use countersign_session::{Opened, Revoked, SessionRecord, caller_identity};
use countersign_store::DirectorySnapshot;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::aws::live_principal;

/// The content of a session token and how the session stands. Neither the secret nor what it follows from is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionReport {
    /// How the session stands.
    pub state: SessionState,
    /// Why it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `ASIA…`
    pub access_key_id: String,
    /// The key that sealed the token.
    pub kid: String,
    /// Characters of the token.
    pub token_chars: usize,
    /// The call that made it, such as `assumed-role`.
    pub kind: String,
    /// The account.
    pub account: String,
    /// What GetCallerIdentity answers.
    pub arn: String,
    /// What GetCallerIdentity answers.
    pub user_id: String,
    /// `aws:PrincipalArn`
    pub principal_arn: String,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// When MFA was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa_at: Option<Timestamp>,
    /// The source identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<String>,
    /// Session tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagReport>,
    /// The inline session policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// ARNs of managed session policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_arns: Vec<String>,
    /// Role sessions on the way here.
    pub depth: u8,
    /// The access key id that signed the call which made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_access_key_id: Option<String>,
    /// The id of that call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_request_id: Option<String>,
    /// The network it may be used from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The identity provider behind it, and what it said.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub federation: serde_json::Value,
    /// The workload it was issued to.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub binding: serde_json::Value,
}

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// Its holder is let in.
    Valid,
    /// It is over.
    Expired,
    /// It was ended before its time.
    Revoked,
    /// Its role or user is deleted, or another one has the name.
    PrincipalGone,
}

impl SessionState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::PrincipalGone => "principal-gone",
        }
    }
}

/// One session tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagReport {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Whether sessions made with this one have it too.
    pub transitive: bool,
    /// Whether it came from the session that made this one.
    pub inherited: bool,
}

impl SessionReport {
    pub(super) fn new(snapshot: &DirectorySnapshot, opened: &Opened, now: Timestamp) -> Self {
        let record = opened.record();
        let key_id = opened.access_key_id();
        let (state, reason) = state(snapshot, record, key_id, now);
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        Self {
            state,
            reason,
            access_key_id: key_id.to_owned(),
            kid: opened.kid().to_string(),
            token_chars: opened.token_chars(),
            kind: record.kind.as_str().to_owned(),
            account: record.account.to_string(),
            arn: record
                .principal
                .caller_arn(record.partition, record.account),
            user_id: record.principal.user_id(record.account),
            principal_arn: record
                .principal
                .principal_arn(record.partition, record.account),
            issued: record.issued,
            expires: record.expires,
            mfa_at: record.mfa_at,
            source_identity: text(&record.source_identity),
            tags: record
                .tags
                .iter()
                .map(|tag| TagReport {
                    key: tag.tag.key.to_string(),
                    value: tag.tag.value.to_string(),
                    transitive: tag.transitive,
                    inherited: tag.inherited,
                })
                .collect(),
            policy: text(&record.policies.inline),
            policy_arns: record
                .policies
                .arns
                .iter()
                .map(ToString::to_string)
                .collect(),
            depth: record.depth,
            origin_access_key_id: text(&record.origin.access_key_id),
            origin_request_id: text(&record.origin.request_id),
            network: record.network.as_ref().map(ToString::to_string),
            // Structs of strings, for which the serializer has no error.
            federation: serde_json::to_value(&record.federation).unwrap_or_default(),
            binding: if record.binding.is_empty() {
                serde_json::Value::Null
            } else {
                serde_json::to_value(&record.binding).unwrap_or_default()
            },
        }
    }
}

fn state(
    snapshot: &DirectorySnapshot,
    record: &SessionRecord,
    key_id: &str,
    now: Timestamp,
) -> (SessionState, Option<String>) {
    if record.is_expired(now) {
        return (
            SessionState::Expired,
            Some(format!("it ended at {}", record.expires)),
        );
    }
    match snapshot.revoked(record, key_id) {
        Some(Revoked::Key) => {
            return (
                SessionState::Revoked,
                Some("its access key id was revoked".to_owned()),
            );
        }
        Some(Revoked::Session { by, before }) => {
            return (
                SessionState::Revoked,
                Some(format!("revoked by {by}, with all issued before {before}")),
            );
        }
        None => {}
    }
    let live = live_principal(snapshot, record);
    match caller_identity(record, key_id, live.as_ref(), "") {
        Ok(_) => (SessionState::Valid, None),
        Err(error) => (SessionState::PrincipalGone, Some(error.to_string())),
    }
}

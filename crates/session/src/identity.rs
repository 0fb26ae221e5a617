//! Who calls, once a token has opened and the signature holds (STS spec, section 6; policy language spec, section 7).

use std::sync::Arc;

use countersign_arn::{AccountId, CallerIdentity, InvalidCaller, SessionFacts, Tag};
use jiff::Timestamp;

use crate::chain::effective_tags;
use crate::error::Refusal;
use crate::record::{Federation, SessionKind, SessionPrincipal, SessionRecord};

/// The user or role of a session as it is in the store now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePrincipal<'s> {
    /// Its unique id.
    pub id: &'s str,
    /// Its path.
    pub path: &'s str,
    /// Its name.
    pub name: &'s str,
    /// Its tags.
    pub tags: &'s [Tag],
}

/// Why a session has no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The role or user is deleted, or another one has its name (STS spec, section 8.5, item 3).
    #[error("the principal of the session does not exist any more")]
    PrincipalGone,
    /// The record names no caller.
    #[error(transparent)]
    Invalid(#[from] InvalidCaller),
}

impl IdentityError {
    /// What the caller is told: `InvalidClientTokenId`.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        Refusal::invalid_token()
    }
}

/// Checks that the principal of `session` is still the one in the store. Sessions of the account root always pass.
///
/// # Errors
/// When `live` is another principal or none.
pub fn check_principal(
    session: &SessionRecord,
    live: Option<&LivePrincipal<'_>>,
) -> Result<(), IdentityError> {
    match session.principal.unique_id() {
        Some(id) if live.is_none_or(|live| live.id != id) => Err(IdentityError::PrincipalGone),
        _ => Ok(()),
    }
}

/// The identity that GetCallerIdentity answers and that mapping starts from, with the facts that only the issuing STS
/// knows. `live` is what the store has under [`SessionPrincipal::unique_id`]: the role, the user, or the creator of a
/// federated user.
///
/// # Errors
/// When the principal is gone or replaced.
pub fn caller_identity(
    session: &SessionRecord,
    access_key_id: &str,
    live: Option<&LivePrincipal<'_>>,
    sts_endpoint: &str,
) -> Result<CallerIdentity, IdentityError> {
    check_principal(session, live)?;
    let principal = current(&session.principal, live);
    let (partition, account) = (session.partition, session.account);
    let identity = CallerIdentity::new(
        &principal.caller_arn(partition, account),
        account.as_str(),
        &principal.user_id(account),
        access_key_id,
        sts_endpoint,
    )?;
    Ok(identity.with_facts(Arc::new(SessionFacts {
        principal_arn: principal.principal_arn(partition, account),
        source_identity: session.source_identity.as_deref().map(Into::into),
        session_tags: session.tags.iter().map(|tag| tag.tag.clone()).collect(),
        principal_tags: live.map(|live| live.tags.to_vec()).unwrap_or_default(),
        mfa: mfa_present(session) == Some(true),
        issued_at: Some(session.issued.as_second()),
    })))
}

/// The context keys that follow from the session alone. A key that is absent here must be absent in the request context:
/// presence is a fact that policies test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextFacts {
    /// `aws:PrincipalArn`.
    pub principal_arn: String,
    /// `aws:PrincipalAccount`.
    pub principal_account: AccountId,
    /// `aws:PrincipalType`.
    pub principal_type: &'static str,
    /// `aws:userid`.
    pub user_id: String,
    /// `aws:username`; users only.
    pub user_name: Option<String>,
    /// `aws:PrincipalTag/…`.
    pub principal_tags: Vec<Tag>,
    /// `aws:TokenIssueTime`.
    pub token_issue_time: Timestamp,
    /// `aws:MultiFactorAuthPresent`.
    pub mfa_present: Option<bool>,
    /// `aws:MultiFactorAuthAge`, in seconds.
    pub mfa_age: Option<i64>,
    /// `aws:SourceIdentity`.
    pub source_identity: Option<String>,
    /// `aws:FederatedProvider`.
    pub federated_provider: Option<String>,
    /// `aws:AssumedRoot`; present and true only in AssumeRoot sessions.
    pub assumed_root: bool,
    /// Keys of the identity provider that travel into later requests, with their values.
    pub provider_keys: Vec<(String, Vec<String>)>,
}

/// The context keys of `session` at `now`, see [`ContextFacts`].
///
/// # Errors
/// When the principal is gone or replaced.
pub fn context_facts(
    session: &SessionRecord,
    live: Option<&LivePrincipal<'_>>,
    now: Timestamp,
) -> Result<ContextFacts, IdentityError> {
    check_principal(session, live)?;
    let principal = current(&session.principal, live);
    let (partition, account) = (session.partition, session.account);
    let mfa_present = mfa_present(session);
    let role = matches!(principal, SessionPrincipal::Role { .. });
    Ok(ContextFacts {
        principal_arn: principal.principal_arn(partition, account),
        principal_account: account,
        principal_type: principal.principal_type(),
        user_id: principal.user_id(account),
        user_name: match &principal {
            SessionPrincipal::User { name, .. } => Some(name.to_string()),
            SessionPrincipal::Role { .. }
            | SessionPrincipal::Root
            | SessionPrincipal::FederatedUser { .. } => None,
        },
        principal_tags: effective_tags(live.map_or(&[], |live| live.tags), &session.tags),
        token_issue_time: session.issued,
        mfa_present,
        mfa_age: session
            .mfa_at
            .filter(|_| mfa_present == Some(true))
            .map(|at| (now.as_second() - at.as_second()).max(0)),
        source_identity: session.source_identity.as_deref().map(Into::into),
        federated_provider: session
            .federation
            .as_ref()
            .filter(|_| role)
            .map(|federation| federation.provider().into()),
        assumed_root: session.kind == SessionKind::RootTask,
        provider_keys: session
            .federation
            .as_ref()
            .map(provider_keys)
            .unwrap_or_default(),
    })
}

/// `aws:MultiFactorAuthPresent`: true or false for the sessions whose caller could have shown MFA, absent for web
/// identity, SAML and federated users, and absent in a chain, where MFA of an earlier session says nothing (STS spec,
/// section 4.3). Sessions that a service makes (pods, instances) are never MFA sessions: false, so that a policy which
/// asks for MFA does not pass them.
fn mfa_present(session: &SessionRecord) -> Option<bool> {
    match session.kind {
        SessionKind::WebIdentity | SessionKind::Saml | SessionKind::Federation => None,
        SessionKind::AssumedRole if session.depth > 1 && session.mfa_at.is_none() => None,
        SessionKind::AssumedRole
        | SessionKind::SessionToken
        | SessionKind::RootTask
        | SessionKind::PodIdentity
        | SessionKind::IdentityCenter
        | SessionKind::Login
        | SessionKind::Instance => Some(session.mfa_at.is_some()),
    }
}

/// A user who was renamed or moved keeps the session and shows under the new name. Roles are never renamed.
fn current(principal: &SessionPrincipal, live: Option<&LivePrincipal<'_>>) -> SessionPrincipal {
    match (principal, live) {
        (SessionPrincipal::User { id, .. }, Some(live)) => SessionPrincipal::User {
            id: id.clone(),
            path: live.path.into(),
            name: live.name.into(),
        },
        (other, _) => other.clone(),
    }
}

/// Only the keys of the four built-in providers and three of SAML's travel (policy language spec, section 7.5).
fn provider_keys(federation: &Federation) -> Vec<(String, Vec<String>)> {
    let mut keys = Vec::new();
    match federation {
        Federation::Oidc {
            provider,
            audience,
            subject,
            amr,
            ..
        } if federation.is_built_in() => {
            let mut add =
                |claim, values: Vec<String>| keys.push((format!("{provider}:{claim}"), values));
            add("aud", vec![audience.to_string()]);
            add("sub", vec![subject.to_string()]);
            if !amr.is_empty() {
                add("amr", amr.iter().map(ToString::to_string).collect());
            }
        }
        Federation::Oidc { .. } => {}
        Federation::Saml {
            subject,
            subject_type,
            name_qualifier,
            ..
        } => {
            let all = [
                ("saml:namequalifier", name_qualifier.as_deref()),
                ("saml:sub", Some(&**subject)),
                ("saml:sub_type", subject_type.as_deref()),
            ];
            for (key, value) in all {
                if let Some(value) = value {
                    keys.push((key.into(), vec![value.into()]));
                }
            }
        }
    }
    keys
}

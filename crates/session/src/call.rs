//! What temporary credentials may not call (STS spec, section 6.2), before any policy is asked.

use crate::error::{Code, Refusal};
use crate::record::{SessionKind, SessionPrincipal, SessionRecord};

/// A signed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// An operation of STS.
    Sts(StsCall),
    /// Any operation of IAM.
    Iam,
    /// Any operation of another service.
    Other,
}

/// The signed operations of STS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StsCall {
    /// GetCallerIdentity.
    GetCallerIdentity,
    /// AssumeRole.
    AssumeRole,
    /// AssumeRoot.
    AssumeRoot,
    /// GetSessionToken.
    GetSessionToken,
    /// GetFederationToken.
    GetFederationToken,
    /// GetAccessKeyInfo.
    GetAccessKeyInfo,
    /// DecodeAuthorizationMessage.
    DecodeAuthorizationMessage,
    /// GetWebIdentityToken.
    GetWebIdentityToken,
}

impl StsCall {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::GetCallerIdentity,
        Self::AssumeRole,
        Self::AssumeRoot,
        Self::GetSessionToken,
        Self::GetFederationToken,
        Self::GetAccessKeyInfo,
        Self::DecodeAuthorizationMessage,
        Self::GetWebIdentityToken,
    ];

    /// The operation's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GetCallerIdentity => "GetCallerIdentity",
            Self::AssumeRole => "AssumeRole",
            Self::AssumeRoot => "AssumeRoot",
            Self::GetSessionToken => "GetSessionToken",
            Self::GetFederationToken => "GetFederationToken",
            Self::GetAccessKeyInfo => "GetAccessKeyInfo",
            Self::DecodeAuthorizationMessage => "DecodeAuthorizationMessage",
            Self::GetWebIdentityToken => "GetWebIdentityToken",
        }
    }
}

/// Whether `session` may make `call` at all. GetCallerIdentity works for every session.
///
/// The exemption of console federation from the IAM rule is not made: there is no console sign-in here.
///
/// # Errors
/// `AccessDenied` with AWS's texts, or `InvalidClientTokenId` for IAM, as AWS answers it.
pub fn check_call(session: &SessionRecord, call: Call) -> Result<(), Refusal> {
    let root = matches!(session.principal, SessionPrincipal::Root);
    match call {
        Call::Sts(StsCall::GetCallerIdentity) | Call::Other => Ok(()),
        Call::Sts(call @ (StsCall::GetSessionToken | StsCall::GetFederationToken)) => {
            Err(not_with_a_session(call))
        }
        Call::Sts(StsCall::AssumeRole) if root => Err(Refusal::new(
            Code::AccessDenied,
            "Roles may not be assumed by root accounts.",
        )),
        Call::Sts(call) => match session.kind {
            SessionKind::Federation => Err(not_with_a_session(call)),
            SessionKind::SessionToken if call != StsCall::AssumeRole => {
                Err(not_with_a_session(call))
            }
            SessionKind::SessionToken
            | SessionKind::AssumedRole
            | SessionKind::WebIdentity
            | SessionKind::Saml
            | SessionKind::RootTask
            | SessionKind::PodIdentity
            | SessionKind::IdentityCenter
            | SessionKind::Login
            | SessionKind::Instance => Ok(()),
        },
        Call::Iam => match session.kind {
            SessionKind::Federation => Err(Refusal::invalid_token()),
            SessionKind::SessionToken if session.mfa_at.is_none() => Err(Refusal::invalid_token()),
            SessionKind::SessionToken
            | SessionKind::AssumedRole
            | SessionKind::WebIdentity
            | SessionKind::Saml
            | SessionKind::RootTask
            | SessionKind::PodIdentity
            | SessionKind::IdentityCenter
            | SessionKind::Login
            | SessionKind::Instance => Ok(()),
        },
    }
}

fn not_with_a_session(call: StsCall) -> Refusal {
    Refusal::new(
        Code::AccessDenied,
        format!("Cannot call {} with session credentials", call.name()),
    )
}

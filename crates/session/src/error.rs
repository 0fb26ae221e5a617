//! What the caller is told: an STS error code and its text.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

/// The error codes this crate answers with (STS spec, section 1.5; SigV4 spec, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum Code {
    /// Not allowed.
    AccessDenied,
    /// The session is over; SDKs answer this by refreshing.
    ExpiredToken,
    /// The token or its key is not one of ours; SDKs give up.
    InvalidClientTokenId,
    /// Tag faults.
    InvalidParameterValue,
    /// A fault of ours.
    InternalFailure,
    /// Session policies and tags do not fit.
    PackedPolicyTooLarge,
    /// There is no key to seal with.
    ServiceUnavailable,
    /// A token asked for would outlive the session that asks.
    SessionDurationEscalationException,
    /// A parameter breaks its constraint.
    ValidationError,
}

impl Code {
    /// The code as it stands in answers of the Query protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDenied",
            Self::ExpiredToken => "ExpiredToken",
            Self::InvalidClientTokenId => "InvalidClientTokenId",
            Self::InvalidParameterValue => "InvalidParameterValue",
            Self::InternalFailure => "InternalFailure",
            Self::PackedPolicyTooLarge => "PackedPolicyTooLarge",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::SessionDurationEscalationException => "SessionDurationEscalationException",
            Self::ValidationError => "ValidationError",
        }
    }

    /// The HTTP status of the Query protocol.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::AccessDenied
            | Self::ExpiredToken
            | Self::InvalidClientTokenId
            | Self::SessionDurationEscalationException => 403,
            Self::InvalidParameterValue | Self::PackedPolicyTooLarge | Self::ValidationError => 400,
            Self::InternalFailure => 500,
            Self::ServiceUnavailable => 503,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A refusal as the caller sees it. What only the operator may know stays in the error it was made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// The text, exactly as it goes on the wire.
    pub message: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with `code` and `message`.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The session token does not open (SigV4 spec, step 14a: no full stop).
    #[must_use]
    pub const fn invalid_token() -> Self {
        Self {
            code: Code::InvalidClientTokenId,
            message: Cow::Borrowed("The security token included in the request is invalid"),
        }
    }

    /// The session is over (SigV4 spec, step 14b: no full stop).
    #[must_use]
    pub const fn expired_token() -> Self {
        Self {
            code: Code::ExpiredToken,
            message: Cow::Borrowed("The security token included in the request is expired"),
        }
    }

    /// One `ValidationError` for all `faults`, counted and joined with `; ` (STS spec, section 1.6).
    #[must_use]
    pub fn validation(faults: &[Fault]) -> Self {
        let errors = if faults.len() == 1 { "error" } else { "errors" };
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Self::new(
            Code::ValidationError,
            format!(
                "{} validation {errors} detected: {}",
                faults.len(),
                texts.join("; ")
            ),
        )
    }
}

/// One parameter that breaks one constraint; prints as AWS writes it (STS spec, section 1.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The member with a lower-case first letter: `durationSeconds`, `tags.1.member.key`.
    pub member: String,
    /// The value as sent.
    pub value: String,
    /// The constraint, behind `Member must `.
    pub constraint: Cow<'static, str>,
}

impl Fault {
    pub(crate) fn new(
        member: impl Into<String>,
        value: impl fmt::Display,
        constraint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            member: member.into(),
            value: value.to_string(),
            constraint: constraint.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            member,
            value,
            constraint,
        } = self;
        write!(
            f,
            "Value '{value}' at '{member}' failed to satisfy constraint: Member must {constraint}"
        )
    }
}

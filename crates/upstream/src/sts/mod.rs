//! Verifying tokens by asking AWS STS (authentication spec, sections 2.4, 2.5 and 11).
//!
//! ```text
//!   verify(token) ── known? ───────────── yes ──▶ identity
//!        │ no                                        ▲
//!        ▼                                           │ all who wait
//!   a call under way? ── yes: wait with the others ──┤
//!        │ no                                        │
//!        ▼                                           │
//!   admission (limit, rate, queue) ── GET to STS ── answer ── remembered
//! ```

mod admission;
mod cache;
mod counters;
mod exchange;
mod verifier;

pub use admission::CallLimits;
pub use cache::Flush;
pub use counters::{CacheKind, StsCounters, StsSnapshot};
pub use exchange::{HttpsSts, StsAnswer, StsExchange, StsRequest};
pub use verifier::{AnsweredFrom, StsOptions, StsVerifier, StsVerifierError, Verified};

use countersign_token::sts::{StsError as AnswerError, StsErrorClass};

/// Why a token was not verified. Every variant is shared by all who waited for the same call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StsError {
    /// STS was asked, or could not be.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// Too many calls already; STS was not asked. Answered like throttling by STS itself.
    #[error("too many tokens are waiting to be verified by AWS STS ({0})")]
    Throttled(ThrottledBy),
    /// The token's 15 minutes ended while it waited. STS was not asked.
    #[error("the token expired while it waited to be verified")]
    ExpiredWhileQueued,
    /// The token was made for a trusted endpoint: its URL must never be fetched.
    #[error("the token is not for an STS host of AWS")]
    NotForAws,
    /// The cluster id or the URL has bytes that no request can carry.
    #[error("the token or the cluster id cannot be sent to AWS STS")]
    Unsendable,
}

/// Which local limit refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottledBy {
    /// The queue is full.
    QueueFull,
    /// No place became free in time.
    QueueTimeout,
    /// This access key, or the hosts that do not answer, have used up their share.
    Share,
}

impl std::fmt::Display for ThrottledBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "queue full",
            Self::QueueTimeout => "waited too long",
            Self::Share => "share used up",
        })
    }
}

impl StsError {
    /// The class that drives the HTTP status; the classes of local refusals are those that fit.
    #[must_use]
    pub fn class(&self) -> Option<&StsErrorClass> {
        match self {
            Self::Answer(error) => Some(error.class()),
            Self::Throttled(_) => Some(&StsErrorClass::Throttled),
            Self::ExpiredWhileQueued | Self::NotForAws | Self::Unsendable => None,
        }
    }

    /// The reason code of logs and `status.error`: `sts_throttled`, `sts_unreachable`, `sts_rejected:CODE`,
    /// `sts_bad_response`, `sts_error`, or `expired`, `bad_host`, `bad_url` like the local rules.
    #[must_use]
    pub fn reason(&self) -> std::borrow::Cow<'static, str> {
        match self {
            Self::Answer(error) => error.class().to_string().into(),
            Self::Throttled(_) => "sts_throttled".into(),
            Self::ExpiredWhileQueued => "expired".into(),
            Self::NotForAws => "bad_host".into(),
            Self::Unsendable => "bad_url".into(),
        }
    }

    /// Whether STS could not be asked, which is when `staleIdentityOnOutage` may bridge.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        self.class() == Some(&StsErrorClass::Unreachable)
    }
}

/// A refusal by STS that may be remembered for some seconds.
pub(crate) type Rejection = AnswerError;

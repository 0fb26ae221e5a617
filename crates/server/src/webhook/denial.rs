//! A refused review: its class, its reason, and how kube-apiserver is told (authentication spec, section 5.4).

use std::borrow::Cow;

use countersign_mapping::{DenyReason, MappingDenied};
use countersign_token::{ReasonCode, TokenError};
use countersign_upstream::sts::StsError;

use crate::metrics::ReviewResult;
use crate::store_health::StoreAway;

/// How refusals are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DenyMode {
    /// HTTP status codes, as aws-iam-authenticator; kube-apiserver logs no reason. The drop-in default.
    #[default]
    Http,
    /// HTTP 200 with `authenticated: false` and the reason in `status.error`, which kube-apiserver logs.
    Review,
}

/// What kind of refusal; it decides status, metric label and whether kube-apiserver may cache the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialClass {
    /// The token broke a local rule and always will: garbage, another issuer's token, a wrong host.
    Token,
    /// The token broke a rule of time: the same bytes may be good later, or were good before.
    TokenTime,
    /// An ID token of an issuer that the cluster knows, which makes nobody.
    Person,
    /// STS, real or embedded, refused the credentials.
    StsRejected,
    /// STS throttled, or our own limit in front of it did.
    StsThrottled,
    /// STS could not be asked or answered nonsense.
    StsUnreachable,
    /// The identity is verified and maps to nobody, or its mapping could not be rendered.
    Unmapped,
    /// A name lookup the mapping needs failed for now.
    LookupFailed,
}

/// A refused review.
#[derive(Debug, Clone)]
pub struct Denial {
    /// Its class.
    pub class: DenialClass,
    /// Machine-readable reason, such as `bad_prefix` or `sts_rejected:ExpiredToken`.
    pub reason: Cow<'static, str>,
    /// The reason as a metric label: from a closed set, whatever STS answers.
    pub label: &'static str,
    /// One sentence for logs and `status.error`, without secrets.
    pub text: String,
    /// What nearly matched, for people.
    pub nearest: Vec<String>,
}

/// The wire form of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenialAnswer {
    /// HTTP status.
    pub status: u16,
    /// Whether `status.error` carries the text. Without it kube-apiserver caches the verdict.
    pub with_error: bool,
}

impl Denial {
    /// The answer in `mode`; `upstream_failure_status` is 500, or 403 for strict parity with the reference.
    ///
    /// 500 makes kube-apiserver try again five times, so it is never the answer to a definite refusal, and no answer ever
    /// carries `Retry-After`, which would multiply that by ten.
    #[must_use]
    pub fn answer(&self, mode: DenyMode, upstream_failure_status: u16) -> DenialAnswer {
        let of = |status, with_error| DenialAnswer { status, with_error };
        match (self.class, mode) {
            (DenialClass::StsThrottled, _) => of(429, true),
            (DenialClass::StsUnreachable | DenialClass::LookupFailed, _) => {
                of(upstream_failure_status, true)
            }
            (
                DenialClass::Token
                | DenialClass::TokenTime
                | DenialClass::Person
                | DenialClass::StsRejected
                | DenialClass::Unmapped,
                DenyMode::Http,
            ) => of(403, true),
            (DenialClass::Token, DenyMode::Review) => of(200, false),
            (
                DenialClass::TokenTime
                | DenialClass::Person
                | DenialClass::StsRejected
                | DenialClass::Unmapped,
                DenyMode::Review,
            ) => of(200, true),
        }
    }

    /// The metric label.
    #[must_use]
    pub fn result(&self) -> ReviewResult {
        match self.class {
            DenialClass::Token | DenialClass::TokenTime | DenialClass::Person => {
                ReviewResult::InvalidToken
            }
            DenialClass::StsRejected | DenialClass::StsUnreachable => ReviewResult::StsError,
            DenialClass::StsThrottled => ReviewResult::StsThrottling,
            DenialClass::Unmapped | DenialClass::LookupFailed => ReviewResult::UnknownUser,
        }
    }
}

pub(super) fn by_token_rule(error: &TokenError) -> Denial {
    let class = match error.reason() {
        ReasonCode::Expired | ReasonCode::NotYetValid => DenialClass::TokenTime,
        _ => DenialClass::Token,
    };
    Denial {
        class,
        reason: Cow::Borrowed(error.reason().as_str()),
        label: error.reason().as_str(),
        text: format!("input token was not properly formatted: {}", error.text()),
        nearest: Vec::new(),
    }
}

pub(super) fn rejected(code: &str, label: &'static str, message: &str) -> Denial {
    Denial {
        class: DenialClass::StsRejected,
        reason: Cow::Owned(format!("sts_rejected:{code}")),
        label,
        text: format!("{code}: {message}"),
        nearest: Vec::new(),
    }
}

/// The embedded STS cannot be asked, because what it knows is too old.
pub(super) fn by_store(away: &StoreAway) -> Denial {
    Denial {
        class: DenialClass::StsUnreachable,
        reason: Cow::Borrowed("store_away"),
        label: "store_away",
        text: away.to_string(),
        nearest: Vec::new(),
    }
}

pub(super) fn by_sts(error: &StsError) -> Denial {
    use countersign_token::sts::StsErrorClass as Kind;
    let (class, label) = match error.class() {
        Some(Kind::Throttled) => (DenialClass::StsThrottled, "sts_throttled"),
        Some(Kind::Unreachable) => (DenialClass::StsUnreachable, "sts_unreachable"),
        Some(Kind::Rejected(_)) => (DenialClass::StsRejected, "sts_rejected"),
        Some(Kind::BadResponse) => (DenialClass::StsRejected, "sts_bad_response"),
        Some(_) => (DenialClass::StsRejected, "sts_error"),
        None => match error {
            StsError::ExpiredWhileQueued => (DenialClass::TokenTime, "expired"),
            StsError::NotForAws => (DenialClass::Token, "bad_host"),
            _ => (DenialClass::Token, "bad_url"),
        },
    };
    Denial {
        class,
        reason: error.reason(),
        label,
        text: error.to_string(),
        nearest: Vec::new(),
    }
}

pub(super) fn by_mapping(denied: MappingDenied) -> Denial {
    let class = match denied.reason {
        // A name that is not there yet comes within seconds of a launch.
        DenyReason::InstanceNameEmpty => DenialClass::LookupFailed,
        _ => DenialClass::Unmapped,
    };
    let code = denied.reason.code();
    Denial {
        class,
        reason: Cow::Borrowed(code),
        label: code,
        text: denied.text,
        nearest: denied.nearest.iter().map(ToString::to_string).collect(),
    }
}

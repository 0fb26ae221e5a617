//! How long sessions last (STS spec, sections 3 and 4.1).

use jiff::Timestamp;

use crate::error::{Code, Fault, Refusal};
use crate::record::SessionRecord;

/// Longest session of a role that was assumed with the credentials of another role session, in seconds.
pub const MAX_CHAINED_SECONDS: u32 = 3600;
/// Longest session that the account root gets; larger requests are cut, not refused.
pub const MAX_ROOT_SECONDS: u32 = 3600;
/// Life of the credentials of EKS Pod Identity, in seconds.
pub const POD_IDENTITY_SECONDS: u32 = 6 * 3600;
/// Life of the credentials of `aws login`, in seconds.
pub const LOGIN_SECONDS: u32 = 900;

/// The calls that take `DurationSeconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DurationOf {
    /// AssumeRole, AssumeRoleWithWebIdentity, AssumeRoleWithSAML.
    Role,
    /// GetSessionToken.
    SessionToken,
    /// GetFederationToken.
    FederationToken,
    /// AssumeRoot.
    AssumeRoot,
    /// GetWebIdentityToken.
    WebIdentityToken,
}

impl DurationOf {
    /// The least and the greatest value that may be asked for.
    #[must_use]
    pub const fn range(self) -> (u32, u32) {
        match self {
            Self::Role => (900, 43_200),
            Self::SessionToken | Self::FederationToken => (900, 129_600),
            Self::AssumeRoot => (0, 900),
            Self::WebIdentityToken => (60, 3600),
        }
    }

    /// The value when none is asked for.
    #[must_use]
    pub const fn default_seconds(self) -> u32 {
        match self {
            Self::Role => 3600,
            Self::SessionToken | Self::FederationToken => 43_200,
            Self::AssumeRoot => 900,
            Self::WebIdentityToken => 300,
        }
    }

    /// The constraint that `requested` breaks, for the list of all faults of a request.
    #[must_use]
    pub fn fault(self, requested: i64) -> Option<Fault> {
        let (least, most) = self.range();
        let constraint = if requested < i64::from(least) {
            format!("have value greater than or equal to {least}")
        } else if requested > i64::from(most) {
            format!("have value less than or equal to {most}")
        } else {
            return None;
        };
        Some(Fault::new("durationSeconds", requested, constraint))
    }

    fn checked(self, requested: Option<i64>) -> Result<u32, Refusal> {
        let Some(requested) = requested else {
            return Ok(self.default_seconds());
        };
        match (self.fault(requested), u32::try_from(requested)) {
            (None, Ok(seconds)) => Ok(seconds),
            (fault, _) => Err(Refusal::validation(fault.as_slice())),
        }
    }
}

/// The life of a new role session. `max_session_duration` is the role's; it limits only what may be asked for, and
/// lowering it ends no session that exists. `chained` as [`Chain::is_chained`](crate::Chain::is_chained) says.
///
/// # Errors
/// `ValidationError` with the texts recorded from AWS: outside the range, above one hour in a chain, above the role's
/// maximum, in this order.
pub fn role_seconds(
    requested: Option<i64>,
    max_session_duration: u32,
    chained: bool,
) -> Result<u32, Refusal> {
    let seconds = DurationOf::Role.checked(requested)?;
    let refuse = |text| Err(Refusal::new(Code::ValidationError, text));
    if chained && seconds > MAX_CHAINED_SECONDS {
        return refuse(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        );
    }
    if seconds > max_session_duration {
        return refuse(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        );
    }
    Ok(seconds)
}

/// The life of a session of GetSessionToken or GetFederationToken. What the account root gets is silently cut to an hour.
///
/// # Errors
/// `ValidationError` outside the range.
pub fn token_seconds(call: DurationOf, requested: Option<i64>, root: bool) -> Result<u32, Refusal> {
    let seconds = call.checked(requested)?;
    Ok(if root {
        seconds.min(MAX_ROOT_SECONDS)
    } else {
        seconds
    })
}

/// The life of a token of GetWebIdentityToken, which must not outlive the session `caller` that asks for it.
///
/// # Errors
/// `ValidationError` outside the range; `SessionDurationEscalationException` beyond the end of the session.
pub fn web_identity_token_seconds(
    requested: Option<i64>,
    caller: Option<&SessionRecord>,
    now: Timestamp,
) -> Result<u32, Refusal> {
    let seconds = DurationOf::WebIdentityToken.checked(requested)?;
    let left = caller.map(|session| session.expires.as_second() - now.as_second());
    if left.is_some_and(|left| i64::from(seconds) > left) {
        return Err(Refusal::new(
            Code::SessionDurationEscalationException,
            "The requested token duration would extend the session beyond its original expiration time.",
        ));
    }
    Ok(seconds)
}

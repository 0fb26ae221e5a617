//! From a session record to temporary credentials, and how answers show them.

use countersign_arn::{AccountId, Partition};
use countersign_session::{Credentials, SessionPrincipal, SessionRandomness, SessionRecord, issue};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::query::Member;

/// When a session that lasts `seconds` from now is issued and expires. Tokens keep whole seconds; what is answered must
/// be what the token says.
pub(in crate::aws) fn lifetime(now: Timestamp, seconds: u32) -> (Timestamp, Timestamp) {
    let issued = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let expires = issued
        .saturating_add(SignedDuration::from_secs(i64::from(seconds)))
        .unwrap_or(Timestamp::MAX);
    (issued, expires)
}

/// Seals a session.
pub(in crate::aws) fn seal(
    call: &Call<'_>,
    record: &SessionRecord,
) -> Result<Credentials, ApiError> {
    let unavailable = || {
        ApiError::new(
            503,
            "ServiceUnavailable",
            "Temporary credentials cannot be issued at the moment.",
        )
    };
    let keys = call.snapshot.session_keys().ok_or_else(unavailable)?;
    let random = Zeroizing::new(call.random.bytes::<44>().map_err(|_| unavailable())?);
    let random = SessionRandomness::from_random(&random);
    issue(record, &keys.ring, &keys.deployment, &random, call.now).map_err(|error| {
        tracing::debug!(request_id = call.request_id, %error, "session not sealed");
        error.refusal().into()
    })
}

/// The member `Credentials`.
pub(super) fn credentials(credentials: Credentials) -> (&'static str, Member) {
    let members = vec![
        (
            "AccessKeyId",
            Member::Text(credentials.access_key_id.into()),
        ),
        (
            "SecretAccessKey",
            Member::Text(credentials.secret.expose().to_owned()),
        ),
        (
            "SessionToken",
            Member::Text(credentials.token.expose().to_owned()),
        ),
        ("Expiration", Member::Time(credentials.expires)),
    ];
    ("Credentials", Member::Structure(members))
}

/// The member `AssumedRoleUser`.
pub(super) fn assumed_role_user(
    principal: &SessionPrincipal,
    partition: Partition,
    account: AccountId,
) -> (&'static str, Member) {
    let members = vec![
        ("AssumedRoleId", Member::Text(principal.user_id(account))),
        (
            "Arn",
            Member::Text(principal.caller_arn(partition, account)),
        ),
    ];
    ("AssumedRoleUser", Member::Structure(members))
}

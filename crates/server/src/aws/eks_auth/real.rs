//! Credentials of real AWS STS for pods of clusters that AWS does not run (`identity: aws`): Countersign assumes the role of
//! the association with credentials of its own, and with that session the target role.
//!
//! What differs from the embedded STS, because AWS decides:
//!
//! - the role trusts Countersign's own principal in the place of `pods.eks.amazonaws.com`, for `sts:AssumeRole` and
//!   `sts:TagSession`; the conditions on `aws:RequestTag/…` are the same, and there are no keys `aws:Source…`;
//! - `MaxSessionDuration` of the role holds, and an hour where Countersign's own credentials are those of a role: the first
//!   session lasts as long as is configured, an hour unless it is said otherwise.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use countersign_arn::Arn;
use countersign_session::duration::MAX_CHAINED_SECONDS;
use countersign_upstream::ec2::{AwsCredentials, AwsError};
use countersign_upstream::roles::{AssumeRoles, RoleRequest, RoleSession};

use super::assume::Asked;
use super::error::Refusal;
use super::{Credentials, Issued};
use crate::aws::operation::Call;

/// Seconds of a first session that is used for nothing but to assume the target role: the least that STS gives.
const STEP_SECONDS: u32 = 900;
/// Seconds that a pod's session lasts unless it is configured otherwise: what every role and every chain allows.
const DEFAULT_SECONDS: u32 = 3600;

/// Real STS, and how long its sessions last.
#[derive(Clone)]
pub struct RealSts {
    roles: Arc<dyn AssumeRoles>,
    seconds: u32,
}

impl RealSts {
    /// Sessions of an hour.
    #[must_use]
    pub fn new(roles: Arc<dyn AssumeRoles>) -> Self {
        Self {
            roles,
            seconds: DEFAULT_SECONDS,
        }
    }

    /// Sessions that last so long, 900 to 43,200 seconds; each role must allow it by its `MaxSessionDuration`.
    #[must_use]
    pub fn lasting(self, seconds: u32) -> Self {
        Self {
            seconds: seconds.clamp(900, 43_200),
            ..self
        }
    }
}

impl fmt::Debug for RealSts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealSts")
            .field("roles", &self.roles)
            .field("seconds", &self.seconds)
            .finish()
    }
}

/// Credentials for a pod.
///
/// # Errors
/// What STS says, in the words of EKS Auth.
pub(super) async fn assume(
    call: &Call<'_>,
    asked: Asked<'_>,
    real: &RealSts,
) -> Result<Issued, Refusal> {
    let association = asked.association;
    let tags = asked.tags();
    let tags: Vec<(&str, &str)> = tags.iter().map(|tag| (&*tag.key, &*tag.value)).collect();
    let target = association.target_role_arn.as_deref();
    let policy = association.policy.as_deref();
    let first = RoleRequest {
        role_arn: &association.role_arn,
        session_name: asked.session_name,
        seconds: if target.is_some() {
            STEP_SECONDS
        } else {
            asked.seconds(real.seconds)
        },
        tags: &tags,
        policy: policy.filter(|_| target.is_none()),
        external_id: None,
    };
    let first = step(call, real, first, None, Refusal::RoleRefuses).await?;
    let Some(target) = target else {
        return issued(first, None);
    };
    let external_id = asked.external_id();
    let second = RoleRequest {
        role_arn: target,
        session_name: asked.session_name,
        seconds: asked.seconds(MAX_CHAINED_SECONDS),
        tags: &[],
        policy,
        external_id: external_id.as_deref(),
    };
    let with = Some(&first.credentials);
    let second = step(call, real, second, with, Refusal::TargetRefuses).await?;
    issued(second, Some(first.arn))
}

/// One AssumeRole, and whether the answer is what was asked for.
async fn step(
    call: &Call<'_>,
    real: &RealSts,
    request: RoleRequest<'_>,
    with: Option<&AwsCredentials>,
    refuses: Refusal,
) -> Result<RoleSession, Refusal> {
    let begun = Instant::now();
    let answer = real.roles.assume_role(request, with).await;
    call.metrics
        .eks_auth_upstream(result_of(&answer), begun.elapsed());
    let session = answer.map_err(|error| {
        tracing::warn!(
            request_id = call.request_id,
            role = request.role_arn,
            %error,
            "AWS STS gave no session for a pod"
        );
        refusal(&error, refuses)
    })?;
    if Some(&*session.arn) == expected_arn(request.role_arn, request.session_name).as_deref() {
        return Ok(session);
    }
    tracing::error!(
        request_id = call.request_id,
        role = request.role_arn,
        "AWS STS answered with a session of another role"
    );
    Err(unavailable())
}

/// `arn:P:sts::A:assumed-role/NAME/SESSION`, for a role with or without a path.
fn expected_arn(role_arn: &str, session_name: &str) -> Option<String> {
    let arn = Arn::parse(role_arn).ok()?;
    let name = arn.resource.rsplit('/').next()?;
    Some(format!(
        "arn:{}:sts::{}:assumed-role/{name}/{session_name}",
        arn.partition, arn.account
    ))
}

fn issued(session: RoleSession, first: Option<String>) -> Result<Issued, Refusal> {
    let credentials = session.credentials;
    let (Some(token), Some(expires)) = (credentials.session_token, credentials.expires_at) else {
        return Err(unavailable());
    };
    Ok(Issued {
        arn: session.arn,
        role_id: session.role_id,
        first,
        credentials: Credentials {
            access_key_id: credentials.access_key_id,
            secret: credentials.secret_access_key,
            token,
            expires,
        },
    })
}

const fn unavailable() -> Refusal {
    Refusal::Unavailable("AWS STS cannot be asked at the moment.")
}

/// What STS's refusals mean for a pod. Only that a role may not be assumed is said of the role; that Countersign's own
/// credentials are not taken, or that nobody answers, passes.
fn refusal(error: &AwsError, refuses: Refusal) -> Refusal {
    match error {
        AwsError::Throttled { .. } => Refusal::Throttled,
        AwsError::Refused { code, .. } => match &**code {
            "AccessDenied" | "AccessDeniedException" => refuses,
            "PackedPolicyTooLarge"
            | "MalformedPolicyDocument"
            | "ValidationError"
            | "InvalidParameterValue" => Refusal::Unusable(format!(
                "AWS STS refuses what the association asks for: {code}."
            )),
            _ => unavailable(),
        },
        _ => unavailable(),
    }
}

fn result_of(answer: &Result<RoleSession, AwsError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(AwsError::Throttled { .. }) => "throttled",
        Err(AwsError::Refused { .. }) => "refused",
        Err(AwsError::Credentials(_)) => "no_credentials",
        Err(_) => "unreachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_role_that_may_not_be_assumed_is_final() {
        let refused = |code: &str| AwsError::Refused {
            status: 403,
            code: code.to_owned(),
        };
        let cases = [
            (refused("AccessDenied"), "role_refuses"),
            (refused("ExpiredToken"), "unavailable"),
            (refused("InvalidClientTokenId"), "unavailable"),
            (refused("SignatureDoesNotMatch"), "unavailable"),
            (refused("RegionDisabledException"), "unavailable"),
            (refused("PackedPolicyTooLarge"), "unusable_association"),
            (refused("ValidationError"), "unusable_association"),
            (
                AwsError::Throttled {
                    code: "Throttling".to_owned(),
                },
                "throttled",
            ),
            (AwsError::Failed { status: 500 }, "unavailable"),
            (AwsError::BadAnswer, "unavailable"),
            (AwsError::Credentials("none".to_owned()), "unavailable"),
        ];
        for (error, reason) in cases {
            assert_eq!(
                refusal(&error, Refusal::RoleRefuses).reason(),
                reason,
                "{error}"
            );
        }
    }

    #[test]
    fn a_session_must_be_of_the_role_that_was_asked_for() {
        let cases = [
            (
                "arn:aws:iam::111122223333:role/team/a/Reader",
                Some("arn:aws:sts::111122223333:assumed-role/Reader/s"),
            ),
            (
                "arn:aws-cn:iam::111122223333:role/Reader",
                Some("arn:aws-cn:sts::111122223333:assumed-role/Reader/s"),
            ),
            ("Reader", None),
        ];
        for (role, expected) in cases {
            assert_eq!(expected_arn(role, "s").as_deref(), expected);
        }
    }
}

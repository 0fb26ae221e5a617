//! Roles assumed with a web identity: the call of IRSA, AssumeRoleWithWebIdentity, which nobody signs (IRSA spec, section 6).
//!
//! The endpoint is given once; neither the token nor the role chooses a host.

use std::fmt;

use countersign_arn::Arn;
use futures::future::BoxFuture;
use http::Uri;
use tokio::sync::Semaphore;

use crate::ec2::{AwsError, CredentialsError, Service, credentials_in, exchange, xml::Element};
use crate::http::HttpsClient;
use crate::roles::RoleSession;

/// Calls to STS at once; more are told to come back.
const IN_FLIGHT: usize = 32;
/// Longest answer: a session token has some 1 to 2 KiB.
const MAX_ANSWER: usize = 64 << 10;
const RESULT: &str = "AssumeRoleWithWebIdentityResult";

/// What AssumeRoleWithWebIdentity is asked for: a session of an hour, which every role allows.
#[derive(Clone, Copy)]
pub struct WebIdentityRequest<'a> {
    /// ARN of the role.
    pub role_arn: &'a str,
    /// The session name.
    pub session_name: &'a str,
    /// The token. A secret.
    pub token: &'a str,
}

impl fmt::Debug for WebIdentityRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebIdentityRequest")
            .field("role_arn", &self.role_arn)
            .field("session_name", &self.session_name)
            .finish_non_exhaustive()
    }
}

/// Assumes roles with web identities.
pub trait AssumeRolesWithWebIdentity: fmt::Debug + Send + Sync + 'static {
    /// One attempt, which ends within some seconds.
    fn assume_role<'a>(
        &'a self,
        request: WebIdentityRequest<'a>,
    ) -> BoxFuture<'a, Result<RoleSession, AwsError>>;
}

/// [`AssumeRolesWithWebIdentity`] over the Query API of STS.
pub struct StsWebIdentity {
    http: HttpsClient,
    sts: Service,
    in_flight: Semaphore,
}

impl StsWebIdentity {
    /// A client of the STS at this URL: https, or http to this machine.
    ///
    /// # Errors
    /// When it is no URL with a host.
    pub fn new(http: HttpsClient, endpoint: Uri) -> Result<Self, CredentialsError> {
        let sts = Service::new("sts", "", endpoint)
            .ok_or_else(|| CredentialsError("the STS endpoint is no URL with a host".into()))?;
        Ok(Self {
            http,
            sts,
            in_flight: Semaphore::new(IN_FLIGHT),
        })
    }

    async fn assume(&self, request: WebIdentityRequest<'_>) -> Result<RoleSession, AwsError> {
        let busy = |_| AwsError::Throttled {
            code: "TooManyInFlight".to_owned(),
        };
        let _permit = self.in_flight.try_acquire().map_err(busy)?;
        let parameters = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", request.role_arn),
            ("RoleSessionName", request.session_name),
            ("WebIdentityToken", request.token),
        ];
        let answer = exchange(&self.http, self.sts.unsigned(&parameters), MAX_ANSWER).await?;
        session_of(&answer)
            .filter(|session| is_of_role(&session.arn, request.role_arn))
            .ok_or(AwsError::BadAnswer)
    }
}

impl AssumeRolesWithWebIdentity for StsWebIdentity {
    fn assume_role<'a>(
        &'a self,
        request: WebIdentityRequest<'a>,
    ) -> BoxFuture<'a, Result<RoleSession, AwsError>> {
        Box::pin(self.assume(request))
    }
}

impl fmt::Debug for StsWebIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StsWebIdentity")
            .field("sts", &self.sts)
            .finish_non_exhaustive()
    }
}

/// The session in an answer.
pub(crate) fn session_of(answer: &Element) -> Option<RoleSession> {
    let text = |name: &str| {
        let text = answer.text_at(&[RESULT, "AssumedRoleUser", name]);
        (!text.is_empty()).then(|| text.to_owned())
    };
    Some(RoleSession {
        arn: text("Arn")?,
        role_id: text("AssumedRoleId")?,
        credentials: credentials_in(answer, RESULT)?,
    })
}

/// Whether a session is of the role that was asked for, as far as its ARN tells: partition, account and name.
fn is_of_role(session: &str, role: &str) -> bool {
    let (Ok(session), Ok(role)) = (Arn::parse(session), Arn::parse(role)) else {
        return false;
    };
    let name = role
        .resource
        .strip_prefix("role/")
        .and_then(|path| path.rsplit('/').next());
    let of_session = session
        .resource
        .strip_prefix("assumed-role/")
        .and_then(|rest| rest.split_once('/'));
    session.service == "sts"
        && session.partition == role.partition
        && session.account == role.account
        && of_session.is_some_and(|(of, _)| Some(of) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_must_be_of_the_role_that_was_asked_for() {
        let role = "arn:aws:iam::111122223333:role/team/Reader";
        for (session, expected) in [
            ("arn:aws:sts::111122223333:assumed-role/Reader/pod-0", true),
            ("arn:aws:sts::111122223333:assumed-role/Writer/pod-0", false),
            ("arn:aws:sts::444455556666:assumed-role/Reader/pod-0", false),
            (
                "arn:aws-cn:sts::111122223333:assumed-role/Reader/pod-0",
                false,
            ),
            ("arn:aws:sts::111122223333:assumed-role/Reader", false),
            ("arn:aws:iam::111122223333:role/Reader", false),
            ("", false),
        ] {
            assert_eq!(is_of_role(session, role), expected, "{session}");
        }
    }
}

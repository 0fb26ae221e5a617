//! Carrying out a credential plan: light code for keys and roles, the AWS SDK for everything else.

use std::io::{BufRead as _, Read as _};

use jiff::Timestamp;

#[cfg(not(feature = "aws-chain"))]
use crate::credentials::SdkSource;
use crate::credentials::{Credentials, CredentialsError, Plan, ProfileRole};
use crate::endpoint::{Endpoint, EndpointError};
use crate::http::{HttpClient, HttpError};
use crate::session::{Io, Session};
use crate::sts::{AssumeRole, Sts, StsError};

/// Seconds for which a role is assumed when nobody says.
const DEFAULT_DURATION: u32 = 3600;

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// What is configured makes no sense.
    #[error(transparent)]
    Plan(#[from] CredentialsError),
    /// The endpoint of STS is malformed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The HTTP client could not be set up.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// STS refused to let a profile's role be assumed.
    #[error("could not assume the role of profile `{profile}`: {source}")]
    Role {
        /// The profile.
        profile: String,
        /// Why not.
        source: StsError,
    },
    /// No MFA code was given.
    #[error("profile `{0}` needs an MFA code and none was given on stdin")]
    Mfa(String),
    /// Nothing offers credentials.
    #[error(
        "Unable to locate credentials: none in the environment, the shared files, a container or instance metadata{0}"
    )]
    None(String),
    /// The AWS SDK found something and could not use it.
    #[error("could not get credentials: {0}")]
    Sdk(String),
    /// Built without the SDK.
    #[error("{0} needs the feature `aws-chain`, which this program was built without")]
    WithoutSdk(&'static str),
}

/// Credentials, and whether they are those of the machine: then its metadata may be asked for the region as well.
pub(crate) struct Resolved {
    pub(crate) credentials: Credentials,
    pub(crate) region_of_machine: Option<String>,
}

/// Gets the credentials that the environment and the profile mean.
pub(crate) fn resolve(
    session: &Session<'_>,
    plan: &Plan<'_>,
    region: Option<&str>,
    io: &mut Io<'_>,
) -> Result<Resolved, ChainError> {
    match plan {
        Plan::Found(credentials) => Ok(Resolved {
            credentials: credentials.clone(),
            region_of_machine: None,
        }),
        Plan::Sdk(source) => sdk(session, *source, region),
        Plan::AssumeRole(role) => assume(session, role, region, io),
    }
}

fn assume(
    session: &Session<'_>,
    role: &ProfileRole<'_>,
    region: Option<&str>,
    io: &mut Io<'_>,
) -> Result<Resolved, ChainError> {
    let Resolved {
        credentials,
        region_of_machine,
    } = resolve(session, &role.source, region, io)?;
    let region = region
        .or(region_of_machine.as_deref())
        .unwrap_or(crate::session::FALLBACK_REGION);
    let endpoint = session.sts_endpoint(region)?;
    let http = HttpClient::new(session.env, &session.profile())?;
    let code = role
        .mfa_serial
        .map(|_| ask_mfa_code(io).ok_or_else(|| ChainError::Mfa(role.profile.to_owned())))
        .transpose()?;
    let now = session.now();
    let default_name = format!("countersign-{}", now.as_second());
    let credentials = Sts {
        http: &http,
        endpoint: &endpoint,
        credentials: &credentials,
    }
    .assume_role(
        &AssumeRole {
            role_arn: role.role_arn,
            session_name: role.session_name.unwrap_or(&default_name),
            external_id: role.external_id,
            duration_seconds: role.duration_seconds.unwrap_or(DEFAULT_DURATION).max(900),
            mfa: role.mfa_serial.zip(code.as_deref()),
        },
        now,
    )
    .map_err(|source| ChainError::Role {
        profile: role.profile.to_owned(),
        source,
    })?;
    Ok(Resolved {
        credentials,
        region_of_machine,
    })
}

/// Asks on stderr, reads one line of stdin.
fn ask_mfa_code(io: &mut Io<'_>) -> Option<String> {
    write!(io.stderr, "Assume Role MFA token code: ").ok()?;
    io.stderr.flush().ok()?;
    let mut line = String::new();
    (&mut *io.stdin).take(256).read_line(&mut line).ok()?;
    let code = line.trim();
    (!code.is_empty()).then(|| code.to_owned())
}

/// Assumes `role_arn` with the credentials at hand, for `--role`.
///
/// The session name is the caller's own unless one is given, so that an audit shows a person: the session name of a role session,
/// the name of a user, the account of root. It is advisory: whoever may assume the role may choose it.
pub(crate) fn assume_requested(
    http: &HttpClient,
    endpoint: &Endpoint,
    credentials: &Credentials,
    request: &RequestedRole<'_>,
    now: Timestamp,
) -> Result<Credentials, StsError> {
    let sts = Sts {
        http,
        endpoint,
        credentials,
    };
    let name = match (request.session_name, request.forward_session_name) {
        (Some(name), _) => name.to_owned(),
        (None, true) => forwarded_name(&sts.caller(now)?.user_id)
            .unwrap_or_else(|| format!("countersign-{}", now.as_second())),
        (None, false) => sts
            .caller(now)
            .ok()
            .and_then(|caller| own_name(&caller.arn))
            .unwrap_or_else(|| NAMELESS.to_owned()),
    };
    sts.assume_role(
        &AssumeRole {
            role_arn: request.role_arn,
            session_name: &name,
            external_id: request.external_id,
            duration_seconds: DEFAULT_DURATION,
            mfa: None,
        },
        now,
    )
}

/// The session name that the AWS CLI always uses; ours when the caller has no usable name.
const NAMELESS: &str = "EKSGetTokenAuth";

/// What `--role` and its companions say.
pub(crate) struct RequestedRole<'a> {
    pub(crate) role_arn: &'a str,
    pub(crate) session_name: Option<&'a str>,
    pub(crate) external_id: Option<&'a str>,
    pub(crate) forward_session_name: bool,
}

/// `Y` of a user id `X:Y`.
pub(crate) fn forwarded_name(user_id: &str) -> Option<String> {
    let (_, name) = user_id.split_once(':')?;
    (!name.is_empty() && !name.contains(':')).then(|| name.to_owned())
}

/// The session name, user name or root account in a caller's ARN, in the characters that session names may have.
pub(crate) fn own_name(arn: &str) -> Option<String> {
    use countersign_arn::{CallerArn, CallerKind};
    let caller = CallerArn::parse(arn).ok()?;
    let account = caller.account();
    let name = match caller.kind() {
        CallerKind::AssumedRole => caller.session(),
        CallerKind::User | CallerKind::Role | CallerKind::FederatedUser => caller.name(),
        CallerKind::Root => account.as_str(),
    };
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "_+=,.@-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    (name.len() >= 2).then_some(name)
}

#[cfg(not(feature = "aws-chain"))]
fn sdk(_: &Session<'_>, source: SdkSource<'_>, _: Option<&str>) -> Result<Resolved, ChainError> {
    Err(ChainError::WithoutSdk(match source {
        SdkSource::Profile(_) => "this profile",
        SdkSource::WebIdentity => "AWS_WEB_IDENTITY_TOKEN_FILE",
        SdkSource::Container => "a container's credentials",
        SdkSource::InstanceMetadata | SdkSource::Machine => {
            "looking for credentials outside environment and shared files"
        }
    }))
}

#[cfg(feature = "aws-chain")]
use crate::sdk::resolve as sdk;

//! Roles that the annotations of kube2iam and kiam name, from Countersign's EKS Auth: AssumeAnnotatedRoleForPod, an operation
//! that AWS does not have (imds spec, section 5.3).
//!
//! The service decides by what the API server says of the pod, never by what a node says: the request has the pod's token and
//! nothing else.

use std::fmt;
use std::sync::Arc;

use countersign_upstream::clock::Clock;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::AuthFailure;
use super::api::{EksApi, Service, cluster_name};
use super::client::{AuthLimits, SetupError, body};
use super::endpoint::Endpoint;
use super::identity::NodeIdentity;
use super::wire::{account, code_and_message, failure, timestamp};
use crate::refusal::FinalCode;

const SERVICE: Service = Service {
    name: "eks-auth",
    max_answer: 16 << 10,
};
/// The codes of our own service that AWS does not have.
const NOT_ALLOWED: &str = "RoleNotAllowedException";
const NOT_CONFIGURED: &str = "AnnotatedRolesNotConfiguredException";

/// Credentials of the role that a pod's annotations name.
#[derive(Clone)]
pub struct AnnotatedRole {
    /// Namespace that the service read from the token.
    pub namespace: Box<str>,
    /// Service account that the service read from the token.
    pub service_account: Box<str>,
    /// What the list path shows: the name as the predecessor showed it.
    pub shown: Box<str>,
    /// ARN of the session.
    pub session_arn: Box<str>,
    /// Id of the session, `AROA…:SESSION`.
    pub role_id: Box<str>,
    /// Access key id.
    pub access_key_id: Box<str>,
    /// When they end.
    pub expires_at: Timestamp,
    /// The secret access key.
    pub secret_access_key: Zeroizing<String>,
    /// The session token.
    pub session_token: Zeroizing<String>,
}

impl fmt::Debug for AnnotatedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnotatedRole")
            .field("namespace", &self.namespace)
            .field("service_account", &self.service_account)
            .field("shown", &self.shown)
            .field("session_arn", &self.session_arn)
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why a pod gets no role by its annotations. Texts are the service's, on one line; they hold no token and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnnotatedRole {
    /// It names none, and there is no default role.
    #[error("no role: {0}")]
    None(Box<str>),
    /// The namespace, or the operator, does not let it have the role.
    #[error("not allowed: {0}")]
    NotAllowed(Box<str>),
    /// The role does not trust the service for this pod.
    #[error("not trusted: {0}")]
    Forbidden(Box<str>),
    /// The token is no good; another one may be.
    #[error("the token: {0}")]
    Token(Box<str>),
    /// The service does not know the operation, or has it switched off for the cluster.
    #[error("not offered: {0}")]
    NotOffered(Box<str>),
    /// It cannot be had at the moment.
    #[error("unavailable: {0}")]
    Unavailable(Box<str>),
}

/// Gives pods the roles that their annotations name.
pub trait AnnotatedRoles: Send + Sync + 'static {
    /// One attempt, which ends within some seconds; it never logs the token.
    fn assume<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<AnnotatedRole, NoAnnotatedRole>>;
}

/// [`AnnotatedRoles`] of Countersign's EKS Auth, asked over HTTPS as [`EksAuth`](super::EksAuth) is.
pub struct AnnotatedAuth {
    api: EksApi,
    path: String,
}

impl AnnotatedAuth {
    /// Sets up the client for one cluster. `roots_pem` replaces the built-in certificate authorities.
    ///
    /// # Errors
    /// When the name is none of a cluster, or the authorities cannot be used.
    pub fn new(
        cluster: &str,
        region: &str,
        endpoint: Endpoint,
        roots_pem: Option<&[u8]>,
        limits: AuthLimits,
        node: impl Into<Arc<NodeIdentity>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let api = EksApi::new(region, endpoint, roots_pem, limits, node, clock)?;
        let cluster = cluster_name(cluster)?;
        Ok(Self {
            api,
            path: format!("/clusters/{cluster}/assume-annotated-role-for-pod"),
        })
    }

    async fn exchange(&self, token: &str) -> Result<AnnotatedRole, NoAnnotatedRole> {
        let body = body(token).ok_or_else(|| NoAnnotatedRole::Token("it cannot be sent".into()))?;
        let answer = self
            .api
            .send(SERVICE, Method::POST, &self.path, body)
            .await
            .map_err(|failure| NoAnnotatedRole::Unavailable(failure.to_string().into()))?;
        if answer.status == StatusCode::OK {
            return parse_answer(&answer.body)
                .map_err(|failure| NoAnnotatedRole::Unavailable(failure.to_string().into()));
        }
        Err(read_refusal(answer.status, &answer.headers, &answer.body))
    }
}

impl AnnotatedRoles for AnnotatedAuth {
    fn assume<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<AnnotatedRole, NoAnnotatedRole>> {
        Box::pin(self.exchange(token))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    subject: Subject,
    annotated_role: Role,
    assumed_role_user: AssumedRole,
    credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    namespace: String,
    service_account: String,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssumedRole {
    arn: String,
    assume_role_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    session_token: String,
    secret_access_key: String,
    access_key_id: String,
    expiration: f64,
}

/// Reads the body of a 200.
///
/// # Errors
/// When a member is missing, empty or malformed.
pub(crate) fn parse_answer(body: &[u8]) -> Result<AnnotatedRole, AuthFailure> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| {
        AuthFailure::BadAnswer("it is not the JSON of AssumeAnnotatedRoleForPod with all members")
    })?;
    let secret_access_key = Zeroizing::new(answer.credentials.secret_access_key);
    let session_token = Zeroizing::new(answer.credentials.session_token);
    account(&answer.assumed_role_user.arn)?;
    let required = [
        &answer.subject.namespace,
        &answer.subject.service_account,
        &answer.annotated_role.name,
        &answer.assumed_role_user.assume_role_id,
        &answer.credentials.access_key_id,
        &secret_access_key,
        &session_token,
    ];
    if required.iter().any(|text| text.is_empty()) {
        return Err(AuthFailure::BadAnswer("a required member is empty"));
    }
    // It is handed to pods as a line of text.
    if answer.annotated_role.name.contains(char::is_control) {
        return Err(AuthFailure::BadAnswer("the name of the role is none"));
    }
    Ok(AnnotatedRole {
        expires_at: timestamp(answer.credentials.expiration)?,
        namespace: answer.subject.namespace.into(),
        service_account: answer.subject.service_account.into(),
        shown: answer.annotated_role.name.into(),
        session_arn: answer.assumed_role_user.arn.into(),
        role_id: answer.assumed_role_user.assume_role_id.into(),
        access_key_id: answer.credentials.access_key_id.into(),
        secret_access_key,
        session_token,
    })
}

/// Reads any other answer. An operation that a service does not know is 404 with `UnknownOperationException`, or with no code at
/// all; AWS's front doors also say that a signature is missing, which ours never is.
pub(crate) fn read_refusal(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> NoAnnotatedRole {
    let (code, message) = code_and_message(headers, body);
    let told = |message: &str| format!("{code}: {message}").into();
    match (&*code, status.is_client_error()) {
        (NOT_ALLOWED, true) => return NoAnnotatedRole::NotAllowed(message),
        (NOT_CONFIGURED | "UnknownOperationException", true) => {
            return NoAnnotatedRole::NotOffered(told(&message));
        }
        ("" | "MissingAuthenticationTokenException", true)
            if matches!(status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) =>
        {
            return NoAnnotatedRole::NotOffered(format!("status {}", status.as_u16()).into());
        }
        _ => {}
    }
    match failure(status, headers, body) {
        AuthFailure::Final { code, message } => match code {
            FinalCode::ResourceNotFound => NoAnnotatedRole::None(message),
            FinalCode::AccessDenied => NoAnnotatedRole::Forbidden(message),
            FinalCode::ExpiredToken | FinalCode::InvalidToken => NoAnnotatedRole::Token(message),
        },
        other => NoAnnotatedRole::Unavailable(other.to_string().into()),
    }
}

//! The call of EKS Auth: AssumeRoleForPodIdentity, signed with the node's credentials (agent spec, section 5).

mod annotated;
mod api;
mod client;
mod endpoint;
mod identity;
mod node;
mod wire;

use futures::future::BoxFuture;
use jiff::Timestamp;
use zeroize::Zeroizing;

pub use annotated::{AnnotatedAuth, AnnotatedRole, AnnotatedRoles, NoAnnotatedRole};
pub(crate) use annotated::{parse_answer as annotated_answer, read_refusal as annotated_refusal};
pub use api::EksApi;
pub(crate) use api::{Service, cluster_name};
pub use client::{AuthLimits, EksAuth, SetupError};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use identity::{NodeIdentity, NodeToken};
pub use node::NodeCredentials;
pub(crate) use wire::failure;

use crate::refusal::FinalCode;

/// Credentials of a pod, as the auth service gave them.
#[derive(Clone)]
pub struct Issued {
    /// Namespace that the service read from the token.
    pub namespace: Box<str>,
    /// Service account that the service read from the token.
    pub service_account: Box<str>,
    /// Audience that the service accepted.
    pub audience: Box<str>,
    /// Id of the association.
    pub association_id: Box<str>,
    /// ARN of the session.
    pub session_arn: Box<str>,
    /// Account of the session's role.
    pub account: Box<str>,
    /// Access key id.
    pub access_key_id: Box<str>,
    /// When they end.
    pub expires_at: Timestamp,
    pub(crate) secret_access_key: Zeroizing<String>,
    pub(crate) session_token: Zeroizing<String>,
}

impl Issued {
    /// Reads the body with which the service answers 200.
    ///
    /// # Errors
    /// [`AuthFailure::BadAnswer`] when a member of the API model is missing, empty or malformed.
    pub fn from_answer(body: &[u8]) -> Result<Self, AuthFailure> {
        wire::parse(body)
    }

    /// The secret access key.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.secret_access_key
    }

    /// The session token.
    #[must_use]
    pub fn expose_session_token(&self) -> &str {
        &self.session_token
    }
}

/// Neither the secret nor the session token.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("namespace", &self.namespace)
            .field("service_account", &self.service_account)
            .field("association_id", &self.association_id)
            .field("session_arn", &self.session_arn)
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why a call gave no credentials. Texts are the service's, on one line; they hold no token and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthFailure {
    /// One of the four answers after which asking again with this token is useless.
    #[error("{}: {message}", code.as_str())]
    Final {
        /// Which.
        code: FinalCode,
        /// The service's text.
        message: Box<str>,
    },
    /// The service calls the request wrong (`InvalidParameterException`, `InvalidRequestException`). Not final for what is
    /// cached, and not worth a second try at once.
    #[error("{code}: {message}")]
    Rejected {
        /// The service's code.
        code: Box<str>,
        /// The service's text.
        message: Box<str>,
    },
    /// The node's own signature or credentials were refused (status 401 or 403).
    #[error("the node's credentials were refused ({code}): {message}")]
    Node {
        /// The service's code.
        code: Box<str>,
        /// The service's text.
        message: Box<str>,
    },
    /// There are no node credentials to sign with.
    #[error("there are no node credentials: {0}")]
    NoNodeCredentials(Box<str>),
    /// The service throttles.
    #[error("the auth service is throttling")]
    Throttled,
    /// No complete answer, or a status of 500 and more.
    #[error("the auth service is unavailable: {0}")]
    Unavailable(Box<str>),
    /// An answer that is not what the API model says.
    #[error("the answer of the auth service cannot be used: {0}")]
    BadAnswer(&'static str),
    /// Credentials that end within 15 s.
    #[error("the auth service gave credentials that end within 15 seconds")]
    TooShort,
}

impl AuthFailure {
    /// Whether the same call may work in a moment.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Throttled | Self::Unavailable(_) | Self::BadAnswer(_) => true,
            Self::Final { .. }
            | Self::Rejected { .. }
            | Self::Node { .. }
            | Self::NoNodeCredentials(_)
            | Self::TooShort => false,
        }
    }

    /// The label of metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Final { code, .. } => code.as_str(),
            Self::Rejected { .. } => "rejected",
            Self::Node { .. } | Self::NoNodeCredentials(_) => "node_credentials",
            Self::Throttled => "throttled",
            Self::Unavailable(_) => "unavailable",
            Self::BadAnswer(_) => "bad_answer",
            Self::TooShort => "too_short",
        }
    }
}

/// The auth service.
///
/// An implementation makes one attempt and ends within some seconds; it never logs the token. The caller repeats what
/// [`AuthFailure::is_transient`] says may be repeated.
pub trait AuthService: Send + Sync + 'static {
    /// Exchanges a service account token for credentials.
    fn assume<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Issued, AuthFailure>>;

    /// Whether the service answers at all. Any HTTP answer counts; nothing secret is sent.
    fn is_reachable(&self) -> BoxFuture<'_, bool>;
}

//! [`AuthService`] over HTTPS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_upstream::clock::Clock;
use countersign_upstream::http::TrustError;
use futures::future::BoxFuture;
use http::{Method, StatusCode};

use super::api::{EksApi, Service};
use super::endpoint::{Endpoint, InvalidEndpoint};
use super::identity::NodeIdentity;
use super::wire::{failure, parse};
use super::{AuthFailure, AuthService, Issued};

/// A session token has some 1 to 2 KiB.
const SERVICE: Service = Service {
    name: "eks-auth",
    max_answer: 16 << 10,
};

/// Time limits of one attempt (section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthLimits {
    /// For the TCP connection; 1 s.
    pub connect: Duration,
    /// For the whole attempt; 3 s.
    pub attempt: Duration,
}

impl Default for AuthLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            attempt: Duration::from_secs(3),
        }
    }
}

/// Why the client cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The endpoint is none.
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
    /// The certificate authorities cannot be used.
    #[error("the certificate authorities of the auth service cannot be used")]
    Trust(#[from] TrustError),
    /// The name cannot be one of a cluster.
    #[error(
        "`{0}` is no cluster name; it has 1 to 100 letters, digits, `-` and `_`, and begins with a letter or digit"
    )]
    ClusterName(String),
    /// The name cannot be one of a node.
    #[error("`{0}` is no node name; it has 1 to 253 lower-case letters, digits, `-` and `.`")]
    NodeName(String),
}

/// EKS Auth, asked over HTTPS with requests that the node signs, or that carry the agent's own token.
pub struct EksAuth {
    api: EksApi,
    path: String,
}

impl EksAuth {
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
        let cluster = super::api::cluster_name(cluster)?;
        Ok(Self {
            api,
            path: format!("/clusters/{cluster}/assume-role-for-pod-identity"),
        })
    }

    async fn exchange(&self, token: &str) -> Result<Issued, AuthFailure> {
        let body = body(token).ok_or(AuthFailure::BadAnswer("the token cannot be sent"))?;
        let answer = self
            .api
            .send(SERVICE, Method::POST, &self.path, body)
            .await?;
        if answer.status == StatusCode::OK {
            return parse(&answer.body);
        }
        Err(failure(answer.status, &answer.headers, &answer.body))
    }
}

impl AuthService for EksAuth {
    fn assume<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Issued, AuthFailure>> {
        Box::pin(self.exchange(token))
    }

    fn is_reachable(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.api.is_reachable())
    }
}

/// `{"token":"…"}`. A token has letters, digits, `-`, `_` and `.` only; anything else was refused when it was read.
pub(super) fn body(token: &str) -> Option<Bytes> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    token
        .bytes()
        .all(plain)
        .then(|| Bytes::from(format!("{{\"token\":\"{token}\"}}")))
}

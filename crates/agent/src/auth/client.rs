//! [`AuthService`] over HTTPS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_sigv4::{Credentials, Payload, Request as Signable, SecretKey, Signer};
use countersign_upstream::clock::Clock;
use countersign_upstream::ec2::AwsCredentials;
use countersign_upstream::http::{HttpsClient, TrustError};
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;

use super::endpoint::{Endpoint, InvalidEndpoint};
use super::node::NodeCredentials;
use super::wire::{failure, parse};
use super::{AuthFailure, AuthService, Issued};

/// Longest answer that is read. A session token has some 1 to 2 KiB.
const MAX_BODY: usize = 16 << 10;
const SERVICE: &str = "eks-auth";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PRODUCT: HeaderValue =
    HeaderValue::from_static(concat!("countersign-agent/", env!("CARGO_PKG_VERSION")));

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
}

/// EKS Auth, asked over HTTPS with requests that the node signs.
pub struct EksAuth {
    client: HttpsClient,
    limits: AuthLimits,
    endpoint: Endpoint,
    path: String,
    uri: Uri,
    region: Box<str>,
    node: NodeCredentials,
    clock: Arc<dyn Clock>,
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
        node: NodeCredentials,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let invalid = || SetupError::ClusterName(cluster.chars().take(100).collect());
        if !is_cluster_name(cluster) {
            return Err(invalid());
        }
        let mut builder = HttpsClient::builder().connect_timeout(limits.connect);
        if let Some(pem) = roots_pem {
            builder = builder.roots_pem(pem)?;
        }
        let (path, uri) = endpoint
            .at(&format!("/clusters/{cluster}/assume-role-for-pod-identity"))
            .ok_or_else(invalid)?;
        Ok(Self {
            client: builder.build()?,
            limits,
            path,
            uri,
            endpoint,
            region: region.into(),
            node,
            clock,
        })
    }

    async fn exchange(&self, token: &str) -> Result<Issued, AuthFailure> {
        let node = self
            .node
            .get()
            .await
            .map_err(|error| AuthFailure::NoNodeCredentials(error.0.into()))?;
        let body = body(token).ok_or(AuthFailure::BadAnswer("the token cannot be sent"))?;
        let request = self
            .signed(body, &node)
            .ok_or(AuthFailure::NoNodeCredentials(
                "they cannot be put into a header".into(),
            ))?;
        let answer = self
            .client
            .exchange(request, MAX_BODY, self.limits.attempt)
            .await
            .map_err(|failure| AuthFailure::Unavailable(failure.to_string().into()))?;
        if answer.status == StatusCode::OK {
            return parse(&answer.body);
        }
        let failure = failure(answer.status, &answer.headers, &answer.body);
        if matches!(failure, AuthFailure::Node { .. }) {
            self.node.refused(&node.access_key_id).await;
        }
        Err(failure)
    }

    fn signed(&self, body: Bytes, node: &AwsCredentials) -> Option<Request<Full<Bytes>>> {
        let secret = SecretKey::new(node.secret_access_key.as_str());
        let headers = [
            ("host", self.endpoint.authority().as_bytes()),
            ("content-type", b"application/json".as_slice()),
        ];
        let signable = Signable {
            headers: &headers,
            body: Payload::Bytes(&body),
            ..Signable::new("POST", self.path.as_bytes())
        };
        let credentials = Credentials {
            key_id: &node.access_key_id,
            secret: &secret,
            session_token: node.session_token.as_ref().map(|token| token.as_str()),
        };
        let signed = Signer::new(credentials, &self.region, SERVICE)
            .sign(&signable, self.clock.now())
            .ok()?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let lines = request.headers_mut();
        lines.insert(HOST, HeaderValue::from_str(self.endpoint.authority()).ok()?);
        lines.insert(CONTENT_TYPE, JSON);
        lines.insert(USER_AGENT, PRODUCT);
        for (name, value) in signed.headers() {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            lines.insert(HeaderName::from_static(name), value);
        }
        Some(request)
    }
}

impl AuthService for EksAuth {
    fn assume<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Issued, AuthFailure>> {
        Box::pin(self.exchange(token))
    }

    fn is_reachable(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let Some((_, uri)) = self.endpoint.at("/") else {
                return false;
            };
            let mut request = Request::new(Full::default());
            *request.uri_mut() = uri;
            request.headers_mut().insert(USER_AGENT, PRODUCT);
            let answer = self
                .client
                .exchange(request, MAX_BODY, self.limits.attempt)
                .await;
            answer.is_ok()
        })
    }
}

/// `{"token":"…"}`. A token has letters, digits, `-`, `_` and `.` only; anything else was refused when it was read.
fn body(token: &str) -> Option<Bytes> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    token
        .bytes()
        .all(plain)
        .then(|| Bytes::from(format!("{{\"token\":\"{token}\"}}")))
}

/// `[0-9A-Za-z][A-Za-z0-9\-_]*`, 1 to 100 characters.
fn is_cluster_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

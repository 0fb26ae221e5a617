//! Requests in the node's name: to EKS Auth, and to the EKS API for associations.

use std::sync::Arc;

use bytes::Bytes;
use countersign_sigv4::{Credentials, Payload, Request as Signable, SecretKey, Signer};
use countersign_upstream::clock::Clock;
use countersign_upstream::ec2::AwsCredentials;
use countersign_upstream::http::{Answer, HttpsClient};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;

use super::AuthFailure;
use super::client::{AuthLimits, SetupError};
use super::endpoint::Endpoint;
use super::identity::NodeIdentity;
use super::wire::failure;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PRODUCT: HeaderValue =
    HeaderValue::from_static(concat!("countersign-agent/", env!("CARGO_PKG_VERSION")));
/// Which node asks, beside a token that may not say so.
const NODE: HeaderName = HeaderName::from_static("x-countersign-node");

/// An API that is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// The name that requests are signed for.
    pub(crate) name: &'static str,
    /// Longest answer that is read, bytes.
    pub(crate) max_answer: usize,
}

/// Longest answer to a question whose answer does not matter.
const MAX_GREETING: usize = 16 << 10;

/// An API of EKS at an endpoint, asked in the node's name.
pub struct EksApi {
    client: HttpsClient,
    limits: AuthLimits,
    endpoint: Endpoint,
    region: Box<str>,
    node: Arc<NodeIdentity>,
    clock: Arc<dyn Clock>,
}

impl EksApi {
    /// Sets up the client. `roots_pem` replaces the built-in certificate authorities.
    ///
    /// # Errors
    /// When the authorities cannot be used.
    pub fn new(
        region: &str,
        endpoint: Endpoint,
        roots_pem: Option<&[u8]>,
        limits: AuthLimits,
        node: impl Into<Arc<NodeIdentity>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let mut builder = HttpsClient::builder().connect_timeout(limits.connect);
        if let Some(pem) = roots_pem {
            builder = builder.roots_pem(pem)?;
        }
        Ok(Self {
            client: builder.build()?,
            limits,
            endpoint,
            region: region.into(),
            node: node.into(),
            clock,
        })
    }

    /// One request with this path below the endpoint, and a query behind `?` if it has one; its whole answer, whatever its status.
    pub(crate) async fn send(
        &self,
        service: Service,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, AuthFailure> {
        let (path, uri) = self
            .endpoint
            .at(path)
            .ok_or(AuthFailure::BadAnswer("the path cannot be asked for"))?;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let key_id = match &*self.node {
            NodeIdentity::Signed(node) => {
                let credentials = node
                    .get()
                    .await
                    .map_err(|error| AuthFailure::NoNodeCredentials(error.0.into()))?;
                self.sign(&mut request, service, &path, &body, &credentials)
                    .ok_or_else(unsendable)?;
                Some(credentials.access_key_id)
            }
            NodeIdentity::Bearer(token) => {
                let value = token.header().await?;
                self.plain_headers(&mut request).ok_or_else(unsendable)?;
                let headers = request.headers_mut();
                headers.insert(AUTHORIZATION, value);
                headers.insert(NODE, token.node());
                None
            }
        };
        let answer = self
            .client
            .exchange(request, service.max_answer, self.limits.attempt)
            .await
            .map_err(|failure| AuthFailure::Unavailable(failure.to_string().into()))?;
        if answer.status != StatusCode::OK
            && let NodeIdentity::Signed(node) = &*self.node
            && let Some(key_id) = key_id
            && matches!(
                failure(answer.status, &answer.headers, &answer.body),
                AuthFailure::Node { .. }
            )
        {
            node.refused(&key_id).await;
        }
        Ok(answer)
    }

    /// Whether requests carry the agent's own token: lists are closed to it.
    pub(crate) fn is_bearer(&self) -> bool {
        matches!(*self.node, NodeIdentity::Bearer(_))
    }

    /// Whether the endpoint answers at all; nothing secret is sent.
    pub(crate) async fn is_reachable(&self) -> bool {
        let Some((_, uri)) = self.endpoint.at("/") else {
            return false;
        };
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri;
        request.headers_mut().insert(USER_AGENT, PRODUCT);
        self.client
            .exchange(request, MAX_GREETING, self.limits.attempt)
            .await
            .is_ok()
    }

    fn plain_headers(&self, request: &mut Request<Full<Bytes>>) -> Option<()> {
        let host = HeaderValue::from_str(self.endpoint.authority()).ok()?;
        let lines = request.headers_mut();
        lines.insert(HOST, host);
        lines.insert(CONTENT_TYPE, JSON);
        lines.insert(USER_AGENT, PRODUCT);
        Some(())
    }

    fn sign(
        &self,
        request: &mut Request<Full<Bytes>>,
        service: Service,
        path: &str,
        body: &Bytes,
        node: &AwsCredentials,
    ) -> Option<()> {
        let secret = SecretKey::new(node.secret_access_key.as_str());
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let headers = [
            ("host", self.endpoint.authority().as_bytes()),
            ("content-type", b"application/json".as_slice()),
        ];
        let signable = Signable {
            headers: &headers,
            body: Payload::Bytes(body),
            query: query.map(str::as_bytes),
            ..Signable::new(request.method().as_str(), path.as_bytes())
        };
        let credentials = Credentials {
            key_id: &node.access_key_id,
            secret: &secret,
            session_token: node.session_token.as_ref().map(|token| token.as_str()),
        };
        let signed = Signer::new(credentials, &self.region, service.name)
            .sign(&signable, self.clock.now())
            .ok()?;
        self.plain_headers(request)?;
        let lines = request.headers_mut();
        for (name, value) in signed.headers() {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            lines.insert(HeaderName::from_static(name), value);
        }
        Some(())
    }
}

fn unsendable() -> AuthFailure {
    AuthFailure::NoNodeCredentials("they cannot be put into a header".into())
}

/// `[0-9A-Za-z][A-Za-z0-9\-_]*`, 1 to 100 characters.
pub(crate) fn cluster_name(name: &str) -> Result<&str, SetupError> {
    let fine = (1..=100).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if fine {
        Ok(name)
    } else {
        Err(SetupError::ClusterName(name.chars().take(100).collect()))
    }
}

//! HTTPS to AWS: bounded answers, no redirects, one deadline per exchange, at most one retry.

mod addresses;
mod dial;

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

pub use self::addresses::{AddressRules, is_public};
use self::dial::{AnswerBegan, Dialer, NotPublic, Observed};
use crate::jwks::{Thumbprint, ThumbprintVerifier};

/// What every request of this crate says it is.
pub(crate) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("countersign/", env!("CARGO_PKG_VERSION")));

/// A pooled HTTPS client: keep-alive, HTTP/2 where offered, TLS 1.2 or later.
///
/// It follows no redirect, caps every body, and sends a request a second time only if the connection was reset before
/// any byte of an answer. `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` (either case) are honoured through `CONNECT`;
/// requests to `http://` origins, which only an overridden EC2 endpoint or a node-name lookup can have, go direct. SOCKS proxies
/// are not supported: a connection through one fails.
#[derive(Debug, Clone)]
pub struct HttpsClient {
    client: Client<Observed<hyper_rustls::HttpsConnector<Dialer>>, Full<Bytes>>,
}

/// Settings of an [`HttpsClient`].
#[derive(Debug, Default)]
pub struct HttpsClientBuilder {
    roots: Option<RootCertStore>,
    address: Option<SocketAddr>,
    rules: Option<Arc<AddressRules>>,
    thumbprints: Vec<Thumbprint>,
    proxies: Option<Matcher>,
    connect_timeout: Option<Duration>,
}

/// The certificate file holds no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The PEM text cannot be read.
    #[error("the certificate authority file is not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// A certificate in it cannot serve as a root.
    #[error("a certificate of the certificate authority file cannot be used as a root")]
    Root(#[source] rustls::Error),
    /// It has no certificate.
    #[error("the certificate authority file has no certificate")]
    Empty,
    /// The TLS library refuses the protocol versions.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// Why an exchange gave no complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeFailure {
    /// No connection: name resolution, TCP, proxy or TLS failed.
    #[error("no connection could be made")]
    Connect,
    /// The server's certificate is not one of a trusted authority, or not for its name and this time.
    #[error("the certificate of the server is not trusted")]
    Untrusted,
    /// The host leads only to addresses that the rules do not allow for it.
    #[error("the host has no address that is public or allowed")]
    PrivateAddress,
    /// The connection broke before the answer began.
    #[error("the connection was closed before the answer")]
    Reset,
    /// The deadline passed.
    #[error("no complete answer in time")]
    Timeout,
    /// The answer broke off or is not HTTP.
    #[error("the answer could not be read")]
    Broken,
    /// The body is larger than allowed.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The cap in force.
        limit: usize,
    },
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status; anything but 200 is no success, redirects included.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, within the cap.
    pub body: Bytes,
}

impl HttpsClient {
    /// Starts from the built-in roots, name resolution of the system and the proxies of the environment.
    #[must_use]
    pub fn builder() -> HttpsClientBuilder {
        HttpsClientBuilder::default()
    }

    /// Sends `request` and reads the whole answer, all within `deadline`.
    ///
    /// # Errors
    /// When there is no complete answer of at most `limit` body bytes in time.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
        deadline: Duration,
    ) -> Result<Answer, ExchangeFailure> {
        tokio::time::timeout(deadline, self.send(request, limit))
            .await
            .unwrap_or(Err(ExchangeFailure::Timeout))
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Answer, ExchangeFailure> {
        let response = match self.client.request(request.clone()).await {
            Err(error) if reset_before_answer(&error) => self.client.request(request).await,
            other => other,
        }
        .map_err(|error| classify(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, limit)
            .collect()
            .await
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    ExchangeFailure::TooLarge { limit }
                } else {
                    ExchangeFailure::Broken
                }
            })?
            .to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }
}

impl HttpsClientBuilder {
    /// Trusts only the certificates in `pem` instead of the built-in roots.
    ///
    /// # Errors
    /// When `pem` holds no usable certificate.
    pub fn roots_pem(mut self, pem: &[u8]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots
                .add(certificate.map_err(TrustError::Pem)?)
                .map_err(TrustError::Root)?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty);
        }
        self.roots = Some(roots);
        Ok(self)
    }

    /// Connects to `address` whatever host a request names, past name resolution and proxies. The certificate must still be
    /// valid for the named host. For tests, where a server on the loopback stands in the place of AWS.
    #[must_use]
    pub fn danger_resolve_all_hosts_to(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Connects only to addresses that `rules` allow for the host, where names are resolved here and not by a proxy. Hosts
    /// that are addresses are the caller's to check.
    #[must_use]
    pub fn check_addresses(mut self, rules: Arc<AddressRules>) -> Self {
        self.rules = Some(rules);
        self
    }

    /// Trusts also chains that end in a certificate with one of these thumbprints.
    #[must_use]
    pub fn or_thumbprints(mut self, thumbprints: Vec<Thumbprint>) -> Self {
        self.thumbprints = thumbprints;
        self
    }

    /// Sends requests to `https` origins through the proxy at this URL, except to the comma-separated `no_proxy` hosts,
    /// instead of what the environment says.
    #[must_use]
    pub fn proxy(mut self, https_proxy: &str, no_proxy: &str) -> Self {
        self.proxies = Some(Matcher::builder().https(https_proxy).no(no_proxy).build());
        self
    }

    /// Gives up on a TCP connection, to the origin or to the proxy, after this time. Without it the deadline of the exchange
    /// is the only limit.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = Some(limit);
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn build(self) -> Result<HttpsClient, TrustError> {
        let roots = self
            .roots
            .unwrap_or_else(|| webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TrustError::Tls)?;
        let tls = if self.thumbprints.is_empty() {
            tls.with_root_certificates(roots)
        } else {
            let verifier = ThumbprintVerifier::new(roots, provider, self.thumbprints)
                .map_err(TrustError::Tls)?;
            tls.dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        }
        .with_no_client_auth();
        let dialer = Dialer::new(
            self.address,
            self.rules,
            self.proxies.unwrap_or_else(Matcher::from_env),
            tls.clone(),
            self.connect_timeout,
        );
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(dialer);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(55))
            .pool_max_idle_per_host(64)
            .http1_max_headers(100)
            .http2_max_header_list_size(16 * 1024)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(5))
            // The retry rule is this module's own, see `reset_before_answer`.
            .retry_canceled_requests(false)
            .build(Observed(connector));
        Ok(HttpsClient { client })
    }
}

fn classify(error: &hyper_util::client::legacy::Error) -> ExchangeFailure {
    if error.is_connect() {
        if caused_by(error, |cause: &NotPublic| matches!(cause, NotPublic)) {
            ExchangeFailure::PrivateAddress
        } else if caused_by(error, |cause: &rustls::Error| {
            matches!(cause, rustls::Error::InvalidCertificate(_))
        }) {
            ExchangeFailure::Untrusted
        } else {
            ExchangeFailure::Connect
        }
    } else if answer_began(error) {
        ExchangeFailure::Broken
    } else {
        ExchangeFailure::Reset
    }
}

/// Whether a second attempt is allowed: the connection went away (a keep-alive connection that the peer closed while we
/// wrote to it, or a reset) and no byte of an answer was seen.
fn reset_before_answer(error: &hyper_util::client::legacy::Error) -> bool {
    !answer_began(error)
        && sources(error).any(|cause| {
            cause
                .downcast_ref::<hyper::Error>()
                .is_some_and(|e| e.is_canceled() || e.is_incomplete_message() || e.is_closed())
                || cause.downcast_ref::<io::Error>().is_some_and(|e| {
                    matches!(
                        e.kind(),
                        io::ErrorKind::ConnectionReset
                            | io::ErrorKind::ConnectionAborted
                            | io::ErrorKind::BrokenPipe
                    )
                })
        })
}

/// Whether a cause of `error` is an `E` of this kind. What I/O errors wrap, one in the other, is not among their sources.
fn caused_by<E: StdError + 'static>(
    error: &hyper_util::client::legacy::Error,
    kind: impl Fn(&E) -> bool,
) -> bool {
    sources(error).any(|cause| {
        let mut cause = cause;
        loop {
            if let Some(found) = cause.downcast_ref::<E>() {
                return kind(found);
            }
            match cause
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref)
            {
                Some(wrapped) => cause = wrapped,
                None => return false,
            }
        }
    })
}

fn answer_began(error: &hyper_util::client::legacy::Error) -> bool {
    let Some(connected) = error.connect_info() else {
        return false;
    };
    let mut extensions = http::Extensions::new();
    connected.get_extras(&mut extensions);
    extensions
        .get::<AnswerBegan>()
        .is_some_and(AnswerBegan::get)
}

fn sources<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn StdError + 'static)| {
        (*error).source()
    })
}

//! One HTTPS exchange at a time: bounded, with proxy and CA settings from the environment, on a runtime made when first needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::env::Environment;
use crate::profile::Profile;

/// Longest answer that is read.
const MAX_BODY: usize = 256 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pauses before a request is sent again; as many retries as pauses.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The CA bundle cannot be read.
    #[error("could not read the CA bundle {}", path.display())]
    CaBundle {
        /// `AWS_CA_BUNDLE` or the profile's `ca_bundle`.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS or the runtime could not be set up.
    #[error("could not set up the connection")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The proxy of the environment is not usable.
    #[error("the proxy {0} is not supported: expected http://host:port or https://host:port")]
    Proxy(String),
    /// The request could not be sent or the answer not be read.
    #[error("could not reach {host}: {}", chain(source.as_ref()))]
    Exchange {
        /// The host asked.
        host: String,
        /// Why not; printed with its causes, since the outermost one says nothing.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More than 256 KiB.
    #[error("the answer of {0} is longer than 262144 bytes")]
    TooLong(String),
    /// No answer in time.
    #[error("could not reach {0}: no answer within 60 seconds")]
    Timeout(String),
}

/// An answer with its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// The error code of APIs that keep it out of the body.
    pub(crate) error_type: Option<String>,
}

/// A client for single exchanges.
pub(crate) struct HttpClient {
    runtime: tokio::runtime::Runtime,
    tls: rustls::ClientConfig,
    proxies: Matcher,
}

impl HttpClient {
    /// Reads the CA settings: `AWS_CA_BUNDLE`, the profile's `ca_bundle`, else the system's certificates, else the built-in ones.
    pub(crate) fn new(env: &Environment, profile: &Profile<'_>) -> Result<Self, HttpError> {
        let roots = match ca_bundle(env, profile) {
            Some(path) => {
                roots_of_file(&path).map_err(|source| HttpError::CaBundle { path, source })?
            }
            None => system_roots(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| HttpError::Setup(error.into()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| HttpError::Setup(error.into()))?;
        Ok(Self {
            runtime,
            tls,
            proxies: proxies(env),
        })
    }

    /// Sends the request; connection failures, 5xx and throttling answers are tried again twice. Redirects are not followed.
    pub(crate) fn send(&self, request: &http::Request<Bytes>) -> Result<Answer, HttpError> {
        self.runtime.block_on(async {
            for pause in PAUSES {
                match self.exchange(request).await {
                    Ok(answer) if !should_retry(&answer) => return Ok(answer),
                    Ok(_) | Err(HttpError::Exchange { .. }) => tokio::time::sleep(pause).await,
                    Err(error) => return Err(error),
                }
            }
            self.exchange(request).await
        })
    }

    async fn exchange(&self, request: &http::Request<Bytes>) -> Result<Answer, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let exchange = async {
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
            let request = {
                let (parts, body) = request.clone().into_parts();
                http::Request::from_parts(parts, Full::new(body))
            };
            let tls = || {
                HttpsConnectorBuilder::new()
                    .with_tls_config(self.tls.clone())
                    .https_or_http()
                    .enable_http1()
            };
            let builder = || Client::builder(TokioExecutor::new());
            let failed = |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Exchange {
                host: host.clone(),
                source,
            };
            let response = match self.proxies.intercept(request.uri()) {
                None => {
                    builder()
                        .build(tls().wrap_connector(tcp))
                        .request(request)
                        .await
                }
                Some(proxy) => {
                    let scheme = proxy.uri().scheme_str();
                    if !matches!(scheme, Some("http" | "https")) {
                        return Err(HttpError::Proxy(without_userinfo(proxy.uri())));
                    }
                    // A proxy that is itself spoken to over TLS needs the inner connector to know TLS as well.
                    let to_proxy = tls().wrap_connector(tcp);
                    let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
                    if let Some(auth) = proxy.basic_auth() {
                        tunnel = tunnel.with_auth(auth.clone());
                    }
                    builder()
                        .build(tls().wrap_connector(tunnel))
                        .request(request)
                        .await
                }
            }
            .map_err(|error| failed(error.into()))?;
            let status = response.status().as_u16();
            let error_type = response.headers().get("x-amzn-errortype");
            let error_type = error_type
                .and_then(|value| value.to_str().ok())
                .and_then(|code| code.split(':').next())
                .map(str::to_owned);
            let body = Limited::new(response.into_body(), MAX_BODY)
                .collect()
                .await
                .map_err(|error| match error.is::<LengthLimitError>() {
                    true => HttpError::TooLong(host.clone()),
                    false => failed(error),
                })?
                .to_bytes();
            Ok(Answer {
                status,
                body,
                error_type,
            })
        };
        tokio::time::timeout(EXCHANGE_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(HttpError::Timeout(host.clone())))
    }
}

/// The CA bundle that replaces the system's certificates.
pub(crate) fn ca_bundle(env: &Environment, profile: &Profile<'_>) -> Option<PathBuf> {
    env.get("AWS_CA_BUNDLE")
        .or_else(|| profile.get("ca_bundle"))
        .map(|path| env.expand(path))
}

fn should_retry(answer: &Answer) -> bool {
    let throttled = || {
        answer
            .body
            .windows(b"Throttling".len())
            .any(|part| part == b"Throttling")
    };
    answer.status >= 500 || answer.status == 429 || (answer.status == 400 && throttled())
}

/// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` in either letter case.
fn proxies(env: &Environment) -> Matcher {
    let get = |upper: &str, lower: &str| env.first(&[lower, upper]).unwrap_or_default().to_owned();
    Matcher::builder()
        .all(get("ALL_PROXY", "all_proxy"))
        .https(get("HTTPS_PROXY", "https_proxy"))
        .http(get("HTTP_PROXY", "http_proxy"))
        .no(get("NO_PROXY", "no_proxy"))
        .build()
}

fn without_userinfo(uri: &http::Uri) -> String {
    format!(
        "{}://{}",
        uri.scheme_str().unwrap_or_default(),
        uri.host().unwrap_or_default()
    )
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn roots_of_file(path: &Path) -> Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err("the file has no certificate".into());
    }
    Ok(roots)
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// An error with its causes, outermost first, each said once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

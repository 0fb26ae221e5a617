//! One signed call of an AWS Query API: a form in, XML out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_sigv4::{Credentials, Payload, SecretKey, Signer};
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use jiff::Timestamp;

use super::credentials::{AwsCredentials, SharedCredentials};
use super::xml::Element;
use crate::clock::Clock;
use crate::http::{ExchangeFailure, HttpsClient, USER_AGENT as PRODUCT};

/// Body bytes that are read: a hundred instances with fifty tags and many network interfaces stay below one megabyte.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// Time for one call.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AwsError {
    /// The service asks to be asked less.
    #[error("throttled (`{code}`)")]
    Throttled {
        /// Its error code.
        code: String,
    },
    /// The service refused the call.
    #[error("refused with status {status} (`{code}`)")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its error code.
        code: String,
    },
    /// No answer, or the service failed.
    #[error("no answer: {0}")]
    Unreachable(ExchangeFailure),
    /// The service failed by its own account.
    #[error("the service failed with status {status}")]
    Failed {
        /// The HTTP status.
        status: u16,
    },
    /// The answer is not what this call answers.
    #[error("the answer is not what was asked for")]
    BadAnswer,
    /// There is nothing to sign with.
    #[error("{0}")]
    Credentials(String),
}

impl AwsError {
    /// What an answer with this status, which is no success, and this code means.
    pub(crate) fn of(status: u16, code: String) -> Self {
        let throttled = status == 429
            || code.contains("Throttl")
            || matches!(
                &*code,
                "RequestLimitExceeded" | "TooManyRequestsException" | "SlowDown"
            );
        match status {
            _ if throttled => Self::Throttled { code },
            500..=599 => Self::Failed { status },
            _ => Self::Refused { status, code },
        }
    }

    /// Whether the same call may succeed a second later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Unreachable(_) | Self::Failed { .. } => true,
            Self::Refused { .. } | Self::BadAnswer | Self::Credentials(_) => false,
        }
    }
}

/// A service: its signing name and region, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    name: &'static str,
    region: String,
    endpoint: Uri,
    host: HeaderValue,
}

impl Service {
    pub(crate) fn new(name: &'static str, region: &str, endpoint: Uri) -> Option<Self> {
        let sound =
            matches!(endpoint.scheme_str(), Some("http" | "https")) && endpoint.query().is_none();
        let authority = endpoint.authority().filter(|_| sound)?;
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        Some(Self {
            name,
            region: region.to_owned(),
            endpoint,
            host,
        })
    }

    /// A request with its form body that nobody signs, for calls whose credential is a parameter.
    pub(crate) fn unsigned(&self, parameters: &[(&str, &str)]) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::from(form(parameters)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
        headers.insert(USER_AGENT, PRODUCT);
        request
    }
}

/// Makes calls.
#[derive(Clone)]
pub(crate) struct QueryClient {
    http: HttpsClient,
    credentials: SharedCredentials,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for QueryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryClient").finish_non_exhaustive()
    }
}

impl QueryClient {
    pub(crate) fn new(
        http: HttpsClient,
        credentials: SharedCredentials,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            http,
            credentials,
            clock,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Calls an action; `parameters` include `Action` and `Version`.
    pub(crate) async fn call(
        &self,
        service: &Service,
        parameters: &[(&str, &str)],
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Element, AwsError> {
        let credentials = self
            .credentials
            .credentials()
            .await
            .map_err(|error| AwsError::Credentials(error.0))?;
        let request = sign(service, parameters, headers, &credentials, self.now())?;
        exchange(&self.http, request, MAX_BODY).await
    }
}

/// Sends a request and reads its answer.
pub(crate) async fn exchange(
    http: &HttpsClient,
    request: Request<Full<Bytes>>,
    most: usize,
) -> Result<Element, AwsError> {
    let answer = http
        .exchange(request, most, DEADLINE)
        .await
        .map_err(AwsError::Unreachable)?;
    let status = answer.status.as_u16();
    let parsed = Element::parse(&answer.body);
    if status == 200 {
        return parsed.map_err(|_| AwsError::BadAnswer);
    }
    let code = parsed
        .ok()
        .and_then(|answer| error_of(&answer))
        .unwrap_or_else(|| "Unknown".to_owned());
    Err(AwsError::of(status, code))
}

/// The request with its form body, signed.
fn sign(
    service: &Service,
    parameters: &[(&str, &str)],
    headers: &[(HeaderName, HeaderValue)],
    credentials: &AwsCredentials,
    now: Timestamp,
) -> Result<Request<Full<Bytes>>, AwsError> {
    let body = form(parameters);
    let mut signed: Vec<(&str, &[u8])> = vec![
        ("host", service.host.as_bytes()),
        ("content-type", FORM.as_bytes()),
    ];
    signed.extend(
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes())),
    );
    let mut to_sign = countersign_sigv4::Request::new("POST", service.endpoint.path().as_bytes());
    to_sign.headers = &signed;
    to_sign.body = Payload::Bytes(body.as_bytes());
    let secret = SecretKey::new(credentials.secret_access_key.as_str());
    let signer = Signer::new(
        Credentials {
            key_id: &credentials.access_key_id,
            secret: &secret,
            session_token: credentials
                .session_token
                .as_ref()
                .map(|token| token.as_str()),
        },
        &service.region,
        service.name,
    );
    let signature = signer
        .sign(&to_sign, now)
        .map_err(|error| AwsError::Credentials(error.to_string()))?;

    let mut request = Request::new(Full::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = service.endpoint.clone();
    let all = request.headers_mut();
    all.insert(HOST, service.host.clone());
    all.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
    all.insert(USER_AGENT, PRODUCT);
    all.extend(headers.iter().cloned());
    for (name, value) in signature.headers() {
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| AwsError::Credentials("the credentials have control characters".into()))?;
        value.set_sensitive(true);
        all.insert(HeaderName::from_static(name), value);
    }
    Ok(request)
}

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Form encoding with RFC 3986's unreserved characters as they are and all others escaped, which every reader takes.
fn form(parameters: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in parameters {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                form.push(char::from(byte));
            } else {
                form.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    form
}

/// The code in an error answer of EC2 (`Response/Errors/Error`), or of IAM and STS (`ErrorResponse/Error`).
pub(crate) fn error_of(answer: &Element) -> Option<String> {
    [&["Errors", "Error", "Code"][..], &["Error", "Code"][..]]
        .into_iter()
        .map(|path| answer.text_at(path))
        .find(|code| !code.is_empty())
        .filter(|code| {
            code.len() <= 64
                && code
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
        })
        .map(str::to_owned)
}

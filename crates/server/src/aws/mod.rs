//! The AWS listener: one address for every AWS API; the service is told by the action, else by the credential scope.
//!
//! ```text
//!   request ─ body cap ─ parameters ─ operation table ─┬ needs no signature ──────────────┐
//!                                                      └ sigv4 (steps 1-16) ─ Caller ─────┴─ handler ─ Member tree ─ XML | JSON
//! ```
//!
//! A handler of a signed operation takes a [`Caller`], which only verification can make.

mod keys;
mod policies;
pub mod query;
mod sts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_sigv4::{
    AuthError, Header, Offered, Parsed, Payload, Protocol, ServicePolicy, check_request,
};
use countersign_store::{Directory, Random};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;

pub(crate) use keys::live_principal;
pub use keys::{Caller, KeyRing, TokenRefused};
use policies::PolicyCache;
use query::{Format, Member, Parameters};

use crate::limiter::FailureLimiter;
use crate::listen::{Answer, BodyError, Peer, read_body};
use crate::metrics::Metrics;
use crate::request_id;

/// Reads the parameters of AssumeRole and drops them, for the fuzzer.
pub(crate) fn read_assume_role(parameters: &Parameters<'_>) {
    let _ = sts::read_assume_role(parameters);
}

/// How often the keys of session tokens are looked after.
const KEY_MAINTENANCE: Duration = Duration::from_secs(3600);

/// Rotates the keys of session tokens when they are due, for as long as the process runs. Every replica does; the store
/// lets one of them through.
pub async fn keep_session_keys(directory: Directory) {
    loop {
        tokio::time::sleep(KEY_MAINTENANCE).await;
        if let Err(error) = directory.maintain_session_keys(Timestamp::now()).await {
            tracing::error!(%error, "the keys of session tokens could not be looked after; trying again in an hour");
        }
    }
}

/// Bytes of a body read before the key is known; STS needs no more.
const MAX_BODY: usize = 256 << 10;

/// The services with the Query protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Security Token Service.
    Sts,
}

impl Service {
    /// Name in credential scopes, metrics and logs.
    #[must_use]
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::Sts => "sts",
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Sts => keys::STS_VERSION,
        }
    }

    const fn namespace(self) -> &'static str {
        match self {
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
        }
    }
}

/// An operation: its name and what answers it.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) service: Service,
    pub(crate) answer: Answerer,
}

/// What an operation needs before it is answered.
pub(crate) enum Answerer {
    /// A verified caller.
    Signed(fn(&Context<'_>, &Caller) -> Result<Member, ApiError>),
}

/// Everything an operation may look at.
pub(crate) struct Context<'a> {
    pub(crate) parameters: &'a Parameters<'a>,
    /// Headers as received; only those that were signed can be trusted.
    pub(crate) headers: &'a http::HeaderMap,
    pub(crate) peer: Peer,
    pub(crate) now: Timestamp,
    pub(crate) request_id: &'a str,
    pub(crate) keys: &'a KeyRing,
    pub(crate) policies: &'a PolicyCache,
    pub(crate) random: &'a Random,
}

/// An error as the wire has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Code, from a closed set.
    pub code: &'static str,
    /// Message for the client.
    pub message: String,
}

impl ApiError {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }
}

/// All operations, in one table.
const OPERATIONS: &[&[Operation]] = &[sts::OPERATIONS];

/// The AWS APIs.
#[derive(Debug)]
pub struct AwsApi {
    keys: Arc<KeyRing>,
    limiter: FailureLimiter,
    metrics: Arc<Metrics>,
    debug_signatures: bool,
    sts: ServicePolicy,
    policies: PolicyCache,
    random: Random,
}

impl AwsApi {
    /// The APIs over a key ring.
    #[must_use]
    pub fn new(
        keys: Arc<KeyRing>,
        metrics: Arc<Metrics>,
        failures_per_second: u32,
        debug_signatures: bool,
    ) -> Self {
        Self {
            keys,
            limiter: FailureLimiter::new(failures_per_second),
            metrics,
            debug_signatures,
            sts: ServicePolicy::for_service("sts"),
            policies: PolicyCache::default(),
            random: Random::system(),
        }
    }

    /// Answers one request whose path is not a health path.
    pub async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Answer {
        let request_id = request_id::fresh();
        let (head, body) = request.into_parts();
        let format = Format::of_accept(
            head.headers
                .get(header::ACCEPT)
                .and_then(|value| value.to_str().ok()),
        );
        let now = Timestamp::now();
        if !matches!(head.uri.path(), "" | "/") {
            let error = ApiError::new(
                404,
                "UnknownOperationException",
                "No operation has this path.",
            );
            return rest_error(&error, &request_id);
        }
        let body = match read_body(body, MAX_BODY).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => {
                let error = ApiError::new(
                    413,
                    "RequestEntityTooLarge",
                    "The request body is too large.",
                );
                return query_error(format, Service::Sts, &error, &request_id);
            }
            Err(BodyError::Broken) => {
                let error = ApiError::new(
                    400,
                    "IncompleteBody",
                    "The request body did not arrive whole.",
                );
                return query_error(format, Service::Sts, &error, &request_id);
            }
        };
        self.answer(&head, &body, peer, now, &request_id)
    }

    /// Answers a request that was read, at a time that is given.
    pub fn answer(
        &self,
        head: &http::request::Parts,
        body: &Bytes,
        peer: Peer,
        now: Timestamp,
        request_id: &str,
    ) -> Answer {
        let format = Format::of_accept(
            head.headers
                .get(header::ACCEPT)
                .and_then(|value| value.to_str().ok()),
        );
        let call = Call {
            head,
            body,
            peer,
            now,
            request_id,
        };
        match self.query(&call) {
            Ok((operation, member)) => {
                self.metrics
                    .aws_request(operation.service.signing_name(), operation.name, "");
                let text = query::success(
                    format,
                    operation.service.namespace(),
                    operation.name,
                    &member,
                    request_id,
                );
                answer(StatusCode::OK, format.content_type(), text, request_id)
            }
            Err(Refusal {
                service,
                operation,
                error,
                allow,
            }) => {
                self.metrics
                    .aws_request(service.signing_name(), operation, error.code);
                tracing::debug!(%request_id, peer = %peer.address, operation, code = error.code, "AWS API request refused");
                let mut answer = query_error(format, service, &error, request_id);
                if let Some(allow) = allow {
                    answer
                        .headers_mut()
                        .insert(header::ALLOW, HeaderValue::from_static(allow));
                }
                answer
            }
        }
    }

    fn query(&self, call: &Call<'_>) -> Result<(&'static Operation, Member), Refusal> {
        let raw_query = call.head.uri.query().unwrap_or_default();
        let headers: Vec<Header<'_>> = call
            .head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let authority = call
            .head
            .uri
            .authority()
            .map(|authority| (":authority", authority.as_str().as_bytes()));
        let headers: Vec<Header<'_>> = headers.into_iter().chain(authority).collect();
        let signed = countersign_sigv4::Request {
            method: call.head.method.as_str(),
            path: call.head.uri.path().as_bytes(),
            query: call.head.uri.query().map(str::as_bytes),
            headers: &headers,
            forwarded_host: None,
            tls: call.peer.tls,
            body: if call.body.is_empty() {
                Payload::Empty
            } else {
                Payload::Bytes(call.body)
            },
        };
        let form: &[u8] = if call.head.method == Method::POST {
            call.body
        } else {
            b""
        };
        let parameters = Parameters::parse(raw_query, form);
        let named = parameters
            .as_ref()
            .ok()
            .map(|parameters| (parameters.get("Action"), parameters.get("Version")));
        let operation = named.and_then(|(action, version)| find(action?, version?));
        let service = operation.map_or(Service::Sts, |operation| operation.service);
        let name = operation.map_or("unknown", |operation| operation.name);
        let refuse = |error| Refusal {
            service,
            operation: name,
            error,
            allow: None,
        };

        let policy = self.policy(service);
        let offered = Offered::by(&signed);
        if offered == Offered::Nothing {
            check_request(&signed, policy)
                .map_err(|error| self.refused(call, service, name, &error))?;
            let action = named.and_then(|(action, _)| action);
            if call.head.method == Method::GET && action.is_none() {
                return Err(refuse(ApiError::new(
                    404,
                    "InvalidAction",
                    "A request needs an Action and a signature.",
                )));
            }
            return Err(self.refused(call, service, name, &AuthError::Missing));
        }
        let caller = self
            .caller(call, &signed, policy)
            .map_err(|refused| match refused {
                AuthFailure::Throttled => refuse(ApiError::new(400, "Throttling", "Rate exceeded")),
                AuthFailure::Refused(error) => self.refused(call, service, name, &error),
                AuthFailure::Mismatch(error, strings) => {
                    let mut refusal = self.refused(call, service, name, &error);
                    if let Some(strings) = strings {
                        refusal.error.message = strings;
                    }
                    refusal
                }
            })?;

        let parameters = parameters
            .map_err(|error| refuse(ApiError::new(400, "ValidationError", error.to_string())))?;
        let Some(operation) = operation else {
            return Err(refuse(missing_operation(&parameters)));
        };
        let context = Context {
            parameters: &parameters,
            headers: &call.head.headers,
            peer: call.peer,
            now: call.now,
            request_id: call.request_id,
            keys: &self.keys,
            policies: &self.policies,
            random: &self.random,
        };
        let member = match operation.answer {
            Answerer::Signed(answer) => answer(&context, &caller),
        };
        member.map(|member| (operation, member)).map_err(refuse)
    }

    fn caller(
        &self,
        call: &Call<'_>,
        signed: &countersign_sigv4::Request<'_>,
        policy: &ServicePolicy,
    ) -> Result<Caller, AuthFailure> {
        let address = call.peer.address.ip();
        let second = call.now.as_second();
        if self.limiter.is_exhausted(address, second) {
            return Err(AuthFailure::Throttled);
        }
        let parsed =
            Parsed::from_request(signed, policy, call.now).map_err(AuthFailure::Refused)?;
        self.keys.verify(&parsed, call.now).map_err(|error| {
            self.limiter.record(address, second);
            let explain = error == AuthError::SignatureMismatch
                && (self.debug_signatures || is_loopback(call.peer.address));
            let strings = explain.then(|| {
                countersign_sigv4::mismatch_with_strings(
                    &parsed.canonical_request(signed.body),
                    &parsed.string_to_sign(signed.body),
                )
            });
            AuthFailure::Mismatch(error, strings)
        })
    }

    fn policy(&self, service: Service) -> &ServicePolicy {
        match service {
            Service::Sts => &self.sts,
        }
    }

    fn refused(
        &self,
        call: &Call<'_>,
        service: Service,
        operation: &'static str,
        error: &AuthError,
    ) -> Refusal {
        tracing::debug!(peer = %call.peer.address, operation, %error, "request not authenticated");
        let wire = error.wire(Protocol::Query);
        Refusal {
            service,
            operation,
            error: ApiError {
                status: wire.status,
                code: wire.code,
                message: wire.message.into_owned(),
            },
            allow: wire.allow,
        }
    }
}

enum AuthFailure {
    Throttled,
    Refused(AuthError),
    /// Refused by key or signature; the text replaces the message where the caller may see what we computed.
    Mismatch(AuthError, Option<String>),
}

struct Call<'a> {
    head: &'a http::request::Parts,
    body: &'a Bytes,
    peer: Peer,
    now: Timestamp,
    request_id: &'a str,
}

struct Refusal {
    service: Service,
    operation: &'static str,
    error: ApiError,
    allow: Option<&'static str>,
}

fn find(action: &str, version: &str) -> Option<&'static Operation> {
    OPERATIONS
        .iter()
        .flat_map(|table| table.iter())
        .find(|operation| operation.name == action && operation.service.version() == version)
}

fn missing_operation(parameters: &Parameters<'_>) -> ApiError {
    match parameters.get("Action") {
        None => ApiError::new(
            400,
            "MissingAction",
            "The request must contain the parameter Action",
        ),
        Some(action) => {
            let shown: String = action.chars().take(128).collect();
            let version: String = parameters
                .get("Version")
                .unwrap_or("NO_VERSION_SPECIFIED")
                .chars()
                .take(32)
                .collect();
            ApiError::new(
                400,
                "InvalidAction",
                format!("Could not find operation {shown} for version {version}"),
            )
        }
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn query_error(format: Format, service: Service, error: &ApiError, request_id: &str) -> Answer {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = if error.code.is_empty() {
        String::new()
    } else {
        query::error(
            format,
            service.namespace(),
            error.status,
            error.code,
            &error.message,
            request_id,
        )
    };
    answer(status, format.content_type(), text, request_id)
}

/// An error in the form of REST-JSON services, for paths that belong to none.
fn rest_error(error: &ApiError, request_id: &str) -> Answer {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = serde_json::json!({ "message": error.message }).to_string();
    let mut answer = answer(status, "application/json", text, request_id);
    answer
        .headers_mut()
        .insert("x-amzn-ErrorType", HeaderValue::from_static(error.code));
    answer
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    text: String,
    request_id: &str,
) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-amzn-requestid", id);
    }
    answer
}

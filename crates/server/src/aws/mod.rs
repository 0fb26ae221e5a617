//! The AWS listener: one address for every AWS API; the service is told by the action, else by the credential scope.
//!
//! ```text
//!   request ─ body cap ─ parameters ─ operation table ─┬ needs no signature ──────────────┐
//!                                                      └ sigv4 (steps 1-16) ─ Caller ─────┴─ handler ─ Member tree ─ XML | JSON
//! ```
//!
//! The (version, action) pair names service and operation, and the credential scope must be that service's: a request is never
//! authenticated for one service and dispatched to another. A [`Caller`] is made by verification only.

mod authorize;
mod conditions;
mod documents;
mod finished;
mod holder;
mod iam;
mod keys;
mod operation;
mod own_password;
mod page;
mod policies;
pub mod query;
mod record;
mod respond;
mod shape;
mod sts;
mod table;
mod target;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use countersign_saml::Options as SamlOptions;
use countersign_session::{Call as SessionCall, Refusal as SessionRefusal, StsCall, check_call};
use countersign_sigv4::{
    AuthError, Header, Offered, Parsed, Payload, Protocol, ServicePolicy, check_request,
};
use countersign_store::{Directory, Random};
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;
use tokio::sync::Semaphore;

pub use finished::{CallObserver, Decided, Finished};
pub(crate) use keys::live_principal;
pub use keys::{Caller, KeyRing, TokenRefused};
use operation::{Access, Answer as Answering, Call, Operation};
use policies::PolicyCache;
use query::{Format, Member, Parameters};
use respond::{answer, query_error, rest_error};
use shape::{Input, Style};
use sts::SamlTrust;

use crate::audit::{Audit, Place};
use crate::limiter::FailureLimiter;
use crate::listen::{Answer, BodyError, Peer, read_body};
use crate::metrics::Metrics;
use crate::outbound;
use crate::request_id;
use crate::usage::Usage;
use crate::web_identity::WebIdentity;

/// Reads the parameters of AssumeRole and drops them, for the fuzzer.
pub(crate) fn read_assume_role(parameters: &Parameters<'_>) {
    let _ = sts::read_assume_role(parameters);
}

/// Reads parameters against the shapes of all operations, for the fuzzer.
pub(crate) fn read_all_shapes(parameters: &Parameters<'_>) {
    for operation in table::all() {
        for style in [Style::WithValue, Style::WithoutValue] {
            let _ = Input::read(operation.shape, parameters, style);
        }
    }
}

/// Every operation with its parameters and their constraints, and the operations of the service models that are not
/// offered, as a list of objects.
#[must_use]
pub fn operation_catalogue() -> serde_json::Value {
    table::catalogue()
}

/// How often the keys of session tokens are looked after.
const KEY_MAINTENANCE: Duration = Duration::from_secs(3600);

/// Rotates the keys of session tokens and of outbound tokens when they are due, for as long as the process runs. Every replica does; the store
/// lets one of them through.
pub async fn keep_session_keys(directory: Directory) {
    loop {
        if let Err(error) = directory.maintain_outbound_keys(Timestamp::now()).await {
            tracing::error!(%error, "the keys of outbound tokens could not be looked after; trying again in an hour");
        }
        tokio::time::sleep(KEY_MAINTENANCE).await;
        if let Err(error) = directory.maintain_session_keys(Timestamp::now()).await {
            tracing::error!(%error, "the keys of session tokens could not be looked after; trying again in an hour");
        }
    }
}

/// Bytes of a body read before the signature is looked at; STS needs no more.
const MAX_BODY: usize = 256 << 10;
/// Bytes of a body for IAM: SAML metadata has up to 10,000,000 characters, and grows when it is encoded.
const MAX_LARGE_BODY: usize = 11 << 20;
/// Large bodies in memory at once.
const LARGE_BODIES: usize = 4;

/// The services with the Query protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Security Token Service.
    Sts,
    /// Identity and Access Management.
    Iam,
}

impl Service {
    const ALL: [Self; 2] = [Self::Sts, Self::Iam];

    /// Name in credential scopes, metrics and logs.
    #[must_use]
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Iam => "iam",
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Sts => keys::STS_VERSION,
            Self::Iam => "2010-05-08",
        }
    }

    const fn namespace(self) -> &'static str {
        match self {
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
            Self::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
        }
    }

    /// How it words the faults of parameters.
    const fn style(self) -> Style {
        match self {
            Self::Sts => Style::WithValue,
            Self::Iam => Style::WithoutValue,
        }
    }

    /// IAM answers in XML only.
    fn format(self, head: &http::request::Parts) -> Format {
        match self {
            Self::Sts => Format::of_accept(
                head.headers
                    .get(header::ACCEPT)
                    .and_then(|value| value.to_str().ok()),
            ),
            Self::Iam => Format::Xml,
        }
    }

    /// The service of the credential scope, as far as it can be told before the signature is read. It only chooses who
    /// words an error; the scope itself is checked with the signature.
    fn signed_for(head: &http::request::Parts) -> Option<Self> {
        let authorization = head
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let query = head.uri.query().unwrap_or_default();
        Self::ALL.into_iter().find(|service| {
            let name = service.signing_name();
            authorization.contains(&format!("/{name}/aws4_request"))
                || query.contains(&format!("%2F{name}%2Faws4_request"))
        })
    }
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
    /// The sealed explanation of a denial.
    pub(crate) denial: Option<Box<str>>,
}

impl ApiError {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            denial: None,
        }
    }
}

impl From<SessionRefusal> for ApiError {
    fn from(refusal: SessionRefusal) -> Self {
        Self::new(
            refusal.code.status(),
            refusal.code.as_str(),
            refusal.message,
        )
    }
}

/// A fault of ours, of which the log says more.
fn internal_failure() -> ApiError {
    ApiError::new(
        500,
        "InternalFailure",
        "The request processing has failed because of an unknown error, exception or failure.",
    )
}

/// The AWS APIs.
#[derive(Debug)]
pub struct AwsApi {
    keys: Arc<KeyRing>,
    directory: Directory,
    limiter: FailureLimiter,
    metrics: Arc<Metrics>,
    debug_signatures: bool,
    sts: ServicePolicy,
    iam: ServicePolicy,
    policies: PolicyCache,
    saml: SamlTrust,
    random: Random,
    large_bodies: Semaphore,
    observer: Option<Arc<dyn CallObserver>>,
    audit: Audit,
    usage: Arc<Usage>,
    region: Box<str>,
    web_identity: Option<Arc<WebIdentity>>,
}

impl AwsApi {
    /// The APIs over a directory and its key ring.
    #[must_use]
    pub fn new(
        keys: Arc<KeyRing>,
        directory: Directory,
        metrics: Arc<Metrics>,
        failures_per_second: u32,
        debug_signatures: bool,
    ) -> Self {
        Self {
            keys,
            directory,
            limiter: FailureLimiter::new(failures_per_second),
            metrics,
            debug_signatures,
            sts: ServicePolicy::for_service("sts"),
            iam: ServicePolicy::for_service("iam"),
            policies: PolicyCache::default(),
            saml: SamlTrust::default(),
            random: Random::system(),
            large_bodies: Semaphore::new(LARGE_BODIES),
            observer: None,
            audit: Audit::off(),
            usage: Arc::default(),
            region: "us-east-1".into(),
            web_identity: None,
        }
    }

    /// The same, with every call in the audit log, and what it used in `usage`. `region` is written where a request names none.
    #[must_use]
    pub fn recorded_in(mut self, audit: Audit, usage: Arc<Usage>, region: &str) -> Self {
        self.audit = audit;
        self.usage = usage;
        self.region = region.into();
        self
    }

    /// The same with web identities: AssumeRoleWithWebIdentity and our own tokens.
    #[must_use]
    pub fn with_web_identity(mut self, web_identity: Arc<WebIdentity>) -> Self {
        self.web_identity = Some(web_identity);
        self
    }

    /// The same, told to `observer` call by call.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn CallObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The same with other SAML endpoints and audiences than those of AWS.
    #[must_use]
    pub fn with_saml(mut self, options: SamlOptions) -> Self {
        self.saml = SamlTrust::new(options);
        self
    }

    /// Answers one request whose path is not a health path.
    pub async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Answer {
        let request_id = request_id::fresh();
        let (head, body) = request.into_parts();
        let now = Timestamp::now();
        if let Some(answer) = self.document(&head, now) {
            return answer;
        }
        if !matches!(head.uri.path(), "" | "/") {
            let error = ApiError::new(
                404,
                "UnknownOperationException",
                "No operation has this path.",
            );
            return rest_error(&error, &request_id);
        }
        let service = Service::signed_for(&head).unwrap_or(Service::Sts);
        let refuse =
            |error: &ApiError| query_error(service.format(&head), service, error, &request_id);
        // Kept until the call is answered: the body is in memory for as long.
        let mut permit = None;
        let mut limit = MAX_BODY;
        if body.size_hint().lower() > MAX_BODY as u64 && self.may_be_large(&head, peer, now) {
            match self.large_bodies.try_acquire() {
                Ok(acquired) => permit = Some(acquired),
                Err(_) => return refuse(&ApiError::new(400, "Throttling", "Rate exceeded")),
            }
            limit = MAX_LARGE_BODY;
        }
        let body = match read_body(body, limit).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => {
                return refuse(&ApiError::new(
                    413,
                    "RequestEntityTooLarge",
                    "The request body is too large.",
                ));
            }
            Err(BodyError::Broken) => {
                return refuse(&ApiError::new(
                    400,
                    "IncompleteBody",
                    "The request body did not arrive whole.",
                ));
            }
        };
        let answer = self.answer(&head, &body, peer, now, &request_id).await;
        drop(permit);
        answer
    }

    /// A document of an issuer of our own tokens, if the request is for one.
    #[must_use]
    pub fn document(&self, head: &http::request::Parts, now: Timestamp) -> Option<Answer> {
        let public_url = self.web_identity.as_ref()?.public_url();
        let asked = (&head.method, head.uri.path(), &head.headers);
        outbound::answer(&self.directory.snapshot(), public_url, asked, now)
    }

    /// Whether the head is that of a request signed for IAM: its signature has the right form, and its date is now.
    fn may_be_large(&self, head: &http::request::Parts, peer: Peer, now: Timestamp) -> bool {
        let headers = headers_of(head);
        let request = signed_request(head, &headers, peer, &[]);
        Offered::by(&request) != Offered::Nothing
            && Parsed::from_request(&request, &self.iam, now).is_ok()
    }

    /// Answers a request that was read, at a time that is given.
    pub async fn answer(
        &self,
        head: &http::request::Parts,
        body: &Bytes,
        peer: Peer,
        now: Timestamp,
        request_id: &str,
    ) -> Answer {
        let received = Received {
            head,
            body,
            peer,
            now,
            request_id,
        };
        let form: &[u8] = if head.method == Method::POST {
            body
        } else {
            b""
        };
        let parameters = Parameters::parse(head.uri.query().unwrap_or_default(), form);
        let operation = parameters.as_ref().ok().and_then(table::find);
        let mut trace = Trace {
            service: operation.map_or_else(
                || table::service_of(parameters.as_ref().ok(), Service::signed_for(head)),
                |operation| operation.service,
            ),
            operation,
            caller: None,
            input: None,
            decision: None,
            allow: None,
            place: None,
        };
        let ended = self.call(&received, &parameters, &mut trace).await;
        self.record(&received, parameters.as_ref().ok(), &mut trace, &ended);
        let Trace { service, .. } = trace;
        let name = operation.map_or("unknown", |operation| operation.name);
        if let Some(observer) = &self.observer {
            observer.finished(&Finished {
                service,
                operation: name,
                writes: operation.is_some_and(Operation::writes),
                at: now,
                request_id,
                peer: peer.address,
                tls: peer.tls,
                headers: &head.headers,
                caller: trace.caller.as_ref(),
                input: trace.input.as_ref(),
                outcome: ended.as_ref(),
                decision: trace.decision.as_ref(),
            });
        }
        let format = service.format(head);
        match ended {
            Ok(member) => {
                self.metrics.aws_request(service.signing_name(), name, "");
                let text = query::success(format, service.namespace(), name, &member, request_id);
                answer(StatusCode::OK, format.content_type(), text, request_id)
            }
            Err(error) => {
                self.metrics
                    .aws_request(service.signing_name(), name, error.code);
                tracing::debug!(%request_id, peer = %peer.address, operation = name, code = error.code, "AWS API request refused");
                let mut answer = query_error(format, service, &error, request_id);
                if let Some(allow) = trace.allow {
                    answer
                        .headers_mut()
                        .insert(header::ALLOW, HeaderValue::from_static(allow));
                }
                answer
            }
        }
    }

    /// The order of checks is IAM's (IAM API spec, section 1.2): signature and kind of session, parameters, permission;
    /// then the operation.
    async fn call<'p>(
        &'p self,
        received: &Received<'p>,
        parameters: &'p Result<Parameters<'p>, query::ParameterError>,
        trace: &mut Trace<'p>,
    ) -> Result<Member, ApiError> {
        let snapshot = self.directory.snapshot();
        let anonymous = trace
            .operation
            .is_some_and(|operation| operation.access == Access::Anonymous);
        trace.caller = self.authenticate(received, parameters, trace, &snapshot, anonymous)?;
        let parameters = parameters
            .as_ref()
            .map_err(|error| ApiError::new(400, "ValidationError", error.to_string()))?;
        let Some(operation) = trace
            .operation
            .filter(|operation| !matches!(operation.answer, Answering::NotOffered))
        else {
            return Err(table::missing_operation(parameters));
        };
        if let Some(session) = trace.caller.as_ref().and_then(Caller::session)
            && let Some(call) = session_call(operation)
        {
            check_call(session, call)?;
        }
        let input = Input::read(operation.shape, parameters, operation.service.style())?;
        if let Some(observer) = &self.observer
            && !observer.accepts(operation.name, operation.writes())
        {
            trace.input = Some(input);
            return Err(ApiError::new(
                503,
                "ServiceUnavailable",
                "Calls cannot be recorded at the moment.",
            ));
        }
        match self
            .audit
            .admit(operation.service.signing_name(), operation.name)
        {
            Ok(place) => trace.place = Some(place),
            Err(unavailable) => {
                trace.input = Some(input);
                return Err(ApiError::new(
                    503,
                    "ServiceUnavailable",
                    unavailable.to_string(),
                ));
            }
        }
        let call = Call {
            operation,
            input,
            signer: trace.caller.take(),
            holder: OnceLock::new(),
            snapshot,
            directory: &self.directory,
            policies: &self.policies,
            saml: &self.saml,
            usage: &self.usage,
            web_identity: self.web_identity.as_deref(),
            random: &self.random,
            now: received.now,
            peer: received.peer,
            headers: &received.head.headers,
            request_id: received.request_id,
            decision: Mutex::new(None),
        };
        let ended = match authorize::authorize(&call) {
            Err(denied) => Err(denied),
            Ok(()) => match operation.answer {
                Answering::Read(answer) => answer(&call),
                Answering::Write(answer) => answer(&call).await,
                Answering::NotOffered => Err(table::missing_operation(parameters)),
            },
        };
        let Call {
            input,
            decision,
            signer,
            ..
        } = call;
        trace.caller = signer;
        trace.input = Some(input);
        trace.decision = decision
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        ended
    }

    /// Who signed. An anonymous operation may come without a signature; one that is there is not looked at, because
    /// nothing follows from it.
    fn authenticate(
        &self,
        received: &Received<'_>,
        parameters: &Result<Parameters<'_>, query::ParameterError>,
        trace: &mut Trace<'_>,
        snapshot: &countersign_store::DirectorySnapshot,
        anonymous: bool,
    ) -> Result<Option<Caller>, ApiError> {
        let headers = headers_of(received.head);
        let signed = signed_request(received.head, &headers, received.peer, received.body);
        let policy = self.policy(trace.service);
        if anonymous || Offered::by(&signed) == Offered::Nothing {
            check_request(&signed, policy)
                .map_err(|error| self.refused(received, trace, &error))?;
            if anonymous {
                return Ok(None);
            }
            let no_action = parameters
                .as_ref()
                .is_ok_and(|parameters| parameters.get("Action").is_none());
            if received.head.method == Method::GET && no_action {
                return Err(ApiError::new(
                    404,
                    "InvalidAction",
                    "A request needs an Action and a signature.",
                ));
            }
            return Err(self.refused(received, trace, &AuthError::Missing));
        }
        match self.caller(received, &signed, policy, snapshot) {
            Ok(caller) => Ok(Some(caller)),
            Err(AuthFailure::Throttled) => Err(ApiError::new(400, "Throttling", "Rate exceeded")),
            Err(AuthFailure::Refused(error)) => Err(self.refused(received, trace, &error)),
            Err(AuthFailure::Mismatch(error, strings)) => {
                let mut refusal = self.refused(received, trace, &error);
                if let Some(strings) = strings {
                    refusal.message = strings;
                }
                Err(refusal)
            }
        }
    }

    fn caller(
        &self,
        received: &Received<'_>,
        signed: &countersign_sigv4::Request<'_>,
        policy: &ServicePolicy,
        snapshot: &countersign_store::DirectorySnapshot,
    ) -> Result<Caller, AuthFailure> {
        let address = received.peer.address.ip();
        let second = received.now.as_second();
        if self.limiter.is_exhausted(address, second) {
            return Err(AuthFailure::Throttled);
        }
        let parsed =
            Parsed::from_request(signed, policy, received.now).map_err(AuthFailure::Refused)?;
        self.keys
            .verify_on(snapshot, &parsed, received.now)
            .map_err(|error| {
                self.limiter.record(address, second);
                let explain = error == AuthError::SignatureMismatch
                    && (self.debug_signatures || is_loopback(received.peer.address));
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
            Service::Iam => &self.iam,
        }
    }

    fn refused(
        &self,
        received: &Received<'_>,
        trace: &mut Trace<'_>,
        error: &AuthError,
    ) -> ApiError {
        let operation = trace
            .operation
            .map_or("unknown", |operation| operation.name);
        tracing::debug!(peer = %received.peer.address, operation, %error, "request not authenticated");
        let wire = error.wire(Protocol::Query);
        trace.allow = wire.allow;
        ApiError::new(wire.status, wire.code, wire.message)
    }
}

enum AuthFailure {
    Throttled,
    Refused(AuthError),
    /// Refused by key or signature; the text replaces the message where the caller may see what we computed.
    Mismatch(AuthError, Option<String>),
}

/// A request as it came.
struct Received<'a> {
    head: &'a http::request::Parts,
    body: &'a Bytes,
    peer: Peer,
    now: Timestamp,
    request_id: &'a str,
}

/// What is known of a call so far.
struct Trace<'p> {
    service: Service,
    operation: Option<&'static Operation>,
    caller: Option<Caller>,
    input: Option<Input<'p>>,
    decision: Option<Decided>,
    allow: Option<&'static str>,
    /// Of the call's record in the audit log.
    place: Option<Place>,
}

fn headers_of(head: &http::request::Parts) -> Vec<Header<'_>> {
    let authority = head
        .uri
        .authority()
        .map(|authority| (":authority", authority.as_str().as_bytes()));
    head.headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .chain(authority)
        .collect()
}

fn signed_request<'a>(
    head: &'a http::request::Parts,
    headers: &'a [Header<'a>],
    peer: Peer,
    body: &'a [u8],
) -> countersign_sigv4::Request<'a> {
    countersign_sigv4::Request {
        method: head.method.as_str(),
        path: head.uri.path().as_bytes(),
        query: head.uri.query().map(str::as_bytes),
        headers,
        forwarded_host: None,
        tls: peer.tls,
        body: if body.is_empty() {
            Payload::Empty
        } else {
            Payload::Bytes(body)
        },
    }
}

/// The operation as the rules for temporary credentials know it.
fn session_call(operation: &Operation) -> Option<SessionCall> {
    match operation.service {
        Service::Iam => Some(SessionCall::Iam),
        Service::Sts => StsCall::ALL
            .into_iter()
            .find(|call| call.name() == operation.name)
            .map(SessionCall::Sts),
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

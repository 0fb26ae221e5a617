//! The AWS listener: one address for every AWS API. The path `/` is the Query protocol's, where the action tells the service,
//! else the credential scope; other paths are those of REST-JSON services, told by the path.
//!
//! ```text
//!   request ─ body cap ─ parameters ─ operation table ─┬ needs no signature ──────────────┐
//!                                                      └ sigv4 (steps 1-16) ─ Caller ─────┴─ handler ─ Member tree ─ XML | JSON
//! ```
//!
//! The (version, action) pair names service and operation, and the credential scope must be that service's: a request is never
//! authenticated for one service and dispatched to another. A [`Caller`] is made by verification only.

mod asked;
mod authenticate;
mod authorize;
mod conditions;
mod documents;
mod dry_run;
mod eks;
mod eks_auth;
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
mod rest;
mod service;
mod shape;
mod sts;
mod table;
mod target;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use countersign_oidc::KubernetesClaims;
use countersign_saml::Options as SamlOptions;
use countersign_session::{Call as SessionCall, Refusal as SessionRefusal, StsCall, check_call};
use countersign_sigv4::{Offered, Parsed, Regions, ServicePolicy};
use countersign_store::{Directory, DirectorySnapshot, Random, Revision};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use asked::{Asked, is_rest};
use authenticate::{headers_of, signed_request};
pub use eks::EksOptions;
pub(crate) use eks::{ObjectRefusal, check_association_object};
use eks_auth::{Agent, PodCall};
pub use eks_auth::{AnnotatedCluster, AnnotationsApi, EksAuthOptions, RealSts};
pub use finished::{CallObserver, Decided, Finished};
pub(crate) use keys::live_principal;
pub use keys::{Caller, KeyRing, TokenRefused};
use operation::{Access, Answer as Answering, Call, Operation};
use policies::PolicyCache;
use query::{Member, Parameters};
use respond::{answer, query_error, rest_error};
use rest::Rewritten;
pub use service::Service;
use shape::{Input, Style};
use sts::SamlTrust;

use crate::audit::{Audit, Place};
use crate::issuer::ClusterIssuers;
use crate::limiter::FailureLimiter;
use crate::listen::{Answer, BodyError, Peer, read_body};
use crate::metrics::{Metrics, WebIdentityResult};
use crate::outbound;
use crate::rate::{EksAuthLimits, EksAuthRates, StsLimits, StsRates};
use crate::request_id;
use crate::store_health::StoreHealth;
use crate::usage::Usage;
use crate::web_identity::WebIdentity;

/// Reads the parameters of AssumeRole and drops them, for the fuzzer.
pub(crate) fn read_assume_role(parameters: &Parameters<'_>) {
    let _ = sts::read_assume_role(parameters);
}

/// Reads parameters against the shapes of all operations, for the fuzzer.
pub(crate) fn read_all_shapes(parameters: &Parameters<'_>) {
    for operation in table::all().filter(|operation| operation.http.is_none()) {
        for style in [Style::WithValue, Style::WithoutValue] {
            let _ = Input::read(operation.shape, parameters, style);
        }
    }
}

/// Reads a REST-JSON request as far as it goes without a caller, for the fuzzer.
pub(crate) fn read_rest(method: &str, path: &str, query: &str, body: &[u8]) {
    rest::read_any(method, path, query, body);
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
/// Bytes of a body of a REST-JSON service (EKS API spec, section 1.2).
const MAX_REST_BODY: usize = 1 << 20;
/// Large bodies in memory at once.
const LARGE_BODIES: usize = 4;

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

/// What is answered over a limit (STS spec, section 10).
fn throttled() -> ApiError {
    ApiError::new(400, "Throttling", "Rate exceeded")
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
    /// The same directory, for calls that are not to be done.
    planned: Directory,
    limiter: FailureLimiter,
    rates: StsRates,
    metrics: Arc<Metrics>,
    debug_signatures: bool,
    sts: ServicePolicy,
    iam: ServicePolicy,
    eks: ServicePolicy,
    eks_auth: ServicePolicy,
    rewritten: Rewritten,
    eks_options: EksOptions,
    eks_auth_options: EksAuthOptions,
    eks_auth_rates: EksAuthRates,
    policies: PolicyCache,
    saml: SamlTrust,
    random: Random,
    store: Option<StoreHealth>,
    large_bodies: Semaphore,
    observer: Option<Arc<dyn CallObserver>>,
    audit: Audit,
    usage: Arc<Usage>,
    region: Box<str>,
    web_identity: Option<Arc<WebIdentity>>,
    issuers: Option<Arc<ClusterIssuers>>,
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
            planned: directory.without_effect(),
            directory,
            limiter: FailureLimiter::new(failures_per_second),
            rates: StsRates::new(StsLimits::OFF),
            metrics,
            debug_signatures,
            sts: ServicePolicy::for_service("sts"),
            iam: ServicePolicy::for_service("iam"),
            eks: ServicePolicy::for_service("eks"),
            eks_auth: ServicePolicy::for_service("eks-auth"),
            rewritten: Rewritten::default(),
            eks_options: EksOptions::default(),
            eks_auth_options: EksAuthOptions::default(),
            eks_auth_rates: EksAuthRates::new(EksAuthLimits::OFF),
            policies: PolicyCache::default(),
            saml: SamlTrust::default(),
            random: Random::system(),
            large_bodies: Semaphore::new(LARGE_BODIES),
            observer: None,
            audit: Audit::off(),
            usage: Arc::default(),
            region: "us-east-1".into(),
            web_identity: None,
            issuers: None,
            store: None,
        }
    }

    /// Answers only while this store may be answered from.
    #[must_use]
    pub fn with_store_health(mut self, store: StoreHealth) -> Self {
        self.store = Some(store);
        self
    }

    /// Whether the snapshot may be answered from.
    fn check_store(&self) -> Result<(), ApiError> {
        match self.store.as_ref().map(StoreHealth::check) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(away)) => {
                tracing::debug!(%away, "AWS API request not answered");
                Err(ApiError::new(
                    503,
                    "ServiceUnavailable",
                    "The request has failed due to a temporary failure of the server.",
                ))
            }
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

    /// The same with the issuers of clusters: their tokens at AssumeRoleWithWebIdentity, and the documents for others.
    #[must_use]
    pub fn with_issuers(mut self, issuers: Arc<ClusterIssuers>) -> Self {
        self.issuers = Some(issuers);
        self
    }

    /// The same with at most so many calls of STS a second; without it, there is no limit.
    #[must_use]
    pub fn limited_to(mut self, limits: StsLimits) -> Self {
        self.rates = StsRates::new(limits);
        self
    }

    /// The same, told to `observer` call by call.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn CallObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The same with other access policies, limits and times of the EKS API.
    #[must_use]
    pub fn with_eks(mut self, options: EksOptions) -> Self {
        if let Some(regions) = &options.regions {
            self.eks.regions = Regions::Listed(regions.clone());
            self.eks_auth.regions = Regions::Listed(regions.clone());
        }
        self.eks_options = options;
        self
    }

    /// The same with other agents, node names or another STS behind EKS Auth.
    #[must_use]
    pub fn with_eks_auth(mut self, options: EksAuthOptions) -> Self {
        self.eks_auth_options = options;
        self
    }

    /// The same with at most so many requests for credentials of pods a second; without it, there is no limit.
    #[must_use]
    pub fn limiting_pods_to(mut self, limits: EksAuthLimits) -> Self {
        self.eks_auth_rates = EksAuthRates::new(limits);
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
        let is_rest = is_rest(&head);
        // Nothing is read for a path that nobody has.
        if is_rest && let Err(error) = rest::Request::of(&head, &Bytes::new()) {
            return rest_error(&error, None, &request_id);
        }
        let service = if is_rest {
            Service::Eks
        } else {
            Service::signed_for(&head).unwrap_or(Service::Sts)
        };
        let refuse = |error: ApiError| {
            if is_rest {
                rest_error(&rest::generic(error), None, &request_id)
            } else {
                query_error(service.format(&head), service, &error, &request_id)
            }
        };
        // Kept until the call is answered: the body is in memory for as long.
        let mut permit = None;
        let mut limit = MAX_BODY;
        let hint = body.size_hint();
        let is_chunked = is_rest && hint.upper().is_none();
        if (hint.lower() > MAX_BODY as u64 || is_chunked)
            && self.may_be_large(&head, is_rest, peer, now)
        {
            match self.large_bodies.try_acquire() {
                Ok(acquired) => {
                    permit = Some(acquired);
                    limit = if is_rest {
                        MAX_REST_BODY
                    } else {
                        MAX_LARGE_BODY
                    };
                }
                // One that does not say its length is short as a rule.
                Err(_) if is_chunked => {}
                Err(_) => return refuse(throttled()),
            }
        }
        let body = match read_body(body, limit).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => {
                return refuse(ApiError::new(
                    413,
                    "RequestEntityTooLarge",
                    "The request body is too large.",
                ));
            }
            Err(BodyError::Broken) => {
                return refuse(ApiError::new(
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

    /// A document of an issuer of a cluster's or of our own tokens, if the request is for one.
    #[must_use]
    pub fn document(&self, head: &http::request::Parts, now: Timestamp) -> Option<Answer> {
        let asked = (&head.method, head.uri.path(), &head.headers);
        if let Some(answer) = self
            .issuers
            .as_ref()
            .and_then(|issuers| issuers.answer(asked))
        {
            return Some(answer);
        }
        let public_url = self.web_identity.as_ref()?.public_url();
        outbound::answer(&self.directory.snapshot(), public_url, asked, now)
    }

    /// Whether the head is that of a request signed for IAM or EKS: its signature has the right form, and its date is now.
    fn may_be_large(
        &self,
        head: &http::request::Parts,
        is_rest: bool,
        peer: Peer,
        now: Timestamp,
    ) -> bool {
        let policy = if is_rest { &self.eks } else { &self.iam };
        let headers = headers_of(head);
        let request = signed_request(head, &headers, peer, &[]);
        Offered::by(&request) != Offered::Nothing
            && Parsed::from_request(&request, policy, now).is_ok()
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
        let asked = match Asked::of(head, body) {
            Ok(asked) => asked,
            Err(error) => return rest_error(&error, None, request_id),
        };
        let operation = asked.operation();
        let mut trace = Trace {
            service: asked.service(head),
            operation,
            caller: None,
            agent: None,
            input: None,
            decision: None,
            pod: None,
            allow: None,
            place: None,
            kubernetes: None,
            dry_run: false,
            warnings: Vec::new(),
            pending: None,
        };
        let ended = self.call(&received, &asked, &mut trace).await;
        let ended = match &asked {
            Asked::Query(_) => ended,
            Asked::Rest(request) => {
                ended.map_err(|error| rest::worded(request.route.operation, error))
            }
        };
        self.record(&received, &asked, &mut trace, &ended);
        let service = trace.service;
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
                let (content_type, text) = match &asked {
                    Asked::Query(_) => (
                        format.content_type(),
                        query::success(format, service.namespace(), name, &member, request_id),
                    ),
                    Asked::Rest(_) => ("application/json", rest::body(&member)),
                };
                let mut answer = answer(StatusCode::OK, content_type, text, request_id);
                respond::note(answer.headers_mut(), trace.dry_run, &trace.warnings);
                respond::note_pending(answer.headers_mut(), trace.pending);
                answer
            }
            Err(error) => {
                self.metrics
                    .aws_request(service.signing_name(), name, error.code);
                tracing::debug!(%request_id, peer = %peer.address, operation = name, code = error.code, "AWS API request refused");
                let mut answer = match &asked {
                    Asked::Query(_) => query_error(format, service, &error, request_id),
                    Asked::Rest(request) => {
                        let members = rest::members_of_error(request, &error);
                        rest_error(&error, Some(members), request_id)
                    }
                };
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
    /// then the operation. In EKS, what is wrong with a parameter of the right type is told behind the permission (EKS API
    /// spec, section 1.7).
    async fn call<'p>(
        &'p self,
        received: &Received<'p>,
        asked: &'p Asked<'p>,
        trace: &mut Trace<'p>,
    ) -> Result<Member, ApiError> {
        self.check_store()?;
        let snapshot = self.directory.snapshot();
        let anonymous = trace
            .operation
            .is_some_and(|operation| operation.access == Access::Anonymous);
        let bearer = match (asked, trace.operation) {
            (Asked::Rest(request), Some(operation))
                if operation.access == Access::SignedOrBearer =>
            {
                eks_auth::bearer(&received.head.headers).map(|token| (request, token))
            }
            _ => None,
        };
        match bearer {
            Some((request, token)) => {
                let name = request.label("clusterName");
                let cluster = name.or_else(|| request.label("name")).unwrap_or_default();
                trace.agent = Some(self.agent(received, &snapshot, cluster, token).await?);
            }
            None => {
                trace.caller = self.authenticate(received, asked, trace, &snapshot, anonymous)?;
            }
        }
        self.check_rate(received, trace)?;
        if let Asked::Rest(request) = asked
            && request.route.rewritten
        {
            self.rewritten.note(received.peer.address.ip());
        }
        let operation = asked.offered()?;
        trace.dry_run =
            dry_run::is_asked(&received.head.headers, trace.caller.as_ref(), operation)?;
        if let Some(session) = trace.caller.as_ref().and_then(Caller::session)
            && let Some(call) = session_call(operation)
        {
            check_call(session, call)?;
        }
        let (input, fault) = asked.read(operation)?;
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
            agent: trace.agent.take(),
            holder: OnceLock::new(),
            snapshot,
            directory: if trace.dry_run {
                &self.planned
            } else {
                &self.directory
            },
            policies: &self.policies,
            usage: &self.usage,
            saml: &self.saml,
            eks: &self.eks_options,
            eks_auth: &self.eks_auth_options,
            web_identity: self.web_identity.as_deref(),
            issuers: self.issuers.as_deref(),
            rates: &self.rates,
            metrics: &self.metrics,
            random: &self.random,
            now: received.now,
            peer: received.peer,
            headers: &received.head.headers,
            request_id: received.request_id,
            decision: Mutex::new(None),
            pod: Mutex::new(None),
            kubernetes: Mutex::new(None),
            warnings: Mutex::default(),
            pending: Mutex::default(),
        };
        let ended = match authorize::authorize(&call) {
            Err(denied) => Err(denied),
            Ok(()) => match (fault, operation.answer) {
                (Some(fault), _) => Err(fault),
                (None, Answering::Read(answer)) => answer(&call),
                (None, Answering::Write(answer)) => answer(&call).await,
                (None, Answering::NotOffered) => Err(asked.missing()),
            },
        };
        let Call {
            input,
            decision,
            kubernetes,
            warnings,
            pending,
            signer,
            agent,
            pod,
            ..
        } = call;
        trace.caller = signer;
        trace.agent = agent;
        trace.pod = pod.into_inner().unwrap_or_else(PoisonError::into_inner);
        trace.input = Some(input);
        trace.decision = decision
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        trace.kubernetes = kubernetes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        trace.pending = pending.into_inner().unwrap_or_else(PoisonError::into_inner);
        trace.warnings = warnings
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        ended
    }

    /// Counts a call of STS: a signed one for its key and account, an unsigned one for the address it came from. Requests
    /// whose signature is not good have a limit of their own, and take nothing from the key they name.
    fn check_rate(&self, received: &Received<'_>, trace: &Trace<'_>) -> Result<(), ApiError> {
        if trace.service == Service::EksAuth || trace.agent.is_some() {
            return self.check_rate_of_pods(received, trace);
        }
        if trace.service != Service::Sts {
            return Ok(());
        }
        let counted = match &trace.caller {
            Some(caller) => {
                let account = caller.identity().account();
                let key_id = caller.verified().key_id();
                self.rates.signed(account, key_id, received.now)
            }
            None => {
                let address = received.peer.address.ip();
                self.rates.unsigned(address, received.now)
            }
        };
        counted.map_err(|limit| {
            self.metrics.aws_throttled(limit.label());
            if trace.operation.is_some_and(is_web_identity) {
                self.metrics
                    .web_identity(WebIdentityResult::Throttled, None);
            }
            throttled()
        })
    }
}

impl AwsApi {
    /// The agent of a cluster that shows a token of its own. Tokens that are not good are counted like signatures that are not.
    async fn agent(
        &self,
        received: &Received<'_>,
        snapshot: &DirectorySnapshot,
        cluster: &str,
        token: &str,
    ) -> Result<Agent, ApiError> {
        let address = received.peer.address.ip();
        let second = received.now.as_second();
        if self.limiter.is_exhausted(address, second) {
            return Err(throttled());
        }
        let unavailable = || {
            ApiError::new(
                503,
                "ServiceUnavailableException",
                "Tokens of clusters cannot be verified at the moment.",
            )
        };
        let issuers = self.issuers.as_deref().ok_or_else(unavailable)?;
        let headers = &received.head.headers;
        let options = &self.eks_auth_options;
        let shown = (cluster, token);
        eks_auth::authenticate(snapshot, issuers, options, shown, headers, received.now)
            .await
            .inspect_err(|error| {
                if error.status != 503 {
                    self.limiter.record(address, second);
                }
                tracing::debug!(peer = %received.peer.address, code = error.code, message = error.message, "agent not authenticated");
            })
    }

    /// Counts a request for a pod's credentials, or any of an agent with a token, for the key or the node it comes from, and
    /// for the account of the cluster.
    fn check_rate_of_pods(
        &self,
        received: &Received<'_>,
        trace: &Trace<'_>,
    ) -> Result<(), ApiError> {
        let now = received.now;
        let rates = &self.eks_auth_rates;
        let counted = match (&trace.caller, &trace.agent) {
            (Some(caller), _) => {
                let account = caller.identity().account();
                rates.take(caller.verified().key_id(), account, now)
            }
            (None, Some(agent)) => {
                let cluster = &agent.cluster.record;
                let node = (&*cluster.id, &*agent.node);
                rates.take(node, cluster.account, now)
            }
            (None, None) => return Ok(()),
        };
        counted.map_err(|limit| {
            self.metrics.aws_throttled(limit.label());
            throttled()
        })
    }
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
    agent: Option<Agent>,
    input: Option<Input<'p>>,
    decision: Option<Decided>,
    pod: Option<PodCall>,
    /// The workload behind a token that was verified.
    kubernetes: Option<KubernetesClaims>,
    allow: Option<&'static str>,
    /// Of the call's record in the audit log.
    place: Option<Place>,
    /// Whether it is checked and not done.
    dry_run: bool,
    /// What its caller is told beside the answer.
    warnings: Vec<String>,
    pending: Option<Revision>,
}

fn is_web_identity(operation: &Operation) -> bool {
    operation.service == Service::Sts && operation.name == "AssumeRoleWithWebIdentity"
}

/// The operation as the rules for temporary credentials know it.
fn session_call(operation: &Operation) -> Option<SessionCall> {
    match operation.service {
        Service::Iam => Some(SessionCall::Iam),
        // Temporary credentials of any kind may call it.
        Service::Eks | Service::EksAuth => None,
        Service::Sts => StsCall::ALL
            .into_iter()
            .find(|call| call.name() == operation.name)
            .map(SessionCall::Sts),
    }
}

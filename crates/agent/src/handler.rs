//! The credentials endpoint: the checks in their order, then the cache (agent spec, sections 4 and 7).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::cache::{Cache, Wanted};
use crate::chance::request_id;
use crate::events::{Decision, DecisionLog, Outcome};
use crate::limit::{Buckets, Rate};
use crate::listen::{Answer, Handler};
use crate::metrics::{Metrics, Source};
use crate::pods::{BindSource, Binding, Caller, PodTable, bind};
use crate::refusal::{Limit, Refusal};
use crate::request::{check_route, token_text};
use crate::token::{
    ClusterKeys, Digester, PodIdentity, TokenDigest, TokenFacts, Vouched, check_times,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// How long a request waits for the pod watch to catch up with its pod.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Limits of requests.
///
/// - `per_pod`: 20/s, burst 40.
/// - `per_address`: the same, for requests without a token that was accepted before.
/// - `new_tokens`: 1/s, burst 40: tokens of one address that nobody has vouched for and that would have to be shown to the auth
///   service. Without it one pod that makes up tokens would use up the calls of the whole node.
/// - `total`: 1000/s, burst 500. A request that is over a limit of its own takes nothing from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestLimits {
    /// For each pod.
    pub per_pod: Rate,
    /// For each source address.
    pub per_address: Rate,
    /// For each source address: tokens for the auth service to judge.
    pub new_tokens: Rate,
    /// For all together.
    pub total: Rate,
}

impl Default for RequestLimits {
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            per_pod: rate(20.0, 40),
            per_address: rate(20.0, 40),
            new_tokens: rate(1.0, 40),
            total: rate(1000.0, 500),
        }
    }
}

/// What the endpoint is made of.
pub(crate) struct EndpointParts {
    pub(crate) hosts: Vec<IpAddr>,
    pub(crate) limits: RequestLimits,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<dyn DecisionLog>,
    pub(crate) bind_source: BindSource,
    pub(crate) pods: Option<watch::Receiver<Option<Arc<PodTable>>>>,
    pub(crate) keys: Option<watch::Receiver<Option<Arc<ClusterKeys>>>>,
    pub(crate) keys_wanted: Option<Arc<Notify>>,
}

#[derive(Clone)]
pub(crate) struct Endpoint(Arc<Inner>);

struct Inner {
    parts: EndpointParts,
    digester: Digester,
    per_pod: Buckets,
    per_address: Buckets,
    new_tokens: Buckets,
    total: Buckets,
}

/// A refusal, and what was known when it was made.
struct Refused {
    refusal: Refusal,
    source: Source,
    identity: Option<Arc<PodIdentity>>,
    accepted: bool,
}

impl Endpoint {
    pub(crate) fn new(parts: EndpointParts) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let limits = parts.limits;
        Ok(Self(Arc::new(Inner {
            parts,
            digester: Digester::new()?,
            per_pod: Buckets::new(limits.per_pod),
            per_address: Buckets::new(limits.per_address),
            new_tokens: Buckets::new(limits.new_tokens),
            total: Buckets::new(limits.total),
        })))
    }

    /// Answers a request of which only the head counts.
    pub(crate) async fn answer(
        &self,
        caller: Caller,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Answer {
        let inner = &*self.0;
        let started = Instant::now();
        let (answer, source) = match inner.decide(caller, method, uri, headers, started).await {
            Ok((body, source)) => (credentials(body), source),
            Err(refused) => {
                let source = refused.source;
                (inner.refuse(caller, refused), source)
            }
        };
        let status = answer.status().as_u16();
        inner
            .parts
            .metrics
            .answered(status, source, started.elapsed());
        answer
    }
}

impl Handler for Endpoint {
    async fn handle(&self, caller: Caller, request: Request<Incoming>) -> Answer {
        let (head, _) = request.into_parts();
        self.answer(caller, &head.method, &head.uri, &head.headers)
            .await
    }
}

impl Inner {
    async fn decide(
        &self,
        caller: Caller,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<(Bytes, Source), Refused> {
        check_route(method, uri)?;
        let head = token_text(uri, headers, &self.parts.hosts);
        let digest = head.as_ref().ok().map(|text| self.digester.digest(text));
        let cache = &self.parts.cache;
        let known = digest.as_ref().and_then(|digest| cache.known(digest));
        // Everything so far is bounded by the size of the head. The limits answer before the checks, as they stand in front
        // of them in the specification; whose limit it is cannot be known earlier.
        let own_limit = match &known {
            Some(known) => (!self.per_pod.take(known.key, now)).then_some(Limit::Pod),
            None => (!self.per_address.take(bucket(caller), now)).then_some(Limit::Address),
        };
        let over = own_limit.or_else(|| (!self.total.take((), now)).then_some(Limit::Total));
        if let Some(limit) = over {
            return Err(Refusal::TooMany(limit).into());
        }
        let (text, digest) = match (head, digest) {
            (Ok(text), Some(digest)) => (text, digest),
            (Err(refusal), _) => return Err(refusal.into()),
            (Ok(_), None) => return Err(Refusal::Internal("a token has no digest").into()),
        };
        let Some(known) = known else {
            return self.unknown(caller, text, digest).await;
        };
        let refused = |refusal, source| Refused {
            refusal,
            source,
            identity: Some(Arc::clone(&known.identity)),
            accepted: true,
        };
        let moment = cache.now();
        check_times(known.expires, known.not_before, moment.time)
            .map_err(|refusal| refused(refusal, Source::Checks))?;
        self.check_caller(&known.identity, caller, true)
            .await
            .map_err(|refusal| refused(refusal, Source::Checks))?;
        if cache.may_keep(&known.identity.pod_uid)
            && let Some(body) = cache.read(known.key, moment)
        {
            return Ok((body, Source::Cache));
        }
        let facts = TokenFacts::read(text, moment.time)?;
        let wanted = Wanted {
            text,
            digest,
            facts,
            verified: true,
        };
        if let Some(body) = cache.lend(&wanted, moment) {
            return Ok((body, Source::Cache));
        }
        self.fetch(wanted).await
    }

    /// A token that was not accepted before.
    async fn unknown(
        &self,
        caller: Caller,
        text: &str,
        digest: TokenDigest,
    ) -> Result<(Bytes, Source), Refused> {
        let cache = &self.parts.cache;
        let facts = TokenFacts::read(text, cache.now().time)?;
        let identity = Arc::clone(&facts.identity);
        let refused = |refusal| Refused {
            refusal,
            source: Source::Checks,
            identity: Some(Arc::clone(&identity)),
            accepted: false,
        };
        let vouched = self.vouch(text);
        if vouched == Vouched::No {
            let refusal = Refusal::InvalidToken("its signature is not one of the cluster's keys");
            return Err(refused(refusal));
        }
        if vouched == Vouched::UnknownKey
            && let Some(wanted) = &self.parts.keys_wanted
        {
            wanted.notify_one();
        }
        let verified = vouched == Vouched::Yes;
        self.check_caller(&identity, caller, verified)
            .await
            .map_err(refused)?;
        let wanted = Wanted {
            text,
            digest,
            facts,
            verified,
        };
        if verified
            && cache.may_keep(&identity.pod_uid)
            && let Some(body) = cache
                .adopt(&wanted, cache.now())
                .or_else(|| cache.lend(&wanted, cache.now()))
        {
            return Ok((body, Source::Cache));
        }
        if !verified && !self.new_tokens.take(bucket(caller), Instant::now()) {
            return Err(refused(Refusal::TooMany(Limit::NewTokens)));
        }
        self.fetch(wanted).await
    }

    async fn fetch(&self, wanted: Wanted<'_>) -> Result<(Bytes, Source), Refused> {
        let identity = Arc::clone(&wanted.facts.identity);
        let accepted = wanted.verified;
        let (outcome, source) = self.parts.cache.fetch(wanted).await;
        outcome
            .map(|body| (body, source))
            .map_err(|refusal| Refused {
                refusal,
                source,
                identity: Some(identity),
                accepted,
            })
    }

    fn vouch(&self, text: &str) -> Vouched {
        let keys = self.parts.keys.as_ref();
        let keys = keys.and_then(|keys| keys.borrow().clone());
        keys.map_or(Vouched::Unknown, |keys| keys.vouch(text))
    }

    /// Whether the caller may use this pod's token. Waits up to a second for the pod watch to catch up where that decides.
    async fn check_caller(
        &self,
        identity: &PodIdentity,
        caller: Caller,
        accepted: bool,
    ) -> Result<(), Refusal> {
        let Some(pods) = &self.parts.pods else {
            return Ok(());
        };
        if self.parts.bind_source == BindSource::Off {
            return Ok(());
        }
        let enforce = self.parts.bind_source == BindSource::Enforce;
        let binding = |table: Option<&PodTable>| match table {
            Some(table) => bind(table, identity, caller),
            None => Binding::NotYet(Refusal::PodsUnknown),
        };
        let mut found = binding(pods.borrow().as_deref());
        if enforce && matches!(found, Binding::NotYet(_)) {
            let mut pods = pods.clone();
            let caught_up = pods.wait_for(|table| {
                found = binding(table.as_deref());
                !matches!(found, Binding::NotYet(_))
            });
            let _ = tokio::time::timeout(CATCH_UP, caught_up).await;
        }
        match found {
            Binding::Fits => Ok(()),
            Binding::NotYet(refusal) if enforce => Err(refusal),
            Binding::NotYet(_) => Ok(()),
            Binding::Misuse {
                refusal,
                caller: pod,
            } => {
                self.parts.metrics.misuse();
                tracing::warn!(
                    token_namespace = &*identity.namespace,
                    token_pod = &*identity.pod,
                    caller_namespace = pod.as_ref().map(|pod| &*pod.namespace),
                    caller_pod = pod.as_ref().map(|pod| &*pod.name),
                    source_address = %caller.address,
                    refused = enforce,
                    "a service account token came from somebody else than its pod"
                );
                self.parts.events.record(&Decision {
                    identity: Some(identity),
                    accepted,
                    caller: pod.as_deref(),
                    source_address: Some(caller.address),
                    reason: Some(refusal.reason()),
                    status: enforce.then(|| refusal.status().as_u16()),
                    ..Decision::new(self.parts.cache.now().time, Outcome::Misuse)
                });
                if enforce { Err(refusal) } else { Ok(()) }
            }
        }
    }

    fn refuse(&self, caller: Caller, refused: Refused) -> Answer {
        let Refused {
            refusal,
            identity,
            accepted,
            ..
        } = refused;
        let id = request_id();
        self.parts.metrics.refused(refusal.reason());
        // What is over a limit is counted, not recorded: it could fill a disk.
        if !matches!(
            refusal,
            Refusal::TooMany(_) | Refusal::Path | Refusal::Method
        ) {
            self.parts.events.record(&Decision {
                request_id: Some(&id),
                reason: Some(refusal.reason()),
                status: Some(refusal.status().as_u16()),
                source_address: Some(caller.address),
                identity: identity.as_deref(),
                accepted,
                ..Decision::new(self.parts.cache.now().time, Outcome::Refused)
            });
        }
        let mut answer = Response::new(Full::new(refusal.body(&id)));
        *answer.status_mut() = refusal.status();
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(CACHE_CONTROL, NO_STORE);
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(seconds) = refusal.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if refusal.status() == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, METHODS);
        }
        answer
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            source: Source::Checks,
            identity: None,
            accepted: false,
        }
    }
}

fn credentials(body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    answer
}

/// Whose bucket an address counts for. Pods have single addresses, IPv6 ones too: a /64 may be a whole node.
fn bucket(caller: Caller) -> (IpAddr, bool) {
    (caller.address, caller.local)
}

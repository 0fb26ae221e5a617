//! The guard's answers: who calls, what is decided, and where the answer comes from (imds spec, sections 5.2 to 5.6).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_imds::compat::Predecessor;
use countersign_imds::decision::{
    CredentialsPath, Decided, Decision, Mode, Refusal, Request, Session, Settings, decide,
};
use countersign_imds::role::error_body;
use countersign_upstream::clock::Clock;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, RETRY_AFTER, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::time::Instant;

use super::blocked::Blocked;
use super::events::Events;
use super::hosts::HostGuard;
use super::keyfile::Sessions;
use super::node::{NodeFailure, NodeMetadata};
use super::roles::{NoRole, PodCredentials, Roles};
use super::{GuardApi, PodEvent};
use crate::limit::{Buckets, Rate};
use crate::link::{Routes, is_for_exactly};
use crate::listen::{Answer, Handler};
use crate::metrics::Metrics;
use crate::pods::{Caller, Pod, PodAt, PodTable};

/// How long a pod is waited for that the watch does not know yet, and when the API is asked besides.
const CATCH_UP: Duration = Duration::from_millis(1800);
const READ_AFTER: Duration = Duration::from_millis(300);
/// Reads of the API at once, and the time between two.
const READ_EVERY: Duration = Duration::from_millis(250);

const TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");
const GUARD: HeaderName = HeaderName::from_static(countersign_imds::probe::GUARD_HEADER);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) struct GuardParts {
    pub(crate) settings: Settings,
    pub(crate) roles: Option<Arc<Roles>>,
    /// Whose statuses clients expect.
    pub(crate) compat: Option<Predecessor>,
    pub(crate) node: NodeMetadata,
    pub(crate) pods: Option<watch::Receiver<Option<Arc<PodTable>>>>,
    pub(crate) api: Option<Arc<dyn GuardApi>>,
    pub(crate) routes: Option<Arc<dyn Routes>>,
    pub(crate) hosts: Option<Arc<HostGuard>>,
    pub(crate) sessions: Sessions,
    pub(crate) blocked: Arc<Blocked>,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) per_pod: Rate,
    pub(crate) node_rate: Rate,
}

#[derive(Clone)]
pub(crate) struct Guard(Arc<Inner>);

struct Inner {
    parts: GuardParts,
    per_pod: Buckets,
    total: Buckets,
    last_read: tokio::sync::Mutex<Option<Instant>>,
}

/// A body and its type.
struct Found {
    status: StatusCode,
    kind: HeaderValue,
    body: Bytes,
    ttl: Option<u32>,
}

/// A failure that the decision could not foresee.
pub(super) struct Failed {
    status: u16,
    code: &'static str,
    message: &'static str,
    pub(super) reason: &'static str,
}

impl Guard {
    pub(crate) fn new(parts: GuardParts) -> Self {
        Self(Arc::new(Inner {
            per_pod: Buckets::new(parts.per_pod),
            total: Buckets::new(parts.node_rate),
            last_read: tokio::sync::Mutex::default(),
            parts,
        }))
    }
}

impl Handler for Guard {
    async fn handle(&self, caller: Caller, request: http::Request<Incoming>) -> Answer {
        let inner = &*self.0;
        let started = Instant::now();
        let (head, _) = request.into_parts();
        let method = head.method.clone();
        let (class, outcome) = inner
            .answer(caller, &head.method, head.uri.path(), &head.headers)
            .await;
        let (decision, mut answer) = match outcome {
            Ok(found) => ("answered", found.into_answer()),
            Err(failed) => {
                inner.parts.metrics.guard.blocked(failed.reason);
                (failed.reason, failed.into_answer())
            }
        };
        if method == Method::HEAD {
            let length = answer.body().clone();
            let length = http_body::Body::size_hint(&length).exact().unwrap_or(0);
            answer
                .headers_mut()
                .insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
            *answer.body_mut() = Full::default();
        }
        // A probe in a pod must not take these answers for the node's.
        let mode = HeaderValue::from_static(inner.parts.settings.mode.as_str());
        answer.headers_mut().insert(GUARD, mode);
        inner
            .parts
            .metrics
            .guard
            .answered(class, decision, started.elapsed());
        answer
    }
}

impl Inner {
    async fn answer(
        &self,
        caller: Caller,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> (&'static str, Result<Found, Failed>) {
        let now = Instant::now();
        let of_host = self.of_host(caller).await;
        // Before anything else is looked at: an address that nobody has costs no more than one that a pod has.
        let within = match &of_host {
            Some(uid) => self.per_pod.take(uid, now),
            None => self.per_pod.take((caller.address, caller.local), now),
        };
        if !within {
            return ("other", Err(OVER_POD));
        }
        if !self.total.take((), now) {
            return ("other", Err(OVER_NODE));
        }
        let audit = self.parts.settings.mode == Mode::Audit;
        let text = |name: &HeaderName| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap_or("\0"))
        };
        let request = |session| Request {
            method: method.as_str(),
            path,
            host: text(&HOST),
            forwarded: headers.contains_key(FORWARDED),
            ttl: text(&TTL),
            session,
        };
        // What is refused whoever asks is refused without looking for the pod.
        let first = decide(&request(Session::Valid), &self.parts.settings);
        let class = first.class.label();
        if let Decision::Refuse(refusal) = first.decision
            && matches!(
                refusal,
                Refusal::Method
                    | Refusal::Path(_)
                    | Refusal::Host
                    | Refusal::Forwarded
                    | Refusal::DatedToken
                    | Refusal::Ttl
            )
        {
            return (class, Err(refusal.into()));
        }
        let pod = match of_host {
            Some(uid) => self.host_pod(&uid).await.ok_or(NO_POD),
            None if caller.local => Err(NO_POD),
            None => self.pod_behind(caller.address).await,
        };
        let pod = match pod {
            Ok(pod) => pod,
            Err(_) if audit && !caller.local => return self.audit(None, &first, headers).await,
            Err(failed) => return (class, Err(failed)),
        };
        let clock = self.parts.clock.now();
        let session = match text(&TOKEN) {
            None => Session::Absent,
            Some(token) => match self.parts.sessions.verify(token, &pod.uid, clock) {
                Ok(()) => Session::Valid,
                Err(_) => Session::Invalid,
            },
        };
        let decided = decide(&request(session), &self.parts.settings);
        if audit {
            return self.audit(Some(&pod), &decided, headers).await;
        }
        (class, self.carry_out(&pod, decided).await)
    }

    /// What was decided for a known pod, in `block` and `serve`.
    async fn carry_out(&self, pod: &Arc<Pod>, decided: Decided) -> Result<Found, Failed> {
        match decided.decision {
            Decision::Token { seconds } => self.token(&pod.uid, seconds),
            Decision::Index => {
                let roles = self.parts.roles.is_some();
                Ok(Found::text(
                    self.parts.settings.harmless.index(roles).into(),
                ))
            }
            Decision::Harmless(harmless) => match self.parts.node.value(&harmless).await {
                Ok(body) => Ok(Found::text(body)),
                Err(NodeFailure::NotFound) => Err(Refusal::NotFound.into()),
                Err(NodeFailure::Unavailable) => Err(NO_NODE),
            },
            Decision::Role(asked) => self.role(pod, &asked).await,
            Decision::PassOn { .. } => Err(Refusal::NotFound.into()),
            Decision::Refuse(refusal) => {
                if matches!(refusal, Refusal::Credentials | Refusal::Secret) {
                    let secret = refusal == Refusal::Secret;
                    let now = self.parts.clock.now();
                    self.parts.blocked.count(Some(pod), secret, false, now);
                    self.parts.events.report(pod, PodEvent::NodeRoleBlocked);
                }
                Err(refusal.into())
            }
        }
    }

    fn token(&self, uid: &str, seconds: u32) -> Result<Found, Failed> {
        let end = self.parts.clock.now() + SignedDuration::from_secs(seconds.into());
        let token = self.parts.sessions.issue(uid, end).map_err(|_| OWN_FAULT)?;
        Ok(Found {
            ttl: Some(seconds),
            ..Found::text(token.into())
        })
    }

    async fn role(&self, pod: &Arc<Pod>, asked: &CredentialsPath) -> Result<Found, Failed> {
        let roles = self.parts.roles.as_ref().ok_or(OWN_FAULT)?;
        let credentials: PodCredentials = match roles.get(pod).await {
            Ok(credentials) => credentials,
            Err(NoRole::None) => return Err(Refusal::NotFound.into()),
            Err(NoRole::Forbidden) => {
                self.parts.events.report(pod, PodEvent::RoleForbidden);
                return Err(FORBIDDEN);
            }
            Err(NoRole::NotAllowed) => {
                self.parts.events.report(pod, PodEvent::RoleNotAllowed);
                return Err(NOT_ALLOWED);
            }
            Err(NoRole::Unavailable) => {
                self.parts.events.report(pod, PodEvent::CredentialError);
                return Err(UNAVAILABLE);
            }
        };
        match asked {
            CredentialsPath::List => {
                let name = Bytes::copy_from_slice(credentials.name().as_bytes());
                Ok(Found::text(name))
            }
            CredentialsPath::Info => Ok(Found::json(credentials.info())),
            CredentialsPath::Role(asked) if credentials.is(asked) => {
                credentials.body().map(Found::json).ok_or(OWN_FAULT)
            }
            CredentialsPath::Role(_) => {
                let now = self.parts.clock.now();
                self.parts.blocked.count(Some(pod), false, false, now);
                Err(match self.parts.compat {
                    Some(Predecessor::Kube2iam) => OTHER_ROLE_OF_KUBE2IAM,
                    _ => OTHER_ROLE,
                })
            }
        }
    }

    /// `audit`: counts who depends on the node's role, and hands the request on.
    async fn audit(
        &self,
        pod: Option<&Arc<Pod>>,
        decided: &Decided,
        headers: &HeaderMap,
    ) -> (&'static str, Result<Found, Failed>) {
        let class = decided.class.label();
        let outcome = match &decided.decision {
            // Tokens of unknown callers count for nobody, which `audit` does not look at.
            Decision::Token { seconds } => self.token(pod.map_or("", |pod| &*pod.uid), *seconds),
            Decision::Harmless(harmless) => match self.parts.node.value(harmless).await {
                Ok(body) => Ok(Found::text(body)),
                Err(NodeFailure::NotFound) => Err(Refusal::NotFound.into()),
                Err(NodeFailure::Unavailable) => Err(NO_NODE),
            },
            Decision::PassOn { path } => {
                if matches!(class, "credentials" | "secret") {
                    let now = self.parts.clock.now();
                    let pod_of = pod.map(|pod| &**pod);
                    self.parts
                        .blocked
                        .count(pod_of, class == "secret", true, now);
                    if let Some(pod) = pod {
                        self.parts.events.report(pod, PodEvent::NodeRoleUsed);
                    }
                    tracing::info!(
                        namespace = pod.map(|pod| &*pod.namespace),
                        pod = pod.map(|pod| &*pod.name),
                        class,
                        version = if headers.contains_key(TOKEN) { 2 } else { 1 },
                        "a pod uses the node's metadata"
                    );
                }
                match self.parts.node.get(path).await {
                    Some(answer) => Ok(Found {
                        status: answer.status,
                        kind: answer.content_type.unwrap_or(TEXT),
                        body: answer.body,
                        ttl: None,
                    }),
                    None => Err(NO_NODE),
                }
            }
            Decision::Refuse(refusal) => Err((*refusal).into()),
            Decision::Index | Decision::Role(_) => Err(OWN_FAULT),
        };
        (class, outcome)
    }

    /// The uid of the pod on the host's network that calls, when connections of such pods are redirected.
    async fn of_host(&self, caller: Caller) -> Option<Box<str>> {
        let hosts = self
            .parts
            .hosts
            .as_ref()
            .filter(|hosts| hosts.redirects())?;
        let now = self.parts.clock.now();
        let of_pod = self.parts.pods.as_ref().is_some_and(|pods| {
            let table = pods.borrow();
            let at = table.as_deref().map(|table| table.at(caller.address, now));
            !matches!(at, None | Some(PodAt::Nobody))
        });
        if of_pod {
            return None;
        }
        hosts.caller(caller).await
    }

    /// The pod on the host's network with this uid. Waits for the watch to catch up.
    async fn host_pod(&self, uid: &str) -> Option<Arc<Pod>> {
        let mut pods = self.parts.pods.clone()?;
        let find = |table: &Option<Arc<PodTable>>| {
            let pod = table.as_ref()?.pod(uid)?;
            (pod.host_network && !pod.terminated).then(|| Arc::clone(pod))
        };
        let known = pods.wait_for(|table| find(table).is_some());
        let known = tokio::time::timeout(CATCH_UP, known).await.ok()?.ok()?;
        find(&known)
    }

    /// The one pod that has the address, and is behind a route of its own where that is asked for.
    async fn pod_behind(&self, address: IpAddr) -> Result<Arc<Pod>, Failed> {
        let pod = self.caller(address).await.ok_or(NO_POD)?;
        let Some(routes) = &self.parts.routes else {
            return Ok(pod);
        };
        match routes.to(address).await {
            Ok(Some(route)) if is_for_exactly(&route, address) => Ok(pod),
            Ok(_) => Err(NO_ROUTE),
            Err(error) => {
                tracing::warn!(%address, error = &error as &dyn std::error::Error, "the route to a pod cannot be read; it is refused");
                Err(NO_ROUTE)
            }
        }
    }

    /// The one pod that has the address. Waits for the watch to catch up, and asks the API once meanwhile.
    async fn caller(&self, address: IpAddr) -> Option<Arc<Pod>> {
        let pods = self.parts.pods.as_ref()?;
        let at = |table: Option<&PodTable>| {
            table.map_or(PodAt::Nobody, |table| {
                table.at(address, self.parts.clock.now())
            })
        };
        if let PodAt::One(pod) = at(pods.borrow().as_deref()) {
            return Some(pod);
        }
        let until = Instant::now() + CATCH_UP;
        let mut watched = pods.clone();
        let by_watch = async {
            let caught_up = watched.wait_for(|table| matches!(at(table.as_deref()), PodAt::One(_)));
            let waited = tokio::time::timeout_at(until, caught_up).await;
            // Nobody keeps the table any more: time goes by, but nothing changes.
            let is_lost = waited.is_ok_and(|seen| seen.is_err());
            if is_lost {
                tokio::time::sleep_until(until).await;
            }
        };
        let by_read = async {
            tokio::time::sleep(READ_AFTER).await;
            match self.read().await {
                Some(table) => match at(Some(&table)) {
                    PodAt::One(pod) => Some(pod),
                    PodAt::Nobody | PodAt::Several => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            () = by_watch => None,
            pod = by_read => pod,
        };
        if read.is_some() {
            return read;
        }
        let last = at(pods.borrow().as_deref());
        match last {
            PodAt::One(pod) => Some(pod),
            PodAt::Several => {
                self.parts.metrics.guard.ambiguous();
                None
            }
            PodAt::Nobody => None,
        }
    }

    /// One read of the API at a time, and not one for each request.
    async fn read(&self) -> Option<PodTable> {
        let api = self.parts.api.as_ref()?;
        let mut last = self.last_read.lock().await;
        if let Some(last) = *last {
            tokio::time::sleep_until(last + READ_EVERY).await;
        }
        *last = Some(Instant::now());
        match tokio::time::timeout(CATCH_UP, api.pods()).await {
            Ok(Ok(table)) => Some(table),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the pods of this node could not be read");
                None
            }
            Err(_) => None,
        }
    }
}

impl Found {
    fn text(body: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            kind: TEXT,
            body,
            ttl: None,
        }
    }

    fn json(body: Bytes) -> Self {
        Self {
            kind: JSON,
            ..Self::text(body)
        }
    }

    fn into_answer(self) -> Answer {
        let mut answer = base(self.status, self.kind, self.body);
        if let Some(seconds) = self.ttl {
            answer.headers_mut().insert(TTL, HeaderValue::from(seconds));
        }
        answer
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: refusal.status(),
            code: refusal.code(),
            message: refusal.message(),
            reason: refusal.reason(),
        }
    }
}

impl Failed {
    pub(super) fn into_answer(self) -> Answer {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = base(status, JSON, error_body(self.code, self.message).into());
        let headers = answer.headers_mut();
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, PUT"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

fn base(status: StatusCode, kind: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(SERVER, HeaderValue::from_static("EC2ws"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

const OVER_POD: Failed = Failed {
    status: 503,
    code: "ServiceUnavailable",
    message: "too many requests of this pod; try again in a second",
    reason: "limit_pod",
};
const OVER_NODE: Failed = Failed {
    status: 503,
    code: "ServiceUnavailable",
    message: "too many requests on this node; try again in a second",
    reason: "limit_node",
};
const NO_POD: Failed = Failed {
    status: 404,
    code: "NotFound",
    message: "the address of the caller is not the address of one running pod of this node",
    reason: "unknown_pod",
};
/// `--verify-interface`: the node sends answers elsewhere than the request came from.
pub(super) const WRONG_INTERFACE: Failed = Failed {
    status: 404,
    code: "NotFound",
    message: "the request did not come in by the interface that the node's route to its source leads to",
    reason: "wrong_interface",
};
const NO_ROUTE: Failed = Failed {
    status: 404,
    code: "NotFound",
    message: "the node has no route to exactly the address of the caller, so it cannot tell who is behind it",
    reason: "no_route",
};
const NO_NODE: Failed = Failed {
    status: 503,
    code: "ServiceUnavailable",
    message: "the node's metadata service does not answer",
    reason: "node_unavailable",
};
const OTHER_ROLE: Failed = Failed {
    status: 404,
    code: "NotFound",
    message: "this is not the role of the pod",
    reason: "other_role",
};
/// kube2iam's answer to the same.
const OTHER_ROLE_OF_KUBE2IAM: Failed = Failed {
    status: 403,
    code: "Forbidden",
    ..OTHER_ROLE
};
const NOT_ALLOWED: Failed = Failed {
    status: 404,
    code: "NotFound",
    message: "the namespace of the pod does not allow the role that its annotation names",
    reason: "role_not_allowed",
};
const FORBIDDEN: Failed = Failed {
    status: 500,
    code: "AssumeRoleUnauthorizedAccess",
    message: "the pod's role may not be assumed; look at its trust policy",
    reason: "role_forbidden",
};
const UNAVAILABLE: Failed = Failed {
    status: 503,
    code: "ServiceUnavailable",
    message: "the pod's credentials cannot be had at the moment",
    reason: "unavailable",
};
const OWN_FAULT: Failed = Failed {
    status: 500,
    code: "InternalError",
    message: "the guard could not answer",
    reason: "internal",
};

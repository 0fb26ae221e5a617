//! Liveness and readiness from what the agent knows about itself (agent spec, section 10).
//!
//! Liveness: every address that is listened on has accepted a connection of the agent's own within the last 30 s, and link
//! and addresses are there. Readiness: besides, the auth service has answered once since the start. That it is down later
//! makes nobody restart the agent, which would lose the cache.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cache::{Cache, PodUse};
use crate::listen::{Answer, Handler};
use crate::metrics::Metrics;
use crate::pods::Caller;

/// Time between two connections of our own to each address.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// Without a successful one for this long an address counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// Time for one.
const CHECK_TIME: Duration = Duration::from_secs(5);
/// Time between two attempts to reach the auth service before it has answered.
const REACH_EVERY: Duration = Duration::from_secs(5);

/// The state of one thing that health depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Fine,
    /// Worth knowing, and no reason to be restarted: an address that is not required is not bound.
    Warning,
    Failed,
}

/// What the parts of the agent report about themselves.
#[derive(Debug, Default)]
pub(crate) struct Health {
    parts: Mutex<BTreeMap<String, (State, String)>>,
    accepted: Mutex<BTreeMap<SocketAddr, Instant>>,
}

impl Health {
    pub(crate) fn report(&self, part: impl Into<String>, state: State, detail: impl Into<String>) {
        lock(&self.parts).insert(part.into(), (state, detail.into()));
    }

    /// The address is listened on from now on.
    pub(crate) fn bound(&self, address: SocketAddr) {
        lock(&self.accepted).insert(address, Instant::now());
    }

    /// All checks, in the form of Kubernetes' own endpoints, and whether none failed.
    fn render(&self, answered: Option<bool>, verbose: bool) -> (bool, String) {
        let mut checks: Vec<(String, State, String)> = lock(&self.parts)
            .iter()
            .map(|(name, (state, detail))| (name.clone(), *state, detail.clone()))
            .collect();
        {
            let accepted = lock(&self.accepted);
            if accepted.is_empty() {
                let detail = "no address is listened on";
                checks.push(("listeners".into(), State::Failed, detail.into()));
            }
            for (address, at) in accepted.iter() {
                let (state, detail) = if at.elapsed() <= DEAD_AFTER {
                    (State::Fine, "")
                } else {
                    (State::Failed, "it accepts no connections")
                };
                checks.push((format!("listener {address}"), state, detail.into()));
            }
        }
        if let Some(answered) = answered {
            let (state, detail) = if answered {
                (State::Fine, "")
            } else {
                (State::Failed, "it has not been reached since the start")
            };
            checks.push(("auth service".into(), state, detail.into()));
        }
        let fine = checks.iter().all(|(_, state, _)| *state != State::Failed);
        if fine && !verbose {
            return (true, "ok".into());
        }
        let mut text = String::new();
        for (name, state, detail) in checks {
            let (sign, word) = match state {
                State::Fine => ('+', "ok"),
                State::Warning => ('!', "warning"),
                State::Failed => ('-', "failed"),
            };
            let colon = if detail.is_empty() { "" } else { ": " };
            let detail = detail.replace(['\n', '\r'], " ");
            text.push_str(&format!("[{sign}]{name} {word}{colon}{detail}\n"));
        }
        (fine, text)
    }

    /// Connects to each address that is listened on, as a pod would, until `stop` becomes true.
    pub(crate) async fn check_listeners(
        self: Arc<Self>,
        metrics: Arc<Metrics>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut tick = tokio::time::interval(CHECK_EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let addresses: Vec<SocketAddr> = lock(&self.accepted).keys().copied().collect();
            for address in addresses {
                let up = tokio::time::timeout(CHECK_TIME, accepts(address))
                    .await
                    .unwrap_or(false);
                metrics.bind_up(address.ip(), up);
                if up && let Some(at) = lock(&self.accepted).get_mut(&address) {
                    *at = Instant::now();
                }
            }
        }
    }
}

/// A request of ours for a path that does not exist: the listener answers without any limit or call.
async fn accepts(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return false;
    };
    let request = b"HEAD / HTTP/1.1\r\nHost: self\r\nConnection: close\r\n\r\n";
    let mut status = [0; 12];
    stream.write_all(request).await.is_ok()
        && stream.read_exact(&mut status).await.is_ok()
        && status == *b"HTTP/1.1 404"
}

/// Tries to reach the auth service until it has answered, or `stop` becomes true.
pub(crate) async fn reach(cache: Arc<Cache>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(REACH_EVERY);
    while !*cache.answered().borrow() {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if cache.is_reachable().await {
            cache.answered().send_replace(true);
        }
    }
}

/// `/healthz` and `/readyz`; on the probe port `/top`, on the metrics port `/metrics`.
#[derive(Clone)]
pub(crate) struct Probes {
    pub(crate) health: Arc<Health>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Option<Arc<Metrics>>,
}

impl Handler for Probes {
    async fn handle(&self, _: Caller, request: Request<Incoming>) -> Answer {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "read this with GET\n".into(),
            );
        }
        let verbose = request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
        let report = |answered| {
            let (fine, body) = self.health.render(answered, verbose);
            let status = if fine {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            text(status, body)
        };
        match (request.uri().path(), &self.metrics) {
            ("/healthz", _) => report(None),
            ("/readyz", _) => report(Some(*self.cache.answered().borrow())),
            ("/metrics", Some(metrics)) => {
                let mut answer = text(StatusCode::OK, metrics.render());
                let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                answer
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(open_metrics));
                answer
            }
            // Names of pods: for the node itself only, so not beside the metrics.
            ("/top", None) => {
                let mut answer = text(StatusCode::OK, top(self.cache.uses()));
                let json = HeaderValue::from_static("application/json");
                answer.headers_mut().insert(CONTENT_TYPE, json);
                answer
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "there is nothing at this path\n".into(),
            ),
        }
    }
}

/// The uses of credentials as a JSON array, those read most often in front.
fn top(mut uses: Vec<PodUse>) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Row<'a> {
        namespace: &'a str,
        pod: &'a str,
        pod_uid: &'a str,
        service_account: &'a str,
        association_id: &'a str,
        fetched_at: Timestamp,
        expires_at: Timestamp,
        reads: u64,
    }
    uses.sort_by_key(|used| std::cmp::Reverse(used.reads));
    let rows: Vec<Row<'_>> = uses
        .iter()
        .map(|used| Row {
            namespace: &used.identity.namespace,
            pod: &used.identity.pod,
            pod_uid: &used.identity.pod_uid,
            service_account: &used.identity.service_account,
            association_id: &used.association_id,
            fetched_at: used.fetched_at,
            expires_at: used.expires_at,
            reads: used.reads,
        })
        .collect();
    serde_json::to_string(&rows).unwrap_or_default()
}

fn text(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer
}

/// A panic while a state is noted cannot leave half of one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

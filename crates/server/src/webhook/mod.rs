//! The TokenReview webhook: who is calling.
//!
//! `/authenticate` asks the default cluster, `/clusters/NAME/authenticate` the named one. The listener also serves
//! `/metrics`, `/healthz`, `/livez` and `/readyz`.

pub mod authenticate;
pub mod denial;
pub mod event;
pub mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;

use countersign_upstream::sts::{Flush, StsVerifier};

use crate::aws::query::Parameters;
use crate::events::Events;
use crate::health::Report;
use crate::listen::{Answer, BodyError, Handler, Peer, read_body};
use crate::metrics::{Metrics, ReviewResult};
use authenticate::{ClusterAuthenticator, Review};
use event::{DecisionEvent, GarbageLimit};
use wire::{MalformedReview, ReviewVersion, Verdict};

/// The clusters that are served, by name.
#[derive(Debug, Default)]
pub struct Clusters {
    by_name: HashMap<String, Arc<ClusterAuthenticator>>,
    default: Option<Arc<ClusterAuthenticator>>,
}

impl Clusters {
    /// The clusters; the first is the one behind `/authenticate`.
    #[must_use]
    pub fn new(clusters: Vec<Arc<ClusterAuthenticator>>) -> Self {
        let default = clusters.first().cloned();
        let by_name = clusters
            .into_iter()
            .map(|cluster| (cluster.name().to_owned(), cluster))
            .collect();
        Self { by_name, default }
    }

    /// All clusters in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ClusterAuthenticator>> {
        let mut clusters: Vec<_> = self.by_name.values().collect();
        clusters.sort_by_key(|cluster| cluster.name());
        clusters.into_iter()
    }
}

/// What readiness is made of; asked at each request for it.
pub type Readiness = Arc<dyn Fn() -> Report + Send + Sync>;

/// The webhook listener's handler.
#[derive(Clone)]
pub struct Webhook {
    clusters: Arc<ArcSwap<Clusters>>,
    metrics: Arc<Metrics>,
    events: Events,
    garbage: Arc<GarbageLimit>,
    readiness: Readiness,
    upstream: Option<StsVerifier>,
}

impl Webhook {
    /// A handler over the clusters.
    #[must_use]
    pub fn new(
        clusters: Arc<ArcSwap<Clusters>>,
        metrics: Arc<Metrics>,
        events: Events,
        readiness: Readiness,
        upstream: Option<StsVerifier>,
    ) -> Self {
        Self {
            clusters,
            metrics,
            events,
            garbage: Arc::default(),
            readiness,
            upstream,
        }
    }

    /// `POST /admin/flush`, with `access-key` or `principal` to drop single identities: forgets what STS answered, so that the
    /// next review asks again. For callers on this machine only; all it can cost is calls to STS.
    fn flush(&self, peer: Peer, request: &Request<Incoming>) -> Answer {
        if !peer.address.ip().to_canonical().is_loopback() {
            return plain(StatusCode::FORBIDDEN, "only from this machine");
        }
        let Some(sts) = &self.upstream else {
            return plain(StatusCode::OK, "0");
        };
        let Ok(parameters) = Parameters::parse(request.uri().query().unwrap_or_default(), b"")
        else {
            return plain(StatusCode::BAD_REQUEST, "the query cannot be read");
        };
        let which = match (parameters.get("access-key"), parameters.get("principal")) {
            (Some(key), None) => Flush::AccessKey(key),
            (None, Some(arn)) => Flush::Principal(arn),
            (None, None) => Flush::All,
            (Some(_), Some(_)) => {
                return plain(
                    StatusCode::BAD_REQUEST,
                    "give access-key or principal, not both",
                );
            }
        };
        let dropped = sts.flush(which);
        tracing::info!(dropped, "identity cache flushed");
        plain(StatusCode::OK, &dropped.to_string())
    }

    async fn authenticate(
        &self,
        cluster: &ClusterAuthenticator,
        peer: Peer,
        request: Request<Incoming>,
    ) -> Answer {
        let start = Instant::now();
        if request.method() != Method::POST {
            self.metrics
                .review(ReviewResult::MalformedRequest, start.elapsed());
            return plain(StatusCode::METHOD_NOT_ALLOWED, "expected POST");
        }
        let body = match read_body(request.into_body(), wire::MAX_BODY).await {
            Ok(body) => body,
            Err(error) => {
                self.metrics
                    .review(ReviewResult::MalformedRequest, start.elapsed());
                let status = match error {
                    BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                    BodyError::Broken => StatusCode::BAD_REQUEST,
                };
                return plain(status, &error.to_string());
            }
        };
        let request = match wire::parse(&body) {
            Ok(request) => request,
            Err(error @ (MalformedReview::Empty | MalformedReview::NotATokenReview)) => {
                self.metrics
                    .review(ReviewResult::MalformedRequest, start.elapsed());
                return plain(StatusCode::BAD_REQUEST, &error.to_string());
            }
        };
        let now = Timestamp::now();
        let review = cluster.review(&request.token, now).await;
        let took = start.elapsed();
        self.count(&review, now, took);
        if self.events.enabled() && self.garbage.admits(&review, now) {
            self.events.send(
                DecisionEvent::new(cluster, &review, request.version, peer, now, took).to_json(),
            );
        }
        self.respond(cluster, request.version, &review)
    }

    fn count(&self, review: &Review, now: Timestamp, took: std::time::Duration) {
        match &review.outcome {
            Ok(_) => {
                self.metrics.review(ReviewResult::Success, took);
                if let Some(signed_at) = review.signed_at {
                    self.metrics
                        .token_age(now.duration_since(signed_at).as_secs_f64().max(0.0));
                }
            }
            Err(denial) => {
                self.metrics.review(denial.result(), took);
                self.metrics.denial(denial.label);
            }
        }
    }

    fn respond(
        &self,
        cluster: &ClusterAuthenticator,
        version: ReviewVersion,
        review: &Review,
    ) -> Answer {
        match &review.outcome {
            Ok(accepted) => json(
                StatusCode::OK,
                wire::render(version, &Verdict::Authenticated(accepted.user())),
            ),
            Err(denial) => {
                let form = denial.answer(cluster.deny_mode(), cluster.upstream_failure_status());
                let status = StatusCode::from_u16(form.status).unwrap_or(StatusCode::FORBIDDEN);
                let error = form.with_error.then_some(denial.text.as_str());
                json(status, wire::render(version, &Verdict::Denied { error }))
            }
        }
    }
}

impl Handler for Webhook {
    async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if path == "/authenticate" {
            return match self.clusters.load().default.clone() {
                Some(cluster) => self.authenticate(&cluster, peer, request).await,
                None => plain(StatusCode::NOT_FOUND, "no such cluster"),
            };
        }
        if let Some(name) = path
            .strip_prefix("/clusters/")
            .and_then(|rest| rest.strip_suffix("/authenticate"))
        {
            let cluster = self.clusters.load().by_name.get(name).cloned();
            return match cluster {
                Some(cluster) => self.authenticate(&cluster, peer, request).await,
                None => plain(StatusCode::NOT_FOUND, "no such cluster"),
            };
        }
        if path == "/admin/flush" && request.method() == Method::POST {
            return self.flush(peer, &request);
        }
        health_and_metrics(&request, &self.metrics, &self.readiness)
            .unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "404 page not found"))
    }
}

/// Answers the paths every listener has, if `request` asks for one of them.
pub(crate) fn health_and_metrics(
    request: &Request<Incoming>,
    metrics: &Metrics,
    readiness: &Readiness,
) -> Option<Answer> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    match request.uri().path() {
        "/healthz" | "/livez" => Some(plain(StatusCode::OK, "ok")),
        "/readyz" => {
            let verbose = request.uri().query().is_some_and(|query| {
                query
                    .split('&')
                    .any(|pair| pair == "verbose" || pair.starts_with("verbose="))
            });
            let report = readiness();
            let status = if report.is_ready() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            Some(plain(status, &report.render(verbose)))
        }
        "/metrics" => {
            let mut answer = plain(StatusCode::OK, &metrics.render());
            answer.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static(
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                ),
            );
            Some(answer)
        }
        _ => None,
    }
}

pub(crate) fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=UTF-8"),
    );
    answer
}

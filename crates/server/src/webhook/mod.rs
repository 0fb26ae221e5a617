//! The webhooks of kube-apiserver: who is calling (TokenReview), what access policies allow (SubjectAccessReview), and which
//! credentials a pod gets (AdmissionReview).
//!
//! `/authenticate`, `/authorize` and `/mutate` ask the default cluster, `/clusters/NAME/…` the one of this name or id: a configured one, or
//! one of the EKS API, which needs no restart. The listener also serves `/metrics`, `/healthz`, `/livez` and `/readyz`.

pub mod admission;
pub mod authenticate;
pub mod authorize;
mod clusters;
pub mod denial;
pub mod entries;
pub mod event;
pub mod mutate;
mod people;
mod rules;
pub mod wire;

pub use clusters::{Clusters, RegisteredClusters};

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;

use countersign_rbac::review::MAX_REVIEW_BYTES;
use countersign_store::ClusterNameError;
use countersign_upstream::sts::{Flush, StsVerifier};

use crate::aws::query::Parameters;
use crate::events::Events;
use crate::health::Report;
use crate::listen::{Answer, BodyError, Handler, Peer, read_body};
use crate::metrics::{AuthorizeResult, Metrics, ReviewResult};
use authenticate::{ClusterAuthenticator, Review};
use authorize::{Authorizer, Ruling};
use entries::Registered;
use event::{AuthorizeEvent, DecisionEvent, GarbageLimit};
use wire::{MalformedReview, ReviewVersion, Verdict};

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
    authorizer: Arc<Authorizer>,
    admission: Option<Arc<mutate::Admission>>,
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
        authorizer: Arc<Authorizer>,
    ) -> Self {
        Self {
            clusters,
            metrics,
            events,
            garbage: Arc::default(),
            readiness,
            upstream,
            authorizer,
            admission: None,
        }
    }

    /// Also answers AdmissionReviews.
    #[must_use]
    pub fn with_admission(mut self, admission: Option<Arc<mutate::Admission>>) -> Self {
        self.admission = admission;
        self
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

    /// Always 200 for a review that can be read: a status of failure would make kube-apiserver wait and try again, and then
    /// answer 500 where RBAC might have allowed.
    async fn authorize(&self, cluster: Asked, peer: Peer, request: Request<Incoming>) -> Answer {
        let start = Instant::now();
        let malformed = |status, text: &str| {
            self.metrics
                .authorized(AuthorizeResult::MalformedRequest, start.elapsed());
            plain(status, text)
        };
        if request.method() != Method::POST {
            return malformed(StatusCode::METHOD_NOT_ALLOWED, "expected POST");
        }
        let body = match read_body(request.into_body(), MAX_REVIEW_BYTES).await {
            Ok(body) => body,
            Err(error @ BodyError::TooLarge) => {
                return malformed(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string());
            }
            Err(error @ BodyError::Broken) => {
                return malformed(StatusCode::BAD_REQUEST, &error.to_string());
            }
        };
        let review = match authorize::parse(&body) {
            Ok(review) => review,
            Err(error) => return malformed(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let now = Timestamp::now();
        let ruling = match &cluster.registered {
            Ok(registered) => self.authorizer.decide(registered, &review, now),
            Err(unknown) => Ruling::undecided(unknown.clone()),
        };
        let took = start.elapsed();
        self.metrics.authorized(ruling.outcome, took);
        // Who is no principal of IAM is none of our business, and there are many of them.
        if self.events.enabled() && ruling.is_worth_an_event() {
            self.events.send(
                AuthorizeEvent::new(&cluster.name, &review, &ruling, peer, now, took).to_json(),
            );
        }
        json(StatusCode::OK, ruling.to_json(review.version))
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

/// The cluster that an access review is about.
struct Asked {
    name: String,
    /// Or why it is no cluster of the EKS API.
    registered: Result<Registered, String>,
}

impl Asked {
    fn new(name: &str, found: Result<Arc<ClusterAuthenticator>, ClusterNameError>) -> Self {
        match found {
            Ok(cluster) => Self {
                name: cluster.name().to_owned(),
                registered: cluster.registered().cloned().ok_or_else(|| {
                    format!(
                        "cluster `{}` is not registered with the EKS API of this server",
                        cluster.name()
                    )
                }),
            },
            Err(error) => {
                let name: String = name.chars().take(128).collect();
                Self {
                    registered: Err(format!("no such cluster: {error}")),
                    name,
                }
            }
        }
    }
}

/// What is asked about a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    WhoCalls,
    MayThey,
    WhichCredentials,
}

impl Question {
    /// The name of the cluster, none for the default one, and the question.
    fn of(path: &str) -> Option<(Option<&str>, Self)> {
        let (cluster, question) = match path.strip_prefix("/clusters/") {
            None => (None, path.strip_prefix('/')?),
            Some(rest) => {
                let (name, question) = rest.split_once('/')?;
                (Some(name), question)
            }
        };
        match question {
            "authenticate" => Some((cluster, Self::WhoCalls)),
            "authorize" => Some((cluster, Self::MayThey)),
            "mutate" => Some((cluster, Self::WhichCredentials)),
            _ => None,
        }
    }
}

impl Handler for Webhook {
    async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if let Some((cluster, question)) = Question::of(path) {
            if question == Question::WhichCredentials {
                let Some(admission) = &self.admission else {
                    return plain(StatusCode::NOT_FOUND, "pods are not mutated here");
                };
                let cluster = cluster.map(str::to_owned);
                return admission
                    .answer(cluster.as_deref(), peer, request, &self.events)
                    .await;
            }
            let clusters = self.clusters.load_full();
            let found = match cluster {
                None => clusters.default_cluster().ok_or(ClusterNameError::Unknown),
                Some(name) => clusters.find(name),
            };
            return match (question, found) {
                (Question::WhoCalls, Ok(cluster)) => {
                    self.authenticate(&cluster, peer, request).await
                }
                (Question::WhoCalls, Err(error)) => {
                    plain(StatusCode::NOT_FOUND, &format!("no such cluster: {error}"))
                }
                (Question::MayThey | Question::WhichCredentials, found) => {
                    let asked = Asked::new(cluster.unwrap_or_default(), found);
                    self.authorize(asked, peer, request).await
                }
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

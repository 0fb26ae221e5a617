//! The admission webhook: pods get what their AWS SDK needs to find credentials (webhook spec, sections 1, 4, 8.1 and 9).
//!
//! ```text
//!   body ── Review::parse ──► account ──► service account: watch, or one read of the API server
//!                                    ├──► association: directory snapshot, else the identities file
//!                                    └──► role map: ConfigMap
//!                                              │ Facts
//!                                              ▼
//!                                     pods::Webhook::decide ──► patch, warnings, audit annotation
//! ```
//!
//! A review is answered before the API server stops waiting: what is not known by then counts as not known, and the pod is let
//! in without credentials and with a warning, or refused, as `failureMode` says.

mod associations;
mod reconcile;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_pods::{
    AccountFact, AssociationFact, Facts, MAX_REVIEW_BYTES, Review, is_json, parse_duration,
};
use countersign_sources::files::Identities;
use countersign_sources::kubernetes::{AccountLookup, RoleMapWatch, ServiceAccounts};
use countersign_store::{ClusterNameError, Directory};
use http::{HeaderMap, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::entries::Registered;
use crate::events::Events;
use crate::health::{Report, State};
use crate::listen::{Answer, BodyError, Peer, read_body};
use crate::metrics::{MutateMetrics, Mutated};

pub use associations::{AssociationSource, FoundAssociation, StoredAssociations};
pub use reconcile::{Reconciler, ReconcilerOptions, Unmutated};

/// How long the API server waits when it does not say, seconds: the default of `timeoutSeconds`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// No registration may have a longer timeout.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);
/// What is left to the network of the time that the API server waits.
const MARGIN: Duration = Duration::from_secs(1);
/// How often an association that is expected is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// KiB of bodies that are held at once, whatever the number of connections.
const BODY_BUDGET_KIB: usize = 64 << 10;

/// Where the facts about the accounts of one cluster come from, and how its pods are decided.
pub struct ClusterMutator {
    /// Its name, for events and checks.
    pub name: String,
    /// The decision with its options.
    pub webhook: Arc<countersign_pods::Webhook>,
    /// Its service accounts; without them no annotation is known, and an account counts as not readable.
    pub accounts: Option<ServiceAccounts>,
    /// The ConfigMap with roles.
    pub role_map: Option<RoleMapWatch>,
    /// The identities file.
    pub identities: Option<Identities>,
    /// The associations.
    pub associations: Option<Arc<dyn AssociationSource>>,
    /// How long a pod waits whose account expects an association; zero is off.
    pub wait_for_association: Duration,
    /// What the last look through the pods found.
    pub unmutated: Option<tokio::sync::watch::Receiver<Unmutated>>,
}

/// The clusters of the EKS API that no configuration names: associations alone.
#[derive(Debug, Clone)]
pub struct RegisteredMutators {
    /// Where they are.
    pub directory: Directory,
    /// The decision with its options.
    pub webhook: Arc<countersign_pods::Webhook>,
}

/// Answers AdmissionReviews of all clusters.
#[derive(Debug)]
pub struct Admission {
    by_name: HashMap<String, Arc<ClusterMutator>>,
    default: Option<Arc<ClusterMutator>>,
    registered: Option<RegisteredMutators>,
    metrics: Arc<MutateMetrics>,
    bodies: Semaphore,
}

/// What is known about an account, owned for as long as the decision borrows from it.
pub(crate) struct Known {
    account: AccountLookup,
    association: Option<FoundAssociation>,
}

impl fmt::Debug for ClusterMutator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterMutator")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ClusterMutator {
    /// The association of an account: the store's, else the file's.
    fn association(&self, namespace: &str, name: &str) -> Option<FoundAssociation> {
        let stored = self.associations.as_ref();
        stored
            .and_then(|associations| associations.find(namespace, name))
            .or_else(|| {
                let identities = self.identities.as_ref()?.current();
                identities.find(namespace, name)?;
                Some(FoundAssociation::default())
            })
    }

    /// Everything about an account that is known by `deadline`.
    async fn look_up(&self, namespace: &str, name: &str, deadline: Instant) -> Known {
        let deadline = tokio::time::Instant::from_std(deadline);
        let account = match &self.accounts {
            None => AccountLookup::Unread,
            Some(accounts) => accounts.find(namespace, name, deadline).await,
        };
        let mut association = self.association(namespace, name);
        let expected = match &account {
            AccountLookup::Known(settings) => settings.expects_association,
            AccountLookup::Missing | AccountLookup::Unread => false,
        };
        if association.is_none() && expected && !self.wait_for_association.is_zero() {
            let until = deadline.min(tokio::time::Instant::now() + self.wait_for_association);
            while association.is_none() && tokio::time::Instant::now() < until {
                tokio::time::sleep(LOOK).await;
                association = self.association(namespace, name);
            }
        }
        Known {
            account,
            association,
        }
    }

    /// What is known without asking or waiting for anybody; nothing about an account that the watch has not told about.
    fn known(&self, namespace: &str, name: &str) -> Option<Known> {
        let account = match &self.accounts {
            None => AccountLookup::Unread,
            Some(accounts) => AccountLookup::Known(accounts.known(namespace, name)?),
        };
        Some(Known {
            account,
            association: self.association(namespace, name),
        })
    }

    /// Decides with what is known.
    fn decide<R>(
        &self,
        review: &Review<'_>,
        known: Option<&Known>,
        then: impl FnOnce(&countersign_pods::Decision<'_>) -> R,
    ) -> R {
        let role_map = self.role_map.as_ref().map(RoleMapWatch::current);
        let facts = match (known, review.account()) {
            (Some(known), Some(account)) => Facts {
                account: match &known.account {
                    AccountLookup::Known(settings) => AccountFact::Known(settings),
                    AccountLookup::Missing => AccountFact::Missing,
                    AccountLookup::Unread => AccountFact::Unread,
                },
                association: known.association.as_ref().map(|found| AssociationFact {
                    id: found.id.as_deref(),
                    pattern: None,
                }),
                role_map: role_map
                    .as_ref()
                    .and_then(|state| state.map.find(account.namespace, account.name)),
                random: random(),
            },
            _ => Facts::NOTHING,
        };
        then(&self.webhook.decide(review, &facts))
    }

    /// Adds the checks of this cluster. It is not ready before its first lists, since pods would come out without credentials.
    pub fn report(&self, report: &mut Report) {
        let name = format!("cluster {} pod-identity", self.name);
        let mut state = State::Ok;
        let mut detail = Vec::new();
        match self.accounts.as_ref().map(ServiceAccounts::health) {
            None => detail.push("associations alone, service accounts are not read".to_owned()),
            Some(health) => {
                detail.push(format!(
                    "{} service accounts, {} with settings",
                    health.accounts, health.annotated
                ));
                if let Some(problem) = health.failing {
                    state = State::Warning;
                    detail.push(problem);
                }
                if !health.listed {
                    state = State::Failed;
                    detail.push("not listed yet".to_owned());
                }
            }
        }
        if let Some(map) = &self.role_map {
            let map = map.current();
            detail.push(format!("role map of {} keys", map.map.len()));
            let problems = map.problem.iter().chain(&map.failing);
            for problem in problems {
                detail.push(problem.clone());
                if state == State::Ok {
                    state = State::Warning;
                }
            }
            if !map.listed {
                state = State::Failed;
                detail.push("role map not looked for yet".to_owned());
            }
        }
        if let Some(problem) = self.identities.as_ref().and_then(Identities::problem) {
            detail.push(problem);
            if state == State::Ok {
                state = State::Warning;
            }
        }
        if let Some(unmutated) = &self.unmutated {
            let found = unmutated.borrow();
            if found.pods > 0 {
                detail.push(format!("{} pods lack their credentials", found.pods));
            }
            if let Some(problem) = &found.problem {
                detail.push(format!("pods cannot be looked through: {problem}"));
            }
        }
        report.add(name, state, detail.join("; "));
    }
}

impl Admission {
    /// The clusters of the configuration, the first being the one behind `/mutate`, and those of the EKS API.
    #[must_use]
    pub fn new(
        clusters: Vec<Arc<ClusterMutator>>,
        registered: Option<RegisteredMutators>,
        metrics: Arc<MutateMetrics>,
    ) -> Self {
        Self {
            default: clusters.first().cloned(),
            by_name: clusters
                .into_iter()
                .map(|cluster| (cluster.name.clone(), cluster))
                .collect(),
            registered,
            metrics,
            bodies: Semaphore::new(BODY_BUDGET_KIB),
        }
    }

    /// The clusters of the configuration, in no order.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<ClusterMutator>> {
        self.by_name.values()
    }

    /// Adds the checks of the clusters and of the serving certificate.
    pub fn report(&self, report: &mut Report) {
        let mut clusters: Vec<_> = self.clusters().collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        for cluster in clusters {
            cluster.report(report);
        }
        let ends = self.metrics.certificate_ends_at();
        let left = ends.map(|ends| ends.saturating_sub(Timestamp::now().as_second()));
        if left.is_some_and(|left| left <= 60) {
            report.add(
                "certificate",
                State::Failed,
                "the serving certificate of the webhooks ends within a minute, or has ended",
            );
        }
    }

    /// The cluster behind `/mutate`.
    pub(super) fn default_cluster(&self) -> Option<&Arc<ClusterMutator>> {
        self.default.as_ref()
    }

    /// The cluster of this name or id, or the default one.
    fn find(&self, name: Option<&str>) -> Result<Arc<ClusterMutator>, ClusterNameError> {
        let Some(name) = name else {
            return self.default.clone().ok_or(ClusterNameError::Unknown);
        };
        if let Some(cluster) = self.by_name.get(name) {
            return Ok(Arc::clone(cluster));
        }
        let registered = self.registered.as_ref().ok_or(ClusterNameError::Unknown)?;
        let snapshot = registered.directory.feed().load();
        let cluster = match snapshot.cluster_by_id(name) {
            Some(cluster) => cluster,
            None => snapshot.cluster_named(name)?,
        };
        if cluster.record.deleting.is_some() {
            return Err(ClusterNameError::Unknown);
        }
        Ok(Arc::new(ClusterMutator {
            name: cluster.record.name.to_string(),
            webhook: Arc::clone(&registered.webhook),
            accounts: None,
            role_map: None,
            identities: None,
            associations: Some(Arc::new(StoredAssociations {
                directory: registered.directory.clone(),
                cluster: Registered::Id(cluster.record.id.clone()),
            })),
            wait_for_association: Duration::ZERO,
            unmutated: None,
        }))
    }

    /// Answers a request for `/mutate` or `/clusters/NAME/mutate`.
    pub(super) async fn answer(
        &self,
        cluster: Option<&str>,
        peer: Peer,
        request: http::Request<Incoming>,
        events: &Events,
    ) -> Answer {
        let start = Instant::now();
        let method = self.metrics.verb(request.method());
        let answered = match self.find(cluster) {
            Ok(cluster) => self.admit(&cluster, peer, request, events, start).await,
            Err(error) => Answered {
                answer: super::plain(StatusCode::NOT_FOUND, &format!("no such cluster: {error}")),
                decided: None,
            },
        };
        self.metrics.served(
            method,
            answered.answer.status().as_u16(),
            answered.decided.as_ref(),
            start.elapsed(),
        );
        answered.answer
    }

    async fn admit(
        &self,
        cluster: &ClusterMutator,
        peer: Peer,
        request: http::Request<Incoming>,
        events: &Events,
        start: Instant,
    ) -> Answered {
        if request.method() != http::Method::POST {
            return Answered::plain(StatusCode::METHOD_NOT_ALLOWED, "expected POST");
        }
        if !has_json(request.headers()) {
            return Answered::plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "expected Content-Type application/json",
            );
        }
        let deadline = start + time_for(request.uri().query());
        let body = request.into_body();
        let declared = body.size_hint().exact();
        let kib = declared.map_or(MAX_REVIEW_BYTES, |bytes| {
            usize::try_from(bytes).unwrap_or(MAX_REVIEW_BYTES)
        });
        let kib = u32::try_from(kib.min(MAX_REVIEW_BYTES) / 1024 + 1).unwrap_or(u32::MAX);
        let until = tokio::time::Instant::from_std(deadline);
        let Ok(Ok(_held)) = tokio::time::timeout_at(until, self.bodies.acquire_many(kib)).await
        else {
            return Answered::plain(StatusCode::SERVICE_UNAVAILABLE, "too many reviews at once");
        };
        let body = match read_body(body, MAX_REVIEW_BYTES).await {
            Ok(body) => body,
            Err(error) => {
                let status = match error {
                    BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                    BodyError::Broken => StatusCode::BAD_REQUEST,
                };
                return Answered::plain(status, &error.to_string());
            }
        };
        let review = match Review::parse(&body) {
            Ok(review) => review,
            Err(error) => return Answered::undecidable(error.answer()),
        };
        let known = match review.account() {
            None => None,
            Some(account) => Some(
                cluster
                    .look_up(account.namespace, account.name, deadline)
                    .await,
            ),
        };
        let is_unread = known
            .as_ref()
            .is_some_and(|known| known.account == AccountLookup::Unread);
        let is_missing = known
            .as_ref()
            .is_some_and(|known| known.account == AccountLookup::Missing);
        cluster.decide(&review, known.as_ref(), |decision| {
            let warnings = decision
                .notes
                .iter()
                .filter(|note| note.is_warning())
                .map(countersign_pods::Note::code)
                .collect();
            let answer = cluster.webhook.answer(&review, decision);
            let decided = Mutated {
                decision: answer.code,
                by_association: answer.code == "association",
                patched: decision.patch.is_some(),
                dry_run: review.is_dry_run(),
                unread: is_unread,
                missing: is_missing,
                warnings,
            };
            if let Some(account) = decision.account
                && events.enabled()
            {
                let event = MutateEvent {
                    event: "mutate",
                    time: Timestamp::now(),
                    cluster: &cluster.name,
                    uid: excerpt(review.uid()),
                    namespace: excerpt(account.namespace),
                    service_account: excerpt(account.name),
                    decision: answer.code,
                    outcome: decision.outcome.to_string().chars().take(256).collect(),
                    warnings: &decided.warnings,
                    dry_run: review.is_dry_run(),
                    peer: peer.address.to_string(),
                    micros: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
                };
                if let Ok(line) = serde_json::to_vec(&event) {
                    events.send(line);
                }
            }
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_REQUEST);
            Answered {
                answer: super::json(status, answer.body),
                decided: Some(decided),
            }
        })
    }
}

struct Answered {
    answer: Answer,
    /// Absent for requests that were none.
    decided: Option<Mutated>,
}

impl Answered {
    fn plain(status: StatusCode, text: &str) -> Self {
        Self {
            answer: super::plain(status, text),
            decided: None,
        }
    }

    fn undecidable(answer: countersign_pods::Answer) -> Self {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_REQUEST);
        Self {
            answer: super::json(status, answer.body),
            decided: Some(Mutated::error()),
        }
    }
}

/// What is told about a decision on a pod. The role and the patch are left out; the audit log of the API server has the latter.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MutateEvent<'a> {
    event: &'static str,
    time: Timestamp,
    cluster: &'a str,
    uid: String,
    namespace: String,
    service_account: String,
    decision: &'static str,
    outcome: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [&'static str],
    dry_run: bool,
    peer: String,
    micros: u64,
}

fn excerpt(text: &str) -> String {
    text.chars().take(253).collect()
}

fn has_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (Some(one), None) => one.to_str().is_ok_and(is_json),
        _ => false,
    }
}

/// How long a review may take: a second less than the API server waits, as `?timeout=` says, or half of it when it waits for less
/// than two.
fn time_for(query: Option<&str>) -> Duration {
    let pairs = query.unwrap_or_default().split('&');
    let mut given = pairs.filter_map(|pair| parse_duration(pair.strip_prefix("timeout=")?));
    let timeout = given.next().filter(|timeout| !timeout.is_zero());
    let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT);
    timeout.saturating_sub(MARGIN).max(timeout / 2)
}

/// For lifetimes that are drawn; nothing depends on it that is secret, but there is no reason to use anything else.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // A generator that fails gives the shortest lifetime.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_leaves_the_network_a_second() {
        let cases = [
            (None, 9_000),
            (Some("timeout=5s"), 4_000),
            (Some("a=b&timeout=10s"), 9_000),
            (Some("timeout=1s"), 500),
            (Some("timeout=1500ms"), 750),
            (Some("timeout=2s"), 1_000),
            (Some("timeout=0s"), 9_000),
            (Some("timeout=x"), 9_000),
            (Some("timeout=5h"), 29_000),
        ];
        for (query, expected) in cases {
            assert_eq!(
                time_for(query),
                Duration::from_millis(expected),
                "{query:?}"
            );
        }
    }
}

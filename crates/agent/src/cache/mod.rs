//! The credentials of the node's pods: fetched once for all who wait, kept, renewed before they end (agent spec, section 7.2).
//!
//! ```text
//!   accepted token ──▶ entry of its pod ──▶ answer                            no call, no parsing
//!   verified token ──▶ entry of its pod ──▶ answer                            kubelet rotated the token
//!   any other ───────▶ flight, joined by the same token ──▶ auth service ──▶ entry, answer
//! ```

mod book;
mod pod;
mod render;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use countersign_upstream::clock::Clock;
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use book::PodUse;
use book::{Book, Due, Fresh, Joined, Ticket, is_usable};
pub(crate) use book::{FlightKey, Held, Known, Now};
pub use pod::{CachedCredentials, PodCredentials};

use crate::auth::{AuthFailure, AuthService, Issued};
use crate::chance::Chance;
use crate::events::{Decision, DecisionLog, Outcome as Decided};
use crate::gate::{CallRate, Gate};
use crate::metrics::{CacheState, Metrics, Source};
use crate::pods::PodTable;
use crate::refusal::{FinalCode, Refusal};
use crate::token::{PodKey, TokenDigest, TokenFacts};

/// Everything that is done for one request, tries and pauses together (section 5): the second try of an SDK, which waits
/// 2 s each, still finds the answer.
const BUDGET: Duration = Duration::from_millis(4500);
/// Attempts within the budget.
const ATTEMPTS: u32 = 3;
/// The pause before another attempt: full jitter between these.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(400));

/// Time between two looks for what is over. Nothing depends on it but memory: what is over is not handed out either way.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Whose credentials a call of the auth service brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheScope {
    /// The pod's that asked.
    #[default]
    Pod,
    /// Also those of other pods of its service account on this node, where the association has session tags disabled. That is
    /// known from the associations, and until it is known, the pod's alone. A pod that is not among those of the node gets
    /// nothing of another one's.
    ServiceAccount,
}

/// How the cache behaves.
///
/// - `capacity`: 1000 entries, four times the most pods of a node; 0 keeps nothing.
/// - `retention`: 3 h, the longest time before a renewal (`--max-credential-retention-before-renewal`).
/// - `scope`: the pod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// Entries at once.
    pub capacity: usize,
    /// Credentials count as living at most this long when the time of their renewal is chosen.
    pub retention: Duration,
    /// Whose credentials a call brings.
    pub scope: CacheScope,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            capacity: 1000,
            retention: Duration::from_secs(3 * 60 * 60),
            scope: CacheScope::Pod,
        }
    }
}

/// How a flight ended, for everybody who waits for it.
pub(crate) type Outcome = Result<Bytes, Refusal>;

/// A token that is to be exchanged.
pub(crate) struct Wanted<'t> {
    pub(crate) text: &'t str,
    pub(crate) digest: TokenDigest,
    pub(crate) facts: TokenFacts,
    /// Whether the signature was verified here.
    pub(crate) verified: bool,
}

/// What a cache is made of.
pub(crate) struct CacheParts {
    pub(crate) auth: Arc<dyn AuthService>,
    pub(crate) rate: CallRate,
    pub(crate) settings: CacheSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<dyn DecisionLog>,
    pub(crate) pods: Option<watch::Receiver<Option<Arc<PodTable>>>>,
}

pub(crate) struct Cache {
    book: Mutex<Book>,
    gate: Gate,
    auth: Arc<dyn AuthService>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    metrics: Arc<Metrics>,
    events: Arc<dyn DecisionLog>,
    pods: Option<watch::Receiver<Option<Arc<PodTable>>>>,
    scope: CacheScope,
    /// Whether the auth service has answered a call since the start.
    answered: watch::Sender<bool>,
}

impl Cache {
    pub(crate) fn new(parts: CacheParts) -> Arc<Self> {
        Arc::new(Self {
            book: Mutex::new(Book::new(parts.settings, &*parts.chance)),
            gate: Gate::new(parts.rate),
            auth: parts.auth,
            clock: parts.clock,
            chance: parts.chance,
            metrics: parts.metrics,
            events: parts.events,
            pods: parts.pods,
            scope: parts.settings.scope,
            answered: watch::channel(false).0,
        })
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            time: self.clock.now(),
        }
    }

    /// What is known about a token that was accepted before.
    pub(crate) fn known(&self, digest: &TokenDigest) -> Option<Known> {
        self.book().known(digest).cloned()
    }

    /// The cached credentials of a pod.
    pub(crate) fn read(&self, key: PodKey, now: Now) -> Option<Bytes> {
        self.book().read(key, now)
    }

    /// The same with what the metadata guard tells about them.
    pub(crate) fn held(&self, key: PodKey, now: Now) -> Option<Held> {
        self.book().held(key, now)
    }

    /// The cached credentials for a new token of a pod, whose signature was verified.
    pub(crate) fn adopt(&self, wanted: &Wanted<'_>, now: Now) -> Option<Bytes> {
        self.book()
            .adopt(wanted.digest, wanted.text, &wanted.facts, now)
    }

    /// The credentials of another pod of the service account, where they are of no pod in particular. Who no table knows as a
    /// pod of this node that is there and stays has to be asked about.
    pub(crate) fn lend(&self, wanted: &Wanted<'_>, now: Now) -> Option<Bytes> {
        if self.scope != CacheScope::ServiceAccount || !wanted.verified {
            return None;
        }
        let identity = &wanted.facts.identity;
        let table = self.table()?;
        let pod = table.pod(&identity.pod_uid)?;
        let stays = !pod.terminated && pod.deleted.is_none();
        if !stays
            || pod.namespace != identity.namespace
            || pod.service_account != identity.service_account
        {
            return None;
        }
        let chance = &*self.chance;
        let mut book = self.book();
        let lent = book.lend(wanted.digest, wanted.text, &wanted.facts, now, chance)?;
        self.metrics.evicted(lent.evicted);
        self.metrics.entries(book.len());
        drop(book);
        self.events.record(&Decision {
            association_id: Some(&lent.association_id),
            session_arn: Some(&lent.session_arn),
            expires_at: Some(lent.expires_at),
            identity: Some(identity),
            accepted: true,
            ..Decision::new(now.time, Decided::Shared)
        });
        Some(lent.body)
    }

    /// Notes which credentials are of no pod in particular, where that counts.
    pub(crate) fn share(&self, is_shared: impl Fn(&str, Instant, jiff::Timestamp) -> bool) {
        if self.scope == CacheScope::ServiceAccount {
            self.book().share(is_shared, self.now(), &*self.chance);
        }
    }

    /// Whether the pod may have an entry: it may when nobody knows better.
    pub(crate) fn may_keep(&self, pod_uid: &str) -> bool {
        is_alive(self.table().as_deref(), pod_uid)
    }

    /// Fetches credentials, or waits for whoever does. A caller that goes away does not stop the call.
    pub(crate) async fn fetch(self: &Arc<Self>, wanted: Wanted<'_>) -> (Outcome, Source) {
        let own = FlightKey::Token(wanted.digest);
        if wanted.verified {
            let shared = FlightKey::Pod(wanted.facts.identity.key());
            let (outcome, source) = self.fetch_as(shared, &wanted).await;
            // The flight that was joined had another token of the pod, and that one is no good any more.
            let joined = source == Source::Flight;
            if !(joined && outcome.as_ref().is_err_and(Refusal::is_about_the_token)) {
                return (outcome, source);
            }
        }
        self.fetch_as(own, &wanted).await
    }

    async fn fetch_as(self: &Arc<Self>, key: FlightKey, wanted: &Wanted<'_>) -> (Outcome, Source) {
        let joined = self.book().join(key, wanted.digest, Instant::now());
        let (mut outcome, source) = match joined {
            Joined::Failed(refusal) => return (Err(refusal), Source::Flight),
            Joined::Wait(outcome) => (outcome, Source::Flight),
            Joined::Start(ticket, sender, outcome) => {
                self.metrics.cache_state(CacheState::Miss);
                let token = Zeroizing::new(wanted.text.to_owned());
                let facts = wanted.facts.clone();
                let flight = Arc::clone(self).fly(ticket, token, wanted.digest, facts);
                tokio::spawn(async move {
                    let outcome = flight.await;
                    sender.send_replace(Some(outcome));
                });
                (outcome, Source::Upstream)
            }
        };
        let landed = outcome.wait_for(Option::is_some).await;
        let outcome = landed.ok().and_then(|outcome| outcome.clone());
        (
            outcome.unwrap_or(Err(Refusal::Internal("the call was cut off"))),
            source,
        )
    }

    async fn fly(
        self: Arc<Self>,
        ticket: Ticket,
        token: Zeroizing<String>,
        digest: TokenDigest,
        facts: TokenFacts,
    ) -> Outcome {
        let until = Instant::now() + BUDGET;
        let called = self.attempts(&token, &facts, until).await;
        let now = self.now();
        match called {
            Ok((issued, body)) => {
                self.record_issued(&facts, &issued);
                let fresh = Fresh {
                    body: body.clone(),
                    audience: issued.audience,
                    association_id: issued.association_id,
                    session_arn: Arc::from(issued.session_arn),
                    expires_at: issued.expires_at,
                };
                let may_keep = self.may_keep(&facts.identity.pod_uid);
                let mut book = self.book();
                if may_keep {
                    let chance = &*self.chance;
                    let evicted = book.landed(ticket, digest, token, &facts, fresh, now, chance);
                    self.metrics.evicted(evicted);
                    self.metrics.entries(book.len());
                } else {
                    // Handed out because the auth service says so; not kept for a pod that is not seen here.
                    book.close(ticket);
                }
                Ok(body)
            }
            Err(refusal) => {
                let until = now.instant + remembered(&refusal);
                self.book().failed(ticket, digest, &refusal, until);
                Err(refusal)
            }
        }
    }

    /// Up to three attempts within the budget.
    async fn attempts(
        &self,
        token: &str,
        facts: &TokenFacts,
        until: Instant,
    ) -> Result<(Issued, Bytes), Refusal> {
        let Some(_pass) = self.gate.enter(until).await else {
            return Err(Refusal::Unavailable);
        };
        let mut last = Refusal::Unavailable;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                let (least, most) = PAUSE;
                let pause = least + (most - least).mul_f64(self.chance.unit());
                if Instant::now() + pause >= until {
                    break;
                }
                tokio::time::sleep(pause).await;
                if self.gate.again(until).await.is_none() {
                    break;
                }
            }
            let called = tokio::time::timeout_at(until, self.call(token, facts)).await;
            match called {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(failure)) => {
                    let transient = failure.is_transient();
                    last = refusal_of(failure);
                    if !transient {
                        break;
                    }
                }
                Err(_) => last = Refusal::Unavailable,
            }
        }
        Err(last)
    }

    /// One call, its answer checked against what was asked.
    async fn call(&self, token: &str, facts: &TokenFacts) -> Result<(Issued, Bytes), AuthFailure> {
        let started = Instant::now();
        let called = self.auth.assume(token).await;
        let checked = called.and_then(|issued| {
            let identity = &facts.identity;
            if issued.namespace != identity.namespace
                || issued.service_account != identity.service_account
            {
                return Err(AuthFailure::BadAnswer(
                    "it is for another service account than the token",
                ));
            }
            if !facts.audiences.contains(&issued.audience) {
                return Err(AuthFailure::BadAnswer("the token is not for its audience"));
            }
            if !is_usable(issued.expires_at, self.clock.now()) {
                return Err(AuthFailure::TooShort);
            }
            let body = render::body(&issued)
                .ok_or(AuthFailure::BadAnswer("it cannot be written as JSON"))?;
            Ok((issued, body))
        });
        let label = checked.as_ref().err().map_or("success", AuthFailure::label);
        self.metrics.upstream(label, started.elapsed());
        match &checked {
            Ok(_) | Err(AuthFailure::Final { .. } | AuthFailure::Rejected { .. }) => {
                self.answered
                    .send_if_modified(|answered| !std::mem::replace(answered, true));
            }
            Err(_) => {}
        }
        if let Err(failure) = &checked {
            self.log_failure(facts, failure);
        }
        checked
    }

    fn log_failure(&self, facts: &TokenFacts, failure: &AuthFailure) {
        let PodName { namespace, pod } = PodName::of(facts);
        match failure {
            // Pods that are gone go on asking for a while; that is nobody's fault.
            AuthFailure::Final {
                code: FinalCode::ExpiredToken,
                ..
            } => tracing::debug!(namespace, pod, %failure, "no credentials for a pod"),
            AuthFailure::Final { .. } | AuthFailure::Rejected { .. } => {
                tracing::info!(namespace, pod, %failure, "no credentials for a pod");
            }
            _ => tracing::warn!(namespace, pod, %failure, "the auth service could not be asked"),
        }
    }

    fn record_issued(&self, facts: &TokenFacts, issued: &Issued) {
        self.events.record(&Decision {
            association_id: Some(&issued.association_id),
            session_arn: Some(&issued.session_arn),
            access_key_id: Some(&issued.access_key_id),
            expires_at: Some(issued.expires_at),
            identity: Some(&facts.identity),
            accepted: true,
            ..Decision::new(self.clock.now(), Decided::Issued)
        });
    }

    /// Renews what is due and lets go of what is over, until `stop` becomes true.
    pub(crate) async fn maintain(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut pods = self.pods.clone();
        let mut swept = Instant::now();
        loop {
            let deleted = tokio::select! {
                _ = tick.tick() => false,
                // Credentials of a pod that was deleted go at once.
                () = changed(pods.as_mut()) => true,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            if deleted || swept.elapsed() >= SWEEP_EVERY {
                self.sweep();
                swept = Instant::now();
            }
            self.renew_due();
        }
    }

    fn sweep(&self) {
        let table = self.table();
        let now = self.now();
        let mut book = self.book();
        let evicted = book.sweep(now, |uid| is_alive(table.as_deref(), uid));
        self.metrics.evicted(evicted);
        self.metrics.entries(book.len());
    }

    fn renew_due(self: &Arc<Self>) {
        let table = self.table();
        let due = self.book().due(self.now(), |uid| {
            table.as_ref().is_some_and(|table| table.is_alive(uid))
        });
        for key in due {
            let Some(pass) = self.gate.enter_renewal() else {
                return;
            };
            let Some(due) = self.book().start_renewal(key) else {
                continue;
            };
            let cache = Arc::clone(self);
            tokio::spawn(async move {
                cache.renew(due).await;
                drop(pass);
            });
        }
    }

    async fn renew(&self, due: Due) {
        let read = TokenFacts::read(&due.token, self.clock.now());
        let called = match &read {
            Ok(facts) => tokio::time::timeout(BUDGET, self.call(&due.token, facts))
                .await
                .unwrap_or_else(|_| Err(AuthFailure::Unavailable("no answer in time".into())))
                .map(|(issued, body)| (issued, body, facts)),
            Err(_) => Err(AuthFailure::Final {
                code: FinalCode::ExpiredToken,
                message: "the token has expired".into(),
            }),
        };
        let now = self.now();
        let mut book = self.book();
        match called {
            Ok((issued, body, facts)) => {
                let fresh = Fresh {
                    body,
                    audience: issued.audience.clone(),
                    association_id: issued.association_id.clone(),
                    session_arn: Arc::from(&*issued.session_arn),
                    expires_at: issued.expires_at,
                };
                let took = book.renewed(&due, fresh, now, &*self.chance);
                drop(book);
                self.metrics.renewal("success");
                if took {
                    self.metrics.cache_state(CacheState::Hit);
                    self.record_issued(facts, &issued);
                }
            }
            Err(AuthFailure::Final { code, message }) => {
                let evicted = u64::from(book.drop_refused(&due));
                self.metrics.evicted(evicted);
                self.metrics.entries(book.len());
                drop(book);
                self.metrics.renewal("refused");
                self.metrics.cache_error(true, code.as_str());
                let refusal = Refusal::of_upstream(code, &message);
                self.events.record(&Decision {
                    identity: Some(&due.identity),
                    accepted: true,
                    reason: Some(refusal.reason()),
                    ..Decision::new(now.time, Decided::Dropped)
                });
            }
            Err(failure) => {
                book.not_renewed(&due, now, &*self.chance);
                drop(book);
                self.metrics.renewal("failed");
                self.metrics.cache_error(false, failure.label());
            }
        }
    }

    /// The association of these service accounts changed: their credentials are fetched anew at the next request.
    pub(crate) fn forget(&self, is_changed: impl Fn(&crate::token::PodIdentity, &str) -> bool) {
        let mut book = self.book();
        let evicted = book.forget(is_changed);
        self.metrics.evicted(evicted);
        self.metrics.entries(book.len());
    }

    pub(crate) fn uses(&self) -> Vec<PodUse> {
        self.book().uses()
    }

    /// The usable credentials of a pod by its uid; counts as a read. O(entries).
    pub(crate) fn of_pod(&self, pod_uid: &str) -> Option<CachedCredentials> {
        if !self.may_keep(pod_uid) {
            return None;
        }
        let now = self.now();
        let mut book = self.book();
        let key = book.key_of(pod_uid)?;
        let expires_at = book.expires_at(key)?;
        let body = book.read(key, now)?;
        Some(CachedCredentials { body, expires_at })
    }

    /// Whether the auth service has answered since the start; can be waited for.
    pub(crate) fn answered(&self) -> &watch::Sender<bool> {
        &self.answered
    }

    pub(crate) async fn is_reachable(&self) -> bool {
        self.auth.is_reachable().await
    }

    fn table(&self) -> Option<Arc<PodTable>> {
        self.pods.as_ref().and_then(|pods| pods.borrow().clone())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // The book is consistent after every statement that can panic: none of them can.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct PodName<'f> {
    namespace: &'f str,
    pod: &'f str,
}

impl<'f> PodName<'f> {
    fn of(facts: &'f TokenFacts) -> Self {
        Self {
            namespace: &facts.identity.namespace,
            pod: &facts.identity.pod,
        }
    }
}

fn is_alive(table: Option<&PodTable>, uid: &str) -> bool {
    table.is_none_or(|table| table.is_alive(uid))
}

/// Waits for the next table; for ever when there is none, or will be none any more.
async fn changed(pods: Option<&mut watch::Receiver<Option<Arc<PodTable>>>>) {
    if let Some(pods) = pods
        && pods.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// How long the same question gets the same refusal (section 7.2).
fn remembered(refusal: &Refusal) -> Duration {
    match refusal {
        // A new association takes seconds to be seen everywhere.
        Refusal::Final {
            code: FinalCode::ResourceNotFound,
            ..
        } => Duration::from_secs(2),
        Refusal::Final { .. } => Duration::from_secs(5),
        _ => Duration::from_secs(1),
    }
}

fn refusal_of(failure: AuthFailure) -> Refusal {
    match failure {
        AuthFailure::Final { code, message } => Refusal::of_upstream(code, &message),
        AuthFailure::Rejected { code, message } => {
            Refusal::Rejected(format!("{code}: {message}").into())
        }
        AuthFailure::Node { .. } | AuthFailure::NoNodeCredentials(_) => Refusal::Internal(
            "the credentials of this node are missing or were refused; its log says why",
        ),
        AuthFailure::TooShort => {
            Refusal::Internal("the auth service gave credentials that end at once")
        }
        AuthFailure::Throttled => Refusal::Throttled,
        AuthFailure::Unavailable(_) | AuthFailure::BadAnswer(_) => Refusal::Unavailable,
    }
}

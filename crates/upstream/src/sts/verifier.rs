//! The verifier: caches before coalescing before admission before the call.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_arn::{CallerIdentity, Partition};
use countersign_token::PresignedToken;
use countersign_token::sts::{Replayed, StsError as AnswerError, StsErrorClass, parse_response};
use jiff::Timestamp;
use tokio::time::Instant;

use super::StsError;
use super::admission::{Admission, CallLimits, Gate};
use super::cache::{Book, Entry, Flush, Lifetime, Outcome, Ticket, TokenKey, TokenKeyer};
use super::counters::{StsCounters, StsSnapshot};
use super::exchange::{StsExchange, StsRequest};
use crate::clock::Clock;
use crate::http::ExchangeFailure;

/// Settings of an [`StsVerifier`], already within their bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StsOptions {
    /// The partition callers must belong to.
    pub partition: Partition,
    /// `identityCacheTTL`: how long an identity is kept, 60 s by default, at most 300 s, 0 turns the cache off.
    ///
    /// For this long it can go unnoticed that an access key, user or role was deleted, or that session credentials ended.
    pub identity_ttl: Duration,
    /// How long a definite refusal is kept, 10 s by default and at most: a new key can take seconds to spread inside AWS.
    pub rejection_ttl: Duration,
    /// `staleIdentityOnOutage`: for how much longer an identity that was already kept may be used while STS cannot be asked.
    /// Off (0) by default, at most 300 s; never past the end of the token, never after STS refused it.
    pub stale_on_outage: Duration,
    /// Identities kept at once, 32,768 by default; at most 64 for each access key.
    pub identities: usize,
    /// Limits of the calls.
    pub limits: CallLimits,
}

impl Default for StsOptions {
    fn default() -> Self {
        Self {
            partition: Partition::Aws,
            identity_ttl: Duration::from_secs(60),
            rejection_ttl: Duration::from_secs(10),
            stale_on_outage: Duration::ZERO,
            identities: 32_768,
            limits: CallLimits::default(),
        }
    }
}

/// A verifier cannot be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StsVerifierError {
    /// A duration is above its bound.
    #[error("`{option}` must be at most {seconds} s")]
    TooLong {
        /// The option's name.
        option: &'static str,
        /// The bound.
        seconds: u64,
    },
    /// A limit of nothing would refuse everything.
    #[error("`{0}` must be above 0")]
    Zero(&'static str),
    /// The system gives no random numbers.
    #[error("no random key could be made")]
    Random,
}

/// A verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who calls.
    pub identity: Arc<CallerIdentity>,
    /// How this is known.
    pub from: AnsweredFrom,
    /// The time spent waiting for STS, queue included; zero for a cached identity.
    pub waited: Duration,
}

/// How an identity is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredFrom {
    /// STS was asked for this request.
    Sts,
    /// STS was being asked for another request with the same token.
    SharedCall,
    /// STS was asked lately.
    Cache,
    /// STS was asked lately, and cannot be asked now; to be audited.
    StaleCache,
}

impl AnsweredFrom {
    /// The name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::SharedCall => "shared_call",
            Self::Cache => "cache",
            Self::StaleCache => "stale_cache",
        }
    }
}

/// Verifies tokens by asking AWS STS. Cheap to clone; all clones share caches and limits.
#[derive(Clone)]
pub struct StsVerifier(Arc<Inner>);

struct Inner {
    options: StsOptions,
    exchange: Arc<dyn StsExchange>,
    clock: Arc<dyn Clock>,
    keyer: TokenKeyer,
    book: Mutex<Book>,
    gate: Gate,
    counters: StsCounters,
}

impl StsVerifier {
    /// Starts a verifier; must be called within a tokio runtime.
    ///
    /// # Errors
    /// When an option is out of bounds.
    pub fn start(
        options: StsOptions,
        exchange: Arc<dyn StsExchange>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StsVerifierError> {
        options.check()?;
        Ok(Self(Arc::new(Inner {
            exchange,
            clock,
            keyer: TokenKeyer::new().map_err(|_| StsVerifierError::Random)?,
            book: Mutex::new(Book::new(if options.identity_ttl.is_zero() {
                0
            } else {
                options.identities
            })),
            gate: Admission::start(options.limits),
            counters: StsCounters::default(),
            options,
        })))
    }

    /// Verifies a token for a cluster.
    ///
    /// Dropping the future takes this request away from a call that others wait for as well; the call goes on for them.
    ///
    /// # Errors
    /// When STS refuses the token, cannot be asked, or too much is being asked already.
    pub async fn verify(
        &self,
        token: &PresignedToken,
        cluster_id: &str,
    ) -> Result<Verified, StsError> {
        let inner = &*self.0;
        let counters = &inner.counters;
        let key = inner.keyer.key(cluster_id, token.url());
        let started = Instant::now();
        let entry = inner.book().look_up(key, started, inner.clock.now());
        let (mut outcome, from) = match entry {
            Entry::Fresh(identity) => {
                StsCounters::count(&counters.identity_hits);
                return Ok(Verified {
                    identity,
                    from: AnsweredFrom::Cache,
                    waited: Duration::ZERO,
                });
            }
            Entry::Rejected(rejection) => {
                StsCounters::count(&counters.rejection_hits);
                return Err(rejection.into());
            }
            Entry::Join(outcome) => {
                StsCounters::count(&counters.misses);
                StsCounters::count(&counters.coalesced);
                (outcome, AnsweredFrom::SharedCall)
            }
            Entry::Ask(ticket, outcome) => {
                StsCounters::count(&counters.misses);
                match StsRequest::new(token, cluster_id) {
                    Ok(request) => {
                        let call = Call {
                            inner: Arc::clone(&self.0),
                            ticket,
                            request,
                            access_key_id: token.access_key_id().chars().take(128).collect(),
                            token_ends: token.expires_at(),
                            settled: false,
                        };
                        tokio::spawn(call.run());
                    }
                    Err(error) => {
                        inner.book().close(&ticket);
                        ticket.announcement.send_replace(Some(Err(error)));
                    }
                }
                (outcome, AnsweredFrom::Sts)
            }
        };
        let _waiting = WaiterCount::enter(counters);
        let outcome = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        // A call that ended without an outcome was aborted with the runtime.
        let outcome = outcome.unwrap_or_else(|| {
            let region = token.region_label().as_str();
            Err(AnswerError::unreachable("the call was aborted", region).into())
        });
        let waited = started.elapsed();
        match outcome {
            Ok(identity) => Ok(Verified {
                identity,
                from,
                waited,
            }),
            Err(error) if error.is_outage() => match inner.bridge(key) {
                Some(identity) => Ok(Verified {
                    identity,
                    from: AnsweredFrom::StaleCache,
                    waited,
                }),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Drops cached identities, so that the next request for them asks STS. Returns how many were dropped.
    pub fn flush(&self, which: Flush<'_>) -> usize {
        self.0.book().flush(which)
    }

    /// All numbers for metrics.
    #[must_use]
    pub fn snapshot(&self) -> StsSnapshot {
        let (identities, rejections) = {
            let book = self.0.book();
            (book.len(), book.rejections())
        };
        let load = self.0.gate.load();
        StsSnapshot {
            identities,
            rejections,
            in_flight: load.in_flight,
            queued: load.queued,
            rate: load.rate,
            ..self.0.counters.snapshot()
        }
    }
}

impl std::fmt::Debug for StsVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StsVerifier")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl StsOptions {
    fn check(&self) -> Result<(), StsVerifierError> {
        for (option, value, seconds) in [
            ("identityCacheTTL", self.identity_ttl, 300),
            ("rejectionCacheTTL", self.rejection_ttl, 10),
            ("staleIdentityOnOutage", self.stale_on_outage, 300),
        ] {
            if value > Duration::from_secs(seconds) {
                return Err(StsVerifierError::TooLong { option, seconds });
            }
        }
        let limits = self.limits;
        for (option, zero) in [
            ("maxInFlight", limits.in_flight == 0),
            (
                "callsPerSecond",
                limits.per_second.is_nan() || limits.per_second <= 0.0,
            ),
            ("burst", limits.burst.is_nan() || limits.burst < 1.0),
        ] {
            if zero {
                return Err(StsVerifierError::Zero(option));
            }
        }
        Ok(())
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bridge(&self, key: TokenKey) -> Option<Arc<CallerIdentity>> {
        if self.options.stale_on_outage.is_zero() {
            return None;
        }
        let identity = self.book().stale(key, Instant::now(), self.clock.now())?;
        StsCounters::count(&self.counters.stale_uses);
        tracing::warn!(
            arn = identity.arn(),
            access_key_id = identity.access_key_id(),
            "AWS STS cannot be asked; an identity past its lifetime in the cache is accepted"
        );
        Some(identity)
    }
}

/// One call under way. It runs in a task of its own, so that it outlives the request that started it.
struct Call {
    inner: Arc<Inner>,
    ticket: Ticket,
    request: StsRequest,
    access_key_id: Box<str>,
    token_ends: Timestamp,
    settled: bool,
}

impl Call {
    async fn run(mut self) {
        if let Some(outcome) = self.ask().await {
            self.settle(outcome);
        }
    }

    /// `None` if nobody waits any more by the time that the call may start.
    async fn ask(&mut self) -> Option<Outcome> {
        let inner = Arc::clone(&self.inner);
        let counters = &inner.counters;
        let permit = match inner
            .gate
            .enter(&self.access_key_id, self.request.host())
            .await
        {
            Ok(permit) => permit,
            Err(by) => {
                StsCounters::count(match by {
                    super::ThrottledBy::QueueFull => &counters.refused_queue_full,
                    super::ThrottledBy::QueueTimeout => &counters.refused_queue_timeout,
                    super::ThrottledBy::Share => &counters.refused_share,
                });
                return Some(Err(StsError::Throttled(by)));
            }
        };
        if inner.clock.now() > self.token_ends {
            StsCounters::count(&counters.expired_in_queue);
            return Some(Err(StsError::ExpiredWhileQueued));
        }
        if inner.book().abandon(&self.ticket) {
            self.settled = true;
            StsCounters::count(&counters.abandoned);
            return None;
        }
        StsCounters::count(&counters.calls);
        let region = self.request.region();
        let answer = inner.exchange.get(&self.request).await;
        let outcome = match answer {
            Ok(answer) => {
                inner.gate.answered(self.request.host());
                counters.response(answer.status, region);
                parse_response(
                    answer.status,
                    &answer.body,
                    &Replayed {
                        partition: inner.options.partition,
                        access_key_id: &self.access_key_id,
                        sts_endpoint: self.request.host(),
                        region: region.as_str(),
                    },
                )
            }
            Err(ExchangeFailure::TooLarge { .. }) => {
                inner.gate.answered(self.request.host());
                Err(AnswerError::body_too_large())
            }
            Err(failure) => {
                inner.gate.failed(self.request.host());
                counters.connection_failure(region);
                Err(AnswerError::unreachable(failure, region.as_str()))
            }
        };
        if let Err(error) = &outcome
            && *error.class() == StsErrorClass::Throttled
        {
            counters.throttled(region);
            inner.gate.throttled(&permit);
        }
        drop(permit);
        Some(outcome.map(Arc::new).map_err(StsError::Answer))
    }

    fn settle(&mut self, outcome: Outcome) {
        let options = &self.inner.options;
        let now = Instant::now();
        {
            let mut book = self.inner.book();
            match &outcome {
                Ok(identity) => {
                    if let Some(lifetime) = self.lifetime(now) {
                        let evicted = book.remember(&self.ticket, identity, lifetime);
                        self.inner
                            .counters
                            .evictions
                            .fetch_add(evicted, Ordering::Relaxed);
                    }
                }
                Err(StsError::Answer(error)) if is_refusal(error.class()) => {
                    let until = error.is_definite().then(|| now + options.rejection_ttl);
                    book.reject(&self.ticket, error, until);
                }
                Err(_) => {}
            }
            book.close(&self.ticket);
        }
        self.settled = true;
        self.ticket.announcement.send_replace(Some(outcome));
    }

    /// The shorter of the configured lifetime and what is left of the token.
    fn lifetime(&self, now: Instant) -> Option<Lifetime> {
        let options = &self.inner.options;
        let left = self.token_ends.duration_since(self.inner.clock.now());
        let left = Duration::try_from(left).ok()?;
        Some(Lifetime {
            fresh_until: now + options.identity_ttl.min(left),
            stale_until: now + (options.identity_ttl + options.stale_on_outage).min(left),
            token_ends: self.token_ends,
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.settled {
            self.inner.book().close(&self.ticket);
        }
    }
}

/// Whether STS was reached and did not accept the token: what was kept about it must go.
fn is_refusal(class: &StsErrorClass) -> bool {
    match class {
        StsErrorClass::Rejected(_) => true,
        StsErrorClass::Error
        | StsErrorClass::Throttled
        | StsErrorClass::Unreachable
        | StsErrorClass::BadResponse => false,
    }
}

/// Counts a request that waits.
struct WaiterCount<'a>(&'a StsCounters);

impl<'a> WaiterCount<'a> {
    fn enter(counters: &'a StsCounters) -> Self {
        StsCounters::count(&counters.waiters);
        Self(counters)
    }
}

impl Drop for WaiterCount<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}

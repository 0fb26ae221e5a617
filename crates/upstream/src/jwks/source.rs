//! Keys of issuers, from memory where possible.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use countersign_oidc::{IssuerUrl, KeySet};
use tokio::sync::watch;
use tokio::time::Instant;

use super::counters::{FetchResult, KeyCounters};
use super::fetch::{Fetch, FetchFailure, KeyFetch};
use super::state::{Flight, Outcome, State, Step};
use super::thumbprint::Thumbprint;
use crate::lru::Lru;

/// Settings of a [`KeySource`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySourceOptions {
    /// Most issuers whose keys are kept. The one not used for longest leaves first.
    pub capacity: usize,
    /// Whether the thumbprints of a provider are trusted where no authority is (`--oidc-thumbprint-trust`).
    pub thumbprint_trust: bool,
}

impl Default for KeySourceOptions {
    fn default() -> Self {
        Self {
            capacity: 4096,
            thumbprint_trust: false,
        }
    }
}

/// Keys of issuers: those of registered ones from memory, those of others fetched, kept and refreshed.
pub struct KeySource {
    options: KeySourceOptions,
    fetch: Arc<dyn KeyFetch>,
    counters: Arc<KeyCounters>,
    registered: RwLock<HashMap<Box<str>, Arc<KeySet>>>,
    issuers: Mutex<Lru<Fetch, Arc<Mutex<State>>>>,
}

impl KeySource {
    /// A source that fetches with `fetch`.
    #[must_use]
    pub fn new(options: KeySourceOptions, fetch: Arc<dyn KeyFetch>) -> Self {
        Self {
            options,
            fetch,
            counters: Arc::default(),
            registered: RwLock::default(),
            issuers: Mutex::new(Lru::new(options.capacity.max(1))),
        }
    }

    /// From now on uses `keys` for `issuer` and asks nobody: for issuers of our own clusters.
    pub fn register(&self, issuer: &str, keys: Arc<KeySet>) {
        let mut registered = self
            .registered
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        registered.insert(issuer.into(), keys);
    }

    /// Ends what [`KeySource::register`] began.
    pub fn unregister(&self, issuer: &str) {
        let mut registered = self
            .registered
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        registered.remove(issuer);
    }

    /// The registered keys of `issuer`.
    #[must_use]
    pub fn registered(&self, issuer: &str) -> Option<Arc<KeySet>> {
        let registered = self
            .registered
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        registered.get(issuer).cloned()
    }

    /// The keys of `issuer`, which must be that of a registered provider with these `thumbprints`.
    ///
    /// Waits only when there are none, or when they are past their time and the issuer did not fail lately.
    ///
    /// # Errors
    /// When there are no keys younger than a day and none can be fetched.
    pub async fn keys(
        &self,
        issuer: &IssuerUrl,
        thumbprints: &[Thumbprint],
    ) -> Result<Arc<KeySet>, FetchFailure> {
        if let Some(keys) = self.registered(issuer.as_str()) {
            return Ok(keys);
        }
        let fetch = self.fetch_of(issuer, thumbprints);
        let state = self.state(&fetch);
        let flight = {
            let mut locked = lock(&state);
            match locked.step(Instant::now()) {
                Step::Use(keys) => return Ok(keys),
                Step::UseAndFetch(keys) => {
                    self.take_off(&state, &mut locked, fetch);
                    return Ok(keys);
                }
                Step::UseStale(keys) => return Ok(self.stale(keys)),
                Step::UseStaleAndFetch(keys) => {
                    self.take_off(&state, &mut locked, fetch);
                    return Ok(self.stale(keys));
                }
                Step::Fail(failure) => return Err(failure),
                Step::Wait(flight) => flight,
                Step::Fetch => self.take_off(&state, &mut locked, fetch),
            }
        };
        match outcome(flight).await {
            Ok(keys) => Ok(keys),
            Err(failure) => {
                let fallback = lock(&state).fallback(Instant::now());
                fallback.map(|keys| self.stale(keys)).ok_or(failure)
            }
        }
    }

    /// Keys that may have what `seen` has not, for a token that names an unknown key. They are `seen` again when the
    /// issuer was asked for this reason less than 30 s ago.
    ///
    /// # Errors
    /// When the issuer cannot be asked.
    pub async fn keys_beyond(
        &self,
        seen: &Arc<KeySet>,
        issuer: &IssuerUrl,
        thumbprints: &[Thumbprint],
    ) -> Result<Arc<KeySet>, FetchFailure> {
        if let Some(keys) = self.registered(issuer.as_str()) {
            return Ok(keys);
        }
        let fetch = self.fetch_of(issuer, thumbprints);
        let state = self.state(&fetch);
        let flight = {
            let mut locked = lock(&state);
            match locked.step_beyond(seen, Instant::now()) {
                Step::Wait(flight) => flight,
                Step::Fetch => self.take_off(&state, &mut locked, fetch),
                Step::Use(keys)
                | Step::UseAndFetch(keys)
                | Step::UseStale(keys)
                | Step::UseStaleAndFetch(keys) => return Ok(keys),
                Step::Fail(failure) => return Err(failure),
            }
        };
        outcome(flight).await
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> &KeyCounters {
        &self.counters
    }

    fn stale(&self, keys: Arc<KeySet>) -> Arc<KeySet> {
        self.counters
            .stale
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        keys
    }

    fn fetch_of(&self, issuer: &IssuerUrl, thumbprints: &[Thumbprint]) -> Fetch {
        let mut sorted = Vec::new();
        if self.options.thumbprint_trust {
            sorted.extend_from_slice(thumbprints);
            sorted.sort_unstable();
        }
        Fetch {
            issuer: issuer.clone(),
            thumbprints: sorted,
        }
    }

    fn state(&self, fetch: &Fetch) -> Arc<Mutex<State>> {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = issuers.get(fetch) {
            return Arc::clone(state);
        }
        let state = Arc::<Mutex<State>>::default();
        issuers.insert(fetch.clone(), Arc::clone(&state));
        state
    }

    /// Starts a fetch. It goes on when whoever started it goes away: others may wait for it by then.
    fn take_off(&self, state: &Arc<Mutex<State>>, locked: &mut State, request: Fetch) -> Flight {
        let (tell, flight) = watch::channel(None);
        locked.took_off(flight.clone());
        let (fetch, counters, state) = (
            Arc::clone(&self.fetch),
            Arc::clone(&self.counters),
            Arc::clone(state),
        );
        tokio::spawn(async move {
            let fetched = fetch.fetch(&request).await;
            match &fetched {
                Ok(fetched) => {
                    counters.fetched(FetchResult::Ok);
                    let (keys, skipped) = (fetched.keys.len(), fetched.keys.skipped().len());
                    tracing::debug!(issuer = %request.issuer, keys, skipped, "keys of an issuer fetched");
                }
                Err(failure) => {
                    counters.fetched(failure.result());
                    let cause = std::error::Error::source(failure).map(ToString::to_string);
                    tracing::warn!(issuer = %request.issuer, error = %failure, cause, "keys of an issuer not fetched");
                }
            }
            let outcome = lock(&state).landed(fetched, Instant::now());
            tell.send_replace(Some(outcome));
        });
        flight
    }
}

async fn outcome(mut flight: Flight) -> Outcome {
    // The task may be gone without a word when the runtime shuts down.
    let gone = FetchFailure::Unreachable {
        document: "key set",
        source: None,
    };
    match flight.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(gone)),
        Err(_) => Err(gone),
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

//! What is known about the keys of one issuer, and what to do about it: no I/O, no waiting.

use std::sync::Arc;
use std::time::Duration;

use countersign_oidc::KeySet;
use tokio::sync::watch;
use tokio::time::Instant;

use super::fetch::{FetchFailure, FetchedKeys};

/// Least time for which keys are fresh.
const MIN_FRESH: Duration = Duration::from_secs(60);
/// Most time for which keys are fresh, and for which they are used when the issuer is down.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Time for which keys are fresh whose issuer does not say.
const DEFAULT_FRESH: Duration = Duration::from_secs(60 * 60);
/// Time between two fetches for unknown key ids, and between two attempts while old keys serve.
const BETWEEN_REFETCHES: Duration = Duration::from_secs(30);
/// Time for which a failure is remembered while there are no keys.
const REMEMBER_FAILURE: Duration = Duration::from_secs(5);
/// How long after a failed attempt old keys are given out without waiting for the next one.
const OUTAGE: Duration = Duration::from_secs(300);

/// How a fetch ended, for everybody who waits for it.
pub(super) type Outcome = Result<Arc<KeySet>, FetchFailure>;
/// Where a fetch under way will tell its outcome.
pub(super) type Flight = watch::Receiver<Option<Outcome>>;

#[derive(Debug, Default)]
pub(super) struct State {
    kept: Option<Kept>,
    failed: Option<Failed>,
    /// When keys were last fetched because of an unknown key id.
    forced: Option<Instant>,
    flight: Option<Flight>,
}

#[derive(Debug)]
struct Kept {
    keys: Arc<KeySet>,
    fetched: Instant,
    fresh: Duration,
}

#[derive(Debug)]
struct Failed {
    failure: FetchFailure,
    at: Instant,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Step {
    /// Give out these keys.
    Use(Arc<KeySet>),
    /// Give out these keys and start a fetch that nobody waits for.
    UseAndFetch(Arc<KeySet>),
    /// Give out these keys, which are past their time.
    UseStale(Arc<KeySet>),
    /// The same, and start a fetch.
    UseStaleAndFetch(Arc<KeySet>),
    /// Wait for the fetch that is under way.
    Wait(Flight),
    /// Start a fetch and wait for it.
    Fetch,
    /// There are no keys.
    Fail(FetchFailure),
}

impl State {
    /// For a token whose key is not known to be missing.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let flight = self.flight();
        let recent = |failed: &&Failed, within: Duration| now < failed.at + within;
        let Some(kept) = self
            .kept
            .as_ref()
            .filter(|kept| now < kept.fetched + MAX_AGE)
        else {
            return match (flight, self.failed.as_ref()) {
                (Some(flight), _) => Step::Wait(flight),
                (None, Some(failed)) if recent(&failed, REMEMBER_FAILURE) => {
                    Step::Fail(failed.failure.clone())
                }
                (None, _) => Step::Fetch,
            };
        };
        let keys = Arc::clone(&kept.keys);
        let attempted_lately = self
            .failed
            .as_ref()
            .is_some_and(|failed| recent(&failed, BETWEEN_REFETCHES));
        if now < kept.fetched + kept.fresh {
            // A busy service never waits for a refresh: it begins before the keys are old.
            let early = now >= kept.fetched + kept.fresh.mul_f64(0.8);
            return if early && flight.is_none() && !attempted_lately {
                Step::UseAndFetch(keys)
            } else {
                Step::Use(keys)
            };
        }
        let outage = self
            .failed
            .as_ref()
            .is_some_and(|failed| failed.at > kept.fetched && recent(&failed, OUTAGE));
        match flight {
            _ if outage && attempted_lately => Step::UseStale(keys),
            Some(_) if outage => Step::UseStale(keys),
            None if outage => Step::UseStaleAndFetch(keys),
            Some(flight) => Step::Wait(flight),
            // Nobody asked for a while, or this is the first time that the issuer is late: keys it withdrew must not be
            // used without asking.
            None => Step::Fetch,
        }
    }

    /// For a token whose key is not among `seen`: what to do to find newer keys. [`Step::Use`] is the end of it.
    pub(super) fn step_beyond(&mut self, seen: &Arc<KeySet>, now: Instant) -> Step {
        if let Some(flight) = self.flight() {
            return Step::Wait(flight);
        }
        match &self.kept {
            Some(kept) if !Arc::ptr_eq(&kept.keys, seen) => Step::Use(Arc::clone(&kept.keys)),
            _ => match (self.forced, &self.failed) {
                (Some(forced), failed) if now < forced + BETWEEN_REFETCHES => match failed {
                    Some(failed) if failed.at >= forced => Step::Fail(failed.failure.clone()),
                    Some(_) | None => Step::Use(Arc::clone(seen)),
                },
                _ => {
                    self.forced = Some(now);
                    Step::Fetch
                }
            },
        }
    }

    /// Keys that may be used although a fetch failed.
    pub(super) fn fallback(&self, now: Instant) -> Option<Arc<KeySet>> {
        self.kept
            .as_ref()
            .filter(|kept| now < kept.fetched + MAX_AGE)
            .map(|kept| Arc::clone(&kept.keys))
    }

    pub(super) fn took_off(&mut self, flight: Flight) {
        self.flight = Some(flight);
    }

    pub(super) fn landed(
        &mut self,
        fetched: Result<FetchedKeys, FetchFailure>,
        now: Instant,
    ) -> Outcome {
        self.flight = None;
        match fetched {
            Ok(FetchedKeys { keys, max_age }) => {
                self.failed = None;
                self.kept = Some(Kept {
                    keys: Arc::clone(&keys),
                    fetched: now,
                    fresh: max_age.unwrap_or(DEFAULT_FRESH).clamp(MIN_FRESH, MAX_AGE),
                });
                Ok(keys)
            }
            Err(failure) => {
                self.failed = Some(Failed {
                    failure: failure.clone(),
                    at: now,
                });
                Err(failure)
            }
        }
    }

    /// The fetch under way; one whose task is gone without a word is none.
    fn flight(&mut self) -> Option<Flight> {
        if self
            .flight
            .as_ref()
            .is_some_and(|flight| flight.has_changed().is_err())
        {
            self.flight = None;
        }
        self.flight.clone()
    }
}

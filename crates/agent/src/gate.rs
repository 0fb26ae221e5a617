//! How many calls the auth service gets from this node: a rate with a burst, and a number of calls in flight
//! (agent spec, section 7.2).
//!
//! Calls for pods that wait reserve their turn in the order in which they come. A renewal has time: it goes only while half
//! of the burst is left, and never takes a turn that a pod could have.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Limits of the calls to the auth service.
///
/// - `per_second`: 10.
/// - `burst`: 250. The specification says 50 as well as that 250 pods which start at once all have their answer within 3 s;
///   both cannot hold, and the pods are what the agent is for. [`CallRate::for_pods`] gives the burst for a node.
/// - `in_flight`: 64.
/// - `renewals_in_flight`: 8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallRate {
    /// Calls a second in the long run.
    pub per_second: f64,
    /// Calls that may follow each other at once after a quiet time.
    pub burst: u32,
    /// Calls under way at once.
    pub in_flight: usize,
    /// Renewals among them.
    pub renewals_in_flight: usize,
}

impl CallRate {
    /// The limits for a node with at most this many pods: a burst of one call each, at least 50.
    #[must_use]
    pub fn for_pods(pods: u32) -> Self {
        Self {
            per_second: 10.0,
            burst: pods.max(50),
            in_flight: 64,
            renewals_in_flight: 8,
        }
    }
}

impl Default for CallRate {
    fn default() -> Self {
        Self::for_pods(250)
    }
}

/// Lets calls through.
#[derive(Debug)]
pub(crate) struct Gate {
    interval: Duration,
    /// The time in which the whole burst comes back.
    size: Duration,
    /// When the bucket is full again. Behind `now + size` lie the turns that are reserved.
    full_at: Mutex<Option<Instant>>,
    calls: Arc<Semaphore>,
    renewals: Arc<Semaphore>,
}

/// The right to make calls until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    _call: OwnedSemaphorePermit,
    _renewal: Option<OwnedSemaphorePermit>,
}

impl Gate {
    pub(crate) fn new(rate: CallRate) -> Self {
        let interval = Duration::try_from_secs_f64(rate.per_second.max(0.01).recip())
            .unwrap_or(Duration::from_secs(1));
        Self {
            interval,
            size: interval.saturating_mul(rate.burst.max(1)),
            full_at: Mutex::default(),
            calls: Arc::new(Semaphore::new(rate.in_flight.max(1))),
            renewals: Arc::new(Semaphore::new(rate.renewals_in_flight.max(1))),
        }
    }

    /// Waits for a turn, if it comes before `until`.
    pub(crate) async fn enter(&self, until: Instant) -> Option<Pass> {
        let turn = self.reserve(Instant::now(), until)?;
        tokio::time::sleep_until(turn).await;
        let call = tokio::time::timeout_at(until, Arc::clone(&self.calls).acquire_owned());
        Some(Pass {
            _call: call.await.ok()?.ok()?,
            _renewal: None,
        })
    }

    /// Counts one more call of a pass: a second try.
    pub(crate) async fn again(&self, until: Instant) -> Option<()> {
        let turn = self.reserve(Instant::now(), until)?;
        tokio::time::sleep_until(turn).await;
        Some(())
    }

    /// A turn for a renewal, if there is room for one now.
    pub(crate) fn enter_renewal(&self) -> Option<Pass> {
        let renewal = Arc::clone(&self.renewals).try_acquire_owned().ok()?;
        let call = Arc::clone(&self.calls).try_acquire_owned().ok()?;
        let now = Instant::now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let after = full_at.map_or(now, |at| at.max(now)) + self.interval;
        if after.duration_since(now) > (self.size / 2).max(self.interval) {
            return None;
        }
        *full_at = Some(after);
        Some(Pass {
            _call: call,
            _renewal: Some(renewal),
        })
    }

    fn reserve(&self, now: Instant, until: Instant) -> Option<Instant> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let after = full_at.map_or(now, |at| at.max(now)) + self.interval;
        let turn = now + after.duration_since(now).saturating_sub(self.size);
        if turn > until {
            return None;
        }
        *full_at = Some(after);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(CallRate {
            per_second: 10.0,
            burst: 4,
            in_flight: 100,
            renewals_in_flight: 100,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn pods_wait_their_turn_and_are_told_at_once_when_it_comes_too_late() {
        let gate = gate();
        let start = Instant::now();
        let until = start + Duration::from_secs(1);
        let mut passes = Vec::new();
        for expected in [
            0, 0, 0, 0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000,
        ] {
            passes.push(gate.enter(until).await.unwrap());
            assert_eq!(start.elapsed(), Duration::from_millis(expected));
        }
        assert!(gate.enter(until).await.is_none());
        assert_eq!(start.elapsed(), Duration::from_secs(1), "without waiting");
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_leave_half_of_the_burst_to_pods() {
        let gate = gate();
        let passes: Vec<_> = std::iter::from_fn(|| gate.enter_renewal()).collect();
        assert_eq!(passes.len(), 2);
        let start = Instant::now();
        for _ in 0..2 {
            assert!(gate.enter(start).await.is_some());
        }
        assert!(gate.enter(start).await.is_none());
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(gate.enter_renewal().is_none(), "the burst is not half full");
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(gate.enter_renewal().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_in_flight_are_bounded() {
        let gate = Gate::new(CallRate {
            in_flight: 1,
            ..CallRate::default()
        });
        let until = Instant::now() + Duration::from_secs(1);
        let pass = gate.enter(until).await;
        assert!(gate.enter_renewal().is_none());
        assert!(gate.enter(until).await.is_none());
        drop(pass);
        let until = Instant::now() + Duration::from_secs(1);
        assert!(gate.enter(until).await.is_some());
    }
}

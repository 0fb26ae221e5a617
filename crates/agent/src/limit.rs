//! Token buckets for requests: of one owner each, and of all together (agent spec, section 4).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Owners remembered at once. When so many are limited at the same time, all start anew: a flood of addresses does not lock
/// out those that were not seen before, and the limit of all together still holds.
const OWNERS: usize = 8192;

/// How many in the long run, and how many at once after a quiet time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// A second; 0 or less switches the limit off.
    pub per_second: f64,
    /// At once.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const OFF: Self = Self {
        per_second: 0.0,
        burst: 0,
    };

    /// The time in which one comes back, and the time in which an empty bucket fills.
    fn spans(self) -> Option<(Duration, Duration)> {
        let interval = Duration::try_from_secs_f64(self.per_second.recip()).ok();
        let interval = interval.filter(|_| self.per_second > 0.0)?;
        Some((interval, interval.saturating_mul(self.burst.max(1))))
    }
}

/// One bucket for each owner. A full bucket is not kept.
///
/// Owners are remembered by a keyed hash, so that nothing of them is copied. Nobody can look for two owners with the same
/// hash, because the key is random.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    hasher: RandomState,
    /// When each bucket is full again.
    full_at: Mutex<HashMap<u64, Instant>>,
}

impl Buckets {
    /// Buckets of this size.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            hasher: RandomState::new(),
            full_at: Mutex::default(),
        }
    }

    /// Takes one from the owner's bucket, if there is one in it.
    pub fn take(&self, owner: impl Hash, now: Instant) -> bool {
        let Some((interval, size)) = self.rate.spans() else {
            return true;
        };
        let owner = self.hasher.hash_one(owner);
        // A panic while counting cannot leave a number that matters.
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= OWNERS && !buckets.contains_key(&owner) {
            buckets.retain(|_, full_at| *full_at > now);
            if buckets.len() >= OWNERS {
                buckets.clear();
            }
        }
        let full_at = buckets.get(&owner).copied().unwrap_or(now).max(now);
        let after = full_at + interval;
        if after.duration_since(now) > size {
            return false;
        }
        buckets.insert(owner, after);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_burst_and_then_its_rate() {
        let buckets = Buckets::new(Rate {
            per_second: 20.0,
            burst: 40,
        });
        let taken = |now| (0..1000).filter(|_| buckets.take("pod", now)).count();
        assert_eq!(taken(Instant::now()), 40);
        assert!(buckets.take("other", Instant::now()), "each has its own");
        for (millis, expected) in [(49, 0), (1, 1), (1000, 20), (60_000, 40)] {
            tokio::time::advance(Duration::from_millis(millis)).await;
            assert_eq!(taken(Instant::now()), expected, "after {millis} ms more");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_owners_than_are_remembered_cost_no_memory() {
        let buckets = Buckets::new(Rate {
            per_second: 0.001,
            burst: 1,
        });
        for owner in 0..3 * OWNERS {
            assert!(buckets.take(owner, Instant::now()));
        }
        assert!(buckets.full_at.lock().unwrap().len() <= OWNERS);
        assert!(Buckets::new(Rate::OFF).take(1, Instant::now()));
    }
}

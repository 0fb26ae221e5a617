//! Numbers that the store and the directory keep about themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long something took, counted in buckets.
#[derive(Debug, Default)]
pub struct LagHistogram {
    /// One for each of [`BOUNDS`](Self::BOUNDS), and one for what is longer.
    buckets: [AtomicU64; 13],
    microseconds: AtomicU64,
}

impl LagHistogram {
    /// Upper bounds of the buckets in seconds.
    pub const BOUNDS: [f64; 12] = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    ];

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = Self::BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let _ = self
            .microseconds
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| {
                Some(sum.saturating_add(microseconds))
            });
    }

    /// Counts by bucket, the last one of those longer than every bound; not cumulative.
    #[must_use]
    pub fn counts(&self) -> [u64; 13] {
        std::array::from_fn(|at| {
            self.buckets
                .get(at)
                .map_or(0, |bucket| bucket.load(Ordering::Relaxed))
        })
    }

    /// The sum of all that was counted, in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        Duration::from_micros(self.microseconds.load(Ordering::Relaxed)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_bucket() {
        let histogram = LagHistogram::default();
        for (millis, bucket) in [(0, 0), (1, 0), (2, 1), (5, 2), (10_000, 11), (10_001, 12)] {
            let before = histogram.counts()[bucket];
            histogram.observe(Duration::from_millis(millis));
            assert_eq!(histogram.counts()[bucket], before + 1, "{millis} ms");
        }
        assert!(
            (histogram.sum() - 20.009).abs() < 1e-9,
            "{}",
            histogram.sum()
        );
    }
}

//! What happened, as numbers for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a fetch ended; the label `result` of `countersign_oidc_fetch_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FetchResult {
    /// With keys.
    Ok,
    /// The issuer did not answer.
    Unreachable,
    /// Its certificate is not trusted.
    Untrusted,
    /// Its answers are unusable.
    Unusable,
}

/// Counters since the start; all only grow.
#[derive(Debug, Default)]
pub struct KeyCounters {
    pub(super) ok: AtomicU64,
    pub(super) unreachable: AtomicU64,
    pub(super) untrusted: AtomicU64,
    pub(super) unusable: AtomicU64,
    pub(super) stale: AtomicU64,
}

impl KeyCounters {
    /// Fetches that ended like this.
    #[must_use]
    pub fn fetches(&self, result: FetchResult) -> u64 {
        self.of(result).load(Ordering::Relaxed)
    }

    /// Uses of keys that should have been fetched anew and could not be: `countersign_oidc_stale_keys_total`.
    #[must_use]
    pub fn stale_uses(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }

    pub(super) fn fetched(&self, result: FetchResult) {
        self.of(result).fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, result: FetchResult) -> &AtomicU64 {
        match result {
            FetchResult::Ok => &self.ok,
            FetchResult::Unreachable => &self.unreachable,
            FetchResult::Untrusted => &self.untrusted,
            FetchResult::Unusable => &self.unusable,
        }
    }
}

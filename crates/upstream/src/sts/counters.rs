//! What happened, as numbers for metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use countersign_token::RegionLabel;

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheKind {
    /// Identities that STS reported.
    Identity,
    /// Refusals by STS.
    Rejection,
}

/// Counters since the start; all only grow except `waiters`.
///
/// Statuses and regions come from closed sets: the labels cannot be grown by tokens.
#[derive(Debug, Default)]
pub struct StsCounters {
    pub(crate) identity_hits: AtomicU64,
    pub(crate) rejection_hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) coalesced: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) waiters: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) stale_uses: AtomicU64,
    pub(crate) expired_in_queue: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    pub(crate) refused_queue_full: AtomicU64,
    pub(crate) refused_queue_timeout: AtomicU64,
    pub(crate) refused_share: AtomicU64,
    by_region: Mutex<ByRegion>,
}

#[derive(Debug, Default)]
struct ByRegion {
    responses: BTreeMap<(u16, String), u64>,
    connection_failures: BTreeMap<String, u64>,
    throttled: BTreeMap<String, u64>,
}

/// All numbers at one time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StsSnapshot {
    /// Tokens verified from the identity cache.
    pub identity_hits: u64,
    /// Tokens refused from the cache of refusals.
    pub rejection_hits: u64,
    /// Tokens in neither cache, coalesced ones included.
    pub misses: u64,
    /// Tokens that joined a call under way.
    pub coalesced: u64,
    /// Identities that left the cache for others.
    pub evictions: u64,
    /// Identities in the cache now.
    pub identities: usize,
    /// Refusals in the cache now.
    pub rejections: usize,
    /// Requests that wait for a call now.
    pub waiters: u64,
    /// Calls under way now.
    pub in_flight: usize,
    /// Calls that wait for a place now.
    pub queued: usize,
    /// Calls per second allowed now; less than configured after throttling.
    pub rate: f64,
    /// Calls made.
    pub calls: u64,
    /// Identities past their lifetime that were accepted because STS could not be asked.
    pub stale_uses: u64,
    /// Tokens that expired while they waited.
    pub expired_in_queue: u64,
    /// Calls that were not made because nobody waited any more.
    pub abandoned: u64,
    /// Tokens refused because the queue was full.
    pub refused_queue_full: u64,
    /// Tokens refused because they waited too long.
    pub refused_queue_timeout: u64,
    /// Tokens refused because their share was used up.
    pub refused_share: u64,
    /// `sts_responses_total`: HTTP answers by status and region label.
    pub responses: BTreeMap<(u16, String), u64>,
    /// `sts_connection_failures_total`: calls without an answer by region label.
    pub connection_failures: BTreeMap<String, u64>,
    /// `sts_throttling_total`: answers that throttle by region label.
    pub throttled: BTreeMap<String, u64>,
}

impl StsCounters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn response(&self, status: u16, region: &RegionLabel) {
        self.change(|all| increment(&mut all.responses, (status, region.as_str().to_owned())));
    }

    pub(crate) fn connection_failure(&self, region: &RegionLabel) {
        self.change(|all| increment(&mut all.connection_failures, region.as_str().to_owned()));
    }

    pub(crate) fn throttled(&self, region: &RegionLabel) {
        self.change(|all| increment(&mut all.throttled, region.as_str().to_owned()));
    }

    pub(crate) fn snapshot(&self) -> StsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let by_region = self
            .by_region
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        StsSnapshot {
            identity_hits: read(&self.identity_hits),
            rejection_hits: read(&self.rejection_hits),
            misses: read(&self.misses),
            coalesced: read(&self.coalesced),
            evictions: read(&self.evictions),
            waiters: read(&self.waiters),
            calls: read(&self.calls),
            stale_uses: read(&self.stale_uses),
            expired_in_queue: read(&self.expired_in_queue),
            abandoned: read(&self.abandoned),
            refused_queue_full: read(&self.refused_queue_full),
            refused_queue_timeout: read(&self.refused_queue_timeout),
            refused_share: read(&self.refused_share),
            responses: by_region.responses.clone(),
            connection_failures: by_region.connection_failures.clone(),
            throttled: by_region.throttled.clone(),
            ..StsSnapshot::default()
        }
    }

    fn change(&self, change: impl FnOnce(&mut ByRegion)) {
        change(
            &mut self
                .by_region
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

fn increment<K: Ord>(map: &mut BTreeMap<K, u64>, key: K) {
    *map.entry(key).or_default() += 1;
}

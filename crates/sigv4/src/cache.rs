//! A bounded cache of signing keys (signature spec, section 3.1).
//!
//! `kSigning` depends on (key id, day, region, service), so one derivation serves a client for a day. What is cached is
//! the key, never the verdict about a signature. Reading takes a shared lock on one of a few shards for one hash map
//! lookup; nothing is computed under a lock.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use crate::key::{SecretKey, SigningKey};
use crate::time::AmzDate;

/// Entries of [`SigningKeyCache::default`].
pub const DEFAULT_CAPACITY: usize = 4096;

/// Seconds that an entry outlives the UTC day of its scope: the clock skew with which that day may still be signed for.
const GRACE: i64 = 15 * 60;

/// What a signing key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheKey<'a> {
    /// Access key id.
    pub key_id: &'a str,
    /// For temporary keys the SHA-256 of the session token that the secret was unsealed from, so that another token
    /// under the same key id never meets this entry.
    pub token_sha256: Option<[u8; 32]>,
    /// Day of the scope, `YYYYMMDD`.
    pub date: &'a str,
    /// Region of the scope.
    pub region: &'a str,
    /// Service of the scope.
    pub service: &'a str,
}

/// Signing keys by [`CacheKey`], least recently used out first. Shards are independent: with more than one, the oldest
/// entry of a full shard goes, not the oldest of all.
pub struct SigningKeyCache {
    shards: Vec<RwLock<Shard>>,
    per_shard: usize,
    hasher: RandomState,
    /// Raised by [`SigningKeyCache::forget`], so that a key derived from a secret read before is not put in after.
    forgotten: AtomicU64,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Id, Entry>,
    clock: AtomicU64,
}

struct Entry {
    key: Arc<SigningKey>,
    /// Last second of use.
    until: i64,
    used: AtomicU64,
}

const SHARDS: usize = 16;

impl SigningKeyCache {
    /// A cache of at most `capacity` keys. With 0 nothing is kept.
    pub fn new(capacity: usize) -> Self {
        let shards = if capacity < SHARDS * 16 { 1 } else { SHARDS };
        Self {
            shards: (0..shards).map(|_| RwLock::default()).collect(),
            per_shard: capacity / shards,
            hasher: RandomState::new(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// The key, if it is there and its day is not over. Does not allocate.
    pub fn get(&self, key: &CacheKey<'_>, now: Timestamp) -> Option<Arc<SigningKey>> {
        let id = Id::new(key)?;
        let shard = read(self.shard(key.key_id)?);
        let entry = shard.entries.get(&id)?;
        if now.as_second() > entry.until {
            return None;
        }
        entry.used.store(
            shard.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        Some(Arc::clone(&entry.key))
    }

    /// The key, or the one derived from the secret that `secret` finds; `None` when it finds none.
    ///
    /// `secret` must look at the present state of the store: what it read before a concurrent [`Self::forget`] is used
    /// for this request and not kept.
    pub fn get_or_derive<S: Borrow<SecretKey>>(
        &self,
        key: &CacheKey<'_>,
        now: Timestamp,
        secret: impl FnOnce() -> Option<S>,
    ) -> Option<Arc<SigningKey>> {
        if let Some(found) = self.get(key, now) {
            return Some(found);
        }
        let generation = self.forgotten.load(Ordering::Acquire);
        let derived = Arc::new(SigningKey::derive(
            secret()?.borrow(),
            key.date,
            key.region,
            key.service,
        ));
        self.insert(key, &derived, now, generation);
        Some(derived)
    }

    fn insert(
        &self,
        key: &CacheKey<'_>,
        derived: &Arc<SigningKey>,
        now: Timestamp,
        generation: u64,
    ) {
        let (Some(id), Some(until), Some(shard)) =
            (Id::new(key), end_of_day(key.date), self.shard(key.key_id))
        else {
            return;
        };
        let now = now.as_second();
        if self.per_shard == 0 || now > until {
            return;
        }
        let mut shard = write(shard);
        if self.forgotten.load(Ordering::Acquire) != generation {
            return;
        }
        if shard.entries.len() >= self.per_shard && !shard.entries.contains_key(&id) {
            shard.make_room(now, self.per_shard);
        }
        let used = AtomicU64::new(shard.clock.fetch_add(1, Ordering::Relaxed));
        shard.entries.insert(
            id,
            Entry {
                key: Arc::clone(derived),
                until,
                used,
            },
        );
    }

    /// Drops all keys of an access key: it was deleted or deactivated, or its secret changed.
    pub fn forget(&self, key_id: &str) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        if let Some(shard) = self.shard(key_id) {
            write(shard).entries.retain(|id, _| !id.is_of(key_id));
        }
    }

    /// Drops all keys whose day is over. They are never returned anyway; this frees and wipes them early.
    pub fn sweep(&self, now: Timestamp) {
        for shard in &self.shards {
            write(shard)
                .entries
                .retain(|_, entry| now.as_second() <= entry.until);
        }
    }

    /// Keys held at present.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| read(shard).entries.len())
            .sum()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All keys of one access key live in one shard, so that forgetting it looks into that one only.
    fn shard(&self, key_id: &str) -> Option<&RwLock<Shard>> {
        let n = self.hasher.hash_one(key_id) % self.shards.len() as u64;
        self.shards.get(n as usize)
    }
}

impl Default for SigningKeyCache {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl Shard {
    /// Removes what is over, else the least recently used. Linear in the shard, on the path that derives a key anyway.
    fn make_room(&mut self, now: i64, capacity: usize) {
        self.entries.retain(|_, entry| now <= entry.until);
        if self.entries.len() < capacity {
            return;
        }
        let oldest = self
            .entries
            .iter()
            .min_by_key(|(_, entry)| entry.used.load(Ordering::Relaxed));
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.entries.remove(&id);
        }
    }
}

/// The owned form of a [`CacheKey`], flat so that a lookup builds it on the stack: NUL-terminated texts, then the
/// token digest.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Id {
    bytes: [u8; Id::MAX],
    len: u8,
}

/// Equal ids have equal used bytes, so these alone are hashed.
impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes
            .get(..usize::from(self.len))
            .unwrap_or_default()
            .hash(state);
    }
}

impl Id {
    const MAX: usize = 192;

    /// `None` when the parts are longer than any real ones, or hold the separator; such keys are not cached.
    fn new(key: &CacheKey<'_>) -> Option<Self> {
        let texts = [key.key_id, key.date, key.region, key.service];
        if texts.iter().any(|text| text.contains('\0')) {
            return None;
        }
        let mut id = Self {
            bytes: [0; Self::MAX],
            len: 0,
        };
        for text in texts {
            id.push(text.as_bytes())?;
            id.push(&[0])?;
        }
        if let Some(digest) = &key.token_sha256 {
            id.push(digest)?;
        }
        Some(id)
    }

    fn push(&mut self, part: &[u8]) -> Option<()> {
        let start = usize::from(self.len);
        let end = start + part.len();
        self.bytes.get_mut(start..end)?.copy_from_slice(part);
        self.len = u8::try_from(end).ok()?;
        Some(())
    }

    fn is_of(&self, key_id: &str) -> bool {
        self.bytes
            .strip_prefix(key_id.as_bytes())
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// The last second for which a key of this day is of use; `None` for what is no day.
fn end_of_day(date: &str) -> Option<i64> {
    let mut text = *b"00000000T000000Z";
    let (day, _) = text.split_at_mut(8);
    if date.len() != day.len() {
        return None;
    }
    day.copy_from_slice(date.as_bytes());
    Some(AmzDate::parse(&text)?.second() + 24 * 3600 - 1 + GRACE)
}

// A panic while a lock is held cannot leave a shard half-changed in a way that matters: at worst an entry is missing.
fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for SigningKeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeyCache")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-03-14T09:26:53Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn key(key_id: &str) -> CacheKey<'_> {
        CacheKey {
            key_id,
            token_sha256: None,
            date: "20260314",
            region: "us-east-1",
            service: "sts",
        }
    }

    fn fill(cache: &SigningKeyCache, key: &CacheKey<'_>) {
        let secret = Arc::new(SecretKey::new("s"));
        cache.get_or_derive(key, now(), || Some(secret)).unwrap();
    }

    #[test]
    fn the_least_recently_used_key_goes_first() {
        let cache = SigningKeyCache::new(2);
        fill(&cache, &key("A"));
        fill(&cache, &key("B"));
        assert!(cache.get(&key("A"), now()).is_some());
        fill(&cache, &key("C"));
        assert!(cache.get(&key("A"), now()).is_some());
        assert!(cache.get(&key("B"), now()).is_none());
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn the_bound_holds_for_any_number_of_keys() {
        for capacity in [0, 1, 300, DEFAULT_CAPACITY] {
            let cache = SigningKeyCache::new(capacity);
            for i in 0..capacity * 2 + 10 {
                fill(&cache, &key(&format!("AKIA{i}")));
            }
            assert!(cache.len() <= capacity, "{capacity}");
            assert!(cache.len() >= capacity / 2, "{capacity}");
        }
    }

    #[test]
    fn a_key_is_dropped_fifteen_minutes_after_its_day() {
        let cache = SigningKeyCache::default();
        fill(&cache, &key("A"));
        let last: Timestamp = "2026-03-15T00:14:59Z".parse().unwrap();
        let over: Timestamp = "2026-03-15T00:15:00Z".parse().unwrap();
        assert!(cache.get(&key("A"), last).is_some());
        assert!(cache.get(&key("A"), over).is_none());
        cache.sweep(last);
        assert_eq!(cache.len(), 1);
        cache.sweep(over);
        assert!(cache.is_empty());
    }

    #[test]
    fn forgetting_an_access_key_drops_its_keys_and_no_others() {
        let cache = SigningKeyCache::default();
        let elsewhere = CacheKey {
            region: "eu-west-1",
            ..key("AKIA1")
        };
        for k in [key("AKIA1"), elsewhere, key("AKIA12"), key("AKIA")] {
            fill(&cache, &k);
        }
        cache.forget("AKIA1");
        assert!(cache.get(&key("AKIA1"), now()).is_none());
        assert!(cache.get(&elsewhere, now()).is_none());
        assert!(cache.get(&key("AKIA12"), now()).is_some());
        assert!(cache.get(&key("AKIA"), now()).is_some());
    }

    #[test]
    fn a_secret_read_before_its_key_was_forgotten_is_not_kept() {
        let cache = SigningKeyCache::default();
        let derived = cache.get_or_derive(&key("A"), now(), || {
            let old = Arc::new(SecretKey::new("old"));
            cache.forget("A");
            Some(old)
        });
        assert!(derived.is_some());
        assert!(cache.get(&key("A"), now()).is_none());
    }

    #[test]
    fn keys_of_another_token_day_region_or_service_do_not_meet() {
        let cache = SigningKeyCache::default();
        fill(&cache, &key("A"));
        for other in [
            CacheKey {
                token_sha256: Some([0; 32]),
                ..key("A")
            },
            CacheKey {
                date: "20260313",
                ..key("A")
            },
            CacheKey {
                region: "us-east-2",
                ..key("A")
            },
            CacheKey {
                service: "iam",
                ..key("A")
            },
            CacheKey {
                key_id: "A\u{0}20260314",
                date: "us-east-1",
                region: "sts",
                service: "",
                ..key("A")
            },
        ] {
            assert!(cache.get(&other, now()).is_none(), "{other:?}");
        }
    }

    #[test]
    fn parts_of_absurd_length_are_derived_and_not_kept() {
        let cache = SigningKeyCache::default();
        let long = "x".repeat(500);
        fill(&cache, &key(&long));
        fill(
            &cache,
            &CacheKey {
                date: "not-a-da",
                ..key("A")
            },
        );
        assert!(cache.is_empty());
    }

    #[test]
    fn an_unknown_key_is_not_cached() {
        let cache = SigningKeyCache::default();
        assert!(
            cache
                .get_or_derive(&key("A"), now(), || None::<Arc<SecretKey>>)
                .is_none()
        );
        assert!(cache.is_empty());
    }
}

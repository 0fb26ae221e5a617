//! Tokens that were opened lately, so that a token is unsealed once and not with every request (SigV4 spec, section 3.1).
//!
//! What is remembered is the content of a token, never a verdict: expiry and the state of the key are checked again with
//! every use, and revocation, the principal and the signature are no business of this cache.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::bound::DeploymentId;
use crate::crypto::{DIGEST, sha256};
use crate::ring::KeyRing;
use crate::token::{MAX_TOKEN_CHARS, OpenError, Opened, open_hashed};

/// Entries unless configured otherwise.
pub const DEFAULT_CAPACITY: usize = 4096;

const SHARDS: usize = 16;

type Digest = [u8; DIGEST];

/// A bounded cache of opened tokens, under the SHA-256 of the token; the access key id must be the same as well. The
/// entry that was not used for longest leaves first. Secrets are wiped when the last user of an entry lets go of it.
///
/// Shared by reference: sixteen parts, each behind a lock that is held for a look-up and never while a token is opened.
/// Tokens that do not open are not remembered, so strangers cannot push anybody out.
pub struct OpenCache {
    deployment: DeploymentId,
    shards: Box<[Mutex<Shard>]>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl OpenCache {
    /// A cache of at most `capacity` entries for tokens of `deployment`; with 0 every token is opened every time.
    #[must_use]
    pub fn new(capacity: usize, deployment: DeploymentId) -> Self {
        // Few entries share one shard: sixteen shards of one entry would evict each other's neighbours at random.
        let shards = if capacity < 16 * SHARDS { 1 } else { SHARDS };
        Self {
            deployment,
            shards: (0..shards)
                .map(|_| Mutex::new(Shard::new(capacity / shards)))
                .collect(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Opens `token` as [`open`](crate::open) does, at most once as long as it is remembered.
    ///
    /// # Errors
    /// As [`open`](crate::open); a remembered token that is over or whose key was retired since is forgotten and refused.
    pub fn open(
        &self,
        token: &[u8],
        access_key_id: &str,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<Arc<Opened>, OpenError> {
        if token.len() > MAX_TOKEN_CHARS {
            return Err(OpenError::Malformed);
        }
        let digest = sha256(token);
        if let Some(known) = self.known(&digest, access_key_id) {
            if known.record().is_expired(now) {
                self.shard(&digest).remove(&digest);
                return Err(OpenError::Expired(known.record().expires));
            }
            if known.still_opens(ring, now) {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(known);
            }
            self.shard(&digest).remove(&digest);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let opened = Arc::new(open_hashed(
            token,
            digest,
            access_key_id,
            ring,
            &self.deployment,
            now,
        )?);
        self.shard(&digest).insert(digest, Arc::clone(&opened));
        Ok(opened)
    }

    /// Forgets sessions that are over at `now`. Not needed for correctness: it frees memory and wipes secrets early.
    pub fn purge(&self, now: Timestamp) {
        for shard in &self.shards {
            lock(shard).retain(|opened| !opened.record().is_expired(now));
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            lock(shard).retain(|_| false);
        }
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).by_digest.len())
            .sum()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a token was remembered, and how often it had to be opened.
    #[must_use]
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }

    fn known(&self, digest: &Digest, access_key_id: &str) -> Option<Arc<Opened>> {
        let known = self.shard(digest).get(digest)?;
        (known.access_key_id() == access_key_id).then_some(known)
    }

    fn shard(&self, digest: &Digest) -> MutexGuard<'_, Shard> {
        let [first, ..] = digest;
        let at = usize::from(*first) % self.shards.len().max(1);
        // INVARIANT: there is at least one shard, and `at` is below their number.
        #[expect(
            clippy::indexing_slicing,
            reason = "reduced modulo the length, which is not zero"
        )]
        lock(&self.shards[at])
    }
}

impl fmt::Debug for OpenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hits, misses) = self.hits_and_misses();
        f.debug_struct("OpenCache")
            .field("len", &self.len())
            .field("hits", &hits)
            .field("misses", &misses)
            .finish()
    }
}

/// A panic elsewhere cannot leave a shard half changed: nothing in it calls foreign code.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A map into a slab whose entries form a ring by use: following `older` from the newest leads through all to the oldest,
/// and from there back to the newest.
struct Shard {
    by_digest: HashMap<Digest, usize, BuildHasherDefault<DigestHasher>>,
    slab: Vec<Slot>,
    free: Vec<usize>,
    newest: Option<usize>,
    capacity: usize,
}

struct Slot {
    digest: Digest,
    opened: Option<Arc<Opened>>,
    newer: usize,
    older: usize,
}

impl Shard {
    fn new(capacity: usize) -> Self {
        Self {
            by_digest: HashMap::default(),
            slab: Vec::new(),
            free: Vec::new(),
            newest: None,
            capacity,
        }
    }

    fn get(&mut self, digest: &Digest) -> Option<Arc<Opened>> {
        let at = *self.by_digest.get(digest)?;
        if self.newest != Some(at) {
            self.unlink(at);
            self.link(at);
        }
        self.slab.get(at)?.opened.clone()
    }

    fn insert(&mut self, digest: Digest, opened: Arc<Opened>) {
        if self.capacity == 0 {
            return;
        }
        self.remove(&digest);
        if self.by_digest.len() >= self.capacity {
            let oldest = self
                .newest
                .and_then(|newest| self.slab.get(newest))
                .map(|newest| newest.newer)
                .and_then(|oldest| self.slab.get(oldest))
                .map(|oldest| oldest.digest);
            if let Some(oldest) = oldest {
                self.remove(&oldest);
            }
        }
        let slot = Slot {
            digest,
            opened: Some(opened),
            newer: 0,
            older: 0,
        };
        let at = self.free.pop().unwrap_or(self.slab.len());
        match self.slab.get_mut(at) {
            Some(free) => *free = slot,
            None => self.slab.push(slot),
        }
        self.by_digest.insert(digest, at);
        self.link(at);
    }

    fn remove(&mut self, digest: &Digest) {
        let Some(at) = self.by_digest.remove(digest) else {
            return;
        };
        self.unlink(at);
        if let Some(slot) = self.slab.get_mut(at) {
            slot.opened = None;
        }
        self.free.push(at);
    }

    fn retain(&mut self, mut keep: impl FnMut(&Opened) -> bool) {
        let condemned: Vec<Digest> = self
            .slab
            .iter()
            .filter(|slot| slot.opened.as_ref().is_some_and(|opened| !keep(opened)))
            .map(|slot| slot.digest)
            .collect();
        for digest in &condemned {
            self.remove(digest);
        }
    }

    /// Puts an entry that is in no ring before the newest.
    fn link(&mut self, at: usize) {
        let newest = self.newest.unwrap_or(at);
        let oldest = match self.slab.get(newest) {
            Some(slot) if newest != at => slot.newer,
            _ => at,
        };
        if let Some(slot) = self.slab.get_mut(at) {
            slot.older = newest;
            slot.newer = oldest;
        }
        if let Some(slot) = self.slab.get_mut(newest) {
            slot.newer = at;
        }
        if let Some(slot) = self.slab.get_mut(oldest) {
            slot.older = at;
        }
        self.newest = Some(at);
    }

    fn unlink(&mut self, at: usize) {
        let Some((newer, older)) = self.slab.get(at).map(|slot| (slot.newer, slot.older)) else {
            return;
        };
        if let Some(slot) = self.slab.get_mut(newer) {
            slot.older = older;
        }
        if let Some(slot) = self.slab.get_mut(older) {
            slot.newer = newer;
        }
        if self.newest == Some(at) {
            self.newest = (older != at).then_some(older);
        }
    }
}

/// A digest is its own hash: only genuine tokens are remembered, and nobody can choose the digest of one.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The length comes first and the digest last.
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }
}

//! What STS answered lately, which calls are under way, and who waits for them.
//!
//! An entry is the identity that STS returned for exactly one presigned URL and one cluster id. Names and groups are not
//! kept: mapping runs on every review, so taking a mapping away acts at once.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::{hmac, rand};
use countersign_arn::CallerIdentity;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Rejection, StsError};
use crate::lru::Lru;

/// Stands for a token in every table, so that no table holds one: HMAC-SHA-256 under a key of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenKey([u8; 32]);

impl Hash for TokenKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// Takes the eight bytes as they are: they are the output of a keyed MAC, which nobody outside can steer.
#[derive(Debug, Default)]
pub(crate) struct TokenKeyHasher(u64);

impl Hasher for TokenKeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type KeyedBy = BuildHasherDefault<TokenKeyHasher>;

/// Makes [`TokenKey`]s.
pub(crate) struct TokenKeyer(hmac::Key);

impl TokenKeyer {
    /// With a fresh random key.
    pub(crate) fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).map(Self)
    }

    pub(crate) fn key(&self, cluster_id: &str, url: &str) -> TokenKey {
        let mut context = hmac::Context::with_key(&self.0);
        // The length keeps `ab` + `c` apart from `a` + `bc`.
        context.update(&(cluster_id.len() as u64).to_be_bytes());
        context.update(cluster_id.as_bytes());
        context.update(url.as_bytes());
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        TokenKey(key)
    }
}

/// An outcome as every waiter of a call gets it.
pub(crate) type Outcome = Result<Arc<CallerIdentity>, StsError>;
/// Where a call puts its outcome; it has as many receivers as requests wait.
pub(crate) type Announcement = Arc<watch::Sender<Option<Outcome>>>;

/// Entries for one access key.
const MAX_PER_ACCESS_KEY: usize = 64;
/// Remembered rejections. They are small and live for seconds.
const MAX_REJECTIONS: usize = 8192;

/// All tables, to be kept under one lock: no operation here does I/O, and only flushing looks at more than a few entries.
#[derive(Debug)]
pub(crate) struct Book {
    identities: Lru<TokenKey, Known, KeyedBy>,
    by_access_key: HashMap<Box<str>, VecDeque<TokenKey>>,
    rejections: Lru<TokenKey, Rejected, KeyedBy>,
    calls: HashMap<TokenKey, Call, KeyedBy>,
    next_call: u64,
    /// Grows with each flush: what was asked before it is not remembered after it.
    flushes: u64,
}

#[derive(Debug)]
struct Known {
    identity: Arc<CallerIdentity>,
    fresh_until: Instant,
    stale_until: Instant,
    token_ends: Timestamp,
}

#[derive(Debug)]
struct Rejected {
    rejection: Rejection,
    until: Instant,
}

#[derive(Debug)]
struct Call {
    number: u64,
    announcement: Announcement,
}

/// What the book says about a token.
pub(crate) enum Entry {
    Fresh(Arc<CallerIdentity>),
    Rejected(Rejection),
    /// A call is under way; wait for it.
    Join(watch::Receiver<Option<Outcome>>),
    /// Nothing is known and nobody asks: the caller of [`Book::look_up`] must start the call.
    Ask(Ticket, watch::Receiver<Option<Outcome>>),
}

/// A call that was entered in the book.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) key: TokenKey,
    number: u64,
    flushes: u64,
    pub(crate) announcement: Announcement,
}

/// How long an answer counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    pub(crate) fresh_until: Instant,
    pub(crate) stale_until: Instant,
    pub(crate) token_ends: Timestamp,
}

/// Which entries to drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush<'a> {
    /// Everything.
    All,
    /// The entries of one access key id.
    AccessKey(&'a str),
    /// The entries of one principal, by ARN as STS reports it or by canonical ARN, without regard to case.
    Principal(&'a str),
}

impl Book {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            identities: Lru::new(capacity),
            by_access_key: HashMap::new(),
            rejections: Lru::new(MAX_REJECTIONS.min(capacity)),
            calls: HashMap::default(),
            next_call: 0,
            flushes: 0,
        }
    }

    pub(crate) fn look_up(&mut self, key: TokenKey, now: Instant, time: Timestamp) -> Entry {
        if let Some(known) = self.identities.get(&key) {
            if now < known.fresh_until && time <= known.token_ends {
                return Entry::Fresh(Arc::clone(&known.identity));
            }
            if now >= known.stale_until || time > known.token_ends {
                self.forget(key);
            }
        }
        if let Some(rejected) = self.rejections.get(&key) {
            if now < rejected.until {
                return Entry::Rejected(rejected.rejection.clone());
            }
            self.rejections.remove(&key);
        }
        if let Some(call) = self.calls.get(&key) {
            return Entry::Join(call.announcement.subscribe());
        }
        let (announcement, outcome) = watch::channel(None);
        let announcement = Arc::new(announcement);
        self.next_call += 1;
        self.calls.insert(
            key,
            Call {
                number: self.next_call,
                announcement: Arc::clone(&announcement),
            },
        );
        let ticket = Ticket {
            key,
            number: self.next_call,
            flushes: self.flushes,
            announcement,
        };
        Entry::Ask(ticket, outcome)
    }

    /// An identity that is past its lifetime and within the extension for outages.
    pub(crate) fn stale(
        &mut self,
        key: TokenKey,
        now: Instant,
        time: Timestamp,
    ) -> Option<Arc<CallerIdentity>> {
        self.identities
            .get(&key)
            .filter(|known| now < known.stale_until && time <= known.token_ends)
            .map(|known| Arc::clone(&known.identity))
    }

    /// Whether the call can be dropped because nobody waits for it any more; if so, it is out of the book.
    pub(crate) fn abandon(&mut self, ticket: &Ticket) -> bool {
        let nobody_waits = ticket.announcement.receiver_count() == 0;
        if nobody_waits {
            self.close(ticket);
        }
        nobody_waits
    }

    /// Takes the call out of the book: from now on a request for the same token asks anew.
    pub(crate) fn close(&mut self, ticket: &Ticket) {
        if self
            .calls
            .get(&ticket.key)
            .is_some_and(|call| call.number == ticket.number)
        {
            self.calls.remove(&ticket.key);
        }
    }

    /// Remembers an identity, and returns how many entries had to leave for it.
    pub(crate) fn remember(
        &mut self,
        ticket: &Ticket,
        identity: &Arc<CallerIdentity>,
        lifetime: Lifetime,
    ) -> u64 {
        if ticket.flushes != self.flushes {
            return 0;
        }
        let key = ticket.key;
        self.forget(key);
        let mut evicted = 0;
        let access_key = identity.access_key_id();
        let of_same_key = self.by_access_key.entry(access_key.into()).or_default();
        of_same_key.push_back(key);
        if of_same_key.len() > MAX_PER_ACCESS_KEY
            && let Some(oldest) = of_same_key.pop_front()
        {
            self.identities.remove(&oldest);
            evicted += 1;
        }
        let known = Known {
            identity: Arc::clone(identity),
            fresh_until: lifetime.fresh_until,
            stale_until: lifetime.stale_until,
            token_ends: lifetime.token_ends,
        };
        if let Some((oldest, known)) = self.identities.insert(key, known) {
            self.unlink(oldest, known.identity.access_key_id());
            evicted += 1;
        }
        evicted
    }

    /// STS refused the token: nothing may accept it any more. Remembers the refusal until `until`, if given.
    pub(crate) fn reject(
        &mut self,
        ticket: &Ticket,
        rejection: &Rejection,
        until: Option<Instant>,
    ) {
        self.forget(ticket.key);
        if let Some(until) = until
            && ticket.flushes == self.flushes
        {
            self.rejections.insert(
                ticket.key,
                Rejected {
                    rejection: rejection.clone(),
                    until,
                },
            );
        }
    }

    /// Drops entries and returns how many identities were among them.
    ///
    /// Rejections and calls under way are let go in every case: they are few, and an answer that was asked for before a flush
    /// must not be given after it.
    pub(crate) fn flush(&mut self, which: Flush<'_>) -> usize {
        self.flushes += 1;
        self.calls.clear();
        self.rejections.clear();
        match which {
            Flush::All => {
                let dropped = self.identities.len();
                self.identities.clear();
                self.by_access_key = HashMap::new();
                dropped
            }
            Flush::AccessKey(access_key) => {
                let keys = self.by_access_key.remove(access_key).unwrap_or_default();
                keys.iter()
                    .filter(|key| self.identities.remove(key).is_some())
                    .count()
            }
            Flush::Principal(arn) => {
                let mut owners = Vec::new();
                let keys = self.identities.extract(|_, known| {
                    let hit = known.identity.arn().eq_ignore_ascii_case(arn)
                        || known.identity.canonical_arn().eq_ignore_ascii_case(arn);
                    if hit {
                        owners.push(Arc::clone(&known.identity));
                    }
                    hit
                });
                for (key, identity) in keys.iter().zip(&owners) {
                    self.unlink(*key, identity.access_key_id());
                }
                keys.len()
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.identities.len()
    }

    pub(crate) fn rejections(&self) -> usize {
        self.rejections.len()
    }

    fn forget(&mut self, key: TokenKey) {
        if let Some(known) = self.identities.remove(&key) {
            self.unlink(key, known.identity.access_key_id());
        }
    }

    fn unlink(&mut self, key: TokenKey, access_key: &str) {
        if let Some(keys) = self.by_access_key.get_mut(access_key) {
            keys.retain(|k| *k != key);
            if keys.is_empty() {
                self.by_access_key.remove(access_key);
            }
        }
    }
}

//! What the cache holds: pure state under one lock. No operation does I/O, and time is an argument.

mod share;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{CacheSettings, Outcome};
use crate::chance::Chance;
use crate::refusal::Refusal;
use crate::token::{PodIdentity, PodKey, TokenDigest, TokenFacts};

/// Credentials are handed out only while they live longer than this (section 7.1).
pub(crate) const LEAST_LIFE: SignedDuration = SignedDuration::from_secs(15);
/// Accepted tokens of one pod: kubelet has one or two at a time.
const MAX_TOKENS: usize = 4;
/// Failures remembered at once. They are small and live for seconds.
const MAX_FAILURES: usize = 4096;
/// Flights at once; there are never more than connections.
const MAX_FLIGHTS: usize = 8192;
/// Its multiples, taken modulo one, stay as far from each other as those of any number.
const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;

/// Moments from which the calmest is chosen for a renewal, and the part of the period within which they lie on either side.
const CANDIDATES: usize = 16;
const AROUND: f64 = 0.04;

/// What one call of the auth service is for.
///
/// A token whose signature was verified stands for its pod. Any other stands for itself alone: its claims may be made up,
/// and whoever sent it must neither get the answer that belongs to another token nor spoil it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FlightKey {
    Pod(PodKey),
    Token(TokenDigest),
}

/// A token that the auth service accepted, or whose signature was verified.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) key: PodKey,
    pub(crate) identity: Arc<PodIdentity>,
    pub(crate) expires: i64,
    pub(crate) not_before: Option<i64>,
}

pub(crate) struct Book {
    settings: CacheSettings,
    entries: HashMap<PodKey, Entry>,
    /// INVARIANT: every digest here is in `digests` of the entry under its key.
    tokens: HashMap<TokenDigest, Known>,
    flights: HashMap<FlightKey, Flight>,
    failures: HashMap<FlightKey, (Refusal, Instant)>,
    /// Counts reads, for what was used least recently, and gives numbers to flights and entries.
    counter: u64,
    /// The last point of the sequence that spreads renewals; the first is random, so that nodes differ.
    spread: f64,
    /// Grows with every change that was reported: what was asked before it is not kept after it.
    changes: u64,
    /// No renewal is planned for earlier, so that nobody looks through the entries every second. May be too early.
    earliest: Option<Instant>,
}

struct Entry {
    number: u64,
    identity: Arc<PodIdentity>,
    audience: Box<str>,
    association_id: Box<str>,
    session_arn: Arc<str>,
    body: Bytes,
    expires_at: Timestamp,
    /// The newest token that was accepted, to renew with.
    token: Zeroizing<String>,
    token_expires: i64,
    digests: VecDeque<TokenDigest>,
    fetched: Instant,
    fetched_at: Timestamp,
    /// The part of the life after which credentials are renewed at the latest.
    period: Duration,
    last_read: Instant,
    used: u64,
    reads: u64,
    next: Next,
    failed: u32,
    /// Whether they are of no pod in particular, as a look at the association said after they had come.
    shared: bool,
}

/// What happens to an entry next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Renewal(Instant),
    /// A renewal is under way.
    Running,
    /// Nobody reads it, or its token has run out: it runs out too.
    Dormant,
}

struct Flight {
    number: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// A flight that was entered in the book.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) key: FlightKey,
    number: u64,
    changes: u64,
}

pub(crate) enum Joined {
    /// The same question failed a moment ago.
    Failed(Refusal),
    /// Somebody asks already.
    Wait(watch::Receiver<Option<Outcome>>),
    /// The caller must ask, and tell the outcome.
    Start(
        Ticket,
        watch::Sender<Option<Outcome>>,
        watch::Receiver<Option<Outcome>>,
    ),
}

/// Credentials ready to be kept.
pub(crate) struct Fresh {
    pub(crate) body: Bytes,
    pub(crate) audience: Box<str>,
    pub(crate) association_id: Box<str>,
    pub(crate) session_arn: Arc<str>,
    pub(crate) expires_at: Timestamp,
}

/// The credentials of a pod, and what the metadata guard tells about them.
#[derive(Clone)]
pub(crate) struct Held {
    /// The body of the credentials endpoint.
    pub(crate) body: Bytes,
    pub(crate) session_arn: Arc<str>,
    pub(crate) association_id: Box<str>,
    pub(crate) fetched_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// An entry to renew.
pub(crate) struct Due {
    pub(crate) key: PodKey,
    number: u64,
    pub(crate) identity: Arc<PodIdentity>,
    pub(crate) token: Zeroizing<String>,
}

/// The use that a pod makes of its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodUse {
    /// Whose they are.
    pub identity: Arc<PodIdentity>,
    /// The association that they come from.
    pub association_id: Box<str>,
    /// When they came.
    pub fetched_at: Timestamp,
    /// When they end.
    pub expires_at: Timestamp,
    /// How often they were read since they are in the cache.
    pub reads: u64,
}

/// Now, on both clocks: spans are measured on the one, ends of credentials and tokens compared with the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) time: Timestamp,
}

impl Book {
    pub(crate) fn new(settings: CacheSettings, chance: &dyn Chance) -> Self {
        Self {
            settings,
            entries: HashMap::new(),
            tokens: HashMap::new(),
            flights: HashMap::new(),
            failures: HashMap::new(),
            counter: 0,
            spread: chance.unit(),
            changes: 0,
            earliest: None,
        }
    }

    /// Notes when a renewal is planned.
    fn plan(&mut self, at: Instant) -> Next {
        self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
        Next::Renewal(at)
    }

    /// Takes a token's credentials from the cache.
    pub(crate) fn known(&self, digest: &TokenDigest) -> Option<&Known> {
        self.tokens.get(digest)
    }

    /// The credentials of a pod, if they live long enough; counts as a read.
    pub(crate) fn read(&mut self, key: PodKey, now: Now) -> Option<Bytes> {
        let entry = self.entries.get_mut(&key)?;
        if !is_usable(entry.expires_at, now.time) {
            return None;
        }
        self.counter += 1;
        entry.used = self.counter;
        entry.reads += 1;
        entry.last_read = now.instant;
        let body = entry.body.clone();
        if entry.next == Next::Dormant && entry.token_expires > now.time.as_second() {
            entry.next = Next::Renewal(now.instant);
            self.plan(now.instant);
        }
        Some(body)
    }

    /// The entry of the pod with this uid.
    pub(crate) fn key_of(&self, pod_uid: &str) -> Option<PodKey> {
        let of_pod = |entry: &Entry| &*entry.identity.pod_uid == pod_uid;
        let mut entries = self.entries.iter();
        let found = entries.find(|(_, entry)| of_pod(entry));
        found.map(|(key, _)| *key)
    }

    pub(crate) fn expires_at(&self, key: PodKey) -> Option<Timestamp> {
        self.entries.get(&key).map(|entry| entry.expires_at)
    }

    /// The same with what the metadata guard tells about them.
    pub(crate) fn held(&mut self, key: PodKey, now: Now) -> Option<Held> {
        let body = self.read(key, now)?;
        let entry = self.entries.get(&key)?;
        Some(Held {
            body,
            session_arn: Arc::clone(&entry.session_arn),
            association_id: entry.association_id.clone(),
            fetched_at: entry.fetched_at,
            expires_at: entry.expires_at,
        })
    }

    /// The same for a token that was not seen before and whose signature was verified: kubelet gave the pod a new one.
    pub(crate) fn adopt(
        &mut self,
        digest: TokenDigest,
        text: &str,
        facts: &TokenFacts,
        now: Now,
    ) -> Option<Bytes> {
        let key = facts.identity.key();
        let entry = self.entries.get_mut(&key)?;
        // The cluster signs tokens for other audiences too, and they are no ticket to credentials.
        let for_us = facts.audiences.contains(&entry.audience);
        if !for_us || entry.identity != facts.identity || !is_usable(entry.expires_at, now.time) {
            return None;
        }
        if facts.expires > entry.token_expires {
            entry.token = Zeroizing::new(text.to_owned());
            entry.token_expires = facts.expires;
        }
        self.accept(key, digest, facts);
        self.read(key, now)
    }

    /// Remembers a token of an entry.
    fn accept(&mut self, key: PodKey, digest: TokenDigest, facts: &TokenFacts) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if !entry.digests.contains(&digest) {
            entry.digests.push_back(digest);
        }
        if entry.digests.len() > MAX_TOKENS
            && let Some(oldest) = entry.digests.pop_front()
        {
            self.tokens.remove(&oldest);
        }
        let known = Known {
            key,
            identity: Arc::clone(&entry.identity),
            expires: facts.expires,
            not_before: facts.not_before,
        };
        self.tokens.insert(digest, known);
    }

    /// Joins the flight under `key`, for a token with this digest.
    pub(crate) fn join(&mut self, key: FlightKey, digest: TokenDigest, now: Instant) -> Joined {
        for key in [key, FlightKey::Token(digest)] {
            match self.failures.get(&key) {
                Some((refusal, until)) if now < *until => return Joined::Failed(refusal.clone()),
                Some(_) => drop(self.failures.remove(&key)),
                None => {}
            }
        }
        // A flight whose task is gone without a word is none.
        if let Some(flight) = self.flights.get(&key)
            && flight.outcome.has_changed().is_ok()
        {
            return Joined::Wait(flight.outcome.clone());
        }
        if self.flights.len() >= MAX_FLIGHTS {
            return Joined::Failed(Refusal::Unavailable);
        }
        let (sender, outcome) = watch::channel(None);
        self.counter += 1;
        let flight = Flight {
            number: self.counter,
            outcome: outcome.clone(),
        };
        self.flights.insert(key, flight);
        let ticket = Ticket {
            key,
            number: self.counter,
            changes: self.changes,
        };
        Joined::Start(ticket, sender, outcome)
    }

    /// The flight with this token failed; the same question gets the same answer until `until`. What is wrong with the token
    /// says nothing about the next token of the pod.
    pub(crate) fn failed(
        &mut self,
        ticket: Ticket,
        digest: TokenDigest,
        refusal: &Refusal,
        until: Instant,
    ) {
        self.close(ticket);
        let key = if refusal.is_about_the_token() {
            FlightKey::Token(digest)
        } else {
            ticket.key
        };
        if self.failures.len() >= MAX_FAILURES {
            self.failures.clear();
        }
        if ticket.changes == self.changes {
            self.failures.insert(key, (refusal.clone(), until));
        }
    }

    /// The flight brought credentials. Keeps them, and returns how many entries had to leave for it.
    #[expect(clippy::too_many_arguments, reason = "all that an entry is made of")]
    pub(crate) fn landed(
        &mut self,
        ticket: Ticket,
        digest: TokenDigest,
        token: Zeroizing<String>,
        facts: &TokenFacts,
        fresh: Fresh,
        now: Now,
        chance: &dyn Chance,
    ) -> u64 {
        self.close(ticket);
        if ticket.changes != self.changes || self.settings.capacity == 0 {
            return 0;
        }
        let key = facts.identity.key();
        // Older tokens of the pod go on counting: they were accepted.
        let old = self.entries.remove(&key);
        let evicted = self.make_room();
        let period = self.period(fresh.expires_at, now);
        let renewal = self.moment(period, now.instant, chance);
        self.counter += 1;
        let (token, token_expires) = match &old {
            // The flight began with a token that was replaced meanwhile.
            Some(old) if old.token_expires > facts.expires => {
                (old.token.clone(), old.token_expires)
            }
            _ => (token, facts.expires),
        };
        let entry = Entry {
            number: self.counter,
            identity: Arc::clone(&facts.identity),
            audience: fresh.audience,
            association_id: fresh.association_id,
            session_arn: fresh.session_arn,
            body: fresh.body,
            expires_at: fresh.expires_at,
            token,
            token_expires,
            digests: old
                .as_ref()
                .map(|old| old.digests.clone())
                .unwrap_or_default(),
            fetched: now.instant,
            fetched_at: now.time,
            period,
            last_read: now.instant,
            used: self.counter,
            reads: old.map_or(0, |old| old.reads) + 1,
            next: self.plan(renewal),
            failed: 0,
            shared: false,
        };
        self.entries.insert(key, entry);
        self.accept(key, digest, facts);
        evicted
    }

    /// Lets go of what was used least recently until there is room for one more. Returns how many entries had to leave.
    fn make_room(&mut self) -> u64 {
        let mut evicted = 0;
        while self.entries.len() >= self.settings.capacity {
            let least = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(least) = least.map(|(key, _)| *key) else {
                break;
            };
            self.remove(least);
            evicted += 1;
        }
        evicted
    }

    /// Takes the flight out of the book: from now on the same question is asked anew.
    pub(crate) fn close(&mut self, ticket: Ticket) {
        let is_it = |flight: &Flight| flight.number == ticket.number;
        if self.flights.get(&ticket.key).is_some_and(is_it) {
            self.flights.remove(&ticket.key);
        }
    }

    /// The entries whose renewal is due, those that end first in front; an entry that nobody needs goes dormant instead.
    pub(crate) fn due(&mut self, now: Now, is_alive: impl Fn(&str) -> bool) -> Vec<PodKey> {
        if self.earliest.is_none_or(|earliest| earliest > now.instant) {
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut earliest: Option<Instant> = None;
        for (key, entry) in &mut self.entries {
            let Next::Renewal(at) = entry.next else {
                continue;
            };
            if at > now.instant {
                earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
                continue;
            }
            let read_lately = entry.last_read >= entry.fetched
                || (is_alive(&entry.identity.pod_uid)
                    && now.instant.duration_since(entry.last_read) <= entry.period);
            if read_lately && entry.token_expires > now.time.as_second() {
                due.push((entry.expires_at, *key));
            } else {
                entry.next = Next::Dormant;
            }
        }
        // Those that are due now and are not started, for want of a turn, are due at the next look.
        if !due.is_empty() {
            earliest = Some(now.instant);
        }
        self.earliest = earliest;
        due.sort_unstable_by_key(|(expires_at, _)| *expires_at);
        due.into_iter().map(|(_, key)| key).collect()
    }

    pub(crate) fn start_renewal(&mut self, key: PodKey) -> Option<Due> {
        let entry = self.entries.get_mut(&key)?;
        entry.next = Next::Running;
        Some(Due {
            key,
            number: entry.number,
            identity: Arc::clone(&entry.identity),
            token: entry.token.clone(),
        })
    }

    /// New credentials for an entry, unless it left or changed while they were fetched. Returns whether it took them.
    pub(crate) fn renewed(
        &mut self,
        due: &Due,
        fresh: Fresh,
        now: Now,
        chance: &dyn Chance,
    ) -> bool {
        let period = self.period(fresh.expires_at, now);
        let at = self.moment(period, now.instant, chance);
        let next = self.plan(at);
        let Some(entry) = self.same(due) else {
            return false;
        };
        entry.audience = fresh.audience;
        entry.association_id = fresh.association_id;
        entry.session_arn = fresh.session_arn;
        entry.body = fresh.body;
        entry.expires_at = fresh.expires_at;
        entry.fetched = now.instant;
        entry.fetched_at = now.time;
        entry.period = period;
        entry.next = next;
        entry.failed = 0;
        entry.shared = false;
        true
    }

    /// A renewal failed and may work later: after 5 s × 2^n with full jitter, at most 120 s, and before the last 15 s.
    pub(crate) fn not_renewed(&mut self, due: &Due, now: Now, chance: &dyn Chance) {
        let Some(entry) = self.same(due) else { return };
        let most = 5 * 2u64.saturating_pow(entry.failed.min(6));
        let pause = Duration::from_secs(most.min(120)).mul_f64(chance.unit());
        entry.failed = entry.failed.saturating_add(1);
        let left = entry.expires_at.duration_since(now.time) - LEAST_LIFE;
        let left = Duration::try_from(left).unwrap_or_default();
        // Never quicker than once a second, whatever the jitter says.
        let pause = pause.max(Duration::from_secs(1));
        let again = pause < left;
        entry.next = if again {
            Next::Renewal(now.instant + pause)
        } else {
            Next::Dormant
        };
        if again {
            self.plan(now.instant + pause);
        }
    }

    /// The auth service refused a renewal for good.
    pub(crate) fn drop_refused(&mut self, due: &Due) -> bool {
        let is_it = self.same(due).is_some();
        if is_it {
            self.remove(due.key);
        }
        is_it
    }

    /// Lets go of what no longer counts: credentials at their end, tokens that ran out and the entries without any other,
    /// entries of pods that are not alive, remembered failures that are over. Returns the number of entries. O(n).
    pub(crate) fn sweep(&mut self, now: Now, is_alive: impl Fn(&str) -> bool) -> u64 {
        let second = now.time.as_second();
        let condemned: Vec<PodKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                !is_usable(entry.expires_at, now.time)
                    || entry.token_expires <= second
                    || !is_alive(&entry.identity.pod_uid)
            })
            .map(|(key, _)| *key)
            .collect();
        for key in &condemned {
            self.remove(*key);
        }
        let entries = &mut self.entries;
        self.tokens.retain(|digest, known| {
            let counts = known.expires > second;
            if !counts && let Some(entry) = entries.get_mut(&known.key) {
                entry.digests.retain(|other| other != digest);
            }
            counts
        });
        self.failures.retain(|_, (_, until)| *until > now.instant);
        condemned.len() as u64
    }

    /// Lets go of the entries of which `is_changed` says so, and of every answer that is on its way. Returns their number.
    pub(crate) fn forget(&mut self, is_changed: impl Fn(&PodIdentity, &str) -> bool) -> u64 {
        self.changes += 1;
        self.failures.clear();
        self.flights.clear();
        let condemned: Vec<PodKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| is_changed(&entry.identity, &entry.association_id))
            .map(|(key, _)| *key)
            .collect();
        for key in &condemned {
            self.remove(*key);
        }
        // A renewal under way must not bring back what was asked before the change.
        for entry in self.entries.values_mut() {
            if entry.next == Next::Running {
                self.counter += 1;
                entry.number = self.counter;
                entry.next = Next::Dormant;
            }
        }
        condemned.len() as u64
    }

    /// Who has credentials here.
    pub(crate) fn uses(&self) -> Vec<PodUse> {
        self.entries
            .values()
            .map(|entry| PodUse {
                identity: Arc::clone(&entry.identity),
                association_id: entry.association_id.clone(),
                fetched_at: entry.fetched_at,
                expires_at: entry.expires_at,
                reads: entry.reads,
            })
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn remove(&mut self, key: PodKey) {
        if let Some(entry) = self.entries.remove(&key) {
            for digest in &entry.digests {
                self.tokens.remove(digest);
            }
        }
    }

    fn same(&mut self, due: &Due) -> Option<&mut Entry> {
        self.entries
            .get_mut(&due.key)
            .filter(|entry| entry.number == due.number)
    }

    fn period(&self, expires_at: Timestamp, now: Now) -> Duration {
        Duration::try_from(expires_at.duration_since(now.time))
            .unwrap_or_default()
            .min(self.settings.retention)
    }

    /// When to renew: between 0.5 and 0.8 of the period. Each renewal takes the next point of a sequence that fills the range
    /// evenly, and near it the moment that is farthest from all other renewals. Independent draws would be uniform as well, and
    /// still put several times the mean into some minute of the day. O(entries).
    fn moment(&mut self, period: Duration, now: Instant, chance: &dyn Chance) -> Instant {
        self.spread = (self.spread + GOLDEN_RATIO).fract();
        let planned: Vec<Instant> = self
            .entries
            .values()
            .filter_map(|entry| match entry.next {
                Next::Renewal(at) => Some(at),
                Next::Running | Next::Dormant => None,
            })
            .collect();
        let nearest = |at: &Instant| {
            let distance = |other: &Instant| (*other).max(*at).duration_since((*other).min(*at));
            planned.iter().map(distance).min()
        };
        let point = 0.5 + 0.3 * self.spread;
        (0..CANDIDATES)
            .map(|_| now + period.mul_f64(reflect(point + AROUND * (2.0 * chance.unit() - 1.0))))
            .max_by_key(nearest)
            .unwrap_or(now + period.mul_f64(point))
    }
}

/// Folds what is a little outside of 0.5 to 0.8 back into it.
fn reflect(share: f64) -> f64 {
    if share < 0.5 {
        1.0 - share
    } else if share > 0.8 {
        1.6 - share
    } else {
        share
    }
}

/// Whether credentials with this end may be handed out.
pub(crate) fn is_usable(expires_at: Timestamp, now: Timestamp) -> bool {
    expires_at.duration_since(now) > LEAST_LIFE
}

//! Credentials that the pods of a service account share: those of associations with session tags disabled, which say nothing of
//! a pod but its name in the session's (agent spec, section 7.2, `--cache-scope=service-account`).
//!
//! Every pod keeps an entry of its own, with its own tokens, so that everything that ends an entry goes on doing so. What is
//! shared is the call that brought the credentials.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Book, Entry, Now, is_usable};
use crate::chance::Chance;
use crate::token::{AccountKey, PodKey, TokenDigest, TokenFacts};

/// What a pod was given of another one's.
pub(crate) struct Lent {
    pub(crate) body: Bytes,
    pub(crate) association_id: Box<str>,
    pub(crate) session_arn: Arc<str>,
    pub(crate) expires_at: Timestamp,
    /// Entries that had to leave for the new one.
    pub(crate) evicted: u64,
}

impl Book {
    /// Notes whose credentials are of no pod in particular, by association, and when they came. All pods of a service account
    /// whose credentials are such have the newest of them from then on, so that a renewal of one is one of all. O(entries).
    pub(crate) fn share(
        &mut self,
        is_shared: impl Fn(&str, Instant, Timestamp) -> bool,
        now: Now,
        chance: &dyn Chance,
    ) {
        let mut newest: HashMap<AccountKey, PodKey> = HashMap::new();
        for entry in self.entries.values_mut() {
            entry.shared = is_shared(&entry.association_id, entry.fetched, entry.fetched_at);
        }
        let shared = |(_, entry): &(&PodKey, &Entry)| entry.shared;
        for (key, entry) in self.entries.iter().filter(shared) {
            match newest.entry(entry.identity.account()) {
                Place::Vacant(place) => drop(place.insert(*key)),
                Place::Occupied(mut place) => {
                    let known = self.entries.get(place.get());
                    if known.is_none_or(|known| known.fetched < entry.fetched) {
                        place.insert(*key);
                    }
                }
            }
        }
        let older: Vec<(PodKey, PodKey)> = self
            .entries
            .iter()
            .filter(shared)
            .filter_map(|(key, entry)| {
                let from = newest.get(&entry.identity.account())?;
                let newest = self.entries.get(from)?;
                let fits = newest.fetched > entry.fetched
                    && newest.audience == entry.audience
                    && is_usable(newest.expires_at, now.time);
                fits.then_some((*key, *from))
            })
            .collect();
        for (key, from) in older {
            self.take_over(key, from, now, chance);
        }
    }

    /// Puts the credentials of one entry into another.
    fn take_over(&mut self, key: PodKey, from: PodKey, now: Now, chance: &dyn Chance) {
        let Some(period) = self.entries.get(&from).map(|from| from.period) else {
            return;
        };
        let at = self.moment(period, now.instant, chance);
        let next = self.plan(at);
        self.counter += 1;
        let number = self.counter;
        let Some(newest) = self.entries.get(&from) else {
            return;
        };
        let (association_id, session_arn) = (
            newest.association_id.clone(),
            Arc::clone(&newest.session_arn),
        );
        let (body, expires_at) = (newest.body.clone(), newest.expires_at);
        let (fetched, fetched_at) = (newest.fetched, newest.fetched_at);
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        // A renewal under way brings what is older than this, or as good.
        entry.number = number;
        entry.association_id = association_id;
        entry.session_arn = session_arn;
        entry.body = body;
        entry.expires_at = expires_at;
        entry.fetched = fetched;
        entry.fetched_at = fetched_at;
        entry.period = period;
        entry.next = next;
        entry.failed = 0;
    }

    /// Gives a pod without credentials those of another pod of its service account, if there are any that are of no pod in
    /// particular. The caller has made sure that the token is the pod's own, and that the pod is there. O(entries).
    pub(crate) fn lend(
        &mut self,
        digest: TokenDigest,
        text: &str,
        facts: &TokenFacts,
        now: Now,
        chance: &dyn Chance,
    ) -> Option<Lent> {
        let (key, account) = (facts.identity.key(), facts.identity.account());
        let owner = self
            .entries
            .iter()
            .filter(|(other, entry)| {
                **other != key
                    && entry.shared
                    && entry.identity.account() == account
                    && facts.audiences.contains(&entry.audience)
                    && is_usable(entry.expires_at, now.time)
            })
            .max_by_key(|(_, entry)| entry.fetched)
            .map(|(_, entry)| entry)?;
        let (body, audience) = (owner.body.clone(), owner.audience.clone());
        let (association_id, session_arn) =
            (owner.association_id.clone(), Arc::clone(&owner.session_arn));
        let (expires_at, period) = (owner.expires_at, owner.period);
        let (fetched, fetched_at) = (owner.fetched, owner.fetched_at);
        // Older tokens of the pod go on counting: they were accepted.
        let old = self.entries.remove(&key);
        let evicted = self.make_room();
        let renewal = self.moment(period, now.instant, chance);
        self.counter += 1;
        let lent = Lent {
            body: body.clone(),
            association_id: association_id.clone(),
            session_arn: Arc::clone(&session_arn),
            expires_at,
            evicted,
        };
        let entry = Entry {
            number: self.counter,
            identity: Arc::clone(&facts.identity),
            audience,
            association_id,
            session_arn,
            body,
            expires_at,
            token: Zeroizing::new(text.to_owned()),
            token_expires: facts.expires,
            digests: old
                .as_ref()
                .map(|old| old.digests.clone())
                .unwrap_or_default(),
            fetched,
            fetched_at,
            period,
            last_read: now.instant,
            used: self.counter,
            reads: old.map_or(0, |old| old.reads) + 1,
            next: self.plan(renewal),
            failed: 0,
            shared: true,
        };
        self.entries.insert(key, entry);
        self.accept(key, digest, facts);
        Some(lent)
    }
}

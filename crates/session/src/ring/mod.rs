//! The keys that seal and open session tokens, and their rotation (STS spec, section 8.4).
//!
//! What a key does at a moment follows from the ring and the time alone, so replicas that hold the same ring agree
//! without talking to each other:
//!
//! ```text
//!   created      seals from              stops sealing            stops + 36 h 15 min
//!      │  60 s      │        7 days           │                            │
//!      ├─ opening ──┼────── sealing ──────────┼───────── opening ──────────┼─ retired
//!                                             └ the next key seals from here
//! ```
//!
//! A new key opens everywhere for a minute before the first token is sealed with it. A key opens for 36 hours after it
//! stopped sealing, which is the longest session, and 15 minutes more for clocks that differ. Retired keys stay in the
//! ring without their secret for thirty days, so that an old copy of the ring cannot bring one back.

mod codec;
mod kid;

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use zeroize::Zeroizing;

pub use codec::DecodeRingError;
pub use kid::{Kid, NotAKid};

use crate::crypto::{Material, SECRET};
use crate::record::MAX_SESSION_SECONDS;

/// How long a new key opens before it seals.
pub const WARM_UP: SignedDuration = SignedDuration::from_secs(60);
/// How long a key opens after it stopped sealing.
pub const OPENING_AFTER_SEALING: SignedDuration =
    SignedDuration::from_secs(MAX_SESSION_SECONDS + 15 * 60);
/// How often the sealing key changes unless configured otherwise.
pub const ROTATE_EVERY: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long the memory of a retired key is kept.
pub const FORGET_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Most keys of one ring, retired ones included.
pub const MAX_KEYS: usize = 64;

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// New tokens are sealed with it. Exactly one key of a usable ring is in this state.
    Sealing,
    /// It opens tokens: it will seal soon, or did until lately.
    Opening,
    /// It is good for nothing any more.
    Retired,
}

/// The randomness of a new key.
pub struct NewKey {
    secret: Zeroizing<[u8; SECRET]>,
    name: [u8; 4],
}

impl NewKey {
    /// Takes 36 random bytes: 32 are the secret, 4 the name.
    #[must_use]
    pub fn from_random(bytes: &[u8; 36]) -> Self {
        let mut secret = Zeroizing::new([0u8; SECRET]);
        let mut name = [0u8; 4];
        for (to, from) in secret.iter_mut().chain(&mut name).zip(bytes) {
            *to = *from;
        }
        Self { secret, name }
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewKey(redacted)")
    }
}

/// A set of keys. Cloning shares the secrets; they are wiped when the last clone is dropped.
#[derive(Clone, Default)]
pub struct KeyRing {
    /// INVARIANT: sorted by (`seals_from`, `kid`); kids differ; at most [`MAX_KEYS`].
    keys: Vec<Key>,
}

#[derive(Clone)]
pub(crate) struct Key {
    kid: Kid,
    created: Timestamp,
    seals_from: Timestamp,
    /// When it was retired for good. INVARIANT: set exactly if `material` is absent.
    retired: Option<Timestamp>,
    material: Option<Arc<Material>>,
}

/// What may be shown of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// Its name.
    pub kid: Kid,
    /// What it is good for now.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
    /// When it begins or began to seal.
    pub seals_from: Timestamp,
    /// When the next key takes over, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seals_until: Option<Timestamp>,
    /// When it opens nothing any more, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_until: Option<Timestamp>,
    /// Tells two keys of one name apart and nothing about the secret; absent once the secret is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// The ring cannot be changed in the way that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Two rings know different secrets under one name.
    #[error("key `{0}` has another secret in the other ring")]
    Conflict(Kid),
    /// There is no room.
    #[error("a key ring has at most 64 keys")]
    Full,
    /// The cryptographic library refused the key.
    #[error("the key cannot be used")]
    Unusable,
}

impl KeyRing {
    /// A ring with one key, which seals at once.
    ///
    /// # Errors
    /// When the cryptographic library refuses the key.
    pub fn bootstrap(new: &NewKey, now: Timestamp) -> Result<Self, RingError> {
        Self::default().with_key(new, now, now)
    }

    /// The ring with a new key that seals after a minute, in the place of the one that seals now.
    ///
    /// # Errors
    /// When the ring is full.
    pub fn rotated(&self, new: &NewKey, now: Timestamp) -> Result<Self, RingError> {
        self.with_key(new, now, later(now, WARM_UP))
    }

    /// The ring after an emergency: every key is retired this moment, their secrets are gone and every session with
    /// them, and a new key seals at once.
    ///
    /// # Errors
    /// When the ring is full.
    pub fn all_retired(&self, new: &NewKey, now: Timestamp) -> Result<Self, RingError> {
        let mut ring = self.clone();
        for key in &mut ring.keys {
            key.retire(now);
        }
        ring.forget(now);
        ring.with_key(new, now, now)
    }

    /// What is due at `now`: a new key when the newest seals for `rotate_every` already or none is left, retired keys
    /// without their secrets, and without the memory of those retired a month ago. Nothing when nothing is due.
    ///
    /// # Errors
    /// When the ring is full.
    pub fn maintained(
        &self,
        new: &NewKey,
        rotate_every: SignedDuration,
        now: Timestamp,
    ) -> Result<Option<Self>, RingError> {
        let mut ring = self.clone();
        let mut changed = false;
        for at in 0..ring.keys.len() {
            let over = ring.opens_until(at);
            if let (Some(key), Some(over)) = (ring.keys.get_mut(at), over)
                && key.retired.is_none()
                && over <= now
            {
                key.retire(over);
                changed = true;
            }
        }
        changed |= ring.forget(now);
        let newest = ring
            .keys
            .iter()
            .rev()
            .find(|key| key.retired.is_none())
            .map(|key| key.seals_from);
        match newest {
            Some(since) if later(since, rotate_every) > now => Ok(changed.then_some(ring)),
            Some(_) => ring.rotated(new, now).map(Some),
            None => ring.with_key(new, now, now).map(Some),
        }
    }

    /// Both rings as one. The order of merging does not matter, nor does merging twice; a key retired in one is retired.
    ///
    /// # Errors
    /// When one name stands for two secrets, or the result would be too large.
    pub fn merged(&self, other: &Self) -> Result<Self, RingError> {
        let mut ring = self.clone();
        for theirs in &other.keys {
            match ring.keys.iter_mut().find(|ours| ours.kid == theirs.kid) {
                Some(ours) => ours.merge(theirs)?,
                None => ring.keys.push(theirs.clone()),
            }
        }
        ring.sort();
        if ring.keys.len() > MAX_KEYS {
            return Err(RingError::Full);
        }
        Ok(ring)
    }

    /// The state of `kid` at `now`; nothing when the ring does not know it.
    #[must_use]
    pub fn state(&self, kid: &Kid, now: Timestamp) -> Option<KeyState> {
        let at = self.keys.iter().position(|key| key.kid == *kid)?;
        Some(self.state_at(at, now))
    }

    /// The name of the key that seals at `now`.
    #[must_use]
    pub fn sealing_kid(&self, now: Timestamp) -> Option<Kid> {
        let key = self.keys.get(self.sealing_at(now)?)?;
        Some(key.kid)
    }

    /// All keys as they are at `now`, oldest first.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Vec<KeyStatus> {
        self.keys
            .iter()
            .enumerate()
            .map(|(at, key)| KeyStatus {
                kid: key.kid,
                state: self.state_at(at, now),
                created: key.created,
                seals_from: key.seals_from,
                seals_until: self.seals_until(at),
                opens_until: self.opens_until(at),
                fingerprint: key
                    .material
                    .as_ref()
                    .map(|material| hex(material.fingerprint())),
            })
            .collect()
    }

    pub(crate) fn sealing(&self, now: Timestamp) -> Option<(&Kid, &Arc<Material>)> {
        let key = self.keys.get(self.sealing_at(now)?)?;
        Some((&key.kid, key.material.as_ref()?))
    }

    /// The key `kid` with its state, for opening.
    pub(crate) fn lookup(
        &self,
        kid: &Kid,
        now: Timestamp,
    ) -> Option<(KeyState, Option<&Material>)> {
        let at = self.keys.iter().position(|key| key.kid == *kid)?;
        let material = self.keys.get(at)?.material.as_deref();
        Some((self.state_at(at, now), material))
    }

    fn state_at(&self, at: usize, now: Timestamp) -> KeyState {
        let retired = self.keys.get(at).is_none_or(|key| key.retired.is_some())
            || self.opens_until(at).is_some_and(|until| until <= now);
        if retired {
            KeyState::Retired
        } else if self.sealing_at(now) == Some(at) {
            KeyState::Sealing
        } else {
            KeyState::Opening
        }
    }

    /// The newest key whose time has come. When no key's time has come (this clock is behind the one that made the
    /// ring) the oldest seals early, which harms nothing: every holder of the ring opens with it.
    fn sealing_at(&self, now: Timestamp) -> Option<usize> {
        let usable = |(_, key): &(usize, &Key)| key.retired.is_none();
        let mut keys = self.keys.iter().enumerate();
        keys.clone()
            .rev()
            .filter(usable)
            .find(|(_, key)| key.seals_from <= now)
            .or_else(|| keys.find(usable))
            .map(|(at, _)| at)
    }

    /// When a later key takes over. One that was retired during its warm-up never does.
    fn seals_until(&self, at: usize) -> Option<Timestamp> {
        self.keys
            .iter()
            .skip(at.saturating_add(1))
            .find(|next| next.retired.is_none_or(|retired| retired > next.seals_from))
            .map(|next| next.seals_from)
    }

    fn opens_until(&self, at: usize) -> Option<Timestamp> {
        let natural = self
            .seals_until(at)
            .map(|until| later(until, OPENING_AFTER_SEALING));
        let retired = self.keys.get(at).and_then(|key| key.retired);
        match (natural, retired) {
            (Some(natural), Some(retired)) => Some(natural.min(retired)),
            (natural, retired) => natural.or(retired),
        }
    }

    fn with_key(
        &self,
        new: &NewKey,
        created: Timestamp,
        seals_from: Timestamp,
    ) -> Result<Self, RingError> {
        let mut ring = self.clone();
        // A full ring first loses the memory of its oldest retired key: an emergency must not fail for lack of room.
        if ring.keys.len() >= MAX_KEYS {
            let oldest = ring.keys.iter().position(|key| key.retired.is_some());
            ring.keys.remove(oldest.ok_or(RingError::Full)?);
        }
        let material = Material::new(new.secret.clone()).map_err(|_| RingError::Unusable)?;
        let mut name = u32::from_be_bytes(new.name);
        let mut kid = Kid::from_number(name);
        while self.keys.iter().any(|key| key.kid == kid) {
            name = name.wrapping_add(1);
            kid = Kid::from_number(name);
        }
        ring.keys.push(Key {
            kid,
            created: whole_second(created),
            seals_from: whole_second(seals_from),
            retired: None,
            material: Some(Arc::new(material)),
        });
        ring.sort();
        Ok(ring)
    }

    /// Drops the memory of keys that were retired long ago.
    fn forget(&mut self, now: Timestamp) -> bool {
        let before = self.keys.len();
        self.keys
            .retain(|key| key.retired.is_none_or(|at| later(at, FORGET_AFTER) > now));
        self.keys.len() != before
    }

    fn sort(&mut self) {
        self.keys.sort_by_key(|key| (key.seals_from, key.kid));
    }
}

impl Key {
    fn retire(&mut self, at: Timestamp) {
        let at = whole_second(at);
        self.retired = Some(self.retired.map_or(at, |known| known.min(at)));
        self.material = None;
    }

    fn merge(&mut self, other: &Self) -> Result<(), RingError> {
        if let (Some(ours), Some(theirs)) = (&self.material, &other.material)
            && ours.fingerprint() != theirs.fingerprint()
        {
            return Err(RingError::Conflict(self.kid));
        }
        self.created = self.created.min(other.created);
        self.seals_from = self.seals_from.min(other.seals_from);
        if let Some(at) = other.retired {
            self.retire(at);
        }
        Ok(())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| (&key.kid, key.retired)))
            .finish()
    }
}

fn later(moment: Timestamp, by: SignedDuration) -> Timestamp {
    moment.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Rings store whole seconds; a ring must be the same before and after storing.
fn whole_second(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

fn hex(bytes: [u8; 8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! The signing keys of an issuer and their rotation, as data (IRSA spec, section 2.4).
//!
//! ```text
//!   made ──── published, not signing ──▶ signs ──── published, not signing ──▶ gone
//!        publish_before                     │ until the next key signs     keep_after
//! ```
//!
//! A verifier may hold a key set for as long as we let it be cached, so a key is published for that long before it signs,
//! and for as long as a token lives after the last one it signed. Only the first key of an algorithm signs at once: nobody
//! can hold a set without it that was ever of use.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::algorithm::Algorithm;
use crate::key::{InvalidKey, PublicKey};
use crate::key_set::KeySet;
use crate::signing::SigningKey;

/// Most keys of one issuer.
pub const MAX_ISSUER_KEYS: usize = 32;

/// The times of rotation, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How long a key is published before it signs: longer than key sets are cached.
    pub publish_before: i64,
    /// How long after its making a key should be followed by another.
    pub rotate_every: i64,
    /// How long a key stays published after it has signed its last token: the longest life of a token and some minutes.
    pub keep_after: i64,
}

impl Schedule {
    /// For service account tokens of clusters, in key sets that are cached for five minutes: a token lives a day unless the
    /// API server says otherwise, and five minutes longer for STS.
    ///
    /// The signer is the API server, which takes a new key only when it is restarted with it. So nothing here removes an old
    /// key by itself: [`KeyLife::needed_until`] says when it may be removed. And nothing makes a new one by a timer: a key that
    /// is published and that no API server has would sign nothing, while its age of zero hid that of the one that does.
    /// [`IssuerKeys::advice`] says what is to be done, and somebody does it.
    pub const CLUSTER: Self = Self {
        publish_before: 360,
        rotate_every: 7 * 24 * 60 * 60,
        keep_after: 24 * 60 * 60 + 300,
    };

    /// For tokens of GetWebIdentityToken, which live up to an hour, in key sets that are cached for five minutes.
    pub const OUTBOUND: Self = Self {
        publish_before: 360,
        rotate_every: 7 * 24 * 60 * 60,
        keep_after: 3600 + 300,
    };
}

/// The keys of an issuer. Values are cheap to clone; changes make new values.
#[derive(Debug, Clone, Default)]
pub struct IssuerKeys {
    /// By the time from which they sign.
    keys: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Arc<SigningKey>,
    made: i64,
    signs_from: i64,
}

/// A key and its times, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct KeyLife<'k> {
    /// The key.
    pub key: &'k Arc<SigningKey>,
    /// When it was made.
    pub made: i64,
    /// From when it may sign.
    pub signs_from: i64,
    /// Until when tokens it signed live, once another key signs; the other one must sign from its own `signs_from` on.
    pub needed_until: Option<i64>,
    /// Where it is.
    pub stage: KeyStage,
}

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyStage {
    /// It is published and must not sign yet: verifiers may hold a set without it.
    Published,
    /// It is the one that signs.
    Signs,
    /// Another one signs; its tokens live.
    Retired,
    /// None of its tokens lives.
    Over,
}

/// What a rotation waits for that nobody but an operator can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationAdvice<'k> {
    /// The key that signs is older than it should get: publish the next one.
    Rotate {
        /// Its id.
        kid: &'k str,
        /// Its age.
        age_seconds: i64,
    },
    /// No token of this key lives, if the API server signs with the next one since it may: see that it does, and remove the
    /// key.
    Remove {
        /// Its id.
        kid: &'k str,
    },
}

/// A rotation that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// [`MAX_ISSUER_KEYS`] are published.
    #[error("{MAX_ISSUER_KEYS} keys are published; keys are rotated too often")]
    TooMany,
    /// The key is one of the set already.
    #[error("the key is in use already")]
    Known,
}

/// Stored keys that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored signing keys cannot be read")]
pub struct DecodeKeysError;

impl IssuerKeys {
    /// The key that signs with `algorithm` at `now`, if there is one.
    #[must_use]
    pub fn signing(&self, algorithm: Algorithm, now: Timestamp) -> Option<&Arc<SigningKey>> {
        self.of(algorithm)
            .rev()
            .find(|entry| entry.signs_from <= now.as_second())
            .map(|entry| &entry.key)
    }

    /// The keys that verifiers have to know at `now`, oldest first.
    #[must_use]
    pub fn published(&self, schedule: Schedule, now: Timestamp) -> Vec<&Arc<SigningKey>> {
        self.keys
            .iter()
            .filter(|entry| self.is_published(entry, schedule, now.as_second()))
            .map(|entry| &entry.key)
            .collect()
    }

    /// Whether `algorithm` has no key, or its newest one is due for a successor.
    #[must_use]
    pub fn is_due(&self, algorithm: Algorithm, schedule: Schedule, now: Timestamp) -> bool {
        self.of(algorithm).next_back().is_none_or(|newest| {
            newest.made.saturating_add(schedule.rotate_every) <= now.as_second()
        })
    }

    /// With `key` as the next one of its algorithm, and without keys that are published no longer.
    ///
    /// # Errors
    /// When the key is there already, or too many are published.
    pub fn rotated(
        &self,
        key: Arc<SigningKey>,
        schedule: Schedule,
        now: Timestamp,
    ) -> Result<Self, RotationError> {
        if self.keys.iter().any(|known| known.key.id() == key.id()) {
            return Err(RotationError::Known);
        }
        let now = now.as_second();
        let newest = self.of(key.algorithm()).next_back();
        let signs_from = newest.map_or(now, |newest| {
            // Never before the one it follows, even when the clock was set back.
            now.saturating_add(schedule.publish_before)
                .max(newest.signs_from.saturating_add(1))
        });
        let mut keys: Vec<Entry> = self
            .keys
            .iter()
            .filter(|entry| self.is_published(entry, schedule, now))
            .cloned()
            .collect();
        if keys.len() >= MAX_ISSUER_KEYS {
            return Err(RotationError::TooMany);
        }
        keys.push(Entry {
            key,
            made: now,
            signs_from,
        });
        keys.sort_by_key(|entry| entry.signs_from);
        Ok(Self { keys })
    }

    /// Without the key `id`, at once: for a key that became known to others. Tokens it signed fail when verifiers read the
    /// key set again.
    #[must_use]
    pub fn without(&self, id: &str) -> Self {
        let keys = self.keys.iter().filter(|entry| entry.key.id() != id);
        Self {
            keys: keys.cloned().collect(),
        }
    }

    /// The key set to publish at `now`, as JSON text.
    #[must_use]
    pub fn document(&self, schedule: Schedule, now: Timestamp) -> String {
        let published = self.published(schedule, now);
        KeySet::document(published.iter().map(|key| (key.public(), key.algorithm())))
    }

    /// The published keys, ready to verify with.
    ///
    /// # Errors
    /// When the library refuses a key, which it does not with keys it made.
    pub fn key_set(&self, schedule: Schedule, now: Timestamp) -> Result<KeySet, InvalidKey> {
        let published = self.published(schedule, now);
        let public = published.iter().map(|key| PublicKey::clone(key.public()));
        KeySet::of(public)
    }

    /// All keys, in the order in which they sign.
    pub fn all(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        self.keys.iter().map(|entry| &entry.key)
    }

    /// Where each key is in its life, in the order in which they sign.
    pub fn lives(&self, schedule: Schedule, now: Timestamp) -> impl Iterator<Item = KeyLife<'_>> {
        let now = now.as_second();
        self.keys.iter().map(move |entry| {
            let successor = self.successor(entry);
            let ended = successor.map(|next| next.signs_from.saturating_add(schedule.keep_after));
            let stage = match successor {
                _ if now < entry.signs_from => KeyStage::Published,
                Some(next) if next.signs_from <= now => match ended {
                    Some(ended) if ended < now => KeyStage::Over,
                    _ => KeyStage::Retired,
                },
                _ => KeyStage::Signs,
            };
            KeyLife {
                key: &entry.key,
                made: entry.made,
                signs_from: entry.signs_from,
                needed_until: ended,
                stage,
            }
        })
    }

    /// The next step of the rotation at `now`, if one is due.
    #[must_use]
    pub fn advice(&self, schedule: Schedule, now: Timestamp) -> Option<RotationAdvice<'_>> {
        let lives: Vec<KeyLife<'_>> = self.lives(schedule, now).collect();
        let now = now.as_second();
        // A key that is over is asked about first: the rotation before is done with it, and the next one begins.
        if let Some(over) = lives.iter().find(|life| life.stage == KeyStage::Over) {
            return Some(RotationAdvice::Remove { kid: over.key.id() });
        }
        let is_in = |stage: KeyStage| lives.iter().any(|life| life.stage == stage);
        if is_in(KeyStage::Published) || is_in(KeyStage::Retired) {
            return None;
        }
        let signs = lives.iter().find(|life| life.stage == KeyStage::Signs)?;
        let age = now.saturating_sub(signs.made);
        (age >= schedule.rotate_every).then(|| RotationAdvice::Rotate {
            kid: signs.key.id(),
            age_seconds: age,
        })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys with their private halves, to be sealed and stored.
    ///
    /// # Errors
    /// When a key cannot be written.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, DecodeKeysError> {
        let mut stored = Vec::with_capacity(self.keys.len());
        for entry in &self.keys {
            let der = entry.key.pkcs8().map_err(|_| DecodeKeysError)?;
            stored.push(Stored {
                algorithm: entry.key.algorithm(),
                made: entry.made,
                signs_from: entry.signs_from,
                pkcs8: STANDARD_NO_PAD.encode(&*der),
            });
        }
        let text = serde_json::to_vec(&stored).map_err(|_| DecodeKeysError)?;
        Ok(Zeroizing::new(text))
    }

    /// Reads what [`IssuerKeys::encode`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeKeysError> {
        let stored: Vec<Stored> = serde_json::from_slice(bytes).map_err(|_| DecodeKeysError)?;
        if stored.len() > MAX_ISSUER_KEYS {
            return Err(DecodeKeysError);
        }
        let mut keys = Vec::with_capacity(stored.len());
        for key in stored {
            let der = STANDARD_NO_PAD
                .decode(&key.pkcs8)
                .map_err(|_| DecodeKeysError)?;
            let der = Zeroizing::new(der);
            let read = SigningKey::from_pkcs8(key.algorithm, &der).map_err(|_| DecodeKeysError)?;
            keys.push(Entry {
                key: Arc::new(read),
                made: key.made,
                signs_from: key.signs_from,
            });
        }
        keys.sort_by_key(|entry| entry.signs_from);
        Ok(Self { keys })
    }

    fn of(&self, algorithm: Algorithm) -> impl DoubleEndedIterator<Item = &Entry> {
        self.keys
            .iter()
            .filter(move |entry| entry.key.algorithm() == algorithm)
    }

    /// The next key of its algorithm.
    fn successor(&self, entry: &Entry) -> Option<&Entry> {
        self.of(entry.key.algorithm())
            .find(|next| next.signs_from > entry.signs_from)
    }

    /// Until its successor has been signing for `keep_after`.
    fn is_published(&self, entry: &Entry, schedule: Schedule, now: i64) -> bool {
        self.successor(entry)
            .is_none_or(|next| now <= next.signs_from.saturating_add(schedule.keep_after))
    }
}

/// A key as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    algorithm: Algorithm,
    made: i64,
    signs_from: i64,
    pkcs8: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.pkcs8.zeroize();
    }
}

//! Assertions that were used: each buys one session (STS spec, section 2.4).

use std::collections::{BTreeSet, HashMap};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

/// Assertions that are remembered at once for one provider.
pub const MAX_REMEMBERED: usize = 100_000;

/// The assertions of one SAML provider that were used and could still be accepted.
///
/// Only verified assertions get here, so nobody but the identity provider can fill the memory. When it is full, further
/// assertions are refused: forgetting one early would let it be used twice.
#[derive(Debug)]
pub struct ReplayMemory {
    capacity: usize,
    used: HashMap<[u8; 32], Timestamp>,
    by_time: BTreeSet<(Timestamp, [u8; 32])>,
}

/// Why an assertion is not accepted though it is good in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Replay {
    /// It was used before.
    #[error("the assertion was used before")]
    Used,
    /// There is no room to remember it.
    #[error(
        "too many assertions of this identity provider are still valid; have it issue them for minutes, not days"
    )]
    Full,
}

impl Default for ReplayMemory {
    fn default() -> Self {
        Self::new(MAX_REMEMBERED)
    }
}

impl ReplayMemory {
    /// A memory for `capacity` assertions.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            used: HashMap::new(),
            by_time: BTreeSet::new(),
        }
    }

    /// Notes that the assertion `id` of `issuer`, which could be accepted until `not_after`, is used now.
    ///
    /// # Errors
    /// When it was noted before, or the memory is full.
    pub fn note(
        &mut self,
        issuer: &str,
        id: &str,
        not_after: Timestamp,
        now: Timestamp,
    ) -> Result<(), Replay> {
        self.forget(now);
        let key = key(issuer, id);
        if self.used.contains_key(&key) {
            return Err(Replay::Used);
        }
        if self.used.len() >= self.capacity {
            return Err(Replay::Full);
        }
        self.used.insert(key, not_after);
        self.by_time.insert((not_after, key));
        Ok(())
    }

    /// Assertions that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Forgets the assertions that have expired; [`ReplayMemory::note`] does so by itself.
    pub fn forget(&mut self, now: Timestamp) {
        while let Some((not_after, key)) = self.by_time.first().copied() {
            if not_after > now {
                return;
            }
            self.by_time.pop_first();
            self.used.remove(&key);
        }
    }
}

/// The length before the issuer keeps two pairs apart that read the same side by side.
fn key(issuer: &str, id: &str) -> [u8; 32] {
    let text = format!("{}:{issuer}{id}", issuer.len());
    let mut key = [0; 32];
    for (to, from) in key
        .iter_mut()
        .zip(digest(&SHA256, text.as_bytes()).as_ref())
    {
        *to = *from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_assertion_is_good_once_and_forgotten_when_it_has_expired() {
        let mut memory = ReplayMemory::new(2);
        assert_eq!(memory.note("idp", "_1", at(100), at(0)), Ok(()));
        assert_eq!(memory.note("idp", "_1", at(100), at(99)), Err(Replay::Used));
        assert_eq!(memory.note("idp_", "1", at(50), at(1)), Ok(()));
        assert_eq!(memory.note("idp", "_2", at(100), at(49)), Err(Replay::Full));
        assert_eq!(memory.note("idp", "_2", at(200), at(50)), Ok(()));
        assert_eq!(memory.len(), 2);
        assert_eq!(memory.note("idp", "_3", at(300), at(100)), Ok(()));
        assert_eq!(
            memory.note("idp", "_4", at(300), at(100)),
            Err(Replay::Full)
        );
    }

    #[test]
    fn a_full_memory_still_knows_what_was_used() {
        let mut memory = ReplayMemory::new(1);
        assert_eq!(memory.note("idp", "_1", at(100), at(0)), Ok(()));
        assert_eq!(memory.note("idp", "_1", at(100), at(0)), Err(Replay::Used));
    }
}

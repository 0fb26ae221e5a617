//! Whether the etcd of now is the one we have read from.
//!
//! An etcd that is put back from a backup counts its revisions from the backup's on, and may soon be ahead of where we were:
//! revisions alone do not tell that the history is another one. So this remembers the heads that were seen, and whoever
//! connects again compares the head at the place where it was.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::layout::Head;
use crate::Revision;

/// Heads remembered; readers that are further behind are not checked by head.
const HEADS: usize = 1024;

/// What is known of the history.
#[derive(Debug, Default)]
pub(super) struct Lineage(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The cluster that records were loaded from.
    cluster: Option<u64>,
    /// INVARIANT: every head with a revision above `floor` and up to `upto` is in `heads`, and the last one at `floor` too,
    /// unless there was none or `heads` is empty.
    floor: Revision,
    upto: Revision,
    heads: BTreeMap<Revision, Head>,
}

/// What etcd says about itself.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) cluster: u64,
    /// The store's revision when it was asked.
    pub(super) revision: Revision,
    /// The head at the place that was asked for.
    pub(super) head: Option<Head>,
}

impl Lineage {
    /// Everything is read anew from here on.
    pub(super) fn adopt(&self, place: &Place) {
        let mut known = self.lock();
        *known = Known {
            cluster: Some(place.cluster),
            floor: place.revision,
            upto: place.revision,
            heads: place
                .head
                .iter()
                .map(|head| (head.revision, head.clone()))
                .collect(),
        };
    }

    /// A reader who was at `before` has come to `upto`, over `head` if that was a transaction of ours.
    pub(super) fn advance(&self, before: Revision, upto: Revision, head: Option<&Head>) {
        let mut known = self.lock();
        if before < known.floor || before > known.upto {
            known.floor = upto;
            known.upto = upto;
            known.heads.clear();
        }
        if let Some(head) = head {
            known.heads.insert(head.revision, head.clone());
        }
        known.upto = known.upto.max(upto);
        if known.heads.len() > HEADS {
            known.heads.pop_first();
            if let Some((oldest, _)) = known.heads.first_key_value() {
                known.floor = known.floor.max(*oldest);
            }
        }
    }

    /// The head was deleted by somebody else: nothing is known of the history but that it has come to `upto`.
    pub(super) fn forget(&self, upto: Revision) {
        let mut known = self.lock();
        known.floor = upto;
        known.upto = upto;
        known.heads.clear();
    }

    /// The last revision that was seen, to ask for the head at.
    pub(super) fn upto(&self) -> Revision {
        self.lock().upto
    }

    /// Whether `place`, asked for with its head at `after`, continues what was read up to `after`.
    pub(super) fn continues(&self, after: Revision, place: &Place) -> bool {
        let known = self.lock();
        if known
            .cluster
            .is_some_and(|cluster| cluster != place.cluster)
            || place.revision < after
        {
            return false;
        }
        if after < known.floor || after > known.upto {
            // Nobody here has seen that place; revision and cluster are all there is to compare.
            return true;
        }
        match known.heads.range(..=after).next_back() {
            Some((_, head)) => place.head.as_ref() == Some(head),
            None => true,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn head(revision: u64, nonce: u8) -> Head {
        let value = Head::value([nonce; 16], Timestamp::UNIX_EPOCH);
        Head::read(Revision::new(revision), &value)
    }

    fn place(cluster: u64, revision: u64, head: Option<Head>) -> Place {
        Place {
            cluster,
            revision: Revision::new(revision),
            head,
        }
    }

    /// Loaded from cluster 1 at revision 10 with the head of revision 8; then seen 12 and 15, and told that 20 is reached.
    fn seen() -> Lineage {
        let lineage = Lineage::default();
        lineage.adopt(&place(1, 10, Some(head(8, 8))));
        let at = Revision::new;
        lineage.advance(at(10), at(12), Some(&head(12, 12)));
        lineage.advance(at(12), at(15), Some(&head(15, 15)));
        lineage.advance(at(15), at(20), None);
        lineage
    }

    #[test]
    fn what_continues_and_what_does_not() {
        for (what, after, found, expected) in [
            ("the same", 20, place(1, 20, Some(head(15, 15))), true),
            ("gone on", 20, place(1, 900, Some(head(15, 15))), true),
            ("in between", 13, place(1, 20, Some(head(12, 12))), true),
            ("at the load", 10, place(1, 20, Some(head(8, 8))), true),
            (
                "another cluster",
                20,
                place(2, 20, Some(head(15, 15))),
                false,
            ),
            ("younger", 20, place(1, 19, Some(head(15, 15))), false),
            (
                "put back and gone on",
                20,
                place(1, 90, Some(head(15, 99))),
                false,
            ),
            (
                "put back, other revisions",
                20,
                place(1, 90, Some(head(19, 15))),
                false,
            ),
            ("emptied", 20, place(1, 90, None), false),
            ("before the load", 7, place(1, 90, Some(head(3, 3))), true),
            (
                "ahead of all readers",
                50,
                place(1, 90, Some(head(44, 4))),
                true,
            ),
        ] {
            assert_eq!(
                seen().continues(Revision::new(after), &found),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn a_head_that_somebody_deleted_is_no_other_history() {
        let lineage = seen();
        lineage.forget(Revision::new(25));
        assert!(lineage.continues(Revision::new(25), &place(1, 30, None)));
        assert!(!lineage.continues(Revision::new(25), &place(2, 30, None)));
    }

    #[test]
    fn nothing_is_known_before_the_first_load() {
        assert!(Lineage::default().continues(Revision::new(5), &place(7, 9, None)));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_heads_stay() {
        let lineage = seen();
        for n in 21..4000 {
            let (before, at) = (Revision::new(n - 1), Revision::new(n));
            lineage.advance(before, at, Some(&head(n, (n % 251) as u8)));
        }
        assert_eq!(lineage.lock().heads.len(), HEADS);
        let wrong = place(1, 5000, Some(head(3999, 0)));
        assert!(!lineage.continues(Revision::new(3999), &wrong));
        assert!(lineage.continues(Revision::new(100), &wrong), "forgotten");
    }
}

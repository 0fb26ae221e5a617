//! The revocation list of a snapshot, and what becomes of records that cannot be read but must not be overlooked.

use std::sync::Arc;

use countersign_session::{
    RevocationList, RevocationRow, RevocationTarget, Revoked, SessionRecord,
};
use imbl::OrdMap;
use jiff::Timestamp;

use super::DirectorySnapshot;
use crate::records::{RecordKey, RestoreMark};
use crate::{Key, Revision};

/// The revocation list with what it was made of.
#[derive(Clone, Default)]
pub(super) struct Revocations {
    rows: OrdMap<Key, (RevocationRow, Revision)>,
    /// Made of `rows` whenever they have changed.
    list: Arc<RevocationList>,
    changed: bool,
    /// There are rows whose target this version cannot read.
    unreadable: bool,
}

impl Revocations {
    pub(super) fn put(&mut self, key: &Key, row: RevocationRow, modified: Revision) {
        self.rows.insert(key.clone(), (row, modified));
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.rows.remove(key);
    }

    /// Remembers that the list has to be made anew, if `key` is one of a row.
    pub(super) fn touch(&mut self, key: &Key) {
        self.changed |= is_revocation(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl DirectorySnapshot {
    /// Whether a session that its token proves was ended before its time. One look-up for each kind of row there is.
    ///
    /// A row that was damaged, or written by a later version, ends every session of its target; when even its target cannot
    /// be read, every session: what was taken away is not given back because somebody cannot read.
    #[must_use]
    pub fn revoked(&self, session: &SessionRecord, access_key_id: &str) -> Option<Revoked> {
        if self.revocations.unreadable {
            return Some(Revoked::Session {
                by: "a row that cannot be read",
                before: jiff::Timestamp::MAX,
            });
        }
        self.revocations.list.consult(session, access_key_id)
    }

    /// The rows of the revocation list, by the id of their target.
    pub fn revocations(&self) -> impl Iterator<Item = &RevocationRow> {
        self.revocations.rows.values().map(|(row, _)| row)
    }

    pub(crate) fn revocation(&self, key: &Key) -> Option<&(RevocationRow, Revision)> {
        self.revocations.rows.get(key)
    }

    pub(crate) fn revocation_entries(
        &self,
    ) -> impl Iterator<Item = (&Key, &(RevocationRow, Revision))> {
        self.revocations.rows.iter()
    }

    pub(crate) fn revocation_count(&self) -> usize {
        self.revocations.rows.len()
    }

    /// Makes the revocation list anew when its rows have changed. O(rows), which are few.
    pub(super) fn index_revocations(&mut self) {
        if !std::mem::take(&mut self.revocations.changed) {
            return;
        }
        self.revocations.list = Arc::new(RevocationList::new(self.revocations()));
        self.revocations.unreadable = self
            .unusable
            .keys()
            .any(|key| is_revocation(key) && RecordKey::parse(key).is_err());
    }

    /// Takes a record that cannot be read for the worst that it may say.
    pub(super) fn put_unreadable(&mut self, key: &Key, modified: Revision) {
        match RecordKey::parse(key) {
            Ok(RecordKey::Restore) => {
                self.restore = Some(Arc::new(RestoreMark {
                    started: Timestamp::UNIX_EPOCH,
                    from: "something unreadable".into(),
                }));
            }
            Ok(RecordKey::Revocation(id)) => {
                if let Some(target) = RevocationTarget::from_id(id) {
                    let row = RevocationRow {
                        target,
                        before: Timestamp::MAX,
                        made: Timestamp::MAX,
                    };
                    self.revocations.put(key, row, modified);
                }
            }
            _ => {}
        }
    }
}

fn is_revocation(key: &Key) -> bool {
    key.as_str().starts_with("revocation/")
}

//! All accounts by `namespace/name`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use countersign_pods::AccountSettings;

/// More accounts are not kept, which only costs a read for each of their pods: no cluster has as many, and it bounds what somebody
/// who makes accounts can make us hold.
const MAX_ACCOUNTS: usize = 1_000_000;

static NOTHING: LazyLock<Arc<AccountSettings>> = LazyLock::new(Arc::default);

/// The table. Changes come one at a time and are small, so that a lock around it costs a lookup less than an immutable map, which
/// would also need several times the memory.
#[derive(Debug, Default)]
pub(super) struct Table(RwLock<Rows>);

#[derive(Debug, Default)]
struct Rows {
    by_key: HashMap<Box<str>, Row>,
    /// How many have settings.
    annotated: usize,
    listing: u32,
}

#[derive(Debug)]
struct Row {
    version: u64,
    /// None for an account that says nothing.
    settings: Option<Arc<AccountSettings>>,
    /// The list that it was in or came after.
    listing: u32,
}

impl Table {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Rows> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Rows> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<AccountSettings>> {
        let rows = self.read();
        let row = rows.by_key.get(key)?;
        Some(Arc::clone(row.settings.as_ref().unwrap_or(&NOTHING)))
    }

    /// Accounts, and those that say something.
    pub(super) fn len(&self) -> (usize, usize) {
        let rows = self.read();
        (rows.by_key.len(), rows.annotated)
    }

    /// The accounts that say something, in no order.
    pub(super) fn annotated(&self) -> Vec<(Box<str>, Arc<AccountSettings>)> {
        let rows = self.read();
        let annotated = rows.by_key.iter().filter_map(|(key, row)| {
            let settings = row.settings.as_ref()?;
            Some((key.clone(), Arc::clone(settings)))
        });
        annotated.collect()
    }

    /// Forgets everything.
    pub(super) fn clear(&self) -> usize {
        let mut rows = self.write();
        let forgotten = rows.by_key.len();
        rows.by_key = HashMap::new();
        rows.annotated = 0;
        forgotten
    }

    /// Keeps a version of an account, unless a newer one is known: what was read by itself is ahead of the watch.
    pub(super) fn put(&self, key: String, version: u64, settings: Option<Arc<AccountSettings>>) {
        let mut rows = self.write();
        let rows = &mut *rows;
        let is_full = rows.by_key.len() >= MAX_ACCOUNTS;
        let says_something = usize::from(settings.is_some());
        match rows.by_key.entry(key.into_boxed_str()) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.listing = rows.listing;
                if version >= known.version {
                    rows.annotated -= usize::from(known.settings.is_some());
                    rows.annotated += says_something;
                    known.version = version;
                    known.settings = settings;
                }
            }
            Entry::Vacant(_) if is_full => {}
            Entry::Vacant(place) => {
                rows.annotated += says_something;
                place.insert(Row {
                    version,
                    settings,
                    listing: rows.listing,
                });
            }
        }
    }

    /// Forgets an account that was deleted at `version`, unless it was made again since.
    pub(super) fn remove(&self, key: &str, version: u64) {
        let mut rows = self.write();
        if rows
            .by_key
            .get(key)
            .is_some_and(|row| row.version <= version)
            && let Some(row) = rows.by_key.remove(key)
        {
            rows.annotated -= usize::from(row.settings.is_some());
        }
    }

    /// A list begins: rows that are not put until [`Self::end_listing`] are gone.
    pub(super) fn begin_listing(&self) -> u32 {
        let mut rows = self.write();
        rows.listing = rows.listing.wrapping_add(1);
        rows.listing
    }

    /// The list of `version` ended. What is newer than it is not the list's to judge.
    pub(super) fn end_listing(&self, listing: u32, version: u64) {
        let mut rows = self.write();
        rows.by_key
            .retain(|_, row| row.listing == listing || row.version > version);
        rows.annotated = rows
            .by_key
            .values()
            .filter(|row| row.settings.is_some())
            .count();
        if rows.by_key.capacity() > 4 * rows.by_key.len().max(1024) {
            rows.by_key.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str) -> Option<Arc<AccountSettings>> {
        Some(Arc::new(AccountSettings::from_annotations(
            "p",
            [("p/role-arn", name)],
        )))
    }

    fn role_of(table: &Table, key: &str) -> Option<String> {
        let settings = table.get(key)?;
        Some(settings.role_arn.as_deref().unwrap_or("-").to_owned())
    }

    #[test]
    fn the_newest_version_counts_in_whatever_order_they_come() {
        let table = Table::default();
        table.put("a/b".into(), 12, role("new"));
        table.put("a/b".into(), 10, role("old"));
        assert_eq!(role_of(&table, "a/b").as_deref(), Some("new"));
        table.remove("a/b", 11);
        assert_eq!(role_of(&table, "a/b").as_deref(), Some("new"));
        assert_eq!(table.len(), (1, 1));
        table.put("a/b".into(), 13, None);
        assert_eq!(role_of(&table, "a/b").as_deref(), Some("-"));
        assert_eq!(table.len(), (1, 0));
        table.remove("a/b", 13);
        assert_eq!(role_of(&table, "a/b"), None);
    }

    #[test]
    fn a_list_takes_away_what_is_not_in_it_and_not_newer() {
        let table = Table::default();
        table.put("a/gone".into(), 5, role("r"));
        table.put("a/kept".into(), 6, role("r"));
        table.put("a/newer".into(), 21, role("r"));
        let listing = table.begin_listing();
        table.put("a/kept".into(), 6, role("r"));
        table.end_listing(listing, 20);
        assert_eq!(role_of(&table, "a/gone"), None);
        assert!(role_of(&table, "a/kept").is_some());
        assert!(role_of(&table, "a/newer").is_some());
        assert_eq!(table.len(), (2, 2));
    }
}

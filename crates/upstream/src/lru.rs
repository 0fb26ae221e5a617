//! A bounded map in which the entry that was not used for longest leaves first.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};

/// A map of at most `capacity` entries. All operations are O(log n).
#[derive(Debug)]
pub(crate) struct Lru<K, V, S = RandomState> {
    entries: HashMap<K, Entry<V>, S>,
    /// INVARIANT: has exactly one key per entry, under that entry's `used`.
    by_use: BTreeMap<u64, K>,
    clock: u64,
    capacity: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    used: u64,
}

impl<K: Hash + Eq + Clone, V, S: BuildHasher + Default> Lru<K, V, S> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::default(),
            by_use: BTreeMap::new(),
            clock: 0,
            capacity,
        }
    }

    /// Stores `value` and returns the entry that had to leave for it, if any. A replaced value of the same key is dropped.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if self.capacity == 0 {
            return None;
        }
        self.remove(&key);
        let evicted = (self.entries.len() >= self.capacity)
            .then(|| self.by_use.pop_first())
            .flatten()
            .and_then(|(_, oldest)| Some((self.entries.remove(&oldest)?.value, oldest)))
            .map(|(value, key)| (key, value));
        self.clock += 1;
        self.by_use.insert(self.clock, key.clone());
        self.entries.insert(
            key,
            Entry {
                value,
                used: self.clock,
            },
        );
        evicted
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.by_use.remove(&entry.used);
        Some(entry.value)
    }

    /// The value under `key`, which counts as a use.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        if let Some(key) = self.by_use.remove(&entry.used) {
            self.by_use.insert(self.clock, key);
        }
        entry.used = self.clock;
        Some(&mut entry.value)
    }

    /// Removes and returns the keys of all entries for which `condemned` says so. O(n log n).
    pub(crate) fn extract(&mut self, mut condemned: impl FnMut(&K, &V) -> bool) -> Vec<K> {
        let keys: Vec<K> = self
            .entries
            .iter()
            .filter(|(key, entry)| condemned(key, &entry.value))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &keys {
            self.remove(key);
        }
        keys
    }

    pub(crate) fn clear(&mut self) {
        self.entries = HashMap::default();
        self.by_use.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_leaves_first() {
        let mut lru: Lru<u32, &str> = Lru::new(2);
        assert_eq!(lru.insert(1, "one"), None);
        assert_eq!(lru.insert(2, "two"), None);
        assert_eq!(lru.get(&1).map(|v| *v), Some("one"));
        assert_eq!(lru.insert(3, "three"), Some((2, "two")));
        assert_eq!(lru.insert(1, "uno"), None, "replacing evicts nobody");
        assert_eq!(lru.insert(4, "four"), Some((3, "three")));
        assert_eq!((lru.len(), lru.by_use.len()), (2, 2));
    }

    #[test]
    fn capacity_zero_holds_nothing() {
        let mut lru: Lru<u32, u32> = Lru::new(0);
        assert_eq!(lru.insert(1, 1), None);
        assert_eq!(lru.len(), 0);
    }

    proptest::proptest! {
        #[test]
        fn behaves_as_a_list_ordered_by_use(operations in proptest::collection::vec((0u8..3, 0u8..12), 0..200)) {
            let mut lru: Lru<u8, u8> = Lru::new(5);
            let mut model: Vec<(u8, u8)> = Vec::new();
            for (step, (operation, key)) in operations.into_iter().enumerate() {
                let step = step as u8;
                let at = model.iter().position(|(k, _)| *k == key);
                match operation {
                    0 => {
                        if let Some(at) = at { model.remove(at); }
                        let evicted = (model.len() >= 5).then(|| model.remove(0));
                        model.push((key, step));
                        proptest::prop_assert_eq!(lru.insert(key, step), evicted);
                    }
                    1 => {
                        let expected = at.map(|at| { let pair = model.remove(at); model.push(pair); pair.1 });
                        proptest::prop_assert_eq!(lru.get(&key).copied(), expected);
                    }
                    _ => {
                        let expected = at.map(|at| model.remove(at).1);
                        proptest::prop_assert_eq!(lru.remove(&key), expected);
                    }
                }
                proptest::prop_assert_eq!(lru.by_use.len(), lru.len());
                proptest::prop_assert_eq!(model.len(), lru.len());
            }
        }
    }
}

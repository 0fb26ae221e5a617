//! The strings that rules name, as numbers: a request looks up its own strings once, and then compares numbers with
//! however many rules. Counted, so that roles which come and go leave nothing behind.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use super::table::Table;

/// A string that some rule uses.
pub(crate) type Symbol = u32;

#[derive(Debug, Clone, Default)]
pub(crate) struct Symbols {
    table: Table<Entry>,
    free: Arc<Vec<Symbol>>,
    /// How many symbols there have been at a time.
    issued: u32,
    /// No longer string was ever interned, so that a request need not be looked up beyond it.
    longest: usize,
    /// The symbol of the empty string, which is both the core group and the name of requests without one. Comparing
    /// empty strings costs far more than others on processors that trip over a masked load from nowhere.
    empty: Option<Symbol>,
    hasher: Keyed,
}

#[derive(Debug, Clone)]
struct Entry {
    text: Box<str>,
    symbol: Symbol,
    uses: u32,
}

impl Symbols {
    #[inline]
    pub(crate) fn get(&self, text: &str) -> Option<Symbol> {
        if text.is_empty() {
            return self.empty;
        }
        self.table
            .get(self.hasher.hash(0, text), |entry| &*entry.text == text)
            .map(|entry| entry.symbol)
    }

    /// The symbol of `head/tail`, put together without allocating.
    #[inline]
    pub(crate) fn get_joined(&self, head: &str, tail: &str) -> Option<Symbol> {
        let len = head.len() + 1 + tail.len();
        if len > self.longest {
            return None;
        }
        let mut buffer = [0; 128];
        let Some(space) = buffer.get_mut(..len) else {
            // Nobody names resources like this; a rule that does has made itself slow.
            return self.get(&format!("{head}/{tail}"));
        };
        let (first, rest) = space.split_at_mut_checked(head.len())?;
        let (slash, second) = rest.split_first_mut()?;
        first.copy_from_slice(head.as_bytes());
        *slash = b'/';
        second.copy_from_slice(tail.as_bytes());
        self.get(std::str::from_utf8(space).ok()?)
    }

    /// Takes a use of the symbol of this text. To be given back with [`Symbols::release`].
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        let hash = self.hasher.hash(0, text);
        let fresh = self.free.last().copied().unwrap_or(self.issued);
        self.longest = self.longest.max(text.len());
        let entry = self.table.entry(
            hash,
            |entry| &*entry.text == text,
            || Entry {
                text: text.into(),
                symbol: fresh,
                uses: 0,
            },
        );
        let Some(entry) = entry else {
            return fresh;
        };
        entry.uses += 1;
        let symbol = entry.symbol;
        if entry.uses == 1 {
            if text.is_empty() {
                self.empty = Some(symbol);
            }
            if self.free.is_empty() {
                self.issued += 1;
            } else {
                Arc::make_mut(&mut self.free).pop();
            }
        }
        symbol
    }

    /// Gives back one use.
    pub(crate) fn release(&mut self, text: &str) {
        let hash = self.hasher.hash(0, text);
        let is = |entry: &Entry| &*entry.text == text;
        let Some(found) = self.table.get(hash, is) else {
            return;
        };
        if found.uses > 1 {
            let unused = || Entry {
                text: text.into(),
                symbol: 0,
                uses: 1,
            };
            if let Some(entry) = self.table.entry(hash, is, unused) {
                entry.uses -= 1;
            }
        } else {
            if text.is_empty() {
                self.empty = None;
            }
            Arc::make_mut(&mut self.free).push(found.symbol);
            self.table.remove(hash, is);
        }
    }

    /// How many strings are in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

/// A keyed hash: nobody who may create bindings can choose names that collide.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keyed(foldhash::fast::RandomState);

impl Keyed {
    #[inline]
    pub(crate) fn hash(&self, kind: u8, text: &str) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(text.as_bytes());
        hasher.write_u8(kind);
        hasher.finish()
    }

    /// Of two texts, told apart.
    pub(crate) fn hash_pair(&self, kind: u8, first: &str, second: &str) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(first.as_bytes());
        hasher.write_usize(first.len());
        hasher.write(second.as_bytes());
        hasher.write_u8(kind);
        hasher.finish()
    }
}

//! A persistent hash table for the request path.
//!
//! Two levels of pages, shared between versions of the index, over cells that hold one entry with its hash, or a small
//! run of entries. Looking up a name that is absent costs two dependent loads, one that is present three; a change
//! copies two pages. The usual persistent hash tries need several more loads, and on the request path of an index of
//! 100,000 bindings each load is likely a cache miss.

use std::sync::Arc;

/// Bits per level as the table grows: 256, 4,096 or 65,536 cells. The last shape is never left, so that a change of a
/// large table never has to move all of it.
const SHAPES: [u32; 3] = [4, 6, 8];
/// Entries per cell at which the next shape is taken.
const MAX_LOAD: usize = 2;

#[derive(Debug)]
pub(crate) struct Table<E> {
    bits: u32,
    len: usize,
    pages: Arc<[Option<Arc<[Cell<E>]>>]>,
}

#[derive(Debug)]
enum Cell<E> {
    Empty,
    One(u64, Arc<E>),
    Many(Arc<[(u64, Arc<E>)]>),
}

impl<E> Table<E> {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The entry with this hash for which `is` holds.
    #[inline]
    pub(crate) fn get(&self, hash: u64, is: impl Fn(&E) -> bool) -> Option<&E> {
        let (page, cell) = places(hash, self.bits);
        match self.pages.get(page)?.as_ref()?.get(cell)? {
            Cell::Empty => None,
            Cell::One(stored, entry) => (*stored == hash && is(entry)).then_some(&**entry),
            Cell::Many(entries) => entries
                .iter()
                .find(|(stored, entry)| *stored == hash && is(entry))
                .map(|(_, entry)| &**entry),
        }
    }
}

impl<E: Clone> Table<E> {
    /// The entry with this hash for which `is` holds, made by `make` if there is none. Copies what other versions of
    /// the index still share.
    pub(crate) fn entry(
        &mut self,
        hash: u64,
        is: impl Fn(&E) -> bool,
        make: impl FnOnce() -> E,
    ) -> Option<&mut E> {
        if self.get(hash, &is).is_none() {
            self.grow();
            let cell = self.cell(hash)?;
            let added = Arc::new(make());
            *cell = match std::mem::replace(cell, Cell::Empty) {
                Cell::Empty => Cell::One(hash, added),
                Cell::One(other, entry) => Cell::Many([(other, entry), (hash, added)].into()),
                Cell::Many(entries) => {
                    let entries = entries.iter().cloned();
                    Cell::Many(entries.chain([(hash, added)]).collect())
                }
            };
            self.len += 1;
        }
        let entry = match self.cell(hash)? {
            Cell::Empty => return None,
            Cell::One(_, entry) => entry,
            Cell::Many(entries) => {
                let mut entries = Arc::make_mut(entries).iter_mut();
                &mut entries
                    .find(|(stored, entry)| *stored == hash && is(entry))?
                    .1
            }
        };
        Some(Arc::make_mut(entry))
    }

    /// Removes the entry with this hash for which `is` holds.
    pub(crate) fn remove(&mut self, hash: u64, is: impl Fn(&E) -> bool) {
        if self.get(hash, &is).is_none() {
            return;
        }
        let Some(cell) = self.cell(hash) else {
            return;
        };
        *cell = match std::mem::replace(cell, Cell::Empty) {
            Cell::Empty | Cell::One(..) => Cell::Empty,
            Cell::Many(entries) => {
                let kept = entries
                    .iter()
                    .filter(|(stored, entry)| *stored != hash || !is(entry));
                let kept: Vec<_> = kept.cloned().collect();
                match kept.as_slice() {
                    [(hash, entry)] => Cell::One(*hash, entry.clone()),
                    _ => Cell::Many(kept.into()),
                }
            }
        };
        self.len -= 1;
    }

    fn grow(&mut self) {
        let fits = |bits: &u32| self.len < MAX_LOAD << (2 * bits);
        let bits = SHAPES.into_iter().find(fits).unwrap_or(8).max(self.bits);
        if bits == self.bits {
            return;
        }
        let mut grown = Self::with_bits(bits);
        for (hash, entry) in self
            .pages
            .iter()
            .flatten()
            .flat_map(|page| page.iter())
            .flat_map(Cell::entries)
        {
            if let Some(cell) = grown.cell(*hash) {
                *cell = match std::mem::replace(cell, Cell::Empty) {
                    Cell::Empty => Cell::One(*hash, entry.clone()),
                    other => Cell::Many(
                        other
                            .entries()
                            .chain([(hash, entry)])
                            .map(|(hash, entry)| (*hash, entry.clone()))
                            .collect(),
                    ),
                };
            }
        }
        grown.len = self.len;
        *self = grown;
    }

    fn with_bits(bits: u32) -> Self {
        Self {
            bits,
            len: 0,
            pages: (0..1_usize << bits).map(|_| None).collect(),
        }
    }

    fn cell(&mut self, hash: u64) -> Option<&mut Cell<E>> {
        let (page, cell) = places(hash, self.bits);
        let size = 1_usize << self.bits;
        let page = Arc::make_mut(&mut self.pages)
            .get_mut(page)?
            .get_or_insert_with(|| (0..size).map(|_| Cell::Empty).collect());
        Arc::make_mut(page).get_mut(cell)
    }
}

/// Page and cell come from different ends of the hash; the full hash is compared besides.
#[inline]
fn places(hash: u64, bits: u32) -> (usize, usize) {
    let mask = (1 << bits) - 1;
    (
        (hash >> (64 - bits)) as usize,
        (hash >> (64 - 2 * bits)) as usize & mask,
    )
}

impl<E> Cell<E> {
    fn entries(&self) -> impl Iterator<Item = (&u64, &Arc<E>)> {
        let (one, many) = match self {
            Self::Empty => (None, [].as_slice()),
            Self::One(hash, entry) => (Some((hash, entry)), [].as_slice()),
            Self::Many(entries) => (None, &**entries),
        };
        one.into_iter()
            .chain(many.iter().map(|(hash, entry)| (hash, entry)))
    }
}

impl<E> Clone for Cell<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::One(hash, entry) => Self::One(*hash, entry.clone()),
            Self::Many(entries) => Self::Many(entries.clone()),
        }
    }
}

impl<E> Clone for Table<E> {
    fn clone(&self) -> Self {
        Self {
            bits: self.bits,
            len: self.len,
            pages: self.pages.clone(),
        }
    }
}

impl<E: Clone> Default for Table<E> {
    fn default() -> Self {
        Self::with_bits(4)
    }
}

#[cfg(test)]
mod tests;

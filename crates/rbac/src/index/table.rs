//! A persistent hash table for the request path.
//!
//! Two levels of pages, shared between versions of the index, over cells that hold one entry with its hash, or a small
//! run of entries. In front of the cells of each page stands a filter of a few bits per entry: callers carry dozens of
//! groups that no binding names, and the filters are small enough to stay in the processor's caches when the cells of a
//! large index are not. A change copies the page and its filter.

use std::sync::Arc;

/// Bits per level as the table grows: 256, 4,096 or 65,536 cells. Larger shapes are taken only in advance, so that a
/// change of a large table never has to move all of it.
const GROWTH: [u32; 3] = [4, 6, 8];
const LARGEST: u32 = 9;
/// Entries per cell at which the next shape is taken.
const MAX_LOAD: usize = 1;
/// Cells per word of the filter.
const CELLS_PER_WORD: usize = 4;

#[derive(Debug)]
pub(crate) struct Table<E> {
    bits: u32,
    len: usize,
    filters: Arc<[Arc<[u64]>]>,
    pages: Arc<[Arc<[Cell<E>]>]>,
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
        let sieve = sieve(hash);
        if self.filters.get(page)?.get(cell / CELLS_PER_WORD)? & sieve != sieve {
            return None;
        }
        match self.pages.get(page)?.get(cell)? {
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
            self.add(hash, Arc::new(make()))?;
        }
        let entry = match self.cell(hash)? {
            Cell::Empty => return None,
            Cell::One(_, entry) => entry,
            Cell::Many(entries) => {
                let mut entries = Arc::make_mut(entries).iter_mut();
                let entry = entries.find(|(stored, entry)| *stored == hash && is(entry))?;
                &mut entry.1
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
        self.sift_again(hash);
    }

    /// Takes the shape for this many entries at once. Only worth its cost before most of them come.
    pub(crate) fn reserve(&mut self, entries: usize) {
        let fits = |bits: &u32| entries <= 1 << (2 * bits);
        let shapes = GROWTH.into_iter().chain([LARGEST]);
        let bits = shapes
            .into_iter()
            .find(fits)
            .unwrap_or(LARGEST)
            .max(self.bits);
        self.reshape(bits);
    }

    fn grow(&mut self) {
        let fits = |bits: &u32| self.len < MAX_LOAD << (2 * bits);
        let largest = GROWTH.last().copied().unwrap_or_default();
        let bits = GROWTH.into_iter().find(fits).unwrap_or(largest);
        self.reshape(bits.max(self.bits));
    }

    fn reshape(&mut self, bits: u32) {
        if bits == self.bits {
            return;
        }
        let before = std::mem::replace(self, Self::with_bits(bits));
        for (hash, entry) in before
            .pages
            .iter()
            .flat_map(|page| page.iter())
            .flat_map(Cell::entries)
        {
            self.add(*hash, entry.clone());
        }
    }

    fn with_bits(bits: u32) -> Self {
        let size = 1_usize << bits;
        let filter: Arc<[u64]> = vec![0; size / CELLS_PER_WORD].into();
        let page: Arc<[Cell<E>]> = (0..size).map(|_| Cell::Empty).collect();
        Self {
            bits,
            len: 0,
            // All are one empty page until they are written to.
            filters: vec![filter; size].into(),
            pages: vec![page; size].into(),
        }
    }

    /// Adds an entry that is not there.
    pub(crate) fn add(&mut self, hash: u64, entry: Arc<E>) -> Option<()> {
        let cell = self.cell(hash)?;
        *cell = match std::mem::replace(cell, Cell::Empty) {
            Cell::Empty => Cell::One(hash, entry),
            Cell::One(other, held) => Cell::Many([(other, held), (hash, entry)].into()),
            Cell::Many(entries) => {
                let entries = entries.iter().cloned();
                Cell::Many(entries.chain([(hash, entry)]).collect())
            }
        };
        self.len += 1;
        let (page, cell) = places(hash, self.bits);
        let filter = Arc::make_mut(&mut self.filters).get_mut(page)?;
        *Arc::make_mut(filter).get_mut(cell / CELLS_PER_WORD)? |= sieve(hash);
        Some(())
    }

    /// Makes a word of the filter anew after an entry went.
    fn sift_again(&mut self, hash: u64) -> Option<()> {
        let (page, cell) = places(hash, self.bits);
        let word = cell / CELLS_PER_WORD;
        let cells = self.pages.get(page)?;
        let cells = cells.get(word * CELLS_PER_WORD..(word + 1) * CELLS_PER_WORD)?;
        let hashes = cells.iter().flat_map(Cell::entries).map(|(hash, _)| *hash);
        let bits = hashes.fold(0, |bits, hash| bits | sieve(hash));
        let filter = Arc::make_mut(&mut self.filters).get_mut(page)?;
        *Arc::make_mut(filter).get_mut(word)? = bits;
        Some(())
    }

    fn cell(&mut self, hash: u64) -> Option<&mut Cell<E>> {
        let (page, cell) = places(hash, self.bits);
        let page = Arc::make_mut(&mut self.pages).get_mut(page)?;
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

/// Three bits of a filter's word, from the end of the hash that chooses neither page nor cell.
#[inline]
fn sieve(hash: u64) -> u64 {
    (1 << (hash & 63)) | (1 << (hash >> 6 & 63)) | (1 << (hash >> 12 & 63))
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
            filters: self.filters.clone(),
            pages: self.pages.clone(),
        }
    }
}

impl<E: Clone> Default for Table<E> {
    fn default() -> Self {
        let smallest = GROWTH.first().copied().unwrap_or_default();
        Self::with_bits(smallest)
    }
}

#[cfg(test)]
mod tests;

//! A persistent hash table for the request path.
//!
//! Two levels of pages, shared between versions of the index, over cells that begin a short chain of entries. In front
//! of the cells of each page stands a filter of a few bits per entry: callers carry dozens of groups that no binding
//! names, and the filters are small enough to stay in the processor's caches when the entries of a large index are not.
//! A change copies the page and its filter.

use std::sync::Arc;

/// Bits per level as the table grows: 256, 4,096 or 65,536 cells. The largest shape is only taken in advance, so that a
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

type Cell<E> = Option<Arc<Node<E>>>;

/// An entry in the chain of its cell. Keyed hashes keep the chains short.
#[derive(Debug)]
struct Node<E> {
    hash: u64,
    next: Cell<E>,
    entry: E,
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
        let mut next = self.pages.get(page)?.get(cell)?;
        while let Some(node) = next {
            if node.hash == hash && is(&node.entry) {
                return Some(&node.entry);
            }
            next = &node.next;
        }
        None
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
            self.add(hash, make())?;
        }
        let mut node = Arc::make_mut(self.cell(hash)?.as_mut()?);
        while !(node.hash == hash && is(&node.entry)) {
            node = Arc::make_mut(node.next.as_mut()?);
        }
        Some(&mut node.entry)
    }

    /// Removes the entry with this hash for which `is` holds.
    pub(crate) fn remove(&mut self, hash: u64, is: impl Fn(&E) -> bool) {
        if self.get(hash, &is).is_none() {
            return;
        }
        let Some(mut cell) = self.cell(hash) else {
            return;
        };
        let is_it = |node: &Arc<Node<E>>| node.hash == hash && is(&node.entry);
        while !cell.as_ref().is_none_or(is_it) {
            let Some(node) = cell else {
                return;
            };
            cell = &mut Arc::make_mut(node).next;
        }
        *cell = cell.as_ref().and_then(|node| node.next.clone());
        self.len -= 1;
        self.sift_again(hash);
    }

    /// Adds an entry that is not there.
    pub(crate) fn add(&mut self, hash: u64, entry: E) -> Option<()> {
        let cell = self.cell(hash)?;
        let next = cell.take();
        *cell = Some(Arc::new(Node { hash, next, entry }));
        self.len += 1;
        let (page, cell) = places(hash, self.bits);
        let filter = Arc::make_mut(&mut self.filters).get_mut(page)?;
        *Arc::make_mut(filter).get_mut(cell / CELLS_PER_WORD)? |= sieve(hash);
        Some(())
    }

    /// Takes the shape for this many entries at once. Only worth its cost before most of them come.
    pub(crate) fn reserve(&mut self, entries: usize) {
        let fits = |bits: &u32| entries <= 1 << (2 * bits);
        let mut shapes = GROWTH.into_iter().chain([LARGEST]);
        let bits = shapes.find(fits).unwrap_or(LARGEST);
        self.reshape(bits.max(self.bits));
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
        for mut next in before.pages.iter().flat_map(|page| page.iter()) {
            while let Some(node) = next {
                self.add(node.hash, node.entry.clone());
                next = &node.next;
            }
        }
    }

    fn with_bits(bits: u32) -> Self {
        let size = 1_usize << bits;
        let filter: Arc<[u64]> = vec![0; size / CELLS_PER_WORD].into();
        let page: Arc<[Cell<E>]> = (0..size).map(|_| None).collect();
        Self {
            bits,
            len: 0,
            // All are one empty page until they are written to.
            filters: vec![filter; size].into(),
            pages: vec![page; size].into(),
        }
    }

    /// Makes a word of the filter anew after an entry went.
    fn sift_again(&mut self, hash: u64) -> Option<()> {
        let (page, cell) = places(hash, self.bits);
        let word = cell / CELLS_PER_WORD;
        let cells = self.pages.get(page)?;
        let cells = cells.get(word * CELLS_PER_WORD..(word + 1) * CELLS_PER_WORD)?;
        let mut bits = 0;
        for mut next in cells {
            while let Some(node) = next {
                bits |= sieve(node.hash);
                next = &node.next;
            }
        }
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

impl<E: Clone> Clone for Node<E> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            next: self.next.clone(),
            entry: self.entry.clone(),
        }
    }
}

/// Takes chains apart one by one: dropped one inside the other, a long one would overflow the stack.
impl<E> Drop for Node<E> {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(node) = next {
            next = match Arc::try_unwrap(node) {
                Ok(mut node) => node.next.take(),
                Err(_) => None,
            };
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

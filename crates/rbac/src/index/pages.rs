//! A persistent vector of two levels: reading takes two loads, writing copies one page and the list of pages.

use std::sync::Arc;

const PAGE: usize = 128;

#[derive(Debug)]
pub(crate) struct Pages<T> {
    pages: Arc<[Arc<[T]>]>,
}

impl<T> Pages<T> {
    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        self.pages.get(at / PAGE)?.get(at % PAGE)
    }

    /// All elements, including the defaults that fill the last page.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }
}

impl<T: Clone + Default> Pages<T> {
    /// The element at this place, after filling up with defaults to there.
    pub(crate) fn slot(&mut self, at: u32) -> Option<&mut T> {
        let at = at as usize;
        if self.pages.len() <= at / PAGE {
            let missing = at / PAGE + 1 - self.pages.len();
            let empty: Arc<[T]> = vec![T::default(); PAGE].into();
            let pages = self.pages.iter().cloned();
            self.pages = pages.chain(std::iter::repeat_n(empty, missing)).collect();
        }
        let page = Arc::make_mut(&mut self.pages).get_mut(at / PAGE)?;
        Arc::make_mut(page).get_mut(at % PAGE)
    }
}

impl<T> Clone for Pages<T> {
    fn clone(&self) -> Self {
        Self {
            pages: self.pages.clone(),
        }
    }
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self {
            pages: Arc::new([]),
        }
    }
}

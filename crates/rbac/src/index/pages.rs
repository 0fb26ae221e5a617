//! A persistent vector of two levels: reading takes two loads, writing copies one page and the list of pages.

use std::sync::Arc;

const PAGE: usize = 128;

#[derive(Debug)]
pub(crate) struct Pages<T> {
    pages: Arc<Vec<Arc<Vec<T>>>>,
}

impl<T> Pages<T> {
    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        self.pages.get(at / PAGE)?.get(at % PAGE)
    }
}

impl<T: Clone + Default> Pages<T> {
    /// The element at this place, after filling up with defaults to there.
    pub(crate) fn slot(&mut self, at: u32) -> Option<&mut T> {
        let at = at as usize;
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() <= at / PAGE {
            pages.resize_with(at / PAGE + 1, || Arc::new(Vec::new()));
        }
        let page = Arc::make_mut(pages.get_mut(at / PAGE)?);
        if page.len() <= at % PAGE {
            page.resize_with(at % PAGE + 1, T::default);
        }
        page.get_mut(at % PAGE)
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
            pages: Arc::new(Vec::new()),
        }
    }
}

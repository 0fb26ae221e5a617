//! Byte offsets, and the lines and columns that people read.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

/// A line and a column, both from 1. Columns count characters, not bytes; a line ends at its line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A piece of a text, as byte offsets: `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let clamp = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self {
            start: clamp(start),
            end: clamp(end),
        }
    }

    /// The piece of `text` that this span covers; empty when it does not fit.
    #[must_use]
    pub fn slice(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// The line starts of one text, to turn offsets into positions. Read once: O(bytes).
#[derive(Debug, Clone)]
pub struct Lines {
    text: Arc<str>,
    starts: Box<[usize]>,
    is_ascii: bool,
}

impl Lines {
    /// Reads the text once.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let starts = std::iter::once(0)
            .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1))
            .collect();
        Self {
            starts,
            is_ascii: text.is_ascii(),
            text,
        }
    }

    /// Where the byte at `offset` stands; offsets behind the end count as the end.
    #[must_use]
    pub fn position(&self, offset: u32) -> Position {
        let offset = (offset as usize).min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line
            .checked_sub(1)
            .and_then(|index| self.starts.get(index))
            .copied()
            .unwrap_or(0);
        let characters = if self.is_ascii {
            offset - start
        } else {
            let before = self.text.as_bytes().get(start..offset).unwrap_or_default();
            before.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
        };
        Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(characters + 1).unwrap_or(u32::MAX),
        }
    }
}

/// A text that is shared by what was read from it, and its lines once somebody asks.
#[derive(Debug)]
pub(crate) struct SourceText {
    text: Arc<str>,
    lines: OnceLock<Lines>,
}

impl SourceText {
    pub(crate) fn new(text: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            text,
            lines: OnceLock::new(),
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn lines(&self) -> &Lines {
        self.lines
            .get_or_init(|| Lines::new(Arc::clone(&self.text)))
    }
}

//! Writes JSON in the order in which it is told to.
//!
//! A record is made for every call, so that it goes straight into the bytes of the line; a tree of values would cost
//! more than the rest of many calls.

/// JSON in the making. Whoever calls [`open`](Self::open) calls [`close`](Self::close).
#[derive(Debug, Default)]
pub(super) struct Json {
    out: Vec<u8>,
    comma: bool,
}

impl Json {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
            comma: false,
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Begins an object with `{` or a list with `[`.
    pub(super) fn open(&mut self, bracket: u8) {
        self.separate();
        self.out.push(bracket);
        self.comma = false;
    }

    /// Ends it with `}` or `]`.
    pub(super) fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.comma = true;
    }

    /// The name of the member that comes next.
    pub(super) fn key(&mut self, name: &str) {
        self.separate();
        self.text(name);
        self.out.push(b':');
        self.comma = false;
    }

    pub(super) fn string(&mut self, value: &str) {
        self.separate();
        self.text(value);
        self.comma = true;
    }

    /// `true`, `null`, a number: text that is JSON as it is.
    pub(super) fn literal(&mut self, value: &str) {
        self.separate();
        self.out.extend_from_slice(value.as_bytes());
        self.comma = true;
    }

    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.key(name);
        self.string(value);
    }

    pub(super) fn literal_field(&mut self, name: &str, value: &str) {
        self.key(name);
        self.literal(value);
    }

    /// Where the text is now, for [`rewind`](Self::rewind) and [`since`](Self::since).
    pub(super) fn mark(&self) -> Mark {
        Mark {
            length: self.out.len(),
            comma: self.comma,
        }
    }

    /// Bytes written since `mark`.
    pub(super) fn since(&self, mark: Mark) -> usize {
        self.out.len().saturating_sub(mark.length)
    }

    /// Takes back everything since `mark`.
    pub(super) fn rewind(&mut self, mark: Mark) {
        self.out.truncate(mark.length);
        self.comma = mark.comma;
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
    }

    fn text(&mut self, text: &str) {
        // A vector takes every write, and a text is always JSON.
        let _ = serde_json::to_writer(&mut self.out, text);
    }
}

/// A place in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    length: usize,
    comma: bool,
}

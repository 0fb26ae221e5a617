//! Matching with `*` and `?`, in time linear in pattern and text.
//!
//! A pattern is cut at its stars into segments. The first and the last stand fixed at the ends of the text; each one between is
//! looked for from where the one before ended, and the leftmost place is always the right one, so nothing is tried twice.
//! Literal segments are found with a linear-time substring search; segments with `?` with a bit-parallel automaton, which takes
//! one step per byte of text and 64 characters of segment. Variables are slots: their value is compared as plain bytes, so a `*` in a
//! user name is a star and no wildcard.

mod search;

use memchr::memmem;

use crate::bytes;
use crate::context::Context;
use crate::variable::{self, Part, Variable};

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// `*`
    Any,
    /// No wildcard, no variable.
    Exact(Box<str>),
    /// `abc*`
    Prefix(Box<str>),
    /// `*abc`
    Suffix(Box<str>),
    /// Everything else.
    Glob(Box<Glob>),
}

/// A pattern as segments between stars.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    head: Segment,
    /// `None` without a star: then `head` is the whole pattern.
    rest: Option<Rest>,
    /// Fewest bytes a matching text can have, slots not counted.
    least: usize,
    has_slots: bool,
}

#[derive(Debug, Clone)]
struct Rest {
    middle: Box<[Segment]>,
    tail: Segment,
}

/// What stands between two stars.
#[derive(Debug, Clone)]
enum Segment {
    Literal(Literal),
    Mixed(Box<[Piece]>),
}

#[derive(Debug, Clone)]
struct Literal {
    text: Box<[u8]>,
    finder: Option<Box<memmem::Finder<'static>>>,
}

#[derive(Debug, Clone)]
enum Piece {
    Literal(Box<[u8]>),
    /// `?` this many times.
    One(usize),
    Slot(Variable),
}

/// Which characters mean something in a pattern's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Syntax {
    pub(crate) wildcards: bool,
    pub(crate) variables: bool,
}

impl Pattern {
    pub(crate) fn compile(text: &str, syntax: Syntax) -> Self {
        let has_variables = syntax.variables && text.contains("${");
        if !has_variables && let Some(simple) = Self::simple(text, syntax.wildcards) {
            return simple;
        }
        let parts = if has_variables {
            variable::parts(text)
        } else {
            vec![Part::Text(text)]
        };
        Self::from_parts(parts, syntax.wildcards)
    }

    fn simple(text: &str, wildcards: bool) -> Option<Self> {
        let bytes = text.as_bytes();
        let mut special = memchr::memchr2_iter(b'*', b'?', bytes);
        let first = if wildcards { special.next() } else { None };
        let Some(first) = first else {
            return Some(Self::Exact(text.into()));
        };
        if special.next().is_some() || bytes.get(first) != Some(&b'*') {
            return None;
        }
        if bytes.len() == 1 {
            Some(Self::Any)
        } else if first + 1 == bytes.len() {
            Some(Self::Prefix(text.get(..first)?.into()))
        } else if first == 0 {
            Some(Self::Suffix(text.get(1..)?.into()))
        } else {
            None
        }
    }

    fn from_parts(parts: Vec<Part<'_>>, wildcards: bool) -> Self {
        let mut builder = Builder::default();
        for part in parts {
            match part {
                Part::Text(text) if wildcards => {
                    for piece in split_wildcards(text) {
                        match piece {
                            "*" => builder.star(),
                            "?" => builder.one(),
                            literal => builder.literal(literal),
                        }
                    }
                }
                Part::Text(text) | Part::Escaped(text) => builder.literal(text),
                Part::Variable(variable) => builder.slot(variable),
            }
        }
        builder.finish()
    }

    /// Whether the whole text matches. A variable without a value matches nothing.
    #[inline]
    pub(crate) fn matches(&self, text: &str, context: &Context<'_>) -> bool {
        let text = text.as_bytes();
        match self {
            Self::Any => true,
            Self::Exact(literal) => bytes::same(literal.as_bytes(), text),
            Self::Prefix(literal) => bytes::strip_prefix(text, literal.as_bytes()).is_some(),
            Self::Suffix(literal) => bytes::strip_suffix(text, literal.as_bytes()).is_some(),
            Self::Glob(glob) => glob.matches(text, context),
        }
    }

    /// As [`Pattern::matches`], for patterns compiled without variables.
    #[inline]
    pub(crate) fn matches_plain(&self, text: &str) -> bool {
        self.matches(text, &Context::new())
    }

    /// Whether every variable has a value or a default.
    pub(crate) fn resolves(&self, context: &Context<'_>) -> bool {
        match self {
            Self::Glob(glob) if glob.has_slots => glob
                .variables()
                .all(|variable| variable.resolve(context).is_some()),
            _ => true,
        }
    }

    /// The variables inside.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &Variable> {
        let glob = match self {
            Self::Glob(glob) => Some(glob),
            _ => None,
        };
        glob.into_iter().flat_map(|glob| glob.variables())
    }

    /// The pattern with its variables filled in, as far as they have values; for explanations.
    pub(crate) fn substituted(&self, context: &Context<'_>) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::Exact(text) => text.to_string(),
            Self::Prefix(text) => format!("{text}*"),
            Self::Suffix(text) => format!("*{text}"),
            Self::Glob(glob) => glob.substituted(context),
        }
    }

    /// Whether the text equals the pattern without regard to case; the pattern has no wildcards.
    pub(crate) fn equals_folded(&self, text: &str, context: &Context<'_>) -> bool {
        match self {
            Self::Exact(literal) => crate::fold::eq(literal, text),
            Self::Glob(glob) => glob.equals_folded(text, context),
            Self::Any | Self::Prefix(_) | Self::Suffix(_) => false,
        }
    }
}

fn split_wildcards(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.bytes().next()?;
        let len = if matches!(first, b'*' | b'?') {
            1
        } else {
            memchr::memchr2(b'*', b'?', rest.as_bytes()).unwrap_or(rest.len())
        };
        let (piece, tail) = rest.split_at_checked(len)?;
        rest = tail;
        Some(piece)
    })
}

#[derive(Default)]
struct Builder {
    segments: Vec<Vec<Piece>>,
    current: Vec<Piece>,
    starred: bool,
}

impl Builder {
    fn literal(&mut self, text: &str) {
        if let Some(Piece::Literal(last)) = self.current.last_mut() {
            *last = [&**last, text.as_bytes()].concat().into();
        } else if !text.is_empty() {
            self.current.push(Piece::Literal(text.as_bytes().into()));
        }
    }

    fn one(&mut self) {
        if let Some(Piece::One(count)) = self.current.last_mut() {
            *count += 1;
        } else {
            self.current.push(Piece::One(1));
        }
    }

    fn slot(&mut self, variable: Variable) {
        self.current.push(Piece::Slot(variable));
    }

    fn star(&mut self) {
        // Two stars in a row are one, except that the first segment may be empty.
        if !self.starred || !self.current.is_empty() {
            self.segments.push(std::mem::take(&mut self.current));
        }
        self.starred = true;
    }

    fn finish(self) -> Pattern {
        let least = self
            .segments
            .iter()
            .chain(std::iter::once(&self.current))
            .flatten()
            .map(|piece| match piece {
                Piece::Literal(text) => text.len(),
                Piece::One(count) => *count,
                Piece::Slot(_) => 0,
            })
            .sum();
        let has_slots = self
            .segments
            .iter()
            .chain(std::iter::once(&self.current))
            .flatten()
            .any(|piece| matches!(piece, Piece::Slot(_)));
        let mut segments = self.segments.into_iter();
        let (head, rest) = match segments.next() {
            None => (Segment::new(self.current, false), None),
            Some(head) => {
                let middle = segments.map(|pieces| Segment::new(pieces, true)).collect();
                let tail = Segment::new(self.current, false);
                (Segment::new(head, false), Some(Rest { middle, tail }))
            }
        };
        Pattern::Glob(Box::new(Glob {
            head,
            rest,
            least,
            has_slots,
        }))
    }
}

impl Segment {
    fn new(mut pieces: Vec<Piece>, searched: bool) -> Self {
        match pieces.as_mut_slice() {
            [] => Self::Literal(Literal {
                text: Box::default(),
                finder: None,
            }),
            [Piece::Literal(text)] => {
                let text = std::mem::take(text);
                let finder = searched.then(|| Box::new(memmem::Finder::new(&*text).into_owned()));
                Self::Literal(Literal { text, finder })
            }
            _ => Self::Mixed(pieces.into()),
        }
    }

    fn pieces(&self) -> &[Piece] {
        match self {
            Self::Literal(_) => &[],
            Self::Mixed(pieces) => pieces,
        }
    }

    /// What remains behind the segment when it stands at the start of `text`.
    fn strip_start<'t>(&self, text: &'t [u8], context: &Context<'_>) -> Option<&'t [u8]> {
        match self {
            Self::Literal(literal) => bytes::strip_prefix(text, &literal.text),
            Self::Mixed(pieces) => strip_pieces(pieces, text, context),
        }
    }

    /// What remains before the segment when it stands at the end of `text`.
    fn strip_end<'t>(&self, text: &'t [u8], context: &Context<'_>) -> Option<&'t [u8]> {
        match self {
            Self::Literal(literal) => bytes::strip_suffix(text, &literal.text),
            Self::Mixed(pieces) => {
                let mut rest = text;
                for piece in pieces.iter().rev() {
                    rest = match piece {
                        Piece::Literal(literal) => bytes::strip_suffix(rest, literal)?,
                        Piece::Slot(variable) => {
                            bytes::strip_suffix(rest, variable.resolve(context)?.as_bytes())?
                        }
                        Piece::One(count) => {
                            let mut rest = rest;
                            for _ in 0..*count {
                                let start = rest.iter().rposition(|b| b & 0xC0 != 0x80)?;
                                rest = rest.get(..start)?;
                            }
                            rest
                        }
                    };
                }
                Some(rest)
            }
        }
    }

    /// What remains behind the leftmost place of the segment in `text`.
    fn find<'t>(&self, text: &'t [u8], context: &Context<'_>) -> Option<&'t [u8]> {
        match self {
            Self::Literal(Literal {
                text: literal,
                finder,
            }) => {
                let at = match finder {
                    Some(finder) => finder.find(text)?,
                    None => memmem::find(text, literal)?,
                };
                text.get(at + literal.len()..)
            }
            Self::Mixed(pieces) => search::find_mixed(pieces, text, context),
        }
    }
}

fn strip_pieces<'t>(pieces: &[Piece], text: &'t [u8], context: &Context<'_>) -> Option<&'t [u8]> {
    let mut rest = text;
    for piece in pieces {
        rest = match piece {
            Piece::Literal(literal) => bytes::strip_prefix(rest, literal)?,
            Piece::Slot(variable) => {
                bytes::strip_prefix(rest, variable.resolve(context)?.as_bytes())?
            }
            Piece::One(count) => skip_characters(rest, *count)?,
        };
    }
    Some(rest)
}

fn skip_characters(text: &[u8], count: usize) -> Option<&[u8]> {
    let mut rest = text;
    for _ in 0..count {
        let (_, tail) = rest.split_first()?;
        let width = tail
            .iter()
            .position(|b| b & 0xC0 != 0x80)
            .unwrap_or(tail.len());
        rest = tail.get(width..)?;
    }
    Some(rest)
}

impl Glob {
    fn matches(&self, text: &[u8], context: &Context<'_>) -> bool {
        // A match visits every piece, so a variable without a value needs no look of its own.
        if text.len() < self.least {
            return false;
        }
        let Some(behind) = self.head.strip_start(text, context) else {
            return false;
        };
        let Some(rest) = &self.rest else {
            return behind.is_empty();
        };
        let Some(mut between) = rest.tail.strip_end(behind, context) else {
            return false;
        };
        for segment in &rest.middle {
            match segment.find(between, context) {
                Some(remaining) => between = remaining,
                None => return false,
            }
        }
        true
    }

    fn all_resolve(&self, context: &Context<'_>) -> bool {
        self.variables()
            .all(|variable| variable.resolve(context).is_some())
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        let (middle, tail): (&[Segment], _) = match &self.rest {
            Some(rest) => (&rest.middle, Some(&rest.tail)),
            None => (&[], None),
        };
        std::iter::once(&self.head).chain(middle).chain(tail)
    }

    fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.segments()
            .flat_map(|segment| segment.pieces())
            .filter_map(|piece| match piece {
                Piece::Slot(variable) => Some(variable),
                Piece::Literal(_) | Piece::One(_) => None,
            })
    }

    fn substituted(&self, context: &Context<'_>) -> String {
        let mut text = String::new();
        for (index, segment) in self.segments().enumerate() {
            if index > 0 {
                text.push('*');
            }
            match segment {
                Segment::Literal(literal) => {
                    text.push_str(&String::from_utf8_lossy(&literal.text));
                }
                Segment::Mixed(pieces) => {
                    for piece in pieces {
                        match piece {
                            Piece::Literal(literal) => {
                                text.push_str(&String::from_utf8_lossy(literal));
                            }
                            Piece::One(count) => text.extend(std::iter::repeat_n('?', *count)),
                            Piece::Slot(variable) => match variable.resolve(context) {
                                Some(value) => text.push_str(value),
                                None => {
                                    let name = variable.key.as_ref().map_or("", |key| key.shown());
                                    text.push_str(&format!("${{{name}}}"));
                                }
                            },
                        }
                    }
                }
            }
        }
        text
    }

    fn equals_folded(&self, text: &str, context: &Context<'_>) -> bool {
        if self.rest.is_some() || !self.all_resolve(context) {
            return false;
        }
        let mut rest = crate::fold::folded(text);
        let mut consume =
            |value: &str| crate::fold::folded(value).all(|byte| rest.next() == Some(byte));
        let same = match &self.head {
            Segment::Literal(literal) => consume(utf8(&literal.text)),
            Segment::Mixed(pieces) => pieces.iter().all(|piece| match piece {
                Piece::Literal(literal) => consume(utf8(literal)),
                Piece::Slot(variable) => consume(variable.resolve(context).unwrap_or_default()),
                Piece::One(_) => false,
            }),
        };
        same && rest.next().is_none()
    }
}

fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! YAML as a tree that remembers how scalars were written and where everything stands.
//!
//! Values are never interpreted: a plain `no` stays a plain `no`. That is what lets a file be written back without changing what
//! others see in it.

use std::fmt::Write as _;
use std::ops::Range;

use granit_parser::{Event, Options, Parser, ScalarStyle, StructureStyle};

/// Longest text that is parsed.
const MAX_LEN: usize = 8 << 20;

/// A node and the bytes of the text it was read from.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) span: Range<usize>,
    anchor: usize,
    tag: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Text, and whether it was written without quotes.
    Scalar(String, bool),
    /// Items, and whether they were written in brackets.
    Sequence(Vec<Node>, bool),
    /// Pairs in order, and whether they were written in braces.
    Mapping(Vec<(Node, Node)>, bool),
    /// A reference to the node with this anchor.
    Alias(usize),
}

/// Why a text is not one YAML document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// The parser's words.
    #[error("{0}")]
    Syntax(String),
    /// Several documents.
    #[error("the file has more than one YAML document")]
    SeveralDocuments,
    /// More than 8 MiB.
    #[error("the file is longer than 8 MiB")]
    TooLong,
}

impl Node {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            span: 0..0,
            anchor: 0,
            tag: None,
        }
    }

    /// A string; written plainly if every reader takes it for a string then.
    pub(crate) fn string(text: &str) -> Self {
        Self::new(Kind::Scalar(text.to_owned(), is_plain_string(text)))
    }

    /// A string of base64: written plainly, which no reader takes for anything else at this length.
    pub(crate) fn string_as_data(text: &str) -> Self {
        let plain = text.len() > 40
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        Self::new(Kind::Scalar(
            text.to_owned(),
            plain || is_plain_string(text),
        ))
    }

    /// A boolean, number or time: something that is written plainly and is no string.
    pub(crate) fn plain(text: &str) -> Self {
        Self::new(Kind::Scalar(text.to_owned(), true))
    }

    pub(crate) fn sequence(items: Vec<Self>) -> Self {
        Self::new(Kind::Sequence(items, false))
    }

    pub(crate) fn mapping<const N: usize>(pairs: [(&str, Self); N]) -> Self {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (Self::string(key), value))
            .collect();
        Self::new(Kind::Mapping(pairs, false))
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    /// A plain scalar that readers take for null.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(text, true) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub(crate) fn items(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::Sequence(items, _) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn items_mut(&mut self) -> Option<&mut Vec<Self>> {
        match &mut self.kind {
            Kind::Sequence(items, _) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn pairs(&self) -> Option<&[(Self, Self)]> {
        match &self.kind {
            Kind::Mapping(pairs, _) => Some(pairs),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.pairs()?
            .iter()
            .find_map(|(k, value)| (k.text() == Some(key)).then_some(value))
    }

    /// The value of `key`, made by `default` if there is none; `None` if this is no mapping.
    pub(crate) fn entry(&mut self, key: &str, default: fn() -> Self) -> Option<&mut Self> {
        let Kind::Mapping(pairs, _) = &mut self.kind else {
            return None;
        };
        let position = pairs.iter().position(|(k, _)| k.text() == Some(key));
        let index = position.unwrap_or_else(|| {
            pairs.push((Self::string(key), default()));
            pairs.len() - 1
        });
        pairs.get_mut(index).map(|(_, value)| value)
    }

    pub(crate) fn set(&mut self, key: &str, value: Self) {
        if let Some(slot) = self.entry(key, || Self::plain("")) {
            *slot = value;
        }
    }

    pub(crate) fn empty_mapping() -> Self {
        Self::mapping([])
    }

    pub(crate) fn empty_sequence() -> Self {
        Self::sequence(Vec::new())
    }

    /// Whether an anchor, an alias or a tag is in use somewhere.
    pub(crate) fn has_properties(&self) -> bool {
        self.anchor != 0
            || self.tag.is_some()
            || match &self.kind {
                Kind::Scalar(..) => false,
                Kind::Alias(_) => true,
                Kind::Sequence(items, _) => items.iter().any(Self::has_properties),
                Kind::Mapping(pairs, _) => pairs
                    .iter()
                    .any(|(k, v)| k.has_properties() || v.has_properties()),
            }
    }

    /// Whether readers see the same data in both: positions and block or flow notation do not count, quotes do.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.anchor == other.anchor
            && self.tag == other.tag
            && match (&self.kind, &other.kind) {
                (Kind::Scalar(a, plain_a), Kind::Scalar(b, plain_b)) => {
                    a == b && plain_a == plain_b
                }
                (Kind::Alias(a), Kind::Alias(b)) => a == b,
                (Kind::Sequence(a, _), Kind::Sequence(b, _)) => {
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
                }
                (Kind::Mapping(a, _), Kind::Mapping(b, _)) => {
                    a.len() == b.len()
                        && a.iter()
                            .zip(b)
                            .all(|((k, v), (l, w))| k.same(l) && v.same(w))
                }
                _ => false,
            }
    }

    /// The last byte of anything inside.
    pub(crate) fn content_end(&self) -> usize {
        match &self.kind {
            Kind::Sequence(items, false) => items
                .iter()
                .map(Self::content_end)
                .max()
                .unwrap_or(self.span.start),
            Kind::Mapping(pairs, false) => pairs
                .iter()
                .flat_map(|(k, v)| [k.content_end(), v.content_end()])
                .max()
                .unwrap_or(self.span.start),
            _ => self.span.end,
        }
    }
}

/// Reads one document; an empty text is a null.
pub(crate) fn parse(text: &str) -> Result<Node, YamlError> {
    if text.len() > MAX_LEN {
        return Err(YamlError::TooLong);
    }
    let mut options = Options::default();
    options.emit_comments = false;
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut stack: Vec<Open> = Vec::new();
    let mut root = None;
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| YamlError::Syntax(error.to_string()))?;
        let range = span.byte_range().unwrap_or(0..0);
        let (kind, anchor, tag) = match event {
            Event::Scalar(value, style, anchor, tag) => (
                Kind::Scalar(value.into_owned(), style == ScalarStyle::Plain),
                anchor,
                tag.map(|tag| tag.original()),
            ),
            Event::Alias(id) => (Kind::Alias(id), 0, None),
            Event::SequenceStart(style, anchor, tag) => {
                stack.push(Open::new(
                    Kind::Sequence(Vec::new(), style == StructureStyle::Flow),
                    range,
                    anchor,
                    tag.map(|tag| tag.original()),
                ));
                continue;
            }
            Event::MappingStart(style, anchor, tag) => {
                stack.push(Open::new(
                    Kind::Mapping(Vec::new(), style == StructureStyle::Flow),
                    range,
                    anchor,
                    tag.map(|tag| tag.original()),
                ));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = stack.pop() else { continue };
                let mut node = open.node;
                node.span.end = range.end.max(node.span.start);
                place(&mut stack, &mut root, node)?;
                continue;
            }
            _ => continue,
        };
        let node = Node {
            kind,
            span: range,
            anchor,
            tag,
        };
        place(&mut stack, &mut root, node)?;
    }
    Ok(root.unwrap_or_else(|| Node::plain("")))
}

/// A collection whose end has not been seen, and the key that waits for its value.
struct Open {
    node: Node,
    key: Option<Node>,
}

impl Open {
    fn new(kind: Kind, span: Range<usize>, anchor: usize, tag: Option<String>) -> Self {
        Self {
            node: Node {
                kind,
                span,
                anchor,
                tag,
            },
            key: None,
        }
    }
}

fn place(stack: &mut [Open], root: &mut Option<Node>, node: Node) -> Result<(), YamlError> {
    match stack.last_mut() {
        None if root.is_some() => return Err(YamlError::SeveralDocuments),
        None => *root = Some(node),
        Some(open) => match &mut open.node.kind {
            Kind::Sequence(items, _) => items.push(node),
            Kind::Mapping(pairs, _) => match open.key.take() {
                None => open.key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
            Kind::Scalar(..) | Kind::Alias(_) => {}
        },
    }
    Ok(())
}

/// Writes a node in block notation, every line indented by `indent` blanks. Anchors and tags are not written: see
/// [`Node::has_properties`].
pub(crate) fn emit(node: &Node, indent: usize, out: &mut String) {
    match &node.kind {
        Kind::Mapping(pairs, _) if !pairs.is_empty() => {
            for (key, value) in pairs {
                push_blanks(indent, out);
                emit_inline(key, out);
                out.push(':');
                emit_value(value, indent, out);
            }
        }
        Kind::Sequence(items, _) if !items.is_empty() => {
            for item in items {
                push_blanks(indent, out);
                out.push('-');
                match &item.kind {
                    Kind::Mapping(pairs, _) if !pairs.is_empty() => {
                        let start = out.len();
                        emit(item, indent + 2, out);
                        // The first key stands on the line of the dash.
                        out.replace_range(start..start + indent + 2, " ");
                    }
                    Kind::Sequence(inner, _) if !inner.is_empty() => {
                        out.push('\n');
                        emit(item, indent + 2, out);
                    }
                    _ => {
                        out.push(' ');
                        emit_inline(item, out);
                        out.push('\n');
                    }
                }
            }
        }
        _ => {
            push_blanks(indent, out);
            emit_inline(node, out);
            out.push('\n');
        }
    }
}

fn emit_value(value: &Node, indent: usize, out: &mut String) {
    match &value.kind {
        Kind::Mapping(pairs, _) if !pairs.is_empty() => {
            out.push('\n');
            emit(value, indent + 2, out);
        }
        Kind::Sequence(items, _) if !items.is_empty() => {
            out.push('\n');
            emit(value, indent, out);
        }
        Kind::Scalar(text, true) if text.is_empty() => out.push('\n'),
        _ => {
            out.push(' ');
            emit_inline(value, out);
            out.push('\n');
        }
    }
}

/// A scalar or an empty collection, on one line.
pub(crate) fn emit_inline(node: &Node, out: &mut String) {
    match &node.kind {
        Kind::Scalar(text, true) if !text.contains('\n') => out.push_str(text),
        Kind::Scalar(text, _) => quote(text, out),
        Kind::Sequence(..) => out.push_str("[]"),
        Kind::Mapping(..) => out.push_str("{}"),
        Kind::Alias(_) => {}
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a string cannot fail.
            c if c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn push_blanks(count: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', count));
}

/// Whether a plain scalar of this text is a string to YAML 1.1 and 1.2 readers alike, in block and flow notation.
fn is_plain_string(text: &str) -> bool {
    const WORDS: [&str; 11] = [
        "true", "false", "yes", "no", "on", "off", "null", "nan", "inf", "y", "n",
    ];
    let lower = text.to_ascii_lowercase();
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        || (text.starts_with("--") && !text.starts_with("---"));
    starts
        && !WORDS.contains(&lower.as_str())
        && !text.ends_with(':')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./:@+=%".contains(&b))
}

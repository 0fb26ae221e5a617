//! YAML text to [`Tree`], from the parser's events.
//!
//! The event level is needed for three things that a typed deserializer hides: plain scalars keep their text
//! (`012345678901` stays an account id), every node keeps its line, and one bad item does not spoil its neighbours.

mod quote;
mod split;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, StructureStyle};
use serde::Serialize;

use crate::finding::Position;
use crate::tree::{Content, Form, Id, MAX_NODES, Tree};

pub(crate) use split::items;

/// Why a text as a whole cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{message}")]
pub struct BrokenText {
    /// What is wrong.
    pub message: String,
    /// Where, in the text.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

impl BrokenText {
    pub(crate) fn new(message: impl Into<String>, position: Option<Position>) -> Self {
        Self {
            message: message.into(),
            position,
        }
    }
}

/// Deepest nesting accepted; an entry needs five levels.
const MAX_DEPTH: usize = 48;

/// Longest `{{Variable}}` looked at.
pub(crate) const MAX_VARIABLE: usize = 160;

/// Parses the first document of `text` and hands its tree to `read`.
///
/// A text that is broken only because some `{{Variable}}` stands without quotes is read as if it had them.
pub(crate) fn with_tree<R>(text: &str, read: impl FnOnce(&Tree<'_>) -> R) -> Result<R, BrokenText> {
    match Builder::new(text, HashSet::new()).run() {
        Ok(tree) => Ok(read(&tree)),
        Err(broken) => {
            let Some(quoted) = quote::templates(text) else {
                return Err(broken);
            };
            // The first error is the one that a person sees in an editor.
            let tree = Builder::new(&quoted.text, quoted.starts)
                .run()
                .map_err(|_| broken)?;
            Ok(read(&tree))
        }
    }
}

enum Frame {
    List {
        id: Id,
        anchor: usize,
        items: Vec<Id>,
        flow: bool,
        tagged: bool,
    },
    Map {
        id: Id,
        anchor: usize,
        key: Option<Id>,
        pairs: Vec<(Id, Id)>,
        /// Offset of a `{{`, if the mapping begins with one.
        template: Option<usize>,
        flow: bool,
        tagged: bool,
    },
}

impl Frame {
    const fn flow(&self) -> bool {
        match self {
            Self::List { flow, .. } | Self::Map { flow, .. } => *flow,
        }
    }

    const fn anchor(&self) -> usize {
        match self {
            Self::List { anchor, .. } | Self::Map { anchor, .. } => *anchor,
        }
    }
}

struct Builder<'t> {
    text: &'t str,
    /// Offsets of quotes that are not the author's.
    added_quotes: HashSet<usize>,
    tree: Tree<'t>,
    open: Vec<Frame>,
    anchors: HashMap<usize, Id>,
    has_tab: bool,
    last_line: usize,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str, added_quotes: HashSet<usize>) -> Self {
        Self {
            text,
            added_quotes,
            tree: Tree::for_text(text.len()),
            open: Vec::new(),
            anchors: HashMap::new(),
            has_tab: text.contains('\t'),
            last_line: 0,
        }
    }

    fn run(mut self) -> Result<Tree<'t>, BrokenText> {
        let mut options = granit_parser::options! {
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        options.set_emit_comments(false);
        let mut parser: Parser<'t, StrInput<'t>> =
            Parser::new_from_str_with_options(self.text, options);
        loop {
            let (event, span) = match parser.next_event() {
                None => break,
                Some(Ok(event)) => event,
                Some(Err(error)) => {
                    return Err(BrokenText::new(
                        error.info(),
                        Some(position(error.marker())),
                    ));
                }
            };
            if matches!(event, Event::DocumentEnd | Event::StreamEnd) {
                break;
            }
            self.event(event, &span)?;
        }
        Ok(self.tree)
    }

    fn event(&mut self, event: Event<'t>, span: &Span) -> Result<(), BrokenText> {
        let at = position(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tabs(span)?;
                let form = self.form(style, span);
                let content = match tag.as_deref() {
                    Some(tag) if !is_text_tag(tag) => Content::Tagged,
                    Some(_) => Content::Text(text, Form::Quoted),
                    None if form == Form::Plain && is_null(&text) => Content::Null,
                    None => Content::Text(text, form),
                };
                let id = self.add(content, at)?;
                self.anchor(anchor, id);
                self.place(id);
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.check_tabs(span)?;
                let id = self.add(Content::Null, at)?;
                self.anchor(anchor, id);
                self.open.push(Frame::List {
                    id,
                    anchor,
                    items: Vec::new(),
                    flow: style == StructureStyle::Flow,
                    tagged: tag.is_some(),
                });
            }
            Event::MappingStart(style, anchor, tag) => {
                self.check_tabs(span)?;
                let id = self.add(Content::Null, at)?;
                self.anchor(anchor, id);
                let flow = style == StructureStyle::Flow;
                self.open.push(Frame::Map {
                    id,
                    anchor,
                    key: None,
                    pairs: Vec::new(),
                    template: span.start.byte_offset().filter(|offset| {
                        flow && self
                            .text
                            .get(*offset..)
                            .is_some_and(|rest| rest.starts_with("{{"))
                    }),
                    flow,
                    tagged: tag.is_some(),
                });
            }
            Event::SequenceEnd => {
                if let Some(Frame::List {
                    id, items, tagged, ..
                }) = self.open.pop()
                {
                    let content = if tagged {
                        Content::Tagged
                    } else {
                        Content::List(items)
                    };
                    self.tree.set(id, content);
                    self.place(id);
                }
            }
            Event::MappingEnd => {
                if let Some(Frame::Map {
                    id,
                    pairs,
                    template,
                    tagged,
                    ..
                }) = self.open.pop()
                {
                    let written = template.and_then(|start| self.template(start, &span.end));
                    let content = match written {
                        Some(text) => Content::Text(Cow::Borrowed(text), Form::UnquotedTemplate),
                        None if tagged => Content::Tagged,
                        None => Content::Map(pairs),
                    };
                    self.tree.set(id, content);
                    self.place(id);
                }
            }
            Event::Alias(anchor) => {
                if self.open.iter().any(|frame| frame.anchor() == anchor) {
                    return Err(BrokenText::new("an anchor contains itself", Some(at)));
                }
                let Some(id) = self.anchors.get(&anchor).copied() else {
                    return Err(BrokenText::new("unknown anchor", Some(at)));
                };
                self.place(id);
            }
            Event::UnresolvedAlias(_) => {
                return Err(BrokenText::new("unknown anchor", Some(at)));
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, content: Content<'t>, at: Position) -> Result<Id, BrokenText> {
        self.tree
            .add(content, Some(at))
            .ok_or_else(|| BrokenText::new(format!("more than {MAX_NODES} values"), Some(at)))
    }

    fn anchor(&mut self, anchor: usize, id: Id) {
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
    }

    /// Puts a finished node into what is open around it.
    fn place(&mut self, id: Id) {
        match self.open.last_mut() {
            None => self.tree.set_root(id),
            Some(Frame::List { items, .. }) => items.push(id),
            Some(Frame::Map { key, pairs, .. }) => match key.take() {
                None => *key = Some(id),
                Some(name) => pairs.push((name, id)),
            },
        }
    }

    fn form(&self, style: ScalarStyle, span: &Span) -> Form {
        match style {
            ScalarStyle::Plain => Form::Plain,
            ScalarStyle::SingleQuoted
                if span
                    .start
                    .byte_offset()
                    .is_some_and(|offset| self.added_quotes.contains(&offset)) =>
            {
                Form::UnquotedTemplate
            }
            _ => Form::Quoted,
        }
    }

    /// The text between a `{{` and the end of its mapping, if it is one `{{Variable}}`.
    fn template(&self, start: usize, end: &Marker) -> Option<&'t str> {
        let text = self.text.get(start..end.byte_offset()?)?;
        let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
        (text.len() <= MAX_VARIABLE
            && !inner.is_empty()
            && !inner
                .chars()
                .any(|c| c.is_whitespace() || matches!(c, '{' | '}' | '"' | '\'' | ',')))
        .then_some(text)
    }

    /// Refuses tabs in the indentation of block nodes: the parser lets some through, the reference none.
    fn check_tabs(&mut self, span: &Span) -> Result<(), BrokenText> {
        if !self.has_tab || span.start.line() == self.last_line {
            return Ok(());
        }
        self.last_line = span.start.line();
        if self.open.last().is_some_and(Frame::flow) {
            return Ok(());
        }
        let before = span
            .start
            .byte_offset()
            .and_then(|offset| self.text.get(..offset))
            .and_then(|before| before.rsplit('\n').next())
            .unwrap_or_default();
        let indentation = before
            .chars()
            .take_while(|c| c.is_whitespace())
            .collect::<String>();
        if indentation.contains('\t') {
            return Err(BrokenText::new(
                "a tab in the indentation; YAML is indented by spaces",
                Some(Position {
                    line: position(&span.start).line,
                    column: 1,
                }),
            ));
        }
        Ok(())
    }
}

fn position(marker: &Marker) -> Position {
    Position {
        line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
        column: u32::try_from(marker.col().saturating_add(1)).unwrap_or(u32::MAX),
    }
}

/// `!!str`, or the lone `!` that also means text.
fn is_text_tag(tag: &granit_parser::Tag) -> bool {
    tag.is_yaml_core_schema_tag("str") || (tag.handle().is_empty() && tag.suffix() == "!")
}

fn is_null(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}

/// Whether YAML 1.1 reads the plain scalar as something else than text: a boolean, a number or a date.
pub(crate) fn is_not_text_in_yaml_1_1(plain: &str) -> bool {
    const WORDS: [&str; 8] = ["yes", "no", "on", "off", "y", "n", "true", "false"];
    if plain.len() <= 5 && WORDS.iter().any(|word| plain.eq_ignore_ascii_case(word)) {
        return true;
    }
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    let Some(first) = unsigned.bytes().next() else {
        return false;
    };
    if matches!(
        unsigned,
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"
    ) {
        return true;
    }
    // Numbers in any base, base 60 (`1:30`), and dates consist of these only.
    (first.is_ascii_digit() || (first == b'.' && unsigned.len() > 1))
        && (unsigned
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'_' | b'.' | b':' | b'-'))
            || unsigned.parse::<f64>().is_ok()
            || is_based_number(unsigned))
}

fn is_based_number(text: &str) -> bool {
    let digits_of = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix).is_some_and(|digits| {
            !digits.is_empty() && digits.chars().all(|c| c == '_' || c.is_digit(radix))
        })
    };
    digits_of("0x", 16) || digits_of("0o", 8) || digits_of("0b", 2)
}

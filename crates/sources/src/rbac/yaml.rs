//! YAML to values, with the line of every document and list item.
//!
//! Every scalar is text: a reader of RBAC objects has no use for numbers, and `012` or `no` are good names.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Values in one document, those that aliases repeat included.
const MAX_VALUES: usize = 2_000_000;

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Line in the text, from 1.
    pub(super) line: u32,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Why a document cannot be read.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) line: u32,
    pub(super) message: String,
}

impl Broken {
    fn new(line: u32, message: impl Into<String>) -> Self {
        Self {
            line,
            message: message.into(),
        }
    }
}

/// The documents of a text; one that is broken does not hide the others.
pub(super) fn documents(text: &str) -> Vec<Result<Node, Broken>> {
    let mut documents = Vec::new();
    for (first_line, part) in parts(text) {
        let mut builder = Builder::new(first_line);
        match builder.run(part) {
            Ok(read) => documents.extend(read.into_iter().map(Ok)),
            Err(broken) => documents.push(Err(broken)),
        }
    }
    documents
}

/// The text split at its document markers, each part with the number of lines above it. Nothing in YAML spans a marker.
fn parts(text: &str) -> Vec<(u32, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut line, mut first) = (0, 0_u32, 0_u32);
    let mut at = 0;
    for content in text.split_inclusive('\n') {
        let trimmed = content.trim_end();
        let marker =
            trimmed == "---" || trimmed.starts_with("--- ") || trimmed.starts_with("---\t");
        // What stands behind a marker on its line belongs to the document.
        if marker && at > start {
            parts.push((first, text.get(start..at).unwrap_or_default()));
            (start, first) = (at, line);
        }
        at += content.len();
        line = line.saturating_add(1);
    }
    parts.push((first, text.get(start..).unwrap_or_default()));
    parts
}

enum Frame {
    List {
        line: u32,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        line: u32,
        anchor: usize,
        key: Option<String>,
        pairs: Vec<(String, Node)>,
    },
}

struct Builder {
    above: u32,
    open: Vec<Frame>,
    /// Anchored values with their sizes and depths.
    anchors: HashMap<usize, (Node, usize, usize)>,
    values: usize,
    read: Vec<Node>,
}

impl Builder {
    fn new(above: u32) -> Self {
        Self {
            above,
            open: Vec::new(),
            anchors: HashMap::new(),
            values: 0,
            read: Vec::new(),
        }
    }

    fn run(&mut self, text: &str) -> Result<Vec<Node>, Broken> {
        let mut options = granit_parser::options! {
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        options.set_emit_comments(false);
        let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str_with_options(text, options);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                Broken::new(self.line(error.marker().line()), error.info().to_string())
            })?;
            let line = self.line(span.start.line());
            match event {
                Event::Scalar(text, style, anchor, _) => {
                    let plain = style == ScalarStyle::Plain;
                    let content = match &*text {
                        "" | "~" | "null" | "Null" | "NULL" if plain => Content::Null,
                        _ => Content::Text(text.into_owned()),
                    };
                    self.finish(Node { line, content }, anchor, 1)?;
                }
                Event::SequenceStart(_, anchor, _) => self.open.push(Frame::List {
                    line,
                    anchor,
                    items: Vec::new(),
                }),
                Event::MappingStart(_, anchor, _) => self.open.push(Frame::Map {
                    line,
                    anchor,
                    key: None,
                    pairs: Vec::new(),
                }),
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                Event::Alias(anchor) => {
                    let Some((_, size, depth)) = self.anchors.get(&anchor) else {
                        return Err(Broken::new(
                            line,
                            "unknown anchor, or one that contains itself",
                        ));
                    };
                    let (size, depth) = (*size, *depth);
                    // Before it is copied: aliases of aliases grow without end, in size and in depth.
                    if self.values.saturating_add(size) > MAX_VALUES {
                        return Err(Broken::new(line, format!("more than {MAX_VALUES} values")));
                    }
                    if self.open.len() + depth > 2 * MAX_DEPTH {
                        return Err(Broken::new(line, "aliases are nested too deep"));
                    }
                    if let Some((node, ..)) = self.anchors.get(&anchor).cloned() {
                        self.finish(node, 0, size)?;
                    }
                }
                Event::UnresolvedAlias(_) => return Err(Broken::new(line, "unknown anchor")),
                Event::DocumentEnd => self.anchors.clear(),
                _ => {}
            }
        }
        Ok(std::mem::take(&mut self.read))
    }

    fn close(&mut self) -> Result<(), Broken> {
        let Some(frame) = self.open.pop() else {
            return Ok(());
        };
        let (node, anchor) = match frame {
            Frame::List {
                line,
                anchor,
                items,
            } => {
                let content = Content::List(items);
                (Node { line, content }, anchor)
            }
            Frame::Map {
                line,
                anchor,
                pairs,
                ..
            } => {
                let content = Content::Map(pairs);
                (Node { line, content }, anchor)
            }
        };
        self.finish(node, anchor, 1)
    }

    /// Puts a finished value into what is open around it. `counted` is how many values it adds.
    fn finish(&mut self, node: Node, anchor: usize, counted: usize) -> Result<(), Broken> {
        self.values = self.values.saturating_add(counted);
        if self.values > MAX_VALUES {
            return Err(Broken::new(
                node.line,
                format!("more than {MAX_VALUES} values"),
            ));
        }
        if anchor != 0 {
            let size = node.size();
            self.values = self.values.saturating_add(size);
            let depth = node.depth();
            self.anchors.insert(anchor, (node.clone(), size, depth));
        }
        match self.open.last_mut() {
            // An empty document is none.
            None if matches!(node.content, Content::Null) => {}
            None => self.read.push(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { key, pairs, .. }) => match (key.take(), node.content) {
                (Some(name), content) => {
                    let line = node.line;
                    if pairs.iter().any(|(there, _)| *there == name) {
                        return Err(Broken::new(line, format!("the key `{name}` stands twice")));
                    }
                    pairs.push((name, Node { line, content }));
                }
                (None, Content::Text(name)) if name == "<<" => {
                    return Err(Broken::new(node.line, "merge keys (`<<`) are not read"));
                }
                (None, Content::Text(name)) => *key = Some(name),
                (None, Content::Null) => *key = Some(String::new()),
                (None, Content::List(_) | Content::Map(_)) => {
                    return Err(Broken::new(node.line, "a key that is no text"));
                }
            },
        }
        Ok(())
    }

    fn line(&self, line: usize) -> u32 {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        self.above.saturating_add(line)
    }
}

impl Node {
    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(pairs) => pairs
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text of a key's value, empty if it has none.
    pub(super) fn text(&self, name: &str) -> &str {
        match self.get(name).map(|node| &node.content) {
            Some(Content::Text(text)) => text,
            _ => "",
        }
    }

    /// As JSON, scalars as texts. The depth is bounded by the parser.
    pub(super) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(pairs) => Value::Object(
                pairs
                    .iter()
                    .map(|(key, node)| (key.clone(), node.to_json()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.content {
            Content::Null | Content::Text(_) => 0,
            Content::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Content::Map(pairs) => pairs.iter().map(|(_, n)| n.depth()).max().unwrap_or(0),
        }
    }

    fn size(&self) -> usize {
        1 + match &self.content {
            Content::Null | Content::Text(_) => 0,
            Content::List(items) => items.iter().map(Self::size).sum(),
            Content::Map(pairs) => pairs.iter().map(|(_, node)| node.size()).sum(),
        }
    }
}

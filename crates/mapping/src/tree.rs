//! A document as a tree of texts, lists and mappings that remembers where each node stood.
//!
//! YAML and JSON both end here, so that the rules for entries are written once. Scalars stay text: which plain scalar
//! is a number or a boolean is never decided, because an account id is text however it is written.

use std::borrow::Cow;

use crate::finding::Position;

/// A node of a [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(u32);

/// How a text was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// In quotes, as a block, or tagged as text.
    Quoted,
    /// Without quotes in YAML.
    Plain,
    /// `{{X}}` without quotes, which YAML reads as a mapping.
    UnquotedTemplate,
    /// A JSON number or boolean.
    JsonLiteral,
}

#[derive(Debug)]
pub(crate) enum Content<'t> {
    Null,
    Text(Cow<'t, str>, Form),
    List(Vec<Id>),
    Map(Vec<(Id, Id)>),
    /// A YAML node with a tag that we do not know; never a text.
    Tagged,
}

impl Content<'_> {
    /// What a person calls it.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(..) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Tagged => "a tagged value",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Node<'t> {
    pub(crate) content: Content<'t>,
    pub(crate) position: Option<Position>,
}

/// Nodes of one document. Without cycles: an anchor cannot contain itself.
#[derive(Debug, Default)]
pub(crate) struct Tree<'t> {
    nodes: Vec<Node<'t>>,
    root: Option<Id>,
}

/// More nodes than any list of 20,000 entries needs.
pub(crate) const MAX_NODES: usize = 600_000;

const EMPTY: Node<'static> = Node {
    content: Content::Null,
    position: None,
};

impl<'t> Tree<'t> {
    /// A tree with room for about as many nodes as a text of `len` bytes has.
    pub(crate) fn for_text(len: usize) -> Self {
        Self {
            nodes: Vec::with_capacity((len / 10).min(MAX_NODES)),
            root: None,
        }
    }

    /// Adds a node, unless there are too many.
    pub(crate) fn add(&mut self, content: Content<'t>, position: Option<Position>) -> Option<Id> {
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        let id = Id(u32::try_from(self.nodes.len()).ok()?);
        self.nodes.push(Node { content, position });
        Some(id)
    }

    pub(crate) fn set_root(&mut self, id: Id) {
        self.root = Some(id);
    }

    pub(crate) fn set(&mut self, id: Id, content: Content<'t>) {
        if let Some(node) = self.nodes.get_mut(id.0 as usize) {
            node.content = content;
        }
    }

    pub(crate) fn get(&self, id: Id) -> &Node<'t> {
        self.nodes.get(id.0 as usize).unwrap_or(&EMPTY)
    }

    /// The top node; an empty document is null.
    pub(crate) fn root(&self) -> &Node<'t> {
        self.root.map_or(&EMPTY, |id| self.get(id))
    }

    /// The value of the last field of `map` whose name equals `name` without regard to case.
    pub(crate) fn field(&self, map: &Node<'t>, name: &str) -> Option<Id> {
        let Content::Map(pairs) = &map.content else {
            return None;
        };
        pairs
            .iter()
            .rev()
            .find(|(key, _)| self.key(*key).is_some_and(|k| k.eq_ignore_ascii_case(name)))
            .map(|(_, value)| *value)
    }

    /// The text of a mapping's key.
    pub(crate) fn key(&self, id: Id) -> Option<&str> {
        match &self.get(id).content {
            Content::Text(text, _) => Some(text),
            _ => None,
        }
    }
}

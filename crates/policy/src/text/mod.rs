//! Texts with positions: JSON and YAML read into one tree whose every value knows where it stood.
//!
//! A policy is returned byte for byte as it was submitted, its statements are reported by line and column, and a key that
//! appears twice must be seen. None of this survives a general-purpose deserializer, so the tree is read here.

mod json;
mod position;
mod yaml;

use std::borrow::Cow;
use std::fmt;

pub(crate) use position::SourceText;
pub use position::{Lines, Position, Span};

pub(crate) use json::parse as parse_json;
pub(crate) use json::parse_lenient as parse_json_lenient;
pub(crate) use yaml::parse as parse_yaml;

/// One value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node<'t> {
    pub(crate) span: Span,
    pub(crate) value: Value<'t>,
}

#[derive(Debug, Clone)]
pub(crate) enum Value<'t> {
    Null,
    Bool(bool),
    /// The number as it was written: `5`, `1.50`, `1e3`.
    Number(Cow<'t, str>),
    String(Cow<'t, str>),
    Array(Vec<Node<'t>>),
    Object(Vec<Member<'t>>),
}

#[derive(Debug, Clone)]
pub(crate) struct Member<'t> {
    pub(crate) key: Cow<'t, str>,
    pub(crate) key_span: Span,
    pub(crate) node: Node<'t>,
}

impl<'t> Node<'t> {
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'t>> {
        self.members()
            .iter()
            .find(|member| member.key == key)
            .map(|member| &member.node)
    }

    pub(crate) fn members(&self) -> &[Member<'t>] {
        match &self.value {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a string, number or boolean; the language turns the latter two into text.
    pub(crate) fn scalar_text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) | Value::Number(text) => Some(text),
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// What a message calls this value.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }
}

/// A text that is neither JSON nor YAML, or that says one thing twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (line {}, column {})", .position.line, .position.column)]
pub struct SyntaxError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
    /// Where: byte offset and length.
    pub span: Span,
    /// Where, for people.
    pub position: Position,
    /// Where, inside the document: `Statement[2].Condition`.
    pub path: String,
}

/// A path into a document, linked from the inside out so that walking allocates nothing; printed as
/// `Statement[0].Condition.StringEquals["aws:x"]`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

/// One step of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'p> {
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    pub(crate) fn key(&'p self, key: &'p str) -> Self {
        Self::Key(self, key)
    }

    pub(crate) fn index(&'p self, index: usize) -> Self {
        Self::Index(self, index)
    }

    fn steps(&self) -> Vec<Step<'p>> {
        let mut steps = Vec::new();
        let mut here = *self;
        loop {
            match here {
                Self::Root => break,
                Self::Key(parent, key) => {
                    steps.push(Step::Key(key));
                    here = *parent;
                }
                Self::Index(parent, index) => {
                    steps.push(Step::Index(index));
                    here = *parent;
                }
            }
        }
        steps.reverse();
        steps
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render_path(&self.steps()))
    }
}

/// Prints steps from the outside in; the root is `$`.
pub(crate) fn render_path(steps: &[Step<'_>]) -> String {
    use fmt::Write as _;
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Index(index) => {
                let _ = write!(text, "[{index}]");
            }
            Step::Key(key) if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Key(key) => {
                let _ = write!(text, "[{key:?}]");
            }
        }
    }
    if text.is_empty() {
        text.push('$');
    }
    text
}

//! A policy document: the text as submitted, and what it says, with the place of every part.
//!
//! Reading is strict where a lenient reader would change the meaning: an unknown element, a misspelt `Condition`, a duplicate key
//! or an effect other than `Allow` and `Deny` makes the whole document unusable. What IAM would refuse on write for other reasons
//! (a bad ARN, an unknown operator) can still be read, so that it can be explained and reported; see [`crate::validate`].

mod at_most;
mod parse;
mod principals;

use std::sync::Arc;

use serde::Serialize;

pub use principals::{PrincipalIds, PrincipalSlot};

use crate::problem::Problem;
use crate::text::{Lines, Node, Position, SourceText, Span, SyntaxError};

/// Deepest nesting of a document; a real one needs six.
pub(crate) const MAX_DEPTH: usize = 16;
/// Most statements in a document.
pub(crate) const MAX_STATEMENTS: usize = 4096;
/// Most values (actions, resources, principals, condition values) in a document.
pub(crate) const MAX_VALUES: usize = 10_000;

/// One policy document.
#[derive(Debug, Clone)]
pub struct Document {
    source: Arc<SourceText>,
    span: Span,
    version: Version,
    version_span: Option<Span>,
    id: Option<Text>,
    statements: Vec<Statement>,
    statement_is_object: bool,
    statements_span: Span,
    reported: Vec<Problem>,
}

/// The language version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Version {
    /// `2008-10-17`, also when the element is absent: policy variables are plain text.
    #[serde(rename = "2008-10-17")]
    V2008,
    /// `2012-10-17`.
    #[serde(rename = "2012-10-17")]
    V2012,
}

/// A text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The text, escapes resolved.
    pub value: Box<str>,
    /// Where it stands, quotes included.
    pub span: Span,
}

/// What a statement does when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Effect {
    /// Grants.
    Allow,
    /// Forbids, whatever else is granted.
    Deny,
}

/// One statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// From its opening to its closing brace.
    pub span: Span,
    /// Its id, if it has one.
    pub sid: Option<Text>,
    /// Allow or Deny.
    pub effect: Effect,
    /// `Principal` or `NotPrincipal`.
    pub principal: Option<PrincipalElement>,
    /// `Action` or `NotAction`; IAM refuses a statement without, see [`crate::validate`].
    pub action: Option<ListElement>,
    /// `Resource` or `NotResource`.
    pub resource: Option<ListElement>,
    /// The blocks of `Condition`, one per operator.
    pub conditions: Vec<ConditionBlock>,
    /// The whole `Condition` value.
    pub condition_span: Option<Span>,
}

/// `Action`, `NotAction`, `Resource` or `NotResource`.
#[derive(Debug, Clone)]
pub struct ListElement {
    /// Whether this is the `Not...` form.
    pub negated: bool,
    /// Where its key stands.
    pub key_span: Span,
    /// Where its value stands.
    pub span: Span,
    /// Whether the value was written as a list.
    pub is_list: bool,
    /// The entries.
    pub entries: Vec<Text>,
}

/// `Principal` or `NotPrincipal`.
#[derive(Debug, Clone)]
pub struct PrincipalElement {
    /// Whether this is `NotPrincipal`.
    pub negated: bool,
    /// Where its key stands.
    pub key_span: Span,
    /// Where its value stands.
    pub span: Span,
    /// Whether the value is the bare text `"*"`.
    pub is_star: bool,
    /// The entries of all kinds, in order.
    pub entries: Vec<PrincipalEntry>,
}

/// One principal of a statement.
#[derive(Debug, Clone)]
pub struct PrincipalEntry {
    /// The key it stands under.
    pub kind: PrincipalKind,
    /// The text.
    pub text: Text,
}

/// The key that a principal stands under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum PrincipalKind {
    /// The bare `"*"`.
    #[serde(rename = "STAR")]
    Star,
    /// `AWS`: accounts, users, roles, sessions, unique ids.
    #[serde(rename = "AWS")]
    Aws,
    /// `Service`.
    Service,
    /// `Federated`.
    Federated,
    /// `CanonicalUser`.
    CanonicalUser,
}

impl PrincipalKind {
    /// The key as IAM writes it in its messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Star => "STAR",
            Self::Aws => "AWS",
            Self::Service => "Service",
            Self::Federated => "Federated",
            Self::CanonicalUser => "CanonicalUser",
        }
    }
}

/// One operator of a `Condition`.
#[derive(Debug, Clone)]
pub struct ConditionBlock {
    /// The operator as written.
    pub operator: Text,
    /// Where the operator's object stands.
    pub span: Span,
    /// The keys tested.
    pub keys: Vec<ConditionKey>,
}

/// One key under an operator.
#[derive(Debug, Clone)]
pub struct ConditionKey {
    /// The key as written.
    pub key: Text,
    /// Where its values stand.
    pub span: Span,
    /// Whether the values were written as a list.
    pub is_list: bool,
    /// The values; numbers and booleans as text.
    pub values: Vec<Text>,
}

/// Why a text cannot be used as a policy document.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DocumentError {
    /// The text is not JSON, or has a key twice.
    #[error(transparent)]
    Syntax(#[from] Box<SyntaxError>),
    /// It is JSON but no policy.
    #[error("{}", .0.first().map_or("the document is not a policy", |problem| &problem.message))]
    Shape(Vec<Problem>),
}

impl DocumentError {
    /// Everything that is wrong.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Syntax(error) => vec![Problem::from_syntax(error)],
            Self::Shape(problems) => problems.clone(),
        }
    }
}

impl Document {
    /// Reads a JSON document.
    ///
    /// # Errors
    /// When the text is not JSON, has a duplicate key, or says something that cannot be given a safe meaning.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Self, DocumentError> {
        let source = SourceText::new(text.into());
        let node = crate::text::parse_json(source.text(), MAX_DEPTH)?;
        let (document, problems) = parse::document(&node, &source);
        Self::usable(document, problems)
    }

    /// Reads a document that is part of a larger file; its positions refer to that file.
    pub(crate) fn from_node(
        node: &Node<'_>,
        source: &Arc<SourceText>,
    ) -> Result<Self, DocumentError> {
        let (document, problems) = parse::document(node, source);
        Self::usable(document, problems)
    }

    /// Reads whatever can be read, together with all problems of shape. For lint and write-time validation.
    pub(crate) fn examine(node: &Node<'_>, source: &Arc<SourceText>) -> (Self, Vec<Problem>) {
        parse::document(node, source)
    }

    fn usable(document: Self, problems: Vec<Problem>) -> Result<Self, DocumentError> {
        let (fatal, reported): (Vec<_>, Vec<_>) = problems.into_iter().partition(Problem::is_fatal);
        if fatal.is_empty() {
            Ok(Self {
                reported,
                ..document
            })
        } else {
            Err(DocumentError::Shape(fatal))
        }
    }

    /// The exact text as submitted.
    #[must_use]
    pub fn text(&self) -> &str {
        self.span.slice(self.source.text())
    }

    /// The text that positions refer to: the document, or the file around it.
    #[must_use]
    pub fn source(&self) -> &str {
        self.source.text()
    }

    /// Where the document stands in its source.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// The language version in force.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where `Version` is written; `None` when it is absent.
    #[must_use]
    pub fn version_span(&self) -> Option<Span> {
        self.version_span
    }

    /// The `Id`.
    #[must_use]
    pub fn id(&self) -> Option<&Text> {
        self.id.as_ref()
    }

    /// The statements in order.
    #[must_use]
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// All condition keys and variables of the document, distinct without regard to case, as first spelled: what the
    /// GetContextKeys operations answer.
    #[must_use]
    pub fn context_keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut add = |key: &'_ str| seen.insert(crate::fold::lower(key));
        for statement in &self.statements {
            let tested = statement.conditions.iter().flat_map(|block| &block.keys);
            for key in tested.clone() {
                if add(&key.key.value) {
                    keys.push(&key.key.value);
                }
            }
            let resources = statement.resource.iter().flat_map(|list| &list.entries);
            for text in resources.chain(tested.flat_map(|key| &key.values)) {
                for key in crate::variable::key_texts(&text.value) {
                    if add(key) {
                        keys.push(key);
                    }
                }
            }
        }
        keys
    }

    /// Problems that did not stop the document from being read, such as an operator nobody knows.
    #[must_use]
    pub fn reported(&self) -> &[Problem] {
        &self.reported
    }

    /// Turns offsets of this document into lines and columns.
    #[must_use]
    pub fn lines(&self) -> &Lines {
        self.source.lines()
    }

    /// Start and end of a statement as the policy simulator API prints them: the position behind the token before the statement
    /// (`[`, the comma between two statements, or the statement's own brace when `Statement` is an object), and the position behind its
    /// closing brace.
    #[must_use]
    pub fn simulator_positions(&self, statement: usize) -> Option<(Position, Position)> {
        let own = self.statements.get(statement)?;
        let start = if self.statement_is_object {
            own.span.start + 1
        } else {
            match statement
                .checked_sub(1)
                .and_then(|i| self.statements.get(i))
            {
                None => self.statements_span.start + 1,
                Some(previous) => {
                    let between = Span {
                        start: previous.span.end,
                        end: own.span.start,
                    };
                    let comma = between.slice(self.source.text()).find(',').unwrap_or(0);
                    between.start + u32::try_from(comma + 1).unwrap_or(1)
                }
            }
        };
        let lines = self.lines();
        Some((lines.position(start), lines.position(own.span.end)))
    }
}

/// Characters of a document without the white space outside its strings: what IAM's size quotas count.
#[must_use]
pub fn size_without_whitespace(text: &str) -> usize {
    let mut size = 0;
    let mut inside = false;
    let mut escaped = false;
    for character in text.chars() {
        if inside {
            size += 1;
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => inside = false,
                _ => {}
            }
        } else if !matches!(character, ' ' | '\t' | '\n' | '\r') {
            size += 1;
            inside = character == '"';
        }
    }
    size
}

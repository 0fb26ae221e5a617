//! What is wrong with a document, and where.

use serde::Serialize;

use crate::text::{Node, Path, Span, SyntaxError};

/// One thing that is wrong: what, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Stable name in upper snake case, the same that lint prints.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where, inside the document.
    pub path: String,
    /// Where, in the text.
    pub span: Span,
    #[serde(skip)]
    pub(crate) gravity: Gravity,
}

/// What a problem means for reading and for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gravity {
    /// Not readable; IAM says `Syntax errors in policy.`
    Syntax,
    /// Not readable; IAM says `The policy failed legacy parsing`.
    LegacyFatal,
    /// Readable; IAM says `Syntax errors in policy.`
    Operator,
    /// Readable; IAM objects at a later step, or not at all.
    Later,
}

impl Problem {
    pub(crate) fn new(
        code: &'static str,
        gravity: Gravity,
        path: &Path<'_>,
        span: Span,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            path: path.to_string(),
            span,
            gravity,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn is_fatal(&self) -> bool {
        matches!(self.gravity, Gravity::Syntax | Gravity::LegacyFatal)
    }

    pub(crate) fn wrong_type(path: &Path<'_>, node: &Node<'_>, expected: &str) -> Self {
        Self::new(
            "DATA_TYPE_MISMATCH",
            Gravity::Syntax,
            path,
            node.span,
            format!("expected {expected}, found {}", node.kind_name()),
        )
    }

    pub(crate) fn from_syntax(error: &SyntaxError) -> Self {
        let duplicate = error.message.contains("appears twice");
        Self {
            code: if duplicate {
                "DUPLICATE_JSON_KEY"
            } else {
                "JSON_SYNTAX_ERROR"
            },
            message: error.message.clone(),
            hint: error.hint.map(str::to_owned),
            path: error.path.clone(),
            span: error.span,
            gravity: Gravity::Syntax,
        }
    }
}

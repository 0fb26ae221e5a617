//! Sizes (policy language spec, section 2).

use super::{Checked, Rejection, RejectionCode};
use crate::document::size_without_whitespace;
use crate::problem::{Gravity, Problem};
use crate::text::{Path, Span};

/// Longest document parameter, white space included.
const MAX_PARAMETER: usize = 131_072;

/// What a document counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota<'a> {
    /// A managed policy: 6,144 characters.
    Managed,
    /// Inline policies of a user together: 2,048.
    User(&'a str),
    /// Inline policies of a group together: 5,120.
    Group(&'a str),
    /// Inline policies of a role together: 10,240.
    Role(&'a str),
    /// A trust policy: 2,048, or what the account was raised to.
    Trust {
        /// The limit in force, at most 4,096.
        limit: usize,
    },
}

impl Quota<'_> {
    /// Characters that are allowed.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Self::Managed => 6144,
            Self::User(_) => 2048,
            Self::Group(_) => 5120,
            Self::Role(_) => 10_240,
            Self::Trust { limit } => limit,
        }
    }

    fn message(self) -> String {
        let limit = self.limit();
        match self {
            Self::Managed => format!("Cannot exceed quota for PolicySize: {limit}"),
            Self::User(name) => {
                format!("Maximum policy size of {limit} bytes exceeded for user {name}")
            }
            Self::Group(name) => {
                format!("Maximum policy size of {limit} bytes exceeded for group {name}")
            }
            Self::Role(name) => {
                format!("Maximum policy size of {limit} bytes exceeded for role {name}")
            }
            Self::Trust { .. } => format!("Cannot exceed quota for ACLSizePerRole: {limit}"),
        }
    }
}

/// Checks a document against a quota; `used` is what other documents of the same entity already take, counted the same way.
///
/// # Errors
/// `LimitExceeded`.
pub fn check_quota(text: &str, used: usize, quota: Quota<'_>) -> Checked {
    let size = size_without_whitespace(text);
    if used.saturating_add(size) <= quota.limit() {
        return Ok(());
    }
    let rest = quota.limit().saturating_sub(used);
    Err(Box::new(Rejection {
        code: RejectionCode::LimitExceeded,
        message: quota.message(),
        problem: Problem::new(
            "POLICY_SIZE_EXCEEDS_QUOTA",
            Gravity::Later,
            &Path::Root,
            Span::new(0, text.len()),
            format!("the document has {size} characters without white space; {rest} are left"),
        )
        .hint("merge statements, or move some into a managed policy"),
    }))
}

/// Checks the constraints of the document parameter itself: length, and characters U+0009, U+000A, U+000D, U+0020 - U+00FF.
///
/// # Errors
/// The first offending character and its byte offset, or `None` with the length when the text is empty or too long.
pub fn check_document_text(text: &str) -> Result<(), (Option<char>, usize)> {
    let length = text.chars().count();
    if length == 0 || length > MAX_PARAMETER {
        return Err((None, length));
    }
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
    match text.char_indices().find(|(_, c)| !allowed(*c)) {
        Some((at, character)) => Err((Some(character), at)),
        None => Ok(()),
    }
}

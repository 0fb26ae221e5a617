//! Review objects on the wire (RBAC spec, section 11): SubjectAccessReview, SelfSubjectAccessReview and
//! LocalSubjectAccessReview as [`AccessReview`], and SelfSubjectRulesReview as [`RulesReview`], in `v1` and `v1beta1`.

mod access;
mod rules;
mod selectors;

pub use access::{
    AccessReview, AccessReviewKind, AccessReviewSpec, AccessReviewStatus, FieldError,
    NonResourceAttributes, ResourceAttributes, SelectorAttributes, SelectorRequirement,
};
pub use rules::{NonResourceRule, ResourceRule, RulesReview, RulesReviewStatus};
pub use selectors::ParsedSelectors;

use serde::{Deserialize, Serialize};

/// Larger reviews are refused. The API server itself sends no user with more than a few hundred groups.
pub const MAX_REVIEW_BYTES: usize = 1 << 20;
const GROUP: &str = "authorization.k8s.io";

/// The version a review came in, and that its answer must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ReviewVersion {
    /// `authorization.k8s.io/v1`
    #[default]
    #[serde(rename = "authorization.k8s.io/v1")]
    V1,
    /// `authorization.k8s.io/v1beta1`: removed from the API in 1.22, and still what an API server speaks to its
    /// authorization webhook unless told otherwise. It writes `group` for `groups`.
    #[serde(rename = "authorization.k8s.io/v1beta1")]
    V1beta1,
}

/// A body that is no review we can answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// See [`MAX_REVIEW_BYTES`].
    #[error("the review has {0} bytes, more than {MAX_REVIEW_BYTES}")]
    TooLarge(usize),
    /// Not JSON, or a field has the wrong type.
    #[error("not a readable review: {0}")]
    Malformed(String),
    /// Another API group or version.
    #[error(
        "unknown apiVersion `{0}`; authorization.k8s.io/v1 and authorization.k8s.io/v1beta1 are answered"
    )]
    UnknownVersion(String),
    /// Another kind.
    #[error("unexpected kind `{0}`")]
    UnexpectedKind(String),
    /// A SelfSubjectRulesReview names its namespace; the API server's words.
    #[error("no namespace on request")]
    NoNamespace,
}

impl ReviewVersion {
    fn parse(api_version: &str) -> Result<Self, ReviewError> {
        match api_version.strip_prefix(GROUP) {
            Some("/v1") => Ok(Self::V1),
            Some("/v1beta1") => Ok(Self::V1beta1),
            _ => Err(ReviewError::UnknownVersion(api_version.to_owned())),
        }
    }

    /// The `apiVersion` text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "authorization.k8s.io/v1",
            Self::V1beta1 => "authorization.k8s.io/v1beta1",
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ReviewError> {
    if bytes.len() > MAX_REVIEW_BYTES {
        return Err(ReviewError::TooLarge(bytes.len()));
    }
    // Structures would also be read from lists, field by field, which no other reader of reviews does.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ReviewError::Malformed("not a JSON object".to_owned()));
    }
    serde_json::from_slice(bytes).map_err(|error| ReviewError::Malformed(error.to_string()))
}

//! What each code means.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// How bad a finding is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FindingType {
    /// The document does not do what it says, or cannot be stored.
    Error,
    /// It allows more than was probably meant.
    SecurityWarning,
    /// It probably does not do what was meant.
    Warning,
    /// It could be simpler.
    Suggestion,
}

impl FindingType {
    /// The name in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::SecurityWarning => "SECURITY_WARNING",
            Self::Warning => "WARNING",
            Self::Suggestion => "SUGGESTION",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Error,
            Self::SecurityWarning,
            Self::Warning,
            Self::Suggestion,
        ]
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
    }
}

/// One code.
#[derive(Debug, Clone, Deserialize)]
pub struct Rule {
    /// The code.
    pub code: String,
    /// How bad it is.
    #[serde(rename = "type")]
    pub kind: FindingType,
    /// What it means.
    pub what: String,
    /// What to do.
    pub fix: String,
}

#[derive(Deserialize)]
struct File {
    findings: Vec<Rule>,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    serde_json::from_str::<File>(include_str!("../../data/findings.json"))
        .map(|file| file.findings)
        .unwrap_or_default()
});

static BY_CODE: LazyLock<HashMap<&'static str, &'static Rule>> =
    LazyLock::new(|| RULES.iter().map(|rule| (&*rule.code, rule)).collect());

/// All codes.
#[must_use]
pub fn rules() -> &'static [Rule] {
    &RULES
}

pub(super) fn rule(code: &str) -> Option<&'static Rule> {
    BY_CODE.get(code).copied()
}

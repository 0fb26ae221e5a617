//! The part of JMESPath that people use with credential plugins: a path of names such as `status.token`.

use serde_json::Value;

/// A path of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query(Vec<String>);

/// The expression is more than a path of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`--query {0}` is not supported: expected a path of names such as `status.token`; pipe the JSON into jq for more"
)]
pub struct UnsupportedQuery(String);

impl Query {
    /// Reads `@`, or names separated by dots; a name may be in double quotes.
    ///
    /// # Errors
    /// When it is anything else: indexes, wildcards, filters, pipes, functions, multiselects.
    pub fn parse(text: &str) -> Result<Self, UnsupportedQuery> {
        let unsupported = || UnsupportedQuery(text.chars().take(200).collect());
        let mut rest = text.trim();
        let mut names = Vec::new();
        loop {
            let name;
            if let Some(quoted) = rest.strip_prefix('"') {
                let (inner, tail) = quoted.split_once('"').ok_or_else(unsupported)?;
                if inner.is_empty() || inner.contains('\\') {
                    return Err(unsupported());
                }
                (name, rest) = (inner, tail);
            } else {
                let end = rest.find('.').unwrap_or(rest.len());
                let (word, tail) = rest.split_at(end);
                let whole = word == "@" && names.is_empty();
                if !whole && !is_name(word) {
                    return Err(unsupported());
                }
                (name, rest) = (word, tail);
            }
            if name != "@" || !names.is_empty() {
                names.push(name.to_owned());
            }
            if rest.is_empty() {
                return Ok(Self(names));
            }
            rest = rest.strip_prefix('.').ok_or_else(unsupported)?;
        }
    }

    /// What the path leads to; null where it leads nowhere.
    #[must_use]
    pub fn apply(&self, value: &Value) -> Value {
        self.0
            .iter()
            .try_fold(value, |value, name| value.get(name))
            .cloned()
            .unwrap_or(Value::Null)
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

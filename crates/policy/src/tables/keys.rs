//! Condition keys: type, list or not, and when they are present (policy language spec, section 7).

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::fold;

/// What is known about a condition key.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionKeyInfo {
    /// The key as AWS writes it; `${TagKey}` stands for any text.
    pub name: String,
    /// What its values are.
    #[serde(rename = "type")]
    pub kind: KeyType,
    /// Whether it is a list key.
    #[serde(default, rename = "list")]
    pub is_list: bool,
    /// When it is present, in words.
    pub when: String,
    /// Whether many ordinary requests lack it.
    #[serde(default)]
    pub often_absent: bool,
    /// Whether its values say whose something is, so that a wildcard in them is suspect.
    #[serde(default)]
    pub sensitive: bool,
    /// Whether only requests of service principals have it.
    #[serde(default)]
    pub service_callers_only: bool,
}

/// The type of a key's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// Text.
    String,
    /// An ARN.
    Arn,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Numeric,
    /// A date or Unix time.
    Date,
    /// An address.
    Ip,
}

#[derive(Deserialize)]
struct File {
    keys: Vec<ConditionKeyInfo>,
}

struct Table {
    keys: Vec<ConditionKeyInfo>,
    exact: HashMap<Box<str>, usize>,
    /// `aws:principaltag/` and the like.
    prefixes: Vec<(Box<str>, usize)>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let keys = serde_json::from_str::<File>(include_str!("../../data/condition-keys.json"))
        .map(|file| file.keys)
        .unwrap_or_default();
    let mut exact = HashMap::new();
    let mut prefixes = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        match key.name.split_once("${") {
            Some((prefix, _)) => prefixes.push((fold::lower(prefix), index)),
            None => {
                exact.insert(fold::lower(&key.name), index);
            }
        }
    }
    Table {
        keys,
        exact,
        prefixes,
    }
});

/// What is known about a key, compared without case.
#[must_use]
pub fn condition_key(name: &str) -> Option<&'static ConditionKeyInfo> {
    let lower = fold::lower(name);
    let index = TABLE.exact.get(&lower).copied().or_else(|| {
        TABLE
            .prefixes
            .iter()
            .find(|(prefix, _)| lower.len() > prefix.len() && lower.starts_with(&**prefix))
            .map(|(_, index)| *index)
    })?;
    TABLE.keys.get(index)
}

/// Whether a key is a list key; keys of web identity issuers are, when they end in `:amr`.
#[must_use]
pub fn is_list_key(name: &str) -> bool {
    match condition_key(name) {
        Some(info) => info.is_list,
        None => {
            let lower = name.to_ascii_lowercase();
            lower.ends_with(":amr") && lower.contains('.')
        }
    }
}

/// All keys of the table whose name begins with `aws:`.
pub(crate) fn global_keys() -> impl Iterator<Item = &'static ConditionKeyInfo> {
    TABLE.keys.iter().filter(|key| key.name.starts_with("aws:"))
}

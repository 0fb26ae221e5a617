//! Statements that say nothing new.

use super::{Linter, statement_path};
use crate::document::{ConditionBlock, ListElement, PrincipalElement, Statement};

impl Linter<'_> {
    pub(super) fn redundant(&mut self) {
        let statements = self.document.statements();
        // Compared by content, so that a document of thousands of statements stays quick.
        let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
        for (index, statement) in statements.iter().enumerate() {
            let content = content(statement);
            if let Some(earlier) = seen.get(&content) {
                self.add(
                    "REDUNDANT_STATEMENT",
                    statement_path(index),
                    statement.span,
                    format!("the statement says the same as statement {earlier}"),
                );
            } else {
                seen.insert(content, index);
            }
        }
    }
}

/// What a statement says, without its id and places, lists in one order.
pub(crate) fn content(statement: &Statement) -> String {
    let mut parts: Vec<String> = vec![format!("{:?}", statement.effect)];
    parts.extend(statement.principal.as_ref().map(principals));
    parts.extend(
        statement
            .action
            .as_ref()
            .map(|list| lists("action", list, true)),
    );
    parts.extend(
        statement
            .resource
            .as_ref()
            .map(|list| lists("resource", list, false)),
    );
    let mut conditions: Vec<String> = statement
        .conditions
        .iter()
        .filter(|block| !block.keys.is_empty())
        .map(condition)
        .collect();
    conditions.sort();
    parts.extend(conditions);
    parts.join("\u{1}")
}

fn lists(name: &str, list: &ListElement, fold: bool) -> String {
    let mut entries: Vec<String> = list
        .entries
        .iter()
        .map(|entry| {
            if fold {
                entry.value.to_ascii_lowercase()
            } else {
                entry.value.to_string()
            }
        })
        .collect();
    entries.sort();
    entries.dedup();
    format!("{name}{}\u{2}{}", list.negated, entries.join("\u{2}"))
}

fn principals(element: &PrincipalElement) -> String {
    let mut entries: Vec<String> = element
        .entries
        .iter()
        .map(|entry| format!("{}:{}", entry.kind.as_str(), entry.text.value))
        .collect();
    entries.sort();
    format!("principal{}\u{2}{}", element.negated, entries.join("\u{2}"))
}

pub(crate) fn condition(block: &ConditionBlock) -> String {
    let mut keys: Vec<String> = block
        .keys
        .iter()
        .map(|key| {
            let mut values: Vec<&str> = key.values.iter().map(|value| &*value.value).collect();
            values.sort_unstable();
            format!(
                "{}={}",
                crate::fold::lower(&key.key.value),
                values.join("\u{3}")
            )
        })
        .collect();
    keys.sort();
    format!("{}\u{2}{}", block.operator.value, keys.join("\u{2}"))
}

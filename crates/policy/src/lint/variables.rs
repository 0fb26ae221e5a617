//! Policy variables: written rightly, and where they act.

use super::{Linter, entry_path, key_path};
use crate::condition::Operator;
use crate::document::{Text, Version};
use crate::variable::{Fault, Part, has_unclosed, parts};

impl Linter<'_> {
    pub(super) fn variables(&mut self) {
        let mut first: Option<(String, Text)> = None;
        for (index, statement) in self.document.statements().iter().enumerate() {
            if let Some(sid) = &statement.sid {
                self.dead_variable(sid, format!("Statement[{index}].Sid"), "Sid");
            }
            if let Some(list) = &statement.action {
                let element = if list.negated { "NotAction" } else { "Action" };
                for (at, entry) in list.entries.iter().enumerate() {
                    let path = entry_path(index, element, list.is_list, at);
                    self.dead_variable(entry, path, element);
                }
            }
            for entry in statement.principal.iter().flat_map(|list| &list.entries) {
                let path = format!("Statement[{index}].Principal.{}", entry.kind.as_str());
                self.dead_variable(&entry.text, path, "Principal");
            }
            if let Some(list) = &statement.resource {
                let element = if list.negated {
                    "NotResource"
                } else {
                    "Resource"
                };
                for (at, entry) in list.entries.iter().enumerate() {
                    let path = entry_path(index, element, list.is_list, at);
                    self.live_variable(entry, path, &mut first);
                }
            }
            for block in &statement.conditions {
                let Some(operator) = Operator::parse(&block.operator.value) else {
                    continue;
                };
                for key in &block.keys {
                    for value in key.values.iter().filter(|text| has_variable(&text.value)) {
                        let path = key_path(index, &block.operator.value, &key.key.value);
                        if operator.base.has_variables() {
                            self.live_variable(value, path, &mut first);
                        } else {
                            self.add(
                                "INVALID_VARIABLE_FOR_OPERATOR",
                                path,
                                value.span,
                                format!(
                                    "{} takes `{}` as it stands",
                                    block.operator.value, value.value
                                ),
                            );
                        }
                    }
                }
            }
        }
        if let Some((path, text)) = first {
            self.add(
                "VERSION_2008_WITH_VARIABLE",
                path,
                text.span,
                format!("`{}` is plain text: Version is not 2012-10-17", text.value),
            );
        }
    }

    fn dead_variable(&mut self, text: &Text, path: String, element: &str) {
        if has_variable(&text.value) {
            self.add(
                "VARIABLE_UNSUPPORTED_IN_ELEMENT",
                path,
                text.span,
                format!("{element} takes `{}` as it stands", text.value),
            );
        }
    }

    fn live_variable(&mut self, text: &Text, path: String, first: &mut Option<(String, Text)>) {
        if has_unclosed(&text.value) {
            self.add(
                "MISSING_BRACE_IN_VARIABLE",
                path.clone(),
                text.span,
                format!("`{}` opens a variable that it does not close", text.value),
            );
        }
        for part in parts(&text.value) {
            let Part::Variable(variable) = part else {
                continue;
            };
            if self.document.version() == Version::V2008 {
                self.add(
                    "VARIABLE_UNSUPPORTED_IN_VERSION",
                    path.clone(),
                    text.span,
                    format!("`{}` is plain text in this version", text.value),
                );
                first.get_or_insert_with(|| (path.clone(), text.clone()));
                return;
            }
            let (code, what) = match variable.fault {
                None => continue,
                Some(Fault::Empty) => ("EMPTY_VARIABLE", "names no key"),
                Some(Fault::Space) => ("UNSUPPORTED_SPACE_IN_VARIABLE", "has a space in its name"),
                Some(Fault::Quote) => ("MISSING_QUOTE_IN_VARIABLE", "has a default without quotes"),
            };
            self.add(
                code,
                path.clone(),
                text.span,
                format!(
                    "a variable in `{}` {what} and never has a value",
                    text.value
                ),
            );
        }
    }
}

fn has_variable(text: &str) -> bool {
    text.contains("${")
        && (has_unclosed(text)
            || parts(text)
                .iter()
                .any(|part| matches!(part, Part::Variable(_))))
}

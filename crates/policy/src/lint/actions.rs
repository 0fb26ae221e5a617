//! Actions: that they exist, and that they mean something in this kind of policy.

use super::{Linter, entry_path};
use crate::compiled::{ActionPattern, PolicyKind};
use crate::document::{ListElement, Text};
use crate::request::{Action, split_action};
use crate::tables;
use crate::validate;
use crate::words::nearest;

impl Linter<'_> {
    pub(super) fn actions(&mut self) {
        for (index, statement) in self.document.statements().iter().enumerate() {
            let Some(list) = &statement.action else {
                continue;
            };
            let element = if list.negated { "NotAction" } else { "Action" };
            for (at, entry) in list.entries.iter().enumerate() {
                let path = entry_path(index, element, list.is_list, at);
                self.action(entry, path);
            }
            self.redundant_actions(index, element, list);
        }
    }

    fn action(&mut self, entry: &Text, path: String) {
        let text = &*entry.value;
        if text == "*" {
            if self.kind == PolicyKind::Trust {
                self.foreign(entry, path);
            }
            return;
        }
        let Some((service, name)) = split_action(text) else {
            self.add_with_fix(
                "INVALID_ACTION",
                path,
                entry.span,
                format!("`{text}` names no service"),
                "write service:Name, such as s3:GetObject",
            );
            return;
        };
        if name.contains(':') {
            let message = format!("`{text}` has more than one colon");
            self.add("INVALID_ACTION", path, entry.span, message);
            return;
        }
        if self.kind == PolicyKind::Trust && !validate::is_trust_action(text) {
            self.foreign(entry, path);
            return;
        }
        if service.contains(['*', '?']) {
            self.add(
                "WILDCARD_IN_SERVICE_NAME",
                path,
                entry.span,
                format!("`{service}` is a wildcard for services"),
            );
            return;
        }
        if !tables::is_known_service(service) {
            self.unknown_service(entry, path, service);
            return;
        }
        let Some(table) = tables::service(service) else {
            return;
        };
        if name.is_empty() {
            let message = format!("`{text}` names no action");
            self.add("INVALID_ACTION", path, entry.span, message);
            return;
        }
        let pattern = ActionPattern::compile(text);
        let exists = if name.contains(['*', '?']) {
            table.actions.keys().any(|known| {
                Action::parse(&format!("{service}:{known}"))
                    .is_ok_and(|action| pattern.matches(&action))
            })
        } else {
            table.action(name).is_some()
        };
        if !exists {
            let message = format!("{service} has no action `{name}`");
            match nearest(name, table.actions.keys().map(String::as_str)) {
                Some(known) => self.add_with_fix(
                    "INVALID_ACTION",
                    path,
                    entry.span,
                    message,
                    format!("did you mean `{service}:{known}`?"),
                ),
                None => self.add("INVALID_ACTION", path, entry.span, message),
            }
        }
    }

    fn foreign(&mut self, entry: &Text, path: String) {
        self.add_with_fix(
            "UNSUPPORTED_ACTION_IN_POLICY",
            path,
            entry.span,
            format!("`{}` has no meaning in a trust policy", entry.value),
            "a trust policy says who may assume the role; what the role may do stands in its identity policies",
        );
    }

    fn unknown_service(&mut self, entry: &Text, path: String, service: &str) {
        let message = format!("no service has the prefix `{service}`");
        match nearest(service, tables::known_services()) {
            Some(known) => self.add_with_fix(
                "INVALID_SERVICE_IN_ACTION",
                path,
                entry.span,
                message,
                format!("did you mean `{known}`?"),
            ),
            None => self.add("INVALID_SERVICE_IN_ACTION", path, entry.span, message),
        }
    }

    /// An entry that another entry of the same list covers. Lists are long in real policies, so patterns are compared with every entry
    /// only while that stays cheap.
    fn redundant_actions(&mut self, index: usize, element: &str, list: &ListElement) {
        let patterns: Vec<(usize, ActionPattern)> = list
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.value.contains(['*', '?']))
            .map(|(at, entry)| (at, ActionPattern::compile(&entry.value)))
            .collect();
        if patterns.len().saturating_mul(list.entries.len()) > 250_000 {
            return;
        }
        let mut first: std::collections::HashMap<String, &Text> = std::collections::HashMap::new();
        for (at, entry) in list.entries.iter().enumerate() {
            let Ok(action) = Action::parse(&entry.value) else {
                continue;
            };
            // A pattern read as a literal is matched by exactly the patterns that cover it, star for star.
            let cover = patterns
                .iter()
                .find(|(other, pattern)| *other != at && pattern.matches(&action))
                .and_then(|(other, _)| list.entries.get(*other));
            let lower = entry.value.to_ascii_lowercase();
            let twin = first.get(&lower).copied();
            first.entry(lower).or_insert(entry);
            if let Some(cover) = twin.or(cover) {
                self.add(
                    "REDUNDANT_ACTION",
                    entry_path(index, element, list.is_list, at),
                    entry.span,
                    format!("`{}` is covered by `{}`", entry.value, cover.value),
                );
            }
        }
    }
}

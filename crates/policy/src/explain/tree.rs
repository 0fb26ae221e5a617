//! The whole reasoning as a tree for a terminal, without colour.

use std::fmt::Write as _;

use super::trace::{ConditionTrace, ElementTrace, StatementTrace, ValueView};
use super::{Explanation, StatementRef};
use crate::document::Effect;
use crate::evaluate::Outcome;

/// The answer and its reason in a few lines.
#[must_use]
pub fn render_brief(explanation: &Explanation) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}: {}",
        explanation.decision.as_str(),
        explanation.summary
    );
    for miss in &explanation.near_misses {
        let _ = writeln!(text, "  near: {}: {}", place(&miss.statement), miss.detail);
    }
    text
}

/// Everything, as a tree.
#[must_use]
pub fn render_tree(explanation: &Explanation) -> String {
    let mut tree = Tree::default();
    tree.line(
        0,
        &format!("{} {}", sign(explanation.decision), explanation.summary),
    );
    request(&mut tree, explanation);
    layers(&mut tree, explanation);
    statements(&mut tree, explanation);
    conclusions(&mut tree, explanation);
    tree.0
}

#[derive(Default)]
struct Tree(String);

impl Tree {
    fn line(&mut self, depth: usize, text: &str) {
        for _ in 0..depth {
            self.0.push_str("  ");
        }
        self.0.push_str(text);
        self.0.push('\n');
    }
}

fn sign(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "[allowed]",
        Outcome::ExplicitDeny => "[denied explicitly]",
        Outcome::ImplicitDeny => "[denied implicitly]",
    }
}

fn mark(good: bool) -> &'static str {
    if good { "+" } else { "-" }
}

fn request(tree: &mut Tree, explanation: &Explanation) {
    let request = &explanation.request;
    tree.line(0, "request");
    let id = request
        .principal
        .id
        .as_ref()
        .map_or(String::new(), |id| format!(" ({id})"));
    tree.line(1, &format!("principal  {}{id}", request.principal.arn));
    tree.line(1, &format!("action     {}", request.action));
    let accounts = if request.same_account {
        "same account".to_owned()
    } else {
        format!("account {}", request.resource_account)
    };
    tree.line(1, &format!("resource   {} ({accounts})", request.resource));
    for (key, value) in &request.context {
        tree.line(1, &format!("{key} = {}", shown(Some(value))));
    }
}

fn layers(tree: &mut Tree, explanation: &Explanation) {
    tree.line(0, "layers");
    for view in &explanation.layers {
        let level = view
            .level
            .as_ref()
            .map_or(String::new(), |level| format!(" {level}"));
        let state = if !view.present {
            "none"
        } else if !view.consulted {
            "does not apply"
        } else {
            view.decision.as_str()
        };
        let blocks =
            if explanation.blocked_by.contains(&view.layer) && view.decision != Outcome::Allowed {
                "  <- blocks"
            } else {
                ""
            };
        tree.line(
            1,
            &format!("{:<9}{level} {state}{blocks}", view.layer.as_str()),
        );
        for document in &view.documents {
            let via = document
                .source
                .attached_via
                .as_ref()
                .map_or(String::new(), |via| format!(" via {via}"));
            tree.line(
                2,
                &format!(
                    "{}{via}: {}",
                    document.source.id,
                    document.decision.as_str()
                ),
            );
        }
    }
}

fn statements(tree: &mut Tree, explanation: &Explanation) {
    if explanation.statements.is_empty() {
        tree.line(0, "no statement names the action");
        return;
    }
    tree.line(0, "statements that name the action");
    for statement in &explanation.statements {
        one_statement(tree, statement);
    }
}

fn one_statement(tree: &mut Tree, statement: &StatementTrace) {
    let effect = match (statement.effect, statement.applies) {
        (Effect::Allow, true) => "Allow, applies",
        (Effect::Deny, true) => "Deny, applies",
        (Effect::Allow, false) => "Allow, does not apply",
        (Effect::Deny, false) => "Deny, does not apply",
    };
    tree.line(
        1,
        &format!(
            "{} {}: {effect}",
            mark(statement.applies),
            place(&statement.at)
        ),
    );
    let elements = [
        Some(&statement.action),
        Some(&statement.resource),
        statement.principal.as_ref(),
    ];
    for element in elements.into_iter().flatten() {
        tree.line(2, &element_line(element));
    }
    for condition in &statement.conditions {
        tree.line(2, &condition_line(condition));
    }
}

fn element_line(element: &ElementTrace) -> String {
    let mut line = format!("{} {}", mark(element.matched), element.element);
    if let Some(entry) = &element.entry {
        let _ = write!(line, ": `{entry}`");
    }
    if let Some(substituted) = &element.substituted {
        let _ = write!(line, " = `{substituted}`");
    }
    if !element.unresolved.is_empty() {
        let _ = write!(line, ", no value for {}", element.unresolved.join(", "));
    }
    if let Some(reason) = &element.reason {
        let _ = write!(line, ": {reason}");
    }
    line
}

fn condition_line(condition: &ConditionTrace) -> String {
    let mut line = format!(
        "{} {} {}: wants {}, has {}",
        mark(condition.holds),
        condition.operator,
        condition.key,
        condition.values.join(" | "),
        shown(condition.request.as_ref()),
    );
    if !condition.unresolved.is_empty() {
        let _ = write!(line, ", no value for {}", condition.unresolved.join(", "));
    }
    if let Some(reason) = condition.reason {
        let _ = write!(line, " ({reason})");
    }
    line
}

fn conclusions(tree: &mut Tree, explanation: &Explanation) {
    if !explanation.near_misses.is_empty() {
        tree.line(0, "nearest");
        for miss in &explanation.near_misses {
            tree.line(1, &format!("{}: {}", place(&miss.statement), miss.detail));
        }
    }
    if !explanation.missing_keys.is_empty() {
        tree.line(
            0,
            &format!(
                "asked for, not in the request: {}",
                explanation.missing_keys.join(", ")
            ),
        );
    }
    for flip in &explanation.conditional {
        tree.line(
            1,
            &format!(
                "{} = {} would make it {}",
                flip.key,
                flip.value,
                flip.decision.as_str()
            ),
        );
    }
    if let Some(suggestion) = &explanation.suggestion {
        tree.line(
            0,
            &format!("to allow it, add to {}", suggestion.layer.as_str()),
        );
        tree.line(1, &suggestion.statement.to_string());
        for remark in &suggestion.remarks {
            tree.line(1, remark);
        }
    }
    for note in &explanation.notes {
        tree.line(0, &format!("note: {note}"));
    }
}

fn place(statement: &StatementRef) -> String {
    let sid = statement
        .sid
        .as_ref()
        .map_or(String::new(), |sid| format!(" `{sid}`"));
    let level = statement
        .level
        .as_ref()
        .map_or(String::new(), |level| format!(" {level}"));
    format!(
        "{}{level} {} statement {}{sid} (line {}, column {})",
        statement.layer.as_str(),
        statement.document,
        statement.statement,
        statement.start.line,
        statement.start.column
    )
}

fn shown(value: Option<&ValueView>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(ValueView::One(text)) => text.clone(),
        Some(ValueView::Many(texts)) => format!("[{}]", texts.join(", ")),
    }
}

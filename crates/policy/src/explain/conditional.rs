//! Answers that hang on keys the request does not have.

use serde::Serialize;

use super::trace::StatementTrace;
use crate::condition::{Operator, SetQualifier};
use crate::evaluate::{Decision, Layers, Outcome, decide};
use crate::request::Request;
use crate::tables;

/// Most combinations of key and value that are tried.
const MOST: usize = 32;

/// A value of a missing key that would turn the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flip {
    /// The key.
    pub key: String,
    /// A value for it.
    pub value: String,
    /// The answer with that value.
    pub decision: Outcome,
}

/// Gives each missing key, alone, the values that statements compare it with, and keeps those that turn the answer.
pub(super) fn flips(
    request: &Request<'_>,
    layers: &Layers<'_>,
    decision: &Decision,
    statements: &[StatementTrace],
) -> Vec<Flip> {
    let mut flips: Vec<Flip> = Vec::new();
    let mut tried = 0;
    let asked = statements
        .iter()
        .filter(|statement| statement.action.matched && statement.resource.matched)
        .flat_map(|statement| &statement.conditions)
        .filter(|condition| condition.request.is_none() && !condition.unknown_operator);
    for condition in asked {
        for value in &condition.values {
            if tried >= MOST || flips.iter().any(|flip| flip.key == condition.key) {
                break;
            }
            tried += 1;
            let is_list = tables::is_list_key(&condition.key)
                || Operator::parse(&condition.operator)
                    .is_some_and(|operator| operator.set != SetQualifier::None);
            let value = sample(&condition.operator, value);
            let mut context = request.context().clone();
            if is_list {
                context.set_list(condition.key.clone(), [value.clone()]);
            } else {
                context.set(condition.key.clone(), value.clone());
            }
            let Ok(changed) = Request::new(
                request.principal(),
                request.action(),
                request.resource(),
                &context,
            ) else {
                continue;
            };
            let changed = decide(&changed.owned_by(request.resource_account()), layers);
            if changed.outcome != decision.outcome {
                flips.push(Flip {
                    key: condition.key.clone(),
                    value,
                    decision: changed.outcome,
                });
            }
        }
    }
    flips
}

/// A value that a policy value probably matches: stars and networks made concrete.
fn sample(operator: &str, value: &str) -> String {
    let operator = operator.to_ascii_lowercase();
    if operator.contains("ipaddress") {
        return value
            .split_once('/')
            .map_or(value, |(address, _)| address)
            .to_owned();
    }
    if operator.contains("like") || operator.contains("arn") {
        return value.replace(['*', '?'], "x");
    }
    if operator.contains("null") {
        return "x".to_owned();
    }
    value.to_owned()
}

/// One remark for each operator that nobody knows.
pub(super) fn unknown_operators(statements: &[StatementTrace]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for statement in statements {
        for condition in &statement.conditions {
            if condition.unknown_operator {
                let note = format!(
                    "`{}` in statement {} of `{}` is no condition operator: the condition is false",
                    condition.operator, statement.at.statement, statement.at.document
                );
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
    }
    notes
}

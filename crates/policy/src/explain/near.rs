//! Statements that nearly allowed.

use serde::Serialize;

use super::trace::{self, StatementTrace};
use super::{StatementRef, ValueView};
use crate::compiled::ActionPattern;
use crate::document::Effect;
use crate::evaluate::{Layer, Layers, consults};
use crate::request::{Request, split_action};
use crate::tables;
use crate::words::nearest;

/// Most near misses that are kept.
const MOST: usize = 5;

/// An Allow that came close.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// Which statement.
    pub statement: StatementRef,
    /// The element that failed, the first of several.
    pub failed_at: FailedAt,
    /// How many elements failed.
    pub failures: usize,
    /// What it wants and what it got.
    pub detail: String,
}

/// The element that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FailedAt {
    /// A condition.
    Condition,
    /// The resource.
    Resource,
    /// The action.
    Action,
    /// The principal.
    Principal,
}

/// The nearest misses among the Allow statements, best first: fewest failures, then condition, resource, action, principal.
pub(super) fn find(
    request: &Request<'_>,
    layers: &Layers<'_>,
    matched: &[StatementTrace],
) -> Vec<NearMiss> {
    let mut misses: Vec<NearMiss> = matched
        .iter()
        .filter(|trace| trace.effect == Effect::Allow && !trace.applies)
        .map(near_miss)
        .collect();
    misses.extend(action_misses(request, layers));
    misses.sort_by(|left, right| {
        (left.failures, left.failed_at).cmp(&(right.failures, right.failed_at))
    });
    misses.truncate(MOST);
    misses
}

fn near_miss(trace: &StatementTrace) -> NearMiss {
    let (failed_at, detail) =
        if let Some(condition) = trace.conditions.iter().find(|condition| !condition.holds) {
            let got = match &condition.request {
                None => "the request has none".to_owned(),
                Some(ValueView::One(text)) => format!("got `{text}`"),
                Some(ValueView::Many(texts)) => format!("got [{}]", texts.join(", ")),
            };
            let why = condition
                .reason
                .map_or(String::new(), |reason| format!(" ({reason})"));
            let detail = format!(
                "{} {}: wants {}, {got}{why}",
                condition.operator,
                condition.key,
                list(&condition.values)
            );
            (FailedAt::Condition, detail)
        } else if !trace.resource.matched {
            let detail = if trace.resource.unresolved.is_empty() {
                trace
                    .resource
                    .reason
                    .clone()
                    .unwrap_or_else(|| "the resource is excluded".to_owned())
            } else {
                format!(
                    "no value for the variable {}",
                    list(&trace.resource.unresolved)
                )
            };
            (FailedAt::Resource, detail)
        } else {
            let detail = trace
                .principal
                .as_ref()
                .and_then(|principal| principal.reason.clone())
                .unwrap_or_else(|| "the principal is not named".to_owned());
            (FailedAt::Principal, detail)
        };
    NearMiss {
        statement: trace.at.clone(),
        failed_at,
        failures: trace.failures(),
        detail,
    }
}

/// Statements that name the service, match in everything but the action, and so probably misspell it or forgot it.
fn action_misses(request: &Request<'_>, layers: &Layers<'_>) -> Vec<NearMiss> {
    let service = request.action().service();
    let has_boundary = layers.boundary.is_some();
    let mut misses = Vec::new();
    for group in layers.groups().filter(|group| {
        matches!(group.layer, Layer::Identity | Layer::Resource) && consults(group.layer, request)
    }) {
        for attached in group.policies {
            let statements = attached.policy.document().statements();
            for (index, statement) in statements.iter().enumerate() {
                let Some(action) = statement.action.as_ref().filter(|list| !list.negated) else {
                    continue;
                };
                let own = |text: &str| {
                    split_action(text)
                        .is_some_and(|(prefix, _)| prefix.eq_ignore_ascii_case(service))
                };
                let names_service = action.entries.iter().any(|entry| own(&entry.value));
                let matches = action
                    .entries
                    .iter()
                    .any(|entry| ActionPattern::compile(&entry.value).matches(request.action()));
                if statement.effect != Effect::Allow
                    || !names_service
                    || matches
                    || misses.len() >= MOST
                {
                    continue;
                }
                let Some(trace) = trace::statement(request, &group, attached, index, has_boundary)
                else {
                    continue;
                };
                if trace.failures() > 1 {
                    continue;
                }
                misses.push(NearMiss {
                    statement: trace.at,
                    failed_at: FailedAt::Action,
                    failures: 1,
                    detail: action_detail(request, action.entries.iter().map(|e| &*e.value)),
                });
            }
        }
    }
    misses
}

fn action_detail<'e>(request: &Request<'_>, entries: impl Iterator<Item = &'e str>) -> String {
    let entries: Vec<&str> = entries.collect();
    let wanted = request.action().as_str();
    if let Some(entry) = nearest(wanted, entries.iter().copied()) {
        return format!("allows `{entry}`, one or two letters from `{wanted}`");
    }
    let known = tables::service(request.action().service());
    let exists = known.is_none_or(|table| table.action(request.action().name()).is_some());
    if exists {
        return format!("does not list `{wanted}`");
    }
    let suggestion = known.and_then(|table| {
        nearest(
            request.action().name(),
            table.actions.keys().map(String::as_str),
        )
    });
    match suggestion {
        Some(name) => format!(
            "`{wanted}` is no action of {}; did you mean `{}:{name}`?",
            request.action().service(),
            request.action().service()
        ),
        None => format!("`{wanted}` is no action of {}", request.action().service()),
    }
}

fn list(texts: &[String]) -> String {
    match texts {
        [] => "nothing".to_owned(),
        [one] => format!("`{one}`"),
        many => {
            let shown: Vec<String> = many
                .iter()
                .take(5)
                .map(|text| format!("`{text}`"))
                .collect();
            let rest = if many.len() > 5 { ", ..." } else { "" };
            format!("one of {}{rest}", shown.join(", "))
        }
    }
}

//! What became of each element of a statement.

use serde::Serialize;

use super::{StatementRef, reference};
use crate::arn_pattern::ResourcePattern;
use crate::compiled::{ActionPattern, CompiledStatement, PrincipalMatch, ResourceSet};
use crate::condition::{Condition, SetQualifier};
use crate::context::ContextValue;
use crate::document::{ConditionKey, Effect, Statement, Version};
use crate::evaluate::{Group, Layers, consults};
use crate::request::Request;

/// One statement, element by element.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatementTrace {
    /// Which statement.
    pub at: StatementRef,
    /// Allow or Deny.
    pub effect: Effect,
    /// Whether all elements match.
    pub applies: bool,
    /// `Action` or `NotAction`.
    pub action: ElementTrace,
    /// `Resource` or `NotResource`.
    pub resource: ElementTrace,
    /// `Principal` or `NotPrincipal`, in policies that have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<ElementTrace>,
    /// Each key of each operator.
    pub conditions: Vec<ConditionTrace>,
}

/// One element.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ElementTrace {
    /// Whether the element lets the statement apply.
    pub matched: bool,
    /// `Action`, `NotAction`, ...
    pub element: &'static str,
    /// The entry that matched; for a `Not...` element the entry that excluded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The entry with its variables filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substituted: Option<String>,
    /// Variables without a value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unresolved: Vec<String>,
    /// Why, when it is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One condition key.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionTrace {
    /// The operator as written.
    pub operator: String,
    /// The key as written.
    pub key: String,
    /// What the request has; `null` when the key is missing.
    pub request: Option<ValueView>,
    /// What the policy lists, variables filled in.
    pub values: Vec<String>,
    /// Whether it holds.
    pub holds: bool,
    /// Why, when it is not by comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Variables in the values that have no value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unresolved: Vec<String>,
    /// Whether the operator is none that exists.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unknown_operator: bool,
}

/// One value, or a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ValueView {
    /// A single-valued key.
    One(String),
    /// A list key.
    Many(Vec<String>),
}

impl StatementTrace {
    /// Keys that the conditions and variables asked for and did not find.
    pub(super) fn missing_keys(&self) -> impl Iterator<Item = &str> {
        let tested = self
            .conditions
            .iter()
            .filter(|condition| condition.request.is_none() && !condition.unknown_operator)
            .map(|condition| &*condition.key);
        let variables = self
            .conditions
            .iter()
            .flat_map(|condition| &condition.unresolved)
            .chain(&self.resource.unresolved)
            .map(String::as_str);
        tested.chain(variables)
    }

    /// How many elements keep the statement from applying.
    pub(super) fn failures(&self) -> usize {
        usize::from(!self.action.matched)
            + usize::from(!self.resource.matched)
            + usize::from(self.principal.as_ref().is_some_and(|p| !p.matched))
            + usize::from(self.conditions.iter().any(|c| !c.holds))
    }
}

/// Traces every statement whose action matches, in layer order, and those of layers that are not consulted left out.
pub(super) fn all(request: &Request<'_>, layers: &Layers<'_>) -> Vec<StatementTrace> {
    let has_boundary = layers.boundary.is_some();
    let mut traces = Vec::new();
    for group in layers
        .groups()
        .filter(|group| consults(group.layer, request))
    {
        for attached in group.policies {
            let matching = |effect| {
                attached
                    .policy
                    .with_action(effect, request)
                    .map(|(index, _)| index)
            };
            let mut indexes: Vec<u32> = matching(Effect::Deny)
                .chain(matching(Effect::Allow))
                .collect();
            indexes.sort_unstable();
            indexes.dedup();
            for index in indexes {
                traces.extend(statement(
                    request,
                    &group,
                    attached,
                    index as usize,
                    has_boundary,
                ));
            }
        }
    }
    traces
}

/// Traces one statement.
pub(super) fn statement(
    request: &Request<'_>,
    group: &Group<'_>,
    attached: &crate::evaluate::Attached,
    index: usize,
    has_boundary: bool,
) -> Option<StatementTrace> {
    let policy = &attached.policy;
    let document = policy.document();
    let written = document.statements().get(index)?;
    let compiled = policy.statements().get(index)?;
    let action = action(written, request);
    let resource = resource(written, compiled, request);
    let principal = principal(written, compiled, request, has_boundary);
    let conditions: Vec<ConditionTrace> =
        conditions(written, compiled, request, document.version());
    let applies = action.matched
        && resource.matched
        && principal.as_ref().is_none_or(|principal| principal.matched)
        && conditions.iter().all(|condition| condition.holds);
    Some(StatementTrace {
        at: reference(group, attached, index)?,
        effect: written.effect,
        applies,
        action,
        resource,
        principal,
        conditions,
    })
}

fn action(written: &Statement, request: &Request<'_>) -> ElementTrace {
    let Some(element) = &written.action else {
        return ElementTrace {
            matched: written.effect == Effect::Deny,
            element: "Action",
            entry: None,
            substituted: None,
            unresolved: Vec::new(),
            reason: Some("the statement has no Action".to_owned()),
        };
    };
    let entry = element
        .entries
        .iter()
        .find(|entry| ActionPattern::compile(&entry.value).matches(request.action()));
    ElementTrace {
        matched: element.negated != entry.is_some(),
        element: if element.negated {
            "NotAction"
        } else {
            "Action"
        },
        entry: entry.map(|entry| entry.value.to_string()),
        substituted: None,
        unresolved: Vec::new(),
        reason: element
            .entries
            .is_empty()
            .then(|| "the list is empty".to_owned()),
    }
}

fn resource(
    written: &Statement,
    compiled: &CompiledStatement,
    request: &Request<'_>,
) -> ElementTrace {
    let context = request.context();
    let mut trace = ElementTrace {
        matched: compiled.resource_matches(request),
        element: "Resource",
        entry: None,
        substituted: None,
        unresolved: Vec::new(),
        reason: None,
    };
    let (patterns, negated): (&[ResourcePattern], bool) = match &compiled.resources {
        ResourceSet::Always | ResourceSet::Never => {
            trace.reason = Some("the statement has no Resource".to_owned());
            return trace;
        }
        ResourceSet::In(patterns) => (patterns, false),
        ResourceSet::NotIn(patterns) => (patterns, true),
    };
    if negated {
        trace.element = "NotResource";
    }
    for pattern in patterns {
        let keys = pattern
            .arn()
            .into_iter()
            .flat_map(|arn| arn.resource_part().variables())
            .filter(|variable| variable.resolve(context).is_none())
            .filter_map(|variable| variable.key.as_ref());
        for key in keys {
            if !trace.unresolved.iter().any(|known| known == key.shown()) {
                trace.unresolved.push(key.shown().to_owned());
            }
        }
    }
    let entries = written
        .resource
        .as_ref()
        .map_or(&[][..], |element| &element.entries);
    let hit = patterns
        .iter()
        .position(|pattern| pattern.matches(request.parsed_resource(), context));
    if let Some(index) = hit {
        trace.entry = entries.get(index).map(|entry| entry.value.to_string());
        trace.substituted = patterns
            .get(index)
            .and_then(ResourcePattern::arn)
            .map(|arn| arn.resource_part())
            .filter(|part| part.variables().next().is_some())
            .map(|part| part.substituted(context));
        return trace;
    }
    trace.reason = if patterns.is_empty() {
        Some("the list is empty".to_owned())
    } else if negated && !trace.matched {
        Some("a variable without a value could exclude anything".to_owned())
    } else if negated {
        None
    } else if request.resource() == "*" {
        Some("the action has no resource: only Resource \"*\" grants it".to_owned())
    } else {
        nearest_difference(patterns, entries, request)
    };
    trace
}

/// The entry that matches most fields, and the first field that differs.
fn nearest_difference(
    patterns: &[ResourcePattern],
    entries: &[crate::document::Text],
    request: &Request<'_>,
) -> Option<String> {
    const NAMES: [&str; 5] = ["partition", "service", "region", "account", "resource"];
    let fields = request.parsed_resource().fields()?;
    let mut best: Option<(usize, String)> = None;
    for (pattern, entry) in patterns.iter().zip(entries) {
        let Some(arn) = pattern.arn() else {
            continue;
        };
        let verdicts: Vec<bool> = arn
            .parts()
            .skip(1)
            .zip(fields)
            .map(|(part, field)| part.matches(field, request.context()))
            .collect();
        let score = verdicts.iter().filter(|verdict| **verdict).count();
        if best.as_ref().is_some_and(|(least, _)| *least >= score) {
            continue;
        }
        let Some(at) = verdicts.iter().position(|verdict| !verdict) else {
            continue;
        };
        let (Some(name), Some(part), Some(field)) =
            (NAMES.get(at), arn.parts().nth(at + 1), fields.get(at))
        else {
            continue;
        };
        let wanted = part.substituted(request.context());
        best = Some((
            score,
            format!(
                "`{}` differs in {name}: wants `{wanted}`, got `{field}`",
                entry.value
            ),
        ));
    }
    best.map(|(_, text)| text)
}

fn principal(
    written: &Statement,
    compiled: &CompiledStatement,
    request: &Request<'_>,
    has_boundary: bool,
) -> Option<ElementTrace> {
    let matched = match written.effect {
        Effect::Allow => compiled.principal.grants(request).is_some(),
        Effect::Deny => compiled.principal.denies(request, has_boundary),
    };
    let Some(element) = &written.principal else {
        return (!matched).then(|| ElementTrace {
            matched,
            element: "Principal",
            entry: None,
            substituted: None,
            unresolved: Vec::new(),
            reason: Some("the statement names no principal".to_owned()),
        });
    };
    let entry = element.entries.iter().find(|entry| {
        PrincipalMatch::compile(entry)
            .grant(request, written.effect)
            .is_some()
    });
    let reason = if element.negated && has_boundary && written.effect == Effect::Deny {
        Some("a principal with a permissions boundary is never excluded by NotPrincipal".to_owned())
    } else if !matched && !element.negated {
        Some(format!(
            "none of the principals is {}",
            request.principal().arn()
        ))
    } else {
        None
    };
    Some(ElementTrace {
        matched,
        element: if element.negated {
            "NotPrincipal"
        } else {
            "Principal"
        },
        entry: entry.map(|entry| format!("{}: {}", entry.kind.as_str(), entry.text.value)),
        substituted: None,
        unresolved: Vec::new(),
        reason,
    })
}

fn conditions(
    written: &Statement,
    compiled: &CompiledStatement,
    request: &Request<'_>,
    version: Version,
) -> Vec<ConditionTrace> {
    let mut ordered: Vec<&Condition> = compiled.conditions.iter().collect();
    ordered.sort_by_key(|condition| condition.origin);
    ordered
        .into_iter()
        .filter_map(|condition| {
            let block = written.conditions.get(condition.origin.0 as usize)?;
            let key = block.keys.get(condition.origin.1 as usize)?;
            Some(one_condition(
                condition,
                &block.operator.value,
                key,
                request,
                version,
            ))
        })
        .collect()
}

fn one_condition(
    condition: &Condition,
    operator: &str,
    key: &ConditionKey,
    request: &Request<'_>,
    version: Version,
) -> ConditionTrace {
    let context = request.context();
    let holds = condition.holds(context);
    let value = context.lookup(&condition.key);
    let unresolved: Vec<String> = condition
        .variable_keys()
        .filter(|key| context.substitution(key).is_none())
        .map(|key| key.shown().to_owned())
        .collect();
    ConditionTrace {
        operator: operator.to_owned(),
        key: key.key.value.to_string(),
        request: value.map(ValueView::from),
        values: condition.shown_values(key, context),
        holds,
        reason: reason(condition, key, value, holds, request, version),
        unresolved,
        unknown_operator: condition.operator.is_none(),
    }
}

/// Why a condition came out as it did, when the values alone do not tell.
fn reason(
    condition: &Condition,
    key: &ConditionKey,
    value: Option<&ContextValue<'_>>,
    holds: bool,
    request: &Request<'_>,
    version: Version,
) -> Option<&'static str> {
    let Some(operator) = condition.operator else {
        return Some("the operator is unknown, so the condition is false");
    };
    if operator.base == crate::condition::Base::Null {
        return None;
    }
    match (value, operator.set) {
        (None, _) if holds => return Some("matched because the key is missing"),
        (None, _) => return Some("failed because the key is missing"),
        (Some(ContextValue::Many(_)), SetQualifier::None) => {
            return Some(
                "failed because the key has several values and the operator has no ForAllValues/ForAnyValue",
            );
        }
        _ => {}
    }
    if holds {
        return None;
    }
    if key.values.is_empty() {
        return Some("no values are listed");
    }
    let variables = key.values.iter().any(|text| text.value.contains("${"));
    if variables && version == Version::V2008 {
        return Some("variables are off: Version is 2008-10-17");
    }
    for text in value.into_iter().flat_map(ContextValue::values) {
        if !condition.value_is_comparable(text) {
            return Some("the value is not of the type that the operator compares");
        }
        if condition.differs_by_case_only(text, request.context()) {
            return Some("case differs");
        }
    }
    None
}

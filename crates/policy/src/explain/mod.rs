//! Explaining a decision (policy language spec, sections 9 and 10).
//!
//! A second pass over the compiled policies, made only on request: every layer and document with its own answer, every statement whose
//! action matched with the fate of each element, what was missing, which statements came close, and what would have to change.

mod conditional;
mod message;
mod near;
mod summary;
mod trace;
mod tree;

use std::collections::BTreeMap;

use serde::Serialize;

pub use conditional::Flip;
pub use message::{MessageStyle, denial_message};
pub use near::{FailedAt, NearMiss};
pub use summary::Suggestion;
pub use trace::{ConditionTrace, ElementTrace, StatementTrace, ValueView};
pub use tree::{render_brief, render_tree};

use crate::context::ContextValue;
use crate::document::Effect;
use crate::evaluate::Group;
use crate::evaluate::{
    Attached, Decision, Layer, Layers, Outcome, Route, SpecialRule, StatementAt, allowed_by,
    blocked_by, consults, decide, denied_by, resource_grant,
};
use crate::request::{Identity, PrincipalType, Request};
use crate::text::Position;

/// Everything there is to say about one decision. Field names are stable.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The answer.
    pub decision: Outcome,
    /// One sentence: who, what, on what, and the decisive reason.
    pub summary: String,
    /// The decisive reason alone.
    pub reason: String,
    /// The request as it was evaluated.
    pub request: RequestView,
    /// Every layer and organization level, with its documents.
    pub layers: Vec<LayerView>,
    /// The statements that carried an allow, and by which route.
    pub granted_by: Vec<GrantView>,
    /// Every explicit deny that matched; the first is the decisive one.
    pub denied_by: Vec<StatementRef>,
    /// The layers that would have to change.
    pub blocked_by: Vec<Layer>,
    /// Allow statements that nearly matched, the nearest first.
    pub near_misses: Vec<NearMiss>,
    /// Keys that a statement with matching action and resource asked for and the request lacks.
    pub missing_keys: Vec<String>,
    /// Values of missing keys that would turn the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditional: Vec<Flip>,
    /// The rule of a service that decided or took part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub special_rule: Option<SpecialRule>,
    /// What could be added, for an implicit deny.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<Suggestion>,
    /// Further remarks.
    pub notes: Vec<String>,
    /// The statements whose action matched, element by element.
    pub statements: Vec<StatementTrace>,
}

/// The request as it was evaluated.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestView {
    /// The caller.
    pub principal: PrincipalView,
    /// The action as written.
    pub action: String,
    /// The resource.
    pub resource: String,
    /// Whose it is.
    pub resource_account: String,
    /// Whether caller and resource share an account.
    pub same_account: bool,
    /// All condition keys.
    pub context: BTreeMap<String, ValueView>,
}

/// The caller.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalView {
    /// ARN, service name, `anonymous`, or provider.
    pub arn: String,
    /// Unique id, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Kind.
    pub kind: PrincipalType,
    /// Account, when there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
}

/// One layer, or one level of an organization.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerView {
    /// Which.
    pub layer: Layer,
    /// The level's target, for `scp` and `rcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Whether the layer exists.
    pub present: bool,
    /// Whether it has a say for this caller and action.
    pub consulted: bool,
    /// Its own answer.
    pub decision: Outcome,
    /// Its documents.
    pub documents: Vec<DocumentView>,
}

/// One document of a layer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentView {
    /// What it is called.
    #[serde(flatten)]
    pub source: crate::evaluate::Source,
    /// Its own answer.
    pub decision: Outcome,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatementRef {
    /// The layer.
    pub layer: Layer,
    /// The level's target, for `scp` and `rcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// The document's id.
    pub document: String,
    /// Index of the statement, from 0.
    pub statement: usize,
    /// Its `Sid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Where it begins.
    pub start: Position,
    /// Where it ends.
    pub end: Position,
}

/// A statement that granted.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantView {
    /// By which way.
    pub route: Route,
    /// Which statement.
    pub statement: StatementRef,
}

/// Explains a request: the same answer as [`decide`], with every reason.
#[must_use]
pub fn explain(request: &Request<'_>, layers: &Layers<'_>) -> Explanation {
    let decision = decide(request, layers);
    let blocked: Vec<Layer> = blocked_by(request, layers).iter().collect();
    let statements = trace::all(request, layers);
    let denied_by = denials(&statements);
    let near_misses = if decision.outcome == Outcome::ImplicitDeny {
        near::find(request, layers, &statements)
    } else {
        Vec::new()
    };
    let missing_keys = missing_keys(&statements);
    let conditional = conditional::flips(request, layers, &decision, &statements);
    let mut notes = notes(request, layers);
    notes.extend(conditional::unknown_operators(&statements));
    let (reason, summary) = summary::sentence(request, layers, &decision, &blocked, &near_misses);
    Explanation {
        decision: decision.outcome,
        summary,
        reason,
        request: request_view(request),
        layers: layer_views(request, layers),
        granted_by: grants(request, layers, &decision),
        denied_by,
        suggestion: summary::suggest(request, &decision, &blocked),
        blocked_by: blocked,
        near_misses,
        missing_keys,
        conditional,
        special_rule: decision.special,
        notes,
        statements,
    }
}

/// Keys that statements with matching action and resource asked for and the request lacks, as policies spell them.
fn missing_keys(statements: &[StatementTrace]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    let asked = statements
        .iter()
        .filter(|statement| statement.action.matched && statement.resource.matched)
        .flat_map(|statement| statement.missing_keys());
    for key in asked {
        if !keys.iter().any(|known| crate::fold::eq(known, key)) {
            keys.push(key.to_owned());
        }
    }
    keys.sort();
    keys
}

fn request_view(request: &Request<'_>) -> RequestView {
    let principal = request.principal();
    RequestView {
        principal: PrincipalView {
            arn: principal.arn().to_owned(),
            id: principal.unique_id().map(str::to_owned),
            kind: principal.kind(),
            account: principal.account().to_owned(),
        },
        action: request.action().as_str().to_owned(),
        resource: request.resource().to_owned(),
        resource_account: request.resource_account().to_owned(),
        same_account: request.is_same_account(),
        context: request
            .context()
            .iter()
            .map(|(key, value)| (key.to_owned(), ValueView::from(value)))
            .collect(),
    }
}

impl From<&ContextValue<'_>> for ValueView {
    fn from(value: &ContextValue<'_>) -> Self {
        match value {
            ContextValue::One(text) => Self::One(text.to_string()),
            ContextValue::Many(texts) => {
                Self::Many(texts.iter().map(|text| text.to_string()).collect())
            }
        }
    }
}

fn layer_views(request: &Request<'_>, layers: &Layers<'_>) -> Vec<LayerView> {
    let mut views = Vec::new();
    for layer in Layer::ALL {
        let groups: Vec<Group<'_>> = layers
            .groups()
            .filter(|group| group.layer == layer)
            .collect();
        let consulted = consults(layer, request);
        if groups.is_empty() {
            views.push(LayerView {
                layer,
                level: None,
                present: false,
                consulted,
                decision: Outcome::ImplicitDeny,
                documents: Vec::new(),
            });
        }
        for group in groups {
            views.push(LayerView {
                layer,
                level: group.level.map(|(_, target)| target.to_owned()),
                present: layer != Layer::Identity || !group.policies.is_empty(),
                consulted,
                decision: group_outcome(request, layers, &group),
                documents: group
                    .policies
                    .iter()
                    .map(|attached| DocumentView {
                        source: attached.source.clone(),
                        decision: group_outcome(
                            request,
                            layers,
                            &Group {
                                policies: std::slice::from_ref(attached),
                                ..group
                            },
                        ),
                    })
                    .collect(),
            });
        }
    }
    views
}

fn group_outcome(request: &Request<'_>, layers: &Layers<'_>, group: &Group<'_>) -> Outcome {
    if denied_by(request, group, layers.boundary.is_some()).is_some() {
        Outcome::ExplicitDeny
    } else if group.layer == Layer::Rcp || allowed_by(request, group).is_some() {
        // RCP levels contain the full-access policy whether it is listed or not.
        Outcome::Allowed
    } else {
        Outcome::ImplicitDeny
    }
}

fn grants(request: &Request<'_>, layers: &Layers<'_>, decision: &Decision) -> Vec<GrantView> {
    let Some(route) = decision.route else {
        return Vec::new();
    };
    let mut found: Vec<StatementAt> = decision
        .determining
        .into_iter()
        .chain(decision.second)
        .collect();
    // The hot path stops at the first grant; a reader wants to know of the other side as well.
    if route == Route::Direct || route == Route::Role {
        let group = Group {
            layer: Layer::Identity,
            level: None,
            policies: layers.identity,
        };
        if consults(Layer::Identity, request) {
            found.extend(allowed_by(request, &group));
        }
    } else if let Some((_, at)) = resource_grant(request, layers) {
        found.push(at);
    }
    found.dedup();
    found
        .into_iter()
        .filter_map(|at| {
            let statement = statement_ref(layers, at)?;
            let route = if Some(at) == decision.determining || Some(at) == decision.second {
                route
            } else if at.layer == Layer::Identity {
                Route::Identity
            } else {
                return None;
            };
            Some(GrantView { route, statement })
        })
        .collect()
}

fn denials(statements: &[StatementTrace]) -> Vec<StatementRef> {
    statements
        .iter()
        .filter(|statement| statement.effect == Effect::Deny && statement.applies)
        .map(|statement| statement.at.clone())
        .collect()
}

/// Names a statement for people.
#[must_use]
pub fn statement_ref(layers: &Layers<'_>, at: StatementAt) -> Option<StatementRef> {
    let group = layers.groups().find(|group| {
        group.layer == at.layer && group.level.map_or(0, |(level, _)| level) == at.level
    })?;
    let attached = group.policies.get(usize::from(at.document))?;
    reference(&group, attached, at.statement as usize)
}

pub(crate) fn reference(
    group: &Group<'_>,
    attached: &Attached,
    statement: usize,
) -> Option<StatementRef> {
    let document = attached.policy.document();
    let content = document.statements().get(statement)?;
    let lines = document.lines();
    Some(StatementRef {
        layer: group.layer,
        level: group.level.map(|(_, target)| target.to_owned()),
        document: attached.source.id.to_string(),
        statement,
        sid: content.sid.as_ref().map(|sid| sid.value.to_string()),
        start: lines.position(content.span.start),
        end: lines.position(content.span.end),
    })
}

fn notes(request: &Request<'_>, layers: &Layers<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if request.crosses_partitions() {
        notes.push(
            "principal and resource are in different partitions, which do not trust each other"
                .to_owned(),
        );
    }
    if request.resource().contains(['*', '?']) && request.resource() != "*" {
        notes.push("wildcards in the resource of a request are ordinary characters".to_owned());
    }
    if !layers.scp.is_empty() && !consults(Layer::Scp, request) {
        notes.push("service control policies do not apply to this caller".to_owned());
    }
    if !layers.rcp.is_empty() && !consults(Layer::Rcp, request) {
        notes.push("resource control policies do not cover this request".to_owned());
    }
    if matches!(
        request.principal().identity(),
        Identity::FederatedUser { .. }
    ) && layers.session.is_none()
    {
        notes.push(
            "no session policy was passed to GetFederationToken, so the user's own permissions do not carry over"
                .to_owned(),
        );
    }
    notes.extend(deleted_principals(request, layers));
    notes
}

/// A raw unique id in a policy names an entity that is gone, or was made again under the same name.
fn deleted_principals(request: &Request<'_>, layers: &Layers<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for attached in layers.resource.into_iter().flatten() {
        for (_, entry) in attached.policy.document().principals() {
            let text = &*entry.text.value;
            if crate::request::is_principal_id(text)
                && request.principal().unique_id() != Some(text)
                && notes.len() < 5
            {
                notes.push(format!(
                    "`{}` names a principal that no longer exists: {text}",
                    attached.source.id
                ));
            }
        }
    }
    notes
}

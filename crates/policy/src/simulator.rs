//! The policy simulator of the IAM API (policy language spec, section 11).
//!
//! [`crate::simulate`] runs files of cases; this here answers SimulateCustomPolicy and SimulatePrincipalPolicy.

use crate::context::Context;
use crate::evaluate::{Attached, Layer, Layers, Outcome};
use crate::explain::{Explanation, StatementRef, explain};
use crate::request::{Action, NotAResource, Principal, Request};
use crate::text::Position;

/// What actions are simulated with: one caller, and the resources.
#[derive(Clone, Copy)]
pub struct Simulation<'a> {
    /// The caller.
    pub principal: &'a Principal,
    /// The resources; none means `*`.
    pub resources: &'a [&'a str],
    /// Whose the resources are that do not name their account.
    pub resource_owner: Option<&'a str>,
    /// All condition keys.
    pub context: &'a Context<'a>,
    /// Identity policies, boundary and levels of the organization; the resource layer is replaced.
    pub layers: Layers<'a>,
    /// The policy on a resource: the one that was passed, else the stored trust policy of a role.
    pub resource_policy: &'a dyn Fn(&str) -> Option<&'a [Attached]>,
}

/// The answer for one action.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationResult {
    /// The action as it was written.
    pub action: Box<str>,
    /// The one resource, or `*`.
    pub resource: Box<str>,
    /// `explicitDeny` if it is for any resource, else `allowed` only if it is for all.
    pub decision: Outcome,
    /// The answer of each resource; one for `*` where no resource was named.
    pub resources: Vec<ResourceResult>,
    /// Whether resources were named.
    pub names_resources: bool,
}

/// The answer for one action on one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceResult {
    /// The resource.
    pub resource: Box<str>,
    /// The answer.
    pub decision: Outcome,
    /// The statements that made it; those that deny alone where one does, none for an implicit deny.
    pub matched: Vec<MatchedStatement>,
    /// Keys that a statement with matching action and resource asks for and the request lacks.
    pub missing: Vec<Box<str>>,
    /// Whether the boundary allows, where there is one.
    pub allowed_by_boundary: Option<bool>,
    /// Whether the service control policies allow, where there are any.
    pub allowed_by_organizations: Option<bool>,
    /// What each side says, across accounts; empty within one account; absent for `*`, and where a service control
    /// policy refuses.
    pub details: Option<Vec<(&'static str, Outcome)>>,
}

/// One statement, as the API names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedStatement {
    /// `SourcePolicyId`
    pub policy_id: Box<str>,
    /// `SourcePolicyType`; absent for documents of the request.
    pub policy_type: Option<Box<str>>,
    /// Behind the token before the statement.
    pub start: Position,
    /// Behind its closing brace.
    pub end: Position,
}

/// Simulates one action on all resources. Costs as much as explaining each of them.
///
/// # Errors
/// When a resource is neither an ARN nor `*`.
pub fn simulate_action(
    simulation: &Simulation<'_>,
    action: &Action,
) -> Result<EvaluationResult, NotAResource> {
    let everything = ["*"];
    let names_resources = !simulation.resources.is_empty();
    let resources = if names_resources {
        simulation.resources
    } else {
        &everything
    };
    let results = resources
        .iter()
        .map(|resource| on_resource(simulation, action, resource))
        .collect::<Result<Vec<_>, _>>()?;
    let any = |outcome| results.iter().any(|result| result.decision == outcome);
    let decision = if any(Outcome::ExplicitDeny) {
        Outcome::ExplicitDeny
    } else if any(Outcome::ImplicitDeny) {
        Outcome::ImplicitDeny
    } else {
        Outcome::Allowed
    };
    let resource = match resources {
        [one] => *one,
        _ => "*",
    };
    Ok(EvaluationResult {
        action: action.as_str().into(),
        resource: resource.into(),
        decision,
        resources: results,
        names_resources,
    })
}

fn on_resource(
    simulation: &Simulation<'_>,
    action: &Action,
    resource: &str,
) -> Result<ResourceResult, NotAResource> {
    let layers = Layers {
        resource: (simulation.resource_policy)(resource),
        ..simulation.layers
    };
    let mut request = Request::new(simulation.principal, action, resource, simulation.context)?;
    if let Some(owner) = simulation.resource_owner {
        request = request.owned_by(owner);
    }
    let explanation = explain(&request, &layers);
    let deciding: Vec<&StatementRef> = match explanation.decision {
        Outcome::ExplicitDeny => explanation.denied_by.iter().collect(),
        Outcome::Allowed => {
            let granted = explanation.granted_by.iter();
            granted.map(|grant| &grant.statement).collect()
        }
        Outcome::ImplicitDeny => Vec::new(),
    };
    let by_organizations = layer_allows(&explanation, Layer::Scp);
    let details = if resource == "*" || by_organizations == Some(false) {
        None
    } else if request.is_same_account() {
        Some(Vec::new())
    } else {
        Some(vec![
            ("IAM Policy", layer_answer(&explanation, Layer::Identity)),
            (
                "Resource Policy",
                layer_answer(&explanation, Layer::Resource),
            ),
        ])
    };
    Ok(ResourceResult {
        resource: resource.into(),
        decision: explanation.decision,
        matched: deciding
            .into_iter()
            .filter_map(|statement| matched(&layers, statement))
            .collect(),
        missing: explanation
            .missing_keys
            .iter()
            .map(|key| key.as_str().into())
            .collect(),
        allowed_by_boundary: layer_allows(&explanation, Layer::Boundary),
        allowed_by_organizations: by_organizations,
        details,
    })
}

/// The answer of all documents of a layer together.
fn layer_answer(explanation: &Explanation, layer: Layer) -> Outcome {
    explanation
        .layers
        .iter()
        .find(|view| view.layer == layer)
        .map_or(Outcome::ImplicitDeny, |view| view.decision)
}

/// Whether every level of a layer allows; `None` where there is no such layer.
fn layer_allows(explanation: &Explanation, layer: Layer) -> Option<bool> {
    let mut present = explanation
        .layers
        .iter()
        .filter(|view| view.layer == layer && view.present && view.consulted)
        .peekable();
    present.peek()?;
    Some(present.all(|view| view.decision == Outcome::Allowed))
}

fn matched(layers: &Layers<'_>, at: &StatementRef) -> Option<MatchedStatement> {
    let attached = layers
        .groups()
        .filter(|group| group.layer == at.layer)
        .filter(|group| group.level.map(|(_, target)| target) == at.level.as_deref())
        .flat_map(|group| group.policies)
        .find(|attached| *attached.source.id == *at.document)?;
    let (start, end) = attached
        .policy
        .document()
        .simulator_positions(at.statement)?;
    Some(MatchedStatement {
        policy_id: attached.source.id.clone(),
        policy_type: attached.source.kind.clone(),
        start,
        end,
    })
}

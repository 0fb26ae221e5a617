//! Running cases.

use serde::Serialize;

use super::case::{Case, Expected, Warning};
use crate::context::Context;
use crate::evaluate::{Layer, Outcome, blocked_by, decide};
use crate::explain::{Explanation, explain};
use crate::request::{Action, PrincipalType, Request, split_action};
use crate::tables;

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Add the whole explanation to each answer.
    pub explain: bool,
    /// Add the keys that follow from principal and resource.
    pub fill_context: bool,
    /// Keys to set where a case lacks them.
    pub assume: Vec<(String, String)>,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One entry per combination of action and resource of each case.
    pub results: Vec<CaseResult>,
    /// Counts.
    pub summary: Summary,
}

/// The answer to one question.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseResult {
    /// The case.
    pub id: String,
    /// What it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The principal.
    pub principal: String,
    /// The action.
    pub action: String,
    /// The resource.
    pub resource: String,
    /// The answer; absent when the question itself was not understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Outcome>,
    /// The layers that would have to change.
    pub blocked_by: Vec<Layer>,
    /// Whether a key that the request lacks would turn the answer.
    pub conditional: bool,
    /// Why, in a few words.
    pub reason: String,
    /// Everything, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Box<Explanation>>,
    /// What is odd about the case.
    pub warnings: Vec<Warning>,
    /// What was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// Whether the answer is the expected one; without an expectation, whether it is allowed.
    pub ok: bool,
}

/// Counts over all answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// All answers.
    pub total: usize,
    /// Allowed.
    pub allowed: usize,
    /// Explicitly denied.
    pub explicit_deny: usize,
    /// Implicitly denied.
    pub implicit_deny: usize,
    /// Other than expected.
    pub failed: usize,
    /// Questions without an answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub undecided: usize,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Report {
    /// The exit code of the command: 0 all allowed or all as expected, 1 otherwise, 3 when a question could not be decided.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.summary.undecided > 0 {
            3
        } else {
            u8::from(self.results.iter().any(|result| !result.ok))
        }
    }
}

/// Runs all cases.
#[must_use]
pub fn run(cases: &[Case], options: &Options) -> Report {
    let mut results = Vec::with_capacity(cases.len());
    for case in cases {
        for action in &case.request.actions {
            for resource in &case.request.resources {
                results.push(one(case, action, resource, options));
            }
        }
    }
    let mut summary = Summary {
        total: results.len(),
        ..Summary::default()
    };
    for result in &results {
        match result.decision {
            Some(Outcome::Allowed) => summary.allowed += 1,
            Some(Outcome::ExplicitDeny) => summary.explicit_deny += 1,
            Some(Outcome::ImplicitDeny) => summary.implicit_deny += 1,
            None => summary.undecided += 1,
        }
        if result.expected.is_some() && !result.ok {
            summary.failed += 1;
        }
    }
    Report { results, summary }
}

/// Explains the first question of a case.
///
/// # Errors
/// Why the question was not understood.
pub fn explain_case(case: &Case, options: &Options) -> Result<Explanation, String> {
    let action = case.request.actions.first().map_or("", String::as_str);
    let resource = case.request.resources.first().map_or("", String::as_str);
    with_request(case, action, resource, options, |request| {
        explain(request, &case.policies.layers())
    })
}

fn one(case: &Case, action: &str, resource: &str, options: &Options) -> CaseResult {
    let mut result = CaseResult {
        id: case.id.clone(),
        name: case.name.clone(),
        principal: case.request.principal.arn().to_owned(),
        action: action.to_owned(),
        resource: resource.to_owned(),
        decision: None,
        blocked_by: Vec::new(),
        conditional: false,
        reason: String::new(),
        explanation: None,
        warnings: case.warnings.clone(),
        expected: case.expected.clone(),
        ok: false,
    };
    let layers = case.policies.layers();
    let answered = with_request(case, action, resource, options, |request| {
        let decision = decide(request, &layers);
        let wants_reason = options.explain
            || decision.outcome != Outcome::Allowed && case.expected.is_none()
            || case
                .expected
                .as_ref()
                .is_some_and(|expected| expected.decision != decision.outcome);
        let blocked: Vec<Layer> = blocked_by(request, &layers).iter().collect();
        let explanation = wants_reason.then(|| Box::new(explain(request, &layers)));
        (decision, blocked, explanation)
    });
    match answered {
        Err(why) => result.reason = why,
        Ok((decision, blocked, explanation)) => {
            result.decision = Some(decision.outcome);
            result.ok = match &case.expected {
                None => decision.outcome == Outcome::Allowed,
                Some(expected) => {
                    let same_layers = expected.blocked_by.as_ref().is_none_or(|layers| {
                        let mut wanted = layers.clone();
                        wanted.sort();
                        wanted.dedup();
                        wanted == blocked
                    });
                    expected.decision == decision.outcome && same_layers
                }
            };
            result.blocked_by = blocked;
            if let Some(explanation) = explanation {
                result.reason.clone_from(&explanation.reason);
                result.conditional = !explanation.conditional.is_empty();
                result.explanation = options.explain.then_some(explanation);
            }
        }
    }
    result
}

fn with_request<T>(
    case: &Case,
    action: &str,
    resource: &str,
    options: &Options,
    ask: impl FnOnce(&Request<'_>) -> T,
) -> Result<T, String> {
    let parsed = Action::parse(action).map_err(|error| error.to_string())?;
    if action.contains(['*', '?']) {
        return Err(format!(
            "`{action}` holds a wildcard: a request names one action"
        ));
    }
    // The request of an action without resources is for `*`, whatever the case says.
    let asked = if wildcard_only(case, action) {
        "*"
    } else {
        resource
    };
    let mut context = case.request.context.clone();
    for (key, value) in &options.assume {
        if context.get(key).is_none() {
            set_assumed(&mut context, key, value);
        }
    }
    let mut request = Request::new(&case.request.principal, &parsed, asked, &context)
        .map_err(|error| error.to_string())?;
    let in_arn = resource
        .split(':')
        .nth(4)
        .filter(|account| !account.is_empty());
    if let Some(account) = case.request.resource_account.as_deref().or(in_arn) {
        request = request.owned_by(account);
    }
    if options.fill_context {
        let filled = fill(&request);
        return Ok(ask(&refill(&request, &filled)?));
    }
    Ok(ask(&request))
}

fn set_assumed(context: &mut Context<'static>, key: &str, value: &str) {
    if tables::is_list_key(key) {
        let values: Vec<String> = value.split(',').map(str::to_owned).collect();
        context.set_list(key.to_owned(), values);
    } else {
        context.set(key.to_owned(), value.to_owned());
    }
}

fn refill<'a>(request: &Request<'a>, context: &'a Context<'a>) -> Result<Request<'a>, String> {
    Request::new(
        request.principal(),
        request.action(),
        request.resource(),
        context,
    )
    .map(|filled| filled.owned_by(request.resource_account()))
    .map_err(|error| error.to_string())
}

/// Adds the keys that follow from the principal and the resource, unless the case sets them.
fn fill(request: &Request<'_>) -> Context<'static> {
    let mut context: Context<'static> = Context::new();
    for (key, value) in request.context().iter() {
        match value {
            crate::context::ContextValue::One(text) => {
                context.set(key.to_owned(), text.to_string());
            }
            crate::context::ContextValue::Many(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
                context.set_list(key.to_owned(), texts);
            }
        }
    }
    let caller = request.principal();
    let mut derive = |key: &'static str, value: Option<String>| {
        if let Some(value) = value
            && context.get(key).is_none()
        {
            context.set(key, value);
        }
    };
    let kind = match caller.kind() {
        PrincipalType::Root => "Account",
        PrincipalType::User => "User",
        PrincipalType::Session => "AssumedRole",
        PrincipalType::Federated => "FederatedUser",
        PrincipalType::Service => "Service",
        PrincipalType::Anonymous => "Anonymous",
    };
    derive("aws:PrincipalArn", caller.principal_arn());
    derive("aws:PrincipalType", Some(kind.to_owned()));
    derive("aws:username", caller.user_name().map(str::to_owned));
    let account = match caller.kind() {
        PrincipalType::Service => None,
        PrincipalType::Anonymous => Some("anonymous".to_owned()),
        _ => Some(caller.account().to_owned()),
    };
    derive("aws:PrincipalAccount", account);
    let is_service = caller.kind() == PrincipalType::Service;
    if caller.kind() != PrincipalType::Anonymous {
        derive("aws:PrincipalIsAWSService", Some(is_service.to_string()));
    }
    let owner = request.resource_account();
    derive(
        "aws:ResourceAccount",
        (!owner.is_empty()).then(|| owner.to_owned()),
    );
    context
}

fn wildcard_only(case: &Case, action: &str) -> bool {
    if let Some(said) = case.request.wildcard_only_action {
        return said;
    }
    split_action(action)
        .and_then(|(service, name)| tables::service(service)?.action(name))
        .is_some_and(|(_, info)| info.is_wildcard_only())
}

//! May this caller make this call? Asked for every signed operation before it is looked whether what it is about exists
//! (IAM API spec, sections 1.2 and 5.7; policy language spec, sections 8 and 10).

use countersign_policy::explain::{MessageStyle, StatementRef, denial_message, statement_ref};
use countersign_policy::{Action, Decision, Layers, Outcome, Request, decide};
use countersign_session::{Purpose, seal_message};

use super::conditions;
use super::finished::Decided;
use super::operation::Call;
use super::target::{Resource, Target};
use super::{ApiError, internal_failure, own_password};

/// Asks for what only the operation can tell.
pub(crate) type Asking = fn(&Call<'_>) -> Result<(), ApiError>;

/// What an operation needs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// Nothing, or what the operation itself asks for.
    Own,
    /// The action named after the operation, on a resource.
    Policy {
        /// What the call is about.
        target: Target,
        /// Whether the call makes it: then its path and tags are those of the request.
        creates: bool,
        /// The action that is needed as well when `Tags` are given.
        tagging: Option<&'static str>,
        /// The parameter with the name of a role that the call hands to a service, and the service.
        passes: Option<(&'static str, &'static str)>,
        /// What it needs besides, which only the operation can tell.
        also: Option<Asking>,
    },
}

/// The operation's action on something that exists.
pub(crate) const fn on(target: Target) -> Rule {
    Rule::Policy {
        target,
        creates: false,
        tagging: None,
        passes: None,
        also: None,
    }
}

/// The operation's action on something that the call makes.
pub(crate) const fn creates(target: Target) -> Rule {
    Rule::Policy {
        target,
        creates: true,
        tagging: None,
        passes: None,
        also: None,
    }
}

impl Rule {
    /// With tags, this action is needed too.
    pub(crate) const fn tagging(self, action: &'static str) -> Self {
        match self {
            Self::Own => self,
            Self::Policy {
                target,
                creates,
                passes,
                also,
                ..
            } => Self::Policy {
                target,
                creates,
                tagging: Some(action),
                passes,
                also,
            },
        }
    }

    /// `iam:PassRole` on the role named by `parameter` is needed too, for `service`.
    pub(crate) const fn passing(self, parameter: &'static str, service: &'static str) -> Self {
        match self {
            Self::Own => self,
            Self::Policy {
                target,
                creates,
                tagging,
                also,
                ..
            } => Self::Policy {
                target,
                creates,
                tagging,
                passes: Some((parameter, service)),
                also,
            },
        }
    }

    /// This is needed too.
    pub(crate) const fn and(self, also: Asking) -> Self {
        match self {
            Self::Own => self,
            Self::Policy {
                target,
                creates,
                tagging,
                passes,
                ..
            } => Self::Policy {
                target,
                creates,
                tagging,
                passes,
                also: Some(also),
            },
        }
    }
}

/// Asks the policies of the caller.
///
/// # Errors
/// `AccessDenied` with IAM's text, or what is wrong with the resource that was named.
pub(crate) fn authorize(call: &Call<'_>) -> Result<(), ApiError> {
    let Rule::Policy {
        target,
        creates,
        tagging,
        passes,
        also,
    } = &call.operation.rule
    else {
        return Ok(());
    };
    // Agents are allowed by the list that they were authenticated with.
    if call.agent.is_some() {
        return Ok(());
    }
    let resource = target.resource(call, *creates)?;
    let service = call.operation.service.signing_name();
    ask(
        call,
        &format!("{service}:{}", call.operation.name),
        &resource,
        None,
    )?;
    if let Some(action) = tagging
        && !call.input.list("Tags").is_empty()
    {
        ask(call, action, &resource, None)?;
    }
    if let Some((parameter, service)) = passes {
        let role = Target::Role(parameter).resource(call, false)?;
        ask(call, "iam:PassRole", &role, Some(service))?;
    }
    if let Some(also) = also {
        also(call)?;
    }
    Ok(())
}

/// Asks for one action on one resource. Operations that need more than their row says call this themselves.
///
/// # Errors
/// `AccessDenied` with IAM's text.
pub(crate) fn ask(
    call: &Call<'_>,
    action: &str,
    resource: &Resource,
    passed_to: Option<&str>,
) -> Result<(), ApiError> {
    let holder = call.holder()?;
    let keys = conditions::of_action(call, action, resource, passed_to)?;
    let widened = own_password::widened(call, holder, action);
    let layers = Layers {
        identity: widened.as_deref().unwrap_or(&holder.compiled.identity),
        boundary: holder.compiled.boundary.as_ref(),
        session: holder.session.as_deref(),
        ..Layers::default()
    };
    let action = Action::parse(action).map_err(|error| {
        tracing::error!(%error, "an operation has an action that cannot be asked for");
        internal_failure()
    })?;
    let mut request = Request::new(&holder.principal, &action, &resource.arn, &keys)
        .map_err(|_| not_an_arn(&resource.arn))?;
    // The policies of AWS belong to everyone's account.
    if request.resource_account() == "aws" {
        request = request.owned_by(holder.principal.account());
    }
    let decision = decide(&request, &layers);
    let statement = decision
        .determining
        .and_then(|at| statement_ref(&layers, at));
    let mut denied = None;
    if !decision.is_allowed() {
        let message = denial_message(&request, &layers, &decision, MessageStyle::Standard);
        tracing::info!(
            request_id = call.request_id,
            caller = holder.principal.arn(),
            action = action.as_str(),
            resource = &*resource.arn,
            outcome = decision.outcome.as_str(),
            "call denied"
        );
        let may_read = || {
            let role = "iam:GetRole";
            let keys = conditions::of_action(call, role, resource, None).ok()?;
            let action = Action::parse(role).ok()?;
            let request = Request::new(&holder.principal, &action, &resource.arn, &keys).ok()?;
            Some(decide(&request, &layers).is_allowed())
        };
        let mut error = decision
            .special
            .and_then(|rule| {
                super::iam::ruled_out(call, rule, &resource.arn, || may_read() == Some(true))
            })
            .unwrap_or_else(|| ApiError::new(403, "AccessDenied", message));
        error.denial = explanation(call, &request, &decision, statement.as_ref());
        denied = Some(error);
    }
    call.decided(Decided {
        action: action.as_str().to_owned(),
        resource: resource.arn.clone(),
        outcome: decision.outcome.as_str(),
        statement,
    });
    denied.map_or(Ok(()), Err)
}

/// IAM's answer to a text that should be an ARN and is none.
pub(crate) fn not_an_arn(text: &str) -> ApiError {
    ApiError::new(400, "ValidationError", format!("ARN {text} is not valid."))
}

/// What DecodeAuthorizationMessage shows of a denial, sealed for the caller's account. It names statements by policy and
/// position and never prints a document. Nothing when it cannot be sealed: the denial stands without it.
fn explanation(
    call: &Call<'_>,
    request: &Request<'_>,
    decision: &Decision,
    statement: Option<&StatementRef>,
) -> Option<Box<str>> {
    let conditions: Vec<_> = request
        .context()
        .iter()
        .map(|(key, value)| {
            let values: Vec<_> = value
                .values()
                .map(|value| serde_json::json!({ "value": value }))
                .collect();
            serde_json::json!({ "key": key, "values": { "items": values } })
        })
        .collect();
    let plain = serde_json::json!({
        "allowed": false,
        "explicitDeny": decision.outcome == Outcome::ExplicitDeny,
        "matchedStatements": { "items": statement.into_iter().collect::<Vec<_>>() },
        "failures": { "items": [] },
        "context": {
            "principal": {
                "id": call.signer.as_ref().map(|caller| caller.identity().user_id()),
                "arn": request.principal().arn(),
            },
            "action": request.action().as_str(),
            "resource": request.resource(),
            "conditions": { "items": conditions },
        },
    });
    let keys = call.snapshot.session_keys()?;
    let nonce = call.random.bytes().ok()?;
    seal_message(
        Purpose::AuthorizationMessage,
        request.principal().account(),
        plain.to_string().as_bytes(),
        &keys.ring,
        &keys.deployment,
        nonce,
        call.now,
    )
    .map(String::into_boxed_str)
}

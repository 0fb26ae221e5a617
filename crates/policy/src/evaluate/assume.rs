//! Assuming a role takes more than one decision (policy language spec, sections 7.4 and 8.6).

use super::{Decision, Layers, Outcome, decide};
use crate::request::{Action, Request};

/// What a call to AssumeRole, AssumeRoleWithSAML or AssumeRoleWithWebIdentity asks for beside the role itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AssumeRole {
    /// Session tags are passed, or transitive tags are inherited.
    pub tags: bool,
    /// A source identity is passed or inherited.
    pub source_identity: bool,
    /// Provided contexts are passed.
    pub provided_contexts: bool,
}

/// The action that was denied, and why.
#[derive(Debug, Clone)]
pub struct AssumeRoleDenied {
    /// `sts:AssumeRole`, `sts:TagSession`, `sts:SetSourceIdentity` or `sts:SetContext`.
    pub action: Action,
    /// Its decision.
    pub decision: Decision,
}

/// Decides `request`, whose action is one of the AssumeRole family, and the actions that come with it. All must be allowed; the first
/// that is not is named.
///
/// # Errors
/// The action that was denied.
pub fn decide_assume_role(
    request: &Request<'_>,
    asks: AssumeRole,
    layers: &Layers<'_>,
) -> Result<Decision, Box<AssumeRoleDenied>> {
    let first = decide(request, layers);
    if first.outcome != Outcome::Allowed {
        return Err(Box::new(AssumeRoleDenied {
            action: request.action().clone(),
            decision: first,
        }));
    }
    let extra = [
        (asks.tags, "sts:TagSession"),
        (asks.source_identity, "sts:SetSourceIdentity"),
        (asks.provided_contexts, "sts:SetContext"),
    ];
    for (asked, name) in extra {
        let Some(action) = asked.then(|| Action::parse(name).ok()).flatten() else {
            continue;
        };
        let decision = decide(&request.clone().with_action(&action), layers);
        if decision.outcome != Outcome::Allowed {
            return Err(Box::new(AssumeRoleDenied { action, decision }));
        }
    }
    Ok(first)
}

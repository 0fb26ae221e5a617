//! Access policies of entries, asked one by one so that each can say why not.

use countersign_rbac::{Action, PolicyRule};

use crate::report::{Grant, PolicyVerdict};
use crate::snapshot::{EntryFacts, PolicyFacts, ScopeKind};

/// The policies that entries may have.
#[derive(Debug, Default)]
pub struct Policies {}

/// A policy that would allow an action.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) arn: String,
    pub(crate) name: String,
    /// The smallest scope in which it does.
    pub(crate) scope: ScopeKind,
}

impl Policies {
    pub(crate) fn verdict(
        &self,
        entry: &EntryFacts,
        principal_id: Option<&str>,
        policy: &PolicyFacts,
        action: &Action<'_>,
    ) -> (PolicyVerdict, Option<Grant>) {
        let _ = (entry, principal_id, action);
        (PolicyVerdict { policy_arn: policy.policy_arn.clone(), access_scope: policy.access_scope.clone(), allows: false, why_not: None }, None)
    }
    pub(crate) fn that_allow(&self, _action: &Action<'_>) -> Vec<Candidate> { Vec::new() }
    pub(crate) fn covers(&self, _policy: &PolicyFacts, _namespace: &str) -> bool { false }
    pub(crate) fn rules(&self, _arn: &str) -> &[PolicyRule] { &[] }
}

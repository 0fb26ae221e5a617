//! Backends in their order, and the decision (authentication spec, sections 3.8 and 4).
//!
//! Mapping takes two steps, because a node's name may have to be looked up in between: [`Chain::map`] finds the rule,
//! [`Mapped::render`] makes the Kubernetes identity out of it. Neither waits for anything.

use std::sync::Arc;

use countersign_arn::CallerIdentity;

use crate::decision::{BackendError, Denied, DenyReason, MappingDenied};
use crate::entry::{Entry, NodeNameSource, RuleReference};
use crate::identity::KubernetesIdentity;
use crate::instance::Ec2InstanceId;
use crate::options::{ChainOptions, VerifyInstanceRole};
use crate::table::{Found, MappingTable};
use crate::{BackendKind, Variable};

/// One source of mappings in a chain.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Backend {
    /// Entries found by ARN, permission set, pattern or unique id.
    Table(Arc<MappingTable>),
}

impl Backend {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> BackendKind {
        match self {
            Self::Table(table) => table.backend(),
        }
    }
}

impl From<MappingTable> for Backend {
    fn from(table: MappingTable) -> Self {
        Self::Table(Arc::new(table))
    }
}

/// Backends in the order in which they are asked. Immutable: a changed backend makes a new chain.
///
/// - A mapping in an earlier backend hides later ones entirely; nothing is merged.
/// - An account entry in an earlier backend hides an explicit mapping in a later one.
/// - A mapping that cannot be rendered denies; no later backend is asked.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    backends: Vec<Backend>,
    options: ChainOptions,
}

/// What a chain says about a caller.
#[derive(Debug, Clone)]
pub enum MappingDecision<'c> {
    /// A rule is for the caller.
    Mapped(Mapped<'c>),
    /// The caller's account is allowed as a whole.
    AccountAllowed(AccountAllowed<'c>),
    /// Nobody knows the caller, or somebody objects.
    Denied(Denied<'c>),
}

/// The rule that is for a caller, and what is needed to apply it.
#[derive(Debug, Clone)]
pub struct Mapped<'c> {
    pub(crate) chain: &'c Chain,
    pub(crate) entry: &'c Entry,
    /// The instance that has to be looked up first.
    pub(crate) lookup: Option<Ec2InstanceId>,
    /// The instance that the session names, whether or not it is looked up.
    pub(crate) instance: Option<Ec2InstanceId>,
    pub(crate) passed: Vec<BackendError>,
}

/// The account that lets a caller in.
#[derive(Debug, Clone)]
pub struct AccountAllowed<'c> {
    chain: &'c Chain,
    rule: &'c RuleReference,
    passed: Vec<BackendError>,
}

impl Chain {
    /// A chain of `backends`, asked in this order.
    #[must_use]
    pub fn new(backends: Vec<Backend>, options: ChainOptions) -> Self {
        Self { backends, options }
    }

    /// The backends.
    #[must_use]
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// What is checked on rendered mappings.
    #[must_use]
    pub fn options(&self) -> &ChainOptions {
        &self.options
    }

    /// Finds the rule for a caller. One hash lookup per backend and kind of rule; patterns are tried one by one, but
    /// only those of the caller's account. Allocates nothing unless a backend objects.
    #[must_use]
    pub fn map(&self, identity: &CallerIdentity) -> MappingDecision<'_> {
        let mut errors = Vec::new();
        for backend in &self.backends {
            let Backend::Table(table) = backend;
            match table.lookup(identity) {
                Found::Entry(entry) => return self.mapped(entry, identity, errors),
                Found::Mismatch(mismatch, entry) => errors.push(BackendError {
                    mismatch,
                    rule: entry.rule.clone(),
                }),
                Found::NotMapped => {}
            }
            if let Some(account) = table.account(identity.account()) {
                return MappingDecision::AccountAllowed(AccountAllowed {
                    chain: self,
                    rule: &account.rule,
                    passed: errors,
                });
            }
        }
        MappingDecision::Denied(Denied::not_mapped(self, errors))
    }

    fn mapped<'c>(
        &'c self,
        entry: &'c Entry,
        identity: &CallerIdentity,
        passed: Vec<BackendError>,
    ) -> MappingDecision<'c> {
        let deny =
            |reason, passed| MappingDecision::Denied(Denied::by_rule(self, entry, reason, passed));
        let mfa = identity.facts().is_some_and(|facts| facts.mfa);
        if entry.conditions.require_mfa && !mfa {
            return deny(DenyReason::MfaRequired, passed);
        }
        let mut mapped = Mapped {
            chain: self,
            entry,
            lookup: None,
            instance: None,
            passed,
        };
        if mapped.needs_node_name() {
            let Some(id) = Ec2InstanceId::parse(identity.session_name()) else {
                return deny(DenyReason::NotAnInstance, mapped.passed);
            };
            mapped.instance = Some(id);
            let known = entry.conditions.node_name == NodeNameSource::InstanceId
                && self.options.verify_instance_role == VerifyInstanceRole::Off;
            mapped.lookup = (!known).then_some(id);
        }
        MappingDecision::Mapped(mapped)
    }
}

impl<'c> Mapped<'c> {
    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &'c RuleReference {
        &self.entry.rule
    }

    /// The entry, with its templates.
    #[must_use]
    pub fn entry(&self) -> &'c Entry {
        self.entry
    }

    /// The instance whose facts [`Mapped::render`] needs; its id is checked.
    #[must_use]
    pub fn required_lookup(&self) -> Option<Ec2InstanceId> {
        self.lookup
    }

    /// The IAM action that the caller must be allowed on the cluster; the answer goes into
    /// [`RenderInputs::action_allowed`](crate::RenderInputs::action_allowed).
    #[must_use]
    pub fn required_action(&self) -> Option<&'c str> {
        self.entry.conditions.require_action.as_deref()
    }

    /// What earlier backends objected to.
    #[must_use]
    pub fn passed(&self) -> &[BackendError] {
        &self.passed
    }

    pub(crate) fn needs_node_name(&self) -> bool {
        std::iter::once(&self.entry.username)
            .chain(&self.entry.groups)
            .any(|template| template.has(|v| *v == Variable::Ec2PrivateDnsName))
    }

    pub(crate) fn denied(&self, reason: DenyReason) -> Box<MappingDenied> {
        Denied::by_rule(self.chain, self.entry, reason, self.passed.clone()).into_owned()
    }
}

impl<'c> AccountAllowed<'c> {
    /// The account entry.
    #[must_use]
    pub fn rule(&self) -> &'c RuleReference {
        self.rule
    }

    /// What earlier backends objected to.
    #[must_use]
    pub fn passed(&self) -> &[BackendError] {
        &self.passed
    }

    /// The canonical ARN as username, without groups. Reserved prefixes do not apply: no ARN begins with one.
    #[must_use]
    pub fn render(&self, identity: &CallerIdentity) -> KubernetesIdentity {
        KubernetesIdentity::new(
            identity.canonical_arn().to_owned(),
            Vec::new(),
            identity,
            self.rule,
            &self.chain.options,
        )
    }
}

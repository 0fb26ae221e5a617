//! Backends in their order, and the decision (authentication spec, sections 3.8 and 4).
//!
//! Mapping takes two steps, because a node's name may have to be looked up in between: [`Chain::map`] finds the rule,
//! [`Mapped::render`] makes the Kubernetes identity out of it. Neither waits for anything.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use countersign_arn::CallerIdentity;

use crate::decision::{BackendError, Denied, DenyReason, MappingDenied};
use crate::entry::{Entry, NodeNameSource, RuleReference};
use crate::identity::KubernetesIdentity;
use crate::instance::Ec2InstanceId;
use crate::nearest::NearestMiss;
use crate::options::{ChainOptions, VerifyInstanceRole};
use crate::table::{Found, MappingTable, Mismatch};
use crate::{BackendKind, Variable};

/// One source of mappings in a chain.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Backend {
    /// Entries found by ARN, permission set, pattern or unique id.
    Table(Arc<MappingTable>),
    /// Entries that stay where they are kept, and are asked for one by one.
    Entries(Arc<dyn EntryLookup>),
}

/// Entries that are looked up where they live, instead of being copied into a table: 100,000 access entries then cost
/// nothing when one of them changes. Implementations look at one immutable state and wait for nothing.
pub trait EntryLookup: fmt::Debug + Send + Sync {
    /// The kind of backend that this is.
    fn kind(&self) -> BackendKind;

    /// The entry for a caller. Groups and usernames in it are templates; see [`Template::literal`](crate::Template::literal).
    fn lookup(&self, identity: &CallerIdentity) -> LookedUp;

    /// Entries that almost match, at most a few; only asked for denials.
    fn nearest(&self, identity: &CallerIdentity) -> Vec<NearestMiss>;
}

/// What an [`EntryLookup`] says about a caller.
#[derive(Debug, Clone)]
pub enum LookedUp {
    /// This entry is for the caller.
    Entry(Arc<Entry>),
    /// An entry is for the caller but for this; the next backend is asked.
    Mismatch(Mismatch, RuleReference),
    /// No entry has to do with the caller.
    NotMapped,
}

/// An entry of a table, or one that was made for this decision.
#[derive(Debug, Clone)]
pub(crate) enum HeldEntry<'c> {
    Listed(&'c Entry),
    Made(Arc<Entry>),
}

impl Deref for HeldEntry<'_> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        match self {
            Self::Listed(entry) => entry,
            Self::Made(entry) => entry,
        }
    }
}

impl Backend {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> BackendKind {
        match self {
            Self::Table(table) => table.backend(),
            Self::Entries(entries) => entries.kind(),
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
    options: Arc<ChainOptions>,
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
    pub(crate) entry: HeldEntry<'c>,
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
    pub fn new(backends: Vec<Backend>, options: impl Into<Arc<ChainOptions>>) -> Self {
        Self {
            backends,
            options: options.into(),
        }
    }

    /// A chain of other backends with the same options, as the authentication mode of a cluster asks for it. Cheap.
    #[must_use]
    pub fn with_backends(&self, backends: Vec<Backend>) -> Self {
        Self {
            backends,
            options: Arc::clone(&self.options),
        }
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
            let table = match backend {
                Backend::Table(table) => table,
                Backend::Entries(entries) => {
                    match entries.lookup(identity) {
                        LookedUp::Entry(entry) => {
                            return self.mapped(HeldEntry::Made(entry), identity, errors);
                        }
                        LookedUp::Mismatch(mismatch, rule) => {
                            errors.push(BackendError { mismatch, rule });
                        }
                        LookedUp::NotMapped => {}
                    }
                    continue;
                }
            };
            match table.lookup(identity) {
                Found::Entry(entry) => {
                    return self.mapped(HeldEntry::Listed(entry), identity, errors);
                }
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
        entry: HeldEntry<'c>,
        identity: &CallerIdentity,
        passed: Vec<BackendError>,
    ) -> MappingDecision<'c> {
        let deny = |entry, reason, passed| {
            MappingDecision::Denied(Denied::by_rule(self, entry, reason, passed))
        };
        let mfa = identity.facts().is_some_and(|facts| facts.mfa);
        if entry.conditions.require_mfa && !mfa {
            return deny(entry, DenyReason::MfaRequired, passed);
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
                return deny(mapped.entry, DenyReason::NotAnInstance, mapped.passed);
            };
            mapped.instance = Some(id);
            let known = mapped.entry.conditions.node_name == NodeNameSource::InstanceId
                && self.options.verify_instance_role == VerifyInstanceRole::Off;
            mapped.lookup = (!known).then_some(id);
        }
        MappingDecision::Mapped(mapped)
    }
}

impl<'c> Mapped<'c> {
    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &RuleReference {
        &self.entry.rule
    }

    /// The entry, with its templates.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The instance whose facts [`Mapped::render`] needs; its id is checked.
    #[must_use]
    pub fn required_lookup(&self) -> Option<Ec2InstanceId> {
        self.lookup
    }

    /// The IAM action that the caller must be allowed on the cluster; the answer goes into
    /// [`RenderInputs::action_allowed`](crate::RenderInputs::action_allowed).
    #[must_use]
    pub fn required_action(&self) -> Option<&str> {
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
        Denied::by_rule(self.chain, self.entry.clone(), reason, self.passed.clone()).into_owned()
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

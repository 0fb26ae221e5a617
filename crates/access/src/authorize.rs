//! Deciding a request by the policies of an entry (EKS API spec, sections 9.2 and 9.3).

use std::fmt;

use countersign_rbac::{Action, PolicyRule};

use crate::aggregated::{AggregatedRule, AggregatedRules};
use crate::catalogue::{AccessPolicy, Catalogue};
use crate::compiled::{Probe, RuleSet};
use crate::entry_type::EntryType;
use crate::policy_arn::RESOURCE;
use crate::scope::AccessScope;

/// A catalogue compiled for asking. Make one per catalogue and keep it.
#[derive(Debug, Clone)]
pub struct CompiledPolicies {
    catalogue: Catalogue,
    /// In the order of the catalogue.
    rules: Box<[RuleSet]>,
}

/// An access entry as the authorizer sees it.
///
/// `I` gives the policy ARN and scope of each association, in byte order of the ARNs, as often as it is cloned: for
/// example `associations.iter().map(|a| (&*a.policy_arn, &a.scope))`.
#[derive(Debug, Clone, Copy)]
pub struct EntryView<'a, I> {
    /// The principal ARN as the entry has it, with its path.
    pub principal_arn: &'a str,
    /// The unique id of the principal.
    pub principal_id: &'a str,
    /// The type.
    pub entry_type: EntryType,
    /// The associations.
    pub associations: I,
}

/// What the access policies of an entry say. There is no deny.
#[derive(Debug, Clone, Copy)]
pub enum AccessDecision<'a, I> {
    /// A rule of a policy grants it.
    Allow(Granted<'a>),
    /// No policy grants it; others may.
    NoOpinion(NoOpinion<'a, I>),
}

/// How an access policy granted a request. Displayed as EKS's reason.
#[derive(Debug, Clone, Copy)]
pub struct Granted<'a> {
    /// The principal ARN of the entry.
    pub principal_arn: &'a str,
    /// The unique id of the principal.
    pub principal_id: &'a str,
    /// The policy ARN of the association.
    pub policy_arn: &'a str,
    /// The scope of the association.
    pub scope: &'a AccessScope,
    /// The namespace of the request, if the scope is `namespace`.
    pub namespace: Option<&'a str>,
    /// The policy.
    pub policy: &'a AccessPolicy,
    /// The rule.
    pub rule: GrantingRule<'a>,
}

/// The rule that granted.
#[derive(Debug, Clone, Copy)]
pub enum GrantingRule<'a> {
    /// The policy's own, by its place.
    Own {
        /// Its place among the policy's rules.
        place: usize,
        /// The rule.
        rule: &'a PolicyRule,
    },
    /// One that a ClusterRole of the cluster adds.
    Aggregated(&'a AggregatedRule),
}

/// No access policy of the entry grants the request. Displayed as the reason; [`NoOpinion::nearest`] explains it.
#[derive(Debug, Clone, Copy)]
pub struct NoOpinion<'a, I> {
    pub(crate) policies: &'a CompiledPolicies,
    pub(crate) aggregated: Option<&'a AggregatedRules>,
    pub(crate) entry: EntryView<'a, I>,
    pub(crate) action: Action<'a>,
}

// === impl CompiledPolicies ===

impl CompiledPolicies {
    /// Compiles a catalogue.
    #[must_use]
    pub fn new(catalogue: Catalogue) -> Self {
        let derived = catalogue.derived();
        let rules = catalogue
            .policies()
            .map(|policy| {
                let rules = policy.rules_in_force(derived);
                RuleSet::new(rules.map(|(place, rule)| (place, &*rule.rule)))
            })
            .collect();
        Self { catalogue, rules }
    }

    /// AWS's policies, compiled.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BUILTIN: std::sync::OnceLock<CompiledPolicies> = std::sync::OnceLock::new();
        BUILTIN.get_or_init(|| Self::new(Catalogue::builtin().clone()))
    }

    /// What was compiled.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Decides a request by the associations of an entry. Allocates nothing.
    ///
    /// Associations are tried in the order given, and the first that grants is named. An association of a policy that
    /// is not in the catalogue (any more) grants nothing. Policies with `aggregate` grant their own rules only; use
    /// [`authorize_in`](Self::authorize_in) to add those of the cluster.
    pub fn authorize<'a, I>(
        &'a self,
        entry: &EntryView<'a, I>,
        action: &Action<'a>,
    ) -> AccessDecision<'a, I>
    where
        I: IntoIterator<Item = (&'a str, &'a AccessScope)> + Clone,
    {
        self.decide(None, entry, action)
    }

    /// As [`authorize`](Self::authorize), with what the ClusterRoles of the cluster add to policies with `aggregate`.
    pub fn authorize_in<'a, I>(
        &'a self,
        aggregated: &'a AggregatedRules,
        entry: &EntryView<'a, I>,
        action: &Action<'a>,
    ) -> AccessDecision<'a, I>
    where
        I: IntoIterator<Item = (&'a str, &'a AccessScope)> + Clone,
    {
        self.decide(Some(aggregated), entry, action)
    }

    #[inline]
    fn decide<'a, I>(
        &'a self,
        aggregated: Option<&'a AggregatedRules>,
        entry: &EntryView<'a, I>,
        action: &Action<'a>,
    ) -> AccessDecision<'a, I>
    where
        I: IntoIterator<Item = (&'a str, &'a AccessScope)> + Clone,
    {
        let probe = Probe::new(action);
        if entry.entry_type.takes_policies() {
            for (policy_arn, scope) in entry.associations.clone() {
                let Some(namespace) = reached(scope, action) else {
                    continue;
                };
                let Some((policy, rules)) = self.policy(policy_arn) else {
                    continue;
                };
                let Some(rule) = self.first(policy, rules, aggregated, &probe) else {
                    continue;
                };
                return AccessDecision::Allow(Granted {
                    principal_arn: entry.principal_arn,
                    principal_id: entry.principal_id,
                    policy_arn,
                    scope,
                    namespace,
                    policy,
                    rule,
                });
            }
        }
        AccessDecision::NoOpinion(NoOpinion {
            policies: self,
            aggregated,
            entry: entry.clone(),
            action: *action,
        })
    }

    /// The first rule of a policy that grants, whatever the scope.
    pub(crate) fn granting<'a>(
        &'a self,
        policy: &'a AccessPolicy,
        aggregated: Option<&'a AggregatedRules>,
        probe: &Probe<'_>,
    ) -> Option<GrantingRule<'a>> {
        let place = self.catalogue.place(&policy.name)?;
        self.first(policy, self.rules.get(place)?, aggregated, probe)
    }

    #[inline]
    fn first<'a>(
        &self,
        policy: &'a AccessPolicy,
        rules: &RuleSet,
        aggregated: Option<&'a AggregatedRules>,
        probe: &Probe<'_>,
    ) -> Option<GrantingRule<'a>> {
        if let Some(place) = rules.first(probe) {
            let mut all = policy.all_rules(self.catalogue.derived());
            let rule = &*all.nth(place)?.rule;
            return Some(GrantingRule::Own { place, rule });
        }
        let aggregated = aggregated?;
        let mut labels = policy.aggregate.iter();
        labels
            .find_map(|label| aggregated.first(*label, probe))
            .map(GrantingRule::Aggregated)
    }

    /// The policy of an ARN that was accepted by [`Catalogue::check`] once. The partition is not looked at.
    pub(crate) fn policy(&self, arn: &str) -> Option<(&AccessPolicy, &RuleSet)> {
        let (_, rest) = arn.strip_prefix("arn:")?.split_once(':')?;
        let (owner, resource) = rest.strip_prefix("eks::")?.split_once(':')?;
        let place = self.catalogue.place(resource.strip_prefix(RESOURCE)?)?;
        let policy = self.catalogue.at(place)?;
        policy
            .owner
            .is_text(owner)
            .then_some((policy, self.rules.get(place)?))
    }
}

/// Whether a request is inside a scope: `None` if not, else the namespace that a namespaced scope was entered by.
fn reached<'a>(scope: &AccessScope, action: &Action<'a>) -> Option<Option<&'a str>> {
    match (scope, action) {
        (AccessScope::Cluster, _) => Some(None),
        (AccessScope::Namespace(_), Action::Resource(action)) => scope
            .reaches(action.namespace)
            .then_some(Some(action.namespace)),
        (AccessScope::Namespace(_), Action::NonResource { .. }) => None,
    }
}

// === impl AccessDecision ===

impl<'a, I> AccessDecision<'a, I> {
    /// Whether the request is allowed.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// How it was granted, if it was.
    #[must_use]
    pub const fn granted(&self) -> Option<&Granted<'a>> {
        match self {
            Self::Allow(granted) => Some(granted),
            Self::NoOpinion(_) => None,
        }
    }
}

/// The reason, as it goes into the answer of a review.
impl<'a, I> fmt::Display for AccessDecision<'a, I>
where
    I: IntoIterator<Item = (&'a str, &'a AccessScope)> + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow(granted) => granted.fmt(f),
            Self::NoOpinion(no) => no.fmt(f),
        }
    }
}

impl Granted<'_> {
    /// Where the rule stands, for people: `AmazonEKSViewPolicy rule 3`, `policies.yaml:12` or the ClusterRole.
    #[must_use]
    pub fn rule_origin(&self, catalogue: &Catalogue) -> String {
        match self.rule {
            GrantingRule::Own { place, .. } => self.policy.rule_origin(place, catalogue.derived()),
            GrantingRule::Aggregated(rule) => {
                format!("{} by ClusterRole {}", self.policy.name, rule.cluster_role)
            }
        }
    }
}

impl<'a> GrantingRule<'a> {
    /// The rule itself.
    #[must_use]
    pub fn rule(&self) -> &'a PolicyRule {
        match self {
            Self::Own { rule, .. } => rule,
            Self::Aggregated(aggregated) => &aggregated.rule,
        }
    }
}

/// `EKS Access Policy: allowed by ClusterRoleBinding "PRINCIPAL+POLICY" of ClusterRole "POLICY" to User "ID"`
///
/// EKS's form for namespaces was not observed; ours is that of a RoleBinding with the namespace behind the slash.
impl fmt::Display for Granted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            principal_arn,
            principal_id,
            policy_arn,
            ..
        } = self;
        f.write_str("EKS Access Policy: allowed by ")?;
        match self.namespace {
            None => write!(f, "ClusterRoleBinding \"{principal_arn}+{policy_arn}\"")?,
            // A review may come from anyone and name any namespace.
            Some(namespace) => write!(
                f,
                "RoleBinding \"{principal_arn}+{policy_arn}/{}\"",
                namespace.escape_debug()
            )?,
        }
        write!(
            f,
            " of ClusterRole \"{policy_arn}\" to User \"{principal_id}\""
        )
    }
}

/// `EKS Access Policy: no opinion for "ID" (policies: AmazonEKSViewPolicy@dev)`
impl<'a, I> fmt::Display for NoOpinion<'a, I>
where
    I: IntoIterator<Item = (&'a str, &'a AccessScope)> + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More would only make the API server's message longer.
        const SHOWN: usize = 8;
        let EntryView {
            principal_id,
            entry_type,
            ..
        } = &self.entry;
        write!(f, "EKS Access Policy: no opinion for \"{principal_id}\" (")?;
        if !entry_type.takes_policies() {
            return write!(f, "entries of type {entry_type} have no policies)");
        }
        f.write_str("policies: ")?;
        let mut associations = self.entry.associations.clone().into_iter();
        let mut none = true;
        for (at, (policy_arn, scope)) in associations.by_ref().take(SHOWN).enumerate() {
            none = false;
            let comma = if at == 0 { "" } else { ", " };
            let (_, name) = policy_arn.rsplit_once('/').unwrap_or(("", policy_arn));
            write!(f, "{comma}{name}@{scope}")?;
        }
        let more = associations.count();
        match (none, more) {
            (true, _) => f.write_str("none)"),
            (false, 0) => f.write_str(")"),
            (false, more) => write!(f, ", {more} more)"),
        }
    }
}

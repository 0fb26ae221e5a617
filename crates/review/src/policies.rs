//! Access policies of entries, asked one by one so that each can say why not (EKS API spec, section 9.3).

use countersign_access::{
    AccessDecision, AccessPolicy, AccessScope, AggregatedRules, CompiledPolicies, EntryView, Owner,
    RulesStatus,
};
use countersign_arn::{AccountId, Partition};
use countersign_rbac::{Action, Index, PolicyRule};

use crate::report::{Grant, PolicyVerdict, RuleReport};
use crate::snapshot::{EntryFacts, PolicyFacts, ScopeKind, policy_name};

/// What EKS would write where the unique id stands and is not known.
const UNKNOWN_ID: &str = "UNKNOWN";

/// The policies that entries may have.
#[derive(Debug, Clone)]
pub struct Policies {
    compiled: CompiledPolicies,
    aggregated: AggregatedRules,
    partition: Partition,
    account: Option<AccountId>,
}

/// A policy that would allow an action.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) arn: String,
    pub(crate) name: String,
    /// The smallest scope in which it does.
    pub(crate) scope: ScopeKind,
}

impl Default for Policies {
    fn default() -> Self {
        Self::new(CompiledPolicies::builtin().clone())
    }
}

impl Policies {
    /// The policies of a catalogue, offered with ARNs of partition `aws`.
    #[must_use]
    pub fn new(compiled: CompiledPolicies) -> Self {
        Self {
            compiled,
            aggregated: AggregatedRules::default(),
            partition: Partition::default(),
            account: None,
        }
    }

    /// For a cluster of this partition and account, with what its ClusterRoles add to policies that aggregate.
    #[must_use]
    pub fn of_cluster(
        mut self,
        partition: Partition,
        account: Option<AccountId>,
        index: &Index,
    ) -> Self {
        self.partition = partition;
        self.account = account;
        self.aggregated = AggregatedRules::of(index);
        self
    }

    /// What one association of an entry says to an action, by the decision of the authorizer on it alone.
    pub(crate) fn verdict(
        &self,
        entry: &EntryFacts,
        principal_id: Option<&str>,
        policy: &PolicyFacts,
        action: &Action<'_>,
    ) -> (PolicyVerdict, Option<Grant>) {
        let scope = policy.access_scope.to_scope();
        let id = entry.binding.principal_id().or(principal_id);
        let view = EntryView {
            principal_arn: &entry.principal_arn,
            principal_id: id.unwrap_or(UNKNOWN_ID),
            entry_type: entry.entry_type,
            associations: std::iter::once((policy.policy_arn.as_str(), &scope)),
        };
        let decision = self.compiled.authorize_in(&self.aggregated, &view, action);
        let verdict = |allows, why_not| PolicyVerdict {
            policy_arn: policy.policy_arn.clone(),
            access_scope: policy.access_scope.clone(),
            allows,
            why_not,
        };
        match &decision {
            AccessDecision::Allow(granted) => {
                let rule = RuleReport {
                    index: self.place(policy, granted.rule.rule()),
                    ..RuleReport::from(granted.rule.rule())
                };
                let grant = Grant::AccessPolicy {
                    policy_arn: policy.policy_arn.clone(),
                    access_scope: policy.access_scope.clone(),
                    rule: Some(rule),
                    reason: granted.to_string(),
                };
                (verdict(true, None), Some(grant))
            }
            AccessDecision::NoOpinion(_) => (
                verdict(false, Some(self.why_not(policy, &scope, action))),
                None,
            ),
        }
    }

    /// The policies of the catalogue that would allow an action, the one that allows least first.
    pub(crate) fn that_allow(&self, action: &Action<'_>) -> Vec<Candidate> {
        let mut found: Vec<((bool, usize), Candidate)> = Vec::new();
        let namespace = match action {
            Action::Resource(action) => action.namespace,
            Action::NonResource { .. } => "",
        };
        for policy in self.compiled.catalogue().policies() {
            if policy.service_linked_roles_only {
                continue;
            }
            let rules = || policy.rules_in_force(self.compiled.catalogue().derived());
            if !rules().any(|(_, rule)| rule.rule.allows(action)) {
                continue;
            }
            let Some(arn) = self.arn(policy) else {
                continue;
            };
            // Policies that AWS made for one of its services come last: nobody means them.
            let of_service = policy.owner == Owner::Aws && !policy.name.starts_with("AmazonEKS");
            let breadth = rules().map(|(_, rule)| breadth(&rule.rule)).sum();
            let candidate = Candidate {
                arn,
                name: policy.name.to_string(),
                scope: match namespace {
                    "" => ScopeKind::Cluster,
                    _ => ScopeKind::Namespace,
                },
            };
            found.push(((of_service, breadth), candidate));
        }
        found.sort_by(|(a, one), (b, other)| (a, &one.name).cmp(&(b, &other.name)));
        found.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// Whether an association is in force in a namespace.
    pub(crate) fn covers(&self, policy: &PolicyFacts, namespace: &str) -> bool {
        policy.access_scope.to_scope().reaches(namespace)
    }

    /// The rules of a policy that grant something, by place.
    pub(crate) fn rules(&self, arn: &str) -> Vec<(usize, &PolicyRule)> {
        let Some(policy) = self.compiled.catalogue().named(policy_name(arn)) else {
            return Vec::new();
        };
        let own = policy.rules_in_force(self.compiled.catalogue().derived());
        let mut rules: Vec<_> = own.map(|(place, rule)| (place, &*rule.rule)).collect();
        for label in &policy.aggregate {
            let first = rules.len();
            let added = self.aggregated.rules(*label).iter().enumerate();
            rules.extend(added.map(|(place, added)| (first + place, &*added.rule)));
        }
        rules
    }

    /// Whether an association can grant nothing anywhere, and why.
    #[must_use]
    pub fn grants_nothing(&self, policy_arn: &str) -> Option<&'static str> {
        let catalogue = self.compiled.catalogue();
        match catalogue.named(policy_name(policy_arn)) {
            None => Some("the policy is not in the catalogue"),
            Some(policy) if policy.grants_nothing(catalogue.derived()) => {
                Some(match policy.status {
                    RulesStatus::Unpublished => "AWS does not publish its rules",
                    RulesStatus::Prose => {
                        "AWS describes its rules in prose only, and derived rules are off"
                    }
                    RulesStatus::Table | RulesStatus::Custom => "it has no rules",
                })
            }
            Some(_) => None,
        }
    }

    fn place(&self, policy: &PolicyFacts, rule: &PolicyRule) -> usize {
        let rules = self.rules(&policy.policy_arn);
        let found = rules.iter().find(|(_, own)| std::ptr::eq(*own, rule));
        found.map_or(0, |(place, _)| *place)
    }

    fn arn(&self, policy: &AccessPolicy) -> Option<String> {
        match self.account {
            Some(account) => policy
                .arn(self.partition, account)
                .map(|arn| arn.to_string()),
            // Without an account only AWS's policies have an ARN.
            None => (policy.owner == Owner::Aws).then(|| {
                format!(
                    "arn:{}:eks::aws:cluster-access-policy/{}",
                    self.partition, policy.name
                )
            }),
        }
    }

    fn why_not(&self, policy: &PolicyFacts, scope: &AccessScope, action: &Action<'_>) -> String {
        if let Some(reason) = self.grants_nothing(&policy.policy_arn) {
            return reason.to_owned();
        }
        let granted = |action: &Action<'_>| {
            let rules = self.rules(&policy.policy_arn);
            rules.iter().any(|(_, rule)| rule.allows(action))
        };
        let reaches = match action {
            Action::Resource(action) => scope.reaches(action.namespace),
            Action::NonResource { .. } => matches!(scope, AccessScope::Cluster),
        };
        match (granted(action), reaches, action) {
            (false, ..) => "no rule grants it".to_owned(),
            (true, true, _) => "entries of this type have no policies".to_owned(),
            (true, false, Action::Resource(action)) if !action.namespace.is_empty() => format!(
                "a rule grants it, but its scope does not have namespace {}",
                action.namespace
            ),
            (true, false, _) => {
                "a rule grants it, but its scope is namespaces, and the request has none".to_owned()
            }
        }
    }
}

/// How much a rule allows, for comparing policies: wildcards count far more than words.
fn breadth(rule: &PolicyRule) -> usize {
    let words = |list: &[String]| -> usize {
        list.iter()
            .map(|word| if word == "*" { 1000 } else { 1 })
            .sum()
    };
    let things =
        words(&rule.resources) * words(&rule.api_groups).max(1) + words(&rule.non_resource_urls);
    words(&rule.verbs) * things
}

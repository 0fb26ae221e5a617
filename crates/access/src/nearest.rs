//! Why not: what an association lacked to grant a request, and what would change it (EKS API spec, section 18.2).

use std::fmt;

use countersign_rbac::{Action, Part, PolicyRule};

use crate::authorize::{GrantingRule, NoOpinion};
use crate::catalogue::{AccessPolicy, DerivedRules, RuleNames, RulesStatus};
use crate::compiled::Probe;
use crate::entry_type::EntryType;
use crate::scope::AccessScope;

/// An association that did not grant a request. Displayed as one line that says what would change it.
#[derive(Debug, Clone, Copy)]
pub struct NearMiss<'a> {
    /// The policy ARN of the association.
    pub policy_arn: &'a str,
    /// Its scope.
    pub scope: &'a AccessScope,
    /// What keeps it from granting.
    pub obstacle: Obstacle<'a>,
}

/// What keeps an association from granting a request.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Obstacle<'a> {
    /// Entries of this type have no policies in force.
    EntryType(EntryType),
    /// A rule grants it, but not in this namespace.
    Namespace {
        /// The namespace of the request.
        namespace: &'a str,
        /// The rule.
        rule: GrantingRule<'a>,
    },
    /// A rule grants it, but the request has no namespace: it is for all of them, or for what is in none.
    NoNamespace(GrantingRule<'a>),
    /// A rule grants the path, which only scope `cluster` can.
    Path(GrantingRule<'a>),
    /// A rule grants it for objects whose names AWS does not publish.
    NamesUnpublished(&'a PolicyRule),
    /// A rule that we read out of AWS's prose grants it; such rules are switched off.
    DerivedOff(&'a PolicyRule),
    /// All parts of a rule hold but this one.
    Rule {
        /// The rule.
        rule: &'a PolicyRule,
        /// The part that does not hold.
        missing: Part,
    },
    /// The policy takes rules from ClusterRoles of the cluster, which were not known.
    ClusterRolesUnknown,
    /// AWS does not publish what the policy grants.
    Unpublished,
    /// The catalogue has no such policy (any more).
    UnknownPolicy,
}

impl<'a, I> NoOpinion<'a, I>
where
    I: IntoIterator<Item = (&'a str, &'a AccessScope)> + Clone,
{
    /// What each association lacked, the nearest first, at most `limit`. Associations of policies that have nothing to
    /// do with the request are left out.
    #[must_use]
    pub fn nearest(&self, limit: usize) -> Vec<NearMiss<'a>> {
        let associations = self.entry.associations.clone().into_iter();
        let mut misses: Vec<NearMiss<'a>> = associations
            .filter_map(|(policy_arn, scope)| {
                let obstacle = self.obstacle(policy_arn, scope)?;
                Some(NearMiss {
                    policy_arn,
                    scope,
                    obstacle,
                })
            })
            .collect();
        misses.sort_by_key(|miss| (miss.obstacle.distance(), miss.policy_arn));
        misses.truncate(limit);
        misses
    }

    /// The policies that would grant the request if they were associated with [`scope_needed`](Self::scope_needed),
    /// narrowest first. Those that customers may not associate are left out.
    #[must_use]
    pub fn remedies(&self) -> Vec<&'a AccessPolicy> {
        let policies = self.policies;
        let probe = Probe::new(&self.action);
        let mut found: Vec<&AccessPolicy> = policies
            .catalogue()
            .policies()
            .filter(|policy| !policy.service_linked_roles_only)
            .filter(|policy| policies.granting(policy, self.aggregated, &probe).is_some())
            .collect();
        let derived = policies.catalogue().derived();
        found.sort_by_cached_key(|policy| (breadth(policy, derived), policy.name.clone()));
        found
    }

    /// The narrowest scope in which a policy could grant the request: the namespace of the request, or the cluster.
    #[must_use]
    pub fn scope_needed(&self) -> AccessScope {
        match self.action {
            Action::Resource(action) if !action.namespace.is_empty() => {
                AccessScope::Namespace(vec![action.namespace.into()])
            }
            Action::Resource(_) | Action::NonResource { .. } => AccessScope::Cluster,
        }
    }

    fn obstacle(&self, policy_arn: &str, scope: &AccessScope) -> Option<Obstacle<'a>> {
        if !self.entry.entry_type.takes_policies() {
            return Some(Obstacle::EntryType(self.entry.entry_type));
        }
        let Some((policy, _)) = self.policies.policy(policy_arn) else {
            return Some(Obstacle::UnknownPolicy);
        };
        let probe = Probe::new(&self.action);
        if let Some(rule) = self.policies.granting(policy, self.aggregated, &probe) {
            return match self.action {
                Action::NonResource { .. } => Some(Obstacle::Path(rule)),
                Action::Resource(action) if action.namespace.is_empty() => {
                    Some(Obstacle::NoNamespace(rule))
                }
                Action::Resource(action) if !scope.reaches(action.namespace) => {
                    let namespace = action.namespace;
                    Some(Obstacle::Namespace { namespace, rule })
                }
                // In scope and granted would have been an allow.
                Action::Resource(_) => None,
            };
        }
        if policy.status == RulesStatus::Unpublished {
            return Some(Obstacle::Unpublished);
        }
        self.of_rules(policy)
    }

    fn of_rules(&self, policy: &'a AccessPolicy) -> Option<Obstacle<'a>> {
        let derived = self.policies.catalogue().derived();
        let mut nearest: Option<Obstacle<'a>> = None;
        let mut offer = |obstacle: Obstacle<'a>| {
            if nearest.is_none_or(|other| obstacle.distance() < other.distance()) {
                nearest = Some(obstacle);
            }
        };
        for rule in policy.all_rules(DerivedRules::On) {
            if rule.rule.allows(&self.action) {
                offer(match rule.names {
                    RuleNames::Unpublished => Obstacle::NamesUnpublished(&rule.rule),
                    RuleNames::Published | RuleNames::Derived => Obstacle::DerivedOff(&rule.rule),
                });
            }
        }
        let own = policy.rules_in_force(derived).map(|(_, rule)| &*rule.rule);
        let of_cluster = policy.aggregate.iter().flat_map(|label| {
            let rules = self.aggregated.map_or(&[][..], |all| all.rules(*label));
            rules.iter().map(|rule| &*rule.rule)
        });
        for rule in own.chain(of_cluster) {
            if let Some(missing) = rule.only_missing(&self.action) {
                offer(Obstacle::Rule { rule, missing });
            }
        }
        if !policy.aggregate.is_empty() && self.aggregated.is_none() {
            offer(Obstacle::ClusterRolesUnknown);
        }
        nearest
    }
}

impl Obstacle<'_> {
    /// How much is missing, for sorting.
    const fn distance(&self) -> u8 {
        match self {
            Self::EntryType(_) => 0,
            Self::Namespace { .. } => 1,
            Self::NoNamespace(_) | Self::Path(_) => 2,
            Self::NamesUnpublished(_) => 3,
            Self::DerivedOff(_) => 4,
            Self::Rule { missing, .. } => match missing {
                Part::Name => 5,
                Part::Verb => 6,
                Part::Resource | Part::Url => 7,
                Part::Group => 8,
            },
            Self::ClusterRolesUnknown => 9,
            Self::UnknownPolicy => 10,
            Self::Unpublished => 11,
        }
    }
}

/// How much a policy grants, for comparing: combinations of verb, group and resource, where a `*` counts for many.
fn breadth(policy: &AccessPolicy, derived: DerivedRules) -> usize {
    const MANY: usize = 100;
    let count = |list: &[String]| match list {
        list if list.iter().any(|entry| entry == "*") => MANY,
        list => list.len(),
    };
    let of_rule = |rule: &PolicyRule| {
        let targets = count(&rule.api_groups) * count(&rule.resources);
        count(&rule.verbs) * (targets + count(&rule.non_resource_urls))
    };
    let own: usize = policy
        .rules_in_force(derived)
        .map(|(_, rule)| of_rule(&rule.rule))
        .sum();
    own + policy.aggregate.len() * MANY * MANY
}

/// `AmazonEKSEditPolicy@dev allows it in its own namespaces: add prod to its scope`
impl fmt::Display for NearMiss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = self
            .policy_arn
            .rsplit_once('/')
            .unwrap_or(("", self.policy_arn));
        write!(f, "{name}@{} ", self.scope)?;
        match &self.obstacle {
            Obstacle::EntryType(entry_type) => write!(
                f,
                "is not in force: entries of type {entry_type} have no policies"
            ),
            Obstacle::Namespace { namespace, .. } => write!(
                f,
                "allows it in its own namespaces: add {} to its scope",
                namespace.escape_debug()
            ),
            Obstacle::NoNamespace(_) => f.write_str(
                "allows it inside its namespaces, and the request has none: ask for one namespace, or give the policy scope cluster",
            ),
            Obstacle::Path(_) => f.write_str(
                "allows the path with scope cluster only: give the policy scope cluster",
            ),
            Obstacle::NamesUnpublished(_) => f.write_str(
                "allows it for objects whose names AWS does not publish: write a custom policy that names them",
            ),
            Obstacle::DerivedOff(_) => f.write_str(
                "allows it in AWS's prose only: switch derived rules on, or write a custom policy",
            ),
            Obstacle::Rule { rule, missing } => {
                let (part, listed) = match missing {
                    Part::Name => ("object name", &rule.resource_names),
                    Part::Verb => ("verb", &rule.verbs),
                    Part::Resource => ("resource", &rule.resources),
                    Part::Group => ("API group", &rule.api_groups),
                    Part::Url => ("path", &rule.non_resource_urls),
                };
                write!(f, "has a rule that fits except for the {part}: ")?;
                list(f, listed)
            }
            Obstacle::ClusterRolesUnknown => f.write_str(
                "takes rules from ClusterRoles of the cluster, which are not known here",
            ),
            Obstacle::Unpublished => {
                f.write_str("grants nothing: AWS does not publish its permissions")
            }
            Obstacle::UnknownPolicy => {
                f.write_str("grants nothing: there is no such policy in the catalogue")
            }
        }
    }
}

/// The first few, and how many more there are.
fn list(f: &mut fmt::Formatter<'_>, entries: &[String]) -> fmt::Result {
    const SHOWN: usize = 8;
    for (at, entry) in entries.iter().take(SHOWN).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        match entry.as_str() {
            "" => write!(f, "{comma}\"\"")?,
            entry => write!(f, "{comma}{entry}")?,
        }
    }
    match entries.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

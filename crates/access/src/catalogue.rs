//! The access policies there are: AWS's, and custom ones (EKS API spec, sections 8.4 and 18.1).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use countersign_arn::{AccountId, Partition};
use countersign_rbac::PolicyRule;
use serde::{Deserialize, Serialize};

use crate::file::FileError;
use crate::policy_arn::{PolicyArn, PolicyArnFault, PolicyOwner};

/// Every access policy that can be associated.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// AWS's in byte order of their names, then the custom ones in byte order of theirs.
    policies: Arc<[AccessPolicy]>,
    places: Arc<HashMap<Box<str>, usize, foldhash::fast::RandomState>>,
    derived: DerivedRules,
}

/// Whether our reading of policies that AWS describes in prose only is granted.
///
/// Off unless asked for: the reading was never compared with EKS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DerivedRules {
    /// Such policies grant nothing.
    #[default]
    Off,
    /// Such policies grant what we read out of the prose.
    On,
}

/// One access policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPolicy {
    /// The name, unique in a catalogue.
    pub name: Box<str>,
    /// AWS, or whoever wrote the file.
    pub owner: Owner,
    /// What it is for; empty for AWS's.
    pub description: Box<str>,
    /// A number that its author counts up; 1 for AWS's.
    pub version: u32,
    /// How much is known of the rules.
    pub status: RulesStatus,
    /// Whether customers may not associate it.
    pub service_linked_roles_only: bool,
    /// The scope it is meant for, where known. Both are accepted.
    pub typical_scope: Option<TypicalScope>,
    /// The day AWS introduced it, where known.
    pub introduced: Option<Box<str>>,
    /// Remarks for people.
    pub notes: Box<[Box<str>]>,
    /// What it grants.
    pub rules: Box<[CatalogueRule]>,
    /// Our reading of AWS's prose, see [`DerivedRules`].
    pub derived_rules: Box<[CatalogueRule]>,
    /// Which ClusterRoles of the cluster add their rules; only custom policies have any.
    pub aggregate: Box<[AggregateLabel]>,
    /// File and line of a custom policy.
    pub origin: Option<Box<str>>,
}

/// Whose access policy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// AWS.
    Aws,
    /// Custom, of one account.
    Account(AccountId),
    /// Custom, under every account's own ARN.
    AnyAccount,
}

/// How much is known of a policy's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RulesStatus {
    /// AWS publishes them.
    Table,
    /// AWS describes them in words; they are in `derived_rules`.
    Prose,
    /// AWS publishes the name alone. The policy can be associated and grants nothing.
    Unpublished,
    /// A custom policy.
    Custom,
}

/// The scope a policy is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TypicalScope {
    /// The whole cluster.
    Cluster,
    /// Namespaces.
    Namespace,
    /// Either.
    Any,
}

/// One rule of an access policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueRule {
    /// The rule.
    pub rule: Arc<PolicyRule>,
    /// Whether the object names are known.
    pub names: RuleNames,
    /// What AWS says about the objects, if it says more than the rule.
    pub restriction: Option<Box<str>>,
    /// The line of a custom policy's file.
    pub line: Option<u32>,
}

/// Whether the object names of a rule are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleNames {
    /// They are what the rule says.
    #[default]
    Published,
    /// Filled in by us from what AWS says.
    Derived,
    /// AWS restricts the rule to named objects and does not name them. The rule grants nothing.
    Unpublished,
}

/// The labels by which Kubernetes' own roles collect rules, and `aggregate` of custom policies as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AggregateLabel {
    /// `rbac.authorization.k8s.io/aggregate-to-view`
    View,
    /// `rbac.authorization.k8s.io/aggregate-to-edit`
    Edit,
    /// `rbac.authorization.k8s.io/aggregate-to-admin`
    Admin,
}

// === impl Catalogue ===

impl Catalogue {
    /// AWS's policies and nothing else, without derived rules.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Catalogue> = OnceLock::new();
        BUILTIN.get_or_init(|| Self::of(aws_policies().to_vec(), DerivedRules::Off))
    }

    /// AWS's policies and custom ones, of any number of files.
    ///
    /// # Errors
    /// When two custom policies have one name. Each file was checked when it was read.
    pub fn new(
        custom: impl IntoIterator<Item = AccessPolicy>,
        derived: DerivedRules,
    ) -> Result<Self, FileError> {
        let mut custom: Vec<AccessPolicy> = custom.into_iter().collect();
        custom.sort_by(|a, b| a.name.cmp(&b.name));
        let mut policies = aws_policies().to_vec();
        for policy in custom {
            if let Some(other) = policies.iter().find(|other| other.name == policy.name) {
                let origin = other.origin.as_deref().unwrap_or("AWS's policies");
                return Err(FileError::at_origin(
                    policy.origin.as_deref(),
                    "policies[].name",
                    format!("`{}` is the name of a policy of {origin}", policy.name),
                ));
            }
            policies.push(policy);
        }
        Ok(Self::of(policies, derived))
    }

    fn of(policies: Vec<AccessPolicy>, derived: DerivedRules) -> Self {
        let places = policies
            .iter()
            .enumerate()
            .map(|(at, policy)| (policy.name.clone(), at))
            .collect();
        Self {
            policies: policies.into(),
            places: Arc::new(places),
            derived,
        }
    }

    /// Every policy: AWS's in byte order of their names, then the custom ones.
    pub fn policies(&self) -> impl Iterator<Item = &AccessPolicy> {
        self.policies.iter()
    }

    /// Name and ARN of every policy that `account` may associate, in the order of `ListAccessPolicies`: AWS's, then the
    /// custom ones.
    pub fn list(
        &self,
        partition: Partition,
        account: AccountId,
    ) -> impl Iterator<Item = (&str, String)> {
        self.policies.iter().filter_map(move |policy| {
            let arn = policy.arn(partition, account)?;
            Some((&*policy.name, arn.to_string()))
        })
    }

    /// The policy of an ARN.
    #[must_use]
    pub fn find(&self, arn: &PolicyArn) -> Option<&AccessPolicy> {
        self.named(&arn.name)
            .filter(|policy| policy.owner.is(arn.owner))
    }

    /// The policy of a name, which no two policies share.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&AccessPolicy> {
        self.policies.get(*self.places.get(name)?)
    }

    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    pub(crate) fn at(&self, place: usize) -> Option<&AccessPolicy> {
        self.policies.get(place)
    }

    /// The policy that `AssociateAccessPolicy` names, after EKS's checks in their order: form, existence, and whether
    /// customers may associate it.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(
        &self,
        arn: &str,
        partition: Partition,
    ) -> Result<(PolicyArn, &AccessPolicy), PolicyArnFault> {
        let arn = PolicyArn::parse(arn, partition)?;
        let policy = self.find(&arn).ok_or(PolicyArnFault::Unknown)?;
        if policy.service_linked_roles_only {
            return Err(PolicyArnFault::ServiceLinkedRolesOnly);
        }
        Ok((arn, policy))
    }

    /// Whether derived rules are granted.
    #[must_use]
    pub const fn derived(&self) -> DerivedRules {
        self.derived
    }
}

// === impl AccessPolicy ===

impl AccessPolicy {
    /// The ARN of the policy for an account; `None` for a custom policy of another account.
    #[must_use]
    pub fn arn(&self, partition: Partition, account: AccountId) -> Option<PolicyArn> {
        let owner = match self.owner {
            Owner::Aws => PolicyOwner::Aws,
            Owner::AnyAccount => PolicyOwner::Account(account),
            Owner::Account(owner) if owner == account => PolicyOwner::Account(owner),
            Owner::Account(_) => return None,
        };
        Some(PolicyArn {
            partition,
            owner,
            name: self.name.clone(),
        })
    }

    /// The rules that grant something, with their place among all rules of the policy: those of AWS's table or of the
    /// file, and with the switch on those read out of prose. Rules for objects whose names are not published are not
    /// among them.
    pub fn rules_in_force(
        &self,
        derived: DerivedRules,
    ) -> impl Iterator<Item = (usize, &CatalogueRule)> {
        self.all_rules(derived)
            .enumerate()
            .filter(|(_, rule)| rule.names != RuleNames::Unpublished)
    }

    pub(crate) fn all_rules(&self, derived: DerivedRules) -> impl Iterator<Item = &CatalogueRule> {
        let derived = match derived {
            DerivedRules::Off => &[][..],
            DerivedRules::On => &self.derived_rules,
        };
        self.rules.iter().chain(derived)
    }

    /// Whether the policy can grant nothing at all, which an association of it should warn about.
    #[must_use]
    pub fn grants_nothing(&self, derived: DerivedRules) -> bool {
        self.aggregate.is_empty() && self.rules_in_force(derived).next().is_none()
    }

    /// Where a rule stands, for people: `AmazonEKSViewPolicy rule 3`, or file and line.
    #[must_use]
    pub fn rule_origin(&self, rule: usize, derived: DerivedRules) -> String {
        let line = self.all_rules(derived).nth(rule).and_then(|rule| rule.line);
        let file = self
            .origin
            .as_deref()
            .and_then(|origin| origin.rsplit_once(':'));
        match (file, line) {
            (Some((file, _)), Some(line)) => format!("{file}:{line}"),
            _ => format!("{} rule {}", self.name, rule + 1),
        }
    }
}

impl Owner {
    /// Whether the owner inside an ARN means this one.
    #[must_use]
    pub fn is(self, owner: PolicyOwner) -> bool {
        match (self, owner) {
            (Self::Aws, PolicyOwner::Aws) | (Self::AnyAccount, PolicyOwner::Account(_)) => true,
            (Self::Account(own), PolicyOwner::Account(named)) => own == named,
            (Self::Aws, PolicyOwner::Account(_))
            | (Self::Account(_) | Self::AnyAccount, PolicyOwner::Aws) => false,
        }
    }

    /// As [`is`](Self::is), for the text inside an ARN.
    pub(crate) fn is_text(self, owner: &str) -> bool {
        match self {
            Self::Aws => owner == "aws",
            Self::AnyAccount => owner.parse::<AccountId>().is_ok(),
            Self::Account(own) => owner == own.as_str(),
        }
    }
}

impl AggregateLabel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::View, Self::Edit, Self::Admin];

    /// The label, whose value must be `true`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::View => "rbac.authorization.k8s.io/aggregate-to-view",
            Self::Edit => "rbac.authorization.k8s.io/aggregate-to-edit",
            Self::Admin => "rbac.authorization.k8s.io/aggregate-to-admin",
        }
    }

    /// The word in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Edit => "edit",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for RulesStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Table => "table",
            Self::Prose => "prose",
            Self::Unpublished => "unpublished",
            Self::Custom => "custom",
        })
    }
}

// === AWS's policies ===

fn aws_policies() -> &'static [AccessPolicy] {
    static POLICIES: OnceLock<Vec<AccessPolicy>> = OnceLock::new();
    POLICIES.get_or_init(|| {
        // The file is part of the program and read by a test, so that it cannot fail here.
        let file: File =
            serde_json::from_str(include_str!("../data/access-policies.json")).unwrap_or_default();
        file.policies.into_iter().map(Into::into).collect()
    })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    policies: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: Box<str>,
    status: RulesStatus,
    #[serde(default)]
    service_linked_roles_only: bool,
    typical_scope: Option<TypicalScope>,
    introduced: Option<Box<str>>,
    #[serde(default)]
    notes: Box<[Box<str>]>,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    derived_rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(flatten)]
    rule: PolicyRule,
    #[serde(default, rename = "resourceNamesStatus")]
    names: RuleNames,
    restriction: Option<Box<str>>,
}

impl From<Entry> for AccessPolicy {
    fn from(entry: Entry) -> Self {
        let rules = |rules: Vec<Rule>| rules.into_iter().map(Into::into).collect();
        Self {
            name: entry.name,
            owner: Owner::Aws,
            description: Box::default(),
            version: 1,
            status: entry.status,
            service_linked_roles_only: entry.service_linked_roles_only,
            typical_scope: entry.typical_scope,
            introduced: entry.introduced,
            notes: entry.notes,
            rules: rules(entry.rules),
            derived_rules: rules(entry.derived_rules),
            aggregate: Box::default(),
            origin: None,
        }
    }
}

impl From<Rule> for CatalogueRule {
    fn from(rule: Rule) -> Self {
        Self {
            rule: Arc::new(rule.rule),
            names: rule.names,
            restriction: rule.restriction,
            line: None,
        }
    }
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;

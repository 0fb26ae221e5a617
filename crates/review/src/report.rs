//! The answer, as data: every step from the principal to the rule, and what would change it.
//!
//! Programs get it as JSON, people as the text of [`Display`](std::fmt::Display).

use serde::Serialize;

use crate::action::Asked;
use crate::snapshot::{API_VERSION, EntryBinding, Mode, ScopeFacts};

/// The whole decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// `countersign.dev/v1`
    pub api_version: &'static str,
    /// `AccessReview`
    pub kind: &'static str,
    /// The answer.
    pub allowed: bool,
    /// Whether a "no" may be wrong, because something could not be read or cannot be known here.
    pub incomplete: bool,
    /// What.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete_reasons: Vec<String>,
    /// The cluster, where one is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Where its identities come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication_mode: Option<Mode>,
    /// The principal, if the question is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    /// How the principal becomes a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// The user; absent if the principal does not become one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityReport>,
    /// What was asked.
    pub action: Asked,
    /// All that allows it. The first one is what the API server would give as its reason.
    pub granted: Vec<Grant>,
    /// The access policies in force, and what each says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyVerdict>,
    /// Bindings that nearly grant it, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<Near>,
    /// What would change a "no", the smallest change first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_help: Vec<Help>,
    /// What a person should know besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// As it was asked about.
    pub arn: String,
    /// The IAM principal behind a session; with its path where that is known.
    pub canonical_arn: String,
    /// Its unique id, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
    /// The session, where named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
}

/// How a principal becomes a Kubernetes user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mapping {
    /// Which kind of source.
    pub source: MappingSource,
    /// The rule, for people: an entry's ARN, `mapRoles[1]`.
    pub rule: String,
    /// The entry's type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_type: Option<String>,
    /// The entry's binding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<EntryBinding>,
    /// Why sources that come earlier did not answer, or why none does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
    /// Rules that almost match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<String>,
}

/// Kinds of sources of identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MappingSource {
    /// An access entry.
    AccessEntry,
    /// An access rule, for principals without an entry.
    AccessRule,
    /// The mapping of the principal that made the cluster.
    ClusterCreator,
    /// The ConfigMap.
    AwsAuth,
    /// No source knows the principal.
    None,
}

/// The Kubernetes user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityReport {
    /// The username; with `{{…}}` where it depends on the session and none was named.
    pub username: String,
    /// All groups that count, those that the API server adds included.
    pub groups: Vec<String>,
}

/// Something that allows the action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "source",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Grant {
    /// Membership in `system:masters`, before any authorizer is asked.
    Superuser {
        /// The group.
        group: &'static str,
    },
    /// An access policy of the principal's entry.
    AccessPolicy {
        /// The policy.
        policy_arn: String,
        /// Where it is in force.
        access_scope: ScopeFacts,
        /// Its rule.
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<RuleReport>,
        /// As the audit log has it.
        reason: String,
    },
    /// A binding.
    Rbac {
        /// The binding.
        binding: ObjectReport,
        /// The subject of it that matches.
        subject: String,
        /// The role.
        role: ObjectReport,
        /// Its rule.
        rule: RuleReport,
        /// As the audit log has it.
        reason: String,
    },
}

/// A role or binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReport {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace; empty for cluster kinds.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// A rule of a role or policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// Its place.
    pub index: usize,
    /// Verbs.
    pub verbs: Vec<String>,
    /// API groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
    /// For aggregated ClusterRoles: the role that the rule comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregated_from: Option<String>,
}

/// What an access policy in force says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyVerdict {
    /// The policy.
    pub policy_arn: String,
    /// Where it is in force.
    pub access_scope: ScopeFacts,
    /// Whether it allows the action.
    pub allows: bool,
    /// Why not, in a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// A binding that nearly grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Near {
    /// The binding.
    pub binding: ObjectReport,
    /// What is missing, for people.
    pub text: String,
}

/// A change that would turn a "no" into a "yes", or a step towards it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Help {
    /// What.
    pub what: String,
    /// A command that does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Review {
    pub(crate) fn new(action: Asked) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "AccessReview",
            allowed: false,
            incomplete: false,
            incomplete_reasons: Vec::new(),
            cluster: None,
            authentication_mode: None,
            caller: None,
            mapping: None,
            identity: None,
            notes: action.notes.clone(),
            action,
            granted: Vec::new(),
            policies: Vec::new(),
            nearest: Vec::new(),
            would_help: Vec::new(),
        }
    }

    /// The reason of the answer in one line: the API server's words for a "yes", ours for a "no".
    #[must_use]
    pub fn reason(&self) -> String {
        match self.granted.first() {
            Some(grant) => grant.reason(),
            None if self.identity.is_none() => match &self.mapping {
                Some(mapping) if !mapping.because.is_empty() => mapping.because.join("; "),
                _ => "the principal becomes no Kubernetes user".to_owned(),
            },
            None if self.policies.is_empty() => "no binding allows it".to_owned(),
            None => "neither an access policy nor a binding allows it".to_owned(),
        }
    }
}

impl Grant {
    /// In the words of the API server's audit log.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Superuser { group } => format!("member of {group}"),
            Self::AccessPolicy { reason, .. } | Self::Rbac { reason, .. } => reason.clone(),
        }
    }
}

impl From<&countersign_rbac::PolicyRule> for RuleReport {
    fn from(rule: &countersign_rbac::PolicyRule) -> Self {
        Self {
            index: 0,
            verbs: rule.verbs.clone(),
            api_groups: rule.api_groups.clone(),
            resources: rule.resources.clone(),
            resource_names: rule.resource_names.clone(),
            non_resource_urls: rule.non_resource_urls.clone(),
            aggregated_from: None,
        }
    }
}

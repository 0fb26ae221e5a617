//! SelfSubjectRulesReview: what may the caller do in a namespace?

use serde::{Deserialize, Serialize};

use super::{ReviewError, ReviewVersion, parse};
use crate::enumerate::RulesFor;
use crate::object::null_is_default;

const KIND: &str = "SelfSubjectRulesReview";

/// A SelfSubjectRulesReview.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RulesReview {
    /// The version it came in; the answer has the same.
    pub version: ReviewVersion,
    /// The namespace asked about.
    pub namespace: String,
    /// The answer.
    pub status: Option<RulesReviewStatus>,
}

/// The answer of a SelfSubjectRulesReview: unmerged, and no proof that anything is forbidden.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RulesReviewStatus {
    /// Rules for resources.
    #[serde(deserialize_with = "null_is_default")]
    pub resource_rules: Vec<ResourceRule>,
    /// Rules for URLs.
    #[serde(deserialize_with = "null_is_default")]
    pub non_resource_rules: Vec<NonResourceRule>,
    /// Some authorizer could not list its rules.
    pub incomplete: bool,
    /// Why not.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub evaluation_error: String,
}

/// A rule for resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceRule {
    /// Verbs.
    #[serde(deserialize_with = "null_is_default")]
    pub verbs: Vec<String>,
    /// API groups.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub api_groups: Vec<String>,
    /// Resources.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resources: Vec<String>,
    /// Object names; empty is every name.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resource_names: Vec<String>,
}

/// A rule for URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NonResourceRule {
    /// Verbs.
    #[serde(deserialize_with = "null_is_default")]
    pub verbs: Vec<String>,
    /// Paths and prefixes.
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub non_resource_urls: Vec<String>,
}

impl RulesReview {
    /// Reads a review. Without a namespace it is refused.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReviewError> {
        let wire: Wire = parse(bytes)?;
        let version = ReviewVersion::parse(&wire.api_version)?;
        if wire.kind != KIND {
            return Err(ReviewError::UnexpectedKind(wire.kind));
        }
        // An answer that is read back carries no namespace.
        if wire.spec.namespace.is_empty() && wire.status.is_none() {
            return Err(ReviewError::NoNamespace);
        }
        Ok(Self {
            version,
            namespace: wire.spec.namespace,
            status: wire.status,
        })
    }

    /// The review as it goes over the wire. As from the API server, an answer does not repeat the question.
    pub fn to_json(&self) -> Vec<u8> {
        let namespace = match self.status {
            Some(_) => String::new(),
            None => self.namespace.clone(),
        };
        let wire = Wire {
            api_version: self.version.as_str().to_owned(),
            kind: KIND.to_owned(),
            metadata: Some(Metadata {}),
            spec: Spec { namespace },
            status: self.status.clone(),
        };
        // Strings and lists always have a JSON form.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// The same review with an answer.
    pub fn answered(mut self, status: RulesReviewStatus) -> Self {
        self.status = Some(status);
        self
    }
}

impl RulesReviewStatus {
    /// What RBAC lists. The errors of other authorizers, which make the list incomplete too, come besides.
    pub fn of(rules: &RulesFor<'_>) -> Self {
        let mut status = Self {
            incomplete: !rules.errors.is_empty(),
            evaluation_error: rules.evaluation_error(),
            ..Self::default()
        };
        for rule in rules.chains.iter().map(|chain| chain.rule()) {
            if !rule.resources.is_empty() {
                status.resource_rules.push(ResourceRule {
                    verbs: rule.verbs.clone(),
                    api_groups: rule.api_groups.clone(),
                    resources: rule.resources.clone(),
                    resource_names: rule.resource_names.clone(),
                });
            }
            if !rule.non_resource_urls.is_empty() {
                status.non_resource_rules.push(NonResourceRule {
                    verbs: rule.verbs.clone(),
                    non_resource_urls: rule.non_resource_urls.clone(),
                });
            }
        }
        status
    }

    /// Says that another authorizer could not list its rules.
    pub fn add_error(&mut self, error: &str) {
        self.incomplete = true;
        if !self.evaluation_error.is_empty() {
            self.evaluation_error += ", ";
        }
        self.evaluation_error += error;
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: Spec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<RulesReviewStatus>,
}

#[derive(Serialize, Deserialize)]
struct Metadata {}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    namespace: String,
}

//! Access reviews: may someone do something?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::selectors::ParsedSelectors;
use super::{ReviewError, ReviewVersion, parse};
use crate::decision::Decision;
use crate::object::null_is_default;
use crate::request::{Action, Groups, Request, ResourceAction, User};
use crate::selector::{Requirement, Selectors};

/// A SubjectAccessReview, SelfSubjectAccessReview or LocalSubjectAccessReview.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessReview {
    /// The version it came in; the answer has the same.
    pub version: ReviewVersion,
    /// Which of the three.
    pub kind: AccessReviewKind,
    /// `metadata.namespace`, which only a LocalSubjectAccessReview has.
    pub namespace: String,
    /// Whether metadata holds anything else that counts, which is not allowed.
    pub has_other_metadata: bool,
    /// The question.
    pub spec: AccessReviewSpec,
    /// The answer.
    pub status: Option<AccessReviewStatus>,
}

/// Which access review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum AccessReviewKind {
    /// About the user that the review names.
    #[default]
    SubjectAccessReview,
    /// About the caller.
    SelfSubjectAccessReview,
    /// About the user that the review names, in one namespace.
    LocalSubjectAccessReview,
}

/// The question of an access review.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessReviewSpec {
    /// A question about a resource.
    pub resource: Option<ResourceAttributes>,
    /// A question about a path.
    pub non_resource: Option<NonResourceAttributes>,
    /// User name; empty in a SelfSubjectAccessReview.
    pub user: String,
    /// Groups, of which none is added.
    pub groups: Vec<String>,
    /// Extra.
    pub extra: BTreeMap<String, Vec<String>>,
    /// UID.
    pub uid: String,
}

/// A question about a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceAttributes {
    /// Namespace; empty is all, or the cluster scope.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub namespace: String,
    /// Verb.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub verb: String,
    /// API group.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub group: String,
    /// API version; empty and `*` both mean all.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub version: String,
    /// Plural resource.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub resource: String,
    /// Subresource.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub subresource: String,
    /// Object name; empty is all.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub name: String,
    /// Limits the question to objects whose fields match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_selector: Option<SelectorAttributes>,
    /// Limits the question to objects whose labels match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<SelectorAttributes>,
}

/// A question about a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NonResourceAttributes {
    /// URL path.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub path: String,
    /// Lower-case HTTP method.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub verb: String,
}

/// A selector: text for whoever cannot parse it, or requirements.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SelectorAttributes {
    /// As in the query of a URL.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub raw_selector: String,
    /// Parsed; all must hold.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub requirements: Vec<SelectorRequirement>,
}

/// One requirement of a selector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SelectorRequirement {
    /// Field path or label key.
    #[serde(deserialize_with = "null_is_default")]
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`; others make the requirement ignored.
    #[serde(deserialize_with = "null_is_default")]
    pub operator: String,
    /// Values.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub values: Vec<String>,
}

/// The answer of an access review.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessReviewStatus {
    /// Some authorizer allows it.
    pub allowed: bool,
    /// Some authorizer denies it, so that no other is asked. Never together with `allowed`.
    #[serde(skip_serializing_if = "is_false")]
    pub denied: bool,
    /// Why, for people.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub reason: String,
    /// What went wrong while finding out.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub evaluation_error: String,
}

/// One reason why the API server would answer a review with 422.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field, for example `spec.user`.
    pub field: String,
    /// What is wrong with it, in the API server's words.
    pub detail: String,
}

impl AccessReview {
    /// Reads a review of any of the three kinds.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReviewError> {
        let wire: Wire = parse(bytes)?;
        let version = ReviewVersion::parse(&wire.api_version)?;
        let kind = match wire.kind.as_str() {
            "SubjectAccessReview" => AccessReviewKind::SubjectAccessReview,
            "SelfSubjectAccessReview" => AccessReviewKind::SelfSubjectAccessReview,
            "LocalSubjectAccessReview" => AccessReviewKind::LocalSubjectAccessReview,
            _ => return Err(ReviewError::UnexpectedKind(wire.kind)),
        };
        let (namespace, has_other_metadata) = settle_metadata(wire.metadata);
        let spec = wire.spec;
        Ok(Self {
            version,
            kind,
            namespace,
            has_other_metadata,
            spec: AccessReviewSpec {
                resource: spec.resource_attributes,
                non_resource: spec.non_resource_attributes,
                user: spec.user,
                groups: match version {
                    ReviewVersion::V1 => spec.groups,
                    ReviewVersion::V1beta1 => spec.group,
                },
                extra: spec.extra,
                uid: spec.uid,
            },
            status: wire.status,
        })
    }

    /// The review that asks an API server for this. A SelfSubjectAccessReview leaves the user to whoever sends it, and a
    /// LocalSubjectAccessReview goes to the namespace of the action.
    pub fn asking(version: ReviewVersion, kind: AccessReviewKind, request: &Request<'_>) -> Self {
        let mut review = Self {
            version,
            kind,
            ..Self::default()
        };
        match &request.action {
            Action::Resource(action) => {
                if kind == AccessReviewKind::LocalSubjectAccessReview {
                    action.namespace.clone_into(&mut review.namespace);
                }
                review.spec.resource = Some(ResourceAttributes {
                    namespace: action.namespace.to_owned(),
                    verb: action.verb.to_owned(),
                    group: action.group.to_owned(),
                    version: action.version.to_owned(),
                    resource: action.resource.to_owned(),
                    subresource: action.subresource.to_owned(),
                    name: action.name.to_owned(),
                    field_selector: SelectorAttributes::of(action.selectors.fields),
                    label_selector: SelectorAttributes::of(action.selectors.labels),
                });
            }
            Action::NonResource { verb, path } => {
                review.spec.non_resource = Some(NonResourceAttributes {
                    path: (*path).to_owned(),
                    verb: (*verb).to_owned(),
                });
            }
        }
        if kind != AccessReviewKind::SelfSubjectAccessReview {
            request.user.name.clone_into(&mut review.spec.user);
            review.spec.groups = request.user.groups.iter().map(str::to_owned).collect();
        }
        review
    }

    /// The review as it goes over the wire, with its answer if there is one.
    pub fn to_json(&self) -> Vec<u8> {
        let mut metadata = BTreeMap::new();
        if !self.namespace.is_empty() {
            metadata.insert("namespace".to_owned(), Value::from(self.namespace.as_str()));
        }
        let spec = self.spec.clone();
        let (groups, group) = match self.version {
            ReviewVersion::V1 => (spec.groups, Vec::new()),
            ReviewVersion::V1beta1 => (Vec::new(), spec.groups),
        };
        let wire = Wire {
            api_version: self.version.as_str().to_owned(),
            kind: self.kind.as_str().to_owned(),
            metadata: Some(metadata),
            spec: WireSpec {
                resource_attributes: spec.resource,
                non_resource_attributes: spec.non_resource,
                user: spec.user,
                groups,
                group,
                extra: spec.extra,
                uid: spec.uid,
            },
            status: self.status.clone(),
        };
        // Strings, lists and maps with string keys always have a JSON form.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// What the API server would answer with 422 for.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut report = |field: &str, detail: &str| {
            errors.push(FieldError {
                field: field.to_owned(),
                detail: detail.to_owned(),
            });
        };
        let spec = &self.spec;
        match (&spec.resource, &spec.non_resource) {
            (Some(_), Some(_)) => report(
                "spec.nonResourceAttributes",
                "cannot be specified in combination with resourceAttributes",
            ),
            (None, None) => report(
                "spec.resourceAttributes",
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ),
            (Some(_), None) | (None, Some(_)) => {}
        }
        let is_self = self.kind == AccessReviewKind::SelfSubjectAccessReview;
        if !is_self && spec.user.is_empty() && spec.groups.is_empty() {
            report(
                "spec.user",
                "at least one of user or group must be specified",
            );
        }
        let is_local = self.kind == AccessReviewKind::LocalSubjectAccessReview;
        if is_local {
            if self.has_other_metadata {
                report("metadata", "must be empty except for namespace");
            }
            if spec
                .resource
                .as_ref()
                .is_some_and(|r| r.namespace != self.namespace)
            {
                report(
                    "spec.resourceAttributes.namespace",
                    "must match metadata.namespace",
                );
            }
            if spec.non_resource.is_some() {
                report(
                    "spec.nonResourceAttributes",
                    "disallowed on this kind of request",
                );
            }
        } else if self.has_other_metadata || !self.namespace.is_empty() {
            report("metadata", "must be empty");
        }
        if let Some(resource) = &spec.resource {
            let selectors = [
                ("fieldSelector", &resource.field_selector),
                ("labelSelector", &resource.label_selector),
            ];
            for (name, selector) in selectors {
                let field = format!("spec.resourceAttributes.{name}");
                match selector.as_ref().map(SelectorAttributes::shape) {
                    Some((true, true)) => report(
                        &format!("{field}.rawSelector"),
                        "may not specified at the same time as requirements",
                    ),
                    Some((false, false)) => report(
                        &format!("{field}.requirements"),
                        &format!(
                            "when {field} is specified, requirements or rawSelector is required"
                        ),
                    ),
                    _ => {}
                }
            }
        }
        errors
    }

    /// The user of the question. For a SelfSubjectAccessReview that is the caller instead.
    pub fn user(&self) -> User<'_> {
        User {
            name: &self.spec.user,
            groups: Groups::Owned(&self.spec.groups),
        }
    }

    /// The action of the question, with the selectors that [`ParsedSelectors::of`] got out of it. `None` if the review
    /// asks for nothing or for two things, which [`validate`](Self::validate) reports.
    pub fn action<'a>(&'a self, selectors: &'a ParsedSelectors) -> Option<Action<'a>> {
        match (&self.spec.resource, &self.spec.non_resource) {
            (Some(resource), None) => Some(Action::Resource(ResourceAction {
                verb: &resource.verb,
                group: &resource.group,
                version: match resource.version.as_str() {
                    "" => "*",
                    version => version,
                },
                resource: &resource.resource,
                subresource: &resource.subresource,
                namespace: &resource.namespace,
                name: &resource.name,
                selectors: Selectors {
                    fields: &selectors.fields,
                    labels: &selectors.labels,
                },
            })),
            (None, Some(path)) => Some(Action::NonResource {
                verb: &path.verb,
                path: &path.path,
            }),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }

    /// The same review with an answer.
    pub fn answered(mut self, status: AccessReviewStatus) -> Self {
        self.status = Some(status);
        self
    }
}

impl AccessReviewStatus {
    /// What RBAC answers. Its "no" is no denial: another authorizer may still allow.
    pub fn of(decision: &Decision<'_>, selectors: &ParsedSelectors) -> Self {
        Self {
            allowed: decision.is_allowed(),
            denied: false,
            reason: decision.reason(),
            evaluation_error: selectors.evaluation_error(),
        }
    }
}

impl AccessReviewKind {
    /// The Kubernetes kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SubjectAccessReview => "SubjectAccessReview",
            Self::SelfSubjectAccessReview => "SelfSubjectAccessReview",
            Self::LocalSubjectAccessReview => "LocalSubjectAccessReview",
        }
    }
}

impl SelectorAttributes {
    /// Comparisons of numbers have no form in a review and are left out, which asks the broader question.
    fn of(requirements: &[Requirement]) -> Option<Self> {
        let requirements = requirements.iter().filter_map(|requirement| {
            Some(SelectorRequirement {
                key: requirement.key.clone(),
                operator: requirement.operator.as_review()?.to_owned(),
                values: requirement.values.clone(),
            })
        });
        let requirements: Vec<_> = requirements.collect();
        (!requirements.is_empty()).then(|| Self {
            requirements,
            ..Self::default()
        })
    }

    /// Whether there is text, and whether there are requirements.
    fn shape(&self) -> (bool, bool) {
        (!self.raw_selector.is_empty(), !self.requirements.is_empty())
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
    metadata: Option<BTreeMap<String, Value>>,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: WireSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<AccessReviewStatus>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_attributes: Option<ResourceAttributes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    non_resource_attributes: Option<NonResourceAttributes>,
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    user: String,
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    groups: Vec<String>,
    /// What `v1beta1` calls `groups`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    group: Vec<String>,
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    extra: BTreeMap<String, Vec<String>>,
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    uid: String,
}

/// The namespace, and whether anything else is set. Managed fields do not count, nor does what is empty.
fn settle_metadata(metadata: Option<BTreeMap<String, Value>>) -> (String, bool) {
    let mut metadata = metadata.unwrap_or_default();
    let namespace = match metadata.remove("namespace") {
        Some(Value::String(namespace)) => namespace,
        _ => String::new(),
    };
    metadata.remove("managedFields");
    let counts = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    let others = metadata.values().any(counts);
    (namespace, others)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

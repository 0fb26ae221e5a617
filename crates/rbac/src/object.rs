//! The four RBAC kinds as typed data (RBAC spec, section 1).
//!
//! Reading is lenient: unknown fields are ignored, `null` lists are empty lists, old API versions are read as `v1`.
//! Deciding is strict: nothing here guesses what a misspelt group, resource or verb was meant to be.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// The API group of all RBAC objects.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";
/// The user name prefix of service accounts; namespace, `:` and name follow.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// Members are allowed everything before any authorizer is asked (RBAC spec, section 3).
pub const SUPERUSERS: &str = "system:masters";
/// Group of every caller that was authenticated.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of callers without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// User name of callers without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group of kubelets.
pub const NODES: &str = "system:nodes";

/// One RBAC object of any of the four kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A Role or ClusterRole.
    Role(Role),
    /// A RoleBinding or ClusterRoleBinding.
    Binding(Binding),
}

/// Which of the two role kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RoleKind {
    /// Namespaced.
    Role,
    /// Cluster-wide; also the kind that can be aggregated and that RoleBindings may reuse.
    ClusterRole,
}

/// Which of the two binding kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindingKind {
    /// Grants cluster-wide and in every namespace.
    ClusterRoleBinding,
    /// Grants inside its own namespace.
    RoleBinding,
}

/// A Role or ClusterRole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Role or ClusterRole.
    pub kind: RoleKind,
    /// Name, namespace, labels and the rest.
    pub metadata: Metadata,
    /// What the role grants. Shared, since aggregation copies rules from role to role.
    pub rules: Vec<Arc<PolicyRule>>,
    /// Present on aggregated ClusterRoles, whose rules are computed.
    pub aggregation: Option<AggregationRule>,
    /// Where the object was read, for example `shop.yaml:61` or `resourceVersion 4711`.
    pub origin: Option<Arc<str>>,
}

/// A RoleBinding or ClusterRoleBinding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// RoleBinding or ClusterRoleBinding.
    pub kind: BindingKind,
    /// Name, namespace and the rest.
    pub metadata: Metadata,
    /// Which role is granted.
    pub role_ref: RoleRef,
    /// To whom it is granted.
    pub subjects: Vec<Subject>,
    /// Where the object was read, for example `shop.yaml:61` or `resourceVersion 4711`.
    pub origin: Option<Arc<str>>,
}

/// The part of object metadata that access review uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Object name.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// Namespace; empty for the cluster kinds.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub namespace: String,
    /// Labels, which aggregation selects by.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations, without the copy of the whole object that `kubectl apply` leaves there.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Set on live objects.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub resource_version: String,
    /// Set on live objects; RFC 3339.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub creation_timestamp: String,
}

/// One rule of a role: every listed verb on every listed resource, or on every listed non-resource URL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// Verbs, or `*`.
    #[serde(deserialize_with = "null_is_default")]
    pub verbs: Vec<String>,
    /// API groups, or `*`. The empty string is the core group; the empty list is no group at all.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub api_groups: Vec<String>,
    /// Plural resources, `resource/subresource`, `*/subresource` or `*`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resources: Vec<String>,
    /// Object names; empty means every name. `*` is a name like any other.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resource_names: Vec<String>,
    /// Paths, prefixes ending in `*`, or `*`.
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub non_resource_urls: Vec<String>,
}

impl PolicyRule {
    pub(crate) const EMPTY: Self = Self {
        verbs: Vec::new(),
        api_groups: Vec::new(),
        resources: Vec::new(),
        resource_names: Vec::new(),
        non_resource_urls: Vec::new(),
    };
}

/// The role that a binding grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleRef {
    /// API group; empty is read as the RBAC group. Not looked at when deciding.
    #[serde(deserialize_with = "null_is_default")]
    pub api_group: String,
    /// `Role` or `ClusterRole`; anything else is stored data that grants nothing.
    #[serde(deserialize_with = "null_is_default")]
    pub kind: String,
    /// Name of the role.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
}

/// To whom a binding grants (RBAC spec, section 5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`; any other kind never matches.
    #[serde(deserialize_with = "null_is_default")]
    pub kind: String,
    /// Not looked at when deciding.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub api_group: String,
    /// Name of the user, group or service account. `*` is a name like any other.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// Namespace of a service account; empty means the namespace of the RoleBinding.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub namespace: String,
}

/// Which ClusterRoles an aggregated ClusterRole collects its rules from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AggregationRule {
    /// A role matching any selector is collected.
    #[serde(deserialize_with = "null_is_default")]
    pub cluster_role_selectors: Vec<LabelSelector>,
}

/// `metav1.LabelSelector`: all parts must hold; the empty selector selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must be present with exactly this value.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub match_expressions: Vec<LabelRequirement>,
}

/// One requirement of a [`LabelSelector`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelRequirement {
    /// Label key.
    #[serde(deserialize_with = "null_is_default")]
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[serde(deserialize_with = "null_is_default")]
    pub operator: String,
    /// Values of `In` and `NotIn`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub values: Vec<String>,
}

// === impl Object ===

impl Object {
    /// Name and namespace.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Role(role) => &role.metadata,
            Self::Binding(binding) => &binding.metadata,
        }
    }

    /// The Kubernetes kind, for example `RoleBinding`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Role(role) => role.kind.as_str(),
            Self::Binding(binding) => binding.kind.as_str(),
        }
    }

    /// Whether the kind lives in a namespace.
    pub fn is_namespaced(&self) -> bool {
        match self {
            Self::Role(role) => role.kind == RoleKind::Role,
            Self::Binding(binding) => binding.kind == BindingKind::RoleBinding,
        }
    }

    /// Fills an empty namespace of a namespaced kind, as `kubectl apply -n` does, and clears the namespace of a
    /// cluster kind, where it means nothing.
    pub fn settle_namespace(&mut self, default: &str) {
        let namespaced = self.is_namespaced();
        let metadata = match self {
            Self::Role(role) => &mut role.metadata,
            Self::Binding(binding) => &mut binding.metadata,
        };
        if !namespaced {
            metadata.namespace.clear();
        } else if metadata.namespace.is_empty() {
            metadata.namespace = default.to_owned();
        }
    }

    /// Records where the object was read.
    pub fn set_origin(&mut self, origin: impl Into<Arc<str>>) {
        let slot = match self {
            Self::Role(role) => &mut role.origin,
            Self::Binding(binding) => &mut binding.origin,
        };
        *slot = Some(origin.into());
    }
}

impl From<Role> for Object {
    fn from(role: Role) -> Self {
        Self::Role(role)
    }
}

impl From<Binding> for Object {
    fn from(binding: Binding) -> Self {
        Self::Binding(binding)
    }
}

// === impl kinds ===

impl RoleKind {
    /// The Kubernetes kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "Role",
            Self::ClusterRole => "ClusterRole",
        }
    }

    /// The plural resource, as used in error texts and in checks of `bind` and `escalate`.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Role => "roles",
            Self::ClusterRole => "clusterroles",
        }
    }
}

impl BindingKind {
    /// The Kubernetes kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterRoleBinding => "ClusterRoleBinding",
            Self::RoleBinding => "RoleBinding",
        }
    }

    /// The plural resource.
    pub fn resource(self) -> &'static str {
        match self {
            Self::ClusterRoleBinding => "clusterrolebindings",
            Self::RoleBinding => "rolebindings",
        }
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for BindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Subject ===

impl Subject {
    /// A user subject.
    pub fn user(name: impl Into<String>) -> Self {
        Self {
            kind: "User".into(),
            api_group: RBAC_GROUP.into(),
            name: name.into(),
            namespace: String::new(),
        }
    }

    /// A group subject.
    pub fn group(name: impl Into<String>) -> Self {
        Self {
            kind: "Group".into(),
            api_group: RBAC_GROUP.into(),
            name: name.into(),
            namespace: String::new(),
        }
    }

    /// A service account subject.
    pub fn service_account(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: "ServiceAccount".into(),
            api_group: String::new(),
            name: name.into(),
            namespace: namespace.into(),
        }
    }

    /// Namespace of a service account subject when it stands in a binding of `binding_namespace`.
    pub fn namespace_in<'a>(&'a self, binding_namespace: &'a str) -> &'a str {
        if self.namespace.is_empty() {
            binding_namespace
        } else {
            &self.namespace
        }
    }

    /// What the authorizer compares with, or `None` if the subject can match nobody: an unknown kind, or a service
    /// account without a namespace in a ClusterRoleBinding.
    pub fn identity_in(&self, binding_namespace: &str) -> Option<Identity> {
        let (kind, name) = self.compared_in(binding_namespace)?;
        let name = name.into_owned();
        Some(match kind {
            IdentityKind::User => Identity::User(name),
            IdentityKind::Group => Identity::Group(name),
        })
    }

    /// As [`identity_in`](Self::identity_in), borrowed where that is possible.
    pub(crate) fn compared_in(
        &self,
        binding_namespace: &str,
    ) -> Option<(IdentityKind, Cow<'_, str>)> {
        match self.kind.as_str() {
            "User" => Some((IdentityKind::User, Cow::Borrowed(&self.name))),
            "Group" => Some((IdentityKind::Group, Cow::Borrowed(&self.name))),
            "ServiceAccount" => {
                let namespace = self.namespace_in(binding_namespace);
                let user = || [SERVICE_ACCOUNT_PREFIX, namespace, ":", &self.name].concat();
                (!namespace.is_empty()).then(|| (IdentityKind::User, Cow::Owned(user())))
            }
            _ => None,
        }
    }
}

/// User names and group names are told apart; a service account is a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum IdentityKind {
    User = 1,
    Group = 2,
}

/// What a subject compares with: a user name or a group name. A service account is its user name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// Equal to the user name of the request.
    User(String),
    /// Contained in the groups of the request.
    Group(String),
}

impl LabelSelector {
    /// Whether the selector matches these labels, or `None` if the selector is invalid (unknown operator, values where
    /// none may be or none where some must be). An invalid selector selects nothing.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> Option<bool> {
        let mut all = self
            .match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value));
        for requirement in &self.match_expressions {
            let value = labels.get(&requirement.key);
            let listed = value.is_some_and(|value| requirement.values.contains(value));
            let has_values = !requirement.values.is_empty();
            all &= match requirement.operator.as_str() {
                "In" if has_values => listed,
                "NotIn" if has_values => !listed,
                "Exists" if !has_values => value.is_some(),
                "DoesNotExist" if !has_values => value.is_none(),
                _ => return None,
            };
        }
        Some(all)
    }
}

/// The namespace and name of a service account's user name, if it is one: exactly `namespace:name` after the prefix, a
/// DNS label and a DNS subdomain.
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (is_dns_label(namespace) && is_dns_subdomain(name)).then_some((namespace, name))
}

/// The node name of a kubelet's user name, if it is one.
pub fn split_node(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:")
        .filter(|name| is_dns_subdomain(name))
}

pub(crate) fn is_dns_label(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(|b| alphanumeric(*b))
        && bytes.last().is_some_and(|b| alphanumeric(*b))
        && bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
}

pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    // Unlike a label alone, a part of a subdomain has no length limit of its own.
    let part = |part: &str| {
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = part.as_bytes();
        bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// Reads `null` as the default value: Go writes nil lists and maps as `null`.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

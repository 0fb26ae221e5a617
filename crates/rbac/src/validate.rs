//! What the API server refuses to store (RBAC spec, section 1.1), to check manifests before they are applied.

use crate::http::is_path_segment;
use crate::object::{
    Binding, BindingKind, Object, PolicyRule, RBAC_GROUP, Role, RoleKind, Subject, is_dns_subdomain,
};

/// One reason why the API server would refuse an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, for example `rules[2].verbs`.
    pub field: String,
    /// What is wrong with it, in the API server's words where it has some.
    pub message: String,
}

/// Everything the API server would refuse the object for; nothing if it would be stored.
pub fn validate(object: &Object) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |field: String, message: String| found.push(Violation { field, message });
    let metadata = object.metadata();
    if metadata.name.is_empty() {
        report("metadata.name".into(), "Required value".into());
    } else if !is_path_segment(&metadata.name) {
        report(
            "metadata.name".into(),
            "may not be '.' or '..' and may not contain '/' or '%'".into(),
        );
    }
    if object.is_namespaced() && metadata.namespace.is_empty() {
        report("metadata.namespace".into(), "Required value".into());
    }
    match object {
        Object::Role(role) => role_rules(role, &mut report),
        Object::Binding(binding) => binding_fields(binding, &mut report),
    }
    found
}

/// Additionally, what the API server refuses when `new` replaces `old`: a binding cannot change its role.
pub fn validate_update(old: &Object, new: &Object) -> Vec<Violation> {
    let mut found = validate(new);
    if let (Object::Binding(old), Object::Binding(new)) = (old, new)
        && old.role_ref != new.role_ref
    {
        found.push(Violation {
            field: "roleRef".into(),
            message: "cannot change roleRef".into(),
        });
    }
    found
}

fn role_rules(role: &Role, report: &mut impl FnMut(String, String)) {
    for (index, rule) in role.rules.iter().enumerate() {
        let field = |name: &str| format!("rules[{index}].{name}");
        policy_rule(rule, role.kind, &mut |name, message| {
            report(field(name), message.to_owned());
        });
    }
    let Some(aggregation) = &role.aggregation else {
        return;
    };
    if aggregation.cluster_role_selectors.is_empty() {
        report(
            "aggregationRule.clusterRoleSelectors".into(),
            "at least one clusterRoleSelector required if aggregationRule is non-nil".into(),
        );
    }
    for (index, selector) in aggregation.cluster_role_selectors.iter().enumerate() {
        if selector.matches(&Default::default()).is_none() {
            report(
                format!("aggregationRule.clusterRoleSelectors[{index}]"),
                "invalid label selector".into(),
            );
        }
    }
}

fn policy_rule(rule: &PolicyRule, kind: RoleKind, report: &mut dyn FnMut(&str, &str)) {
    if rule.verbs.is_empty() {
        report("verbs", "verbs must contain at least one value");
    }
    if !rule.non_resource_urls.is_empty() {
        if kind == RoleKind::Role {
            report(
                "nonResourceURLs",
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        if !(rule.api_groups.is_empty()
            && rule.resources.is_empty()
            && rule.resource_names.is_empty())
        {
            report(
                "nonResourceURLs",
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if rule.api_groups.is_empty() {
        report(
            "apiGroups",
            "resource rules must supply at least one api group",
        );
    }
    if rule.resources.is_empty() {
        report(
            "resources",
            "resource rules must supply at least one resource",
        );
    }
}

fn binding_fields(binding: &Binding, report: &mut impl FnMut(String, String)) {
    let role_ref = &binding.role_ref;
    if role_ref.api_group != RBAC_GROUP {
        report(
            "roleRef.apiGroup".into(),
            format!("Unsupported value, supported values: \"{RBAC_GROUP}\""),
        );
    }
    let supported = match (binding.kind, role_ref.kind.as_str()) {
        (_, "ClusterRole") | (BindingKind::RoleBinding, "Role") => None,
        (BindingKind::RoleBinding, _) => Some("\"Role\", \"ClusterRole\""),
        (BindingKind::ClusterRoleBinding, _) => Some("\"ClusterRole\""),
    };
    if let Some(supported) = supported {
        report(
            "roleRef.kind".into(),
            format!("Unsupported value, supported values: {supported}"),
        );
    }
    if role_ref.name.is_empty() {
        report("roleRef.name".into(), "Required value".into());
    } else if !is_path_segment(&role_ref.name) {
        report(
            "roleRef.name".into(),
            "may not be '.' or '..' and may not contain '/' or '%'".into(),
        );
    }
    for (index, subject) in binding.subjects.iter().enumerate() {
        subject_fields(subject, binding.kind, &mut |name, message| {
            report(format!("subjects[{index}].{name}"), message);
        });
    }
}

fn subject_fields(subject: &Subject, kind: BindingKind, report: &mut dyn FnMut(&str, String)) {
    if subject.name.is_empty() {
        report("name", "Required value".into());
    }
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() && !is_dns_subdomain(&subject.name) {
                report("name", "not the name of a service account: lower-case letters, digits, '-' and '.', at most 253".into());
            }
            if !subject.api_group.is_empty() {
                report(
                    "apiGroup",
                    "Unsupported value, supported values: \"\"".into(),
                );
            }
            if kind == BindingKind::ClusterRoleBinding && subject.namespace.is_empty() {
                report("namespace", "Required value".into());
            }
        }
        "User" | "Group" => {
            if subject.api_group != RBAC_GROUP {
                report(
                    "apiGroup",
                    format!("Unsupported value, supported values: \"{RBAC_GROUP}\""),
                );
            }
        }
        _ => report(
            "kind",
            "Unsupported value, supported values: \"ServiceAccount\", \"User\", \"Group\"".into(),
        ),
    }
}

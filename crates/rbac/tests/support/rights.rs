//! Rules, roles and bindings in few words.

use std::sync::Arc;

use countersign_rbac::{
    Binding, BindingKind, Index, Metadata, Object, PolicyRule, Role, RoleKind, RoleRef, Subject,
    User,
};

const RBAC: &str = "rbac.authorization.k8s.io";

/// `verbs group/resources names`, with `-` for the core group and `/path` for URLs.
fn rule(text: &str) -> PolicyRule {
    let list = |text: &str| {
        text.split(',')
            .map(|word| {
                if word == "-" {
                    String::new()
                } else {
                    word.to_owned()
                }
            })
            .collect()
    };
    let mut words = text.split(' ');
    let verbs = list(words.next().unwrap());
    let groups = words.next().unwrap();
    if groups.starts_with('/') {
        return PolicyRule {
            verbs,
            non_resource_urls: list(groups),
            ..PolicyRule::default()
        };
    }
    PolicyRule {
        verbs,
        api_groups: list(groups),
        resources: list(words.next().unwrap()),
        resource_names: words.next().map(list).unwrap_or_default(),
        non_resource_urls: Vec::new(),
    }
}

pub(crate) fn rules(texts: &[&str]) -> Vec<PolicyRule> {
    texts.iter().map(|text| rule(text)).collect()
}

pub(crate) fn role(namespace: &str, name: &str, texts: &[&str]) -> Role {
    Role {
        kind: if namespace.is_empty() {
            RoleKind::ClusterRole
        } else {
            RoleKind::Role
        },
        metadata: Metadata {
            name: name.into(),
            namespace: namespace.into(),
            ..Metadata::default()
        },
        rules: rules(texts).into_iter().map(Arc::new).collect(),
        aggregation: None,
        origin: None,
    }
}

pub(crate) fn binding(
    namespace: &str,
    name: &str,
    kind: &str,
    role: &str,
    subjects: &[Subject],
) -> Binding {
    Binding {
        kind: if namespace.is_empty() {
            BindingKind::ClusterRoleBinding
        } else {
            BindingKind::RoleBinding
        },
        metadata: Metadata {
            name: name.into(),
            namespace: namespace.into(),
            ..Metadata::default()
        },
        role_ref: RoleRef {
            api_group: RBAC.into(),
            kind: kind.into(),
            name: role.into(),
        },
        subjects: subjects.to_vec(),
        origin: None,
    }
}

/// An index in which dana has these rules, cluster-wide and in namespace shop.
pub(crate) fn holding(cluster: &[&str], shop: &[&str]) -> Index {
    let dana = [Subject::user("dana")];
    let (index, refused) = Index::build([
        Object::Role(role("", "cluster", cluster)),
        Object::Role(role("shop", "local", shop)),
        Object::Binding(binding("", "b", "ClusterRole", "cluster", &dana)),
        Object::Binding(binding("shop", "b", "Role", "local", &dana)),
    ]);
    assert!(refused.is_empty());
    index
}

const DANA: [&str; 2] = ["platform", "system:authenticated"];

pub(crate) fn dana() -> User<'static> {
    User::new("dana", &DANA)
}

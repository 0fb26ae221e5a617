//! Shared by the tests: reading data files, and an evaluator that follows the rules of Kubernetes literally, list by
//! list and string by string, to hold the index against.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support; each test uses a part of it"
)]

pub(crate) mod rights;

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use countersign_rbac::{Action, Binding, BindingKind, Object, PolicyRule, Request, Role, RoleKind};

pub(crate) fn data(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if !name.ends_with(".gz") {
        return bytes;
    }
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..])
        .read_to_end(&mut text)
        .unwrap();
    text
}

pub(crate) fn yaml_objects(text: &str) -> Vec<Object> {
    let mut objects = Vec::new();
    for document in text.split("\n---\n") {
        let meta: countersign_rbac::TypeMeta = serde_saphyr::from_str(document).unwrap();
        if meta.is_rbac() {
            let manifest: countersign_rbac::Manifest = serde_saphyr::from_str(document).unwrap();
            objects.push(Object::try_from(manifest).unwrap());
        }
    }
    objects
}

/// The answer of the literal evaluator: what granted, or the errors met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow {
        binding: String,
        namespace: String,
        subject: usize,
        rule: usize,
    },
    NoOpinion {
        errors: Vec<String>,
    },
}

pub(crate) struct Naive {
    pub(crate) roles: Vec<Role>,
    pub(crate) bindings: Vec<Binding>,
}

impl Naive {
    /// Of two objects of one key the later one holds.
    pub(crate) fn new(objects: &[Object]) -> Self {
        let mut naive = Self {
            roles: Vec::new(),
            bindings: Vec::new(),
        };
        for object in objects {
            match object.clone() {
                Object::Role(role) => {
                    let key = |r: &Role| {
                        (
                            r.kind,
                            r.metadata.namespace.clone(),
                            r.metadata.name.clone(),
                        )
                    };
                    naive.roles.retain(|held| key(held) != key(&role));
                    naive.roles.push(role);
                }
                Object::Binding(binding) => {
                    let key = |b: &Binding| {
                        (
                            b.kind,
                            b.metadata.namespace.clone(),
                            b.metadata.name.clone(),
                        )
                    };
                    naive.bindings.retain(|held| key(held) != key(&binding));
                    naive.bindings.push(binding);
                }
            }
        }
        naive
            .bindings
            .sort_by_key(|b| (b.metadata.namespace.clone(), b.metadata.name.clone()));
        naive
    }

    pub(crate) fn ask(&self, request: &Request<'_>) -> Answer {
        let namespace = match request.action {
            Action::Resource(action) => action.namespace,
            Action::NonResource { .. } => "",
        };
        let mut errors = Vec::new();
        for (kind, scope) in [
            (BindingKind::ClusterRoleBinding, ""),
            (BindingKind::RoleBinding, namespace),
        ] {
            if kind == BindingKind::RoleBinding && namespace.is_empty() {
                continue;
            }
            for binding in self
                .bindings
                .iter()
                .filter(|b| b.kind == kind && b.metadata.namespace == scope)
            {
                let Some(subject) = applies_to(binding, scope, request) else {
                    continue;
                };
                let role_kind = match binding.role_ref.kind.as_str() {
                    "Role" => RoleKind::Role,
                    "ClusterRole" => RoleKind::ClusterRole,
                    other => {
                        errors.push(format!("unsupported role reference kind: \"{other}\""));
                        continue;
                    }
                };
                let Some(rules) = self.rules(role_kind, scope, &binding.role_ref.name) else {
                    let kind = binding.role_ref.kind.to_lowercase();
                    let name = &binding.role_ref.name;
                    errors.push(format!(
                        "{kind}.rbac.authorization.k8s.io \"{name}\" not found"
                    ));
                    continue;
                };
                for (rule, policy) in rules.iter().enumerate() {
                    if allows(policy, &request.action) {
                        return Answer::Allow {
                            binding: binding.metadata.name.clone(),
                            namespace: scope.to_owned(),
                            subject,
                            rule,
                        };
                    }
                }
            }
        }
        Answer::NoOpinion { errors }
    }

    fn rules(&self, kind: RoleKind, namespace: &str, name: &str) -> Option<Vec<Arc<PolicyRule>>> {
        let namespace = if kind == RoleKind::Role {
            namespace
        } else {
            ""
        };
        let mut found = self.roles.iter();
        let role = found.find(|r| {
            r.kind == kind && r.metadata.namespace == namespace && r.metadata.name == name
        })?;
        Some(self.rules_of(role, &mut vec![&role.metadata.name]))
    }

    /// Collects an aggregated role's rules by walking down, which for roles that collect each other in circles is not
    /// how they would settle; the tests make none.
    fn rules_of<'a>(&'a self, role: &'a Role, path: &mut Vec<&'a str>) -> Vec<Arc<PolicyRule>> {
        let Some(aggregation) = &role.aggregation else {
            return role.rules.clone();
        };
        let mut rules = Vec::new();
        for selector in &aggregation.cluster_role_selectors {
            let mut members: Vec<&Role> = self
                .roles
                .iter()
                .filter(|r| r.kind == RoleKind::ClusterRole)
                .collect();
            members.sort_by_key(|r| &r.metadata.name);
            for member in members {
                let selected = selector
                    .match_labels
                    .iter()
                    .all(|(k, v)| member.metadata.labels.get(k) == Some(v));
                if selected && !path.contains(&member.metadata.name.as_str()) {
                    path.push(&member.metadata.name);
                    for rule in self.rules_of(member, path) {
                        if !rules.contains(&rule) {
                            rules.push(rule);
                        }
                    }
                    path.pop();
                }
            }
        }
        rules
    }
}

fn applies_to(binding: &Binding, namespace: &str, request: &Request<'_>) -> Option<usize> {
    binding
        .subjects
        .iter()
        .position(|subject| match subject.kind.as_str() {
            "User" => subject.name == request.user.name,
            "Group" => request
                .user
                .groups
                .iter()
                .any(|group| group == subject.name),
            "ServiceAccount" => {
                let own = if subject.namespace.is_empty() {
                    namespace
                } else {
                    &subject.namespace
                };
                !own.is_empty()
                    && request.user.name == format!("system:serviceaccount:{own}:{}", subject.name)
            }
            _ => false,
        })
}

fn allows(rule: &PolicyRule, action: &Action<'_>) -> bool {
    let has = |list: &[String], wanted: &str| list.iter().any(|entry| entry == wanted);
    match action {
        Action::NonResource { verb, path } => {
            (has(&rule.verbs, "*") || has(&rule.verbs, verb))
                && rule.non_resource_urls.iter().any(|url| {
                    let prefix = url.trim_end_matches('*');
                    url == "*"
                        || url == path
                        || (prefix.len() < url.len() && path.starts_with(prefix))
                })
        }
        Action::Resource(action) => {
            let combined = match action.subresource {
                "" => action.resource.to_owned(),
                subresource => format!("{}/{subresource}", action.resource),
            };
            (has(&rule.verbs, "*") || has(&rule.verbs, action.verb))
                && (has(&rule.api_groups, "*") || has(&rule.api_groups, action.group))
                && rule.resources.iter().any(|resource| {
                    resource == "*"
                        || *resource == combined
                        || (!action.subresource.is_empty()
                            && *resource == format!("*/{}", action.subresource))
                })
                && (rule.resource_names.is_empty() || has(&rule.resource_names, action.name))
        }
    }
}

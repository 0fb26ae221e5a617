//! Chains and near misses of RBAC, as reports.

use countersign_rbac::{
    Action, Binding, BindingKind, Catalog, Chain, NearMiss, Obstacle, Part, Role, RoleKind, Scope,
    Suspect,
};

use crate::action::Asked;
use crate::report::{Grant, Near, ObjectReport, RuleReport};

pub(crate) fn grant(chain: &Chain<'_>) -> Grant {
    Grant::Rbac {
        binding: binding_report(chain.binding),
        subject: subject_text(chain),
        role: role_report(chain.role()),
        rule: rule_report(chain),
        reason: chain.to_string(),
    }
}

/// `Group "devs"`, `ServiceAccount "shop/build"`
pub(crate) fn subject_text(chain: &Chain<'_>) -> String {
    let namespace = &chain.binding.metadata.namespace;
    match chain.subject() {
        None => String::new(),
        Some(subject) if subject.kind == "ServiceAccount" => format!(
            "ServiceAccount \"{}/{}\"",
            subject.namespace_in(namespace),
            subject.name
        ),
        Some(subject) => format!("{} \"{}\"", subject.kind, subject.name),
    }
}

pub(crate) fn binding_report(binding: &Binding) -> ObjectReport {
    ObjectReport {
        kind: binding.kind.as_str(),
        namespace: binding.metadata.namespace.clone(),
        name: binding.metadata.name.clone(),
        origin: binding.origin.as_deref().map(str::to_owned),
    }
}

pub(crate) fn role_report(role: &Role) -> ObjectReport {
    ObjectReport {
        kind: role.kind.as_str(),
        namespace: role.metadata.namespace.clone(),
        name: role.metadata.name.clone(),
        origin: role.origin.as_deref().map(str::to_owned),
    }
}

pub(crate) fn rule_report(chain: &Chain<'_>) -> RuleReport {
    RuleReport {
        index: chain.rule_index,
        aggregated_from: chain.origin().map(|origin| {
            format!(
                "ClusterRole {} rule #{}",
                origin.cluster_role, origin.rule_index
            )
        }),
        ..RuleReport::from(chain.rule())
    }
}

/// What keeps a binding from granting; nothing if the rule is for resources, and a path is asked for.
pub(crate) fn near(miss: &NearMiss<'_>, asked: &Asked, catalog: &Catalog) -> Option<Near> {
    let binding = short(miss.binding);
    let through = |chain: &Chain<'_>| {
        format!(
            "{binding} -> {} rule #{}",
            role_name(chain.role()),
            chain.rule_index
        )
    };
    let text = match &miss.obstacle {
        Obstacle::Scope(chain) => format!(
            "{} matches, but {}",
            through(chain),
            elsewhere(miss.binding, asked, catalog)
        ),
        Obstacle::MissingRole(_) => {
            let role = &miss.binding.role_ref;
            let namespace = match role.kind.as_str() {
                "Role" => format!("{}/", miss.binding.metadata.namespace),
                _ => String::new(),
            };
            format!(
                "{binding}: {} {namespace}{} does not exist",
                role.kind, role.name
            )
        }
        Obstacle::SubjectKind(chain) => {
            let subject = subject_text(chain);
            format!(
                "{} matches, but its subject is {subject}: users and groups of one name are two things",
                through(chain)
            )
        }
        Obstacle::Rule {
            chain,
            missing,
            suspect,
        } => {
            if *missing == Part::Url && chain.rule().non_resource_urls.is_empty() {
                return None;
            }
            let suspect = suspect.map(suspect_text).unwrap_or_default();
            format!(
                "{}: {}{suspect}",
                through(chain),
                missing_text(*missing, chain, asked)
            )
        }
    };
    Some(Near {
        binding: binding_report(miss.binding),
        text,
    })
}

fn elsewhere(binding: &Binding, asked: &Asked, catalog: &Catalog) -> String {
    let cluster_scoped = match asked.action() {
        Action::NonResource { .. } => {
            return "a RoleBinding cannot grant paths; use a ClusterRoleBinding".to_owned();
        }
        Action::Resource(action) => {
            catalog.scope(action.group, action.resource) == Some(Scope::Cluster)
        }
    };
    if cluster_scoped {
        format!(
            "a RoleBinding cannot grant cluster-scoped {}; use a ClusterRoleBinding",
            asked.resource
        )
    } else if asked.namespace.is_empty() {
        format!(
            "it holds in namespace {} only, and all namespaces are asked for",
            binding.metadata.namespace
        )
    } else {
        format!("it holds in namespace {} only", binding.metadata.namespace)
    }
}

fn missing_text(part: Part, chain: &Chain<'_>, asked: &Asked) -> String {
    let rule = chain.rule();
    let list = |list: &[String]| {
        let shown: Vec<&str> = list
            .iter()
            .take(12)
            .map(|text| match text.as_str() {
                "" => "core",
                text => text,
            })
            .collect();
        let more = if list.len() > shown.len() { ",…" } else { "" };
        format!("{}{more}", shown.join(","))
    };
    let resource = match asked.subresource.as_str() {
        "" => asked.resource.clone(),
        subresource => format!("{}/{subresource}", asked.resource),
    };
    match part {
        Part::Verb => format!("verb {} not in {}", asked.verb, list(&rule.verbs)),
        Part::Group => {
            let group = match asked.group.as_str() {
                "" => "core",
                group => group,
            };
            format!("API group {group} not in {}", list(&rule.api_groups))
        }
        Part::Resource => format!("resource {resource} not in {}", list(&rule.resources)),
        Part::Name if asked.name.is_empty() => format!(
            "only for the names {}, and a request for {} has no name",
            list(&rule.resource_names),
            asked.verb
        ),
        Part::Name => format!("name {} not in {}", asked.name, list(&rule.resource_names)),
        Part::Url => format!(
            "path {} not in {}",
            asked.path,
            list(&rule.non_resource_urls)
        ),
    }
}

fn suspect_text(suspect: Suspect<'_>) -> String {
    match suspect {
        Suspect::PseudoWildcard(text) => format!(" (`{text}` is no wildcard)"),
        Suspect::NotAPlural(text) => {
            format!(" (`{text}` matches nothing: resources are lower-case plurals)")
        }
        Suspect::NotAGroup(text) => format!(
            " (`{text}` matches nothing: a group has no version, and the core group is the empty string)"
        ),
    }
}

/// `RoleBinding shop/readers`
pub(crate) fn short(binding: &Binding) -> String {
    match binding.kind {
        BindingKind::ClusterRoleBinding => format!("ClusterRoleBinding {}", binding.metadata.name),
        BindingKind::RoleBinding => format!(
            "RoleBinding {}/{}",
            binding.metadata.namespace, binding.metadata.name
        ),
    }
}

fn role_name(role: &Role) -> String {
    match role.kind {
        RoleKind::ClusterRole => format!("ClusterRole {}", role.metadata.name),
        RoleKind::Role => format!("Role {}/{}", role.metadata.namespace, role.metadata.name),
    }
}

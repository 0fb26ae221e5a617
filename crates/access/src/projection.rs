//! Access entries as RBAC objects (EKS API spec, section 18.2).
//!
//! ```text
//!   entry 7d2c ── View@cluster ──► ClusterRoleBinding countersign:entry:7d2c:View ─────► ClusterRole
//!     │                              subject: group countersign:entry:7d2c       ┌──►  countersign:policy:View
//!     └────────── View@dev-* ────► RoleBinding in each namespace that matches ───┘
//! ```
//!
//! The TokenReview adds the group. RBAC then answers as the authorizer does, as long as the namespaces are those there
//! are: a pattern reaches a namespace that is made later with the next projection.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use countersign_rbac::{
    Binding, BindingKind, Change, Metadata, Object, ObjectKey, PolicyRule, RBAC_GROUP, Role,
    RoleKind, RoleRef, Subject,
};

use crate::aggregated::AggregatedRules;
use crate::authorize::CompiledPolicies;
use crate::catalogue::AccessPolicy;
use crate::entry_type::EntryType;
use crate::scope::AccessScope;

/// The label of every object that a projection writes. Objects without it, or with another name than
/// projections give, are never changed or deleted.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "countersign");
/// The annotation that names the policy ARN.
pub const POLICY_ARN: &str = "countersign.dev/policy-arn";
/// The annotation that names the principal ARN.
pub const PRINCIPAL_ARN: &str = "countersign.dev/principal-arn";

/// The beginning of the groups that carry an entry's policies. Entries may not give such a group.
pub const ENTRY_GROUP_PREFIX: &str = "countersign:entry:";
const ROLE_PREFIX: &str = "countersign:policy:";

/// At most this many objects are made. Above, patterns over thousands of namespaces are the wrong tool.
pub const MAX_OBJECTS: usize = 200_000;

/// The group that carries the policies of an entry.
#[must_use]
pub fn entry_group(uuid: &str) -> String {
    format!("{ENTRY_GROUP_PREFIX}{uuid}")
}

/// An entry to project. `I` as in [`EntryView`](crate::EntryView).
#[derive(Debug, Clone, Copy)]
pub struct ProjectedEntry<'a, I> {
    /// The id of the entry, which names its group.
    pub uuid: &'a str,
    /// The principal ARN, for people who read the objects.
    pub principal_arn: &'a str,
    /// The type; only those with policies are projected.
    pub entry_type: EntryType,
    /// The associations.
    pub associations: I,
}

/// More than [`MAX_OBJECTS`] objects would be needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the entries, policies and namespaces need more than {MAX_OBJECTS} RBAC objects; give the policies scope cluster, or use the authorizer instead"
)]
pub struct TooManyObjects;

/// The RBAC objects that grant what the policies of the entries grant, in a fixed order: ClusterRoles,
/// ClusterRoleBindings, RoleBindings.
///
/// `namespaces` are those of the cluster. Policies with `aggregate` hold the rules of `aggregated` as they are now.
/// Associations of policies that are not in the catalogue are left out.
///
/// # Errors
/// When there would be more than [`MAX_OBJECTS`].
pub fn project<'a, I>(
    entries: impl IntoIterator<Item = ProjectedEntry<'a, I>>,
    policies: &CompiledPolicies,
    aggregated: Option<&AggregatedRules>,
    namespaces: &[&str],
) -> Result<Vec<Object>, TooManyObjects>
where
    I: IntoIterator<Item = (&'a str, &'a AccessScope)>,
{
    let namespaces: BTreeSet<&str> = namespaces.iter().copied().collect();
    let mut roles = BTreeMap::new();
    let mut bindings = BTreeMap::new();
    let entries = entries
        .into_iter()
        .filter(|entry| entry.entry_type.takes_policies());
    for entry in entries {
        for (policy_arn, scope) in entry.associations {
            let Some((policy, _)) = policies.policy(policy_arn) else {
                continue;
            };
            roles
                .entry(&*policy.name)
                .or_insert_with(|| role(policy, policies, aggregated));
            let make = |namespace: &str| {
                binding(
                    entry.uuid,
                    entry.principal_arn,
                    policy_arn,
                    policy,
                    namespace,
                )
            };
            let key = |namespace| (namespace, entry.uuid.to_owned(), &*policy.name);
            match scope {
                AccessScope::Cluster => {
                    bindings.insert(key(""), make(""));
                }
                AccessScope::Namespace(_) => {
                    for namespace in namespaces.iter().filter(|n| scope.reaches(n)) {
                        bindings.insert(key(namespace), make(namespace));
                        if bindings.len() > MAX_OBJECTS {
                            return Err(TooManyObjects);
                        }
                    }
                }
            }
            if roles.len() + bindings.len() > MAX_OBJECTS {
                return Err(TooManyObjects);
            }
        }
    }
    let roles = roles.into_values().map(Object::Role);
    Ok(roles
        .chain(bindings.into_values().map(Object::Binding))
        .collect())
}

fn role(
    policy: &AccessPolicy,
    policies: &CompiledPolicies,
    aggregated: Option<&AggregatedRules>,
) -> Role {
    let own = policy
        .rules_in_force(policies.catalogue().derived())
        .map(|(_, rule)| rule.rule.clone());
    let mut rules: Vec<Arc<PolicyRule>> = own.collect();
    for label in &policy.aggregate {
        let of_cluster = aggregated.map_or(&[][..], |all| all.rules(*label));
        rules.extend(of_cluster.iter().map(|rule| rule.rule.clone()));
    }
    let mut seen = std::collections::HashSet::new();
    rules.retain(|rule| seen.insert(rule.clone()));
    Role {
        kind: RoleKind::ClusterRole,
        metadata: metadata(format!("{ROLE_PREFIX}{}", policy.name), "", []),
        rules,
        aggregation: None,
        origin: None,
    }
}

fn binding(
    uuid: &str,
    principal_arn: &str,
    policy_arn: &str,
    policy: &AccessPolicy,
    namespace: &str,
) -> Binding {
    Binding {
        kind: if namespace.is_empty() {
            BindingKind::ClusterRoleBinding
        } else {
            BindingKind::RoleBinding
        },
        metadata: metadata(
            format!("{ENTRY_GROUP_PREFIX}{uuid}:{}", policy.name),
            namespace,
            [(PRINCIPAL_ARN, principal_arn), (POLICY_ARN, policy_arn)],
        ),
        role_ref: RoleRef {
            api_group: RBAC_GROUP.to_owned(),
            kind: RoleKind::ClusterRole.as_str().to_owned(),
            name: format!("{ROLE_PREFIX}{}", policy.name),
        },
        subjects: vec![Subject::group(entry_group(uuid))],
        origin: None,
    }
}

fn metadata<const N: usize>(
    name: String,
    namespace: &str,
    annotations: [(&str, &str); N],
) -> Metadata {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    Metadata {
        name,
        namespace: namespace.to_owned(),
        labels: [owned(MANAGED_BY)].into(),
        annotations: annotations.map(owned).into(),
        ..Metadata::default()
    }
}

/// What to do so that a cluster holds a projection.
#[derive(Debug, Default)]
pub struct Plan {
    /// The changes in the order in which they must be made, so that at no moment anyone has more than before or after:
    /// bindings go first, then roles come, then bindings, then roles go.
    pub changes: Vec<Change>,
    /// Objects of a wanted name that somebody else wrote. They are not touched, and no binding to a role that somebody
    /// else wrote is made.
    pub foreign: Vec<ObjectKey>,
}

/// What turns the existing objects into the wanted ones. Of the existing ones only those with the label
/// [`MANAGED_BY`] are changed or deleted. A binding whose role changes is deleted and made again, since the API server
/// lets nobody change the role of a binding.
#[must_use]
pub fn diff(existing: &[Object], wanted: &[Object]) -> Plan {
    let there: HashMap<ObjectKey, &Object> = existing.iter().map(|o| (key_of(o), o)).collect();
    let mut plan = Plan::default();
    let mut kept: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    let mut foreign_roles: BTreeSet<&str> = BTreeSet::new();
    let (mut gone, mut roles, mut bindings) = (Vec::new(), Vec::new(), Vec::new());
    for object in wanted {
        if let Object::Role(role) = object
            && let Some(other) = there.get(&key_of(object))
            && !is_managed(other)
        {
            foreign_roles.insert(&role.metadata.name);
        }
    }
    for object in wanted {
        let key = key_of(object);
        let there = there.get(&key).copied();
        if there.is_some_and(|there| !is_managed(there)) {
            plan.foreign.push(key);
            continue;
        }
        if let Object::Binding(binding) = object
            && foreign_roles.contains(binding.role_ref.name.as_str())
        {
            continue;
        }
        kept.insert(name_of(object));
        if there.is_some_and(|there| is_same(there, object)) {
            continue;
        }
        match object {
            Object::Role(_) => roles.push(Change::Put(object.clone())),
            Object::Binding(wanted) => {
                if let Some(Object::Binding(there)) = there
                    && there.role_ref != wanted.role_ref
                {
                    gone.push(Change::Delete(key));
                }
                bindings.push(Change::Put(object.clone()));
            }
        }
    }
    let mut unwanted: Vec<&Object> = existing
        .iter()
        .filter(|object| is_managed(object) && !kept.contains(&name_of(object)))
        .collect();
    unwanted.sort_by_key(|object| name_of(object));
    let mut roles_gone = Vec::new();
    for object in unwanted {
        match object {
            Object::Role(_) => roles_gone.push(Change::Delete(key_of(object))),
            Object::Binding(_) => gone.push(Change::Delete(key_of(object))),
        }
    }
    plan.changes = [gone, roles, bindings, roles_gone]
        .into_iter()
        .flatten()
        .collect();
    plan
}

/// Whether a projection may change or delete the object: it has the label, and a name of ours, since the label alone is
/// also on what deploys Countersign itself.
#[must_use]
pub fn is_managed(object: &Object) -> bool {
    let Metadata { name, labels, .. } = object.metadata();
    let (key, value) = MANAGED_BY;
    labels.get(key).is_some_and(|found| found == value)
        && (name.starts_with(ENTRY_GROUP_PREFIX) || name.starts_with(ROLE_PREFIX))
}

/// Which object it is.
#[must_use]
pub fn key_of(object: &Object) -> ObjectKey {
    let Metadata {
        name, namespace, ..
    } = object.metadata().clone();
    match object {
        Object::Role(role) => ObjectKey::Role {
            kind: role.kind,
            namespace,
            name,
        },
        Object::Binding(binding) => ObjectKey::Binding {
            kind: binding.kind,
            namespace,
            name,
        },
    }
}

fn name_of(object: &Object) -> (&str, &str, &str) {
    let metadata = object.metadata();
    (object.kind(), &metadata.namespace, &metadata.name)
}

/// Whether the existing object holds all that is wanted. Labels and annotations of others may be there as well.
fn is_same(there: &Object, wanted: &Object) -> bool {
    let holds = |there: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
        wanted
            .iter()
            .all(|(key, value)| there.get(key) == Some(value))
    };
    let (have, want) = (there.metadata(), wanted.metadata());
    let same_metadata =
        holds(&have.labels, &want.labels) && holds(&have.annotations, &want.annotations);
    same_metadata
        && match (there, wanted) {
            (Object::Role(there), Object::Role(wanted)) => {
                there.rules == wanted.rules && there.aggregation == wanted.aggregation
            }
            (Object::Binding(there), Object::Binding(wanted)) => {
                there.role_ref == wanted.role_ref && there.subjects == wanted.subjects
            }
            (Object::Role(_), Object::Binding(_)) | (Object::Binding(_), Object::Role(_)) => false,
        }
}

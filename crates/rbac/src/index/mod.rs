//! The index: roles and bindings, found by subject.
//!
//! ```text
//!   user name, group names ──► subjects ──► grants of the cluster, grants per namespace
//!                                                │ (binding, role number)
//!   verb, group, resource ───► symbols           ▼
//!                                 └──────────► compiled roles ──► first rule that grants
//! ```
//!
//! Everything is persistent: cloning an index is a handful of reference counts, changing a clone copies only the pages
//! that the change touches, and a decision on one version is never disturbed by the making of the next.

mod aggregate;
mod apply;
mod compiled;
mod grants;
mod pages;
mod symbols;
mod table;

use std::sync::Arc;

use std::borrow::Borrow;
use std::cmp::Ordering;

use imbl::{OrdMap, OrdSet};

pub use self::aggregate::Drift;
pub use self::apply::{Change, ObjectKey, Refused};
pub(crate) use self::compiled::{CompiledRole, Probe};
pub use self::compiled::{EffectiveRule, Origin};
pub(crate) use self::grants::{Grant, GrantSet, Scope};
use self::pages::Pages;
use self::symbols::{Keyed, Symbols};
use self::table::Table;
pub(crate) use crate::object::IdentityKind;
use crate::object::{Binding, BindingKind, Role, RoleKind, RoleRef};
use crate::quote::Quoted;

/// Kubernetes RBAC objects, indexed to be asked. Cloning it costs next to nothing; see [`Index::apply`].
#[derive(Debug, Clone, Default)]
pub struct Index {
    subjects: Table<SubjectEntry>,
    symbols: Symbols,
    /// Roles in force by their number; empty where a binding names a role that does not exist.
    compiled: Pages<Option<CompiledRole>>,
    slots: Pages<Option<Slot>>,
    /// How many role numbers there have been at a time, and which of them are free.
    issued_slots: u32,
    free_slots: imbl::Vector<u32>,
    role_numbers: Table<RoleNumber>,
    bindings: OrdSet<ByName>,
    /// Numbers of the ClusterRoles that have an aggregation rule, by name.
    aggregated: OrdMap<Arc<str>, u32>,
    aggregation_overflow: bool,
    unread: imbl::Vector<Unread>,
    hasher: Keyed,
}

/// Something that should have been indexed and could not be read. A "no" that it may have changed is not a "no"
/// (RBAC spec, section 12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The namespace that was not read; `None` if the whole cluster is affected.
    pub namespace: Option<Arc<str>>,
    /// What was not read and why, for people.
    pub reason: Arc<str>,
}

/// What a binding may refer to, borrowed or owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RoleKey<S> {
    ClusterRole(S),
    Role {
        namespace: S,
        name: S,
    },
    /// A kind of role that does not exist.
    Unsupported(S),
}

#[derive(Debug, Clone)]
struct RoleNumber {
    key: RoleKey<Arc<str>>,
    number: u32,
}

#[derive(Debug)]
pub(crate) struct StoredBinding {
    pub(crate) binding: Binding,
    pub(crate) role: u32,
}

/// Bindings in the API server's order: ClusterRoleBindings have the empty namespace, and so come first.
#[derive(Debug, Clone)]
struct ByName(Arc<StoredBinding>);

/// Namespace and name of a binding, stored or asked for.
trait BindingName {
    fn names(&self) -> (&str, &str);
}

/// A place for a role: one that exists, or that bindings refer to.
#[derive(Debug, Clone)]
struct Slot {
    key: RoleKey<Arc<str>>,
    role: Option<Arc<Role>>,
    /// How many bindings refer to it.
    bindings: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct SubjectEntry {
    name: Arc<str>,
    kind: IdentityKind,
    pub(crate) grants: GrantSet,
}

// === impl Index ===

impl Index {
    /// How many bindings there are, of both kinds.
    pub fn binding_count(&self) -> usize {
        self.bindings.len()
    }

    /// How many roles there are, of both kinds.
    pub fn role_count(&self) -> usize {
        let slots = self.slots.iter().flatten();
        slots.filter(|slot| slot.role.is_some()).count()
    }

    /// All bindings, ClusterRoleBindings first, then by namespace and name.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.all_bindings().map(|stored| &stored.binding)
    }

    /// All roles, ClusterRoles first, then by namespace and name.
    pub fn roles(&self) -> Vec<&Arc<Role>> {
        let mut roles: Vec<&Arc<Role>> = self
            .slots
            .iter()
            .flatten()
            .filter_map(|s| s.role.as_ref())
            .collect();
        roles.sort_by_key(|role| (&role.metadata.namespace, &role.metadata.name));
        roles
    }

    /// The role of this kind, namespace (empty for ClusterRoles) and name.
    pub fn role(&self, kind: RoleKind, namespace: &str, name: &str) -> Option<&Arc<Role>> {
        let number = self.number_of(&RoleKey::new(kind, namespace, name))?;
        self.slot(number)?.role.as_ref()
    }

    /// The binding of this namespace (empty for ClusterRoleBindings) and name.
    pub fn binding(&self, namespace: &str, name: &str) -> Option<&Binding> {
        self.stored_binding(namespace, name)
            .map(|stored| &stored.binding)
    }

    /// The rules in force of a role: as written, or as aggregated.
    pub fn effective_rules(
        &self,
        kind: RoleKind,
        namespace: &str,
        name: &str,
    ) -> Option<&[EffectiveRule]> {
        let number = self.number_of(&RoleKey::new(kind, namespace, name))?;
        Some(&self.compiled(number)?.detail.effective)
    }

    /// The rules of the role that a reference means in a binding of this namespace, or the API server's error text.
    pub fn resolve(&self, role_ref: &RoleRef, namespace: &str) -> Result<&[EffectiveRule], String> {
        let key = RoleKey::of(role_ref, namespace);
        self.number_of(&key)
            .and_then(|number| self.compiled(number))
            .map(|compiled| &*compiled.detail.effective)
            .ok_or_else(|| key.unresolved())
    }

    /// The bindings that refer to a role, in order. Looks at all bindings.
    pub fn bindings_of_role(
        &self,
        kind: RoleKind,
        namespace: &str,
        name: &str,
    ) -> impl Iterator<Item = &Binding> {
        let number = self.number_of(&RoleKey::new(kind, namespace, name));
        let all = number.map(|_| self.all_bindings()).into_iter().flatten();
        all.filter(move |stored| Some(stored.role) == number)
            .map(|stored| &stored.binding)
    }

    /// The namespaces in which there is a RoleBinding, sorted.
    pub fn bound_namespaces(&self) -> Vec<&str> {
        let mut namespaces: Vec<&str> = Vec::new();
        for binding in self
            .bindings()
            .filter(|b| b.kind == BindingKind::RoleBinding)
        {
            let namespace = binding.metadata.namespace.as_str();
            if namespaces.last() != Some(&namespace) {
                namespaces.push(namespace);
            }
        }
        namespaces
    }

    /// Says that something could not be read, so that a "no" is reported as incomplete from now on.
    pub fn mark_unread(&mut self, unread: Unread) {
        self.unread.push_back(unread);
    }

    /// What could not be read and may matter in this namespace (`None`: anywhere).
    pub fn unread(&self, namespace: Option<&str>) -> impl Iterator<Item = &Unread> {
        let matters = move |unread: &&Unread| match (&unread.namespace, namespace) {
            (Some(unread), Some(asked)) => **unread == *asked,
            (Some(_) | None, None) | (None, Some(_)) => true,
        };
        self.unread.iter().filter(matters)
    }

    /// Whether aggregation stopped at its limit of rules, so that some aggregated roles lack some.
    pub fn is_aggregation_incomplete(&self) -> bool {
        self.aggregation_overflow
    }

    #[inline]
    pub(crate) fn compiled(&self, role: u32) -> Option<&CompiledRole> {
        self.compiled.get(role)?.as_ref()
    }

    pub(crate) fn role_key(&self, role: u32) -> Option<&RoleKey<Arc<str>>> {
        self.slot(role).map(|slot| &slot.key)
    }

    fn number_of(&self, key: &RoleKey<&str>) -> Option<u32> {
        let is = |entry: &RoleNumber| entry.key.as_deref() == *key;
        let found = self.role_numbers.get(key.hash(&self.hasher), is)?;
        Some(found.number)
    }

    fn stored_binding(&self, namespace: &str, name: &str) -> Option<&Arc<StoredBinding>> {
        let key: &dyn BindingName = &(namespace, name);
        self.bindings.get(key).map(|stored| &stored.0)
    }

    fn slot(&self, role: u32) -> Option<&Slot> {
        self.slots.get(role)?.as_ref()
    }

    #[inline]
    pub(crate) fn subject(&self, kind: IdentityKind, name: &str) -> Option<&SubjectEntry> {
        let hash = self.hasher.hash(kind as u8, name);
        self.subjects
            .get(hash, |entry| entry.kind == kind && &*entry.name == name)
    }

    #[inline]
    pub(crate) fn probe<'a>(&self, action: &crate::request::Action<'a>) -> Probe<'a> {
        Probe::new(&self.symbols, action)
    }

    /// The scope of a namespace; the empty one is the cluster.
    #[inline]
    pub(crate) fn scope<'a>(&self, namespace: &'a str) -> Scope<'a> {
        if namespace.is_empty() {
            return Scope::CLUSTER;
        }
        // Zero is the cluster's.
        let hash = self.hasher.hash(0, namespace).max(1);
        Scope {
            hash,
            name: namespace,
        }
    }

    /// All stored bindings in the API server's order.
    pub(crate) fn all_bindings(&self) -> impl Iterator<Item = &StoredBinding> {
        self.bindings.iter().map(|stored| &*stored.0)
    }
}

impl SubjectEntry {
    /// The grants in the cluster and in one namespace.
    pub(crate) fn reaching<'a, 's>(
        &'a self,
        namespace: Option<Scope<'s>>,
    ) -> impl Iterator<Item = &'a Grant> + use<'a, 's> {
        let local = namespace.map(|namespace| self.grants.in_scope(namespace));
        let cluster = self.grants.in_scope(Scope::CLUSTER);
        cluster.chain(local.into_iter().flatten())
    }
}

// === impl keys ===

impl<'a> RoleKey<&'a str> {
    pub(crate) fn new(kind: RoleKind, namespace: &'a str, name: &'a str) -> Self {
        match kind {
            RoleKind::ClusterRole => Self::ClusterRole(name),
            RoleKind::Role => Self::Role { namespace, name },
        }
    }

    /// What a reference means in a binding of this namespace. A ClusterRoleBinding to a Role looks for it in the empty
    /// namespace, where there is none.
    pub(crate) fn of(role_ref: &'a RoleRef, namespace: &'a str) -> Self {
        match role_ref.kind.as_str() {
            "ClusterRole" => Self::new(RoleKind::ClusterRole, "", &role_ref.name),
            "Role" => Self::new(RoleKind::Role, namespace, &role_ref.name),
            other => Self::Unsupported(other),
        }
    }

    fn to_shared(self) -> RoleKey<Arc<str>> {
        match self {
            Self::ClusterRole(name) => RoleKey::ClusterRole(name.into()),
            Self::Role { namespace, name } => RoleKey::Role {
                namespace: namespace.into(),
                name: name.into(),
            },
            Self::Unsupported(kind) => RoleKey::Unsupported(kind.into()),
        }
    }

    fn hash(&self, hasher: &Keyed) -> u64 {
        match *self {
            Self::ClusterRole(name) => hasher.hash_pair(0, "", name),
            Self::Role { namespace, name } => hasher.hash_pair(1, namespace, name),
            Self::Unsupported(kind) => hasher.hash_pair(2, "", kind),
        }
    }
}

impl RoleKey<Arc<str>> {
    pub(crate) fn as_deref(&self) -> RoleKey<&str> {
        match self {
            Self::ClusterRole(name) => RoleKey::ClusterRole(name),
            Self::Role { namespace, name } => RoleKey::Role { namespace, name },
            Self::Unsupported(kind) => RoleKey::Unsupported(kind),
        }
    }
}

impl<S: AsRef<str>> RoleKey<S> {
    /// The API server's error when there is no such role.
    pub(crate) fn unresolved(&self) -> String {
        match self {
            Self::ClusterRole(name) => format!(
                "clusterrole.rbac.authorization.k8s.io {} not found",
                Quoted(name.as_ref())
            ),
            Self::Role { name, .. } => format!(
                "role.rbac.authorization.k8s.io {} not found",
                Quoted(name.as_ref())
            ),
            Self::Unsupported(kind) => {
                format!("unsupported role reference kind: {}", Quoted(kind.as_ref()))
            }
        }
    }
}

impl BindingName for StoredBinding {
    fn names(&self) -> (&str, &str) {
        // INVARIANT: stored ClusterRoleBindings have no namespace.
        let metadata = &self.binding.metadata;
        (&metadata.namespace, &metadata.name)
    }
}

impl BindingName for (&str, &str) {
    fn names(&self) -> (&str, &str) {
        *self
    }
}

impl<'a> Borrow<dyn BindingName + 'a> for ByName {
    fn borrow(&self) -> &(dyn BindingName + 'a) {
        &*self.0
    }
}

impl Ord for dyn BindingName + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.names().cmp(&other.names())
    }
}

impl PartialOrd for dyn BindingName + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn BindingName + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for dyn BindingName + '_ {}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.names().cmp(&other.0.names())
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.names() == other.0.names()
    }
}

impl Eq for ByName {}

#[cfg(test)]
mod tests;

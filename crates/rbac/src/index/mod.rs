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

use imbl::{OrdMap, OrdSet};

pub use self::aggregate::Drift;
pub use self::apply::{Change, ObjectKey, Refused};
pub(crate) use self::compiled::{CompiledRole, Probe};
pub use self::compiled::{EffectiveRule, Origin};
use self::grants::ByNamespace;
pub(crate) use self::grants::{Grant, Grants};
use self::pages::Pages;
pub(crate) use self::symbols::Symbol;
use self::symbols::{Keyed, Symbols};
use self::table::Table;
use crate::object::{Binding, BindingKind, Role, RoleKind, RoleRef};
use crate::quote::Quoted;

/// Kubernetes RBAC objects, indexed to be asked. See the [module documentation](self).
#[derive(Debug, Clone, Default)]
pub struct Index {
    subjects: Table<SubjectEntry>,
    symbols: Symbols,
    /// Roles in force by their number; empty where a binding names a role that does not exist.
    compiled: Pages<Option<Arc<CompiledRole>>>,
    slots: imbl::Vector<Slot>,
    free_slots: imbl::Vector<u32>,
    role_numbers: OrdMap<RoleKey, u32>,
    bindings: OrdMap<BindingKey, Arc<StoredBinding>>,
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

/// What a binding may refer to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RoleKey {
    ClusterRole(Arc<str>),
    Role {
        namespace: Arc<str>,
        name: Arc<str>,
    },
    /// A kind of role that does not exist.
    Unsupported(Arc<str>),
}

/// ClusterRoleBindings have the empty namespace, and so come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BindingKey {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

#[derive(Debug, Clone)]
pub(crate) struct StoredBinding {
    pub(crate) binding: Arc<Binding>,
    pub(crate) role: u32,
}

/// A place for a role: one that exists, or that bindings refer to.
#[derive(Debug, Clone)]
struct Slot {
    key: RoleKey,
    role: Option<Arc<Role>>,
    bindings: OrdSet<BindingKey>,
}

#[derive(Debug, Clone)]
pub(crate) struct SubjectEntry {
    kind: IdentityKind,
    name: Arc<str>,
    pub(crate) cluster: Grants,
    namespaces: ByNamespace,
}

/// User names and group names are told apart; a service account is a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentityKind {
    User = 1,
    Group = 2,
}

// === impl Index ===

impl Index {
    /// How many bindings there are, of both kinds.
    pub fn binding_count(&self) -> usize {
        self.bindings.len()
    }

    /// How many roles there are, of both kinds.
    pub fn role_count(&self) -> usize {
        self.slots.iter().filter(|slot| slot.role.is_some()).count()
    }

    /// All bindings, ClusterRoleBindings first, then by namespace and name.
    pub fn bindings(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.bindings.values().map(|stored| &stored.binding)
    }

    /// All roles, ClusterRoles first, then by namespace and name.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        let slots = self.role_numbers.values().filter_map(|n| self.slot(*n));
        slots.filter_map(|slot| slot.role.as_ref())
    }

    /// The role of this kind, namespace (empty for ClusterRoles) and name.
    pub fn role(&self, kind: RoleKind, namespace: &str, name: &str) -> Option<&Arc<Role>> {
        let number = self
            .role_numbers
            .get(&RoleKey::new(kind, namespace, name))?;
        self.slot(*number)?.role.as_ref()
    }

    /// The binding of this namespace (empty for ClusterRoleBindings) and name.
    pub fn binding(&self, namespace: &str, name: &str) -> Option<&Arc<Binding>> {
        let key = BindingKey::new(namespace, name);
        self.bindings.get(&key).map(|stored| &stored.binding)
    }

    /// The rules in force of a role: as written, or as aggregated.
    pub fn effective_rules(
        &self,
        kind: RoleKind,
        namespace: &str,
        name: &str,
    ) -> Option<&[EffectiveRule]> {
        let number = self
            .role_numbers
            .get(&RoleKey::new(kind, namespace, name))?;
        Some(&self.compiled(*number)?.effective)
    }

    /// The role that a reference means in a binding of this namespace, or the API server's error text.
    pub fn resolve(&self, role_ref: &RoleRef, namespace: &str) -> Result<&[EffectiveRule], String> {
        let key = RoleKey::of(role_ref, namespace);
        let number = self.role_numbers.get(&key);
        number
            .and_then(|number| self.compiled(*number))
            .map(|compiled| &*compiled.effective)
            .ok_or_else(|| key.unresolved())
    }

    /// The bindings that refer to a role, in order.
    pub fn bindings_of_role(
        &self,
        kind: RoleKind,
        namespace: &str,
        name: &str,
    ) -> impl Iterator<Item = &Arc<Binding>> {
        let number = self.role_numbers.get(&RoleKey::new(kind, namespace, name));
        let slot = number.and_then(|number| self.slot(*number));
        slot.into_iter()
            .flat_map(|slot| slot.bindings.iter())
            .filter_map(|key| self.bindings.get(key))
            .map(|stored| &stored.binding)
    }

    /// The namespaces in which there is a RoleBinding, sorted.
    pub fn bound_namespaces(&self) -> Vec<&str> {
        let mut namespaces: Vec<&str> = Vec::new();
        for key in self.bindings.keys().filter(|key| !key.namespace.is_empty()) {
            if namespaces.last() != Some(&&*key.namespace) {
                namespaces.push(&key.namespace);
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
        self.compiled.get(role)?.as_deref()
    }

    pub(crate) fn role_key(&self, role: u32) -> Option<&RoleKey> {
        self.slot(role).map(|slot| &slot.key)
    }

    fn slot(&self, role: u32) -> Option<&Slot> {
        self.slots.get(role as usize)
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

    #[inline]
    pub(crate) fn namespace_symbol(&self, namespace: &str) -> Option<Symbol> {
        self.symbols.get(namespace)
    }

    /// Every role that exists, with its number, ClusterRoles first.
    pub(crate) fn compiled_roles(&self) -> impl Iterator<Item = (u32, &CompiledRole)> {
        let numbers = self.role_numbers.values();
        numbers.filter_map(|number| Some((*number, self.compiled(*number)?)))
    }

    pub(crate) fn bindings_of_number(&self, role: u32) -> impl Iterator<Item = &Arc<Binding>> {
        let slot = self.slot(role);
        let keys = slot.into_iter().flat_map(|slot| slot.bindings.iter());
        keys.filter_map(|key| self.bindings.get(key))
            .map(|stored| &stored.binding)
    }

    /// All stored bindings in the API server's order.
    pub(crate) fn all_bindings(&self) -> impl Iterator<Item = &StoredBinding> {
        self.bindings.values().map(|stored| &**stored)
    }

    /// Stored bindings in the API server's order, of one namespace (empty: ClusterRoleBindings).
    pub(crate) fn bindings_in(&self, namespace: &str) -> impl Iterator<Item = &StoredBinding> {
        let first = BindingKey::new(namespace, "");
        let from = self.bindings.range(first.clone()..);
        from.take_while(move |(key, _)| key.namespace == first.namespace)
            .map(|(_, stored)| &**stored)
    }
}

impl SubjectEntry {
    #[inline]
    pub(crate) fn in_namespace(&self, namespace: Symbol) -> Option<&Grants> {
        self.namespaces.get(namespace)
    }

    /// Every grant of every scope, in no order that means anything.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Grant> {
        let namespaces = self.namespaces.iter().flat_map(Grants::iter);
        self.cluster.iter().chain(namespaces)
    }
}

// === impl keys ===

impl RoleKey {
    pub(crate) fn new(kind: RoleKind, namespace: &str, name: &str) -> Self {
        match kind {
            RoleKind::ClusterRole => Self::ClusterRole(name.into()),
            RoleKind::Role => Self::Role {
                namespace: namespace.into(),
                name: name.into(),
            },
        }
    }

    /// What a reference means in a binding of this namespace. A ClusterRoleBinding to a Role looks for it in the empty
    /// namespace, where there is none.
    pub(crate) fn of(role_ref: &RoleRef, namespace: &str) -> Self {
        match role_ref.kind.as_str() {
            "ClusterRole" => Self::new(RoleKind::ClusterRole, "", &role_ref.name),
            "Role" => Self::new(RoleKind::Role, namespace, &role_ref.name),
            other => Self::Unsupported(other.into()),
        }
    }

    /// The API server's error when there is no such role.
    pub(crate) fn unresolved(&self) -> String {
        match self {
            Self::ClusterRole(name) => format!(
                "clusterrole.rbac.authorization.k8s.io {} not found",
                Quoted(name)
            ),
            Self::Role { name, .. } => {
                format!("role.rbac.authorization.k8s.io {} not found", Quoted(name))
            }
            Self::Unsupported(kind) => {
                format!("unsupported role reference kind: {}", Quoted(kind))
            }
        }
    }
}

impl BindingKey {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub(crate) fn of(binding: &Binding) -> Self {
        match binding.kind {
            BindingKind::ClusterRoleBinding => Self::new("", &binding.metadata.name),
            BindingKind::RoleBinding => {
                Self::new(&binding.metadata.namespace, &binding.metadata.name)
            }
        }
    }
}

#[cfg(test)]
mod tests;

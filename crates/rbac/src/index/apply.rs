//! Building and changing an index.

use std::sync::Arc;

use super::grants::{Grant, Grants};
use super::{
    BindingKey, CompiledRole, EffectiveRule, IdentityKind, Index, RoleKey, Slot, StoredBinding,
    SubjectEntry,
};
use crate::object::{Binding, BindingKind, Identity, Object, Role, RoleKind};

/// One change of one object, as a watch reports it.
#[derive(Debug, Clone)]
pub enum Change {
    /// The object was added or replaced.
    Put(Object),
    /// The object is gone. Deleting what is not there changes nothing.
    Delete(ObjectKey),
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ObjectKey {
    /// A Role, or with an empty namespace and the other kind a ClusterRole.
    Role {
        /// Role or ClusterRole.
        kind: RoleKind,
        /// Empty for ClusterRoles.
        namespace: String,
        /// Object name.
        name: String,
    },
    /// A RoleBinding, or with an empty namespace and the other kind a ClusterRoleBinding.
    Binding {
        /// RoleBinding or ClusterRoleBinding.
        kind: BindingKind,
        /// Empty for ClusterRoleBindings.
        namespace: String,
        /// Object name.
        name: String,
    },
}

/// An object that cannot be indexed. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No object has an empty name.
    #[error("{kind} without a name")]
    NoName {
        /// Its kind.
        kind: &'static str,
    },
    /// Manifests may leave the namespace to `kubectl apply -n`; see
    /// [`Object::settle_namespace`](crate::Object::settle_namespace).
    #[error("{kind} `{name}` without a namespace")]
    NoNamespace {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

impl Index {
    /// An index of these objects, and which of them were refused. Of two objects of the same key the later one holds.
    pub fn build(objects: impl IntoIterator<Item = Object>) -> (Self, Vec<Refused>) {
        let mut index = Self::default();
        let mut refused = Vec::new();
        for object in objects {
            if let Err(error) = index.put(object) {
                refused.push(error);
            }
        }
        index.aggregate();
        (index, refused)
    }

    /// Applies one change. Changing one binding costs microseconds whatever the size of the index; changing a
    /// ClusterRole that aggregation collects costs a computation of all aggregated roles.
    pub fn apply(&mut self, change: Change) -> Result<(), Refused> {
        let aggregates = match change {
            Change::Put(object) => self.put(object)?,
            Change::Delete(ObjectKey::Binding {
                kind,
                namespace,
                name,
            }) => {
                let namespace = match kind {
                    BindingKind::ClusterRoleBinding => "",
                    BindingKind::RoleBinding => &namespace,
                };
                self.remove_binding(&BindingKey::new(namespace, &name));
                false
            }
            Change::Delete(ObjectKey::Role {
                kind,
                namespace,
                name,
            }) => self.remove_role(&RoleKey::new(kind, &namespace, &name)),
        };
        if aggregates {
            self.aggregate();
        }
        Ok(())
    }

    /// Puts an object in place; true if aggregated roles must be computed anew.
    fn put(&mut self, object: Object) -> Result<bool, Refused> {
        let kind = object.kind();
        let metadata = object.metadata();
        if metadata.name.is_empty() {
            return Err(Refused::NoName { kind });
        }
        if object.is_namespaced() && metadata.namespace.is_empty() {
            return Err(Refused::NoNamespace {
                kind,
                name: metadata.name.clone(),
            });
        }
        Ok(match object {
            Object::Role(role) => self.put_role(role),
            Object::Binding(binding) => {
                self.put_binding(binding);
                false
            }
        })
    }

    fn put_binding(&mut self, mut binding: Binding) {
        if binding.kind == BindingKind::ClusterRoleBinding {
            binding.metadata.namespace.clear();
        }
        let key = BindingKey::of(&binding);
        self.remove_binding(&key);
        let binding = Arc::new(binding);
        let role = self.number(RoleKey::of(&binding.role_ref, &key.namespace));
        if let Some(slot) = self.slots.get_mut(role as usize) {
            slot.bindings.insert(key.clone());
        }
        let namespace = (!key.namespace.is_empty()).then(|| self.symbols.intern(&key.namespace));
        for (place, identity) in identities(&binding) {
            let grant = Grant {
                binding: binding.clone(),
                role,
                subject: u32::try_from(place).unwrap_or(u32::MAX),
            };
            self.with_grants(&identity, namespace, |grants| grants.insert(grant));
        }
        self.bindings
            .insert(key, Arc::new(StoredBinding { binding, role }));
    }

    fn remove_binding(&mut self, key: &BindingKey) {
        let Some(stored) = self.bindings.remove(key) else {
            return;
        };
        let namespace = (!key.namespace.is_empty())
            .then(|| self.symbols.get(&key.namespace))
            .flatten();
        for (_, identity) in identities(&stored.binding) {
            self.with_grants(&identity, namespace, |grants| {
                grants.remove(stored.role, &key.name)
            });
        }
        if namespace.is_some() {
            self.symbols.release(&key.namespace);
        }
        if let Some(slot) = self.slots.get_mut(stored.role as usize) {
            slot.bindings.remove(key);
        }
        self.free_if_unused(stored.role);
    }

    /// Changes the grants of a subject in one scope, and forgets subjects and scopes without any.
    fn with_grants(
        &mut self,
        identity: &Identity,
        namespace: Option<super::Symbol>,
        change: impl FnOnce(&mut Grants),
    ) {
        let (kind, name) = match identity {
            Identity::User(name) => (IdentityKind::User, name),
            Identity::Group(name) => (IdentityKind::Group, name),
        };
        let hash = self.hasher.hash(kind as u8, name);
        let is = |entry: &SubjectEntry| entry.kind == kind && &*entry.name == name.as_str();
        let make = || SubjectEntry {
            kind,
            name: name.as_str().into(),
            cluster: Grants::default(),
            namespaces: Default::default(),
        };
        let Some(entry) = self.subjects.entry(hash, is, make) else {
            return;
        };
        match namespace {
            None => change(&mut entry.cluster),
            Some(namespace) => {
                if let Some(grants) = entry.namespaces.of(namespace) {
                    change(grants);
                }
                entry.namespaces.drop_if_empty(namespace);
            }
        }
        if entry.cluster.is_empty() && entry.namespaces.is_empty() {
            self.subjects.remove(hash, is);
        }
    }

    fn put_role(&mut self, mut role: Role) -> bool {
        if role.kind == RoleKind::ClusterRole {
            role.metadata.namespace.clear();
        } else {
            role.aggregation = None;
        }
        let key = RoleKey::new(role.kind, &role.metadata.namespace, &role.metadata.name);
        let role = Arc::new(role);
        let number = self.number(key);
        let before = self
            .slots
            .get_mut(number as usize)
            .and_then(|slot| slot.role.replace(role.clone()));
        let aggregates = self.feeds_aggregation(&role)
            || before.is_some_and(|before| self.feeds_aggregation(&before));
        if role.aggregation.is_some() {
            self.aggregated
                .insert(role.metadata.name.as_str().into(), number);
            self.compile(number, role, Arc::default());
        } else {
            self.aggregated.remove(role.metadata.name.as_str());
            let effective = role.rules.iter().map(|rule| EffectiveRule {
                rule: rule.clone(),
                origin: None,
            });
            let effective = effective.collect();
            self.compile(number, role, effective);
        }
        aggregates
    }

    fn remove_role(&mut self, key: &RoleKey) -> bool {
        let Some(number) = self.role_numbers.get(key).copied() else {
            return false;
        };
        let before = self
            .slots
            .get_mut(number as usize)
            .and_then(|slot| slot.role.take());
        let Some(before) = before else {
            return false;
        };
        let aggregates = self.feeds_aggregation(&before);
        if before.aggregation.is_some() {
            self.aggregated.remove(before.metadata.name.as_str());
        }
        self.uncompile(number);
        self.free_if_unused(number);
        aggregates
    }

    /// Puts the rules in force of a role in place of those before.
    pub(super) fn compile(
        &mut self,
        number: u32,
        role: Arc<Role>,
        effective: Arc<[EffectiveRule]>,
    ) {
        // The new symbols are taken before the old ones are given back, so that a symbol both use keeps its number.
        let compiled = CompiledRole::new(&mut self.symbols, role, effective);
        self.uncompile(number);
        if let Some(slot) = self.compiled.slot(number) {
            *slot = Some(Arc::new(compiled));
        }
    }

    fn uncompile(&mut self, number: u32) {
        if let Some(before) = self.compiled.slot(number).and_then(Option::take) {
            before.release(&mut self.symbols);
        }
    }

    /// The number of a role, whether it exists or is only referred to.
    fn number(&mut self, key: RoleKey) -> u32 {
        if let Some(number) = self.role_numbers.get(&key) {
            return *number;
        }
        let slot = Slot {
            key: key.clone(),
            role: None,
            bindings: Default::default(),
        };
        let number = match self.free_slots.pop_back() {
            Some(free) => {
                if let Some(place) = self.slots.get_mut(free as usize) {
                    *place = slot;
                }
                free
            }
            None => {
                self.slots.push_back(slot);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.role_numbers.insert(key, number);
        number
    }

    fn free_if_unused(&mut self, number: u32) {
        let unused = |slot: &&Slot| slot.role.is_none() && slot.bindings.is_empty();
        if let Some(slot) = self.slots.get(number as usize).filter(unused) {
            self.role_numbers.remove(&slot.key.clone());
            self.free_slots.push_back(number);
        }
    }
}

/// Everyone a binding names, each once, with the first place that names them.
fn identities(binding: &Binding) -> Vec<(usize, Identity)> {
    let namespace = match binding.kind {
        BindingKind::ClusterRoleBinding => "",
        BindingKind::RoleBinding => &binding.metadata.namespace,
    };
    let subjects = binding.subjects.iter().enumerate();
    let mut identities: Vec<(usize, Identity)> = subjects
        .filter_map(|(place, subject)| Some((place, subject.identity_in(namespace)?)))
        .collect();
    if identities.len() > 1 {
        identities.sort_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0)));
        identities.dedup_by(|later, first| later.1 == first.1);
    }
    identities
}

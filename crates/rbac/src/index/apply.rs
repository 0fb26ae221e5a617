//! Building and changing an index.

use std::borrow::Cow;
use std::sync::Arc;

use super::grants::{Grant, GrantSet};
use super::{
    BindingName, ByName, CompiledRole, EffectiveRule, IdentityKind, Index, RoleKey, RoleNumber,
    Slot, StoredBinding, SubjectEntry,
};
use crate::object::{Binding, BindingKind, Object, Role, RoleKind};

/// One change of one object, as a watch reports it.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a change is applied and gone, not kept by the thousand"
)]
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

impl SubjectEntry {
    fn new(kind: IdentityKind, name: &str) -> Self {
        Self {
            name: name.into(),
            kind,
            grants: Default::default(),
        }
    }
}

impl Index {
    /// An index of these objects, and which of them were refused. Of two objects of the same key the later one holds.
    pub fn build(objects: impl IntoIterator<Item = Object>) -> (Self, Vec<Refused>) {
        let mut index = Self::default();
        let mut refused = Vec::new();
        let mut bindings = Vec::new();
        for object in objects {
            match check(&object) {
                Err(error) => refused.push(error),
                Ok(()) => match object {
                    Object::Role(role) => _ = index.put_role(role),
                    Object::Binding(binding) => bindings.push(settled(binding)),
                },
            }
        }
        index.put_all_bindings(bindings);
        index.aggregate();
        index.pack_roles();
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
                self.remove_binding(namespace, &name);
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
        check(&object)?;
        Ok(match object {
            Object::Role(role) => self.put_role(role),
            Object::Binding(binding) => {
                let binding = settled(binding);
                self.remove_binding(&binding.metadata.namespace, &binding.metadata.name);
                let stored = self.store(binding);
                let scope = self.scope(&stored.binding.metadata.namespace).hash;
                for (place, kind, name) in identities(&stored.binding) {
                    let grant = Grant::new(stored.clone(), scope, place);
                    self.with_grants(kind, &name, |grants| grants.insert(grant));
                }
                self.bindings.insert(ByName(stored));
                false
            }
        })
    }

    /// Puts the first bindings of an index in place: sorted, and every subject in one go, which is several times as
    /// fast as one by one and leaves what requests look at close together in memory.
    fn put_all_bindings(&mut self, bindings: Vec<Binding>) {
        let stored: Vec<_> = bindings.into_iter().map(|b| self.store(b)).collect();
        let mut order: Vec<_> = stored.iter().enumerate().collect();
        order.sort_unstable_by_key(|(at, stored)| (stored.names(), *at));
        let mut sorted: Vec<Arc<StoredBinding>> = Vec::with_capacity(stored.len());
        for (_, stored) in order {
            // Of two bindings of the same name the later one holds.
            if let Some(before) = sorted.pop_if(|before| before.names() == stored.names()) {
                self.forget_use(before.role);
            }
            sorted.push(stored.clone());
        }
        let stored = sorted;
        let mut grants = Vec::new();
        for stored in &stored {
            let scope = self.scope(&stored.binding.metadata.namespace).hash;
            for (place, kind, name) in identities(&stored.binding) {
                let hash = self.hasher.hash(kind as u8, &name);
                let grant = Grant::new(stored.clone(), scope, place);
                grants.push((hash, kind, name, grant));
            }
        }
        type Named<'a> = (u64, IdentityKind, Cow<'a, str>, Grant);
        let order = |a: &Named<'_>, b: &Named<'_>| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2));
        grants.sort_by(order);
        let of_one = |a: &Named<'_>, b: &Named<'_>| order(a, b).is_eq();
        let subjects = grants.chunk_by(of_one).count();
        self.subjects.reserve(subjects);
        for of_subject in grants.chunk_by(of_one) {
            let Some((hash, kind, name, ..)) = of_subject.first() else {
                continue;
            };
            let mut entry = SubjectEntry::new(*kind, name);
            for (.., grant) in of_subject {
                entry.grants.insert(grant.clone());
            }
            self.subjects.add(*hash, entry);
        }
        self.bindings = stored.into_iter().map(ByName).collect();
    }

    /// Counts a binding's use of its role.
    fn store(&mut self, binding: Binding) -> Arc<StoredBinding> {
        let key = RoleKey::of(&binding.role_ref, &binding.metadata.namespace);
        let role = self.number(&key);
        if let Some(Some(slot)) = self.slots.slot(role) {
            slot.bindings += 1;
        }
        Arc::new(StoredBinding { binding, role })
    }

    fn forget_use(&mut self, role: u32) {
        if let Some(Some(slot)) = self.slots.slot(role) {
            slot.bindings -= 1;
        }
        self.free_if_unused(role);
    }

    fn remove_binding(&mut self, namespace: &str, name: &str) {
        let Some(stored) = self.stored_binding(namespace, name).cloned() else {
            return;
        };
        let scope = self.scope(namespace);
        for (_, kind, identity) in identities(&stored.binding) {
            self.with_grants(kind, &identity, |grants| grants.remove(&stored, scope));
        }
        self.forget_use(stored.role);
        self.bindings.remove(&ByName(stored));
    }

    /// Changes the grants of a subject, and forgets a subject without any.
    fn with_grants(&mut self, kind: IdentityKind, name: &str, change: impl FnOnce(&mut GrantSet)) {
        let hash = self.hasher.hash(kind as u8, name);
        let is = |entry: &SubjectEntry| entry.kind == kind && &*entry.name == name;
        let make = || SubjectEntry::new(kind, name);
        let Some(entry) = self.subjects.entry(hash, is, make) else {
            return;
        };
        change(&mut entry.grants);
        if entry.grants.is_empty() {
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
        let number = self.number(&key);
        let role = Arc::new(role);
        let slot = self.slots.slot(number).and_then(Option::as_mut);
        let before = slot.and_then(|slot| slot.role.replace(role.clone()));
        let before_aggregates = before
            .as_ref()
            .is_some_and(|role| role.aggregation.is_some());
        let aggregates = self.feeds_aggregation(&role)
            || before.is_some_and(|before| self.feeds_aggregation(&before));
        if role.aggregation.is_some() {
            self.aggregated
                .insert(role.metadata.name.as_str().into(), number);
            self.compile(number, role, Arc::default());
        } else {
            if before_aggregates {
                self.aggregated.remove(role.metadata.name.as_str());
            }
            let effective = role.rules.iter().map(|rule| EffectiveRule {
                rule: rule.clone(),
                origin: None,
            });
            let effective = effective.collect();
            self.compile(number, role, effective);
        }
        aggregates
    }

    fn remove_role(&mut self, key: &RoleKey<&str>) -> bool {
        let Some(number) = self.number_of(key) else {
            return false;
        };
        let slot = self.slots.slot(number).and_then(Option::as_mut);
        let before = slot.and_then(|slot| slot.role.take());
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
            *slot = Some(compiled);
        }
    }

    /// Puts the compiled roles next to each other in memory.
    fn pack_roles(&mut self) {
        for number in 0..self.issued_slots {
            if let Some(Some(compiled)) = self.compiled.slot(number) {
                compiled.pack();
            }
        }
    }

    fn uncompile(&mut self, number: u32) {
        if let Some(before) = self.compiled.slot(number).and_then(Option::take) {
            before.release(&mut self.symbols);
        }
    }

    /// The number of a role, whether it exists or is only referred to.
    fn number(&mut self, key: &RoleKey<&str>) -> u32 {
        if let Some(number) = self.number_of(key) {
            return number;
        }
        let slot = Slot {
            key: key.to_shared(),
            role: None,
            bindings: 0,
        };
        let entry = |number| RoleNumber {
            key: slot.key.clone(),
            number,
        };
        let number = self.free_slots.pop_back().unwrap_or_else(|| {
            self.issued_slots += 1;
            self.issued_slots - 1
        });
        let is = |entry: &RoleNumber| entry.key.as_deref() == *key;
        self.role_numbers
            .entry(key.hash(&self.hasher), is, || entry(number));
        if let Some(place) = self.slots.slot(number) {
            *place = Some(slot);
        }
        number
    }

    fn free_if_unused(&mut self, number: u32) {
        let unused = |slot: &Slot| slot.role.is_none() && slot.bindings == 0;
        let Some(place) = self.slots.slot(number) else {
            return;
        };
        if let Some(slot) = place.take_if(|slot| unused(slot)) {
            let key = slot.key.as_deref();
            let is = |entry: &RoleNumber| entry.key.as_deref() == key;
            self.role_numbers.remove(key.hash(&self.hasher), is);
            self.free_slots.push_back(number);
        }
    }
}

/// Whether an object can be indexed at all.
fn check(object: &Object) -> Result<(), Refused> {
    let kind = object.kind();
    let metadata = object.metadata();
    if metadata.name.is_empty() {
        return Err(Refused::NoName { kind });
    }
    if object.is_namespaced() && metadata.namespace.is_empty() {
        let name = metadata.name.clone();
        return Err(Refused::NoNamespace { kind, name });
    }
    Ok(())
}

/// A ClusterRoleBinding has no namespace, whatever was written.
fn settled(mut binding: Binding) -> Binding {
    if binding.kind == BindingKind::ClusterRoleBinding {
        binding.metadata.namespace.clear();
    }
    binding
}

/// Everyone a binding names, each once, with the first place that names them.
fn identities(binding: &Binding) -> Vec<(usize, IdentityKind, Cow<'_, str>)> {
    let namespace = &binding.metadata.namespace;
    let subjects = binding.subjects.iter().enumerate();
    let mut identities: Vec<_> = subjects
        .filter_map(|(place, subject)| {
            let (kind, name) = subject.compared_in(namespace)?;
            Some((place, kind, name))
        })
        .collect();
    if identities.len() > 1 {
        identities.sort_by(|a, b| (a.1, &a.2, a.0).cmp(&(b.1, &b.2, b.0)));
        identities.dedup_by(|later, first| (later.1, &later.2) == (first.1, &first.2));
    }
    identities
}

//! Who may do something: the reverse question (access review spec, B.3).

use std::collections::HashMap;

use crate::catalog::{Catalog, Scope};
use crate::decision::Chain;
use crate::index::{CompiledRole, Index};
use crate::object::{Binding, BindingKind, PolicyRule};
use crate::request::{Action, ResourceAction};
use crate::rule::Part;

/// Where to look for bindings that grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Where the action itself is: cluster-wide and in its namespace.
    ActionNamespace,
    /// Cluster-wide and in every namespace, each grant told with its own.
    Everywhere,
}

/// Who may do something. Besides those listed, members of `system:masters` always may, whatever the objects say; and
/// other authorizers may allow more.
#[derive(Debug, Clone, Default)]
pub struct WhoCan<'a> {
    /// Everyone who may: one chain per subject, binding and first rule that grants; ClusterRoleBindings first, then by
    /// namespace and name.
    pub granted: Vec<Chain<'a>>,
    /// Asked without a name, those who may for certain names only.
    pub for_names: Vec<Chain<'a>>,
    /// RoleBindings that carry the right and cannot give it: the resource is cluster-scoped, or no resource.
    pub in_vain: Vec<Chain<'a>>,
    /// Bindings in scope whose role is missing, so that nobody knows what they grant.
    pub unresolved: Vec<(&'a Binding, String)>,
}

impl Index {
    /// Who may do this. Looks once at every binding, and once at every role that is bound.
    ///
    /// The catalog tells which resources are cluster-scoped: for these a namespace in the question is ignored, and
    /// RoleBindings are reported as granting in vain.
    pub fn who_can(&self, action: &Action<'_>, place: Where, catalog: &Catalog) -> WhoCan<'_> {
        let mut answer = WhoCan::default();
        let action = &catalog.settle(*action).action;
        let is_cluster_scoped = match action {
            Action::Resource(action) => {
                catalog.scope(action.group, action.resource) == Some(Scope::Cluster)
            }
            Action::NonResource { .. } => true,
        };
        let mut by_role: HashMap<u32, Option<(GrantKind, usize)>> = HashMap::new();
        for stored in self.all_bindings() {
            let binding = &stored.binding;
            let reach = reach_of(binding, action, place, is_cluster_scoped);
            if reach == Reach::No {
                continue;
            }
            let Some(role) = self.compiled(stored.role) else {
                let key = self.role_key(stored.role);
                let missing = key.map(|key| (binding, key.unresolved()));
                answer
                    .unresolved
                    .extend(missing.filter(|_| reach == Reach::Yes));
                continue;
            };
            let granted = by_role
                .entry(stored.role)
                .or_insert_with(|| self.grant_of(role, action));
            let Some((kind, rule_index)) = *granted else {
                continue;
            };
            let list = match (reach, kind) {
                (Reach::Yes, GrantKind::Full) => &mut answer.granted,
                (Reach::Yes, GrantKind::NamesOnly) => &mut answer.for_names,
                (Reach::InVain, GrantKind::Full) => &mut answer.in_vain,
                (Reach::InVain, GrantKind::NamesOnly) | (Reach::No, _) => continue,
            };
            let subjects = binding.subjects.iter().enumerate();
            let namespace = &binding.metadata.namespace;
            let can_match = subjects.filter(|(_, s)| s.compared_in(namespace).is_some());
            list.extend(
                can_match.map(|(subject, _)| Chain::new(binding, subject, role, rule_index)),
            );
        }
        answer
    }

    fn grant_of(&self, role: &CompiledRole, action: &Action<'_>) -> Option<(GrantKind, usize)> {
        if let Some(rule) = role.first_granting(&self.probe(action)) {
            return Some((GrantKind::Full, rule));
        }
        let Action::Resource(ResourceAction { name: "", .. }) = action else {
            return None;
        };
        let mut rules = role.detail.effective.iter();
        let named = |rule: &PolicyRule| rule.only_missing(action) == Some(Part::Name);
        let place = rules.position(|effective| named(&effective.rule))?;
        Some((GrantKind::NamesOnly, place))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum GrantKind {
    Full,
    NamesOnly,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Yes,
    InVain,
    No,
}

/// Whether what a binding grants takes effect for the action.
fn reach_of(
    binding: &Binding,
    action: &Action<'_>,
    place: Where,
    is_cluster_scoped: bool,
) -> Reach {
    if binding.kind == BindingKind::ClusterRoleBinding {
        return Reach::Yes;
    }
    let namespace = match action {
        Action::Resource(action) => action.namespace,
        Action::NonResource { .. } => "",
    };
    let is_local = binding.metadata.namespace == namespace;
    match place {
        // A named namespace is asked for in itself.
        _ if is_cluster_scoped && namespace.is_empty() => Reach::InVain,
        Where::Everywhere if !is_cluster_scoped => Reach::Yes,
        Where::Everywhere | Where::ActionNamespace if is_local => Reach::Yes,
        Where::Everywhere | Where::ActionNamespace => Reach::No,
    }
}

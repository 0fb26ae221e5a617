//! Who may do something: the reverse question (access review spec, B.3).

use crate::catalog::{Catalog, Scope};
use crate::decision::Chain;
use crate::index::{CompiledRole, Index};
use crate::object::{BindingKind, PolicyRule};
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
    pub unresolved: Vec<(&'a crate::object::Binding, String)>,
}

impl Index {
    /// Who may do this. Looks at every role once, and then only at the bindings of those that grant.
    ///
    /// The catalog tells which resources are cluster-scoped: for these a namespace in the question is ignored, and
    /// RoleBindings are reported as granting in vain.
    pub fn who_can(&self, action: &Action<'_>, place: Where, catalog: &Catalog) -> WhoCan<'_> {
        let mut answer = WhoCan::default();
        let action = &catalog.settle(*action).action;
        for (number, role) in self.compiled_roles() {
            let Some((grant, rule_index)) = self.grant_of(role, action) else {
                continue;
            };
            let Some(effective) = role.effective.get(rule_index) else {
                continue;
            };
            for binding in self.bindings_of_number(number) {
                let list = match reaches(
                    binding.kind,
                    &binding.metadata.namespace,
                    action,
                    place,
                    catalog,
                ) {
                    Reach::No => continue,
                    Reach::InVain if grant == GrantKind::Full => &mut answer.in_vain,
                    Reach::InVain => continue,
                    Reach::Yes if grant == GrantKind::Full => &mut answer.granted,
                    Reach::Yes => &mut answer.for_names,
                };
                let namespace = &binding.metadata.namespace;
                let subjects = binding.subjects.iter().enumerate();
                let can_match = subjects.filter(|(_, s)| s.identity_in(namespace).is_some());
                list.extend(can_match.map(|(subject_index, _)| Chain {
                    binding,
                    subject_index,
                    role: &role.role,
                    rule_index,
                    effective,
                }));
            }
        }
        for list in [
            &mut answer.granted,
            &mut answer.for_names,
            &mut answer.in_vain,
        ] {
            list.sort_by(|a, b| order(a).cmp(&order(b)));
        }
        self.unresolved_in(action, place, &mut answer);
        answer
    }

    fn grant_of(&self, role: &CompiledRole, action: &Action<'_>) -> Option<(GrantKind, usize)> {
        if let Some(rule) = role.first_granting(&self.probe(action)) {
            return Some((GrantKind::Full, rule));
        }
        let Action::Resource(ResourceAction { name: "", .. }) = action else {
            return None;
        };
        let mut rules = role.effective.iter();
        let named = |rule: &PolicyRule| rule.only_missing(action) == Some(Part::Name);
        let place = rules.position(|effective| named(&effective.rule))?;
        Some((GrantKind::NamesOnly, place))
    }

    fn unresolved_in<'a>(&'a self, action: &Action<'_>, place: Where, answer: &mut WhoCan<'a>) {
        let namespace = match action {
            Action::Resource(action) => action.namespace,
            Action::NonResource { .. } => "",
        };
        let everywhere = place == Where::Everywhere;
        let missing = self.bindings_with_missing_role(everywhere, namespace);
        answer.unresolved = missing.collect();
    }

    /// Bindings whose role is missing: all of them, or those of the cluster and one namespace.
    fn bindings_with_missing_role<'a>(
        &'a self,
        everywhere: bool,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a crate::object::Binding, String)> {
        let all = everywhere.then(|| self.all_bindings());
        let cluster = (!everywhere).then(|| self.bindings_in(""));
        let local = (!everywhere && !namespace.is_empty()).then(|| self.bindings_in(namespace));
        let some = cluster
            .into_iter()
            .flatten()
            .chain(local.into_iter().flatten());
        let stored = all.into_iter().flatten().chain(some);
        stored.filter_map(|stored| {
            let missing = self.compiled(stored.role).is_none();
            let key = missing.then(|| self.role_key(stored.role)).flatten()?;
            Some((&*stored.binding, key.unresolved()))
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum GrantKind {
    Full,
    NamesOnly,
}

enum Reach {
    Yes,
    InVain,
    No,
}

/// Whether a binding's grant of the action takes effect.
fn reaches(
    kind: BindingKind,
    binding_namespace: &str,
    action: &Action<'_>,
    place: Where,
    catalog: &Catalog,
) -> Reach {
    let Action::Resource(action) = action else {
        return match kind {
            BindingKind::ClusterRoleBinding => Reach::Yes,
            BindingKind::RoleBinding => Reach::InVain,
        };
    };
    if kind == BindingKind::ClusterRoleBinding {
        return Reach::Yes;
    }
    let cluster_scoped = catalog.scope(action.group, action.resource) == Some(Scope::Cluster);
    if cluster_scoped && !crate::catalog::is_own_namespace(action) {
        return Reach::InVain;
    }
    match place {
        Where::Everywhere if !cluster_scoped => Reach::Yes,
        Where::Everywhere | Where::ActionNamespace if action.namespace == binding_namespace => {
            Reach::Yes
        }
        Where::Everywhere | Where::ActionNamespace => Reach::No,
    }
}

fn order<'a>(chain: &Chain<'a>) -> (BindingKind, &'a str, &'a str, usize) {
    let metadata = &chain.binding.metadata;
    (
        chain.binding.kind,
        &metadata.namespace,
        &metadata.name,
        chain.subject_index,
    )
}

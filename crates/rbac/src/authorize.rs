//! Deciding requests.

use crate::decision::{Chain, Decision, Held, NoOpinion};
use crate::index::{Grant, GrantSet, IdentityKind, Index, Probe, RoleKey, Scope, SubjectEntry};
use crate::object::BindingKind;
use crate::request::{Request, User};

impl Index {
    /// What the RBAC authorizer answers.
    ///
    /// The chain is the first one in the API server's order: ClusterRoleBindings by name, then the RoleBindings of the
    /// namespace by name, then the subjects and rules in their order.
    ///
    /// Allocates nothing. The cost is one lookup per group of the caller, and a few comparisons per distinct role that
    /// the caller is granted in the scope; how many bindings others have does not matter.
    #[inline]
    pub fn authorize<'a>(&'a self, request: &Request<'a>) -> Decision<'a> {
        let mut search = Search {
            index: self,
            probe: self.probe(&request.action),
            cluster: None,
            namespace: None,
            unresolved: false,
        };
        let namespace = request.namespace().map(|namespace| self.scope(namespace));
        let mut look = |entry: Option<&'a SubjectEntry>| {
            if let Some(entry) = entry {
                search.look(&entry.grants, namespace);
            }
        };
        look(self.subject(IdentityKind::User, request.user.name));
        for group in request.user.groups.iter() {
            look(self.subject(IdentityKind::Group, group));
        }
        match search.found() {
            Some(chain) => Decision::Allow(chain),
            None => Decision::NoOpinion(NoOpinion {
                index: self,
                request: *request,
                unresolved: search.unresolved,
            }),
        }
    }

    /// As [`authorize`](Self::authorize), after letting members of `system:masters` pass as the API server does.
    #[inline]
    pub fn authorize_or_superuser<'a>(&'a self, request: &Request<'a>) -> Decision<'a> {
        if request.user.is_superuser() {
            return Decision::Superuser;
        }
        self.authorize(request)
    }

    /// Every chain that grants the request, in the API server's order: all subjects of a binding that match the
    /// caller and all rules that grant, since taking the right away means to take all of them.
    pub fn authorize_all<'a>(&'a self, request: &Request<'a>) -> Vec<Chain<'a>> {
        let mut chains = Vec::new();
        for held in self.bindings_for(&request.user, request.namespace()) {
            let Ok(role) = &held.role else {
                continue;
            };
            let rules: Vec<usize> = role.all_granting(&request.action).collect();
            if rules.is_empty() {
                continue;
            }
            for subject_index in held.subjects_matching(&request.user) {
                let rules = rules.iter();
                chains
                    .extend(rules.map(|rule| Chain::new(held.binding, subject_index, role, *rule)));
            }
        }
        chains
    }

    /// The bindings that name a caller, cluster-wide and in one namespace, in the API server's order and each once,
    /// with the first subject that matches.
    pub(crate) fn bindings_for<'a>(
        &'a self,
        user: &User<'_>,
        namespace: Option<&str>,
    ) -> Vec<Held<'a>> {
        let namespace = namespace.map(|namespace| self.scope(namespace));
        let mut grants: Vec<&Grant> = Vec::new();
        for entry in self.entries(user) {
            grants.extend(entry.reaching(namespace));
        }
        let key = |grant: &Grant| grant.binding().kind;
        grants.sort_by(|a, b| (key(a), a.order()).cmp(&(key(b), b.order())));
        grants.dedup_by(|later, first| std::ptr::eq(later.binding(), first.binding()));
        grants.into_iter().map(|grant| self.held(grant)).collect()
    }

    pub(crate) fn held<'a>(&'a self, grant: &'a Grant) -> Held<'a> {
        Held {
            binding: grant.binding(),
            subject_index: grant.subject(),
            role: self.compiled(grant.role).ok_or_else(|| {
                let binding = grant.binding();
                RoleKey::of(&binding.role_ref, &binding.metadata.namespace)
            }),
        }
    }

    /// What the index holds for the user and each of the groups.
    pub(crate) fn entries<'a>(&'a self, user: &User<'_>) -> impl Iterator<Item = &'a SubjectEntry> {
        let of_user = self.subject(IdentityKind::User, user.name);
        let groups = user.groups.iter();
        let of_groups = groups.filter_map(|group| self.subject(IdentityKind::Group, group));
        of_user.into_iter().chain(of_groups)
    }
}

struct Search<'a> {
    index: &'a Index,
    probe: Probe<'a>,
    cluster: Option<(&'a Grant, usize)>,
    namespace: Option<(&'a Grant, usize)>,
    unresolved: bool,
}

impl<'a> Search<'a> {
    #[inline]
    fn look(&mut self, grants: &'a GrantSet, namespace: Option<Scope<'_>>) {
        if let Some(found) = self.first(grants, Scope::CLUSTER, self.cluster) {
            self.cluster = Some(found);
        }
        if let (Some(namespace), None) = (namespace, self.cluster)
            && let Some(found) = self.first(grants, namespace, self.namespace)
        {
            self.namespace = Some(found);
        }
    }

    /// The first grant of a scope that grants, if it comes before what was found elsewhere.
    #[inline]
    fn first(
        &mut self,
        grants: &'a GrantSet,
        scope: Scope<'_>,
        best: Option<(&'a Grant, usize)>,
    ) -> Option<(&'a Grant, usize)> {
        let found = grants.find(scope, |grant| {
            if best.is_some_and(|(best, _)| grant.order() >= best.order()) {
                return Some(None);
            }
            let Some(role) = self.index.compiled(grant.role) else {
                self.unresolved = true;
                return None;
            };
            let rule = role.first_granting(&self.probe)?;
            Some(Some((grant, rule)))
        });
        found.flatten()
    }

    #[inline]
    fn found(&self) -> Option<Chain<'a>> {
        let (grant, rule_index) = self.cluster.or(self.namespace)?;
        let role = self.index.compiled(grant.role)?;
        debug_assert!(
            self.cluster.is_none() == (grant.binding().kind == BindingKind::RoleBinding),
            "grants are kept by scope"
        );
        Some(grant.chain(role, rule_index))
    }
}

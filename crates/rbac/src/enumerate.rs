//! What a caller may do: the rules of a SelfSubjectRulesReview, with their origin.

use crate::decision::{Chain, aggregate};
use crate::index::Index;
use crate::object::BindingKind;
use crate::request::User;

/// The rules of a caller in one namespace, in the API server's order and unmerged, as it lists them itself.
#[derive(Debug, Clone)]
pub struct RulesFor<'a> {
    /// Every rule with the binding and role it comes through. Rules for resources and rules for URLs are not told
    /// apart here; see [`PolicyRule`](crate::PolicyRule).
    pub chains: Vec<Chain<'a>>,
    /// Errors in the API server's words: bindings of the caller whose role is missing.
    pub errors: Vec<String>,
}

impl Index {
    /// The rules of a caller: cluster-wide, and in a namespace unless that is empty.
    ///
    /// Members of `system:masters` are shown only what bindings give them, as the API server does; and what other
    /// authorizers allow is not here. So this is no proof that something is forbidden.
    pub fn rules_for(&self, user: &User<'_>, namespace: &str) -> RulesFor<'_> {
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        let mut chains = Vec::new();
        let mut errors = Vec::new();
        for held in self.bindings_for(user, namespace) {
            match held.role {
                Err(key) => errors.push(key.unresolved()),
                Ok(role) => {
                    let (binding, subject) = (held.binding, held.subject_index);
                    let rules = 0..role.detail.effective.len();
                    chains.extend(rules.map(|rule| Chain::new(binding, subject, role, rule)));
                }
            }
        }
        RulesFor { chains, errors }
    }

    /// The namespaces in which a caller is granted anything by a RoleBinding, sorted.
    pub fn namespaces_of(&self, user: &User<'_>) -> Vec<&str> {
        let grants = self.entries(user).flat_map(|entry| entry.grants.iter());
        let local = grants.filter(|grant| grant.binding().kind == BindingKind::RoleBinding);
        let mut namespaces: Vec<&str> = local
            .map(|grant| grant.binding().metadata.namespace.as_str())
            .collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        namespaces
    }
}

impl RulesFor<'_> {
    /// The errors as the API server joins them.
    pub fn evaluation_error(&self) -> String {
        aggregate(&self.errors)
    }
}

/// Why a rule that a binding carries grants nothing there, or less than it says (RBAC spec, sections 3.1 and 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vain {
    /// Requests for paths have no namespace, so that no RoleBinding can grant them.
    UrlsInRoleBinding,
    /// These entries never match: `pods/*` and `*/*` are no wildcards.
    PseudoWildcards(Vec<String>),
    /// These verbs carry no name, or almost never, while the rule asks for one.
    NamesNeverSent(Vec<String>),
    /// No verbs, groups or resources: matches nothing.
    Empty,
}

impl Chain<'_> {
    /// What of the rule is in vain where it is bound. Resources of the wrong scope are a question for
    /// [`Catalog`](crate::Catalog), which knows scopes.
    pub fn in_vain(&self) -> Vec<Vain> {
        let rule = self.rule();
        let mut vain = Vec::new();
        if !rule.non_resource_urls.is_empty() && self.binding.kind == BindingKind::RoleBinding {
            vain.push(Vain::UrlsInRoleBinding);
        }
        let for_resources = !(rule.api_groups.is_empty() || rule.resources.is_empty());
        let for_urls = !rule.non_resource_urls.is_empty();
        if rule.verbs.is_empty() || !(for_resources || for_urls) {
            vain.push(Vain::Empty);
        }
        let pseudo = rule.resources.iter().filter(|r| r.ends_with("/*"));
        // The one request that has `*` for a subresource asks for all extra keys at once.
        let pseudo: Vec<String> = pseudo.filter(|r| *r != "userextras/*").cloned().collect();
        if !pseudo.is_empty() {
            vain.push(Vain::PseudoWildcards(pseudo));
        }
        if !rule.resource_names.is_empty() && !rule.resource_names.iter().any(String::is_empty) {
            let on_objects = rule.resources.iter().any(|r| !r.contains('/'));
            let nameless = rule.verbs.iter().filter(|verb| match verb.as_str() {
                "list" | "watch" | "deletecollection" => true,
                // A subresource is created on an object that has a name already.
                "create" => on_objects,
                _ => false,
            });
            let nameless: Vec<String> = nameless.cloned().collect();
            if !nameless.is_empty() {
                vain.push(Vain::NamesNeverSent(nameless));
            }
        }
        vain
    }
}

//! Why not: the places where a chain to the right was almost there (access review spec, B.7).

use crate::decision::{Chain, NoOpinion};
use crate::index::{CompiledRole, IdentityKind, Index};
use crate::object::{Binding, BindingKind, PolicyRule};
use crate::request::{Action, Request};
use crate::rule::Part;

/// A binding that nearly granted the request.
#[derive(Debug, Clone)]
pub struct NearMiss<'a> {
    /// The binding.
    pub binding: &'a Binding,
    /// Place of the subject in the binding.
    pub subject_index: usize,
    /// What keeps it from granting.
    pub obstacle: Obstacle<'a>,
}

/// What keeps a binding from granting a request.
#[derive(Debug, Clone)]
pub enum Obstacle<'a> {
    /// A rule grants the action, but the binding only holds in its own namespace. With a request at the cluster scope,
    /// a ClusterRoleBinding is needed.
    Scope(Chain<'a>),
    /// The role does not exist; the API server's words.
    MissingRole(String),
    /// A rule grants the action, but the binding names a user where the caller has a group of that name, or a group
    /// where the caller is a user of that name.
    SubjectKind(Chain<'a>),
    /// All parts of a rule hold but this one.
    Rule {
        /// The rule.
        chain: Chain<'a>,
        /// The part that does not hold.
        missing: Part,
        /// A likely mistake in the rule.
        suspect: Option<Suspect<'a>>,
    },
}

/// An entry of a rule that was probably meant to match and never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspect<'a> {
    /// `pods/*` or `*/*` are not wildcards.
    PseudoWildcard(&'a str),
    /// `Pods` or `pod`: resources are lower-case plurals.
    NotAPlural(&'a str),
    /// `core`, `v1` or `apps/v1`: a group has no version, and the core group is the empty string.
    NotAGroup(&'a str),
}

impl<'a> NoOpinion<'a> {
    /// The nearest misses, nearest first, at most `limit`.
    pub fn nearest(&self, limit: usize) -> Vec<NearMiss<'a>> {
        let mut misses = Vec::new();
        let request = &self.request;
        for held in self.index.bindings_for(&request.user, request.namespace()) {
            match &held.role {
                Ok(role) => {
                    rule_misses(held.binding, held.subject_index, role, request, &mut misses)
                }
                Err(key) => misses.push(NearMiss {
                    binding: held.binding,
                    subject_index: held.subject_index,
                    obstacle: Obstacle::MissingRole(key.unresolved()),
                }),
            }
        }
        self.elsewhere(&mut misses);
        self.wrong_kind(&mut misses);
        misses.sort_by_cached_key(|miss| {
            let metadata = &miss.binding.metadata;
            (
                miss.distance(),
                miss.binding.kind,
                metadata.namespace.clone(),
                metadata.name.clone(),
                miss.subject_index,
            )
        });
        misses.truncate(limit);
        misses
    }

    /// The groups of the caller that no binding names, neither cluster-wide nor in any namespace.
    pub fn unbound_groups(&self) -> Vec<&'a str> {
        let groups = self.request.user.groups.iter();
        groups
            .filter(|group| self.index.subject(IdentityKind::Group, group).is_none())
            .collect()
    }

    /// RoleBindings of other namespaces that would grant.
    fn elsewhere(&self, misses: &mut Vec<NearMiss<'a>>) {
        let Action::Resource(_) = self.request.action else {
            return self.urls_in_role_bindings(misses);
        };
        let asked = self.request.namespace();
        for entry in self.index.entries(&self.request.user) {
            for grant in entry.grants.iter() {
                let namespace = &grant.binding().metadata.namespace;
                if grant.binding().kind != BindingKind::RoleBinding || asked == Some(&**namespace) {
                    continue;
                }
                let chain = chain_of(self.index, grant, &self.request.action);
                misses.extend(chain.map(|chain| NearMiss {
                    binding: chain.binding,
                    subject_index: chain.subject_index,
                    obstacle: Obstacle::Scope(chain),
                }));
            }
        }
    }

    /// A path granted through a RoleBinding, which only a ClusterRoleBinding can grant.
    fn urls_in_role_bindings(&self, misses: &mut Vec<NearMiss<'a>>) {
        for entry in self.index.entries(&self.request.user) {
            let grants = entry.grants.iter();
            for grant in grants.filter(|grant| grant.binding().kind == BindingKind::RoleBinding) {
                let chain = chain_of(self.index, grant, &self.request.action);
                misses.extend(chain.map(|chain| NearMiss {
                    binding: chain.binding,
                    subject_index: chain.subject_index,
                    obstacle: Obstacle::Scope(chain),
                }));
            }
        }
    }

    /// Bindings in scope that would grant if their subject were of the other kind.
    fn wrong_kind(&self, misses: &mut Vec<NearMiss<'a>>) {
        let request = &self.request;
        let as_group = self.index.subject(IdentityKind::Group, request.user.name);
        let groups = request.user.groups.iter();
        let as_users = groups.filter_map(|group| self.index.subject(IdentityKind::User, group));
        let namespace = request
            .namespace()
            .map(|namespace| self.index.scope(namespace));
        for entry in as_group.into_iter().chain(as_users) {
            for grant in entry.reaching(namespace) {
                let chain = chain_of(self.index, grant, &request.action);
                misses.extend(chain.map(|chain| NearMiss {
                    binding: chain.binding,
                    subject_index: chain.subject_index,
                    obstacle: Obstacle::SubjectKind(chain),
                }));
            }
        }
    }
}

impl NearMiss<'_> {
    /// How much is missing, for sorting.
    fn distance(&self) -> u8 {
        match &self.obstacle {
            Obstacle::Scope(_) => 0,
            Obstacle::MissingRole(_) => 1,
            Obstacle::SubjectKind(_) => 2,
            Obstacle::Rule {
                suspect: Some(_), ..
            } => 3,
            Obstacle::Rule { missing, .. } => match missing {
                Part::Name => 4,
                Part::Verb => 5,
                Part::Resource | Part::Url => 6,
                Part::Group => 7,
            },
        }
    }
}

fn rule_misses<'a>(
    binding: &'a Binding,
    subject_index: usize,
    role: &'a CompiledRole,
    request: &Request<'_>,
    misses: &mut Vec<NearMiss<'a>>,
) {
    for (rule_index, effective) in role.detail.effective.iter().enumerate() {
        let Some(missing) = effective.rule.only_missing(&request.action) else {
            continue;
        };
        let chain = Chain::new(binding, subject_index, role, rule_index);
        misses.push(NearMiss {
            binding,
            subject_index,
            obstacle: Obstacle::Rule {
                chain,
                missing,
                suspect: suspect(&effective.rule, missing, &request.action),
            },
        });
    }
}

fn chain_of<'a>(
    index: &'a Index,
    grant: &'a crate::index::Grant,
    action: &Action<'_>,
) -> Option<Chain<'a>> {
    let role = index.compiled(grant.role)?;
    let rule_index = role.all_granting(action).next()?;
    Some(grant.chain(role, rule_index))
}

fn suspect<'a>(rule: &'a PolicyRule, missing: Part, action: &Action<'_>) -> Option<Suspect<'a>> {
    let Action::Resource(action) = action else {
        return None;
    };
    match missing {
        Part::Resource => rule.resources.iter().find_map(|entry| {
            let (resource, subresource) = entry.split_once('/').unwrap_or((entry, ""));
            let same_subresource = subresource == action.subresource;
            if subresource == "*" && (resource == "*" || resource == action.resource) {
                Some(Suspect::PseudoWildcard(entry))
            } else if same_subresource && is_misspelt(resource, action.resource) {
                Some(Suspect::NotAPlural(entry))
            } else {
                None
            }
        }),
        Part::Group => rule.api_groups.iter().find_map(|entry| {
            let group = entry
                .split_once('/')
                .map_or(entry.as_str(), |(group, _)| group);
            let core =
                action.group.is_empty() && (entry == "core" || entry == "v1" || group == "core");
            let versioned = entry.contains('/') && group == action.group;
            (core || versioned).then_some(Suspect::NotAGroup(entry))
        }),
        Part::Verb | Part::Name | Part::Url => None,
    }
}

/// Whether a resource was written with capitals or in the singular.
fn is_misspelt(written: &str, plural: &str) -> bool {
    let written = written.to_ascii_lowercase();
    let singular_of = |stem: &str, ending: &str| {
        plural
            .strip_suffix(ending)
            .is_some_and(|stem_of_plural| stem_of_plural == stem)
    };
    !written.is_empty()
        && (written == plural
            || singular_of(&written, "s")
            || singular_of(&written, "es")
            || written
                .strip_suffix('y')
                .is_some_and(|stem| singular_of(stem, "ies")))
}

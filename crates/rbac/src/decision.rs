//! Answers: what was decided, by which binding, role and rule (RBAC spec, section 3).

use std::fmt;

use crate::index::{CompiledRole, EffectiveRule, Index, Origin, RoleKey};
use crate::object::{Binding, BindingKind, Identity, PolicyRule, Role, Subject};
use crate::quote::Quoted;
use crate::request::{Request, User};

/// What the RBAC authorizer says. There is no deny: RBAC allows, or has no opinion and leaves it to the others.
#[derive(Debug, Clone, Copy)]
pub enum Decision<'a> {
    /// Allowed for members of `system:masters`, whatever the objects say. Only
    /// [`Index::authorize_or_superuser`] answers this.
    Superuser,
    /// A rule grants it.
    Allow(Chain<'a>),
    /// No rule grants it.
    NoOpinion(NoOpinion<'a>),
}

/// How a right reaches a caller: a subject of a binding, the role it refers to, and the rule in it.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// The binding.
    pub binding: &'a Binding,
    /// Place of the subject in the binding.
    pub subject_index: usize,
    /// Place of the rule among the role's rules in force.
    pub rule_index: usize,
    // Not taken apart before someone asks: at the time of a decision all of it is likely far away in memory.
    role: &'a CompiledRole,
}

/// RBAC has no opinion. Why not is worked out when asked for, since most answers are never looked at.
#[derive(Debug, Clone, Copy)]
pub struct NoOpinion<'a> {
    pub(crate) index: &'a Index,
    pub(crate) request: Request<'a>,
    pub(crate) unresolved: bool,
}

// === impl Decision ===

impl<'a> Decision<'a> {
    /// Whether the request is allowed.
    pub fn is_allowed(&self) -> bool {
        match self {
            Self::Superuser | Self::Allow(_) => true,
            Self::NoOpinion(_) => false,
        }
    }

    /// The chain that granted, if one did.
    pub fn chain(&self) -> Option<&Chain<'a>> {
        match self {
            Self::Allow(chain) => Some(chain),
            Self::Superuser | Self::NoOpinion(_) => None,
        }
    }

    /// The reason in the API server's words; empty for superusers, and for a "no" without errors.
    pub fn reason(&self) -> String {
        match self {
            Self::Superuser => String::new(),
            Self::Allow(chain) => chain.to_string(),
            Self::NoOpinion(no) => no.reason(),
        }
    }
}

// === impl Chain ===

impl<'a> Chain<'a> {
    #[inline]
    pub(crate) fn new(
        binding: &'a Binding,
        subject_index: usize,
        role: &'a CompiledRole,
        rule_index: usize,
    ) -> Self {
        Self {
            binding,
            subject_index,
            rule_index,
            role,
        }
    }

    /// The subject of the binding that matches the caller.
    pub fn subject(&self) -> Option<&'a Subject> {
        self.binding.subjects.get(self.subject_index)
    }

    /// The role.
    pub fn role(&self) -> &'a Role {
        &self.role.detail.role
    }

    /// The rule.
    pub fn rule(&self) -> &'a PolicyRule {
        static NONE: PolicyRule = PolicyRule::EMPTY;
        self.effective().map_or(&NONE, |effective| &effective.rule)
    }

    /// For aggregated roles, where the rule was collected from.
    pub fn origin(&self) -> Option<&'a Origin> {
        self.effective()?.origin.as_ref()
    }

    fn effective(&self) -> Option<&'a EffectiveRule> {
        self.role.detail.effective.get(self.rule_index)
    }
}

/// `RBAC: allowed by RoleBinding "readers/shop" of ClusterRole "pod-reader" to User "dana"`
impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binding = self.binding;
        let namespace = &binding.metadata.namespace;
        let name = match binding.kind {
            BindingKind::ClusterRoleBinding => binding.metadata.name.clone(),
            BindingKind::RoleBinding => format!("{}/{namespace}", binding.metadata.name),
        };
        write!(
            f,
            "RBAC: allowed by {} {} of {} {} to ",
            binding.kind,
            Quoted(&name),
            binding.role_ref.kind,
            Quoted(&binding.role_ref.name)
        )?;
        let Some(subject) = self.subject() else {
            return Ok(());
        };
        let name = match subject.kind.as_str() {
            "ServiceAccount" => format!("{}/{}", subject.name, subject.namespace_in(namespace)),
            _ => subject.name.clone(),
        };
        write!(f, "{} {}", subject.kind, Quoted(&name))
    }
}

// === impl NoOpinion ===

impl<'a> NoOpinion<'a> {
    /// The errors met on the way, in the API server's words and order: bindings of the caller whose role is missing.
    pub fn errors(&self) -> Vec<String> {
        if !self.unresolved {
            return Vec::new();
        }
        let chains = self
            .index
            .bindings_for(&self.request.user, self.request.namespace());
        let mut errors = Vec::new();
        for held in chains {
            if let Err(key) = held.role {
                errors.push(key.unresolved());
            }
        }
        errors
    }

    /// The reason in the API server's words: empty, or `RBAC: ` and the errors.
    pub fn reason(&self) -> String {
        match aggregate(&self.errors()) {
            errors if errors.is_empty() => errors,
            errors => format!("RBAC: {errors}"),
        }
    }

    /// Why the "no" may be wrong: a role that is missing, something that could not be read, or a caller that the node
    /// authorizer may allow. Empty if it is certain as far as RBAC goes.
    pub fn incomplete_reasons(&self) -> Vec<String> {
        let mut reasons = self.errors();
        let namespace = self.request.namespace();
        let unread = self.index.unread(Some(namespace.unwrap_or_default()));
        reasons.extend(unread.map(|unread| unread.reason.to_string()));
        if self.index.is_aggregation_incomplete() {
            reasons.push("aggregated ClusterRoles hold more rules than are computed".to_owned());
        }
        if self.request.user.is_node() {
            reasons.push("node authorizer: depends on pods on the node".to_owned());
        }
        reasons
    }

    /// What was asked.
    pub fn request(&self) -> &Request<'a> {
        &self.request
    }
}

/// Joins errors as Kubernetes does: one alone, several in brackets, equal ones once.
pub(crate) fn aggregate(errors: &[String]) -> String {
    let mut distinct: Vec<&str> = Vec::new();
    for error in errors {
        if !distinct.contains(&error.as_str()) {
            distinct.push(error);
        }
    }
    match distinct.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// A binding that names the caller, with the role it refers to or what is missing.
#[derive(Debug, Clone)]
pub(crate) struct Held<'a> {
    pub(crate) binding: &'a Binding,
    pub(crate) subject_index: usize,
    pub(crate) role: Result<&'a CompiledRole, RoleKey<&'a str>>,
}

impl Held<'_> {
    /// The places of all subjects that match the caller.
    pub(crate) fn subjects_matching(&self, user: &User<'_>) -> Vec<usize> {
        let namespace = &self.binding.metadata.namespace;
        let subjects = self.binding.subjects.iter().enumerate();
        let matching = subjects.filter(|(_, subject)| match subject.identity_in(namespace) {
            Some(Identity::User(name)) => name == user.name,
            Some(Identity::Group(name)) => user.groups.contains(&name),
            None => false,
        });
        matching.map(|(place, _)| place).collect()
    }
}

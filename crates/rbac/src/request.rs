//! The question: who wants to do what (RBAC spec, section 2).
//!
//! A request only borrows, so that asking costs nothing beyond the answer.

use std::sync::Arc;

use crate::object::{ANONYMOUS, AUTHENTICATED, NODES, SUPERUSERS, UNAUTHENTICATED};
use crate::selector::Selectors;

/// Who asks, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The caller.
    pub user: User<'a>,
    /// What the caller wants to do.
    pub action: Action<'a>,
}

/// The caller as an authorizer sees it. Groups are taken exactly as given: a SubjectAccessReview adds none. Use
/// [`implied_groups`] for what the API server would have added to a real caller.
#[derive(Debug, Clone, Copy)]
pub struct User<'a> {
    /// User name.
    pub name: &'a str,
    /// Groups.
    pub groups: Groups<'a>,
}

/// A borrowed list of group names, whichever way the caller holds them.
#[derive(Debug, Clone, Copy)]
pub enum Groups<'a> {
    /// As deserialized.
    Owned(&'a [String]),
    /// As written in code.
    Borrowed(&'a [&'a str]),
    /// As kept in snapshots.
    Shared(&'a [Arc<str>]),
    /// As kept compactly.
    Boxed(&'a [Box<str>]),
}

/// What is to be done: something with a resource, or with a path that is no resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// A resource request.
    Resource(ResourceAction<'a>),
    /// A request for a path such as `/metrics` or `/api`.
    NonResource {
        /// The lower-case HTTP method.
        verb: &'a str,
        /// The URL path without the query.
        path: &'a str,
    },
}

/// A resource request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceAction<'a> {
    /// For example `get`, `list`, `deletecollection`, `impersonate`.
    pub verb: &'a str,
    /// API group; empty is the core group.
    pub group: &'a str,
    /// API version; no rule compares it.
    pub version: &'a str,
    /// Plural resource.
    pub resource: &'a str,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace; empty is the cluster scope, or all namespaces for lists.
    pub namespace: &'a str,
    /// Object name; empty for lists and for objects that are yet to be named.
    pub name: &'a str,
    /// Field and label selectors of list, watch and deletecollection. RBAC ignores them, which answers the broader
    /// question; other authorizers may use them.
    pub selectors: Selectors<'a>,
}

// === impl Request ===

impl<'a> Request<'a> {
    /// The namespace whose RoleBindings can grant this request, if any can.
    pub(crate) fn namespace(&self) -> Option<&'a str> {
        match self.action {
            Action::Resource(action) => Some(action.namespace).filter(|ns| !ns.is_empty()),
            Action::NonResource { .. } => None,
        }
    }

    /// The same caller with another action.
    pub fn with_action(&self, action: impl Into<Action<'a>>) -> Self {
        Self {
            user: self.user,
            action: action.into(),
        }
    }
}

impl<'a> User<'a> {
    /// A user with these groups.
    pub fn new(name: &'a str, groups: impl Into<Groups<'a>>) -> Self {
        Self {
            name,
            groups: groups.into(),
        }
    }

    /// Whether the caller is in `system:masters`, who are allowed before any authorizer is asked.
    pub fn is_superuser(&self) -> bool {
        self.groups.contains(SUPERUSERS)
    }

    /// Whether the node authorizer may allow what RBAC does not: it depends on the pods of that node, which nobody
    /// here knows (RBAC spec, section 10).
    pub fn is_node(&self) -> bool {
        self.name.starts_with("system:node:") && self.groups.contains(NODES)
    }
}

/// The groups that the API server itself gives to a caller of this name (RBAC spec, section 5). Commands add them to
/// the groups a person names, unless told not to.
pub fn implied_groups(user: &str) -> Vec<String> {
    if user == ANONYMOUS {
        return vec![UNAUTHENTICATED.to_owned()];
    }
    let mut groups = Vec::new();
    if let Some((namespace, _)) = crate::object::split_service_account(user) {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    } else if crate::object::split_node(user).is_some() {
        groups.push(NODES.to_owned());
    }
    groups.push(AUTHENTICATED.to_owned());
    groups
}

impl<'a> Action<'a> {
    /// The verb.
    pub fn verb(&self) -> &'a str {
        match self {
            Self::Resource(action) => action.verb,
            Self::NonResource { verb, .. } => verb,
        }
    }

    /// The same action with another verb, as `impersonate-on:` checks ask it.
    pub fn with_verb<'b>(self, verb: &'b str) -> Action<'b>
    where
        'a: 'b,
    {
        match self {
            Self::Resource(action) => Action::Resource(ResourceAction { verb, ..action }),
            Self::NonResource { path, .. } => Action::NonResource { verb, path },
        }
    }
}

impl<'a> From<ResourceAction<'a>> for Action<'a> {
    fn from(action: ResourceAction<'a>) -> Self {
        Self::Resource(action)
    }
}

// === impl Groups ===

impl<'a> Groups<'a> {
    /// No groups.
    pub const NONE: Self = Self::Borrowed(&[]);

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Owned(groups) => groups.len(),
            Self::Borrowed(groups) => groups.len(),
            Self::Shared(groups) => groups.len(),
            Self::Boxed(groups) => groups.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One by one.
    pub fn iter(&self) -> GroupsIter<'a> {
        GroupsIter {
            groups: *self,
            next: 0,
        }
    }

    /// Whether the group is in the list.
    pub fn contains(&self, group: &str) -> bool {
        self.iter().any(|held| held == group)
    }
}

/// Iterates over [`Groups`].
#[derive(Debug, Clone)]
pub struct GroupsIter<'a> {
    groups: Groups<'a>,
    next: usize,
}

impl<'a> Iterator for GroupsIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let at = self.next;
        self.next += 1;
        match self.groups {
            Groups::Owned(groups) => groups.get(at).map(String::as_str),
            Groups::Borrowed(groups) => groups.get(at).copied(),
            Groups::Shared(groups) => groups.get(at).map(|group| &**group),
            Groups::Boxed(groups) => groups.get(at).map(|group| &**group),
        }
    }
}

impl<'a> From<&'a [String]> for Groups<'a> {
    fn from(groups: &'a [String]) -> Self {
        Self::Owned(groups)
    }
}

impl<'a> From<&'a Vec<String>> for Groups<'a> {
    fn from(groups: &'a Vec<String>) -> Self {
        Self::Owned(groups)
    }
}

impl<'a> From<&'a [&'a str]> for Groups<'a> {
    fn from(groups: &'a [&'a str]) -> Self {
        Self::Borrowed(groups)
    }
}

impl<'a, const N: usize> From<&'a [&'a str; N]> for Groups<'a> {
    fn from(groups: &'a [&'a str; N]) -> Self {
        Self::Borrowed(groups)
    }
}

impl<'a> From<&'a [Arc<str>]> for Groups<'a> {
    fn from(groups: &'a [Arc<str>]) -> Self {
        Self::Shared(groups)
    }
}

impl<'a> From<&'a [Box<str>]> for Groups<'a> {
    fn from(groups: &'a [Box<str>]) -> Self {
        Self::Boxed(groups)
    }
}

//! Matching one rule (RBAC spec, section 4): the plain form, which reads the rule as it is written.
//!
//! The index answers the same question from compiled rules. This form serves what looks at few rules: explaining near
//! misses, access policies, and anyone who holds a rule without an index.

use crate::object::PolicyRule;
use crate::request::{Action, ResourceAction};

/// The parts of a rule that must all hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// `verbs`
    Verb,
    /// `apiGroups`
    Group,
    /// `resources`
    Resource,
    /// `resourceNames`
    Name,
    /// `nonResourceURLs`
    Url,
}

/// Which parts of a rule hold for an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    verb: bool,
    group: bool,
    resource: bool,
    name: bool,
    url: bool,
}

impl PolicyRule {
    /// Whether the rule grants the action. A rule with both resources and URLs, which the API server refuses to store,
    /// works for each kind on its own.
    pub fn allows(&self, action: &Action<'_>) -> bool {
        let fit = self.fit(action);
        fit.verb && fit.group && fit.resource && fit.name && fit.url
    }

    /// The single part that keeps the rule from granting the action, if it is a single one.
    pub fn only_missing(&self, action: &Action<'_>) -> Option<Part> {
        let fit = self.fit(action);
        let mut missing = [
            (fit.verb, Part::Verb),
            (fit.group, Part::Group),
            (fit.resource, Part::Resource),
            (fit.name, Part::Name),
            (fit.url, Part::Url),
        ]
        .into_iter()
        .filter(|(holds, _)| !holds);
        let (_, first) = missing.next()?;
        missing.next().is_none().then_some(first)
    }

    fn fit(&self, action: &Action<'_>) -> Fit {
        let verb = has_or_star(&self.verbs, action.verb());
        match action {
            Action::Resource(action) => Fit {
                verb,
                group: has_or_star(&self.api_groups, action.group),
                resource: self.resources.iter().any(|r| resource_matches(r, action)),
                name: self.resource_names.is_empty()
                    || self.resource_names.iter().any(|name| name == action.name),
                url: true,
            },
            Action::NonResource { path, .. } => Fit {
                verb,
                group: true,
                resource: true,
                name: true,
                url: self
                    .non_resource_urls
                    .iter()
                    .any(|url| url_matches(url, path)),
            },
        }
    }
}

/// `*`, the resource (with its subresource, if asked for one), or `*/subresource`. `pods/*` is a name like any other.
pub(crate) fn resource_matches(rule: &str, action: &ResourceAction<'_>) -> bool {
    if rule == "*" {
        return true;
    }
    if action.subresource.is_empty() {
        return rule == action.resource;
    }
    let Some(resource) = rule
        .strip_suffix(action.subresource)
        .and_then(|rest| rest.strip_suffix('/'))
    else {
        return false;
    };
    resource == "*" || resource == action.resource
}

/// `*`, the path itself, or a prefix of the path followed by any number of `*`.
pub(crate) fn url_matches(rule: &str, path: &str) -> bool {
    rule == "*"
        || rule == path
        || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

fn has_or_star(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

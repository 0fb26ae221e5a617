//! The answer as text for people.

use std::borrow::Cow;
use std::fmt;

use crate::report::{Grant, Mapping, MappingSource, ObjectReport, Review, RuleReport};
use crate::snapshot::policy_name;

/// Width of the names on the left.
const NAME: usize = 10;

/// The chain top-down, one step a line; a "no" ends with the nearest misses and what would help.
impl fmt::Display for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.allowed, self.incomplete) {
            (true, _) => "allowed\n",
            (false, false) => "denied\n",
            (false, true) => "denied, as far as is known\n",
        })?;
        line(f, "asked", &self.action.to_string())?;
        if let Some(cluster) = &self.cluster {
            let mode = self.authentication_mode;
            let mode = mode.map(|mode| format!(" ({mode})")).unwrap_or_default();
            line(f, "cluster", &format!("{cluster}{mode}"))?;
        }
        if let Some(caller) = &self.caller {
            let id = caller.principal_id.as_deref();
            let id = id.map(|id| format!(" ({id})")).unwrap_or_default();
            line(f, "caller", &caller.arn)?;
            if caller.canonical_arn != caller.arn || !id.is_empty() {
                line(f, "canonical", &format!("{}{id}", caller.canonical_arn))?;
            }
        }
        if let Some(mapping) = &self.mapping {
            mapping.lines(f)?;
        }
        if let Some(identity) = &self.identity {
            let user = match identity.username.as_str() {
                "" => "no user".to_owned(),
                name => format!("user \"{name}\""),
            };
            let groups = identity.groups.join(", ");
            line(f, "identity", &format!("{user}, groups {groups}"))?;
        }
        match self.granted.as_slice() {
            [] => self.denied(f)?,
            [first, rest @ ..] => {
                first.lines(f)?;
                for grant in rest {
                    line(f, "also", &grant.reason())?;
                }
            }
        }
        for note in &self.notes {
            line(f, "note", note)?;
        }
        for reason in &self.incomplete_reasons {
            line(f, "unknown", reason)?;
        }
        Ok(())
    }
}

impl Review {
    fn denied(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for policy in &self.policies {
            let why = policy.why_not.as_deref().unwrap_or("no rule grants it");
            let scope = scope(&policy.access_scope.to_string());
            let name = policy_name(&policy.policy_arn);
            line(f, "policy", &format!("{name}, {scope}: {why}"))?;
        }
        for near in &self.nearest {
            line(f, "nearest", &near.text)?;
        }
        for help in &self.would_help {
            line(f, "would help", &help.what)?;
            if let Some(command) = &help.command {
                writeln!(f, "  {:NAME$}   {}", "", printable(command))?;
            }
        }
        Ok(())
    }
}

impl Mapping {
    fn lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = match self.because.as_slice() {
            [] => String::new(),
            because => format!("  ({})", because.join("; ")),
        };
        match self.source {
            MappingSource::AccessEntry => {
                let kind = self.entry_type.as_deref().unwrap_or_default();
                let binding = self.binding.as_ref().map(|binding| format!(", {binding}"));
                let binding = binding.unwrap_or_default();
                line(
                    f,
                    "mapping",
                    &format!("access entry {} ({kind}{binding}){because}", self.rule),
                )?;
            }
            MappingSource::AccessRule | MappingSource::ClusterCreator | MappingSource::AwsAuth => {
                line(f, "mapping", &format!("{}{because}", self.rule))?;
            }
            MappingSource::None => {
                line(
                    f,
                    "mapping",
                    "none: the API server answers 401 Unauthorized",
                )?;
                for because in &self.because {
                    line(f, "because", because)?;
                }
            }
        }
        for near in &self.nearest {
            line(f, "nearly", near)?;
        }
        Ok(())
    }
}

impl Grant {
    fn lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superuser { group } => line(
                f,
                "reason",
                &format!("group {group}: allowed before any authorizer is asked"),
            ),
            Self::AccessPolicy {
                policy_arn,
                access_scope,
                rule,
                reason,
            } => {
                let scope = scope(&access_scope.to_string());
                let name = policy_name(policy_arn);
                line(f, "policy", &format!("{name}, {scope}"))?;
                if let Some(rule) = rule {
                    line(f, "rule", &rule.to_string())?;
                }
                line(f, "reason", reason)
            }
            Self::Rbac {
                binding,
                subject,
                role,
                rule,
                reason,
            } => {
                line(f, "binding", &format!("{binding}   subject {subject}"))?;
                line(f, "role", &role.to_string())?;
                line(f, "rule", &rule.to_string())?;
                line(f, "reason", reason)
            }
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {name:NAME$} {}", printable(text))
}

/// The text for a terminal: names come from clusters and files, and none of them may move the cursor or begin a line.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    Cow::Owned(shown.collect())
}

fn scope(text: &str) -> String {
    match text {
        "cluster" => "whole cluster".to_owned(),
        namespaces => format!("namespaces {namespaces}"),
    }
}

/// `RoleBinding shop/readers (shop.yaml:61)`
impl fmt::Display for ObjectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        f.write_str(" ")?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// `#0 get,list,watch on pods,pods/log`
impl fmt::Display for RuleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}", self.index, self.verbs.join(","))?;
        let mut on = self.resources.join(",");
        let groups: Vec<&str> = self.api_groups.iter().map(String::as_str).collect();
        if !matches!(groups.as_slice(), [] | [""]) {
            let groups = groups.iter().map(|group| match *group {
                "" => "core",
                group => group,
            });
            on = format!("{on} in {}", groups.collect::<Vec<_>>().join(","));
        }
        if !self.resource_names.is_empty() {
            on = format!("{on} named {}", self.resource_names.join(","));
        }
        if !self.non_resource_urls.is_empty() {
            let urls = self.non_resource_urls.join(",");
            on = match on.is_empty() {
                true => urls,
                false => format!("{on} and {urls}"),
            };
        }
        if !on.is_empty() {
            write!(f, " on {on}")?;
        }
        match &self.aggregated_from {
            Some(origin) => write!(f, " (from {origin})"),
            None => Ok(()),
        }
    }
}

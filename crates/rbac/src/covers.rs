//! Whether rules cover other rules, and rules in few words (RBAC spec, sections 6.1 and 6.2).

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use crate::object::PolicyRule;
use crate::quote::QuotedList;

/// Comparing more single permissions than this with more rules than this leaves is refused. Real roles need a few
/// thousand comparisons; lists that multiply could ask for billions.
pub const MAX_COMPARISONS: usize = 20_000_000;
/// More missing pieces than this nobody could read.
const MAX_MISSING: usize = 100_000;

/// The rules fall into too many single permissions; see [`MAX_COMPARISONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rules fall into too many single permissions to be compared one by one")]
pub struct TooManyPieces;

/// What of `wanted` the `owner` rules do not cover, in single pieces of one verb on one resource (or name, or URL);
/// empty if they cover everything. Every piece must be covered by one rule.
pub fn uncovered<'a>(
    owner: impl IntoIterator<Item = &'a PolicyRule>,
    wanted: impl IntoIterator<Item = &'a PolicyRule>,
) -> Result<Vec<PolicyRule>, TooManyPieces> {
    let owner: Vec<Owner<'_>> = owner.into_iter().map(Owner::new).collect();
    let cost = owner.iter().map(|held| 1 + held.urls.len()).sum::<usize>() + 1;
    let mut missing = Vec::new();
    let mut budget = MAX_COMPARISONS;
    for rule in wanted {
        // Most roles are granted by people who hold the same rule, or all of them: no need to take these apart.
        if owner.iter().any(|held| held.covers_whole(rule)) {
            continue;
        }
        pieces(rule, &mut |piece: Piece<'_>| {
            budget = budget.checked_sub(cost).ok_or(TooManyPieces)?;
            if !owner.iter().any(|held| held.covers(&piece)) {
                if missing.len() >= MAX_MISSING {
                    return Err(TooManyPieces);
                }
                missing.push(piece.to_rule());
            }
            Ok(())
        })?;
    }
    Ok(missing)
}

/// A rule that is held, with its lists as sets.
struct Owner<'a> {
    verbs: Words<'a>,
    groups: Words<'a>,
    resources: Words<'a>,
    names: Words<'a>,
    urls: &'a [String],
}

type Words<'a> = HashSet<&'a str, foldhash::fast::RandomState>;

/// One verb on one resource of one group, with or without a name, or on one URL.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Resource {
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        name: Option<&'a str>,
    },
    Url {
        verb: &'a str,
        url: &'a str,
    },
}

fn pieces<'a>(
    rule: &'a PolicyRule,
    check: &mut impl FnMut(Piece<'a>) -> Result<(), TooManyPieces>,
) -> Result<(), TooManyPieces> {
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let piece = |name| Piece::Resource {
                    verb,
                    group,
                    resource,
                    name,
                };
                if rule.resource_names.is_empty() {
                    check(piece(None))?;
                }
                for name in &rule.resource_names {
                    check(piece(Some(name)))?;
                }
            }
        }
    }
    for url in &rule.non_resource_urls {
        for verb in &rule.verbs {
            check(Piece::Url { verb, url })?;
        }
    }
    Ok(())
}

impl Piece<'_> {
    fn to_rule(self) -> PolicyRule {
        match self {
            Piece::Resource {
                verb,
                group,
                resource,
                name,
            } => PolicyRule {
                verbs: vec![verb.to_owned()],
                api_groups: vec![group.to_owned()],
                resources: vec![resource.to_owned()],
                resource_names: name.into_iter().map(str::to_owned).collect(),
                non_resource_urls: Vec::new(),
            },
            Piece::Url { verb, url } => PolicyRule {
                verbs: vec![verb.to_owned()],
                non_resource_urls: vec![url.to_owned()],
                ..PolicyRule::default()
            },
        }
    }
}

impl<'a> Owner<'a> {
    fn new(rule: &'a PolicyRule) -> Self {
        let words = |list: &'a [String]| list.iter().map(String::as_str).collect();
        Self {
            verbs: words(&rule.verbs),
            groups: words(&rule.api_groups),
            resources: words(&rule.resources),
            names: words(&rule.resource_names),
            urls: &rule.non_resource_urls,
        }
    }

    fn covers(&self, piece: &Piece<'_>) -> bool {
        match *piece {
            Piece::Resource {
                verb,
                group,
                resource,
                name,
            } => {
                star_or(&self.verbs, verb)
                    && star_or(&self.groups, group)
                    && self.covers_resource(resource)
                    && (self.names.is_empty() || name.is_some_and(|name| self.names.contains(name)))
            }
            Piece::Url { verb, url } => {
                star_or(&self.verbs, verb) && self.names.is_empty() && self.covers_url(url)
            }
        }
    }

    /// Whether this covers every piece of a rule.
    fn covers_whole(&self, rule: &PolicyRule) -> bool {
        let has_resources = !(rule.api_groups.is_empty() || rule.resources.is_empty());
        let names = &rule.resource_names;
        let names_held = || !names.is_empty() && names.iter().all(|n| self.names.contains(&**n));
        let resources = !has_resources
            || (rule
                .api_groups
                .iter()
                .all(|group| star_or(&self.groups, group))
                && rule.resources.iter().all(|r| self.covers_resource(r))
                && (self.names.is_empty() || names_held()));
        let urls = rule.non_resource_urls.is_empty()
            || (self.names.is_empty()
                && rule.non_resource_urls.len() * self.urls.len() <= 10_000
                && rule
                    .non_resource_urls
                    .iter()
                    .all(|url| self.covers_url(url)));
        resources && urls && rule.verbs.iter().all(|verb| star_or(&self.verbs, verb))
    }

    fn covers_resource(&self, wanted: &str) -> bool {
        star_or(&self.resources, wanted)
            || wanted.split_once('/').is_some_and(|(_, subresource)| {
                self.resources.contains(format!("*/{subresource}").as_str())
            })
    }

    fn covers_url(&self, wanted: &str) -> bool {
        self.urls.iter().any(|entry| {
            entry == "*"
                || entry == wanted
                || (entry.ends_with('*') && wanted.starts_with(entry.trim_end_matches('*')))
        })
    }
}

fn star_or(list: &Words<'_>, wanted: &str) -> bool {
    list.contains(wanted) || list.contains("*")
}

/// Merges rules for the same single resource: one group, one resource, at most one name. Their verbs are joined in order
/// of appearance, each once. All other rules stay as they are. The order of first appearance is kept.
pub fn compact<'a>(rules: impl IntoIterator<Item = &'a PolicyRule>) -> Vec<PolicyRule> {
    let mut compacted: Vec<PolicyRule> = Vec::new();
    let mut places: HashMap<(&str, &str, Option<&str>), usize> = HashMap::new();
    for rule in rules {
        let Some(key) = simple_key(rule) else {
            compacted.push(rule.clone());
            continue;
        };
        let place = *places.entry(key).or_insert(compacted.len());
        match compacted.get_mut(place) {
            None => {
                let mut first = rule.clone();
                first.verbs.clear();
                add_verbs(&mut first, rule);
                compacted.push(first);
            }
            Some(merged) => add_verbs(merged, rule),
        }
    }
    compacted
}

fn add_verbs(merged: &mut PolicyRule, rule: &PolicyRule) {
    for verb in &rule.verbs {
        if !merged.verbs.contains(verb) {
            merged.verbs.push(verb.clone());
        }
    }
}

/// Group, resource and name of a simple rule. The empty name is a name.
fn simple_key(rule: &PolicyRule) -> Option<(&str, &str, Option<&str>)> {
    let ([group], [resource], []) = (
        rule.api_groups.as_slice(),
        rule.resources.as_slice(),
        rule.non_resource_urls.as_slice(),
    ) else {
        return None;
    };
    match rule.resource_names.as_slice() {
        [] => Some((group, resource, None)),
        [name] => Some((group, resource, Some(name))),
        _ => None,
    }
}

/// A rule in one line, as the API server writes it into messages:
/// `{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}`
pub fn describe(rule: &PolicyRule) -> String {
    let mut text = String::from("{");
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    for (name, list) in parts {
        if list.is_empty() {
            continue;
        }
        let comma = if text.len() > 1 { ", " } else { "" };
        let list = QuotedList(list.iter().map(String::as_str));
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}{name}:{list}");
    }
    text.push('}');
    text
}

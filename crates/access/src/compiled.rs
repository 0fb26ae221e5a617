//! Rules compiled for asking (EKS API spec, sections 9.4 and 9.11).
//!
//! ```text
//!   (group, resource/subresource) ── hash, search ───► exact rules ─┐
//!   everything with a `*` ───────── one after another ► wild rules ─┼─► verb bit, names ─► lowest rule that matches
//!   paths ───────────────────────── one after another ► paths ──────┘
//! ```

use countersign_rbac::{Action, PolicyRule, ResourceAction};

/// Rules that answer without allocating.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuleSet {
    rules: Box<[Compiled]>,
    /// By hash; then in the order of the rules.
    exact: Box<[Exact]>,
    wild: Box<[Wild]>,
    paths: Box<[Path]>,
}

/// What a rule asks beside the resource.
#[derive(Debug, Clone)]
struct Compiled {
    /// The place of the rule that callers know it by.
    place: u32,
    /// Bits of [`VERBS`].
    verbs: u32,
    /// Whether `*` is among the verbs.
    every_verb: bool,
    other_verbs: Box<[Box<str>]>,
    /// Empty means every name.
    names: Box<[Box<str>]>,
}

/// A group and a resource, with its subresource, that a rule names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Exact {
    hash: u64,
    rule: u32,
    group: Box<str>,
    resource: Box<str>,
}

/// The part of a rule with a `*` for the group or for resources.
#[derive(Debug, Clone)]
struct Wild {
    rule: u32,
    /// Sorted; `None` is every group.
    groups: Option<Box<[Box<str>]>>,
    resources: Box<[Box<str>]>,
}

#[derive(Debug, Clone)]
struct Path {
    rule: u32,
    path: Box<str>,
}

/// The verbs that Kubernetes itself knows.
const VERBS: [&str; 14] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "impersonate",
    "bind",
    "escalate",
    "approve",
    "sign",
    "use",
];

/// A request, looked up once and asked of many rule sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe<'a> {
    action: Action<'a>,
    /// The bit of the verb; zero for one that is not among [`VERBS`].
    verb: u32,
    /// Of group and resource.
    hash: u64,
}

impl<'a> Probe<'a> {
    pub(crate) fn new(action: &Action<'a>) -> Self {
        Self {
            action: *action,
            verb: bit(action.verb()),
            hash: match action {
                Action::Resource(action) => hash_of(action),
                Action::NonResource { .. } => 0,
            },
        }
    }
}

fn bit(verb: &str) -> u32 {
    let place = VERBS.iter().position(|known| *known == verb);
    place.map_or(0, |place| 1 << place)
}

impl RuleSet {
    /// Compiles rules, each with the place it is known by, in rising order.
    pub(crate) fn new<'r>(rules: impl IntoIterator<Item = (usize, &'r PolicyRule)>) -> Self {
        let mut compiled = Vec::new();
        let (mut exact, mut wild, mut paths) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (place, rule)) in (0_u32..).zip(rules) {
            compiled.push(Compiled::new(
                u32::try_from(place).unwrap_or(u32::MAX),
                rule,
            ));
            let any_group = rule.api_groups.iter().any(|group| group == "*");
            let is_wild = |resource: &&String| any_group || resource.starts_with('*');
            let resources: Box<[Box<str>]> = rule
                .resources
                .iter()
                .filter(is_wild)
                .map(|resource| resource.as_str().into())
                .collect();
            if !resources.is_empty() {
                let mut groups: Vec<Box<str>> =
                    rule.api_groups.iter().map(|g| g.as_str().into()).collect();
                groups.sort_unstable();
                wild.push(Wild {
                    rule: number,
                    groups: (!any_group).then(|| groups.into()),
                    resources,
                });
            }
            for group in &rule.api_groups {
                for resource in rule.resources.iter().filter(|r| !is_wild(r)) {
                    exact.push(Exact {
                        hash: hash_of(&ResourceAction {
                            group,
                            resource,
                            ..ResourceAction::default()
                        }),
                        group: group.as_str().into(),
                        resource: resource.as_str().into(),
                        rule: number,
                    });
                }
            }
            paths.extend(rule.non_resource_urls.iter().map(|path| Path {
                rule: number,
                path: path.as_str().into(),
            }));
        }
        exact.sort_unstable();
        exact.dedup();
        Self {
            rules: compiled.into(),
            exact: exact.into(),
            wild: wild.into(),
            paths: paths.into(),
        }
    }

    /// The place of the first rule that grants. Allocates nothing.
    #[inline]
    pub(crate) fn first(&self, probe: &Probe<'_>) -> Option<usize> {
        let number = match &probe.action {
            Action::Resource(action) => {
                let exact = self.first_exact(probe, action);
                let wild = self.first_wild(probe, action, exact.unwrap_or(u32::MAX));
                wild.or(exact)
            }
            Action::NonResource { verb, path } => self
                .paths
                .iter()
                .find(|rule| {
                    path_matches(&rule.path, path) && self.has_verb(rule.rule, probe, verb)
                })
                .map(|rule| rule.rule),
        };
        let rule = self.rules.get(number? as usize)?;
        Some(rule.place as usize)
    }

    fn first_exact(&self, probe: &Probe<'_>, action: &ResourceAction<'_>) -> Option<u32> {
        let start = self.exact.partition_point(|entry| entry.hash < probe.hash);
        self.exact
            .get(start..)?
            .iter()
            .take_while(|entry| entry.hash == probe.hash)
            .filter(|entry| entry.is(action))
            .find(|entry| self.grants(entry.rule, probe, action))
            .map(|entry| entry.rule)
    }

    /// The first wild rule before the rule with number `before`.
    fn first_wild(
        &self,
        probe: &Probe<'_>,
        action: &ResourceAction<'_>,
        before: u32,
    ) -> Option<u32> {
        self.wild
            .iter()
            .take_while(|wild| wild.rule < before)
            .find(|wild| wild.covers(action) && self.grants(wild.rule, probe, action))
            .map(|wild| wild.rule)
    }

    fn grants(&self, rule: u32, probe: &Probe<'_>, action: &ResourceAction<'_>) -> bool {
        let Some(compiled) = self.rules.get(rule as usize) else {
            return false;
        };
        let named =
            compiled.names.is_empty() || compiled.names.iter().any(|name| **name == *action.name);
        named && compiled.has_verb(probe.verb, action.verb)
    }

    fn has_verb(&self, rule: u32, probe: &Probe<'_>, verb: &str) -> bool {
        self.rules
            .get(rule as usize)
            .is_some_and(|compiled| compiled.has_verb(probe.verb, verb))
    }
}

impl Compiled {
    fn new(place: u32, rule: &PolicyRule) -> Self {
        let verbs = rule.verbs.iter();
        let other = verbs.clone().filter(|verb| *verb != "*" && bit(verb) == 0);
        Self {
            place,
            every_verb: rule.verbs.iter().any(|verb| verb == "*"),
            other_verbs: other.map(|verb| verb.as_str().into()).collect(),
            verbs: verbs.fold(0, |bits, verb| bits | bit(verb)),
            names: rule
                .resource_names
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
        }
    }

    #[inline]
    fn has_verb(&self, bit: u32, verb: &str) -> bool {
        self.every_verb
            || self.verbs & bit != 0
            || (bit == 0 && self.other_verbs.iter().any(|other| **other == *verb))
    }
}

impl Exact {
    #[inline]
    fn is(&self, action: &ResourceAction<'_>) -> bool {
        *self.group == *action.group && is_resource(&self.resource, action)
    }
}

/// Whether `resource/subresource` is what a request asks for.
#[inline]
fn is_resource(own: &str, action: &ResourceAction<'_>) -> bool {
    match action.subresource {
        "" => own == action.resource,
        subresource => {
            let rest = own.strip_prefix(action.resource);
            rest.and_then(|rest| rest.strip_prefix('/')) == Some(subresource)
        }
    }
}

/// Start of the hash.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, byte by byte: a resource and its subresource hash as the text they make together. Rules come from the
/// operator, so that nobody gains anything by collisions, and equal hashes are compared in full.
#[inline]
fn hash_of(action: &ResourceAction<'_>) -> u64 {
    let add = |hash: u64, text: &str| {
        text.bytes().fold(hash, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let hash = add(add(add(BASIS, action.group), "\0"), action.resource);
    match action.subresource {
        "" => hash,
        subresource => add(add(hash, "/"), subresource),
    }
}

impl Wild {
    fn covers(&self, action: &ResourceAction<'_>) -> bool {
        let of_group = match &self.groups {
            None => true,
            Some(groups) => groups
                .binary_search_by(|group| (**group).cmp(action.group))
                .is_ok(),
        };
        of_group
            && self
                .resources
                .iter()
                .any(|resource| resource_matches(resource, action))
    }
}

/// `*`, the resource with its subresource, or `*/subresource`; `pods/*` is a name like any other.
fn resource_matches(own: &str, action: &ResourceAction<'_>) -> bool {
    if own == "*" {
        return true;
    }
    let any_with_it = || {
        let subresource = own.strip_prefix("*/").filter(|rest| !rest.is_empty());
        subresource.is_some_and(|subresource| subresource == action.subresource)
    };
    is_resource(own, action) || any_with_it()
}

/// `*`, the path itself, or a prefix of the path followed by any number of `*`.
fn path_matches(own: &str, path: &str) -> bool {
    own == path || (own.ends_with('*') && path.starts_with(own.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use countersign_rbac::{Action, PolicyRule, ResourceAction};
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::{Probe, RuleSet};

    fn words(all: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
        subsequence(all, 0..=all.len().min(3))
            .prop_shuffle()
            .prop_map(|words| words.into_iter().map(str::to_owned).collect())
    }

    const VERBS: &[&str] = &["get", "list", "use", "*", "odd", ""];
    const GROUPS: &[&str] = &["", "apps", "batch", "*", "a"];
    const RESOURCES: &[&str] = &[
        "pods", "pods/log", "pods/*", "*", "*/log", "*/", "po", "podsa", "pods/", "a/b/c", "*/b/c",
    ];
    const NAMES: &[&str] = &["", "x", "y", "*"];
    const PATHS: &[&str] = &["*", "/a", "/a*", "/a/*", "/a/**", "", "/b"];

    fn rule() -> impl Strategy<Value = PolicyRule> {
        (
            words(VERBS),
            words(GROUPS),
            words(RESOURCES),
            words(NAMES),
            words(PATHS),
        )
            .prop_map(
                |(verbs, api_groups, resources, resource_names, non_resource_urls)| PolicyRule {
                    verbs,
                    api_groups,
                    resources,
                    resource_names,
                    non_resource_urls,
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn compiled_rules_answer_as_the_written_ones(
            rules in proptest::collection::vec(rule(), 0..6),
            verb in select(VERBS),
            group in select(GROUPS),
            resource in select(&["pods", "po", "podsa", "pods/log", "*", "a", "a/b", "*/b", "*/log"][..]),
            subresource in select(&["", "log", "*", "b/c", "c"][..]),
            name in select(NAMES),
            path in select(&["/a", "/a/", "/a/b", "/ab", "/b", "", "*"][..]),
        ) {
            let set = RuleSet::new(rules.iter().enumerate());
            let resource = Action::Resource(ResourceAction {
                verb, group, resource, subresource, name, ..ResourceAction::default()
            });
            for action in [resource, Action::NonResource { verb, path }] {
                let plain = rules.iter().position(|rule| rule.allows(&action));
                prop_assert_eq!(set.first(&Probe::new(&action)), plain, "{:?}", action);
            }
        }
    }
}

//! Roles as the request path reads them: numbers instead of strings, one block of memory per role.

use std::sync::Arc;

use super::symbols::{Symbol, Symbols};
use crate::object::{PolicyRule, Role};
use crate::request::Action;
use crate::rule::url_matches;

/// A stored role with its rules in force: its own, or those that aggregation gave it.
#[derive(Debug, Clone)]
pub(crate) struct CompiledRole {
    /// Verbs of all resource rules together, to pass over roles that cannot grant.
    verbs: u64,
    /// Resources of all rules together, one bit per symbol modulo 64.
    resources: u64,
    rules: Box<[CompiledRule]>,
    symbols: Box<[Symbol]>,
    /// For rules with many names, the order of these names.
    name_orders: Box<[NameOrder]>,
    pub(crate) role: Arc<Role>,
    pub(crate) effective: Arc<[EffectiveRule]>,
}

/// A rule in force and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveRule {
    /// The rule.
    pub rule: Arc<PolicyRule>,
    /// For an aggregated role, the role that the rule was collected from.
    pub origin: Option<Origin>,
}

/// Where an aggregated rule was collected from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Name of the ClusterRole that has the rule written down.
    pub cluster_role: Arc<str>,
    /// Its place there.
    pub rule_index: usize,
}

/// The names of a rule in sorted order, as places in its list.
#[derive(Debug, Clone)]
struct NameOrder {
    rule: usize,
    order: Box<[usize]>,
}

#[derive(Debug, Clone)]
struct CompiledRule {
    verbs: u64,
    groups: (u32, u32),
    resources: (u32, u32),
    /// Verbs that have no bit.
    other_verbs: (u32, u32),
    any_group: bool,
    any_resource: bool,
    any_verb: bool,
    has_names: bool,
    has_urls: bool,
}

/// The verbs with a bit of their own. Any other is compared as a symbol.
const VERBS: [&str; 24] = [
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
    "attest",
    "use",
    "proxy",
    "post",
    "put",
    "head",
    "options",
    "impersonate:user-info",
    "impersonate:serviceaccount",
    "impersonate:arbitrary-node",
    "impersonate:associated-node",
];
const ANY: u64 = u64::MAX;
/// Longer lists are kept sorted and searched by halves.
const LINEAR: usize = 16;

/// A request with its strings looked up.
pub(crate) enum Probe<'a> {
    Resource {
        verb: VerbProbe,
        group: Option<Symbol>,
        resource: Option<Symbol>,
        any_with_subresource: Option<Symbol>,
        name: &'a str,
    },
    Url {
        verb: VerbProbe,
        path: &'a str,
    },
}

#[derive(Clone, Copy)]
pub(crate) struct VerbProbe {
    bit: u64,
    symbol: Option<Symbol>,
}

impl<'a> Probe<'a> {
    #[inline]
    pub(crate) fn new(symbols: &Symbols, action: &Action<'a>) -> Self {
        let verb = VerbProbe::new(symbols, action.verb());
        match action {
            Action::Resource(action) => {
                let sub = action.subresource;
                let (resource, any_with_subresource) = if sub.is_empty() {
                    (symbols.get(action.resource), None)
                } else {
                    (
                        symbols.get_joined(action.resource, sub),
                        symbols.get_joined("*", sub),
                    )
                };
                Self::Resource {
                    verb,
                    group: symbols.get(action.group),
                    resource,
                    any_with_subresource,
                    name: action.name,
                }
            }
            Action::NonResource { path, .. } => Self::Url { verb, path },
        }
    }
}

impl VerbProbe {
    #[inline]
    fn new(symbols: &Symbols, verb: &str) -> Self {
        match verb_bit(verb) {
            0 => Self {
                bit: 0,
                symbol: symbols.get(verb),
            },
            bit => Self { bit, symbol: None },
        }
    }
}

#[inline]
fn verb_bit(verb: &str) -> u64 {
    match VERBS.iter().position(|known| *known == verb) {
        Some(place) => 1 << place,
        None => 0,
    }
}

impl CompiledRole {
    pub(crate) fn new(
        symbols: &mut Symbols,
        role: Arc<Role>,
        effective: Arc<[EffectiveRule]>,
    ) -> Self {
        let mut compiled = Self {
            verbs: 0,
            resources: 0,
            rules: Box::default(),
            symbols: Box::default(),
            name_orders: name_orders(&effective),
            role,
            effective,
        };
        let mut all = Vec::new();
        let mut rules = Vec::with_capacity(compiled.effective.len());
        for rule in compiled.effective.iter().map(|effective| &effective.rule) {
            let compiled_rule = CompiledRule::new(symbols, rule, &mut all);
            compiled.verbs |= compiled_rule.verbs;
            if !compiled_rule.other_verbs.is_empty_range() {
                // Verbs without a bit pass the sieve by all bits; the rule itself still compares them.
                compiled.verbs = ANY;
            }
            if compiled_rule.any_resource {
                compiled.resources = ANY;
            }
            for symbol in slice(&all, compiled_rule.resources) {
                compiled.resources |= sieve(*symbol);
            }
            rules.push(compiled_rule);
        }
        compiled.rules = rules.into();
        compiled.symbols = all.into();
        compiled
    }

    /// Gives the symbols of the role's rules back.
    pub(crate) fn release(&self, symbols: &mut Symbols) {
        for effective in self.effective.iter() {
            for text in interned(&effective.rule) {
                symbols.release(text);
            }
        }
    }

    /// The first rule that grants.
    #[inline]
    pub(crate) fn first_granting(&self, probe: &Probe<'_>) -> Option<usize> {
        match probe {
            Probe::Resource {
                verb,
                group,
                resource,
                any_with_subresource,
                name,
            } => {
                let wanted = resource.map_or(0, sieve) | any_with_subresource.map_or(0, sieve);
                let by_verb = verb.bit == 0 || self.verbs & verb.bit != 0;
                if !by_verb || (self.resources != ANY && self.resources & wanted == 0) {
                    return None;
                }
                self.rules.iter().enumerate().position(|(index, rule)| {
                    self.has_verb(rule, *verb)
                        && (rule.any_group || self.has(rule.groups, *group))
                        && (rule.any_resource
                            || self.has(rule.resources, *resource)
                            || self.has(rule.resources, *any_with_subresource))
                        && (!rule.has_names || self.has_name(index, name))
                })
            }
            Probe::Url { verb, path } => self.rules.iter().enumerate().position(|(index, rule)| {
                rule.has_urls && self.has_verb(rule, *verb) && self.has_url(index, path)
            }),
        }
    }

    /// Whether the role grants by a rule at this place.
    pub(crate) fn all_granting<'s>(
        &'s self,
        action: &'s Action<'_>,
    ) -> impl Iterator<Item = usize> + 's {
        let rules = self.effective.iter().enumerate();
        rules
            .filter(|(_, effective)| effective.rule.allows(action))
            .map(|(index, _)| index)
    }

    #[inline]
    fn has_verb(&self, rule: &CompiledRule, verb: VerbProbe) -> bool {
        rule.any_verb || rule.verbs & verb.bit != 0 || self.has(rule.other_verbs, verb.symbol)
    }

    #[inline]
    fn has(&self, range: (u32, u32), symbol: Option<Symbol>) -> bool {
        let list = slice(&self.symbols, range);
        match symbol {
            None => false,
            Some(symbol) if list.len() <= LINEAR => list.contains(&symbol),
            Some(symbol) => list.binary_search(&symbol).is_ok(),
        }
    }

    fn has_name(&self, rule: usize, name: &str) -> bool {
        let Some(names) = self.effective.get(rule).map(|e| &e.rule.resource_names) else {
            return false;
        };
        if names.len() <= LINEAR {
            return names.iter().any(|listed| listed == name);
        }
        let orders = &self.name_orders;
        let place = orders.binary_search_by_key(&rule, |order| order.rule);
        place
            .ok()
            .and_then(|place| orders.get(place))
            .is_some_and(|sorted| {
                let text = |at: &usize| names.get(*at).map_or("", String::as_str);
                sorted
                    .order
                    .binary_search_by(|at| text(at).cmp(name))
                    .is_ok()
            })
    }

    fn has_url(&self, rule: usize, path: &str) -> bool {
        self.effective.get(rule).is_some_and(|effective| {
            let urls = &effective.rule.non_resource_urls;
            urls.iter().any(|url| url_matches(url, path))
        })
    }
}

impl CompiledRule {
    fn new(symbols: &mut Symbols, rule: &PolicyRule, all: &mut Vec<Symbol>) -> Self {
        // INVARIANT: interns exactly what `interned` lists.
        let mut list = |texts: &mut dyn Iterator<Item = &str>| {
            let start = all.len();
            all.extend(texts.map(|text| symbols.intern(text)));
            if let Some(added) = all.get_mut(start..) {
                added.sort_unstable();
            }
            let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            (place(start), place(all.len()))
        };
        let groups = list(&mut strings(&rule.api_groups));
        let resources = list(&mut strings(&rule.resources));
        let other_verbs = list(&mut strings(&rule.verbs).filter(|verb| verb_bit(verb) == 0));
        let any_verb = rule.verbs.iter().any(|verb| verb == "*");
        let bits = rule.verbs.iter().map(|verb| verb_bit(verb));
        Self {
            verbs: if any_verb {
                ANY
            } else {
                bits.fold(0, |all, bit| all | bit)
            },
            groups,
            resources,
            other_verbs,
            any_group: rule.api_groups.iter().any(|group| group == "*"),
            any_resource: rule.resources.iter().any(|resource| resource == "*"),
            any_verb,
            has_names: !rule.resource_names.is_empty(),
            has_urls: !rule.non_resource_urls.is_empty(),
        }
    }
}

/// The strings of a rule that have symbols.
fn interned(rule: &PolicyRule) -> impl Iterator<Item = &str> {
    strings(&rule.api_groups)
        .chain(strings(&rule.resources))
        .chain(strings(&rule.verbs).filter(|verb| verb_bit(verb) == 0))
}

fn strings(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter().map(String::as_str)
}

#[inline]
fn sieve(symbol: Symbol) -> u64 {
    1 << (symbol % 64)
}

#[inline]
fn slice(symbols: &[Symbol], (start, end): (u32, u32)) -> &[Symbol] {
    symbols
        .get(start as usize..end as usize)
        .unwrap_or_default()
}

fn name_orders(effective: &[EffectiveRule]) -> Box<[NameOrder]> {
    let long = effective
        .iter()
        .enumerate()
        .filter_map(|(rule, effective)| {
            let names = &effective.rule.resource_names;
            (names.len() > LINEAR).then(|| {
                let mut order: Box<[usize]> = (0..names.len()).collect();
                order.sort_unstable_by_key(|at| names.get(*at));
                NameOrder { rule, order }
            })
        });
    long.collect()
}

trait EmptyRange {
    fn is_empty_range(&self) -> bool;
}

impl EmptyRange for (u32, u32) {
    fn is_empty_range(&self) -> bool {
        self.0 == self.1
    }
}

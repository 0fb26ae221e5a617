//! Roles as the request path reads them: a program of numbers in one block of memory, where a large index costs one
//! cache miss instead of one per rule, list and string.

use std::fmt;
use std::sync::Arc;

use super::symbols::{Symbol, Symbols};
use crate::object::{PolicyRule, Role};
use crate::request::Action;
use crate::rule::url_matches;

/// A stored role with its rules in force: its own, or those that aggregation gave it.
#[derive(Clone)]
pub(crate) struct CompiledRole {
    /// Resources of all rules together, one bit per symbol modulo 64, to pass over roles that cannot grant.
    resources: u64,
    /// Flags and verbs of all rules together, for the same purpose.
    flags: u32,
    program: Arc<[u32]>,
    pub(crate) detail: Arc<RoleDetail>,
}

/// What the program was made of, for explanations.
#[derive(Debug)]
pub(crate) struct RoleDetail {
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
// The program: the number of rules, a record per rule, and the lists that the records point to, one behind the other.
const HEAD: usize = 1;
const RECORD: usize = 6;
/// Bits of a record's first word that are no verbs.
const OTHER_VERBS: u32 = 1 << 24;
const ANY_VERB: u32 = 1 << 25;
const ANY_GROUP: u32 = 1 << 26;
const ANY_RESOURCE: u32 = 1 << 27;
const HAS_NAMES: u32 = 1 << 28;
const HAS_URLS: u32 = 1 << 29;
/// Longer lists are searched by halves.
const LINEAR: usize = 16;

/// A record: flags and verbs, where its lists begin, and where each of them ends.
struct Record {
    flags: u32,
    start: u32,
    groups: u32,
    resources: u32,
    verbs: u32,
    names: u32,
}

/// A request with its strings looked up.
pub(crate) enum Probe<'a> {
    Resource {
        verb: VerbProbe,
        group: Option<Symbol>,
        resource: Option<Symbol>,
        any_with_subresource: Option<Symbol>,
        name: Option<Symbol>,
    },
    Url {
        verb: VerbProbe,
        path: &'a str,
    },
}

#[derive(Clone, Copy)]
pub(crate) struct VerbProbe {
    /// The bit of the verb, or the flag of rules that have other verbs; and the flag of rules that have all.
    bits: u32,
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
                    name: symbols.get(action.name),
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
                bits: OTHER_VERBS | ANY_VERB,
                symbol: symbols.get(verb),
            },
            bit => Self {
                bits: bit | ANY_VERB,
                symbol: None,
            },
        }
    }
}

#[inline]
fn verb_bit(verb: &str) -> u32 {
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
        let mut program = vec![0; HEAD + RECORD * effective.len()];
        let (mut flags, mut resources) = (0, 0);
        for (index, rule) in effective
            .iter()
            .map(|effective| &*effective.rule)
            .enumerate()
        {
            let record = Record::write(symbols, rule, &mut program);
            flags |= record.flags;
            for symbol in list(&program, record.groups, record.resources) {
                resources |= sieve(*symbol);
            }
            let at = HEAD + RECORD * index;
            if let Some(space) = program.get_mut(at..at + RECORD) {
                space.copy_from_slice(&record.words());
            }
        }
        if let Some(head) = program.first_mut() {
            *head = place(effective.len());
        }
        Self {
            resources,
            flags,
            program: program.into(),
            detail: Arc::new(RoleDetail { role, effective }),
        }
    }

    /// Moves the program to where memory is handed out now.
    pub(crate) fn pack(&mut self) {
        self.program = Arc::from(&*self.program);
    }

    /// Gives the symbols of the role's rules back.
    pub(crate) fn release(&self, symbols: &mut Symbols) {
        for effective in self.detail.effective.iter() {
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
                let resource_may_match =
                    self.flags & ANY_RESOURCE != 0 || self.resources & wanted != 0;
                if self.flags & verb.bits == 0 || !resource_may_match {
                    return None;
                }
                let program = &*self.program;
                let records = records(program);
                records.iter().position(|words| {
                    let record = Record::read(words);
                    let flags = record.flags;
                    flags & verb.bits != 0
                        && (flags & ANY_GROUP != 0
                            || has(program, record.start, record.groups, *group))
                        && (flags & ANY_RESOURCE != 0
                            || has(program, record.groups, record.resources, *resource)
                            || has(
                                program,
                                record.groups,
                                record.resources,
                                *any_with_subresource,
                            ))
                        && record.has_verb(program, *verb)
                        && (flags & HAS_NAMES == 0
                            || has(program, record.verbs, record.names, *name))
                })
            }
            Probe::Url { verb, path } => {
                if self.flags & HAS_URLS == 0 || self.flags & verb.bits == 0 {
                    return None;
                }
                let program = &*self.program;
                let records = records(program);
                records.iter().enumerate().position(|(index, words)| {
                    let record = Record::read(words);
                    record.flags & HAS_URLS != 0
                        && record.flags & verb.bits != 0
                        && record.has_verb(program, *verb)
                        && self.has_url(index, path)
                })
            }
        }
    }

    /// The places of all rules that grant.
    pub(crate) fn all_granting<'s>(
        &'s self,
        action: &'s Action<'_>,
    ) -> impl Iterator<Item = usize> + 's {
        let rules = self.detail.effective.iter().enumerate();
        rules
            .filter(|(_, effective)| effective.rule.allows(action))
            .map(|(index, _)| index)
    }

    fn has_url(&self, rule: usize, path: &str) -> bool {
        self.detail.effective.get(rule).is_some_and(|effective| {
            let urls = &effective.rule.non_resource_urls;
            urls.iter().any(|url| url_matches(url, path))
        })
    }
}

impl fmt::Debug for CompiledRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = &self.detail.role;
        write!(f, "{} {}", role.kind, role.metadata.name)
    }
}

impl Record {
    /// Appends the lists of a rule to the program.
    fn write(symbols: &mut Symbols, rule: &PolicyRule, program: &mut Vec<u32>) -> Self {
        // INVARIANT: interns exactly what `interned` lists.
        let start = place(program.len());
        let mut append = |texts: &mut dyn Iterator<Item = &str>| {
            let from = program.len();
            program.extend(texts.map(|text| symbols.intern(text)));
            if let Some(added) = program.get_mut(from..) {
                added.sort_unstable();
            }
            place(program.len())
        };
        let groups = append(&mut strings(&rule.api_groups));
        let resources = append(&mut strings(&rule.resources));
        let verbs = append(&mut other_verbs(rule));
        let names = append(&mut strings(&rule.resource_names));
        let star = |list: &[String]| list.iter().any(|entry| entry == "*");
        let flags = [
            (OTHER_VERBS, verbs != resources),
            (ANY_VERB, star(&rule.verbs)),
            (ANY_GROUP, star(&rule.api_groups)),
            (ANY_RESOURCE, star(&rule.resources)),
            (HAS_NAMES, !rule.resource_names.is_empty()),
            (HAS_URLS, !rule.non_resource_urls.is_empty()),
        ];
        let flags = flags.into_iter().filter(|(_, holds)| *holds);
        let flags = flags.fold(0, |all, (flag, _)| all | flag);
        let bits = rule.verbs.iter().map(|verb| verb_bit(verb));
        Self {
            flags: bits.fold(flags, |all, bit| all | bit),
            start,
            groups,
            resources,
            verbs,
            names,
        }
    }

    fn words(&self) -> [u32; RECORD] {
        [
            self.flags,
            self.start,
            self.groups,
            self.resources,
            self.verbs,
            self.names,
        ]
    }

    #[inline]
    fn read(words: &[u32; RECORD]) -> Self {
        let [flags, start, groups, resources, verbs, names] = *words;
        Self {
            flags,
            start,
            groups,
            resources,
            verbs,
            names,
        }
    }

    /// Whether the verb itself is among those of the rule, once the flags let it pass.
    #[inline]
    fn has_verb(&self, program: &[u32], verb: VerbProbe) -> bool {
        let bits = verb.bits & !OTHER_VERBS;
        self.flags & bits != 0 || has(program, self.resources, self.verbs, verb.symbol)
    }
}

/// The strings of a rule that have symbols.
fn interned(rule: &PolicyRule) -> impl Iterator<Item = &str> {
    strings(&rule.api_groups)
        .chain(strings(&rule.resources))
        .chain(other_verbs(rule))
        .chain(strings(&rule.resource_names))
}

fn other_verbs(rule: &PolicyRule) -> impl Iterator<Item = &str> {
    strings(&rule.verbs).filter(|verb| verb_bit(verb) == 0)
}

fn strings(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter().map(String::as_str)
}

#[inline]
fn has(program: &[u32], start: u32, end: u32, symbol: Option<Symbol>) -> bool {
    let list = list(program, start, end);
    match symbol {
        None => false,
        Some(symbol) if list.len() <= LINEAR => list.contains(&symbol),
        Some(symbol) => list.binary_search(&symbol).is_ok(),
    }
}

#[inline]
fn list(program: &[u32], start: u32, end: u32) -> &[Symbol] {
    program
        .get(start as usize..end as usize)
        .unwrap_or_default()
}

#[inline]
fn records(program: &[u32]) -> &[[u32; RECORD]] {
    let Some((rules, rest)) = program.split_first() else {
        return &[];
    };
    let (records, _) = rest.as_chunks();
    records.get(..*rules as usize).unwrap_or_default()
}

#[inline]
fn sieve(symbol: Symbol) -> u64 {
    1 << (symbol % 64)
}

/// A place in a program. Objects are far too small to need more places.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

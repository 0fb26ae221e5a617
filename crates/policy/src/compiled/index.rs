//! Which statements name an action.

use crate::bytes;
use crate::document::{ListElement, Statement};
use crate::fold;
use crate::pattern::Pattern;
use crate::request::{Action, split_action};

use super::action::{ActionPattern, GLOB};

/// The statements of one effect, found by service.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Sorted by hash.
    services: Box<[ServiceEntry]>,
    /// Grouped by service, statements in document order.
    candidates: Box<[Candidate]>,
    /// Exact action names of all candidates; each candidate's are sorted by hash.
    names: Box<[(u64, Box<str>)]>,
    globs: Box<[Pattern]>,
    /// Statements that cannot be told apart by service: `*`, a wildcard in the service, `NotAction`.
    common: Box<[Common]>,
}

#[derive(Debug)]
struct ServiceEntry {
    hash: u64,
    name: Box<str>,
    candidates: (u32, u32),
}

#[derive(Debug)]
struct Candidate {
    statement: u32,
    all: bool,
    names: (u32, u32),
    globs: (u32, u32),
}

#[derive(Debug)]
struct Common {
    statement: u32,
    negated: bool,
    entries: Box<[ActionPattern]>,
}

struct Draft<'d> {
    service: &'d str,
    hash: u64,
    statement: u32,
    name: &'d str,
}

impl Index {
    pub(crate) fn build<'d>(statements: impl Iterator<Item = (usize, &'d Statement)>) -> Self {
        let mut drafts: Vec<Draft<'d>> = Vec::new();
        let mut common = Vec::new();
        for (index, statement) in statements {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            match &statement.action {
                // A statement without actions is malformed: as an Allow it grants nothing, as a Deny it denies everything.
                None => {
                    if statement.effect == crate::document::Effect::Deny {
                        common.push(Common {
                            statement: index,
                            negated: false,
                            entries: [ActionPattern::Everything].into(),
                        });
                    }
                }
                Some(element) if is_common(element) => common.push(Common {
                    statement: index,
                    negated: element.negated,
                    entries: element
                        .entries
                        .iter()
                        .map(|entry| ActionPattern::compile(&entry.value))
                        .collect(),
                }),
                Some(element) => drafts.extend(
                    element
                        .entries
                        .iter()
                        .filter_map(|entry| split_action(&entry.value))
                        .filter(|(service, name)| !service.is_empty() && !name.is_empty())
                        .map(|(service, name)| Draft {
                            service,
                            hash: fold::hash(service),
                            statement: index,
                            name,
                        }),
                ),
            }
        }
        drafts.sort_by_key(|draft| (draft.hash, draft.statement));
        let mut index = Builder::default();
        for group in drafts.chunk_by(|left, right| left.hash == right.hash) {
            index.service(group);
        }
        Self {
            services: index.services.into(),
            candidates: index.candidates.into(),
            names: index.names.into(),
            globs: index.globs.into(),
            common: common.into(),
        }
    }

    /// Indexes of the statements whose actions include this one.
    pub(crate) fn matching<'i>(&'i self, action: &'i Action) -> impl Iterator<Item = u32> + 'i {
        let own = self
            .candidates_of(action)
            .iter()
            .filter(|candidate| self.names_action(candidate, action))
            .map(|candidate| candidate.statement);
        let common = self
            .common
            .iter()
            .filter(|common| common.matches(action))
            .map(|common| common.statement);
        own.chain(common)
    }

    fn candidates_of(&self, action: &Action) -> &[Candidate] {
        let hash = action.service_hash();
        let at = if self.services.len() <= 8 {
            self.services.iter().position(|entry| entry.hash == hash)
        } else {
            self.services
                .binary_search_by_key(&hash, |entry| entry.hash)
                .ok()
        };
        at.and_then(|at| self.services.get(at))
            .filter(|entry| bytes::same(entry.name.as_bytes(), action.service().as_bytes()))
            .and_then(|entry| slice(&self.candidates, entry.candidates))
            .unwrap_or_default()
    }

    fn names_action(&self, candidate: &Candidate, action: &Action) -> bool {
        if candidate.all {
            return true;
        }
        let names = slice(&self.names, candidate.names).unwrap_or_default();
        let hash = action.name_hash();
        let mut at = names.partition_point(|(other, _)| *other < hash);
        while let Some((other, name)) = names.get(at) {
            if *other != hash {
                break;
            }
            if bytes::same(name.as_bytes(), action.name().as_bytes()) {
                return true;
            }
            at += 1;
        }
        slice(&self.globs, candidate.globs)
            .unwrap_or_default()
            .iter()
            .any(|pattern| pattern.matches_plain(action.name()))
    }
}

fn is_common(element: &ListElement) -> bool {
    element.negated
        || element.entries.iter().any(|entry| {
            &*entry.value == "*"
                || split_action(&entry.value)
                    .is_some_and(|(service, _)| service.contains(['*', '?']))
        })
}

fn slice<T>(items: &[T], (start, end): (u32, u32)) -> Option<&[T]> {
    items.get(start as usize..end as usize)
}

impl Common {
    fn matches(&self, action: &Action) -> bool {
        self.negated != self.entries.iter().any(|entry| entry.matches(action))
    }
}

#[derive(Default)]
struct Builder {
    services: Vec<ServiceEntry>,
    candidates: Vec<Candidate>,
    names: Vec<(u64, Box<str>)>,
    globs: Vec<Pattern>,
}

impl Builder {
    fn service(&mut self, group: &[Draft<'_>]) {
        let Some(first) = group.first() else {
            return;
        };
        let start = count(&self.candidates);
        for statement in group.chunk_by(|left, right| left.statement == right.statement) {
            self.candidate(statement);
        }
        self.services.push(ServiceEntry {
            hash: first.hash,
            name: fold::lower(first.service),
            candidates: (start, count(&self.candidates)),
        });
    }

    fn candidate(&mut self, drafts: &[Draft<'_>]) {
        let Some(first) = drafts.first() else {
            return;
        };
        let names_start = count(&self.names);
        let globs_start = count(&self.globs);
        let mut all = false;
        for draft in drafts {
            if draft.name == "*" {
                all = true;
            } else if draft.name.contains(['*', '?']) {
                self.globs
                    .push(Pattern::compile(&fold::lower(draft.name), GLOB));
            } else {
                self.names
                    .push((fold::hash(draft.name), fold::lower(draft.name)));
            }
        }
        if let Some(own) = self.names.get_mut(names_start as usize..) {
            own.sort_unstable();
        }
        self.candidates.push(Candidate {
            statement: first.statement,
            all,
            names: (names_start, count(&self.names)),
            globs: (globs_start, count(&self.globs)),
        });
    }
}

fn count<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

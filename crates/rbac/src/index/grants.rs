//! What one subject is granted: in each scope the distinct roles, by the first binding that grants them.
//!
//! A second binding of the same role to the same subject in the same scope cannot change a decision or its reason. The
//! request path passes over it; it counts once the first one is gone.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use imbl::OrdMap;
use smallvec::SmallVec;

use super::{CompiledRole, StoredBinding};
use crate::decision::Chain;
use crate::object::Binding;

/// A role granted to a subject by a binding.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    /// The hash of the namespace, so that other namespaces are passed over without looking at their bindings.
    scope: u64,
    stored: Arc<StoredBinding>,
    pub(crate) role: u32,
    /// Place of the subject in the binding's list; with the [`COVERED`] bit, among a subject's few grants, if an
    /// earlier one of the scope grants the same role.
    subject: u32,
}

/// Where a binding holds: in a namespace, told by its hash as well, or in the cluster, with an empty name and zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope<'a> {
    pub(super) hash: u64,
    pub(super) name: &'a str,
}

/// All grants of a subject.
#[derive(Debug, Clone)]
pub(crate) enum GrantSet {
    /// In place, ordered by scope and binding name. Most subjects have one or two.
    Few(SmallVec<[Grant; 3]>),
    /// By scope.
    Many(OrdMap<ScopeKey, ScopedGrants>),
}

/// A scope, owned.
#[derive(Debug, Clone)]
pub(crate) struct ScopeKey {
    hash: u64,
    name: Arc<str>,
}

/// The grants of one scope, of a subject that has many.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScopedGrants {
    /// One per role, ordered by the name of the binding, page by page, so that walking over them never allocates. No
    /// page is empty.
    pages: Vec<Arc<Vec<Grant>>>,
    /// The name of the binding that grants each role.
    roles: OrdMap<u32, Arc<str>>,
    /// Further grants of these roles, by role and binding name.
    later: OrdMap<(u32, Arc<str>), Grant>,
}

const COVERED: u32 = 1 << 31;
/// More grants than this are kept by scope.
const FEW: usize = 16;
/// Grants per page, after which it is split.
const PAGE: usize = 128;

// === impl Grant ===

impl Grant {
    pub(super) fn new(stored: Arc<StoredBinding>, scope: u64, subject: usize) -> Self {
        Self {
            scope,
            role: stored.role,
            subject: u32::try_from(subject).unwrap_or(u32::MAX) & !COVERED,
            stored,
        }
    }

    #[inline]
    pub(crate) fn binding(&self) -> &Binding {
        &self.stored.binding
    }

    #[inline]
    pub(crate) fn chain<'a>(&'a self, role: &'a CompiledRole, rule_index: usize) -> Chain<'a> {
        Chain::new(self.binding(), self.subject(), role, rule_index)
    }

    /// Place of the subject in the binding's list.
    pub(crate) fn subject(&self) -> usize {
        (self.subject & !COVERED) as usize
    }

    fn is_covered(&self) -> bool {
        self.subject & COVERED != 0
    }

    pub(crate) fn name(&self) -> &str {
        &self.binding().metadata.name
    }

    /// The order in which the API server would come across the grants of one scope.
    #[inline]
    pub(crate) fn order(&self) -> (&str, usize) {
        (self.name(), self.subject())
    }

    #[inline]
    fn scope(&self) -> Scope<'_> {
        Scope {
            hash: self.scope,
            name: &self.binding().metadata.namespace,
        }
    }

    /// Whether the grant holds in a scope. That of the cluster is told by the hash alone, which no namespace has.
    #[inline]
    fn is_in(&self, scope: Scope<'_>) -> bool {
        self.scope == scope.hash
            && (scope.hash == Scope::CLUSTER.hash || self.scope().name == scope.name)
    }

    /// Where the grant stands among others: by scope, then by binding.
    fn place(&self) -> (u64, &str, &str) {
        (self.scope, &self.binding().metadata.namespace, self.name())
    }

    fn key(&self) -> (u32, Arc<str>) {
        (self.role, self.name().into())
    }
}

impl Scope<'_> {
    pub(crate) const CLUSTER: Self = Self { hash: 0, name: "" };
}

// === impl GrantSet ===

impl GrantSet {
    /// The grants that decide in a scope, in order, until `decide` has found what it looks for.
    #[inline]
    pub(crate) fn find<'a, T>(
        &'a self,
        scope: Scope<'_>,
        decide: impl FnMut(&'a Grant) -> Option<T>,
    ) -> Option<T> {
        match self {
            Self::Few(few) => {
                let here = few
                    .iter()
                    .filter(|grant| grant.is_in(scope) && !grant.is_covered());
                { here }.find_map(decide)
            }
            Self::Many(many) => {
                let key: &dyn InScope = &scope;
                let pages = many.get(key)?.pages.iter();
                pages.flat_map(|page| page.iter()).find_map(decide)
            }
        }
    }

    /// Every grant in a scope.
    pub(crate) fn in_scope<'a, 's>(
        &'a self,
        scope: Scope<'s>,
    ) -> impl Iterator<Item = &'a Grant> + use<'a, 's> {
        let (few, many) = match self {
            Self::Few(few) => (few.as_slice(), None),
            Self::Many(many) => {
                let key: &dyn InScope = &scope;
                ([].as_slice(), many.get(key))
            }
        };
        let few = few.iter().filter(move |grant| grant.is_in(scope));
        few.chain(many.into_iter().flat_map(ScopedGrants::iter))
    }

    /// Every grant in every scope, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Grant> {
        let (few, many) = match self {
            Self::Few(few) => (few.as_slice(), None),
            Self::Many(many) => ([].as_slice(), Some(many)),
        };
        let many = many.into_iter().flat_map(|many| many.values());
        few.iter().chain(many.flat_map(ScopedGrants::iter))
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    pub(super) fn insert(&mut self, grant: Grant) {
        if let Self::Few(few) = self {
            if few.len() < FEW {
                let place = few.partition_point(|held| held.place() < grant.place());
                few.insert(place, grant);
                cover(few);
                return;
            }
            let grants = std::mem::take(few);
            *self = Self::Many(OrdMap::new());
            grants.into_iter().for_each(|grant| self.insert(grant));
        }
        if let Self::Many(many) = self {
            let key = ScopeKey {
                hash: grant.scope,
                name: grant.scope().name.into(),
            };
            many.entry(key).or_default().insert(grant);
        }
    }

    pub(super) fn remove(&mut self, stored: &StoredBinding, scope: Scope<'_>) {
        let (role, name) = (stored.role, stored.binding.metadata.name.as_str());
        match self {
            Self::Few(few) => {
                few.retain(|held| !(held.is_in(scope) && held.name() == name));
                cover(few);
            }
            Self::Many(many) => {
                let key: &dyn InScope = &scope;
                if let Some(grants) = many.get_mut(key) {
                    grants.remove(role, name);
                    if grants.pages.is_empty() {
                        many.remove(key);
                    }
                }
            }
        }
    }
}

/// Marks the grants of roles that an earlier grant of the same scope has too.
fn cover(few: &mut [Grant]) {
    for at in 0..few.len() {
        let Some((grant, before)) = few.get_mut(..=at).and_then(<[Grant]>::split_last_mut) else {
            return;
        };
        let same = |held: &Grant| held.role == grant.role && held.scope() == grant.scope();
        let is_covered = before.iter().any(same);
        grant.subject = grant.subject & !COVERED | if is_covered { COVERED } else { 0 };
    }
}

impl Default for GrantSet {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

// === impl ScopedGrants ===

impl ScopedGrants {
    /// Every grant, the later ones of a role last.
    fn iter(&self) -> impl Iterator<Item = &Grant> {
        let first = self.pages.iter().flat_map(|page| page.iter());
        first.chain(self.later.values())
    }

    fn insert(&mut self, mut grant: Grant) {
        grant.subject &= !COVERED;
        match self.roles.get(&grant.role).cloned() {
            Some(held) if *grant.name() > *held => _ = self.later.insert(grant.key(), grant),
            Some(held) => {
                let before = self.take(grant.role, &held);
                self.add(grant);
                self.later
                    .extend(before.map(|before| (before.key(), before)));
            }
            None => self.add(grant),
        }
    }

    fn remove(&mut self, role: u32, binding: &str) {
        if self.roles.get(&role).is_none_or(|held| **held != *binding) {
            self.later.remove(&(role, binding.into()));
            return;
        }
        self.take(role, binding);
        let next = self.later.range((role, "".into())..).next();
        let next = next.map(|(key, _)| key.clone()).filter(|key| key.0 == role);
        if let Some(next) = next.and_then(|key| self.later.remove(&key)) {
            self.add(next);
        }
    }

    /// Adds a grant of a role that has none.
    fn add(&mut self, grant: Grant) {
        self.roles.insert(grant.role, grant.name().into());
        let at = self.page_of(grant.name());
        let Some(page) = self.pages.get_mut(at) else {
            self.pages.push(Arc::new(vec![grant]));
            return;
        };
        let page = Arc::make_mut(page);
        let place = page.partition_point(|held| held.name() < grant.name());
        page.insert(place, grant);
        if page.len() > PAGE {
            let half = page.split_off(PAGE / 2);
            self.pages.insert(at + 1, Arc::new(half));
        }
    }

    /// Takes out the grant that gives a role.
    fn take(&mut self, role: u32, binding: &str) -> Option<Grant> {
        self.roles.remove(&role)?;
        let at = self.page_of(binding);
        let page = Arc::make_mut(self.pages.get_mut(at)?);
        let is = |held: &Grant| held.role == role && held.name() == binding;
        let place = page.iter().position(is)?;
        let taken = page.remove(place);
        if page.is_empty() {
            self.pages.remove(at);
        }
        Some(taken)
    }

    /// The page on which a binding of this name is, or would be.
    fn page_of(&self, name: &str) -> usize {
        let starts_before =
            |page: &Arc<Vec<Grant>>| page.first().is_some_and(|first| first.name() <= name);
        self.pages.partition_point(starts_before).saturating_sub(1)
    }
}

// === keys of scopes, borrowed and owned ===

trait InScope {
    fn key(&self) -> (u64, &str);
}

impl InScope for Scope<'_> {
    fn key(&self) -> (u64, &str) {
        (self.hash, self.name)
    }
}

impl InScope for ScopeKey {
    fn key(&self) -> (u64, &str) {
        (self.hash, &self.name)
    }
}

impl<'a> Borrow<dyn InScope + 'a> for ScopeKey {
    fn borrow(&self) -> &(dyn InScope + 'a) {
        self
    }
}

impl Ord for dyn InScope + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for dyn InScope + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn InScope + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for dyn InScope + '_ {}

impl Ord for ScopeKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for ScopeKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ScopeKey {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ScopeKey {}

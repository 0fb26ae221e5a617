//! What one subject is granted: per scope the distinct roles, each with the first binding that grants it.

use std::sync::Arc;

use imbl::OrdMap;
use smallvec::SmallVec;

use super::symbols::Symbol;
use super::{CompiledRole, StoredBinding};
use crate::decision::Chain;
use crate::object::Binding;

/// A role granted to a subject by a binding.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(super) stored: Arc<StoredBinding>,
    pub(crate) role: u32,
    /// Place of the subject in the binding's list.
    pub(crate) subject: u32,
}

/// The grants of a subject in one scope.
///
/// A second binding of the same role to the same subject cannot change a decision or its reason, so the request path
/// never sees it; it waits in `later` for the first one to go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grants {
    /// One per role, ordered by the name of the binding.
    first: Sorted,
    /// Keyed by role and binding name.
    later: Option<Arc<OrdMap<(u32, Arc<str>), Grant>>>,
}

/// Grants of distinct roles by the order of their bindings: in place as long as they are few, in pages and with an
/// index of the roles when they are many. Walking over them never allocates.
#[derive(Debug, Clone)]
enum Sorted {
    Few(SmallVec<[Grant; 1]>),
    Many(Arc<Many>),
}

#[derive(Debug, Clone, Default)]
struct Many {
    /// None is empty.
    pages: Vec<Arc<Vec<Grant>>>,
    /// The name of the binding that grants each role.
    roles: OrdMap<u32, Arc<str>>,
}

/// The grants of a subject by scope: a namespace, or the cluster.
#[derive(Debug, Clone)]
pub(crate) enum ByScope {
    Few(SmallVec<[(Symbol, Grants); 1]>),
    Many(OrdMap<Symbol, Grants>),
}

/// More scopes than this are kept in a tree.
const FEW_SCOPES: usize = 8;
/// More grants than this are kept in pages.
const FEW_GRANTS: usize = 32;
/// Grants per page, after which it is split.
const PAGE: usize = 128;

impl Grant {
    #[inline]
    pub(crate) fn binding(&self) -> &Binding {
        &self.stored.binding
    }

    #[inline]
    pub(crate) fn chain<'a>(&'a self, role: &'a CompiledRole, rule_index: usize) -> Chain<'a> {
        Chain::new(self.binding(), self.subject as usize, role, rule_index)
    }

    pub(crate) fn name(&self) -> &str {
        &self.binding().metadata.name
    }

    fn key(&self) -> (u32, Arc<str>) {
        (self.role, self.name().into())
    }

    /// The order in which the API server would come across the grants of one scope.
    #[inline]
    pub(crate) fn order(&self) -> (&str, u32) {
        (self.name(), self.subject)
    }
}

impl Grants {
    /// The grants that decide, page by page.
    #[inline]
    pub(crate) fn distinct(&self) -> impl Iterator<Item = &[Grant]> {
        let (few, pages) = match &self.first {
            Sorted::Few(few) => (few.as_slice(), [].as_slice()),
            Sorted::Many(many) => ([].as_slice(), many.pages.as_slice()),
        };
        std::iter::once(few).chain(pages.iter().map(|page| page.as_slice()))
    }

    /// Every grant, the later ones of a role last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Grant> {
        let later = self.later.iter().flat_map(|later| later.values());
        self.distinct().flatten().chain(later)
    }

    pub(crate) fn is_empty(&self) -> bool {
        match &self.first {
            Sorted::Few(few) => few.is_empty(),
            Sorted::Many(many) => many.pages.is_empty(),
        }
    }

    pub(crate) fn insert(&mut self, grant: Grant) {
        match self.first.binding_of(grant.role) {
            Some(held) if *grant.name() > *held => self.wait(grant),
            Some(held) => {
                let before = self.first.remove(grant.role, &held);
                self.first.insert(grant);
                before.into_iter().for_each(|before| self.wait(before));
            }
            None => self.first.insert(grant),
        }
    }

    pub(crate) fn remove(&mut self, role: u32, binding: &str) {
        if self.first.remove(role, binding).is_none() {
            if let Some(later) = &mut self.later {
                Arc::make_mut(later).remove(&(role, binding.into()));
            }
        } else if let Some(later) = &mut self.later {
            let next = later.range((role, "".into())..).next();
            let next = next.map(|(key, _)| key.clone()).filter(|key| key.0 == role);
            let next = next.and_then(|key| Arc::make_mut(later).remove(&key));
            next.into_iter().for_each(|grant| self.first.insert(grant));
        }
        self.later = self.later.take().filter(|later| !later.is_empty());
    }

    fn wait(&mut self, grant: Grant) {
        let later = self.later.get_or_insert_with(Arc::default);
        Arc::make_mut(later).insert(grant.key(), grant);
    }
}

impl Sorted {
    /// The name of the binding that grants a role.
    fn binding_of(&self, role: u32) -> Option<Arc<str>> {
        match self {
            Self::Few(few) => few
                .iter()
                .find(|grant| grant.role == role)
                .map(|grant| grant.name().into()),
            Self::Many(many) => many.roles.get(&role).cloned(),
        }
    }

    fn insert(&mut self, grant: Grant) {
        if let Self::Few(few) = self {
            let place = few.partition_point(|held| held.name() < grant.name());
            few.insert(place, grant);
            if few.len() > FEW_GRANTS {
                let grants = std::mem::take(few);
                let roles = grants.iter().map(|g| (g.role, Arc::from(g.name())));
                *self = Self::Many(Arc::new(Many {
                    roles: roles.collect(),
                    pages: vec![Arc::new(grants.into_vec())],
                }));
            }
            return;
        }
        if let Self::Many(many) = self {
            let many = Arc::make_mut(many);
            many.roles.insert(grant.role, grant.name().into());
            let at = many.page_of(grant.name());
            match many.pages.get_mut(at) {
                None => many.pages.push(Arc::new(vec![grant])),
                Some(page) => {
                    let page = Arc::make_mut(page);
                    let place = page.partition_point(|held| held.name() < grant.name());
                    page.insert(place, grant);
                    if page.len() > PAGE {
                        let half = page.split_off(PAGE / 2);
                        many.pages.insert(at + 1, Arc::new(half));
                    }
                }
            }
        }
    }

    fn remove(&mut self, role: u32, binding: &str) -> Option<Grant> {
        let is = |held: &Grant| held.role == role && held.name() == binding;
        match self {
            Self::Few(few) => {
                let place = few.iter().position(is)?;
                Some(few.remove(place))
            }
            Self::Many(many) => {
                if **many.roles.get(&role)? != *binding {
                    return None;
                }
                let many = Arc::make_mut(many);
                many.roles.remove(&role);
                let at = many.page_of(binding);
                let page = Arc::make_mut(many.pages.get_mut(at)?);
                let place = page.iter().position(is)?;
                let removed = page.remove(place);
                if page.is_empty() {
                    many.pages.remove(at);
                }
                Some(removed)
            }
        }
    }
}

impl Many {
    /// The page on which a binding of this name is, or would be.
    fn page_of(&self, name: &str) -> usize {
        let starts_before =
            |page: &Arc<Vec<Grant>>| page.first().is_some_and(|first| first.name() <= name);
        self.pages.partition_point(starts_before).saturating_sub(1)
    }
}

impl Default for Sorted {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl ByScope {
    #[inline]
    pub(crate) fn get(&self, scope: Symbol) -> Option<&Grants> {
        match self {
            Self::Few(few) => few
                .iter()
                .find(|(held, _)| *held == scope)
                .map(|(_, grants)| grants),
            Self::Many(many) => many.get(&scope),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    /// The grants of all scopes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Grants> {
        let (few, many) = match self {
            Self::Few(few) => (few.as_slice(), None),
            Self::Many(many) => ([].as_slice(), Some(many)),
        };
        let many = many.into_iter().flat_map(|many| many.values());
        few.iter().map(|(_, grants)| grants).chain(many)
    }

    pub(crate) fn of(&mut self, scope: Symbol) -> Option<&mut Grants> {
        if let Self::Few(few) = self
            && few.len() >= FEW_SCOPES
            && few.iter().all(|(held, _)| *held != scope)
        {
            *self = Self::Many(few.drain(..).collect());
        }
        match self {
            Self::Few(few) => {
                let place = few
                    .iter()
                    .position(|(held, _)| *held == scope)
                    .unwrap_or_else(|| {
                        few.push((scope, Grants::default()));
                        few.len() - 1
                    });
                few.get_mut(place).map(|(_, grants)| grants)
            }
            Self::Many(many) => Some(many.entry(scope).or_default()),
        }
    }

    pub(crate) fn drop_if_empty(&mut self, scope: Symbol) {
        match self {
            Self::Few(few) => few.retain(|(held, grants)| *held != scope || !grants.is_empty()),
            Self::Many(many) => {
                if many.get(&scope).is_some_and(Grants::is_empty) {
                    many.remove(&scope);
                }
            }
        }
    }
}

impl Default for ByScope {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

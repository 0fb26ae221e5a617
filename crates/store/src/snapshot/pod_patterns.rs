//! Which patterns of namespaces and service accounts are for one service account (Pod Identity spec, section 9).
//!
//! A pattern is the beginning of names and a `*`. Those for a name are found by walking from the name down to ever shorter
//! beginnings of it, so that thousands of patterns for other names cost nothing.

use std::sync::Arc;

use imbl::OrdMap;

use crate::records::is_pattern;

/// Things by namespace and service account, of which one at least is a pattern.
#[derive(Clone)]
pub(super) struct Patterns<V>(Side<Side<V>>);

/// Things by the namespaces, or service accounts, that they are for.
#[derive(Clone)]
struct Side<V> {
    /// By the name that is meant.
    exact: OrdMap<Arc<str>, V>,
    /// By what names begin with: patterns without their `*`.
    prefixes: OrdMap<Arc<str>, V>,
}

/// How closely a name or pattern means a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Closeness {
    literals: usize,
    is_exact: bool,
}

/// How closely an association with patterns means a service account. The order decides which association is in force: that with more
/// characters of both names that are no `*`, then that with more of them in the namespace, then that which names the
/// namespace exactly, then that which names the service account exactly. Two associations for one service account are never
/// equal in it, as they would have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    literals: usize,
    in_namespace: usize,
    is_exact_namespace: bool,
    is_exact_account: bool,
}

impl<V> Default for Side<V> {
    fn default() -> Self {
        Self {
            exact: OrdMap::new(),
            prefixes: OrdMap::new(),
        }
    }
}

impl<V: Clone> Side<V> {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// Where the things of this name or pattern are, by its [`literal`] part.
    fn side_mut(&mut self, name: &str) -> &mut OrdMap<Arc<str>, V> {
        if is_pattern(name) {
            &mut self.prefixes
        } else {
            &mut self.exact
        }
    }

    /// What is for this name, the closest first. Each step costs O(log n), and there are no more of them than the name has
    /// characters.
    fn matching<'s, 'n>(
        &'s self,
        name: &'n str,
    ) -> impl Iterator<Item = (Closeness, &'s V)> + use<'s, 'n, V> {
        let exact = self.exact.get(name).map(|value| {
            let closeness = Closeness {
                literals: name.len(),
                is_exact: true,
            };
            (closeness, value)
        });
        let mut limit = Some(name);
        let prefixes = std::iter::from_fn(move || {
            loop {
                // All that are still to come begin no later in order than what they begin like.
                let (prefix, value) = self.prefixes.get_prev(limit?)?;
                let common = common(prefix, name);
                let is_prefix = common == prefix.len();
                let next = if is_prefix {
                    common.checked_sub(1)
                } else {
                    Some(common)
                };
                limit = next.and_then(|end| name.get(..end));
                if is_prefix {
                    let closeness = Closeness {
                        literals: common,
                        is_exact: false,
                    };
                    return Some((closeness, value));
                }
            }
        });
        exact.into_iter().chain(prefixes)
    }
}

impl<V> Default for Patterns<V> {
    fn default() -> Self {
        Self(Side::default())
    }
}

impl<V: Clone> Patterns<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, namespace: &str, service_account: &str, value: V) {
        self.change(namespace, |accounts| {
            let key = Arc::from(literal(service_account));
            accounts.side_mut(service_account).insert(key, value);
        });
    }

    pub(super) fn remove(&mut self, namespace: &str, service_account: &str) {
        self.change(namespace, |accounts| {
            let key = literal(service_account);
            accounts.side_mut(service_account).remove(key);
        });
    }

    /// What is for a service account; for each pattern of its namespace the closest first.
    pub(super) fn matching<'s, 'n>(
        &'s self,
        namespace: &'n str,
        service_account: &'n str,
    ) -> impl Iterator<Item = (Rank, &'s V)> + use<'s, 'n, V> {
        self.0
            .matching(namespace)
            .flat_map(move |(space, accounts)| {
                accounts
                    .matching(service_account)
                    .map(move |(account, value)| {
                        let rank = Rank {
                            literals: space.literals.saturating_add(account.literals),
                            in_namespace: space.literals,
                            is_exact_namespace: space.is_exact,
                            is_exact_account: account.is_exact,
                        };
                        (rank, value)
                    })
            })
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> String
    where
        V: std::fmt::Debug,
    {
        let names: Vec<_> = [&self.0.exact, &self.0.prefixes]
            .into_iter()
            .flatten()
            .map(|(name, side)| format!("{name} {:?} {:?}", side.exact, side.prefixes))
            .collect();
        format!("{names:?}")
    }

    /// Changes what is for a namespace, and leaves nothing empty behind.
    fn change(&mut self, namespace: &str, change: impl FnOnce(&mut Side<V>)) {
        let key = literal(namespace);
        let namespaces = self.0.side_mut(namespace);
        let mut accounts = namespaces.remove(key).unwrap_or_default();
        change(&mut accounts);
        if !accounts.is_empty() {
            namespaces.insert(Arc::from(key), accounts);
        }
    }
}

/// What a pattern has before its `*`; a name is all of itself.
fn literal(name: &str) -> &str {
    name.strip_suffix('*').unwrap_or(name)
}

/// How many characters two names begin with alike. All are ASCII: they were checked.
fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

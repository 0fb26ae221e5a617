//! Pod identity associations: by namespace and service account, by id, and by patterns.
//!
//! Who an association is for is asked in one place, [`DirectorySnapshot::pod_identity_association_in_force`]: EKS Auth, the
//! admission webhook and the EKS API, on which agents and commands rely, all have their answer from it.

use std::sync::Arc;

use countersign_arn::AccountId;
use imbl::{HashMap, OrdMap};

use super::{DirectorySnapshot, PodIdentityAssociationEntry, behind};
use crate::records::{PodIdentityAssociation, check_namespace, check_service_account, is_pattern};
use crate::{Key, Revision};

/// What lookups compose their key in: a namespace of 63 characters, a service account of 253, and what is between them.
const SUBJECT_BYTES: usize = 63 + 1 + 253;
/// Between namespace and service account. No name has it, and it sorts before all characters that they have, so that the
/// order of the composed keys is that of the pairs.
const BETWEEN: &str = "\0";

/// The associations of a cluster.
#[derive(Clone, Default)]
pub(super) struct PodIdentities {
    /// By namespace and service account.
    by_subject: OrdMap<Arc<str>, Arc<PodIdentityAssociationEntry>>,
    by_id: HashMap<Arc<str>, Arc<PodIdentityAssociationEntry>>,
    /// Those with a pattern, which stand in the other two as well.
    patterns: Side<Side<Arc<PodIdentityAssociationEntry>>>,
}

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

/// How closely an association means a service account. The order decides which association is in force: that with more
/// characters of both names that are no `*`, then that with more of them in the namespace, then that which names the
/// namespace exactly, then that which names the service account exactly. Two associations for one service account are never
/// equal in it, as they would have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    literals: usize,
    in_namespace: usize,
    is_exact_namespace: bool,
    is_exact_account: bool,
}

impl PodIdentities {
    pub(super) fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_subject.len()
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        let mut ids: Vec<_> = self.by_id.iter().collect();
        ids.sort_by_key(|(id, _)| Arc::clone(id));
        let texts = |side: &Side<_>| format!("{:?} {:?}", side.exact, side.prefixes);
        let patterns: Vec<_> = [&self.patterns.exact, &self.patterns.prefixes]
            .into_iter()
            .flatten()
            .map(|(name, side)| (name, texts(side)))
            .collect();
        format!("{:?} {ids:?} {patterns:?}", self.by_subject)
    }

    fn remove(&mut self, namespace: &str, service_account: &str) {
        let Some(entry) = self
            .by_subject
            .remove(&*subject(namespace, service_account))
        else {
            return;
        };
        let id = &*entry.record.id;
        if self
            .by_id
            .get(id)
            .is_some_and(|known| Arc::ptr_eq(known, &entry))
        {
            self.by_id.remove(id);
        }
        if entry.record.has_patterns() {
            self.patterns.change(namespace, |accounts| {
                accounts
                    .side_mut(service_account)
                    .remove(literal(service_account));
            });
        }
    }

    fn insert(&mut self, entry: PodIdentityAssociationEntry) {
        let (id, subject) = {
            let record = &entry.record;
            let subject = subject(&record.namespace, &record.service_account);
            (Arc::from(&*record.id), Arc::from(subject))
        };
        let entry = Arc::new(entry);
        self.by_id.insert(id, Arc::clone(&entry));
        if entry.record.has_patterns() {
            let record = &entry.record;
            self.patterns.change(&record.namespace, |accounts| {
                let account = &*record.service_account;
                let (side, key) = (accounts.side_mut(account), Arc::from(literal(account)));
                side.insert(key, Arc::clone(&entry));
            });
        }
        self.by_subject.insert(subject, entry);
    }

    /// Accounts, keys and revisions of all.
    pub(super) fn keys(&self) -> impl Iterator<Item = (AccountId, Key, Revision)> {
        self.by_subject.values().filter_map(|entry| {
            let key = entry.record.key().to_key().ok()?;
            Some((entry.record.account, key, entry.modified))
        })
    }
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

impl<V: Clone> Side<Side<V>> {
    /// Changes what is for a namespace, and leaves nothing empty behind.
    fn change(&mut self, namespace: &str, change: impl FnOnce(&mut Side<V>)) {
        let key = literal(namespace);
        let namespaces = self.side_mut(namespace);
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

impl DirectorySnapshot {
    /// The association that is in force for a service account: what its pods get credentials by. One that names it exactly
    /// comes before every pattern; of patterns the one that has most characters in common with it, see `Rank`. O(log n)
    /// without patterns, O(log n) for each character with them; without an allocation.
    ///
    /// As all lookups of associations, it finds nothing in a cluster that is not there or is being deleted.
    #[must_use]
    pub fn pod_identity_association_in_force(
        &self,
        cluster_id: &str,
        namespace: &str,
        service_account: &str,
    ) -> Option<&Arc<PodIdentityAssociationEntry>> {
        let exact = self.pod_identity_association(cluster_id, namespace, service_account);
        if let Some(exact) = exact.filter(|entry| !entry.record.has_patterns()) {
            return Some(exact);
        }
        self.matching_patterns(cluster_id, namespace, service_account)
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
    }

    /// All associations that are for a service account, the one in force first. For people and programs that want to know why.
    #[must_use]
    pub fn pod_identity_associations_matching(
        &self,
        cluster_id: &str,
        namespace: &str,
        service_account: &str,
    ) -> Vec<&Arc<PodIdentityAssociationEntry>> {
        let mut patterns: Vec<_> = self
            .matching_patterns(cluster_id, namespace, service_account)
            .collect();
        patterns.sort_by(|(a, _), (b, _)| b.cmp(a));
        self.pod_identity_association(cluster_id, namespace, service_account)
            .filter(|entry| !entry.record.has_patterns())
            .into_iter()
            .chain(patterns.into_iter().map(|(_, entry)| entry))
            .collect()
    }

    /// The associations with patterns that are for a service account, for each pattern of its namespace the closest first.
    fn matching_patterns<'s, 'n>(
        &'s self,
        cluster_id: &str,
        namespace: &'n str,
        service_account: &'n str,
    ) -> impl Iterator<Item = (Rank, &'s Arc<PodIdentityAssociationEntry>)> + use<'s, 'n> {
        // A name that no object can have is nobody's, whatever begins like it.
        self.pod_identities(cluster_id)
            .map(|associations| &associations.patterns)
            .filter(|patterns| {
                !patterns.is_empty()
                    && check_namespace(namespace).is_ok()
                    && check_service_account(service_account).is_ok()
            })
            .into_iter()
            .flat_map(move |patterns| patterns.matching(namespace))
            .flat_map(move |(space, accounts)| {
                accounts
                    .matching(service_account)
                    .map(move |(account, entry)| {
                        let rank = Rank {
                            literals: space.literals.saturating_add(account.literals),
                            in_namespace: space.literals,
                            is_exact_namespace: space.is_exact,
                            is_exact_account: account.is_exact,
                        };
                        (rank, entry)
                    })
            })
    }

    /// The association of exactly this namespace and service account, which may be patterns. O(log n), without an allocation.
    #[must_use]
    pub fn pod_identity_association(
        &self,
        cluster_id: &str,
        namespace: &str,
        service_account: &str,
    ) -> Option<&Arc<PodIdentityAssociationEntry>> {
        let associations = self.pod_identities(cluster_id)?;
        let mut buffer = [0; SUBJECT_BYTES];
        let mut end = 0_usize;
        for part in [namespace, BETWEEN, service_account] {
            let next = end.checked_add(part.len())?;
            buffer.get_mut(end..next)?.copy_from_slice(part.as_bytes());
            end = next;
        }
        let subject = std::str::from_utf8(buffer.get(..end)?).ok()?;
        associations.by_subject.get(subject).filter(|entry| {
            *entry.record.namespace == *namespace
                && *entry.record.service_account == *service_account
        })
    }

    /// The association with this id, `a-…`. O(1).
    #[must_use]
    pub fn pod_identity_association_by_id(
        &self,
        cluster_id: &str,
        id: &str,
    ) -> Option<&Arc<PodIdentityAssociationEntry>> {
        self.pod_identities(cluster_id)?.by_id.get(id)
    }

    /// All associations of a cluster in the order of namespace and service account, behind `after` if given.
    pub fn pod_identity_associations(
        &self,
        cluster_id: &str,
        after: Option<(&str, &str)>,
    ) -> impl Iterator<Item = &Arc<PodIdentityAssociationEntry>> {
        self.pod_identities(cluster_id)
            .into_iter()
            .flat_map(move |associations| {
                let after = after.map(|(namespace, account)| subject(namespace, account));
                behind(&associations.by_subject, after)
            })
    }

    /// How many associations a cluster has.
    #[must_use]
    pub fn pod_identity_association_count(&self, cluster_id: &str) -> usize {
        self.pod_identities(cluster_id)
            .map_or(0, |associations| associations.by_subject.len())
    }

    fn pod_identities(&self, cluster_id: &str) -> Option<&PodIdentities> {
        Some(&self.open_slot(cluster_id)?.pod_identities)
    }

    pub(super) fn add_pod_identity_association(
        &mut self,
        record: PodIdentityAssociation,
        modified: Revision,
    ) {
        let cluster_id = record.cluster_id.clone();
        self.change_cluster_slot(&cluster_id, |slot| {
            let entry = PodIdentityAssociationEntry { record, modified };
            slot.pod_identities.insert(entry);
        });
    }

    pub(super) fn remove_pod_identity_association(
        &mut self,
        cluster_id: &str,
        namespace: &str,
        service_account: &str,
    ) {
        self.change_cluster_slot(cluster_id, |slot| {
            slot.pod_identities.remove(namespace, service_account);
        });
    }
}

fn subject(namespace: &str, service_account: &str) -> String {
    [namespace, BETWEEN, service_account].concat()
}

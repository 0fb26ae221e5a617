//! Pod identity associations: by namespace and service account, by id, and by patterns.
//!
//! Who an association is for is asked in one place, [`DirectorySnapshot::pod_identity_association_in_force`]: EKS Auth, the
//! admission webhook and the EKS API, on which agents and commands rely, all have their answer from it.

use std::cmp::Reverse;
use std::sync::Arc;

use countersign_arn::AccountId;
use imbl::{HashMap, OrdMap};

use super::pod_patterns::{Patterns, Rank};
use super::{DirectorySnapshot, PodIdentityAssociationEntry, behind};
use crate::records::{PodIdentityAssociation, check_namespace, check_service_account};
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
    patterns: Patterns<Arc<PodIdentityAssociationEntry>>,
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
        format!("{:?} {ids:?} {}", self.by_subject, self.patterns.text())
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
            self.patterns.remove(namespace, service_account);
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
            let (namespace, account) = (&entry.record.namespace, &entry.record.service_account);
            self.patterns.insert(namespace, account, Arc::clone(&entry));
        }
        self.by_subject.insert(subject, entry);
    }

    /// The association of exactly these names, which may be patterns.
    fn named(
        &self,
        namespace: &str,
        service_account: &str,
    ) -> Option<&Arc<PodIdentityAssociationEntry>> {
        let mut buffer = [0; SUBJECT_BYTES];
        let mut end = 0_usize;
        for part in [namespace, BETWEEN, service_account] {
            let next = end.checked_add(part.len())?;
            buffer.get_mut(end..next)?.copy_from_slice(part.as_bytes());
            end = next;
        }
        let subject = std::str::from_utf8(buffer.get(..end)?).ok()?;
        self.by_subject.get(subject).filter(|entry| {
            *entry.record.namespace == *namespace
                && *entry.record.service_account == *service_account
        })
    }

    /// The association that names exactly this service account.
    fn exact(
        &self,
        namespace: &str,
        service_account: &str,
    ) -> Option<&Arc<PodIdentityAssociationEntry>> {
        self.named(namespace, service_account)
            .filter(|entry| !entry.record.has_patterns())
    }

    /// The associations with patterns that are for a service account.
    fn by_pattern<'s, 'n>(
        &'s self,
        namespace: &'n str,
        service_account: &'n str,
    ) -> impl Iterator<Item = (Rank, &'s Arc<PodIdentityAssociationEntry>)> + use<'s, 'n> {
        Some(&self.patterns)
            .filter(|patterns| {
                // A name that no object can have is nobody's, whatever begins like it.
                !patterns.is_empty()
                    && check_namespace(namespace).is_ok()
                    && check_service_account(service_account).is_ok()
            })
            .into_iter()
            .flat_map(move |patterns| patterns.matching(namespace, service_account))
    }

    /// The association in force for a service account.
    fn in_force(
        &self,
        namespace: &str,
        service_account: &str,
    ) -> Option<&Arc<PodIdentityAssociationEntry>> {
        self.exact(namespace, service_account).or_else(|| {
            self.by_pattern(namespace, service_account)
                .max_by_key(|(rank, _)| *rank)
                .map(|(_, entry)| entry)
        })
    }

    /// All that are for a service account, that in force first.
    fn matching(
        &self,
        namespace: &str,
        service_account: &str,
    ) -> Vec<&Arc<PodIdentityAssociationEntry>> {
        let mut patterns: Vec<_> = self.by_pattern(namespace, service_account).collect();
        patterns.sort_by_key(|(rank, _)| Reverse(*rank));
        self.exact(namespace, service_account)
            .into_iter()
            .chain(patterns.into_iter().map(|(_, entry)| entry))
            .collect()
    }

    /// Accounts, keys and revisions of all.
    pub(super) fn keys(&self) -> impl Iterator<Item = (AccountId, Key, Revision)> {
        self.by_subject.values().filter_map(|entry| {
            let key = entry.record.key().to_key().ok()?;
            Some((entry.record.account, key, entry.modified))
        })
    }
}

impl DirectorySnapshot {
    /// The association that is in force for a service account: what its pods get credentials by. One that names it exactly
    /// comes before every pattern; of patterns that with most characters of both names that are no `*`, then that with more of
    /// them in the namespace, then that which names the namespace exactly, then the service account. O(log n) without
    /// patterns, O(log n) for each character with them; without an allocation.
    ///
    /// As all lookups of associations, it finds nothing in a cluster that is not there or is being deleted.
    #[must_use]
    pub fn pod_identity_association_in_force(
        &self,
        cluster_id: &str,
        namespace: &str,
        service_account: &str,
    ) -> Option<&Arc<PodIdentityAssociationEntry>> {
        self.pod_identities(cluster_id)?
            .in_force(namespace, service_account)
    }

    /// All associations that are for a service account, that in force first. For those who want to know why.
    #[must_use]
    pub fn pod_identity_associations_matching(
        &self,
        cluster_id: &str,
        namespace: &str,
        service_account: &str,
    ) -> Vec<&Arc<PodIdentityAssociationEntry>> {
        self.pod_identities(cluster_id)
            .map(|associations| associations.matching(namespace, service_account))
            .unwrap_or_default()
    }

    /// The association of exactly this namespace and service account, which may be patterns. O(log n), without an allocation.
    #[must_use]
    pub fn pod_identity_association(
        &self,
        cluster_id: &str,
        namespace: &str,
        service_account: &str,
    ) -> Option<&Arc<PodIdentityAssociationEntry>> {
        self.pod_identities(cluster_id)?
            .named(namespace, service_account)
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

#[cfg(test)]
#[path = "association_tests.rs"]
mod tests;

//! Pod identity associations: by namespace and service account, and by id.

use std::sync::Arc;

use countersign_arn::AccountId;
use imbl::{HashMap, OrdMap};

use super::{DirectorySnapshot, PodIdentityAssociationEntry, behind};
use crate::records::PodIdentityAssociation;
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
        format!("{:?} {ids:?}", self.by_subject)
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
    }

    fn insert(&mut self, entry: PodIdentityAssociationEntry) {
        let (id, subject) = {
            let record = &entry.record;
            let subject = subject(&record.namespace, &record.service_account);
            (Arc::from(&*record.id), Arc::from(subject))
        };
        let entry = Arc::new(entry);
        self.by_id.insert(id, Arc::clone(&entry));
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

impl DirectorySnapshot {
    /// The association of a service account: what its pods get credentials by. O(log n), without an allocation.
    ///
    /// As all lookups of associations, it finds nothing in a cluster that is not there or is being deleted.
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

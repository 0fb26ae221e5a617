//! Clusters by id, and what hangs on them: access entries, associations and updates. And the requests that were answered.

use std::sync::Arc;

use countersign_arn::AccountId;
use imbl::{HashMap, OrdMap, OrdSet};
use jiff::Timestamp;

use super::pod_identity::PodIdentities;
use super::{
    AccessEntryEntry, AccessEntryState, AnsweredRequestEntry, ClusterEntry, ClusterKeysEntry,
    ClusterUpdateEntry, DirectorySnapshot, Principal, behind,
};
use crate::records::{
    AccessEntry, AnsweredRequest, ClusterKeys, ClusterUpdate, EntryPrincipal, PrincipalKind,
    REQUEST_TOKEN_LIFETIME, RecordKey,
};
use crate::{Key, Revision};

/// What lookups by name compose their key in: kind, account and a name of 64 characters fit.
const PRINCIPAL_BYTES: usize = 96;

/// What hangs on a cluster. Records are folded one by one, so the cluster itself may not be there (any more); nothing of
/// this is seen then.
#[derive(Clone, Default)]
pub(super) struct ClusterSlot {
    cluster: Option<Arc<ClusterEntry>>,
    /// By the end of their keys: kind, account and folded name of the principal.
    entries: HashMap<Arc<str>, Arc<AccessEntryEntry>>,
    /// By principal ARN.
    by_arn: OrdMap<Arc<str>, Arc<AccessEntryEntry>>,
    /// By the id they are bound to. Should two have one, which no write makes, the older comes first.
    by_principal: HashMap<Arc<str>, Arc<[Arc<AccessEntryEntry>]>>,
    /// Of these ids, those that nobody has.
    dead: OrdSet<Arc<str>>,
    /// Oldest first.
    updates: OrdMap<(Timestamp, Arc<str>), Arc<ClusterUpdateEntry>>,
    update_times: HashMap<Arc<str>, Timestamp>,
    pub(super) pod_identities: PodIdentities,
    keys: Option<Arc<ClusterKeysEntry>>,
}

impl ClusterSlot {
    fn is_empty(&self) -> bool {
        self.cluster.is_none()
            && self.entries.is_empty()
            && self.updates.is_empty()
            && self.pod_identities.is_empty()
            && self.keys.is_none()
    }

    fn bound_to(&self, id: &str) -> &[Arc<AccessEntryEntry>] {
        self.by_principal.get(id).map_or(&[], |entries| entries)
    }

    #[cfg(test)]
    pub(super) fn text(&self, id: &str) -> String {
        let sorted = |keys: Vec<&Arc<str>>| {
            let mut keys = keys;
            keys.sort();
            format!("{keys:?}")
        };
        let mut ids: Vec<_> = self.by_principal.iter().collect();
        ids.sort_by_key(|(id, _)| Arc::clone(id));
        format!(
            "slot {id} {:?} {} {:?} {ids:?} {:?} {:?} {} {} {:?}",
            self.cluster,
            sorted(self.entries.keys().collect()),
            self.by_arn,
            self.dead,
            self.updates,
            sorted(self.update_times.keys().collect()),
            self.pod_identities.text(),
            self.keys.as_ref().map(|keys| &keys.record),
        )
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let keys = usize::from(self.keys.is_some());
        self.entries.len() + self.updates.len() + self.pod_identities.len() + keys
    }

    fn dead_entries(&self) -> impl Iterator<Item = &Arc<AccessEntryEntry>> {
        self.dead.iter().flat_map(|id| self.bound_to(id))
    }
}

/// What was asked for and answered.
#[derive(Clone, Default)]
pub(super) struct AnsweredRequests {
    by_key: HashMap<Key, Arc<AnsweredRequestEntry>>,
    by_age: OrdMap<AccountId, OrdSet<(Timestamp, Key)>>,
}

impl AnsweredRequests {
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

impl DirectorySnapshot {
    /// The cluster with this id, also while it is being deleted. O(1).
    #[must_use]
    pub fn cluster_by_id(&self, id: &str) -> Option<&Arc<ClusterEntry>> {
        self.cluster_slots.get(id)?.cluster.as_ref()
    }

    /// The entry of the principal with this ARN, path and all. O(log n).
    ///
    /// As all lookups of entries, it finds nothing in a cluster that is not there or is being deleted.
    #[must_use]
    pub fn access_entry(
        &self,
        cluster_id: &str,
        principal_arn: &str,
    ) -> Option<&Arc<AccessEntryEntry>> {
        self.open_slot(cluster_id)?.by_arn.get(principal_arn)
    }

    /// The entry that is bound to this unique id: whom authentication lets in. O(1), three hash lookups at most.
    #[must_use]
    pub fn access_entry_of_principal(
        &self,
        cluster_id: &str,
        principal_id: &str,
    ) -> Option<&Arc<AccessEntryEntry>> {
        self.open_slot(cluster_id)?.bound_to(principal_id).first()
    }

    /// The entry of the principal that AWS knows by this account, kind and name, whatever its path, ignoring case: to be
    /// bound, or to say that it is bound to somebody else. `name` is not looked at for a root user. O(1).
    #[must_use]
    pub fn access_entry_named(
        &self,
        cluster_id: &str,
        account: AccountId,
        kind: PrincipalKind,
        name: &str,
    ) -> Option<&Arc<AccessEntryEntry>> {
        let slot = self.open_slot(cluster_id)?;
        let name = match kind {
            PrincipalKind::Role | PrincipalKind::User => name,
            PrincipalKind::Root => "root",
        };
        let mut buffer = [0; PRINCIPAL_BYTES];
        let mut end = 0_usize;
        for part in [kind.as_str(), "/", account.as_str(), "/", name] {
            let next = end.checked_add(part.len())?;
            buffer.get_mut(end..next)?.copy_from_slice(part.as_bytes());
            end = next;
        }
        let key = buffer.get_mut(..end)?;
        key.make_ascii_lowercase();
        slot.entries.get(std::str::from_utf8(key).ok()?)
    }

    /// All entries of a cluster in byte order of their principals' ARNs, behind `after` if given.
    pub fn access_entries(
        &self,
        cluster_id: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Arc<AccessEntryEntry>> {
        self.open_slot(cluster_id)
            .into_iter()
            .flat_map(move |slot| behind(&slot.by_arn, after.map(str::to_owned)))
    }

    /// How many entries a cluster has.
    #[must_use]
    pub fn access_entry_count(&self, cluster_id: &str) -> usize {
        self.open_slot(cluster_id)
            .map_or(0, |slot| slot.entries.len())
    }

    /// The entries that are bound to this unique id, with their clusters.
    pub fn access_entries_of(
        &self,
        principal_id: &str,
    ) -> impl Iterator<Item = (&Arc<ClusterEntry>, &Arc<AccessEntryEntry>)> {
        self.bound
            .get(principal_id)
            .into_iter()
            .flat_map(|clusters| clusters.iter())
            .filter_map(move |id| {
                let slot = self.open_slot(id)?;
                let entry = slot.by_principal.get(principal_id)?.first()?;
                Some((slot.cluster.as_ref()?, entry))
            })
    }

    /// Whether the principal that an entry is bound to is in this directory. For deployments whose principals are all
    /// here: where AWS keeps them, every bound entry looks dead.
    #[must_use]
    pub fn access_entry_state<'s>(&'s self, entry: &'s AccessEntry) -> AccessEntryState<'s> {
        let Some(bound_to) = entry.principal_id.as_deref() else {
            return AccessEntryState::Unbound;
        };
        if self.is_there(bound_to) {
            return AccessEntryState::Alive;
        }
        let principal = EntryPrincipal::parse(&entry.principal_arn).ok();
        let name_now = principal.and_then(
            |EntryPrincipal {
                 kind,
                 account,
                 name,
             }| match kind {
                PrincipalKind::Role => self.role(account, name).map(|role| &*role.record.id),
                PrincipalKind::User => self.user(account, name).map(|user| &*user.record.id),
                PrincipalKind::Root => None,
            },
        );
        AccessEntryState::Dead { bound_to, name_now }
    }

    /// The dead entries of a cluster, in the order of the ids that they are bound to; see
    /// [`access_entry_state`](Self::access_entry_state).
    pub fn dead_access_entries(
        &self,
        cluster_id: &str,
    ) -> impl Iterator<Item = &Arc<AccessEntryEntry>> {
        self.open_slot(cluster_id)
            .into_iter()
            .flat_map(ClusterSlot::dead_entries)
    }

    /// How many dead entries there are in all clusters. O(clusters + dead entries).
    #[must_use]
    pub fn dead_access_entry_count(&self) -> usize {
        self.cluster_slots
            .values()
            .filter(|slot| is_open(slot))
            .map(|slot| slot.dead_entries().count())
            .sum()
    }

    /// The updates of a cluster, oldest first.
    pub fn cluster_updates(
        &self,
        cluster_id: &str,
    ) -> impl Iterator<Item = &Arc<ClusterUpdateEntry>> {
        self.cluster_slots
            .get(cluster_id)
            .filter(|slot| slot.cluster.is_some())
            .into_iter()
            .flat_map(|slot| slot.updates.values())
    }

    /// The update of a cluster with this id.
    #[must_use]
    pub fn cluster_update(&self, cluster_id: &str, id: &str) -> Option<&Arc<ClusterUpdateEntry>> {
        let slot = self.cluster_slots.get(cluster_id)?;
        slot.cluster.as_ref()?;
        let (id, created) = slot.update_times.get_key_value(id)?;
        slot.updates.get(&(*created, Arc::clone(id)))
    }

    /// The keys of the service account tokens of a cluster; none of one that is not there or is being deleted. O(1).
    #[must_use]
    pub fn cluster_keys(&self, cluster_id: &str) -> Option<&Arc<ClusterKeysEntry>> {
        self.open_slot(cluster_id)?.keys.as_ref()
    }

    pub(crate) fn answered_request(&self, key: &Key) -> Option<&Arc<AnsweredRequestEntry>> {
        self.requests.by_key.get(key)
    }

    /// The answered requests of an account, oldest first.
    pub(crate) fn answered_requests(
        &self,
        account: AccountId,
    ) -> impl ExactSizeIterator<Item = &(Timestamp, Key)> {
        static NONE: std::sync::LazyLock<OrdSet<(Timestamp, Key)>> =
            std::sync::LazyLock::new(OrdSet::new);
        self.requests.by_age.get(&account).unwrap_or(&NONE).iter()
    }

    /// Answered requests that are too old to be remembered.
    pub(crate) fn ended_requests(&self, now: Timestamp) -> impl Iterator<Item = (Key, Revision)> {
        self.requests
            .by_age
            .values()
            .flat_map(move |requests| {
                requests.iter().take_while(move |(created, _)| {
                    now.duration_since(*created) >= REQUEST_TOKEN_LIFETIME
                })
            })
            .filter_map(|(_, key)| Some((key.clone(), self.requests.by_key.get(key)?.modified)))
    }

    /// Records that hang on a cluster which is not there. Not those of accounts with a cluster that cannot be read: it
    /// might be theirs.
    pub(crate) fn leftovers(&self) -> impl Iterator<Item = (Key, Revision)> {
        self.cluster_slots
            .values()
            .filter(|slot| slot.cluster.is_none())
            .flat_map(|slot| {
                let entries = slot.entries.iter().map(|(principal, entry)| {
                    let AccessEntry {
                        account,
                        cluster_id,
                        ..
                    } = &entry.record;
                    let key = RecordKey::AccessEntry {
                        account: *account,
                        cluster_id,
                        principal,
                    };
                    (*account, key.to_key(), entry.modified)
                });
                let updates = slot.updates.values().map(|update| {
                    let ClusterUpdate {
                        account,
                        cluster_id,
                        id,
                        ..
                    } = &update.record;
                    let key = RecordKey::ClusterUpdate {
                        account: *account,
                        cluster_id,
                        id,
                    };
                    (*account, key.to_key(), update.modified)
                });
                let keys = slot.keys.iter().map(|keys| {
                    let ClusterKeys {
                        account,
                        cluster_id,
                        ..
                    } = &keys.record;
                    let key = RecordKey::ClusterKeys {
                        account: *account,
                        cluster_id,
                    };
                    (*account, key.to_key(), keys.modified)
                });
                let entries = entries.chain(updates).chain(keys);
                let entries =
                    entries.filter_map(|(account, key, at)| Some((account, key.ok()?, at)));
                entries.chain(slot.pod_identities.keys())
            })
            .filter(|(account, ..)| {
                Key::new(format!("cluster/{account}/"))
                    .is_ok_and(|prefix| !self.has_unusable_below(&prefix))
            })
            .map(|(_, key, modified)| (key, modified))
    }

    pub(super) fn open_slot(&self, cluster_id: &str) -> Option<&ClusterSlot> {
        self.cluster_slots
            .get(cluster_id)
            .map(|slot| &**slot)
            .filter(|slot| is_open(slot))
    }

    /// Whether somebody has this unique id.
    fn is_there(&self, id: &str) -> bool {
        match self.principals.get(id) {
            Some(Principal::User(_) | Principal::Role(_)) => true,
            Some(Principal::Group(_)) => false,
            None => id
                .parse()
                .is_ok_and(|account: AccountId| self.account(account).is_some()),
        }
    }

    /// To be called when a principal came or went.
    pub(super) fn recheck_bound(&mut self, id: &str) {
        let Some((id, clusters)) = self.bound.get_key_value(id) else {
            return;
        };
        let (id, clusters) = (Arc::clone(id), clusters.clone());
        let there = self.is_there(&id);
        for cluster in clusters {
            self.change_cluster_slot(&cluster, |slot| {
                if there {
                    slot.dead.remove(&id);
                } else {
                    slot.dead.insert(Arc::clone(&id));
                }
            });
        }
    }

    pub(super) fn open_cluster_slot(&mut self, entry: &Arc<ClusterEntry>) {
        self.change_cluster_slot(&entry.record.id, |slot| {
            slot.cluster = Some(Arc::clone(entry));
        });
    }

    pub(super) fn close_cluster_slot(&mut self, entry: &Arc<ClusterEntry>) {
        self.change_cluster_slot(&entry.record.id, |slot| {
            slot.cluster.take_if(|known| Arc::ptr_eq(known, entry));
        });
    }

    pub(super) fn add_access_entry(&mut self, record: AccessEntry, modified: Revision) {
        // Its key was read before, and says the same.
        let Ok(principal) = EntryPrincipal::parse(&record.principal_arn) else {
            return;
        };
        let principal: Arc<str> = principal.key().into();
        let entry = Arc::new(AccessEntryEntry { record, modified });
        let cluster_id: Arc<str> = Arc::from(&*entry.record.cluster_id);
        let bound_to: Option<Arc<str>> = entry.record.principal_id.as_deref().map(Arc::from);
        let dead = bound_to.as_deref().is_some_and(|id| !self.is_there(id));
        if let Some(id) = &bound_to {
            self.bound
                .entry(Arc::clone(id))
                .or_default()
                .insert(Arc::clone(&cluster_id));
        }
        self.change_cluster_slot(&cluster_id, |slot| {
            let arn = Arc::from(&*entry.record.principal_arn);
            slot.by_arn.insert(arn, Arc::clone(&entry));
            if let Some(id) = bound_to {
                let mut entries = slot.bound_to(&id).to_vec();
                entries.push(Arc::clone(&entry));
                entries.sort_by(|a, b| age(&a.record).cmp(&age(&b.record)));
                slot.by_principal.insert(Arc::clone(&id), entries.into());
                if dead {
                    slot.dead.insert(id);
                }
            }
            slot.entries.insert(principal, entry);
        });
    }

    pub(super) fn remove_access_entry(&mut self, cluster_id: &str, principal: &str) {
        let mut unbound = None;
        self.change_cluster_slot(cluster_id, |slot| {
            let Some(entry) = slot.entries.remove(principal) else {
                return;
            };
            slot.by_arn.remove(&*entry.record.principal_arn);
            let Some(id) = entry.record.principal_id.as_deref() else {
                return;
            };
            let mut entries = slot.bound_to(id).to_vec();
            entries.retain(|known| !Arc::ptr_eq(known, &entry));
            if entries.is_empty() {
                slot.by_principal.remove(id);
                slot.dead.remove(id);
                unbound = Some(Box::<str>::from(id));
            } else {
                slot.by_principal.insert(id.into(), entries.into());
            }
        });
        if let Some(id) = unbound
            && let Some(clusters) = self.bound.get_mut(&*id)
        {
            clusters.remove(cluster_id);
            if clusters.is_empty() {
                self.bound.remove(&*id);
            }
        }
    }

    pub(super) fn add_cluster_update(&mut self, record: ClusterUpdate, modified: Revision) {
        let id: Arc<str> = Arc::from(&*record.id);
        let cluster_id = record.cluster_id.clone();
        self.change_cluster_slot(&cluster_id, |slot| {
            slot.update_times.insert(Arc::clone(&id), record.created);
            let place = (record.created, id);
            let entry = Arc::new(ClusterUpdateEntry { record, modified });
            slot.updates.insert(place, entry);
        });
    }

    pub(super) fn remove_cluster_update(&mut self, cluster_id: &str, id: &str) {
        self.change_cluster_slot(cluster_id, |slot| {
            if let Some(created) = slot.update_times.remove(id) {
                slot.updates.remove(&(created, Arc::from(id)));
            }
        });
    }

    pub(super) fn add_cluster_keys(&mut self, entry: ClusterKeysEntry) {
        let cluster_id = entry.record.cluster_id.clone();
        self.change_cluster_slot(&cluster_id, |slot| slot.keys = Some(Arc::new(entry)));
    }

    pub(super) fn remove_cluster_keys(&mut self, cluster_id: &str) {
        self.change_cluster_slot(cluster_id, |slot| slot.keys = None);
    }

    pub(super) fn add_answered_request(
        &mut self,
        key: &Key,
        record: AnsweredRequest,
        modified: Revision,
    ) {
        let requests = self.requests.by_age.entry(record.account).or_default();
        requests.insert((record.created, key.clone()));
        let entry = Arc::new(AnsweredRequestEntry { record, modified });
        self.requests.by_key.insert(key.clone(), entry);
    }

    pub(super) fn remove_answered_request(&mut self, key: &Key) {
        let Some(entry) = self.requests.by_key.remove(key) else {
            return;
        };
        let account = entry.record.account;
        if let Some(requests) = self.requests.by_age.get_mut(&account) {
            requests.remove(&(entry.record.created, key.clone()));
            if requests.is_empty() {
                self.requests.by_age.remove(&account);
            }
        }
    }

    pub(super) fn change_cluster_slot(&mut self, id: &str, change: impl FnOnce(&mut ClusterSlot)) {
        if !self.cluster_slots.contains_key(id) {
            self.cluster_slots.insert(id.into(), Arc::default());
        }
        let Some(slot) = self.cluster_slots.get_mut(id) else {
            return;
        };
        let slot = Arc::make_mut(slot);
        change(slot);
        if slot.is_empty() {
            self.cluster_slots.remove(id);
        }
    }
}

fn is_open(slot: &ClusterSlot) -> bool {
    slot.cluster
        .as_ref()
        .is_some_and(|cluster| cluster.record.deleting.is_none())
}

fn age(entry: &AccessEntry) -> (Timestamp, &str) {
    (entry.created, &entry.uuid)
}

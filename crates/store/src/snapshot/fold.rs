//! From one snapshot to the next.

use std::sync::Arc;

use super::{
    AccessKeyEntry, AccountEntry, ClusterEntry, DirectorySnapshot, Principal, UnusableRecord,
    UserEntry,
};
use crate::records::{AccessKey, AnyRecord, Cluster, RecordKey, SECRET_FIELD, User};
use crate::{Batch, Change, Key, Revision, Sealer};

impl DirectorySnapshot {
    /// Makes this the state after `batch`. O(log n) for each change.
    pub fn apply(&mut self, batch: &Batch, sealer: &Sealer) {
        self.revision = self.revision.max(batch.revision);
        for change in batch.changes.iter() {
            match change {
                Change::Put(key, value) => self.put(key, value, batch.revision, sealer),
                Change::Delete(key) => self.remove(key),
            }
        }
    }

    /// A record that cannot be used takes the place of the one before: what it says is not known, so that acting on the
    /// earlier state could grant what was just taken away.
    pub(super) fn put(&mut self, key: &Key, value: &[u8], modified: Revision, sealer: &Sealer) {
        self.remove(key);
        let added = AnyRecord::decode(key, value)
            .map_err(UnusableRecord::Decode)
            .and_then(|record| self.add(key, record, modified, sealer));
        if let Err(reason) = added {
            self.unusable.insert(key.clone(), reason);
        }
    }

    fn add(
        &mut self,
        key: &Key,
        record: AnyRecord,
        modified: Revision,
        sealer: &Sealer,
    ) -> Result<(), UnusableRecord> {
        match record {
            AnyRecord::SealCheck(check) => self.seal_check = Some((check.sealed, modified)),
            AnyRecord::Account(record) => {
                let slot = self.accounts.entry(record.id).or_default();
                slot.account = Some(Arc::new(AccountEntry { record, modified }));
            }
            AnyRecord::AccountAlias(record) => {
                self.aliases
                    .insert(record.alias.into(), (record.account, modified));
            }
            AnyRecord::User(record) => self.add_user(record, modified),
            AnyRecord::AccessKey(record) => {
                let secret = sealer.open(key, SECRET_FIELD, &record.secret)?;
                let AccessKey {
                    id,
                    account,
                    user_id,
                    status,
                    created,
                    secret: _,
                } = record;
                let id: Arc<str> = id.into();
                let entry = AccessKeyEntry {
                    id: Arc::clone(&id),
                    account,
                    user_id,
                    status,
                    created,
                    modified,
                    secret,
                };
                self.access_keys.insert(id, Arc::new(entry));
            }
            AnyRecord::Cluster(record) => self.add_cluster(record, modified),
        }
        Ok(())
    }

    fn add_user(&mut self, record: User, modified: Revision) {
        let folded = record.name.to_ascii_lowercase();
        let id: Arc<str> = Arc::from(&*record.id);
        let slot = self.accounts.entry(record.account).or_default();
        let entry = Arc::new(UserEntry {
            arn: record.arn().into(),
            record,
            modified,
        });
        slot.users.insert(folded.into(), Arc::clone(&entry));
        self.principals.insert(id, Principal::User(entry));
    }

    fn add_cluster(&mut self, record: Cluster, modified: Revision) {
        let name: Arc<str> = Arc::from(&*record.name);
        let entry = Arc::new(ClusterEntry {
            arn: record.arn().into(),
            record,
            modified,
        });
        let mut clusters = self.clusters_named(&name).to_vec();
        clusters.push(entry);
        clusters.sort_by(|a, b| place(a).cmp(&place(b)));
        self.clusters.insert(name, clusters.into());
    }

    fn remove(&mut self, key: &Key) {
        self.unusable.remove(key);
        match RecordKey::parse(key) {
            Ok(RecordKey::SealCheck) => self.seal_check = None,
            Ok(RecordKey::Account(id)) => self.change_slot(id, |slot| slot.account = None),
            Ok(RecordKey::AccountAlias(alias)) => {
                self.aliases.remove(alias);
            }
            Ok(RecordKey::User { account, name }) => {
                let mut removed = None;
                self.change_slot(account, |slot| removed = slot.users.remove(name));
                if let Some(user) = removed {
                    self.remove_principal(&user);
                }
            }
            Ok(RecordKey::AccessKey(id)) => {
                self.access_keys.remove(id);
            }
            Ok(RecordKey::Cluster {
                account,
                region,
                name,
            }) => {
                let mut clusters = self.clusters_named(name).to_vec();
                clusters.retain(|c| c.record.account != account || *c.record.region != *region);
                if clusters.is_empty() {
                    self.clusters.remove(name);
                } else {
                    self.clusters.insert(name.into(), clusters.into());
                }
            }
            Err(_) => {}
        }
    }

    fn remove_principal(&mut self, user: &Arc<UserEntry>) {
        let is_this = |principal: &Principal| match principal {
            Principal::User(other) => Arc::ptr_eq(user, other),
        };
        if self.principals.get(&*user.record.id).is_some_and(is_this) {
            self.principals.remove(&*user.record.id);
        }
    }

    fn change_slot(
        &mut self,
        account: countersign_arn::AccountId,
        change: impl FnOnce(&mut super::AccountSlot),
    ) {
        let Some(slot) = self.accounts.get_mut(&account) else {
            return;
        };
        change(slot);
        if slot.account.is_none() && slot.users.is_empty() {
            self.accounts.remove(&account);
        }
    }
}

fn place(cluster: &ClusterEntry) -> (countersign_arn::AccountId, &str) {
    (cluster.record.account, &cluster.record.region)
}

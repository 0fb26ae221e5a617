//! From one snapshot to the next.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use countersign_session::{KeyRing, RevocationList, RevocationRow, RevocationTarget};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{
    AccessKeyEntry, AccountEntry, ClusterEntry, DirectorySnapshot, Principal, RoleEntry,
    SessionKeysEntry, UnusableRecord, UserEntry,
};
use crate::records::{
    AccessKey, AnyRecord, Cluster, RecordKey, RestoreMark, Role, SECRET_FIELD, SESSION_KEYS_FIELD,
    SessionKeys, User,
};
use crate::{Batch, Change, Key, Record, Revision, Sealer};

/// A record as the snapshot takes it: everything that can be done without the snapshot is done.
pub(super) struct ReadRecord {
    key: Key,
    modified: Revision,
    content: Result<Content, UnusableRecord>,
}

enum Content {
    AccessKey(AccessKeyEntry),
    SessionKeys(SessionKeysEntry),
    Plain(AnyRecord),
}

impl ReadRecord {
    pub(super) fn new(record: &Record, sealer: &Sealer) -> Self {
        let Record {
            key,
            value,
            modified,
        } = record;
        let content = AnyRecord::decode(key, value)
            .map_err(UnusableRecord::Decode)
            .and_then(|decoded| match decoded {
                AnyRecord::AccessKey(record) => open(key, record, *modified, sealer),
                AnyRecord::SessionKeys(record) => open_ring(key, &record, *modified, sealer),
                other => Ok(Content::Plain(other)),
            });
        Self {
            key: key.clone(),
            modified: *modified,
            content,
        }
    }
}

fn open(
    key: &Key,
    record: AccessKey,
    modified: Revision,
    sealer: &Sealer,
) -> Result<Content, UnusableRecord> {
    let secret = sealer.open(key, SECRET_FIELD, &record.secret)?;
    let AccessKey {
        id,
        account,
        user_id,
        status,
        created,
        secret: _,
    } = record;
    Ok(Content::AccessKey(AccessKeyEntry {
        id: id.into(),
        account,
        user_id,
        status,
        created,
        modified,
        secret,
    }))
}

fn open_ring(
    key: &Key,
    record: &SessionKeys,
    modified: Revision,
    sealer: &Sealer,
) -> Result<Content, UnusableRecord> {
    let text = sealer.open(key, SESSION_KEYS_FIELD, &record.ring)?;
    let bytes = STANDARD_NO_PAD
        .decode(text.expose())
        .map_err(|_| UnusableRecord::SessionKeys)?;
    Ok(Content::SessionKeys(SessionKeysEntry {
        deployment: record.deployment.parse()?,
        ring: KeyRing::decode(&Zeroizing::new(bytes))?,
        modified,
    }))
}

impl DirectorySnapshot {
    /// Makes this the state after `batch`. O(log n) for each change.
    pub fn apply(&mut self, batch: &Batch, sealer: &Sealer) {
        self.revision = self.revision.max(batch.revision);
        for change in batch.changes.iter() {
            match change {
                Change::Put(key, value) => {
                    let (key, value, modified) = (key.clone(), value.clone(), batch.revision);
                    self.put(ReadRecord::new(
                        &Record {
                            key,
                            value,
                            modified,
                        },
                        sealer,
                    ));
                }
                Change::Delete(key) => self.remove(key),
            }
        }
        self.index_revocations();
    }

    /// Makes the revocation list anew when its rows have changed. O(rows), which are few.
    pub(super) fn index_revocations(&mut self) {
        if !std::mem::take(&mut self.revocations.changed) {
            return;
        }
        self.revocations.list = Arc::new(RevocationList::new(self.revocations()));
        self.revocations.unreadable = self
            .unusable
            .keys()
            .any(|key| is_revocation(key) && RecordKey::parse(key).is_err());
    }

    /// A record that cannot be used takes the place of the one before: what it says is not known, so that acting on the
    /// earlier state could grant what was just taken away.
    pub(super) fn put(&mut self, record: ReadRecord) {
        let ReadRecord {
            key,
            modified,
            content,
        } = record;
        self.remove(&key);
        match content {
            Ok(Content::AccessKey(entry)) => {
                self.access_keys
                    .insert(Arc::clone(&entry.id), Arc::new(entry));
            }
            Ok(Content::SessionKeys(entry)) => self.session_keys = Some(Arc::new(entry)),
            Ok(Content::Plain(record)) => self.add(&key, record, modified),
            Err(reason) => {
                if let Ok(RecordKey::Restore) = RecordKey::parse(&key) {
                    self.restore = Some(Arc::new(RestoreMark {
                        started: Timestamp::UNIX_EPOCH,
                        from: "unreadable".into(),
                    }));
                }
                if let Ok(RecordKey::Revocation(id)) = RecordKey::parse(&key)
                    && let Some(target) = RevocationTarget::from_id(id)
                {
                    let row = RevocationRow {
                        target,
                        before: Timestamp::MAX,
                        made: Timestamp::MAX,
                    };
                    self.revocations.rows.insert(key.clone(), (row, modified));
                }
                self.unusable.insert(key, reason);
            }
        }
    }

    fn add(&mut self, key: &Key, record: AnyRecord, modified: Revision) {
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
            AnyRecord::Role(record) => self.add_role(record, modified),
            // Read into contents of their own, with their secrets opened.
            AnyRecord::AccessKey(_) | AnyRecord::SessionKeys(_) => {}
            AnyRecord::Cluster(record) => self.add_cluster(record, modified),
            AnyRecord::Restore(record) => self.restore = Some(Arc::new(record)),
            AnyRecord::Revocation(record) => {
                self.revocations
                    .rows
                    .insert(key.clone(), (record.row, modified));
            }
        }
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

    fn add_role(&mut self, record: Role, modified: Revision) {
        let folded = record.name.to_ascii_lowercase();
        let id: Arc<str> = Arc::from(&*record.id);
        let slot = self.accounts.entry(record.account).or_default();
        let entry = Arc::new(RoleEntry {
            arn: record.arn().into(),
            record,
            modified,
        });
        slot.roles.insert(folded.into(), Arc::clone(&entry));
        self.principals.insert(id, Principal::Role(entry));
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
        self.revocations.changed |= is_revocation(key);
        match RecordKey::parse(key) {
            Ok(RecordKey::SealCheck) => self.seal_check = None,
            Ok(RecordKey::SessionKeys) => self.session_keys = None,
            Ok(RecordKey::Restore) => self.restore = None,
            Ok(RecordKey::Revocation(_)) => {
                self.revocations.rows.remove(key);
            }
            Ok(RecordKey::Account(id)) => self.change_slot(id, |slot| slot.account = None),
            Ok(RecordKey::AccountAlias(alias)) => {
                self.aliases.remove(alias);
            }
            Ok(RecordKey::User { account, name }) => {
                let mut removed = None;
                self.change_slot(account, |slot| removed = slot.users.remove(name));
                if let Some(user) = removed {
                    self.remove_principal(&user.record.id, |principal| {
                        matches!(principal, Principal::User(other) if Arc::ptr_eq(&user, other))
                    });
                }
            }
            Ok(RecordKey::Role { account, name }) => {
                let mut removed = None;
                self.change_slot(account, |slot| removed = slot.roles.remove(name));
                if let Some(role) = removed {
                    self.remove_principal(&role.record.id, |principal| {
                        matches!(principal, Principal::Role(other) if Arc::ptr_eq(&role, other))
                    });
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

    fn remove_principal(&mut self, id: &str, is_this: impl FnOnce(&Principal) -> bool) {
        if self.principals.get(id).is_some_and(is_this) {
            self.principals.remove(id);
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
        if slot.account.is_none() && slot.users.is_empty() && slot.roles.is_empty() {
            self.accounts.remove(&account);
        }
    }
}

fn place(cluster: &ClusterEntry) -> (countersign_arn::AccountId, &str) {
    (cluster.record.account, &cluster.record.region)
}

fn is_revocation(key: &Key) -> bool {
    key.as_str().starts_with("revocation/")
}

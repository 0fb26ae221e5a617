//! From one snapshot to the next.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use countersign_arn::AccountId;
use countersign_oidc::{DecodeKeysError, IssuerKeys, KeySet};
use countersign_session::KeyRing;
use zeroize::Zeroizing;

use super::{
    AccessKeyEntry, AccountEntry, ClusterEntry, ClusterKeysEntry, DirectorySnapshot, EntityKind,
    Entry, MfaDeviceEntry, OutboundKeysEntry, PolicyUser, Principal, SessionKeysEntry,
    UnusableRecord, UserEntry,
};
use crate::records::{
    AccessKey, AnyRecord, AwsPolicy, CLUSTER_SIGNING_KEYS_FIELD, Cluster, ClusterKeys, Group,
    InstanceProfile, ManagedPolicy, MfaDevice, OUTBOUND_KEYS_FIELD, OidcProvider, OutboundKeys,
    RecordKey, Role, SECRET_FIELD, SEED_FIELD, SESSION_KEYS_FIELD, SamlProvider, SessionKeys, User,
    fold_name,
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
    MfaDevice(MfaDeviceEntry),
    SessionKeys(SessionKeysEntry),
    OutboundKeys(OutboundKeysEntry),
    ClusterKeys(ClusterKeysEntry),
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
                AnyRecord::MfaDevice(record) => open_device(key, record, *modified, sealer),
                AnyRecord::SessionKeys(record) => open_ring(key, &record, *modified, sealer),
                AnyRecord::OutboundKeys(record) => open_keys(key, &record, *modified, sealer),
                AnyRecord::ClusterKeys(record) => open_cluster_keys(key, record, *modified, sealer),
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

fn open_device(
    key: &Key,
    record: MfaDevice,
    modified: Revision,
    sealer: &Sealer,
) -> Result<Content, UnusableRecord> {
    let seed = sealer.open(key, SEED_FIELD, &record.seed)?;
    Ok(Content::MfaDevice(MfaDeviceEntry {
        arn: record.arn().into(),
        record,
        modified,
        seed,
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

fn open_keys(
    key: &Key,
    record: &OutboundKeys,
    modified: Revision,
    sealer: &Sealer,
) -> Result<Content, UnusableRecord> {
    let text = sealer.open(key, OUTBOUND_KEYS_FIELD, &record.keys)?;
    let bytes = STANDARD_NO_PAD
        .decode(text.expose())
        .map_err(|_| DecodeKeysError)?;
    Ok(Content::OutboundKeys(OutboundKeysEntry {
        keys: IssuerKeys::decode(&Zeroizing::new(bytes))?,
        modified,
    }))
}

fn open_cluster_keys(
    key: &Key,
    record: ClusterKeys,
    modified: Revision,
    sealer: &Sealer,
) -> Result<Content, UnusableRecord> {
    let signing = match &record.signing {
        None => IssuerKeys::default(),
        Some(sealed) => {
            let text = sealer.open(key, CLUSTER_SIGNING_KEYS_FIELD, sealed)?;
            let bytes = STANDARD_NO_PAD
                .decode(text.expose())
                .map_err(|_| DecodeKeysError)?;
            IssuerKeys::decode(&Zeroizing::new(bytes))?
        }
    };
    let keys = KeySet::with_generated(record.document.as_bytes(), signing.all())?;
    Ok(Content::ClusterKeys(ClusterKeysEntry {
        document: keys.to_document().into(),
        keys: Arc::new(keys),
        signing,
        record,
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
            Ok(Content::MfaDevice(entry)) => {
                let (account, name) = (entry.record.account, Arc::from(&*entry.record.name));
                let slot = self.accounts.entry(account).or_default();
                slot.mfa_devices.insert(name, Arc::new(entry));
            }
            Ok(Content::SessionKeys(entry)) => self.session_keys = Some(Arc::new(entry)),
            Ok(Content::OutboundKeys(entry)) => self.outbound_keys = Some(Arc::new(entry)),
            Ok(Content::ClusterKeys(entry)) => self.add_cluster_keys(entry),
            Ok(Content::Plain(record)) => self.add(&key, record, modified),
            Err(reason) => {
                self.put_unreadable(&key, modified);
                self.unusable.insert(key, reason);
            }
        }
    }

    fn add(&mut self, key: &Key, record: AnyRecord, modified: Revision) {
        match record {
            AnyRecord::SealCheck(check) => self.seal_check = Some((check.sealed, modified)),
            AnyRecord::Account(record) => {
                let slot = self.accounts.entry(record.id).or_default();
                let id = record.id;
                slot.account = Some(Arc::new(AccountEntry { record, modified }));
                self.recheck_bound(id.as_str());
            }
            AnyRecord::AccountAlias(record) => {
                self.aliases
                    .insert(record.alias.into(), (record.account, modified));
            }
            AnyRecord::User(record) => self.add_user(record, modified),
            AnyRecord::Role(record) => self.add_role(record, modified),
            AnyRecord::Group(record) => self.add_group(record, modified),
            AnyRecord::ManagedPolicy(record) => {
                let (account, name) = (record.account, fold_name(&record.name).into());
                let entry = entry(record, modified, ManagedPolicy::arn);
                self.accounts
                    .entry(account)
                    .or_default()
                    .policies
                    .insert(name, entry);
            }
            AnyRecord::AwsPolicy(record) => {
                let name = Arc::from(&*record.name);
                let arn = |policy: &AwsPolicy| format!("arn:aws:iam::aws:{}", policy.resource());
                self.aws_policies.insert(name, entry(record, modified, arn));
            }
            AnyRecord::InstanceProfile(record) => {
                let (account, name) = (record.account, Arc::<str>::from(fold_name(&record.name)));
                if let Some(role) = &record.role {
                    let profiles = self.role_profiles.entry(Arc::from(&**role)).or_default();
                    profiles.insert((account, Arc::clone(&name)));
                }
                let entry = entry(record, modified, InstanceProfile::arn);
                let slot = self.accounts.entry(account).or_default();
                slot.instance_profiles.insert(name, entry);
            }
            AnyRecord::OidcProvider(record) => {
                let (account, url) = (record.account, Arc::from(&*record.url));
                let entry = entry(record, modified, OidcProvider::arn);
                self.accounts
                    .entry(account)
                    .or_default()
                    .oidc_providers
                    .insert(url, entry);
            }
            AnyRecord::SamlProvider(record) => {
                let (account, name) = (record.account, Arc::from(&*record.name));
                let entry = entry(record, modified, SamlProvider::arn);
                self.accounts
                    .entry(account)
                    .or_default()
                    .saml_providers
                    .insert(name, entry);
            }
            AnyRecord::LastUsed(record) => {
                self.last_used
                    .insert(Arc::from(&*record.id), Arc::new(record));
            }
            AnyRecord::Job(record) => {
                let (account, id) = (record.account, Arc::from(&*record.id));
                let entry = entry(record, modified, |_| String::new());
                self.accounts
                    .entry(account)
                    .or_default()
                    .jobs
                    .insert(id, entry);
            }
            // Read into contents of their own, with their secrets opened.
            AnyRecord::AccessKey(_)
            | AnyRecord::SessionKeys(_)
            | AnyRecord::OutboundKeys(_)
            | AnyRecord::ClusterKeys(_)
            | AnyRecord::MfaDevice(_) => {}
            AnyRecord::Cluster(record) => self.add_cluster(*record, modified),
            AnyRecord::AccessEntry(record) => self.add_access_entry(record, modified),
            AnyRecord::PodIdentityAssociation(record) => {
                self.add_pod_identity_association(*record, modified);
            }
            AnyRecord::ClusterUpdate(record) => self.add_cluster_update(record, modified),
            AnyRecord::AnsweredRequest(record) => self.add_answered_request(key, record, modified),
            AnyRecord::Restore(record) => self.restore = Some(Arc::new(record)),
            AnyRecord::Revocation(record) => self.revocations.put(key, record.row, modified),
        }
    }

    fn add_user(&mut self, record: User, modified: Revision) {
        let folded: Arc<str> = fold_name(&record.name).into();
        for group in &record.groups {
            let group: Arc<str> = Arc::from(&**group);
            self.members
                .entry(group)
                .or_default()
                .insert((record.account, Arc::clone(&folded)));
        }
        let user = PolicyUser::new(record.account, EntityKind::User, &folded);
        self.add_policy_user(&user, &record.attached, record.boundary.as_deref());
        let entry = entry(record, modified, User::arn);
        let slot = self.accounts.entry(entry.record.account).or_default();
        slot.users.insert(folded, Arc::clone(&entry));
        self.principals.insert(
            Arc::from(&*entry.record.id),
            Principal::User(Arc::clone(&entry)),
        );
        self.recheck_bound(&entry.record.id);
    }

    fn add_role(&mut self, record: Role, modified: Revision) {
        let folded: Arc<str> = fold_name(&record.name).into();
        let user = PolicyUser::new(record.account, EntityKind::Role, &folded);
        self.add_policy_user(&user, &record.attached, record.boundary.as_deref());
        let entry = entry(record, modified, Role::arn);
        let slot = self.accounts.entry(entry.record.account).or_default();
        slot.roles.insert(folded, Arc::clone(&entry));
        self.principals.insert(
            Arc::from(&*entry.record.id),
            Principal::Role(Arc::clone(&entry)),
        );
        self.recheck_bound(&entry.record.id);
    }

    fn add_group(&mut self, record: Group, modified: Revision) {
        let folded: Arc<str> = fold_name(&record.name).into();
        let user = PolicyUser::new(record.account, EntityKind::Group, &folded);
        self.add_policy_user(&user, &record.attached, None);
        let entry = entry(record, modified, Group::arn);
        let slot = self.accounts.entry(entry.record.account).or_default();
        slot.groups.insert(folded, Arc::clone(&entry));
        self.principals
            .insert(Arc::from(&*entry.record.id), Principal::Group(entry));
    }

    fn add_policy_user(
        &mut self,
        user: &PolicyUser,
        attached: &[Box<str>],
        boundary: Option<&str>,
    ) {
        for arn in attached {
            let users = self.policy_users.entry(Arc::from(&**arn)).or_default();
            users.attached.insert(user.clone());
        }
        if let Some(arn) = boundary {
            let users = self.policy_users.entry(Arc::from(arn)).or_default();
            users.boundary.insert(user.clone());
        }
    }

    fn remove_policy_user(
        &mut self,
        user: &PolicyUser,
        attached: &[Box<str>],
        boundary: Option<&str>,
    ) {
        let arns = attached.iter().map(|arn| &**arn).chain(boundary);
        for arn in arns {
            let Some(users) = self.policy_users.get_mut(arn) else {
                continue;
            };
            users.attached.remove(user);
            users.boundary.remove(user);
            if users.attached.is_empty() && users.boundary.is_empty() {
                self.policy_users.remove(arn);
            }
        }
    }

    fn add_cluster(&mut self, record: Cluster, modified: Revision) {
        let name: Arc<str> = Arc::from(&*record.name);
        let entry = Arc::new(ClusterEntry {
            arn: record.arn().into(),
            record,
            modified,
        });
        self.open_cluster_slot(&entry);
        let mut clusters = self.clusters_named(&name).to_vec();
        clusters.push(entry);
        clusters.sort_by(|a, b| place(a).cmp(&place(b)));
        self.clusters.insert(name, clusters.into());
    }

    fn remove(&mut self, key: &Key) {
        self.unusable.remove(key);
        self.revocations.touch(key);
        match RecordKey::parse(key) {
            Ok(RecordKey::SealCheck) => self.seal_check = None,
            Ok(RecordKey::SessionKeys) => self.session_keys = None,
            Ok(RecordKey::OutboundKeys) => self.outbound_keys = None,
            Ok(RecordKey::Restore) => self.restore = None,
            Ok(RecordKey::Revocation(_)) => self.revocations.remove(key),
            Ok(RecordKey::Account(id)) => {
                self.change_slot(id, |slot| slot.account = None);
                self.recheck_bound(id.as_str());
            }
            Ok(RecordKey::AccountAlias(alias)) => {
                self.aliases.remove(alias);
            }
            Ok(RecordKey::User { account, name }) => {
                let mut removed = None;
                self.change_slot(account, |slot| removed = slot.users.remove(name));
                if let Some(user) = removed {
                    self.remove_user(&user, name);
                }
            }
            Ok(RecordKey::Role { account, name }) => {
                let mut removed = None;
                self.change_slot(account, |slot| removed = slot.roles.remove(name));
                if let Some(role) = removed {
                    let record = &role.record;
                    let user = PolicyUser::new(account, EntityKind::Role, name);
                    self.remove_policy_user(&user, &record.attached, record.boundary.as_deref());
                    self.remove_principal(&record.id, |principal| {
                        matches!(principal, Principal::Role(other) if Arc::ptr_eq(&role, other))
                    });
                }
            }
            Ok(RecordKey::Group { account, name }) => {
                let mut removed = None;
                self.change_slot(account, |slot| removed = slot.groups.remove(name));
                if let Some(group) = removed {
                    let user = PolicyUser::new(account, EntityKind::Group, name);
                    self.remove_policy_user(&user, &group.record.attached, None);
                    self.remove_principal(&group.record.id, |principal| {
                        matches!(principal, Principal::Group(other) if Arc::ptr_eq(&group, other))
                    });
                }
            }
            Ok(RecordKey::ManagedPolicy { account, name }) => {
                self.change_slot(account, |slot| drop(slot.policies.remove(name)));
            }
            Ok(RecordKey::AwsPolicy(name)) => drop(self.aws_policies.remove(name)),
            Ok(RecordKey::InstanceProfile { account, name }) => {
                let mut removed = None;
                self.change_slot(account, |slot| {
                    removed = slot.instance_profiles.remove(name)
                });
                if let Some(role) = removed.and_then(|profile| profile.record.role.clone())
                    && let Some(profiles) = self.role_profiles.get_mut(&*role)
                {
                    profiles.remove(&(account, Arc::from(name)));
                    if profiles.is_empty() {
                        self.role_profiles.remove(&*role);
                    }
                }
            }
            Ok(RecordKey::OidcProvider { account, url }) => {
                self.change_slot(account, |slot| drop(slot.oidc_providers.remove(url)));
            }
            Ok(RecordKey::SamlProvider { account, name }) => {
                self.change_slot(account, |slot| drop(slot.saml_providers.remove(name)));
            }
            Ok(RecordKey::MfaDevice { account, name }) => {
                self.change_slot(account, |slot| drop(slot.mfa_devices.remove(name)));
            }
            Ok(RecordKey::LastUsed { id, .. }) => drop(self.last_used.remove(id)),
            Ok(RecordKey::Job { account, id }) => {
                self.change_slot(account, |slot| drop(slot.jobs.remove(id)));
            }
            Ok(RecordKey::AccessKey(id)) => {
                self.access_keys.remove(id);
            }
            Ok(RecordKey::Cluster {
                account,
                region,
                name,
            }) => {
                if let Some(cluster) = self.cluster(account, region, name).cloned() {
                    self.close_cluster_slot(&cluster);
                }
                let mut clusters = self.clusters_named(name).to_vec();
                clusters.retain(|c| c.record.account != account || *c.record.region != *region);
                if clusters.is_empty() {
                    self.clusters.remove(name);
                } else {
                    self.clusters.insert(name.into(), clusters.into());
                }
            }
            Ok(RecordKey::AccessEntry {
                cluster_id,
                principal,
                ..
            }) => self.remove_access_entry(cluster_id, principal),
            Ok(RecordKey::PodIdentityAssociation {
                cluster_id,
                namespace,
                service_account,
                ..
            }) => self.remove_pod_identity_association(cluster_id, namespace, service_account),
            Ok(RecordKey::ClusterUpdate { cluster_id, id, .. }) => {
                self.remove_cluster_update(cluster_id, id);
            }
            Ok(RecordKey::ClusterKeys { cluster_id, .. }) => self.remove_cluster_keys(cluster_id),
            Ok(RecordKey::RequestToken { .. }) => self.remove_answered_request(key),
            Err(_) => {}
        }
    }

    fn remove_user(&mut self, user: &Arc<UserEntry>, name: &str) {
        let record = &user.record;
        for group in &record.groups {
            let Some(members) = self.members.get_mut(&**group) else {
                continue;
            };
            members.remove(&(record.account, Arc::from(name)));
            if members.is_empty() {
                self.members.remove(&**group);
            }
        }
        let of_policies = PolicyUser::new(record.account, EntityKind::User, name);
        self.remove_policy_user(&of_policies, &record.attached, record.boundary.as_deref());
        self.remove_principal(
            &record.id,
            |principal| matches!(principal, Principal::User(other) if Arc::ptr_eq(user, other)),
        );
    }

    fn remove_principal(&mut self, id: &str, is_this: impl FnOnce(&Principal) -> bool) {
        if self.principals.get(id).is_some_and(is_this) {
            self.principals.remove(id);
            self.recheck_bound(id);
        }
    }

    fn change_slot(&mut self, account: AccountId, change: impl FnOnce(&mut super::AccountSlot)) {
        let Some(slot) = self.accounts.get_mut(&account) else {
            return;
        };
        change(slot);
        if slot.is_empty() {
            self.accounts.remove(&account);
        }
    }
}

impl PolicyUser {
    fn new(account: AccountId, kind: EntityKind, folded: &str) -> Self {
        Self {
            account,
            kind,
            name: folded.into(),
        }
    }
}

fn entry<T>(record: T, modified: Revision, arn: impl Fn(&T) -> String) -> Arc<Entry<T>> {
    Arc::new(Entry {
        arn: arn(&record).into(),
        record,
        modified,
    })
}

fn place(cluster: &ClusterEntry) -> (AccountId, &str) {
    (cluster.record.account, &cluster.record.region)
}

//! The directory in memory: immutable, indexed for the request path, cheap to change into the next one.

mod cluster_configs;
#[cfg(test)]
mod cluster_tests;
mod clusters;
mod entry;
mod fold;
mod iam;
mod pod_identity;
mod pod_patterns;
mod policy_ref;
mod revocations;
#[cfg(test)]
mod tests;
mod trust;

use std::num::NonZero;
use std::ops::Bound;
use std::sync::Arc;

use countersign_arn::AccountId;
use futures::StreamExt;
use imbl::{HashMap, OrdMap, OrdSet};

use self::clusters::{AnsweredRequests, ClusterSlot};
pub use self::entry::{
    AccessEntryEntry, AccessEntryState, AccessKeyEntry, AccessKeyLookup, AccountEntry, AddonEntry,
    AnsweredRequestEntry, AwsPolicyEntry, ClusterEntry, ClusterKeysEntry, ClusterNameError,
    ClusterUpdateEntry, EntityKind, Entry, GroupEntry, IdentityProviderConfigEntry,
    InstanceProfileEntry, KeyOwner, ManagedPolicyEntry, MfaDeviceEntry, OidcProviderEntry,
    OutboundKeysEntry, PodIdentityAssociationEntry, PolicyRef, PolicyUser, Principal, RoleEntry,
    SamlProviderEntry, SessionKeysEntry, UnusableRecord, UserEntry, Versioned,
};
use self::fold::ReadRecord;
pub use self::policy_ref::PolicyVersionRef;
use self::revocations::Revocations;
use crate::records::{Job, LastUsed, RestoreMark};
use crate::{Key, Load, LoadError, Record, Revision, SealedSecret, Sealer, Store};

/// Names longer than this are no names; bounds the buffer that lookups fold into.
const NAME_BYTES: usize = 128;
/// How often a load begins before it is given up.
const LOADS: usize = 4;

/// Everything the directory holds, as of one revision.
///
/// The maps are persistent: the next snapshot shares all that did not change, so that applying one change costs
/// O(log n) and readers keep the snapshot they have for as long as they like. Lookups allocate nothing.
#[derive(Clone, Default)]
pub struct DirectorySnapshot {
    revision: Revision,
    accounts: OrdMap<AccountId, AccountSlot>,
    aliases: HashMap<Arc<str>, (AccountId, Revision)>,
    principals: HashMap<Arc<str>, Principal>,
    access_keys: HashMap<Arc<str>, Arc<AccessKeyEntry>>,
    /// By name; of one name there is at most one per account and region, in the order of these.
    clusters: HashMap<Arc<str>, Arc<[Arc<ClusterEntry>]>>,
    /// What hangs on clusters, by their ids.
    cluster_slots: HashMap<Arc<str>, Arc<ClusterSlot>>,
    /// Ids of the clusters with an entry that is bound to a principal, by the principal's id.
    bound: HashMap<Arc<str>, OrdSet<Arc<str>>>,
    requests: AnsweredRequests,
    /// Policies of AWS that were imported, by name.
    aws_policies: OrdMap<Arc<str>, Arc<AwsPolicyEntry>>,
    /// Accounts and folded names of the users that name a group, by its unique id.
    members: HashMap<Arc<str>, OrdSet<(AccountId, Arc<str>)>>,
    /// Who has a policy attached, or as boundary, by its ARN.
    policy_users: HashMap<Arc<str>, PolicyUsers>,
    /// Accounts and folded names of the instance profiles that name a role, by its unique id.
    role_profiles: HashMap<Arc<str>, OrdSet<(AccountId, Arc<str>)>>,
    /// By id of user, role or access key.
    last_used: HashMap<Arc<str>, Arc<LastUsed>>,
    unusable: OrdMap<Key, UnusableRecord>,
    seal_check: Option<(SealedSecret, Revision)>,
    session_keys: Option<Arc<SessionKeysEntry>>,
    outbound_keys: Option<Arc<OutboundKeysEntry>>,
    revocations: Revocations,
    restore: Option<Arc<RestoreMark>>,
}

/// What belongs to an account. Records are folded one by one, so the account itself may not be there (any more).
#[derive(Clone, Default)]
struct AccountSlot {
    account: Option<Arc<AccountEntry>>,
    /// By folded name.
    users: OrdMap<Arc<str>, Arc<UserEntry>>,
    /// By folded name.
    roles: OrdMap<Arc<str>, Arc<RoleEntry>>,
    /// By folded name.
    groups: OrdMap<Arc<str>, Arc<GroupEntry>>,
    /// By folded name.
    policies: OrdMap<Arc<str>, Arc<ManagedPolicyEntry>>,
    /// By folded name.
    instance_profiles: OrdMap<Arc<str>, Arc<InstanceProfileEntry>>,
    /// By URL.
    oidc_providers: OrdMap<Arc<str>, Arc<OidcProviderEntry>>,
    /// By name.
    saml_providers: OrdMap<Arc<str>, Arc<SamlProviderEntry>>,
    /// By name.
    mfa_devices: OrdMap<Arc<str>, Arc<MfaDeviceEntry>>,
    /// By id.
    jobs: OrdMap<Arc<str>, Arc<Entry<Job>>>,
}

impl AccountSlot {
    fn is_empty(&self) -> bool {
        self.account.is_none()
            && self.users.is_empty()
            && self.roles.is_empty()
            && self.groups.is_empty()
            && self.policies.is_empty()
            && self.instance_profiles.is_empty()
            && self.oidc_providers.is_empty()
            && self.saml_providers.is_empty()
            && self.mfa_devices.is_empty()
            && self.jobs.is_empty()
    }
}

/// Who has a policy attached, and whose boundary it is.
#[derive(Clone, Default)]
struct PolicyUsers {
    attached: OrdSet<PolicyUser>,
    boundary: OrdSet<PolicyUser>,
}

impl DirectorySnapshot {
    /// Reads the whole store. Records are decoded, and their secrets opened, on all processors. A view that is gone before it
    /// was read is read again, a few times.
    ///
    /// # Errors
    /// When the store cannot be read. Records that cannot be used are no error, see
    /// [`unusable_records`](Self::unusable_records).
    pub async fn load(store: &dyn Store, sealer: &Arc<Sealer>) -> Result<Self, LoadError> {
        for _ in 1..LOADS {
            match Self::load_once(store, sealer).await {
                Err(LoadError::Superseded { at }) => {
                    tracing::warn!(%at, "the store's history was compacted while it was loaded; loading again");
                }
                other => return other,
            }
        }
        Self::load_once(store, sealer).await
    }

    async fn load_once(store: &dyn Store, sealer: &Arc<Sealer>) -> Result<Self, LoadError> {
        let Load { revision, pages } = store.load().await?;
        let mut snapshot = Self {
            revision,
            ..Self::default()
        };
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut pages = pages
            .map(|page| {
                let sealer = Arc::clone(sealer);
                tokio::task::spawn_blocking(move || {
                    let read = |record: Record| ReadRecord::new(&record, &sealer);
                    page.map(|records| records.into_iter().map(read).collect::<Vec<_>>())
                })
            })
            .buffered(processors);
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| LoadError::Unavailable(Box::new(error)))?;
            page?.into_iter().for_each(|record| snapshot.put(record));
        }
        snapshot.index_revocations();
        Ok(snapshot)
    }

    /// The store's revision that this is the state of.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The access key with this id and whose it is. O(1), two hash lookups.
    ///
    /// `None` also when the user is not there, or does not list the key: a key authenticates only through its user. The
    /// root user's keys are listed by the account.
    #[must_use]
    pub fn access_key(&self, id: &str) -> Option<AccessKeyLookup<'_>> {
        let key = self.access_keys.get(id)?;
        let listed_in = |keys: &[Box<str>]| keys.iter().any(|listed| **listed == *id);
        let owner = match self.principals.get(&*key.user_id) {
            Some(Principal::User(owner)) => (listed_in(&owner.record.access_keys)
                && owner.record.account == key.account)
                .then_some(KeyOwner::User(owner))?,
            Some(_) => return None,
            None => {
                let account = self.account(key.account)?;
                (*key.user_id == *key.account.as_str() && listed_in(&account.record.root_keys))
                    .then_some(KeyOwner::Root(account))?
            }
        };
        Some(AccessKeyLookup { key, owner })
    }

    /// The user, role or group with this unique id. O(1).
    #[must_use]
    pub fn principal(&self, unique_id: &str) -> Option<&Principal> {
        self.principals.get(unique_id)
    }

    /// The user with this name, ignoring case. O(log n).
    #[must_use]
    pub fn user(&self, account: AccountId, name: &str) -> Option<&Arc<UserEntry>> {
        let mut buffer = [0; NAME_BYTES];
        let folded = fold_into(name, &mut buffer)?;
        self.accounts.get(&account)?.users.get(folded)
    }

    /// All users of an account in the order of their folded names, behind `after` if given.
    pub fn users(
        &self,
        account: AccountId,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Arc<UserEntry>> {
        self.slot(account)
            .flat_map(move |slot| behind(&slot.users, after.map(str::to_ascii_lowercase)))
    }

    /// How many users an account has.
    #[must_use]
    pub fn user_count(&self, account: AccountId) -> usize {
        self.accounts
            .get(&account)
            .map_or(0, |slot| slot.users.len())
    }

    /// The role with this name, ignoring case, whatever its path. O(log n).
    #[must_use]
    pub fn role(&self, account: AccountId, name: &str) -> Option<&Arc<RoleEntry>> {
        let mut buffer = [0; NAME_BYTES];
        let folded = fold_into(name, &mut buffer)?;
        self.accounts.get(&account)?.roles.get(folded)
    }

    /// All roles of an account in the order of their folded names, behind `after` if given.
    pub fn roles(
        &self,
        account: AccountId,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Arc<RoleEntry>> {
        self.slot(account)
            .flat_map(move |slot| behind(&slot.roles, after.map(str::to_ascii_lowercase)))
    }

    /// How many roles an account has.
    #[must_use]
    pub fn role_count(&self, account: AccountId) -> usize {
        self.accounts
            .get(&account)
            .map_or(0, |slot| slot.roles.len())
    }

    /// What session tokens are sealed and opened with; none before the first start has made them.
    #[must_use]
    pub const fn session_keys(&self) -> Option<&Arc<SessionKeysEntry>> {
        self.session_keys.as_ref()
    }

    /// What tokens of GetWebIdentityToken are signed with; none before an account has switched them on.
    #[must_use]
    pub const fn outbound_keys(&self) -> Option<&Arc<OutboundKeysEntry>> {
        self.outbound_keys.as_ref()
    }

    /// A restore that was begun and is not at its end; the records are a part of something then.
    #[must_use]
    pub fn unfinished_restore(&self) -> Option<&RestoreMark> {
        self.restore.as_deref()
    }

    /// The access keys of a user, in the order they were made.
    pub fn access_keys_of<'a>(
        &'a self,
        user: &'a UserEntry,
    ) -> impl Iterator<Item = &'a Arc<AccessKeyEntry>> {
        user.record
            .access_keys
            .iter()
            .filter_map(|id| self.access_keys.get(&**id))
    }

    fn slot(&self, account: AccountId) -> impl Iterator<Item = &AccountSlot> {
        self.accounts.get(&account).into_iter()
    }

    /// How many access keys there are in all accounts.
    #[must_use]
    pub fn access_key_count(&self) -> usize {
        self.access_keys.len()
    }

    /// The account.
    #[must_use]
    pub fn account(&self, id: AccountId) -> Option<&Arc<AccountEntry>> {
        self.accounts.get(&id)?.account.as_ref()
    }

    /// All accounts, by id.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<AccountEntry>> {
        self.accounts
            .values()
            .filter_map(|slot| slot.account.as_ref())
    }

    /// The account with this alias.
    #[must_use]
    pub fn account_of_alias(&self, alias: &str) -> Option<AccountId> {
        self.aliases.get(alias).map(|(account, _)| *account)
    }

    /// The cluster of this account, region and name. O(clusters of this name).
    #[must_use]
    pub fn cluster(
        &self,
        account: AccountId,
        region: &str,
        name: &str,
    ) -> Option<&Arc<ClusterEntry>> {
        self.clusters_named(name)
            .iter()
            .find(|c| c.record.account == account && *c.record.region == *region)
    }

    /// The one cluster of this name; none when it is being deleted. O(1).
    ///
    /// # Errors
    /// When there is none, or when two accounts or regions have one: then the name does not say which is meant.
    pub fn cluster_named(&self, name: &str) -> Result<&Arc<ClusterEntry>, ClusterNameError> {
        match self.clusters_named(name) {
            [] => Err(ClusterNameError::Unknown),
            [cluster] if cluster.record.deleting.is_none() => Ok(cluster),
            [_] => Err(ClusterNameError::Unknown),
            several => Err(ClusterNameError::Ambiguous {
                count: several.len(),
            }),
        }
    }

    /// All clusters of this name, in the order of account and region.
    #[must_use]
    pub fn clusters_named(&self, name: &str) -> &[Arc<ClusterEntry>] {
        self.clusters.get(name).map_or(&[], |clusters| clusters)
    }

    /// All clusters, in no particular order.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<ClusterEntry>> {
        self.clusters.values().flat_map(|clusters| clusters.iter())
    }

    /// Records that are in the store and not in this snapshot, with the reason: kinds and versions of a later version of
    /// Countersign, and what is damaged. They are kept in the store as they are.
    pub fn unusable_records(&self) -> impl Iterator<Item = (&Key, &UnusableRecord)> {
        self.unusable.iter()
    }

    /// How many [`unusable_records`](Self::unusable_records) there are.
    #[must_use]
    pub fn unusable_count(&self) -> usize {
        self.unusable.len()
    }

    pub(crate) fn is_unusable(&self, key: &Key) -> bool {
        self.unusable.contains_key(key)
    }

    pub(crate) fn has_unusable_below(&self, prefix: &Key) -> bool {
        self.unusable
            .range(prefix.clone()..)
            .next()
            .is_some_and(|(key, _)| key.as_str().starts_with(prefix.as_str()))
    }

    pub(crate) fn alias_revision(&self, alias: &str) -> Option<Revision> {
        self.aliases.get(alias).map(|(_, modified)| *modified)
    }

    pub(crate) fn has_access_key_id(&self, id: &str) -> bool {
        self.access_keys.contains_key(id)
    }

    pub(crate) const fn seal_check(&self) -> Option<&(SealedSecret, Revision)> {
        self.seal_check.as_ref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
            && self.aliases.is_empty()
            && self.access_keys.is_empty()
            && self.clusters.is_empty()
            && self.cluster_slots.is_empty()
            && self.requests.is_empty()
            && self.session_keys.is_none()
            && self.outbound_keys.is_none()
            && self.revocations.is_empty()
            && self.restore.is_none()
            && self.aws_policies.is_empty()
            && self.unusable.is_empty()
    }
}

impl std::fmt::Debug for DirectorySnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectorySnapshot")
            .field("revision", &self.revision)
            .field("accounts", &self.accounts.len())
            .field("principals", &self.principals.len())
            .field("access_keys", &self.access_keys.len())
            .field("unusable", &self.unusable.len())
            .finish_non_exhaustive()
    }
}

/// The entries of a map whose key comes after `after`, in the order of their keys.
fn behind<V>(map: &OrdMap<Arc<str>, V>, after: Option<String>) -> impl Iterator<Item = &V> {
    let from = match after {
        Some(name) => Bound::Excluded(Arc::from(name)),
        None => Bound::Unbounded,
    };
    map.range((from, Bound::Unbounded)).map(|(_, entry)| entry)
}

/// The name in lower case without an allocation; `None` if it is too long to be one.
fn fold_into<'b>(name: &str, buffer: &'b mut [u8; NAME_BYTES]) -> Option<&'b str> {
    let folded = buffer.get_mut(..name.len())?;
    folded.copy_from_slice(name.as_bytes());
    folded.make_ascii_lowercase();
    std::str::from_utf8(folded).ok()
}

//! Typed operations on the directory.

mod access_entries;
mod access_keys;
mod account;
mod accounts;
mod addons;
mod associations;
mod attachments;
mod aws_policies;
mod boundaries;
mod cluster_keys;
mod clusters;
mod entity;
mod error;
mod groups;
mod import;
mod instance_profiles;
mod last_used;
mod login;
mod managed_policies;
mod mfa;
mod object_associations;
mod oidc_providers;
mod outbound;
mod password_hash;
mod password_rules;
mod pod_identity;
mod policies;
mod provider_configs;
mod reports;
mod requests;
mod revocations;
mod roles;
mod root_keys;
mod saml_providers;
mod service_linked_roles;
mod session_keys;
mod sweeps;
mod tags;
mod totp;
mod updates;
mod users;
mod vacancy;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_arn::AccountId;
use countersign_arn::unique_id::{self, Kind};
use jiff::SignedDuration;

use tokio::time::Instant;

pub use self::access_entries::{AccessEntryChange, NewAccessEntry};
pub use self::access_keys::{AccessKeyMetadata, CreatedAccessKey};
pub use self::accounts::NewAccount;
pub use self::addons::{AddonAssociation, AddonChange, NewAddon};
pub use self::associations::AssociatedPolicy;
pub use self::aws_policies::ImportedPolicies;
pub use self::cluster_keys::ClusterKeysRefused;
pub use self::clusters::{ClusterPlace, NewCluster};
pub use self::entity::Entity;
pub use self::error::{DirectoryError, OpenDirectoryError, Thing};
pub use self::groups::{GroupChange, NewGroup};
pub use self::import::IamRecords;
pub use self::instance_profiles::NewInstanceProfile;
pub use self::login::LoginChange;
pub use self::managed_policies::NewManagedPolicy;
pub use self::mfa::{CreatedMfaDevice, MfaOwner, NewMfaDevice};
pub use self::oidc_providers::NewOidcProvider;
pub use self::password_rules::{PasswordFault, PasswordState, check_password, password_state};
pub use self::pod_identity::{
    NewPodIdentityAssociation, PodIdentityAssociationChange, PodSessionsChange,
};
pub use self::provider_configs::NewIdentityProviderConfig;
pub use self::requests::{Once, Outcome};
pub use self::roles::{NewRole, RoleChanges};
pub use self::root_keys::ROOT_USER_NAME;
pub use self::saml_providers::{NewSamlProvider, PackedMetadata};
pub use self::tags::Taggable;
pub use self::totp::totp_code;
pub use self::updates::{Refused, UpdateParams};
pub use self::users::{NewUser, UserChange};
use crate::records::{RecordKey, SealCheck};
use crate::{
    CommitError, DirectorySnapshot, Key, LagHistogram, Random, RandomUnavailable, Revision,
    SealError, Sealer, SecretString, SnapshotFeed, Store, Transaction,
};

/// How often a write is planned anew because somebody else was faster.
const ATTEMPTS: usize = 32;
/// How long a write that is durable waits to be visible here.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);
const SEAL_CHECK_FIELD: &str = "check";
const SEAL_CHECK_TEXT: &str = "countersign seal check";

/// Accounts, users, roles, keys and clusters: reads from a snapshot, writes through transactions.
///
/// A write looks at the snapshot, decides, and commits with compares on everything it looked at. When another writer,
/// here or on another replica, was faster, the commit conflicts, and the write is decided again on the newer state; so two
/// writers never lose each other's update. A write is answered after it is durable and visible in
/// [`snapshot`](Self::snapshot).
///
/// Clones share everything.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Inner>, Protection, Effect, Patience);

/// Whether writes through a handle leave the roles of AWS services alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    On,
    Off,
}

/// Whether what a handle plans is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Commit,
    None,
}

/// How long a write waits until it is visible here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patience(Duration);

struct Inner {
    store: Arc<dyn Store>,
    sealer: Arc<Sealer>,
    feed: SnapshotFeed,
    random: Random,
    quotas: Quotas,
    passwords: password_hash::Passwords,
    wrong_codes: mfa::WrongCodes,
    /// The newest revision that was acknowledged before it was visible here.
    unseen: AtomicU64,
    write_lag: LagHistogram,
}

/// How many of a thing there may be; the defaults are those of AWS.
///
/// Quotas that are not called exact are checked on the snapshot: writers that race may exceed them by one each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Users in one account. Default 5,000.
    pub users_per_account: usize,
    /// Roles in one account. Default 1,000.
    pub roles_per_account: usize,
    /// Groups in one account. Default 300.
    pub groups_per_account: usize,
    /// Instance profiles in one account. Default 1,000.
    pub instance_profiles_per_account: usize,
    /// Customer managed policies in one account. Default 1,500.
    pub policies_per_account: usize,
    /// OpenID Connect providers in one account. Default 100.
    pub oidc_providers_per_account: usize,
    /// SAML providers in one account. Default 100.
    pub saml_providers_per_account: usize,
    /// Groups of one user. Default 10. Exact.
    pub groups_per_user: usize,
    /// Managed policies attached to one user, group or role. Default 10. Exact.
    pub attached_policies: usize,
    /// Versions of one managed policy. Default 5. Exact.
    pub versions_per_policy: usize,
    /// Characters without white space of a managed policy. Default 6,144. Exact.
    pub policy_chars: usize,
    /// Characters without white space of all inline policies of one group. Default 5,120. Exact.
    pub group_policy_chars: usize,
    /// MFA devices of one user. Default 8. Exact.
    pub mfa_devices_per_user: usize,
    /// Client ids of one OpenID Connect provider. Default 100. Exact.
    pub client_ids_per_provider: usize,
    /// Characters without white space of all inline policies of one user. Default 2,048. Exact.
    pub user_policy_chars: usize,
    /// The same of one role. Default 10,240. Exact.
    pub role_policy_chars: usize,
    /// Characters without white space of a trust policy. Default 2,048. Exact.
    pub trust_policy_chars: usize,
    /// Access keys of one user. Default 2. Exact.
    pub access_keys_per_user: usize,
    /// Clusters of one account in one region. Default 100.
    pub clusters_per_region: usize,
    /// Access entries of one cluster. Default 3,000.
    pub access_entries_per_cluster: usize,
    /// Pod identity associations of one cluster. Default 5,000.
    pub pod_identity_associations_per_cluster: usize,
    /// OIDC identity provider configs of one cluster. Default 64, as many as kube-apiserver takes; EKS has 10, and 1 before
    /// Kubernetes 1.32. Exact.
    pub identity_provider_configs_per_cluster: usize,
    /// Updates of one cluster that are kept; the oldest give way. Default 1,000.
    pub updates_per_cluster: usize,
    /// How long updates are kept. Default 90 days.
    pub updates_kept_for: SignedDuration,
    /// Request tokens of one account that are remembered; the oldest give way. Default 10,000.
    pub request_tokens_per_account: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            users_per_account: 5000,
            roles_per_account: 1000,
            groups_per_account: 300,
            instance_profiles_per_account: 1000,
            policies_per_account: 1500,
            oidc_providers_per_account: 100,
            saml_providers_per_account: 100,
            groups_per_user: 10,
            attached_policies: 10,
            versions_per_policy: 5,
            policy_chars: 6144,
            group_policy_chars: 5120,
            mfa_devices_per_user: 8,
            client_ids_per_provider: 100,
            user_policy_chars: 2048,
            role_policy_chars: 10_240,
            trust_policy_chars: 2048,
            access_keys_per_user: 2,
            clusters_per_region: 100,
            access_entries_per_cluster: 3000,
            identity_provider_configs_per_cluster: 64,
            pod_identity_associations_per_cluster: 5000,
            updates_per_cluster: 1000,
            updates_kept_for: SignedDuration::from_hours(90 * 24),
            request_tokens_per_account: 10_000,
        }
    }
}

impl Directory {
    /// Loads the directory, checks that the root key is the right one, and begins to follow the store.
    ///
    /// The first start writes a sealed check record; every later start, on any replica, opens it.
    ///
    /// # Errors
    /// When the store cannot be read, or its secrets are sealed with another root key.
    pub async fn open(
        store: Arc<dyn Store>,
        sealer: Sealer,
        random: Random,
        quotas: Quotas,
    ) -> Result<Self, OpenDirectoryError> {
        let sealer = Arc::new(sealer);
        let snapshot = checked_load(&*store, &sealer).await?;
        let feed = SnapshotFeed::follow(Arc::clone(&store), Arc::clone(&sealer), snapshot);
        let inner = Inner {
            store,
            sealer,
            feed,
            random,
            quotas,
            passwords: password_hash::Passwords::default(),
            wrong_codes: mfa::WrongCodes::default(),
            unseen: AtomicU64::new(0),
            write_lag: LagHistogram::default(),
        };
        Ok(Self(
            Arc::new(inner),
            Protection::On,
            Effect::Commit,
            Patience(VISIBLE_WITHIN),
        ))
    }

    /// A handle that also creates and changes roles below `/aws-service-role/` and `/aws-reserved/`, as an import does and
    /// AWS's services do. Never for what callers of the API ask for.
    #[must_use]
    pub fn danger_change_protected_roles(&self) -> Self {
        Self(Arc::clone(&self.0), Protection::Off, self.2, self.3)
    }

    /// A handle whose writes are planned with all their checks, answered as if they were done, and not committed: not even
    /// the token of a request that is done once is kept. What it answers was never there, the unique ids in it included.
    #[must_use]
    pub fn without_effect(&self) -> Self {
        Self(Arc::clone(&self.0), self.1, Effect::None, self.3)
    }

    /// A handle whose writes are answered after so long even when this replica does not see them yet; it says so by
    /// [`unseen`](Self::unseen).
    #[must_use]
    pub fn answering_within(&self, patience: Duration) -> Self {
        Self(Arc::clone(&self.0), self.1, self.2, Patience(patience))
    }

    /// The key that proves to the authorizer of a cluster who was authenticated; see [`Sealer::assertion_key`].
    ///
    /// # Errors
    /// When the cryptography library fails.
    pub fn assertion_key(
        &self,
        cluster_id: &str,
    ) -> Result<zeroize::Zeroizing<[u8; 32]>, SealError> {
        self.0.sealer.assertion_key(cluster_id)
    }

    /// The directory as it is known here now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<DirectorySnapshot> {
        self.0.feed.current()
    }

    /// The store behind the directory, for what concerns all records at once.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// The quotas in force.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.0.quotas
    }

    /// What keeps the snapshot up to date; the request path reads from it.
    #[must_use]
    pub fn feed(&self) -> &SnapshotFeed {
        &self.0.feed
    }

    /// What keeps the records, for people: `redb`, `etcd`.
    #[must_use]
    pub fn store_kind(&self) -> &'static str {
        self.0.store.kind()
    }

    /// How late this replica sees what others commit; none where there are no others.
    #[must_use]
    pub fn store_lag(&self) -> Option<Arc<LagHistogram>> {
        self.0.store.lag()
    }

    /// How long writes of this replica took, from the beginning of the commit until they were visible in its snapshot.
    #[must_use]
    pub fn write_lag(&self) -> &LagHistogram {
        &self.0.write_lag
    }

    /// The newest write that this replica has acknowledged and does not see yet, if there is one. Whoever answers from the
    /// snapshot meanwhile may let in what that write has revoked.
    #[must_use]
    pub fn unseen(&self) -> Option<Revision> {
        let unseen = Revision::new(self.0.unseen.load(Ordering::Acquire));
        (unseen > Revision::ZERO && unseen > self.0.feed.revision()).then_some(unseen)
    }

    /// Plans a transaction on the snapshot and commits it, again and again until nobody interferes.
    async fn write<T>(
        &self,
        mut plan: impl FnMut(&DirectorySnapshot) -> Result<(Transaction, T), DirectoryError>,
    ) -> Result<T, DirectoryError> {
        for _ in 0..ATTEMPTS {
            let snapshot = self.snapshot();
            if snapshot.unfinished_restore().is_some() {
                return Err(DirectoryError::Restoring);
            }
            let (transaction, planned) = plan(&snapshot)?;
            if self.2 == Effect::None {
                return Ok(planned);
            }
            let begun = Instant::now();
            match self.0.store.commit(transaction).await {
                Ok(revision) => {
                    if self.visible(revision).await {
                        self.0.write_lag.observe(begun.elapsed());
                    } else {
                        // It is durable, and a secret that was made with it cannot be made again: it is no failure. But
                        // nobody may be let in meanwhile by what it has changed.
                        self.0.unseen.fetch_max(revision.get(), Ordering::AcqRel);
                        tracing::warn!(%revision, "a write is durable but not visible on this replica yet");
                    }
                    return Ok(planned);
                }
                Err(CommitError::Conflict { revision, .. }) => {
                    if !self.visible(revision).await {
                        return Err(DirectoryError::Behind);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(DirectoryError::Contended)
    }

    /// A new unique id that nothing has.
    fn new_id(
        &self,
        kind: Kind,
        account: AccountId,
        taken: impl Fn(&str) -> bool,
    ) -> Result<String, DirectoryError> {
        for _ in 0..ATTEMPTS {
            let id = unique_id::encode(kind, account, self.0.random.bytes()?);
            if !taken(&id) {
                return Ok(id);
            }
        }
        // So many collisions are no accident of 39 random bits.
        Err(DirectoryError::Random(RandomUnavailable))
    }

    /// A random UUID.
    fn new_uuid(&self) -> Result<Box<str>, DirectoryError> {
        Ok(uuid(self.0.random.bytes()?).into())
    }

    async fn visible(&self, revision: Revision) -> bool {
        matches!(
            tokio::time::timeout(self.3.0, self.0.feed.wait_for(revision)).await,
            Ok(Ok(()))
        )
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("sealer", &self.sealer)
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}

/// A random UUID (RFC 9562, version 4).
fn uuid(random: [u8; 16]) -> String {
    let number = u128::from_be_bytes(random);
    let digits = format!(
        "{:032x}",
        (number & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)
    );
    let mut text = String::with_capacity(36);
    for (at, digit) in digits.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// The key of a record that a write is about to look at; refuses one that this version cannot judge.
fn readable(snapshot: &DirectorySnapshot, key: RecordKey<'_>) -> Result<Key, DirectoryError> {
    let key = key.to_key()?;
    if snapshot.is_unusable(&key) {
        return Err(DirectoryError::Unreadable { key });
    }
    Ok(key)
}

fn is_unusable(snapshot: &DirectorySnapshot, key: RecordKey<'_>) -> bool {
    key.to_key().is_ok_and(|key| snapshot.is_unusable(&key))
}

/// What to say about a record that is not in the snapshot: `error`, unless it is there and cannot be read.
fn missing(
    snapshot: &DirectorySnapshot,
    key: RecordKey<'_>,
    error: DirectoryError,
) -> DirectoryError {
    match key.to_key() {
        Ok(key) if snapshot.is_unusable(&key) => DirectoryError::Unreadable { key },
        // A name that fits into no key is one that nothing has.
        _ => error,
    }
}

async fn checked_load(
    store: &dyn Store,
    sealer: &Arc<Sealer>,
) -> Result<DirectorySnapshot, OpenDirectoryError> {
    let key = RecordKey::SealCheck
        .to_key()
        .map_err(|_| OpenDirectoryError::CheckMissing)?;
    for _ in 0..ATTEMPTS {
        let snapshot = DirectorySnapshot::load(store, sealer).await?;
        if let Some(mark) = snapshot.unfinished_restore() {
            return Err(OpenDirectoryError::RestoreUnfinished {
                from: mark.from.clone(),
                started: mark.started,
            });
        }
        let check = SecretString::new(SEAL_CHECK_TEXT);
        let (transaction, done) = match snapshot.seal_check() {
            Some((sealed, modified)) => {
                let used = sealed.key_id()?;
                if !sealer.has_key(used) {
                    return Err(OpenDirectoryError::WrongRootKey {
                        needed: used.to_owned(),
                        given: sealer.key_id().to_owned(),
                    });
                }
                sealer.open(&key, SEAL_CHECK_FIELD, sealed)?;
                (
                    Transaction::new().if_unchanged(&key, *modified),
                    used == sealer.key_id(),
                )
            }
            None if snapshot.is_empty() => (Transaction::new().if_absent(&key), false),
            None => return Err(OpenDirectoryError::CheckMissing),
        };
        if done {
            return Ok(snapshot);
        }
        let sealed = sealer.seal(&key, SEAL_CHECK_FIELD, &check)?;
        match store
            .commit(transaction.put(&key, SealCheck { sealed }.encode()))
            .await
        {
            // Either way the next load has a check record.
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(OpenDirectoryError::CheckMissing)
}

//! Durable state: a transactional store with watch, and the typed directory of accounts, users, roles, keys and clusters on it.
//!
//! ```text
//!            Directory                     typed operations: create_user, create_access_key, ...
//!     commit │      ▲ reads                every write is a transaction that compares what it read
//!            ▼      │
//!        dyn Store  │                      load · commit · watch: redb in one file, or anything that passes `conformance`
//!      watch │      │
//!            ▼      │
//!        SnapshotFeed ──► DirectorySnapshot    immutable, indexed; the request path loads one `Arc` and only looks up
//! ```
//!
//! * [`Store`] is the seam: its contract is in the trait's documentation, its tests in `conformance`.
//! * [`RedbStore`] is the embedded implementation; [`DataDir`] opens it together with its root key.
//! * `EtcdStore` (feature `etcd`) is the one that several machines share; [`EtcdOptions`] says where it is.
//! * [`Sealer`] keeps secrets unreadable at rest and bound to the record that holds them.
//! * [`records`] says what is stored under which key, in which form.
//! * [`Directory`] writes, [`DirectorySnapshot`] answers, [`SnapshotFeed`] connects the two.

pub mod backup;
mod data_dir;
mod directory;
mod etcd_store;
mod feed;
mod key;
mod metrics;
mod random;
pub mod records;
mod redb_store;
mod root_key;
mod seal;
mod secret;
mod snapshot;
mod store;
mod transaction;

#[cfg(feature = "conformance")]
pub mod conformance;
#[doc(hidden)]
pub mod fuzz;

pub use data_dir::{DataDir, OpenDataDirError, RootKeySource};
pub use directory::{
    AccessEntryChange, AccessKeyMetadata, AddonAssociation, AddonChange, AssociatedPolicy,
    ClusterKeysRefused, ClusterPlace, CreatedAccessKey, CreatedMfaDevice, Directory,
    DirectoryError, Entity, GroupChange, IamRecords, ImportedPolicies, LoginChange, MfaOwner,
    NewAccessEntry, NewAccount, NewAddon, NewCluster, NewGroup, NewIdentityProviderConfig,
    NewInstanceProfile, NewManagedPolicy, NewMfaDevice, NewOidcProvider, NewPodIdentityAssociation,
    NewRole, NewSamlProvider, NewUser, Once, OpenDirectoryError, Outcome, PackedMetadata,
    PasswordFault, PasswordState, PodIdentityAssociationChange, PodSessionsChange, Quotas,
    ROOT_USER_NAME, Refused, RoleChanges, Taggable, Thing, UpdateParams, UserChange,
    check_password, password_state, totp_code,
};
#[cfg(feature = "etcd")]
pub use etcd_store::EtcdStore;
pub use etcd_store::{
    DEFAULT_PREFIX, EtcdOptions, EtcdPassword, EtcdTls, EtcdUser, InvalidEtcdUrl,
};
pub use feed::{FeedState, FeedStopped, SnapshotFeed};
pub use key::{InvalidKey, Key, Revision, Value};
pub use metrics::LagHistogram;
pub use random::{Random, RandomUnavailable};
pub use redb_store::{OpenStoreError, RedbOptions, RedbStore};
pub use root_key::{RootKey, RootKeyError};
pub use seal::{SealError, SealedSecret, Sealer};
pub use secret::SecretString;
pub use snapshot::{
    AccessEntryEntry, AccessEntryState, AccessKeyEntry, AccessKeyLookup, AccountEntry, AddonEntry,
    AnsweredRequestEntry, AwsPolicyEntry, ClusterEntry, ClusterKeysEntry, ClusterNameError,
    ClusterUpdateEntry, DirectorySnapshot, EntityKind, Entry, GroupEntry,
    IdentityProviderConfigEntry, InstanceProfileEntry, KeyOwner, ManagedPolicyEntry,
    MfaDeviceEntry, OidcProviderEntry, OutboundKeysEntry, PodIdentityAssociationEntry, PolicyRef,
    PolicyUser, PolicyVersionRef, Principal, RoleEntry, SamlProviderEntry, SessionKeysEntry,
    UnusableRecord, UserEntry, Versioned,
};
pub use store::{
    Batch, Change, CommitError, Load, LoadError, Record, RecordPages, Store, StoreFuture,
    WatchError, WatchStream,
};
pub use transaction::{Compare, InvalidTransaction, Operation, Transaction, limits};

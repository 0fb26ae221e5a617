//! What is stored, under which key, in which form.
//!
//! | key | record | unique because |
//! | --- | --- | --- |
//! | `meta/seal-check` | [`SealCheck`] | tells a wrong root key at start |
//! | `meta/session-keys` | [`SessionKeys`] | there is one deployment |
//! | `meta/outbound-keys` | [`OutboundKeys`] | there is one deployment |
//! | `meta/restore` | [`RestoreMark`] | there only while a restore is under way |
//! | `account/ACCOUNT` | [`Account`] | account ids are |
//! | `account-alias/ALIAS` | [`AccountAlias`] | aliases are, over all accounts |
//! | `user/ACCOUNT/NAME` | [`User`]; `NAME` in lower case | IAM names are unique per account ignoring case, whatever their path |
//! | `role/ACCOUNT/NAME` | [`Role`]; `NAME` in lower case | as users, apart from them |
//! | `access-key/ID` | [`AccessKey`] | key ids are, over all accounts |
//! | `group/ACCOUNT/NAME` | [`Group`]; `NAME` in lower case | as users |
//! | `policy/ACCOUNT/NAME` | [`ManagedPolicy`]; `NAME` in lower case | as users, whatever their path |
//! | `aws-policy/NAME` | [`AwsPolicy`] | AWS has one of a name, over all paths |
//! | `instance-profile/ACCOUNT/NAME` | [`InstanceProfile`]; `NAME` in lower case | as users |
//! | `oidc-provider/ACCOUNT/URL` | [`OidcProvider`] | one for each issuer and account |
//! | `saml-provider/ACCOUNT/NAME` | [`SamlProvider`] | names are, per account, with case |
//! | `mfa/ACCOUNT/NAME` | [`MfaDevice`] | names are, per account, with case |
//! | `last-used/ACCOUNT/ID` | [`LastUsed`] | ids are |
//! | `job/ACCOUNT/ID` | [`Job`] | ids are |
//! | `cluster/ACCOUNT/REGION/NAME` | [`Cluster`] | cluster names are, per account and region, with case |
//! | `access-entry/ACCOUNT/CLUSTER/KIND/ACCOUNT/NAME` | [`AccessEntry`]; `CLUSTER` is the cluster's id, the rest names the principal, `NAME` in lower case | AWS has one principal of a name, whatever its path |
//! | `pod-identity-association/ACCOUNT/CLUSTER/NAMESPACE/SERVICE_ACCOUNT` | [`PodIdentityAssociation`] | a service account, or a pattern of them, has one |
//! | `identity-provider-config/ACCOUNT/CLUSTER/NAME` | [`IdentityProviderConfig`] | names are, per cluster, with case |
//! | `addon/ACCOUNT/CLUSTER/NAME` | [`Addon`] | a cluster has an add-on once |
//! | `cluster-update/ACCOUNT/CLUSTER/ID` | [`ClusterUpdate`] | ids are |
//! | `cluster-keys/ACCOUNT/CLUSTER` | [`ClusterKeys`]; `CLUSTER` is the cluster's id | a cluster has one issuer |
//! | `request-token/ACCOUNT/REGION/OPERATION/TOKEN` | [`AnsweredRequest`]; `TOKEN` is the token's SHA-256 | a token is used once for an operation |
//! | `revocation/TARGET` | [`Revocation`]; `TARGET` is the id of what it ends | there is one row for a target |
//!
//! A value is a JSON object with its version in `v` and without what the key says already. A record of a later version,
//! or of a kind that this version does not know, is kept as it is and not used; the snapshot counts it. That is why a
//! field which an earlier version must not ignore needs a new version number, and unknown fields are refused.

mod access_entry;
mod access_key;
mod account;
mod addon;
mod cluster;
mod cluster_keys;
mod cluster_settings;
mod cluster_update;
mod deployment;
mod group;
mod instance_profile;
mod layout;
mod managed_policy;
mod mfa_device;
mod names;
mod object_owner;
mod outbound;
mod plain;
mod pod_identity;
mod provider;
mod provider_config;
mod request_token;
mod revocation;
mod role;
mod usage;
mod user;

use serde::{Deserialize, Serialize};

pub use countersign_session::{PodSessions, PodTag};

pub use self::access_entry::{AccessEntry, EntryPrincipal, PolicyAssociation, PrincipalKind};
pub use self::access_key::{AccessKey, AccessKeyStatus, SECRET_FIELD};
pub use self::account::{Account, AccountAlias, OutboundFederation, PasswordPolicy};
pub use self::addon::Addon;
pub use self::cluster::{
    AuthenticationMode, Cluster, ClusterStatus, Creator, LatestUpdate, UnknownAuthenticationMode,
};
pub use self::cluster_keys::{CLUSTER_SIGNING_KEYS_FIELD, ClusterKeySource, ClusterKeys};
pub use self::cluster_settings::{
    ClusterSettings, ComputeConfig, EncryptionConfig, IpFamily, KubernetesNetworkConfig, LogType,
    OutpostConfig, RemoteNetworkConfig, ScalingTier, SupportType, UnknownWord, VpcConfig,
};
pub use self::cluster_update::{ClusterUpdate, UpdateError, UpdateStatus};
pub use self::deployment::{RestoreMark, SESSION_KEYS_FIELD, SessionKeys};
pub use self::group::Group;
pub use self::instance_profile::InstanceProfile;
pub use self::layout::RecordKey;
pub use self::managed_policy::{AwsPolicy, ManagedPolicy, PolicyVersion};
pub use self::mfa_device::{EnabledMfa, MfaDevice, SEED_FIELD};
pub use self::names::{
    InvalidField, MAX_TAGS, check_account_alias, check_addon_name, check_cluster_name,
    check_config_name, check_description, check_eks_tags, check_group_name,
    check_instance_profile_name, check_max_session_duration, check_mfa_device_name,
    check_namespace, check_namespace_pattern, check_organization_id, check_path, check_policy_name,
    check_policy_path, check_policy_tags, check_policy_text, check_region, check_role_name,
    check_service_account, check_service_account_pattern, check_tags, check_user_name, fold_name,
    is_pattern,
};
pub use self::object_owner::{object_owner, owning_object};
pub use self::outbound::{OUTBOUND_KEYS_FIELD, OutboundKeys};
pub use self::pod_identity::PodIdentityAssociation;
pub use self::provider::{OidcProvider, SamlProvider};
pub use self::provider_config::IdentityProviderConfig;
pub use self::request_token::{AnsweredRequest, REQUEST_TOKEN_LIFETIME, RequestToken};
pub use self::revocation::Revocation;
pub use self::role::{InlinePolicy, Role, TrustPolicy, TrustedPrincipal};
pub use self::usage::{ActionUse, DeletionFailure, Job, JobKind, LastUsed, ServiceUse};
pub use self::user::{LoginProfile, User};
use crate::{Key, SealedSecret, Value};

/// The record that tells a wrong root key: a known text, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealCheck {
    /// The sealed text.
    pub sealed: SealedSecret,
}

/// A record with its key, as one value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnyRecord {
    /// `meta/seal-check`
    SealCheck(SealCheck),
    /// `meta/session-keys`
    SessionKeys(SessionKeys),
    /// `meta/outbound-keys`
    OutboundKeys(OutboundKeys),
    /// `meta/restore`
    Restore(RestoreMark),
    /// `account/…`
    Account(Account),
    /// `account-alias/…`
    AccountAlias(AccountAlias),
    /// `user/…`
    User(User),
    /// `role/…`
    Role(Role),
    /// `group/…`
    Group(Group),
    /// `policy/…`
    ManagedPolicy(ManagedPolicy),
    /// `aws-policy/…`
    AwsPolicy(AwsPolicy),
    /// `instance-profile/…`
    InstanceProfile(InstanceProfile),
    /// `oidc-provider/…`
    OidcProvider(OidcProvider),
    /// `saml-provider/…`
    SamlProvider(SamlProvider),
    /// `mfa/…`
    MfaDevice(MfaDevice),
    /// `last-used/…`
    LastUsed(LastUsed),
    /// `job/…`
    Job(Job),
    /// `access-key/…`
    AccessKey(AccessKey),
    /// `cluster/…`
    Cluster(Box<Cluster>),
    /// `access-entry/…`
    AccessEntry(AccessEntry),
    /// `pod-identity-association/…`
    PodIdentityAssociation(Box<PodIdentityAssociation>),
    /// `identity-provider-config/…`
    IdentityProviderConfig(IdentityProviderConfig),
    /// `addon/…`
    Addon(Addon),
    /// `cluster-update/…`
    ClusterUpdate(ClusterUpdate),
    /// `cluster-keys/…`
    ClusterKeys(ClusterKeys),
    /// `request-token/…`
    AnsweredRequest(AnsweredRequest),
    /// `revocation/…`
    Revocation(Revocation),
}

/// Why the bytes of a record cannot be used. The record stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The key belongs to no kind of record that this version knows.
    #[error("the kind of record is not known to this version")]
    UnknownKind,
    /// The key begins like one of a known kind and goes on wrongly.
    #[error("the key is malformed")]
    Key,
    /// A later version wrote it.
    #[error("the record has version {found}, this version reads {known}")]
    Newer {
        /// The record's version.
        found: u32,
        /// The latest version known here.
        known: u32,
    },
    /// The value is not the JSON that it should be.
    #[error("the record is malformed: {what}")]
    Malformed {
        /// What the JSON parser says; it names places and types, never values of fields.
        what: String,
    },
}

impl AnyRecord {
    /// Reads a record.
    ///
    /// # Errors
    /// When it is not one that this version can use.
    pub fn decode(key: &Key, value: &[u8]) -> Result<Self, DecodeError> {
        Ok(match RecordKey::parse(key)? {
            RecordKey::SealCheck => Self::SealCheck(SealCheck::decode(value)?),
            RecordKey::SessionKeys => Self::SessionKeys(SessionKeys::decode(value)?),
            RecordKey::OutboundKeys => Self::OutboundKeys(OutboundKeys::decode(value)?),
            RecordKey::Restore => Self::Restore(RestoreMark::decode(value)?),
            RecordKey::Account(id) => Self::Account(Account::decode(id, value)?),
            RecordKey::AccountAlias(alias) => {
                Self::AccountAlias(AccountAlias::decode(alias, value)?)
            }
            RecordKey::User { account, name } => Self::User(User::decode(account, name, value)?),
            RecordKey::Role { account, name } => Self::Role(Role::decode(account, name, value)?),
            RecordKey::Group { account, name } => Self::Group(Group::decode(account, name, value)?),
            RecordKey::ManagedPolicy { account, name } => {
                Self::ManagedPolicy(ManagedPolicy::decode(account, name, value)?)
            }
            RecordKey::AwsPolicy(name) => Self::AwsPolicy(AwsPolicy::decode(name, value)?),
            RecordKey::InstanceProfile { account, name } => {
                Self::InstanceProfile(InstanceProfile::decode(account, name, value)?)
            }
            RecordKey::OidcProvider { account, url } => {
                Self::OidcProvider(OidcProvider::decode(account, url, value)?)
            }
            RecordKey::SamlProvider { account, name } => {
                Self::SamlProvider(SamlProvider::decode(account, name, value)?)
            }
            RecordKey::MfaDevice { account, name } => {
                Self::MfaDevice(MfaDevice::decode(account, name, value)?)
            }
            RecordKey::LastUsed { account, id } => {
                Self::LastUsed(LastUsed::decode(account, id, value)?)
            }
            RecordKey::Job { account, id } => Self::Job(Job::decode(account, id, value)?),
            RecordKey::AccessKey(id) => Self::AccessKey(AccessKey::decode(id, value)?),
            RecordKey::Cluster {
                account,
                region,
                name,
            } => Self::Cluster(Box::new(Cluster::decode(account, region, name, value)?)),
            RecordKey::AccessEntry { account, .. } => {
                Self::AccessEntry(AccessEntry::decode(account, below_account(key), value)?)
            }
            RecordKey::PodIdentityAssociation { account, .. } => {
                Self::PodIdentityAssociation(Box::new(PodIdentityAssociation::decode(
                    account,
                    below_account(key),
                    value,
                )?))
            }
            RecordKey::IdentityProviderConfig { account, .. } => Self::IdentityProviderConfig(
                IdentityProviderConfig::decode(account, below_account(key), value)?,
            ),
            RecordKey::Addon { account, .. } => {
                Self::Addon(Addon::decode(account, below_account(key), value)?)
            }
            RecordKey::ClusterUpdate { account, .. } => {
                Self::ClusterUpdate(ClusterUpdate::decode(account, below_account(key), value)?)
            }
            RecordKey::ClusterKeys { account, .. } => {
                Self::ClusterKeys(ClusterKeys::decode(account, below_account(key), value)?)
            }
            RecordKey::RequestToken { account, .. } => {
                Self::AnsweredRequest(AnsweredRequest::decode(account, below_account(key), value)?)
            }
            RecordKey::Revocation(id) => Self::Revocation(Revocation::decode(id, value)?),
        })
    }
}

impl AnyRecord {
    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        match self {
            Self::SealCheck(record) => record.encode(),
            Self::SessionKeys(record) => record.encode(),
            Self::OutboundKeys(record) => record.encode(),
            Self::Account(record) => record.encode(),
            Self::AccountAlias(record) => record.encode(),
            Self::User(record) => record.encode(),
            Self::Role(record) => record.encode(),
            Self::Group(record) => record.encode(),
            Self::ManagedPolicy(record) => record.encode(),
            Self::AwsPolicy(record) => record.encode(),
            Self::InstanceProfile(record) => record.encode(),
            Self::OidcProvider(record) => record.encode(),
            Self::SamlProvider(record) => record.encode(),
            Self::MfaDevice(record) => record.encode(),
            Self::LastUsed(record) => record.encode(),
            Self::Job(record) => record.encode(),
            Self::AccessKey(record) => record.encode(),
            Self::Cluster(record) => record.encode(),
            Self::Restore(record) => record.encode(),
            Self::AccessEntry(record) => record.encode(),
            Self::PodIdentityAssociation(record) => record.encode(),
            Self::IdentityProviderConfig(record) => record.encode(),
            Self::Addon(record) => record.encode(),
            Self::ClusterUpdate(record) => record.encode(),
            Self::ClusterKeys(record) => record.encode(),
            Self::AnsweredRequest(record) => record.encode(),
            Self::Revocation(record) => record.encode(),
        }
    }
}

impl SealCheck {
    fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let body: SealCheckBody = decode_body(value)?;
        Ok(Self {
            sealed: body.sealed,
        })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&SealCheckBody {
            v: SealCheckBody::VERSION,
            sealed: self.sealed.clone(),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealCheckBody {
    v: u32,
    sealed: SealedSecret,
}

impl Body for SealCheckBody {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

/// The JSON form of a record's value.
trait Body {
    /// The latest version that is known, and the one that is written.
    const VERSION: u32;

    fn version(&self) -> u32;
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

fn encode_body<T: Body + Serialize>(body: &T) -> Value {
    // A body is a struct of strings and numbers, for which the serializer has no error.
    serde_json::to_vec(body).unwrap_or_default().into()
}

fn decode_body<'a, T: Body + Deserialize<'a>>(value: &'a [u8]) -> Result<T, DecodeError> {
    let error = match serde_json::from_slice::<T>(value) {
        Ok(body) if body.version() == T::VERSION => return Ok(body),
        Ok(body) => return Err(wrong_version(body.version(), T::VERSION)),
        Err(error) => error,
    };
    // A later version may well have another shape; then the version is the better answer.
    match serde_json::from_slice::<Version>(value) {
        Ok(Version { v }) if v != T::VERSION => Err(wrong_version(v, T::VERSION)),
        _ => Err(DecodeError::Malformed {
            what: format!(
                "{:?} error at line {} column {}",
                error.classify(),
                error.line(),
                error.column()
            ),
        }),
    }
}

/// What follows `KIND/ACCOUNT/`.
fn below_account(key: &Key) -> &str {
    key.as_str().splitn(3, '/').nth(2).unwrap_or_default()
}

fn no_items<T>(items: &[T]) -> bool {
    items.is_empty()
}

fn wrong_version(found: u32, known: u32) -> DecodeError {
    if found > known {
        DecodeError::Newer { found, known }
    } else {
        DecodeError::Malformed {
            what: format!("version {found} was never written"),
        }
    }
}

//! What the snapshot holds for each record.

use std::sync::Arc;

use countersign_arn::AccountId;
use countersign_oidc::{DecodeKeysError, IssuerKeys, KeySet, KeySetError};
use countersign_session::{DecodeRingError, DeploymentId, KeyRing, NotADeploymentId};
use jiff::Timestamp;

use crate::records::{
    AccessEntry, AccessKeyStatus, Account, AnsweredRequest, AwsPolicy, Cluster, ClusterKeys,
    ClusterUpdate, DecodeError, Group, InstanceProfile, ManagedPolicy, MfaDevice, OidcProvider,
    PodIdentityAssociation, Role, SamlProvider, User,
};
use crate::{Revision, SealError, SecretString};

/// An account.
#[derive(Debug)]
pub struct AccountEntry {
    /// The record.
    pub record: Account,
    /// When it last changed.
    pub modified: Revision,
}

/// A record with its ARN at hand.
#[derive(Debug)]
pub struct Entry<T> {
    /// The record.
    pub record: T,
    /// Its ARN.
    pub arn: Arc<str>,
    /// When it last changed.
    pub modified: Revision,
}

/// A record that has no ARN, or whose ARN needs more than the record.
#[derive(Debug)]
pub struct Versioned<T> {
    /// The record.
    pub record: T,
    /// When it last changed.
    pub modified: Revision,
}

/// An access entry; [`AccessEntry::arn`] makes its ARN.
pub type AccessEntryEntry = Versioned<AccessEntry>;
/// A pod identity association; [`PodIdentityAssociation::arn`] makes its ARN.
pub type PodIdentityAssociationEntry = Versioned<PodIdentityAssociation>;
/// An update of a cluster.
pub type ClusterUpdateEntry = Versioned<ClusterUpdate>;
/// A request that was answered.
pub type AnsweredRequestEntry = Versioned<AnsweredRequest>;

/// Whether the principal of an access entry is there (EKS API spec, section 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessEntryState<'s> {
    /// It is.
    Alive,
    /// The entry is bound to nobody yet.
    Unbound,
    /// It is not: nobody can use the entry until it is bound anew.
    Dead {
        /// The id that nobody has.
        bound_to: &'s str,
        /// Who has the name of the entry's principal now, if somebody has.
        name_now: Option<&'s str>,
    },
}

/// A user, `arn:P:iam::A:user/path/Name`.
pub type UserEntry = Entry<User>;
/// A role, `arn:P:iam::A:role/path/Name`.
pub type RoleEntry = Entry<Role>;
/// A group, `arn:P:iam::A:group/path/Name`.
pub type GroupEntry = Entry<Group>;
/// A customer managed policy, `arn:P:iam::A:policy/path/Name`.
pub type ManagedPolicyEntry = Entry<ManagedPolicy>;
/// An imported policy of AWS. Its ARN here is that in the partition `aws`.
pub type AwsPolicyEntry = Entry<AwsPolicy>;
/// An instance profile, `arn:P:iam::A:instance-profile/path/Name`.
pub type InstanceProfileEntry = Entry<InstanceProfile>;
/// An OpenID Connect provider, `arn:P:iam::A:oidc-provider/URL`.
pub type OidcProviderEntry = Entry<OidcProvider>;
/// A SAML provider, `arn:P:iam::A:saml-provider/Name`.
pub type SamlProviderEntry = Entry<SamlProvider>;
/// A cluster, `arn:P:eks:R:A:cluster/NAME`.
pub type ClusterEntry = Entry<Cluster>;

/// A virtual MFA device, `arn:P:iam::A:mfa/path/Name`. Its seed is in memory as it is.
#[derive(Debug)]
pub struct MfaDeviceEntry {
    /// The record.
    pub record: MfaDevice,
    /// Its ARN, which is its serial number.
    pub arn: Arc<str>,
    /// When it last changed.
    pub modified: Revision,
    /// The seed, base32.
    pub seed: SecretString,
}

/// What has policies attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKind {
    /// A user.
    User,
    /// A group.
    Group,
    /// A role.
    Role,
}

/// A user, group or role that has a policy attached, or as its boundary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyUser {
    /// Its account.
    pub account: AccountId,
    /// What it is.
    pub kind: EntityKind,
    /// Its name in lower case.
    pub name: Arc<str>,
}

/// A managed policy by its ARN, whether a customer's, shipped, or imported.
#[derive(Debug, Clone, Copy)]
pub enum PolicyRef<'s> {
    /// Of a customer.
    Customer(&'s Arc<ManagedPolicyEntry>),
    /// Of AWS, imported; comes before the shipped one of the same name.
    Imported(&'s Arc<AwsPolicyEntry>),
    /// Of AWS, shipped.
    Shipped(&'static countersign_policy::tables::ManagedPolicy),
}

impl<'s> PolicyRef<'s> {
    /// The document in force; for partitions other than `aws`, the ARNs in a document of AWS still name partition `aws`.
    #[must_use]
    pub fn default_document(self) -> &'s str {
        match self {
            Self::Customer(policy) => policy.record.default_document(),
            Self::Imported(policy) => policy.record.default_document(),
            Self::Shipped(policy) => policy.document(),
        }
    }

    /// What to tell one state of the policy from another by; shipped ones never change while the program runs.
    #[must_use]
    pub fn revision(self) -> Revision {
        match self {
            Self::Customer(policy) => policy.modified,
            Self::Imported(policy) => policy.modified,
            Self::Shipped(_) => Revision::default(),
        }
    }

    /// Name without path.
    #[must_use]
    pub fn name(self) -> &'s str {
        match self {
            Self::Customer(policy) => &policy.record.name,
            Self::Imported(policy) => &policy.record.name,
            Self::Shipped(policy) => &policy.name,
        }
    }

    /// `/` or `/…/`.
    #[must_use]
    pub fn path(self) -> &'s str {
        match self {
            Self::Customer(policy) => &policy.record.path,
            Self::Imported(policy) => &policy.record.path,
            Self::Shipped(policy) => &policy.path,
        }
    }

    /// Whether AWS owns it.
    #[must_use]
    pub const fn is_aws(self) -> bool {
        !matches!(self, Self::Customer(_))
    }
}

/// Whose an access key is.
#[derive(Debug, Clone, Copy)]
pub enum KeyOwner<'a> {
    /// A user's.
    User(&'a Arc<UserEntry>),
    /// The root user's of an account.
    Root(&'a Arc<AccountEntry>),
}

impl<'a> KeyOwner<'a> {
    /// The user, unless it is the root user.
    #[must_use]
    pub const fn user(self) -> Option<&'a Arc<UserEntry>> {
        match self {
            Self::User(user) => Some(user),
            Self::Root(_) => None,
        }
    }
}

/// What session tokens are sealed and opened with.
#[derive(Debug)]
pub struct SessionKeysEntry {
    /// The deployment that tokens are bound to.
    pub deployment: DeploymentId,
    /// The keys.
    pub ring: KeyRing,
    /// When they last changed.
    pub modified: Revision,
}

/// What tokens of GetWebIdentityToken are signed with.
#[derive(Debug)]
pub struct OutboundKeysEntry {
    /// The keys.
    pub keys: IssuerKeys,
    /// When they last changed.
    pub modified: Revision,
}

/// The keys of a cluster's service account tokens, ready to verify with and to publish.
#[derive(Debug)]
pub struct ClusterKeysEntry {
    /// The record.
    pub record: ClusterKeys,
    /// When it last changed.
    pub modified: Revision,
    /// Everything that verifies, which is everything that is published.
    pub keys: Arc<KeySet>,
    /// The key set to publish, as JSON text.
    pub document: Arc<str>,
    /// Those made here; empty where keys come from elsewhere.
    pub signing: IssuerKeys,
}

/// An access key. Its secret is in memory as it is, so that verifying a signature opens nothing.
#[derive(Debug)]
pub struct AccessKeyEntry {
    /// `AKIA…`
    pub id: Arc<str>,
    /// Account of its user.
    pub account: AccountId,
    /// Unique id of its user; the account id for the root user.
    pub user_id: Box<str>,
    /// Whether it authenticates.
    pub status: AccessKeyStatus,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub modified: Revision,
    pub(super) secret: SecretString,
}

impl AccessKeyEntry {
    /// The secret to verify signatures with, if the key may authenticate.
    #[must_use]
    pub fn active_secret(&self) -> Option<&SecretString> {
        match self.status {
            AccessKeyStatus::Active => Some(&self.secret),
            AccessKeyStatus::Inactive => None,
        }
    }

    /// The secret whatever the status is, to seal it again.
    pub(crate) const fn secret(&self) -> &SecretString {
        &self.secret
    }
}

/// An access key and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct AccessKeyLookup<'a> {
    /// The key; [`active_secret`](AccessKeyEntry::active_secret) is what a signature is verified with.
    pub key: &'a AccessKeyEntry,
    /// Who calls when the signature is right.
    pub owner: KeyOwner<'a>,
}

/// What a unique id names.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Principal {
    /// `AIDA…`
    User(Arc<UserEntry>),
    /// `AROA…`
    Role(Arc<RoleEntry>),
    /// `AGPA…`; a group never calls.
    Group(Arc<GroupEntry>),
}

/// Why a name alone names no cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterNameError {
    /// No cluster has it.
    #[error("no cluster has this name")]
    Unknown,
    /// Several accounts or regions have a cluster of this name.
    #[error("{count} clusters have this name, in different accounts or regions")]
    Ambiguous {
        /// How many.
        count: usize,
    },
}

/// Why a record is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnusableRecord {
    /// It cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its secret cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The session keys were sealed here and are no ring.
    #[error("the session keys are not base64")]
    SessionKeys,
    /// The keys of outbound tokens cannot be read.
    #[error(transparent)]
    OutboundKeys(#[from] DecodeKeysError),
    /// The keys of a cluster are no key set.
    #[error(transparent)]
    ClusterKeys(#[from] KeySetError),
    /// The session keys are no ring.
    #[error(transparent)]
    Ring(#[from] DecodeRingError),
    /// The deployment has no usable id.
    #[error(transparent)]
    Deployment(#[from] NotADeploymentId),
}

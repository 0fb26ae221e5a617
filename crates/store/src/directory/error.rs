//! What can go wrong with the directory.

use countersign_access::EntryType;
use countersign_arn::AccountId;
use countersign_session::{InvalidRevocationTarget, RevocationInFuture, RingError};
use jiff::Timestamp;

use super::{ClusterKeysRefused, PasswordFault, Refused};
use crate::records::{AuthenticationMode, InvalidField};
use crate::{CommitError, EntityKind, InvalidKey, Key, LoadError, RandomUnavailable, SealError};

/// What [`DirectoryError::NoSuch`] and [`DirectoryError::Exists`] speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Thing {
    /// A group, by name.
    Group,
    /// A managed policy by ARN where it is looked for, by name where it is made.
    ManagedPolicy,
    /// A managed policy that was to be attached, or whose users or versions were asked for, by ARN.
    AttachablePolicy,
    /// A permissions boundary, by the policy's ARN.
    Boundary,
    /// A version of a managed policy, as `v3`.
    PolicyVersion,
    /// An instance profile, by name.
    InstanceProfile,
    /// An OpenID Connect provider, by ARN or URL.
    OidcProvider,
    /// A SAML provider, by ARN or name.
    SamlProvider,
    /// An MFA device, by serial number where it is looked for, by name where it is made.
    MfaDevice,
    /// An MFA device that a user has enabled, by serial number.
    EnabledMfaDevice,
    /// The alias of an account.
    AccountAlias,
    /// The password policy of an account, by the account's id.
    PasswordPolicy,
    /// A login profile, by user name.
    LoginProfile,
    /// A job, by id.
    Job,
    /// An access entry, by the principal's ARN.
    AccessEntry,
    /// An access policy of an access entry, by ARN.
    PolicyAssociation,
    /// An OIDC identity provider config of a cluster, by name.
    IdentityProviderConfig,
    /// An add-on of a cluster, by name.
    Addon,
    /// A pod identity association: by id, also the one that is there already.
    PodIdentityAssociation,
    /// A cluster, or something that hangs on one, whose tags were asked for, by ARN.
    Resource,
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Group => "group",
            Self::ManagedPolicy | Self::AttachablePolicy => "managed policy",
            Self::Boundary => "policy to be a boundary",
            Self::PolicyVersion => "policy version",
            Self::InstanceProfile => "instance profile",
            Self::OidcProvider => "OpenID Connect provider",
            Self::SamlProvider => "SAML provider",
            Self::MfaDevice => "MFA device",
            Self::EnabledMfaDevice => "enabled MFA device",
            Self::AccountAlias => "account alias",
            Self::PasswordPolicy => "password policy of account",
            Self::LoginProfile => "login profile",
            Self::Job => "job",
            Self::AccessEntry => "access entry for",
            Self::PolicyAssociation => "associated access policy",
            Self::PodIdentityAssociation => "pod identity association",
            Self::IdentityProviderConfig => "identity provider config",
            Self::Addon => "add-on",
            Self::Resource => "resource",
        })
    }
}

/// Why an operation on the directory was refused or did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A value that no record may have.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// There is no such account.
    #[error("there is no account `{0}`")]
    NoSuchAccount(AccountId),
    /// The account is there already.
    #[error("account `{0}` exists already")]
    AccountExists(AccountId),
    /// Another account has the alias.
    #[error("another account has the alias `{0}`")]
    AliasTaken(Box<str>),
    /// There is no such user in the account.
    #[error("there is no user `{0}` in the account")]
    NoSuchUser(Box<str>),
    /// A user of this name, ignoring case, is there already.
    #[error("a user with the name `{0}` exists already")]
    UserExists(Box<str>),
    /// There is no such role in the account.
    #[error("there is no role `{0}` in the account")]
    NoSuchRole(Box<str>),
    /// A role of this name, ignoring case, is there already.
    #[error("a role with the name `{0}` exists already")]
    RoleExists(Box<str>),
    /// There is no such thing in the account, or not on the entity it was looked for.
    #[error("there is no {what} `{name}`")]
    NoSuch {
        /// What was looked for.
        what: Thing,
        /// Its name, ARN, URL or id, as it was given.
        name: Box<str>,
    },
    /// A thing of this name is there already.
    #[error("there is a {what} `{name}` already")]
    Exists {
        /// What was to be made.
        what: Thing,
        /// Its name, ARN, URL or id, as it was given.
        name: Box<str>,
    },
    /// The role belongs to an AWS service, and only that changes it.
    #[error("the role `{0}` is changed by AWS only")]
    Protected(Box<str>),
    /// The policy is for service-linked roles only.
    #[error("the policy `{0}` is for service-linked roles only")]
    NotAttachable(Box<str>),
    /// The instance profile has another role, or none.
    #[error("the role `{role}` is not in the instance profile `{profile}`")]
    NoSuchRoleInProfile {
        /// The role's name, as it was given.
        role: Box<str>,
        /// The profile's name, as it was given.
        profile: Box<str>,
    },
    /// The inline policies of one user, group or role are too large together.
    #[error("the inline policies of `{name}` would have more than {limit} characters")]
    InlinePoliciesTooLarge {
        /// What it is.
        kind: EntityKind,
        /// Its name.
        name: Box<str>,
        /// Characters without white space that are allowed.
        limit: usize,
    },
    /// The user, group or role has no such inline policy.
    #[error("there is no inline policy `{0}`")]
    NoSuchPolicy(Box<str>),
    /// The user has no such access key.
    #[error("the user has no access key `{0}`")]
    NoSuchAccessKey(Box<str>),
    /// There is no such cluster in the account and region.
    #[error("there is no cluster `{0}` in the account and region")]
    NoSuchCluster(Box<str>),
    /// A cluster of this name is there already.
    #[error("a cluster with the name `{0}` exists already in the account and region")]
    ClusterExists(Box<str>),
    /// The cluster is being deleted.
    #[error("the cluster `{0}` is being deleted")]
    ClusterDeleting(Box<str>),
    /// The cluster may not be deleted.
    #[error("the cluster `{0}` is protected from deletion")]
    DeletionProtected(Box<str>),
    /// Something is under way that must be over first.
    #[error("the cluster `{cluster}` is being created or updated")]
    ClusterBusy {
        /// Its name.
        cluster: Box<str>,
        /// The update that is under way; `None` while it is being created.
        update: Option<Box<str>>,
    },
    /// Something is under way with an add-on that must be over first.
    #[error("the add-on `{addon}` is being created, updated or deleted")]
    AddonBusy {
        /// Its name.
        addon: Box<str>,
        /// The update that is under way, if it is one.
        update: Option<Box<str>>,
    },
    /// A cluster in mode `CONFIG_MAP` has no access entries (EKS API spec, section 4.3).
    #[error("the cluster `{0}` has no access entries in authentication mode CONFIG_MAP")]
    ModeWithoutEntries(Box<str>),
    /// Entries of this type have no groups, usernames or policies of their own.
    #[error("an access entry of type {0} has no such property")]
    EntryTypeRefuses(EntryType),
    /// The access entry belongs to somebody else.
    #[error("the access entry for `{principal_arn}` is bound to `{bound_to}`")]
    BoundToAnother {
        /// The entry.
        principal_arn: Box<str>,
        /// The unique id of the principal that it is bound to.
        bound_to: Box<str>,
    },
    /// A session policy would not be in force together with session tags (EKS API spec, section 10.2).
    #[error("an association with a session policy must have session tags disabled")]
    PolicyNeedsTagsDisabled,
    /// What an association says of sessions does not go together.
    #[error(transparent)]
    PodSessions(#[from] countersign_session::InvalidPodSessions),
    /// An add-on or an object of the cluster made it, and it changes through that only.
    #[error("the pod identity association `{id}` belongs to `{owner}`")]
    OwnedByAddon {
        /// The association.
        id: Box<str>,
        /// ARN of the add-on, or what stands for the object (see [`object_owner`](crate::records::object_owner)).
        owner: Box<str>,
    },
    /// The request token was used for a request with other parameters.
    #[error("the request token was used before, with other parameters")]
    TokenReused,
    /// The caller's own check of the state said no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// EKS knows no such change of mode.
    #[error("a cluster does not change from authentication mode {from} to {to}")]
    UnsupportedModeChange {
        /// The cluster's mode.
        from: AuthenticationMode,
        /// The mode asked for.
        to: AuthenticationMode,
    },
    /// `CONFIG_MAP` without the creator as administrator (EKS API spec, section 3.1).
    #[error("a cluster of authentication mode CONFIG_MAP has its creator as administrator")]
    CreatorMustBeAdmin,
    /// As many as allowed are there.
    #[error("cannot exceed quota for {quota}: {limit}")]
    QuotaExceeded {
        /// The name AWS has for it, such as `AccessKeysPerUser`.
        quota: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// Something still hangs on what was to be deleted.
    #[error("it still has {what}")]
    DeleteConflict {
        /// What hangs on it, such as `access keys`, `policies`, `attached policies`, `groups`, `instance profiles`; for a
        /// managed policy `attachments`, `policy versions`, for a version `default version`.
        what: &'static str,
    },
    /// The account's password policy does not take the password.
    #[error(transparent)]
    Password(#[from] PasswordFault),
    /// It is not the user's password.
    #[error("the password is not right")]
    WrongPassword,
    /// The code of an MFA device is wrong, old, or was used before.
    #[error("the code is not one that the MFA device shows now, or it was used before")]
    WrongMfaCode,
    /// So many passwords are being hashed that another one has to wait longer than is worth it.
    #[error("too many passwords are being verified now; try again")]
    Busy,
    /// The hash of a password could not be made.
    #[error("the password could not be hashed")]
    PasswordHash,
    /// The record is of a later version, or damaged; this version does not write over it.
    #[error("the record `{key}` cannot be read by this version, and is not changed by it")]
    Unreadable {
        /// The record.
        key: Key,
    },
    /// The keys of session tokens.
    #[error(transparent)]
    SessionKeys(#[from] RingError),
    /// The keys of tokens for outside services.
    #[error("the signing keys of outbound tokens could not be made")]
    OutboundKeys,
    /// The keys of a cluster.
    #[error(transparent)]
    ClusterKeys(#[from] ClusterKeysRefused),
    /// No session has the name that is to be revoked.
    #[error(transparent)]
    RevocationTarget(#[from] InvalidRevocationTarget),
    /// Sessions that are not there yet cannot be revoked.
    #[error(transparent)]
    RevocationInFuture(#[from] RevocationInFuture),
    /// The store is being restored; nobody else writes to it meanwhile.
    #[error(
        "the store is being restored from a backup, or a restore was broken off; nothing is written until it is done"
    )]
    Restoring,
    /// Other writers were faster every time.
    #[error("others change the same thing all the time; try again")]
    Contended,
    /// Somebody else changed what this write is about, and the change does not arrive here.
    #[error("this replica does not receive changes from the store now")]
    Behind,
    /// The store.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No random bytes for ids and secrets.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// A name does not fit into a key.
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

impl DirectoryError {
    pub(super) fn exists(what: Thing, name: &str) -> Self {
        let name = name.into();
        Self::Exists { what, name }
    }

    /// Whether the store is away and nothing was written, so that the same write may succeed later: `ServiceUnavailable`.
    ///
    /// False for a write of which nobody knows whether it happened: trying again might do it twice.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Behind | Self::Store(CommitError::Unavailable(_))
        )
    }
}

/// Why the directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenDirectoryError {
    /// The secrets in the store are sealed with another root key.
    #[error(
        "the secrets in the store are sealed with root key `{needed}`, but the root key given is `{given}`; \
         give the root key this store was made with"
    )]
    WrongRootKey {
        /// Name of the root key that sealed the store's secrets.
        needed: String,
        /// Name of the root key that was given.
        given: String,
    },
    /// There are records, but none to check the root key with.
    #[error(
        "the store has records but no sealed check record; it was not made by this program, or a part of it is gone"
    )]
    CheckMissing,
    /// The check record cannot be opened although its root key is given.
    #[error("the store's sealed check record cannot be opened; put back a backup of the store")]
    CheckDamaged(#[from] SealError),
    /// The records are a part of something.
    #[error(
        "the restore of {from} into this store, begun at {started}, was not finished; restore again with `--replace`"
    )]
    RestoreUnfinished {
        /// What was restored.
        from: Box<str>,
        /// When it was begun.
        started: Timestamp,
    },
    /// The store could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The check record could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

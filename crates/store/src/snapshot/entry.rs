//! What the snapshot holds for each record.

use std::sync::Arc;

use countersign_arn::AccountId;
use countersign_session::{DecodeRingError, DeploymentId, KeyRing, NotADeploymentId};
use jiff::Timestamp;

use crate::records::{AccessKeyStatus, Account, Cluster, DecodeError, Role, User};
use crate::{Revision, SealError, SecretString};

/// An account.
#[derive(Debug)]
pub struct AccountEntry {
    /// The record.
    pub record: Account,
    /// When it last changed.
    pub modified: Revision,
}

/// A user, with its ARN at hand.
#[derive(Debug)]
pub struct UserEntry {
    /// The record.
    pub record: User,
    /// `arn:P:iam::A:user/path/Name`
    pub arn: Arc<str>,
    /// When it last changed.
    pub modified: Revision,
}

/// A role, with its ARN at hand.
#[derive(Debug)]
pub struct RoleEntry {
    /// The record.
    pub record: Role,
    /// `arn:P:iam::A:role/path/Name`
    pub arn: Arc<str>,
    /// When it last changed.
    pub modified: Revision,
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

/// An access key. Its secret is in memory as it is, so that verifying a signature opens nothing.
#[derive(Debug)]
pub struct AccessKeyEntry {
    /// `AKIA…`
    pub id: Arc<str>,
    /// Account of its user.
    pub account: AccountId,
    /// Unique id of its user.
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
    /// The user who calls when the signature is right.
    pub owner: &'a UserEntry,
}

/// What a unique id names.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Principal {
    /// `AIDA…`
    User(Arc<UserEntry>),
    /// `AROA…`
    Role(Arc<RoleEntry>),
}

/// A cluster, with its ARN at hand.
#[derive(Debug)]
pub struct ClusterEntry {
    /// The record.
    pub record: Cluster,
    /// `arn:P:eks:R:A:cluster/NAME`
    pub arn: Arc<str>,
    /// When it last changed.
    pub modified: Revision,
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
    /// The session keys are no ring.
    #[error(transparent)]
    Ring(#[from] DecodeRingError),
    /// The deployment has no usable id.
    #[error(transparent)]
    Deployment(#[from] NotADeploymentId),
}

//! What can be asked, and the answers.

use std::fmt;

use countersign_arn::AccountId;
use countersign_review::AccessSnapshot;
use countersign_session::RevocationRow;
use countersign_store::records::AwsPolicy;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::iam_import::{ImportOptions, ImportReport};
use super::issuer::{IssuerChange, IssuerReport};
use super::report::SessionReport;

/// One operation of local administration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "op",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum AdminOp {
    /// What a session token says. It opens only with the access key id it was issued with.
    InspectSession {
        /// The session token.
        token: Hidden,
        /// `ASIA…`
        access_key_id: String,
    },
    /// Ends sessions before their time.
    RevokeSessions {
        /// Which.
        sessions: SessionSelector,
        /// Only those issued before; absent = before now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Timestamp>,
    },
    /// The revocation list.
    ListRevocations {},
    /// Makes a new key for session tokens.
    RotateSessionKeys {
        /// Whether every session ends with it.
        revoke: bool,
    },
    /// Makes an access key for the root user of an account.
    CreateRootKey {
        /// The account.
        account: AccountId,
    },
    /// The root user's access keys.
    ListRootKeys {
        /// The account.
        account: AccountId,
    },
    /// Deletes an access key of the root user.
    DeleteRootKey {
        /// The account.
        account: AccountId,
        /// `AKIA…`
        access_key_id: String,
    },
    /// All of IAM in an account, in the form of GetAccountAuthorizationDetails.
    ExportIam {
        /// The account; absent = the only one there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
    },
    /// Makes what such a document describes.
    ImportIam {
        /// The document, JSON.
        document: String,
        /// How.
        options: ImportOptions,
    },
    /// Takes over managed policies of AWS. What cannot be sent at once is sent in several operations.
    ImportAwsPolicies {
        /// The policies.
        policies: Vec<AwsPolicy>,
    },
    /// The access configuration of a cluster: mode, entries, what each is bound to.
    ShowAccess {
        /// The cluster's account; needed where several have one of the name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// Its name or ARN; absent = the only one there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
        /// A principal that is asked about, which may have no entry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        principal: Option<String>,
    },
    /// Binds an access entry to another principal of its name.
    RebindAccessEntry {
        /// The cluster's account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// Its name or ARN; absent = the only one there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
        /// The entry's principal ARN.
        principal_arn: String,
        /// To whom it is bound now, as the person was shown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// To whom it is to be bound.
        to: String,
    },
    /// The keys of a cluster's service account tokens.
    IssuerKeys {
        /// The cluster's account; needed where several have one of the name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// Its name or ARN; absent = the only one there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
        /// What is to be done.
        change: IssuerChange,
    },
    /// A backup of the store; its bytes follow the answer until the end of the stream.
    Backup {},
}

impl AdminOp {
    /// Its name, for logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InspectSession { .. } => "inspect-session",
            Self::RevokeSessions { .. } => "revoke-sessions",
            Self::ListRevocations {} => "list-revocations",
            Self::RotateSessionKeys { .. } => "rotate-session-keys",
            Self::CreateRootKey { .. } => "create-root-key",
            Self::ListRootKeys { .. } => "list-root-keys",
            Self::DeleteRootKey { .. } => "delete-root-key",
            Self::ExportIam { .. } => "export-iam",
            Self::ImportIam { .. } => "import-iam",
            Self::ImportAwsPolicies { .. } => "import-aws-policies",
            Self::ShowAccess { .. } => "show-access",
            Self::RebindAccessEntry { .. } => "rebind-access-entry",
            Self::IssuerKeys { .. } => "issuer-keys",
            Self::Backup {} => "backup",
        }
    }
}

/// Which sessions are meant, as a person says it. Where `account` is absent, the only account there is is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "by",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum SessionSelector {
    /// All sessions of a role.
    Role {
        /// The role's account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// The role's name or ARN.
        role: String,
    },
    /// One session.
    AccessKey {
        /// `ASIA…`
        access_key_id: String,
    },
    /// All sessions of a pod identity association.
    Association {
        /// `a-…`
        association_id: String,
    },
    /// All sessions of workloads of a cluster.
    Cluster {
        /// The cluster's account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// Its name or ARN.
        cluster: String,
    },
    /// All sessions with a source identity.
    SourceIdentity {
        /// Only sessions of this account; absent = of every account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// The source identity.
        source_identity: String,
    },
}

/// Text that is sent and not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    /// Takes the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// What an operation did or found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "answer",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum AdminAnswer {
    /// To `InspectSession`.
    Session(Box<SessionReport>),
    /// To `RevokeSessions`: the row that is in force now.
    Revoked {
        /// The row.
        row: RevocationRow,
        /// When the last session it could mean has ended, and the row is dropped.
        until: Timestamp,
    },
    /// To `ListRevocations`.
    Revocations {
        /// The rows, by target.
        rows: Vec<RevocationRow>,
    },
    /// To `RotateSessionKeys`: the keys as they are now, oldest first.
    SessionKeys {
        /// The keys.
        keys: Vec<KeyReport>,
    },
    /// To `CreateRootKey`.
    RootKeyCreated(IssuedRootKey),
    /// To `ListRootKeys`.
    RootKeys {
        /// The keys, in the order they were made.
        keys: Vec<RootKeyReport>,
    },
    /// To `DeleteRootKey`.
    RootKeyDeleted {},
    /// To `ExportIam`.
    IamExported {
        /// The document, JSON.
        document: String,
    },
    /// To `ImportIam`.
    IamImported(ImportReport),
    /// To `ImportAwsPolicies`.
    PoliciesImported {
        /// Policies that were not there before, or got another version or default.
        written: usize,
        /// Policies that were there as they are.
        unchanged: usize,
    },
    /// To `ShowAccess`.
    Access(Box<AccessSnapshot>),
    /// To `RebindAccessEntry`.
    AccessEntryRebound {
        /// The entry's principal ARN.
        principal_arn: String,
        /// To whom it was bound.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// To whom it is bound.
        to: String,
    },
    /// To `IssuerKeys`: the keys as they are now.
    IssuerKeys(Box<IssuerReport>),
    /// To `Backup`: the backup follows.
    BackupFollows {},
}

/// A key of session tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyReport {
    /// Its name, which tokens carry.
    pub kid: String,
    /// `sealing`, `opening` or `retired`.
    pub state: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it begins or began to seal.
    pub seals_from: Timestamp,
    /// When it opens nothing any more, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_until: Option<Timestamp>,
}

/// A new root key. The secret is shown once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedRootKey {
    /// `arn:P:iam::A:root`
    pub arn: String,
    /// `AKIA…`
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Hidden,
}

/// What may be shown of a root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootKeyReport {
    /// `AKIA…`
    pub access_key_id: String,
    /// `Active` or `Inactive`.
    pub status: String,
    /// When it was made.
    pub created: Timestamp,
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// What kind of reason.
    pub kind: AdminErrorKind,
    /// What was wrong.
    pub message: String,
}

/// What kind of reason an operation was not done for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminErrorKind {
    /// The answer is no: a token that does not open.
    No,
    /// What was asked cannot be meant: unknown names, wrong forms.
    Request,
    /// It could not be done now.
    Unavailable,
}

impl AdminError {
    pub(super) fn no(message: impl fmt::Display) -> Self {
        Self::new(AdminErrorKind::No, message)
    }

    pub(super) fn request(message: impl fmt::Display) -> Self {
        Self::new(AdminErrorKind::Request, message)
    }

    pub(super) fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(AdminErrorKind::Unavailable, message)
    }

    fn new(kind: AdminErrorKind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
        }
    }
}

//! Whose session it is.

use countersign_arn::unique_id::Kind;
use countersign_arn::{AccountId, Partition, is_session_name};
use serde::Serialize;

use super::InvalidRecord;

/// The principal of a session, by unique id as well as by name: a recreated role has the name but another id, and old
/// sessions must not revive with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum SessionPrincipal {
    /// A role session.
    Role {
        /// `AROA…`.
        id: Box<str>,
        /// The role's path, `/` or `/…/`.
        path: Box<str>,
        /// The role's name.
        name: Box<str>,
        /// The session name.
        session_name: Box<str>,
    },
    /// A user with temporary credentials.
    User {
        /// `AIDA…`.
        id: Box<str>,
        /// The user's path, `/` or `/…/`.
        path: Box<str>,
        /// The user's name when the session was issued.
        name: Box<str>,
    },
    /// The root of the account.
    Root,
    /// A federated user.
    FederatedUser {
        /// `AIDA…` of the user whose policies bound the session; absent when the account root made it.
        #[serde(skip_serializing_if = "Option::is_none")]
        creator_id: Option<Box<str>>,
        /// The federated name.
        name: Box<str>,
    },
}

impl SessionPrincipal {
    /// The unique id in IAM whose policies count: of the role, the user, or the creator of a federated user.
    #[must_use]
    pub fn unique_id(&self) -> Option<&str> {
        match self {
            Self::Role { id, .. } | Self::User { id, .. } => Some(id),
            Self::FederatedUser { creator_id, .. } => creator_id.as_deref(),
            Self::Root => None,
        }
    }

    /// The ARN that GetCallerIdentity answers (STS spec, section 6.1). A role's path is not in it.
    #[must_use]
    pub fn caller_arn(&self, partition: Partition, account: AccountId) -> String {
        match self {
            Self::Role {
                name, session_name, ..
            } => format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session_name}"),
            Self::User { .. } | Self::Root | Self::FederatedUser { .. } => {
                self.principal_arn(partition, account)
            }
        }
    }

    /// The value of `aws:PrincipalArn`: the role's own ARN with its path, for all others the caller's ARN.
    #[must_use]
    pub fn principal_arn(&self, partition: Partition, account: AccountId) -> String {
        match self {
            Self::Role { path, name, .. } => {
                format!("arn:{partition}:iam::{account}:role{path}{name}")
            }
            Self::User { path, name, .. } => {
                format!("arn:{partition}:iam::{account}:user{path}{name}")
            }
            Self::Root => format!("arn:{partition}:iam::{account}:root"),
            Self::FederatedUser { name, .. } => {
                format!("arn:{partition}:sts::{account}:federated-user/{name}")
            }
        }
    }

    /// The `UserId` that GetCallerIdentity answers, which is also `aws:userid` (STS spec, section 6.1).
    #[must_use]
    pub fn user_id(&self, account: AccountId) -> String {
        match self {
            Self::Role {
                id, session_name, ..
            } => format!("{id}:{session_name}"),
            Self::User { id, .. } => id.to_string(),
            Self::Root => account.to_string(),
            Self::FederatedUser { name, .. } => format!("{account}:{name}"),
        }
    }

    /// The value of `aws:PrincipalType` (policy language spec, section 7.3).
    #[must_use]
    pub const fn principal_type(&self) -> &'static str {
        match self {
            Self::Role { .. } => "AssumedRole",
            Self::User { .. } => "User",
            Self::Root => "Account",
            Self::FederatedUser { .. } => "FederatedUser",
        }
    }

    pub(super) fn validate(&self) -> Result<(), InvalidRecord> {
        let rule = |holds: bool, rule| {
            if holds {
                Ok(())
            } else {
                Err(InvalidRecord {
                    field: "principal",
                    rule,
                })
            }
        };
        match self {
            Self::Role {
                id,
                path,
                name,
                session_name,
            } => {
                rule(is_id_of(Kind::Role, id), "a role's id is AROA…")?;
                rule(is_path(path), "a path begins and ends with a slash")?;
                rule(is_name(name), "a role name matches [\\w+=,.@-]{1,64}")?;
                rule(
                    is_session_name(session_name),
                    "a session name matches [\\w+=,.@-]{2,64}",
                )
            }
            Self::User { id, path, name } => {
                rule(is_id_of(Kind::User, id), "a user's id is AIDA…")?;
                rule(is_path(path), "a path begins and ends with a slash")?;
                rule(is_name(name), "a user name matches [\\w+=,.@-]{1,64}")
            }
            Self::Root => Ok(()),
            Self::FederatedUser { creator_id, name } => {
                rule(
                    creator_id
                        .as_deref()
                        .is_none_or(|id| is_id_of(Kind::User, id)),
                    "a user's id is AIDA…",
                )?;
                rule(
                    is_session_name(name) && name.len() <= 32,
                    "a federated name matches [\\w+=,.@-]{2,32}",
                )
            }
        }
    }
}

fn is_id_of(kind: Kind, id: &str) -> bool {
    Kind::of(id) == Some(kind)
        && (16..=128).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `/`, or `/…/` of at most 512 printable ASCII characters, as IAM defines paths.
fn is_path(path: &str) -> bool {
    path.len() <= 512
        && path.starts_with('/')
        && path.ends_with('/')
        && path.bytes().all(|b| (0x21..=0x7e).contains(&b))
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

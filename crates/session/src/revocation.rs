//! Sessions that were ended before their time (STS spec, section 8.5, item 2).
//!
//! A row names what is ended: the sessions of a role, of one key, of an association, of a cluster, or with a source
//! identity, that were issued before a moment. Rows are few, are asked after the token has opened, and are dropped when
//! the last session that they could mean has ended by itself.
//!
//! A row ends the sessions it names and no others: sessions that were chained from them have their own key, role and
//! times. The source identity is what all sessions of a chain share.

use std::collections::HashMap;
use std::hash::Hash;

use countersign_arn::AccountId;
use countersign_arn::unique_id::Kind;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::record::{SessionPrincipal, SessionRecord};
use crate::ring::OPENING_AFTER_SEALING;

/// Which sessions a row ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum RevocationTarget {
    /// All sessions of a role. Role names compare without regard to case, as IAM keeps them unique.
    Role {
        /// The role's account.
        account: AccountId,
        /// The role's name, without path.
        name: Box<str>,
    },
    /// One session, by its access key id.
    AccessKey {
        /// `ASIA…`.
        id: Box<str>,
    },
    /// All sessions issued through a pod identity association.
    Association {
        /// `a-…`.
        id: Box<str>,
    },
    /// All sessions issued to workloads of a cluster.
    Cluster {
        /// The cluster's ARN.
        arn: Box<str>,
    },
    /// All sessions with a source identity.
    SourceIdentity {
        /// Only sessions of this account; absent = of every account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// The source identity.
        value: Box<str>,
    },
}

impl RevocationTarget {
    /// A text that is the same exactly for equal targets, to store at most one row for each.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Role { account, name } => format!("role/{account}/{}", fold(name)),
            Self::AccessKey { id } => format!("key/{id}"),
            Self::Association { id } => format!("association/{id}"),
            Self::Cluster { arn } => format!("cluster/{arn}"),
            Self::SourceIdentity { account, value } => match account {
                Some(account) => format!("source-identity/{account}/{value}"),
                None => format!("source-identity/*/{value}"),
            },
        }
    }

    /// The target that has this [`id`](Self::id); none when no target has it. A role comes back with its name folded.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        let (by, rest) = id.split_once('/')?;
        let target = match by {
            "role" => {
                let (account, name) = rest.split_once('/')?;
                Self::Role {
                    account: account.parse().ok()?,
                    name: name.into(),
                }
            }
            "key" => Self::AccessKey { id: rest.into() },
            "association" => Self::Association { id: rest.into() },
            "cluster" => Self::Cluster { arn: rest.into() },
            "source-identity" => {
                let (account, value) = rest.split_once('/')?;
                Self::SourceIdentity {
                    account: match account {
                        "*" => None,
                        account => Some(account.parse().ok()?),
                    },
                    value: value.into(),
                }
            }
            _ => return None,
        };
        // What would be written under another id hides from whoever looks for it.
        (target.id() == id && !id.ends_with('/')).then_some(target)
    }

    /// Checks that sessions with such a name can exist, so that a slip of the pen is not taken for a revocation.
    ///
    /// # Errors
    /// Says what such a name looks like.
    pub fn check(&self) -> Result<(), InvalidRevocationTarget> {
        let (holds, field, expected) = match self {
            Self::Role { name, .. } => (
                is_name(name, 1),
                "the role name",
                "1 to 64 letters, digits or characters of `_+=,.@-`, without its path",
            ),
            Self::AccessKey { id } => (
                Kind::of(id) == Some(Kind::TemporaryAccessKey)
                    && id.len() == 20
                    && id
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b)),
                "the access key id",
                "that of temporary credentials: `ASIA` and 16 characters of `A-Z2-7`",
            ),
            Self::Association { id } => (
                id.strip_prefix("a-").is_some_and(|rest| {
                    (1..=64).contains(&rest.len())
                        && rest
                            .bytes()
                            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                }),
                "the association id",
                "`a-` and lower-case letters and digits",
            ),
            Self::Cluster { arn } => (
                arn.len() <= 256
                    && arn.starts_with("arn:")
                    && arn.contains(":cluster/")
                    && arn.bytes().all(|b| b.is_ascii_graphic()),
                "the cluster",
                "its ARN, `arn:P:eks:REGION:ACCOUNT:cluster/NAME`",
            ),
            Self::SourceIdentity { value, .. } => (
                is_name(value, 2),
                "the source identity",
                "2 to 64 letters, digits or characters of `_+=,.@-`",
            ),
        };
        if holds {
            Ok(())
        } else {
            Err(InvalidRevocationTarget { field, expected })
        }
    }
}

/// No session has such a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {expected}")]
pub struct InvalidRevocationTarget {
    /// What was given, such as `the role name`.
    pub field: &'static str,
    /// What is possible.
    pub expected: &'static str,
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevocationRow {
    /// Which sessions.
    #[serde(flatten)]
    pub target: RevocationTarget,
    /// Only those issued before. A session knows its second of issue, so one that was issued later within the same
    /// second is ended too. Without meaning for a single key.
    pub before: Timestamp,
    /// When the row was made.
    pub made: Timestamp,
}

/// A row would end sessions that do not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sessions can be revoked up to now, not before a time that is still to come")]
pub struct RevocationInFuture;

impl RevocationRow {
    /// Ends the sessions of `target` that were issued before `before`, or before now.
    ///
    /// # Errors
    /// When `before` lies in the future.
    pub fn new(
        target: RevocationTarget,
        before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, RevocationInFuture> {
        let before = before.unwrap_or(now);
        if before > now {
            return Err(RevocationInFuture);
        }
        Ok(Self {
            target,
            before,
            made: now,
        })
    }

    /// When the last session that the row could mean has ended by itself: 36 hours after, and 15 minutes for clocks.
    #[must_use]
    pub fn drop_after(&self) -> Timestamp {
        let last = match self.target {
            RevocationTarget::AccessKey { .. } => self.made,
            RevocationTarget::Role { .. }
            | RevocationTarget::Association { .. }
            | RevocationTarget::Cluster { .. }
            | RevocationTarget::SourceIdentity { .. } => self.before,
        };
        last.saturating_add(OPENING_AFTER_SEALING)
            .unwrap_or(Timestamp::MAX)
    }

    /// Whether the row can be dropped at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.drop_after()
    }

    /// This row and a newer or older one for the same target as one.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            before: self.before.max(other.before),
            made: self.made.max(other.made),
            target: self.target,
        }
    }
}

/// A session was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// By its own key id.
    Key,
    /// With others, named by the word of the row's target.
    Session {
        /// `role`, `association`, `cluster` or `source identity`.
        by: &'static str,
        /// The moment of the row.
        before: Timestamp,
    },
}

impl Revoked {
    /// What the caller is told: `ExpiredToken`, so that SDKs refresh by themselves; for a key that was itself revoked
    /// `InvalidClientTokenId`.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Key => Refusal::invalid_token(),
            Self::Session { .. } => Refusal::expired_token(),
        }
    }
}

/// The rows, indexed. Asking costs at most one look-up for each kind of row there is, however many rows there are.
#[derive(Debug, Clone, Default)]
pub struct RevocationList {
    roles: HashMap<AccountId, HashMap<Box<str>, Timestamp>>,
    keys: HashMap<Box<str>, Timestamp>,
    associations: HashMap<Box<str>, Timestamp>,
    clusters: HashMap<Box<str>, Timestamp>,
    source_identities: HashMap<Option<AccountId>, HashMap<Box<str>, Timestamp>>,
}

impl RevocationList {
    /// Indexes `rows`.
    #[must_use]
    pub fn new<'r>(rows: impl IntoIterator<Item = &'r RevocationRow>) -> Self {
        let mut list = Self::default();
        for RevocationRow { target, before, .. } in rows {
            match target {
                RevocationTarget::Role { account, name } => {
                    raise(list.roles.entry(*account).or_default(), fold(name), *before);
                }
                RevocationTarget::AccessKey { id } => raise(&mut list.keys, id.clone(), *before),
                RevocationTarget::Association { id } => {
                    raise(&mut list.associations, id.clone(), *before);
                }
                RevocationTarget::Cluster { arn } => {
                    raise(&mut list.clusters, arn.clone(), *before);
                }
                RevocationTarget::SourceIdentity { account, value } => raise(
                    list.source_identities.entry(*account).or_default(),
                    value.clone(),
                    *before,
                ),
            }
        }
        list
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty()
            && self.keys.is_empty()
            && self.associations.is_empty()
            && self.clusters.is_empty()
            && self.source_identities.is_empty()
    }

    /// Whether `session` with `access_key_id` was revoked.
    #[must_use]
    pub fn consult(&self, session: &SessionRecord, access_key_id: &str) -> Option<Revoked> {
        if self.keys.contains_key(access_key_id) {
            return Some(Revoked::Key);
        }
        let by = |by, before: Option<&Timestamp>| {
            let before = *before.filter(|before| session.issued < **before)?;
            Some(Revoked::Session { by, before })
        };
        let role = || match &session.principal {
            SessionPrincipal::Role { name, .. } => {
                by("role", self.roles.get(&session.account)?.get(&fold(name)))
            }
            SessionPrincipal::User { .. }
            | SessionPrincipal::Root
            | SessionPrincipal::FederatedUser { .. } => None,
        };
        let source_identity = |account| {
            let value = session.source_identity.as_deref()?;
            by(
                "source identity",
                self.source_identities.get(&account)?.get(value),
            )
        };
        role()
            .or_else(|| {
                let id = session.binding.association_id.as_deref()?;
                by("association", self.associations.get(id))
            })
            .or_else(|| {
                let arn = session.binding.cluster.as_deref()?;
                by("cluster", self.clusters.get(arn))
            })
            .or_else(|| source_identity(Some(session.account)))
            .or_else(|| source_identity(None))
    }
}

fn raise<K: Hash + Eq>(rows: &mut HashMap<K, Timestamp>, key: K, before: Timestamp) {
    let known = rows.entry(key).or_insert(before);
    *known = before.max(*known);
}

fn fold(role_name: &str) -> Box<str> {
    role_name.to_ascii_lowercase().into()
}

fn is_name(text: &str, least: usize) -> bool {
    (least..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

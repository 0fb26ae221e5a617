//! Access entries of clusters (EKS API spec, section 7).

use countersign_access::{AccessScope, EntryType};
use countersign_arn::{AccountId, Arn, Tag};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plain::{self, Plain};
use super::{Cluster, DecodeError, InvalidField, check_user_name};
use crate::Value;

/// One IAM principal in one cluster.
///
/// The key has the cluster's id, so that a new cluster of the same name has none, and the principal's account, kind and
/// name without its path, in lower case: AWS has at most one such principal, and the store holds at most one such entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessEntry {
    /// The account of the cluster.
    pub account: AccountId,
    /// The [id](Cluster::id) of the cluster.
    pub cluster_id: Box<str>,
    /// What ends the entry's ARN; another one when the entry is made again.
    pub uuid: Box<str>,
    /// IAM ARN of the principal with its path, as it was given.
    pub principal_arn: Box<str>,
    /// `AROA…`, `AIDA…`, or the account id for root: who the entry is for. `None` until somebody whose account, kind and
    /// name match has authenticated (section 7.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<Box<str>>,
    /// The type.
    pub entry_type: EntryType,
    /// Kubernetes groups, in the order they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Box<str>>,
    /// The template of the username; `None` is the default of the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Box<str>>,
    /// Tags, keys unique with case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Associated access policies in byte order of their ARNs, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub associations: Vec<PolicyAssociation>,
    /// When it was made.
    pub created: Timestamp,
    /// When groups or username were last given, or the principal was bound anew; tags, associations and the first binding
    /// do not count.
    pub modified: Timestamp,
}

/// An access policy of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyAssociation {
    /// `arn:P:eks::aws:cluster-access-policy/NAME`
    pub policy_arn: Box<str>,
    /// Where it is in force.
    pub scope: AccessScope,
    /// When it was first associated.
    pub associated: Timestamp,
    /// When its scope was last given.
    pub modified: Timestamp,
}

/// What kind of principal an access entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalKind {
    /// A role.
    Role,
    /// A user.
    User,
    /// The root user of an account; its name is `root`.
    Root,
}

impl PrincipalKind {
    /// The word for it in the ARN of an access entry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::User => "user",
            Self::Root => "root",
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::Role, Self::User, Self::Root]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// A principal as AWS names it at most once: without its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPrincipal<'a> {
    /// What it is.
    pub kind: PrincipalKind,
    /// The account of the principal.
    pub account: AccountId,
    /// The last element of its path, with the case that was given.
    pub name: &'a str,
}

impl<'a> EntryPrincipal<'a> {
    /// Reads the IAM ARN of a role, a user or a root user.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(arn: &'a str) -> Result<Self, InvalidField> {
        Self::of(arn).ok_or(InvalidField {
            field: "principalArn",
            expected: "the IAM ARN of a role, a user or a root user",
        })
    }

    fn of(text: &'a str) -> Option<Self> {
        let arn = Arn::parse(text).ok()?;
        if arn.service != "iam" || !arn.region.is_empty() {
            return None;
        }
        let account = arn.account.parse().ok()?;
        if arn.resource == "root" {
            let (kind, name) = (PrincipalKind::Root, "root");
            return Some(Self {
                kind,
                account,
                name,
            });
        }
        let (kind, path) = arn.resource.split_once('/')?;
        let kind = PrincipalKind::of(kind).filter(|kind| *kind != PrincipalKind::Root)?;
        let name = path.rsplit('/').next()?;
        check_user_name(name).ok()?;
        Some(Self {
            kind,
            account,
            name,
        })
    }

    /// The end of the record's key, `KIND/ACCOUNT/NAME` with the name in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        format!(
            "{}/{}/{}",
            self.kind.as_str(),
            self.account,
            self.name.to_ascii_lowercase()
        )
    }
}

impl AccessEntry {
    /// `arn:P:eks:R:A:access-entry/CLUSTER/KIND/PRINCIPAL_ACCOUNT/NAME/UUID`, without the principal's path.
    #[must_use]
    pub fn arn(&self, cluster: &Cluster) -> String {
        let principal = EntryPrincipal::parse(&self.principal_arn);
        let (kind, account, name) = principal.map_or(("role", self.account, ""), |principal| {
            (principal.kind.as_str(), principal.account, principal.name)
        });
        format!(
            "arn:{}:eks:{}:{}:access-entry/{}/{kind}/{account}/{name}/{}",
            cluster.partition, cluster.region, cluster.account, cluster.name, self.uuid
        )
    }

    /// The association of this policy.
    #[must_use]
    pub fn association(&self, policy_arn: &str) -> Option<&PolicyAssociation> {
        self.associations
            .binary_search_by(|known| (*known.policy_arn).cmp(policy_arn))
            .ok()
            .and_then(|at| self.associations.get(at))
    }

    pub(super) fn decode(
        account: AccountId,
        rest: &str,
        value: &[u8],
    ) -> Result<Self, DecodeError> {
        let entry: Self = plain::decode(Some(account), rest, value)?;
        // Lookups are binary, and a policy that is there twice could stay when it is taken away.
        if entry
            .associations
            .is_sorted_by(|a, b| a.policy_arn < b.policy_arn)
        {
            Ok(entry)
        } else {
            Err(DecodeError::Malformed {
                what: "the associations are not in the order of their policies".to_owned(),
            })
        }
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        plain::encode(self)
    }
}

impl Plain for AccessEntry {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account)
            && rest.split_once('/').is_some_and(|(cluster_id, principal)| {
                *self.cluster_id == *cluster_id
                    && EntryPrincipal::parse(&self.principal_arn)
                        .is_ok_and(|own| own.key() == principal)
            })
    }
}

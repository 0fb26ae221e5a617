//! What an access entry may say (EKS API spec, sections 7.2, 7.3 and 7.6).

use std::fmt;

use countersign_arn::{AccountId, Partition};

use crate::entry_type::EntryType;
use crate::limits::Limits;
use crate::principal::{Principal, PrincipalKind};
use crate::projection::ENTRY_GROUP_PREFIX;
use crate::username::{TemplateFault, check_template};

/// Neither usernames nor groups that a caller gives may begin with these. With the colon: `system` alone is fine.
pub const RESERVED_PREFIXES: [&str; 5] = ["system:", "eks:", "aws:", "amazon:", "iam:"];

/// What `CreateAccessEntry` was asked, as far as the values alone can be checked. Tags are checked elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct EntryRequest<'a> {
    /// `principalArn`
    pub principal_arn: &'a str,
    /// `type`; absent is `STANDARD`.
    pub entry_type: Option<&'a str>,
    /// `kubernetesGroups`
    pub groups: Option<&'a [&'a str]>,
    /// `username`
    pub username: Option<&'a str>,
    /// The account of the cluster, which is the account of the call.
    pub cluster_account: AccountId,
    /// The partition of the cluster.
    pub partition: Partition,
}

/// An entry whose values passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedEntry {
    /// The principal.
    pub principal: Principal,
    /// The type.
    pub entry_type: EntryType,
    /// The groups as they are stored: in the order given, each once. Empty for nodes, see [`shown_groups`].
    pub groups: Vec<Box<str>>,
    /// The username template that was given; `None` means [`default_username`](crate::default_username).
    pub username: Option<Box<str>>,
}

/// What `UpdateAccessEntry` may change. `None` keeps what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedUpdate {
    /// The new groups, all of them.
    pub groups: Option<Vec<Box<str>>>,
    /// The new username template.
    pub username: Option<Box<str>>,
}

/// Why EKS refuses an entry; always `InvalidParameterException`. Displayed in EKS's words where they are known;
/// [`hint`](Self::hint) has the sentence that may follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFault {
    /// Not the ARN of a role, a user or a root of the cluster's partition.
    #[error("The principalArn parameter format is not valid")]
    PrincipalArn,
    /// A service-linked role.
    #[error(
        "The caller is not allowed to modify access entries with a principalArn value of a Service Linked Role"
    )]
    ServiceLinkedRole,
    /// No such type.
    #[error("The specified type is invalid: `{0}` is not one of {types}", types = TypeList(&EntryType::ALL))]
    Type(String),
    /// A node type for something that is not a role.
    #[error("AccessEntry principalArn must be IAM role when using types {types}", types = NODE_TYPES)]
    NodeRole,
    /// A node type for a role of another account.
    #[error(
        "AccessEntry principalArn must be from the same account as the cluster when using types {types}",
        types = NODE_TYPES
    )]
    NodeAccount,
    /// Groups on a node entry.
    #[error(
        "The specified kubernetesGroups is invalid: setting kubernetesGroups is not allowed when the type is \"{0}\""
    )]
    NodeGroups(EntryType),
    /// A username on a node entry.
    #[error(
        "The specified username is invalid: setting username is not allowed when the type is \"{0}\""
    )]
    NodeUsername(EntryType),
    /// The username begins with a reserved prefix.
    #[error("The username must not begin with {0}")]
    UsernamePrefix(&'static str),
    /// A group begins with a reserved prefix.
    #[error("The kubernetes group name {group} is invalid, it cannot start with {prefix}")]
    GroupPrefix {
        /// The group.
        group: String,
        /// What it begins with.
        prefix: &'static str,
    },
    /// An empty, too long or unprintable group.
    #[error(
        "The specified kubernetesGroups is invalid: a group name has 1 to {0} bytes and no control characters"
    )]
    GroupText(usize),
    /// More groups than the limit.
    #[error("The specified kubernetesGroups is invalid: {0} groups, and at most {1} are allowed")]
    TooManyGroups(usize, usize),
    /// The placeholders of the username.
    #[error("The specified username is invalid: {0}")]
    UsernameTemplate(TemplateFault),
    /// An empty, too long or unprintable username.
    #[error(
        "The specified username is invalid: a username has 1 to {0} bytes and no control characters"
    )]
    UsernameText(usize),
    /// An update of an entry of another type.
    #[error("This operation can only be performed on Access Entries with a type of \"STANDARD\".")]
    StandardOnly,
}

/// The types EKS's text lists; `HYPERPOD_LINUX` came later and is not in it.
const NODE_TYPES: TypeList<'static> = TypeList(&[
    EntryType::Ec2Linux,
    EntryType::Ec2Windows,
    EntryType::FargateLinux,
    EntryType::HybridLinux,
    EntryType::Ec2,
]);

/// Checks a new entry's values in EKS's order.
///
/// # Errors
/// The first check that fails.
pub fn check_entry(
    request: &EntryRequest<'_>,
    limits: &Limits,
) -> Result<CheckedEntry, EntryFault> {
    let principal =
        Principal::parse(request.principal_arn).map_err(|_| EntryFault::PrincipalArn)?;
    if principal.partition() != request.partition {
        return Err(EntryFault::PrincipalArn);
    }
    if principal.is_service_linked_role() {
        return Err(EntryFault::ServiceLinkedRole);
    }
    let entry_type = match request.entry_type {
        None => EntryType::Standard,
        Some(text) => text
            .parse()
            .map_err(|crate::UnknownEntryType(text)| EntryFault::Type(text))?,
    };
    let groups = request.groups.unwrap_or_default();
    if entry_type != EntryType::Standard {
        check_node(&principal, entry_type, groups, request)?;
    }
    if let Some(username) = request.username {
        check_username_prefix(username)?;
    }
    let groups = check_groups(groups, limits)?;
    if let Some(username) = request.username {
        check_username(username, principal.kind(), limits)?;
    }
    Ok(CheckedEntry {
        principal,
        entry_type,
        groups,
        username: request.username.map(Into::into),
    })
}

/// Checks an update of an entry that exists, in EKS's order: the prefix of the username comes before the type, so that
/// sending a node entry its own username back is refused for the prefix.
///
/// # Errors
/// The first check that fails.
pub fn check_update(
    entry_type: EntryType,
    principal: PrincipalKind,
    groups: Option<&[&str]>,
    username: Option<&str>,
    limits: &Limits,
) -> Result<CheckedUpdate, EntryFault> {
    if let Some(username) = username {
        check_username_prefix(username)?;
    }
    if entry_type != EntryType::Standard {
        return Err(EntryFault::StandardOnly);
    }
    let groups = groups
        .map(|groups| check_groups(groups, limits))
        .transpose()?;
    if let Some(username) = username {
        check_username(username, principal, limits)?;
    }
    Ok(CheckedUpdate {
        groups,
        username: username.map(Into::into),
    })
}

/// The groups that EKS shows and gives for entries of a type, beside the entry's own, which only `STANDARD` has.
#[must_use]
pub const fn shown_groups(entry_type: EntryType) -> &'static [&'static str] {
    match entry_type {
        EntryType::Standard => &[],
        EntryType::Ec2Linux
        | EntryType::HybridLinux
        | EntryType::Ec2
        | EntryType::HyperpodLinux => &["system:nodes"],
        EntryType::Ec2Windows => &["system:nodes", "eks:kube-proxy-windows"],
        EntryType::FargateLinux => &["system:nodes", "system:node-proxier"],
    }
}

fn check_node(
    principal: &Principal,
    entry_type: EntryType,
    groups: &[&str],
    request: &EntryRequest<'_>,
) -> Result<(), EntryFault> {
    if principal.kind() != PrincipalKind::Role {
        return Err(EntryFault::NodeRole);
    }
    if principal.account() != request.cluster_account {
        return Err(EntryFault::NodeAccount);
    }
    if !groups.is_empty() {
        return Err(EntryFault::NodeGroups(entry_type));
    }
    if request.username.is_some() {
        return Err(EntryFault::NodeUsername(entry_type));
    }
    Ok(())
}

pub(crate) fn reserved_prefix(text: &str) -> Option<&'static str> {
    RESERVED_PREFIXES
        .into_iter()
        .find(|prefix| text.starts_with(prefix))
}

fn check_username_prefix(username: &str) -> Result<(), EntryFault> {
    reserved_prefix(username).map_or(Ok(()), |prefix| Err(EntryFault::UsernamePrefix(prefix)))
}

pub(crate) fn is_name(text: &str, limits: &Limits) -> bool {
    (1..=limits.name_bytes).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn check_username(
    username: &str,
    principal: PrincipalKind,
    limits: &Limits,
) -> Result<(), EntryFault> {
    if !is_name(username, limits) {
        return Err(EntryFault::UsernameText(limits.name_bytes));
    }
    check_template(username, principal).map_err(EntryFault::UsernameTemplate)
}

pub(crate) fn check_groups(groups: &[&str], limits: &Limits) -> Result<Vec<Box<str>>, EntryFault> {
    let mut kept: Vec<Box<str>> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for group in groups {
        // The group of another entry would bring its policies wherever they are projected into RBAC.
        let own = Some(ENTRY_GROUP_PREFIX).filter(|prefix| group.starts_with(prefix));
        if let Some(prefix) = reserved_prefix(group).or(own) {
            return Err(EntryFault::GroupPrefix {
                group: group.chars().take(256).collect(),
                prefix,
            });
        }
        if !is_name(group, limits) {
            return Err(EntryFault::GroupText(limits.name_bytes));
        }
        if seen.insert(*group) {
            kept.push((*group).into());
        }
    }
    if kept.len() > limits.groups {
        return Err(EntryFault::TooManyGroups(kept.len(), limits.groups));
    }
    Ok(kept)
}

impl EntryFault {
    /// What to do about it: a sentence to set behind EKS's text, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::PrincipalArn => Some(
                "Use the full ARN of an IAM role or user including its path, for example arn:aws:iam::111122223333:role/team/Dev.",
            ),
            Self::GroupPrefix { group, .. } if group == countersign_rbac::SUPERUSERS => {
                Some("Associate the access policy AmazonEKSClusterAdminPolicy instead.")
            }
            Self::UsernamePrefix("system:") => {
                Some("The usernames of nodes are made by the server and cannot be changed.")
            }
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct TypeList<'a>(&'a [EntryType]);

/// `[EC2_LINUX, EC2]`
impl fmt::Display for TypeList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry_type) in self.0.iter().enumerate() {
            let before = if at == 0 { "[" } else { ", " };
            write!(f, "{before}{entry_type}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;

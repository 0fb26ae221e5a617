//! Mapping rules as they are kept: who they are for and what they give.

use std::fmt;
use std::sync::Arc;

use countersign_arn::{AccountId, CallerArn, CallerIdentity, CallerKind, Partition, SessionFacts};
use serde::Serialize;

use crate::finding::{Place, Position, Section};
use crate::pattern::RolePattern;
use crate::{BackendKind, Template};

/// Which rule of which backend: what a decision cites.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RuleReference {
    /// The backend.
    pub backend: BackendKind,
    /// The list in it.
    pub section: Section,
    /// The entry in the list, counted from zero.
    pub index: u32,
    /// Where the entry begins in the section's text, where known.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The object's name, for `IAMIdentityMapping`s; the principal's ARN, for access entries; name, file and line, for access rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Arc<str>>,
}

impl RuleReference {
    pub(crate) fn place(&self) -> Place {
        Place {
            section: self.section,
            entry: Some(self.index),
            position: self.position,
            object: self.object.clone(),
        }
    }
}

impl fmt::Display for RuleReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            backend,
            section,
            index,
            position,
            object,
        } = self;
        match (backend, object) {
            (BackendKind::ClusterCreator, _) => return write!(f, "{backend}"),
            (_, Some(object)) => write!(f, "{backend} {object}")?,
            (_, None) => write!(f, "{backend} {section}[{index}]")?,
        }
        match position {
            Some(position) => write!(f, " (line {})", position.line),
            None => Ok(()),
        }
    }
}

/// One mapping: the principals it is for, and the Kubernetes username and groups they get.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub rule: RuleReference,
    /// Who it is for.
    pub matcher: Matcher,
    /// The username.
    pub username: Template,
    /// The groups.
    pub groups: Box<[Template]>,
    /// What else must hold.
    pub conditions: Conditions,
}

/// Whom an entry is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// The principal with this ARN.
    Arn(ArnMatcher),
    /// The roles of an IAM Identity Center permission set in one account.
    Sso(SsoMatcher),
    /// Roles of listed accounts whose names match a glob.
    Pattern(RolePattern),
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arn(arn) => f.write_str(&arn.written),
            Self::Sso(sso) => write!(
                f,
                "permission set {} of account {}",
                sso.permission_set, sso.account
            ),
            Self::Pattern(pattern) => write!(f, "{pattern}"),
        }
    }
}

/// An ARN of an entry and what it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct ArnMatcher {
    /// As it was written.
    pub written: Box<str>,
    /// The principal it names; none if it names none, or none that this backend lets match.
    pub caller: Option<CallerArn>,
    /// The text that a caller's canonical ARN, folded to lower case but for the name of a federated user, must equal; none if nobody can match.
    pub key: Option<Box<str>>,
    /// The role's path, such as `team/ops/`, if it was stripped from the key.
    pub role_path: Option<Box<str>>,
}

/// A permission set in an account (authentication spec, section 3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SsoMatcher {
    /// The name, compared without regard to case.
    pub permission_set: Box<str>,
    /// The account.
    pub account: AccountId,
    /// The partition.
    pub partition: Partition,
}

/// What must hold beyond the principal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The unique id that the caller must have (authentication spec, rule M4).
    pub user_id: Option<Box<str>>,
    /// The session names the entry is for; all if empty.
    pub session_names: Box<[Box<str>]>,
    /// The session must have been made with MFA.
    pub require_mfa: bool,
    /// The IAM action that the caller must be allowed on the cluster.
    pub require_action: Option<Box<str>>,
    /// What `{{EC2PrivateDNSName}}` stands for.
    pub node_name: NodeNameSource,
}

/// Where a node's name comes from (authentication spec, section 8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NodeNameSource {
    /// The private DNS name of the instance.
    #[default]
    PrivateDnsName,
    /// The private DNS name, or the instance id where no name is known: nodes of Auto Mode (EKS API spec, section 7.2).
    PrivateDnsNameOrInstanceId,
    /// The instance id itself, for clusters whose nodes register with it.
    InstanceId,
    /// The value of a tag of the instance.
    Tag(Box<str>),
}

/// An account whose every principal authenticates, with its ARN as username and without groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountEntry {
    /// The account.
    pub account: AccountId,
    /// Where it stands.
    pub rule: RuleReference,
}

/// The entries of one backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entries {
    /// Role entries, in order.
    pub roles: Vec<Arc<Entry>>,
    /// User entries, in order.
    pub users: Vec<Arc<Entry>>,
    /// Accounts, in order.
    pub accounts: Vec<AccountEntry>,
}

impl Entries {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roles.len() + self.users.len() + self.accounts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Parses an ARN as entries have it: everything but names is compared without regard to case, so the head is folded
/// first (`ARN:AWS:iam::…:ROLE/Dev`).
pub(crate) fn parse_arn(text: &str) -> Option<CallerArn> {
    if let Ok(arn) = CallerArn::parse(text) {
        return Some(arn);
    }
    let head_len = text.find('/').unwrap_or(text.len());
    let (head, name) = text.split_at_checked(head_len)?;
    if head.len() > 128 {
        return None;
    }
    CallerArn::parse(&(head.to_ascii_lowercase() + name)).ok()
}

/// The canonical ARN of a caller as it is compared, handed out in parts: lower case, but the name of a federated user
/// stays as it is, because its creator chooses it (authentication spec, rule M2).
pub(crate) fn fold<'a>(arn: &'a str, kind: CallerKind, mut push: impl FnMut(&'a str, Case)) {
    let name = match kind {
        CallerKind::FederatedUser => arn.find('/').map_or(arn.len(), |at| at + 1),
        CallerKind::User | CallerKind::Role | CallerKind::Root | CallerKind::AssumedRole => {
            arn.len()
        }
    };
    let (head, name) = arn.split_at_checked(name).unwrap_or((arn, ""));
    push(head, Case::Folded);
    push(name, Case::Kept);
}

/// What [`fold`] does to a part of an ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Folded,
    Kept,
}

/// [`fold`] into a text of its own.
pub(crate) fn folded(mut arn: String, kind: CallerKind) -> Box<str> {
    let mut len = 0;
    fold(&arn, kind, |part, case| {
        if case == Case::Folded {
            len += part.len();
        }
    });
    if let Some(head) = arn.get_mut(..len) {
        head.make_ascii_lowercase();
    }
    arn.into()
}

/// No path is this, so that a path which was told but cannot be read fits nothing.
const NO_PATH: &str = "?";

/// The path of the role a session belongs to (`team/ops/`, or empty), if the STS told it.
pub(crate) fn known_role_path(identity: &CallerIdentity) -> Option<&str> {
    if !matches!(
        identity.caller().kind(),
        CallerKind::AssumedRole | CallerKind::Role
    ) {
        return None;
    }
    let facts: &SessionFacts = identity.facts()?;
    let Some((_, role)) = facts.principal_arn.split_once(":role/") else {
        return Some(NO_PATH);
    };
    Some(
        role.rfind('/')
            .and_then(|at| role.get(..=at))
            .unwrap_or_default(),
    )
}

impl ArnMatcher {
    /// Whether the path that was stripped is the real one, where the real one is known.
    pub(crate) fn path_fits(&self, identity: &CallerIdentity) -> bool {
        match (&self.role_path, known_role_path(identity)) {
            (Some(path), Some(real)) => **path == *real,
            _ => true,
        }
    }
}

impl SsoMatcher {
    /// The prefix of every role that IAM Identity Center makes.
    pub const ROLE_PREFIX: &'static str = "AWSReservedSSO_";

    /// `name` split into permission set and suffix, if it is the name of a permission set's role with exactly 16
    /// lower-case hex digits at its end.
    #[must_use]
    pub fn split_role_name(name: &str) -> Option<(&str, &str)> {
        let (set, suffix) = name.strip_prefix(Self::ROLE_PREFIX)?.rsplit_once('_')?;
        let hex = suffix.len() == 16
            && suffix
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (hex && !set.is_empty()).then_some((set, suffix))
    }
}

/// Whether a path (`aws-reserved/sso.amazonaws.com/eu-west-1/`) is where IAM Identity Center makes its roles.
pub(crate) fn is_sso_path(path: &str) -> bool {
    path.strip_prefix("aws-reserved/sso.amazonaws.com/")
        .is_some_and(|region| region.is_empty() || region.find('/') == Some(region.len() - 1))
}

//! Access rules: entries for many principals at once, off the wire (EKS API spec, section 18.1).
//!
//! EKS has none of these. A rule cannot cross accounts by construction: its account is always literal, and patterns are
//! matched against the name of a role or session only (authentication spec, section 3.11).

use std::fmt;

use countersign_arn::{AccountId, CallerArn, CallerKind, Partition, Tag};

use crate::catalogue::Catalogue;
use crate::entry_type::EntryType;
use crate::file::FileError;
use crate::glob;
use crate::scope::AccessScope;
use crate::username::{ExpandFault, UsernameFacts, expand_username};

/// A rule that gives every principal it matches an effective entry of type `STANDARD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// The name, unique among the rules.
    pub name: Box<str>,
    /// The clusters it is for; empty means all.
    pub clusters: Box<[Box<str>]>,
    /// Whom it is for.
    pub matcher: Matcher,
    /// The username template; `None` means the default of an entry for the principal.
    pub username: Option<Box<str>>,
    /// The groups.
    pub groups: Box<[Box<str>]>,
    /// Policies by name or ARN with their scopes, as they were written.
    pub(crate) written: Box<[(Box<str>, AccessScope)]>,
    /// Policy ARNs with their scopes, in byte order of the ARNs. Filled by [`AccessRules::new`].
    pub(crate) associations: Box<[(Box<str>, AccessScope)]>,
    /// File and line.
    pub origin: Box<str>,
}

/// Whom a rule is for. Everything that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    /// The account.
    pub account: AccountId,
    /// The partition.
    pub partition: Partition,
    /// Which principals of the account.
    pub who: Who,
    /// A pattern for the session name, whose case does not count. Only together with a role, since whoever assumes a role
    /// chooses the session name.
    pub session_name: Option<Box<str>>,
    /// Tags that the role or user must have; only where the principal's tags are known.
    pub tags: Box<[Tag]>,
}

/// Which principals of an account a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Sessions of an Identity Center permission set: roles named `AWSReservedSSO_NAME_` and 16 hexadecimal digits.
    PermissionSet(Box<str>),
    /// Sessions of roles whose name matches a pattern.
    Roles {
        /// The path with a slash at the end, `team/`; empty matches any path. Only where the real path is known.
        path: Box<str>,
        /// The pattern: `*` is any run of characters, `?` is one. Case does not count.
        name: Box<str>,
    },
    /// Users who are members of an IAM group; only where groups are known.
    Group(Box<str>),
    /// Everyone: users, roles and the root.
    Everyone,
}

/// Who is to be matched, and what is known of them. What is not known does not match.
#[derive(Debug, Clone, Copy)]
pub struct RuleSubject<'a> {
    /// The caller: a user, a role session or a root. Federated users match nothing.
    pub caller: &'a CallerArn,
    /// The path of the role as IAM knows it, between slashes: `/team/`.
    pub role_path: Option<&'a str>,
    /// The tags of the user or role.
    pub principal_tags: Option<&'a [Tag]>,
    /// The IAM groups of the user.
    pub iam_groups: Option<&'a [Box<str>]>,
}

/// The rules of all files.
#[derive(Debug, Clone, Default)]
pub struct AccessRules {
    rules: Box<[AccessRule]>,
}

/// Rules of entries that come from access rules are told by this beginning of their id.
pub const RULE_ID_PREFIX: &str = "rule-";

// === impl AccessRules ===

impl AccessRules {
    /// Takes the rules of any number of files and looks up their policies.
    ///
    /// # Errors
    /// When two rules have one name, or a policy does not exist, is reserved for service-linked roles, or is named
    /// twice by one rule.
    pub fn new(
        rules: impl IntoIterator<Item = AccessRule>,
        catalogue: &Catalogue,
    ) -> Result<Self, FileError> {
        let mut rules: Vec<AccessRule> = rules.into_iter().collect();
        let mut names = std::collections::HashSet::new();
        for rule in &mut rules {
            if !names.insert(rule.name.clone()) {
                let message = format!("`{}` is the name of another rule", rule.name);
                return Err(rule.error("accessRules[].name", message));
            }
            rule.resolve(catalogue)?;
        }
        Ok(Self {
            rules: rules.into(),
        })
    }

    /// The rule that a caller without an entry of its own gets on a cluster.
    ///
    /// Permission sets come before patterns, those before groups, and those before whole accounts; among equals the one
    /// with more literal characters, then more conditions, then the last.
    #[must_use]
    pub fn find(&self, cluster: &str, subject: &RuleSubject<'_>) -> Option<&AccessRule> {
        self.rules
            .iter()
            .filter(|rule| rule.is_for_cluster(cluster) && rule.matcher.matches(subject))
            .max_by_key(|rule| rule.matcher.rank())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Every rule, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = &AccessRule> {
        self.rules.iter()
    }
}

// === impl AccessRule ===

impl AccessRule {
    /// The id of the rule where an entry has its uuid: `rule-NAME`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{RULE_ID_PREFIX}{}", self.name)
    }

    /// The rule for people, with its place, `platform (FILE:LINE)`.
    #[must_use]
    pub fn cited(&self) -> String {
        format!("{} ({})", self.name, self.origin)
    }

    /// What stands behind the reason of a decision that the rule made: ` by access rule "platform" (FILE:LINE)`, the file
    /// without its folder, since whoever is refused reads it too.
    #[must_use]
    pub fn reason(&self) -> String {
        let (_, origin) = self.origin.rsplit_once('/').unwrap_or(("", &self.origin));
        format!(" by access rule \"{}\" ({origin})", self.name)
    }

    /// Policy ARNs and scopes, in byte order of the ARNs, as [`EntryView`](crate::EntryView) takes them.
    pub fn associations(&self) -> impl Iterator<Item = (&str, &AccessScope)> + Clone {
        self.associations.iter().map(|(arn, scope)| (&**arn, scope))
    }

    /// Whether the rule is for a cluster.
    #[must_use]
    pub fn is_for_cluster(&self, cluster: &str) -> bool {
        self.clusters.is_empty() || self.clusters.iter().any(|name| **name == *cluster)
    }

    /// The username of a caller that the rule matched.
    ///
    /// # Errors
    /// When a value is missing or would make a reserved name. The caller is then not authenticated.
    pub fn username_of(&self, caller: &CallerArn) -> Result<String, ExpandFault> {
        let role = caller.kind() == CallerKind::AssumedRole;
        let Some(template) = &self.username else {
            return Ok(if role {
                format!(
                    "arn:{}:sts::{}:assumed-role/{}/{}",
                    caller.partition(),
                    caller.account(),
                    caller.name(),
                    caller.session().replace('@', "-")
                )
            } else {
                caller.canonical()
            });
        };
        let facts = UsernameFacts {
            session_name: caller.session(),
            node_name: None,
            role_name: if role { caller.name() } else { "" },
            account: caller.account_str(),
        };
        expand_username(template, EntryType::Standard, &facts)
    }

    fn resolve(&mut self, catalogue: &Catalogue) -> Result<(), FileError> {
        let Matcher {
            account, partition, ..
        } = self.matcher;
        let mut associations: Vec<(Box<str>, AccessScope)> = Vec::new();
        for (written, scope) in &self.written {
            let refused = |what: String| self.error("accessRules[].policies", what);
            let named = catalogue.named(written);
            let arn = match named {
                Some(policy) => policy
                    .arn(partition, account)
                    .ok_or_else(|| refused(format!("`{written}` belongs to another account")))?,
                None => crate::PolicyArn::parse(written, partition)
                    .map_err(|_| refused(format!("there is no policy `{written}`")))?,
            };
            let policy = catalogue
                .find(&arn)
                .ok_or_else(|| refused(format!("there is no policy `{written}`")))?;
            if policy.service_linked_roles_only {
                return Err(refused(format!(
                    "`{written}` can only be associated with service-linked roles"
                )));
            }
            let arn: Box<str> = arn.to_string().into();
            if associations.iter().any(|(other, _)| *other == arn) {
                return Err(refused(format!(
                    "`{written}` is there twice; give all namespaces in one place"
                )));
            }
            associations.push((arn, scope.clone()));
        }
        associations.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.associations = associations.into();
        Ok(())
    }

    fn error(&self, field: &str, message: String) -> FileError {
        FileError::at_origin(Some(&self.origin), field, message)
    }
}

// === impl Matcher ===

impl Matcher {
    /// Whether the rule is for someone.
    #[must_use]
    pub fn matches(&self, subject: &RuleSubject<'_>) -> bool {
        let caller = subject.caller;
        caller.account() == self.account
            && caller.partition() == self.partition
            && self.who.matches(subject)
            && self.session_name.as_ref().is_none_or(|pattern| {
                caller.kind() == CallerKind::AssumedRole
                    && glob::matches_name(pattern, caller.session())
            })
            && self.has_tags(subject.principal_tags)
    }

    fn has_tags(&self, known: Option<&[Tag]>) -> bool {
        let Some(known) = known else {
            return self.tags.is_empty();
        };
        self.tags.iter().all(|wanted| {
            known
                .iter()
                .any(|tag| tag.key.eq_ignore_ascii_case(&wanted.key) && tag.value == wanted.value)
        })
    }

    /// What decides between two rules that match.
    fn rank(&self) -> (u8, usize, usize) {
        let literals = |pattern: &str| pattern.bytes().filter(|b| !b"*?".contains(b)).count();
        let (class, length) = match &self.who {
            Who::PermissionSet(name) => (3, name.len()),
            Who::Roles { path, name } => (2, path.len() + literals(name)),
            Who::Group(name) => (1, name.len()),
            Who::Everyone => (0, 0),
        };
        let session = self.session_name.as_deref().map_or(0, literals);
        (
            class,
            length + session,
            self.tags.len() + usize::from(self.session_name.is_some()),
        )
    }
}

impl Who {
    fn matches(&self, subject: &RuleSubject<'_>) -> bool {
        let caller = subject.caller;
        // An assumed-role ARN with more than a role and a session is nothing that AWS makes.
        let role = Some(caller.name()).filter(|name| {
            caller.kind() == CallerKind::AssumedRole && *name == caller.path_and_name()
        });
        match self {
            Self::PermissionSet(set) => role.is_some_and(|role| is_role_of(set, role)),
            Self::Roles { path, name } => {
                let path_fits = path.is_empty()
                    || subject.role_path.is_some_and(|known| {
                        known
                            .strip_prefix('/')
                            .is_some_and(|known| *known == **path)
                    });
                path_fits && role.is_some_and(|role| glob::matches_name(name, role))
            }
            Self::Group(group) => {
                caller.kind() == CallerKind::User
                    && subject
                        .iam_groups
                        .is_some_and(|groups| groups.iter().any(|g| g.eq_ignore_ascii_case(group)))
            }
            Self::Everyone => {
                role.is_some() || matches!(caller.kind(), CallerKind::User | CallerKind::Root)
            }
        }
    }
}

/// Whether a role was made for a permission set: `AWSReservedSSO_SET_` and exactly 16 hexadecimal digits. A set whose
/// name is longer has other roles.
fn is_role_of(set: &str, role: &str) -> bool {
    let rest = role
        .strip_prefix("AWSReservedSSO_")
        .and_then(|rest| rest.split_at_checked(set.len()))
        .filter(|(name, _)| name.eq_ignore_ascii_case(set));
    let suffix = rest.and_then(|(_, rest)| rest.strip_prefix('_'));
    suffix.is_some_and(|suffix| {
        suffix.len() == 16
            && suffix
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// For lists of entries: `permission set Admin of account 444455556666`.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::PermissionSet(set) => write!(f, "permission set {set}")?,
            Who::Roles { path, name } => write!(f, "roles {path}{name}")?,
            Who::Group(group) => write!(f, "members of group {group}")?,
            Who::Everyone => f.write_str("everyone")?,
        }
        write!(f, " of account {}", self.account)?;
        if let Some(session) = &self.session_name {
            write!(f, ", sessions named {session}")?;
        }
        for tag in &self.tags {
            write!(f, ", tagged {}={}", tag.key, tag.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;

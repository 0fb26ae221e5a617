//! Why a caller gets no Kubernetes identity.

use std::fmt;

use countersign_arn::CallerIdentity;
use serde::{Serialize, Serializer};

use crate::BackendKind;
use crate::chain::{Chain, HeldEntry};
use crate::entry::RuleReference;
use crate::instance::InstanceMismatch;
use crate::nearest::{self, NearestMiss};
use crate::table::Mismatch;
use crate::template::RenderError;

/// An objection of one backend that does not stop the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendError {
    /// What contradicts the caller.
    pub mismatch: Mismatch,
    /// The entry.
    pub rule: RuleReference,
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mismatch {
            Mismatch::Arn => write!(f, "ARN does not match User ID in {}", self.rule),
            Mismatch::UserId => {
                write!(
                    f,
                    "the principal was deleted and made again: {} is for another User ID",
                    self.rule
                )?;
                if self.rule.backend == BackendKind::AccessEntries {
                    f.write_str(
                        "; delete and create the access entry, or run `countersign access rebind`",
                    )?;
                }
                Ok(())
            }
            Mismatch::Unbound => write!(
                f,
                "{} is bound to no unique id yet, and `principalBinding: strict` does not bind it; \
                 delete and create it where its principal can be looked up, or run `countersign access rebind`",
                self.rule
            ),
        }
    }
}

/// Why a caller is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DenyReason {
    /// No backend knows the caller.
    NotMapped,
    /// An entry has the caller's ARN, but the unique id of an earlier principal of that name.
    PrincipalRecreated,
    /// An access entry for the caller's name has no unique id yet, and must not take the caller's.
    PrincipalNotBound,
    /// An entry has the caller's unique id, but another ARN.
    ArnMismatch,
    /// The entry asks for a session made with MFA.
    MfaRequired,
    /// The entry asks for an IAM action that the caller is not allowed, or nobody has asked.
    ActionNotAllowed,
    /// The username needs an instance, but the session name is no instance id.
    NotAnInstance,
    /// Nothing is known about the instance.
    InstanceUnknown,
    /// The instance has no name yet, or none that a node can have.
    InstanceNameEmpty,
    /// The instance cannot be the caller's.
    Instance(InstanceMismatch),
    /// The username or a group cannot be rendered.
    Template(RenderError),
    /// The rendered username is empty, too long, or has characters it must not have.
    InvalidUsername,
    /// A rendered group is too long or has characters it must not have.
    InvalidGroup,
    /// The rendered username begins with a prefix that is reserved for this backend.
    ReservedUsername {
        /// The backend.
        backend: BackendKind,
        /// The username.
        username: String,
        /// All reserved prefixes of the backend.
        prefixes: Vec<String>,
    },
    /// A node's username from an entry that may not give one.
    NodeUsername,
    /// A group that this backend may not give.
    PrivilegedGroup(String),
}

impl DenyReason {
    /// The code for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotMapped => "not_mapped",
            Self::PrincipalRecreated => "principal_recreated",
            Self::PrincipalNotBound => "principal_not_bound",
            Self::ArnMismatch => "arn_user_id_mismatch",
            Self::MfaRequired => "mfa_required",
            Self::ActionNotAllowed => "action_not_allowed",
            Self::NotAnInstance => "not_an_instance",
            Self::InstanceUnknown => "instance_unknown",
            Self::InstanceNameEmpty => "instance_name_empty",
            Self::Instance(_) => "instance_mismatch",
            Self::Template(_) => "template",
            Self::InvalidUsername => "invalid_username",
            Self::InvalidGroup => "invalid_group",
            Self::ReservedUsername { .. } => "reserved_username",
            Self::NodeUsername => "node_username",
            Self::PrivilegedGroup(_) => "privileged_group",
        }
    }

    /// Every code, for the metric's closed set of labels.
    pub const CODES: [&'static str; 16] = [
        "not_mapped",
        "principal_recreated",
        "principal_not_bound",
        "arn_user_id_mismatch",
        "mfa_required",
        "action_not_allowed",
        "not_an_instance",
        "instance_unknown",
        "instance_name_empty",
        "instance_mismatch",
        "template",
        "invalid_username",
        "invalid_group",
        "reserved_username",
        "node_username",
        "privileged_group",
    ];
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped => f.write_str("identity is not mapped"),
            Self::PrincipalRecreated => f.write_str("principal was deleted and made again"),
            Self::PrincipalNotBound => f.write_str("the access entry is bound to no unique id"),
            Self::ArnMismatch => f.write_str("ARN does not match User ID"),
            Self::MfaRequired => f.write_str("the mapping requires a session made with MFA"),
            Self::ActionNotAllowed => {
                f.write_str("the mapping requires an IAM action that the caller is not allowed")
            }
            Self::NotAnInstance => f.write_str("SessionName did not contain an instance id"),
            Self::InstanceUnknown => f.write_str("the instance was not found"),
            Self::InstanceNameEmpty => f.write_str("the instance has no usable name yet"),
            Self::Instance(mismatch) => write!(f, "{mismatch}"),
            Self::Template(error) => write!(f, "{error}"),
            Self::InvalidUsername => f.write_str(
                "the username must have 1 to 1024 bytes, without control characters or white space at its ends",
            ),
            Self::InvalidGroup => f.write_str(
                "a group must have at most 1024 bytes, without control characters or white space at its ends",
            ),
            // The reference writes "with" twice and prints the list in brackets; log searches rely on it.
            Self::ReservedUsername {
                backend,
                username,
                prefixes,
            } => write!(
                f,
                "invalid username '{username}' for mapper {backend}: username must not begin with with the following prefixes: [{}]",
                prefixes.join(" ")
            ),
            Self::NodeUsername => f.write_str(
                "a node's username may only come from an entry with a node template and the group system:nodes",
            ),
            Self::PrivilegedGroup(group) => {
                write!(f, "group `{group}` may not be given by this backend")
            }
        }
    }
}

impl Serialize for DenyReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// A denial, not yet explained.
#[derive(Debug, Clone)]
pub struct Denied<'c> {
    chain: &'c Chain,
    entry: Option<HeldEntry<'c>>,
    reason: DenyReason,
    errors: Vec<BackendError>,
}

impl<'c> Denied<'c> {
    pub(crate) fn not_mapped(chain: &'c Chain, errors: Vec<BackendError>) -> Self {
        let reason = match errors.first().map(|error| error.mismatch) {
            None => DenyReason::NotMapped,
            Some(Mismatch::UserId) => DenyReason::PrincipalRecreated,
            Some(Mismatch::Arn) => DenyReason::ArnMismatch,
            Some(Mismatch::Unbound) => DenyReason::PrincipalNotBound,
        };
        Self {
            chain,
            entry: None,
            reason,
            errors,
        }
    }

    pub(crate) fn by_rule(
        chain: &'c Chain,
        entry: HeldEntry<'c>,
        reason: DenyReason,
        errors: Vec<BackendError>,
    ) -> Self {
        Self {
            chain,
            entry: Some(entry),
            reason,
            errors,
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &DenyReason {
        &self.reason
    }

    /// The rule that matched and could not be applied, if one did.
    #[must_use]
    pub fn rule(&self) -> Option<&RuleReference> {
        self.entry.as_ref().map(|entry| &entry.rule)
    }

    /// What backends objected to.
    #[must_use]
    pub fn errors(&self) -> &[BackendError] {
        &self.errors
    }

    /// The denial with everything a person needs: text and nearest misses. Looks at a bounded number of entries.
    #[must_use]
    pub fn explain(self, identity: &CallerIdentity) -> Box<MappingDenied> {
        let nearest = match self.entry {
            Some(_) => Vec::new(),
            None => nearest::misses(self.chain, identity),
        };
        let mut denied = self.into_owned();
        denied.nearest = nearest;
        denied
    }

    pub(crate) fn into_owned(self) -> Box<MappingDenied> {
        let text = match &self.entry {
            None if self.errors.is_empty() => self.reason.to_string(),
            None => self
                .errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
            Some(entry) => by_rule(&self.reason, &entry.rule),
        };
        Box::new(MappingDenied {
            reason: self.reason,
            text,
            rule: self.entry.as_ref().map(|entry| entry.rule.clone()),
            errors: self.errors,
            nearest: Vec::new(),
        })
    }
}

fn by_rule(reason: &DenyReason, rule: &RuleReference) -> String {
    match reason {
        DenyReason::ReservedUsername { .. } => reason.to_string(),
        DenyReason::NotAnInstance => format!(
            "{reason}: {rule} is a mapping for nodes; people and programs need another role with a mapping of its own"
        ),
        reason => format!("{reason} ({rule})"),
    }
}

/// A denial with everything a person needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct MappingDenied {
    /// Why.
    pub reason: DenyReason,
    /// One sentence, without secrets.
    pub text: String,
    /// The rule that matched and could not be applied.
    pub rule: Option<RuleReference>,
    /// What backends objected to.
    pub errors: Vec<BackendError>,
    /// Rules that almost match.
    pub nearest: Vec<NearestMiss>,
}

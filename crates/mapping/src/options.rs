//! What an operator can choose about mappings.

use std::collections::BTreeMap;

use countersign_arn::{AccountId, Partition};

use crate::BackendKind;

/// Who verifies callers, and so what is known about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Authority {
    /// Real AWS STS: neither role paths nor tags nor MFA are known.
    #[default]
    Aws,
    /// The embedded IAM and STS: everything is known.
    Embedded,
}

/// How the role name of an `sso` entry may end (authentication spec, section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SsoSuffix {
    /// `_` and exactly 16 lower-case hex digits, so that `Admin` does not match the roles of `Admin_ReadOnly`.
    #[default]
    Exact,
    /// `_` and anything, as the reference has it.
    Any,
}

/// How entries are read and compared.
///
/// Defaults: partition `aws`, real AWS STS, role paths stripped with a warning, exact suffix of permission set roles,
/// DynamicFile keyed by ARN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MappingOptions {
    /// The server's partition; `sso` and `roleMatch` entries without one belong to it.
    pub partition: Partition,
    /// Who verifies callers.
    pub authority: Authority,
    /// Refuse role ARNs with a path instead of stripping it: a role deleted and made again under another path by a
    /// less trusted administrator would inherit the mapping. Without effect when the embedded IAM tells real paths.
    pub strict_role_path: bool,
    /// How the role names of permission sets end.
    pub sso_suffix: SsoSuffix,
    /// DynamicFile entries are found by `userid`, and their ARN must fit as well.
    pub dynamic_file_user_id_strict: bool,
}

/// What happens to a section of `aws-auth` that does not parse (authentication spec, section 3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnParseError {
    /// The last good version of that section stays in force.
    #[default]
    KeepLastGood,
    /// The section counts as empty, as in the reference: one slip disconnects every node.
    DropSection,
}

/// Which backends may give out `system:node:` usernames (authentication spec, section 3.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeUsernames {
    /// Any entry; odd ones are linted.
    #[default]
    Lint,
    /// Only entries whose username is exactly a node template and whose groups contain `system:nodes`.
    Require,
}

/// Whether the instance behind `{{EC2PrivateDNSName}}` must fit the caller (authentication spec, section 3.10).
///
/// Whoever may assume a node role by hand can set the session name to another instance's id and become that node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyInstanceRole {
    /// What is known about the instance must fit; what is not known is not asked.
    #[default]
    WhatIsKnown,
    /// Role, account and state must be known and fit.
    Require,
    /// Nothing is compared.
    Off,
}

/// Usernames that one backend must not give out (authentication spec, section 3.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedPrefixes {
    /// The backend.
    pub backend: BackendKind,
    /// Case-sensitive prefixes of rendered usernames; an empty one matches nothing.
    pub prefixes: Vec<String>,
}

/// What is checked and written when a mapping is rendered.
///
/// Defaults: nothing is reserved, node usernames and privileged groups are linted only, what is known about an
/// instance must fit, no account is scrubbed, and the rule that matched is not written into `extra`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainOptions {
    /// Reserved username prefixes by backend.
    pub reserved_prefixes: Vec<ReservedPrefixes>,
    /// Who may be a node.
    pub node_usernames: NodeUsernames,
    /// Groups that only the listed backends may give out. The cluster creator's entry is not fenced.
    pub privileged_groups: BTreeMap<String, Vec<BackendKind>>,
    /// Checks of the instance behind a node.
    pub verify_instance_role: VerifyInstanceRole,
    /// Accounts whose identities stay out of `uid`, `extra` and the logs.
    pub scrubbed_accounts: Vec<AccountId>,
    /// Write the backend and rule that matched into `extra`.
    pub mapping_extras: bool,
}

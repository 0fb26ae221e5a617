//! The whole decision, in one place: from a principal of IAM to the rule that lets it in, or to what would.
//!
//! ```text
//!   principal ──► access entry ──────────────┐ username, groups ──► system:masters
//!        │        (by unique id, not by ARN) │                 ├──► access policies of the entry (scope, rule)
//!        ├──────► creator (CONFIG_MAP) ──────┤                 └──► bindings ──► roles ──► rules
//!        └──────► aws-auth ──────────────────┘                              │
//!                                                        Review: every step │ nearest misses, what would help
//! ```
//!
//! It joins the deciding crates and decides nothing itself: mapping finds aws-auth's rule, access the policy's, rbac the
//! role's. It is a crate of its own because it needs all of them, while none of them needs another.
//!
//! Nothing here reads a clock, a socket or a file.

mod access_rules;
mod action;
mod advice;
mod identify;
mod model;
mod policies;
mod principal;
mod rbac;
mod report;
mod rules;
mod snapshot;
mod text;

pub use action::{AskFault, Asked, Words};
pub use model::{Model, Parts};
pub use policies::Policies;
pub use principal::{Principal, PrincipalFault, Standing, Subject, User};
pub use report::{
    Caller, Grant, Help, IdentityReport, Mapping, MappingSource, Near, ObjectReport, PolicyVerdict,
    Review, RuleReport,
};
pub use rules::{RuleRow, Rules};
pub use snapshot::{
    API_VERSION, AccessSnapshot, ClusterFacts, CreatorFacts, EntryBinding, EntryFacts,
    MAX_SNAPSHOT, Mode, NotASnapshot, PolicyFacts, PrincipalFacts, ScopeFacts, ScopeKind,
    policy_name,
};
pub use text::printable;

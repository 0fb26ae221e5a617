//! Access entries and access policies of EKS, decided the way EKS decides them (EKS API spec, sections 7 to 9).
//!
//! ```text
//!   CreateAccessEntry ─── check_entry ──► CheckedEntry      AssociateAccessPolicy ─── Catalogue::check, check_scope
//!
//!   data/access-policies.json ─┐                         SubjectAccessReview
//!   custom policies, a file ───┴► Catalogue                    │ caller::principal_of
//!                                    │ CompiledPolicies::new   ▼
//!                                    └──────────────────► authorize(EntryView, Action)
//!                                                              │
//!                                            Allow (EKS's reason) │ no opinion, and what was nearest
//! ```
//!
//! Nothing here reads a clock, a socket or a file.

mod aggregated;
mod authorize;
pub mod caller;
mod catalogue;
mod compiled;
mod entry;
mod entry_type;
mod file;
mod glob;
mod limits;
mod nearest;
mod policy_arn;
mod principal;
pub mod projection;
mod rules;
mod scope;
mod username;

pub use aggregated::{AggregatedRule, AggregatedRules};
pub use authorize::{
    AccessDecision, CompiledPolicies, EntryView, Granted, GrantingRule, NoOpinion,
};
pub use catalogue::{
    AccessPolicy, AggregateLabel, Catalogue, CatalogueRule, DerivedRules, Owner, RuleNames,
    RulesStatus, TypicalScope,
};
pub use entry::{
    CheckedEntry, CheckedUpdate, EntryFault, EntryRequest, RESERVED_PREFIXES, check_entry,
    check_update, shown_groups,
};
pub use entry_type::{EntryType, UnknownEntryType};
pub use file::{AccessFile, FileError, FileOptions, MAX_FILE};
pub use limits::Limits;
pub use nearest::{NearMiss, Obstacle};
pub use policy_arn::{PolicyArn, PolicyArnFault, PolicyOwner};
pub use principal::{NotAPrincipal, Principal, PrincipalKind};
pub use rules::{AccessRule, AccessRules, Matcher, RULE_ID_PREFIX, RuleSubject, Who};
pub use scope::{AccessScope, ScopeFault, check_scope};
pub use username::{
    ExpandFault, TemplateFault, UsernameFacts, default_username, expand_username, needs_node_name,
};

#[doc(hidden)]
pub mod fuzz;

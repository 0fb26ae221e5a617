//! IAM caller identity to Kubernetes identity: `aws-auth`, mapping files, `IAMIdentityMapping`s. And the verified ID token of
//! a person to Kubernetes identity: [`PersonRules`].
//!
//! ```text
//!   aws-auth text ──┐ parse: entries + findings, broken sections kept apart
//!   config file ────┤
//!   dynamic file ───┼──► Entries ──► MappingTable (indexed) ──┐
//!   objects ────────┘                                        ▼
//!                     CallerIdentity ─────────────────► Chain::map
//!                                                            │ Mapped: rule, templates, "look up i-0abc…"
//!                                                            ▼
//!                     Ec2Facts (if asked for) ──────► Mapped::render ──► KubernetesIdentity | MappingDenied
//! ```
//!
//! Everything here is pure: no I/O, no clock. A decision cites its rule, and a denial says which rules almost matched.
//!
//! What a verified token proves is control of credentials, not the session name: whoever may assume a role chooses it,
//! unless the trust policy pins `sts:RoleSessionName`. `{{SessionName}}` in a username is a label for audit, an input of
//! authorization only with such a trust policy; the findings say so where it matters.

mod backend;
mod chain;
mod decision;
mod decode;
mod entry;
mod finding;
mod identity;
mod instance;
mod json;
mod lint;
mod nearest;
mod options;
mod pattern;
mod person;
mod render;
mod source;
mod table;
mod template;
mod tree;
mod yaml;

pub use backend::{BackendKind, BackendModes, InvalidBackendModes};
pub use chain::{AccountAllowed, Backend, Chain, EntryLookup, LookedUp, Mapped, MappingDecision};
pub use decision::{BackendError, Denied, DenyReason, MappingDenied};
pub use entry::{
    AccountEntry, ArnMatcher, Conditions, Entries, Entry, Matcher, NodeNameSource, RuleReference,
    SsoMatcher,
};
pub use finding::{Code, Finding, Position, Section, Severity};
pub use identity::{
    Extra, KubernetesIdentity, MAPPING_BACKEND, MAPPING_RULE, PRINCIPAL_ID, SOURCE_IDENTITY,
};
pub use instance::{Ec2Facts, Ec2InstanceId, InstanceMismatch, InstanceState};
pub use nearest::{MissKind, NearestMiss};
pub use options::{
    Authority, ChainOptions, MappingOptions, NodeUsernames, OnParseError, ReservedPrefixes,
    SsoSuffix, VerifyInstanceRole,
};
pub use pattern::{NameGlob, RolePattern};
pub use person::{CREDENTIAL_ID, PersonRefused, PersonRules, Reserved, canonical_issuer};
pub use render::RenderInputs;
pub use source::{config_map, crd, dynamic_file, mounted_file};
pub use table::{MappingTable, Mismatch};
pub use template::{RenderError, Template, Variable};
pub use yaml::BrokenText;

#[doc(hidden)]
pub mod fuzz;

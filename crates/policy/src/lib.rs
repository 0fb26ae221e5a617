//! The IAM policy language: read, check, compile, decide, explain, lint, compare.
//!
//! Everything here is a function of its arguments: no clock, no file, no socket. Rules and numbers are those of the policy language
//! spec; "section" in these comments means a section of it.
//!
//! ```text
//!   text ── Document::parse ──▶ Document ── Policy::compile ──▶ Policy ──┐ shared, indexed by service and action
//!            │ validate: what IAM answers on write                       ▼
//!            │ lint: everything that is wrong       Layers: identity · boundary · session · scp · rcp · endpoint · resource
//!            ▼                                                           │
//!          Problem                     Request: principal · action · resource · context
//!                                                                        ▼
//!                                       decide ──▶ Decision      explain ──▶ Explanation
//! ```
//!
//! [`decide`] allocates nothing and looks only at statements that name the action's service. [`explain::explain`] is a second pass over the
//! same compiled form and gives the same answer, with every reason.

mod arn_pattern;
mod bytes;
mod compiled;
mod condition;
mod context;
mod cover;
pub mod diff;
mod document;
mod evaluate;
pub mod explain;
mod fold;
pub mod lint;
mod pattern;
mod presence;
mod problem;
mod request;
pub mod simulate;
pub mod tables;
mod text;
pub mod validate;
mod variable;
mod words;

pub use compiled::{Grant, Policy, PolicyKind};
pub use context::{Context, ContextValue};
pub use document::{
    ConditionBlock, ConditionKey, Document, DocumentError, Effect, ListElement, PrincipalElement,
    PrincipalEntry, PrincipalIds, PrincipalKind, PrincipalSlot, Statement, Text, Version,
    size_without_whitespace,
};
pub use evaluate::{
    AssumeRole, AssumeRoleDenied, Attached, Decision, Layer, LayerSet, Layers, Level, Outcome,
    PolicySet, Route, Source, SpecialRule, StatementAt, blocked_by, decide, decide_assume_role,
};
pub use presence::{
    AssumeFacts, CallFacts, CallerFacts, Claim, Mfa, Organization, ResourceFacts, ServiceSource,
    session_tags,
};
pub use problem::Problem;
pub use request::{
    Action, Credentials, InvalidPrincipal, NotAResource, NotAnAction, Principal, PrincipalType,
    Request,
};
pub use text::{Lines, Position, Span, SyntaxError};

pub(crate) use words::nearest;

#[doc(hidden)]
pub mod fuzz;

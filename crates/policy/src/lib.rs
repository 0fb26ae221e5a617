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
//!
//! ```
//! use std::sync::Arc;
//! use countersign_policy::{Action, Attached, Context, Policy, PolicyKind, PolicySet, Principal, Request, decide};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::parse(
//!     r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:Get*",
//!         "Resource": "arn:aws:s3:::home/${aws:username}/*"}}"#,
//!     PolicyKind::Identity,
//! )?;
//! let set = PolicySet {
//!     identity: vec![Attached::new(Arc::new(policy), "home")],
//!     ..PolicySet::default()
//! };
//! let principal = Principal::user("arn:aws:iam::111122223333:user/ana", None)?;
//! let action = Action::parse("s3:GetObject")?;
//! let mut context = Context::new();
//! context.set("aws:username", "ana");
//! let request = Request::new(&principal, &action, "arn:aws:s3:::home/ana/notes", &context)?;
//! assert!(decide(&request, &set.layers()).is_allowed());
//! # Ok(())
//! # }
//! ```

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
pub mod simulator;
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

//! Kubernetes RBAC, decided the way kube-apiserver decides it, and explained.
//!
//! ```text
//!   manifests, dumps, watches                     HTTP request │ SubjectAccessReview │ person
//!        │ read_json, Manifest                                 │ HttpAction, AccessReview
//!        ▼                                                     ▼
//!     Object ── Index::build / apply ──► Index ◄── authorize ─ Request
//!                                          │
//!        ┌───────────────┬─────────────────┼───────────────────┬────────────────┐
//!        ▼               ▼                 ▼                   ▼                ▼
//!     Decision        WhoCan           RulesFor        check_role_write   Target::check
//!   (chain, or       (who may)      (what may one)    check_binding_write (impersonation)
//!  nearest misses)                                      (escalation)
//! ```
//!
//! - [`Index`] holds roles and bindings; [`Index::authorize`] answers a [`Request`] without allocating, whatever the
//!   number of bindings, and says by which binding, role and rule. A "no" explains itself when asked.
//! - [`Catalog`] knows what a cluster serves and where it lives, which the authorizer does not.
//! - [`review`] is the wire: SubjectAccessReview (`v1` and `v1beta1`) and its siblings.
//!
//! Nothing here reads a clock, a socket or a file.

mod authorize;
mod catalog;
mod covers;
mod decision;
mod defaults;
mod enumerate;
mod escalation;
mod http;
pub mod impersonation;
mod index;
mod message;
mod nearest;
mod object;
mod quote;
mod read;
mod request;
pub mod review;
mod rule;
pub mod selector;
mod validate;
mod who_can;

pub use catalog::{Catalog, Resource, Scope, Settled};
pub use covers::{MAX_COMPARISONS, TooManyPieces, compact, describe, uncovered};
pub use decision::{Chain, Decision, NoOpinion};
pub use defaults::{KUBERNETES_VERSION, default_objects, is_default};
pub use enumerate::{RulesFor, Vain};
pub use escalation::{AuthorizedBy, EscalationRefused, Permitted};
pub use http::{HttpAction, HttpActionError};
pub use index::{Change, Drift, EffectiveRule, Index, ObjectKey, Origin, Refused, Unread};
pub use message::{forbidden, forbidden_object};
pub use nearest::{NearMiss, Obstacle, Suspect};
pub use object::{
    ANONYMOUS, AUTHENTICATED, AggregationRule, Binding, BindingKind, Identity, LabelRequirement,
    LabelSelector, Metadata, NODES, Object, PolicyRule, RBAC_GROUP, Role, RoleKind, RoleRef,
    SERVICE_ACCOUNT_PREFIX, SUPERUSERS, Subject, UNAUTHENTICATED, split_node,
    split_service_account,
};
pub use read::{
    MAX_OBJECT_BYTES, Manifest, ManifestSubject, Problem, Read, ReadError, TypeMeta, read_json,
};
pub use request::{Action, Groups, GroupsIter, Request, ResourceAction, User, implied_groups};
pub use rule::Part;
pub use validate::{Violation, validate, validate_update};
pub use who_can::{Where, WhoCan};

#[doc(hidden)]
pub mod fuzz;

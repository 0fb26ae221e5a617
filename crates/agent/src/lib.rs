//! The node agent of EKS Pod Identity: pods ask it for credentials, and it asks the auth service.
//!
//! ```text
//!   pod ── GET /v1/credentials, its token ──▶ listen ──▶ request · token · pods     checks in their order, pure
//!                                                            │
//!                                        cache ◀─────────────┘
//!                                          │ flight, gate
//!                                          ▼
//!                                        auth ── AssumeRoleForPodIdentity, signed by the node ──▶ EKS Auth
//! ```
//!
//! It speaks AWS's wire on both sides: SDKs use it by two environment variables, and it works with the auth service of AWS as
//! well as with ours. Section numbers in the documentation are those of the agent's specification.
//!
//! A token is a secret and a claim. It is compared by a keyed digest, kept only to renew with, and never printed. Before the
//! auth service accepted it, or the cluster's keys vouch for it, what it claims is used to find things out and to refuse,
//! never to hand something out: its answer is shared with requests that have the same token, byte by byte, and nobody else.

mod agent;
mod associations;
mod auth;
mod cache;
mod chance;
mod config;
mod events;
mod gate;
pub mod guard;
mod handler;
mod handover;
mod health;
mod holder;
pub mod limit;
pub mod link;
mod listen;
mod metrics;
pub mod pods;
mod refusal;
pub mod request;
mod sockets;
pub mod token;

#[doc(hidden)]
pub mod fuzz;

pub use agent::{Agent, StartError};
pub use associations::{
    AccountName, AssociationState, Associations, AssociationsUnreadable, EksAssociations,
};
pub use auth::{
    AnnotatedAuth, AnnotatedRole, AnnotatedRoles, AuthFailure, AuthLimits, AuthService, EksApi,
    EksAuth, Endpoint, InvalidEndpoint, Issued, NoAnnotatedRole, NodeCredentials, NodeIdentity,
    NodeToken, SetupError,
};
pub use cache::{CacheScope, CacheSettings, CachedCredentials, PodCredentials, PodUse};
pub use chance::{Chance, SystemChance};
pub use config::AgentConfig;
pub use events::{Decision, DecisionLog, NoEvents, Outcome};
pub use gate::CallRate;
pub use handler::RequestLimits;
pub use handover::{Handover, HandoverError};
pub use holder::holder;
pub use listen::ListenLimits;
pub use metrics::{Metrics, Source};
pub use refusal::{FinalCode, Limit, Refusal};

//! `k8s-aws-v1.` tokens: making them, checking them locally, and reading what STS answers about them.
//!
//! A presigned token is a SigV4 presigned `GET` for `sts:GetCallerIdentity`, base64url-encoded behind a prefix. It names one
//! cluster by a signed header (`x-k8s-aws-id`) that is *not* in the URL: whoever verifies adds its own cluster id, so a token
//! made for another cluster fails the signature check.
//!
//! ```text
//!   text ── PresignedToken::parse(text, rules, now)      rules V1..V19, H1..H6; no I/O
//!               │
//!               ├─ EndpointKind::Trusted   verify in process (embedded STS)
//!               └─ EndpointKind::Aws       replay to STS ── sts::parse_response ── CallerIdentity
//! ```
//!
//! The token is attacker input and its URL is where a server would connect to: [`Rules`] is the boundary against server-side
//! request forgery. Everything here is pure: time is an argument, nothing reads a socket, a file or the environment.

mod error;
pub mod exec_credential;
mod host;
mod mint;
mod presigned;
mod query;
mod region;
mod rules;
pub mod sts;

pub use error::{Class, ReasonCode, TokenError};
pub use mint::mint;
pub use presigned::{EndpointKind, LIFETIME, PREFIX, PresignedToken, PresignedToken as Token};
pub use query::Parameter;
pub use region::{RegionLabel, known_regions};
pub use rules::{InvalidRules, Options, Rules};

/// The signed header that ties a token to one cluster.
pub const CLUSTER_ID_HEADER: &str = "x-k8s-aws-id";

#[doc(hidden)]
pub mod fuzz;

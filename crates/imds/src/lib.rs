//! Instance metadata for pods, decided: which request is answered and which is refused, who may have which role by the
//! annotations of kube2iam and kiam, and what closes a node.
//!
//! ```text
//!   raw path ──▶ path::Path ──▶ decision::classify ──▶ decision::decide ──▶ token · list · credentials · harmless · refusal
//!                 normalised       one class            by mode
//!
//!   facts of a cluster ──▶ checks · network_policy · plan ──▶ findings, manifests, steps with their undo
//!   answers to a probe, a node's rules and unit ──▶ probe · node ──▶ findings
//! ```
//!
//! Nothing here talks, reads a clock or knows a socket. Section numbers are those of the instance metadata specification.

pub mod advise;
pub mod annotated;
pub mod checks;
pub mod compat;
pub mod decision;
pub mod harmless;
pub mod host;
pub mod network_policy;
pub mod node;
pub mod path;
pub mod plan;
pub mod predecessors;
pub mod probe;
pub mod role;
pub mod rules;
pub mod session;

#[doc(hidden)]
pub mod fuzz;

/// The service's IPv4 address.
pub const IPV4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 254);
/// The service's IPv6 address, `fd00:ec2::254`.
pub const IPV6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

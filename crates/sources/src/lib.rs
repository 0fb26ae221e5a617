//! Mapping rules read from elsewhere and kept fresh: configuration files, `aws-auth`, `IAMIdentityMapping`s.
//!
//! ```text
//!   files::MountedFile ───────┐
//!   files::DynamicFile ───────┤ entries, version,         ┌──▶ MappingState   one immutable snapshot, swapped whole
//!   files::BackendModeFile ───┼──▶ Mappings ──────────────┤
//!   kubernetes::AwsAuthWatch ─┤ what is broken            └──▶ Health         for /readyz?verbose and metrics
//!   kubernetes::CrdWatch ─────┘
//!   set_entries (static lists, access entries, cluster creator)
//! ```
//!
//! [`rbac`] reads roles and bindings, from a cluster, manifests or a dump.
//!
//! Bad input never replaces good rules: it is reported, and the last good version of that source (of that section, for
//! `aws-auth`) stays in force. A review loads one [`MappingState`] and uses it from start to end.

pub mod files;
#[doc(hidden)]
pub mod fuzz;
mod health;
pub mod kubernetes;
mod mappings;
pub mod rbac;
mod section;
mod state_file;

pub use health::{
    EntryCounts, Health, LatencyHistogram, Problem, SourceHealth, SourceKind, StaleHealth,
};
pub use mappings::{MappingState, Mappings, MappingsOptions, SourceVersion, Update};
pub use section::AwsAuthSections;

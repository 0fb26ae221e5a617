//! Access entries and access policies of EKS, decided the way EKS decides them (EKS API spec, sections 7 to 9).
//!
//! Nothing here reads a clock, a socket or a file.

mod entry_type;
mod scope;

pub use entry_type::{EntryType, UnknownEntryType};
pub use scope::AccessScope;

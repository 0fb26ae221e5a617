//! One module for each command that has work of its own.

mod bootstrap;
mod credentials;
pub(crate) mod debug;
mod kubernetes;
mod launch;
pub(crate) mod managed_policies;
mod mappings;
pub(crate) mod policy;
pub(crate) mod serve;
mod settings;
pub(crate) mod up;
mod upstream;
pub(crate) mod verify;

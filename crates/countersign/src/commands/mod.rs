//! One module for each command that has work of its own.

pub(crate) mod debug;
pub(crate) mod policy;
pub(crate) mod serve;
mod bootstrap;
mod credentials;
mod kubernetes;
mod launch;
mod mappings;
mod settings;
pub(crate) mod up;
mod upstream;
pub(crate) mod verify;

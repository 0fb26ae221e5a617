//! One module for each command that has work of its own.

pub(crate) mod debug;
pub(crate) mod serve;
mod launch;
mod settings;
pub(crate) mod up;
pub(crate) mod verify;

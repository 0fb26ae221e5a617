//! One module for each command that has work of its own.

pub(crate) mod access;
pub(crate) mod agent;
mod bootstrap;
mod credentials;
pub(crate) mod debug;
pub(crate) mod iam;
pub(crate) mod imds;
mod kubernetes;
mod launch;
mod local;
pub(crate) mod managed_policies;
mod mappings;
pub(crate) mod policy;
mod projection;
mod registration;
pub(crate) mod root_key;
pub(crate) mod serve;
pub(crate) mod sessions;
mod settings;
mod storage;
pub(crate) mod store;
pub(crate) mod up;
mod upstream;
pub(crate) mod verify;
mod web_identity;

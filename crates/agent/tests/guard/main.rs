//! The metadata guard on the wire: network namespaces stand for a node, its pods, and the metadata service beyond the node's
//! uplink, with the real addresses; the service counts every packet that a pod gets through to it.
//!
//! Needs root, `ip`, `nft` and `iptables`; says loudly when it has to skip.
#![cfg(target_os = "linux")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod addresses;
mod annotated;
mod associations;
mod clients;
mod closed;
#[path = "../common/mod.rs"]
mod common;
mod hosts;
mod interfaces;
mod modes;
mod node;
mod roles;
mod six;
mod world;

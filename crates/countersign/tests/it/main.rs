//! Integration tests: the real command, real clients, and a real kube-apiserver where there is one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod assume_role;
mod audit;
mod cluster;
mod cluster_suite;
mod harness;
mod policy;
mod serve;
mod sts_wire;
mod tokens;
mod webhook;

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

mod access;
mod admin;
mod agent_node;
mod aggregation;
mod assume_role;
mod audit;
mod authorizer;
mod cluster;
mod cluster_access;
mod cluster_suite;
#[cfg(feature = "etcd")]
mod etcd;
mod harness;
mod iam_policies;
#[path = "../../../saml/tests/common/mod.rs"]
mod identity_provider;
mod identity_providers;
mod irsa;
mod mutate;
mod mutate_api;
mod mutate_cluster;
mod mutate_command;
mod mutate_lab;
mod mutate_secret;
mod mutate_sources;
mod people;
mod pod_credentials;
mod pods;
mod policy;
mod projection;
mod saml;
mod serve;
mod sts_wire;
mod tokens;
mod web_identity;
mod webhook;

//! Reviews and AWS calls in process: what no client would send, and what only a clock moved by hand can show.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod access;
mod admin;
mod assume_role;
mod cluster_issuers;
mod eks;
mod eks_auth;
mod embedded;
mod fuzz;
mod iam_dump;
mod iam_framework;
mod iam_policies;
mod id_tokens;
#[path = "../../../saml/tests/common/mod.rs"]
mod identity_provider;
mod identity_token;
mod models;
mod oidc_providers;
mod operations;
mod people;
mod permissions;
mod rates;
mod role_session;
mod saml;
mod simulator;
mod store_away;
mod sts_lookups;
mod user_session;
mod web_identity;
mod wire;
mod world;

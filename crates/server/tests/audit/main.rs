//! The audit log and what was used when: golden records, the log against the service models, and its file in good days and bad.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod api;
mod call;
mod file;
mod fuzz;
mod golden;
mod models;
mod queue;
mod reports;
mod settings;
mod usage;
#[allow(
    dead_code,
    reason = "shared with the tests of the APIs, which use all of it"
)]
#[path = "../it/world.rs"]
mod world;

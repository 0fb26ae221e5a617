//! The store on etcd, against real etcd servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod chaos;
mod faults;
mod proxy;
mod server;
mod suite;

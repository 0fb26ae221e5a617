//! AWS APIs and Kubernetes webhooks over HTTP.

pub mod access_policies;
pub mod admin;
pub mod aggregation;
pub mod app;
pub mod association_objects;
pub mod audit;
pub mod aws;
pub mod config;
pub mod events;
#[doc(hidden)]
pub mod fuzz;
pub mod health;
pub mod issuer;
mod limiter;
pub mod listen;
pub mod metrics;
mod outbound;
pub mod projection;
mod rate;
mod request_id;
pub mod store_health;
pub mod usage;
pub mod web_identity;
pub mod webhook;

pub use rate::{EksAuthLimits, StsLimits};

/// Makes aws-lc-rs the process' cryptography; the first thing a process that uses TLS does.
pub fn install_crypto() {
    // Installed already is as good as installed now.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

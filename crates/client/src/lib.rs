//! The client side of kubectl: credentials, tokens, kubeconfig entries, and the files that a webhook needs before it first starts.
//!
//! ```text
//!   get_token ── credentials ── keys of environment and shared files      no runtime, no network
//!      │              ├──────── a profile's role, --role                  one signed request of our own
//!      │              └──────── SSO, process, web identity, machine       the AWS SDK (feature `aws-chain`)
//!      └── presign ── countersign_token::mint
//!
//!   kubeconfig ── DescribeCluster or flags ── one entry in the person's kubeconfig, everything else kept
//!   init ──────── pki ── certificates, the webhooks' kubeconfigs, what kube-apiserver reads; the server starts with the same functions
//! ```
//!
//! The commands are functions that write to the streams they are given and return an exit code; the binary mounts them. They block, and
//! start a runtime of their own where they need one: call them outside of any.

pub mod api_server;
pub mod cache;
mod chain;
pub mod credentials;
pub mod eks;
pub mod endpoint;
mod env;
pub mod files;
pub mod get_token;
mod http;
pub mod ini;
pub mod init;
pub mod kubeconfig;
pub mod mutating_webhook;
pub mod output;
pub mod pki;
mod presign;
pub mod profile;
pub mod query;
#[cfg(feature = "aws-chain")]
mod sdk;
mod session;
mod sts;
pub mod webhook_kubeconfig;
mod yaml;

pub use chain::ChainError;
pub use env::Environment;
pub use get_token::Process;
pub use http::HttpError;
pub use presign::presigned_token;
pub use session::{FALLBACK_REGION, Io};
pub use sts::StsError;
pub use yaml::YamlError;

#[doc(hidden)]
pub mod fuzz;

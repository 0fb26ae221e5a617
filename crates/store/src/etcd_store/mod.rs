//! The store beyond one machine: an etcd cluster that any number of replicas share.
//!
//! ```text
//!   commit ── breaker ──▶ one transaction: compares · writes · head         refused at once while etcd is away
//!   load   ─────────────▶ head, then pages of records at its revision
//!   watch  ── lineage ──▶ events by revision ──▶ batches                     heartbeat: is it up to date, is it there
//! ```
//!
//! Revisions are etcd's. Every transaction of ours also writes one key, the head; [`layout`] says why.

#[cfg(feature = "etcd")]
mod connection;
#[cfg(feature = "etcd")]
mod failure;
#[cfg(feature = "etcd")]
mod layout;
#[cfg(feature = "etcd")]
mod lineage;
#[cfg(feature = "etcd")]
mod load;
mod options;
#[cfg(feature = "etcd")]
mod store;
#[cfg(feature = "etcd")]
mod transact;
#[cfg(feature = "etcd")]
mod watch;

#[cfg(feature = "etcd")]
pub(crate) use layout::read_foreign;
pub use options::{DEFAULT_PREFIX, EtcdOptions, EtcdPassword, EtcdTls, EtcdUser, InvalidEtcdUrl};
#[cfg(feature = "etcd")]
pub use store::EtcdStore;

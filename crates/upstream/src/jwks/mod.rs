//! The verification keys of OpenID Connect issuers (IRSA spec, section 2.4): fetched from registered issuers only,
//! kept, refreshed, and used for a day when an issuer is down.
//!
//! ```text
//!   issuer ──▶ KeySource ──▶ registered keys (our own clusters): no network
//!                  │
//!                  ├──▶ kept and fresh: no network
//!                  └──▶ KeyFetch: discovery document, key set; one fetch for all who wait
//! ```
//!
//! Who asks must have found the issuer among the providers of an account: nothing here decides whether an issuer may be
//! asked. Where its host may lead is checked here, for the issuer's host and for that of its key set.

mod counters;
mod fetch;
mod source;
mod state;
mod thumbprint;

pub use counters::{FetchResult, KeyCounters};
pub use fetch::{
    Fetch, FetchFailure, FetchOptions, FetchedKeys, HttpsKeys, InvalidIssuerOptions, IssuerOptions,
    KeyFetch,
};
pub use source::{KeySource, KeySourceOptions};
pub(crate) use thumbprint::ThumbprintVerifier;
pub use thumbprint::{NotAThumbprint, Thumbprint};

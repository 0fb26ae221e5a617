//! SAML 2.0 as AssumeRoleWithSAML needs it: metadata of identity providers, their signed assertions, and what AWS reads
//! from those.
//!
//! ```text
//!   metadata ── Metadata::parse ──▶ entity ids and keys
//!                                        │
//!   response (base64) ───────────────▶ verify ──▶ Assertion ──▶ ReplayMemory::note ──▶ trust policy, session
//!                                        │          subject, roles, session name, tags, context of policies
//!                                        └───────▶ Refusal: what the operator reads, what the caller is told
//! ```
//!
//! The identity provider's signature covers a canonical text. That text, and nothing else of the document around it, is
//! what an assertion is read from: wrapping attacks, which have one element signed and another one read, have nothing
//! to work with. Everything is a function of its arguments; there is no network, no clock and no file.
//!
//! - [`Metadata`]: what CreateSAMLProvider takes
//! - [`verify`], [`Options`], [`Assertion`], [`Refusal`]: responses
//! - [`ReplayMemory`]: each assertion counts once
//! - [`name_qualifier`]: the pairwise name of a provider
//! - [`xml`], [`Canonicalization`]: documents and the text that signatures are made over, for those who sign in tests

mod assertion;
mod attributes;
mod canonical;
mod key;
mod metadata;
mod refusal;
mod replay;
mod response;
mod signature;
mod text;
pub mod xml;

pub use assertion::{Assertion, Claims, RolePair, name_qualifier};
pub use canonical::{Canonicalization, TooLong};
pub use key::{SignatureMethod, SigningKey, UnusableKey};
pub use metadata::{
    IdentityProvider, MAX_CHARS, MAX_KEYS, MAX_PROVIDERS, MIN_CHARS, Metadata, MetadataError,
};
pub use refusal::{Code, Refusal};
pub use replay::{MAX_REMEMBERED, Replay, ReplayMemory};
pub use response::{CLOCK_TOLERANCE, Options, verify};
pub use signature::SignatureFault;

#[doc(hidden)]
pub mod fuzz;

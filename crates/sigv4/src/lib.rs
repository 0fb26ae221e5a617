//! AWS Signature Version 4: verify, sign, presign, explain.
//!
//! ```text
//!            ┌─ Parsed ──── verify ──▶ Verified             any request, header or presigned
//!  request ──┤                ▲
//!            └─ Presigned ─ verify ──▶ VerifiedPresigned    the GET inside a k8s-aws-v1 token, no allocation
//!                             │
//!                 KeyLookup ──┘◀── the caller's store, SigningKeyCache
//!
//!  Signer ──▶ Authorization header or presigned URL         our own requests
//!  capture ─▶ explain                                       why a signature does not match
//! ```
//!
//! Nothing here does I/O or reads a clock: the time is an argument, and looking a key up is the caller's step between
//! parsing and verifying. Only verification makes a [`Verified`], so a handler that takes one cannot be reached
//! without it. A refusal is an [`AuthError`]: the first check that failed, in the order in which AWS checks. Steps are
//! numbered as in the signature spec, section 5: 1–4 the request, 5–7 finding the authentication, 8–13 its parts, 14–15
//! the key, 16 the signature.
//!
//! Signatures have no nonce: a signed request is valid for its whole window, by design, and is not remembered here.

pub mod capture;
pub mod explain;
#[doc(hidden)]
pub mod fuzz;

mod auth;
mod cache;
mod canonical;
mod crypto;
mod encode;
mod error;
mod key;
mod policy;
mod presigned;
mod request;
mod scope;
mod sign;
mod time;
mod verify;

pub use auth::{Kind, Offered, check_request};
pub use cache::{CacheKey, DEFAULT_CAPACITY, SigningKeyCache};
pub use encode::EscapeFault;
pub use error::{
    AuthError, BadRequest, Missing, Protocol, ScopeFault, Sensitive, WireError,
    mismatch_with_strings,
};
pub use key::{SecretKey, SigningKey};
pub use policy::{PathRule, Regions, ServicePolicy};
pub use presigned::{MAX_EXTRA_HEADERS, MAX_PARAMS, Presigned, VerifiedPresigned};
pub use request::{Header, Payload, Request};
pub use scope::{Credential, Scope};
pub use sign::{Credentials, SignError, SignedRequest, Signer};
pub use time::AmzDate;
pub use verify::{KeyLookup, Parsed, PayloadCoverage, SignedHeaders, Verified};

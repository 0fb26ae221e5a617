//! OpenID Connect tokens in both directions: those of others are verified, our own are signed.
//!
//! ```text
//!   token text ── UnverifiedToken::parse ──▶ issuer, kid, claims that nothing vouches for yet
//!                                               │ verify(KeySet)
//!                                          VerifiedToken
//!                                               │ accept(client ids, times, now)
//!                                          AcceptedToken ──▶ audience used · condition keys · session tags · source identity
//!
//!   discovery document ── Discovery::parse ──▶ jwks_uri ── KeySet::parse ──▶ KeySet
//!
//!   claims ── SigningKey::sign ──▶ token          IssuerKeys: which key signs, which are published, and when that changes
//! ```
//!
//! Everything is a function of its arguments: nothing here fetches, waits or reads a clock. The one exception is randomness:
//! the cryptographic library draws what new keys and ECDSA signatures need by itself, because it takes none from outside.
//!
//! Signatures are verified with aws-lc-rs directly. A JWT library would bring a second reader of tokens whose leniencies
//! (unchecked `nbf`, algorithms chosen by the header, equal members) would all have to be switched off again.

mod algorithm;
mod aws_claims;
mod check;
mod claims;
mod condition_keys;
mod der;
mod discovery;
mod error;
mod id_token;
mod issuer;
mod issuer_keys;
mod json;
mod key;
mod key_set;
mod signing;
mod token;

pub use algorithm::{Algorithm, KeyType};
pub use aws_claims::AwsClaims;
pub use check::{AcceptedToken, TimeRules, VerifiedToken};
pub use claims::{BoundObject, Claims, KubernetesClaims, MAX_SUBJECT_CHARS};
pub use condition_keys::{ConditionKey, KeyValue};
pub use discovery::{Discovery, DiscoveryError, discovery_document, discovery_url};
pub use error::{Code, TokenError};
pub use id_token::{UnverifiedIdToken, VerifiedIdToken};
pub use issuer::{InvalidIssuer, IssuerUrl, MAX_ISSUER_CHARS};
pub use issuer_keys::{
    DecodeKeysError, IssuerKeys, KeyLife, KeyStage, MAX_ISSUER_KEYS, RotationAdvice, RotationError,
    Schedule,
};
pub use key::{InvalidKey, PublicKey};
pub use key_set::{KeySet, KeySetError, MAX_DOCUMENT_BYTES, MAX_KEYS_OF_A_KIND, SkippedKey};
pub use signing::{SigningError, SigningKey};
pub use token::{MAX_TOKEN_BYTES, UnverifiedToken};

#[doc(hidden)]
pub mod fuzz;

//! Sealed temporary credentials: session tokens that any replica can open without asking anybody.
//!
//! ```text
//!   SessionRecord ──────────── issue ───────────▶ Credentials
//!   who, until when, policies,   │                  ASIA…   secret   CS1.<kid>.<sealed record>
//!   tags, source identity, …     │                                      │
//!                             KeyRing                                   │ comes back with a request
//!                 keys by time: opening, sealing, retired               ▼
//!                                └────────▶ OpenCache::open / open ── Opened: record + derived secret
//!                                                                       │ the signature is verified with the secret
//!                                                 RevocationList::consult, caller_identity, context_facts
//! ```
//!
//! Nothing is stored when credentials are issued: the token carries the session, sealed; the secret access key is derived
//! from a seed inside it; the keys are the only state. Everything here is a function of its arguments: time and randomness
//! are handed in.
//!
//! - [`KeyRing`]: keys, their states and rotation
//! - [`SessionRecord`]: what a session is; deterministic CBOR inside the token
//! - [`issue`], [`seal`], [`open`], [`OpenCache`]: tokens
//! - [`Chain`], [`duration`], [`packed_policy_percent`], [`check_call`]: the rules for making and using sessions
//! - [`pod`]: names and tags of the sessions of pods
//! - [`caller_identity`], [`context_facts`]: who a session is to mapping and to policies
//! - [`RevocationList`]: sessions that were ended before their time

mod bound;
mod cache;
mod call;
mod cbor;
mod chain;
mod crypto;
mod deflate;
pub mod duration;
mod error;
mod identity;
mod message;
mod packed;
pub mod pod;
mod record;
mod revocation;
mod ring;
mod scratch;
mod secret;
mod token;

pub use bound::{DeploymentId, NotADeploymentId};
pub use cache::{DEFAULT_CAPACITY, OpenCache};
pub use call::{Call, StsCall, check_call};
pub use cbor::CborError;
pub use chain::{
    Chain, ExtraPermissions, MAX_DEPTH, MAX_REQUESTED_TAGS, effective_tags, tag_faults,
};
pub use error::{Code, Fault, Refusal};
pub use identity::{
    ContextFacts, IdentityError, LivePrincipal, caller_identity, check_principal, context_facts,
};
pub use message::{MAX_MESSAGE_CHARS, MessageDoesNotOpen, Purpose, open_message, seal_message};
pub use packed::{
    MAX_PLAIN_POLICY_CHARS, aws_tag_percent, check_plain_policy_size, packed_policy_percent,
};
pub use pod::{InvalidPodSessions, PodSessions, PodTag};
pub use record::{
    Binding, Cidr, DecodeRecordError, Federation, InvalidRecord, MAX_POLICY_ARNS, MAX_POLICY_BYTES,
    MAX_SESSION_SECONDS, Origin, ParseCidrError, SessionKind, SessionPolicies, SessionPrincipal,
    SessionRecord, SessionTag, SessionTags, is_tag_text,
};
pub use revocation::{
    InvalidRevocationTarget, RevocationInFuture, RevocationList, RevocationRow, RevocationTarget,
    Revoked,
};
pub use ring::{
    DecodeRingError, FORGET_AFTER, KeyRing, KeyState, KeyStatus, Kid, MAX_KEYS, NewKey, NotAKid,
    OPENING_AFTER_SEALING, ROTATE_EVERY, RingError, WARM_UP,
};
pub use secret::SecretAccessKey;
pub use token::{
    Credentials, MAX_TOKEN_CHARS, OpenError, Opened, SealError, SessionRandomness, SessionToken,
    TOKEN_BUDGET_CHARS, issue, open, seal,
};

#[doc(hidden)]
pub mod fuzz;

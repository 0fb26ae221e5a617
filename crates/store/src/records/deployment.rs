//! What a deployment has one of: its id, the keys of its session tokens, and the mark of a restore.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, decode_body, encode_body};
use crate::{SealedSecret, Value};

/// The name under which the ring of session keys is sealed, see [`Sealer::seal`](crate::Sealer::seal).
pub const SESSION_KEYS_FIELD: &str = "ring";

/// Deployment id and session keys, in one record: a token is bound to both, so neither is any use without the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionKeys {
    /// The deployment id; never changes.
    pub deployment: Box<str>,
    /// The ring of keys as base64, sealed for this record.
    pub ring: SealedSecret,
}

impl SessionKeys {
    pub(super) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let body: SessionKeysBody = decode_body(value)?;
        Ok(Self {
            deployment: body.deployment,
            ring: body.ring,
        })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&SessionKeysBody {
            v: SessionKeysBody::VERSION,
            deployment: self.deployment.clone(),
            ring: self.ring.clone(),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionKeysBody {
    v: u32,
    deployment: Box<str>,
    ring: SealedSecret,
}

impl Body for SessionKeysBody {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

/// A restore or a migration into this store was begun and is not at its end: what is here is a part of something.
///
/// It is the first record that is written and the last that goes. A server does not start on a store that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreMark {
    /// When it was begun.
    pub started: Timestamp,
    /// What is restored, for the operator to read.
    pub from: Box<str>,
}

impl RestoreMark {
    pub(super) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let body: RestoreMarkBody = decode_body(value)?;
        Ok(Self {
            started: body.started,
            from: body.from,
        })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&RestoreMarkBody {
            v: RestoreMarkBody::VERSION,
            started: self.started,
            from: self.from.clone(),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreMarkBody {
    v: u32,
    started: Timestamp,
    from: Box<str>,
}

impl Body for RestoreMarkBody {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

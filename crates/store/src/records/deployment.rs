//! What a deployment has one of: its id, the keys of its session tokens, and the keys of its tokens for outside services.

use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, decode_body, encode_body};
use crate::{SealedSecret, Value};

/// The name under which the ring of session keys is sealed, see [`Sealer::seal`](crate::Sealer::seal).
pub const SESSION_KEYS_FIELD: &str = "ring";

/// The name under which the keys of outbound tokens are sealed.
pub const OUTBOUND_KEYS_FIELD: &str = "keys";

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

/// The keys that sign tokens of GetWebIdentityToken, of all accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundKeys {
    /// The keys with their times as base64, sealed for this record.
    pub keys: SealedSecret,
}

impl OutboundKeys {
    pub(super) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let body: OutboundKeysBody = decode_body(value)?;
        Ok(Self { keys: body.keys })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&OutboundKeysBody {
            v: OutboundKeysBody::VERSION,
            keys: self.keys.clone(),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutboundKeysBody {
    v: u32,
    keys: SealedSecret,
}

impl Body for OutboundKeysBody {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

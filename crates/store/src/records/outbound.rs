//! The keys of tokens for outside services.

use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, decode_body, encode_body};
use crate::{SealedSecret, Value};

/// The name under which the keys of outbound tokens are sealed, see [`Sealer::seal`](crate::Sealer::seal).
pub const OUTBOUND_KEYS_FIELD: &str = "keys";

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

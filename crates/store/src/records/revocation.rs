//! Sessions that were ended before their time.

use countersign_session::{RevocationRow, RevocationTarget};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, decode_body, encode_body};
use crate::Value;

/// A row of the revocation list (STS spec, section 8.5, item 2). What it ends is in its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The row.
    pub row: RevocationRow,
}

impl Revocation {
    pub(super) fn decode(id: &str, value: &[u8]) -> Result<Self, DecodeError> {
        let target = RevocationTarget::from_id(id).ok_or(DecodeError::Key)?;
        let body: RevocationBody = decode_body(value)?;
        Ok(Self {
            row: RevocationRow {
                target,
                before: body.before,
                made: body.made,
            },
        })
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        encode_body(&RevocationBody {
            v: RevocationBody::VERSION,
            before: self.row.before,
            made: self.row.made,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationBody {
    v: u32,
    before: Timestamp,
    made: Timestamp,
}

impl Body for RevocationBody {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.v
    }
}

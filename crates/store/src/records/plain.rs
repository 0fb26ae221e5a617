//! Records whose JSON is just their fields and the version.

use countersign_arn::AccountId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::{DecodeError, wrong_version};
use crate::Value;

/// The version of all records of this form that was ever written.
const VERSION: u32 = 1;

/// A record that is stored as its own fields.
pub(super) trait Plain: Serialize + DeserializeOwned {
    /// Whether the key is the one under which this record belongs.
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool;
}

pub(super) fn encode<T: Plain>(record: &T) -> Value {
    // A record is a struct of strings and numbers, for which the serializer has no error.
    let mut json = match serde_json::to_value(record) {
        Ok(Json::Object(fields)) => fields,
        _ => Map::new(),
    };
    json.insert("v".to_owned(), Json::from(VERSION));
    serde_json::to_vec(&json).unwrap_or_default().into()
}

pub(super) fn decode<T: Plain>(
    account: Option<AccountId>,
    rest: &str,
    value: &[u8],
) -> Result<T, DecodeError> {
    let malformed = |error: serde_json::Error| DecodeError::Malformed {
        what: format!("{:?} error", error.classify()),
    };
    let mut fields: Map<String, Json> = serde_json::from_slice(value).map_err(malformed)?;
    let version = fields
        .remove("v")
        .and_then(|version| version.as_u64())
        .and_then(|version| u32::try_from(version).ok())
        .ok_or_else(|| DecodeError::Malformed {
            what: "it has no version".to_owned(),
        })?;
    if version != VERSION {
        return Err(wrong_version(version, VERSION));
    }
    let record: T = serde_json::from_value(Json::Object(fields)).map_err(malformed)?;
    if record.belongs_to(account, rest) {
        Ok(record)
    } else {
        Err(DecodeError::Key)
    }
}

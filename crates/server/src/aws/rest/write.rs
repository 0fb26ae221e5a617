//! Answers as REST-JSON services write them (EKS API spec, section 1.3).

use jiff::Timestamp;
use serde_json::{Map, Number, Value as Json};

use crate::aws::query::Member;

/// The body of an answer; `{}` for an operation without output.
pub(crate) fn body(member: &Member) -> String {
    match member {
        Member::None => "{}".to_owned(),
        // The answer of an earlier call, as it was written then.
        Member::Written(text) => text.clone(),
        member => json(member).to_string(),
    }
}

/// A member as JSON.
pub(crate) fn json(member: &Member) -> Json {
    match member {
        Member::Text(text) | Member::Document(text) => Json::String(text.clone()),
        Member::Time(time) => seconds(*time),
        Member::Number(number) => Json::Number((*number).into()),
        Member::Bool(value) => Json::Bool(*value),
        Member::Structure(members) => Json::Object(
            members
                .iter()
                .map(|(name, member)| ((*name).to_owned(), json(member)))
                .collect::<Map<_, _>>(),
        ),
        Member::List(items) => items.iter().map(json).collect(),
        Member::Map(entries) => Json::Object(
            entries
                .iter()
                .map(|(name, member)| (name.clone(), json(member)))
                .collect::<Map<_, _>>(),
        ),
        Member::Blob(bytes) => {
            use base64::Engine as _;
            Json::String(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        Member::Written(text) => serde_json::from_str(text).unwrap_or_default(),
        Member::None => Json::Null,
    }
}

/// Seconds since the epoch with three decimals at most, which is as much as a double holds of any year to come.
#[allow(
    clippy::cast_precision_loss,
    reason = "milliseconds since the epoch fit 53 bits until the year 287396; jiff ends in 9999"
)]
fn seconds(time: Timestamp) -> Json {
    Number::from_f64(time.as_millisecond() as f64 / 1000.0).map_or(Json::Null, Json::Number)
}

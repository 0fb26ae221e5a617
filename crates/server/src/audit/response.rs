//! `responseElements`: what was answered, without its secrets.

use super::HIDDEN;
use super::json::Json;
use super::record::{LONG_TEXT, lower_first, omit_if_large};
use super::tables::is_answered;
use crate::aws::query::{Member, percent_encoded};

/// Bytes of `responseElements`.
const MAX_BYTES: usize = 24 << 10;

/// Writes `responseElements`, `null` when there is nothing to write.
pub(super) fn write(json: &mut Json, response: Option<&Member>) {
    json.key("responseElements");
    match response {
        Some(member @ Member::Structure(members))
            if members.iter().any(|(name, _)| is_answered(name)) =>
        {
            omit_if_large(json, MAX_BYTES, |json| value(json, member));
        }
        _ => json.literal("null"),
    }
}

fn value(json: &mut Json, member: &Member) {
    match member {
        Member::Text(text) | Member::Document(text) if text.len() > LONG_TEXT => {
            json.string(HIDDEN);
        }
        Member::Text(text) => json.string(text),
        // As it was answered.
        Member::Document(text) => json.string(&percent_encoded(text)),
        Member::Blob(_) | Member::Written(_) => json.string(HIDDEN),
        Member::None => json.literal("null"),
        Member::Time(time) => {
            json.string(&time.strftime("%b %-d, %Y, %-I:%M:%S %p").to_string());
        }
        Member::Number(number) => json.literal(&number.to_string()),
        Member::Bool(value) => json.literal(if *value { "true" } else { "false" }),
        Member::Structure(members) => {
            json.open(b'{');
            for (name, member) in members.iter().filter(|(name, _)| is_answered(name)) {
                json.key(&lower_first(name));
                value(json, member);
            }
            json.close(b'}');
        }
        // The names in a map are data, and in no list of what may be written.
        Member::Map(_) => json.string(HIDDEN),
        Member::List(items) => {
            json.open(b'[');
            items.iter().for_each(|item| value(json, item));
            json.close(b']');
        }
    }
}

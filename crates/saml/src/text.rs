//! Values inside SAML documents: base64 and instants.

use ::base64::Engine as _;
use ::base64::alphabet::STANDARD;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::xml::is_blank;

/// Padding is left out by some clients; bits beyond the last byte must be zero all the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of `text`, which may hold white space as XML and form bodies do.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let compact: String = text.chars().filter(|c| !is_blank(*c)).collect();
    BASE64.decode(compact).ok()
}

/// The instant that an `xs:dateTime` names. Without a zone it is in UTC, as SAML has all instants (core, section 1.3.3).
pub(crate) fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim_matches(is_blank);
    // jiff takes more forms than XML Schema: a blank or a small `t` between date and time, time zone names.
    let shape = |at: usize| text.as_bytes().get(at).copied();
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"-:.TZ+".contains(&byte));
    if !plain || shape(4) != Some(b'-') || shape(10) != Some(b'T') || shape(16) != Some(b':') {
        return None;
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant);
    }
    let civil: DateTime = text.parse().ok()?;
    let instant = civil.to_zoned(TimeZone::UTC).ok()?;
    Some(instant.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_those_of_xml_schema() {
        let cases = [
            ("2026-03-14T10:26:53Z", Some(1_773_484_013)),
            ("2026-03-14T10:26:53.999Z", Some(1_773_484_013)),
            ("2026-03-14T10:26:53.9999999Z", Some(1_773_484_013)),
            (" 2026-03-14T10:26:53Z\n", Some(1_773_484_013)),
            ("2026-03-14T11:26:53+01:00", Some(1_773_484_013)),
            ("2026-03-14T10:26:53", Some(1_773_484_013)),
            ("2026-03-14 10:26:53Z", None),
            ("2026-03-14t10:26:53z", None),
            ("2026-03-14T10:26:53[Europe/Paris]", None),
            ("2026-03-14T10:26:53Z[UTC]", None),
            ("2026-03-14", None),
            ("20260314T102653Z", None),
            ("2026-02-30T10:26:53Z", None),
            ("", None),
            ("now", None),
        ];
        for (text, expected) in cases {
            assert_eq!(instant(text).map(Timestamp::as_second), expected, "{text}");
        }
    }

    #[test]
    fn base64_may_be_wrapped_and_unpadded_but_not_sloppy() {
        let cases = [
            ("aGk=", Some(&b"hi"[..])),
            (" aG\nk=\r\n", Some(b"hi")),
            ("aGk", Some(b"hi")),
            ("aGl=", None),
            ("aG_k", None),
            ("a", None),
            ("", Some(b"")),
        ];
        for (text, expected) in cases {
            assert_eq!(base64(text).as_deref(), expected, "{text:?}");
        }
    }
}

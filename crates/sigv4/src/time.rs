//! The one date form of SigV4, `YYYYMMDDTHHMMSSZ`, and the RFC 1123 form of the `Date` header.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::Offset;

/// An instant to the second, together with its ISO 8601 basic form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AmzDate {
    text: [u8; 16],
    second: i64,
}

impl AmzDate {
    /// Reads `YYYYMMDDTHHMMSSZ` and nothing else: no separators, no fraction, no offset, no leap second.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; 16] = text.try_into().ok()?;
        let [
            y0,
            y1,
            y2,
            y3,
            m0,
            m1,
            d0,
            d1,
            b'T',
            h0,
            h1,
            n0,
            n1,
            s0,
            s1,
            b'Z',
        ] = text
        else {
            return None;
        };
        let pair = |a: u8, b: u8| -> Option<i8> {
            (a.is_ascii_digit() && b.is_ascii_digit()).then(|| ((a - b'0') * 10 + (b - b'0')) as i8)
        };
        let year = i16::from(pair(y0, y1)?) * 100 + i16::from(pair(y2, y3)?);
        let civil = DateTime::new(
            year,
            pair(m0, m1)?,
            pair(d0, d1)?,
            pair(h0, h1)?,
            pair(n0, n1)?,
            pair(s0, s1)?,
            0,
        )
        .ok()?;
        let second = Offset::UTC.to_timestamp(civil).ok()?.as_second();
        Some(Self { text, second })
    }

    /// Reads the value of a `Date` header, such as `Sat, 14 Mar 2026 09:26:53 GMT` or with a numeric offset. A weekday
    /// that does not fit the day is let through: it is signed text, and the instant does not depend on it.
    pub fn parse_http(text: &str) -> Option<Self> {
        const PARSER: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);
        let instant = PARSER.parse_timestamp(text.trim()).ok()?;
        Self::at_second(instant.as_second())
    }

    /// The instant, cut to the second. Years outside 0000–9999 cannot be written and are moved to the nearest that can.
    pub fn from_timestamp(now: Timestamp) -> Self {
        Self::at_second(now.as_second()).unwrap_or(Self {
            text: *b"00000101T000000Z",
            second: -62_167_219_200,
        })
    }

    /// This instant moved by some seconds, if the result still has a four-digit year.
    pub fn plus_seconds(self, seconds: i64) -> Option<Self> {
        Self::at_second(self.second.checked_add(seconds)?)
    }

    fn at_second(second: i64) -> Option<Self> {
        let civil = Offset::UTC.to_datetime(Timestamp::from_second(second).ok()?);
        if civil.year() < 0 {
            return None;
        }
        let mut text = *b"00000000T000000Z";
        let fields = [
            (0, civil.year() / 100),
            (2, civil.year() % 100),
            (4, civil.month().into()),
            (6, civil.day().into()),
            (9, civil.hour().into()),
            (11, civil.minute().into()),
            (13, civil.second().into()),
        ];
        for (at, value) in fields {
            if let Some([tens, ones]) = text.get_mut(at..at + 2) {
                *tens = b'0' + (value / 10) as u8;
                *ones = b'0' + (value % 10) as u8;
            }
        }
        Some(Self { text, second })
    }

    /// `YYYYMMDDTHHMMSSZ`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// `YYYYMMDD`, the day as the credential scope writes it.
    pub fn day(&self) -> &str {
        self.as_str().get(..8).unwrap_or_default()
    }

    /// Seconds since the Unix epoch.
    pub fn second(&self) -> i64 {
        self.second
    }
}

impl fmt::Display for AmzDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AmzDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_basic_form_is_a_date() {
        for bad in [
            "",
            "2026-03-14T09:26:53Z",
            "20260314T092653",
            "20260314t092653Z",
            "20260314T092653z",
            "20260230T000000Z",
            "20261301T000000Z",
            "20260314T240000Z",
            "20260314T092660Z",
            "+2260314T092653Z",
            "20260314T092653Z ",
            "２0260314T0926Z",
        ] {
            assert_eq!(AmzDate::parse(bad.as_bytes()), None, "{bad}");
        }
        let date = AmzDate::parse(b"20260314T092653Z").unwrap();
        assert_eq!((date.day(), date.second()), ("20260314", 1_773_480_413));
    }

    #[test]
    fn http_dates_are_read_with_any_offset() {
        for text in [
            "Sat, 14 Mar 2026 09:26:53 GMT",
            "Sat, 14 Mar 2026 09:26:53 -0000",
            "Sat, 14 Mar 2026 10:26:53 +0100",
            "Sun, 14 Mar 2026 09:26:53 GMT",
        ] {
            assert_eq!(
                AmzDate::parse_http(text).unwrap().as_str(),
                "20260314T092653Z",
                "{text}"
            );
        }
        for bad in ["", "yesterday", "Sat, 14 Mar 2026", "14/03/2026 09:26:53"] {
            assert_eq!(AmzDate::parse_http(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn written_dates_read_back(second in 0i64..250_000_000_000) {
            let date = AmzDate::from_timestamp(Timestamp::from_second(second).unwrap());
            prop_assert_eq!(AmzDate::parse(date.as_str().as_bytes()), Some(date));
            prop_assert_eq!(date.second(), second);
        }
    }
}

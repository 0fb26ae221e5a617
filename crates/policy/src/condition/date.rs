//! Instants of the Date operators: the W3C profile of ISO 8601, or Unix time.

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(i128);

/// A bare integer this large or larger is milliseconds; in seconds it would be after the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

impl Instant {
    /// Reads `YYYY-MM`, `YYYY-MM-DD`, `YYYY-MM-DDThh:mm[:ss[.f]][Z|±hh:mm]`, or an integer. A missing zone is UTC.
    ///
    /// A bare integer is Unix time even when it has four digits: a year alone would be ambiguous.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
        if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
            return Self::from_unix(text.parse().ok()?);
        }
        let mut rest = bytes;
        let year = take_digits(&mut rest, 4)?;
        take(&mut rest, b'-')?;
        let month = take_digits(&mut rest, 2)?;
        let mut day = 1;
        if !rest.is_empty() {
            take(&mut rest, b'-')?;
            day = take_digits(&mut rest, 2)?;
        }
        if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
            return None;
        }
        let midnight = days_from_epoch(year, month, day) * 86_400;
        if rest.is_empty() {
            return Some(Self(i128::from(midnight) * 1_000_000_000));
        }
        take(&mut rest, b'T').or_else(|| take(&mut rest, b't'))?;
        let (hour, minute) = clock(&mut rest)?;
        let mut second = 0;
        let mut nanos = 0;
        if take(&mut rest, b':').is_some() {
            second = take_digits(&mut rest, 2).filter(|second| *second <= 59)?;
            if take(&mut rest, b'.').is_some() {
                nanos = fraction(&mut rest)?;
            }
        }
        let offset = zone(&mut rest)?;
        let seconds = midnight + hour * 3600 + minute * 60 + second - offset;
        Some(Self(
            i128::from(seconds) * 1_000_000_000 + i128::from(nanos),
        ))
    }

    fn from_unix(value: i64) -> Option<Self> {
        let nanos = if value.checked_abs()? >= MILLISECONDS_FROM {
            i128::from(value) * 1_000_000
        } else {
            i128::from(value) * 1_000_000_000
        };
        Some(Self(nanos))
    }
}

fn take(rest: &mut &[u8], wanted: u8) -> Option<()> {
    let (first, tail) = rest.split_first()?;
    (*first == wanted).then(|| *rest = tail)
}

fn take_digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(count)?;
    head.iter().all(u8::is_ascii_digit).then(|| {
        *rest = tail;
        head.iter()
            .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
    })
}

fn clock(rest: &mut &[u8]) -> Option<(i64, i64)> {
    let hour = take_digits(rest, 2).filter(|hour| *hour <= 23)?;
    take(rest, b':')?;
    let minute = take_digits(rest, 2).filter(|minute| *minute <= 59)?;
    Some((hour, minute))
}

fn fraction(rest: &mut &[u8]) -> Option<i64> {
    let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&len) {
        return None;
    }
    let value = take_digits(rest, len)?;
    Some((len..9).fold(value, |value, _| value * 10))
}

fn zone(rest: &mut &[u8]) -> Option<i64> {
    match rest {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), tail @ ..] => {
            let mut tail = tail;
            let (hour, minute) = clock(&mut tail)?;
            let offset = hour * 3600 + minute * 60;
            tail.is_empty()
                .then_some(if *sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days between 1970-01-01 and a date of the Gregorian calendar. Years count from March, so the leap day comes last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::Instant;

    fn seconds(text: &str) -> Option<i128> {
        Instant::parse(text).map(|instant| instant.0 / 1_000_000_000)
    }

    #[test]
    fn dates_and_unix_time_name_the_same_instants() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-01", 1_767_225_600),
            ("2026-01", 1_767_225_600),
            ("2026-01-01T01:00:00+02:00", 1_767_222_000),
            ("2000-02-29T12:00Z", 951_825_600),
            ("2026-01-01T00:00:00", 1_767_225_600),
            ("1767225600", 1_767_225_600),
            ("1767225600000", 1_767_225_600),
            ("-1", -1),
            ("1969-12-31T23:59:59Z", -1),
            ("2026", 2026),
            ("0001-01-01", -62_135_596_800),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799),
            ("2026-01-01T00:00:00-00:30", 1_767_227_400),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn fractions_count() {
        assert!(
            Instant::parse("2026-01-01T00:00:00.5Z") > Instant::parse("2026-01-01T00:00:00.25Z")
        );
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in [
            "",
            "2026-13-01",
            "2026-02-30",
            "2026-00-10",
            "2026-01-01T24:00Z",
            "2026-01-01T00:60Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.1234567890Z",
            "2026-01-01T",
            "2026-01-01T00",
            "2026-1-1",
            "tomorrow",
            "2026-01-01T00:00:00+2:00",
            "2026-01-01 00:00",
            "1.5",
            "+5",
            "2026-01-01Z",
            "99999999999999999999",
            "-9223372036854775808",
        ] {
            assert_eq!(Instant::parse(text), None, "{text}");
        }
    }
}

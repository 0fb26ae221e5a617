//! Times of Kubernetes objects.

/// Seconds since 1970 of a Kubernetes time, `2026-01-31T12:00:00Z`.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: Option<&str>| text?.parse::<i64>().ok();
    let mut parts = date.split('-');
    let (year, month, day) = (
        number(parts.next())?,
        number(parts.next())?,
        number(parts.next())?,
    );
    let mut parts = time.split(':');
    let (hour, minute) = (number(parts.next())?, number(parts.next())?);
    let second = number(parts.next()?.split('.').next())?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 by the civil calendar, with years that begin in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_seconds_since_1970() {
        let rows = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2030-01-01T00:00:00Z", Some(1_893_456_000)),
            ("2024-02-29T12:30:15Z", Some(1_709_209_815)),
            ("2026-01-02T03:04:05.678Z", Some(1_767_323_045)),
            ("2026-13-02T03:04:05Z", None),
            ("yesterday", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(seconds(text), wanted, "{text}");
        }
    }
}

//! `The policy failed legacy parsing`: dates.

use super::{Checked, LEGACY, problem, reject};
use crate::condition::{Base, Operator};
use crate::document::Document;

/// Every value of a Date operator must look like a date.
pub(super) fn dates(document: &Document) -> Checked {
    for (index, statement) in document.statements().iter().enumerate() {
        for block in &statement.conditions {
            let is_date = Operator::parse_exact(&block.operator.value)
                .is_some_and(|operator| matches!(operator.base, Base::Date(_)));
            if !is_date {
                continue;
            }
            for value in block.keys.iter().flat_map(|key| &key.values) {
                if !is_acceptable(&value.value) {
                    return Err(reject(
                        LEGACY,
                        problem(
                            "INVALID_CONDITION_DATA_TYPE",
                            index,
                            "Condition",
                            value.span,
                            format!("`{}` is not a date", value.value),
                        )
                        .hint("write 2026-01-31T12:00:00Z, or Unix seconds"),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// What IAM lets pass, which is more than evaluation understands: `01T`, or a year of 292 million.
pub(crate) fn is_acceptable(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if !lower.contains('-') && !lower.contains('t') {
        return lower.parse::<i64>().is_ok_and(|seconds| seconds >= 0);
    }
    let (date, time) = match lower.split_once('t') {
        Some((date, time)) => (date, time),
        None => (&*lower, ""),
    };
    date_part(date) && time_part(time)
}

fn date_part(text: &str) -> bool {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut fields = rest.split('-');
    let year = fields
        .next()
        .and_then(number)
        .map(|year| if negative { -year } else { year });
    let in_range = |field: Option<&str>, most: i64| {
        field.is_none_or(|field| number(field).is_some_and(|value| (1..=most).contains(&value)))
    };
    year.is_some_and(|year| (-292_275_054..=292_278_993).contains(&year))
        && in_range(fields.next(), 12)
        && in_range(fields.next(), 31)
        && fields.next().is_none()
}

fn time_part(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let mut fields = text.splitn(3, ':');
    let hour = fields.next().unwrap_or_default();
    let below = |field: &str, most: i64| number(field).is_some_and(|value| value <= most);
    if !hour.is_empty() && !below(hour, 23) {
        return false;
    }
    if !fields.next().is_none_or(|minute| below(minute, 59)) {
        return false;
    }
    fields.next().is_none_or(seconds)
}

/// `ss`, `ss.fraction`, with `z` or `+hh[:mm]` behind it.
fn seconds(text: &str) -> bool {
    let clock = if let Some((clock, rest)) = text.split_once('z') {
        if !rest.is_empty() {
            return false;
        }
        clock
    } else if let Some((clock, zone)) = text.split_once('+') {
        let (hours, minutes) = match zone.split_once(':') {
            Some((hours, minutes)) => (hours, Some(minutes)),
            None => (zone, None),
        };
        let two = |field: &str, most: i64| {
            field.len() == 2 && number(field).is_some_and(|value| value <= most)
        };
        if !two(hours, 23) || !minutes.is_none_or(|minutes| two(minutes, 59)) {
            return false;
        }
        clock
    } else {
        // Only the first three fields are looked at; what follows another colon is none of them.
        text.split(':').next().unwrap_or_default()
    };
    let (whole, fraction) = match clock.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (clock, None),
    };
    number(whole).is_some_and(|value| value <= 59)
        && fraction.is_none_or(|digits| {
            !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit())
        })
}

fn number(text: &str) -> Option<i64> {
    (!text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

//! Decimal numbers of any size, compared exactly.

use std::cmp::Ordering;

/// A decimal number: sign, significant digits without zeros at either end, and the power of ten of the first digit.
///
/// Borrowed from its text, so reading the request's value allocates nothing. Digits may have a point between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decimal<'t> {
    negative: bool,
    digits: &'t [u8],
    /// 0.d1d2d3... × 10^exponent; meaningless without digits, which is zero.
    exponent: i64,
}

impl<'t> Decimal<'t> {
    /// Reads `[+-]digits[.digits][e[+-]digits]`; `None` for anything else.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (negative, rest) = match bytes {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, bytes),
        };
        let mantissa_len = rest
            .iter()
            .position(|b| matches!(b, b'e' | b'E'))
            .unwrap_or(rest.len());
        let (mantissa, tail) = rest.split_at_checked(mantissa_len)?;
        let power = match tail {
            [] => 0,
            [_, power @ ..] => exponent(power)?,
        };
        let point = mantissa.iter().position(|b| *b == b'.');
        let whole_len = point.unwrap_or(mantissa.len());
        let is_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        let (whole, fraction) = mantissa.split_at_checked(whole_len)?;
        match fraction {
            [] => is_digits(whole).then_some(())?,
            [_, fraction @ ..] => (is_digits(whole) && is_digits(fraction)).then_some(())?,
        }
        let significant = |b: &u8| (b'1'..=b'9').contains(b);
        let Some(first) = mantissa.iter().position(significant) else {
            return Some(Self {
                negative: false,
                digits: &[],
                exponent: 0,
            });
        };
        let last = mantissa.iter().rposition(significant)?;
        let place = if first < whole_len {
            i64::try_from(whole_len - first).ok()?
        } else {
            -i64::try_from(first - whole_len - 1).ok()?
        };
        Some(Self {
            negative,
            digits: mantissa.get(first..=last)?,
            exponent: place.checked_add(power)?,
        })
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) if other.negative => return Ordering::Greater,
            (true, false) => return Ordering::Less,
            (false, true) if self.negative => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        match (self.negative, other.negative) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (true, true) => other.magnitude(self),
            (false, false) => self.magnitude(other),
        }
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        let digits = |number: &Self| number.digits.iter().copied().filter(|b| *b != b'.');
        self.exponent
            .cmp(&other.exponent)
            .then_with(|| digits(self).cmp(digits(other)))
    }
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::Decimal;

    fn compare(left: &str, right: &str) -> Ordering {
        Decimal::parse(left)
            .unwrap()
            .compare(&Decimal::parse(right).unwrap())
    }

    #[test]
    fn equal_values_are_equal_in_any_notation() {
        for (left, right) in [
            ("10", "1e1"),
            ("10", "10.0"),
            ("0.10", "1E-1"),
            ("-0", "0.00"),
            ("+5", "5"),
            ("100e-2", "1"),
            ("0012", "12"),
            ("1.50", "15e-1"),
        ] {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
    }

    #[test]
    fn order_is_exact_beyond_floating_point() {
        for (small, large) in [
            ("9007199254740992", "9007199254740993"),
            ("9.5", "10"),
            ("-10", "-9"),
            ("-1", "0"),
            ("0", "0.0000001"),
            ("99", "1e2"),
            ("0.1", "0.11"),
            ("1e-400", "1e400"),
            ("-2", "1"),
        ] {
            assert_eq!(compare(small, large), Ordering::Less, "{small} {large}");
            assert_eq!(compare(large, small), Ordering::Greater, "{large} {small}");
        }
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in [
            "",
            "ten",
            "1,5",
            "0x10",
            "1e",
            "--1",
            ".5",
            "5.",
            " 1",
            "1 ",
            "1e1e1",
            "NaN",
            "e5",
            "1e9999999999999999",
        ] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }
}

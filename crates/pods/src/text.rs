//! Text of others inside our messages.

use std::fmt;

/// Prints at most `max` characters of a text, control and formatting characters escaped, with a mark when it was cut.
pub(crate) struct Excerpt<'a> {
    pub(crate) text: &'a str,
    pub(crate) max: usize,
}

/// A name, as much of it as a message has room for.
pub(crate) fn name(text: &str) -> Excerpt<'_> {
    Excerpt { text, max: 24 }
}

/// A value, as much of it as a message has room for.
pub(crate) fn value(text: &str) -> Excerpt<'_> {
    Excerpt { text, max: 40 }
}

/// At most `max` characters of a text, as [`Excerpt`] prints them.
pub(crate) fn excerpt(text: &str, max: usize) -> String {
    Excerpt { text, max }.to_string()
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = self.max;
        for c in self.text.chars() {
            // Outside ASCII the API server may drop characters of a warning, and some of them hide or reorder text.
            let escaped = c.is_ascii_control() || !c.is_ascii();
            let width = match escaped {
                true => c.escape_default().count(),
                false => 1,
            };
            let Some(left) = room.checked_sub(width) else {
                return f.write_str("...");
            };
            room = left;
            match escaped {
                true => write!(f, "{}", c.escape_default())?,
                false => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_shows_what_hides() {
        let cases = [
            ("app", "app"),
            ("a\nb", "a\\nb"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("é", "\\u{e9}"),
            ("123456789012345678901234", "123456789012345678901234"),
            ("1234567890123456789012345", "123456789012345678901234..."),
            (
                "1234567890123456789012\n345",
                "1234567890123456789012\\n...",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(name(text).to_string(), expected);
        }
    }
}

//! Base64 values, compared without decoding into memory.

/// Whether both texts are base64 and hold the same bytes; when either is not, whether the texts are equal.
pub(crate) fn equal(left: &str, right: &str) -> bool {
    match (Sextets::new(left), Sextets::new(right)) {
        (Some(left), Some(right)) => left.eq(right),
        _ => left == right,
    }
}

/// Whether the text is base64 with padding (RFC 4648, section 4).
pub(crate) fn is_base64(text: &str) -> bool {
    Sextets::new(text).is_some()
}

struct Sextets<'t>(std::slice::Iter<'t, u8>);

impl<'t> Sextets<'t> {
    /// Equal bytes have equal sextets only if the unused bits of the last one are zero, so others are not accepted.
    fn new(text: &'t str) -> Option<Self> {
        let bytes = text.as_bytes();
        if !bytes.len().is_multiple_of(4) {
            return None;
        }
        let (body, unused) = match bytes {
            [body @ .., b'=', b'='] => (body, 0x0F),
            [body @ .., b'='] => (body, 0x03),
            body => (body, 0),
        };
        let clean = body.iter().all(|byte| sextet(*byte).is_some());
        let last = body.last().and_then(|byte| sextet(*byte)).unwrap_or(0);
        (clean && last & unused == 0).then(|| Self(body.iter()))
    }
}

impl Iterator for Sextets<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.0.next().and_then(|byte| sextet(*byte))
    }
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{equal, is_base64};

    #[test]
    fn equal_bytes_are_equal_and_other_texts_compare_as_text() {
        assert!(equal("QUI=", "QUI="));
        assert!(!equal("QUI=", "QUM="));
        assert!(equal("not base64!", "not base64!"));
        assert!(!equal("QUI=", "AB"));
        assert!(equal("", ""));
    }

    #[test]
    fn padding_and_unused_bits_are_checked() {
        assert!(is_base64("QUI="));
        assert!(!is_base64("QUJ="));
        assert!(!is_base64("QUI"));
        assert!(!is_base64("Q==="));
        assert!(!is_base64("QU=="));
    }
}

//! Percent-encoding as SigV4 wants it: `A-Z a-z 0-9 - . _ ~` stay, everything else is `%XX` in upper case.
//!
//! Canonical text is written into a [`Sink`], so that the same code fills a string for a person to read and feeds a
//! hash without building the string at all.

use std::borrow::Cow;
use std::cmp::Ordering;

use memchr::{memchr, memchr2};

/// Where canonical text goes: a buffer, or a hash.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// What `+` stands for. In a query it is a blank (browsers send it so), in a path it is itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    Blank,
    Literal,
}

/// What becomes of `/` when it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slash {
    Keep,
    Encode,
}

/// A `%` that is not followed by two hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapeFault {
    /// The text ends inside the escape.
    Incomplete,
    /// The two bytes behind `%` are not hex digits.
    NotHex([u8; 2]),
}

/// What a byte may be, as bits: every byte of every signed text is looked up here.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0u8;
    loop {
        let mut class = 0;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            class |= UNRESERVED;
        }
        if byte.is_ascii_digit() || matches!(byte, b'A'..=b'F') {
            class |= UPPER_HEX;
        }
        #[expect(
            clippy::indexing_slicing,
            reason = "a byte is an index into 256 entries, and this runs in the compiler"
        )]
        {
            classes[byte as usize] = class;
        }
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

const UNRESERVED: u8 = 1;
const UPPER_HEX: u8 = 2;

fn is(byte: u8, class: u8) -> bool {
    CLASSES
        .get(usize::from(byte))
        .is_some_and(|c| c & class != 0)
}

fn is_unreserved(byte: u8) -> bool {
    is(byte, UNRESERVED)
}

pub(crate) const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn escape(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or_default();
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

/// Reports the first broken escape.
pub(crate) fn check_escapes(raw: &[u8]) -> Result<(), EscapeFault> {
    let mut rest = raw;
    while let Some(at) = memchr(b'%', rest) {
        rest = rest.get(at + 1..).unwrap_or_default();
        match *rest {
            [a, b, ..] if hex_value(a).is_some() && hex_value(b).is_some() => {}
            [a, b, ..] => return Err(EscapeFault::NotHex([a, b])),
            _ => return Err(EscapeFault::Incomplete),
        }
    }
    Ok(())
}

/// The bytes that `raw` stands for. A broken escape stands for itself; callers that care use [`check_escapes`] first.
pub(crate) struct Decoded<'a> {
    rest: &'a [u8],
    plus: Plus,
}

pub(crate) fn decoded(raw: &[u8], plus: Plus) -> Decoded<'_> {
    Decoded { rest: raw, plus }
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, tail) = self.rest.split_first()?;
        self.rest = tail;
        Some(match (*first, self.plus, tail) {
            (b'+', Plus::Blank, _) => b' ',
            (b'%', _, [a, b, after @ ..]) => match (hex_value(*a), hex_value(*b)) {
                (Some(a), Some(b)) => {
                    self.rest = after;
                    (a << 4) | b
                }
                _ => b'%',
            },
            (byte, _, _) => byte,
        })
    }
}

/// Decodes one query component or path segment; borrows when there is nothing to decode.
pub(crate) fn decode(raw: &[u8], plus: Plus) -> Cow<'_, [u8]> {
    let plain = |b: &u8| *b != b'%' && !(plus == Plus::Blank && *b == b'+');
    if raw.iter().all(plain) {
        Cow::Borrowed(raw)
    } else {
        Cow::Owned(decoded(raw, plus).collect())
    }
}

/// Writes the bytes that a query component stands for.
pub(crate) fn write_decoded(raw: &[u8], plus: Plus, out: &mut impl Sink) {
    let mut rest = raw;
    while !rest.is_empty() {
        let run = memchr2(b'%', b'+', rest).unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(run);
        out.put(plain);
        let mut one = decoded(tail, plus);
        if let Some(byte) = one.next() {
            out.put(&[byte]);
        }
        rest = one.rest;
    }
}

/// Writes `raw` percent-encoded. A `%` is a byte like any other and becomes `%25`.
pub(crate) fn encode(raw: &[u8], slash: Slash, out: &mut impl Sink) {
    let stays = |b: u8| is_unreserved(b) || (b == b'/' && slash == Slash::Keep);
    let mut rest = raw;
    while !rest.is_empty() {
        let run = rest.iter().position(|b| !stays(*b)).unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(run);
        if !plain.is_empty() {
            out.put(plain);
        }
        rest = match tail.split_first() {
            Some((byte, after)) => {
                out.put(&escape(*byte));
                after
            }
            None => tail,
        };
    }
}

/// Writes `raw` decoded once and encoded once.
pub(crate) fn recode(raw: &[u8], plus: Plus, slash: Slash, out: &mut impl Sink) {
    let stays = |b: u8| is_unreserved(b) || (b == b'/' && slash == Slash::Keep);
    let mut rest = raw;
    while !rest.is_empty() {
        // What clients send is canonical nearly always, so the longest canonical stretch is passed on in one piece.
        let mut run = 0;
        while let Some(&byte) = rest.get(run) {
            if stays(byte) {
                run += 1;
            } else if byte == b'%' && is_canonical_escape(rest.get(run + 1..), &stays) {
                run += 3;
            } else {
                break;
            }
        }
        let (canonical, tail) = rest.split_at(run);
        if !canonical.is_empty() {
            out.put(canonical);
        }
        let mut one = decoded(tail, plus);
        if let Some(byte) = one.next() {
            if stays(byte) {
                out.put(&[byte])
            } else {
                out.put(&escape(byte))
            }
        }
        rest = one.rest;
    }
}

/// Whether the two bytes behind a `%` are upper-case hex of a byte that must be escaped.
fn is_canonical_escape(behind: Option<&[u8]>, stays: &impl Fn(u8) -> bool) -> bool {
    match behind {
        Some([a, b, ..]) if is(*a, UPPER_HEX) && is(*b, UPPER_HEX) => {
            matches!((hex_value(*a), hex_value(*b)), (Some(high), Some(low)) if !stays((high << 4) | low))
        }
        _ => false,
    }
}

/// Orders two query components by what [`recode`] would write, without writing it.
pub(crate) fn compare_recoded(a: &[u8], b: &[u8]) -> Ordering {
    let mut i = 0;
    loop {
        match (a.get(i), b.get(i)) {
            (None, None) => return Ordering::Equal,
            (Some(x), Some(y)) if is_unreserved(*x) && is_unreserved(*y) => {
                if x != y {
                    return x.cmp(y);
                }
                i += 1;
            }
            _ => break,
        }
    }
    let canonical = |raw| decoded(raw, Plus::Blank).flat_map(encoded_byte);
    canonical(a.get(i..).unwrap_or_default()).cmp(canonical(b.get(i..).unwrap_or_default()))
}

fn encoded_byte(byte: u8) -> impl Iterator<Item = u8> {
    let text = if is_unreserved(byte) {
        [byte, 0, 0]
    } else {
        escape(byte)
    };
    text.into_iter()
        .take(if is_unreserved(byte) { 1 } else { 3 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(f: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_are_upper_case_and_unneeded_ones_vanish() {
        let q = |raw: &str| written(|o| recode(raw.as_bytes(), Plus::Blank, Slash::Encode, o));
        assert_eq!(q("%3a%2F/a%7Eb+c%41"), "%3A%2F%2Fa~b%20cA");
        assert_eq!(q("100%"), "100%25", "a broken escape stands for itself");
        assert_eq!(q("é"), "%C3%A9");
    }

    #[test]
    fn path_bytes_are_encoded_again_even_lower_case_escapes() {
        let p = |raw: &str| written(|o| encode(raw.as_bytes(), Slash::Keep, o));
        assert_eq!(p("/a%3ab/%3A"), "/a%253ab/%253A");
    }

    #[test]
    fn broken_escapes_are_told_apart() {
        assert_eq!(check_escapes(b"a%20%"), Err(EscapeFault::Incomplete));
        assert_eq!(check_escapes(b"a%2"), Err(EscapeFault::Incomplete));
        assert_eq!(check_escapes(b"%2g%"), Err(EscapeFault::NotHex(*b"2g")));
        assert_eq!(check_escapes(b"%%20"), Err(EscapeFault::NotHex(*b"%2")));
        assert_eq!(check_escapes(b"%2f%2F"), Ok(()));
    }

    proptest! {
        #[test]
        fn order_without_writing_is_the_order_of_what_is_written(
            a in "[a-c~%2Ff+/é -]{0,8}", b in "[a-c~%2Ff+/é -]{0,8}"
        ) {
            let w = |s: &str| written(|o| recode(s.as_bytes(), Plus::Blank, Slash::Encode, o));
            prop_assert_eq!(compare_recoded(a.as_bytes(), b.as_bytes()), w(&a).cmp(&w(&b)));
        }

        #[test]
        fn recoding_keeps_the_meaning_and_is_stable(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let once = { let mut o = Vec::new(); recode(&raw, Plus::Blank, Slash::Encode, &mut o); o };
            let twice = { let mut o = Vec::new(); recode(&once, Plus::Blank, Slash::Encode, &mut o); o };
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(decode(&once, Plus::Blank), decode(&raw, Plus::Blank));
        }
    }
}

//! Which etcd key a record has, and the head that every transaction moves.
//!
//! ```text
//!   PREFIX r/KEY    a record
//!   PREFIX head     what the last transaction of ours was: `1 NONCE MILLISECONDS`
//! ```
//!
//! The head is what makes the rest of this store simple. Its modification revision is that of the last transaction of ours,
//! so that a reader who knows it knows whether anything is still to come, whatever neighbours do and whatever the server's
//! progress notifications are worth (those of etcd before 3.4.25 and 3.5.8 overtake events). And because the nonce is random,
//! an etcd that was put back from a backup and has gone on differently is told from the one that was lost.
//!
//! Anything else below the prefix is not ours and is left alone.

use jiff::Timestamp;

use crate::{Key, Revision};

/// Bytes of a head that are looked at; ours has 50.
const HEAD_BYTES: usize = 128;

/// The names of keys.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    prefix: Vec<u8>,
}

/// What one change of an etcd key is to us.
pub(super) enum Named {
    Record(Key),
    Head,
    /// Not a key that we write.
    Foreign,
}

impl Layout {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.as_bytes().to_vec(),
        }
    }

    /// Everything of ours, as the ends of a range.
    pub(super) fn all(&self) -> (Vec<u8>, Vec<u8>) {
        (self.prefix.clone(), end_of(&self.prefix))
    }

    /// All records whose key begins with `prefix`, as the ends of a range.
    pub(super) fn records(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let from = self.below("r/", prefix);
        let end = end_of(&from);
        (from, end)
    }

    pub(super) fn record(&self, key: &Key) -> Vec<u8> {
        self.below("r/", key.as_str())
    }

    pub(super) fn head(&self) -> Vec<u8> {
        self.below("head", "")
    }

    pub(super) fn named(&self, key: &[u8]) -> Named {
        let Some(rest) = key.strip_prefix(self.prefix.as_slice()) else {
            return Named::Foreign;
        };
        if rest == b"head" {
            return Named::Head;
        }
        rest.strip_prefix(b"r/".as_slice())
            .and_then(|key| std::str::from_utf8(key).ok())
            .and_then(|key| Key::new(key).ok())
            .map_or(Named::Foreign, Named::Record)
    }

    fn below(&self, part: &str, rest: &str) -> Vec<u8> {
        [self.prefix.as_slice(), part.as_bytes(), rest.as_bytes()].concat()
    }
}

/// The first key behind all that begin with `prefix`.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    // Nothing is behind: etcd's word for it.
    vec![0]
}

/// What a head's value says, and where in the history it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) revision: Revision,
    /// The beginning of the value; equal only if it is the same transaction.
    identity: Vec<u8>,
    /// When the writer began, by its clock.
    pub(super) written: Option<Timestamp>,
}

impl Head {
    pub(super) fn read(revision: Revision, value: &[u8]) -> Self {
        let identity: Vec<u8> = value.iter().take(HEAD_BYTES).copied().collect();
        let written = std::str::from_utf8(&identity).ok().and_then(|text| {
            let mut words = text.split(' ');
            let millisecond = words
                .next()
                .filter(|version| *version == "1")
                .and(words.nth(1))?;
            Timestamp::from_millisecond(millisecond.parse().ok()?).ok()
        });
        Self {
            revision,
            identity,
            written,
        }
    }

    /// The value for a transaction that begins now.
    pub(super) fn value(nonce: [u8; 16], now: Timestamp) -> Vec<u8> {
        let nonce: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("1 {nonce} {}", now.as_millisecond()).into_bytes()
    }
}

/// Entry for the fuzzer: any key and value that somebody may have put below our prefix.
pub(crate) fn read_foreign(key: &[u8], value: &[u8]) {
    let layout = Layout::new("/p/");
    if let Named::Record(key) = layout.named(key) {
        assert!(
            matches!(layout.named(&layout.record(&key)), Named::Record(again) if again == key),
            "a record's key is read as it is written"
        );
    }
    let _ = Head::read(Revision::ZERO, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_behind_the_prefix() {
        for (prefix, end) in [
            (b"/a/".as_slice(), b"/a0".as_slice()),
            (b"a\xff\xff", b"b"),
            (b"\xff", b"\0"),
            ("/ä".as_bytes(), b"/\xc3\xa5"),
        ] {
            assert_eq!(end_of(prefix), end, "{prefix:?}");
        }
    }

    #[test]
    fn keys_below_the_prefix_are_told_apart() {
        let layout = Layout::new("/p/");
        for (key, expected) in [
            (b"/p/r/a".as_slice(), "record a"),
            (b"/p/r/head", "record head"),
            (b"/p/head", "head"),
            (b"/p/heads", "foreign"),
            (b"/p/r/", "foreign"),
            (b"/p/r/a\n", "foreign"),
            (b"/p/r/\xff", "foreign"),
            (b"/p/", "foreign"),
            (b"/q/r/a", "foreign"),
            (b"", "foreign"),
        ] {
            let named = match layout.named(key) {
                Named::Record(key) => format!("record {key}"),
                Named::Head => "head".into(),
                Named::Foreign => "foreign".into(),
            };
            assert_eq!(named, expected, "{key:?}");
        }
    }

    #[test]
    fn heads_are_equal_only_for_the_same_transaction() {
        let now = Timestamp::from_millisecond(1_780_000_000_123).unwrap();
        let of =
            |nonce, revision| Head::read(Revision::new(revision), &Head::value([nonce; 16], now));
        assert_eq!(of(1, 5), of(1, 5));
        assert_ne!(of(1, 5), of(2, 5));
        assert_ne!(of(1, 5), of(1, 6));
        assert_eq!(of(1, 5).written, Some(now));
        for foreign in [
            b"".as_slice(),
            b"2 x 5",
            b"1 x",
            b"1 x y",
            b"\xff",
            &[b'1'; 500],
        ] {
            assert_eq!(
                Head::read(Revision::ZERO, foreign).written,
                None,
                "{foreign:?}"
            );
        }
    }
}

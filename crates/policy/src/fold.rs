//! Comparing without case, the way the policy language does: ASCII, and the letters of Latin-1.
//!
//! Documents hold characters up to U+00FF only, so no other letter can stand on the policy's side.

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The bytes of `text` with upper-case letters of ASCII and Latin-1 lowered.
///
/// In UTF-8, À-Þ (without ×) are `C3 80`-`C3 9E` and their lower forms `C3 A0`-`C3 BE`, so one byte of look-behind is enough.
pub(crate) fn folded(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut previous = 0;
    text.bytes().map(move |byte| {
        let lower = if previous == 0xC3 && (0x80..=0x9E).contains(&byte) && byte != 0x97 {
            byte | 0x20
        } else {
            byte.to_ascii_lowercase()
        };
        previous = byte;
        lower
    })
}

/// Whether two texts are equal without regard to case.
pub(crate) fn eq(left: &str, right: &str) -> bool {
    left.len() == right.len() && (left == right || folded(left).eq(folded(right)))
}

/// A lower-cased copy.
pub(crate) fn lower(text: &str) -> Box<str> {
    String::from_utf8(folded(text).collect())
        .unwrap_or_default()
        .into()
}

/// A hash that is equal for texts that are [`eq`].
pub(crate) fn hash(text: &str) -> u64 {
    extend_hash(FNV_OFFSET, text)
}

/// Continues a hash: `extend_hash(hash(a), b) == hash(a + b)` when no letter is split between them.
pub(crate) fn extend_hash(hash: u64, text: &str) -> u64 {
    folded(text).fold(hash, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
    })
}

//! Comparing short texts without a call: most names here have fewer than sixteen bytes, where `memcmp` costs more than it compares.

/// Whether two byte strings are equal.
#[inline]
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    match left.len() {
        0 => true,
        1..=3 => left.iter().eq(right),
        // Two words that overlap cover every length in between.
        4..=7 => {
            left.first_chunk::<4>() == right.first_chunk::<4>()
                && left.last_chunk::<4>() == right.last_chunk::<4>()
        }
        8..=16 => {
            left.first_chunk::<8>() == right.first_chunk::<8>()
                && left.last_chunk::<8>() == right.last_chunk::<8>()
        }
        _ => left == right,
    }
}

/// What remains of `text` behind `prefix`.
#[inline]
pub(crate) fn strip_prefix<'t>(text: &'t [u8], prefix: &[u8]) -> Option<&'t [u8]> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    same(head, prefix).then_some(rest)
}

/// What remains of `text` before `suffix`.
#[inline]
pub(crate) fn strip_suffix<'t>(text: &'t [u8], suffix: &[u8]) -> Option<&'t [u8]> {
    let (rest, tail) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    same(tail, suffix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::{same, strip_prefix, strip_suffix};

    #[test]
    fn every_length_compares_every_byte() {
        let text: Vec<u8> = (0..40).collect();
        for len in 0..40 {
            let own = &text[..len];
            assert!(same(own, own));
            assert_eq!(strip_prefix(&text, own), Some(&text[len..]));
            assert_eq!(strip_suffix(&text, &text[len..]), Some(own));
            for at in 0..len {
                let mut other = own.to_vec();
                other[at] ^= 0x80;
                assert!(!same(own, &other), "{len} {at}");
                assert_eq!(strip_prefix(&text, &other), None);
            }
        }
        assert!(!same(b"a", b"ab"));
        assert_eq!(strip_suffix(b"a", b"ab"), None);
    }
}

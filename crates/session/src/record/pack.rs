//! Short forms of ids inside tokens: unique ids are base32, request ids are UUIDs, and tokens go into presigned URLs,
//! where each byte counts.

use countersign_arn::AccountId;
use countersign_arn::unique_id::Kind;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Kinds that records refer to; the position is the first byte of the packed form.
const KINDS: [Kind; 4] = [
    Kind::AccessKey,
    Kind::TemporaryAccessKey,
    Kind::User,
    Kind::Role,
];
/// A one and the account.
const ACCOUNT_BITS: usize = 41;
/// One byte for the kind and 85 bits for 17 characters.
const MAX_PACKED: usize = 12;

/// An id of the documented length and alphabet as bytes, or nothing when it has another form. When it is an id of
/// `account`, which the reader knows from elsewhere, the account is left out.
pub(super) fn pack_id(id: &str, account: Option<AccountId>) -> Option<([u8; MAX_PACKED], usize)> {
    let kind = Kind::of(id)?;
    let index = KINDS.iter().position(|known| *known == kind)?;
    if id.len() != kind.id_len() {
        return None;
    }
    let mut bits = 0u128;
    for letter in id.bytes().skip(4) {
        let digit = ALPHABET.iter().position(|known| *known == letter)?;
        bits = (bits << 5) | u128::try_from(digit).ok()?;
    }
    let whole = 5 * (kind.id_len() - 4);
    let rest = whole - ACCOUNT_BITS;
    let head = account.map(account_head);
    let (bits, length) = if head == Some(bits >> rest) {
        (bits & ((1 << rest) - 1), rest)
    } else {
        (bits, whole)
    };
    let (bytes, spare) = width(length);
    let mut bits = bits << spare;
    let mut out = [0u8; MAX_PACKED];
    for (at, byte) in out.iter_mut().enumerate().take(bytes + 1).rev() {
        *byte = if at == 0 {
            u8::try_from(index).ok()?
        } else {
            u8::try_from(bits & 0xff).ok()?
        };
        bits >>= 8;
    }
    Some((out, bytes + 1))
}

/// The inverse of [`pack_id`].
pub(super) fn unpack_id(packed: &[u8], account: Option<AccountId>) -> Option<Box<str>> {
    let (index, body) = packed.split_first()?;
    let kind = *KINDS.get(usize::from(*index))?;
    let letters = kind.id_len() - 4;
    let (whole, rest) = (5 * letters, 5 * letters - ACCOUNT_BITS);
    let (head, length) = match account {
        _ if body.len() == width(whole).0 => (0, whole),
        Some(account) if body.len() == width(rest).0 => (account_head(account) << rest, rest),
        _ => return None,
    };
    let (_, spare) = width(length);
    let bits = body
        .iter()
        .fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
    let tail = bits >> spare;
    if tail << spare != bits || tail >> length != 0 {
        return None;
    }
    let bits = head | tail;
    let mut id = String::with_capacity(kind.id_len());
    id.push_str(kind.prefix());
    for at in (0..letters).rev() {
        let digit = usize::try_from((bits >> (5 * at)) & 31).ok()?;
        id.push(char::from(*ALPHABET.get(digit)?));
    }
    Some(id.into())
}

/// The bits that every id of `account` begins with: a one and forty bits of the account (STS spec, section 7.2).
fn account_head(account: AccountId) -> u128 {
    (1 << (ACCOUNT_BITS - 1)) | u128::from(account.as_number())
}

/// The bytes that hold so many bits, and the unused bits at their end.
const fn width(bits: usize) -> (usize, usize) {
    let bytes = bits.div_ceil(8);
    (bytes, 8 * bytes - bits)
}

/// A lower-case UUID with hyphens as its 16 bytes.
pub(super) fn pack_uuid(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let mut out = [0u8; 16];
    let mut digits = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        let slot = out.get_mut(digits / 2)?;
        *slot = (*slot << 4) | digit;
        digits += 1;
    }
    Some(out)
}

/// The inverse of [`pack_uuid`].
pub(super) fn unpack_uuid(bytes: &[u8; 16]) -> Box<str> {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountId {
        "111122223333".parse().unwrap()
    }

    #[test]
    fn ids_of_the_documented_form_pack_and_come_back() {
        for (id, whole, of_account) in [
            ("AROARTX3GSDSURLGMXGED", 12, 7),
            ("AIDARTX3GSDSURLGMXGED", 12, 7),
            ("ASIARTX3GSDS7RSUJJ3G", 11, 6),
            ("AKIARTX3GSDSXFDOCIS2", 11, 6),
            ("AKIAIOSFODNN7EXAMPLE", 11, 11),
            ("AKIARZPUZDIKKJDEGXDN", 11, 11),
            ("AROA77777777777777777", 12, 12),
            ("ASIAAAAAAAAAAAAAAAAA", 11, 11),
        ] {
            for (account, length) in [(None, whole), (Some(account()), of_account)] {
                let (packed, n) = pack_id(id, account).unwrap();
                assert_eq!(n, length, "{id}");
                assert_eq!(unpack_id(&packed[..n], account).as_deref(), Some(id));
            }
        }
    }

    #[test]
    fn other_ids_do_not_pack() {
        for id in [
            "AROAORCHARDREADER0001",
            "AROARTX3GSDSURLGMXGEd",
            "AROARTX3GSDSURLGMXGEDX",
            "AROARTX3GSDSURLGMXGE",
            "AGPARTX3GSDSURLGMXGED",
            "",
            "AROA",
        ] {
            assert!(pack_id(id, None).is_none(), "{id}");
            assert!(pack_id(id, Some(account())).is_none(), "{id}");
        }
    }

    #[test]
    fn packed_ids_have_one_form() {
        let (packed, n) = pack_id("AROARTX3GSDSURLGMXGED", None).unwrap();
        let mut spare = packed;
        spare[n - 1] |= 1;
        assert_eq!(unpack_id(&spare[..n], None), None, "unused bits are zero");
        assert_eq!(unpack_id(&packed[..n - 1], None), None);
        assert_eq!(unpack_id(&packed[..7], None), None, "needs an account");
        assert_eq!(unpack_id(&[9; 12], None), None);
        assert_eq!(unpack_id(&[], None), None);
    }

    #[test]
    fn request_ids_pack_only_as_lower_case_uuids() {
        let id = "0b7d1c52-7f7e-4c46-9f39-6d2f8c0e51aa";
        assert_eq!(&*unpack_uuid(&pack_uuid(id).unwrap()), id);
        for other in [
            "0B7D1C52-7F7E-4C46-9F39-6D2F8C0E51AA",
            "0b7d1c527f7e4c469f396d2f8c0e51aa",
            "0b7d1c52-7f7e-4c46-9f39-6d2f8c0e51a",
            "0b7d1c52-7f7e-4c46-9f39-6d2f8c0e51ag",
            "0b7d1c52+7f7e-4c46-9f39-6d2f8c0e51aa",
        ] {
            assert_eq!(pack_uuid(other), None, "{other}");
        }
    }
}

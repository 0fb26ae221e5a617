//! Public keys as SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7): the few DER forms of which key ids are digests.

use crate::algorithm::KeyType;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// `SEQUENCE { OID rsaEncryption, NULL }`
const RSA: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// `SEQUENCE { OID ecPublicKey, OID prime256v1 }`
const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];
/// `SEQUENCE { OID ecPublicKey, OID secp384r1 }`
const P384: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x22,
];
/// `SEQUENCE { OID ecPublicKey, OID secp521r1 }`
const P521: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x23,
];

/// The key with modulus `n` and exponent `e`, big-endian.
pub(crate) fn rsa(n: &[u8], e: &[u8]) -> Vec<u8> {
    let mut numbers = integer(n);
    numbers.extend(integer(e));
    info(RSA, &element(SEQUENCE, &numbers))
}

/// The key at the uncompressed `point`.
pub(crate) fn ec(curve: KeyType, point: &[u8]) -> Vec<u8> {
    info(identifier(curve), point)
}

/// The uncompressed point of a key that is written as [`ec`] writes it.
pub(crate) fn point_of(info_der: &[u8]) -> Option<(KeyType, &[u8])> {
    [KeyType::P256, KeyType::P384, KeyType::P521]
        .into_iter()
        .find_map(|curve| {
            let bytes = 1 + 2 * curve.coordinate_bytes()?;
            let at = info_der.len().checked_sub(bytes)?;
            let (_, point) = info_der.split_at_checked(at)?;
            (ec(curve, point) == info_der).then_some((curve, point))
        })
}

/// Modulus and exponent of a key that is written as [`rsa`] writes it.
pub(crate) fn rsa_of(info_der: &[u8]) -> Option<(&[u8], &[u8])> {
    let content = whole(SEQUENCE, info_der)?;
    let bits = whole(BIT_STRING, content.strip_prefix(RSA)?)?;
    rsa_numbers(bits.strip_prefix(&[0])?)
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017, appendix A.1.1).
pub(crate) fn rsa_numbers(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (modulus, rest) = first(INTEGER, whole(SEQUENCE, key)?)?;
    Some((modulus, whole(INTEGER, rest)?))
}

/// The content of the one element that `der` is.
fn whole(tag: u8, der: &[u8]) -> Option<&[u8]> {
    first(tag, der)
        .filter(|(_, rest)| rest.is_empty())
        .map(|(content, _)| content)
}

/// The content of the first element, and what is behind it.
fn first(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = if *length < 0x80 {
        (usize::from(*length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        let value = digits
            .iter()
            .fold(0, |value: usize, digit| value << 8 | usize::from(*digit));
        (value, rest)
    };
    rest.split_at_checked(length)
}

fn identifier(key: KeyType) -> &'static [u8] {
    match key {
        KeyType::Rsa => RSA,
        KeyType::P256 => P256,
        KeyType::P384 => P384,
        KeyType::P521 => P521,
    }
}

fn info(identifier: &[u8], key: &[u8]) -> Vec<u8> {
    let mut bits = vec![0];
    bits.extend_from_slice(key);
    let mut content = identifier.to_vec();
    content.extend(element(BIT_STRING, &bits));
    element(SEQUENCE, &content)
}

/// A number without a sign: one zero byte in front where the first bit is set.
fn integer(big_endian: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(big_endian.len() + 1);
    if big_endian.first().is_none_or(|first| first & 0x80 != 0) {
        content.push(0);
    }
    content.extend_from_slice(big_endian);
    element(INTEGER, &content)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let digits: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            // A length has at most eight digits.
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend(digits);
        }
    }
    out.extend_from_slice(content);
    out
}

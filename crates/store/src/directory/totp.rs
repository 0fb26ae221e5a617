//! Codes of virtual MFA devices: HMAC-SHA-1, steps of 30 seconds, 6 digits (RFC 4226 and RFC 6238).

use aws_lc_rs::hmac;
use jiff::Timestamp;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::SecretString;

/// Seconds of a step.
const STEP_SECONDS: i64 = 30;
const MODULUS: u32 = 1_000_000;
/// Digits of a code.
const DIGITS: usize = 6;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The number of the step that a time is in.
pub(super) fn step_at(now: Timestamp) -> i64 {
    now.as_second().div_euclid(STEP_SECONDS)
}

/// What a device with this seed, in base32 without padding, shows at a time. `None` when the seed is not base32.
#[must_use]
pub fn totp_code(seed: &SecretString, at: Timestamp) -> Option<String> {
    Some(Device::new(seed)?.code(step_at(at)))
}

/// A device's key, ready to compute codes.
pub(super) struct Device(hmac::Key);

impl Device {
    pub(super) fn new(seed: &SecretString) -> Option<Self> {
        let bytes = base32_decode(seed.expose())?;
        Some(Self(hmac::Key::new(
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            &bytes,
        )))
    }

    fn code(&self, step: i64) -> String {
        let tag = hmac::sign(&self.0, &step.to_be_bytes());
        let tag = tag.as_ref();
        // The low four bits of the last byte say where the 31 bits begin; a tag of 20 bytes has all these places.
        let from = usize::from(tag.last().copied().unwrap_or_default() & 0xf);
        let bytes = tag.get(from..).and_then(|tail| tail.first_chunk::<4>());
        let number = u32::from_be_bytes(bytes.copied().unwrap_or_default()) & 0x7fff_ffff;
        let code = number.checked_rem(MODULUS).unwrap_or_default();
        format!("{code:0DIGITS$}")
    }

    fn shows(&self, step: i64, code: &str) -> bool {
        self.code(step).as_bytes().ct_eq(code.as_bytes()).into()
    }

    /// The first step from `from` to `to`, and after `after`, whose code this is. Looks at all of them, whichever it is.
    pub(super) fn step_of(
        &self,
        code: &str,
        from: i64,
        to: i64,
        after: Option<i64>,
    ) -> Option<i64> {
        let fresh = |step: i64| after.is_none_or(|after| step > after);
        (from..=to).fold(None, |found, step| {
            let right = self.shows(step, code) && fresh(step);
            found.or(right.then_some(step))
        })
    }

    /// The step nearest to `now`, at most `reach` away and after `after`, whose code is the first one while that of the
    /// next step is the second.
    pub(super) fn pair_of(
        &self,
        codes: [&str; 2],
        now: i64,
        reach: i64,
        after: Option<i64>,
    ) -> Option<i64> {
        let [first, second] = codes;
        let fresh = |step: i64| after.is_none_or(|after| step > after);
        let steps = now.saturating_sub(reach)..=now.saturating_add(reach);
        steps
            .filter(|step| {
                let (this, next) = (
                    self.shows(*step, first),
                    self.shows(step.saturating_add(1), second),
                );
                this && next && fresh(*step)
            })
            .min_by_key(|step| step.abs_diff(now))
    }
}

/// Base32 (RFC 4648) without padding, of bytes whose number is a multiple of five.
pub(super) fn base32_encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().saturating_mul(2)));
    for chunk in bytes.chunks(5) {
        let bits = chunk
            .iter()
            .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for place in (0..8).rev() {
            let index = usize::try_from(bits >> (place * 5) & 31).unwrap_or_default();
            let letter = ALPHABET.get(index).copied().unwrap_or_default();
            text.push(char::from(letter));
        }
    }
    text
}

fn base32_decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let (mut bits, mut count) = (0_u32, 0_u32);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 5 & 0xffff | u32::try_from(value).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appendix B of RFC 6238, the last six digits; the seed is the ASCII text 12345678901234567890.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let seed = SecretString::new("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let at = Timestamp::from_second(seconds).unwrap();
            assert_eq!(totp_code(&seed, at).unwrap(), code, "{seconds}");
        }
    }

    #[test]
    fn base32_is_read_as_it_is_written() {
        for length in [5, 10, 40] {
            let bytes: Vec<u8> = (0..length).map(|n: u8| n.wrapping_mul(73)).collect();
            let text = base32_encode(&bytes);
            assert_eq!(text.len(), bytes.len() / 5 * 8);
            assert_eq!(*base32_decode(&text).unwrap(), bytes);
        }
        assert_eq!(*base32_encode(b"12345"), "GEZDGNBV");
        for bad in ["a", "1", "A=", "Ä", " "] {
            assert!(base32_decode(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_step_counts_only_inside_the_window_and_behind_the_last_one() {
        let device = Device::new(&SecretString::new("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")).unwrap();
        let code = device.code(100);
        for (from, to, after, found) in [
            (99, 101, None, true),
            (100, 100, None, true),
            (99, 101, Some(99), true),
            (99, 101, Some(100), false),
            (99, 101, Some(500), false),
            (101, 103, None, false),
            (97, 99, None, false),
            (103, 97, None, false),
        ] {
            let step = device.step_of(&code, from, to, after);
            assert_eq!(step, found.then_some(100), "{from} {to} {after:?}");
        }
        for not_a_code in ["", "1", "1234567", "abcdef", "００００００"] {
            assert_eq!(
                device.step_of(not_a_code, 0, 200, None),
                None,
                "{not_a_code}"
            );
        }
        let next = device.code(101);
        for (codes, now, after, found) in [
            ([&*code, &*next], 100, None, true),
            ([&*code, &*next], 105, None, true),
            ([&*code, &*next], 106, None, false),
            ([&*code, &*next], 100, Some(100), false),
            ([&*next, &*code], 100, None, false),
            ([&*code, &*code], 100, None, false),
        ] {
            let step = device.pair_of(codes, now, 5, after);
            assert_eq!(step, found.then_some(100), "{codes:?} {now} {after:?}");
        }
    }
}

//! The only place that touches a hash function.
//!
//! SHA-256 and HMAC come from the `sha2` and `hmac` crates, not from aws-lc-rs, because a verification hashes a few
//! hundred bytes in many small pieces. Measured on a CPU with SHA instructions: the hash itself costs the same, but
//! `aws_lc_rs::digest::Context` takes memory from the C heap for each message, a fresh HMAC key costs twice as much,
//! and a prepared one is 1,232 bytes instead of 144, which matters in a cache of thousands. These crates also wipe
//! their state when it is dropped and build for any target. Replacing them means editing this file alone.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::encode::Sink;

/// Bytes of a SHA-256 digest or HMAC-SHA256 tag.
pub(crate) const DIGEST: usize = 32;
/// Bytes of a digest as lower-case hex.
pub(crate) const HEX: usize = 64;
const BLOCK: usize = 64;

/// Lower-case hex SHA-256 of no bytes: the payload hash of a request without a body.
pub(crate) const EMPTY_SHA256: &[u8; HEX] =
    b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A SHA-256 in progress that canonical text can be written into piece by piece.
pub(crate) struct Sha256Sink {
    hash: Sha256,
    /// Gathers the many pieces of a few bytes, each of which would cost the hash more than its bytes do.
    pending: [u8; PENDING],
    len: usize,
}

const PENDING: usize = 256;

impl Sha256Sink {
    pub(crate) fn new() -> Self {
        Self {
            hash: Sha256::new(),
            pending: [0; PENDING],
            len: 0,
        }
    }

    pub(crate) fn finish(mut self) -> [u8; DIGEST] {
        self.flush();
        self.hash.finalize().into()
    }

    fn flush(&mut self) {
        self.hash
            .update(self.pending.get(..self.len).unwrap_or_default());
        self.len = 0;
    }
}

impl Sink for Sha256Sink {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(free) = self.pending.get_mut(self.len..end) {
            free.copy_from_slice(bytes);
            self.len = end;
            return;
        }
        self.flush();
        match self.pending.get_mut(..bytes.len()) {
            Some(free) => {
                free.copy_from_slice(bytes);
                self.len = bytes.len();
            }
            None => self.hash.update(bytes),
        }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; DIGEST] {
    Sha256::digest(bytes).into()
}

/// An HMAC-SHA256 key with both pads already absorbed; wiped on drop.
#[derive(Clone)]
pub(crate) struct HmacKey(Hmac<Sha256>);

impl HmacKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self::from_parts(&[key])
    }

    /// The key is the concatenation of `parts`, which is never built up when it fits one block.
    pub(crate) fn from_parts(parts: &[&[u8]]) -> Self {
        let mut block = Zeroizing::new([0u8; BLOCK]);
        let mut free = block.as_mut_slice();
        let fits = parts.iter().map(|p| p.len()).sum::<usize>() <= BLOCK;
        if fits {
            for part in parts {
                let (head, tail) = free.split_at_mut(part.len());
                head.copy_from_slice(part);
                free = tail;
            }
        } else {
            let mut hash = Sha256::new();
            for part in parts {
                hash.update(part);
            }
            let mut digest: [u8; DIGEST] = hash.finalize().into();
            let (head, _) = free.split_at_mut(DIGEST);
            head.copy_from_slice(&digest);
            digest.zeroize();
        }
        let mut key = hmac::digest::Key::<Hmac<Sha256>>::from(*block);
        let mac = Hmac::<Sha256>::new(&key);
        key.as_mut_slice().zeroize();
        Self(mac)
    }

    pub(crate) fn sign(&self, parts: &[&[u8]]) -> [u8; DIGEST] {
        #[cfg(test)]
        hook::count();
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Lower-case hex.
pub(crate) fn hex(digest: &[u8; DIGEST]) -> [u8; HEX] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or_default();
    let mut out = [0u8; HEX];
    for (pair, byte) in out.chunks_exact_mut(2).zip(digest) {
        if let [high, low] = pair {
            *high = digit(byte >> 4);
            *low = digit(byte & 15);
        }
    }
    out
}

/// Decodes exactly 64 hex digits of either case.
pub(crate) fn unhex(text: &[u8]) -> Option<[u8; DIGEST]> {
    if text.len() != HEX {
        return None;
    }
    let mut out = [0u8; DIGEST];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (crate::encode::hex_value(*high)? << 4) | crate::encode::hex_value(*low)?;
    }
    Some(out)
}

/// Equality that takes the same time wherever the difference is. Lengths are not secret.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    bool::from(a.ct_eq(b))
}

/// Counts HMAC computations, so that a test can show that two refusals cost the same work.
#[cfg(test)]
pub(crate) mod hook {
    use std::cell::Cell;

    thread_local!(static SIGNED: Cell<usize> = const { Cell::new(0) });

    pub(crate) fn count() {
        SIGNED.with(|c| c.set(c.get() + 1));
    }

    /// HMACs computed by `work` on this thread.
    pub(crate) fn hmacs(work: impl FnOnce()) -> usize {
        let before = SIGNED.with(Cell::get);
        work();
        SIGNED.with(Cell::get) - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_payload_hash_is_the_hash_of_nothing() {
        assert_eq!(&hex(&sha256(b"")), EMPTY_SHA256);
        assert_eq!(unhex(EMPTY_SHA256), Some(sha256(b"")));
    }

    #[test]
    fn pieces_of_any_length_hash_as_their_concatenation() {
        let data: Vec<u8> = (0..2000u32).map(|i| i as u8).collect();
        for piece in [1, 7, 63, 255, 256, 257, 600, 2000] {
            let mut sink = Sha256Sink::new();
            for (i, bytes) in data.chunks(piece).enumerate() {
                sink.put(bytes);
                if i % 3 == 0 {
                    sink.put(b"");
                }
            }
            assert_eq!(sink.finish(), sha256(&data), "{piece}");
        }
    }

    #[test]
    fn hmac_of_a_long_key_hashes_the_key_first() {
        let long = [7u8; 100];
        let a = HmacKey::from_parts(&[&long[..40], &long[40..]]).sign(&[b"x"]);
        let b = HmacKey::new(&sha256(&long)).sign(&[b"x"]);
        assert_eq!(a, b);
    }

    #[test]
    fn hex_of_other_lengths_or_digits_is_refused() {
        assert!(unhex(&EMPTY_SHA256[1..]).is_none());
        assert!(unhex(&[b'g'; 64]).is_none());
    }
}

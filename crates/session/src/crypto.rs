//! The only place that touches cryptography.
//!
//! The AEAD is AES-256-GCM-SIV from aws-lc-rs, the one crypto library of the workspace. Of the two the STS spec
//! prefers, it is the one that library offers (XChaCha20-Poly1305 it does not). A random 96-bit nonce is then safe far
//! beyond the 2^32 tokens that plain AES-GCM allows a key, and should a nonce ever repeat, only the equality of two
//! identical records would show: the key and other records stay safe.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

use crate::secret::SecretAccessKey;

/// Bytes of key material of one kid.
pub(crate) const SECRET: usize = 32;
/// Bytes of a nonce.
pub(crate) const NONCE: usize = 12;
/// Bytes of an authentication tag.
pub(crate) const TAG: usize = 16;
/// Bytes of a secret seed.
pub(crate) const SEED: usize = 16;
/// Bytes of a SHA-256 digest.
pub(crate) const DIGEST: usize = 32;

/// A key made ready for use: what is derived from the 32 secret bytes of a kid.
///
/// Sealing and secret derivation use two independent keys expanded from the secret, because one key should never serve
/// two primitives.
pub(crate) struct Material {
    secret: Zeroizing<[u8; SECRET]>,
    aead: LessSafeKey,
    secrets: hmac::Key,
    fingerprint: [u8; 8],
}

/// The library refused; with keys of the right length it never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CryptoFailure;

impl Material {
    pub(crate) fn new(secret: Zeroizing<[u8; SECRET]>) -> Result<Self, CryptoFailure> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA512, b"countersign/key/1").extract(&*secret);
        let expand = |label: &[u8], out: &mut [u8]| {
            root.expand(&[label], Length(out.len()))
                .and_then(|okm| okm.fill(out))
                .map_err(|_| CryptoFailure)
        };
        let mut key = Zeroizing::new([0u8; 32]);
        expand(b"aead", &mut *key)?;
        let aead = UnboundKey::new(&AES_256_GCM_SIV, &*key).map_err(|_| CryptoFailure)?;
        expand(b"secret access keys", &mut *key)?;
        let secrets = hmac::Key::new(hmac::HMAC_SHA512, &*key);
        let mut fingerprint = [0u8; 8];
        expand(b"fingerprint", &mut fingerprint)?;
        Ok(Self {
            secret,
            aead: LessSafeKey::new(aead),
            secrets,
            fingerprint,
        })
    }

    pub(crate) fn secret(&self) -> &[u8; SECRET] {
        &self.secret
    }

    /// Tells keys apart without telling anything about them.
    pub(crate) fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    /// Encrypts in place and returns the tag.
    pub(crate) fn seal(
        &self,
        nonce: [u8; NONCE],
        bound: &[u8],
        plaintext: &mut [u8],
    ) -> Result<[u8; TAG], CryptoFailure> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .aead
            .seal_in_place_separate_tag(nonce, Aad::from(bound), plaintext)
            .map_err(|_| CryptoFailure)?;
        tag.as_ref().try_into().map_err(|_| CryptoFailure)
    }

    /// Decrypts `ciphertext ‖ tag` in place; the tag is compared in constant time.
    pub(crate) fn open<'b>(
        &self,
        nonce: [u8; NONCE],
        bound: &[u8],
        sealed: &'b mut [u8],
    ) -> Result<&'b mut [u8], CryptoFailure> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.aead
            .open_in_place(nonce, Aad::from(bound), sealed)
            .map_err(|_| CryptoFailure)
    }

    /// The secret access key of a session: the first 40 characters of
    /// base64(HMAC-SHA-512(key, "secret" ‖ key id ‖ seed)) (STS spec, section 8.2).
    pub(crate) fn secret_access_key(
        &self,
        access_key_id: &str,
        seed: &[u8; SEED],
    ) -> SecretAccessKey {
        let mut context = hmac::Context::with_key(&self.secrets);
        context.update(b"secret");
        context.update(access_key_id.as_bytes());
        context.update(seed);
        let tag = context.sign();
        let mut text = Zeroizing::new([0u8; 40]);
        let mut bytes = Zeroizing::new([0u8; 30]);
        for (byte, from) in bytes.iter_mut().zip(tag.as_ref()) {
            *byte = *from;
        }
        // Thirty bytes are exactly forty characters, so this cannot run out of room.
        if STANDARD_NO_PAD.encode_slice(*bytes, &mut *text).is_err() {
            text.zeroize();
        }
        SecretAccessKey::from_ascii(text)
    }
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; DIGEST] {
    let mut out = [0u8; DIGEST];
    for (to, from) in out
        .iter_mut()
        .zip(digest::digest(&digest::SHA256, bytes).as_ref())
    {
        *to = *from;
    }
    out
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_session_follows_the_documented_formula() {
        let material = Material::new(Zeroizing::new([7; SECRET])).unwrap();
        let seed = [9u8; SEED];
        let mut key = [0u8; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA512, b"countersign/key/1")
            .extract(&[7u8; 32])
            .expand(&[b"secret access keys"], Length(32))
            .unwrap()
            .fill(&mut key)
            .unwrap();
        let message = [b"secret".as_slice(), b"ASIARTX3GSDS7RSUJJ3G", &seed].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, &key), &message);
        let whole = base64::engine::general_purpose::STANDARD.encode(tag.as_ref());
        let secret = material.secret_access_key("ASIARTX3GSDS7RSUJJ3G", &seed);
        assert_eq!(secret.expose(), &whole[..40]);
    }

    #[test]
    fn different_secrets_have_different_fingerprints() {
        let of = |byte| {
            Material::new(Zeroizing::new([byte; SECRET]))
                .unwrap()
                .fingerprint()
        };
        assert_ne!(of(1), of(2));
        assert_eq!(of(1), of(1));
    }

    #[test]
    fn aes_256_gcm_siv_gives_the_published_answer() {
        // RFC 8452, appendix C.2: key 01 00…, nonce 03 00…, plaintext 01 00 00 00 00 00 00 00, no associated data.
        let mut key = [0u8; 32];
        key[0] = 1;
        let mut nonce = [0u8; 12];
        nonce[0] = 3;
        let mut text = [1u8, 0, 0, 0, 0, 0, 0, 0];
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key).unwrap());
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut text,
            )
            .unwrap();
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        assert_eq!(hex(&text), "c2ef328e5c71c83b");
        assert_eq!(hex(tag.as_ref()), "843122130f7364b761e0b97427e3df28");
    }
}

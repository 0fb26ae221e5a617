//! Session tokens of the guard (imds spec, sections 1.2 and 1.4): nothing is kept, so that a pod that asks for many costs no
//! memory.
//!
//! A token is the end of its life, sealed. The pod's uid and the node's boot id are authenticated with it, so the token of one
//! pod, or of an earlier boot, does not open for another. 48 characters.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use zeroize::Zeroizing;

/// Longest text that is looked at.
pub const MAX_TOKEN_BYTES: usize = 128;
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

const NONCE: usize = 12;
const SEALED: usize = NONCE + 8 + 16;
/// Nonces are random; after this many one of them may come again.
const MOST: u64 = 1 << 32;

/// Why there is no key or no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no randomness, or the key of session tokens cannot be used")]
pub struct NoKey;

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionFault {
    /// It was not made by this key for this pod on this boot.
    NotOurs,
    /// Its life is over.
    Expired,
}

/// The key of session tokens.
pub struct SessionKey {
    key: RandomizedNonceKey,
    issued: AtomicU64,
}

impl SessionKey {
    /// Bytes for a new key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random() -> Result<Zeroizing<[u8; KEY_BYTES]>, NoKey> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(&mut *bytes).map_err(|_| NoKey)?;
        Ok(bytes)
    }

    /// The key of these bytes.
    ///
    /// # Errors
    /// When the library refuses them.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Result<Self, NoKey> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| NoKey)?;
        Ok(Self {
            key,
            issued: AtomicU64::new(0),
        })
    }

    /// Whether it has made so many tokens that another must take its place.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.issued.load(Ordering::Relaxed) >= MOST
    }

    /// A token for this pod on this boot that counts until `end`.
    ///
    /// # Errors
    /// When the key is spent, or the system has no randomness.
    pub fn issue(&self, pod_uid: &str, boot_id: &str, end: Timestamp) -> Result<String, NoKey> {
        if self.issued.fetch_add(1, Ordering::Relaxed) >= MOST {
            return Err(NoKey);
        }
        let mut sealed = end.as_millisecond().to_be_bytes().to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(context(pod_uid, boot_id)), &mut sealed)
            .map_err(|_| NoKey)?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Whether this is a token of this pod on this boot that still counts. Comparison takes the same time whatever is wrong.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(
        &self,
        token: &str,
        pod_uid: &str,
        boot_id: &str,
        now: Timestamp,
    ) -> Result<(), SessionFault> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(SessionFault::NotOurs);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| SessionFault::NotOurs)?;
        let (nonce, sealed) = bytes
            .split_first_chunk::<NONCE>()
            .filter(|_| bytes.len() == SEALED)
            .ok_or(SessionFault::NotOurs)?;
        let mut sealed = sealed.to_vec();
        let opened = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(context(pod_uid, boot_id)),
                &mut sealed,
            )
            .map_err(|_| SessionFault::NotOurs)?;
        let end = opened.first_chunk().ok_or(SessionFault::NotOurs)?;
        if i64::from_be_bytes(*end) <= now.as_millisecond() {
            return Err(SessionFault::Expired);
        }
        Ok(())
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey")
    }
}

/// Length first, so that no pair of texts runs into another.
fn context(pod_uid: &str, boot_id: &str) -> Vec<u8> {
    let mut context = (pod_uid.len() as u64).to_be_bytes().to_vec();
    context.extend_from_slice(pod_uid.as_bytes());
    context.extend_from_slice(boot_id.as_bytes());
    context
}

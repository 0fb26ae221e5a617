//! Sealing: secrets at rest, readable only with the root key and only in the place they were sealed for.
//!
//! A sealed secret is `s1.KEYID.BASE64(nonce ‖ ciphertext ‖ tag)`, AES-256-GCM-SIV: an accidentally repeated nonce tells
//! no more than that two equal secrets are equal, so that no counter has to survive restarts and backups. The record's key and
//! the name of the field are authenticated with it. Whoever can write to the store, but has no root key, can therefore not
//! give one user's secret to another.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Key, RootKey, SecretString};

const FORMAT: &str = "s1";
const TAG_LEN: usize = 16;
/// What is derived for; the cluster's id follows.
const ASSERTION_LABEL: &[u8] = b"countersign/authorizer-assertion/1\0";
/// Bounds the work on a hostile record; a sealed secret access key has 104 characters.
const SEALED_CHARS: usize = 64 * 1024;

/// A secret as it is stored. It shows nothing without the root key, but is not printed either.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedSecret(Box<str>);

/// Why a secret could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The text is not a sealed secret.
    #[error("the sealed secret is malformed")]
    Malformed,
    /// It was sealed with a root key that was not given.
    #[error("the secret is sealed with root key `{key_id}`, which is not given")]
    UnknownKey {
        /// Name of the root key that is needed.
        key_id: String,
    },
    /// It was changed, or moved here from another record.
    #[error("the sealed secret was changed, or belongs to another record")]
    NotAuthentic,
    /// The cryptography library refused to seal.
    #[error("the secret could not be sealed")]
    Failed,
}

/// Seals with one root key, and opens with it and with those before it.
pub struct Sealer {
    current: SealingKey,
    previous: Vec<SealingKey>,
    assertions: hkdf::Prk,
}

struct SealingKey {
    id: String,
    key: RandomizedNonceKey,
}

impl Sealer {
    /// Seals and opens with `current`; opens with `previous` too, which is how root keys are exchanged.
    ///
    /// # Errors
    /// When the cryptography library refuses a key.
    pub fn new(current: &RootKey, previous: &[RootKey]) -> Result<Self, SealError> {
        Ok(Self {
            current: SealingKey::new(current)?,
            previous: previous
                .iter()
                .map(SealingKey::new)
                .collect::<Result<_, _>>()?,
            assertions: hkdf::Prk::new_less_safe(
                hkdf::HKDF_SHA256,
                current.derive("authorizer assertions").as_slice(),
            ),
        })
    }

    /// The key that proves to a cluster's authorizer who was authenticated (EKS API spec, section 9.5). It is derived from the
    /// root key for this one cluster id, so that every replica has it and nobody stores it; with another root key it is another
    /// one, and what was proven counts until kube-apiserver's token cache is over.
    ///
    /// # Errors
    /// When the cryptography library fails.
    pub fn assertion_key(&self, cluster_id: &str) -> Result<Zeroizing<[u8; 32]>, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        self.assertions
            .expand(&[ASSERTION_LABEL, cluster_id.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|derived| derived.fill(key.as_mut_slice()))
            .map_err(|_| SealError::Failed)?;
        Ok(key)
    }

    /// Name of the root key that seals, see [`RootKey::id`].
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.current.id
    }

    /// Whether secrets sealed with this root key can be opened.
    #[must_use]
    pub fn has_key(&self, key_id: &str) -> bool {
        self.find(key_id).is_some()
    }

    /// Seals a secret for one field of one record.
    ///
    /// # Errors
    /// When the cryptography library fails.
    pub fn seal(
        &self,
        record: &Key,
        field: &str,
        secret: &SecretString,
    ) -> Result<SealedSecret, SealError> {
        let mut in_out = Zeroizing::new(Vec::with_capacity(secret.expose().len() + TAG_LEN));
        in_out.extend_from_slice(secret.expose().as_bytes());
        let place = place(&self.current.id, record, field);
        let nonce = self
            .current
            .key
            .seal_in_place_append_tag(Aad::from(place.as_slice()), &mut *in_out)
            .map_err(|_| SealError::Failed)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + in_out.len());
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&in_out);
        let text = format!(
            "{FORMAT}.{}.{}",
            self.current.id,
            STANDARD_NO_PAD.encode(sealed)
        );
        Ok(SealedSecret(text.into()))
    }

    /// Opens what [`seal`](Self::seal) made for the same field of the same record.
    ///
    /// # Errors
    /// When the root key is missing, or anything about the secret or its place is not as it was.
    pub fn open(
        &self,
        record: &Key,
        field: &str,
        sealed: &SealedSecret,
    ) -> Result<SecretString, SealError> {
        let (key_id, body) = sealed.parts()?;
        let key = self.find(key_id).ok_or_else(|| SealError::UnknownKey {
            key_id: key_id.to_owned(),
        })?;
        let mut body = Zeroizing::new(
            STANDARD_NO_PAD
                .decode(body)
                .map_err(|_| SealError::Malformed)?,
        );
        let (nonce, in_out) = body
            .split_first_chunk_mut::<NONCE_LEN>()
            .ok_or(SealError::Malformed)?;
        let place = place(&key.id, record, field);
        let secret = key
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(place.as_slice()),
                in_out,
            )
            .map_err(|_| SealError::NotAuthentic)?;
        let secret = std::str::from_utf8(secret).map_err(|_| SealError::Malformed)?;
        Ok(SecretString::new(secret))
    }

    fn find(&self, key_id: &str) -> Option<&SealingKey> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|key| key.id == key_id)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.current.id)
    }
}

impl SealedSecret {
    /// Name of the root key it was sealed with.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn key_id(&self) -> Result<&str, SealError> {
        self.parts().map(|(key_id, _)| key_id)
    }

    /// Takes stored text; [`Sealer::open`] decides whether it is worth anything.
    #[must_use]
    pub fn from_stored(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text to store.
    #[must_use]
    pub fn as_stored(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> Result<(&str, &str), SealError> {
        if self.0.len() > SEALED_CHARS {
            return Err(SealError::Malformed);
        }
        let mut parts = self.0.split('.');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(FORMAT), Some(key_id), Some(body), None)
                if key_id.len() == 8 && key_id.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                Ok((key_id, body))
            }
            _ => Err(SealError::Malformed),
        }
    }
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedSecret({} bytes)", self.0.len())
    }
}

impl SealingKey {
    fn new(root: &RootKey) -> Result<Self, SealError> {
        let derived = root.derive("seal records");
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, derived.as_slice())
            .map_err(|_| SealError::Failed)?;
        Ok(Self { id: root.id(), key })
    }
}

/// What is authenticated beside the secret. A key has no control characters, so the separators cannot be forged.
fn place(key_id: &str, record: &Key, field: &str) -> Vec<u8> {
    [FORMAT, key_id, record.as_str(), field]
        .join("\0")
        .into_bytes()
}

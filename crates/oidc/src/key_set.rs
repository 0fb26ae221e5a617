//! Key sets (RFC 7517; IRSA spec, sections 2.3 and 2.4).

use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use serde_json::{Value, json};

use crate::algorithm::{Algorithm, KeyType};
use crate::error::TokenError;
use crate::json;
use crate::key::{InvalidKey, PublicKey};
use crate::signing::SigningKey;

/// Most bytes of a key set or discovery document.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
/// Most RSA keys, and most elliptic-curve keys, of one set.
pub const MAX_KEYS_OF_A_KIND: usize = 100;
/// Most characters of a key id.
pub(crate) const MAX_KEY_ID_BYTES: usize = 1024;
/// Most keys with the same id that are tried for one token.
const MAX_TRIES: usize = 16;

/// The public keys of an issuer, ready to verify with.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<SkippedKey>,
}

#[derive(Debug)]
struct Key {
    /// `None` for a missing or empty `kid`.
    id: Option<Box<str>>,
    public: PublicKey,
    /// One for each algorithm the key may be used with.
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

/// A member of a key set that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its place, from 0.
    pub index: usize,
    /// Why.
    pub reason: InvalidKey,
}

/// A document that is no usable key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// More than [`MAX_DOCUMENT_BYTES`].
    #[error("the key set is larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    /// Not JSON, a member twice, or no list `keys`.
    #[error("the key set is not a JSON object with a list `keys`")]
    Malformed,
    /// More keys than [`MAX_KEYS_OF_A_KIND`].
    #[error("the key set has more than {MAX_KEYS_OF_A_KIND} keys of one type")]
    TooManyKeys,
    /// Nothing to verify with.
    #[error("the key set has no key that can be used")]
    NoUsableKey,
}

impl KeySet {
    /// Reads a key set. Members that cannot be used are skipped and listed: an issuer may add types of keys that we do not
    /// know. A set with nothing usable is an error, so that it never replaces a good one.
    ///
    /// # Errors
    /// When the document is too large, is not a key set, or has too many keys or none that is usable.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let mut document = json::object(document).ok_or(KeySetError::Malformed)?;
        let Some(Value::Array(members)) = document.remove("keys") else {
            return Err(KeySetError::Malformed);
        };
        let of_kind = |kty: &str| {
            let same = members
                .iter()
                .filter(|key| key.get("kty").is_some_and(|t| t == kty));
            same.count()
        };
        if of_kind("RSA") > MAX_KEYS_OF_A_KIND || of_kind("EC") > MAX_KEYS_OF_A_KIND {
            return Err(KeySetError::TooManyKeys);
        }
        let mut set = Self::default();
        for (index, member) in members.iter().enumerate() {
            match Key::from_jwk(member) {
                Ok(key) => set.keys.push(key),
                // Types that are unknown have no limit of their own.
                Err(reason) if set.skipped.len() < 2 * MAX_KEYS_OF_A_KIND => {
                    set.skipped.push(SkippedKey { index, reason });
                }
                Err(_) => {}
            }
        }
        if set.keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(set)
    }

    /// A set of keys that are known otherwise, under their own ids: keys of a cluster that were registered, or our own.
    ///
    /// # Errors
    /// When the library refuses a key, such as a point that is not on its curve.
    pub fn of(keys: impl IntoIterator<Item = PublicKey>) -> Result<Self, InvalidKey> {
        let keys = keys
            .into_iter()
            .map(|public| Key::new(Some(public.id().into()), public, None))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            keys,
            skipped: Vec::new(),
        })
    }

    /// Reads a key set of ours: keys that were given, in a document that may have none, and those that were made here.
    ///
    /// # Errors
    /// As [`KeySet::parse`], but an empty set is none.
    pub fn with_generated<'k>(
        document: &[u8],
        generated: impl IntoIterator<Item = &'k Arc<SigningKey>>,
    ) -> Result<Self, KeySetError> {
        let none = json::object(document).is_some_and(|document| {
            let keys = document.get("keys").and_then(Value::as_array);
            keys.is_some_and(Vec::is_empty)
        });
        let mut set = if none {
            Self::default()
        } else {
            Self::parse(document)?
        };
        for key in generated {
            let id = Some(key.id().into());
            let public = PublicKey::clone(key.public());
            let made = Key::new(id, public, Some(key.algorithm()));
            set.add(made.map_err(|_| KeySetError::NoUsableKey)?);
        }
        Ok(set)
    }

    /// These keys and those of `other`; of keys in both, one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for key in other.keys {
            self.add(key);
        }
        self
    }

    /// The keys whose id is not `id`.
    #[must_use]
    pub fn without(mut self, id: &str) -> Self {
        self.keys.retain(|key| key.id.as_deref() != Some(id));
        self
    }

    fn add(&mut self, key: Key) {
        let known = |other: &Key| other.id == key.id && other.public == key.public;
        if !self.keys.iter().any(known) {
            self.keys.push(key);
        }
    }

    /// The JSON text of the usable keys alone, under their own ids: what may be published of a document that somebody gave.
    #[must_use]
    pub fn to_document(&self) -> String {
        let members: Vec<Value> = self.keys.iter().map(Key::to_jwk).collect();
        json!({ "keys": members }).to_string()
    }

    /// The algorithms that its keys are for. An RSA key that names none is for RS256, as kube-apiserver signs.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.keys
            .iter()
            .filter_map(|key| key.verifiers.first().map(|(algorithm, _)| *algorithm))
    }

    /// The usable keys with their ids.
    pub fn keys(&self) -> impl Iterator<Item = (Option<&str>, &PublicKey)> {
        self.keys.iter().map(|key| (key.id.as_deref(), &key.public))
    }

    /// The number of usable keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The ids of the usable keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.id.as_deref())
    }

    /// What was left out, at most two hundred.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// Verifies `signature` of `message`. The key is chosen by `id`; its type, and its own `alg` where it has one, must fit
    /// `algorithm`. Without an id there must be exactly one key that fits, however often it is listed.
    pub(crate) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        let named = |key: &&Key| id.is_none() || key.id.as_deref() == id;
        let mut fitting: Vec<(&PublicKey, &ParsedPublicKey)> = Vec::new();
        let mut known = false;
        for key in self.keys.iter().filter(named) {
            known = true;
            let Some(verifier) = key.verifier(algorithm) else {
                continue;
            };
            if !fitting.iter().any(|(public, _)| **public == key.public) {
                fitting.push((&key.public, verifier));
            }
        }
        match (id, fitting.len()) {
            (Some(_), 0) if known => Err(TokenError::UnknownKey(
                "the key with this id is for another algorithm",
            )),
            (Some(_), 0) => Err(TokenError::UnknownKey("no key has this id")),
            (None, 0) => Err(TokenError::UnknownKey("no key is for this algorithm")),
            (None, 2..) => Err(TokenError::UnknownKey(
                "the token names no key and several are for its algorithm",
            )),
            _ => {
                let verified = fitting
                    .iter()
                    .take(MAX_TRIES)
                    .any(|(_, key)| key.verify_sig(message, signature).is_ok());
                if verified {
                    Ok(())
                } else {
                    Err(TokenError::BadSignature)
                }
            }
        }
    }

    /// The JSON text of a set with `keys`, each for one algorithm, in this order.
    #[must_use]
    pub fn document<'k>(keys: impl IntoIterator<Item = (&'k PublicKey, Algorithm)>) -> String {
        let keys: Vec<Value> = keys
            .into_iter()
            .map(|(key, algorithm)| key.to_jwk(&key.id(), algorithm))
            .collect();
        json!({ "keys": keys }).to_string()
    }
}

impl Key {
    fn from_jwk(member: &Value) -> Result<Self, InvalidKey> {
        let jwk = member.as_object().ok_or(InvalidKey::Member("kty"))?;
        let public = PublicKey::from_jwk(jwk)?;
        let id = match jwk.get("kid") {
            None => None,
            Some(Value::String(id)) if id.len() <= MAX_KEY_ID_BYTES => {
                Some(id.as_str()).filter(|id| !id.is_empty())
            }
            Some(_) => return Err(InvalidKey::Member("kid")),
        };
        let algorithm = match jwk.get("alg") {
            None => None,
            Some(Value::String(name)) => {
                // PS256, ECDH-ES and the like: the key is fine and not for our tokens.
                let algorithm = Algorithm::from_name(name).ok_or(InvalidKey::OtherUse)?;
                if algorithm.key_type() != public.key_type() {
                    return Err(InvalidKey::Member("alg"));
                }
                Some(algorithm)
            }
            Some(_) => return Err(InvalidKey::Member("alg")),
        };
        Self::new(id.map(Into::into), public, algorithm)
    }

    fn new(
        id: Option<Box<str>>,
        public: PublicKey,
        algorithm: Option<Algorithm>,
    ) -> Result<Self, InvalidKey> {
        let bytes = public.for_library();
        let verifiers = of_type(public.key_type(), algorithm)
            .map(|algorithm| {
                ParsedPublicKey::new(algorithm.verification(), &bytes)
                    .map(|parsed| (algorithm, parsed))
                    .map_err(|_| InvalidKey::Rejected)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            id,
            public,
            verifiers,
        })
    }

    fn to_jwk(&self) -> Value {
        let algorithm = self.verifiers.first().map(|(algorithm, _)| *algorithm);
        let mut jwk = self.public.to_jwk(
            self.id.as_deref().unwrap_or_default(),
            algorithm.unwrap_or(Algorithm::Rs256),
        );
        if self.verifiers.len() != 1
            && let Some(members) = jwk.as_object_mut()
        {
            members.remove("alg");
        }
        jwk
    }

    fn verifier(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        self.verifiers
            .iter()
            .find(|(served, _)| *served == algorithm)
            .map(|(_, key)| key)
    }
}

fn of_type(kind: KeyType, only: Option<Algorithm>) -> impl Iterator<Item = Algorithm> {
    kind.algorithms()
        .filter(move |algorithm| only.is_none_or(|only| only == *algorithm))
}

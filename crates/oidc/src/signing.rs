//! Keys that sign our own tokens.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::der;
use crate::json::to_base64url;
use crate::key::PublicKey;

/// A private key with the algorithm it signs with. Never prints itself.
pub struct SigningKey {
    algorithm: Algorithm,
    pair: Pair,
    public: PublicKey,
    id: Box<str>,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

/// A key that cannot be made, read or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// We sign with RS256, ES256 and ES384 only.
    #[error("tokens are signed with RS256, ES256 or ES384")]
    Algorithm,
    /// The bytes are not a private key for the algorithm.
    #[error("the private key is not one of the algorithm")]
    Key,
    /// The library failed.
    #[error("the signature or key could not be made")]
    Library,
    /// The claims cannot be written as JSON.
    #[error("the claims cannot be written as JSON")]
    Claims,
}

impl SigningKey {
    /// A new key: RSA with 2048 bits for RS256, P-256 for ES256, P-384 for ES384.
    ///
    /// # Errors
    /// For other algorithms, and when the library has no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self, SigningError> {
        let pair = match curve(algorithm)? {
            None => Pair::Rsa(
                RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| SigningError::Library)?,
            ),
            Some(curve) => {
                Pair::Ec(EcdsaKeyPair::generate(curve).map_err(|_| SigningError::Library)?)
            }
        };
        Self::new(algorithm, pair)
    }

    /// Reads what [`SigningKey::pkcs8`] wrote.
    ///
    /// # Errors
    /// When it is not a key for `algorithm`.
    pub fn from_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self, SigningError> {
        let pair = match curve(algorithm)? {
            None => Pair::Rsa(RsaKeyPair::from_pkcs8(der).map_err(|_| SigningError::Key)?),
            Some(curve) => {
                Pair::Ec(EcdsaKeyPair::from_pkcs8(curve, der).map_err(|_| SigningError::Key)?)
            }
        };
        Self::new(algorithm, pair)
    }

    fn new(algorithm: Algorithm, pair: Pair) -> Result<Self, SigningError> {
        let public = match &pair {
            Pair::Rsa(pair) => {
                let numbers = der::rsa_numbers(pair.public_key().as_ref());
                let (modulus, exponent) = numbers.ok_or(SigningError::Key)?;
                PublicKey::rsa(modulus, exponent)
            }
            Pair::Ec(pair) => PublicKey::of_point(algorithm.key_type(), pair.public_key().as_ref()),
        }
        .map_err(|_| SigningError::Key)?;
        let id = public.id().into();
        Ok(Self {
            algorithm,
            pair,
            public,
            id,
        })
    }

    /// The private key, to be sealed and stored.
    ///
    /// # Errors
    /// When the library cannot write it.
    pub fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, SigningError> {
        let der = match &self.pair {
            Pair::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| SigningError::Library)?;
                Zeroizing::new(der.as_ref().to_vec())
            }
            Pair::Ec(pair) => {
                let der = pair.to_pkcs8v1().map_err(|_| SigningError::Library)?;
                Zeroizing::new(der.as_ref().to_vec())
            }
        };
        Ok(der)
    }

    /// What it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// [`PublicKey::id`] of the public half: the `kid` of its tokens.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs a token with `claims`.
    ///
    /// # Errors
    /// When `claims` are not an object of JSON, or the library fails.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SigningError> {
        #[derive(Serialize)]
        struct Header<'k> {
            alg: Algorithm,
            kid: &'k str,
            typ: &'static str,
        }
        let header = Header {
            alg: self.algorithm,
            kid: &self.id,
            typ: "JWT",
        };
        let header = serde_json::to_vec(&header).map_err(|_| SigningError::Claims)?;
        let claims = serde_json::to_vec(claims).map_err(|_| SigningError::Claims)?;
        if claims.first() != Some(&b'{') {
            return Err(SigningError::Claims);
        }
        let mut token = format!("{}.{}", to_base64url(&header), to_base64url(&claims));
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        token.push_str(&to_base64url(&signature));
        Ok(token)
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &signature::RSA_PKCS1_SHA256,
                    &random,
                    message,
                    &mut signature,
                )
                .map_err(|_| SigningError::Library)?;
                Ok(signature)
            }
            Pair::Ec(pair) => pair
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SigningError::Library),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The curve to sign with; `None` for RSA.
fn curve(
    algorithm: Algorithm,
) -> Result<Option<&'static signature::EcdsaSigningAlgorithm>, SigningError> {
    match algorithm {
        Algorithm::Rs256 => Ok(None),
        Algorithm::Es256 => Ok(Some(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)),
        Algorithm::Es384 => Ok(Some(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)),
        Algorithm::Es512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512
        | Algorithm::Rs384
        | Algorithm::Rs512 => Err(SigningError::Algorithm),
    }
}

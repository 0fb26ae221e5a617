//! The compact form of a signed token (RFC 7515, section 7.1).

use std::fmt;

use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::check::VerifiedToken;
use crate::claims::Claims;
use crate::error::TokenError;
use crate::json::{self, base64url};
use crate::key_set::{KeySet, MAX_KEY_ID_BYTES, Unnamed};

/// Most bytes of a token (STS spec, section 2).
pub const MAX_TOKEN_BYTES: usize = 20_000;

/// What was signed, header and payload of it, and the signature.
pub(crate) fn split(text: &str) -> Option<(&str, &str, &str, &str)> {
    let (signed, signature) = text.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    (!payload.contains('.')).then_some((signed, header, payload, signature))
}

/// What the header of a token says. Keys that a header brings along (`jwk`, `jku`, `x5c`, `x5u`) are not looked at.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<Box<str>>,
}

impl Header {
    /// Reads the decoded header.
    pub(crate) fn read(header: &[u8]) -> Result<Self, TokenError> {
        let header = json::object(header).ok_or(TokenError::NotAJwt(
            "its header is not a JSON object with distinct members",
        ))?;
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(Algorithm::from_name)
            .ok_or(TokenError::UnsupportedAlgorithm)?;
        for extension in ["crit", "b64"] {
            if header.contains_key(extension) {
                return Err(TokenError::Extension(extension));
            }
        }
        if header
            .get("typ")
            .is_some_and(|of_type| !of_type.is_string())
        {
            return Err(TokenError::NotAJwt("`typ` in its header is not text"));
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) if id.len() <= MAX_KEY_ID_BYTES => {
                Some(id.as_str()).filter(|id| !id.is_empty())
            }
            Some(_) => {
                return Err(TokenError::NotAJwt(
                    "`kid` in its header is not a short text",
                ));
            }
        };
        Ok(Self {
            algorithm,
            key_id: key_id.map(Into::into),
        })
    }
}

/// A token that was read and not verified: whoever sent it wrote what is in it.
///
/// Its claims serve to find the provider and the keys; [`UnverifiedToken::verify`] is the only way to more.
#[derive(Clone)]
pub struct UnverifiedToken<'t> {
    /// Header and payload as they were signed.
    signed: &'t str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    key_id: Option<Box<str>>,
    claims: Claims,
}

impl<'t> UnverifiedToken<'t> {
    /// Reads a token: three parts of unpadded base64url, JSON objects without equal members, an algorithm of
    /// [`Algorithm`], no critical extensions, and the claims that every token needs (IRSA spec, section 6.2, checks 2 to 4).
    ///
    /// Keys that a header brings along (`jwk`, `jku`, `x5c`, `x5u`) are not looked at. The PSS family is not STS's.
    ///
    /// # Errors
    /// When any of that does not hold.
    pub fn parse(text: &'t str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::NotAJwt("it is longer than 20000 bytes"));
        }
        let malformed = TokenError::NotAJwt("it has not three parts of base64url");
        let (signed, header, payload, signature) = split(text).ok_or(malformed.clone())?;
        let part = |text| base64url(text).ok_or(malformed.clone());
        let (header, payload, signature) = (part(header)?, part(payload)?, part(signature)?);
        let Header { algorithm, key_id } = Header::read(&header)?;
        let payload = json::object(&payload).ok_or(TokenError::NotAJwt(
            "its payload is not a JSON object with distinct members",
        ))?;
        if algorithm.is_pss() {
            return Err(TokenError::UnsupportedAlgorithm);
        }
        Ok(Self {
            signed,
            signature,
            algorithm,
            key_id,
            claims: Claims::read(payload)?,
        })
    }

    /// `iss`, to look up who would have to vouch for the token.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.claims.issuer
    }

    /// `kid`; an empty one counts as none.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// `alg`.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What the token claims, for what has to be known before it is verified. Never to be trusted.
    #[must_use]
    pub const fn unverified_claims(&self) -> &Claims {
        &self.claims
    }

    /// Verifies the signature (check 7). The key is chosen by `kid`; a token without one is accepted only when exactly one
    /// key of its algorithm is in the set.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`], after which newer keys may help, or [`TokenError::BadSignature`].
    pub fn verify(&self, keys: &KeySet) -> Result<VerifiedToken<'_>, TokenError> {
        keys.verify(
            self.key_id(),
            Unnamed::One,
            self.algorithm,
            self.signed.as_bytes(),
            &self.signature,
        )?;
        Ok(VerifiedToken::new(&self.claims))
    }
}

impl fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedToken")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .field("issuer", &self.claims.issuer)
            .finish_non_exhaustive()
    }
}

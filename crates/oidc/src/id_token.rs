//! ID tokens of people, read by the rules of kube-apiserver (authentication spec, section 9.3), which are not those of STS.

use std::fmt;

use serde_json::Value;

use crate::error::TokenError;
use crate::json::{self, Object, base64url};
use crate::key_set::{KeySet, Unnamed};
use crate::token::{Header, MAX_TOKEN_BYTES, split};

/// A token that was read and not verified: whoever sent it wrote what is in it.
///
/// What is wrong with its header is told by [`UnverifiedIdToken::verify`] and not before: the issuer is what tells whose
/// token it is, and a token of a known issuer deserves its reason.
#[derive(Clone)]
pub struct UnverifiedIdToken<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    header: Result<Header, TokenError>,
    issuer: Box<str>,
    claims: Object,
}

impl<'t> UnverifiedIdToken<'t> {
    /// Reads a token: three parts of unpadded base64url, a payload without equal members that has an issuer.
    ///
    /// # Errors
    /// When it is none: then it is something else, and nobody's ID token.
    pub fn parse(text: &'t str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::NotAJwt("it is longer than 20000 bytes"));
        }
        let malformed = TokenError::NotAJwt("it has not three parts of base64url");
        let (signed, header, payload, signature) = split(text).ok_or(malformed.clone())?;
        let part = |text| base64url(text).ok_or(malformed.clone());
        let (header, payload, signature) = (part(header)?, part(payload)?, part(signature)?);
        let claims = json::object(&payload).ok_or(TokenError::NotAJwt(
            "its payload is not a JSON object with distinct members",
        ))?;
        let issuer = match claims.get("iss") {
            Some(Value::String(issuer)) if !issuer.is_empty() => issuer.as_str().into(),
            _ => return Err(TokenError::MissingClaim("iss")),
        };
        Ok(Self {
            signed,
            signature,
            header: Header::read(&header),
            issuer,
            claims,
        })
    }

    /// `iss`, to look up who would have to vouch for the token.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether the token names its key; an empty name counts as none.
    #[must_use]
    pub fn names_key(&self) -> bool {
        self.header
            .as_ref()
            .is_ok_and(|header| header.key_id.is_some())
    }

    /// What is wrong with the token that no key can help with.
    ///
    /// # Errors
    /// An algorithm that is none of [`Algorithm`](crate::Algorithm), a critical extension, or a header that cannot be read.
    pub fn check_header(&self) -> Result<(), TokenError> {
        self.header.clone().map(drop)
    }

    /// Verifies the signature. The keys are those with the token's `kid`, or all when it has none.
    ///
    /// # Errors
    /// As [`check_header`](Self::check_header); [`TokenError::UnknownKey`], after which newer keys may help; or
    /// [`TokenError::BadSignature`].
    pub fn verify(&self, keys: &KeySet) -> Result<VerifiedIdToken<'_>, TokenError> {
        let header = self.header.as_ref().map_err(Clone::clone)?;
        keys.verify(
            header.key_id.as_deref(),
            Unnamed::Any,
            header.algorithm,
            self.signed.as_bytes(),
            &self.signature,
        )?;
        Ok(VerifiedIdToken {
            issuer: &self.issuer,
            claims: &self.claims,
        })
    }
}

impl fmt::Debug for UnverifiedIdToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedIdToken")
            .field("header", &self.header)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// A token whose signature is that of a key which was given. Only [`UnverifiedIdToken::verify`] makes one. Nothing is said of
/// its times, its audience, and whether the keys are those of its issuer.
#[derive(Clone, Copy)]
pub struct VerifiedIdToken<'t> {
    issuer: &'t str,
    claims: &'t Object,
}

impl<'t> VerifiedIdToken<'t> {
    /// `iss`
    #[must_use]
    pub const fn issuer(&self) -> &'t str {
        self.issuer
    }

    /// A claim.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&'t Value> {
        self.claims.get(name)
    }
}

impl fmt::Debug for VerifiedIdToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedIdToken")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

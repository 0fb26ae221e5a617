//! Why a token is refused: what the caller is told, and what the operator is told.

use std::borrow::Cow;
use std::fmt;

/// The error codes of refused tokens (STS spec, section 2.3). All answer with HTTP 400 and fault `Sender`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The token, or what would verify it, is no good. Clients do not try again.
    InvalidIdentityToken,
    /// The token's time is over. Clients get a new token.
    ExpiredTokenException,
    /// The issuer did not answer. Clients try again.
    IdpCommunicationError,
}

impl Code {
    /// The code as it stands in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidIdentityToken => "InvalidIdentityToken",
            Self::ExpiredTokenException => "ExpiredTokenException",
            Self::IdpCommunicationError => "IDPCommunicationError",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        400
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a token is refused.
///
/// [`TokenError::code`] and [`TokenError::message`] are for the caller: the code and one short sentence, in AWS's words
/// where these are known. `Display` is for the operator. Neither has the token or a part of its signature in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is not a signed JSON Web Token in compact form.
    #[error("the token is not a JSON Web Token: {0}")]
    NotAJwt(&'static str),
    /// `alg` is missing or not one of [`crate::Algorithm`].
    #[error("the algorithm of the token is not one of RS256, RS384, RS512, ES256, ES384, ES512")]
    UnsupportedAlgorithm,
    /// The header has a member that changes how the token has to be read.
    #[error("the header of the token has the extension `{0}`")]
    Extension(&'static str),
    /// A required claim is not there.
    #[error("the token has no claim `{0}`")]
    MissingClaim(&'static str),
    /// A claim has another form than it must have.
    #[error("the claim `{claim}` of the token must be {must_be}")]
    InvalidClaim {
        /// Its name.
        claim: &'static str,
        /// What it must be.
        must_be: &'static str,
    },
    /// The claim `https://aws.amazon.com/roles` does not have the role.
    #[error("the roles claim of the token does not have the role")]
    RoleNotInToken,
    /// The role's account has no provider with this URL.
    #[error("the account has no OpenID Connect provider for `{issuer}`")]
    NoProvider {
        /// `iss`.
        issuer: Box<str>,
    },
    /// Tokens that this service hands out are for others.
    #[error("the token was made by GetWebIdentityToken")]
    OwnToken,
    /// The issuer did not answer in time.
    #[error("the issuer `{issuer}` could not be asked for its keys")]
    IssuerUnreachable {
        /// `iss`.
        issuer: Box<str>,
    },
    /// The issuer answered, and its documents are unusable.
    #[error("the keys of the issuer `{issuer}` cannot be used")]
    IssuerUnusable {
        /// `iss`.
        issuer: Box<str>,
    },
    /// The issuer's certificate is not one of a trusted authority and has none of the provider's thumbprints.
    #[error("the certificate of the issuer `{issuer}` is not trusted")]
    IssuerUntrusted {
        /// `iss`.
        issuer: Box<str>,
    },
    /// No key of the issuer has the token's key id and algorithm.
    #[error("the issuer has no key for the token: {0}")]
    UnknownKey(&'static str),
    /// The signature is not one of the key.
    #[error("the signature of the token does not verify")]
    BadSignature,
    /// The token ran out.
    #[error("the token expired at {expires}, now is {now}")]
    Expired {
        /// `exp`, seconds since 1970.
        expires: i64,
        /// Seconds since 1970.
        now: i64,
    },
    /// The token was issued too long ago, whatever its `exp` says.
    #[error("the token was issued at {issued}, now is {now}")]
    TooOld {
        /// `iat`, seconds since 1970.
        issued: i64,
        /// Seconds since 1970.
        now: i64,
    },
    /// The token is of the future.
    #[error("the claim `{claim}` of the token is {at}, now is {now}")]
    NotYetValid {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// Its value, seconds since 1970.
        at: i64,
        /// Seconds since 1970.
        now: i64,
    },
    /// What the token is bound to, pod or service account, is not there any more.
    #[error("what the token is bound to is gone: {reason}")]
    Gone {
        /// What its API server says.
        reason: Box<str>,
    },
    /// The audience is not, or not unambiguously, one of the provider's.
    #[error("the audience of the token is not accepted: {0}")]
    Audience(&'static str),
}

impl TokenError {
    /// The code for the caller.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Expired { .. } | Self::TooOld { .. } => Code::ExpiredTokenException,
            Self::IssuerUnreachable { .. } => Code::IdpCommunicationError,
            Self::NotAJwt(_)
            | Self::UnsupportedAlgorithm
            | Self::Extension(_)
            | Self::MissingClaim(_)
            | Self::InvalidClaim { .. }
            | Self::RoleNotInToken
            | Self::NoProvider { .. }
            | Self::OwnToken
            | Self::IssuerUnusable { .. }
            | Self::IssuerUntrusted { .. }
            | Self::UnknownKey(_)
            | Self::BadSignature
            | Self::NotYetValid { .. }
            | Self::Gone { .. }
            | Self::Audience(_) => Code::InvalidIdentityToken,
        }
    }

    /// The sentence for the caller (STS spec, section 2.3; policy language spec, section 7.5). Those that no source
    /// records are our own.
    #[must_use]
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::NotAJwt(_) => {
                "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)".into()
            }
            Self::UnsupportedAlgorithm => {
                "The token must be signed with RS256, RS384, RS512, ES256, ES384 or ES512".into()
            }
            Self::Extension(name) => format!("The token header must not contain {name}").into(),
            Self::MissingClaim(claim) => format!("Missing a required claim: {claim}").into(),
            Self::InvalidClaim { claim, must_be } => {
                format!("The claim {claim} must be {must_be}").into()
            }
            Self::RoleNotInToken => {
                "The target role ARN is not present in the roles claim of the identity token".into()
            }
            Self::NoProvider { issuer } => {
                format!("No OpenIDConnect provider found in your account for {issuer}").into()
            }
            Self::OwnToken => {
                "Tokens from GetWebIdentityToken cannot be exchanged for credentials".into()
            }
            Self::IssuerUnreachable { .. } => {
                "The identity provider could not be reached to verify the identity token".into()
            }
            Self::IssuerUnusable { .. } | Self::UnknownKey(_) => {
                "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements".into()
            }
            Self::IssuerUntrusted { .. } => {
                "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint".into()
            }
            Self::BadSignature => "The signature of the token is not valid".into(),
            Self::Expired { expires, now } => format!(
                "Token expired: current date/time {now} must be before the expiration date/time {expires}"
            )
            .into(),
            Self::TooOld { issued, now } => {
                format!("Token too old: current date/time {now}, issued at date/time {issued}").into()
            }
            Self::NotYetValid { claim, at, now } => format!(
                "Token not yet valid: current date/time {now} must not be before the {claim} date/time {at}"
            )
            .into(),
            Self::Gone { .. } => {
                "The pod or service account of the identity token does not exist".into()
            }
            Self::Audience(_) => "Incorrect token audience".into(),
        }
    }
}

//! Why a response is refused: for the operator in full, for the caller as STS says it.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::signature::SignatureFault;
use crate::xml::XmlError;

/// The error codes of AssumeRoleWithSAML that this crate decides on (STS spec, sections 2.3 and 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The assertion is too old, or not valid yet.
    ExpiredTokenException,
    /// The identity provider says itself that authentication failed.
    IdpRejectedClaim,
    /// Everything else that is wrong with a response.
    InvalidIdentityToken,
}

impl Code {
    /// The code as it stands in answers of the Query protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExpiredTokenException => "ExpiredTokenException",
            Self::IdpRejectedClaim => "IDPRejectedClaim",
            Self::InvalidIdentityToken => "InvalidIdentityToken",
        }
    }

    /// The HTTP status of the Query protocol.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::ExpiredTokenException | Self::InvalidIdentityToken => 400,
            Self::IdpRejectedClaim => 403,
        }
    }
}

/// Why a response is refused. `Display` is for the operator; [`Refusal::message`] is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The metadata of the provider has expired.
    #[error("the metadata of the SAML provider was valid until {until}; upload newer metadata")]
    MetadataExpired {
        /// Its `validUntil`.
        until: Timestamp,
    },
    /// The parameter is not base64 of UTF-8.
    #[error("the response is not base64 of UTF-8 text")]
    Encoding,
    /// Not XML, or XML that is not read.
    #[error("the response is not XML that is read here: {0}")]
    Xml(#[from] XmlError),
    /// Not a response of SAML 2.0 with one assertion.
    #[error("the document is not a SAML 2.0 response with one assertion: {0}")]
    Form(&'static str),
    /// The assertion is encrypted.
    #[error("the assertion, its subject or an attribute is encrypted, which is not supported")]
    Encrypted,
    /// The identity provider reports a failure.
    #[error("the identity provider reports the status `{0}`")]
    Status(String),
    /// Neither the response nor the assertion is signed.
    #[error("neither the response nor the assertion is signed")]
    Unsigned,
    /// A signature that does not hold.
    #[error("{element}: {fault}")]
    Signature {
        /// `Response` or `Assertion`.
        element: &'static str,
        /// What is wrong with its signature.
        fault: SignatureFault,
    },
    /// The issuer is not in the metadata.
    #[error("the issuer `{0}` is not an entityID in the provider's metadata")]
    Issuer(String),
    /// The assertion's time has not come or is over.
    #[error("{what} is {bound}, and it is {now}")]
    Time {
        /// Which bound was missed.
        what: &'static str,
        /// That bound.
        bound: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// Part of the assertion is missing or malformed.
    #[error("the assertion has no proper {0}")]
    Malformed(&'static str),
    /// The confirmation is for another recipient.
    #[error("the Recipient `{0}` is none of this service's SAML endpoints")]
    Recipient(String),
    /// The assertion is for another audience.
    #[error("no AudienceRestriction names this service")]
    Audience,
    /// A condition that is not known and therefore not met.
    #[error("the condition `{0}` is not known")]
    Condition(String),
    /// No session name.
    #[error("the attribute RoleSessionName is missing or has more than one value")]
    NoSessionName,
    /// A session name that can't be one.
    #[error("the attribute RoleSessionName is not a session name")]
    SessionName,
    /// A source identity that can't be one.
    #[error("the attribute SourceIdentity is not a source identity")]
    SourceIdentity,
    /// Another attribute of AWS that can't be read.
    #[error("the attribute `{name}` {fault}")]
    Attribute {
        /// The end of the attribute's name, cut short.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl Refusal {
    /// The code of the answer.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Time { .. } => Code::ExpiredTokenException,
            Self::Status(_) => Code::IdpRejectedClaim,
            Self::MetadataExpired { .. }
            | Self::Encoding
            | Self::Xml(_)
            | Self::Form(_)
            | Self::Encrypted
            | Self::Unsigned
            | Self::Signature { .. }
            | Self::Issuer(_)
            | Self::Malformed(_)
            | Self::Recipient(_)
            | Self::Audience
            | Self::Condition(_)
            | Self::NoSessionName
            | Self::SessionName
            | Self::SourceIdentity
            | Self::Attribute { .. } => Code::InvalidIdentityToken,
        }
    }

    /// The text of the answer: AWS's where it is known. It tells an unauthenticated caller what its identity provider
    /// has to change and nothing about keys.
    #[must_use]
    pub fn message(&self) -> Cow<'static, str> {
        let text = match self {
            Self::MetadataExpired { .. } => "The metadata of the specified provider has expired.",
            Self::Encoding | Self::Xml(_) | Self::Form(_) | Self::Malformed(_) => {
                "Invalid SAML response: it is not a SAML 2.0 response with one assertion."
            }
            Self::Encrypted => "Invalid SAML response: encrypted assertions are not supported.",
            Self::Status(_) => "The identity provider reported that authentication failed.",
            Self::Unsigned | Self::Signature { .. } => "Response signature invalid",
            Self::Issuer(_) => "Issuer not present in specified provider",
            Self::Time { .. } => "Response is expired or not yet valid.",
            Self::Recipient(_) => "Response does not contain the required recipient.",
            Self::Audience => "Response does not contain the required audience.",
            Self::Condition(_) => "Response contains a condition that is not supported.",
            Self::NoSessionName => "RoleSessionName is required in AuthnResponse",
            Self::SessionName => {
                "RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}"
            }
            Self::SourceIdentity => {
                "Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with \"aws:\""
            }
            Self::Attribute { name, fault } => {
                return format!("{name} in AuthnResponse {fault}").into();
            }
        };
        text.into()
    }
}

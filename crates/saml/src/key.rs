//! The public keys an identity provider signs with, as its certificates carry them.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

/// How a signature over a `SignedInfo` is made. SHA-1 and HMAC are not among them: collisions of SHA-1 can be bought,
/// and an HMAC key would have to be taken from what everybody can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureMethod {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaSha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaSha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaSha512,
    /// ECDSA with P-256 and SHA-256.
    EcdsaSha256,
    /// ECDSA with P-384 and SHA-384.
    EcdsaSha384,
}

impl SignatureMethod {
    /// All methods.
    pub const ALL: [Self; 5] = [
        Self::RsaSha256,
        Self::RsaSha384,
        Self::RsaSha512,
        Self::EcdsaSha256,
        Self::EcdsaSha384,
    ];

    /// The identifier in `SignatureMethod`.
    #[must_use]
    pub const fn uri(self) -> &'static str {
        match self {
            Self::RsaSha256 => "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
            Self::RsaSha384 => "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
            Self::RsaSha512 => "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
            Self::EcdsaSha256 => "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
            Self::EcdsaSha384 => "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384",
        }
    }

    /// The method with the identifier `uri`.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.uri() == uri)
    }

    const fn key_type(self) -> KeyType {
        match self {
            Self::RsaSha256 | Self::RsaSha384 | Self::RsaSha512 => KeyType::Rsa,
            Self::EcdsaSha256 => KeyType::P256,
            Self::EcdsaSha384 => KeyType::P384,
        }
    }

    fn algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::RsaSha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::RsaSha384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::RsaSha512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::EcdsaSha256 => &ECDSA_P256_SHA256_FIXED,
            Self::EcdsaSha384 => &ECDSA_P384_SHA384_FIXED,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
}

/// Why a certificate's key is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnusableKey {
    /// Not a certificate.
    #[error("it is not an X.509 certificate in DER")]
    NotACertificate,
    /// Another kind of key.
    #[error("its key is neither RSA nor ECDSA on P-256 or P-384")]
    Type,
    /// An RSA modulus outside of what is safe and bounded.
    #[error("its RSA key has {bits} bits, and 2048 to 8192 are needed")]
    Size {
        /// The bits of the modulus.
        bits: usize,
    },
}

/// A key that signs assertions.
///
/// Only the key of a certificate counts. Its dates, issuer and extensions are not looked at: a certificate in metadata
/// is the wrapping of a key that the administrator vouched for by uploading it, as the SAML metadata interoperability
/// profile says; what ends is the metadata (`validUntil`).
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    key_type: KeyType,
    bytes: Box<[u8]>,
}

impl SigningKey {
    /// The key of the certificate `der`.
    ///
    /// # Errors
    /// When it is no certificate or its key is not one that signs here.
    pub fn from_certificate(der: &[u8]) -> Result<Self, UnusableKey> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| UnusableKey::NotACertificate)?;
        if !rest.is_empty() {
            return Err(UnusableKey::NotACertificate);
        }
        let info = certificate.public_key();
        let key_type = match info.parsed() {
            Ok(PublicKey::RSA(key)) => match key.key_size() {
                2048..=8192 => KeyType::Rsa,
                bits => return Err(UnusableKey::Size { bits }),
            },
            Ok(PublicKey::EC(_)) => {
                let curve = info.algorithm.parameters.as_ref();
                let curve = curve.and_then(|curve| curve.as_oid().ok());
                match curve.map(|oid| oid.to_id_string()).as_deref() {
                    Some("1.2.840.10045.3.1.7") => KeyType::P256,
                    Some("1.3.132.0.34") => KeyType::P384,
                    _ => return Err(UnusableKey::Type),
                }
            }
            _ => return Err(UnusableKey::Type),
        };
        Ok(Self {
            key_type,
            bytes: info.subject_public_key.data.as_ref().into(),
        })
    }

    /// Whether `signature` over `message` is this key's by `method`. For ECDSA the signature is `r` and `s` side by
    /// side, as XML signatures have it.
    #[must_use]
    pub fn verifies(&self, method: SignatureMethod, message: &[u8], signature: &[u8]) -> bool {
        self.key_type == method.key_type()
            && UnparsedPublicKey::new(method.algorithm(), &self.bytes)
                .verify(message, signature)
                .is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("key_type", &self.key_type)
            .finish_non_exhaustive()
    }
}

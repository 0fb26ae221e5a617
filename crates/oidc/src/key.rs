//! Public keys.

use std::fmt;

use aws_lc_rs::digest;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::algorithm::{Algorithm, KeyType};
use crate::der;
use crate::json::{Object, base64url, to_base64url};

/// Bits of an RSA modulus: fewer are too weak, more cost too much to verify with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of an RSA exponent. Verification costs grow with it; nobody uses one beyond four bytes.
const MAX_EXPONENT_BYTES: usize = 4;
/// Most keys of one PEM text.
const MAX_PEM_KEYS: usize = 100;

/// A public key of a type and size that tokens are verified with: RSA of 2048 to 8192 bits with an odd exponent of at least
/// 3 and at most four bytes, or a point on P-256, P-384 or P-521. That the point is on the curve is checked when the key is
/// put into a [`crate::KeySet`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    kind: KeyType,
    /// Modulus, or uncompressed point.
    first: Box<[u8]>,
    /// Exponent; empty for a point.
    exponent: Box<[u8]>,
}

/// A key that no token is verified with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// `kty` or `crv` is not one of those that are supported.
    #[error("the type or curve of the key is not supported")]
    Unsupported,
    /// It is meant for something else than signatures.
    #[error("the key is not for verifying signatures")]
    OtherUse,
    /// The private key stands beside it, so anybody can sign.
    #[error("the private key is published with it")]
    Private,
    /// A member is missing or cannot be read.
    #[error("the member `{0}` of the key is missing or malformed")]
    Member(&'static str),
    /// The modulus is too small or too large.
    #[error("the modulus of the RSA key does not have 2048 to 8192 bits")]
    Modulus,
    /// The exponent is even, below 3 or too large.
    #[error("the exponent of the RSA key is not an odd number of at least 3 and at most 32 bits")]
    Exponent,
    /// The point is not on the curve, or the library refuses the key.
    #[error("the key is not a valid one of its type")]
    Rejected,
    /// The text is not PEM with public keys.
    #[error("the text is not PEM with public keys (`BEGIN PUBLIC KEY`)")]
    Pem,
    /// There are more than a hundred keys.
    #[error("there are more than {MAX_PEM_KEYS} keys")]
    TooMany,
}

impl PublicKey {
    /// An RSA key, numbers big-endian. Zero bytes in front, which some issuers write, do not count.
    ///
    /// # Errors
    /// When the key is too weak or too large.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, InvalidKey> {
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let leading = modulus.first().map_or(0, |first| first.leading_zeros());
        let bits = (modulus.len() * 8).saturating_sub(leading as usize);
        // A modulus is a product of odd primes.
        let odd = modulus.last().is_some_and(|last| last & 1 == 1);
        if !RSA_BITS.contains(&bits) || !odd {
            return Err(InvalidKey::Modulus);
        }
        let odd = exponent.last().is_some_and(|last| last & 1 == 1);
        if !odd || exponent == [1] || exponent.len() > MAX_EXPONENT_BYTES {
            return Err(InvalidKey::Exponent);
        }
        Ok(Self {
            kind: KeyType::Rsa,
            first: modulus.into(),
            exponent: exponent.into(),
        })
    }

    /// A point on a curve by its coordinates, big-endian and of full length.
    ///
    /// # Errors
    /// When `curve` is none or a coordinate has another length.
    pub fn ec(curve: KeyType, x: &[u8], y: &[u8]) -> Result<Self, InvalidKey> {
        let bytes = curve.coordinate_bytes().ok_or(InvalidKey::Unsupported)?;
        if x.len() != bytes {
            return Err(InvalidKey::Member("x"));
        }
        if y.len() != bytes {
            return Err(InvalidKey::Member("y"));
        }
        Ok(Self {
            kind: curve,
            first: [&[4], x, y].concat().into(),
            exponent: Box::default(),
        })
    }

    /// An uncompressed point.
    pub(crate) fn of_point(curve: KeyType, point: &[u8]) -> Result<Self, InvalidKey> {
        let coordinates = point.strip_prefix(&[4]).ok_or(InvalidKey::Rejected)?;
        let (x, y) = coordinates
            .split_at_checked(coordinates.len() / 2)
            .ok_or(InvalidKey::Rejected)?;
        Self::ec(curve, x, y)
    }

    /// Reads the DER of a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// When it is not one of a supported key.
    pub fn from_spki(info: &[u8]) -> Result<Self, InvalidKey> {
        if let Some((curve, point)) = der::point_of(info) {
            return Self::of_point(curve, point);
        }
        let (modulus, exponent) = der::rsa_of(info).ok_or(InvalidKey::Rejected)?;
        let key = Self::rsa(modulus, exponent)?;
        // The reader takes DER with slack; only the exact form has a well-defined id.
        if key.spki() == info {
            Ok(key)
        } else {
            Err(InvalidKey::Rejected)
        }
    }

    /// Reads every `PUBLIC KEY` block of a PEM text, as kube-apiserver's `--service-account-key-file` has them.
    ///
    /// # Errors
    /// When there is none, one is not supported, or there are more than a hundred.
    pub fn from_pem(pem: &[u8]) -> Result<Vec<Self>, InvalidKey> {
        let mut keys = Vec::new();
        for info in SubjectPublicKeyInfoDer::pem_slice_iter(pem) {
            if keys.len() == MAX_PEM_KEYS {
                return Err(InvalidKey::TooMany);
            }
            let info = info.map_err(|_| InvalidKey::Pem)?;
            keys.push(Self::from_spki(info.as_ref())?);
        }
        if keys.is_empty() {
            return Err(InvalidKey::Pem);
        }
        Ok(keys)
    }

    /// Reads a member of a key set, and what the set says about its use.
    pub(crate) fn from_jwk(jwk: &Object) -> Result<Self, InvalidKey> {
        let text = |name| jwk.get(name).and_then(Value::as_str);
        let kind = match text("kty").ok_or(InvalidKey::Member("kty"))? {
            "RSA" => KeyType::Rsa,
            "EC" => {
                let curve = text("crv").ok_or(InvalidKey::Member("crv"))?;
                KeyType::from_curve(curve).ok_or(InvalidKey::Unsupported)?
            }
            _ => return Err(InvalidKey::Unsupported),
        };
        if ["d", "p", "q", "dp", "dq", "qi", "oth"]
            .iter()
            .any(|member| jwk.contains_key(*member))
        {
            return Err(InvalidKey::Private);
        }
        for_signatures(jwk)?;
        let number = |name| {
            text(name)
                .and_then(base64url)
                .ok_or(InvalidKey::Member(name))
        };
        match kind {
            KeyType::Rsa => Self::rsa(&number("n")?, &number("e")?),
            KeyType::P256 | KeyType::P384 | KeyType::P521 => {
                Self::ec(kind, &number("x")?, &number("y")?)
            }
        }
    }

    /// What it is.
    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        self.kind
    }

    /// The DER of its SubjectPublicKeyInfo: the bytes inside a `BEGIN PUBLIC KEY` block.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        match self.kind {
            KeyType::Rsa => der::rsa(&self.first, &self.exponent),
            KeyType::P256 | KeyType::P384 | KeyType::P521 => der::ec(self.kind, &self.first),
        }
    }

    /// Its id as kube-apiserver and EKS form it: SHA-256 of [`PublicKey::spki`], base64url, 43 characters. This is not the
    /// thumbprint of RFC 7638 (IRSA spec, section 2.3).
    #[must_use]
    pub fn id(&self) -> String {
        to_base64url(digest::digest(&digest::SHA256, &self.spki()).as_ref())
    }

    /// The member of a key set for it, for tokens signed with `algorithm`.
    pub(crate) fn to_jwk(&self, id: &str, algorithm: Algorithm) -> Value {
        let mut jwk = json!({
            "kty": self.kind.kty(), "use": "sig", "alg": algorithm.name(), "kid": id,
        });
        let mut set = |name: &str, value: String| {
            if let Some(members) = jwk.as_object_mut() {
                members.insert(name.to_owned(), Value::String(value));
            }
        };
        match self.kind.curve() {
            None => {
                set("n", to_base64url(&self.first));
                set("e", to_base64url(&self.exponent));
            }
            Some(curve) => {
                let coordinates = self.first.get(1..).unwrap_or_default();
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                set("crv", curve.to_owned());
                set("x", to_base64url(x));
                set("y", to_base64url(y));
            }
        }
        jwk
    }

    /// The form the library reads: DER for RSA, the point for curves.
    pub(crate) fn for_library(&self) -> Vec<u8> {
        match self.kind {
            KeyType::Rsa => self.spki(),
            KeyType::P256 | KeyType::P384 | KeyType::P521 => self.first.to_vec(),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?}, {})", self.kind, self.id())
    }
}

/// `use` is `sig` and `key_ops` has `verify`, where they are there.
fn for_signatures(jwk: &Object) -> Result<(), InvalidKey> {
    let of_use = jwk.get("use").is_none_or(|of_use| of_use == "sig");
    let of_operations = jwk.get("key_ops").is_none_or(|operations| {
        operations
            .as_array()
            .is_some_and(|all| all.iter().any(|operation| operation == "verify"))
    });
    if of_use && of_operations {
        Ok(())
    } else {
        Err(InvalidKey::OtherUse)
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

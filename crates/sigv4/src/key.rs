//! Secret keys and the signing keys derived from them.

use std::fmt;

use zeroize::Zeroizing;

use crate::crypto::{DIGEST, HEX, HmacKey, hex};
use crate::scope::TERMINATOR;

/// A secret access key. Never prints, wiped on drop.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<String>);

impl SecretKey {
    /// Takes the secret as the client has it, without `AWS4` before it.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// The secret itself, for those who must store or seal it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Stands in for the secret of a key that does not exist, so that refusing it costs what refusing a bad signature
    /// costs. Fixed, because it is never accepted: the caller's refusal stands whatever the signature is.
    pub(crate) fn dummy() -> Self {
        Self::new("0000000000000000000000000000000000000000")
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

/// `kSigning` of one (secret, day, region, service), ready for use. Never prints, wiped on drop.
#[derive(Clone)]
pub struct SigningKey(HmacKey);

impl SigningKey {
    /// Runs the chain `HMAC(HMAC(HMAC(HMAC("AWS4" + secret, date), region), service), "aws4_request")`;
    /// `date` is `YYYYMMDD`. Does not allocate.
    pub fn derive(secret: &SecretKey, date: &str, region: &str, service: &str) -> Self {
        Self(HmacKey::new(&*Self::derive_bytes(
            secret, date, region, service,
        )))
    }

    pub(crate) fn derive_bytes(
        secret: &SecretKey,
        date: &str,
        region: &str,
        service: &str,
    ) -> Zeroizing<[u8; DIGEST]> {
        let first = HmacKey::from_parts(&[b"AWS4", secret.0.as_bytes()]);
        let mut key = Zeroizing::new(first.sign(&[date.as_bytes()]));
        for part in [region, service, TERMINATOR] {
            key = Zeroizing::new(HmacKey::new(&*key).sign(&[part.as_bytes()]));
        }
        key
    }

    /// The signature of a string to sign, given in pieces, as lower-case hex.
    pub(crate) fn sign_hex(&self, string_to_sign: &[&[u8]]) -> [u8; HEX] {
        hex(&self.0.sign(string_to_sign))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_print() {
        let secret = SecretKey::new("cSx7/Q2pYd+4kEwZ9vLr0TfHnB1uGmJa3oRiXeKs");
        let key = SigningKey::derive(&secret, "20260314", "us-east-1", "sts");
        assert_eq!(
            format!("{secret:?} {key:?}"),
            "SecretKey(redacted) SigningKey(redacted)"
        );
    }

    #[test]
    fn derivation_gives_the_published_intermediate_keys() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/data/sigv4-vectors.json")).unwrap();
        let d = &vectors["key_derivation"];
        let s = |name: &str| d[name].as_str().unwrap();
        let k_date = HmacKey::from_parts(&[b"AWS4", s("secret_access_key").as_bytes()])
            .sign(&[s("date").as_bytes()]);
        assert_eq!(hex(&k_date), s("k_date").as_bytes());
        let k_region = HmacKey::new(&k_date).sign(&[s("region").as_bytes()]);
        assert_eq!(hex(&k_region), s("k_region").as_bytes());
        let k_service = HmacKey::new(&k_region).sign(&[s("service").as_bytes()]);
        assert_eq!(hex(&k_service), s("k_service").as_bytes());
        let secret = SecretKey::new(s("secret_access_key"));
        let k_signing = SigningKey::derive_bytes(&secret, s("date"), s("region"), s("service"));
        assert_eq!(hex(&k_signing), s("k_signing").as_bytes());
    }
}

//! An issuer that signs whatever it is told to.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "functions beside the tests, of which each file uses some"
)]

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_oidc::{Algorithm, KeySet, KeyType, PublicKey, UnverifiedToken};
use jiff::Timestamp;
use serde_json::{Value, json};

pub const RSA_PEM: &str = include_str!("../data/rsa.pem");
pub const EC_PEM: &str = include_str!("../data/ec.pem");
pub const RSA_ID: &str = "_hS-7mkUVGXoP3EIFn1LWRQxVD-obpLgns0HwrhGy9w";
pub const EC_ID: &str = "HfLlrVsmTF04LDFuOjxSen5I2EMSeMDYD3B_eBSYeC0";
/// The token of the specification, valid from [`NOW`] - 100 s for a day.
pub const TOKEN: &str = include_str!("../data/token.txt");
pub const NOW: i64 = 1_893_456_100;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn token() -> &'static str {
    TOKEN.trim()
}

pub fn registered() -> KeySet {
    KeySet::of(PublicKey::from_pem(RSA_PEM.as_bytes()).unwrap()).unwrap()
}

pub enum Pair {
    Rsa(RsaKeyPair),
    Ec(KeyType, EcdsaKeyPair),
}

pub static RSA: LazyLock<Pair> = LazyLock::new(|| rsa(KeySize::Rsa2048));
pub static OTHER_RSA: LazyLock<Pair> = LazyLock::new(|| rsa(KeySize::Rsa2048));
pub static P256: LazyLock<Pair> =
    LazyLock::new(|| ec(KeyType::P256, &signature::ECDSA_P256_SHA256_FIXED_SIGNING));
pub static P384: LazyLock<Pair> =
    LazyLock::new(|| ec(KeyType::P384, &signature::ECDSA_P384_SHA384_FIXED_SIGNING));
pub static P521: LazyLock<Pair> =
    LazyLock::new(|| ec(KeyType::P521, &signature::ECDSA_P521_SHA512_FIXED_SIGNING));

pub fn rsa(size: KeySize) -> Pair {
    Pair::Rsa(RsaKeyPair::generate(size).unwrap())
}

fn ec(kind: KeyType, algorithm: &'static EcdsaSigningAlgorithm) -> Pair {
    Pair::Ec(kind, EcdsaKeyPair::generate(algorithm).unwrap())
}

pub fn pair(algorithm: Algorithm) -> &'static Pair {
    match algorithm.key_type() {
        KeyType::Rsa => &RSA,
        KeyType::P256 => &P256,
        KeyType::P384 => &P384,
        KeyType::P521 => &P521,
    }
}

impl Pair {
    /// The members `kty`, and `n`, `e` or `crv`, `x`, `y`.
    pub fn jwk(&self) -> Value {
        match self {
            Self::Rsa(pair) => {
                // RSAPublicKey: SEQUENCE { INTEGER n, INTEGER e }, with e 65537 at the end and n behind the lengths.
                let der = pair.public_key().as_ref();
                let modulus = &der[der.len() - 5 - pair.public_modulus_len()..der.len() - 5];
                json!({"kty": "RSA", "n": base64(modulus), "e": "AQAB"})
            }
            Self::Ec(kind, pair) => {
                let coordinates = &pair.public_key().as_ref()[1..];
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                json!({"kty": "EC", "crv": kind.curve(), "x": base64(x), "y": base64(y)})
            }
        }
    }

    pub fn signature(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(_, pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => {
                let encoding: &dyn RsaEncoding = match algorithm {
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }

    /// A token with any header and payload, signed as `algorithm` says.
    pub fn token(&self, algorithm: Algorithm, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", base64(header), base64(payload));
        let signature = self.signature(algorithm, signed.as_bytes());
        format!("{signed}.{}", base64(signature))
    }
}

/// `jwk` with more members.
pub fn with(mut jwk: Value, members: Value) -> Value {
    let more = members.as_object().unwrap().clone();
    jwk.as_object_mut().unwrap().extend(more);
    jwk
}

pub fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// Claims that are fine at [`NOW`] for the client id `sts.amazonaws.com`.
pub fn claims() -> Value {
    json!({
        "iss": "https://issuer.example/id/1", "sub": "system:serviceaccount:orchard:picker",
        "aud": ["sts.amazonaws.com"], "iat": NOW - 100, "nbf": NOW - 100, "exp": NOW + 3500,
    })
}

/// A signed token of [`RSA`] under the id `k1`.
pub fn signed(claims: &Value) -> String {
    RSA.token(
        Algorithm::Rs256,
        r#"{"alg":"RS256","kid":"k1"}"#,
        &claims.to_string(),
    )
}

pub fn keys() -> KeySet {
    set(&[with(RSA.jwk(), json!({"kid": "k1"}))])
}

/// Whether the token, however it was made, is parsed, verified with [`keys`] and accepted at [`NOW`].
pub fn outcome(
    token: &str,
    keys: &KeySet,
    client_ids: &[&str],
    now: i64,
) -> Result<String, countersign_oidc::TokenError> {
    let token = UnverifiedToken::parse(token)?;
    let accepted =
        token
            .verify(keys)?
            .accept(client_ids, countersign_oidc::TimeRules::default(), at(now))?;
    Ok(accepted.audience().to_owned())
}

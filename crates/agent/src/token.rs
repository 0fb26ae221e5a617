//! Service account tokens: what one claims, and what stands for it in tables.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::{digest, hmac, rand};
use countersign_oidc::{Claims, KeySet, TokenError, UnverifiedToken};
use jiff::Timestamp;

use crate::refusal::Refusal;

/// Longest token that is looked at (agent spec, section 4).
pub const MAX_TOKEN_BYTES: usize = 16 << 10;

/// The audience of the tokens that pods send.
pub const AUDIENCE: &str = "pods.eks.amazonaws.com";

/// How far the clock of the API server may be ahead of the node's: a token counts this many seconds before its `nbf`.
pub const NOT_BEFORE_LEEWAY: i64 = 5;

/// Longest names that Kubernetes allows, and longer uids and issuers than anybody has: what is kept and logged is bounded.
const MAX_NAMESPACE: usize = 63;
const MAX_NAME: usize = 253;
const MAX_UID: usize = 128;
const MAX_ISSUER: usize = 512;

/// Whose token it is. Two tokens of one pod have the same identity; nothing else does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodIdentity {
    /// `iss`.
    pub issuer: Box<str>,
    /// Namespace of pod and service account.
    pub namespace: Box<str>,
    /// Name of the service account.
    pub service_account: Box<str>,
    /// Its uid.
    pub service_account_uid: Box<str>,
    /// Name of the pod.
    pub pod: Box<str>,
    /// Its uid.
    pub pod_uid: Box<str>,
}

/// What a token claims, read and not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// Whose it is.
    pub identity: Arc<PodIdentity>,
    /// `aud`.
    pub audiences: Vec<Box<str>>,
    /// `exp`, seconds since 1970.
    pub expires: i64,
    /// `nbf`.
    pub not_before: Option<i64>,
}

/// The entry of a pod in the cache: SHA-256 of issuer, pod uid and service account uid (section 7.2).
///
/// The revision of the association, which the specification has in the key as well, is kept in the entry: a change of it
/// evicts the entry, so that no entry of an older revision is left to be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PodKey([u8; 32]);

/// A service account of a cluster: SHA-256 of issuer, namespace, name and uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AccountKey([u8; 32]);

/// Stands for a token in every table, so that no table holds one but the entry that renews with it: HMAC-SHA-256 under a
/// key of this process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

/// Makes [`TokenDigest`]s.
pub struct Digester(hmac::Key);

impl TokenFacts {
    /// Reads a token (checks 4 and 5 of section 4): the compact form without a `Bearer` prefix, bound to a pod and a service
    /// account. The signature is not looked at.
    ///
    /// # Errors
    /// When it is no such token, or not of this time.
    pub fn read(text: &str, now: Timestamp) -> Result<Self, Refusal> {
        let token = parse(text)?;
        let claims = token.unverified_claims();
        let facts = Self {
            identity: Arc::new(PodIdentity::of(claims)?),
            audiences: claims.audiences.clone(),
            expires: claims.expires,
            not_before: claims.not_before,
        };
        check_times(facts.expires, facts.not_before, now)?;
        Ok(facts)
    }
}

impl PodIdentity {
    fn of(claims: &Claims) -> Result<Self, Refusal> {
        let missing = Refusal::InvalidToken("it is not bound to a pod and a service account");
        let kubernetes = claims.kubernetes.as_ref().ok_or(missing.clone())?;
        let pod = kubernetes.pod.as_ref().ok_or(missing.clone())?;
        let account = &kubernetes.service_account;
        let texts = [
            (Some(&kubernetes.namespace), MAX_NAMESPACE),
            (Some(&account.name), MAX_NAME),
            (account.uid.as_ref(), MAX_UID),
            (Some(&pod.name), MAX_NAME),
            (pod.uid.as_ref(), MAX_UID),
            (Some(&claims.issuer), MAX_ISSUER),
        ];
        if texts
            .iter()
            .any(|(text, most)| text.is_some_and(|text| text.len() > *most))
        {
            return Err(Refusal::InvalidToken("a name in it is too long"));
        }
        Ok(Self {
            issuer: claims.issuer.clone(),
            namespace: kubernetes.namespace.clone(),
            service_account: account.name.clone(),
            service_account_uid: account.uid.clone().ok_or(missing.clone())?,
            pod: pod.name.clone(),
            pod_uid: pod.uid.clone().ok_or(missing)?,
        })
    }

    /// The pod's entry in the cache.
    #[must_use]
    pub fn key(&self) -> PodKey {
        PodKey(digest_of([
            &self.issuer,
            &self.pod_uid,
            &self.service_account_uid,
        ]))
    }

    /// The service account of the pod.
    pub(crate) fn account(&self) -> AccountKey {
        AccountKey(digest_of([
            &self.issuer,
            &self.namespace,
            &self.service_account,
            &self.service_account_uid,
        ]))
    }
}

fn digest_of<'p>(parts: impl IntoIterator<Item = &'p Box<str>>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        // The length keeps `ab` + `c` apart from `a` + `bc`.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    array(context.finish().as_ref())
}

/// `exp` after now, without leeway; `nbf` not more than [`NOT_BEFORE_LEEWAY`] seconds from now.
pub(crate) fn check_times(
    expires: i64,
    not_before: Option<i64>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let now = now.as_second();
    if expires <= now {
        return Err(Refusal::Expired);
    }
    if not_before.is_some_and(|begin| begin > now.saturating_add(NOT_BEFORE_LEEWAY)) {
        return Err(Refusal::InvalidToken(
            "its time has not come yet; compare the clocks of the node and the control plane",
        ));
    }
    Ok(())
}

/// What the keys of the cluster say about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// The cluster signed it.
    Yes,
    /// The cluster did not sign it.
    No,
    /// It is of another issuer or for another audience: only the auth service can tell.
    Unknown,
    /// It names a key that is not among them. Keys rotate, and the newest may not have been fetched: the auth service can
    /// tell, and the keys are due to be read again.
    UnknownKey,
}

/// The keys with which a cluster signs service account tokens, read from a configured place: its API server
/// (`/openid/v1/jwks`) or a file. A token never says where its keys are.
#[derive(Debug)]
pub struct ClusterKeys {
    /// The issuer whose keys they are.
    pub issuer: Box<str>,
    /// The audience that the auth service accepts, [`AUDIENCE`] unless configured otherwise. A token that the cluster signed
    /// for somebody else must not share what the pod's own token gets.
    pub audience: Box<str>,
    /// The keys.
    pub keys: KeySet,
}

impl ClusterKeys {
    /// Verifies the signature of a token.
    #[must_use]
    pub fn vouch(&self, text: &str) -> Vouched {
        let Ok(token) = parse(text) else {
            return Vouched::No;
        };
        let audiences = &token.unverified_claims().audiences;
        if token.issuer() != &*self.issuer || !audiences.contains(&self.audience) {
            return Vouched::Unknown;
        }
        match token.verify(&self.keys) {
            Ok(_) => Vouched::Yes,
            Err(TokenError::UnknownKey(_)) => Vouched::UnknownKey,
            Err(_) => Vouched::No,
        }
    }
}

fn parse(text: &str) -> Result<UnverifiedToken<'_>, Refusal> {
    UnverifiedToken::parse(text).map_err(|error| match error {
        TokenError::MissingClaim(_) | TokenError::InvalidClaim { .. } => {
            Refusal::InvalidToken("a claim is missing or malformed")
        }
        _ => Refusal::NotAToken("it is not a JSON Web Token"),
    })
}

impl Digester {
    /// With a fresh random key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).map(Self)
    }

    /// What stands for this token.
    #[must_use]
    pub fn digest(&self, token: &str) -> TokenDigest {
        TokenDigest(array(hmac::sign(&self.0, token.as_bytes()).as_ref()))
    }
}

fn array(bytes: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    for (to, from) in array.iter_mut().zip(bytes) {
        *to = *from;
    }
    array
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

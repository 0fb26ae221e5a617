//! Session tokens: `CS1.<kid>.<base64url of nonce ‖ ciphertext ‖ tag>` (STS spec, section 8.1).
//!
//! A token is sealed with AES-256-GCM-SIV and bound to the deployment, the key and the access key id it was issued with:
//! changed in any bit, or used with another key id, it does not open.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_arn::unique_id::{self, Kind};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::bound::{Bound, DeploymentId};
use crate::crypto::{DIGEST, NONCE, SEED, TAG, sha256};
use crate::error::{Code, Refusal};
use crate::packed;
use crate::record::{self, DecodeRecordError, InvalidRecord, MAX_PLAINTEXT, SessionRecord};
use crate::ring::{KeyRing, KeyState, Kid};
use crate::scratch::Scratch;
use crate::secret::SecretAccessKey;

/// Most characters of a token. A presigned token for Kubernetes made with it must stay below 4,096 bytes, the limit of
/// authenticators in the field (STS spec, section 8.3).
pub const MAX_TOKEN_CHARS: usize = 2400;
/// Characters that the token of a role session without extras stays within (STS spec, section 8.3).
pub const TOKEN_BUDGET_CHARS: usize = 320;

const PREFIX: &[u8] = b"CS1.";
const DOMAIN: &str = "countersign/session/1";
const OVERHEAD: usize = NONCE + TAG;
/// Room for what a token of the greatest length holds, and for the decoder to round up.
const MAX_SEALED: usize = MAX_PLAINTEXT + OVERHEAD + 4;

/// A session token as clients send it. Debug output shows the key's name and the length.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken(Zeroizing<String>);

impl SessionToken {
    /// The text that goes to the client.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The number of characters, which are all ASCII.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a token is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kid = self.0.split('.').nth(1).unwrap_or_default();
        write!(f, "SessionToken(CS1.{kid}.…, {} characters)", self.len())
    }
}

/// Fresh randomness for one session. Never use it twice.
pub struct SessionRandomness {
    key_id: [u8; 16],
    seed: Zeroizing<[u8; SEED]>,
    nonce: [u8; NONCE],
}

impl SessionRandomness {
    /// Takes 44 random bytes.
    #[must_use]
    pub fn from_random(bytes: &[u8; 44]) -> Self {
        let mut all = Self {
            key_id: [0; 16],
            seed: Zeroizing::new([0; SEED]),
            nonce: [0; NONCE],
        };
        let slots = all
            .key_id
            .iter_mut()
            .chain(all.seed.iter_mut())
            .chain(&mut all.nonce);
        for (to, from) in slots.zip(bytes) {
            *to = *from;
        }
        all
    }
}

impl fmt::Debug for SessionRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionRandomness(redacted)")
    }
}

/// Credentials as they are answered once and stored nowhere.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `ASIA…`.
    pub access_key_id: Box<str>,
    /// The secret.
    pub secret: SecretAccessKey,
    /// The token.
    pub token: SessionToken,
    /// When they end.
    pub expires: Timestamp,
}

/// Why a record cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The token would have more than 2,400 characters.
    #[error("the session token would have {chars} characters, and at most 2400 are possible")]
    TooLarge {
        /// How many it would have.
        chars: usize,
        /// Whether the session has session policies.
        policies: bool,
    },
    /// The record breaks a rule.
    #[error(transparent)]
    Invalid(#[from] InvalidRecord),
    /// The key id is none that the token could be bound to.
    #[error("the access key id has zero bytes or more than 128 characters")]
    AccessKeyId,
    /// The ring has no key that could seal.
    #[error("the key ring has no key to seal with")]
    NoSealingKey,
    /// The cryptographic library refused.
    #[error("sealing failed")]
    Crypto,
}

impl SealError {
    /// What the caller is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::TooLarge { chars, policies } => {
                packed::too_large((100 * chars).div_ceil(MAX_TOKEN_CHARS), *policies)
            }
            Self::NoSealingKey => Refusal::new(
                Code::ServiceUnavailable,
                "Temporary credentials cannot be issued at the moment.",
            ),
            Self::Invalid(_) | Self::AccessKeyId | Self::Crypto => Refusal::new(
                Code::InternalFailure,
                "The request processing has failed because of an unknown error.",
            ),
        }
    }
}

/// Issues credentials for `record`: a new access key id of its account, the secret, and the token that carries the
/// session. Writes nothing anywhere. `now` chooses the key; the record's own times are taken as they are.
///
/// # Errors
/// As [`seal`].
pub fn issue(
    record: &SessionRecord,
    ring: &KeyRing,
    deployment: &DeploymentId,
    random: &SessionRandomness,
    now: Timestamp,
) -> Result<Credentials, SealError> {
    let access_key_id = unique_id::encode(Kind::TemporaryAccessKey, record.account, random.key_id);
    let (token, secret) = seal(record, ring, deployment, &access_key_id, random, now)?;
    Ok(Credentials {
        access_key_id: access_key_id.into(),
        secret,
        token,
        expires: record.expires,
    })
}

/// Seals `record` for use with `access_key_id`, and derives the secret that goes with it.
///
/// # Errors
/// When the record breaks a rule, no key can seal, or the token would be too long.
pub fn seal(
    record: &SessionRecord,
    ring: &KeyRing,
    deployment: &DeploymentId,
    access_key_id: &str,
    random: &SessionRandomness,
    now: Timestamp,
) -> Result<(SessionToken, SecretAccessKey), SealError> {
    let (kid, material) = ring.sealing(now).ok_or(SealError::NoSealingKey)?;
    let bound = Bound::new(DOMAIN, deployment, kid, access_key_id.as_bytes())
        .ok_or(SealError::AccessKeyId)?;
    let head = PREFIX.len() + kid.as_str().len() + 1;
    let too_large = |plain: usize| SealError::TooLarge {
        chars: head + (4 * (plain + OVERHEAD)).div_ceil(3),
        policies: !record.policies.is_empty(),
    };
    let mut scratch = Scratch::<MAX_SEALED>::new();
    let (nonce_room, rest) = scratch.whole().split_at_mut(NONCE);
    nonce_room.copy_from_slice(&random.nonce);
    let (plain_room, _) = rest.split_at_mut(MAX_PLAINTEXT);
    let plain = record::encode(record, &random.seed, plain_room)?.map_err(too_large)?;
    let sealed = scratch.first(NONCE + plain + TAG);
    let (_, rest) = sealed.split_at_mut(NONCE);
    let (plaintext, tag_room) = rest.split_at_mut(plain);
    let tag = material
        .seal(random.nonce, bound.as_bytes(), plaintext)
        .map_err(|_| SealError::Crypto)?;
    tag_room.copy_from_slice(&tag);
    let mut text = String::with_capacity(head + (4 * sealed.len()).div_ceil(3));
    text.push_str("CS1.");
    text.push_str(kid.as_str());
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(sealed, &mut text);
    if text.len() > MAX_TOKEN_CHARS {
        return Err(too_large(plain));
    }
    let secret = material.secret_access_key(access_key_id, &random.seed);
    Ok((SessionToken(Zeroizing::new(text)), secret))
}

/// A session that a token proved.
#[derive(Debug)]
pub struct Opened {
    record: SessionRecord,
    access_key_id: Box<str>,
    secret: SecretAccessKey,
    kid: Kid,
    fingerprint: [u8; 8],
    sha256: [u8; DIGEST],
    chars: usize,
}

impl Opened {
    /// The session.
    #[must_use]
    pub fn record(&self) -> &SessionRecord {
        &self.record
    }

    /// The access key id that the token belongs to.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The secret to verify the request's signature with. Until that is done, nobody is authenticated: the holder of a
    /// token need not hold the secret.
    #[must_use]
    pub fn secret(&self) -> &SecretAccessKey {
        &self.secret
    }

    /// The key it was sealed with.
    #[must_use]
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The SHA-256 of the token: what signing keys derived from the secret are cached under (SigV4 spec, section 3.1),
    /// and what may stand for the token in a log.
    #[must_use]
    pub fn token_sha256(&self) -> [u8; DIGEST] {
        self.sha256
    }

    /// The number of characters of the token.
    #[must_use]
    pub fn token_chars(&self) -> usize {
        self.chars
    }

    /// Whether `ring` still opens what this was opened with.
    pub(crate) fn still_opens(&self, ring: &KeyRing, now: Timestamp) -> bool {
        matches!(
            ring.lookup(&self.kid, now),
            Some((KeyState::Sealing | KeyState::Opening, Some(material)))
                if material.fingerprint() == self.fingerprint
        )
    }
}

/// Why a token does not open. The caller learns only [`OpenError::refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a token of ours: prefix, length, key name or alphabet.
    #[error("the session token is not one of this service")]
    Malformed,
    /// The access key id is not a temporary one.
    #[error("the access key id is not a temporary one")]
    NotTemporary,
    /// Sealed with a key that the ring does not know. Reload the ring, once and with a limit, then try again.
    #[error("the session token is sealed with key `{0}`, which is unknown")]
    UnknownKey(Kid),
    /// Sealed with a key that opens nothing any more.
    #[error("the session token is sealed with key `{0}`, which is retired")]
    RetiredKey(Kid),
    /// Changed, made by someone else, or used with another key id or in another deployment.
    #[error("the session token does not open with key `{0}`")]
    Forged(Kid),
    /// Opened, but written by a version that knows more, or by a faulty one.
    #[error("the session token opens with key `{kid}` but cannot be read")]
    Unreadable {
        /// The key.
        kid: Kid,
        /// What is wrong with the content.
        #[source]
        source: DecodeRecordError,
    },
    /// The session is over.
    #[error("the session ended at {0}")]
    Expired(Timestamp),
}

impl OpenError {
    /// What the caller is told: `ExpiredToken` for a session that is over, `InvalidClientTokenId` for everything else
    /// (SigV4 spec, steps 14a and 14b).
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Expired(_) => Refusal::expired_token(),
            Self::Malformed
            | Self::NotTemporary
            | Self::UnknownKey(_)
            | Self::RetiredKey(_)
            | Self::Forged(_)
            | Self::Unreadable { .. } => Refusal::invalid_token(),
        }
    }
}

/// Opens `token`, which came with `access_key_id`, and checks that the session is not over at `now`.
///
/// Costs one pass over at most 2,400 bytes; hostile tokens cost less than genuine ones and allocate nothing. Whether the
/// session was revoked, and whether its principal still exists, are separate questions:
/// [`RevocationList::consult`](crate::RevocationList::consult) and [`check_principal`](crate::check_principal).
///
/// # Errors
/// Says why the token does not open.
pub fn open(
    token: &[u8],
    access_key_id: &str,
    ring: &KeyRing,
    deployment: &DeploymentId,
    now: Timestamp,
) -> Result<Opened, OpenError> {
    if token.len() > MAX_TOKEN_CHARS {
        return Err(OpenError::Malformed);
    }
    open_hashed(token, sha256(token), access_key_id, ring, deployment, now)
}

/// [`open`] for a token whose length was checked and whose digest is known.
pub(crate) fn open_hashed(
    token: &[u8],
    sha256: [u8; DIGEST],
    access_key_id: &str,
    ring: &KeyRing,
    deployment: &DeploymentId,
    now: Timestamp,
) -> Result<Opened, OpenError> {
    if Kind::of(access_key_id) != Some(Kind::TemporaryAccessKey) {
        return Err(OpenError::NotTemporary);
    }
    let rest = token.strip_prefix(PREFIX).ok_or(OpenError::Malformed)?;
    let dot = rest
        .iter()
        .take(9)
        .position(|byte| *byte == b'.')
        .ok_or(OpenError::Malformed)?;
    let (kid, body) = rest.split_at_checked(dot).ok_or(OpenError::Malformed)?;
    let kid = Kid::from_bytes(kid).map_err(|_| OpenError::Malformed)?;
    let body = body.strip_prefix(b".").ok_or(OpenError::Malformed)?;
    let (state, material) = ring.lookup(&kid, now).ok_or(OpenError::UnknownKey(kid))?;
    let material = match (state, material) {
        (KeyState::Sealing | KeyState::Opening, Some(material)) => material,
        _ => return Err(OpenError::RetiredKey(kid)),
    };
    let bound = Bound::new(DOMAIN, deployment, &kid, access_key_id.as_bytes())
        .ok_or(OpenError::NotTemporary)?;
    let mut scratch = Scratch::<MAX_SEALED>::new();
    let length = URL_SAFE_NO_PAD
        .decode_slice(body, scratch.whole())
        .map_err(|_| OpenError::Malformed)?;
    let (nonce, sealed) = scratch
        .first(length)
        .split_first_chunk_mut::<NONCE>()
        .ok_or(OpenError::Malformed)?;
    let plaintext = material
        .open(*nonce, bound.as_bytes(), sealed)
        .map_err(|_| OpenError::Forged(kid))?;
    let (record, seed) =
        record::decode(plaintext).map_err(|source| OpenError::Unreadable { kid, source })?;
    if record.is_expired(now) {
        return Err(OpenError::Expired(record.expires));
    }
    Ok(Opened {
        secret: material.secret_access_key(access_key_id, &seed),
        access_key_id: access_key_id.into(),
        record,
        kid,
        fingerprint: material.fingerprint(),
        sha256,
        chars: token.len(),
    })
}

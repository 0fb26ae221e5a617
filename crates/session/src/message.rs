//! Small messages that only this deployment can read again, sealed with the keys of the session tokens under a label of
//! their own: the encoded authorization message of denials (STS spec, section 2.8).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::bound::{Bound, DeploymentId};
use crate::crypto::{NONCE, TAG};
use crate::ring::{KeyRing, KeyState, Kid};

/// Most characters of a sealed message, which is what DecodeAuthorizationMessage accepts.
pub const MAX_MESSAGE_CHARS: usize = 10_240;

const PREFIX: &str = "CM1.";
const TIME: usize = 8;

/// What a message is for. Messages of one purpose do not open as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The explanation of a denial. Kept for 24 hours.
    AuthorizationMessage,
    /// Where the next page of a list begins. Kept for 24 hours.
    Marker,
}

impl Purpose {
    const fn domain(self) -> &'static str {
        match self {
            Self::AuthorizationMessage => "countersign/authorization-message/1",
            Self::Marker => "countersign/marker/1",
        }
    }

    const fn lifetime(self) -> SignedDuration {
        match self {
            Self::AuthorizationMessage | Self::Marker => SignedDuration::from_hours(24),
        }
    }
}

/// The message does not open: foreign, damaged, too old, or of another owner. Which of these is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is not one that can be opened here")]
pub struct MessageDoesNotOpen;

/// Seals `plain` for `owner`, such as the account that may read it. Nothing when there is no key, or the result would
/// be longer than 10,240 characters.
#[must_use]
pub fn seal_message(
    purpose: Purpose,
    owner: &str,
    plain: &[u8],
    ring: &KeyRing,
    deployment: &DeploymentId,
    nonce: [u8; NONCE],
    now: Timestamp,
) -> Option<String> {
    let (kid, material) = ring.sealing(now)?;
    let bound = Bound::new(purpose.domain(), deployment, kid, owner.as_bytes())?;
    let mut sealed = Zeroizing::new(Vec::with_capacity(NONCE + TIME + plain.len() + TAG));
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&now.as_second().to_be_bytes());
    sealed.extend_from_slice(plain);
    let (_, content) = sealed.split_at_mut_checked(NONCE)?;
    let tag = material.seal(nonce, bound.as_bytes(), content).ok()?;
    sealed.extend_from_slice(&tag);
    let mut text = format!("{PREFIX}{kid}.");
    URL_SAFE_NO_PAD.encode_string(&*sealed, &mut text);
    (text.len() <= MAX_MESSAGE_CHARS).then_some(text)
}

/// Opens what [`seal_message`] made for the same purpose and owner.
///
/// # Errors
/// When the message is foreign, damaged or too old.
pub fn open_message(
    purpose: Purpose,
    owner: &str,
    message: &str,
    ring: &KeyRing,
    deployment: &DeploymentId,
    now: Timestamp,
) -> Result<Zeroizing<Vec<u8>>, MessageDoesNotOpen> {
    open_inner(purpose, owner, message, ring, deployment, now).ok_or(MessageDoesNotOpen)
}

fn open_inner(
    purpose: Purpose,
    owner: &str,
    message: &str,
    ring: &KeyRing,
    deployment: &DeploymentId,
    now: Timestamp,
) -> Option<Zeroizing<Vec<u8>>> {
    if message.len() > MAX_MESSAGE_CHARS {
        return None;
    }
    let (kid, body) = message.strip_prefix(PREFIX)?.split_once('.')?;
    let kid: Kid = kid.parse().ok()?;
    let (KeyState::Sealing | KeyState::Opening, Some(material)) = ring.lookup(&kid, now)? else {
        return None;
    };
    let bound = Bound::new(purpose.domain(), deployment, &kid, owner.as_bytes())?;
    let mut sealed = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).ok()?);
    let (nonce, content) = sealed.split_first_chunk_mut::<NONCE>()?;
    let content = material.open(*nonce, bound.as_bytes(), content).ok()?;
    let (made, plain) = content.split_first_chunk::<TIME>()?;
    let made = Timestamp::from_second(i64::from_be_bytes(*made)).ok()?;
    let until = made.saturating_add(purpose.lifetime()).ok()?;
    (now < until).then(|| Zeroizing::new(plain.to_vec()))
}

//! Entry points for fuzzing; none may panic.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use crate::bound::Bound;
use crate::crypto::{NONCE, SEED};
use crate::pod::{NameTemplate, PodNames};
use crate::record;
use crate::{
    DecodeRecordError, DeploymentId, KeyRing, MAX_TOKEN_CHARS, NewKey, OpenCache, OpenError,
    ROTATE_EVERY, RevocationTarget, SessionRecord, open,
};

const KEY_ID: &str = "ASIARTX3GSDS7RSUJJ3G";

/// `data` as the template of a session name, and as the names that stand in it.
pub fn session_name_template(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (template, names) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(template) = NameTemplate::parse(template) else {
        return;
    };
    let mut names = names.split('\n');
    let mut next = || names.next().unwrap_or_default();
    let names = PodNames {
        cluster: next(),
        namespace: next(),
        service_account: next(),
        pod: next(),
        pod_uid: next(),
        uuid: next(),
    };
    let name = template.render(&names);
    assert!(countersign_arn::is_session_name(&name), "{name}");
}

/// `data` as a session token, and as the content of a genuine one: opening that must agree with reading `data`.
pub fn token(data: &[u8]) {
    let now = Timestamp::UNIX_EPOCH;
    let (Ok(ring), Ok(deployment)) = (
        KeyRing::bootstrap(&NewKey::from_random(&[7; 36]), now),
        "fuzz".parse::<DeploymentId>(),
    ) else {
        return;
    };
    let opened = |token: &[u8]| {
        let plain = open(token, KEY_ID, &ring, &deployment, now);
        let cached = OpenCache::new(1, deployment.clone()).open(token, KEY_ID, &ring, now);
        let plain = plain.map(|opened| opened.record().clone());
        assert_eq!(plain, cached.map(|opened| opened.record().clone()));
        plain
    };
    let _ = opened(data);
    let Some(genuine) = genuine(data, &ring, &deployment, now) else {
        return;
    };
    match (opened(genuine.as_bytes()), decoded(data)) {
        (Ok(opened), Ok(decoded)) => assert_eq!(opened, decoded),
        (Err(OpenError::Expired(_)), Ok(decoded)) => assert!(decoded.is_expired(now)),
        (Err(OpenError::Unreadable { source, .. }), Err(error)) => assert_eq!(source, error),
        (Err(OpenError::Malformed), _) => assert!(genuine.len() > MAX_TOKEN_CHARS),
        (opened, decoded) => assert!(opened.is_ok() && decoded.is_ok(), "{opened:?} {decoded:?}"),
    }
}

/// A token whose content is `plaintext`, whatever that is.
fn genuine(
    plaintext: &[u8],
    ring: &KeyRing,
    deployment: &DeploymentId,
    now: Timestamp,
) -> Option<String> {
    let (kid, material) = ring.sealing(now)?;
    let bound = Bound::new("countersign/session/1", deployment, kid, KEY_ID.as_bytes())?;
    let nonce = [9; NONCE];
    let mut content = plaintext.to_vec();
    let tag = material.seal(nonce, bound.as_bytes(), &mut content).ok()?;
    let sealed = [&nonce[..], &content, &tag].concat();
    Some(format!("CS1.{kid}.{}", URL_SAFE_NO_PAD.encode(sealed)))
}

/// `data` as the plaintext of a token; what decodes must come back the same from its encoding.
pub fn record(data: &[u8]) {
    let Ok((record, seed)) = record::decode(data) else {
        return;
    };
    let mut out = vec![0u8; 1 << 16];
    let Ok(Ok(length)) = record::encode(&record, &seed, &mut out) else {
        assert!(data.len() > 1 << 15, "what was decoded must encode");
        return;
    };
    let again = record::decode(out.get(..length).unwrap_or_default());
    assert_eq!(again.map(|(again, _)| again), Ok(record));
}

/// `data` as a key ring; what decodes must come back the same from its encoding.
pub fn key_ring(data: &[u8]) {
    let Ok(ring) = KeyRing::decode(data) else {
        return;
    };
    let bytes = ring.encode();
    let again = KeyRing::decode(&bytes).map(|ring| ring.encode());
    assert_eq!(again.as_deref(), Ok(&*bytes));
    let now = Timestamp::UNIX_EPOCH;
    let _ = ring.status(now);
    let _ = ring.maintained(&NewKey::from_random(&[1; 36]), ROTATE_EVERY, now);
    assert_eq!(
        ring.merged(&ring).map(|ring| ring.encode()).as_deref(),
        Ok(&*bytes)
    );
}

/// The plaintext of a record, to start fuzzing [`record()`] from.
#[must_use]
pub fn plaintext_of(session: &SessionRecord) -> Vec<u8> {
    let mut out = vec![0u8; 1 << 13];
    let length = record::encode(session, &[5; SEED], &mut out)
        .ok()
        .and_then(Result::ok)
        .unwrap_or(0);
    out.truncate(length);
    out
}

/// The record in a plaintext, for tests of what the reader accepts.
///
/// # Errors
/// When the bytes are no record.
pub fn decoded(plaintext: &[u8]) -> Result<SessionRecord, DecodeRecordError> {
    record::decode(plaintext).map(|(record, _)| record)
}

/// The id of a revocation's target, as the store may hand it out.
pub fn revocation_target(data: &[u8]) {
    let id = String::from_utf8_lossy(data);
    if let Some(target) = RevocationTarget::from_id(&id) {
        assert_eq!(target.id(), *id, "a target has one id");
        let _ = target.check();
    }
}

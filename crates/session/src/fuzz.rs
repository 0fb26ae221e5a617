//! Entry points for fuzzing; none may panic.

use jiff::Timestamp;

use crate::crypto::SEED;
use crate::record;
use crate::{DeploymentId, KeyRing, NewKey, OpenCache, open};

const KEY_ID: &str = "ASIARTX3GSDS7RSUJJ3G";

/// `data` as a session token, and `data` as the content of a genuine one.
#[expect(
    clippy::missing_panics_doc,
    reason = "the assertions are what fuzzing is for"
)]
pub fn token(data: &[u8]) {
    let now = Timestamp::UNIX_EPOCH;
    let Ok(ring) = KeyRing::bootstrap(&NewKey::from_random(&[7; 36]), now) else {
        return;
    };
    let Ok(deployment) = "fuzz".parse::<DeploymentId>() else {
        return;
    };
    let plain = open(data, KEY_ID, &ring, &deployment, now).map(|opened| opened.record().clone());
    let cached = OpenCache::new(1, deployment)
        .open(data, KEY_ID, &ring, now)
        .map(|opened| opened.record().clone());
    assert_eq!(plain, cached);
}

/// `data` as the plaintext of a token; what decodes must come back the same from its encoding.
#[expect(
    clippy::missing_panics_doc,
    reason = "the assertions are what fuzzing is for"
)]
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
#[expect(
    clippy::missing_panics_doc,
    reason = "the assertions are what fuzzing is for"
)]
pub fn key_ring(data: &[u8]) {
    let Ok(ring) = KeyRing::decode(data) else {
        return;
    };
    let bytes = ring.encode();
    let again = KeyRing::decode(&bytes).map(|ring| ring.encode());
    assert_eq!(again.as_deref(), Ok(&*bytes));
    let now = Timestamp::UNIX_EPOCH;
    let _ = ring.status(now);
    let _ = ring.maintained(&NewKey::from_random(&[1; 36]), crate::ROTATE_EVERY, now);
    let _ = ring.merged(&ring);
}

/// The plaintext of a record, to start fuzzing [`record`] from.
#[must_use]
pub fn plaintext_of(session: &crate::SessionRecord) -> Vec<u8> {
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
pub fn decoded(plaintext: &[u8]) -> Result<crate::SessionRecord, crate::DecodeRecordError> {
    record::decode(plaintext).map(|(record, _)| record)
}

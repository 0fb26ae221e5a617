//! Keys: their states by time, rotation, emergencies, merging, storing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use common::*;
use countersign_session::{
    DecodeRingError, KeyRing, KeyState, Kid, MAX_KEYS, NewKey, ROTATE_EVERY, RingError,
};
use proptest::prelude::*;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn kid(ring: &KeyRing, at: usize) -> Kid {
    ring.status(common::at(0))[at].kid
}

fn states(ring: &KeyRing, seconds: i64) -> Vec<KeyState> {
    ring.status(at(seconds))
        .into_iter()
        .map(|key| key.state)
        .collect()
}

#[test]
fn a_new_key_opens_for_a_minute_before_it_seals() {
    use KeyState::{Opening, Sealing};
    let ring = ring().rotated(&new_key(2), at(100)).unwrap();
    assert_eq!(states(&ring, 100), [Sealing, Opening]);
    assert_eq!(states(&ring, 100 + MINUTE - 1), [Sealing, Opening]);
    assert_eq!(states(&ring, 100 + MINUTE), [Opening, Sealing]);
}

#[test]
fn a_key_opens_for_36_hours_and_15_minutes_after_it_stopped_sealing() {
    use KeyState::{Opening, Retired, Sealing};
    let ring = ring().rotated(&new_key(2), at(0)).unwrap();
    let end = MINUTE + 36 * HOUR + 15 * MINUTE;
    assert_eq!(states(&ring, end - 1), [Opening, Sealing]);
    assert_eq!(states(&ring, end), [Retired, Sealing]);
    let status = &ring.status(at(0))[0];
    assert_eq!(status.seals_until, Some(at(MINUTE)));
    assert_eq!(status.opens_until, Some(at(end)));
}

#[test]
fn a_clock_behind_the_one_that_made_the_ring_can_still_seal() {
    let ring = ring();
    assert_eq!(states(&ring, -5), [KeyState::Sealing]);
}

#[test]
fn a_ring_is_maintained_every_seven_days_and_otherwise_left_alone() {
    let ring = ring();
    let due = |ring: &KeyRing, seconds| {
        ring.maintained(&new_key(2), ROTATE_EVERY, at(seconds))
            .unwrap()
    };
    assert!(due(&ring, 0).is_none());
    assert!(due(&ring, 7 * DAY - 1).is_none());
    let rotated = due(&ring, 7 * DAY).unwrap();
    assert_eq!(rotated.status(at(0)).len(), 2);
    assert_eq!(
        rotated.sealing_kid(at(7 * DAY)).unwrap(),
        kid(&ring, 0),
        "the old key seals for the minute of warm-up"
    );
    assert!(due(&rotated, 7 * DAY).is_none());
    assert!(due(&rotated, 7 * DAY + MINUTE).is_none());
}

#[test]
fn maintenance_wipes_keys_that_are_over_and_forgets_them_after_a_month() {
    let ring = ring().rotated(&new_key(2), at(0)).unwrap();
    let end = MINUTE + 36 * HOUR + 15 * MINUTE;
    let wiped = ring
        .maintained(&new_key(3), ROTATE_EVERY, at(end))
        .unwrap()
        .unwrap();
    let status = wiped.status(at(end));
    assert_eq!(status[0].state, KeyState::Retired);
    assert_eq!(status[0].fingerprint, None, "the secret is gone");
    assert_eq!(status[0].opens_until, Some(at(end)));
    assert!(wiped.encode().len() < ring.encode().len());
    let much_later = wiped
        .maintained(&new_key(3), ROTATE_EVERY, at(end + 30 * DAY))
        .unwrap()
        .unwrap();
    assert_eq!(much_later.state(&kid(&ring, 0), at(0)), None);
}

#[test]
fn a_year_of_weekly_maintenance_keeps_the_ring_small_and_sealing() {
    let mut ring = ring();
    for hour in 1..365 * 24 {
        let now = at(hour * HOUR);
        let new = NewKey::from_random(&Random(1000 + u64::try_from(hour).unwrap()).bytes());
        if let Some(changed) = ring.maintained(&new, ROTATE_EVERY, now).unwrap() {
            ring = KeyRing::decode(&changed.encode()).unwrap();
        }
        let sealing = states(&ring, hour * HOUR)
            .into_iter()
            .filter(|state| *state == KeyState::Sealing)
            .count();
        assert_eq!(sealing, 1, "hour {hour}");
        assert!(ring.status(now).len() <= 8);
    }
}

#[test]
fn an_emergency_retires_every_key_at_once_and_a_new_one_seals_at_once() {
    use KeyState::{Retired, Sealing};
    let ring = ring().rotated(&new_key(2), at(0)).unwrap();
    for (seconds, expected) in [
        (10, [Retired, Sealing, Retired]),
        (100, [Retired, Retired, Sealing]),
    ] {
        let after = ring.all_retired(&new_key(3), at(seconds)).unwrap();
        for later in [0, 1, 60, 30 * DAY] {
            assert_eq!(states(&after, seconds + later), expected);
        }
        let status = after.status(at(seconds));
        for key in status {
            assert_eq!(key.fingerprint.is_none(), key.state == Retired);
            assert_eq!(
                after.sealing_kid(at(seconds)) == Some(key.kid),
                key.state == Sealing
            );
        }
    }
}

#[test]
fn an_emergency_succeeds_in_a_full_ring() {
    let mut ring = ring();
    for n in 1..u64::try_from(MAX_KEYS).unwrap() {
        ring = ring.rotated(&new_key(100 + n), at(0)).unwrap();
    }
    assert_eq!(
        ring.rotated(&new_key(900), at(0)).unwrap_err(),
        RingError::Full
    );
    let after = ring.all_retired(&new_key(901), at(1)).unwrap();
    assert_eq!(after.status(at(1)).len(), MAX_KEYS);
    assert_eq!(
        states(&after, 1)
            .iter()
            .filter(|state| **state != KeyState::Retired)
            .count(),
        1
    );
}

#[test]
fn an_old_copy_of_the_ring_cannot_bring_a_retired_key_back() {
    let old = ring();
    let now = old.all_retired(&new_key(3), at(10)).unwrap();
    for merged in [now.merged(&old).unwrap(), old.merged(&now).unwrap()] {
        assert_eq!(merged.state(&kid(&old, 0), at(10)), Some(KeyState::Retired));
        assert_eq!(merged.encode(), now.encode());
    }
}

#[test]
fn merging_rings_in_which_one_name_has_two_secrets_is_refused() {
    let mut bytes: [u8; 36] = Random(1).bytes();
    bytes[0] ^= 1;
    let other = KeyRing::bootstrap(&NewKey::from_random(&bytes), at(0)).unwrap();
    assert_eq!(
        ring().merged(&other).unwrap_err(),
        RingError::Conflict(kid(&other, 0))
    );
}

#[test]
fn a_new_key_never_takes_the_name_of_another() {
    let mut bytes: [u8; 36] = Random(1).bytes();
    bytes[0] ^= 1;
    let ring = ring().rotated(&NewKey::from_random(&bytes), at(0)).unwrap();
    let status = ring.status(at(0));
    assert_ne!(status[0].kid, status[1].kid);
}

#[test]
fn kids_have_one_to_eight_characters_that_stand_in_a_token() {
    for kid in ["k", "k7", "abcdefgh", "A-_9"] {
        assert_eq!(kid.parse::<Kid>().unwrap().as_str(), kid);
    }
    for not in ["", "abcdefghi", "a.b", "a b", "ä", "a\0"] {
        assert!(not.parse::<Kid>().is_err(), "{not:?}");
    }
}

#[test]
fn a_ring_does_not_print_its_secrets() {
    let ring = ring();
    let printed = format!("{ring:?} {:?} {:?}", ring.status(at(0)), new_key(1));
    let secret: [u8; 36] = Random(1).bytes();
    let hex: String = secret[..8].iter().map(|b| format!("{b:02x}")).collect();
    assert!(!printed.contains(&hex));
    assert!(!printed.contains(&format!("{:?}", &secret[..4])));
}

#[test]
fn bytes_that_are_no_ring_are_refused() {
    let good = ring().encode().to_vec();
    assert!(KeyRing::decode(&good).is_ok());
    for length in 0..good.len() {
        assert!(KeyRing::decode(&good[..length]).is_err(), "cut to {length}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(KeyRing::decode(&longer).is_err());
    let mut other_format = good.clone();
    assert_eq!(other_format[2], 1);
    other_format[2] = 2;
    assert_eq!(
        KeyRing::decode(&other_format).unwrap_err(),
        DecodeRingError::Format(2)
    );
    let retired_only = [0xa2, 0, 1, 1, 0x81, 0xa4, 0, 0x61, b'k', 1, 0, 2, 0, 3, 0];
    assert_eq!(
        KeyRing::decode(&retired_only).unwrap_err(),
        DecodeRingError::Invalid("no key that could seal")
    );
    let twice = {
        let key = &good[5..];
        let mut bytes = good[..5].to_vec();
        assert_eq!(bytes[4], 0x81);
        bytes[4] = 0x82;
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(key);
        bytes
    };
    assert_eq!(
        KeyRing::decode(&twice).unwrap_err(),
        DecodeRingError::Invalid("two keys have one name")
    );
}

/// Rings that share a history: each is made from the same start by a few steps.
fn any_ring() -> impl Strategy<Value = KeyRing> {
    proptest::collection::vec((0u8..4, 0i64..20), 0..8).prop_map(|steps| {
        let mut ring = ring();
        let mut seconds = 0;
        for (step, days) in steps {
            seconds += days * DAY;
            // The same step at the same time makes the same key, as two copies of one ring would have it.
            let new = NewKey::from_random(
                &Random(u64::try_from(seconds).unwrap() * 8 + u64::from(step)).bytes(),
            );
            let changed = match step {
                0 => ring.rotated(&new, at(seconds)).ok(),
                1 => ring.all_retired(&new, at(seconds)).ok(),
                _ => ring
                    .maintained(&new, ROTATE_EVERY, at(seconds))
                    .ok()
                    .flatten(),
            };
            ring = changed.unwrap_or(ring);
        }
        ring
    })
}

fn bytes(ring: Result<KeyRing, RingError>) -> Option<Vec<u8>> {
    ring.ok().map(|ring| ring.encode().to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_does_not_depend_on_order_or_repetition(a in any_ring(), b in any_ring(), c in any_ring()) {
        let ab = a.merged(&b);
        prop_assert_eq!(bytes(ab.clone()), bytes(b.merged(&a)));
        prop_assert_eq!(bytes(a.merged(&a)), Some(a.encode().to_vec()));
        if let (Ok(ab), Ok(bc)) = (ab, b.merged(&c)) {
            prop_assert_eq!(bytes(ab.merged(&c)), bytes(a.merged(&bc)));
            prop_assert_eq!(bytes(ab.merged(&a)), bytes(Ok(ab)));
        }
    }

    #[test]
    fn a_ring_is_the_same_after_storing(ring in any_ring()) {
        let bytes = ring.encode();
        let stored = KeyRing::decode(&bytes).unwrap();
        prop_assert_eq!(&*stored.encode(), &*bytes);
        prop_assert_eq!(stored.status(at(DAY)), ring.status(at(DAY)));
    }

    #[test]
    fn exactly_one_key_seals_at_any_moment(ring in any_ring(), day in 0i64..200) {
        let sealing = states(&ring, day * DAY).into_iter().filter(|s| *s == KeyState::Sealing).count();
        prop_assert_eq!(sealing, 1);
    }

    #[test]
    fn a_token_opens_for_its_whole_life_through_any_rotation(rotations in proptest::collection::vec(0i64..36 * HOUR, 0..5)) {
        let mut record = session(countersign_session::SessionKind::SessionToken, user());
        record.expires = at(36 * HOUR);
        let mut ring = ring();
        let issued = countersign_session::issue(&record, &ring, &deployment(), &random(4), at(0)).unwrap();
        let mut moments = rotations;
        moments.sort_unstable();
        for (n, seconds) in moments.into_iter().enumerate() {
            let new = new_key(50 + u64::try_from(n).unwrap());
            ring = ring.rotated(&new, at(seconds)).unwrap();
            if let Some(maintained) = ring.maintained(&new_key(90), ROTATE_EVERY, at(seconds)).unwrap() {
                ring = maintained;
            }
        }
        let last = at(36 * HOUR - 1);
        let opened = countersign_session::open(
            issued.token.expose().as_bytes(), &issued.access_key_id, &ring, &deployment(), last);
        prop_assert!(opened.is_ok());
    }
}

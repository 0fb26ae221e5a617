//! Remembered tokens.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use std::sync::Arc;

use common::*;
use countersign_session::{Credentials, OpenCache, OpenError, issue};
use proptest::prelude::*;

fn credentials(n: u64) -> Credentials {
    issue(&role_session(), &ring(), &deployment(), &random(n), at(0)).unwrap()
}

fn open_in(
    cache: &OpenCache,
    credentials: &Credentials,
    seconds: i64,
) -> Result<Arc<countersign_session::Opened>, OpenError> {
    let token = credentials.token.expose().as_bytes();
    cache.open(token, &credentials.access_key_id, &ring(), at(seconds))
}

#[test]
fn a_token_is_opened_once() {
    let cache = OpenCache::new(10, deployment());
    let credentials = credentials(1);
    let first = open_in(&cache, &credentials, 1).unwrap();
    let second = open_in(&cache, &credentials, 2).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let token = credentials.token.expose().as_bytes();
    let uncached = countersign_session::open(
        token,
        &credentials.access_key_id,
        &ring(),
        &deployment(),
        at(1),
    )
    .unwrap();
    assert_eq!(first.token_sha256(), uncached.token_sha256());
    assert_eq!(cache.hits_and_misses(), (1, 1));
}

#[test]
fn a_remembered_token_does_not_open_with_another_key_id() {
    let cache = OpenCache::new(10, deployment());
    let credentials = credentials(1);
    open_in(&cache, &credentials, 1).unwrap();
    let token = credentials.token.expose().as_bytes();
    assert!(matches!(
        cache.open(token, KEY_ID, &ring(), at(1)),
        Err(OpenError::Forged(_))
    ));
    open_in(&cache, &credentials, 1).unwrap();
    assert_eq!(
        cache.hits_and_misses(),
        (1, 2),
        "the stranger did not push the owner out"
    );
}

#[test]
fn a_remembered_token_is_over_when_the_session_is() {
    let cache = OpenCache::new(10, deployment());
    let credentials = credentials(1);
    assert!(open_in(&cache, &credentials, 3599).is_ok());
    assert!(matches!(
        open_in(&cache, &credentials, 3600),
        Err(OpenError::Expired(_))
    ));
    assert!(cache.is_empty());
}

#[test]
fn a_remembered_token_is_refused_once_its_key_is_retired() {
    let cache = OpenCache::new(10, deployment());
    let credentials = credentials(1);
    open_in(&cache, &credentials, 1).unwrap();
    let emergency = ring().all_retired(&new_key(5), at(2)).unwrap();
    let token = credentials.token.expose().as_bytes();
    assert!(matches!(
        cache.open(token, &credentials.access_key_id, &emergency, at(2)),
        Err(OpenError::RetiredKey(_))
    ));
    assert!(cache.is_empty());
}

#[test]
fn a_remembered_token_is_refused_under_another_secret_of_the_same_kid() {
    let cache = OpenCache::new(10, deployment());
    let credentials = credentials(1);
    open_in(&cache, &credentials, 1).unwrap();
    let mut bytes: [u8; 36] = Random(1).bytes();
    bytes[0] ^= 1;
    let new = countersign_session::NewKey::from_random(&bytes);
    let impostor = countersign_session::KeyRing::bootstrap(&new, at(0)).unwrap();
    let token = credentials.token.expose().as_bytes();
    assert!(matches!(
        cache.open(token, &credentials.access_key_id, &impostor, at(2)),
        Err(OpenError::Forged(_))
    ));
}

#[test]
fn refused_tokens_are_not_remembered() {
    let cache = OpenCache::new(10, deployment());
    for token in ["", "CS1.k.AAAA", &"x".repeat(1 << 16)] {
        assert!(
            cache
                .open(token.as_bytes(), KEY_ID, &ring(), at(0))
                .is_err()
        );
    }
    assert!(cache.is_empty());
}

#[test]
fn ended_sessions_are_purged_and_everything_can_be_cleared() {
    let cache = OpenCache::new(1000, deployment());
    for n in 0..20 {
        open_in(&cache, &credentials(n), 1).unwrap();
    }
    cache.purge(at(3599));
    assert_eq!(cache.len(), 20);
    cache.purge(at(3600));
    assert!(cache.is_empty());
    open_in(&cache, &credentials(1), 1).unwrap();
    cache.clear();
    assert!(cache.is_empty());
    open_in(&cache, &credentials(1), 1).unwrap();
    assert_eq!(cache.len(), 1);
}

#[test]
fn a_cache_of_zero_entries_opens_every_time() {
    let cache = OpenCache::new(0, deployment());
    let credentials = credentials(1);
    for _ in 0..3 {
        open_in(&cache, &credentials, 1).unwrap();
    }
    assert_eq!(cache.hits_and_misses(), (0, 3));
}

#[test]
fn a_full_cache_stays_within_its_capacity() {
    for capacity in [1, 7, 255, 256, 300] {
        let cache = OpenCache::new(capacity, deployment());
        for n in 0..400 {
            open_in(&cache, &credentials(n), 1).unwrap();
            assert!(cache.len() <= capacity);
        }
        assert!(cache.len() > capacity / 2, "{capacity}: {}", cache.len());
    }
}

#[test]
fn threads_share_the_cache() {
    let cache = OpenCache::new(64, deployment());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for n in 0..100 {
                    let credentials = credentials((n * 7 + thread) % 90);
                    let opened = open_in(cache, &credentials, 1).unwrap();
                    assert_eq!(opened.secret(), &credentials.secret);
                }
            });
        }
    });
    assert!(cache.len() <= 64);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_entry_not_used_for_longest_leaves_first(uses in proptest::collection::vec(0usize..9, 0..120)) {
        let all: Vec<Credentials> = (0..9).map(credentials).collect();
        let cache = OpenCache::new(4, deployment());
        let mut model: Vec<usize> = Vec::new();
        let (mut hits, mut misses) = (0, 0);
        for n in uses {
            match model.iter().position(|known| *known == n) {
                Some(position) => {
                    model.remove(position);
                    hits += 1;
                }
                None => {
                    if model.len() == 4 { model.remove(0); }
                    misses += 1;
                }
            }
            model.push(n);
            open_in(&cache, &all[n], 1).unwrap();
            prop_assert_eq!(cache.hits_and_misses(), (hits, misses));
            prop_assert_eq!(cache.len(), model.len());
        }
    }
}

//! The changes are repeatable, of every kind, and stay near the seed's length.

use std::collections::HashSet;

use countersign_mutation::{Numbers, characters, mutated, run};

const SEED: &[u8] = b"{\"name\":\"picker\",\"groups\":[\"a\",\"b\"]}";

#[test]
fn the_same_changes_each_time_and_hardly_ever_the_same_twice() {
    let all = || {
        let mut numbers = Numbers::default();
        (0..1000)
            .map(|_| mutated(SEED, &["<piece>"], &mut numbers))
            .collect::<Vec<_>>()
    };
    let first = all();
    assert_eq!(first, all());
    let distinct: HashSet<_> = first.iter().collect();
    assert!(distinct.len() > 900, "{}", distinct.len());
    let with_piece = first
        .iter()
        .filter(|data| String::from_utf8_lossy(data).contains("<piece>"))
        .count();
    assert!(with_piece > 200, "{with_piece}");
    assert!(first.iter().any(|data| data.len() < SEED.len() / 2));
    assert!(first.iter().all(|data| data.len() < SEED.len() * 40));
}

#[test]
fn every_seed_is_tried_as_it_is_and_changed() {
    let (mut calls, mut plain) = (0, 0);
    let seeds = [SEED, b"", b"x"];
    run(
        |data| {
            calls += 1;
            plain += usize::from(seeds.contains(&data));
        },
        &seeds,
        &characters("{}"),
        300,
    );
    assert!(calls >= 303 && plain >= 3, "{calls} {plain}");
}

#[test]
#[should_panic(expected = "no seeds")]
fn no_seeds_is_a_mistake() {
    run(|_| (), &[] as &[&[u8]], &["x"], 1);
}

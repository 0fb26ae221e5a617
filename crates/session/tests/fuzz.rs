//! The fuzz entry points over seeds and two thousand mutations.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use common::*;
use countersign_session::{Chain, KeyRing, fuzz, issue};

fn run(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    countersign_mutation::run(
        target,
        seeds,
        &countersign_mutation::characters("CS1.k7_-"),
        2000,
    );
}

#[test]
fn hostile_plaintext_is_refused_or_comes_back_the_same() {
    let mut full = role_session();
    full.tags = Chain::of(None)
        .session_tags(&[tag("team", "blue"), tag("cost", "7")], &["team"])
        .unwrap();
    full.policies.inline = Some("{\"Statement\":[]}".repeat(20).into());
    full.policies.arns = vec!["arn:aws:iam::aws:policy/ReadOnlyAccess".into()];
    full.network = Some("2001:db8::/32".parse().unwrap());
    full.binding.pod_uid = Some("6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b".into());
    let mut seeds: Vec<Vec<u8>> = every_kind().iter().map(fuzz::plaintext_of).collect();
    seeds.push(fuzz::plaintext_of(&full));
    seeds.push(vec![0xbf; 64]);
    seeds.push(vec![0x81; 64]);
    run(fuzz::record, &seeds);
}

#[test]
fn hostile_tokens_are_refused() {
    let token = issue(&role_session(), &ring(), &deployment(), &random(1), at(0)).unwrap();
    let mut seeds: Vec<Vec<u8>> = every_kind().iter().map(fuzz::plaintext_of).collect();
    seeds.extend([
        token.token.expose().into(),
        b"CS1.k7.AAAA".to_vec(),
        b"CS1.".to_vec(),
        vec![b'.'; 40],
    ]);
    run(fuzz::token, &seeds);
}

#[test]
fn hostile_key_rings_are_refused_or_come_back_the_same() {
    let rotated = ring().rotated(&new_key(2), at(5)).unwrap();
    let retired = rotated.all_retired(&new_key(3), at(6)).unwrap();
    let seeds: Vec<Vec<u8>> = [ring(), rotated, retired, KeyRing::default()]
        .iter()
        .map(|ring| ring.encode().to_vec())
        .collect();
    run(fuzz::key_ring, &seeds);
}

#[test]
fn hostile_ids_of_revocation_targets_are_refused_or_come_back_the_same() {
    let seeds: Vec<Vec<u8>> = [
        "role/111122223333/picker",
        "key/ASIARTX3GSDS7RSUJJ3G",
        "association/a-0b1c2d3e4f5061728",
        "cluster/arn:aws:eks:eu-west-1:111122223333:cluster/orchard",
        "source-identity/*/alice",
        "source-identity/111122223333/alice",
    ]
    .iter()
    .map(|id| id.as_bytes().to_vec())
    .collect();
    run(fuzz::revocation_target, &seeds);
}

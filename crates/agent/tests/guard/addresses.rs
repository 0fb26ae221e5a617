//! Addresses that are used again by other pods.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign_agent::CallRate;
use countersign_agent::guard::capture::FilterKind;
use countersign_imds::decision::Mode;

use countersign_agent::limit::Rate;
use countersign_agent::pods::Pod;

use crate::clients::{Ask, Clients};
use crate::common::namespace::inside;
use crate::common::{START, claims_of, pod};
use crate::node::{FOUR, LIST, Node, programs};
use crate::world::{at, redirected, runtime, show, world, world_with};

/// 1,000, unless `COUNTERSIGN_TEST_JOBS` says another number.
fn how_many() -> usize {
    match std::env::var("COUNTERSIGN_TEST_JOBS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 1000,
    }
}

#[test]
fn addresses_that_are_used_again_never_give_another_pods_role() {
    let name = "addresses::addresses_that_are_used_again_never_give_another_pods_role";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    runtime().block_on(async {
        let world = world(&node, Mode::Serve, FilterKind::Nft, Arc::default(), true).await;
        redirected(&world).await;
        // Row 16, many times: the old pod has ended, and the next one has its address.
        for job in 1..=60 {
            let mut old = at(1, job);
            old.terminated = true;
            show(&world, vec![old, at(1, job + 1)]);
            let (status, body) = node.curl(1, &[&format!("{FOUR}/latest/meta-data/iam/info")]);
            assert_eq!(status, 200, "{body}");
            // The association of a service account has its name, so this tells whose credentials they are.
            assert!(
                body.contains(&format!("\"a-picker-{}\"", job + 1)),
                "{job}: {body}"
            );
            // Two alive: nobody gets anything.
            if job % 20 == 0 {
                show(&world, vec![at(1, job), at(1, job + 1)]);
                assert_eq!(node.curl(1, &[&format!("{FOUR}{LIST}")]).0, 404);
                assert!(
                    world
                        .agent
                        .metrics()
                        .render()
                        .contains("countersign_imds_ambiguous_total")
                );
                // One of them is past its grace.
                let mut gone = at(1, job);
                gone.deleted = Some(jiff::Timestamp::from_second(START - 1).unwrap());
                show(&world, vec![gone, at(1, job + 1)]);
                assert_eq!(node.curl(1, &[&format!("{FOUR}{LIST}")]).0, 200);
            }
        }
        // Only ended pods have it.
        let mut old = at(1, 1);
        old.terminated = true;
        show(&world, vec![old]);
        assert_eq!(node.curl(1, &[&format!("{FOUR}{LIST}")]).0, 404);
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}

/// Each job lives on one of fifty addresses for as long as it takes to get a session token and credentials. What is left of the
/// job before it on the address differs: its pod has ended, is past its grace, or is gone.
#[test]
fn no_job_of_thousands_on_fifty_addresses_sees_anothers_role() {
    const ADDRESSES: usize = 50;
    let name = "addresses::no_job_of_thousands_on_fifty_addresses_sees_anothers_role";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    let addresses: Vec<IpAddr> = (1..=ADDRESSES)
        .map(|last| IpAddr::from([10, 88, 1, u8::try_from(last).unwrap()]))
        .collect();
    for address in &addresses {
        node.give(1, "pod1", &address.to_string());
    }
    let mut clients = Clients::start(&node, 1);
    let rounds = how_many().div_ceil(ADDRESSES);
    runtime().block_on(async {
        let kind = FilterKind::Nft;
        let world = world_with(&node, Mode::Serve, kind, Arc::default(), false, |config| {
            // A thousand pods an hour are within the limits, and thousands within a minute are not.
            config.calls = CallRate {
                per_second: 1e6,
                ..CallRate::for_pods(250)
            };
            let guard = config.guard.as_mut().unwrap();
            (guard.per_pod, guard.node) = (Rate::OFF, Rate::OFF);
        })
        .await;
        *world.auth.delay.lock().unwrap() = Duration::ZERO;
        redirected(&world).await;
        let job = |round: usize, place: usize| Pod {
            addresses: vec![addresses[place]],
            ..pod(round * ADDRESSES + place + 1)
        };
        let mut tokens: Vec<String> = Vec::new();
        for round in 0..rounds {
            let mut pods: Vec<Pod> = (0..ADDRESSES).map(|place| job(round, place)).collect();
            if let Some(before) = round.checked_sub(1) {
                let old = (0..ADDRESSES).map(|place| job(before, place));
                let past = jiff::Timestamp::from_second(START - 1).unwrap();
                match round % 3 {
                    0 => pods.extend(old.map(|old| Pod {
                        terminated: true,
                        ..old
                    })),
                    1 => pods.extend(old.map(|old| Pod {
                        deleted: Some(past),
                        ..old
                    })),
                    _ => {}
                }
            }
            show(&world, pods);
            let asks: Vec<Ask> = addresses.iter().map(|from| Ask::put_token(*from)).collect();
            let fresh: Vec<String> = clients
                .ask(&asks)
                .into_iter()
                .map(|(status, token)| {
                    assert_eq!(status, 200, "round {round}: {token}");
                    token
                })
                .collect();
            let path = format!("{LIST}orchard-reader");
            let with = |tokens: &[String]| -> Vec<Ask> {
                addresses
                    .iter()
                    .zip(tokens)
                    .map(|(from, token)| Ask::get(*from, &path, token))
                    .collect()
            };
            // What the job before on the address had is worth nothing to this one.
            for (status, body) in clients.ask(&with(&tokens)) {
                assert_eq!(status, 401, "round {round}: {body}");
            }
            let answers = clients.ask(&with(&fresh));
            let calls = world.auth.calls.lock().unwrap();
            for (place, (status, body)) in answers.into_iter().enumerate() {
                assert_eq!(status, 200, "round {round}: {body}");
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                // The key has the number of the call, and the call the token of the pod that it was made for.
                let key = body["AccessKeyId"].as_str().unwrap();
                let call: usize = key.strip_prefix("ASIA").unwrap().parse().unwrap();
                let claims = claims_of(&calls[call - 1].1);
                assert_eq!(
                    claims["kubernetes.io"]["pod"]["uid"].as_str(),
                    Some(&*job(round, place).uid)
                );
            }
            tokens = fresh;
        }
        world.agent.stop().await;
    });
    eprintln!("{} jobs on {ADDRESSES} addresses", rounds * ADDRESSES);
    assert_eq!(node.packets(), 0);
}

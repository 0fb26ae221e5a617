//! Token and caller: who may use whose token.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{ENFORCE, START, World, pod, token};
use countersign_agent::pods::{BindSource, Binding, Caller, Pod, PodTable, bind};
use countersign_agent::token::TokenFacts;
use countersign_agent::{AgentConfig, Refusal};
use futures::future::join;
use tokio::sync::watch;

const NODE: &str = "192.168.0.1";
const ENDPOINT: &str = "169.254.170.23";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn table() -> PodTable {
    let host = |number| Pod {
        addresses: vec![ip(NODE)],
        host_network: true,
        ..pod(number)
    };
    let terminated = Pod {
        terminated: true,
        ..pod(4)
    };
    let starting = Pod {
        addresses: Vec::new(),
        ..pod(5)
    };
    let both = Pod {
        addresses: vec![World::address(6), ip("fd00:10::6")],
        ..pod(6)
    };
    // Pod 7 has the address that the terminated pod 4 had.
    let heir = Pod {
        addresses: vec![World::address(4)],
        ..pod(7)
    };
    let pods = [
        pod(1),
        pod(2),
        host(3),
        terminated,
        starting,
        both,
        heir,
        host(8),
    ];
    PodTable::new(pods, vec![ip(NODE)])
}

#[test]
fn a_token_is_its_own_pods_alone() {
    let table = table();
    let own = |number| World::address(number);
    let fits = "fits";
    let cases = [
        (1, own(1), false, fits),
        (1, own(2), false, "wrong_caller"),
        (2, own(1), false, "wrong_caller"),
        // IPv4 inside IPv6 is the same address.
        (1, ip("::ffff:10.0.0.1"), false, fits),
        (6, ip("fd00:10::6"), false, fits),
        (6, own(6), false, fits),
        (1, ip("fd00:10::6"), false, "wrong_caller"),
        // Host-network pods share the node's address, and nobody else has it.
        (3, ip(NODE), false, fits),
        (8, ip(NODE), false, fits),
        (3, ip(ENDPOINT), true, fits),
        (3, ip("127.0.0.1"), true, fits),
        (1, ip(NODE), false, "wrong_caller"),
        (1, ip(ENDPOINT), true, "wrong_caller"),
        (3, own(1), false, "wrong_caller"),
        // Nobody's address.
        (1, ip("203.0.113.9"), false, "wrong_caller"),
        (3, ip("203.0.113.9"), false, "wrong_caller"),
        // Pods that are over, and addresses that have a new owner.
        (4, own(4), false, "invalid_token"),
        (7, own(4), false, fits),
        // Pods that the watch has not caught up with.
        (5, own(5), false, "not yet wrong_caller"),
        (5, own(1), false, "wrong_caller"),
        (9, own(9), false, "not yet invalid_token"),
        (9, own(1), false, "not yet invalid_token"),
    ];
    for (number, address, local, expected) in cases {
        let now = jiff::Timestamp::from_second(START).unwrap();
        let facts = TokenFacts::read(&token(number, START), now).unwrap();
        let caller = Caller {
            local,
            ..Caller::new(address, None)
        };
        let got = match bind(&table, &facts.identity, caller) {
            Binding::Fits => fits.to_owned(),
            Binding::Misuse { refusal, .. } => refusal.reason().to_owned(),
            Binding::NotYet(refusal) => format!("not yet {}", refusal.reason()),
        };
        assert_eq!(got, expected, "token of {number} from {address}");
    }
}

#[test]
fn callers_of_the_node_itself_are_told_by_both_ends() {
    for (source, destination, local) in [
        ("10.0.0.1", Some(ENDPOINT), false),
        (ENDPOINT, Some(ENDPOINT), true),
        ("::ffff:169.254.170.23", Some(ENDPOINT), true),
        ("fd00:ec2::23", Some("fd00:ec2::23"), true),
        ("127.0.0.9", Some(ENDPOINT), true),
        ("::1", None, true),
        ("10.0.0.1", None, false),
    ] {
        let caller = Caller::new(ip(source), destination.map(ip));
        assert_eq!(caller.local, local, "{source} to {destination:?}");
    }
}

async fn world(mode: BindSource) -> World {
    let with = |mut config: AgentConfig, pods: watch::Receiver<Option<Arc<PodTable>>>| {
        config.bind_source = mode;
        config.pods = Some(pods);
        config
    };
    let world = World::with(with).await;
    world.pods.send_replace(Some(Arc::new(table())));
    world
}

#[tokio::test(start_paused = true)]
async fn a_stolen_token_is_refused_counted_and_recorded_with_both_pods() {
    let misuse = |world: &World| {
        let text = world.agent.metrics().render();
        let line = text
            .lines()
            .find(|l| l.starts_with("countersign_agent_token_misuse_total "));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    for (mode, status, count) in [
        (BindSource::Enforce, 403, "2"),
        (BindSource::Warn, 200, "2"),
        (BindSource::Off, 200, "0"),
    ] {
        let world = world(mode).await;
        let token = token(1, START);
        let thief = World::address(2);
        // Before and after the pod's own request has filled the cache.
        assert_eq!(world.get_from(thief, &token).await.status, status);
        assert_eq!(world.get(1, &token).await.status, 200);
        let got = world.get_from(thief, &token).await;
        assert_eq!(got.status, status, "{mode:?}");
        assert_eq!(misuse(&world), count);
        let events = world.events.of("misuse");
        assert_eq!(events.len().to_string(), count);
        if let Some(event) = events.last() {
            assert_eq!(event["pod"], "picker-1-0");
            assert_eq!(event["caller"]["pod"], "picker-2-0");
            assert_eq!(event["sourceAddress"], "10.0.0.2");
            assert_eq!(event["accepted"], true);
        }
        if status == 403 {
            assert_eq!(got.code(), "AccessDenied");
            assert_eq!(world.auth.count(), 1, "the thief's request asked nobody");
        }
        let log = format!("{:?}", world.events.all());
        assert!(!log.contains(&token));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_watch_has_not_seen_yet_is_waited_for() {
    let world = world(ENFORCE).await;
    let token = token(9, START);
    let (got, ()) = join(world.get(9, &token), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        world.show_pods([1, 9]);
    })
    .await;
    assert_eq!(got.status, 200);
    // One that never comes is refused after a second, without a call.
    let before = world.auth.count();
    let got = world.get(10, &common::token(10, START)).await;
    assert_eq!((got.status, got.code()), (400, "InvalidTokenException"));
    assert_eq!(world.auth.count(), before);
    // Before the watch has anything, nobody can be checked.
    world.pods.send_replace(None);
    let got = world.get(1, &common::token(1, START)).await;
    assert_eq!((got.status, got.code()), (503, "ServiceUnavailable"));
    assert_eq!(got.body["message"], Refusal::PodsUnknown.to_string());
}

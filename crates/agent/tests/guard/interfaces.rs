//! `--verify-interface`: pods that take another pod's address.

use std::sync::Arc;

use countersign_agent::guard::capture::FilterKind;
use countersign_agent::link::Netlink;
use countersign_imds::decision::Mode;

use crate::common::World;
use crate::common::namespace::{inside, ip};
use crate::node::{FOUR, LIST, Node, SIX, programs};
use crate::world::{at, redirected, runtime, show, world_with};

async fn verifying(node: &Node, verify: bool) -> World {
    let kind = FilterKind::Nft;
    let world = world_with(node, Mode::Serve, kind, Arc::default(), true, |config| {
        if verify {
            let guard = config.guard.as_mut().unwrap();
            guard.routes = Some(Arc::new(Netlink::connect().unwrap()));
        }
    })
    .await;
    show(&world, vec![at(1, 1), at(2, 2)]);
    redirected(&world).await;
    world
}

fn refused(world: &World, reason: &str) -> u64 {
    let text = world.agent.metrics().render();
    let line = format!("countersign_imds_blocked_total{{reason=\"{reason}\"}} ");
    let count = text.lines().find_map(|found| found.strip_prefix(&line));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Who the guard takes a pod for that asks from an address.
fn taken_for(node: &Node, pod: usize, base: &str, from: &str) -> (u16, String) {
    let url = format!("{base}/latest/meta-data/iam/info");
    let (status, body) = node.curl(pod, &["-m", "2", "--interface", from, &url]);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let id = body["InstanceProfileId"].as_str().unwrap_or_default();
    (status, id.to_owned())
}

/// Pod 2 takes the address of pod 1, and answers to it find their way to pod 2: by a rule of the node's routing here, by forged
/// neighbours or a tunnel elsewhere.
#[test]
fn a_pod_that_takes_anothers_address_is_refused_by_the_interface_it_is_behind() {
    let name =
        "interfaces::a_pod_that_takes_anothers_address_is_refused_by_the_interface_it_is_behind";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(2);
    let pod2 = &node.names[2];
    std::fs::write("/proc/sys/net/ipv4/conf/pod2/rp_filter", "0").unwrap();
    let families = [
        ("-4", FOUR, "10.88.0.1", 32, "169.254.170.23", ""),
        ("-6", SIX, "fd88::1", 128, "fd00:ec2::23", "nodad"),
    ];
    runtime().block_on(async {
        // Everybody is where they belong.
        let world = verifying(&node, true).await;
        for (_, base, own, _, agent, _) in families {
            for pod in [1, 2] {
                let from = format!("{}{pod}", own.trim_end_matches('1'));
                assert_eq!(
                    taken_for(&node, pod, base, &from),
                    (200, format!("a-picker-{pod}")),
                    "{base} {from}"
                );
            }
            // Past the packet filter's decision, straight to the guard.
            for port in [2706, 2707] {
                let host = if base == FOUR {
                    agent.to_owned()
                } else {
                    format!("[{agent}]")
                };
                let url = format!("http://{host}:{port}{LIST}");
                assert_eq!(node.curl(1, &["-m", "1", &url]).0, 0, "{url}");
            }
        }
        assert_eq!(refused(&world, "wrong_interface"), 0);
        world.agent.stop().await;

        for (family, _, own, prefix, agent, nodad) in families {
            ip(&format!(
                "-n {pod2} {family} addr add {own}/{prefix} dev eth0 {nodad}"
            ));
            ip(&format!("{family} rule add from {agent} lookup 100"));
            ip(&format!(
                "{family} route add {own}/{prefix} dev pod2 table 100"
            ));
            ip(&format!(
                "{family} neigh replace {own} lladdr 02:00:00:00:02:02 dev pod2 nud permanent"
            ));
        }
        // Without the option the other pod's role is pod 2's for the asking.
        let world = verifying(&node, false).await;
        for (_, base, own, ..) in families {
            assert_eq!(
                taken_for(&node, 2, base, own),
                (200, "a-picker-1".to_owned()),
                "{base}"
            );
        }
        world.agent.stop().await;

        let world = verifying(&node, true).await;
        for (at, (_, base, own, ..)) in families.into_iter().enumerate() {
            let url = format!("{base}{LIST}");
            let (status, body) = node.curl(2, &["-m", "2", "--interface", own, &url]);
            assert!(
                status == 404 && body.contains("did not come in by the interface"),
                "{base}: {status} {body}"
            );
            assert_eq!(refused(&world, "wrong_interface"), at as u64 + 1);
        }
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}

#[test]
fn a_network_without_a_route_for_each_pod_gives_nobody_a_role() {
    let name = "interfaces::a_network_without_a_route_for_each_pod_gives_nobody_a_role";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    // As with a bridge: the range leads to one interface, and whoever is behind it has whichever address he says.
    for (family, own, range) in [
        ("-4", "10.88.0.1/32", "10.88.0.0/24"),
        ("-6", "fd88::1/128", "fd88::/64"),
    ] {
        ip(&format!("{family} route del {own} dev pod1"));
        ip(&format!("{family} route add {range} dev pod1"));
    }
    runtime().block_on(async {
        let world = verifying(&node, false).await;
        for base in [FOUR, SIX] {
            assert_eq!(node.curl(1, &[&format!("{base}{LIST}")]).0, 200);
        }
        world.agent.stop().await;
        let world = verifying(&node, true).await;
        for (at, base) in [FOUR, SIX].into_iter().enumerate() {
            let (status, body) = node.curl(1, &[&format!("{base}{LIST}")]);
            assert!(
                status == 404 && body.contains("no route to exactly"),
                "{base}: {status} {body}"
            );
            assert_eq!(refused(&world, "no_route"), at as u64 + 1);
        }
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}

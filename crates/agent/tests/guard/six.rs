//! A node with IPv6 alone: no pod and no uplink has an IPv4 address, and neither has the metadata service.

use std::net::SocketAddr;
use std::sync::Arc;

use countersign_agent::guard::capture::FilterKind;
use countersign_agent::link::{IPV4, IPV6};
use countersign_agent::pods::Pod;
use countersign_imds::decision::Mode;

use crate::common::namespace::{inside, ip};
use crate::common::{START, token};
use crate::node::{FOUR, Families, LIST, Node, SIX, programs};
use crate::world::{at, redirected, runtime, show, world_with};

#[test]
fn a_node_with_ipv6_alone_is_guarded_and_its_pods_get_their_role() {
    let name = "six::a_node_with_ipv6_alone_is_guarded_and_its_pods_get_their_role";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::of(2, Families::SixAlone);
    let four = ip("-4 -o addr");
    assert!(
        four.lines().all(|line| line.contains("127.0.0.1")),
        "{four}"
    );
    let six_only = |number| Pod {
        addresses: vec![format!("fd88::{number}").parse().unwrap()],
        ..at(number, number)
    };
    // Without the agent's own IPv4 address, and with it, as the agent makes it everywhere.
    for with_four in [false, true] {
        if with_four {
            ip("addr add 169.254.170.23/32 dev lo");
        }
        let before = node.requests().lines().count();
        runtime().block_on(async {
            let kind = FilterKind::Nft;
            let world = world_with(&node, Mode::Serve, kind, Arc::default(), false, |config| {
                config.listen = [IPV4, IPV6].map(|ip| SocketAddr::new(ip, 80)).to_vec();
            })
            .await;
            show(&world, vec![six_only(1)]);
            redirected(&world).await;
            let session = node.token(1, SIX, "60");
            for (path, expected) in [
                (LIST, (200, "orchard-reader")),
                ("/latest/meta-data/placement/region", (200, "eu-west-1")),
                (
                    "/latest/meta-data/instance-id",
                    (200, "i-0123456789abcdef0"),
                ),
            ] {
                let (status, body) = node.get(1, SIX, &session, path);
                assert_eq!((status, &*body), expected, "{path}");
            }
            assert_eq!(node.get(1, SIX, &session, "/latest/user-data").0, 403);
            // Nobody's address, and an address that the pod does not have a way to.
            let ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60";
            let put = ["-X", "PUT", "-H", ttl, &format!("{SIX}/latest/api/token")];
            assert_eq!(node.curl(2, &put).0, 404);
            assert_eq!(node.get(1, FOUR, &session, LIST).0, 0);
            // The agent's own endpoint.
            let authorization = format!("Authorization: {}", token(1, START));
            let url = "http://[fd00:ec2::23]/v1/credentials";
            let (status, body) = node.curl(1, &["-H", &authorization, url]);
            assert!(
                status == 200 && body.contains("AccessKeyId"),
                "{status} {body}"
            );
            world.agent.stop().await;
        });
        let (status, _) = node.curl(1, &["-m", "1", &format!("{SIX}{LIST}")]);
        assert_eq!(status, 0, "dropped when it stops");
        let asked = node.requests();
        let asked: Vec<&str> = asked.lines().skip(before).collect();
        assert!(asked.len() <= 4, "{asked:?}");
    }
    assert_eq!(node.packets(), 0, "a pod's packet reached the service");
}

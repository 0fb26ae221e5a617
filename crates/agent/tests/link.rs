//! The link: what is planned, and what the kernel makes of it in a network namespace of its own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::net::IpAddr;

use countersign_agent::link::{
    Elsewhere, IPV4, IPV6, Link, Route, Step, covers, plan, whole_prefix,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn only_what_is_missing_is_planned() {
    let link = |up, addresses: &[(&str, u8)]| Link {
        index: 7,
        is_dummy: true,
        up,
        addresses: addresses.iter().map(|(a, p)| (ip(a), *p)).collect(),
    };
    let route = |destination: &str, prefix, link| Route {
        destination: ip(destination),
        prefix,
        link,
    };
    let own = || route("169.254.170.23", 32, Some(7));
    let (address, up, way) = (Step::AddAddress(IPV4), Step::SetUp, Step::AddRoute(IPV4));
    let cases = [
        (link(false, &[]), vec![], IPV4, Ok(vec![address, up, way])),
        (
            link(true, &[("169.254.170.23", 32)]),
            vec![own()],
            IPV4,
            Ok(vec![]),
        ),
        (
            link(true, &[("169.254.170.23", 32)]),
            vec![],
            IPV4,
            Ok(vec![way]),
        ),
        (
            link(false, &[("169.254.170.23", 32)]),
            vec![own()],
            IPV4,
            Ok(vec![up]),
        ),
        // A wider network on the own link covers the address; wider routes elsewhere do not matter.
        (
            link(true, &[("169.254.0.1", 16)]),
            vec![own()],
            IPV4,
            Ok(vec![]),
        ),
        (
            link(true, &[("169.254.170.23", 32)]),
            vec![
                route("169.254.0.0", 16, Some(2)),
                route("0.0.0.0", 0, Some(2)),
            ],
            IPV4,
            Ok(vec![way]),
        ),
        // Other addresses, and the other family, are none of ours.
        (
            link(true, &[("169.254.170.2", 32), ("fd00:ec2::23", 128)]),
            vec![own()],
            IPV4,
            Ok(vec![address]),
        ),
        (
            link(true, &[("fd00:ec2::23", 128), ("fe80::1", 64)]),
            vec![
                route("fd00:ec2::23", 128, Some(7)),
                route("fe80::", 64, Some(7)),
            ],
            IPV6,
            Ok(vec![]),
        ),
        (
            link(true, &[]),
            vec![],
            IPV6,
            Ok(vec![Step::AddAddress(IPV6), Step::AddRoute(IPV6)]),
        ),
        // Exactly this address through somebody else, or into nothing.
        (
            link(true, &[]),
            vec![route("169.254.170.23", 32, Some(2))],
            IPV4,
            Err(Elsewhere { link: Some(2) }),
        ),
        (
            link(true, &[]),
            vec![own(), route("169.254.170.23", 32, Some(2))],
            IPV4,
            Err(Elsewhere { link: Some(2) }),
        ),
        (
            link(true, &[]),
            vec![route("169.254.170.23", 32, None)],
            IPV4,
            Err(Elsewhere { link: None }),
        ),
    ];
    for (link, routes, address, expected) in cases {
        assert_eq!(
            plan(&link, &routes, address),
            expected,
            "{link:?} {routes:?}"
        );
    }
}

#[test]
fn networks_cover_what_shares_their_prefix() {
    for (network, prefix, address, expected) in [
        ("169.254.170.0", 24, "169.254.170.23", true),
        ("169.254.171.0", 24, "169.254.170.23", false),
        ("10.0.0.0", 0, "169.254.170.23", true),
        ("169.254.170.22", 32, "169.254.170.23", false),
        ("169.254.170.23", 200, "169.254.170.23", true),
        ("::", 0, "169.254.170.23", false),
        ("::", 0, "fd00:ec2::23", true),
        ("fd00:ec2::", 64, "fd00:ec2::23", true),
        ("fd00:ec2::22", 127, "fd00:ec2::23", true),
        ("fd00:ec2::22", 128, "fd00:ec2::23", false),
    ] {
        assert_eq!(
            covers(ip(network), prefix, ip(address)),
            expected,
            "{network}/{prefix}"
        );
    }
    assert_eq!((whole_prefix(IPV4), whole_prefix(IPV6)), (32, 128));
}

#[cfg(target_os = "linux")]
mod kernel {
    use countersign_agent::link::{
        IPV4, IPV6, LINK, LinkError, Netlink, Routes, is_for_exactly, is_set_up, remove, set_up,
    };

    use super::common::namespace::{inside, ip, network};

    #[test]
    fn the_link_is_made_once_repaired_and_removed_without_a_trace() {
        if !inside("kernel::the_link_is_made_once_repaired_and_removed_without_a_trace") {
            return;
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let network = network();
            let network = &*network;
            ip("link add elsewhere type bridge");
            ip("link set elsewhere up");
            let families = [IPV4, IPV6];
            let before = (ip("-o addr"), ip("route show table all"), ip("-6 route"));
            for address in families {
                assert!(!is_set_up(network, LINK, address).await.unwrap());
                assert!(!set_up(network, LINK, address).await.unwrap().is_empty());
                assert!(
                    is_set_up(network, LINK, address).await.unwrap(),
                    "{address}"
                );
                assert_eq!(set_up(network, LINK, address).await.unwrap(), []);
            }
            let shown = ip("-o addr show dev pod-id-link0");
            assert!(shown.contains("169.254.170.23/32") && shown.contains("fd00:ec2::23/128"));
            assert!(ip("route").contains("169.254.170.23 dev pod-id-link0"));
            assert_eq!(
                ip("-6 route")
                    .matches("fd00:ec2::23 dev pod-id-link0")
                    .count(),
                1
            );
            // Both can be bound at once: no address waits for duplicates to be found.
            for address in families {
                std::net::TcpListener::bind((address, 80)).unwrap();
            }
            // What others take away comes back.
            for damage in [
                "link set pod-id-link0 down",
                "route del 169.254.170.23/32 dev pod-id-link0",
                "addr del 169.254.170.23/32 dev pod-id-link0",
                "link del pod-id-link0",
            ] {
                ip(damage);
                assert!(!is_set_up(network, LINK, IPV4).await.unwrap(), "{damage}");
                for address in families {
                    set_up(network, LINK, address).await.unwrap();
                    assert!(is_set_up(network, LINK, address).await.unwrap(), "{damage}");
                }
            }
            assert!(remove(network, LINK).await.unwrap());
            assert!(!remove(network, LINK).await.unwrap(), "twice is once");
            let after = (ip("-o addr"), ip("route show table all"), ip("-6 route"));
            assert_eq!(after, before);

            // Routed elsewhere: told with the command that helps, and nothing is changed there.
            ip("route add 169.254.170.23/32 dev elsewhere");
            let error = set_up(network, LINK, IPV4).await.unwrap_err();
            assert!(
                error
                    .to_string()
                    .ends_with("ip route del 169.254.170.23 dev elsewhere"),
                "{error}"
            );
            ip("route del 169.254.170.23/32 dev elsewhere");
            ip("route add 169.254.0.0/16 dev elsewhere");
            set_up(network, LINK, IPV4).await.unwrap();
            remove(network, LINK).await.unwrap();

            // A link of our name that is something else is left alone.
            ip("link add pod-id-link0 type bridge");
            let error = set_up(network, LINK, IPV4).await.unwrap_err();
            assert!(matches!(error, LinkError::NotDummy(_)));
            assert!(matches!(
                remove(network, LINK).await,
                Err(LinkError::NotDummy(_))
            ));
            assert!(network.link(LINK).await.unwrap().is_some());
        });
    }

    #[test]
    fn only_a_route_for_exactly_the_address_counts_as_that_of_a_pod() {
        if !inside("kernel::only_a_route_for_exactly_the_address_counts_as_that_of_a_pod") {
            return;
        }
        ip("link set lo up");
        ip("tuntap add dev pod1 mode tun");
        ip("link set pod1 up");
        for route in [
            "route add 10.1.1.1/32 dev pod1",
            "route add 10.1.0.0/16 dev pod1",
            "route add blackhole 10.1.1.2/32",
            "route add unreachable 10.1.1.3/32",
            "-6 route add fd88::1/128 dev pod1",
            "-6 route add fd88::/64 dev pod1",
            "-6 route add blackhole fd88::2/128",
            // The rules of a network plugin come before the main table.
            "route add 10.3.0.1/32 dev pod1 table 100",
            "rule add to 10.3.0.1/32 lookup 100",
        ] {
            ip(route);
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let netlink = Netlink::connect().unwrap();
            for (address, prefix, exact) in [
                ("10.1.1.1", Some(32), true),
                ("10.3.0.1", Some(32), true),
                ("10.1.9.9", Some(16), false),
                ("10.1.1.2", None, false),
                ("10.1.1.3", None, false),
                ("192.0.2.1", None, false),
                ("127.0.0.1", Some(8), false),
                ("fd88::1", Some(128), true),
                ("fd88::2", None, false),
                ("fd88::9", Some(64), false),
                ("2001:db8::1", None, false),
                ("::1", Some(128), false),
            ] {
                let address = address.parse().unwrap();
                // What leads nowhere is told as an error by some kernels and as no route by others.
                let found = netlink.to(address).await.ok().flatten();
                let is_exact = found
                    .as_ref()
                    .is_some_and(|route| is_for_exactly(route, address));
                assert_eq!(is_exact, exact, "{address}: {found:?}");
                if let Some(prefix) = prefix
                    && !address.is_loopback()
                {
                    assert_eq!(found.unwrap().prefix, prefix, "{address}");
                }
            }
        });
    }
}

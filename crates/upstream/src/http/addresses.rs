//! Addresses that a host named by others may not lead to.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which hosts may be at addresses that are not public.
///
/// Names come from records that users of the API write and from documents that strangers serve. Without this they could
/// make us ask the instance metadata service, the loopback, or machines behind the firewall.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    private_hosts: HashSet<Box<str>>,
}

impl AddressRules {
    /// Public addresses only, except for these hosts, whose addresses are not checked.
    #[must_use]
    pub fn public_except(private_hosts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self {
            private_hosts: private_hosts
                .into_iter()
                .map(|host| host.as_ref().to_ascii_lowercase().into())
                .collect(),
        }
    }

    /// Whether a connection to `address` may be made for `host`.
    #[must_use]
    pub fn allow(&self, host: &str, address: IpAddr) -> bool {
        is_public(address) || self.private_hosts.contains(&*host.to_ascii_lowercase())
    }

    /// Whether `host` is a name, or an address that is allowed. Names are checked when they are resolved; addresses
    /// are not resolved.
    #[must_use]
    pub fn allow_literal(&self, host: &str) -> bool {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        literal
            .parse()
            .map_or(true, |address| self.allow(host, address))
    }
}

/// Whether `address` is one of the public internet: not of this host or network, private, shared, link-local, reserved,
/// for documentation or benchmarks, multicast, nor an IPv6 form that has such an IPv4 address inside.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let inside = |high: u16, low: u16| {
        let [p, q] = high.to_be_bytes();
        let [r, s] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(p, q, r, s))
    };
    match (a, b, c, d, e, f) {
        // 64:ff9b::/96, the addresses of translators
        (0x64, 0xff9b, 0, 0, 0, 0) => inside(g, h),
        // 6to4
        (0x2002, high, low, ..) => inside(high, low),
        // special purposes, Teredo among them, and documentation
        (0x2001, 0..0x200 | 0xdb8, ..) | (0x3fff, 0..0x1000, ..) => false,
        // Everything that is allocated to the public is in 2000::/3; IPv4 in IPv6 is not.
        _ => (0x2000..0x4000).contains(&a),
    }
}

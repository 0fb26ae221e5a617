//! Addresses and networks of the IpAddress operators.

use std::net::IpAddr;

/// A network, or one address as a network of its full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `address` or `address/prefix`. Host bits may be set; IPv4-mapped IPv6 counts as IPv4.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().ok()?;
        let full: u8 = if written.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => full,
            Some(digits) => {
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                let value: u8 = plain.then(|| digits.parse().ok()).flatten()?;
                (value <= full).then_some(value)?
            }
        };
        let address = written.to_canonical();
        // A mapped network shorter than /96 reaches beyond the mapped range and stays IPv6.
        match (
            written.is_ipv6() && address.is_ipv4(),
            prefix.checked_sub(96),
        ) {
            (true, Some(inner)) => Some(Self {
                address,
                prefix: inner,
            }),
            (true, None) => Some(Self {
                address: written,
                prefix,
            }),
            (false, _) => Some(Self { address, prefix }),
        }
    }

    /// Whether `address` lies inside. The families never match each other.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => same_bits(
                u128::from(own.to_bits()),
                u128::from(other.to_bits()),
                32 - self.prefix,
            ),
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                same_bits(own.to_bits(), other.to_bits(), 128 - self.prefix)
            }
            _ => false,
        }
    }

    /// Whether every address inside is private or otherwise never seen from outside.
    pub(crate) fn is_private(&self) -> bool {
        const PRIVATE: [(&str, u8); 4] = [
            ("10.0.0.0", 8),
            ("172.16.0.0", 12),
            ("192.168.0.0", 16),
            ("fc00::", 7),
        ];
        PRIVATE.iter().any(|(address, prefix)| {
            address.parse().is_ok_and(|address| {
                self.prefix >= *prefix
                    && Self {
                        address,
                        prefix: *prefix,
                    }
                    .contains(self.address)
            })
        })
    }

    /// Whether bits behind the prefix are set.
    pub(crate) fn has_host_bits(&self) -> bool {
        let (bits, host) = match self.address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32 - self.prefix),
            IpAddr::V6(address) => (address.to_bits(), 128 - self.prefix),
        };
        bits.checked_shr(u32::from(host))
            .and_then(|head| head.checked_shl(u32::from(host)))
            .unwrap_or(0)
            != bits
    }
}

/// The address of a request.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

fn same_bits(left: u128, right: u128, host_bits: u8) -> bool {
    (left ^ right)
        .checked_shr(u32::from(host_bits))
        .unwrap_or(0)
        == 0
}

#[cfg(test)]
mod tests {
    use super::{Network, address};

    fn contains(network: &str, text: &str) -> bool {
        Network::parse(network)
            .unwrap()
            .contains(address(text).unwrap())
    }

    #[test]
    fn networks_ignore_host_bits_and_know_the_extremes() {
        assert!(contains("203.0.113.9/24", "203.0.113.200"));
        assert!(contains("0.0.0.0/0", "255.1.2.3"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(contains("2001:db8::/32", "2001:DB8:0:1::5"));
        assert!(contains("192.0.2.7", "192.0.2.7"));
        assert!(!contains("192.0.2.7", "192.0.2.8"));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.9"));
        assert!(contains("::ffff:192.0.2.0/120", "192.0.2.9"));
        assert!(!contains("::/0", "::ffff:192.0.2.9"));
    }

    #[test]
    fn other_texts_are_no_networks() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0",
            "10.0.0.0/8/8",
            "::/129",
            "nonsense",
            "010.0.0.1",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn private_ranges_are_recognised() {
        assert!(Network::parse("10.1.0.0/16").unwrap().is_private());
        assert!(!Network::parse("10.0.0.0/7").unwrap().is_private());
        assert!(Network::parse("fd00::/8").unwrap().is_private());
        assert!(Network::parse("10.0.0.1/8").unwrap().has_host_bits());
        assert!(!Network::parse("10.0.0.0/8").unwrap().has_host_bits());
    }
}

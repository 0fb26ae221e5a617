//! The network a session may be used from.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;

/// An IP network in CIDR form. Host bits are zero, so equal networks are equal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// The text is no CIDR block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is written as ADDRESS/PREFIX with no bits set behind the prefix")]
pub struct ParseCidrError;

impl Cidr {
    /// The network of `prefix` bits at `address`.
    ///
    /// # Errors
    /// When the prefix is longer than the address or bits behind it are set.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, ParseCidrError> {
        let (bits, width) = bits(address);
        if prefix > width || bits & host_mask(prefix, width) != 0 {
            return Err(ParseCidrError);
        }
        Ok(Self { address, prefix })
    }

    /// Whether `address` lies in the network. An IPv4 address mapped into IPv6 counts as the IPv4 address it is.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if self.address.is_ipv4() != address.is_ipv4() {
            return false;
        }
        let ((network, width), (address, _)) = (bits(self.address), bits(address));
        address & !host_mask(self.prefix, width) == network
    }

    /// The first address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The number of fixed bits.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

fn host_mask(prefix: u8, width: u8) -> u128 {
    let host = u32::from(width.saturating_sub(prefix));
    1u128.checked_shl(host).map_or(u128::MAX, |bit| bit - 1)
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let (address, prefix) = text.split_once('/').ok_or(ParseCidrError)?;
        if prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseCidrError);
        }
        Self::new(
            address.parse().map_err(|_| ParseCidrError)?,
            prefix.parse().map_err(|_| ParseCidrError)?,
        )
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses_and_no_others() {
        let table = [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "::ffff:192.0.2.7", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("2001:db8::1/128", "2001:db8::1", true),
            ("192.0.2.7/32", "192.0.2.8", false),
        ];
        for (network, address, inside) in table {
            let network: Cidr = network.parse().unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                inside,
                "{network} {address}"
            );
        }
    }

    #[test]
    fn texts_that_are_no_network_are_refused() {
        for text in [
            "192.0.2.1/24",
            "192.0.2.0/33",
            "192.0.2.0",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2.0/24 ",
            "::1/64",
            "::/129",
            "::/1000",
            "host/8",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(ParseCidrError), "{text}");
        }
    }
}

//! Addresses in the settings of clusters (EKS API spec, sections 3.1 and 5).

use std::net::{IpAddr, Ipv4Addr};

/// `ADDRESS/PREFIX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
}

impl Cidr {
    /// Reads a range. Bits behind the prefix may be set; leading zeros in the prefix may not.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = length.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= most && prefix.to_string() == length).then_some(Self { address, prefix })
    }

    /// Whether all of it is inside a range that RFC 1918 sets aside.
    pub(super) fn is_private(self) -> bool {
        const RANGES: [(Ipv4Addr, u8); 3] = [
            (Ipv4Addr::new(10, 0, 0, 0), 8),
            (Ipv4Addr::new(172, 16, 0, 0), 12),
            (Ipv4Addr::new(192, 168, 0, 0), 16),
        ];
        let IpAddr::V4(address) = self.address else {
            return false;
        };
        RANGES.into_iter().any(|(range, prefix)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            self.prefix >= prefix && address.to_bits() & mask == range.to_bits()
        })
    }

    /// Whether it may stand in `publicAccessCidrs`: public addresses, of the families that the cluster has.
    fn is_public(self, ipv6: bool) -> bool {
        match self.address {
            IpAddr::V4(_) => !self.is_private(),
            IpAddr::V6(_) => ipv6,
        }
    }
}

/// Checks `publicAccessCidrs`.
///
/// # Errors
/// EKS's text with the ranges that are wrong; at most sixteen are named.
pub(super) fn check_public(cidrs: &[&str], ipv6: bool) -> Result<(), String> {
    const MOST: usize = 40;
    if cidrs.len() > MOST {
        return Err(format!(
            "publicAccessCidrs has {} CIDRs, and at most {MOST} are allowed",
            cidrs.len()
        ));
    }
    let wrong: Vec<String> = cidrs
        .iter()
        .filter(|text| !Cidr::parse(text).is_some_and(|cidr| cidr.is_public(ipv6)))
        .take(16)
        .map(|text| text.chars().take(64).collect())
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "The following CIDRs are invalid in publicAccessCidrs: [{}]",
        wrong.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_told_apart() {
        for (text, private, public4, public6) in [
            ("10.0.0.0/8", true, false, false),
            ("10.1.2.3/32", true, false, false),
            ("10.0.0.0/7", false, true, true),
            ("172.16.0.0/12", true, false, false),
            ("172.31.255.0/24", true, false, false),
            ("172.32.0.0/16", false, true, true),
            ("192.168.0.0/16", true, false, false),
            ("192.168.0.0/15", false, true, true),
            ("203.0.113.5/32", false, true, true),
            ("0.0.0.0/0", false, true, true),
            ("::/0", false, false, true),
            ("2001:db8::/32", false, false, true),
        ] {
            let cidr = Cidr::parse(text).unwrap();
            assert_eq!(
                (
                    cidr.is_private(),
                    check_public(&[text], false).is_ok(),
                    check_public(&[text], true).is_ok()
                ),
                (private, public4, public6),
                "{text}"
            );
        }
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0/8",
            "::/129",
            "a/8",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_wrong_range_is_named() {
        assert_eq!(
            check_public(&["203.0.113.0/24", "10.0.0.0/8", "x"], false),
            Err("The following CIDRs are invalid in publicAccessCidrs: [10.0.0.0/8, x]".to_owned())
        );
        assert!(check_public(&["203.0.113.0/24"; 41], false).is_err());
        assert!(check_public(&["203.0.113.0/24"; 40], false).is_ok());
    }
}

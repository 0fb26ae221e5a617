//! Rules of kube2iam and kiam in a listing of `nft`: where iptables cannot list a chain because `nft` wrote into it, or is not there.

use crate::{IPV4, IPV6};

/// A rule that sends the service's traffic to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NftShadow {
    /// Its handle in the chain.
    pub handle: u64,
    /// The rule, without the numbers of its counter: as `nft add rule` takes it.
    pub rule: String,
}

/// Rules of `nft -a list chain ip nat PREROUTING` (or `ip6`) that translate the service's address.
///
/// As with [`crate::rules::shadows`] only the plain form is taken, which nft makes of what both of them write: interface, address,
/// port 80 and target. Anything else that names the address is left alone.
#[must_use]
pub fn nft_shadows(listing: &str) -> Vec<NftShadow> {
    listing.lines().take(10_000).filter_map(shadow).collect()
}

fn shadow(line: &str) -> Option<NftShadow> {
    let (rule, handle) = line.trim().split_once(" # handle ")?;
    let handle = handle.trim().parse().ok()?;
    let (four, six) = (IPV4.to_string(), IPV6.to_string());
    let words: Vec<&str> = rule.split_ascii_whitespace().collect();
    let (mut address, mut port, mut target) = (false, false, false);
    let mut kept: Vec<&str> = Vec::new();
    let mut rest = words.as_slice();
    while !rest.is_empty() {
        let taken = match rest {
            ["iifname", "!=", name, ..] if is_interface(name) => 3,
            ["iifname", name, ..] if is_interface(name) => 2,
            ["meta", "l4proto", "tcp" | "6", ..] => 3,
            ["ip", "daddr", to, ..] if *to == four => {
                address = true;
                3
            }
            ["ip6", "daddr", to, ..] if *to == six => {
                address = true;
                3
            }
            ["tcp", "dport", "80", ..] => {
                port = true;
                3
            }
            ["counter", "packets", packets, "bytes", bytes, ..]
                if is_number(packets) && is_number(bytes) =>
            {
                rest = rest.get(5..)?;
                kept.push("counter");
                continue;
            }
            ["counter", ..] => 1,
            ["dnat" | "redirect", "to", to] if is_target(to) => {
                target = true;
                3
            }
            ["dnat", "ip" | "ip6", "to", to] if is_target(to) => {
                target = true;
                4
            }
            _ => return None,
        };
        kept.extend(rest.get(..taken)?);
        rest = rest.get(taken..)?;
    }
    (address && port && target).then(|| NftShadow {
        handle,
        rule: kept.join(" "),
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_interface(text: &str) -> bool {
    let bare = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    bare.is_some_and(|name| {
        (1..=16).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_*".contains(&byte))
    })
}

fn is_target(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_hexdigit() || b".:[]".contains(&byte))
}

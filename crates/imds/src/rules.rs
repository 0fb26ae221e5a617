//! The packet filter that closes a node, as text for `nft` and `iptables-restore` (imds spec, section 5.1).
//!
//! Two states of one table. Closed: every packet for the service that arrives at the node is dropped. Open to the guard: TCP to
//! port 80 goes to the guard instead, and everything else is dropped as before. The second is the first with two sets filled, and
//! what is in the sets runs out by itself: a guard that dies leaves a closed node behind.
//!
//! - The filter stands at priority -150, before any address translation, so a rule of kube2iam or kiam never sees what is dropped.
//! - The translation is registered at -110, before iptables' -100: the first that translates a connection decides.
//! - Packets that the node itself sends never pass `prerouting`: its own processes reach the service as before. For those of pods on
//!   the host's network there are chains of their own ([`crate::host`]).
//! - Whether a connection came in by the interface that the route back to its source leads to is a fact that the kernel alone has.
//!   It decides by it which of two ports the connection is sent to (section 5.2).
//! - Nothing is exempt unless the operator names an interface. What arrives for the service's address never comes from a neighbour
//!   of the node's uplink in good faith, so leaving out the uplinks by guessing could only open something (stricter than section
//!   5.1, which excludes them).

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::host::HostRules;
use crate::{IPV4, IPV6};

/// The table.
pub const TABLE: &str = "countersign_imds";
/// The chain in the tables of iptables.
pub const CHAIN: &str = "COUNTERSIGN-IMDS";

/// An interface that is exempt, checked: a name of Linux, without anything that means something to `nft` or `iptables`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface(Box<str>);

/// A text is no name of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of a network interface: 1 to 15 letters, digits, `.`, `-` and `_`")]
pub struct NoInterface(String);

impl std::str::FromStr for Interface {
    type Err = NoInterface;

    fn from_str(text: &str) -> Result<Self, NoInterface> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let fits = (1..=15).contains(&text.len())
            && text.bytes().all(plain)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.parse::<u64>().is_err();
        fits.then(|| Self(text.into()))
            .ok_or_else(|| NoInterface(text.chars().take(64).collect()))
    }
}

impl Interface {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where the guard listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// An address of the node, if it has one of this family.
    pub ipv4: Option<Ipv4Addr>,
    /// Likewise.
    pub ipv6: Option<Ipv6Addr>,
    /// The port.
    pub port: u16,
}

/// What else the table does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// Interfaces that are left alone.
    pub exempt: Vec<Interface>,
    /// Where connections are sent that did not come in by the interface which the route to their source leads to. With it,
    /// nobody but the node itself reaches the guard's ports except by asking for the service.
    pub strays: Option<u16>,
    /// Pods on the host's network.
    pub host: Option<HostRules>,
}

/// [`nft_rules`] without anything else.
#[must_use]
pub fn nft_table(target: Option<Target>, exempt: &[Interface]) -> String {
    let extra = Extra {
        exempt: exempt.to_vec(),
        ..Extra::default()
    };
    nft_rules(target, &extra)
}

/// The table in its closed state, replacing whatever it was, in one transaction. With a target it can be opened by
/// [`nft_open`]; without one it can only be closed.
#[must_use]
pub fn nft_rules(target: Option<Target>, extra: &Extra) -> String {
    let exempt = &extra.exempt;
    let mut text = format!(
        "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n\
         \x20 set live4 {{ type ipv4_addr; flags timeout; size 4; }}\n\
         \x20 set live6 {{ type ipv6_addr; flags timeout; size 4; }}\n\
         \x20 chain guard {{\n\
         \x20   type filter hook prerouting priority -150; policy accept;\n"
    );
    for interface in exempt {
        let _ = writeln!(text, "    iifname \"{}\" accept", interface.as_str());
    }
    if let (Some(target), Some(strays)) = (target, extra.strays) {
        let ports = format!("tcp dport {{ {}, {strays} }} counter drop", target.port);
        if let Some(address) = target.ipv4 {
            let _ = writeln!(text, "    iifname != \"lo\" ip daddr {address} {ports}");
        }
        if let Some(address) = target.ipv6 {
            let _ = writeln!(text, "    iifname != \"lo\" ip6 daddr {address} {ports}");
        }
    }
    let _ = write!(
        text,
        "\x20   ip daddr {IPV4} tcp dport 80 ip daddr @live4 accept\n\
         \x20   ip6 daddr {IPV6} tcp dport 80 ip6 daddr @live6 accept\n\
         \x20   ip daddr {IPV4} counter drop\n\
         \x20   ip6 daddr {IPV6} counter drop\n\
         \x20 }}\n"
    );
    if let Some(target) = target {
        text.push_str(
            "  chain capture {\n    type nat hook prerouting priority -110; policy accept;\n",
        );
        for interface in exempt {
            let _ = writeln!(text, "    iifname \"{}\" accept", interface.as_str());
        }
        let ports = [
            (extra.strays, " fib saddr . iif oif missing"),
            (Some(target.port), ""),
        ];
        for (port, condition) in ports {
            let Some(port) = port else { continue };
            if let Some(address) = target.ipv4 {
                let _ = writeln!(
                    text,
                    "    ip daddr {IPV4} tcp dport 80{condition} dnat ip to {address}:{port}"
                );
            }
            if let Some(address) = target.ipv6 {
                let _ = writeln!(
                    text,
                    "    ip6 daddr {IPV6} tcp dport 80{condition} dnat ip6 to [{address}]:{port}"
                );
            }
        }
        text.push_str("  }\n");
    }
    if let Some(host) = &extra.host {
        text.push_str(&host.chains(target));
    }
    text.push_str("}\n");
    text
}

/// Opens the table to the guard for so many seconds, or longer if it was open. Fails when there is no such table.
#[must_use]
pub fn nft_open(target: Target, seconds: u32) -> String {
    let mut text = nft_close();
    if target.ipv4.is_some() {
        let _ = writeln!(
            text,
            "add element inet {TABLE} live4 {{ {IPV4} timeout {seconds}s }}"
        );
    }
    if target.ipv6.is_some() {
        let _ = writeln!(
            text,
            "add element inet {TABLE} live6 {{ {IPV6} timeout {seconds}s }}"
        );
    }
    text
}

/// Closes the table at once. Fails when there is no such table.
#[must_use]
pub fn nft_close() -> String {
    format!("flush set inet {TABLE} live4\nflush set inet {TABLE} live6\n")
}

/// The same rules for `iptables-restore --noflush` (or `ip6tables-restore`): one table at a time is replaced at once.
///
/// What runs out by itself is the rule's date: `xt_time` compares it with the wall clock in UTC. `until` is that date, for example
/// `2030-01-01T00:00:00`; without it the rules are closed. The chain is filled before anything jumps into it; the jumps are put in
/// with [`iptables_jump`].
#[must_use]
pub fn iptables_chains(
    ipv6: bool,
    target: Option<Target>,
    until: Option<&str>,
    exempt: &[Interface],
) -> String {
    let (service, to) = if ipv6 {
        let to = target.and_then(|target| {
            let address = target.ipv6?;
            Some(format!("[{address}]:{}", target.port))
        });
        (format!("{IPV6}/128"), to)
    } else {
        let to = target.and_then(|target| {
            let address = target.ipv4?;
            Some(format!("{address}:{}", target.port))
        });
        (format!("{IPV4}/32"), to)
    };
    let open = to.zip(until);
    let mut text = String::new();
    let exempt = |text: &mut String| {
        for interface in exempt {
            let _ = writeln!(text, "-A {CHAIN} -i {} -j RETURN", interface.as_str());
        }
    };
    // Translation first: should the second table fail, the first alone lets nothing pass that was dropped.
    let _ = writeln!(text, "*nat\n:{CHAIN} - [0:0]");
    exempt(&mut text);
    if let Some((to, _)) = &open {
        let _ = writeln!(
            text,
            "-A {CHAIN} -d {service} -p tcp -m tcp --dport 80 -j DNAT --to-destination {to}"
        );
    }
    let _ = writeln!(text, "COMMIT\n*mangle\n:{CHAIN} - [0:0]");
    exempt(&mut text);
    if let Some((_, until)) = &open {
        let _ = writeln!(
            text,
            "-A {CHAIN} -d {service} -p tcp -m tcp --dport 80 -m time --datestop {until} -j RETURN"
        );
    }
    let _ = writeln!(text, "-A {CHAIN} -d {service} -j DROP\nCOMMIT");
    text
}

/// Arguments that put the jump into the chain before every other rule of `table`.
#[must_use]
pub fn iptables_jump(table: &'static str, verb: &'static str) -> Vec<&'static str> {
    let mut arguments = vec!["-w", "5", "-t", table, verb, "PREROUTING"];
    if verb == "-I" {
        arguments.push("1");
    }
    arguments.extend(["-j", CHAIN]);
    arguments
}

/// A rule of a predecessor that sends the service's traffic to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// The arguments that delete it, as `iptables -t nat` takes them.
    pub delete: Vec<String>,
    /// The rule as it was listed.
    pub rule: String,
}

/// Rules of `iptables -t nat -S PREROUTING` that translate the service's address and are not ours: what kube2iam and kiam leave
/// behind.
///
/// Only a rule of the plain form that both of them write is taken: each of its words is a known option with a value of harmless
/// characters. Anything else that names the address is left alone.
#[must_use]
pub fn shadows(listing: &str) -> Vec<Shadow> {
    const FLAGS: [&str; 10] = [
        "-A",
        "-d",
        "-i",
        "-p",
        "-m",
        "--dport",
        "-j",
        "--to-destination",
        "--comment",
        "-s",
    ];
    let mut found = Vec::new();
    for rule in listing.lines().take(10_000) {
        let all: Vec<&str> = rule.split_ascii_whitespace().collect();
        // A rule for everything *but* the service is nobody's shadow; only an interface may be excluded.
        let is_negated = all
            .windows(2)
            .any(|pair| matches!(pair, ["!", what] if *what != "-i"));
        let words: Vec<&str> = all.into_iter().filter(|word| *word != "!").collect();
        let has = |flag: &str, value: &[&str]| {
            words
                .windows(2)
                .any(|pair| matches!(pair, [name, given] if *name == flag && value.contains(given)))
        };
        let service = ["169.254.169.254/32", "169.254.169.254", "fd00:ec2::254/128"];
        let is_shadow = !is_negated
            && has("-A", &["PREROUTING"])
            && has("-d", &service)
            && has("--dport", &["80"])
            && (has("-j", &["DNAT"]) || has("-j", &["REDIRECT"]));
        let plain = words.chunks(2).all(|pair| match pair {
            [flag, value] => {
                (FLAGS.contains(flag) || *flag == "--to-ports")
                    && value
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"./:+_-[]".contains(&byte))
            }
            _ => false,
        });
        if is_shadow && plain {
            let mut delete: Vec<String> =
                rule.split_ascii_whitespace().map(str::to_owned).collect();
            if let Some(first) = delete.first_mut() {
                *first = "-D".into();
            }
            found.push(Shadow {
                delete,
                rule: rule.trim().to_owned(),
            });
        }
    }
    found
}

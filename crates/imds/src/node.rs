//! A node as its guard should have left it (check M11, imds spec, sections 3 and 5.1): the rules of the packet filter, read back from
//! its listing, and the unit that puts them in before kubelet.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::advise::{TAINT, UNIT};
use crate::checks::Finding;
use crate::rules::{CHAIN, TABLE};
use crate::{IPV4, IPV6};

/// Units that run kubelet, or are kubelet.
pub const KUBELETS: [&str; 5] = [
    "kubelet.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
];

/// What the rules of a node do with packets for the service that arrive at the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Rules {
    /// There are none.
    Missing,
    /// There are some, and they let packets through.
    Broken {
        /// What is wrong with them.
        reason: String,
    },
    /// They are dropped: no agent answers.
    Dropped,
    /// Connections to port 80 reach the guard; the rest is dropped.
    Redirected,
}

impl Rules {
    /// Whether no packet for the service passes.
    #[must_use]
    pub const fn hold(&self) -> bool {
        matches!(self, Self::Dropped | Self::Redirected)
    }

    fn broken(reason: impl Into<String>) -> Self {
        Self::Broken {
            reason: reason.into(),
        }
    }

    /// Of `nft -s list table inet countersign_imds`.
    #[must_use]
    pub fn of_nft(listing: &str) -> Self {
        let mut block = "";
        let mut hook = false;
        let mut dropped = [false; 2];
        let mut live = [false; 2];
        let mut translated = [false; 2];
        let services = [format!("ip daddr {IPV4} "), format!("ip6 daddr {IPV6} ")];
        for line in listing.lines().take(10_000).map(str::trim) {
            if let Some(head) = line.strip_suffix(" {") {
                if !line.contains('=') {
                    block = head;
                }
                continue;
            }
            match block {
                "set live4" if line.starts_with("elements") => live[0] = true,
                "set live6" if line.starts_with("elements") => live[1] = true,
                "chain guard" => {
                    let is_hook = line.starts_with("type filter hook prerouting priority ");
                    hook |= is_hook && line.contains("policy accept;");
                    let is_known = line.starts_with("iifname ")
                        || line.contains("@live4")
                        || line.contains("@live6")
                        || is_hook;
                    if line.contains("accept") && !is_known && dropped != [true; 2] {
                        return Self::broken(format!("a rule that is not ours: {}", brief(line)));
                    }
                    for (dropped, service) in dropped.iter_mut().zip(&services) {
                        let rest = line.strip_prefix(service.as_str());
                        // With or without the numbers of the counter.
                        *dropped |= rest.is_some_and(|rest| {
                            rest == "drop"
                                || rest.starts_with("counter ") && rest.ends_with(" drop")
                        });
                    }
                }
                "chain capture" => {
                    for (translated, service) in translated.iter_mut().zip(&services) {
                        *translated |=
                            line.starts_with(service.as_str()) && line.contains(" dnat ");
                    }
                }
                _ => {}
            }
        }
        if !listing.contains(&format!("table inet {TABLE} ")) {
            return Self::Missing;
        }
        let is_open = |family: usize| {
            live.get(family) == Some(&true) && translated.get(family) == Some(&true)
        };
        match (hook, dropped) {
            (false, _) => Self::broken(format!("table inet {TABLE} has no chain at prerouting")),
            (true, [true, true]) if is_open(0) || is_open(1) => Self::Redirected,
            (true, [true, true]) => Self::Dropped,
            (true, [four, _]) => Self::broken(format!(
                "table inet {TABLE} does not drop what is for {}",
                if four {
                    IPV6.to_string()
                } else {
                    IPV4.to_string()
                }
            )),
        }
    }

    /// Of `iptables -t mangle -S` and the same of `ip6tables`. A rule that opens has a date, in UTC, until which it does.
    #[must_use]
    pub fn of_iptables(four: &str, six: &str, now: Timestamp) -> Self {
        let service = [(four, format!("{IPV4}/32")), (six, format!("{IPV6}/128"))];
        let [four, six] = service.map(|(listing, service)| Self::of_family(listing, &service, now));
        match (four, six) {
            (Self::Missing, Self::Missing) => Self::Missing,
            (Self::Missing, _) => Self::broken("iptables has no rule for IPv4"),
            (_, Self::Missing) => Self::broken("ip6tables has no rule for IPv6"),
            (broken @ Self::Broken { .. }, _) | (_, broken @ Self::Broken { .. }) => broken,
            (Self::Redirected, _) | (_, Self::Redirected) => Self::Redirected,
            (Self::Dropped, Self::Dropped) => Self::Dropped,
        }
    }

    fn of_family(listing: &str, service: &str, now: Timestamp) -> Self {
        let jump = format!("-A PREROUTING -j {CHAIN}");
        let of_chain = format!("-A {CHAIN} ");
        let drop = format!("-A {CHAIN} -d {service} -j DROP");
        let lines = || listing.lines().take(10_000).map(str::trim);
        if !lines().any(|line| line == jump) {
            return Self::Missing;
        }
        let first = lines().find(|line| line.starts_with("-A PREROUTING "));
        if first != Some(&*jump) {
            return Self::broken(format!(
                "a rule of mangle PREROUTING comes before {CHAIN}: {}",
                brief(first.unwrap_or_default())
            ));
        }
        let mut is_open = false;
        for line in lines().filter(|line| line.starts_with(&of_chain)) {
            if line == drop {
                return if is_open {
                    Self::Redirected
                } else {
                    Self::Dropped
                };
            }
            if let Some(until) = line.split(" --datestop ").nth(1) {
                let until = until.split(' ').next().unwrap_or_default();
                let until: Option<DateTime> = until.parse().ok();
                let until = until.and_then(|until| until.to_zoned(TimeZone::UTC).ok());
                is_open |= until.is_some_and(|until| until.timestamp() > now);
            } else if !line.contains(" -i ") {
                return Self::broken(format!("a rule that is not ours: {}", brief(line)));
            }
        }
        Self::broken(format!("{CHAIN} does not drop what is for {service}"))
    }
}

fn brief(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The unit [`UNIT`] on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// There is none.
    Missing,
    /// It is masked: systemd never starts it.
    Masked,
    /// It is there, and nothing wants it at boot.
    Disabled,
    /// It is started at boot, and not before kubelet.
    NotBefore,
    /// It is started at boot, before kubelet.
    BeforeKubelet,
}

/// What systemd's files say of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFiles {
    /// The unit's own text and those of its drop-ins, in any order; nothing if there is no such unit.
    pub texts: Vec<String>,
    /// Whether it is a link to `/dev/null`.
    pub masked: bool,
    /// Whether a `.wants` or `.requires` directory has a link to it.
    pub wanted: bool,
    /// Those of [`KUBELETS`] that the node has.
    pub kubelets: Vec<String>,
}

impl Unit {
    /// What the files come to. Without a unit that runs kubelet, `kubelet.service` is looked for: it may come later.
    #[must_use]
    pub fn of_files(files: &UnitFiles) -> Self {
        if files.masked {
            return Self::Masked;
        }
        if files.texts.is_empty() {
            return Self::Missing;
        }
        if !files.wanted {
            return Self::Disabled;
        }
        let before: Vec<String> = files.texts.iter().flat_map(|text| befores(text)).collect();
        let is_before = |kubelet: &str| before.iter().any(|unit| unit == kubelet);
        let all = if files.kubelets.is_empty() {
            is_before("kubelet.service")
        } else {
            files.kubelets.iter().all(|kubelet| is_before(kubelet))
        };
        if all {
            Self::BeforeKubelet
        } else {
            Self::NotBefore
        }
    }
}

/// The units of all `Before=` of a unit's text, as systemd reads it: in `[Unit]`, repeated, with lines that a backslash continues.
#[must_use]
pub fn befores(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_unit = false;
    let mut lines = text.lines().take(10_000).map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') {
            in_unit = line == "[Unit]";
            continue;
        }
        let mut logical = line.to_owned();
        while let Some(part) = logical.strip_suffix('\\') {
            logical = format!("{part} {}", lines.next().unwrap_or_default());
        }
        if let Some((key, value)) = logical.split_once('=')
            && in_unit
            && key.trim_end() == "Before"
        {
            found.extend(value.split_ascii_whitespace().map(str::to_owned));
        }
    }
    found
}

/// What is known of a node; `Err` is why something could not be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The packet filter.
    pub rules: Result<Rules, String>,
    /// The unit.
    pub unit: Result<Unit, String>,
}

/// M11: the rules are there and hold, and come before kubelet at the next boot; and what could not be found out.
#[must_use]
pub fn guard(facts: &NodeFacts) -> (Vec<Finding>, Vec<String>) {
    let mut findings = Vec::new();
    let mut unclear = Vec::new();
    let mut found = |subject: &str, text: String, fix: String| {
        findings.push(Finding {
            check: "M11",
            subject: subject.into(),
            text,
            fix,
        });
    };
    let rules = "the packet filter of this node";
    match &facts.rules {
        Ok(Rules::Dropped | Rules::Redirected) => {}
        Ok(Rules::Missing) => found(
            rules,
            "has no rule of the guard: pods reach the instance metadata service".into(),
            "countersign imds drop, and run the agent: countersign agent manifest --imds block"
                .into(),
        ),
        Ok(Rules::Broken { reason }) => found(
            rules,
            format!("has rules of the guard that let pods through: {reason}"),
            "countersign imds drop puts them right; see who changed them".into(),
        ),
        Err(reason) => unclear.push(format!("M11, {rules}: {reason}")),
    }
    let install = || {
        format!(
            "countersign imds unit > /etc/systemd/system/{UNIT} && systemctl enable --now {UNIT}; or start nodes with the taint {TAINT}"
        )
    };
    match &facts.unit {
        Ok(Unit::BeforeKubelet) => {}
        Ok(Unit::Missing) => found(
            UNIT,
            "is not installed: from boot until the agent runs, pods reach the instance metadata service".into(),
            install(),
        ),
        Ok(Unit::Masked) => found(
            UNIT,
            "is masked, so it is never started".into(),
            format!("systemctl unmask {UNIT} && systemctl enable --now {UNIT}"),
        ),
        Ok(Unit::Disabled) => found(
            UNIT,
            "is installed and not enabled: it is not started at boot".into(),
            format!("systemctl enable --now {UNIT}"),
        ),
        Ok(Unit::NotBefore) => found(
            UNIT,
            "is started at boot, but not before kubelet: `Before=` does not name what runs it".into(),
            install(),
        ),
        Err(reason) => unclear.push(format!("M11, {UNIT}: {reason}")),
    }
    (findings, unclear)
}

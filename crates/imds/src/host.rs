//! Pods on the host's network, told from the node's own processes by their cgroup (imds spec, section 5.7).
//!
//! They send from the node's address, so nothing in a packet says who they are. Their sockets do: kubelet puts every pod's
//! processes below `kubepods.slice` (or `kubepods`, where it does not use systemd), one cgroup for each pod. The kernel compares
//! the cgroup that a socket was made in. It knows a cgroup by number: rules for a cgroup that was made again have to be set anew.
//!
//! A pod that may write to the node's `/sys/fs/cgroup` can leave its cgroup; so can one that is root on the node in any other way.
//! This keeps the node's role from pods that are on the host's network for its ports or addresses, and from nobody else.

use std::fmt::Write;
use std::str::FromStr;

use crate::rules::Target;
use crate::{IPV4, IPV6};

/// Where kubelet puts pods, with systemd's cgroups and without. A kubelet with a `--cgroup-root` of its own puts them elsewhere,
/// and its pods count as processes of the node.
pub const ROOTS: [&str; 2] = ["kubepods.slice", "kubepods"];
/// Pods that are let through at once: more than a node has.
pub const MOST_ALLOWED: usize = 512;
/// Levels of a cgroup's path.
const LEVELS: usize = 8;

/// A cgroup as its path below the root of the hierarchy, checked: nothing in it means anything to `nft`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cgroup(Box<str>);

/// A text is no path of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no path of a cgroup: up to {LEVELS} names of letters, digits, `.`, `-` and `_`, with `/` between them"
)]
pub struct NoCgroup(String);

impl FromStr for Cgroup {
    type Err = NoCgroup;

    fn from_str(text: &str) -> Result<Self, NoCgroup> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.len() <= 200
                && name.bytes().all(plain)
        };
        let fits = text.split('/').count() <= LEVELS && text.split('/').all(is_name);
        fits.then(|| Self(text.into()))
            .ok_or_else(|| NoCgroup(text.chars().take(64).collect()))
    }
}

impl Cgroup {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How far below the root it is; the root's children are at 1.
    #[must_use]
    pub fn level(&self) -> usize {
        self.0.split('/').count()
    }

    /// Where the pod with this uid may be: one of these, by its class of service and by kubelet's driver. None for a text that
    /// is no uid.
    #[must_use]
    pub fn of_pod(uid: &str) -> Vec<Self> {
        if !is_uid(uid) {
            return Vec::new();
        }
        let escaped = uid.replace('-', "_");
        let mut paths = vec![
            format!("kubepods.slice/kubepods-pod{escaped}.slice"),
            format!("kubepods/pod{uid}"),
        ];
        for class in ["burstable", "besteffort"] {
            paths.push(format!(
                "kubepods.slice/kubepods-{class}.slice/kubepods-{class}-pod{escaped}.slice"
            ));
            paths.push(format!("kubepods/{class}/pod{uid}"));
        }
        paths.iter().flat_map(|path| path.parse()).collect()
    }
}

fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The uid of the pod that a cgroup belongs to, by its path. What a container makes below its own cgroup changes nothing: the
/// first two or three names alone count.
#[must_use]
pub fn pod_of(path: &str) -> Option<String> {
    let mut names = path.trim_matches('/').split('/');
    let root = names.next()?;
    let name = names.next()?;
    let uid = match root {
        "kubepods.slice" => {
            let of = |name: &str, prefix: &str| {
                let uid = name.strip_prefix(prefix)?.strip_suffix(".slice")?;
                Some(uid.replace('_', "-"))
            };
            match name {
                "kubepods-burstable.slice" => of(names.next()?, "kubepods-burstable-pod")?,
                "kubepods-besteffort.slice" => of(names.next()?, "kubepods-besteffort-pod")?,
                _ => of(name, "kubepods-pod")?,
            }
        }
        "kubepods" => {
            let name = match name {
                "burstable" | "besteffort" => names.next()?,
                _ => name,
            };
            name.strip_prefix("pod")?.to_owned()
        }
        _ => return None,
    };
    is_uid(&uid).then_some(uid)
}

/// What happens to pods on the host's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostMode {
    /// Their packets for the service are dropped.
    Drop,
    /// They get the guard's answers, as other pods do.
    Redirect,
}

/// The rules for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRules {
    /// What happens to those that are not allowed.
    pub mode: HostMode,
    /// Those of [`ROOTS`] that exist.
    pub roots: Vec<Cgroup>,
    /// Pods that reach the service as processes of the node do; the first [`MOST_ALLOWED`] count.
    pub allowed: Vec<Cgroup>,
}

impl HostRules {
    /// The chains, to stand in the guard's table beside those for packets that arrive. With a target, and where the mode is to
    /// redirect, the service's port is open to the guard as long as the sets of the table say so; without one everything is
    /// dropped.
    #[must_use]
    pub fn chains(&self, target: Option<Target>) -> String {
        let target = target.filter(|_| self.mode == HostMode::Redirect);
        let mut text = format!(
            "  chain host {{\n    type filter hook output priority -150; policy accept;\n\
             \x20   ip daddr {IPV4} jump host_pods\n    ip6 daddr {IPV6} jump host_pods\n  }}\n\
             \x20 chain host_pods {{\n"
        );
        self.allow(&mut text, "accept");
        if target.is_some() {
            let _ = write!(
                text,
                "\x20   ip daddr {IPV4} tcp dport 80 ip daddr @live4 accept\n\
                 \x20   ip6 daddr {IPV6} tcp dport 80 ip6 daddr @live6 accept\n"
            );
        }
        for root in &self.roots {
            let _ = writeln!(text, "    {} counter drop", matching(root));
        }
        text.push_str("  }\n");
        let Some(Target { ipv4, ipv6, port }) = target else {
            return text;
        };
        let _ = write!(
            text,
            "  chain host_capture {{\n    type nat hook output priority -110; policy accept;\n\
             \x20   ip daddr {IPV4} jump host_redirect\n    ip6 daddr {IPV6} jump host_redirect\n  }}\n\
             \x20 chain host_redirect {{\n"
        );
        self.allow(&mut text, "return");
        for root in &self.roots {
            let root = matching(root);
            if let Some(address) = ipv4 {
                let _ = writeln!(
                    text,
                    "    ip daddr {IPV4} tcp dport 80 {root} dnat ip to {address}:{port}"
                );
            }
            if let Some(address) = ipv6 {
                let _ = writeln!(
                    text,
                    "    ip6 daddr {IPV6} tcp dport 80 {root} dnat ip6 to [{address}]:{port}"
                );
            }
        }
        text.push_str("  }\n");
        text
    }

    fn allow(&self, text: &mut String, verdict: &str) {
        for pod in self.allowed.iter().take(MOST_ALLOWED) {
            let _ = writeln!(text, "    {} {verdict}", matching(pod));
        }
    }
}

fn matching(cgroup: &Cgroup) -> String {
    format!(
        "socket cgroupv2 level {} \"{}\"",
        cgroup.level(),
        cgroup.as_str()
    )
}

/// A table that does nothing but name a cgroup: whether `nft` and the kernel can is seen by having it checked (`nft --check`).
#[must_use]
pub fn probe(root: &Cgroup) -> String {
    format!(
        "table inet countersign_probe {{\n  chain host {{\n    type filter hook output priority -150; policy accept;\n    {} counter\n  }}\n}}\n",
        matching(root)
    )
}

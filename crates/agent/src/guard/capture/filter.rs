//! One packet filter over `nft`, or over `iptables` and `ip6tables` in either of their kinds.

use std::fmt;

use countersign_imds::host::{Cgroup, HostRules, probe};
use countersign_imds::rules::{
    CHAIN, Extra, Interface, TABLE, Target, iptables_chains, iptables_jump, nft_close, nft_open,
    nft_rules,
};
use jiff::{SignedDuration, Timestamp};

use super::program::{Program, ProgramError};

/// Which programs set the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterKind {
    /// `nft`.
    Nft,
    /// `iptables` and `ip6tables`, whichever kind the system has under these names.
    Iptables,
    /// `iptables-legacy` and `ip6tables-legacy`.
    IptablesLegacy,
}

/// A packet filter.
#[derive(Debug)]
pub struct Filter {
    kind: FilterKind,
    extra: Extra,
    /// What is installed: nothing, or the rules for this target, with those for pods on the host's network.
    installed: Option<(Option<Target>, Option<HostRules>)>,
    /// The chains as they were listed after they had been installed.
    listing: String,
}

/// One family of iptables.
struct Family {
    program: Program,
    restore: Program,
    ipv6: bool,
}

impl Filter {
    /// Rules set by these programs; nothing runs yet.
    #[must_use]
    pub fn new(kind: FilterKind, exempt: Vec<Interface>) -> Self {
        Self {
            kind,
            extra: Extra {
                exempt,
                ..Extra::default()
            },
            installed: None,
            listing: String::new(),
        }
    }

    /// `nft` where it works, or else whichever `iptables` works.
    ///
    /// # Errors
    /// When none does.
    pub async fn detect(exempt: Vec<Interface>) -> Result<Self, ProgramError> {
        let mut first = None;
        for kind in [
            FilterKind::Nft,
            FilterKind::Iptables,
            FilterKind::IptablesLegacy,
        ] {
            let filter = Self::new(kind, exempt.clone());
            match filter.works().await {
                Ok(()) => return Ok(filter),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or(ProgramError::Missing("nft")))
    }

    /// Whether the programs are there and may list rules.
    async fn works(&self) -> Result<(), ProgramError> {
        match self.kind {
            FilterKind::Nft => {
                let nft = Program::find("nft")?;
                nft.run(&["list", "tables"], "").await.map(drop)
            }
            FilterKind::Iptables | FilterKind::IptablesLegacy => {
                for family in self.families()? {
                    for table in ["nat", "mangle"] {
                        family
                            .program
                            .run(&["-w", "5", "-t", table, "-S", "PREROUTING"], "")
                            .await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Which programs set the rules.
    #[must_use]
    pub const fn kind(&self) -> FilterKind {
        self.kind
    }

    /// Whether rules can match the cgroup of a socket. Only `nft` does here, and the kernel has to.
    ///
    /// # Errors
    /// What `nft` says, or that it is needed.
    pub async fn matches_cgroups(&self, root: Option<&Cgroup>) -> Result<(), ProgramError> {
        if self.kind != FilterKind::Nft {
            return Err(ProgramError::NeedsNft("pods on the host's network"));
        }
        let Some(root) = root else { return Ok(()) };
        let nft = Program::find("nft")?;
        nft.run(&["--check", "-f", "-"], &probe(root))
            .await
            .map(drop)
    }

    /// Sends connections that came in by another interface than that of their source to this port.
    pub(in crate::guard) fn send_strays_to(&mut self, port: u16) {
        self.extra.strays = Some(port);
    }

    /// The rules for pods on the host's network, from the next installation on.
    pub(super) fn set_host(&mut self, host: Option<HostRules>) {
        self.extra.host = host;
    }

    pub(super) const fn is_installed(&self) -> bool {
        self.installed.is_some()
    }

    pub(super) fn is_installed_for(&self, target: Option<Target>) -> bool {
        self.installed
            .as_ref()
            .is_some_and(|(held, host)| *held == target && *host == self.extra.host)
    }

    /// Puts the rules in, closed, or open for so many seconds. What was there before is replaced at once, so nothing is open
    /// meanwhile that is not to be.
    pub(super) async fn install(
        &mut self,
        target: Option<Target>,
        open: Option<u32>,
    ) -> Result<(), ProgramError> {
        let is_first = self.installed.take().is_none();
        match self.kind {
            FilterKind::Nft => {
                let nft = Program::find("nft")?;
                let rules = |extra: &Extra| {
                    let mut rules = nft_rules(target, extra);
                    if let (Some(target), Some(seconds)) = (target, open) {
                        rules.push_str(&nft_open(target, seconds));
                    }
                    rules
                };
                if let Err(error) = nft.run(&["-f", "-"], &rules(&self.extra)).await {
                    if is_first && self.extra.host.is_some() {
                        // A cgroup that went meanwhile must not leave the other pods' way open.
                        let less = Extra {
                            host: None,
                            ..self.extra.clone()
                        };
                        nft.run(&["-f", "-"], &rules(&less)).await?;
                    }
                    return Err(error);
                }
            }
            FilterKind::Iptables | FilterKind::IptablesLegacy => {
                let until = open.map(until);
                for family in self.families()? {
                    let rules =
                        iptables_chains(family.ipv6, target, until.as_deref(), &self.extra.exempt);
                    family
                        .restore
                        .run(&["-w", "5", "--noflush"], &rules)
                        .await?;
                    // Before every other rule. Should there be two jumps for a moment, the second finds nothing to do.
                    for table in ["mangle", "nat"] {
                        if !family.jumps_first(table).await? {
                            let insert = iptables_jump(table, "-I");
                            family.program.run(&insert, "").await?;
                        }
                    }
                }
            }
        }
        self.listing = self.list().await?;
        self.installed = Some((target, self.extra.host.clone()));
        Ok(())
    }

    /// Opens the rules to the guard for so many seconds.
    pub(super) async fn open(&self, seconds: u32) -> Result<(), ProgramError> {
        let Some((Some(target), _)) = self.installed else {
            return Ok(());
        };
        match self.kind {
            FilterKind::Nft => {
                let rules = nft_open(target, seconds);
                Program::find("nft")?.run(&["-f", "-"], &rules).await?;
            }
            FilterKind::Iptables | FilterKind::IptablesLegacy => {
                let until = until(seconds);
                for family in self.families()? {
                    let rules = iptables_chains(
                        family.ipv6,
                        Some(target),
                        Some(&until),
                        &self.extra.exempt,
                    );
                    family
                        .restore
                        .run(&["-w", "5", "--noflush"], &rules)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Closes the rules at once; they stay.
    pub(super) async fn close(&mut self) -> Result<(), ProgramError> {
        let Some((target, _)) = self.installed else {
            return self.install(None, None).await;
        };
        match self.kind {
            FilterKind::Nft => {
                let nft = Program::find("nft")?;
                nft.run(&["-f", "-"], &nft_close()).await.map(drop)
            }
            FilterKind::Iptables | FilterKind::IptablesLegacy => {
                for family in self.families()? {
                    let rules = iptables_chains(family.ipv6, target, None, &self.extra.exempt);
                    family
                        .restore
                        .run(&["-w", "5", "--noflush"], &rules)
                        .await?;
                }
                Ok(())
            }
        }
    }

    /// Whether the rules are still those that were installed: a firewall that is reloaded takes them away.
    pub(super) async fn is_intact(&self) -> bool {
        self.list().await.is_ok_and(|now| now == self.listing)
    }

    /// What must not change. Of iptables that is the jumps, since the chains change with every refresh.
    async fn list(&self) -> Result<String, ProgramError> {
        match self.kind {
            FilterKind::Nft => {
                let nft = Program::find("nft")?;
                let mut text = String::new();
                for chain in [
                    "guard",
                    "capture",
                    "host",
                    "host_pods",
                    "host_capture",
                    "host_redirect",
                ] {
                    let list = ["-s", "list", "chain", "inet", TABLE, chain];
                    // The others are there with a target, and with rules for pods on the host's network.
                    match nft.run(&list, "").await {
                        Ok(listed) => text.push_str(&listed),
                        Err(error) if chain == "guard" => return Err(error),
                        Err(_) => {}
                    }
                }
                Ok(text)
            }
            FilterKind::Iptables | FilterKind::IptablesLegacy => {
                let mut text = String::new();
                for family in self.families()? {
                    for table in ["mangle", "nat"] {
                        let first = family.jumps_first(table).await?;
                        text.push_str(if first { "first " } else { "not first " });
                    }
                }
                Ok(text)
            }
        }
    }

    fn families(&self) -> Result<[Family; 2], ProgramError> {
        let names = match self.kind {
            FilterKind::IptablesLegacy => [
                ("iptables-legacy", "iptables-legacy-restore"),
                ("ip6tables-legacy", "ip6tables-legacy-restore"),
            ],
            FilterKind::Nft | FilterKind::Iptables => [
                ("iptables", "iptables-restore"),
                ("ip6tables", "ip6tables-restore"),
            ],
        };
        let [four, six] = names;
        let family = |(program, restore), ipv6| {
            Ok::<_, ProgramError>(Family {
                program: Program::find(program)?,
                restore: Program::find(restore)?,
                ipv6,
            })
        };
        Ok([family(four, false)?, family(six, true)?])
    }
}

/// The moment so many seconds from now, as rules have it.
fn until(seconds: u32) -> String {
    let until = Timestamp::now() + SignedDuration::from_secs(seconds.into());
    until.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

impl Family {
    /// Whether the first rule of `PREROUTING` jumps into our chain.
    async fn jumps_first(&self, table: &'static str) -> Result<bool, ProgramError> {
        let list = ["-w", "5", "-t", table, "-S", "PREROUTING"];
        let listed = self.program.run(&list, "").await?;
        let wanted = format!("-A PREROUTING -j {CHAIN}");
        let mut rules = listed.lines().filter(|line| line.starts_with("-A "));
        Ok(rules.next() == Some(&*wanted))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            FilterKind::Nft => "nft",
            FilterKind::Iptables => "iptables",
            FilterKind::IptablesLegacy => "iptables-legacy",
        })
    }
}

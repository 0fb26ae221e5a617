//! The metadata guard in `agent run`: its flags, and what it asks of Kubernetes (imds spec, section 5).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use countersign_agent::guard::capture::{Filter, FilterKind, ProgramError};
use countersign_agent::guard::{
    GuardApi, GuardApiError, GuardConfig, HostGuard, PodEvent, Workload,
};
use countersign_agent::link::Netlink;
use countersign_agent::pods::{Pod, PodTable};
use countersign_imds::decision::{Mode, Settings};
use countersign_imds::harmless::HarmlessPaths;
use countersign_imds::host::HostMode;
use countersign_imds::rules::Interface;
use countersign_sources::kubernetes::{KubernetesAccess, NodePods, PodReference, PodTokens};
use futures::future::BoxFuture;
use zeroize::Zeroizing;

use super::feeds;
use super::flags::RunArgs;
use super::taint::Taint;
use crate::report::Failure;

/// Reads the node's own data, and needs the node's role unless it has one of its own.
const CNI: &str = "kube-system/aws-node";

#[derive(Debug, Args)]
#[command(next_help_heading = "Instance metadata")]
pub(super) struct GuardArgs {
    /// What pods get from instance metadata. `block` if absent, where the pods of the node are watched and the packet filter can
    /// be set; `off` elsewhere.
    #[arg(long, value_enum, value_name = "MODE")]
    imds: Option<ImdsMode>,
    /// Whether requests without a session token are answered, for old SDKs.
    #[arg(long, value_enum, default_value_t, value_name = "RULE")]
    imds_v1: Version1,
    /// A further path that pods may read, such as /latest/meta-data/block-device-mapping/ami. Repeatable.
    #[arg(long, value_name = "PATH")]
    imds_allow_path: Vec<String>,
    /// An interface whose traffic for instance metadata is left alone. Repeatable. None is by default.
    #[arg(long, value_name = "NAME")]
    imds_exempt_interface: Vec<Interface>,
    /// Answer a pod only when its requests come in by the interface that the node's route to exactly its address leads to. For
    /// networks with a route for each pod, such as the VPC CNI's and Calico's; on others no pod gets an answer. Needs nft, and
    /// the port after --imds-port.
    #[arg(long)]
    verify_interface: bool,
    /// What pods on the host's network get from instance metadata. If absent, they reach it as processes of the node do. Needs
    /// nft, cgroup v2, and an agent in the node's cgroup namespace: a unit of the node, or a privileged container.
    #[arg(long, value_enum, value_name = "MODE")]
    host_cgroup_guard: Option<HostGuardFlag>,
    /// A service account whose pods on the host's network reach instance metadata nevertheless, besides kube-system/aws-node and
    /// the agent itself. Repeatable.
    #[arg(
        long,
        value_name = "NAMESPACE/SERVICE-ACCOUNT",
        requires = "host_cgroup_guard"
    )]
    host_cgroup_allow: Vec<Workload>,
    /// What sets the rules.
    #[arg(long, value_enum, default_value_t, value_name = "PROGRAM")]
    imds_filter: FilterFlag,
    /// The node's metadata service. Its host must be trusted: the node reads its own data there. If absent: 169.254.169.254:80,
    /// or [fd00:ec2::254]:80 where that cannot be connected to.
    #[arg(long, value_name = "ADDRESS:PORT")]
    imds_service: Option<SocketAddr>,
    /// Port of the guard on the addresses of the agent's link.
    #[arg(long, default_value_t = countersign_agent::guard::PORT, value_name = "PORT")]
    imds_port: u16,
    /// Where the key of session tokens and the list of who was blocked are kept: in memory, for root alone.
    #[arg(long, default_value = "/run/countersign", value_name = "DIR")]
    imds_state_dir: PathBuf,
    /// Take the taint countersign.dev/imds-guard:NoSchedule from this node once pods' requests reach the guard, for nodes that
    /// start with it. Needs `get` and `patch` on nodes (`agent manifest --imds-remove-taint`).
    #[arg(long)]
    imds_remove_taint: bool,
}

/// `--imds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ImdsMode {
    /// Nothing: pods reach the node's service, and the node's role, unless something else keeps them from it.
    Off,
    /// Everything as without the guard, logged and counted.
    Audit,
    /// No credentials and no secrets; harmless values of the node.
    Block,
    /// The pod's own role, and harmless values of the node.
    Serve,
}

/// `--host-cgroup-guard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HostGuardFlag {
    /// Nothing: their packets are dropped.
    Drop,
    /// What other pods get.
    Redirect,
}

/// `--imds-v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Version1 {
    /// They are refused with 401.
    #[default]
    Deny,
    /// They are answered.
    Allow,
}

/// What sets the rules: `--imds-filter`, and `--filter` of `imds drop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum FilterFlag {
    /// nft where it works, or else iptables.
    #[default]
    Auto,
    /// nft.
    Nft,
    /// iptables and ip6tables.
    Iptables,
    /// iptables-legacy and ip6tables-legacy.
    IptablesLegacy,
}

impl FilterFlag {
    /// The filter; one that is named is not tried.
    pub(crate) async fn filter(self, exempt: Vec<Interface>) -> Result<Filter, ProgramError> {
        match self {
            Self::Auto => Filter::detect(exempt).await,
            Self::Nft => Ok(Filter::new(FilterKind::Nft, exempt)),
            Self::Iptables => Ok(Filter::new(FilterKind::Iptables, exempt)),
            Self::IptablesLegacy => Ok(Filter::new(FilterKind::IptablesLegacy, exempt)),
        }
    }

    /// Its name on the command line; none for what is the default.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Nft => Some("nft"),
            Self::Iptables => Some("iptables"),
            Self::IptablesLegacy => Some("iptables-legacy"),
        }
    }
}

impl GuardArgs {
    /// Whether the flags go together: before anything else is done.
    pub(super) fn check(&self, has_node: bool) -> Result<(), Failure> {
        match self.problem(has_node) {
            None => Ok(()),
            Some(problem) => Err(Failure::usage(anyhow!(problem))),
        }
    }

    /// Whoever asks for a check must not run without it.
    fn problem(&self, has_node: bool) -> Option<String> {
        let option = if self.verify_interface {
            "--verify-interface"
        } else if self.host_cgroup_guard.is_some() {
            "--host-cgroup-guard"
        } else {
            return None;
        };
        if self.imds == Some(ImdsMode::Off) {
            return Some(format!(
                "--imds off sets no guard that {option} could make stricter; give --imds block or serve"
            ));
        }
        if self.imds == Some(ImdsMode::Audit) {
            return Some(format!(
                "--imds audit refuses nobody, and {option} does nothing else; leave it out until --imds block or serve"
            ));
        }
        if !has_node {
            return Some(format!(
                "{option} needs the pods of the node: give --node-name"
            ));
        }
        if matches!(
            self.imds_filter,
            FilterFlag::Iptables | FilterFlag::IptablesLegacy
        ) {
            return Some(format!("{option} needs --imds-filter nft"));
        }
        if self.verify_interface && self.imds_port == u16::MAX {
            return Some(format!(
                "{option} needs the port after --imds-port, and there is none after {}",
                u16::MAX
            ));
        }
        None
    }
}

/// The guard that the flags ask for.
pub(super) async fn configure(args: &RunArgs) -> Result<Option<GuardConfig>, Failure> {
    let flags = &args.guard;
    let mode = match (flags.imds, &args.node_name) {
        (Some(ImdsMode::Off), _) | (None, None) if flags.imds_remove_taint => {
            return Err(Failure::usage(anyhow!(
                "--imds-remove-taint is for nodes with a guard: give --node-name, and no --imds off"
            )));
        }
        (Some(ImdsMode::Off), _) => return Ok(None),
        (None, None) => {
            tracing::warn!(
                "no --node-name: pods are not known, so they are not kept from the node's role in instance metadata"
            );
            return Ok(None);
        }
        (Some(_), None) => {
            return Err(Failure::usage(anyhow!(
                "--imds needs the pods of the node: give --node-name"
            )));
        }
        (Some(ImdsMode::Audit), _) => Mode::Audit,
        (Some(ImdsMode::Block) | None, _) => Mode::Block,
        (Some(ImdsMode::Serve), _) => Mode::Serve,
    };
    let asked = flags.imds.is_some() || flags.imds_remove_taint;
    if mode == Mode::Serve
        && (args.max_cache_size == Some(0)
            || args.max_credential_retention_before_renewal.is_zero())
    {
        return Err(Failure::usage(anyhow!(
            "--imds serve answers from the cache, which is switched off"
        )));
    }
    let harmless = HarmlessPaths::with(&flags.imds_allow_path).map_err(Failure::usage)?;
    let exempt = flags.imds_exempt_interface.clone();
    let filter = flags.imds_filter.filter(exempt).await;
    let filter = match filter {
        Ok(filter) => filter,
        Err(error) if asked => {
            return Err(Failure::unknown(error)
                .hint("the guard needs nftables or iptables and CAP_NET_ADMIN; --imds off goes without it"));
        }
        Err(error) if flags.verify_interface || flags.host_cgroup_guard.is_some() => {
            return Err(Failure::unknown(error).hint(
                "--verify-interface and --host-cgroup-guard need nftables and CAP_NET_ADMIN",
            ));
        }
        // Whoever did not ask for the guard keeps an agent that works, and reads why pods still reach the node's role.
        Err(error) => {
            tracing::warn!(%error, "pods are not kept from the node's role in instance metadata: no packet filter can be set");
            return Ok(None);
        }
    };
    if flags.verify_interface && filter.kind() != FilterKind::Nft {
        return Err(Failure::usage(anyhow!(
            "--verify-interface needs nft: {filter} cannot tell which interface a source is behind"
        )));
    }
    let hosts = hosts(flags, &filter).await?;
    let mut guard = GuardConfig::new(Settings {
        mode,
        v1: flags.imds_v1 == Version1::Allow,
        harmless,
    })
    .for_pods(args.max_pods);
    for address in &mut guard.listen {
        address.set_port(flags.imds_port);
    }
    if let Some(service) = flags.imds_service {
        guard.services = vec![service];
    }
    guard.filter = Some(filter);
    guard.hosts = hosts;
    if flags.verify_interface {
        guard.routes = Some(Arc::new(Netlink::connect()?));
    }
    guard.state_dir = flags.imds_state_dir.clone();
    guard.api = Some(Arc::new(Kubernetes::new(args).await?));
    if flags.imds_remove_taint {
        guard.taint = Some(Arc::new(Taint::new(args).await?));
    }
    Ok(Some(guard))
}

/// Pods on the host's network, where the flags say something about them.
async fn hosts(flags: &GuardArgs, filter: &Filter) -> Result<Option<HostGuard>, Failure> {
    let mode = match flags.host_cgroup_guard {
        None => return Ok(None),
        Some(HostGuardFlag::Drop) => HostMode::Drop,
        Some(HostGuardFlag::Redirect) => HostMode::Redirect,
    };
    let cni: Workload = CNI.parse().map_err(Failure::usage)?;
    let mut allow = flags.host_cgroup_allow.clone();
    allow.push(cni);
    let hosts = HostGuard::open(mode, allow).map_err(Failure::usage)?;
    let root = HostGuard::root();
    filter.matches_cgroups(root.as_ref()).await.map_err(|error| {
        Failure::usage(error).hint(
            "--host-cgroup-guard needs nftables 0.9.9 or later and a kernel of 5.13 or later with NFT_SOCKET",
        )
    })?;
    Ok(Some(hosts))
}

/// The Kubernetes API, as the guard asks it.
struct Kubernetes {
    tokens: PodTokens,
    pods: NodePods,
}

impl Kubernetes {
    async fn new(args: &RunArgs) -> Result<Self, Failure> {
        let node = args.node_name.as_deref().unwrap_or_default();
        let access = KubernetesAccess {
            kubeconfig: args.kubeconfig.clone(),
            master: None,
        };
        let client = access.client().await.map_err(Failure::usage)?;
        Ok(Self {
            tokens: PodTokens::new(client, node),
            pods: NodePods::new(node, []).map_err(Failure::usage)?,
        })
    }
}

fn reference(pod: &Pod) -> PodReference<'_> {
    PodReference {
        namespace: &pod.namespace,
        name: &pod.name,
        uid: &pod.uid,
    }
}

impl GuardApi for Kubernetes {
    fn token<'a>(
        &'a self,
        pod: &'a Pod,
        audience: &'a str,
    ) -> BoxFuture<'a, Result<Zeroizing<String>, GuardApiError>> {
        Box::pin(async move {
            self.tokens
                .token(reference(pod), &pod.service_account, audience)
                .await
                .map(Zeroizing::new)
                .map_err(GuardApiError)
        })
    }

    fn pods(&self) -> BoxFuture<'_, Result<PodTable, GuardApiError>> {
        Box::pin(async move {
            let list = self.tokens.pods(&self.pods).await.map_err(GuardApiError)?;
            Ok(feeds::table(list))
        })
    }

    fn event<'a>(&'a self, pod: &'a Pod, event: PodEvent) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let now = jiff::Timestamp::now();
            let put = self
                .tokens
                .warn(reference(pod), event.reason(), event.message(), now);
            if let Err(error) = put.await {
                tracing::debug!(%error, reason = event.reason(), "an Event could not be written");
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        guard: GuardArgs,
    }

    fn parse(line: &str) -> Result<GuardArgs, clap::Error> {
        let words = std::iter::once("agent").chain(line.split_whitespace());
        Flags::try_parse_from(words).map(|flags| flags.guard)
    }

    #[test]
    fn what_makes_the_guard_stricter_is_never_left_out_silently() {
        for (line, has_node, expected) in [
            ("", false, None),
            ("--imds off", false, None),
            ("--verify-interface", true, None),
            ("--verify-interface --imds serve", true, None),
            ("--host-cgroup-guard drop --imds block", true, None),
            (
                "--host-cgroup-guard redirect --host-cgroup-allow kube-system/cilium --imds-filter nft",
                true,
                None,
            ),
            ("--verify-interface", false, Some("--node-name")),
            ("--host-cgroup-guard drop", false, Some("--node-name")),
            ("--verify-interface --imds off", true, Some("--imds off")),
            (
                "--verify-interface --imds audit",
                true,
                Some("refuses nobody"),
            ),
            (
                "--host-cgroup-guard drop --imds audit",
                true,
                Some("refuses nobody"),
            ),
            (
                "--host-cgroup-guard drop --imds-filter iptables",
                true,
                Some("--imds-filter nft"),
            ),
            (
                "--verify-interface --imds-port 65535",
                true,
                Some("none after 65535"),
            ),
        ] {
            let problem = parse(line).unwrap().problem(has_node);
            match expected {
                None => assert_eq!(problem, None, "{line}"),
                Some(part) => assert!(problem.unwrap().contains(part), "{line}"),
            }
        }
        for line in [
            "--host-cgroup-guard maybe",
            "--host-cgroup-allow kube-system/cilium",
            "--host-cgroup-guard drop --host-cgroup-allow cilium",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let args = parse("").unwrap();
        assert!(args.imds_service.is_none() && CNI.parse::<Workload>().is_ok());
    }
}

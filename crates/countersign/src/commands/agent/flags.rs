//! The flags of `agent run`: those of the eks-pod-identity-agent with their meaning, and ours (agent spec, section 2).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use countersign_agent::CacheScope;
use countersign_agent::link::{IPV4, IPV6};
use countersign_agent::pods::BindSource;

use crate::logging::LogFormat;

/// Where kubelet puts the agent's own token by our manifest.
const TOKEN_FILE: &str = "/var/run/secrets/eks-auth.countersign.dev/serviceaccount/token";

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  countersign agent run -c prod\n  countersign agent run -c home --endpoint https://countersign.example:4600 --auth bearer --node-name node-a"
)]
pub(crate) struct RunArgs {
    /// The cluster whose pods get credentials.
    #[arg(short, long, value_name = "NAME")]
    pub(super) cluster_name: String,
    /// The region; that of the environment, the profile or the instance if absent.
    #[arg(long, env = "AWS_REGION", value_name = "REGION")]
    pub(super) region: Option<String>,
    /// URL of the auth service, in the place of the region's. Its host must be trusted: it sees the tokens of pods.
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: Option<String>,
    /// Certificate authorities of the auth service (PEM), in the place of the built-in ones. Also those of STS, except of AWS's beside
    /// an `--endpoint` of your own.
    #[arg(long, env = "AWS_CA_BUNDLE", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// As whom the auth service is asked.
    #[arg(long, value_enum, default_value_t)]
    pub(super) auth: Auth,
    /// The agent's own token for `--auth bearer`, with the audience eks-auth.countersign.dev.
    #[arg(long, default_value = TOKEN_FILE, value_name = "FILE")]
    pub(super) token_file: PathBuf,
    /// Take the node's credentials from the shared credentials file and read it again every minute.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(super) rotate_credentials: bool,

    /// Port of the credentials endpoint.
    #[arg(short, long, default_value_t = 80, value_name = "PORT")]
    pub(super) port: u16,
    /// Addresses of the credentials endpoint; IPv6 in brackets. May be repeated. [default: 169.254.170.23, [fd00:ec2::23]]
    #[arg(
        short,
        long,
        value_delimiter = ',',
        value_parser = address,
        value_name = "ADDRESS"
    )]
    pub(super) bind_hosts: Vec<IpAddr>,
    /// Fail to start without an IPv4 address.
    #[arg(long)]
    pub(super) require_ipv4: bool,
    /// Fail to start without an IPv6 address.
    #[arg(long)]
    pub(super) require_ipv6: bool,
    /// Who makes the link of the addresses and looks after it.
    #[arg(long, value_enum, default_value_t)]
    pub(super) link: Link,
    /// Port of /healthz, /readyz and /top on localhost.
    #[arg(long, default_value_t = 2703, value_name = "PORT")]
    pub(super) probe_port: u16,
    /// Address of /metrics: the node's own if absent, and none if that is not known.
    #[arg(long, env = "HOST_IP", value_parser = address, value_name = "ADDRESS")]
    pub(super) metrics_address: Option<IpAddr>,
    /// Port of /metrics.
    #[arg(long, default_value_t = 2705, value_name = "PORT")]
    pub(super) metrics_port: u16,

    /// Credentials are renewed after this time at the latest; 0 keeps none.
    #[arg(long, default_value = "3h", value_parser = duration, value_name = "DURATION")]
    pub(super) max_credential_retention_before_renewal: Duration,
    /// Pods whose credentials are kept; 0 keeps none. Four times `--max-pods` if absent.
    #[arg(long, value_name = "N")]
    pub(super) max_cache_size: Option<u32>,
    /// Calls of the auth service a second in the long run. 10 if absent.
    #[arg(long, value_name = "N")]
    pub(super) max_service_qps: Option<u32>,
    /// Whose credentials a call of the auth service brings.
    #[arg(long, value_enum, default_value_t)]
    pub(super) cache_scope: CacheScopeFlag,
    /// The most pods of this node: sizes the cache and the burst of calls after a start.
    #[arg(long, default_value_t = 250, value_name = "N")]
    pub(super) max_pods: u32,

    /// The name of this node: its pods are watched.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub(super) node_name: Option<String>,
    /// The Kubernetes API, in the place of the pod's own service account.
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// What to do with a token that came from somebody else than its pod.
    #[arg(long, value_enum, default_value_t)]
    pub(super) bind_source: BindSourceFlag,
    /// Look every 30 s whether associations changed. Needs eks:DescribePodIdentityAssociation, and where associations have
    /// patterns eks:ListPodIdentityAssociations; or `--auth bearer`.
    #[arg(long, value_enum, default_value_t)]
    pub(super) watch_associations: WatchAssociations,
    /// URL of the EKS API; that of `--endpoint`, or the region's, if absent.
    #[arg(long, value_name = "URL")]
    pub(super) eks_endpoint: Option<String>,

    /// A directory in which this process takes the listening sockets of the agent before it, and gives them to the one after it, so
    /// that an update has no gap. It must be root's own, with mode 0700, and is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(super) handover_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(super) guard: super::guard::GuardArgs,
    #[command(flatten)]
    pub(super) roles: super::roles::RoleArgs,

    /// Where decisions are recorded: `stderr`, `off`, or a file.
    #[arg(long, default_value = "stderr", value_name = "TARGET")]
    pub(super) events: String,
    /// Log level: panic, error, warn, info, debug, trace.
    #[arg(short, long, default_value = "info", value_name = "LEVEL")]
    pub(super) verbosity: String,
    /// Form of log lines.
    #[arg(long, value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
}

/// As whom the auth service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Auth {
    /// The node's AWS credentials sign the calls.
    #[default]
    Sigv4,
    /// The agent's own service account token, for clusters outside AWS.
    Bearer,
}

/// Who makes the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Link {
    /// The agent, and it looks after it every minute. Needs CAP_NET_ADMIN unless the link is there.
    #[default]
    Manage,
    /// Somebody else.
    Off,
}

/// `--bind-source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum BindSourceFlag {
    /// Nothing is compared.
    Off,
    /// It is counted, logged and recorded.
    #[default]
    Warn,
    /// It is refused.
    Enforce,
}

/// `--cache-scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum CacheScopeFlag {
    /// The pod's that asked.
    #[default]
    Pod,
    /// Those of all pods of its service account on this node, where the association has session tags disabled. Sessions then have
    /// the name of the pod that asked first. Needs `--node-name` and `--watch-associations`.
    ServiceAccount,
}

/// `--watch-associations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum WatchAssociations {
    /// When the auth service or the EKS API is one of your own; AWS gives nodes no permission for it, and counts the calls.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: a changed association counts at the next renewal.
    Off,
}

impl From<CacheScopeFlag> for CacheScope {
    fn from(flag: CacheScopeFlag) -> Self {
        match flag {
            CacheScopeFlag::Pod => Self::Pod,
            CacheScopeFlag::ServiceAccount => Self::ServiceAccount,
        }
    }
}

impl From<BindSourceFlag> for BindSource {
    fn from(flag: BindSourceFlag) -> Self {
        match flag {
            BindSourceFlag::Off => Self::Off,
            BindSourceFlag::Warn => Self::Warn,
            BindSourceFlag::Enforce => Self::Enforce,
        }
    }
}

impl RunArgs {
    /// Where credentials are served.
    pub(super) fn listen(&self) -> Vec<SocketAddr> {
        let fixed = [IPV4, IPV6];
        let hosts = if self.bind_hosts.is_empty() {
            fixed.as_slice()
        } else {
            self.bind_hosts.as_slice()
        };
        hosts
            .iter()
            .map(|host| SocketAddr::new(*host, self.port))
            .collect()
    }

    /// Why these flags do not go together, if they do not.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let shares = self.cache_scope == CacheScopeFlag::ServiceAccount;
        if shares && self.node_name.is_none() {
            return Some(
                "--cache-scope service-account needs --node-name: whether a pod is there is known from the pods of the node",
            );
        }
        if shares && !self.watches_associations() {
            return Some(
                "--cache-scope service-account needs --watch-associations on: whether session tags are disabled is known from the associations",
            );
        }
        None
    }

    /// Whether associations are looked at.
    pub(super) fn watches_associations(&self) -> bool {
        match self.watch_associations {
            WatchAssociations::On => true,
            WatchAssociations::Off => false,
            WatchAssociations::Auto => self.endpoint.is_some() || self.eks_endpoint.is_some(),
        }
    }
}

/// An address; IPv6 with or without brackets.
fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .map_err(|_| "write an address, such as 169.254.170.23 or [fd00:ec2::23]".to_owned())
}

/// A duration as Go writes it: `3h`, `1h30m`, `90s`, `0`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a duration, such as 3h, 90m or 0".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(line: &str) -> Result<RunArgs, clap::Error> {
        let words = std::iter::once("run").chain(line.split_whitespace());
        Flags::try_parse_from(words).map(|flags| flags.run)
    }

    #[test]
    fn the_command_line_of_the_reference_is_understood() {
        let args = parse(
            "--cluster-name prod --port 8080 --probe-port 2704 --metrics-address 10.0.0.1 --metrics-port 2706 \
             -b 169.254.170.23 -b [fd00:ec2::23] --max-credential-retention-before-renewal 1h30m --max-cache-size 3000 \
             --max-service-qps 5 --rotate-credentials=true --endpoint https://auth.example -v trace",
        )
        .unwrap();
        assert_eq!(
            args.listen(),
            [SocketAddr::new(IPV4, 8080), SocketAddr::new(IPV6, 8080)]
        );
        assert_eq!(
            args.max_credential_retention_before_renewal,
            Duration::from_secs(5400)
        );
        assert_eq!(
            (args.max_cache_size, args.max_service_qps),
            (Some(3000), Some(5))
        );
        assert!(args.rotate_credentials && args.watches_associations());
        assert_eq!(args.metrics_address, Some("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn defaults_and_short_forms() {
        let args = parse("-c prod").unwrap();
        assert_eq!(
            args.listen(),
            [SocketAddr::new(IPV4, 80), SocketAddr::new(IPV6, 80)]
        );
        assert_eq!((args.probe_port, args.metrics_port), (2703, 2705));
        assert_eq!(
            args.max_credential_retention_before_renewal,
            Duration::from_secs(3 * 3600)
        );
        assert!(!args.rotate_credentials && !args.watches_associations());
        for (line, watches) in [
            ("-c p --endpoint https://auth.example", true),
            ("-c p --eks-endpoint https://eks.example", true),
            ("-c p --watch-associations on", true),
            (
                "-c p --endpoint https://auth.example --watch-associations off",
                false,
            ),
            ("-c p --endpoint https://auth.example --auth bearer", true),
        ] {
            assert_eq!(
                parse(line).unwrap().watches_associations(),
                watches,
                "{line}"
            );
        }
        for (line, fine) in [
            ("-c p", true),
            ("-c p --cache-scope pod", true),
            ("-c p --cache-scope service-account", false),
            ("-c p --cache-scope service-account --node-name n", false),
            (
                "-c p --cache-scope service-account --watch-associations on",
                false,
            ),
            (
                "-c p --cache-scope service-account --node-name n --watch-associations on",
                true,
            ),
            (
                "-c p --cache-scope service-account --node-name n --endpoint https://auth.example",
                true,
            ),
        ] {
            let found = parse(line).unwrap().contradiction();
            assert_eq!(found.is_none(), fine, "{line}: {found:?}");
        }
        for (line, fine) in [
            ("-c p --rotate-credentials", true),
            ("-c p --rotate-credentials=false", true),
            ("-c p --max-credential-retention-before-renewal 0", true),
            ("-c p --bind-hosts 127.0.0.1,::1", true),
            (
                "-c p --bind-source enforce --require-ipv4 --require-ipv6",
                true,
            ),
            ("-c p --irsa off --annotation-prefix my.example", true),
            (
                "-c p --compat kiam --sts-endpoint https://sts.example",
                true,
            ),
            ("", false),
            ("-c p --irsa perhaps", false),
            ("-c p --annotation-prefix my.example/", false),
            ("-c p --compat kube3iam", false),
            ("-c p -b metadata.example", false),
            ("-c p --max-credential-retention-before-renewal soon", false),
            ("-c p --max-credential-retention-before-renewal -3h", false),
            ("-c p --port 70000", false),
        ] {
            assert_eq!(parse(line).is_ok(), fine, "{line}");
        }
    }
}

//! `agent run`: from flags to a running agent.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_agent::link::Netlink;
use countersign_agent::{
    Agent, AgentConfig, AuthLimits, Decision, DecisionLog, EksApi, EksAssociations, EksAuth,
    Endpoint, Handover, NodeIdentity, StartError,
};
use countersign_server::events::{EventTarget, Events};
use countersign_upstream::clock::{Clock, SystemClock};

use super::flags::{Link, RunArgs};
use super::{feeds, guard, link, node, roles};
use crate::commands::launch::until_told_to_stop;
use crate::exit::Exit;
use crate::report::Failure;

/// Threads that serve: a node's agent must stay small.
const WORKERS: usize = 2;

pub(super) fn run(args: RunArgs) -> Result<Exit, Failure> {
    link::start_logging(&args.verbosity, args.log_format)?;
    no_memory_in_core_dumps();
    countersign_server::install_crypto();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?
        .block_on(serve(args))
}

async fn serve(args: RunArgs) -> Result<Exit, Failure> {
    let config = configure(&args).await?;
    let agent = Agent::start(config).await.map_err(refused)?;
    until_told_to_stop().await?;
    agent.stop().await;
    Ok(Exit::Fine)
}

async fn configure(args: &RunArgs) -> Result<AgentConfig, Failure> {
    if let Some(why) = args.contradiction() {
        return Err(Failure::usage(anyhow::anyhow!(why)));
    }
    args.guard.check(args.node_name.is_some())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let region = region(args).await?;
    let node = node::identity(args)?;
    let roots = match &args.ca_file {
        None => None,
        Some(path) => Some(std::fs::read(path).map_err(|error| {
            let text = format!("{} cannot be read", path.display());
            Failure::usage(anyhow::Error::new(error).context(text))
        })?),
    };
    let endpoint = match &args.endpoint {
        Some(url) => Endpoint::of_url(url),
        None => Endpoint::of_region(&region),
    }
    .map_err(Failure::usage)?;
    tracing::info!(
        cluster = args.cluster_name,
        endpoint = endpoint.authority(),
        region,
        "the auth service"
    );
    let auth = EksAuth::new(
        &args.cluster_name,
        &region,
        endpoint.clone(),
        roots.as_deref(),
        AuthLimits::default(),
        Arc::clone(&node),
        Arc::clone(&clock),
    )
    .map_err(Failure::usage)?;

    let mut config = AgentConfig::new(Arc::new(auth))
        .for_pods(args.max_pods)
        .max_retention(args.max_credential_retention_before_renewal);
    if let Some(entries) = args.max_cache_size {
        let kept = usize::try_from(entries).unwrap_or(usize::MAX);
        config.cache.capacity = if args.max_credential_retention_before_renewal.is_zero() {
            0
        } else {
            kept
        };
    }
    if let Some(rate) = args.max_service_qps.filter(|rate| *rate > 0) {
        config.calls.per_second = f64::from(rate);
    }
    config.cache.scope = args.cache_scope.into();
    config.listen = args.listen();
    // An address that the operator chose is no name that a hostile resolver could point here.
    let bound = args.bind_hosts.iter().copied();
    config
        .hosts
        .extend(bound.filter(|host| !host.is_unspecified()));
    config.require_ipv4 = args.require_ipv4;
    config.require_ipv6 = args.require_ipv6;
    config.probes = Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), args.probe_port));
    config.metrics = args
        .metrics_address
        .map(|address| SocketAddr::new(address, args.metrics_port));
    if args.link == Link::Manage {
        config.link = Some(Arc::new(Netlink::connect()?));
    }
    config.bind_source = args.bind_source.into();
    if let Some(feeds) = feeds::start(args).await? {
        config.pods = Some(feeds.pods);
        config.keys = Some(feeds.keys);
        config.keys_wanted = Some(feeds.keys_wanted);
    }
    config.guard = guard::configure(args).await?;
    let asking = roles::Asking {
        region: &region,
        endpoint: &endpoint,
        roots: roots.as_deref(),
        node: &node,
        clock: &clock,
    };
    roles::add(args, config.guard.as_mut(), &asking).await?;
    config.handover = args.handover_dir.as_ref().map(|directory| Handover {
        directory: directory.clone(),
        agent: args.cluster_name.clone(),
    });
    if args.watches_associations() {
        let associations = associations(args, &region, roots.as_deref(), node, &clock)?;
        config.associations = Some(Arc::new(associations));
    }
    config.events = Arc::new(Recorded(Events::start(
        &target(&args.events),
        Default::default(),
    )?));
    Ok(config)
}

fn associations(
    args: &RunArgs,
    region: &str,
    roots: Option<&[u8]>,
    node: Arc<NodeIdentity>,
    clock: &Arc<dyn Clock>,
) -> Result<EksAssociations, Failure> {
    let endpoint = match args.eks_endpoint.as_ref().or(args.endpoint.as_ref()) {
        Some(url) => Endpoint::of_url(url),
        None => Endpoint::of_eks_api(region),
    }
    .map_err(Failure::usage)?;
    let limits = AuthLimits::default();
    let api = EksApi::new(region, endpoint, roots, limits, node, Arc::clone(clock))
        .map_err(Failure::usage)?;
    EksAssociations::new(&args.cluster_name, api).map_err(Failure::usage)
}

/// The region: of the flag, the environment, the profile, or the instance.
async fn region(args: &RunArgs) -> Result<String, Failure> {
    if let Some(region) = args.region.as_ref().filter(|region| !region.is_empty()) {
        return Ok(region.clone());
    }
    let found = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    found.region().map(ToString::to_string).ok_or_else(|| {
        Failure::usage(anyhow::anyhow!(
            "no region: give --region, or set AWS_REGION"
        ))
    })
}

fn refused(error: StartError) -> Failure {
    let hint = match &error {
        StartError::Link(_) => Some(
            "CAP_NET_ADMIN is needed to make the link; `countersign agent init` makes it beforehand",
        ),
        StartError::Bind { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Some("CAP_NET_BIND_SERVICE is needed for port 80")
        }
        _ => None,
    };
    let failure = Failure::unknown(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Tokens and credentials in memory must not come into a file on the node. Where the kernel does not offer it, there is no such
/// file either.
fn no_memory_in_core_dumps() {
    let _ = std::fs::write("/proc/self/coredump_filter", "0");
}

fn target(text: &str) -> EventTarget {
    match text {
        "stderr" => EventTarget::Stderr,
        "off" => EventTarget::Off,
        path => EventTarget::File(PathBuf::from(Path::new(path))),
    }
}

/// Decisions as lines of JSON, written by a thread of their own.
struct Recorded(Events);

impl DecisionLog for Recorded {
    fn record(&self, decision: &Decision<'_>) {
        if self.0.enabled() {
            self.0.send(decision.to_json());
        }
    }
}

//! `agent init` and `agent deinit`: the link without the agent.

use clap::Args;
use countersign_agent::link::{IPV4, IPV6, LINK, Netlink, Network, remove, set_up};

use crate::commands::settings;
use crate::exit::Exit;
use crate::logging::{self, LogFormat};
use crate::report::Failure;

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Fail when the IPv6 address cannot be set up.
    #[arg(long)]
    require_ipv6: bool,
    /// Log level: panic, error, warn, info, debug, trace.
    #[arg(short, long, default_value = "info", value_name = "LEVEL")]
    verbosity: String,
}

pub(super) fn init(args: &InitArgs) -> Result<Exit, Failure> {
    start_logging(&args.verbosity, LogFormat::default())?;
    settings::block_on(async {
        let network = Netlink::connect()?;
        make(&network, args.require_ipv6).await?;
        Ok(Exit::Fine)
    })
}

/// Both addresses; only IPv4 is necessary unless the caller says so.
async fn make(network: &dyn Network, require_ipv6: bool) -> Result<(), Failure> {
    for address in [IPV4, IPV6] {
        match set_up(network, LINK, address).await {
            Ok(steps) if steps.is_empty() => {
                tracing::info!(%address, "`{LINK}` was set up already")
            }
            Ok(_) => tracing::info!(%address, "`{LINK}` is set up"),
            Err(error) if address.is_ipv6() && !require_ipv6 => {
                tracing::warn!(%address, error = &error as &dyn std::error::Error, "`{LINK}` has no IPv6 address");
            }
            Err(error) => {
                return Err(Failure::unknown(error).hint("CAP_NET_ADMIN is needed for this"));
            }
        }
    }
    Ok(())
}

pub(super) fn deinit() -> Result<Exit, Failure> {
    start_logging("info", LogFormat::default())?;
    settings::block_on(async {
        let network = Netlink::connect()?;
        let was_there = remove(&network, LINK)
            .await
            .map_err(|error| Failure::unknown(error).hint("CAP_NET_ADMIN is needed for this"))?;
        if was_there {
            tracing::info!("`{LINK}` is removed, and its addresses and routes with it");
        } else {
            tracing::info!("there is no `{LINK}`");
        }
        Ok(Exit::Fine)
    })
}

pub(super) fn start_logging(level: &str, format: LogFormat) -> Result<(), Failure> {
    let known = logging::level(level)
        .ok_or_else(|| Failure::usage(anyhow::anyhow!("`{level}` is no log level")))?;
    logging::start(known, format);
    Ok(())
}

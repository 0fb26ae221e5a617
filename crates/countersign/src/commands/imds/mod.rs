//! `countersign imds`: what closes instance metadata for pods, how kube2iam and kiam are replaced, and who still depends on the
//! node's role.

mod advise;
mod boot;
mod facts;
mod migrate;
mod node;
mod plan;
mod probe;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_agent::guard::{BLOCKED_FILE, BlockedWorkload};
use countersign_client::{Io, Process};

use crate::exit::Exit;
use crate::output::{OutputFormat, columns};
use crate::report::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum ImdsCommand {
    /// Check a cluster, a node or what a pod gets, and print what closes instance metadata.
    Advise(Box<advise::AdviseArgs>),
    /// Plan the way from kube2iam or kiam to EKS Pod Identity: who has which role, what is in the way, steps with their undo.
    Plan(plan::PlanArgs),
    /// Show who asked for the node's role or secrets. On the node.
    Blocked(BlockedArgs),
    /// Remove the packet filter rules that kube2iam or kiam left on this node; plan first. On the node.
    Migrate(migrate::MigrateArgs),
    /// Drop pods' requests on this node until an agent answers them. Doing it twice is doing it once. On the node.
    Drop(boot::DropArgs),
    /// Print the unit of systemd that runs `imds drop` before kubelet.
    Unit(boot::UnitArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BlockedArgs {
    /// Where the agent keeps the list (`--imds-state-dir` of the agent).
    #[arg(long, default_value = "/run/countersign", value_name = "DIR")]
    state_dir: PathBuf,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(crate) fn run(
    command: &ImdsCommand,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    match command {
        ImdsCommand::Advise(args) => advise::run(args, process, io),
        ImdsCommand::Plan(args) => plan::run(args, io.stdout),
        ImdsCommand::Blocked(args) => blocked(args, io.stdout),
        ImdsCommand::Migrate(args) => migrate::run(args, io.stdout),
        ImdsCommand::Drop(args) => boot::drop_now(args, io.stdout),
        ImdsCommand::Unit(args) => boot::unit(args, io.stdout),
    }
}

fn blocked(args: &BlockedArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let path = args.state_dir.join(BLOCKED_FILE);
    let list: Vec<BlockedWorkload> = match facts::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| {
            let text = format!("{} is no list of the agent's", path.display());
            Failure::usage(anyhow::Error::new(error).context(text))
        })?,
        // The agent writes it with the first request that it refuses.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && args.state_dir.is_dir() => {
            Vec::new()
        }
        Err(error) => {
            let text = format!("{} cannot be read", path.display());
            return Err(Failure::usage(anyhow::Error::new(error).context(text))
                .hint("the list is on the node, and readable by root"));
        }
    };
    args.output.write(out, &list, |out| {
        let head = [
            "NAMESPACE",
            "SERVICE ACCOUNT",
            "LAST POD",
            "CREDENTIALS",
            "SECRETS",
            "ANSWER",
            "LAST",
        ];
        let rows = list.iter().map(|workload| {
            [
                workload.namespace.clone(),
                workload.service_account.clone(),
                workload.pod.clone(),
                workload.credentials.to_string(),
                workload.secrets.to_string(),
                if workload.passed_on {
                    "passed on"
                } else {
                    "refused"
                }
                .to_owned(),
                workload.last.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            ]
        });
        columns(out, head, rows)
    })?;
    Ok(if list.is_empty() {
        Exit::Fine
    } else {
        Exit::No
    })
}

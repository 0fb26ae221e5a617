//! `countersign imds`: what closes instance metadata for pods, how kube2iam and kiam are replaced, and who still depends on the
//! node's role.

mod advise;
mod facts;
mod plan;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_agent::guard::{BLOCKED_FILE, BlockedWorkload};

use crate::exit::Exit;
use crate::output::{OutputFormat, columns};
use crate::report::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum ImdsCommand {
    /// Check a cluster, and print what closes instance metadata: EC2's options, Terraform, policies, the node's unit.
    Advise(advise::AdviseArgs),
    /// Plan the way from kube2iam or kiam to EKS Pod Identity: who has which role, what is in the way, steps with their undo.
    Plan(plan::PlanArgs),
    /// Show who asked for the node's role or secrets. On the node.
    Blocked(BlockedArgs),
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

pub(crate) fn run(command: &ImdsCommand, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        ImdsCommand::Advise(args) => advise::run(args, out),
        ImdsCommand::Plan(args) => plan::run(args, out),
        ImdsCommand::Blocked(args) => blocked(args, out),
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

//! `countersign agent`: credentials of EKS Pod Identity on a node.

mod feeds;
mod flags;
mod guard;
mod link;
mod manifest;
mod network_policy;
mod node;
mod roles;
mod run;
mod taint;
mod top;

use std::io::Write;

use clap::Subcommand;

pub(super) use guard::FilterFlag;

use crate::exit::Exit;
use crate::report::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Serve credentials to the pods of this node; flags of the eks-pod-identity-agent work unchanged.
    #[command(alias = "server")]
    Run(Box<flags::RunArgs>),
    /// Make the link, addresses and routes of the endpoint. Doing it twice is doing it once; `run` does it by itself.
    #[command(alias = "initialize")]
    Init(link::InitArgs),
    /// Remove the link with its addresses and routes.
    Deinit,
    /// Show which pods of this node use their credentials, and how often. On the node, over the probe port.
    Top(top::TopArgs),
    /// Print the network policies and proxy settings with which pods reach the endpoint.
    #[command(name = "network-policy")]
    NetworkPolicy(network_policy::NetworkPolicyArgs),
    /// Print the DaemonSet and what it needs.
    Manifest(manifest::ManifestArgs),
    /// Print the version.
    #[command(hide = true)]
    Version,
}

pub(crate) fn run(command: AgentCommand, stdout: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        AgentCommand::Run(args) => run::run(*args),
        AgentCommand::Init(args) => link::init(&args),
        AgentCommand::Deinit => link::deinit(),
        AgentCommand::Top(args) => top::run(&args, stdout),
        AgentCommand::NetworkPolicy(args) => network_policy::run(&args, stdout),
        AgentCommand::Manifest(args) => manifest::run(&args, stdout),
        AgentCommand::Version => {
            writeln!(stdout, "{}", env!("CARGO_PKG_VERSION"))?;
            Ok(Exit::Fine)
        }
    }
}

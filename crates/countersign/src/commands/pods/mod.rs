//! `countersign pods`: credentials of pods, why they have them or not, and plans that change that.
//!
//! The commands gather facts, print, and carry plans out; `countersign_podreview` decides.

mod associate;
mod aws;
mod cluster;
mod enable_irsa;
mod explain;
mod makers;
mod manifests;
mod migrate;
mod run;
mod trust;
mod wait;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_client::{Io, Process};

use crate::exit::Exit;
use crate::report::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum PodsCommand {
    /// Show why a pod has credentials of AWS or none: service account, mutation, token, provider, trust policy, role, agent.
    Explain(explain::ExplainArgs),
    /// Give a service account a role by EKS Pod Identity; checks the trust policy first.
    Associate(associate::AssociateArgs),
    /// Write, apply or check the trust policy of a role for pods.
    Trust(trust::TrustArgs),
    /// Move service accounts between IRSA and EKS Pod Identity, or away from kube2iam and kiam; plan first.
    Migrate(migrate::MigrateArgs),
    /// Give an add-on that uses the node's role one of its own by IRSA.
    #[command(name = "enable-irsa")]
    EnableIrsa(enable_irsa::EnableIrsaArgs),
}

/// The AWS side: AWS's APIs, or any others that speak like them.
#[derive(Debug, Args)]
pub(in crate::commands) struct AwsArgs {
    /// The cluster: its name, or its ARN.
    #[arg(long, env = "COUNTERSIGN_CLUSTER", value_name = "CLUSTER")]
    cluster: Option<String>,
    /// The region; `AWS_REGION`, or that of the profile by default.
    #[arg(long, value_name = "REGION")]
    pub(in crate::commands) region: Option<String>,
    /// The AWS profile.
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// Another endpoint of the EKS API and IAM; `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_EKS` and `_IAM` name one as well.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
}

/// The Kubernetes side.
#[derive(Debug, Args)]
struct KubernetesArgs {
    /// The kubeconfig of the cluster; `KUBECONFIG` and `~/.kube/config` by default.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
}

pub(crate) fn run(
    command: &PodsCommand,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    countersign_server::install_crypto();
    match command {
        PodsCommand::Explain(args) => explain::run(args, process, io),
        PodsCommand::Associate(args) => associate::run(args, process, io),
        PodsCommand::Trust(args) => trust::run(args, process, io),
        PodsCommand::Migrate(args) => migrate::run(args, process, io),
        PodsCommand::EnableIrsa(args) => enable_irsa::run(args, process, io),
    }
}

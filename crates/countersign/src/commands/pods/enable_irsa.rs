//! `countersign pods enable-irsa`: an add-on with a role of its own.

use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use countersign_client::{Io, Process};
use countersign_podreview::Fact;
use countersign_podreview::plan::{Addon, AddonFacts, AddonRequest, enable_irsa};

use super::run::{Runner, finish};
use super::{AwsArgs, KubernetesArgs, cluster, wait};
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

/// Add-ons that are known to run with the rights of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AddonName {
    /// The VPC CNI, `kube-system/aws-node`.
    AwsNode,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign pods enable-irsa aws-node --cluster demo\n  \
    countersign pods enable-irsa aws-node --cluster demo --detach-from-node-role arn:aws:iam::111122223333:role/node --yes\n\n\
    Shows the steps, and does them with --yes: the provider of the cluster's issuer, a role whose trust policy lets in the add-on's service\n\
    account alone, its managed policy, the annotation, a restart of the DaemonSet. With --detach-from-node-role it then waits until every\n\
    pod is new, ready and has the role, and only then takes the policy from the nodes' role. What is there already is not done again.\n\n\
    Exit codes: 0 done, or nothing to do; 1 something is to do or in the way; 2 usage; 3 could not find out, or a step failed.")]
pub(crate) struct EnableIrsaArgs {
    /// The add-on.
    #[arg(value_enum)]
    addon: AddonName,
    /// Name of the role; `CLUSTER-ADDON` by default. One that is there is used, its trust policy completed.
    #[arg(long, value_name = "NAME")]
    role_name: Option<String>,
    /// The role of the nodes, from which the policy is taken at the end.
    #[arg(long, value_name = "ARN")]
    detach_from_node_role: Option<String>,
    /// Seconds to wait for the pods.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Do it.
    #[arg(short, long, visible_alias = "approve")]
    yes: bool,
    #[command(flatten)]
    aws: AwsArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(super) fn run(
    args: &EnableIrsaArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    let name = args.aws.required()?;
    let AddonName::AwsNode = args.addon;
    let addon = Addon::AWS_NODE;
    let workloads = args.kubernetes.connect()?;
    let aws = args.aws.connect(process, io)?;
    let cluster = aws.required_cluster(name)?;
    let own = cluster.account().to_owned();
    if let Some(node_role) = &args.detach_from_node_role {
        match aws.role(node_role, Some(&own)) {
            Fact::Known(role) if role.arn == *node_role => {}
            Fact::Known(role) => {
                return Err(Failure::usage(anyhow!(
                    "the role of this name is {}, not {node_role}",
                    role.arn
                )));
            }
            Fact::Missing => return Err(Failure::usage(anyhow!("{node_role} does not exist"))),
            other => {
                let reason = other.unread().unwrap_or_default().to_owned();
                return Err(Failure::unknown(anyhow!(
                    "{node_role} could not be read: {reason}"
                )));
            }
        }
    }
    let role_name = match &args.role_name {
        Some(name) => name.clone(),
        // Names of roles have at most 64 characters.
        None => format!("{}-{}", cluster.name, addon.name)
            .chars()
            .take(64)
            .collect(),
    };
    let role = aws.role_named(&role_name);
    let attached = match &role {
        Fact::Known(_) => aws.attached(&role_name)?,
        _ => Vec::new(),
    };
    let node_attached = match &args.detach_from_node_role {
        Some(arn) => aws.attached(arn.rsplit('/').next().unwrap_or_default())?,
        None => Vec::new(),
    };
    let pods_have_role = match &role {
        Fact::Known(role) => {
            wait::pods_have_role(&workloads, addon.namespace, addon.daemon_set, &role.arn)?
        }
        _ => false,
    };
    let facts = AddonFacts {
        provider: match cluster.provider_arn(&own) {
            Some(arn) => aws.provider(&arn, Some(&own)),
            None => Fact::Unasked,
        },
        account: cluster::account(&workloads, addon.namespace, addon.service_account),
        role,
        attached,
        node_attached,
        pods_have_role,
        cluster,
    };
    let request = AddonRequest {
        addon,
        role_name,
        detach_from: args.detach_from_node_role.clone(),
    };
    let plan = enable_irsa(&request, &facts);
    let runner = Runner {
        aws: &aws,
        kubernetes: Some(&workloads),
        clock: process.clock,
        patience: Duration::from_secs(args.timeout),
    };
    finish(plan, args.yes, &runner, args.output, io)
}

//! `countersign pods migrate`: service accounts from one way of getting credentials to another.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use countersign_client::{Io, Process};
use countersign_podreview::plan::{
    Direction, From, Inventory, MigrateOptions, To, migrate, wanted_roles,
};
use countersign_podreview::{AccountFacts, PodFacts, is_namespace};
use countersign_sources::kubernetes::{WorkloadKind, Workloads};
use serde_json::Value;

use super::aws::Aws;
use super::run::{Runner, finish};
use super::{AwsArgs, KubernetesArgs};
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FromArg {
    Irsa,
    PodIdentity,
    Kube2iam,
    Kiam,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ToArg {
    PodIdentity,
    Irsa,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign pods migrate --from irsa --to pod-identity --cluster demo\n  \
    countersign pods migrate --from irsa --to pod-identity --cluster demo -n shop --yes --restart\n  \
    countersign pods migrate --from kube2iam --to pod-identity --cluster demo -o json\n\n\
    Shows the steps in the order in which they are safe, and does them with --yes: trust statements beside the old ones, associations or\n\
    annotations, restarts. What is there already is not done again. Every step that was done is followed by the command that undoes it.\n\
    Service accounts that pods with different roles share are left out and told: split them first.\n\n\
    Exit codes: 0 done, or nothing to do; 1 something is to do or left out; 2 usage; 3 could not find out, or a step failed.")]
pub(crate) struct MigrateArgs {
    /// Where credentials come from now.
    #[arg(long, value_enum, value_name = "WAY")]
    from: FromArg,
    /// Where they are to come from.
    #[arg(long, value_enum, value_name = "WAY")]
    to: ToArg,
    /// One namespace; all by default.
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// One service account of that namespace.
    #[arg(short, long, value_name = "NAME", requires = "namespace")]
    service_account: Option<String>,
    /// What stands before short role names of kube2iam and kiam; `arn:aws:iam::ACCOUNT:role/` of the cluster by default.
    #[arg(long, value_name = "PREFIX")]
    base_role_arn: Option<String>,
    /// Restart the workloads whose pods have to be made anew.
    #[arg(long)]
    restart: bool,
    /// Take annotations and OIDC statements away that no pod uses any more.
    #[arg(long)]
    remove_old: bool,
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
    args: &MigrateArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    let direction = Direction {
        from: match args.from {
            FromArg::Irsa => From::Irsa,
            FromArg::PodIdentity => From::PodIdentity,
            FromArg::Kube2iam => From::Kube2iam,
            FromArg::Kiam => From::Kiam,
        },
        to: match args.to {
            ToArg::PodIdentity => To::PodIdentity,
            ToArg::Irsa => To::Irsa,
        },
    };
    if matches!(
        (args.from, args.to),
        (FromArg::Irsa, ToArg::Irsa) | (FromArg::PodIdentity, ToArg::PodIdentity)
    ) {
        return Err(Failure::usage(anyhow!("--from and --to are the same")));
    }
    if let Some(namespace) = args.namespace.as_deref().filter(|name| !is_namespace(name)) {
        return Err(Failure::usage(anyhow!(
            "`{namespace}` cannot be a namespace"
        )));
    }
    let name = args.aws.required()?;
    let workloads = args.kubernetes.connect()?;
    let aws = args.aws.connect(process, io)?;
    let options = MigrateOptions {
        remove_old: args.remove_old,
        restart: args.restart,
        base_role_arn: args.base_role_arn.clone(),
    };
    let inventory = inventory(args, name, direction, &options, &workloads, &aws)?;
    let plan = migrate(&inventory, direction, &options);
    let runner = Runner {
        aws: &aws,
        kubernetes: Some(&workloads),
        clock: process.clock,
        patience: Duration::ZERO,
    };
    finish(plan, args.yes, &runner, args.output, io)
}

fn inventory(
    args: &MigrateArgs,
    name: &str,
    direction: Direction,
    options: &MigrateOptions,
    workloads: &Workloads,
    aws: &Aws<'_>,
) -> Result<Inventory, Failure> {
    let cluster = aws.required_cluster(name)?;
    let namespace = args.namespace.as_deref();
    let account = args.service_account.as_deref();
    let accounts = workloads.list(WorkloadKind::ServiceAccount, namespace, (None, None))?;
    let pods = workloads.list(WorkloadKind::Pod, namespace, (None, None))?;
    let mut inventory = Inventory {
        accounts: accounts.iter().map(AccountFacts::of_object).collect(),
        pods: pods
            .iter()
            .map(PodFacts::of_object)
            .collect::<Result<_, _>>()?,
        associations: aws.associations(name, namespace)?,
        cluster,
        ..Inventory::default()
    };
    if let Some(account) = account {
        inventory.accounts.retain(|own| own.name == account);
        inventory.pods.retain(|pod| pod.service_account == account);
        inventory
            .associations
            .retain(|association| association.service_account == account);
    }
    if matches!(direction.from, From::Kube2iam | From::Kiam) {
        inventory.namespaces = namespaces(workloads, namespace)?;
    }
    let own = inventory.cluster.account().to_owned();
    for role in wanted_roles(&inventory, direction, options) {
        let known = aws.role(&role, Some(&own));
        inventory.roles.insert(role, known);
    }
    if direction.to == To::Irsa
        && let Some(provider) = inventory.cluster.provider_arn(&own)
    {
        inventory.provider = aws.provider(&provider, Some(&own));
    }
    Ok(inventory)
}

/// Annotations of one namespace, or of all.
fn namespaces(
    workloads: &Workloads,
    namespace: Option<&str>,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, Failure> {
    let objects = match namespace {
        Some(name) => {
            let found = workloads.get(WorkloadKind::Namespace, name, name)?;
            found.into_iter().collect()
        }
        None => workloads.list(WorkloadKind::Namespace, None, (None, None))?,
    };
    let annotations = |object: &Value| {
        let pairs = object
            .pointer("/metadata/annotations")
            .and_then(Value::as_object);
        let pairs = pairs.into_iter().flatten();
        pairs
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    Ok(objects
        .iter()
        .filter_map(|object| {
            let name = object.pointer("/metadata/name")?.as_str()?;
            Some((name.to_owned(), annotations(object)))
        })
        .collect())
}

//! `countersign pods explain`: the chain from a pod to its credentials.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use countersign_client::{Io, Process};
use countersign_podreview::explain::{Answer, Facts, explain};
use countersign_podreview::{AccountFacts, Fact, PodFacts};
use countersign_sources::kubernetes::{WorkloadKind, Workloads};
use serde_json::Value;

use super::manifests::Manifests;
use super::{AwsArgs, KubernetesArgs, cluster};
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign pods explain shop/cart-7d4b9 --cluster demo\n  \
    countersign pods explain cart-7d4b9 -n shop --cluster demo -o json\n  \
    countersign pods explain shop/cart --cluster demo --manifests deploy/\n\n\
    Reads the pod, its service account and the agent of its node from the cluster of the kubeconfig, the cluster, associations, roles and\n\
    the provider from the EKS API and IAM. With --manifests the pod, or the template of a workload of that name, comes from files.\n\
    What could not be read is an unknown step, never a yes or a no. What the role may do is not looked at: see `countersign policy`.\n\n\
    Exit codes: 0 every container has working credentials, 1 one has not, 2 usage, 3 could not find out.")]
pub(crate) struct ExplainArgs {
    /// NAMESPACE/POD, or POD with --namespace.
    #[arg(value_name = "NAMESPACE/POD")]
    pod: String,
    /// The namespace; that of the context by default, else `default`.
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Manifests instead of a cluster: a file, a directory, `-` for standard input; may be given again.
    #[arg(long, short = 'f', visible_alias = "filename", value_name = "PATH", conflicts_with_all = ["kubeconfig", "context"])]
    manifests: Vec<PathBuf>,
    #[command(flatten)]
    aws: AwsArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(super) fn run(
    args: &ExplainArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    let (namespace, name) = match (args.pod.split_once('/'), &args.namespace) {
        (Some((namespace, name)), None) => (Some(namespace), name),
        (Some(_), Some(_)) => {
            return Err(Failure::usage(anyhow!(
                "the namespace is named twice: write NAMESPACE/POD, or POD with `--namespace`"
            )));
        }
        (None, namespace) => (namespace.as_deref(), args.pod.as_str()),
    };
    let mut facts = if args.manifests.is_empty() {
        let named = args.kubernetes.kubeconfig.is_some() || args.kubernetes.context.is_some();
        let workloads = args.kubernetes.connect().map_err(|error| match named {
            true => Failure::usage(error),
            false => Failure::unknown(error).hint(
                "name the cluster with `--kubeconfig` and `--context`, or give `--manifests PATH`",
            ),
        })?;
        let namespace = namespace.unwrap_or(&workloads.namespace).to_owned();
        live(&workloads, &namespace, name)?
    } else {
        let manifests = Manifests::read(&args.manifests, io.stdin)?;
        of_manifests(&manifests, namespace.unwrap_or("default"), name)?
    };
    aws(&mut facts, args, process, io);
    let explanation = explain(&facts);
    args.output
        .write(io.stdout, &explanation, |out| write!(out, "{explanation}"))?;
    Ok(match explanation.answer {
        Answer::Yes | Answer::Skipped => Exit::Fine,
        Answer::No => Exit::No,
        Answer::Unknown => Exit::Unknown,
    })
}

fn facts(object: Value) -> Result<Facts, Failure> {
    let pod = PodFacts::of_object(&object).map_err(Failure::usage)?;
    Ok(Facts {
        pod,
        object,
        ..Facts::default()
    })
}

fn live(workloads: &Workloads, namespace: &str, name: &str) -> Result<Facts, Failure> {
    let found = workloads.get(WorkloadKind::Pod, namespace, name);
    let Some(object) = found.map_err(Failure::unknown)? else {
        return Err(
            Failure::no(anyhow!("there is no pod {namespace}/{name}")).hint(format!(
                "`kubectl get pods -n {namespace}` shows those there are"
            )),
        );
    };
    let mut facts = facts(object)?;
    facts.account = cluster::account(workloads, namespace, &facts.pod.service_account);
    facts.agent = cluster::agent(workloads, &facts.pod);
    Ok(facts)
}

fn of_manifests(manifests: &Manifests, namespace: &str, name: &str) -> Result<Facts, Failure> {
    let Some(object) = manifests.pod(namespace, name) else {
        return Err(Failure::no(anyhow!(
            "the manifests have no pod and no workload {namespace}/{name}"
        )));
    };
    let mut facts = facts(object)?;
    facts.account = match manifests.account(namespace, &facts.pod.service_account) {
        Some(account) => Fact::Known(AccountFacts::of_object(account)),
        None => Fact::Unread("the manifests do not have it".to_owned()),
    };
    facts.agent = Fact::Unread("manifests say nothing about nodes".to_owned());
    Ok(facts)
}

/// Everything from AWS's side. Nothing here fails: what cannot be read is told in its step.
fn aws(facts: &mut Facts, args: &ExplainArgs, process: &Process<'_>, io: &mut Io<'_>) {
    let Some((name, _)) = args.aws.named() else {
        let reason = "no cluster is named: give --cluster NAME".to_owned();
        facts.cluster = Fact::Unread(reason.clone());
        facts.association = Fact::Unread(reason);
        return;
    };
    let api = match args.aws.connect(process, io) {
        Ok(api) => api,
        Err(error) => {
            facts.cluster = Fact::Unread(error.to_string());
            facts.association = Fact::Unread(error.to_string());
            for role in facts.wanted_roles() {
                facts.roles.insert(role, Fact::Unread(error.to_string()));
            }
            return;
        }
    };
    facts.cluster = api.cluster(name);
    (facts.association, facts.other_associations) = match &facts.cluster {
        Fact::Missing => {
            let reason = format!("the EKS API has no cluster `{name}`");
            (Fact::Unread(reason), Vec::new())
        }
        _ => {
            let (namespace, account) = (&facts.pod.namespace, &facts.pod.service_account);
            api.association_in_force(name, namespace, account)
        }
    };
    let own = facts
        .cluster
        .known()
        .map(|cluster| cluster.account().to_owned());
    for role in facts.wanted_roles() {
        let known = api.role(&role, own.as_deref());
        facts.roles.insert(role, known);
    }
    for provider in facts.wanted_providers() {
        let known = api.provider(&provider, own.as_deref());
        facts.providers.insert(provider, known);
    }
}

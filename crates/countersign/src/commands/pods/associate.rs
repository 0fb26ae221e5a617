//! `countersign pods associate`: one association.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use countersign_client::{Io, Process};
use countersign_podreview::plan::{AssociateRequest, Association, associate};
use countersign_podreview::{Fact, is_account_name, is_namespace};

use super::AwsArgs;
use super::run::{Runner, finish};
use super::trust::read_file;
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign pods associate --cluster demo --namespace shop --service-account cart --role arn:aws:iam::111122223333:role/cart\n  \
    countersign pods associate ... --create-trust --yes\n\n\
    Shows what it would do, and does it with --yes. An association that is there already is left as it is; with --update it is changed.\n\
    The trust policy is checked first: it has to let pods.eks.amazonaws.com do sts:AssumeRole and sts:TagSession for this account.\n\n\
    Exit codes: 0 done, or there already; 1 something is to do or in the way; 2 usage; 3 could not find out, or a step failed.")]
pub(crate) struct AssociateArgs {
    /// The namespace.
    #[arg(short, long, value_name = "NS")]
    namespace: String,
    /// The service account; it need not exist yet.
    #[arg(short, long, value_name = "NAME")]
    service_account: String,
    /// The role, of the cluster's account.
    #[arg(long, value_name = "ARN")]
    role: String,
    /// A second role, of any account, that the first one assumes.
    #[arg(long, value_name = "ARN")]
    target_role: Option<String>,
    /// Sessions without the six tags of EKS Pod Identity.
    #[arg(long)]
    disable_session_tags: bool,
    /// A session policy; `-` reads standard input. Needs --disable-session-tags.
    #[arg(long, value_name = "FILE", requires = "disable_session_tags")]
    policy: Option<PathBuf>,
    /// Add the statement that the trust policy lacks, for this cluster, namespace and service account alone.
    #[arg(long)]
    create_trust: bool,
    /// Change an association that gives something else.
    #[arg(long)]
    update: bool,
    /// Do it.
    #[arg(short, long, visible_alias = "approve")]
    yes: bool,
    #[command(flatten)]
    aws: AwsArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(super) fn run(
    args: &AssociateArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    let name = args.aws.required()?;
    check_names(&args.namespace, &args.service_account)?;
    let policy = match &args.policy {
        Some(path) => Some(read_file(path, io.stdin)?),
        None => None,
    };
    let aws = args.aws.connect(process, io)?;
    let cluster = aws.required_cluster(name)?;
    let existing = match aws.association(name, &args.namespace, &args.service_account) {
        Fact::Known(existing) => Some(existing),
        Fact::Missing => None,
        other => {
            let reason = other.unread().unwrap_or_default().to_owned();
            return Err(Failure::unknown(anyhow!(
                "the associations could not be read: {reason}"
            )));
        }
    };
    let role = aws.role(&args.role, Some(cluster.account()));
    let request = AssociateRequest {
        association: Association {
            cluster: cluster.name.clone(),
            namespace: args.namespace.clone(),
            service_account: args.service_account.clone(),
            role_arn: args.role.clone(),
            target_role_arn: args.target_role.clone(),
            disable_session_tags: args.disable_session_tags.then_some(true),
            policy,
        },
        update: args.update,
        create_trust: args.create_trust,
    };
    let plan = associate(&request, &cluster, existing.as_ref(), &role);
    let runner = Runner {
        aws: &aws,
        kubernetes: None,
        clock: process.clock,
        patience: Duration::ZERO,
    };
    finish(plan, args.yes, &runner, args.output, io)
}

pub(super) fn check_names(namespace: &str, account: &str) -> Result<(), Failure> {
    if !is_namespace(namespace) {
        return Err(Failure::usage(anyhow!(
            "`{namespace}` cannot be a namespace"
        )));
    }
    if !is_account_name(account) {
        return Err(Failure::usage(anyhow!(
            "`{account}` cannot be the name of a service account"
        )));
    }
    Ok(())
}

//! `countersign pods associate`: one association.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use countersign_client::{Io, Process};
use countersign_podreview::plan::{AssociateRequest, Association, associate};
use countersign_podreview::{Fact, SessionSettings, is_account_name, is_namespace};

use super::AwsArgs;
use super::run::{Runner, finish};
use super::trust::read_file;
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign pods associate --cluster demo --namespace shop --service-account cart --role arn:aws:iam::111122223333:role/cart\n  \
    countersign pods associate ... --create-trust --yes\n  \
    countersign pods associate --cluster demo -n 'dev-*' -s '*' --role ... --session-name-template '{namespace}-{pod}' \\\n    \
    --session-tags kubernetes-namespace,kubernetes-service-account --extra-session-tag 'app={label:app}' --duration-seconds 3600\n\n\
    Shows what it would do, and does it with --yes. An association that is there already is left as it is; with --update it is changed.\n\
    The trust policy is checked first: it has to let pods.eks.amazonaws.com do sts:AssumeRole and sts:TagSession for this account.\n\n\
    Exit codes: 0 done, or there already; 1 something is to do or in the way; 2 usage; 3 could not find out, or a step failed.")]
pub(crate) struct AssociateArgs {
    /// The namespace. On Countersign's own EKS API also a pattern, the beginning of names and `*`: an association that names a service
    /// account exactly comes before it, and a pattern with more characters before one with fewer.
    #[arg(short, long, value_name = "NS")]
    namespace: String,
    /// The service account, which need not exist yet; or a pattern, as for the namespace.
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
    #[command(flatten)]
    sessions: SessionArgs,
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

/// What only Countersign's own EKS API takes; AWS passes over it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sessions, on Countersign's own EKS API")]
struct SessionArgs {
    /// How sessions are called: {cluster}, {namespace}, {service_account}, {pod}, {pod_uid8}, {uuid}, and letters, digits and
    /// characters of _+=,.@-. Cut to 64 characters. Without {uuid} the name stays the same when credentials are renewed.
    #[arg(long, value_name = "TEMPLATE")]
    session_name_template: Option<String>,
    /// Which of the six tags sessions have, all by default; their sum counts towards the packed policy size of AWS.
    #[arg(
        long,
        value_name = "KEY,...",
        value_delimiter = ',',
        conflicts_with = "disable_session_tags"
    )]
    session_tags: Option<Vec<String>>,
    /// A tag beside the six: a constant, or `{label:KEY}` for a label of the pod. Who may change the pod's labels chooses the
    /// value. May be given again.
    #[arg(
        long,
        value_name = "KEY=VALUE",
        value_parser = tag,
        conflicts_with = "disable_session_tags"
    )]
    extra_session_tag: Vec<(String, String)>,
    /// How long sessions last, 900 to 43200 seconds; with --target-role at most 3600.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(900..=43_200))]
    duration_seconds: Option<u32>,
}

impl SessionArgs {
    fn settings(&self) -> SessionSettings {
        SessionSettings {
            session_name_template: self.session_name_template.clone(),
            session_tags: self.session_tags.clone(),
            extra_session_tags: self.extra_session_tag.iter().cloned().collect(),
            duration_seconds: self.duration_seconds,
        }
    }
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// A name to be checked in the place of a pattern: what stands before the `*`, as a name that begins like it.
fn literal(name: &str) -> &str {
    match name.strip_suffix('*') {
        None => name,
        Some(begin) => match begin.trim_end_matches(['-', '.']) {
            "" if begin.is_empty() => "a",
            begin => begin,
        },
    }
}

pub(super) fn run(
    args: &AssociateArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    let name = args.aws.required()?;
    check_names(literal(&args.namespace), literal(&args.service_account))?;
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
            sessions: Box::new(args.sessions.settings()),
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

//! `countersign access rebind`: a dead entry to the principal that has its name now.

use std::io::Write;

use anyhow::anyhow;
use clap::Args;
use countersign_arn::AccountId;
use countersign_arn::CallerArn;
use countersign_review::{AccessSnapshot, EntryBinding};
use countersign_server::admin::{AdminAnswer, AdminOp};
use serde::Serialize;

use super::super::local::{LocalArgs, unexpected};
use super::super::settings;
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign access rebind --cluster demo arn:aws:iam::111122223333:role/team/Dev\n  \
    countersign access rebind --cluster demo arn:aws:iam::111122223333:role/team/Dev --yes\n\n\
    An entry belongs to a principal's unique id, not to its name, so that a name which somebody makes again does not inherit access.\n\
    When it was you who made it again, this says so. Without --yes it shows from which id to which, and changes nothing. The server logs\n\
    the change. Where AWS keeps the principals, look the id up (`aws iam get-role --role-name Dev`) and give it with --to.\n\n\
    Exit codes: 0 bound, or bound so already; 1 without --yes; 2 usage; 3 could not find out.")]
pub(crate) struct RebindArgs {
    /// The principal ARN of the entry, as `access list` shows it.
    #[arg(value_name = "PRINCIPAL_ARN")]
    principal_arn: String,
    /// The cluster: its name, or its ARN.
    #[arg(long, env = "COUNTERSIGN_CLUSTER", value_name = "CLUSTER")]
    cluster: Option<String>,
    /// The account of the cluster, where several have one of the name.
    #[arg(long, value_name = "12 DIGITS")]
    account: Option<AccountId>,
    /// The unique id, where the server does not know the principal.
    #[arg(long, value_name = "AROA…|AIDA…")]
    to: Option<String>,
    /// Do it.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    cluster: String,
    principal_arn: String,
    from: Option<String>,
    to: String,
    done: bool,
}

pub(super) fn run(args: &RebindArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    settings::block_on(async {
        let op = AdminOp::ShowAccess {
            account: args.account,
            cluster: args.cluster.clone(),
            principal: Some(args.principal_arn.clone()),
        };
        let AdminAnswer::Access(snapshot) = args.local.run(&op).await? else {
            return Err(unexpected());
        };
        let mut report = plan(args, &snapshot)?;
        if report.from.as_deref() == Some(&*report.to) {
            args.output.write(out, &report, |out| {
                writeln!(out, "bound to {} already", report.to)
            })?;
            return Ok(Exit::Fine);
        }
        if args.yes {
            let op = AdminOp::RebindAccessEntry {
                account: args.account,
                cluster: args.cluster.clone(),
                principal_arn: args.principal_arn.clone(),
                from: report.from.clone(),
                to: report.to.clone(),
            };
            let AdminAnswer::AccessEntryRebound { .. } = args.local.run(&op).await? else {
                return Err(unexpected());
            };
            report.done = true;
        }
        args.output.write(out, &report, |out| {
            writeln!(out, "entry  {}", report.principal_arn)?;
            writeln!(out, "from   {}", report.from.as_deref().unwrap_or("nobody"))?;
            writeln!(out, "to     {}", report.to)?;
            match report.done {
                true => writeln!(out, "bound"),
                false => writeln!(out, "nothing is changed yet: give --yes to do it"),
            }
        })?;
        Ok(if report.done { Exit::Fine } else { Exit::No })
    })
}

/// From which id to which.
fn plan(args: &RebindArgs, snapshot: &AccessSnapshot) -> Result<Report, Failure> {
    let entry = snapshot
        .entries
        .iter()
        .find(|entry| entry.principal_arn == args.principal_arn);
    let cluster = &snapshot.cluster.name;
    let Some(entry) = entry else {
        return Err(Failure::usage(anyhow!(
            "cluster `{cluster}` has no access entry for `{}`",
            args.principal_arn
        ))
        .hint("`countersign access list` shows them; the ARN has the path, as it was given"));
    };
    let now = CallerArn::parse(&args.principal_arn)
        .ok()
        .and_then(|wanted| {
            let same = |arn: &str| {
                CallerArn::parse(arn).is_ok_and(|arn| {
                    arn.canonical_without_role_path()
                        .eq_ignore_ascii_case(&wanted.canonical_without_role_path())
                })
            };
            snapshot
                .principals
                .iter()
                .find(|told| same(&told.principal_arn))
        });
    let to = match (&args.to, now.map(|told| told.principal_id.as_deref())) {
        (Some(to), _) => to.clone(),
        (None, Some(Some(id))) => id.to_owned(),
        (None, Some(None)) => {
            return Err(
                Failure::usage(anyhow!("IAM has no principal `{}`", args.principal_arn))
                    .hint("make the role or user first"),
            );
        }
        (None, None) => {
            return Err(Failure::usage(anyhow!(
                "the server does not keep the principals of this account"
            ))
            .hint("look its unique id up, for example with `aws iam get-role`, and give it with `--to`"));
        }
    };
    Ok(Report {
        cluster: cluster.clone(),
        principal_arn: args.principal_arn.clone(),
        from: match &entry.binding {
            EntryBinding::Unbound | EntryBinding::Unknown => None,
            EntryBinding::Bound { principal_id } | EntryBinding::Dead { principal_id, .. } => {
                Some(principal_id.clone())
            }
        },
        to,
        done: false,
    })
}

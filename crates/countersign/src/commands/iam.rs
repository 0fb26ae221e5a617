//! `countersign iam`: all of IAM in an account as one document, out and in.

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use countersign_arn::AccountId;
use countersign_server::admin::{AdminAnswer, AdminOp, ImportOptions};

use super::local::{LocalArgs, unexpected};
use super::settings;
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

/// Longest document that is read.
const MAX_DOCUMENT: u64 = 48 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum IamCommand {
    /// The managed policies of AWS.
    #[command(subcommand, name = "managed-policies")]
    ManagedPolicies(super::managed_policies::ManagedPoliciesCommand),
    /// Print all users, groups, roles and policies of an account, as `aws iam get-account-authorization-details` does.
    Export(ExportArgs),
    /// Make the users, groups, roles and policies that such a document describes.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  countersign iam export --account 111122223333 -o json > iam.json\n\n\
    Keys, passwords, MFA devices and identity providers are not in it; `countersign store backup` has everything."
)]
pub(crate) struct ExportArgs {
    /// The account; the only one there is by default.
    #[arg(long, value_name = "12 DIGITS")]
    account: Option<AccountId>,
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: DocumentFormat,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  aws iam get-account-authorization-details > iam.json\n  \
    countersign iam import --from iam.json --keep-ids --dry-run\n\n\
    Everything is checked before anything is made. Names, paths, documents and dates are kept; policies of AWS that are\n\
    attached must be here already."
)]
pub(crate) struct ImportArgs {
    /// The document; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The account that the document must be of; the one that its ARNs name by default.
    #[arg(long, value_name = "12 DIGITS")]
    account: Option<AccountId>,
    /// Keep the unique ids of the document, so that what names them still means the same.
    #[arg(long)]
    keep_ids: bool,
    /// Leave entities that exist as they are, instead of refusing the import.
    #[arg(long)]
    skip_existing: bool,
    /// Say what would be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// There is one form of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DocumentFormat {
    /// As the AWS CLI prints it.
    #[default]
    Json,
}

pub(crate) fn run(command: &IamCommand, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        IamCommand::ManagedPolicies(command) => {
            return super::managed_policies::run(command, out);
        }
        IamCommand::Export(args) => {
            let DocumentFormat::Json = args.output;
            let op = AdminOp::ExportIam {
                account: args.account,
            };
            let AdminAnswer::IamExported { document } = settings::block_on(args.local.run(&op))?
            else {
                return Err(unexpected());
            };
            writeln!(out, "{document}")?;
        }
        IamCommand::Import(args) => {
            let op = AdminOp::ImportIam {
                document: read(&args.from)?,
                options: ImportOptions {
                    account: args.account,
                    keep_ids: args.keep_ids,
                    skip_existing: args.skip_existing,
                    dry_run: args.dry_run,
                },
            };
            let AdminAnswer::IamImported(report) = settings::block_on(args.local.run(&op))? else {
                return Err(unexpected());
            };
            let made = if report.dry_run { "would make" } else { "made" };
            args.output.write(out, &report, |out| {
                for arn in &report.made {
                    writeln!(out, "{made}  {arn}")?;
                }
                for arn in &report.skipped {
                    writeln!(out, "exists  {arn}")?;
                }
                Ok(())
            })?;
        }
    }
    Ok(Exit::Fine)
}

fn read(from: &Path) -> Result<String, Failure> {
    let shown = from.display().to_string();
    let mut text = String::new();
    let read = if from == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MAX_DOCUMENT.saturating_add(1))
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(from).and_then(|file| {
            file.take(MAX_DOCUMENT.saturating_add(1))
                .read_to_string(&mut text)
        })
    };
    read.with_context(|| format!("could not read `{shown}`"))
        .map_err(Failure::usage)?;
    if text.len() as u64 > MAX_DOCUMENT {
        return Err(Failure::usage(anyhow::anyhow!(
            "`{shown}` has more than {MAX_DOCUMENT} bytes"
        ))
        .hint("import it in parts, groups and policies first"));
    }
    Ok(text)
}

//! `countersign root-key`: access keys of the root user, made on the server's machine and by no API.

use std::io::Write;

use clap::{Args, Subcommand};
use countersign_arn::AccountId;
use countersign_server::admin::{AdminAnswer, AdminOp};
use serde_json::json;

use super::local::{LocalArgs, unexpected};
use super::settings;
use crate::exit::Exit;
use crate::output::{OutputFormat, pairs};
use crate::report::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum RootKeyCommand {
    /// Make an access key for the root user of an account, and print it once.
    Create(CreateArgs),
    /// List the root user's access keys.
    List(ListArgs),
    /// Delete an access key of the root user.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  countersign root-key create --account 111122223333 -o json\n\n\
    Root may do everything in its account and no policy limits it. Delete the key when you are done."
)]
pub(crate) struct CreateArgs {
    /// The account.
    #[arg(long, value_name = "12 DIGITS")]
    account: AccountId,
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  countersign root-key list --account 111122223333")]
pub(crate) struct ListArgs {
    /// The account.
    #[arg(long, value_name = "12 DIGITS")]
    account: AccountId,
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  countersign root-key delete --account 111122223333 --key-id AKIARTX3GSDSXFDOCIS2"
)]
pub(crate) struct DeleteArgs {
    /// The account.
    #[arg(long, value_name = "12 DIGITS")]
    account: AccountId,
    /// The access key's id.
    #[arg(long, value_name = "AKIA…")]
    key_id: String,
    #[command(flatten)]
    local: LocalArgs,
}

pub(crate) fn run(command: &RootKeyCommand, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        RootKeyCommand::Create(args) => {
            let op = AdminOp::CreateRootKey {
                account: args.account,
            };
            let AdminAnswer::RootKeyCreated(key) = settings::block_on(args.local.run(&op))? else {
                return Err(unexpected());
            };
            args.output.write(out, &key, |out| {
                pairs(
                    out,
                    &[
                        ("arn", key.arn.clone()),
                        ("access key id", key.access_key_id.clone()),
                        (
                            "secret access key",
                            key.secret_access_key.expose().to_owned(),
                        ),
                    ],
                )
            })?;
        }
        RootKeyCommand::List(args) => {
            let op = AdminOp::ListRootKeys {
                account: args.account,
            };
            let AdminAnswer::RootKeys { keys } = settings::block_on(args.local.run(&op))? else {
                return Err(unexpected());
            };
            args.output
                .write(out, &json!({ "accessKeys": keys }), |out| {
                    for key in &keys {
                        writeln!(
                            out,
                            "{}  {}  {}",
                            key.access_key_id, key.status, key.created
                        )?;
                    }
                    if keys.is_empty() {
                        writeln!(out, "The root user has no access keys.")?;
                    }
                    Ok(())
                })?;
        }
        RootKeyCommand::Delete(args) => {
            let op = AdminOp::DeleteRootKey {
                account: args.account,
                access_key_id: args.key_id.clone(),
            };
            let AdminAnswer::RootKeyDeleted {} = settings::block_on(args.local.run(&op))? else {
                return Err(unexpected());
            };
        }
    }
    Ok(Exit::Fine)
}

//! `imds drop` and `imds unit`: a node that is closed to pods before it starts any.

use std::io::Write;

use anyhow::anyhow;
use clap::Args;
use countersign_agent::guard::capture::drop_until_answered;
use countersign_imds::advise::unit_of_program;
use countersign_imds::rules::Interface;

use crate::commands::agent::FilterFlag;
use crate::commands::settings::block_on;
use crate::exit::Exit;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(
    after_help = "Run by the unit that `countersign imds unit` prints, before kubelet. An agent that starts on the node turns the drop into its own\nrules at once, and puts it back when it ends. Use the program that the agent uses: nft where both have it."
)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    rules: RuleArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  countersign imds unit > /etc/systemd/system/countersign-imds-guard.service\n  systemctl enable --now countersign-imds-guard.service\n\n\
                  `countersign imds advise` prints one that needs nft and no countersign on the node."
)]
pub(crate) struct UnitArgs {
    /// Where this program is on the node.
    #[arg(
        long,
        default_value = "/usr/local/bin/countersign",
        value_name = "PATH"
    )]
    program: String,
    #[command(flatten)]
    rules: RuleArgs,
}

#[derive(Debug, Args)]
struct RuleArgs {
    /// What sets the rules.
    #[arg(long, value_enum, default_value_t, value_name = "PROGRAM")]
    filter: FilterFlag,
    /// An interface whose traffic for instance metadata is left alone. Repeatable. None is by default.
    #[arg(long, value_name = "NAME")]
    exempt_interface: Vec<Interface>,
}

pub(super) fn drop_now(args: &DropArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let failed = |error| {
        Failure::unknown(anyhow::Error::new(error))
            .hint("the rules need nftables or iptables, and CAP_NET_ADMIN")
    };
    let changed = block_on(async {
        let exempt = args.rules.exempt_interface.clone();
        let filter = args.rules.filter.filter(exempt).await.map_err(failed)?;
        drop_until_answered(filter).await.map_err(failed)
    })?;
    writeln!(
        out,
        "{}",
        if changed {
            "Pods' requests for instance metadata are dropped until an agent answers them."
        } else {
            "An agent answers pods' requests for instance metadata; nothing was changed."
        }
    )?;
    Ok(Exit::Fine)
}

pub(super) fn unit(args: &UnitArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let rules = &args.rules;
    let unit = unit_of_program(&args.program, rules.filter.name(), &rules.exempt_interface)
        .ok_or_else(|| {
            Failure::usage(anyhow!(
                "`{}` is no path that a unit can name: absolute, of letters, digits and `/._-+`",
                args.program
            ))
        })?;
    out.write_all(unit.as_bytes())?;
    Ok(Exit::Fine)
}

//! `imds migrate`: rules of kube2iam and kiam leave this node, after our own are in.

use std::io::Write;

use anyhow::anyhow;
use clap::Args;
use countersign_agent::guard::capture::{PredecessorRule, inspect, predecessors};
use countersign_imds::node::Rules;
use countersign_podreview::printable;
use serde::Serialize;

use crate::commands::settings::block_on;
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  countersign imds migrate          what would be removed, and what puts it back\n  countersign imds migrate --yes\n\n\
    Run it on the node, as root, when the agent or `countersign imds drop` has set the guard's rules: without them it refuses, since the\n\
    predecessor's rule is then all that keeps pods from the node's role. The agent does the same by itself when it has started.\n\
    A predecessor that still runs puts its rule back when it restarts: see `countersign imds plan`.\n\n\
    Exit codes: 0 nothing is left to remove, 1 something is, 3 could not find out."
)]
pub(crate) struct MigrateArgs {
    /// Remove the rules.
    #[arg(long)]
    yes: bool,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    guard: Rules,
    rules: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_found_out: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    rule: String,
    run: String,
    undo: String,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Planned,
    Removed,
    Failed,
}

pub(super) fn run(args: &MigrateArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let report = block_on(look(args.yes))?;
    args.output.write(out, &report, |out| table(out, &report))?;
    let has = |state| report.rules.iter().any(|row| row.state == state);
    Ok(if has(State::Failed) || !report.not_found_out.is_empty() {
        Exit::Unknown
    } else if has(State::Planned) {
        Exit::No
    } else {
        Exit::Fine
    })
}

async fn look(approved: bool) -> Result<Report, Failure> {
    let guard = inspect().await.map_err(|error| {
        Failure::unknown(error).hint("run it on the node, as root: it reads the packet filter")
    })?;
    let found = predecessors().await;
    if approved && !found.rules.is_empty() && !guard.hold() {
        let reason = match &guard {
            Rules::Broken { reason } => format!("they let pods through: {reason}"),
            _ => "they are not there".to_owned(),
        };
        return Err(Failure::no(anyhow!(
            "nothing was removed: without the guard's own rules pods would reach the node's role, and {reason}"
        ))
        .hint("start the agent on this node, or run `countersign imds drop`"));
    }
    let mut rules = Vec::new();
    for rule in found.rules {
        rules.push(row(rule, approved).await);
    }
    Ok(Report {
        guard,
        rules,
        not_found_out: found.unread,
    })
}

async fn row(rule: PredecessorRule, approved: bool) -> Row {
    let (state, error) = if approved {
        match rule.remove().await {
            Ok(()) => (State::Removed, None),
            Err(error) => (State::Failed, Some(error.to_string())),
        }
    } else {
        (State::Planned, None)
    };
    Row {
        run: rule.removal(),
        undo: rule.undo(),
        rule: rule.rule,
        state,
        error,
    }
}

fn table(out: &mut dyn Write, report: &Report) -> std::io::Result<()> {
    for row in &report.rules {
        let what = match row.state {
            State::Planned => "would remove",
            State::Removed => "removed",
            State::Failed => "could not remove",
        };
        writeln!(out, "{what}: {}", printable(&row.rule))?;
        if let Some(error) = &row.error {
            writeln!(out, "   why: {}", printable(error))?;
        }
        if row.state == State::Planned {
            writeln!(out, "   run: {}", printable(&row.run))?;
        }
        if row.state != State::Failed {
            writeln!(out, "  undo: {}", printable(&row.undo))?;
        }
    }
    for reason in &report.not_found_out {
        writeln!(out, "not found out: {}", printable(reason))?;
    }
    if report.rules.is_empty() {
        return writeln!(out, "no rule of kube2iam or kiam is left on this node");
    }
    if report.rules.iter().any(|row| row.state == State::Planned) {
        writeln!(
            out,
            "\nnothing is changed yet: {}",
            if report.guard.hold() {
                "give --yes to do it"
            } else {
                "the guard's own rules are not in force here, and have to come first"
            }
        )?;
    }
    Ok(())
}

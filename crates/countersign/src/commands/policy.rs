//! `countersign policy`: the engine on files.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use countersign_policy::diff as compare;
use countersign_policy::lint::{self, FindingType, LintOptions};
use countersign_policy::simulate::{self, Case};
use countersign_policy::{PolicyKind, explain};

use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

/// Largest file read.
const MAX_FILE: u64 = 64 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Decide the cases of a file; a test runner where cases say what they expect.
    ///
    /// Evaluates identity, resource, trust, boundary, session, SCP, RCP and endpoint policies as AWS does.
    #[command(
        after_help = "Examples:\n  countersign policy simulate cases.json --explain\n  \
        cat case.yaml | countersign policy simulate - -o json\n\n\
        Exit codes: 0 all allowed or all as expected, 1 otherwise, 2 unreadable input, 3 could not decide."
    )]
    Simulate(SimulateArgs),
    /// Find errors, security problems and risks in policy documents.
    #[command(
        after_help = "Examples:\n  countersign policy lint trust.json --type trust\n  \
        countersign policy lint policies/*.json -o sarif > findings.sarif"
    )]
    Lint(LintArgs),
    /// Explain one decision: every layer, every statement, what is missing.
    #[command(after_help = "Example:\n  countersign policy explain case.json --case irsa-1")]
    Explain(ExplainArgs),
    /// Compare two policy documents: what does B allow that A does not, and the other way round.
    #[command(
        after_help = "Example:\n  countersign policy diff before.json after.json\n\n\
        Exit codes: 0 B allows nothing that A does not, 1 it does or may, 2 unreadable input."
    )]
    Diff(DiffArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Case files, JSON or YAML; `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the whole reasoning with each answer.
    #[arg(long)]
    explain: bool,
    /// Add the condition keys that follow from principal and resource.
    #[arg(long)]
    fill_context: bool,
    /// Refuse documents that IAM would refuse on write.
    #[arg(long)]
    strict: bool,
    /// Set a condition key where a case lacks it; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    assume: Vec<(String, String)>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Output of `lint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LintFormat {
    /// For people.
    #[default]
    Table,
    /// For programs; stable fields.
    Json,
    /// For code scanning, SARIF 2.1.0.
    Sarif,
}

/// What a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DocumentType {
    Identity,
    Trust,
    Resource,
    Boundary,
    Session,
    Scp,
    Rcp,
}

impl From<DocumentType> for PolicyKind {
    fn from(kind: DocumentType) -> Self {
        match kind {
            DocumentType::Identity => Self::Identity,
            DocumentType::Trust => Self::Trust,
            DocumentType::Resource => Self::Resource,
            DocumentType::Boundary => Self::Boundary,
            DocumentType::Session => Self::Session,
            DocumentType::Scp => Self::Scp,
            DocumentType::Rcp => Self::Rcp,
        }
    }
}

/// The least finding that makes the exit code 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, ValueEnum)]
pub(crate) enum FailOn {
    Error,
    #[default]
    SecurityWarning,
    Warning,
    Suggestion,
    Never,
}

#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Policy documents, JSON or YAML; `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the documents are for; guessed from their content by default.
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<DocumentType>,
    /// The account the documents belong to, which tells own principals from foreign ones.
    #[arg(long, value_name = "12 DIGITS")]
    account: Option<String>,
    /// For a trust policy: the ARN of its role.
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// For a trust policy: an identity policy of its role; may be repeated.
    #[arg(long = "role-policy", value_name = "FILE")]
    role_policies: Vec<PathBuf>,
    /// ARN of a role that nodes run with; may be repeated.
    #[arg(long = "node-role", value_name = "ARN")]
    node_roles: Vec<String>,
    /// A service account that exists, as namespace:name; may be repeated.
    #[arg(long = "service-account", value_name = "NAMESPACE:NAME")]
    service_accounts: Vec<String>,
    /// Leave risk classes out.
    #[arg(long)]
    without_risk: bool,
    /// The least finding that makes the exit code 1.
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: LintFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A case file as for `simulate`; `-` for standard input.
    file: PathBuf,
    /// The id of the case; the first by default.
    #[arg(long, value_name = "ID")]
    case: Option<String>,
    /// Add the condition keys that follow from principal and resource.
    #[arg(long)]
    fill_context: bool,
    /// Set a condition key where the case lacks it; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    assume: Vec<(String, String)>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The document before.
    before: PathBuf,
    /// The document after.
    after: PathBuf,
    /// What the documents are for; guessed from their content by default.
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<DocumentType>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(crate) fn run(command: &PolicyCommand, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Simulate(args) => simulate_files(args, out),
        PolicyCommand::Lint(args) => lint_files(args, out),
        PolicyCommand::Explain(args) => explain_case(args, out),
        PolicyCommand::Diff(args) => diff(args, out),
    }
}

fn simulate_files(args: &SimulateArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut cases = Vec::new();
    for file in &args.files {
        let read = read_cases(file)?;
        if args.strict {
            simulate::require_writable(&file.display().to_string(), &read)
                .map_err(|error| unusable(*error))?;
        }
        cases.extend(read);
    }
    let options = simulate::Options {
        explain: args.explain,
        fill_context: args.fill_context,
        assume: args.assume.clone(),
    };
    let report = simulate::run(&cases, &options);
    match args.output {
        OutputFormat::Json => out.write_all(simulate::render_json(&report).as_bytes())?,
        OutputFormat::Yaml => args.output.write(out, &report, |_| Ok(()))?,
        OutputFormat::Table => {
            out.write_all(simulate::render_table(&report).as_bytes())?;
            for result in &report.results {
                if let Some(explanation) = &result.explanation {
                    writeln!(out, "\n{}", result.id)?;
                    out.write_all(explain::render_tree(explanation).as_bytes())?;
                }
            }
        }
    }
    Ok(match report.exit_code() {
        0 => Exit::Fine,
        1 => Exit::No,
        _ => Exit::Unknown,
    })
}

fn diff(args: &DiffArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let comparison =
        compare::diff(&before, &after, args.kind.map(Into::into)).map_err(|(which, error)| {
            let path = if which == 1 {
                &args.before
            } else {
                &args.after
            };
            Failure::usage(anyhow::anyhow!("{}: {error}", path.display()))
        })?;
    match args.output {
        OutputFormat::Json => out.write_all(compare::render_json(&comparison).as_bytes())?,
        OutputFormat::Yaml => args.output.write(out, &comparison, |_| Ok(()))?,
        OutputFormat::Table => out.write_all(
            compare::render_text(
                &comparison,
                &args.before.display().to_string(),
                &args.after.display().to_string(),
            )
            .as_bytes(),
        )?,
    }
    Ok(if comparison.has_no_new_access() {
        Exit::Fine
    } else {
        Exit::No
    })
}

fn lint_files(args: &LintArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let role_policies = args
        .role_policies
        .iter()
        .map(|path| read(path))
        .collect::<Result<_, _>>()?;
    let options = LintOptions {
        kind: args.kind.map(Into::into),
        account: args.account.clone(),
        role_arn: args.role_arn.clone(),
        role_policies,
        node_roles: args.node_roles.clone(),
        service_accounts: args.service_accounts.clone(),
        without_risk: args.without_risk,
    };
    let mut files = Vec::new();
    for path in &args.files {
        files.push((
            path.display().to_string(),
            lint::lint(&read(path)?, &options),
        ));
    }
    let text = match args.output {
        LintFormat::Table => lint::render_table(&files),
        LintFormat::Json => lint::render_json(&files),
        LintFormat::Sarif => lint::render_sarif(&files, env!("CARGO_PKG_VERSION")),
    };
    out.write_all(text.as_bytes())?;
    let worst = files
        .iter()
        .flat_map(|(_, findings)| findings)
        .map(|finding| severity(finding.kind))
        .min();
    Ok(
        if worst.is_some_and(|worst| worst <= args.fail_on && args.fail_on != FailOn::Never) {
            Exit::No
        } else {
            Exit::Fine
        },
    )
}

fn severity(kind: FindingType) -> FailOn {
    match kind {
        FindingType::Error => FailOn::Error,
        FindingType::SecurityWarning => FailOn::SecurityWarning,
        FindingType::Warning => FailOn::Warning,
        FindingType::Suggestion => FailOn::Suggestion,
    }
}

fn explain_case(args: &ExplainArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let cases = read_cases(&args.file)?;
    let case = match &args.case {
        None => cases.first(),
        Some(id) => cases.iter().find(|case| case.id == *id),
    };
    let case = case.ok_or_else(|| {
        let known: Vec<&str> = cases.iter().map(|case| case.id.as_str()).take(10).collect();
        Failure::usage(anyhow::anyhow!("there is no such case"))
            .hint(format!("the file has: {}", known.join(", ")))
    })?;
    let options = simulate::Options {
        explain: true,
        fill_context: args.fill_context,
        assume: args.assume.clone(),
    };
    let explanation = simulate::explain_case(case, &options)
        .map_err(|error| Failure::unknown(anyhow::anyhow!(error)))?;
    args.output.write(out, &explanation, |out| {
        out.write_all(explain::render_tree(&explanation).as_bytes())
    })?;
    Ok(
        if explanation.decision == countersign_policy::Outcome::Allowed {
            Exit::Fine
        } else {
            Exit::No
        },
    )
}

fn read_cases(file: &Path) -> Result<Vec<Case>, Failure> {
    let text = read(file)?;
    let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
    let load = |name: &str| read(&folder.join(name)).map_err(|failure| failure.render());
    simulate::parse(&file.display().to_string(), &text, &load).map_err(|error| unusable(*error))
}

fn unusable(error: simulate::SimulateError) -> Failure {
    let hint = error.hint.clone();
    let failure = Failure::usage(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let result = if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(MAX_FILE)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
    };
    result.map_err(|error| {
        Failure::usage(
            anyhow::Error::new(error).context(format!("could not read `{}`", path.display())),
        )
    })?;
    Ok(text)
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".into()),
    }
}

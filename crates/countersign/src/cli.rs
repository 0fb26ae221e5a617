//! The command line: what there is, and which function does it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use countersign_client::get_token::{self, Style};
use countersign_client::{Environment, Io, Process};

use crate::commands;
use crate::exit::Exit;
use crate::report::Failure;

/// The identity and access system of Amazon EKS, for every Kubernetes cluster.
///
/// IAM principals become Kubernetes users: signed `k8s-aws-v1` tokens, checked by a webhook, mapped by aws-auth, files or custom
/// objects. With an embedded IAM and STS as default, and real AWS as upstream.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    max_term_width = 110,
    after_help = "Start here:\n  countersign up        everything on this machine; prints what to export and what to try\n\n\
                  Exit codes: 0 fine, 1 the answer is no or there are findings, 2 usage or unreadable input, 3 could not find out."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine with the embedded IAM and STS.
    Up(commands::up::UpArgs),
    /// Run the control plane from a configuration file; an aws-iam-authenticator file works unchanged.
    #[command(alias = "server")]
    Serve(commands::serve::ServeArgs),
    /// Print a token for kubectl as an ExecCredential; drop-in for `aws eks get-token` and `aws-iam-authenticator token`.
    #[command(name = "get-token", alias = "token")]
    GetToken(countersign_client::get_token::GetTokenArgs),
    /// `eks get-token`, so that a kubeconfig switches from `aws` by changing only its command.
    #[command(hide = true)]
    Eks(EksArgs),
    /// Verify a token, say whose it is, which user it becomes, and why.
    Verify(commands::verify::VerifyArgs),
    /// Write a kubeconfig entry that gets tokens from this command, as `aws eks update-kubeconfig` does.
    Kubeconfig(countersign_client::kubeconfig::KubeconfigArgs),
    /// Generate the webhook's certificate, key and kubeconfig before the API server first starts.
    Init(countersign_client::init::InitArgs),
    /// Temporary credentials: look into them, end them, rotate their keys. On the server's machine.
    #[command(subcommand, alias = "sts")]
    Sessions(commands::sessions::SessionsCommand),
    /// Access keys of the root user. On the server's machine, and nowhere else.
    #[command(subcommand, name = "root-key")]
    RootKey(commands::root_key::RootKeyCommand),
    /// All of IAM in an account as one document, out and in; managed policies of AWS. On the server's machine.
    #[command(subcommand)]
    Iam(commands::iam::IamCommand),
    /// The issuer of a cluster's service account tokens: keys, static documents, kube-apiserver's flags. On the server's machine.
    #[command(subcommand)]
    Issuer(commands::issuer::IssuerCommand),
    /// Back up, restore, export and move the store. On the server's machine.
    #[command(subcommand)]
    Store(commands::store::StoreCommand),
    /// Who enters a cluster, what they may do there, and why: entries, aws-auth, access policies and RBAC together.
    #[command(subcommand)]
    Access(commands::access::AccessCommand),
    /// Credentials of pods: why a pod has them or not, associations, trust policies, migrations.
    #[command(subcommand)]
    Pods(commands::pods::PodsCommand),
    /// Answer kube-apiserver's questions about pods: a drop-in for amazon-eks-pod-identity-webhook.
    #[command(name = "pod-identity-webhook", disable_help_flag = true)]
    PodIdentityWebhook(PodIdentityWebhookArgs),
    /// Credentials of EKS Pod Identity on a node: the agent, its link, and what it sees.
    #[command(subcommand)]
    Agent(commands::agent::AgentCommand),
    /// Instance metadata: keep pods from the node's role, and replace kube2iam and kiam.
    #[command(subcommand)]
    Imds(commands::imds::ImdsCommand),
    /// The IAM policy engine on files: decide, lint, explain, compare.
    #[command(subcommand)]
    Policy(commands::policy::PolicyCommand),
    /// Explain what went wrong on the wire.
    #[command(subcommand)]
    Debug(commands::debug::DebugCommand),
}

/// Taken over before the command line is read: its flags are those of another program.
#[derive(Debug, Args)]
struct PodIdentityWebhookArgs {
    /// As `countersign pod-identity-webhook --help` says.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FLAGS"
    )]
    flags: Vec<OsString>,
}

#[derive(Debug, Args)]
struct EksArgs {
    #[command(subcommand)]
    command: EksCommand,
}

#[derive(Debug, Subcommand)]
enum EksCommand {
    /// Print a token for kubectl.
    #[command(name = "get-token")]
    GetToken(countersign_client::get_token::GetTokenArgs),
}

/// Parses and runs; the process' exit code.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = reordered(args);
    if let Some(flags) = commands::pod_identity_webhook::arguments(&args) {
        return ended(commands::pod_identity_webhook::run(
            flags,
            &mut io::stdout(),
        ));
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return usage_code(&args, &error);
        }
    };
    let (mut stdin, mut stdout, mut stderr) =
        (io::stdin().lock(), io::stdout().lock(), io::stderr());
    let process = Process {
        env: Environment::of_process(),
        clock: &jiff::Timestamp::now,
    };
    let mut io = Io {
        stdin: &mut stdin,
        stdout: &mut stdout,
        stderr: &mut stderr,
    };
    let outcome: Result<ExitCode, Failure> = match cli.command {
        Command::GetToken(args) => {
            Ok(get_token::run(&args, Style::Authenticator, &process, &mut io).into())
        }
        Command::Eks(EksArgs {
            command: EksCommand::GetToken(args),
        }) => Ok(get_token::run(&args, Style::AwsCli, &process, &mut io).into()),
        Command::Kubeconfig(args) => {
            Ok(countersign_client::kubeconfig::run(&args, &process, &mut io).into())
        }
        Command::Init(args) => Ok(countersign_client::init::run(&args, &process, &mut io).into()),
        Command::Access(command) => {
            commands::access::run(&command, &process, &mut io).map(Into::into)
        }
        Command::Pods(command) => commands::pods::run(&command, &process, &mut io).map(Into::into),
        Command::Agent(command) => {
            drop(stdin);
            commands::agent::run(command, &mut stdout).map(Into::into)
        }
        Command::PodIdentityWebhook(args) => {
            commands::pod_identity_webhook::run(&args.flags, &mut stdout).map(Into::into)
        }
        Command::Imds(command) => {
            drop(stdin);
            commands::imds::run(&command, &mut stdout).map(Into::into)
        }
        Command::Debug(commands::debug::DebugCommand::Sigv4(args)) => {
            commands::debug::sigv4(&args, &mut stdout).map(Into::into)
        }
        Command::Policy(command) => {
            drop(stdin);
            commands::policy::run(&command, &mut stdout).map(Into::into)
        }
        Command::Sessions(command) => {
            drop(stdin);
            commands::sessions::run(&command, &mut stdout).map(Into::into)
        }
        Command::RootKey(command) => commands::root_key::run(&command, &mut stdout).map(Into::into),
        Command::Iam(command) => {
            drop(stdin);
            commands::iam::run(&command, &mut stdout).map(Into::into)
        }
        Command::Issuer(command) => {
            drop(stdin);
            commands::issuer::run(&command, &mut stdout).map(Into::into)
        }
        Command::Store(command) => commands::store::run(&command, &mut stdout).map(Into::into),
        Command::Verify(args) => {
            drop(stdin);
            commands::verify::run(&args, &mut stdout).map(Into::into)
        }
        Command::Up(args) => {
            drop(stdout);
            drop(stdin);
            commands::up::run(args).map(Into::into)
        }
        Command::Serve(args) => {
            drop(stdout);
            drop(stdin);
            commands::serve::run(args).map(Into::into)
        }
    };
    ended(outcome)
}

/// The exit code; a failure is told first.
fn ended<T: Into<ExitCode>>(outcome: Result<T, Failure>) -> ExitCode {
    match outcome {
        Ok(code) => code.into(),
        Err(failure) if failure.is_closed_pipe() => Exit::Fine.into(),
        Err(failure) => {
            let _ = io::stderr().write_all(failure.render().as_bytes());
            failure.exit.into()
        }
    }
}

/// 2 for wrong usage; for the commands that stand in for another tool, what that tool exits with.
fn usage_code(args: &[OsString], error: &clap::Error) -> ExitCode {
    if error.exit_code() == 0 {
        return Exit::Fine.into();
    }
    match args.get(1).and_then(|arg| arg.to_str()) {
        Some("token" | "get-token") => Style::Authenticator.usage_failure().into(),
        Some("eks") => Style::AwsCli.usage_failure().into(),
        _ => Exit::Usage.into(),
    }
}

/// `aws` takes its global options before the service; kubeconfigs written for it have them there.
fn reordered(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    const GLOBAL: [&str; 4] = ["--region", "--output", "--profile", "--query"];
    let mut args: Vec<OsString> = args.collect();
    let mut moved = Vec::new();
    while args.len() > 2 {
        let Some(first) = args.get(1).and_then(|arg| arg.to_str()) else {
            break;
        };
        if GLOBAL.contains(&first) {
            moved.extend(args.drain(1..3));
        } else if GLOBAL.iter().any(|global| {
            first
                .strip_prefix(global)
                .is_some_and(|rest| rest.starts_with('='))
        }) {
            moved.extend(args.drain(1..2));
        } else {
            break;
        }
    }
    args.extend(moved);
    args
}

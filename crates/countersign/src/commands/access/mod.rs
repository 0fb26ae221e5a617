//! `countersign access`: who enters a cluster, what they may do there, and why.
//!
//! The commands gather facts and print; `countersign_review` decides.

mod can_i;
mod eks;
mod facts;
mod list;
mod rebind;
mod why;

use std::io::Write;

use clap::{Args, Subcommand};
use countersign_client::{Io, Process};
use countersign_review::{Asked, Principal, Subject, User, Words, printable};

use self::facts::Facts;
use crate::exit::Exit;
use crate::report::Failure;

const SOURCES: &str = "Where facts come from:\n  \
    entries   the server on this machine (as `countersign iam` finds it), --eks for any EKS API, or --entries FILE\n  \
    RBAC      --rbac PATH…, or the cluster of --kubeconfig and --context, else of the current context\n  \
    aws-auth  --aws-auth FILE, or the same cluster\n\n\
    What could not be read makes a \"no\" incomplete, which is told; with --strict the exit code is 3 then.\n\
    Exit codes: 0 yes, 1 no, 2 usage or unreadable input, 3 could not find out.";

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// List the access entries of a cluster: what each gives, and to whom it is bound.
    List(list::ListArgs),
    /// Answer yes or no: may this principal or user do that?
    #[command(name = "can-i")]
    CanI(can_i::CanIArgs),
    /// Show the whole chain: principal, entry or mapping, groups, policies and bindings, and what would change the answer.
    Why(why::WhyArgs),
    /// Bind a dead entry to the principal that has its name now.
    Rebind(rebind::RebindArgs),
}

/// Whose rights are asked about.
#[derive(Debug, Args)]
struct SubjectArgs {
    /// A principal of IAM: role, user, root, or a session of a role.
    #[arg(long, visible_alias = "as-principal", value_name = "ARN", conflicts_with_all = ["user", "group"])]
    principal: Option<String>,
    /// The session name of the principal, where it matters.
    #[arg(long, value_name = "NAME")]
    session_name: Option<String>,
    /// A Kubernetes user, such as `dana` or `system:serviceaccount:shop:build`.
    #[arg(long, visible_alias = "as", value_name = "NAME")]
    user: Option<String>,
    /// A group of that user; may be given again.
    #[arg(long, visible_alias = "as-group", value_name = "GROUP")]
    group: Vec<String>,
    /// Take the groups as they are, without those that the API server adds.
    #[arg(long)]
    exact_groups: bool,
}

/// In which namespace.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// The namespace; that of the context by default, else `default`.
    #[arg(short, long, value_name = "NS", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// All namespaces at once, as `kubectl -A` asks.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

pub(crate) fn run(
    command: &AccessCommand,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    match command {
        AccessCommand::List(args) => list::run(args, process, io),
        AccessCommand::CanI(args) => can_i::run(args, process, io),
        AccessCommand::Why(args) => why::run(args, process, io),
        AccessCommand::Rebind(args) => rebind::run(args, io.stdout),
    }
}

impl SubjectArgs {
    /// The subject, if the options name one.
    fn subject(&self) -> Result<Option<Subject>, Failure> {
        let session = self.session_name.as_deref();
        if let Some(arn) = &self.principal {
            let principal = Principal::parse(arn, session).map_err(Failure::usage)?;
            return Ok(Some(Subject::Principal(principal)));
        }
        if self.user.is_none() && self.group.is_empty() {
            return Ok(None);
        }
        if session.is_some() {
            return Err(Failure::usage(anyhow::anyhow!(
                "`--session-name` goes with `--principal`"
            )));
        }
        let name = self.user.clone().unwrap_or_default();
        Ok(Some(Subject::User(User::new(
            name,
            self.group.clone(),
            self.exact_groups,
        ))))
    }
}

fn no_subject() -> Failure {
    Failure::usage(anyhow::anyhow!("nobody is asked about")).hint(
        "name a principal with `--principal ARN`, or a user with `--user NAME` and `--group GROUP`",
    )
}

/// The question, read with what the cluster serves.
fn asked(
    facts: &Facts,
    verb: &str,
    resource: &str,
    (subresource, name): (Option<&str>, Option<&str>),
    place: &PlaceArgs,
) -> Result<Asked, Failure> {
    let words = Words {
        verb,
        resource,
        subresource,
        name,
        namespace: place.namespace.as_deref(),
        default_namespace: &facts.namespace,
        all_namespaces: place.all_namespaces,
    };
    Asked::read(&words, facts.model.catalog()).map_err(Failure::usage)
}

/// 1 for "no"; 3 for a "no" that may be wrong, where that is asked for.
fn exit(allowed: bool, incomplete: bool, strict: bool) -> Exit {
    match (allowed, incomplete && strict) {
        (true, _) => Exit::Fine,
        (false, true) => Exit::Unknown,
        (false, false) => Exit::No,
    }
}

fn warn(stderr: &mut dyn Write, texts: &[String]) {
    for text in texts {
        // Nothing is left to be told if stderr is closed.
        let _ = writeln!(stderr, "warning: {}", printable(text));
    }
}

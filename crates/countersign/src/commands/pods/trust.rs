//! `countersign pods trust`: trust policies of roles for pods.

use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use countersign_client::{Io, Process};
use countersign_podreview::plan::{Action, Plan, State, Step};
use countersign_podreview::trust::{
    Change, CheckFacts, Level, MAX_TRUST_POLICY, Merged, NewTrust, PodIdentityTrust, TrustFinding,
    WebIdentityTrust, check, merge, namespaces,
};
use countersign_podreview::{
    AccountFacts, ClusterFacts, Fact, RoleFacts, STS_AUDIENCE, is_account_name, is_namespace,
    subject,
};
use countersign_sources::kubernetes::WorkloadKind;
use serde::Serialize;
use serde_json::Value;

use super::aws::Aws;
use super::run::{Runner, finish};
use super::{AwsArgs, KubernetesArgs, makers};
use crate::exit::Exit;
use crate::output::{OutputFormat, columns};
use crate::report::Failure;

/// Largest document read; IAM takes 2,048 characters, and more with a raised quota.
const MAX_FILE: u64 = 1 << 20;

/// By which way pods take the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// AssumeRoleWithWebIdentity.
    Irsa,
    /// EKS Pod Identity.
    PodIdentity,
}

/// How far a statement for EKS Pod Identity is narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Scope {
    /// This cluster, namespace and service account; needs sessions with tags.
    #[default]
    ServiceAccount,
    /// This cluster.
    Cluster,
    /// Every association of every cluster of the account, as AWS's examples have it.
    None,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign pods trust --for irsa --cluster demo --namespace shop --service-account cart\n  \
    countersign pods trust --for pod-identity --cluster demo --namespace shop --service-account cart --role arn:aws:iam::111122223333:role/cart --apply --yes\n  \
    countersign pods trust --for irsa --issuer https://issuer.example/id/1 --account 111122223333 -n shop -s '*' --existing trust.json\n  \
    countersign pods trust --check --role arn:aws:iam::111122223333:role/cart\n\n\
    Prints the trust policy, merged into that of --role or --existing: other statements keep their text. `*` and `?` in names make a\n\
    StringLike test. With --apply it plans to write it, and writes it with --yes.\n\n\
    Exit codes: 0 printed or written, nothing to write, no findings; 1 findings, or --apply without --yes; 2 usage; 3 could not find out.")]
pub(crate) struct TrustArgs {
    /// Which way the pods take.
    #[arg(
        long = "for",
        value_enum,
        value_name = "WAY",
        required_unless_present = "check"
    )]
    way: Option<Way>,
    /// The namespace.
    #[arg(short, long, value_name = "NS", required_unless_present = "check")]
    namespace: Option<String>,
    /// The service account; may be given again with --for irsa.
    #[arg(
        short,
        long = "service-account",
        value_name = "NAME",
        required_unless_present = "check"
    )]
    service_accounts: Vec<String>,
    /// The role whose trust policy is merged with, changed or checked.
    #[arg(long, value_name = "ARN")]
    role: Option<String>,
    /// A trust policy to merge with or to check, in the place of the role's; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["role", "apply"])]
    existing: Option<PathBuf>,
    /// The issuer of the cluster, where the EKS API is not asked for it.
    #[arg(long, value_name = "URL", requires = "account")]
    issuer: Option<String>,
    /// The account of the role, with --issuer.
    #[arg(long, value_name = "12 DIGITS")]
    account: Option<String>,
    /// The audience of the tokens, with --for irsa.
    #[arg(long, value_name = "TEXT", default_value = STS_AUDIENCE)]
    audience: String,
    /// How far the statement is narrowed, with --for pod-identity.
    #[arg(long, value_enum, default_value_t)]
    scope: Scope,
    /// Write it to the role.
    #[arg(long, requires = "role", conflicts_with = "check")]
    apply: bool,
    /// With --apply: do it.
    #[arg(short, long, visible_alias = "approve", requires = "apply")]
    yes: bool,
    /// Find what is wrong with a trust policy (T1 to T10, see docs/pods.md) instead of writing one.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    aws: AwsArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(super) fn run(
    args: &TrustArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    if args.check {
        return findings(args, process, io);
    }
    let offline = args.issuer.is_some() && args.role.is_none();
    let aws = match offline {
        true => None,
        false => Some(args.aws.connect(process, io)?),
    };
    let cluster = match (&aws, &args.issuer, &args.account) {
        (_, Some(issuer), Some(account)) => of_issuer(issuer, account)?,
        (Some(aws), ..) => aws.required_cluster(args.aws.required()?)?,
        _ => {
            return Err(Failure::usage(anyhow!(
                "neither --cluster nor --issuer is given"
            )));
        }
    };
    let new = new_trust(args, &cluster)?;
    let role = match (&aws, &args.role) {
        (Some(aws), Some(arn)) => Some(required_role(aws, arn)?),
        _ => None,
    };
    let existing = match (&role, &args.existing) {
        (Some(role), _) => Some(role.trust.clone()),
        (None, Some(path)) => Some(read_file(path, io.stdin)?),
        (None, None) => None,
    };
    let merged = match &existing {
        Some(existing) => merge(existing, &new).map_err(Failure::usage)?,
        None => Merged {
            size: countersign_policy::size_without_whitespace(&new.document()),
            document: new.document(),
            change: Change::Added(0),
        },
    };
    if merged.size > MAX_TRUST_POLICY {
        let size = merged.size;
        let _ = writeln!(
            io.stderr,
            "warning: the document has {size} characters; IAM takes {MAX_TRUST_POLICY} unless the quota was raised"
        );
    }
    if let (true, Some(aws), Some(role)) = (args.apply, &aws, role) {
        let mut plan = Plan::default();
        let state = match merged.change {
            Change::Unchanged => State::There,
            _ => State::Planned,
        };
        plan.steps.push(Step {
            action: Action::UpdateTrust {
                role_arn: role.arn,
                before: role.trust,
                after: merged.document,
                what: "with the statement".to_owned(),
            },
            state,
            note: None,
        });
        let runner = Runner {
            aws,
            kubernetes: None,
            clock: process.clock,
            patience: Duration::ZERO,
        };
        return finish(plan, args.yes, &runner, args.output, io);
    }
    print(args, &merged, io)?;
    Ok(Exit::Fine)
}

fn print(args: &TrustArgs, merged: &Merged, io: &mut Io<'_>) -> Result<(), Failure> {
    let document: Value = serde_json::from_str(&merged.document)?;
    args.output.write(io.stdout, &document, |out| {
        writeln!(out, "{}", merged.document)
    })?;
    Ok(())
}

fn required_role(aws: &Aws<'_>, arn: &str) -> Result<RoleFacts, Failure> {
    match aws.role(arn, None) {
        Fact::Known(role) if role.arn == arn => Ok(role),
        Fact::Known(role) => Err(Failure::usage(anyhow!(
            "the role of this name is {}, not {arn}",
            role.arn
        ))),
        Fact::Missing => Err(Failure::no(anyhow!("{arn} does not exist"))),
        other => {
            let reason = other.unread().unwrap_or_default().to_owned();
            Err(Failure::unknown(anyhow!(
                "{arn} could not be read: {reason}"
            )))
        }
    }
}

/// A cluster that is known by its issuer alone.
fn of_issuer(issuer: &str, account: &str) -> Result<ClusterFacts, Failure> {
    let path = issuer.strip_prefix("https://").unwrap_or_default();
    let is_plain = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~/".contains(&b))
    };
    if path.is_empty() || path.starts_with('/') || !is_plain(path) {
        return Err(Failure::usage(anyhow!(
            "`{issuer}` is no issuer: expected https://HOST/PATH without port, query and fragment"
        )));
    }
    account
        .parse::<countersign_arn::AccountId>()
        .map_err(|_| Failure::usage(anyhow!("`{account}` is no account id: expected 12 digits")))?;
    Ok(ClusterFacts {
        name: String::new(),
        arn: format!("arn:aws:eks::{account}:cluster/"),
        issuer: Some(issuer.to_owned()),
    })
}

fn new_trust(args: &TrustArgs, cluster: &ClusterFacts) -> Result<NewTrust, Failure> {
    let namespace = args.namespace.as_deref().unwrap_or_default();
    // A pattern has to be a name once its wildcards are letters.
    let named = |text: &str| text.replace(['*', '?'], "x");
    if !is_namespace(&named(namespace)) {
        return Err(Failure::usage(anyhow!(
            "`{namespace}` cannot be a namespace"
        )));
    }
    for account in &args.service_accounts {
        if !is_account_name(&named(account)) {
            return Err(Failure::usage(anyhow!(
                "`{account}` cannot be the name of a service account"
            )));
        }
    }
    match args.way {
        Some(Way::Irsa) => {
            let of_role = args.role.as_deref().and_then(|arn| arn.split(':').nth(4));
            let account = of_role.unwrap_or_else(|| cluster.account());
            let provider_arn = cluster.provider_arn(account).ok_or_else(|| {
                Failure::no(anyhow!("the cluster {} has no issuer", cluster.name))
            })?;
            let accounts = args.service_accounts.iter();
            Ok(NewTrust::Web(WebIdentityTrust {
                provider_arn,
                audience: args.audience.clone(),
                subjects: accounts
                    .map(|account| subject(namespace, account))
                    .collect(),
            }))
        }
        Some(Way::PodIdentity) => {
            if args.issuer.is_some() {
                return Err(Failure::usage(anyhow!(
                    "EKS Pod Identity goes by the cluster, not by its issuer"
                ))
                .hint("name it with `--cluster NAME`"));
            }
            let [account] = args.service_accounts.as_slice() else {
                return Err(Failure::usage(anyhow!(
                    "one --service-account goes with --for pod-identity: its tags are tested in one statement"
                )));
            };
            let mut trust = PodIdentityTrust::default();
            if args.scope != Scope::None {
                trust.source_account = Some(cluster.account().to_owned());
                trust.source_arn = Some(cluster.arn.clone());
            }
            if args.scope == Scope::ServiceAccount {
                let tags = [
                    ("kubernetes-namespace", namespace),
                    ("kubernetes-service-account", account),
                ];
                let tags = tags.map(|(name, value)| (name.to_owned(), value.to_owned()));
                trust.request_tags.extend(tags);
            }
            Ok(NewTrust::Pods(trust))
        }
        None => Err(Failure::usage(anyhow!("--for is missing"))),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked<'a> {
    role: Option<&'a str>,
    findings: &'a [TrustFinding],
}

fn findings(args: &TrustArgs, process: &Process<'_>, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let mut facts = CheckFacts::default();
    let text = match (&args.existing, &args.role) {
        (Some(path), _) => read_file(path, io.stdin)?,
        (None, Some(arn)) => {
            let aws = args.aws.connect(process, io)?;
            facts.account = arn.split(':').nth(4).map(str::to_owned);
            facts.providers = match aws.providers() {
                Ok(providers) => Some(providers),
                Err(error) => {
                    let _ = writeln!(io.stderr, "warning: T6 was not checked: {error}");
                    None
                }
            };
            required_role(&aws, arn)?.trust
        }
        (None, None) => {
            return Err(Failure::usage(anyhow!("nothing to check"))
                .hint("name a role with `--role ARN`, or a file with `--existing FILE`"));
        }
    };
    let named = args.kubernetes.kubeconfig.is_some() || args.kubernetes.context.is_some();
    if named {
        let cluster = args.kubernetes.connect()?;
        let accounts = cluster.list(WorkloadKind::ServiceAccount, None, (None, None))?;
        let accounts: Vec<AccountFacts> = accounts.iter().map(AccountFacts::of_object).collect();
        let name = |account: &AccountFacts| format!("{}:{}", account.namespace, account.name);
        facts.users = accounts
            .iter()
            .filter(|account| args.role.is_some() && account.role() == args.role.as_deref())
            .map(name)
            .collect();
        facts.service_accounts = Some(accounts.iter().map(name).collect());
        let of = namespaces(&text).map_err(Failure::usage)?;
        match makers::of_cluster(&args.kubernetes, &of) {
            Ok((makers, unread)) => {
                facts.pod_makers = makers;
                for reason in unread {
                    let _ = writeln!(io.stderr, "warning: T10 may not see everybody: {reason}");
                }
            }
            Err(error) => {
                let _ = write!(
                    io.stderr,
                    "warning: T10 was not checked\n{}",
                    error.render()
                );
            }
        }
    }
    let found = check(&text, &facts).map_err(Failure::usage)?;
    let report = Checked {
        role: args.role.as_deref(),
        findings: &found,
    };
    args.output.write(io.stdout, &report, |out| {
        if found.is_empty() {
            return writeln!(out, "no findings");
        }
        let level = |level: Level| match level {
            Level::High => "high",
            Level::Medium => "medium",
            Level::Info => "info",
        };
        columns(
            out,
            ["LEVEL", "CHECK", "WHERE", "FINDING"],
            found.iter().map(|finding| {
                [
                    level(finding.level).to_owned(),
                    finding.id.clone(),
                    finding.path.clone(),
                    finding.message.clone(),
                ]
            }),
        )
    })?;
    let bad = found.iter().any(|finding| finding.level != Level::Info);
    Ok(if bad { Exit::No } else { Exit::Fine })
}

/// A document from a file, or from standard input.
pub(super) fn read_file(path: &Path, stdin: &mut dyn BufRead) -> Result<String, Failure> {
    let shown = path.display();
    let mut text = String::new();
    let read = if path == Path::new("-") {
        stdin.take(MAX_FILE + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
    };
    read.with_context(|| format!("could not read `{shown}`"))
        .map_err(Failure::usage)?;
    if text.len() as u64 > MAX_FILE {
        return Err(Failure::usage(anyhow!(
            "`{shown}` has more than {MAX_FILE} bytes"
        )));
    }
    Ok(text)
}

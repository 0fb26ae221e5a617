//! `countersign access list`: the access entries of a cluster.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use countersign_access::{AccessRule, AccessRules, EntryType};
use countersign_client::{Io, Process};
use countersign_mapping::MappingOptions;
use countersign_mapping::config_map::ConfigMap;
use countersign_review::{
    AccessSnapshot, EntryBinding, EntryFacts, Mode, Policies, ScopeFacts, policy_name,
};

use super::facts::{ClusterArgs, EntryArgs, aws_auth};
use super::warn;
use crate::exit::Exit;
use crate::output::{OutputFormat, columns};
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign access list --cluster demo\n  \
    countersign access list --cluster demo --dead\n  \
    countersign access list --eks --cluster prod --region eu-west-1 -o json > prod.json\n  \
    countersign access list --cluster demo --aws-auth aws-auth.yaml\n\n\
    BINDING tells to whom an entry belongs: `bound` to a principal that is there, `unbound` until the first principal of its name\n\
    authenticates, `dead` when its principal is gone (a principal that was made again is another one: `access rebind`). AWS does not\n\
    tell it. SOURCE is `entry`, `rule` for access rules of --policies FILE, `creator` for who made a cluster that has no entries, and\n\
    `aws-auth` for rows that decide or are shadowed by an entry. -o json is what `--entries FILE` of the other commands reads.\n\n\
    Exit codes: 0, 1 with --dead when there are dead entries, 2 usage or unreadable input, 3 could not find out.")]
pub(crate) struct ListArgs {
    /// Only entries of this type, such as STANDARD or EC2_LINUX.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<EntryType>,
    /// Only dead entries.
    #[arg(long)]
    dead: bool,
    #[command(flatten)]
    entries: EntryArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(super) fn run(
    args: &ListArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    let mut snapshot = super::facts::snapshot(&args.entries, None, process, io)?;
    if let Some(data) = aws_auth(&args.cluster, &mut snapshot.incomplete_reasons, io)? {
        snapshot.aws_auth = Some(data);
    }
    let is_dead = |entry: &EntryFacts| matches!(entry.binding, EntryBinding::Dead { .. });
    snapshot.entries.retain(|entry| {
        args.kind.is_none_or(|kind| entry.entry_type == kind) && (!args.dead || is_dead(entry))
    });
    let dead = snapshot
        .entries
        .iter()
        .filter(|entry| is_dead(entry))
        .count();
    let filtered = args.dead || args.kind.is_some();
    let (policies, rules) = args.entries.policies(io)?;
    warn(io.stderr, &warnings(&snapshot, &policies));
    args.output.write(io.stdout, &snapshot, |out| {
        table(out, &snapshot, &rules, filtered)
    })?;
    Ok(if args.dead && dead > 0 {
        Exit::No
    } else {
        Exit::Fine
    })
}

/// What is odd about entries (EKS API spec, section 18.2, conflicts).
fn warnings(snapshot: &AccessSnapshot, policies: &Policies) -> Vec<String> {
    let mut warnings = snapshot.incomplete_reasons.clone();
    for entry in &snapshot.entries {
        let arn = &entry.principal_arn;
        if entry.entry_type == EntryType::Standard
            && entry.kubernetes_groups.is_empty()
            && entry.associated_access_policies.is_empty()
        {
            warnings.push(format!("{arn} has neither groups nor access policies"));
        }
        for policy in &entry.associated_access_policies {
            if let Some(why) = policies.grants_nothing(&policy.policy_arn) {
                warnings.push(format!("{arn}: {} grants nothing: {why}", policy.name()));
            }
        }
    }
    warnings
}

fn table(
    out: &mut dyn Write,
    snapshot: &AccessSnapshot,
    rules: &AccessRules,
    filtered: bool,
) -> io::Result<()> {
    let mut rows = Vec::new();
    let mode = snapshot.cluster.authentication_mode;
    for entry in &snapshot.entries {
        rows.push(entry_row(entry));
    }
    if !filtered {
        let rules = rules.iter();
        let rules = rules.filter(|rule| rule.is_for_cluster(&snapshot.cluster.name));
        rows.extend(rules.map(|rule| rule_row(rule, mode)));
        if let (Some(creator), Mode::ConfigMap) = (&snapshot.cluster.creator, mode) {
            let id = creator.principal_id.as_deref().unwrap_or_default();
            rows.push([
                creator.principal_arn.clone(),
                "-".to_owned(),
                "kubernetes-admin".to_owned(),
                "system:masters".to_owned(),
                "-".to_owned(),
                format!("bound {id}"),
                "creator".to_owned(),
            ]);
        }
        if let Some(data) = &snapshot.aws_auth {
            aws_auth_rows(data, snapshot, &mut rows);
        }
    }
    writeln!(out, "cluster {} ({mode})\n", snapshot.cluster.name)?;
    if rows.is_empty() {
        let what = if filtered {
            "such entries"
        } else {
            "access entries"
        };
        return writeln!(out, "no {what}");
    }
    let head = [
        "PRINCIPAL",
        "TYPE",
        "USERNAME",
        "GROUPS",
        "POLICIES",
        "BINDING",
        "SOURCE",
    ];
    columns(out, head, rows)
}

fn rule_row(rule: &AccessRule, mode: Mode) -> [String; 7] {
    let dash = |words: Vec<String>, between: &str| match words.as_slice() {
        [] => "-".to_owned(),
        words => words.join(between),
    };
    let policies = rule.associations().map(|(arn, scope)| {
        let scope = ScopeFacts::from(scope);
        format!("{}@{scope}", policy_name(arn))
    });
    let username = rule.username.as_deref().unwrap_or("(default)").to_owned();
    let unread = if mode.reads_entries() {
        ""
    } else {
        " (not read)"
    };
    [
        rule.matcher.to_string(),
        "STANDARD".to_owned(),
        username,
        dash(rule.groups.iter().map(|g| g.to_string()).collect(), ","),
        dash(policies.collect(), " "),
        "-".to_owned(),
        format!("rule {}{unread}", rule.cited()),
    ]
}

fn entry_row(entry: &EntryFacts) -> [String; 7] {
    let policies = entry.associated_access_policies.iter();
    let policies = policies.map(|policy| format!("{}@{}", policy.name(), policy.access_scope));
    let dash = |text: String| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text
        }
    };
    [
        entry.principal_arn.clone(),
        entry.entry_type.to_string(),
        entry.username.clone(),
        dash(entry.kubernetes_groups.join(",")),
        dash(policies.collect::<Vec<_>>().join(" ")),
        entry.binding.to_string(),
        "entry".to_owned(),
    ]
}

/// The rows of aws-auth: those that count, and those that an entry or the mode keeps from counting.
fn aws_auth_rows(
    data: &BTreeMap<String, String>,
    snapshot: &AccessSnapshot,
    rows: &mut Vec<[String; 7]>,
) {
    let map = ConfigMap::parse(data, &MappingOptions::default());
    let (entries, _) = map.in_force(None, Default::default());
    let ignored = !snapshot.cluster.authentication_mode.reads_config_map();
    for entry in entries.roles.iter().chain(&entries.users) {
        let principal = entry.matcher.to_string();
        let shadowed = snapshot.entries.iter().any(|of_api| {
            !matches!(of_api.binding, EntryBinding::Dead { .. })
                && same_principal(&of_api.principal_arn, &principal)
        });
        let source = match (ignored, shadowed) {
            (true, _) => "aws-auth (not read)",
            (false, true) => "aws-auth (shadowed)",
            (false, false) => "aws-auth",
        };
        let groups: Vec<&str> = entry.groups.iter().map(|group| group.as_str()).collect();
        let groups = groups.join(",");
        rows.push([
            principal,
            "-".to_owned(),
            entry.username.to_string(),
            if groups.is_empty() {
                "-".to_owned()
            } else {
                groups
            },
            "-".to_owned(),
            "-".to_owned(),
            source.to_owned(),
        ]);
    }
    for account in &entries.accounts {
        rows.push([
            format!("account {}", account.account),
            "-".to_owned(),
            "(the ARN)".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            if ignored {
                "aws-auth (not read)"
            } else {
                "aws-auth"
            }
            .to_owned(),
        ]);
    }
}

/// Whether two ARNs are of one account, kind and name; aws-auth leaves out the path.
fn same_principal(one: &str, other: &str) -> bool {
    use countersign_arn::CallerArn;
    match (CallerArn::parse(one), CallerArn::parse(other)) {
        (Ok(one), Ok(other)) => one
            .canonical_without_role_path()
            .eq_ignore_ascii_case(&other.canonical_without_role_path()),
        _ => false,
    }
}

//! `countersign access can-i`: yes or no.

use std::io::{self, Write};

use anyhow::anyhow;
use clap::Args;
use countersign_client::{Io, Process};
use countersign_rbac::review::{ReviewVersion, RulesReview};
use countersign_review::{Rules, Subject, printable};
use serde_json::Value;

use super::facts::{ClusterArgs, EntryArgs, Facts, gather};
use super::{PlaceArgs, SOURCES, SubjectArgs, asked, exit, no_subject, warn};
use crate::exit::Exit;
use crate::output::{OutputFormat, columns};
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(after_help = format!("Examples:\n  \
    countersign access can-i get pods -n shop --principal arn:aws:iam::111122223333:role/Dev --cluster demo\n  \
    countersign access can-i create pods/exec --name cart-0 -n shop --user dana --group platform -f manifests/\n  \
    countersign access can-i get /metrics --user prometheus --context prod\n  \
    countersign access can-i --list -n shop --principal arn:aws:iam::111122223333:role/Dev --cluster demo\n\n\
    As `kubectl auth can-i`, for anybody, with access policies, and with the reason. `kubectl auth can-i --as` leaves out access policies,\n\
    because they do not follow impersonation; this does not. -o json is a whole review; with --list a SelfSubjectRulesReview.\n\n{SOURCES}"))]
pub(crate) struct CanIArgs {
    /// The verb: get, list, create, impersonate, …
    #[arg(value_name = "VERB", required_unless_present = "list")]
    verb: Option<String>,
    /// `RESOURCE[.GROUP][/SUBRESOURCE][/NAME]`, or a path that begins with `/`.
    #[arg(value_name = "RESOURCE", required_unless_present = "list")]
    resource: Option<String>,
    #[command(flatten)]
    subject: SubjectArgs,
    /// The subresource, where it is not in RESOURCE.
    #[arg(long, value_name = "NAME")]
    subresource: Option<String>,
    /// The object's name, where it is not in RESOURCE.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
    /// List everything that the subject may do in the namespace.
    #[arg(long, conflicts_with_all = ["verb", "resource", "subresource", "name", "quiet"])]
    list: bool,
    /// Print nothing; the exit code is the answer.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    entries: EntryArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Exit with 3 where a "no" is incomplete.
    #[arg(long)]
    strict: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(super) fn run(
    args: &CanIArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    let subject = args.subject.subject()?.ok_or_else(no_subject)?;
    let namespace = args.place.namespace.as_deref();
    let facts = gather(
        &args.entries,
        &args.cluster,
        Some(&subject),
        namespace,
        process,
        io,
    )?;
    if args.list {
        return list(args, &subject, &facts, io);
    }
    let (Some(verb), Some(resource)) = (&args.verb, &args.resource) else {
        return Err(Failure::usage(anyhow!("a verb and a resource are needed")));
    };
    let parts = (args.subresource.as_deref(), args.name.as_deref());
    let asked = asked(&facts, verb, resource, parts, &args.place)?;
    let review = facts.model.review(&subject, &asked);
    let code = exit(review.allowed, review.incomplete, args.strict);
    if args.quiet {
        return Ok(code);
    }
    warn(io.stderr, &asked.notes);
    if !review.allowed {
        warn(io.stderr, &review.incomplete_reasons);
    }
    args.output.write(io.stdout, &review, |out| {
        let word = if review.allowed { "yes" } else { "no" };
        writeln!(out, "{word} - {}", printable(&review.reason()))
    })?;
    Ok(code)
}

fn list(
    args: &CanIArgs,
    subject: &Subject,
    facts: &Facts,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    let namespace = match (&args.place.namespace, args.place.all_namespaces) {
        (_, true) => "",
        (Some(namespace), false) => namespace,
        (None, false) => &facts.namespace,
    };
    let rules = facts.model.rules(subject, namespace);
    warn(io.stderr, &rules.notes);
    if !rules.incomplete.is_empty() {
        let reasons = rules.incomplete.join("; ");
        warn(
            io.stderr,
            &[format!("the list may be incomplete: {reasons}")],
        );
    }
    // As the API server would answer, so that tools that read such answers read this one.
    let review = RulesReview {
        version: ReviewVersion::V1,
        namespace: namespace.to_owned(),
        status: None,
    };
    let json = review.answered(rules.status()).to_json();
    let value: Value = serde_json::from_slice(&json)?;
    args.output
        .write(io.stdout, &value, |out| table(out, &rules))?;
    let nothing = rules.rows.is_empty();
    Ok(exit(!nothing, !rules.incomplete.is_empty(), args.strict))
}

fn table(out: &mut dyn Write, rules: &Rules) -> io::Result<()> {
    let list = |list: &[String]| match list {
        [] => "-".to_owned(),
        list => list.join(","),
    };
    let rows = rules.rows.iter().map(|row| {
        let rule = &row.rule;
        let resources: Vec<String> = rule
            .resources
            .iter()
            .flat_map(|resource| {
                rule.api_groups
                    .iter()
                    .map(move |group| match group.as_str() {
                        "" => resource.clone(),
                        group => format!("{resource}.{group}"),
                    })
            })
            .collect();
        [
            list(&resources),
            list(&rule.non_resource_urls),
            list(&rule.resource_names),
            list(&rule.verbs),
            row.from.clone(),
        ]
    });
    let head = ["RESOURCES", "NON-RESOURCE URLS", "NAMES", "VERBS", "FROM"];
    columns(out, head, rows)
}

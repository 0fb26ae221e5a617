//! `countersign access why`: the whole chain.

use anyhow::anyhow;
use clap::Args;
use countersign_client::{Io, Process};
use countersign_review::Subject;

use super::facts::{ClusterArgs, EntryArgs, gather};
use super::{PlaceArgs, SOURCES, SubjectArgs, asked, exit, no_subject};
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(after_help = format!("Examples:\n  \
    countersign access why arn:aws:iam::111122223333:role/Dev get pods -n shop --cluster demo\n  \
    countersign access why --as-principal arn:aws:iam::111122223333:role/Dev delete pods/cart-0 -n shop\n  \
    countersign access why user:dana list nodes -f manifests/\n  \
    countersign access why sa:shop/build get pods/log -n shop --context prod -o json\n\n\
    SUBJECT is an ARN, user:NAME, group:NAME, sa:NAMESPACE/NAME, or a user's name; --principal, --user and --group name it as well.\n\
    A principal is followed from its access entry or aws-auth row to its groups, access policies, bindings, roles and rules. A \"no\"\n\
    shows where the chain broke, and what would change it: each suggestion was checked by the same decision.\n\n{SOURCES}"))]
pub(crate) struct WhyArgs {
    /// SUBJECT VERB RESOURCE; RESOURCE is `RESOURCE[.GROUP][/SUBRESOURCE][/NAME]`, or a path that begins with `/`.
    #[arg(value_name = "SUBJECT VERB RESOURCE", num_args = 2..=3, required = true)]
    words: Vec<String>,
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

pub(super) fn run(args: &WhyArgs, process: &Process<'_>, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let (subject, verb, resource) = match (args.subject.subject()?, args.words.as_slice()) {
        (Some(subject), [verb, resource]) => (subject, verb, resource),
        (Some(_), _) => {
            return Err(Failure::usage(anyhow!(
                "the subject is named twice: leave out SUBJECT, or the options"
            )));
        }
        (None, [subject, verb, resource]) => {
            let exact = args.subject.exact_groups;
            let session = args.subject.session_name.as_deref();
            let subject = Subject::parse(subject, session, exact).map_err(Failure::usage)?;
            (subject, verb, resource)
        }
        (None, _) => return Err(no_subject()),
    };
    let namespace = args.place.namespace.as_deref();
    let facts = gather(
        &args.entries,
        &args.cluster,
        Some(&subject),
        namespace,
        process,
        io,
    )?;
    let parts = (args.subresource.as_deref(), args.name.as_deref());
    let asked = asked(&facts, verb, resource, parts, &args.place)?;
    let review = facts.model.review(&subject, &asked);
    args.output
        .write(io.stdout, &review, |out| write!(out, "{review}"))?;
    Ok(exit(review.allowed, review.incomplete, args.strict))
}

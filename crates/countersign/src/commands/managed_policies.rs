//! `countersign iam managed-policies`: the managed policies of AWS that are not shipped (IAM API spec, section 6).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use countersign_arn::{Arn, Partition};
use countersign_policy::Document;
use countersign_server::admin::{AdminAnswer, AdminOp};
use countersign_store::records::{AwsPolicy, PolicyVersion};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::local::{LocalArgs, unexpected};
use super::settings;
use crate::exit::Exit;
use crate::report::Failure;

/// Bytes of policies sent at once, half of what a server takes.
const MAX_BATCH: usize = 512 << 10;
/// Largest file, most files, and how deep a directory is looked into.
const MAX_FILE: u64 = 64 << 20;
const MAX_FILES: usize = 10_000;
const MAX_DEPTH: usize = 8;

#[derive(Debug, Subcommand)]
pub(crate) enum ManagedPoliciesCommand {
    /// Take over managed policies of AWS, so that they can be attached.
    ///
    /// FILE is what `aws iam get-account-authorization-details --filter AWSManagedPolicy` prints. DIR has documents named
    /// NAME.json, those of policies with a path in directories of that path, such as service-role/NAME.json; files may also
    /// be what `aws iam get-policy-version` prints. The same import again changes nothing.
    #[command(
        after_help = "Example:\n  aws iam get-account-authorization-details --filter AWSManagedPolicy > gaad.json\n  \
        countersign iam managed-policies import gaad.json\n\n\
        Exit codes: 0 imported or there already, 2 unreadable input, 3 the store could not be written."
    )]
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file, or the directory.
    #[arg(value_name = "FILE|DIR")]
    from: PathBuf,
    #[command(flatten)]
    local: LocalArgs,
}

pub(crate) fn run(command: &ManagedPoliciesCommand, out: &mut dyn Write) -> Result<Exit, Failure> {
    let ManagedPoliciesCommand::Import(args) = command;
    let policies = read(&args.from).map_err(Failure::usage)?;
    if policies.is_empty() {
        return Err(Failure::usage(anyhow!(
            "there is no managed policy of AWS in `{}`",
            args.from.display()
        )));
    }
    let (written, unchanged) = settings::block_on(async {
        let mut done = (0, 0);
        for policies in batches(policies)? {
            let op = AdminOp::ImportAwsPolicies { policies };
            let AdminAnswer::PoliciesImported { written, unchanged } = args.local.run(&op).await?
            else {
                return Err(unexpected());
            };
            done = (done.0 + written, done.1 + unchanged);
        }
        Ok(done)
    })?;
    writeln!(
        out,
        "{written} policies imported, {unchanged} were there already"
    )?;
    Ok(Exit::Fine)
}

/// As many policies at once as a running server takes.
fn batches(policies: Vec<AwsPolicy>) -> Result<Vec<Vec<AwsPolicy>>, Failure> {
    let mut batches: Vec<Vec<AwsPolicy>> = Vec::new();
    let mut room = 0;
    for policy in policies {
        let bytes = serde_json::to_vec(&policy)?.len();
        match batches.last_mut() {
            Some(batch) if bytes <= room => batch.push(policy),
            _ => {
                room = MAX_BATCH;
                batches.push(vec![policy]);
            }
        }
        room = room.saturating_sub(bytes);
    }
    Ok(batches)
}

/// The policies of a file or directory, by name.
fn read(from: &Path) -> anyhow::Result<Vec<AwsPolicy>> {
    let mut policies = BTreeMap::new();
    if from.is_dir() {
        let mut files = Vec::new();
        find(from, "/", 0, &mut files)?;
        files.sort();
        for (file, path) in files {
            let text = read_file(&file)?;
            read_one(&text, &file, &path, &mut policies)
                .with_context(|| format!("in `{}`", file.display()))?;
        }
    } else {
        let text = read_file(from)?;
        read_dumps(&text, &mut policies).with_context(|| format!("in `{}`", from.display()))?;
    }
    Ok(policies.into_values().collect())
}

fn find(
    dir: &Path,
    path: &str,
    depth: usize,
    into: &mut Vec<(PathBuf, String)>,
) -> anyhow::Result<()> {
    if depth > MAX_DEPTH {
        bail!("`{}` is too deep", dir.display());
    }
    let failed = || format!("could not read `{}`", dir.display());
    for entry in std::fs::read_dir(dir).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let (file, kind) = (entry.path(), entry.file_type().with_context(failed)?);
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if kind.is_dir() {
            find(&file, &format!("{path}{name}/"), depth + 1, into)?;
        } else if name.ends_with(".json") {
            into.push((file, path.to_owned()));
        }
        if into.len() > MAX_FILES {
            bail!("there are more than {MAX_FILES} files");
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("could not read `{}`", path.display());
    let mut text = String::new();
    let mut file = File::open(path).with_context(failed)?.take(MAX_FILE + 1);
    file.read_to_string(&mut text).with_context(failed)?;
    if text.len() as u64 > MAX_FILE {
        bail!("`{}` has more than 64 MiB", path.display());
    }
    Ok(text)
}

/// What `get-account-authorization-details` prints; pages may follow each other.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dump<'a> {
    #[serde(borrow)]
    policies: Vec<Dumped<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dumped<'a> {
    #[serde(borrow)]
    policy_name: Cow<'a, str>,
    #[serde(borrow)]
    policy_id: Cow<'a, str>,
    #[serde(borrow)]
    arn: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    default_version_id: Cow<'a, str>,
    #[serde(borrow, default)]
    description: Option<Cow<'a, str>>,
    create_date: Timestamp,
    update_date: Timestamp,
    #[serde(borrow)]
    policy_version_list: Vec<Version<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version<'a> {
    #[serde(borrow)]
    document: &'a RawValue,
    #[serde(borrow)]
    version_id: Cow<'a, str>,
    #[serde(default)]
    create_date: Option<Timestamp>,
}

/// What `get-policy-version` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneVersion<'a> {
    #[serde(borrow)]
    policy_version: Version<'a>,
}

fn read_dumps(text: &str, into: &mut BTreeMap<Box<str>, AwsPolicy>) -> anyhow::Result<()> {
    for page in serde_json::Deserializer::from_str(text).into_iter::<Dump<'_>>() {
        for dumped in page?.policies {
            let name = dumped.policy_name.clone();
            let taken = take(dumped).with_context(|| format!("policy `{name}`"))?;
            into.extend(taken.map(|policy| (policy.name.clone(), policy)));
        }
    }
    Ok(())
}

/// Policies of customers are passed over: those belong to their account.
fn take(dumped: Dumped<'_>) -> anyhow::Result<Option<AwsPolicy>> {
    let arn = Arn::parse(&dumped.arn)?;
    if arn.account != "aws" {
        return Ok(None);
    }
    let expected = format!("policy{}{}", dumped.path, dumped.policy_name);
    if arn.resource != expected {
        bail!("its ARN `{arn}` has another path or name");
    }
    let partition: Partition = arn.partition.parse()?;
    let versions = dumped
        .policy_version_list
        .iter()
        .map(|version| {
            Ok(PolicyVersion {
                number: number(&version.version_id)?,
                created: version.create_date.unwrap_or(dumped.update_date),
                document: document(version.document, partition)?,
            })
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Some(AwsPolicy {
        path: dumped.path.as_ref().into(),
        id: dumped.policy_id.as_ref().into(),
        created: dumped.create_date,
        updated: dumped.update_date,
        description: dumped.description.map(|text| text.as_ref().into()),
        versions,
        default_version: number(&dumped.default_version_id)?,
        name: dumped.policy_name.as_ref().into(),
    }))
}

/// A file of a directory: a document, or one version of a policy with its document.
fn read_one(
    text: &str,
    file: &Path,
    path: &str,
    into: &mut BTreeMap<Box<str>, AwsPolicy>,
) -> anyhow::Result<()> {
    let keys: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text)?;
    if keys.contains_key("Policies") {
        return read_dumps(text, into);
    }
    let name = file
        .file_stem()
        .and_then(|name| name.to_str())
        .ok_or_else(|| anyhow!("the file has no name"))?;
    let unknown = AwsPolicy::unknown_date();
    let version = if keys.contains_key("PolicyVersion") {
        let OneVersion { policy_version } = serde_json::from_str(text)?;
        PolicyVersion {
            number: number(&policy_version.version_id)?,
            created: policy_version.create_date.unwrap_or(unknown),
            document: document(policy_version.document, Partition::Aws)?,
        }
    } else {
        let whole: &RawValue = serde_json::from_str(text)?;
        PolicyVersion {
            number: 1,
            created: unknown,
            document: document(whole, Partition::Aws)?,
        }
    };
    let policy = AwsPolicy {
        name: name.into(),
        path: path.into(),
        id: AwsPolicy::stand_in_id(name).into(),
        created: unknown,
        updated: version.created,
        description: None,
        default_version: version.number,
        versions: vec![version],
    };
    if into.insert(name.into(), policy).is_some() {
        bail!("another file has a policy of this name");
    }
    Ok(())
}

fn number(version: &str) -> anyhow::Result<u32> {
    version
        .strip_prefix('v')
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| anyhow!("`{version}` is no version id"))
}

/// A document, given as JSON or as percent-encoded text, without white space between its parts and for partition `aws`.
fn document(given: &RawValue, partition: Partition) -> anyhow::Result<Box<str>> {
    let text = given.get();
    let decoded = if text.starts_with('"') {
        percent_decoded(&serde_json::from_str::<Cow<'_, str>>(text)?)?
    } else {
        text.to_owned()
    };
    let mut compact = without_white_space(&decoded);
    if partition != Partition::Aws {
        compact = compact.replace(&format!("arn:{partition}:"), "arn:aws:");
    }
    Document::parse(&*compact).map_err(|error| anyhow!("its document is no policy: {error}"))?;
    Ok(compact.into())
}

fn without_white_space(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut inside, mut escaped) = (false, false);
    for character in json.chars() {
        if !inside && matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        compact.push(character);
        match character {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            _ => {}
        }
    }
    compact
}

fn percent_decoded(text: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else {
            bail!("its document is not percent-encoded rightly");
        };
        bytes.push(u8::try_from(high << 4 | low)?);
    }
    Ok(String::from_utf8(bytes)?)
}

//! Where facts come from.

use std::collections::BTreeMap;
use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use countersign_access::{
    AccessFile, AccessRules, Catalogue, CompiledPolicies, DerivedRules, FileOptions, MAX_FILE,
};
use countersign_arn::AccountId;
use countersign_client::{Io, Process};
use countersign_mapping::Severity;
use countersign_rbac::{Catalog as Resources, Index, Unread};
use countersign_review::{AccessSnapshot, MAX_SNAPSHOT, Model, Parts, Policies, Subject};
use countersign_server::admin::{AdminAnswer, AdminOp};
use countersign_sources::rbac::{Manifests, cluster_client, list, read_aws_auth};
use serde::Deserialize;

use super::super::local::{LocalArgs, unexpected};
use super::super::settings;
use super::eks;
use super::warn;
use crate::report::Failure;

/// Largest `aws-auth` manifest; Kubernetes allows no more for the object.
const MAX_AWS_AUTH: u64 = 2 << 20;

/// Where access entries come from.
#[derive(Debug, Args)]
pub(super) struct EntryArgs {
    /// The cluster: its name, or its ARN.
    #[arg(long, env = "COUNTERSIGN_CLUSTER", value_name = "CLUSTER")]
    pub(super) cluster: Option<String>,
    /// The account of the cluster, where several have one of the name.
    #[arg(long, value_name = "12 DIGITS")]
    pub(super) account: Option<AccountId>,
    /// Ask an EKS API, AWS's or any other, as AWS's tools find it: region, profile, credentials.
    #[arg(long, conflicts_with_all = ["entries", "data_dir", "config", "store"])]
    pub(super) eks: bool,
    /// The region of the EKS API.
    #[arg(long, value_name = "REGION", requires = "eks")]
    pub(super) region: Option<String>,
    /// The AWS profile.
    #[arg(long, value_name = "PROFILE", requires = "eks")]
    pub(super) profile: Option<String>,
    /// Another endpoint of the EKS API.
    #[arg(long, value_name = "URL", requires = "eks")]
    pub(super) endpoint_url: Option<String>,
    /// A file that `access list -o json` wrote; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_dir", "config", "store"])]
    pub(super) entries: Option<PathBuf>,
    /// Custom access policies and access rules, as the server has them; may be given again.
    #[arg(long, value_name = "FILE")]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) local: LocalArgs,
}

/// Where the other side comes from: the Kubernetes objects.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// The kubeconfig of the cluster; `KUBECONFIG` and `~/.kube/config` by default.
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    #[arg(long, value_name = "CONTEXT")]
    pub(super) context: Option<String>,
    /// Roles and bindings from manifests instead of a cluster: a file, a directory, `-` for standard input; may be given again.
    #[arg(long, visible_alias = "filename", short = 'f', value_name = "PATH", conflicts_with_all = ["kubeconfig", "context"])]
    pub(super) rbac: Vec<PathBuf>,
    /// Leave out the roles and bindings that every API server makes for itself, which manifests do not have.
    #[arg(long, requires = "rbac")]
    pub(super) no_defaults: bool,
    /// The aws-auth ConfigMap from a manifest.
    #[arg(long, value_name = "FILE")]
    pub(super) aws_auth: Option<PathBuf>,
}

/// What was gathered.
pub(super) struct Facts {
    pub(super) model: Model,
    /// The namespace when none is named.
    pub(super) namespace: String,
}

/// What a cluster told.
#[derive(Default)]
struct Read {
    index: Index,
    catalog: Option<Resources>,
    namespace: Option<String>,
    aws_auth: Option<BTreeMap<String, String>>,
    incomplete: Vec<String>,
}

/// Gathers what a question about `subject` needs; everything, if it is about all.
pub(super) fn gather(
    entries: &EntryArgs,
    cluster: &ClusterArgs,
    subject: Option<&Subject>,
    namespace: Option<&str>,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Facts, Failure> {
    let mut snapshot = match subject {
        // A Kubernetes user has no entry; one is looked up only where it was named, to say what impersonation lacks.
        Some(Subject::User(_)) if !entries.is_named() => None,
        _ => Some(snapshot(entries, subject, process, io)?),
    };
    let needs_aws_auth = snapshot.as_ref().is_some_and(|snapshot| {
        snapshot.aws_auth.is_none() && snapshot.cluster.authentication_mode.reads_config_map()
    });
    let mut read = match cluster.rbac.as_slice() {
        [] => live(cluster, namespace, needs_aws_auth)?,
        paths => manifests(paths, cluster, io)?,
    };
    if let Some(path) = &cluster.aws_auth {
        read.aws_auth = Some(aws_auth_file(path, io.stdin)?);
    }
    if let (Some(snapshot), Some(data)) = (&mut snapshot, read.aws_auth) {
        snapshot.aws_auth = Some(data);
    }
    let (policies, rules) = entries.policies(io)?;
    let model = Model::new(Parts {
        snapshot,
        index: read.index,
        catalog: read.catalog,
        policies,
        rules,
        incomplete: read.incomplete,
    });
    // What is merely odd is for lint; what cannot be used changes the answer.
    let errors = model
        .findings()
        .iter()
        .filter(|finding| finding.severity == Severity::Error);
    let findings: Vec<String> = errors
        .map(|finding| format!("aws-auth: {finding}"))
        .collect();
    warn(io.stderr, &findings);
    Ok(Facts {
        model,
        namespace: read.namespace.unwrap_or_else(|| "default".to_owned()),
    })
}

/// The access entries of a cluster; of `subject` alone where asking for all costs many calls.
pub(super) fn snapshot(
    args: &EntryArgs,
    subject: Option<&Subject>,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<AccessSnapshot, Failure> {
    let principal = match subject {
        Some(Subject::Principal(principal)) => Some(principal),
        Some(Subject::User(_)) | None => None,
    };
    if let Some(path) = &args.entries {
        return file(path, io);
    }
    if args.eks {
        return eks::snapshot(args, principal, process, io);
    }
    let op = AdminOp::ShowAccess {
        account: args.account,
        cluster: args.cluster.clone(),
        principal: principal.map(|principal| principal.arn.to_string()),
    };
    match settings::block_on(args.local.run(&op))? {
        AdminAnswer::Access(snapshot) => Ok(*snapshot),
        _ => Err(unexpected()),
    }
}

/// `aws-auth` alone: from a file, or from a cluster that was named.
pub(super) fn aws_auth(
    args: &ClusterArgs,
    incomplete: &mut Vec<String>,
    io: &mut Io<'_>,
) -> Result<Option<BTreeMap<String, String>>, Failure> {
    if let Some(path) = &args.aws_auth {
        return aws_auth_file(path, io.stdin).map(Some);
    }
    if args.kubeconfig.is_none() && args.context.is_none() {
        return Ok(None);
    }
    settings::block_on(async {
        let connected = cluster_client(args.kubeconfig.as_deref(), args.context.as_deref()).await;
        let (client, _) = connected.map_err(Failure::usage)?;
        match read_aws_auth(&client).await {
            Ok(data) => Ok(Some(data)),
            Err(error) => {
                incomplete.push(format!("aws-auth was not read: {error}"));
                Ok(None)
            }
        }
    })
}

impl EntryArgs {
    /// AWS's policies, and those of the files, with the access rules of the files.
    pub(super) fn policies(&self, io: &mut Io<'_>) -> Result<(Policies, AccessRules), Failure> {
        if self.policies.is_empty() {
            return Ok((Policies::default(), AccessRules::default()));
        }
        let options = FileOptions {
            // Only a server of ours has rules, and only AWS's API cannot be one that is the IAM as well.
            iam_is_known: !self.eks,
            ..FileOptions::default()
        };
        let (mut custom, mut rules) = (Vec::new(), Vec::new());
        for path in &self.policies {
            let text = read_file(path, MAX_FILE as u64, io.stdin)?;
            let name = path.display().to_string();
            let read = AccessFile::parse(&name, &text, &options).map_err(|errors| {
                let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Failure::usage(anyhow!(
                    "the access policies cannot be used: {}",
                    told.join("; ")
                ))
            })?;
            custom.extend(read.policies);
            rules.extend(read.rules);
        }
        let catalogue = Catalogue::new(custom, DerivedRules::Off).map_err(Failure::usage)?;
        let rules = AccessRules::new(rules, &catalogue).map_err(Failure::usage)?;
        Ok((Policies::new(CompiledPolicies::new(catalogue)), rules))
    }

    fn is_named(&self) -> bool {
        self.eks || self.entries.is_some() || self.cluster.is_some()
    }
}

fn file(path: &Path, io: &mut Io<'_>) -> Result<AccessSnapshot, Failure> {
    let text = read_file(path, MAX_SNAPSHOT as u64, io.stdin)?;
    let failed = |error: anyhow::Error| {
        Failure::usage(error.context(format!("`{}` cannot be used", path.display())))
            .hint("`countersign access list -o json` writes such a file")
    };
    let snapshot: AccessSnapshot = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| failed(error.into()))?
    } else {
        serde_saphyr::from_str(&text).map_err(|error| failed(anyhow!("{error}")))?
    };
    snapshot.checked().map_err(|error| failed(error.into()))
}

fn live(
    args: &ClusterArgs,
    namespace: Option<&str>,
    needs_aws_auth: bool,
) -> Result<Read, Failure> {
    let named = args.kubeconfig.is_some() || args.context.is_some();
    let mut read = Read::default();
    let missing = |read: &mut Read, reason: String| {
        read.index.mark_unread(Unread {
            namespace: None,
            reason: reason.into(),
        });
    };
    settings::block_on(async {
        let connected = cluster_client(args.kubeconfig.as_deref(), args.context.as_deref()).await;
        let (client, of_context) = match connected {
            Ok(connected) => connected,
            Err(error) if named => return Err(Failure::usage(error)),
            Err(_) => {
                let reason = "no roles and bindings were read: name a cluster with `--context`, or manifests with `--rbac`";
                missing(&mut read, reason.to_owned());
                return Ok(());
            }
        };
        let asked = namespace.unwrap_or(&of_context);
        match list(&client, Some(asked)).await {
            Ok(live) => read.index = live.index(),
            Err(error) if named => return Err(Failure::unknown(error)),
            Err(error) => missing(&mut read, error.to_string()),
        }
        read.namespace = Some(of_context);
        if needs_aws_auth && args.aws_auth.is_none() {
            match read_aws_auth(&client).await {
                Ok(data) => read.aws_auth = Some(data),
                Err(error) => read
                    .incomplete
                    .push(format!("aws-auth was not read: {error}")),
            }
        }
        Ok(())
    })?;
    Ok(read)
}

fn manifests(paths: &[PathBuf], args: &ClusterArgs, io: &mut Io<'_>) -> Result<Read, Failure> {
    let mut manifests = Manifests::default();
    for path in paths {
        if path == Path::new("-") {
            manifests
                .read_stream("standard input", &mut *io.stdin)
                .map_err(Failure::usage)?;
        } else {
            manifests.read_path(path).map_err(Failure::usage)?;
        }
    }
    let problems: Vec<String> = manifests.problems.iter().map(ToString::to_string).collect();
    warn(io.stderr, &problems);
    let mut catalog = Resources::builtin().clone();
    catalog.extend(std::mem::take(&mut manifests.resources));
    Ok(Read {
        index: manifests.index(!args.no_defaults, "default"),
        catalog: Some(catalog),
        ..Read::default()
    })
}

fn aws_auth_file(
    path: &Path,
    stdin: &mut dyn BufRead,
) -> Result<BTreeMap<String, String>, Failure> {
    #[derive(Deserialize)]
    struct ConfigMap {
        #[serde(default)]
        data: Option<BTreeMap<String, String>>,
    }
    let text = read_file(path, MAX_AWS_AUTH, stdin)?;
    let map: ConfigMap = serde_saphyr::from_str(&text).map_err(|error| {
        Failure::usage(anyhow!(
            "`{}` is no aws-auth ConfigMap: {error}",
            path.display()
        ))
    })?;
    Ok(map.data.unwrap_or_default())
}

fn read_file(path: &Path, most: u64, stdin: &mut dyn BufRead) -> Result<String, Failure> {
    let shown = path.display();
    let mut text = String::new();
    let read = if path == Path::new("-") {
        stdin.take(most + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most + 1).read_to_string(&mut text))
    };
    read.with_context(|| format!("could not read `{shown}`"))
        .map_err(Failure::usage)?;
    if text.len() as u64 > most {
        return Err(Failure::usage(anyhow!(
            "`{shown}` has more than {most} bytes"
        )));
    }
    Ok(text)
}

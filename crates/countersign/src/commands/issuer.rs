//! `countersign issuer`: the issuer of a cluster's service account tokens, and its keys.

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use countersign_arn::AccountId;
use countersign_oidc::{Algorithm, IssuerUrl, KeySet, PublicKey, discovery_document};
use countersign_server::admin::{AdminAnswer, AdminOp, IssuerChange, IssuerReport};
use countersign_server::issuer::DEFAULT_PUBLIC_URL;
use countersign_sources::kubernetes::{KubernetesAccess, TokenApi, TokenApiError};
use serde::Serialize;
use serde_json::json;

use super::local::{LocalArgs, unexpected};
use super::settings;
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

/// Longest file of keys that is read.
const MAX_KEYS: u64 = 1 << 20;
/// How long the API server may take for its keys.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(crate) enum IssuerCommand {
    /// The keys of a cluster's service account tokens.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Write the issuer's two documents below a directory, to be served from a bucket.
    Export(ExportArgs),
    /// Write the signing key and the public keys for kube-apiserver, and print its flags.
    Flags(FlagsArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Add public keys: PEM as `--service-account-key-file` has them, or a JSON key set.
    Add(AddArgs),
    /// List the keys, and where each is in its life.
    #[command(alias = "ls")]
    List(ListArgs),
    /// Take over the keys that the cluster's API server publishes; the server refreshes them where it has a kubeconfig.
    Pull(PullArgs),
    /// Make the first signing key, for an API server that is started with `issuer flags`.
    Generate(GenerateArgs),
    /// Publish the next signing key. It signs six minutes later, when nobody has a key set without it.
    Rotate(ListArgs),
    /// Remove a key, or all of them with --all.
    Remove(RemoveArgs),
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// The cluster: its name or ARN; the only one there is by default.
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,
    /// The cluster's account, where several have one of the name.
    #[arg(long, value_name = "12 DIGITS")]
    account: Option<AccountId>,
    #[command(flatten)]
    local: LocalArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign issuer keys add --from /etc/kubernetes/pki/sa.pub\n  \
    kubectl get --raw /openid/v1/jwks | countersign issuer keys add --from -")]
pub(crate) struct AddArgs {
    /// The file; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    of: ClusterArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    of: ClusterArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  countersign issuer keys pull --kubeconfig admin.conf\n\n\
    Needed: get on the path /openid/v1/jwks, which the ClusterRole system:service-account-issuer-discovery has."
)]
pub(crate) struct PullArgs {
    /// The kubeconfig of the cluster; the service account of the pod by default.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Take the place of uploaded or generated keys.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    of: ClusterArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What tokens are signed with.
    #[arg(long, value_enum, default_value_t)]
    algorithm: SigningAlgorithm,
    #[command(flatten)]
    of: ClusterArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// What kube-apiserver and all verifiers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum SigningAlgorithm {
    /// RSA, 2048 bits.
    #[default]
    Rs256,
    /// P-256.
    Es256,
    /// P-384.
    Es384,
}

impl SigningAlgorithm {
    const fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::Rs256,
            Self::Es256 => Algorithm::Es256,
            Self::Es384 => Algorithm::Es384,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  countersign issuer keys remove --kid HfLlrVsm…\n  countersign issuer keys remove --all\n\n\
    A generated key that signs, or whose tokens may live, is removed only with --force: for a key that became known to others."
)]
pub(crate) struct RemoveArgs {
    /// The key's id.
    #[arg(
        long,
        value_name = "KID",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    kid: Option<String>,
    /// Take all keys away, so that none of the cluster's tokens is good.
    #[arg(long)]
    all: bool,
    /// Remove a key that is in use.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    of: ClusterArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Which URL.
#[derive(Debug, Args)]
pub(crate) struct UrlArgs {
    /// The issuer's URL, where it is not below the public URL: a bucket's.
    #[arg(long, value_name = "URL", conflicts_with = "public_url")]
    issuer: Option<String>,
    /// The URL that issuers begin with; `issuer.publicUrl` of the configuration by default.
    #[arg(long, env = "COUNTERSIGN_ISSUER_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  countersign issuer export --issuer https://bucket.s3.eu-west-1.amazonaws.com/orchard ./out\n\n\
    Upload what is below the directory as it is: .well-known/openid-configuration and keys, both as application/json.\n\
    Export again after every change of the keys."
)]
pub(crate) struct ExportArgs {
    /// The directory; made when it is not there.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    url: UrlArgs,
    #[command(flatten)]
    of: ClusterArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  countersign issuer flags --out /etc/kubernetes/countersign\n\n\
    After a rotation: write the files again once the new key signs (`issuer keys list`), restart kube-apiserver, and remove the\n\
    old key a day later."
)]
pub(crate) struct FlagsArgs {
    /// Where the files are written, and where kube-apiserver reads them.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    url: UrlArgs,
    #[command(flatten)]
    of: ClusterArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(crate) fn run(command: &IssuerCommand, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        IssuerCommand::Keys(KeysCommand::Add(args)) => {
            let document = read_keys(&args.from)?;
            let report = ask(&args.of, IssuerChange::Add { document })?;
            show(&report, args.output, out)
        }
        IssuerCommand::Keys(KeysCommand::List(args)) => {
            let report = ask(&args.of, IssuerChange::Show {})?;
            show(&report, args.output, out)
        }
        IssuerCommand::Keys(KeysCommand::Pull(args)) => {
            let change = IssuerChange::Pulled {
                document: settings::block_on(published(args.kubeconfig.as_deref()))?,
                replace: args.replace,
            };
            show(&ask(&args.of, change)?, args.output, out)
        }
        IssuerCommand::Keys(KeysCommand::Generate(args)) => {
            let algorithm = args.algorithm.algorithm().name().to_owned();
            let report = ask(&args.of, IssuerChange::Generate { algorithm })?;
            show(&report, args.output, out)
        }
        IssuerCommand::Keys(KeysCommand::Rotate(args)) => {
            let report = ask(&args.of, IssuerChange::Rotate {})?;
            show(&report, args.output, out)
        }
        IssuerCommand::Keys(KeysCommand::Remove(args)) => {
            let change = match &args.kid {
                Some(kid) => IssuerChange::Remove {
                    kid: kid.clone(),
                    force: args.force,
                },
                None => IssuerChange::Clear {},
            };
            show(&ask(&args.of, change)?, args.output, out)
        }
        IssuerCommand::Export(args) => export(args, out),
        IssuerCommand::Flags(args) => flags(args, out),
    }
}

fn ask(of: &ClusterArgs, change: IssuerChange) -> Result<IssuerReport, Failure> {
    let op = AdminOp::IssuerKeys {
        account: of.account,
        cluster: of.cluster.clone(),
        change,
    };
    match settings::block_on(of.local.run(&op))? {
        AdminAnswer::IssuerKeys(report) => Ok(*report),
        _ => Err(unexpected()),
    }
}

fn show(report: &IssuerReport, format: OutputFormat, out: &mut dyn Write) -> Result<Exit, Failure> {
    format.write(out, report, |out| {
        let source = report.source.as_deref().unwrap_or("none");
        writeln!(out, "{}  keys: {source}", report.cluster)?;
        for key in &report.keys {
            write!(out, "{}  {}  {}", key.kid, key.key_type, key.state)?;
            if let Some(from) = key.signs_from {
                write!(out, "  signs from {from}")?;
            }
            if let Some(until) = key.needed_until {
                write!(out, "  needed until {until}")?;
            }
            writeln!(out)?;
        }
        match &report.next_step {
            Some(step) => writeln!(out, "next: {step}"),
            None => Ok(()),
        }
    })?;
    Ok(Exit::Fine)
}

/// The key set of a file, PEM or JSON.
fn read_keys(from: &Path) -> Result<String, Failure> {
    let place = || format!("the keys in `{}` cannot be used", from.display());
    let mut bytes = Vec::new();
    let read = if from == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MAX_KEYS)
            .read_to_end(&mut bytes)
    } else {
        std::fs::File::open(from).and_then(|file| file.take(MAX_KEYS).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("could not read `{}`", from.display()))
        .map_err(Failure::usage)?;
    let keys = if bytes.trim_ascii_start().starts_with(b"{") {
        KeySet::parse(&bytes).with_context(place)
    } else {
        PublicKey::from_pem(&bytes)
            .and_then(KeySet::of)
            .with_context(place)
    };
    Ok(keys.map_err(Failure::usage)?.to_document())
}

/// What the API server publishes.
async fn published(kubeconfig: Option<&Path>) -> Result<String, Failure> {
    let access = KubernetesAccess {
        kubeconfig: kubeconfig.map(Into::into),
        master: None,
    };
    let client = access.client().await.map_err(|error| {
        Failure::usage(error).hint("name the cluster's kubeconfig with `--kubeconfig FILE`")
    })?;
    let document = TokenApi::new(client, TIMEOUT).key_set().await;
    let document = document.map_err(|error| {
        let failure = Failure::unknown(error);
        match error {
            TokenApiError::Status(401 | 403) => failure
                .hint("bind the ClusterRole `system:service-account-issuer-discovery` to who asks"),
            _ => failure,
        }
    })?;
    let keys = KeySet::parse(&document)
        .context("the API server's key set cannot be used")
        .map_err(Failure::unknown)?;
    Ok(keys.to_document())
}

impl UrlArgs {
    /// The issuer's URL.
    fn issuer(&self, of: &ClusterArgs, id: &str) -> Result<String, Failure> {
        let url = match &self.issuer {
            Some(issuer) => issuer.clone(),
            None => {
                let configured = match &self.public_url {
                    Some(url) => Some(url.clone()),
                    None => of.local.issuer_public_url()?,
                };
                let base = configured.unwrap_or_else(|| DEFAULT_PUBLIC_URL.to_owned());
                format!("{}/id/{id}", base.trim_end_matches('/'))
            }
        };
        url.parse::<IssuerUrl>()
            .with_context(|| format!("`{url}` cannot be an issuer"))
            .map_err(Failure::usage)?;
        Ok(url)
    }
}

fn no_keys(report: &IssuerReport) -> Failure {
    Failure::usage(anyhow!("`{}` has no keys", report.cluster))
        .hint("`countersign issuer keys add`, `pull` or `generate`")
}

fn export(args: &ExportArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let report = ask(&args.of, IssuerChange::Show {})?;
    let issuer = args.url.issuer(&args.of, &report.id)?;
    let document = report.document.as_deref().ok_or_else(|| no_keys(&report))?;
    let base = issuer.trim_end_matches('/');
    let algorithms = report
        .algorithms
        .iter()
        .filter_map(|name| Algorithm::from_name(name));
    let discovery = discovery_document(&issuer, &format!("{base}/keys"), algorithms);
    let well_known = args.directory.join(".well-known");
    std::fs::create_dir_all(&well_known)
        .with_context(|| format!("could not make `{}`", well_known.display()))
        .map_err(Failure::usage)?;
    let files = [
        (well_known.join("openid-configuration"), discovery.as_str()),
        (args.directory.join("keys"), document),
    ];
    for (path, text) in &files {
        settings::write_if_changed(path, text.as_bytes(), 0o644)?;
    }
    let written: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
    let value = json!({ "issuer": issuer, "files": written });
    args.output.write(out, &value, |out| {
        for path in &written {
            writeln!(out, "{}", path.display())?;
        }
        writeln!(out, "issuer: {issuer}")
    })?;
    Ok(Exit::Fine)
}

fn flags(args: &FlagsArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let report = ask(&args.of, IssuerChange::SigningKey {})?;
    let issuer = args.url.issuer(&args.of, &report.id)?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("could not make `{}`", args.out.display()))
        .map_err(Failure::usage)?;
    let directory = args.out.canonicalize()?;
    let written = write_api_server_files(&directory, &issuer, &report)?;
    args.output.write(out, &written, |out| {
        for flag in &written.flags {
            writeln!(out, "{flag}")?;
        }
        Ok(())
    })?;
    Ok(Exit::Fine)
}

/// What kube-apiserver signs with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IssuerFiles {
    pub(super) issuer_url: String,
    pub(super) signing_key: PathBuf,
    pub(super) public_keys: PathBuf,
    pub(super) flags: Vec<String>,
}

/// Writes the key that signs now and all public keys into `directory`, and says the flags for them.
pub(super) fn write_api_server_files(
    directory: &Path,
    issuer: &str,
    report: &IssuerReport,
) -> Result<IssuerFiles, Failure> {
    let private = report.signing_key.as_ref().ok_or_else(|| {
        Failure::usage(anyhow!("`{}` has no generated signing key", report.cluster))
            .hint("`countersign issuer keys generate`; with keys of its own, kube-apiserver needs no files from here")
    })?;
    let signing_key = directory.join("sa-signer.key");
    let public_keys = directory.join("sa-keys.pem");
    settings::write_if_changed(&signing_key, private.expose().as_bytes(), 0o600)?;
    settings::write_if_changed(&public_keys, report.public_keys.as_bytes(), 0o644)?;
    let flags = vec![
        format!("--service-account-issuer={issuer}"),
        format!(
            "--service-account-jwks-uri={}/keys",
            issuer.trim_end_matches('/')
        ),
        format!(
            "--service-account-signing-key-file={}",
            signing_key.display()
        ),
        format!("--service-account-key-file={}", public_keys.display()),
        format!("--api-audiences={issuer}"),
    ];
    Ok(IssuerFiles {
        issuer_url: issuer.to_owned(),
        signing_key,
        public_keys,
        flags,
    })
}

//! `kubeconfig`: what `aws eks update-kubeconfig` does, with `countersign` as the credential plugin.

mod describe;
mod merge;

use std::path::{Path, PathBuf};

use base64::Engine as _;

use crate::chain::ChainError;
use crate::credentials::CredentialsError;
use crate::endpoint::EndpointError;
use crate::files::{self, LockFile, Mode};
use crate::get_token::Process;
use crate::http::{HttpError, chain as causes};
use crate::profile::{Choice, ProfileError, Profiles};
use crate::session::{Io, Session};
use crate::sts::StsError;
use crate::yaml::{self, Node};

pub use describe::Cluster;
pub use merge::MergeError;

#[doc(hidden)]
pub(crate) use merge::{Entries, merge};

/// The version of the credential plugin interface that is written, as the AWS CLI writes it; every client since 1.10 knows it.
const API_VERSION: &str = "client.authentication.k8s.io/v1beta1";

/// Write a cluster into a kubeconfig
///
/// The entry calls countersign for tokens, with the arguments the AWS CLI would get.
/// Example: countersign kubeconfig --name demo --region eu-west-1 --alias demo
#[derive(Debug, Clone, Default, clap::Args)]
pub struct KubeconfigArgs {
    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// URL of the API server; without it the EKS API is asked
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// File with the CA certificate of the API server, in PEM
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    pub certificate_authority: Option<PathBuf>,
    /// ARN of the cluster, the default name of its entries; without it, and without the EKS API, the name is used
    #[arg(long, value_name = "ARN", requires = "endpoint")]
    pub arn: Option<String>,
    /// Id to put into tokens if it is not the name, as for local clusters on Outposts
    #[arg(long, value_name = "ID", requires = "endpoint")]
    pub cluster_id: Option<String>,
    /// Kubeconfig file; by default the file of $KUBECONFIG that has the cluster, else its first, else ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Role to assume for tokens
    #[arg(long = "role-arn", visible_alias = "role", value_name = "ARN")]
    pub role_arn: Option<String>,
    /// Role to assume for asking the EKS API
    #[arg(long, value_name = "ARN")]
    pub assume_role_arn: Option<String>,
    /// Proxy to reach the API server through
    #[arg(long, value_name = "URL")]
    pub proxy_url: Option<String>,
    /// Name of the context
    #[arg(long, value_name = "NAME")]
    pub alias: Option<String>,
    /// Name of the user
    #[arg(long, value_name = "NAME")]
    pub user_alias: Option<String>,
    /// Print the merged kubeconfig and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the new entries as well
    #[arg(long)]
    pub verbose: bool,
    /// Region of the cluster
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Profile of the shared configuration files; written into the entry
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Program to write into the entry
    #[arg(long, value_name = "COMMAND", default_value = "countersign")]
    pub command: String,
}

/// Why no kubeconfig was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeconfigError {
    /// The shared files are unusable.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// No region is named.
    #[error("no region is configured: give --region or set AWS_REGION")]
    NoRegion,
    /// What is configured makes no sense.
    #[error(transparent)]
    Plan(#[from] CredentialsError),
    /// No credentials for the EKS API.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// An endpoint is malformed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The HTTP client could not be set up.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The EKS API or STS refused.
    #[error(transparent)]
    Api(#[from] StsError),
    /// The EKS API answered something else.
    #[error("{0} gave no usable answer to DescribeCluster")]
    Answer(String),
    /// The cluster cannot be used now.
    #[error("Cluster status is {0}")]
    Status(String),
    /// A file cannot be read or written.
    #[error("could not {verb} {}: {source}", path.display())]
    File {
        /// `read`, `write` or `lock`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another program changes the file now.
    #[error("{} is being changed by another program; if none runs, remove {}.lock", .0.display(), .0.display())]
    Locked(PathBuf),
    /// The file changed between reading and writing.
    #[error("{} changed meanwhile; nothing was written, try again", .0.display())]
    Changed(PathBuf),
    /// The kubeconfig cannot be changed.
    #[error("cannot change {}", path.display())]
    Merge {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: MergeError,
    },
    /// No home directory and no path given.
    #[error("no home directory: give --kubeconfig")]
    NoHome,
}

/// Runs the command; returns the exit code: 0, or 1 when nothing was written.
pub fn run(args: &KubeconfigArgs, process: &Process<'_>, io: &mut Io<'_>) -> u8 {
    match update(args, process, io) {
        Ok(()) => 0,
        Err(error) => {
            // Nothing is left to be told if stderr is closed.
            let _ = writeln!(io.stderr, "error: {}", causes(&error));
            1
        }
    }
}

fn update(
    args: &KubeconfigArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<(), KubeconfigError> {
    let profiles = Profiles::load(&process.env, args.profile.as_deref())?;
    let session = Session {
        env: &process.env,
        profiles: &profiles,
        clock: process.clock,
    };
    let cluster = match &args.endpoint {
        Some(endpoint) => given_cluster(args, endpoint, &session)?,
        None => describe::describe(args, &session, io)?,
    };
    let entries = entries(args, &cluster, &session);
    let name = text_of(&entries.cluster, "name");
    let context = text_of(&entries.context, "name");
    let path = choose_file(args, &session, name, io)?;
    if args.dry_run {
        let merged = merged(&path, &read(&path)?, &entries)?;
        let _ = io.stdout.write_all(merged.as_bytes());
        return Ok(());
    }
    let existed = write_merged(&path, &entries, name, &mut || {})?;
    let what = if existed {
        format!("Updated context {context} in {}", path.display())
    } else {
        format!("Added new context {context} to {}", path.display())
    };
    let _ = writeln!(io.stdout, "{what}");
    if args.verbose {
        let _ = writeln!(io.stdout, "Entries:\n");
        for entry in [&entries.context, &entries.user, &entries.cluster] {
            let mut out = String::new();
            yaml::emit(entry, 0, &mut out);
            let _ = writeln!(io.stdout, "{out}");
        }
    }
    Ok(())
}

/// Changes the file under kubectl's lock; says whether it had the cluster. `between` runs between reading and writing.
fn write_merged(
    path: &Path,
    entries: &Entries,
    cluster: &str,
    between: &mut dyn FnMut(),
) -> Result<bool, KubeconfigError> {
    let fail = |verb| {
        let path = path.to_owned();
        move |source| KubeconfigError::File { verb, path, source }
    };
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        files::create_private_directory(directory).map_err(fail("write"))?;
    }
    let _lock = LockFile::take(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => KubeconfigError::Locked(path.to_owned()),
        _ => fail("lock")(source),
    })?;
    let before = read(path)?;
    let existed = merge::has_cluster(&before, cluster).unwrap_or(false);
    let after = merged(path, &before, entries)?;
    between();
    if read(path)? != before {
        return Err(KubeconfigError::Changed(path.to_owned()));
    }
    files::write_atomically(path, after.as_bytes(), Mode::Private).map_err(fail("write"))?;
    Ok(existed)
}

fn merged(path: &Path, text: &str, entries: &Entries) -> Result<String, KubeconfigError> {
    merge(text, entries).map_err(|source| KubeconfigError::Merge {
        path: path.to_owned(),
        source,
    })
}

/// The file's text; an absent file is empty.
fn read(path: &Path) -> Result<String, KubeconfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(KubeconfigError::File {
            verb: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Among the files of `$KUBECONFIG` the first that has the cluster, else the first; files that do not parse are passed over.
fn choose_file(
    args: &KubeconfigArgs,
    session: &Session<'_>,
    cluster: &str,
    io: &mut Io<'_>,
) -> Result<PathBuf, KubeconfigError> {
    if let Some(path) = &args.kubeconfig {
        return Ok(session.env.expand(&path.to_string_lossy()));
    }
    let separator = if cfg!(windows) { ';' } else { ':' };
    let listed: Vec<PathBuf> = session
        .env
        .get("KUBECONFIG")
        .unwrap_or_default()
        .split(separator)
        .filter(|path| !path.trim().is_empty())
        .map(|path| session.env.expand(path))
        .collect();
    for path in &listed {
        let found = read(path).and_then(|text| {
            merge::has_cluster(&text, cluster).map_err(|source| KubeconfigError::Merge {
                path: path.clone(),
                source,
            })
        });
        match found {
            Ok(true) => return Ok(path.clone()),
            Ok(false) => {}
            Err(error) => {
                let _ = writeln!(io.stderr, "warning: {}", causes(&error));
            }
        }
    }
    match listed.into_iter().next() {
        Some(first) => Ok(first),
        None => {
            let home = session.env.home().ok_or(KubeconfigError::NoHome)?;
            Ok(home.join(".kube").join("config"))
        }
    }
}

fn given_cluster(
    args: &KubeconfigArgs,
    endpoint: &str,
    session: &Session<'_>,
) -> Result<Cluster, KubeconfigError> {
    let certificate_authority = match &args.certificate_authority {
        None => None,
        Some(path) => {
            let pem = std::fs::read(path).map_err(|source| KubeconfigError::File {
                verb: "read",
                path: path.clone(),
                source,
            })?;
            Some(base64::engine::general_purpose::STANDARD.encode(pem))
        }
    };
    let region_of_arn = args.arn.as_deref().and_then(describe::region_of_arn);
    Ok(Cluster {
        arn: args.arn.clone().unwrap_or_else(|| args.name.clone()),
        endpoint: endpoint.to_owned(),
        certificate_authority,
        region: region_of_arn
            .or_else(|| session.region(args.region.as_deref()))
            .ok_or(KubeconfigError::NoRegion)?,
        outpost_id: args.cluster_id.clone(),
    })
}

fn entries(args: &KubeconfigArgs, cluster: &Cluster, session: &Session<'_>) -> Entries {
    let mut server = Node::empty_mapping();
    if let Some(data) = &cluster.certificate_authority {
        server.set("certificate-authority-data", Node::string_as_data(data));
    }
    server.set("server", Node::string(&cluster.endpoint));
    if let Some(proxy) = &args.proxy_url {
        server.set("proxy-url", Node::string(proxy));
    }
    let mut arguments = vec!["--region", &cluster.region, "eks", "get-token"];
    match &cluster.outpost_id {
        Some(id) => arguments.extend(["--cluster-id", id]),
        None => arguments.extend(["--cluster-name", &args.name]),
    }
    arguments.extend(["--output", "json"]);
    if let Some(role) = &args.role_arn {
        arguments.extend(["--role", role]);
    }
    let mut exec = Node::mapping([
        ("apiVersion", Node::string(API_VERSION)),
        (
            "args",
            Node::sequence(arguments.into_iter().map(Node::string).collect()),
        ),
        ("command", Node::string(&args.command)),
    ]);
    let variables = variables(session);
    if !variables.is_empty() {
        let pairs = variables.iter().map(|(name, value)| {
            Node::mapping([("name", Node::string(name)), ("value", Node::string(value))])
        });
        exec.set("env", Node::sequence(pairs.collect()));
    }
    let user = args.user_alias.as_deref().unwrap_or(&cluster.arn);
    let context = args.alias.as_deref().unwrap_or(user);
    Entries {
        cluster: Node::mapping([("cluster", server), ("name", Node::string(&cluster.arn))]),
        user: Node::mapping([
            ("name", Node::string(user)),
            ("user", Node::mapping([("exec", exec)])),
        ]),
        context: Node::mapping([
            (
                "context",
                Node::mapping([
                    ("cluster", Node::string(&cluster.arn)),
                    ("user", Node::string(user)),
                ]),
            ),
            ("name", Node::string(context)),
        ]),
    }
}

/// What the plugin needs to know when kubectl runs it in another shell: the profile, and where STS is if it is not that of AWS.
fn variables(session: &Session<'_>) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    if session.profiles.choice() != Choice::Default {
        variables.push(("AWS_PROFILE", session.profile().name.to_owned()));
    }
    let sts = session
        .env
        .first(&["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"]);
    if let Some(url) = sts {
        variables.push(("AWS_ENDPOINT_URL_STS", url.to_owned()));
    }
    if let Some(path) = session.env.get("AWS_CA_BUNDLE") {
        let path = std::path::absolute(session.env.expand(path)).map_or_else(
            |_| path.to_owned(),
            |path| path.to_string_lossy().into_owned(),
        );
        variables.push(("AWS_CA_BUNDLE", path));
    }
    variables
}

fn text_of<'n>(node: &'n Node, key: &str) -> &'n str {
    node.get(key).and_then(Node::text).unwrap_or_default()
}

#[cfg(test)]
mod tests;

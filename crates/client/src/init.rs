//! `init`: what must exist before the API server first starts, since it will not start while its webhook kubeconfig is missing.

use std::path::{Path, PathBuf};

use crate::files::{self, Mode};
use crate::get_token::Process;
use crate::http::chain as causes;
use crate::pki::{self, Names, Outcome, PkiError};
use crate::session::Io;
use crate::webhook_kubeconfig;
use crate::yaml::{self, Node};

/// Make certificates, keys and the webhook kubeconfig before the API server first starts
///
/// Writes to the configured places, or to one directory with --out. What is there already is kept.
/// Example: countersign init -i demo --out ./webhook
#[derive(Debug, Clone, Default, clap::Args)]
pub struct InitArgs {
    /// Id of the cluster
    #[arg(short = 'i', long, value_name = "ID")]
    pub cluster_id: Option<String>,
    /// Configuration file; flags win over it
    #[arg(short = 'c', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name by which the API server reaches the webhook [default: localhost]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Address the webhook binds to [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// Port of the webhook [default: 21362]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// AWS partition [default: aws]
    #[arg(long, value_name = "PARTITION")]
    pub partition: Option<String>,
    /// Directory of certificates and keys [default: /var/aws-iam-authenticator]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The webhook kubeconfig [default: /etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml]
    #[arg(long, value_name = "FILE")]
    pub generate_kubeconfig: Option<PathBuf>,
    /// Write everything, and a configuration file, into this directory, to be copied to the nodes
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The reference wants one too, although the files do not depend on it.
    #[error("cluster ID cannot be empty: give -i ID")]
    NoCluster,
    /// Not one of the eight.
    #[error(transparent)]
    Partition(#[from] countersign_arn::UnknownPartition),
    /// A value of the configuration file is unusable.
    #[error("`{key}` in {} is not {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// The configuration file cannot be read.
    #[error("could not read {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Certificates could not be made.
    #[error("could not load/generate a certificate")]
    Pki(#[from] PkiError),
    /// A file could not be written.
    #[error("could not write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// What was made, and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// What happened to the certificates.
    pub certificates: Outcome,
    /// Files that are there now, each with its place on a control-plane node.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// The webhook kubeconfig's place.
    pub kubeconfig: PathBuf,
}

/// Runs the command; returns the exit code: 0, or 1 when something could not be made.
pub fn run(args: &InitArgs, process: &Process<'_>, io: &mut Io<'_>) -> u8 {
    match init(args, process) {
        Ok(made) => {
            let certificates = match made.certificates {
                Outcome::Loaded => "kept",
                Outcome::Created => "made",
                Outcome::Renewed => "renewed",
            };
            // Nothing is left to be told if stderr is closed.
            let _ = writeln!(io.stderr, "certificates {certificates}");
            for (here, there) in &made.files {
                let _ = if here == there {
                    writeln!(io.stderr, "  {}", here.display())
                } else {
                    writeln!(
                        io.stderr,
                        "  copy {} to {}",
                        here.display(),
                        there.display()
                    )
                };
            }
            let _ = writeln!(
                io.stderr,
                "start kube-apiserver with --authentication-token-webhook-config-file={}",
                made.kubeconfig.display()
            );
            0
        }
        Err(error) => {
            let _ = writeln!(io.stderr, "could not initialize: {}", causes(&error));
            1
        }
    }
}

/// Makes certificates, keys, the webhook kubeconfig and, with `--out`, a configuration file.
///
/// # Errors
/// When an option is unusable or a file cannot be written.
pub fn init(args: &InitArgs, process: &Process<'_>) -> Result<Made, InitError> {
    let settings = Settings::new(args, process)?;
    let state_dir = args.out.as_deref().unwrap_or(&settings.state_dir);
    let kubeconfig = match &args.out {
        Some(out) => out.join("aws-iam-authenticator.kubeconfig"),
        None => settings.kubeconfig.clone(),
    };
    let names = Names::new(&settings.address, &settings.hostname)?;
    let serving = pki::ensure(state_dir, &names, (process.clock)())?;
    let url = webhook_kubeconfig::server_url(&settings.hostname, settings.port);
    let text = webhook_kubeconfig::render(&url, &serving.ca_bundle_pem);
    let written = |path: &Path| {
        let path = path.to_owned();
        move |source| InitError::Write { path, source }
    };
    webhook_kubeconfig::write(&kubeconfig, &text).map_err(written(&kubeconfig))?;
    let mut files: Vec<_> = ["cert.pem", "key.pem", "ca.pem", "ca-key.pem"]
        .into_iter()
        .map(|name| (state_dir.join(name), settings.state_dir.join(name)))
        .filter(|(here, _)| here.exists())
        .collect();
    files.push((kubeconfig, settings.kubeconfig.clone()));
    if let Some(out) = &args.out {
        let path = out.join("config.yaml");
        if !path.exists() {
            files::write_atomically(&path, settings.render().as_bytes(), Mode::Public)
                .map_err(written(&path))?;
        }
        files.push((path, PathBuf::from("/etc/countersign/config.yaml")));
    }
    Ok(Made {
        certificates: serving.outcome,
        files,
        kubeconfig: settings.kubeconfig,
    })
}

/// Flags, then the configuration file, then the reference's defaults.
struct Settings {
    cluster_id: String,
    partition: countersign_arn::Partition,
    hostname: String,
    address: String,
    port: u16,
    state_dir: PathBuf,
    kubeconfig: PathBuf,
}

impl Settings {
    fn new(args: &InitArgs, process: &Process<'_>) -> Result<Self, InitError> {
        let file = match &args.config {
            None => Node::empty_mapping(),
            Some(path) => read_config(path)?,
        };
        let top = |name: &str| value(&file, name).map(str::to_owned);
        let server = lookup(&file, "server").unwrap_or(&file);
        let of_server = |name: &str| value(server, name).map(str::to_owned);
        let path = |flag: &Option<PathBuf>, name: &str, default: &str| {
            flag.clone()
                .or_else(|| of_server(name).map(PathBuf::from))
                .unwrap_or_else(|| PathBuf::from(default))
        };
        let port = match (args.port, of_server("port")) {
            (Some(port), _) => port,
            (None, Some(text)) => text.parse().map_err(|_| InitError::Value {
                path: args.config.clone().unwrap_or_default(),
                key: "server.port",
                expected: "a port",
            })?,
            (None, None) => 21362,
        };
        let cluster_id = args
            .cluster_id
            .clone()
            .filter(|id| !id.is_empty())
            .or_else(|| {
                let variable = "KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID";
                process.env.get(variable).map(str::to_owned)
            })
            .or_else(|| top("clusterID"))
            .ok_or(InitError::NoCluster)?;
        let flag_or = |flag: &Option<String>, name: &str, default: &str| {
            flag.clone()
                .or_else(|| of_server(name))
                .unwrap_or_else(|| default.to_owned())
        };
        Ok(Self {
            cluster_id,
            partition: flag_or(&args.partition, "partition", "aws").parse()?,
            hostname: flag_or(&args.hostname, "hostname", "localhost"),
            address: flag_or(&args.address, "address", "127.0.0.1"),
            port,
            state_dir: path(&args.state_dir, "stateDir", "/var/aws-iam-authenticator"),
            kubeconfig: path(
                &args.generate_kubeconfig,
                "generateKubeconfig",
                "/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml",
            ),
        })
    }

    /// A configuration for `serve`. Denials are answered as reviews, so that their reasons reach the API server's log.
    fn render(&self) -> String {
        let server = Node::mapping([
            ("partition", Node::string(self.partition.id())),
            ("hostname", Node::string(&self.hostname)),
            ("address", Node::string(&self.address)),
            ("port", Node::plain(&self.port.to_string())),
            ("stateDir", Node::string(&self.state_dir.to_string_lossy())),
            (
                "generateKubeconfig",
                Node::string(&self.kubeconfig.to_string_lossy()),
            ),
        ]);
        let config = Node::mapping([
            ("clusterID", Node::string(&self.cluster_id)),
            ("server", server),
            (
                "countersign",
                Node::mapping([("denyMode", Node::string("review"))]),
            ),
        ]);
        let mut out = String::new();
        yaml::emit(&config, 0, &mut out);
        out
    }
}

fn read_config(path: &Path) -> Result<Node, InitError> {
    let fail = |reason: String| InitError::Config {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    yaml::parse(&text).map_err(|error| fail(error.to_string()))
}

/// The value of a key in any letter case.
fn lookup<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    node.pairs()?
        .iter()
        .find(|(k, _)| k.text().is_some_and(|k| k.eq_ignore_ascii_case(key)))
        .map(|(_, value)| value)
}

fn value<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    lookup(node, key)?.text().filter(|text| !text.is_empty())
}

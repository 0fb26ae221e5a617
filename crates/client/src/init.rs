//! `init`: what must exist before the API server first starts, since it will not start while its webhook kubeconfig is missing.

use std::path::{Path, PathBuf};

use crate::api_server::{self, ApiServerFiles, JwtIssuer};
use crate::files::{self, Mode};
use crate::get_token::Process;
use crate::http::chain as causes;
use crate::mutating_webhook::{self, FailurePolicy, ReachedBy, Registration};
use crate::pki::{self, Names, Outcome, PkiError};
use crate::session::Io;
use crate::webhook_kubeconfig;
use crate::yaml::{self, Node};

/// Make certificates, keys, webhook kubeconfigs and the API server's configuration before it first starts
///
/// Writes to the configured places, or to one directory with --out. Certificates and configuration that are there already are kept.
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
    /// Also write the registration of the admission webhook, which gives pods AWS credentials
    #[arg(long)]
    pub pod_identity_webhook: bool,
    /// Service in front of the webhook; without it kube-apiserver is told its URL
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "pod_identity_webhook")]
    pub service: Option<String>,
    /// What becomes of pods that the webhook is not asked about in time [default: Ignore]
    #[arg(long, value_name = "POLICY", requires = "pod_identity_webhook")]
    pub failure_policy: Option<FailurePolicy>,
    /// OpenID Connect issuer whose users kube-apiserver verifies itself
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub oidc_issuer: Option<String>,
    /// Audience of its tokens
    #[arg(long, value_name = "ID", requires = "oidc_issuer")]
    pub oidc_client_id: Option<String>,
    /// Claim with the username [default: sub]
    #[arg(long, value_name = "CLAIM", requires = "oidc_issuer")]
    pub oidc_username_claim: Option<String>,
    /// What is put before usernames [default: the issuer and #; nothing if the claim is email]
    #[arg(long, value_name = "PREFIX", requires = "oidc_issuer")]
    pub oidc_username_prefix: Option<String>,
    /// Claim with the groups
    #[arg(long, value_name = "CLAIM", requires = "oidc_issuer")]
    pub oidc_groups_claim: Option<String>,
    /// What is put before groups
    #[arg(long, value_name = "PREFIX", requires = "oidc_issuer")]
    pub oidc_groups_prefix: Option<String>,
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
    /// kube-apiserver would refuse the issuer.
    #[error("`{flag}` is {value:?}: {reason}")]
    Oidc {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What it has to be.
        reason: &'static str,
    },
    /// Not a namespace and a name.
    #[error("`--service` is {0:?}: it is NAMESPACE/NAME")]
    Service(String),
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
    /// The token webhook kubeconfig's place.
    pub kubeconfig: PathBuf,
    /// Flags of kube-apiserver.
    pub flags: Vec<String>,
    /// Flags for kube-apiserver before 1.32 in the place of the last of `flags`.
    pub legacy_flags: Vec<String>,
    /// The flag that puts the AuthenticationConfiguration in force, which everybody may do without.
    pub optional_flag: String,
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
            let mut say = |title: &str, flags: &[String]| {
                let _ = writeln!(io.stderr, "{title}");
                for flag in flags {
                    let _ = writeln!(io.stderr, "  {flag}");
                }
            };
            say("start kube-apiserver with", &made.flags);
            say(
                "before Kubernetes 1.32, in the place of --authorization-config",
                &made.legacy_flags,
            );
            say(
                "and, to close everything but health checks to requests without a name, from Kubernetes 1.34 on",
                &[made.optional_flag],
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
    let issuers = oidc_issuers(args)?;
    let state_dir = args.out.as_deref().unwrap_or(&settings.state_dir);
    let kubeconfig = match &args.out {
        Some(out) => out.join("aws-iam-authenticator.kubeconfig"),
        None => settings.kubeconfig.clone(),
    };
    let mut names = Names::new(&settings.address, &settings.hostname)?;
    let service = args.service.as_deref().map(service).transpose()?;
    if let Some((namespace, name)) = service {
        names = names.and_service(name, namespace)?;
    }
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
    // Beside the token webhook's kubeconfig, so that one mounted directory is all that kube-apiserver needs.
    let beside = |path: &Path, name: &str| path.with_file_name(name);
    let there = |name| beside(&settings.kubeconfig, name);
    let (authz, authz_there) = (beside(&kubeconfig, AUTHORIZER), there(AUTHORIZER));
    let url = webhook_kubeconfig::authorizer_url(&settings.hostname, settings.port);
    let text = webhook_kubeconfig::render(&url, &serving.ca_bundle_pem);
    webhook_kubeconfig::write(&authz, &text).map_err(written(&authz))?;
    let configurations = [
        (
            AUTHORIZATION,
            api_server::authorization_configuration(&authz_there),
        ),
        (
            AUTHENTICATION,
            api_server::authentication_configuration(&issuers),
        ),
    ];
    let mut kept = Vec::new();
    for (name, text) in configurations {
        let path = beside(&kubeconfig, name);
        if !path.exists() {
            files::write_atomically(&path, text.as_bytes(), Mode::Public)
                .map_err(written(&path))?;
        }
        kept.push((path, there(name)));
    }
    if args.pod_identity_webhook {
        let registration = Registration {
            name: mutating_webhook::NAME.to_owned(),
            reached_by: match service {
                None => ReachedBy::Url(webhook_kubeconfig::admission_url(
                    &settings.hostname,
                    settings.port,
                )),
                Some((namespace, name)) => ReachedBy::Service {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    port: settings.port,
                },
            },
            ca_bundle_pem: serving.ca_bundle_pem.clone(),
            failure_policy: args.failure_policy.unwrap_or_default(),
        };
        let path = beside(&kubeconfig, MUTATING_WEBHOOK);
        files::write_atomically(&path, registration.render().as_bytes(), Mode::Public)
            .map_err(written(&path))?;
        // For `kubectl apply`, from wherever that is.
        files.push((path.clone(), path));
    }
    files.push((kubeconfig, settings.kubeconfig.clone()));
    files.push((authz, authz_there.clone()));
    files.extend(kept);
    let api_server = ApiServerFiles {
        token_kubeconfig: &settings.kubeconfig,
        authorization_kubeconfig: &authz_there,
        authorization_config: &there(AUTHORIZATION),
        authentication_config: &there(AUTHENTICATION),
    };
    let flags = api_server::flags(&api_server);
    let legacy_flags = api_server::legacy_authorization_flags(&api_server);
    let optional_flag = format!(
        "--authentication-config={}",
        api_server.authentication_config.display()
    );
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
        flags,
        legacy_flags,
        optional_flag,
    })
}

const AUTHORIZER: &str = "countersign-authz.kubeconfig";
const AUTHORIZATION: &str = "authorization.yaml";
const AUTHENTICATION: &str = "authentication.yaml";
const MUTATING_WEBHOOK: &str = "mutating-webhook.yaml";

/// Namespace and name.
fn service(text: &str) -> Result<(&str, &str), InitError> {
    let parts = text.split_once('/');
    parts
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        .ok_or_else(|| InitError::Service(text.chars().take(256).collect()))
}

/// The issuer of the flags, with the defaults of `--oidc-username-prefix` that EKS has (authentication spec, section 9.1).
fn oidc_issuers(args: &InitArgs) -> Result<Vec<JwtIssuer>, InitError> {
    let (Some(url), Some(client_id)) = (&args.oidc_issuer, &args.oidc_client_id) else {
        return Ok(Vec::new());
    };
    let refuse = |flag, value: &str, reason| {
        Err(InitError::Oidc {
            flag,
            value: value.to_owned(),
            reason,
        })
    };
    let host = url.strip_prefix("https://").unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || url.contains(['?', '#', '@']) {
        return refuse(
            "--oidc-issuer",
            url,
            "it is an https URL without query, fragment and user",
        );
    }
    if client_id.is_empty() {
        return refuse("--oidc-client-id", client_id, "it must not be empty");
    }
    let username_claim = args.oidc_username_claim.as_deref().unwrap_or("sub");
    let username_prefix = match args.oidc_username_prefix.as_deref() {
        None if username_claim == "email" => String::new(),
        None => format!("{url}#"),
        Some("-") => String::new(),
        Some(prefix) => prefix.to_owned(),
    };
    let groups_prefix = args.oidc_groups_prefix.clone().unwrap_or_default();
    for (flag, prefix) in [
        ("--oidc-username-prefix", &username_prefix),
        ("--oidc-groups-prefix", &groups_prefix),
    ] {
        if prefix.contains("system:") {
            return refuse(flag, prefix, "Kubernetes keeps `system:` for itself");
        }
    }
    Ok(vec![JwtIssuer {
        url: url.clone(),
        client_id: client_id.clone(),
        username_claim: username_claim.to_owned(),
        username_prefix,
        groups_claim: args.oidc_groups_claim.clone(),
        groups_prefix,
    }])
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

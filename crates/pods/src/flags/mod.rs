//! The command line of the reference webhook, with Countersign's additions (webhook spec, section 2).
//!
//! A Deployment that runs the reference can run Countersign with the same arguments. What belongs to the decision goes
//! into [`Options`], everything else into [`Serving`].

mod duration;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use countersign_arn::{AccountId, Partition};

use crate::account::parse_bool;
use crate::options::{FailureMode, NodeSelector, Options, OptionsError, PatchStyle};
use crate::role::{Composition, partition_of_region};
use crate::text::value;
pub use duration::parse_duration;

/// A command line that was understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// For [`crate::Webhook::new`].
    pub options: Options,
    /// For whoever listens, watches and looks up.
    pub serving: Serving,
    /// Flags of the reference's log library that were given and mean nothing here: worth one line in the log.
    pub ignored: Vec<&'static str>,
}

/// Settings that do not touch the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// `--port`, for TLS.
    pub port: u16,
    /// `--metrics-port`.
    pub metrics_port: u16,
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--kube-api`: URL of the API server.
    pub kube_api: Option<String>,
    /// `--tls-cert`.
    pub tls_cert: PathBuf,
    /// `--tls-key`.
    pub tls_key: PathBuf,
    /// `--tls-cipher-suites`, by the names of Go; empty means all that are good.
    pub tls_cipher_suites: Vec<&'static str>,
    /// `--tls-min-version`.
    pub tls_min_version: TlsVersion,
    /// `--in-cluster`.
    pub in_cluster: bool,
    /// `--service-name`.
    pub service_name: String,
    /// `--namespace`, also of the ConfigMap.
    pub namespace: String,
    /// `--tls-secret`.
    pub tls_secret: String,
    /// `--watch-config-map`.
    pub watch_config_map: bool,
    /// `--compose-role-arn`. Without `--compose-account` the account has to be asked of instance metadata, and
    /// [`Options::composition`] filled with it.
    pub compose_role_arn: bool,
    /// `--watch-container-credentials-config`: the identities file.
    pub identities_file: Option<PathBuf>,
    /// `--service-account-lookup-grace-period`.
    pub lookup_grace_period: Duration,
    /// `--resync-period`.
    pub resync_period: Duration,
    /// `--enable-debugging-handlers`.
    pub debugging_handlers: bool,
    /// `--associations-from`.
    pub associations_from: Source,
    /// `--association-refresh`.
    pub association_refresh: Duration,
    /// `--associations-cluster`: the cluster whose associations an EKS API is asked for; the one that is served when absent.
    pub associations_cluster: Option<String>,
    /// `--associations-region`: the region of that EKS API; the region of the AWS SDKs when absent.
    pub associations_region: Option<String>,
    /// `--associations-endpoint`: URL of that EKS API; that of the region when absent.
    pub associations_endpoint: Option<String>,
    /// `--wait-for-association`; zero is off.
    pub wait_for_association: Duration,
    /// `--v`: verbosity of the log.
    pub verbosity: u8,
    /// `--version`: print the version and leave.
    pub version: bool,
    /// `--reconcile`: look for pods that lack their credentials.
    pub reconcile: bool,
    /// `--restart-unmutated`: evict them.
    pub restart_unmutated: bool,
    /// `--webhook-configuration`: the registration whose `caBundle` is kept up to date.
    pub webhook_configuration: Option<String>,
}

/// Where associations come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// Countersign's own EKS API.
    #[default]
    Embedded,
    /// The EKS API of AWS.
    Eks,
    /// Custom resources in the cluster.
    Crd,
    /// The identities file alone.
    File,
}

/// The lowest TLS version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    V1_2,
    /// TLS 1.3
    V1_3,
}

/// A command line that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagsError {
    /// `--help` or `-h`.
    #[error("help was asked for")]
    Help,
    /// No such flag.
    #[error("unknown flag `{0}`")]
    Unknown(String),
    /// An argument that is no flag.
    #[error("unexpected argument `{0}`: flags begin with `--`")]
    Argument(String),
    /// The value is missing.
    #[error("--{0} needs a value")]
    NoValue(&'static str),
    /// The value is not of its kind.
    #[error("--{flag} `{value}`: expected {expected}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What it says.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// TLS 1.0 and 1.1.
    #[error("--tls-min-version `{0}` is not offered: TLS before 1.2 is broken; give 1.2 or 1.3")]
    TlsTooOld(String),
    /// A cipher suite nobody knows.
    #[error("--tls-cipher-suites: unknown cipher suite `{0}`")]
    CipherSuite(String),
    /// The identities file has to be an absolute path.
    #[error("--watch-container-credentials-config `{0}` is not an absolute path")]
    RelativeFile(String),
    /// Understood, and not usable.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// The cipher suites of Go's `crypto/tls`, the insecure ones too: naming one has never been an error.
const CIPHER_SUITES: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

impl Default for Serving {
    fn default() -> Self {
        let name = "pod-identity-webhook";
        Self {
            port: 443,
            metrics_port: 9999,
            kubeconfig: None,
            kube_api: None,
            tls_cert: "/etc/webhook/certs/tls.crt".into(),
            tls_key: "/etc/webhook/certs/tls.key".into(),
            tls_cipher_suites: Vec::new(),
            tls_min_version: TlsVersion::default(),
            in_cluster: true,
            service_name: name.to_owned(),
            namespace: "eks".to_owned(),
            tls_secret: name.to_owned(),
            watch_config_map: false,
            compose_role_arn: false,
            identities_file: None,
            lookup_grace_period: Duration::ZERO,
            resync_period: Duration::from_secs(60),
            debugging_handlers: false,
            associations_from: Source::default(),
            association_refresh: Duration::from_secs(5),
            associations_cluster: None,
            associations_region: None,
            associations_endpoint: None,
            wait_for_association: Duration::ZERO,
            verbosity: 0,
            version: false,
            reconcile: true,
            restart_unmutated: false,
            webhook_configuration: None,
        }
    }
}

/// What only makes sense together with other flags.
#[derive(Default)]
struct Pending {
    account: Option<AccountId>,
    partition: Option<Partition>,
    node_selectors: Option<Vec<NodeSelector>>,
}

impl Flags {
    /// The names of all flags but those of the log library, without `--`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        table::all().map(|flag| flag.name)
    }

    /// What each flag does, for `--help`.
    #[must_use]
    pub fn help() -> String {
        table::help()
    }

    /// Reads arguments, without the program's name, as the reference's flag library does: `--name=value` or
    /// `--name value`; a switch takes its value only with `=`. Of a flag given twice the last one counts, except those
    /// that collect. The result is usable: its options were validated.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self, FlagsError> {
        let mut flags = Self::default();
        let mut pending = Pending::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if matches!(argument, "--help" | "-h") {
                return Err(FlagsError::Help);
            }
            let shown = || value(argument.split('=').next().unwrap_or_default()).to_string();
            let long = argument.strip_prefix("--");
            // `-v` alone is short: a letter behind it begins its value.
            let short = argument
                .strip_prefix("-v")
                .map(|rest| rest.strip_prefix('=').unwrap_or(rest));
            if let (None, Some(level)) = (long, short) {
                let level = Some(level).filter(|level| !level.is_empty());
                let level = level.or_else(|| arguments.next());
                let level = level.ok_or(FlagsError::NoValue("v"))?;
                flags.set("v", level, &mut pending)?;
                continue;
            }
            let Some(long) = long.filter(|long| !long.is_empty()) else {
                return Err(FlagsError::Argument(shown()));
            };
            let (name, given) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            let known = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
            if let Some(flag) = table::all().find(|flag| flag.name == name) {
                match (flag.is_switch(), given) {
                    (true, given) => flags.set_switch(flag.name, given.unwrap_or("true"))?,
                    (false, given) => {
                        let text = given
                            .or_else(|| arguments.next())
                            .ok_or(FlagsError::NoValue(flag.name))?;
                        flags.set(flag.name, text, &mut pending)?;
                    }
                }
            } else if let Some(flag) = known(table::LOG_SWITCHES) {
                flags.ignored.push(flag);
            } else if let Some(flag) = known(table::LOG_VALUES) {
                given
                    .or_else(|| arguments.next())
                    .ok_or(FlagsError::NoValue(flag))?;
                flags.ignored.push(flag);
            } else {
                return Err(FlagsError::Unknown(shown()));
            }
        }
        flags.finish(pending)
    }

    fn finish(mut self, pending: Pending) -> Result<Self, FlagsError> {
        if let Some(selectors) = pending.node_selectors {
            self.options.no_agent_node_selectors = selectors;
        }
        if self.serving.compose_role_arn {
            let region = self.options.default_region.as_deref().unwrap_or_default();
            let partition = pending
                .partition
                .unwrap_or_else(|| partition_of_region(region));
            let account = pending.account;
            self.options.composition = account.map(|account| Composition { account, partition });
        }
        self.options.validate()?;
        Ok(self)
    }

    fn set_switch(&mut self, flag: &'static str, text: &str) -> Result<(), FlagsError> {
        let on = parse_bool(text).ok_or_else(|| wrong(flag, text, "true or false"))?;
        let (options, serving) = (&mut self.options, &mut self.serving);
        let place = match flag {
            "in-cluster" => &mut serving.in_cluster,
            "sts-regional-endpoint" => &mut options.regional_sts,
            "watch-config-map" => &mut serving.watch_config_map,
            "compose-role-arn" => &mut serving.compose_role_arn,
            "enable-debugging-handlers" => &mut serving.debugging_handlers,
            "version" => &mut serving.version,
            "inject-session-name" => &mut options.inject_session_name,
            "strict-arn" => &mut options.strict_arn,
            "warnings" => &mut options.warnings,
            "disable-imds-env" => &mut options.disable_imds_env,
            "mutate-ephemeral-containers" => &mut options.ephemeral_containers,
            "role-profiles" => &mut options.role_profiles,
            "reconcile" => &mut serving.reconcile,
            "restart-unmutated" => &mut serving.restart_unmutated,
            other => return Err(FlagsError::Unknown(other.to_owned())),
        };
        *place = on;
        Ok(())
    }

    fn set(
        &mut self,
        flag: &'static str,
        text: &str,
        pending: &mut Pending,
    ) -> Result<(), FlagsError> {
        let (options, serving) = (&mut self.options, &mut self.serving);
        let filled = || Some(text.to_owned()).filter(|text| !text.is_empty());
        let port = || text.parse().map_err(|_| wrong(flag, text, "a port"));
        let span = || {
            parse_duration(text)
                .ok_or_else(|| wrong(flag, text, "a duration such as 100ms, 5s or 1m30s"))
        };
        match flag {
            "port" => serving.port = port()?,
            "metrics-port" => serving.metrics_port = port()?,
            "kubeconfig" => serving.kubeconfig = filled().map(PathBuf::from),
            "kube-api" => serving.kube_api = filled(),
            "tls-cert" => serving.tls_cert = text.into(),
            "tls-key" => serving.tls_key = text.into(),
            "tls-cipher-suites" => serving.tls_cipher_suites = cipher_suites(text)?,
            "tls-min-version" => serving.tls_min_version = tls_version(text)?,
            "service-name" => serving.service_name = text.to_owned(),
            "namespace" => serving.namespace = text.to_owned(),
            "tls-secret" => serving.tls_secret = text.to_owned(),
            "webhook-configuration" => serving.webhook_configuration = filled(),
            "annotation-prefix" => options.annotation_prefix = text.to_owned(),
            "token-audience" => options.token_audience = text.to_owned(),
            "token-mount-path" => options.token_mount_path = text.to_owned(),
            "token-expiration" => {
                options.token_expiration =
                    text.parse().map_err(|_| wrong(flag, text, "seconds"))?;
            }
            "max-token-expiration" => {
                options.max_token_expiration =
                    text.parse().map_err(|_| wrong(flag, text, "seconds"))?;
            }
            "aws-default-region" => options.default_region = filled(),
            "watch-container-credentials-config" => {
                if !text.is_empty() && !text.starts_with('/') {
                    return Err(FlagsError::RelativeFile(value(text).to_string()));
                }
                serving.identities_file = filled().map(PathBuf::from);
            }
            "container-credentials-audience" => options.container_audience = text.to_owned(),
            "container-credentials-token-mount-path" => {
                options.container_mount_path = text.to_owned()
            }
            "container-credentials-token-volume-name" => {
                options.container_volume_name = text.to_owned()
            }
            "container-credentials-token-path" => options.container_token_path = text.to_owned(),
            "container-credentials-full-uri" => options.container_full_uri = text.to_owned(),
            "service-account-lookup-grace-period" => serving.lookup_grace_period = span()?,
            "resync-period" => serving.resync_period = span()?,
            "association-refresh" => serving.association_refresh = span()?,
            "associations-cluster" => serving.associations_cluster = filled(),
            "associations-region" => serving.associations_region = filled(),
            "associations-endpoint" => serving.associations_endpoint = filled(),
            "wait-for-association" => serving.wait_for_association = span()?,
            "v" => {
                serving.verbosity = text
                    .parse()
                    .map_err(|_| wrong(flag, text, "a number from 0 to 255"))?
            }
            "associations-from" => {
                serving.associations_from = match text {
                    "embedded" => Source::Embedded,
                    "eks" => Source::Eks,
                    "crd" => Source::Crd,
                    "file" => Source::File,
                    _ => return Err(wrong(flag, text, "embedded, eks, crd or file")),
                };
            }
            "patch-style" => {
                options.patch_style = match text {
                    "additive" => PatchStyle::Additive,
                    "replace" => PatchStyle::Replace,
                    _ => return Err(wrong(flag, text, "additive or replace")),
                };
            }
            "failure-mode" => {
                options.failure_mode = match text {
                    "ignore" => FailureMode::Ignore,
                    "fail" => FailureMode::Fail,
                    _ => return Err(wrong(flag, text, "ignore or fail")),
                };
            }
            "exclude-namespaces" => options
                .exclude_namespaces
                .extend(list(text).map(str::to_owned)),
            "extra-env" => options.extra_env.push(text.parse()?),
            "no-agent-node-selectors" => {
                let selectors = pending.node_selectors.get_or_insert_default();
                if !text.is_empty() {
                    selectors.push(text.parse()?);
                }
            }
            "compose-account" => {
                let account = text
                    .parse()
                    .map_err(|_| wrong(flag, text, "an account id of 12 digits"))?;
                pending.account = Some(account);
            }
            "compose-partition" => {
                let partition = text
                    .parse()
                    .map_err(|_| wrong(flag, text, "a partition such as aws or aws-cn"))?;
                pending.partition = Some(partition);
            }
            other => return Err(FlagsError::Unknown(other.to_owned())),
        }
        Ok(())
    }
}

fn wrong(flag: &'static str, text: &str, expected: &'static str) -> FlagsError {
    FlagsError::Value {
        flag,
        value: value(text).to_string(),
        expected,
    }
}

/// Elements between commas, without blanks around them; empty ones are none.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

fn cipher_suites(text: &str) -> Result<Vec<&'static str>, FlagsError> {
    let known = |name: &str| CIPHER_SUITES.iter().copied().find(|suite| *suite == name);
    list(text)
        .map(|name| known(name).ok_or_else(|| FlagsError::CipherSuite(value(name).to_string())))
        .collect()
}

fn tls_version(text: &str) -> Result<TlsVersion, FlagsError> {
    match text {
        "" | "1.2" | "VersionTLS12" => Ok(TlsVersion::V1_2),
        "1.3" | "VersionTLS13" => Ok(TlsVersion::V1_3),
        "1.0" | "1.1" | "VersionTLS10" | "VersionTLS11" => {
            Err(FlagsError::TlsTooOld(text.to_owned()))
        }
        _ => Err(wrong(
            "tls-min-version",
            text,
            "1.2, 1.3, VersionTLS12 or VersionTLS13",
        )),
    }
}

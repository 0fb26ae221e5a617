//! The configuration file: an aws-iam-authenticator file, unchanged, and our own keys in a section of their own.
//!
//! ```yaml
//! clusterID: prod
//! server:                 # the reference's keys
//!   backendMode: [EKSConfigMap]
//!   mapRoles: [...]
//! countersign:            # ours
//!   denyMode: review
//! ```
//!
//! Keys compare without regard to case, as in the reference. Unknown keys of the reference's sections are warned about, because
//! its files have some; unknown keys of ours are errors, because a misspelt security option must not be ignored.

mod fold;
mod own;
mod pods;
mod store;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

pub use own::{
    AccessConfig, AllowedRoles, AnnotatedRolesConfig, AssociationObjectsConfig, AuthorizerConfig,
    Bootstrap, BootstrapProvider, BootstrapRole, BootstrapUser, ClusterIssuerConfig, IdentityMode,
    IssuerConfig, MappingOptions, OwnConfig, PerCluster, PodIdentityConfig, PrivilegedGroup,
    TlsFiles, UpstreamOptions, WebIdentityConfig,
};
pub use pods::{PodSettingsError, PodWebhookConfig, PodWebhookSettings};
pub use store::{EtcdTable, StoreOption};

/// Largest configuration file read.
const MAX_FILE: u64 = 4 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("could not read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than 4 MiB.
    #[error("`{path}` is larger than 4 MiB")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The text is no configuration.
    #[error("`{path}` is no valid configuration: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Reason with line and column.
        reason: String,
    },
    /// A key of our own section that does not exist.
    #[error("`{path}` has unknown key `{key}`; keys under `countersign` must be spelled right")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key with its path.
        key: String,
    },
}

/// A configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The cluster id that tokens must be made for.
    #[serde(rename = "clusterid")]
    pub cluster_id: Option<String>,
    /// The reference's server section.
    pub server: ServerConfig,
    /// Default role of `token`.
    pub role: Option<String>,
    /// The same under its documented name, which the reference does not read.
    #[serde(rename = "defaultrole")]
    pub default_role: Option<String>,
    /// Log level in the reference's words.
    #[serde(rename = "log-verbosity")]
    pub log_verbosity: Option<String>,
    /// Log format, `text` or `json`.
    #[serde(rename = "log-format")]
    pub log_format: Option<String>,
    /// The reference's feature gates; ours are always on.
    #[serde(rename = "feature-gates")]
    pub feature_gates: Option<IgnoredAny>,
    /// Our own section.
    pub countersign: OwnConfig,
}

/// The reference's `server` section (authentication spec, section 5.1). Defaults are the reference's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServerConfig {
    /// Partition of the accounts; `aws`.
    pub partition: Option<String>,
    /// HTTPS port; 21362.
    pub port: Option<u16>,
    /// Bind address; 127.0.0.1.
    pub address: Option<String>,
    /// Name in kubeconfig and certificate; `localhost`.
    pub hostname: Option<String>,
    /// Where certificate and key live.
    #[serde(rename = "statedir")]
    pub state_dir: Option<PathBuf>,
    /// Where the webhook kubeconfig is written.
    #[serde(rename = "generatekubeconfig")]
    pub generate_kubeconfig: Option<PathBuf>,
    /// Whether the webhook kubeconfig is left alone.
    #[serde(rename = "kubeconfigpregenerated")]
    pub kubeconfig_pregenerated: Option<bool>,
    /// Kubeconfig for reading the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// API server URL for reading the cluster.
    pub master: Option<String>,
    /// Ordered mapping backends.
    #[serde(rename = "backendmode")]
    pub backend_mode: Option<OneOrMany>,
    /// Role entries; read by the mapping crate from the file's text.
    #[serde(rename = "maproles")]
    pub map_roles: Option<IgnoredAny>,
    /// User entries; likewise.
    #[serde(rename = "mapusers")]
    pub map_users: Option<IgnoredAny>,
    /// Accounts; likewise.
    #[serde(rename = "mapaccounts")]
    pub map_accounts: Option<IgnoredAny>,
    /// Accounts whose identities are kept out of extras and logs.
    #[serde(rename = "scrubbedaccounts")]
    pub scrubbed_accounts: Vec<String>,
    /// Role for EC2 DescribeInstances.
    #[serde(rename = "ec2describeinstancesrolearn")]
    pub ec2_describe_instances_role_arn: Option<String>,
    /// Value of `x-amz-source-arn` when that role is assumed.
    #[serde(rename = "sourcearn")]
    pub source_arn: Option<String>,
    /// DescribeInstances calls a second; 15.
    #[serde(rename = "ec2describeinstancesqps")]
    pub ec2_describe_instances_qps: Option<u32>,
    /// Burst of them; 5.
    #[serde(rename = "ec2describeinstancesburst")]
    pub ec2_describe_instances_burst: Option<u32>,
    /// The dynamic mapping file.
    #[serde(rename = "dynamicfilepath")]
    pub dynamic_file_path: Option<PathBuf>,
    /// Whether its entries are found by user id.
    #[serde(rename = "dynamicfileuseridstrict")]
    pub dynamic_file_user_id_strict: Option<bool>,
    /// The file that names the backend chain.
    #[serde(rename = "dynamicbackendmodepath")]
    pub dynamic_backend_mode_path: Option<PathBuf>,
    /// Username prefixes that backends must not produce.
    #[serde(rename = "reservedprefixconfig")]
    pub reserved_prefix_config: Vec<ReservedPrefixes>,
}

/// Username prefixes one backend must not produce.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ReservedPrefixes {
    /// The backend's name.
    #[serde(rename = "backendmode")]
    pub backend_mode: String,
    /// The prefixes.
    #[serde(rename = "usernameprefixreservelist")]
    pub username_prefix_reserve_list: Vec<String>,
}

/// A list, or one text with commas, as flags write it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// A list.
    Many(Vec<String>),
    /// `A,B`.
    One(String),
}

impl OneOrMany {
    /// The items.
    #[must_use]
    pub fn items(&self) -> Vec<String> {
        match self {
            Self::Many(items) => items.clone(),
            Self::One(text) => text
                .split(',')
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect(),
        }
    }
}

/// A configuration with its text, which the mapping crate reads entries from, and what to warn about.
#[derive(Debug)]
pub struct Loaded {
    /// The parsed configuration.
    pub config: Config,
    /// The file's text.
    pub text: String,
    /// Keys of the reference's sections that mean nothing.
    pub unknown_keys: Vec<String>,
}

/// Reads a configuration file.
///
/// # Errors
/// When it cannot be read, is too large, is no YAML of this shape, or misspells a key of ours.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(read)?.len();
    if length > MAX_FILE {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    parse(text, path)
}

/// Reads a configuration from its text; `path` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(text: String, path: &Path) -> Result<Loaded, ConfigError> {
    let Folded {
        value: config,
        unknown,
    } = if text.trim().is_empty() {
        Folded {
            value: Config::default(),
            unknown: Vec::new(),
        }
    } else {
        serde_saphyr::from_str(&text).map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            reason: error.to_string(),
        })?
    };
    if let Some(key) = unknown
        .iter()
        .find(|key| key.to_lowercase().starts_with("countersign."))
    {
        return Err(ConfigError::UnknownKey {
            path: path.to_owned(),
            key: key.clone(),
        });
    }
    Ok(Loaded {
        config,
        text,
        unknown_keys: unknown,
    })
}

struct Folded<T> {
    value: T,
    unknown: Vec<String>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Folded<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let unknown = fold::Unknown::default();
        let value = T::deserialize(fold::Fold::new(deserializer, &unknown))?;
        Ok(Self {
            value,
            unknown: unknown.into_inner(),
        })
    }
}

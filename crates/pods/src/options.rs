//! What the operator sets for the decision (webhook spec, section 2).

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use crate::account::{DEFAULT_TOKEN_EXPIRATION, MIN_TOKEN_EXPIRATION};
use crate::role::Composition;
use crate::table::glob;
use crate::text::value;

/// Settings of the decision. Each names its flag; [`Options::default`] holds the flags' defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `--annotation-prefix`: prefix of every annotation.
    pub annotation_prefix: String,
    /// `--token-audience`.
    pub token_audience: String,
    /// `--token-mount-path`.
    pub token_mount_path: String,
    /// `--token-expiration`, in seconds; brought between 600 and `max_token_expiration`.
    pub token_expiration: i64,
    /// `--max-token-expiration`, in seconds.
    pub max_token_expiration: u32,
    /// `--aws-default-region`; absent injects no region.
    pub default_region: Option<String>,
    /// `--sts-regional-endpoint`.
    pub regional_sts: bool,
    /// `--compose-role-arn`, with what instance metadata or the flags `--compose-account` and `--compose-partition`
    /// said.
    pub composition: Option<Composition>,
    /// `--container-credentials-audience`.
    pub container_audience: String,
    /// `--container-credentials-token-mount-path`.
    pub container_mount_path: String,
    /// `--container-credentials-token-volume-name`.
    pub container_volume_name: String,
    /// `--container-credentials-token-path`: file name inside the mount.
    pub container_token_path: String,
    /// `--container-credentials-full-uri`.
    pub container_full_uri: String,
    /// `--no-agent-node-selectors`: nodes without an agent. A pod bound to one of them gets its role by IRSA when it
    /// has one, since it would otherwise end up with the node's role.
    pub no_agent_node_selectors: Vec<NodeSelector>,
    /// `--disable-imds-env`: in container mode also `AWS_EC2_METADATA_DISABLED=true`.
    pub disable_imds_env: bool,
    /// `--inject-session-name`: in IRSA mode also `AWS_ROLE_SESSION_NAME`, the pod's name.
    pub inject_session_name: bool,
    /// `--role-profiles`: further roles of an account become profiles of an AWS configuration file in the pod.
    pub role_profiles: bool,
    /// `--extra-env`, in order.
    pub extra_env: Vec<ExtraEnv>,
    /// `--exclude-namespaces`: names or patterns with `*`.
    pub exclude_namespaces: Vec<String>,
    /// `--strict-arn`: deny pods whose role is no ARN, instead of warning.
    pub strict_arn: bool,
    /// `--patch-style`.
    pub patch_style: PatchStyle,
    /// `--warnings`: say in the answer what looks wrong. The decision knows it either way.
    pub warnings: bool,
    /// `--failure-mode`: what becomes of a pod whose account could not be read.
    pub failure_mode: FailureMode,
    /// `--mutate-ephemeral-containers`: fill debug containers of pods that have the token volume, for clusters whose
    /// webhook is registered for `pods/ephemeralcontainers` too.
    pub ephemeral_containers: bool,
}

/// Shape of the patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PatchStyle {
    /// Only what is added.
    #[default]
    Additive,
    /// The container lists as a whole, each time, as the reference writes them. The text of what was there is copied,
    /// so that unlike with the reference nothing is lost.
    Replace,
}

/// What becomes of a pod when the answer cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailureMode {
    /// It is admitted without credentials, with a warning: what `failurePolicy: Ignore` asks for.
    #[default]
    Ignore,
    /// It is denied, to be tried again by its controller.
    Fail,
}

/// A variable that every touched container gets, unless it defines one of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraEnv {
    name: String,
    value: String,
}

/// Requirements on node labels that say where no agent runs: `key`, `key=value` or `key in (a, b)`, with commas
/// between. All of them have to hold.
///
/// There is no negation: a pod that says nothing about its node would fulfil it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSelector {
    text: String,
    requirements: Vec<NodeRequirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRequirement {
    pub(crate) key: String,
    /// Empty: any value.
    pub(crate) values: Vec<String>,
}

/// Options that would make pods the API server refuses, or tokens nobody can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// An empty text where one is needed.
    #[error("--{0} is empty")]
    Empty(&'static str),
    /// The prefix of annotations has to be a DNS name.
    #[error("--annotation-prefix `{0}` is no DNS name, which prefixes of annotations are")]
    Prefix(String),
    /// Not absolute, or with a `:`, or with a `..`.
    #[error("--{flag} `{path}` is no path for a mount: absolute, without `:` and `..`")]
    MountPath {
        /// The flag.
        flag: &'static str,
        /// What it says.
        path: String,
    },
    /// Absolute, or with a `..`.
    #[error("--container-credentials-token-path `{0}` is no relative path without `:` and `..`")]
    TokenPath(String),
    /// Not a DNS label.
    #[error(
        "--container-credentials-token-volume-name `{0}` is no volume name: up to 63 of a-z, 0-9 and `-`"
    )]
    VolumeName(String),
    /// The volume of the other mode.
    #[error("--container-credentials-token-volume-name `{0}` is the name of the IRSA volume")]
    SameVolume(String),
    /// The longest lifetime is shorter than the shortest.
    #[error(
        "--max-token-expiration {0} is below {MIN_TOKEN_EXPIRATION} seconds, the least an API server accepts"
    )]
    MaxTokenExpiration(u32),
    /// Not `NAME=VALUE`, or no name of a variable.
    #[error(
        "--extra-env `{0}`: expected NAME=VALUE with a name of A-Z, a-z, 0-9 and `_`, not beginning with a digit"
    )]
    ExtraEnv(String),
    /// Twice the same name, or a name that is injected anyway.
    #[error(
        "--extra-env `{0}` is set already: each name once, and none of those that carry the credentials"
    )]
    ExtraEnvTwice(String),
    /// Not of the form [`NodeSelector`] takes.
    #[error(
        "--no-agent-node-selectors `{0}`: expected `key`, `key=value` or `key in (a, b)`, with commas between"
    )]
    NodeSelector(String),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            annotation_prefix: "eks.amazonaws.com".to_owned(),
            token_audience: "sts.amazonaws.com".to_owned(),
            token_mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
            token_expiration: i64::from(DEFAULT_TOKEN_EXPIRATION),
            max_token_expiration: DEFAULT_TOKEN_EXPIRATION,
            default_region: None,
            regional_sts: false,
            composition: None,
            container_audience: "pods.eks.amazonaws.com".to_owned(),
            container_mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
                .to_owned(),
            container_volume_name: "eks-pod-identity-token".to_owned(),
            container_token_path: "eks-pod-identity-token".to_owned(),
            container_full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
            no_agent_node_selectors: vec![NodeSelector::fargate()],
            disable_imds_env: false,
            inject_session_name: false,
            role_profiles: false,
            extra_env: Vec::new(),
            exclude_namespaces: Vec::new(),
            strict_arn: false,
            patch_style: PatchStyle::default(),
            warnings: true,
            failure_mode: FailureMode::default(),
            ephemeral_containers: false,
        }
    }
}

impl Options {
    /// Whether the options can be used.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let texts = [
            ("annotation-prefix", &self.annotation_prefix),
            ("token-audience", &self.token_audience),
            ("container-credentials-audience", &self.container_audience),
            ("container-credentials-full-uri", &self.container_full_uri),
        ];
        if let Some((flag, _)) = texts.into_iter().find(|(_, text)| text.is_empty()) {
            return Err(OptionsError::Empty(flag));
        }
        if !self.annotation_prefix.split('.').all(is_dns_label) {
            return Err(OptionsError::Prefix(shown(&self.annotation_prefix)));
        }
        for (flag, path) in [
            ("token-mount-path", &self.token_mount_path),
            (
                "container-credentials-token-mount-path",
                &self.container_mount_path,
            ),
        ] {
            if !path.starts_with('/') || !is_plain_path(path) {
                let path = shown(path);
                return Err(OptionsError::MountPath { flag, path });
            }
        }
        let path = &self.container_token_path;
        if path.is_empty() || path.starts_with('/') || !is_plain_path(path) {
            return Err(OptionsError::TokenPath(shown(path)));
        }
        let volume = &self.container_volume_name;
        if !is_dns_label(volume) {
            return Err(OptionsError::VolumeName(shown(volume)));
        }
        if volume == crate::webhook::IRSA_VOLUME {
            return Err(OptionsError::SameVolume(volume.clone()));
        }
        if self.max_token_expiration < MIN_TOKEN_EXPIRATION {
            return Err(OptionsError::MaxTokenExpiration(self.max_token_expiration));
        }
        let mut names: HashSet<&str> = crate::container::INJECTED.iter().copied().collect();
        if self.role_profiles {
            names.insert(crate::container::CONFIG_FILE_VARIABLE);
        }
        match self
            .extra_env
            .iter()
            .find(|extra| !names.insert(&extra.name))
        {
            Some(extra) => Err(OptionsError::ExtraEnvTwice(shown(&extra.name))),
            None => Ok(()),
        }
    }

    pub(crate) fn excludes(&self, namespace: &str) -> Option<&str> {
        let mut patterns = self.exclude_namespaces.iter();
        let pattern = patterns.find(|pattern| glob(pattern, namespace))?;
        Some(pattern)
    }
}

fn shown(text: &str) -> String {
    value(text).to_string()
}

fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_plain_path(path: &str) -> bool {
    !path.contains([':', '\\', '\0']) && path.split('/').all(|segment| segment != "..")
}

// === impl ExtraEnv ===

impl ExtraEnv {
    /// Name of the variable.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl FromStr for ExtraEnv {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let is_name = |name: &str| {
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
        };
        match text.split_once('=') {
            Some((name, value)) if is_name(name) => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            // The value may be a secret of someone who got the order wrong: only what stands before it is shown.
            other => Err(OptionsError::ExtraEnv(shown(
                other.map_or(text, |(name, _)| name),
            ))),
        }
    }
}

// === impl NodeSelector ===

impl NodeSelector {
    fn fargate() -> Self {
        Self {
            text: "eks.amazonaws.com/compute-type in (fargate)".to_owned(),
            requirements: vec![NodeRequirement {
                key: "eks.amazonaws.com/compute-type".to_owned(),
                values: vec!["fargate".to_owned()],
            }],
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn requirements(&self) -> &[NodeRequirement] {
        &self.requirements
    }
}

impl fmt::Display for NodeSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for NodeSelector {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let error = || OptionsError::NodeSelector(shown(text));
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        loop {
            // The comma of a list of values is not the one between requirements.
            let end = match (rest.find('('), rest.find(',')) {
                (Some(open), Some(comma)) if open < comma => {
                    let close = rest.find(')').ok_or_else(error)?;
                    rest.get(close..)
                        .and_then(|tail| tail.find(','))
                        .map(|at| close + at)
                }
                (_, comma) => comma,
            };
            let (one, after) = match end.and_then(|at| rest.split_at_checked(at)) {
                Some((one, after)) => (one, after.strip_prefix(',')),
                None => (rest, None),
            };
            requirements.push(NodeRequirement::parse(one.trim()).ok_or_else(error)?);
            match after {
                Some(more) => rest = more,
                None => break,
            }
        }
        Ok(Self {
            text: text.trim().to_owned(),
            requirements,
        })
    }
}

impl NodeRequirement {
    fn parse(text: &str) -> Option<Self> {
        let is_key = |key: &str| {
            !key.is_empty()
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        };
        let is_value = |value: &str| {
            value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let (key, values) = match text.split_once([' ', '=']) {
            None => (text, Vec::new()),
            Some((key, tail)) if text.contains('=') => {
                let value = tail.trim_start_matches(['=', ' ']).trim();
                (key.trim(), vec![value.to_owned()])
            }
            Some((key, tail)) => {
                let list = tail.trim().strip_prefix("in")?.trim_start();
                let list = list.strip_prefix('(')?.strip_suffix(')')?;
                let values: Vec<String> = list.split(',').map(|v| v.trim().to_owned()).collect();
                (key, values)
            }
        };
        let is_sound = is_key(key) && values.iter().all(|value| is_value(value));
        is_sound.then(|| Self {
            key: key.to_owned(),
            values,
        })
    }

    pub(crate) fn takes(&self, value: &str) -> bool {
        self.values.is_empty() || self.values.iter().any(|wanted| wanted == value)
    }
}

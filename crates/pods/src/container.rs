//! One container: what is there, and what it gets (webhook spec, sections 5.2 to 5.4).

use std::fmt;

use crate::note::{Note, Notes};
use crate::options::ExtraEnv;
use crate::patch::{ContainerList, EnvValue, EnvVar, Str, VolumeMount};
use crate::pod::Container;
use crate::text::name;

const REGIONAL_STS: &str = "AWS_STS_REGIONAL_ENDPOINTS";
const DEFAULT_REGION: &str = "AWS_DEFAULT_REGION";
const REGION: &str = "AWS_REGION";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const AUTHORIZATION_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const ROLE_ARN: &str = "AWS_ROLE_ARN";
const WEB_IDENTITY_TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const SESSION_NAME: &str = "AWS_ROLE_SESSION_NAME";
const METADATA_DISABLED: &str = "AWS_EC2_METADATA_DISABLED";

/// The configuration file with further roles, which is injected only where that was asked for.
pub(crate) const CONFIG_FILE_VARIABLE: &str = "AWS_CONFIG_FILE";

/// Every name that is injected by another option than the free one.
pub(crate) const INJECTED: &[&str] = &[
    REGIONAL_STS,
    DEFAULT_REGION,
    REGION,
    FULL_URI,
    AUTHORIZATION_TOKEN_FILE,
    ROLE_ARN,
    WEB_IDENTITY_TOKEN_FILE,
    SESSION_NAME,
    METADATA_DISABLED,
];

/// What is the same for all containers of a pod.
#[derive(Debug)]
pub(crate) struct Injection<'a> {
    pub(crate) regional_sts: bool,
    pub(crate) region: Option<&'a str>,
    pub(crate) pair: Pair<'a>,
    pub(crate) extra: &'a [ExtraEnv],
    pub(crate) volume: &'a str,
    pub(crate) mount_path: &'a str,
    /// Path of the configuration file, when the volume has one.
    pub(crate) config_file: Option<&'a str>,
}

/// The variables that carry the credentials.
#[derive(Debug)]
pub(crate) enum Pair<'a> {
    Irsa {
        role: Str<'a>,
        token_file: &'a str,
        /// Field of the pod that becomes the session's name.
        session_name: Option<&'static str>,
    },
    Container {
        uri: &'a str,
        token_file: &'a str,
        disable_metadata: bool,
    },
}

/// What was decided for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerPlan<'a> {
    /// Its list.
    pub list: ContainerList,
    /// Its place there.
    pub index: usize,
    /// Its name.
    pub name: &'a str,
    /// What was decided.
    pub outcome: ContainerOutcome,
}

/// What becomes of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerOutcome {
    /// The pod asks to skip it.
    Skipped,
    /// It defines its credentials, its region and the STS mode by itself. Whether it mounts the token nonetheless.
    LeftAlone {
        /// It has a mount of the token's volume.
        mounts_token: bool,
    },
    /// It is filled up with what it lacks.
    Filled {
        /// `AWS_STS_REGIONAL_ENDPOINTS`.
        regional_sts: Part,
        /// `AWS_DEFAULT_REGION` and `AWS_REGION`.
        region: Part,
        /// The pair of the mode.
        credentials: Part,
        /// `AWS_ROLE_SESSION_NAME` or `AWS_EC2_METADATA_DISABLED`, by mode.
        companion: Part,
        /// How many extra variables were added.
        extra: usize,
        /// The mount.
        mount: Part,
        /// `AWS_CONFIG_FILE`.
        config: Part,
    },
}

/// What becomes of one part of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Not asked for.
    NotWanted,
    /// Added.
    Added,
    /// The container has it, in whole or in part, and keeps what it has.
    Kept,
    /// Something else is in its place.
    Taken,
}

/// What a container gets.
#[derive(Debug)]
pub(crate) struct Additions<'a> {
    pub(crate) list: ContainerList,
    pub(crate) index: usize,
    pub(crate) env: Vec<EnvVar<'a>>,
    pub(crate) has_env: bool,
    pub(crate) mount: Option<VolumeMount<'a>>,
    pub(crate) has_mounts: bool,
}

/// Which of the names that matter are defined, whatever their values.
#[derive(Default)]
struct Defined {
    regional_sts: bool,
    region: bool,
    container_pair: bool,
    role_arn: bool,
    web_identity_token_file: bool,
    session_name: bool,
    metadata_disabled: bool,
    config_file: bool,
    static_keys: bool,
    relative_uri: bool,
}

impl Defined {
    fn of(container: &Container<'_>) -> Self {
        let mut defined = Self::default();
        for variable in container.env.iter().flatten() {
            let flag = match variable.0.name.as_str() {
                REGIONAL_STS => &mut defined.regional_sts,
                DEFAULT_REGION | REGION => &mut defined.region,
                FULL_URI | AUTHORIZATION_TOKEN_FILE => &mut defined.container_pair,
                ROLE_ARN => &mut defined.role_arn,
                WEB_IDENTITY_TOKEN_FILE => &mut defined.web_identity_token_file,
                SESSION_NAME => &mut defined.session_name,
                METADATA_DISABLED => &mut defined.metadata_disabled,
                CONFIG_FILE_VARIABLE => &mut defined.config_file,
                "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => &mut defined.static_keys,
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" => &mut defined.relative_uri,
                _ => continue,
            };
            *flag = true;
        }
        defined
    }
}

impl<'a> Injection<'a> {
    /// Decides for a container that is not skipped.
    pub(crate) fn plan(
        &self,
        list: ContainerList,
        index: usize,
        container: &'a Container<'a>,
        notes: &mut Notes<'a>,
    ) -> (ContainerOutcome, Additions<'a>) {
        let defined = Defined::of(container);
        let mut additions = Additions {
            list,
            index,
            env: Vec::new(),
            has_env: container.env.is_some(),
            mount: None,
            has_mounts: container.volume_mounts.is_some(),
        };
        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        let mounts_token = mounts
            .iter()
            .any(|mount| mount.0.name.as_str() == self.volume);
        let has_pair = match self.pair {
            Pair::Irsa { .. } => defined.role_arn || defined.web_identity_token_file,
            Pair::Container { .. } => defined.container_pair,
        };
        if has_pair && defined.region && defined.regional_sts {
            return (ContainerOutcome::LeftAlone { mounts_token }, additions);
        }
        self.note(container, &defined, notes);

        let env = &mut additions.env;
        let regional_sts = part(self.regional_sts, defined.regional_sts);
        if regional_sts == Part::Added {
            env.push(text(REGIONAL_STS, "regional"));
        }
        let region = part(self.region.is_some(), defined.region);
        if let (Part::Added, Some(value)) = (region, self.region) {
            env.push(text(DEFAULT_REGION, value));
            env.push(text(REGION, value));
        }
        let credentials = part(true, has_pair);
        if credentials == Part::Added {
            self.push_pair(env);
        }
        let companion = self.push_companion(&defined, has_pair, env);
        let mut extra = 0;
        for variable in self.extra {
            let mut names = container
                .env
                .iter()
                .flatten()
                .map(|variable| variable.0.name.as_str());
            if !names.any(|name| name == variable.name()) {
                env.push(text(variable.name(), variable.value()));
                extra += 1;
            }
        }
        let path = self.mount_path.trim_end_matches('/');
        let at_path = |mount_path: &str| mount_path.trim_end_matches('/') == path;
        let mount = if mounts_token {
            Part::Kept
        } else if mounts
            .iter()
            .any(|mount| at_path(mount.0.mount_path.as_str()))
        {
            // Two mounts at one path: the API server would refuse the pod.
            notes.add(Note::MountPathTaken {
                container: container.name.as_str(),
            });
            Part::Taken
        } else {
            additions.mount = Some(VolumeMount {
                name: self.volume,
                mount_path: self.mount_path,
            });
            Part::Added
        };
        // Without the mount the file is not there.
        let config = match (self.config_file, mount) {
            (None, _) => Part::NotWanted,
            (Some(_), Part::Taken | Part::NotWanted) => Part::Taken,
            (Some(_), Part::Added | Part::Kept) => part(true, defined.config_file),
        };
        if let (Part::Added, Some(path)) = (config, self.config_file) {
            additions.env.push(text(CONFIG_FILE_VARIABLE, path));
        }
        let outcome = ContainerOutcome::Filled {
            regional_sts,
            region,
            credentials,
            companion,
            extra,
            mount,
            config,
        };
        (outcome, additions)
    }

    fn push_pair(&self, env: &mut Vec<EnvVar<'a>>) {
        match &self.pair {
            Pair::Irsa {
                role, token_file, ..
            } => {
                env.push(EnvVar {
                    name: ROLE_ARN,
                    value: EnvValue::Text(role.clone()),
                });
                env.push(text(WEB_IDENTITY_TOKEN_FILE, token_file));
            }
            Pair::Container {
                uri, token_file, ..
            } => {
                env.push(text(FULL_URI, uri));
                env.push(text(AUTHORIZATION_TOKEN_FILE, token_file));
            }
        }
    }

    /// The session's name goes only with a role that is injected as well: a container that brings its own role may
    /// have been trusted under another name.
    fn push_companion(&self, defined: &Defined, has_pair: bool, env: &mut Vec<EnvVar<'a>>) -> Part {
        match self.pair {
            Pair::Irsa {
                session_name: Some(field),
                ..
            } => {
                let part = part(true, defined.session_name || has_pair);
                if part == Part::Added {
                    env.push(EnvVar {
                        name: SESSION_NAME,
                        value: EnvValue::Field(field),
                    });
                }
                part
            }
            Pair::Container {
                disable_metadata: true,
                ..
            } => {
                let part = part(true, defined.metadata_disabled);
                if part == Part::Added {
                    env.push(text(METADATA_DISABLED, "true"));
                }
                part
            }
            Pair::Irsa { .. } | Pair::Container { .. } => Part::NotWanted,
        }
    }

    fn note(&self, container: &'a Container<'a>, defined: &Defined, notes: &mut Notes<'a>) {
        let container = container.name.as_str();
        if defined.static_keys {
            notes.add(Note::StaticKeys { container });
        }
        if matches!(self.pair, Pair::Container { .. }) {
            if defined.relative_uri {
                notes.add(Note::RelativeUri { container });
            }
            if defined.role_arn && defined.web_identity_token_file {
                notes.add(Note::WebIdentityFirst { container });
            }
        }
    }
}

fn part(wanted: bool, defined: bool) -> Part {
    match (wanted, defined) {
        (false, _) => Part::NotWanted,
        (true, true) => Part::Kept,
        (true, false) => Part::Added,
    }
}

fn text<'a>(name: &'a str, value: &'a str) -> EnvVar<'a> {
    EnvVar {
        name,
        value: EnvValue::Text(Str::Borrowed(value)),
    }
}

impl Additions<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.env.is_empty() && self.mount.is_none()
    }
}

impl ContainerOutcome {
    /// Whether the container will mount the volume of the token.
    pub(crate) fn mounts_token(self) -> bool {
        match self {
            Self::Skipped => false,
            Self::LeftAlone { mounts_token } => mounts_token,
            Self::Filled { mount, .. } => matches!(mount, Part::Added | Part::Kept),
        }
    }
}

impl fmt::Display for ContainerPlan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}[{}] `{}`: {}",
            self.list,
            self.index,
            name(self.name),
            self.outcome
        )
    }
}

impl fmt::Display for ContainerOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped => f.write_str("skipped, as the pod asks"),
            Self::LeftAlone { .. } => {
                f.write_str("left alone: it defines credentials, region and STS mode by itself")
            }
            Self::Filled {
                regional_sts,
                region,
                credentials,
                companion,
                extra,
                mount,
                config,
            } => {
                write!(f, "credentials {credentials}, mount {mount}")?;
                for (name, part) in [
                    ("region", region),
                    ("STS mode", regional_sts),
                    ("companion variable", companion),
                    ("configuration file", config),
                ] {
                    if *part != Part::NotWanted {
                        write!(f, ", {name} {part}")?;
                    }
                }
                match extra {
                    0 => Ok(()),
                    count => write!(f, ", {count} extra variables"),
                }
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWanted => "not wanted",
            Self::Added => "added",
            Self::Kept => "there already",
            Self::Taken => "left out, its place is taken",
        })
    }
}

//! The shared configuration files and the profile in force.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::env::Environment;
use crate::ini::{self, ParseIniError, Section};

/// The shared files, and which profile of them is used.
#[derive(Debug, Clone)]
pub struct Profiles {
    config: Vec<Section>,
    credentials: Vec<Section>,
    selected: String,
    /// Where the name came from decides whether it may be missing, and whether keys in the environment win over it.
    choice: Choice,
}

/// How the profile was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// `--profile`: keys in the environment are ignored, as in the AWS CLI.
    Flag,
    /// `AWS_PROFILE` or `AWS_DEFAULT_PROFILE`.
    Environment,
    /// Nobody chose; it is `default`.
    Default,
}

/// Why the shared files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A file exists and cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file does not parse.
    #[error("could not parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line.
        #[source]
        source: ParseIniError,
    },
    /// The chosen profile is in neither file.
    #[error("the config profile ({0}) could not be found")]
    NoProfile(String),
    /// `services = NAME` without a section `[services NAME]`.
    #[error("profile `{profile}` uses the services section `{services}`, which does not exist")]
    NoServices {
        /// The profile.
        profile: String,
        /// The missing section.
        services: String,
    },
}

impl Profiles {
    /// Reads the files that `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE` name, or those in `~/.aws`. A missing file is empty.
    ///
    /// The profile is `flag`, else `AWS_PROFILE`, else `AWS_DEFAULT_PROFILE`, else `default`.
    ///
    /// # Errors
    /// When a file cannot be read or parsed, or the chosen profile is in neither file.
    pub fn load(env: &Environment, flag: Option<&str>) -> Result<Self, ProfileError> {
        let file = |variable: &str, default: &str| match env.get(variable) {
            Some(path) => Some(env.expand(path)),
            None => env.home().map(|home| home.join(".aws").join(default)),
        };
        let config = read(file("AWS_CONFIG_FILE", "config"))?;
        let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
        Self::new(config, credentials, env, flag)
    }

    pub(crate) fn new(
        config: Vec<Section>,
        credentials: Vec<Section>,
        env: &Environment,
        flag: Option<&str>,
    ) -> Result<Self, ProfileError> {
        let from_env = env.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]);
        let (selected, choice) = match (flag.filter(|f| !f.is_empty()), from_env) {
            (Some(name), _) => (name, Choice::Flag),
            (None, Some(name)) => (name, Choice::Environment),
            (None, None) => ("default", Choice::Default),
        };
        let profiles = Self {
            config,
            credentials,
            selected: selected.to_owned(),
            choice,
        };
        if choice != Choice::Default && !profiles.exists(selected) {
            return Err(ProfileError::NoProfile(selected.to_owned()));
        }
        Ok(profiles)
    }

    /// The profile in force.
    #[must_use]
    pub fn selected(&self) -> Profile<'_> {
        self.profile(&self.selected)
    }

    /// How it was chosen.
    #[must_use]
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// Whether either file has the profile.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        let profile = self.profile(name);
        profile.config.is_some() || profile.credentials.is_some()
    }

    /// The profile of this name; empty if no file has it.
    #[must_use]
    pub fn profile<'a>(&'a self, name: &'a str) -> Profile<'a> {
        let in_config = |section: &&Section| section.header_words() == ["profile", name];
        let plain = |section: &&Section| section.header_words() == [name];
        let config = self.config.iter().find(in_config).or_else(|| {
            // `[default]` needs no `profile`; other sections without it are not profiles.
            self.config.iter().find(plain).filter(|_| name == "default")
        });
        Profile {
            name,
            config,
            credentials: self.credentials.iter().find(plain),
            all_config: &self.config,
        }
    }
}

/// One profile, in both files.
#[derive(Debug, Clone, Copy)]
pub struct Profile<'a> {
    /// Its name.
    pub name: &'a str,
    pub(crate) config: Option<&'a Section>,
    pub(crate) credentials: Option<&'a Section>,
    all_config: &'a [Section],
}

impl<'a> Profile<'a> {
    /// A property; the configuration file wins over the credentials file. Empty values count as unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        [self.config, self.credentials]
            .into_iter()
            .flatten()
            .find_map(|section| section.get(name))
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// `endpoint_url` for `service` in the services section that the profile names.
    ///
    /// # Errors
    /// When the section does not exist.
    pub fn service_endpoint(&self, service: &str) -> Result<Option<&'a str>, ProfileError> {
        let Some(services) = self.get("services") else {
            return Ok(None);
        };
        let section = self
            .all_config
            .iter()
            .find(|section| section.header_words() == ["services", services])
            .ok_or_else(|| ProfileError::NoServices {
                profile: self.name.to_owned(),
                services: services.to_owned(),
            })?;
        Ok(section.nested(service, "endpoint_url"))
    }
}

fn read(path: Option<PathBuf>) -> Result<Vec<Section>, ProfileError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let text = match read_bounded(&path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(ProfileError::Read { path, source }),
    };
    ini::parse(&text).map_err(|source| ProfileError::Parse { path, source })
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let limit = u64::try_from(ini::MAX_LEN).unwrap_or(u64::MAX);
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_string(&mut text)?;
    Ok(text)
}

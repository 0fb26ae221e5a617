//! The kinds of backends and the list that orders them (authentication spec, sections 3.7 and 3.8).

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::json;
use crate::tree::Content;

/// Where mappings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// The principal that created the cluster.
    ClusterCreator,
    /// Access entries of the EKS API.
    AccessEntries,
    /// Access rules, which give many principals at once an entry.
    AccessRules,
    /// Lists in the server's own configuration file.
    MountedFile,
    /// The ConfigMap `kube-system/aws-auth`.
    EksConfigMap,
    /// `IAMIdentityMapping` objects.
    Crd,
    /// A JSON file that something else keeps up to date.
    DynamicFile,
}

impl BackendKind {
    /// The name as in `--backend-mode`, in error texts and in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterCreator => "ClusterCreator",
            Self::AccessEntries => "AccessEntries",
            Self::AccessRules => "AccessRules",
            Self::MountedFile => "MountedFile",
            Self::EksConfigMap => "EKSConfigMap",
            Self::Crd => "CRD",
            Self::DynamicFile => "DynamicFile",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for BackendKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Why a list of backend modes is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBackendModes {
    /// The list is empty.
    #[error("at least one backend mode is needed: MountedFile, EKSConfigMap, CRD or DynamicFile")]
    Empty,
    /// A name that is no backend mode.
    #[error("unknown backend mode `{0}`; one of MountedFile, EKSConfigMap, CRD, DynamicFile")]
    Unknown(String),
    /// The same mode twice.
    #[error("backend mode `{0}` is listed twice")]
    Duplicate(BackendKind),
    /// `DynamicFile` without a file.
    #[error("backend mode `DynamicFile` needs `dynamicfilepath`")]
    NoDynamicFile,
    /// A file without `DynamicFile`.
    #[error("`dynamicfilepath` is set, but backend mode `DynamicFile` is not")]
    UnusedDynamicFile,
    /// The backend mode file is no JSON object with a text `backendMode`.
    #[error("backend mode file: {0}")]
    File(String),
}

/// An ordered list of backends without duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendModes {
    modes: Vec<BackendKind>,
    deprecated: Vec<&'static str>,
}

impl Default for BackendModes {
    /// `MountedFile` alone, as in the reference.
    fn default() -> Self {
        Self {
            modes: vec![BackendKind::MountedFile],
            deprecated: Vec::new(),
        }
    }
}

impl BackendModes {
    /// Reads the names of `--backend-mode` or `server.backendMode`; each may itself be a list separated by commas.
    ///
    /// # Errors
    /// When the list is empty, has an unknown name or the same backend twice (under any of its names).
    pub fn parse<'n>(
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Self, InvalidBackendModes> {
        let mut modes = Vec::new();
        let mut deprecated = Vec::new();
        let lists = names.into_iter().filter(|name| !name.is_empty());
        for name in lists.flat_map(|name| name.split(',')) {
            let mode = match name {
                "File" => {
                    deprecated.push("File");
                    BackendKind::MountedFile
                }
                "ConfigMap" => {
                    deprecated.push("ConfigMap");
                    BackendKind::EksConfigMap
                }
                "MountedFile" => BackendKind::MountedFile,
                "EKSConfigMap" => BackendKind::EksConfigMap,
                "CRD" => BackendKind::Crd,
                "DynamicFile" => BackendKind::DynamicFile,
                other => {
                    return Err(InvalidBackendModes::Unknown(
                        other.chars().take(64).collect(),
                    ));
                }
            };
            if modes.contains(&mode) {
                return Err(InvalidBackendModes::Duplicate(mode));
            }
            modes.push(mode);
        }
        if modes.is_empty() {
            return Err(InvalidBackendModes::Empty);
        }
        Ok(Self { modes, deprecated })
    }

    /// Reads a backend mode file: `{"backendMode": "DynamicFile EKSConfigMap"}`, names separated by single spaces.
    ///
    /// # Errors
    /// When the text is no such JSON object, or for the reasons of [`BackendModes::parse`]; the old chain stays then.
    pub fn parse_file(text: &str) -> Result<Self, InvalidBackendModes> {
        let tree = json::parse(text).map_err(|e| InvalidBackendModes::File(e.to_string()))?;
        let modes = tree
            .field(tree.root(), "backendMode")
            .map(|id| tree.get(id));
        match modes.map(|node| &node.content) {
            Some(Content::Text(modes, crate::tree::Form::Quoted)) => {
                // Two spaces in a row make an empty name, which is no backend.
                if let Some(name) = modes
                    .split(' ')
                    .find(|name| name.is_empty() || name.contains(','))
                {
                    return Err(InvalidBackendModes::Unknown(
                        name.chars().take(64).collect(),
                    ));
                }
                Self::parse(modes.split(' '))
            }
            _ => Err(InvalidBackendModes::File(
                "`backendMode` is not a text".into(),
            )),
        }
    }

    /// Checks that `DynamicFile` and `dynamicfilepath` come together.
    ///
    /// # Errors
    /// When one is set without the other.
    pub fn check_dynamic_file(&self, path_is_set: bool) -> Result<(), InvalidBackendModes> {
        match (self.modes.contains(&BackendKind::DynamicFile), path_is_set) {
            (true, false) => Err(InvalidBackendModes::NoDynamicFile),
            (false, true) => Err(InvalidBackendModes::UnusedDynamicFile),
            _ => Ok(()),
        }
    }

    /// The backends in the order in which they are asked.
    #[must_use]
    pub fn modes(&self) -> &[BackendKind] {
        &self.modes
    }

    /// Deprecated names that were used, for a warning.
    #[must_use]
    pub fn deprecated(&self) -> &[&'static str] {
        &self.deprecated
    }
}

impl FromStr for BackendModes {
    type Err = InvalidBackendModes;

    fn from_str(text: &str) -> Result<Self, InvalidBackendModes> {
        Self::parse([text])
    }
}

//! The last good texts of `aws-auth`, remembered for a start at which the API server is not reachable yet.
//!
//! Nodes need their mapping to come up, and on a control-plane node the API server may need this server to be up first.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest file that is read: three sections of one MiB, escaped.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remembered {
    /// The cluster; another cluster's rules are not used.
    pub(crate) cluster: String,
    /// The resourceVersion of the object at that time.
    pub(crate) resource_version: String,
    /// When it was written.
    pub(crate) saved_at: Timestamp,
    /// The texts by key; none if there was no object.
    pub(crate) data: BTreeMap<String, String>,
}

/// The file, in the state directory.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    path: PathBuf,
}

/// Why what was remembered is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateFileError {
    #[error("could not read or write `{path}`")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Whoever may write the file could grant anything.
    #[error("`{path}` is writable by others than its owner, or is no plain file of this user")]
    NotPrivate { path: PathBuf },
    #[error("`{path}` is not what this server writes")]
    Malformed { path: PathBuf },
    #[error("`{path}` is of cluster `{cluster}`")]
    OtherCluster { path: PathBuf, cluster: String },
}

impl StateFile {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("aws-auth.json"),
        }
    }

    /// What was remembered of `cluster`; `None` if nothing was.
    pub(crate) fn read(&self, cluster: &str) -> Result<Option<Remembered>, StateFileError> {
        let path = || self.path.clone();
        let failed = |source| StateFileError::Io {
            path: path(),
            source,
        };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        let own = fs::metadata("/proc/self").map_or(metadata.uid(), |process| process.uid());
        if !metadata.is_file()
            || metadata.mode() & 0o022 != 0
            || (metadata.uid() != own && metadata.uid() != 0)
        {
            return Err(StateFileError::NotPrivate { path: path() });
        }
        let mut text = String::new();
        file.take(MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let remembered: Remembered =
            serde_json::from_str(&text).map_err(|_| StateFileError::Malformed { path: path() })?;
        if remembered.cluster != cluster {
            return Err(StateFileError::OtherCluster {
                path: path(),
                cluster: remembered.cluster.chars().take(128).collect(),
            });
        }
        Ok(Some(remembered))
    }

    /// Replaces the file as a whole, mode 0600.
    pub(crate) fn write(&self, remembered: &Remembered) -> Result<(), StateFileError> {
        self.replace(remembered)
            .map_err(|source| StateFileError::Io {
                path: self.path.clone(),
                source,
            })
    }

    fn replace(&self, remembered: &Remembered) -> io::Result<()> {
        let temporary = self.path.with_extension("json.new");
        // Made anew, so that neither the mode of an older file nor a link in its place counts.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec(remembered)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }
}

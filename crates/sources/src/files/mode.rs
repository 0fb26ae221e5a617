//! The backend mode file: the backends and their order, changeable at run time (authentication spec, section 3.7).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_mapping::BackendModes;
use jiff::Timestamp;
use serde::Deserialize;

use super::dynamic::since;
use super::watched::{Polled, WatchedFile};
use super::{Outcome, Polling, poll_forever};
use crate::health::{Problem, SourceKind};
use crate::mappings::Mappings;

const SOURCE: SourceKind = SourceKind::BackendModeFile;
const MAX_BYTES: usize = 64 * 1024;

/// The file at `dynamicBackendModePath`. While it is there and valid its modes are in force, else those of the configuration;
/// a file with an unknown mode leaves the chain as it is.
#[derive(Debug)]
pub struct BackendModeFile {
    file: WatchedFile,
    mappings: Arc<Mappings>,
    /// Whether `dynamicfilepath` is set, without which there is no backend DynamicFile.
    has_dynamic_file: bool,
    loaded: bool,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "Version", default)]
    version: Option<String>,
    #[serde(rename = "LastUpdatedDateTime", default)]
    last_updated: Option<String>,
}

impl BackendModeFile {
    /// The file at `path`, which need not be there. Nothing is read before the first poll.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, has_dynamic_file: bool, mappings: &Arc<Mappings>) -> Self {
        Self {
            file: WatchedFile::new(path, MAX_BYTES, false),
            mappings: Arc::clone(mappings),
            has_dynamic_file,
            loaded: false,
        }
    }

    /// Looks at the file. Blocks on the file system.
    pub fn poll_once(&mut self, now: Timestamp) -> Outcome {
        match self.file.poll() {
            Polled::Unchanged => Outcome::Unchanged,
            Polled::Readable => {
                self.mappings.reached(SOURCE);
                Outcome::Unchanged
            }
            Polled::Changed { text, version } => self.take(&text, &version, now),
            Polled::Gone => {
                self.mappings.set_file_backends(None, String::new(), now);
                Outcome::Cleared
            }
            Polled::Problem(super::FileProblem::Io {
                kind: std::io::ErrorKind::NotFound,
                ..
            }) => Outcome::Unchanged,
            Polled::Problem(problem) => {
                let problem = Problem::new(problem.to_string());
                self.mappings.fail(SOURCE, problem, now);
                Outcome::Failed
            }
        }
    }

    /// Looks at the file every `every`, for ever.
    pub async fn run(
        self,
        every: Duration,
        clock: impl Fn() -> Timestamp + Send + Clone + 'static,
    ) {
        poll_forever(self, every, clock).await;
    }

    fn take(&mut self, text: &str, hash: &str, now: Timestamp) -> Outcome {
        let modes = BackendModes::parse_file(text).and_then(|modes| {
            // A path without the mode is no error: the file may bring the mode later.
            if !self.has_dynamic_file {
                modes.check_dynamic_file(false)?;
            }
            Ok(modes)
        });
        let modes = match modes {
            Ok(modes) => modes,
            Err(error) => {
                let problem = Problem::new(error.to_string());
                self.mappings.refuse(SOURCE, problem, now);
                return Outcome::Refused;
            }
        };
        let header: Option<Header> = serde_json::from_str(text).ok();
        let version = header.as_ref().and_then(|header| header.version.as_deref());
        let version = match version {
            Some(version) => {
                let version: String = version.chars().take(64).collect();
                format!("{version} ({hash})")
            }
            None => hash.to_owned(),
        };
        let backends = Some(modes.modes().to_vec());
        self.mappings.set_file_backends(backends, version, now);
        let last_updated = header.and_then(|header| header.last_updated?.parse().ok());
        if std::mem::replace(&mut self.loaded, true)
            && let Some(latency) = since(last_updated, now)
        {
            self.mappings.observe_latency(SOURCE, latency);
        }
        Outcome::Reloaded
    }
}

impl Polling for BackendModeFile {
    fn poll_once(&mut self, now: Timestamp) -> Outcome {
        Self::poll_once(self, now)
    }
}

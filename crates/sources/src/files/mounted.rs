//! The server's own configuration file, backend MountedFile (authentication spec, section 3.3).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_mapping::mounted_file::{self, RefusedSource};
use countersign_mapping::{BackendKind, Severity};
use jiff::Timestamp;

use super::watched::{FileProblem, Polled, WatchedFile};
use super::{Outcome, Polling, poll_forever};
use crate::health::{Problem, SourceKind};
use crate::mappings::{Mappings, Update};

const SOURCE: SourceKind = SourceKind::Backend(BackendKind::MountedFile);

/// The lists under `server` in the configuration file, read at start and whenever the file changes.
///
/// At start any invalid entry is an error, for nobody is connected yet who could be cut off. Later a file that is invalid,
/// unreadable or gone leaves the rules in force as they are.
#[derive(Debug)]
pub struct MountedFile {
    file: WatchedFile,
    mappings: Arc<Mappings>,
}

/// The configuration file cannot be used at start.
#[derive(Debug, thiserror::Error)]
pub enum MountedFileError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileProblem),
    /// Its entries are invalid.
    #[error("mapping rules of `{path}` are invalid")]
    Refused {
        /// The file.
        path: PathBuf,
        /// All reasons.
        #[source]
        source: Box<RefusedSource>,
    },
}

impl MountedFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// When it cannot be read or any entry is invalid; the server must not start then.
    pub fn load(
        path: impl Into<PathBuf>,
        mappings: &Arc<Mappings>,
        now: Timestamp,
    ) -> Result<Self, MountedFileError> {
        let mut source = Self {
            file: WatchedFile::new(path, mounted_file::MAX_TEXT, true),
            mappings: Arc::clone(mappings),
        };
        match source.file.poll() {
            Polled::Changed { text, version } => {
                source
                    .take(&text, version, now)
                    .map_err(|refused| MountedFileError::Refused {
                        path: source.file.path().to_owned(),
                        source: Box::new(refused),
                    })?;
            }
            Polled::Problem(problem) => return Err(problem.into()),
            Polled::Unchanged | Polled::Readable | Polled::Gone => {
                return Err(MountedFileError::File(FileProblem::Io {
                    path: source.file.path().to_owned(),
                    kind: std::io::ErrorKind::ResourceBusy,
                }));
            }
        }
        Ok(source)
    }

    /// Looks at the file. Blocks on the file system.
    pub fn poll_once(&mut self, now: Timestamp) -> Outcome {
        match self.file.poll() {
            Polled::Unchanged => Outcome::Unchanged,
            Polled::Readable => {
                self.mappings.reached(SOURCE);
                Outcome::Unchanged
            }
            Polled::Changed { text, version } => match self.take(&text, version, now) {
                Ok(()) => Outcome::Reloaded,
                Err(refused) => {
                    let worst = refused
                        .findings
                        .iter()
                        .find(|finding| finding.severity == Severity::Error);
                    let problem = worst.map_or_else(|| Problem::new(&refused.summary), Problem::of);
                    self.mappings.refuse(SOURCE, problem, now);
                    Outcome::Refused
                }
            },
            Polled::Gone => {
                let problem = format!("`{}` is gone", self.file.path().display());
                self.mappings.fail(SOURCE, Problem::new(problem), now);
                Outcome::Failed
            }
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

    fn take(&self, text: &str, version: String, now: Timestamp) -> Result<(), RefusedSource> {
        let loaded = mounted_file::parse(text, &self.mappings.options().mapping)?;
        let update = Update {
            entries: loaded.entries,
            version,
            findings: loaded.findings,
            synced: true,
            ..Update::default()
        };
        self.mappings.publish(BackendKind::MountedFile, update, now);
        Ok(())
    }
}

impl Polling for MountedFile {
    fn poll_once(&mut self, now: Timestamp) -> Outcome {
        Self::poll_once(self, now)
    }
}

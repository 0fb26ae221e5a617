//! The identities file of the reference webhook (webhook spec, section 3.3).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_pods::{Associations, MAX_SOURCE_BYTES};
use jiff::Timestamp;

use super::watched::{Polled, WatchedFile};
use super::{Outcome, Polling, poll_forever};

/// The identities in force. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Identities {
    current: Arc<ArcSwap<Associations>>,
    problem: Arc<ArcSwap<Option<String>>>,
    errors: Arc<AtomicU64>,
}

/// Reads the identities file again whenever its content changes.
///
/// A file that is missing or empty has no identities. One that cannot be read, or is no JSON of this shape, leaves those in
/// force as they are.
#[derive(Debug)]
pub struct IdentitiesFile {
    file: WatchedFile,
    identities: Identities,
}

impl Identities {
    /// The identities in force.
    #[must_use]
    pub fn current(&self) -> arc_swap::Guard<Arc<Associations>> {
        self.current.load()
    }

    /// Why the file as it is now is not in force.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        Option::clone(&self.problem.load())
    }

    /// How often the file was refused.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    fn fail(&self, problem: String) {
        tracing::error!(problem, "the identities file is not usable as it is");
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.problem.store(Arc::new(Some(problem)));
    }
}

impl IdentitiesFile {
    /// Reads the file for the first time. Blocks on the file system.
    #[must_use]
    pub fn load(path: impl Into<PathBuf>) -> (Self, Identities) {
        let identities = Identities::default();
        let mut file = Self {
            file: WatchedFile::new(path, MAX_SOURCE_BYTES, false),
            identities: identities.clone(),
        };
        file.poll_once();
        (file, identities)
    }

    /// Looks at the file. Blocks on the file system.
    pub fn poll_once(&mut self) -> Outcome {
        let path = self.file.path().display().to_string();
        match self.file.poll() {
            Polled::Unchanged => Outcome::Unchanged,
            Polled::Readable => {
                self.identities.problem.store(Arc::new(None));
                Outcome::Unchanged
            }
            Polled::Changed { text, .. } => match Associations::parse_identities(&text) {
                Ok(identities) => {
                    self.identities.current.store(Arc::new(identities));
                    self.identities.problem.store(Arc::new(None));
                    Outcome::Reloaded
                }
                Err(error) => {
                    self.identities.fail(format!(
                        "`{path}`: {error}; its last good version stays in force"
                    ));
                    Outcome::Refused
                }
            },
            Polled::Gone => {
                self.identities.current.store(Arc::default());
                self.identities.problem.store(Arc::new(None));
                Outcome::Cleared
            }
            Polled::Problem(super::FileProblem::Io {
                kind: std::io::ErrorKind::NotFound,
                ..
            }) => Outcome::Unchanged,
            Polled::Problem(problem) => {
                self.identities.fail(problem.to_string());
                Outcome::Failed
            }
        }
    }

    /// Looks at the file every `every`, for ever.
    pub async fn run(self, every: Duration) {
        poll_forever(self, every, Timestamp::now).await;
    }
}

impl Polling for IdentitiesFile {
    fn poll_once(&mut self, _: Timestamp) -> Outcome {
        Self::poll_once(self)
    }
}

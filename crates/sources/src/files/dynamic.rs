//! A JSON file that something else keeps up to date, backend DynamicFile (authentication spec, section 3.7).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_mapping::{BackendKind, Severity, dynamic_file};
use jiff::Timestamp;

use super::watched::{Polled, WatchedFile};
use super::{Outcome, Polling, poll_forever};
use crate::health::{Problem, SourceKind};
use crate::mappings::{Mappings, Update};

const SOURCE: SourceKind = SourceKind::Backend(BackendKind::DynamicFile);

/// The file at `dynamicfilepath`: it may appear later; when it is gone all its entries are; invalid content is refused as a whole
/// and the entries before it stay.
#[derive(Debug)]
pub struct DynamicFile {
    file: WatchedFile,
    mappings: Arc<Mappings>,
    loaded: bool,
}

impl DynamicFile {
    /// The file at `path`, which need not be there yet. Nothing is read before the first poll.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, mappings: &Arc<Mappings>) -> Self {
        Self {
            file: WatchedFile::new(path, dynamic_file::MAX_TEXT, false),
            mappings: Arc::clone(mappings),
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
                tracing::warn!(path = %self.file.path().display(), "the dynamic file is gone, and all its entries with it");
                let update = Update {
                    note: Some("the file is gone".to_owned()),
                    synced: true,
                    ..Update::default()
                };
                self.mappings.publish(BackendKind::DynamicFile, update, now);
                Outcome::Cleared
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

    fn take(&mut self, text: &str, hash: &str, now: Timestamp) -> Outcome {
        match dynamic_file::parse(text, &self.mappings.options().mapping) {
            Ok(file) => {
                let version = match &file.header.version {
                    Some(version) => {
                        let version: String = version.chars().take(64).collect();
                        format!("{version} ({hash})")
                    }
                    None => hash.to_owned(),
                };
                let update = Update {
                    entries: file.entries,
                    version,
                    findings: file.findings,
                    synced: true,
                    ..Update::default()
                };
                self.mappings.publish(BackendKind::DynamicFile, update, now);
                // Not on the first load: the file may have been there for days.
                if std::mem::replace(&mut self.loaded, true)
                    && let Some(latency) = since(file.header.last_updated, now)
                {
                    self.mappings.observe_latency(SOURCE, latency);
                }
                Outcome::Reloaded
            }
            Err(refused) => {
                let worst = refused
                    .findings
                    .iter()
                    .find(|finding| finding.severity == Severity::Error);
                let problem = worst.map_or_else(|| Problem::new(&refused.summary), Problem::of);
                self.mappings.refuse(SOURCE, problem, now);
                Outcome::Refused
            }
        }
    }
}

/// The time from `seconds` since the epoch to now; none if the writer's clock is ahead of ours.
pub(super) fn since(seconds: Option<i64>, now: Timestamp) -> Option<Duration> {
    let written = Timestamp::from_second(seconds?).ok()?;
    Duration::try_from(now.duration_since(written)).ok()
}

impl Polling for DynamicFile {
    fn poll_once(&mut self, now: Timestamp) -> Outcome {
        Self::poll_once(self, now)
    }
}

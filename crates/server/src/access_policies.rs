//! The access policies in force: AWS's, and those of a file, which is read again whenever it changes (EKS API spec, section 18.1).
//!
//! A file that cannot be used never replaces one that could: it is told by log, metric and `/readyz?verbose`, with its line, and
//! the last good one stays.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use countersign_access::{
    AccessFile, Catalogue, CompiledPolicies, DerivedRules, FileError, FileOptions, MAX_FILE,
};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::health::{Report, State};

/// Errors of a file that are told; the rest adds nothing.
const TOLD: usize = 5;
/// How often the file is looked at. Mounted volumes change by swapping links, which only looking finds everywhere.
const POLL: Duration = Duration::from_secs(2);

/// The policies in force, and the file that some are from. Reading takes no lock.
#[derive(Debug)]
pub struct AccessPolicies {
    current: ArcSwap<CompiledPolicies>,
    file: Option<PathBuf>,
    state: Mutex<FileState>,
}

#[derive(Debug, Default)]
struct FileState {
    /// What was read last, whether it was of use or not.
    seen: Option<String>,
    problem: Option<(Timestamp, String)>,
    reloads: u64,
    refused: u64,
}

/// How the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoliciesHealth {
    /// Why what the file has now is not in force, and since when.
    pub problem: Option<(Timestamp, String)>,
    /// How often the file was put in force.
    pub reloads: u64,
    /// How often it was refused.
    pub refused: u64,
}

/// Why a file of custom policies is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoliciesError {
    /// It cannot be read.
    #[error("could not read the access policies `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is larger than [`MAX_FILE`].
    #[error("the access policies `{path}` are larger than 1 MiB")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no list of policies; with file, line and what is wrong.
    #[error("the access policies cannot be used: {}", told(.0))]
    Invalid(Vec<FileError>),
}

impl AccessPolicies {
    /// AWS's alone.
    #[must_use]
    pub fn builtin() -> Self {
        let policies = CompiledPolicies::builtin().clone();
        Self::with(policies, None, FileState::default())
    }

    /// AWS's and those of a file, which has to be good at the start.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn load(file: &Path) -> Result<Self, PoliciesError> {
        let text = read(file)?;
        let policies = compile(file, &text)?;
        let state = FileState {
            seen: Some(text),
            reloads: 1,
            ..FileState::default()
        };
        Ok(Self::with(policies, Some(file.to_owned()), state))
    }

    fn with(policies: CompiledPolicies, file: Option<PathBuf>, state: FileState) -> Self {
        Self {
            current: ArcSwap::from_pointee(policies),
            file,
            state: Mutex::new(state),
        }
    }

    /// The policies of this moment, for one request.
    #[must_use]
    pub fn current(&self) -> Guard<Arc<CompiledPolicies>> {
        self.current.load()
    }

    /// The catalogue of this moment, to keep. Cheap.
    #[must_use]
    pub fn catalogue(&self) -> Catalogue {
        self.current.load().catalogue().clone()
    }

    /// Reads the file again; puts it in force if it changed and can be used. Says whether it did.
    pub fn reload(&self, now: Timestamp) -> bool {
        let Some(file) = &self.file else { return false };
        let read = read(file);
        let mut state = self.state();
        match read {
            Ok(text) if state.seen.as_ref() == Some(&text) => return false,
            Ok(text) => {
                let policies = compile(file, &text);
                state.seen = Some(text);
                match policies {
                    Ok(policies) => {
                        self.current.store(Arc::new(policies));
                        state.problem = None;
                        state.reloads += 1;
                        tracing::info!(file = %file.display(), "access policies read");
                        return true;
                    }
                    Err(error) => state.refuse(&error, now),
                }
            }
            // A file that is gone for a moment, while it is replaced, is not worth a word; if it comes back the same, nothing was.
            Err(error) => {
                if state.seen.take().is_some() {
                    state.refuse(&error, now);
                }
            }
        }
        false
    }

    /// Looks after the file until told to stop.
    pub async fn follow(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        if self.file.is_none() {
            return;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let policies = Arc::clone(&self);
            // Compiling a large file takes its time.
            let reloaded =
                tokio::task::spawn_blocking(move || policies.reload(Timestamp::now())).await;
            if let Err(error) = reloaded {
                tracing::error!(%error, "access policies could not be looked at");
            }
        }
    }

    /// How the file is.
    #[must_use]
    pub fn health(&self) -> PoliciesHealth {
        let state = self.state();
        PoliciesHealth {
            problem: state.problem.clone(),
            reloads: state.reloads,
            refused: state.refused,
        }
    }

    /// Adds the check `access-policies`.
    pub fn report(&self, report: &mut Report) {
        let Some(file) = &self.file else { return };
        let (state, detail) = match self.health().problem {
            None => (State::Ok, file.display().to_string()),
            Some((since, problem)) => (
                State::Warning,
                format!("stale since {since}, the last good ones in force: {problem}"),
            ),
        };
        report.add("access-policies", state, detail);
    }

    fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileState {
    fn refuse(&mut self, error: &PoliciesError, now: Timestamp) {
        let mut problem = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            problem = format!("{problem}: {source}");
        }
        tracing::error!(%problem, "new access policies are refused; the last good ones stay in force");
        self.refused += 1;
        let since = self.problem.take().map_or(now, |(since, _)| since);
        self.problem = Some((since, problem));
    }
}

fn read(path: &Path) -> Result<String, PoliciesError> {
    let failed = |source| PoliciesError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    std::fs::File::open(path)
        .map_err(failed)?
        .take(MAX_FILE as u64 + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() > MAX_FILE {
        return Err(PoliciesError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

fn compile(file: &Path, text: &str) -> Result<CompiledPolicies, PoliciesError> {
    let name = file.to_string_lossy();
    let read =
        AccessFile::parse(&name, text, &FileOptions::default()).map_err(PoliciesError::Invalid)?;
    let invalid = |error| PoliciesError::Invalid(vec![error]);
    if !read.rules.is_empty() {
        // Read over in silence, they would be missed by whoever relies on them.
        return Err(invalid(FileError {
            file: name.into_owned(),
            line: None,
            field: "accessRules".into(),
            message: "access rules are not taken from this file; create access entries".into(),
        }));
    }
    let catalogue = Catalogue::new(read.policies, DerivedRules::Off).map_err(invalid)?;
    Ok(CompiledPolicies::new(catalogue))
}

fn told(errors: &[FileError]) -> String {
    let mut text: Vec<String> = errors.iter().take(TOLD).map(ToString::to_string).collect();
    if errors.len() > TOLD {
        text.push(format!("and {} more", errors.len() - TOLD));
    }
    text.join("; ")
}

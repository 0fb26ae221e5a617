//! The access policies in force: AWS's, and those of a file, which is read again whenever it changes, with the access rules of
//! that file (EKS API spec, section 18.1).
//!
//! A file that cannot be used never replaces one that could: it is told by log, metric and `/readyz?verbose`, with its line, and
//! the last good one stays.

use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use countersign_access::{
    AccessFile, AccessRules, Catalogue, CompiledPolicies, DerivedRules, FileError, FileOptions,
    MAX_FILE,
};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::health::{Report, State};

/// Errors of a file that are told; the rest adds nothing.
const TOLD: usize = 5;
/// How often the file is looked at. Mounted volumes change by swapping links, which only looking finds everywhere.
const POLL: Duration = Duration::from_secs(2);

/// The policies and rules in force, and the file that they are from. Reading takes no lock.
#[derive(Debug)]
pub struct AccessPolicies {
    current: ArcSwap<InForce>,
    file: Option<PathBuf>,
    options: FileOptions,
    state: Mutex<FileState>,
}

/// The policies of one moment, and the rules that belong to them.
#[derive(Debug, Clone)]
pub struct InForce {
    policies: CompiledPolicies,
    rules: AccessRules,
    iam_is_known: bool,
    aggregates: bool,
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

impl InForce {
    /// The policies.
    #[must_use]
    pub fn policies(&self) -> &CompiledPolicies {
        &self.policies
    }

    /// The rules that give many principals at once an entry.
    #[must_use]
    pub fn rules(&self) -> &AccessRules {
        &self.rules
    }

    /// Whether the callers are principals of the embedded IAM, whose paths, tags and groups rules may ask for.
    #[must_use]
    pub fn iam_is_known(&self) -> bool {
        self.iam_is_known
    }

    /// Whether a policy has `aggregate`, so that what it grants depends on the ClusterRoles of a cluster.
    #[must_use]
    pub fn aggregates(&self) -> bool {
        self.aggregates
    }
}

/// The policies, for whoever has nothing to do with rules.
impl Deref for InForce {
    type Target = CompiledPolicies;

    fn deref(&self) -> &CompiledPolicies {
        &self.policies
    }
}

impl AccessPolicies {
    /// AWS's alone.
    #[must_use]
    pub fn builtin() -> Self {
        let policies = InForce {
            policies: CompiledPolicies::builtin().clone(),
            rules: AccessRules::default(),
            iam_is_known: false,
            aggregates: false,
        };
        Self::with(policies, None, FileOptions::default(), FileState::default())
    }

    /// AWS's and those of a file, which has to be good at the start, read with the default options.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn load(file: &Path) -> Result<Self, PoliciesError> {
        Self::load_with(file, FileOptions::default())
    }

    /// The same with other options.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn load_with(file: &Path, options: FileOptions) -> Result<Self, PoliciesError> {
        let text = read(file)?;
        let policies = compile(file, &text, &options)?;
        let state = FileState {
            seen: Some(text),
            reloads: 1,
            ..FileState::default()
        };
        Ok(Self::with(policies, Some(file.to_owned()), options, state))
    }

    fn with(
        policies: InForce,
        file: Option<PathBuf>,
        options: FileOptions,
        state: FileState,
    ) -> Self {
        Self {
            current: ArcSwap::from_pointee(policies),
            file,
            options,
            state: Mutex::new(state),
        }
    }

    /// What is in force at this moment, for one request.
    #[must_use]
    pub fn current(&self) -> Guard<Arc<InForce>> {
        self.current.load()
    }

    /// The catalogue of this moment, to keep. Cheap.
    #[must_use]
    pub fn catalogue(&self) -> Catalogue {
        self.current.load().policies.catalogue().clone()
    }

    /// Reads the file again; puts it in force if it changed and can be used. Says whether it did.
    pub fn reload(&self, now: Timestamp) -> bool {
        let Some(file) = &self.file else { return false };
        let read = read(file);
        let mut state = self.state();
        match read {
            Ok(text) if state.seen.as_ref() == Some(&text) => return false,
            Ok(text) => {
                let policies = compile(file, &text, &self.options);
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

fn compile(file: &Path, text: &str, options: &FileOptions) -> Result<InForce, PoliciesError> {
    let name = file.to_string_lossy();
    let read = AccessFile::parse(&name, text, options).map_err(PoliciesError::Invalid)?;
    let invalid = |error| PoliciesError::Invalid(vec![error]);
    let catalogue = Catalogue::new(read.policies, DerivedRules::Off).map_err(invalid)?;
    let rules = AccessRules::new(read.rules, &catalogue).map_err(invalid)?;
    let aggregates = catalogue
        .policies()
        .any(|policy| !policy.aggregate.is_empty());
    Ok(InForce {
        aggregates,
        policies: CompiledPolicies::new(catalogue),
        rules,
        iam_is_known: options.iam_is_known,
    })
}

fn told(errors: &[FileError]) -> String {
    let mut text: Vec<String> = errors.iter().take(TOLD).map(ToString::to_string).collect();
    if errors.len() > TOLD {
        text.push(format!("and {} more", errors.len() - TOLD));
    }
    text.join("; ")
}

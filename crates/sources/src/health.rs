//! What can be said about sources: for readiness, metrics and people.

use std::fmt;
use std::time::Duration;

use countersign_mapping::{BackendKind, Entries, Finding, Section};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// What rules, or the order of backends, are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// The source of a backend's entries.
    Backend(BackendKind),
    /// The backend mode file.
    BackendModeFile,
}

impl SourceKind {
    /// The name in metrics, logs and health: that of the backend, or `BackendModeFile`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backend(kind) => kind.name(),
            Self::BackendModeFile => "BackendModeFile",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for SourceKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl From<BackendKind> for SourceKind {
    fn from(kind: BackendKind) -> Self {
        Self::Backend(kind)
    }
}

/// What is wrong with the text of a source, or with the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The section, if one is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<Section>,
    /// What is wrong.
    pub message: String,
    /// Line in the section's text, or in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in that line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl Problem {
    /// A problem without a place.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            section: None,
            message: message.into(),
            line: None,
            column: None,
        }
    }

    /// The problem that a finding reports.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        Self {
            section: (finding.section != Section::Document).then_some(finding.section),
            message: finding.message.clone(),
            line: finding.line,
            column: finding.column,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(section) = self.section {
            write!(f, "{section}: ")?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// All sources at one time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Grows with each new snapshot.
    pub generation: u64,
    /// The backends in the order in which they are asked.
    pub backends: Vec<BackendKind>,
    /// The sources; those that no backend in force uses as well.
    pub sources: Vec<SourceHealth>,
}

impl Health {
    /// Whether every source in use was read at least once. Rules of a file of an earlier run do not count.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.sources.iter().all(|s| s.synced || !s.in_use)
    }
}

/// One source.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceHealth {
    /// The source.
    pub source: SourceKind,
    /// Whether a backend in force depends on it.
    pub in_use: bool,
    /// Whether it was read since the start.
    pub synced: bool,
    /// Which version is in force: a ConfigMap's resourceVersion, the first digits of a file's SHA-256, a revision.
    pub version: String,
    /// Sections for which something older (or nothing) is in force.
    pub stale: Vec<StaleHealth>,
    /// What cannot be read or reached now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<Problem>,
    /// Since when it cannot be read or reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Something worth knowing that is no failure, such as a CRD that is not installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When its rules last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// How many entries are in force.
    pub entries: EntryCounts,
    /// Findings of error severity in what is in force.
    pub errors: usize,
    /// Findings of warning severity in what is in force.
    pub warnings: usize,
    /// `mapping_config_errors_total`: how often a text that does not parse was met.
    pub config_errors_total: u64,
    /// How often it could not be read or reached: `configmap_watch_failures_total`, `dynamicfile_failures_total`.
    pub failures_total: u64,
    /// How often new rules took effect.
    pub reloads_total: u64,
}

/// A section for which something older (or nothing) is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StaleHealth {
    /// The section; `document` for sources that are taken as a whole.
    pub section: Section,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub problem: Problem,
    /// What is in force instead: `lastGood`, `salvaged`, `nothing`, or `persisted` for the rules of an earlier run.
    pub in_force: &'static str,
}

/// How many entries there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryCounts {
    /// Role entries.
    pub roles: usize,
    /// User entries.
    pub users: usize,
    /// Accounts.
    pub accounts: usize,
}

impl From<&Entries> for EntryCounts {
    fn from(entries: &Entries) -> Self {
        Self {
            roles: entries.roles.len(),
            users: entries.users.len(),
            accounts: entries.accounts.len(),
        }
    }
}

/// `dynamic_e2e_latency_seconds`: from the time written in a file to the time its rules took effect.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LatencyHistogram {
    /// Observations up to each bound; not cumulative.
    pub buckets: [u64; 8],
    /// All observations.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
}

impl LatencyHistogram {
    /// The bounds of the buckets in seconds.
    pub const BOUNDS: [f64; 8] = [1.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0];

    pub(crate) fn observe(&mut self, latency: Duration) {
        let seconds = latency.as_secs_f64();
        let bucket = Self::BOUNDS.iter().zip(&mut self.buckets);
        if let Some((_, count)) = bucket.into_iter().find(|(bound, _)| seconds <= **bound) {
            *count += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }
}

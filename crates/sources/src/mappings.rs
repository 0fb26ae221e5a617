//! The one place where sources come together into a snapshot.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use countersign_mapping::{
    Backend, BackendKind, Chain, ChainOptions, Entries, Finding, MappingOptions, MappingTable,
    OnParseError, Section, Severity,
};
use jiff::Timestamp;
use serde::Serialize;

use crate::health::{
    EntryCounts, Health, LatencyHistogram, Problem, SourceHealth, SourceKind, StaleHealth,
};

/// What holds for all sources of one cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct MappingsOptions {
    /// How entries are read and compared.
    pub mapping: MappingOptions,
    /// What is checked on rendered mappings.
    pub chain: ChainOptions,
    /// What happens to a section of `aws-auth` that does not parse.
    pub on_parse_error: OnParseError,
    /// A section that is stale for longer is reported at error level every minute; zero never. Default 24 h.
    pub max_stale: Duration,
}

impl Default for MappingsOptions {
    fn default() -> Self {
        Self {
            mapping: MappingOptions::default(),
            chain: ChainOptions::default(),
            on_parse_error: OnParseError::default(),
            max_stale: Duration::from_secs(24 * 3600),
        }
    }
}

/// The rules in force, immutable. A review uses one of these from start to end, and cites its generation and versions.
#[derive(Debug, Clone)]
pub struct MappingState {
    /// Grows with each change.
    pub generation: u64,
    /// The backends in their order.
    pub chain: Chain,
    /// Which version of each source is in the chain.
    pub versions: Vec<SourceVersion>,
}

/// A source and the version of it that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceVersion {
    /// The source.
    pub source: SourceKind,
    /// Its version.
    pub version: String,
}

/// Everything that a source found out at one time.
#[derive(Debug, Default)]
pub struct Update {
    /// The entries that are to be in force.
    pub entries: Entries,
    /// Which version they are of.
    pub version: String,
    /// Sections that are not what the source has now.
    pub stale: Vec<(Section, Problem, &'static str)>,
    /// What was noticed in the entries.
    pub findings: Vec<Finding>,
    /// Whether this is from the source itself, and not what an earlier run remembered of it.
    pub synced: bool,
    /// Something worth knowing.
    pub note: Option<String>,
}

/// The sources of one cluster's mapping rules, and the snapshot made of them.
///
/// Reading the snapshot takes no lock. Sources publish from their own tasks; each publication swaps in a new snapshot as a
/// whole, so that nobody ever sees half of one.
#[derive(Debug)]
pub struct Mappings {
    options: MappingsOptions,
    state: ArcSwap<MappingState>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    generation: u64,
    configured: Vec<BackendKind>,
    /// What the backend mode file says, in the place of `configured`.
    by_file: Option<Vec<BackendKind>>,
    sources: BTreeMap<SourceKind, Source>,
    dynamic_file_latency: LatencyHistogram,
    backend_mode_latency: LatencyHistogram,
}

#[derive(Debug, Default)]
struct Source {
    table: Option<Arc<MappingTable>>,
    synced: bool,
    version: String,
    stale: Vec<StaleHealth>,
    failing: Option<(Timestamp, Problem)>,
    note: Option<String>,
    changed_at: Option<Timestamp>,
    entries: EntryCounts,
    errors: usize,
    warnings: usize,
    config_errors: u64,
    failures: u64,
    reloads: u64,
}

impl Mappings {
    /// Starts with empty tables for `backends`. Nobody is mapped until sources publish.
    #[must_use]
    pub fn new(backends: &[BackendKind], options: MappingsOptions) -> Arc<Self> {
        let inner = Inner {
            generation: 0,
            configured: backends.to_vec(),
            by_file: None,
            sources: BTreeMap::new(),
            dynamic_file_latency: LatencyHistogram::default(),
            backend_mode_latency: LatencyHistogram::default(),
        };
        let state = inner.snapshot(&options);
        Arc::new(Self {
            options,
            state: ArcSwap::from_pointee(state),
            inner: Mutex::new(inner),
        })
    }

    /// The rules in force. O(1), without a lock; hold it for one review only.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<MappingState>> {
        self.state.load()
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &MappingsOptions {
        &self.options
    }

    /// Puts a list of entries in force that needs no watching: static configuration, or access entries at a revision.
    pub fn set_entries(
        &self,
        backend: BackendKind,
        entries: Entries,
        version: impl Into<String>,
        now: Timestamp,
    ) {
        let update = Update {
            entries,
            version: version.into(),
            synced: true,
            ..Update::default()
        };
        self.publish(backend, update, now);
    }

    /// The same with a table that was made elsewhere, such as that of the cluster creator.
    pub fn set_table(&self, table: MappingTable, version: impl Into<String>, now: Timestamp) {
        let mut inner = self.inner();
        let source = inner.sources.entry(table.backend().into()).or_default();
        source.entries = table.entries().into();
        source.table = Some(Arc::new(table));
        source.version = version.into();
        source.synced = true;
        source.changed(now);
        self.swap(&mut inner);
    }

    /// Changes the backends and their order, as a change of a cluster's authentication mode does.
    pub fn set_backends(&self, backends: &[BackendKind]) {
        let mut inner = self.inner();
        inner.configured = backends.to_vec();
        self.swap(&mut inner);
    }

    /// Puts what a source found out in force. The indexes are built before any lock is taken.
    pub fn publish(&self, backend: BackendKind, update: Update, now: Timestamp) {
        let counts = EntryCounts::from(&update.entries);
        let table = MappingTable::new(backend, update.entries, &self.options.mapping);
        let mut inner = self.inner();
        let source = inner.sources.entry(backend.into()).or_default();
        source.table = Some(Arc::new(table));
        source.entries = counts;
        source.version = update.version;
        source.synced |= update.synced;
        source.note = update.note;
        source.failing = None;
        let count = |severity| {
            update
                .findings
                .iter()
                .filter(|f| f.severity == severity)
                .count()
        };
        source.errors = count(Severity::Error);
        source.warnings = count(Severity::Warning);
        source.set_stale(update.stale, now);
        source.changed(now);
        self.swap(&mut inner);
    }

    /// A new text of a source is refused as a whole; what is in force stays.
    pub fn refuse(&self, source: SourceKind, problem: Problem, now: Timestamp) {
        tracing::error!(%source, %problem, "new mapping rules are refused; the last good ones stay in force");
        let mut inner = self.inner();
        let source = inner.sources.entry(source).or_default();
        source.failing = None;
        source.failures += 1;
        source.set_stale(vec![(Section::Document, problem, "lastGood")], now);
    }

    /// A source cannot be read or reached; what is in force stays.
    pub fn fail(&self, source: SourceKind, problem: Problem, now: Timestamp) {
        tracing::warn!(%source, %problem, "mapping rules cannot be read");
        let mut inner = self.inner();
        let source = inner.sources.entry(source).or_default();
        source.failures += 1;
        let since = source.failing.as_ref().map_or(now, |(since, _)| *since);
        source.failing = Some((since, problem));
    }

    /// A source can be reached again, and has nothing new to say.
    pub fn reached(&self, source: SourceKind) {
        let mut inner = self.inner();
        inner.sources.entry(source).or_default().failing = None;
    }

    /// What the backend mode file says from now on; `None` without the file.
    pub(crate) fn set_file_backends(
        &self,
        backends: Option<Vec<BackendKind>>,
        version: String,
        now: Timestamp,
    ) {
        let mut inner = self.inner();
        inner.by_file = backends;
        let source = inner
            .sources
            .entry(SourceKind::BackendModeFile)
            .or_default();
        source.version = version;
        source.synced = true;
        source.failing = None;
        source.stale.clear();
        source.changed(now);
        self.swap(&mut inner);
    }

    pub(crate) fn observe_latency(&self, source: SourceKind, latency: Duration) {
        let mut inner = self.inner();
        match source {
            SourceKind::BackendModeFile => inner.backend_mode_latency.observe(latency),
            SourceKind::Backend(_) => inner.dynamic_file_latency.observe(latency),
        }
    }

    /// `dynamic_e2e_latency_seconds` of types `dynamic_file` and `dynamic_backend_mode`.
    #[must_use]
    pub fn latencies(&self) -> [(&'static str, LatencyHistogram); 2] {
        let inner = self.inner();
        [
            ("dynamic_file", inner.dynamic_file_latency),
            ("dynamic_backend_mode", inner.backend_mode_latency),
        ]
    }

    /// All sources, for readiness, metrics and people.
    #[must_use]
    pub fn health(&self) -> Health {
        let inner = self.inner();
        let backends = inner.backends().to_vec();
        let mut sources: Vec<SourceHealth> = inner
            .sources
            .iter()
            .map(|(kind, source)| {
                let in_use = match kind {
                    SourceKind::Backend(kind) => backends.contains(kind),
                    SourceKind::BackendModeFile => false,
                };
                source.health(*kind, in_use)
            })
            .collect();
        // A backend that nothing was ever heard of is not synced, rather than not listed.
        for kind in &backends {
            let kind = SourceKind::Backend(*kind);
            if !inner.sources.contains_key(&kind) {
                sources.push(Source::default().health(kind, true));
            }
        }
        Health {
            generation: inner.generation,
            backends,
            sources,
        }
    }

    /// Reports at error level what is stale for longer than `max_stale`: keeping the last good version can keep a grant
    /// alive that was just taken away. Returns what was reported.
    pub fn report_stale(&self, now: Timestamp) -> Vec<(SourceKind, StaleHealth)> {
        let max = self.options.max_stale;
        if max.is_zero() {
            return Vec::new();
        }
        let health = self.health();
        let mut reported = Vec::new();
        for source in health.sources.into_iter().filter(|source| source.in_use) {
            for stale in source.stale {
                let age = now.duration_since(stale.since);
                if Duration::try_from(age).is_ok_and(|age| age > max) {
                    tracing::error!(
                        source = %source.source,
                        section = %stale.section,
                        since = %stale.since,
                        problem = %stale.problem,
                        in_force = stale.in_force,
                        "mapping rules are stale for longer than `maxStale`"
                    );
                    reported.push((source.source, stale));
                }
            }
        }
        reported
    }

    /// [`Mappings::report_stale`] every minute, for ever.
    pub async fn keep_reporting(self: Arc<Self>, clock: impl Fn() -> Timestamp + Send) {
        let mut minute = tokio::time::interval(Duration::from_secs(60));
        loop {
            minute.tick().await;
            self.report_stale(clock());
        }
    }

    fn swap(&self, inner: &mut Inner) {
        inner.generation += 1;
        self.state.store(Arc::new(inner.snapshot(&self.options)));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn backends(&self) -> &[BackendKind] {
        self.by_file.as_ref().unwrap_or(&self.configured)
    }

    fn snapshot(&self, options: &MappingsOptions) -> MappingState {
        let mut versions = Vec::new();
        let mut chain = Vec::new();
        for kind in self.backends() {
            let source = self.sources.get(&SourceKind::Backend(*kind));
            let table = source.and_then(|source| source.table.clone());
            chain.push(Backend::Table(table.unwrap_or_else(|| {
                Arc::new(MappingTable::new(
                    *kind,
                    Entries::default(),
                    &options.mapping,
                ))
            })));
            versions.extend(source.map(|source| SourceVersion {
                source: SourceKind::Backend(*kind),
                version: source.version.clone(),
            }));
        }
        if self.by_file.is_some()
            && let Some(file) = self.sources.get(&SourceKind::BackendModeFile)
        {
            versions.push(SourceVersion {
                source: SourceKind::BackendModeFile,
                version: file.version.clone(),
            });
        }
        MappingState {
            generation: self.generation,
            chain: Chain::new(chain, options.chain.clone()),
            versions,
        }
    }
}

impl Source {
    fn changed(&mut self, now: Timestamp) {
        self.changed_at = Some(now);
        self.reloads += 1;
    }

    /// What was stale before is stale since then, not since now.
    fn set_stale(&mut self, stale: Vec<(Section, Problem, &'static str)>, now: Timestamp) {
        let before = std::mem::take(&mut self.stale);
        self.config_errors += stale
            .iter()
            .filter(|(_, _, kept)| *kept != "persisted")
            .count() as u64;
        self.stale = stale
            .into_iter()
            .map(|(section, problem, in_force)| StaleHealth {
                section,
                since: before
                    .iter()
                    .find(|b| b.section == section)
                    .map_or(now, |b| b.since),
                problem,
                in_force,
            })
            .collect();
    }

    fn health(&self, kind: SourceKind, in_use: bool) -> SourceHealth {
        SourceHealth {
            source: kind,
            in_use,
            synced: self.synced,
            version: self.version.clone(),
            stale: self.stale.clone(),
            failing: self.failing.as_ref().map(|(_, problem)| problem.clone()),
            failing_since: self.failing.as_ref().map(|(since, _)| *since),
            note: self.note.clone(),
            changed_at: self.changed_at,
            entries: self.entries,
            errors: self.errors,
            warnings: self.warnings,
            config_errors_total: self.config_errors,
            failures_total: self.failures,
            reloads_total: self.reloads,
        }
    }
}

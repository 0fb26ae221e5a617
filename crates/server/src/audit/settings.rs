//! Where the audit log goes, and what happens when it cannot be written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::record::MAX_RECORD;
use super::tables::Class;

/// Patterns of `include`.
const MAX_PATTERNS: usize = 256;

/// The section `audit` of a configuration file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AuditOptions {
    /// A file, `stdout`, or `off`; `audit.json` in the data directory.
    pub path: Option<PathBuf>,
    /// `cloudtrail`, the only form there is.
    pub format: Option<String>,
    /// Whether calls that change nothing are recorded; true.
    #[serde(rename = "readevents")]
    pub read_events: Option<bool>,
    /// Only these calls, such as `iam:*` or `sts:AssumeRole*`; all when empty.
    pub include: Vec<String>,
    /// `count` or `refuse`: what happens to calls whose record cannot be kept; `count`.
    #[serde(rename = "onfailure")]
    pub on_failure: Option<String>,
    /// Bytes after which a new file is begun, at least 1 MiB; 64 MiB.
    #[serde(rename = "maxbytes")]
    pub max_bytes: Option<u64>,
    /// Seconds after which a new file is begun, at least 60; a day, 0 never.
    #[serde(rename = "maxage")]
    pub max_age: Option<u64>,
    /// Files kept besides the one that is written, 1 to 10,000; 10.
    pub keep: Option<usize>,
}

/// A setting that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`countersign.audit.{key}` is `{value}`; {rule}")]
pub struct InvalidAudit {
    /// The key.
    pub key: &'static str,
    /// What it is set to.
    pub value: String,
    /// What it may be.
    pub rule: &'static str,
}

/// How the log is written.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it goes.
    pub output: Output,
    /// Whether calls that change nothing are recorded.
    pub read_events: bool,
    /// Patterns of calls that are recorded; all when empty.
    pub include: Vec<Box<str>>,
    /// What happens to calls whose record cannot be kept.
    pub on_failure: OnFailure,
    /// Bytes after which a new file is begun.
    pub max_bytes: u64,
    /// The age at which a new file is begun.
    pub max_age: Option<Duration>,
    /// Files kept besides the one that is written.
    pub keep: usize,
    /// How much is kept while the log cannot be written.
    pub capacity: Capacity,
}

/// How much the queue holds.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Records, and places of calls that are under way.
    pub records: usize,
    /// Bytes of records, and [`MAX_RECORD`] for every place.
    pub bytes: usize,
}

impl Default for Capacity {
    /// 16,384 records of 96 MiB together: seconds of a busy server, and room for 1,024 calls at once.
    fn default() -> Self {
        Self {
            records: 16 << 10,
            bytes: MAX_RECORD << 10,
        }
    }
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A file, appended to; made with mode 0600.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// What happens to calls whose record cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// They are answered, and the lost record is counted, logged and shown in `/readyz?verbose`.
    #[default]
    Count,
    /// They are refused with `ServiceUnavailable`, before they change anything.
    Refuse,
}

impl Settings {
    /// The defaults, for a place.
    #[must_use]
    pub fn new(output: Output) -> Self {
        Self {
            output,
            read_events: true,
            include: Vec::new(),
            on_failure: OnFailure::default(),
            max_bytes: 64 << 20,
            max_age: Some(Duration::from_secs(24 * 3600)),
            keep: 10,
            capacity: Capacity::default(),
        }
    }

    /// Whether calls of this operation are recorded. What is no operation counts as a read.
    pub(super) fn includes(&self, service: &str, operation: &str, class: Option<Class>) -> bool {
        if !self.read_events && matches!(class, None | Some(Class::Read)) {
            return false;
        }
        self.include.is_empty()
            || self.include.iter().any(|pattern| {
                pattern.split_once(':').is_some_and(|(of, name)| {
                    (of == "*" || of == service) && matches_pattern(name, operation)
                })
            })
    }
}

impl AuditOptions {
    /// The settings; none when the log is off, or when there is neither a path nor a data directory to put it in.
    ///
    /// # Errors
    /// The first setting that cannot be meant.
    pub fn settings(&self, data_dir: Option<&Path>) -> Result<Option<Settings>, InvalidAudit> {
        let invalid = |key, value: &dyn std::fmt::Display, rule| InvalidAudit {
            key,
            value: value.to_string(),
            rule,
        };
        if let Some(format) = self.format.as_deref().filter(|form| *form != "cloudtrail") {
            return Err(invalid("format", &format, "the only form is `cloudtrail`"));
        }
        let output = match (self.path.as_deref(), data_dir) {
            (Some(path), _) if path.as_os_str() == "off" => return Ok(None),
            (Some(path), _) if path.as_os_str() == "stdout" => Output::Stdout,
            (Some(path), _) if path.as_os_str().is_empty() => {
                return Err(invalid("path", &"", "it is a file, `stdout` or `off`"));
            }
            (Some(path), _) => Output::File(path.to_owned()),
            (None, Some(data_dir)) => Output::File(data_dir.join("audit.json")),
            (None, None) => return Ok(None),
        };
        let mut settings = Settings::new(output);
        settings.read_events = self.read_events.unwrap_or(true);
        settings.on_failure = match self.on_failure.as_deref() {
            None | Some("count") => OnFailure::Count,
            Some("refuse") => OnFailure::Refuse,
            Some(other) => {
                return Err(invalid("onFailure", &other, "it is `count` or `refuse`"));
            }
        };
        let well_formed = |pattern: &&String| {
            pattern.len() <= 128
                && pattern
                    .split_once(':')
                    .is_some_and(|(service, name)| !service.is_empty() && !name.is_empty())
        };
        if let Some(bad) = self.include.iter().find(|pattern| !well_formed(pattern)) {
            return Err(invalid(
                "include",
                bad,
                "a pattern is `service:Operation`, and `*` stands for any text",
            ));
        }
        if self.include.len() > MAX_PATTERNS {
            return Err(invalid(
                "include",
                &format!("{} patterns", self.include.len()),
                "at most 256 are possible",
            ));
        }
        settings.include = self.include.iter().map(|p| p.as_str().into()).collect();
        if let Some(bytes) = self.max_bytes {
            if bytes < 1 << 20 {
                return Err(invalid("maxBytes", &bytes, "it is at least 1048576"));
            }
            settings.max_bytes = bytes;
        }
        settings.max_age = match self.max_age {
            None => settings.max_age,
            Some(0) => None,
            Some(age @ 1..60) => {
                return Err(invalid("maxAge", &age, "it is 0 or at least 60 seconds"));
            }
            Some(age) => Some(Duration::from_secs(age)),
        };
        if let Some(keep) = self.keep {
            if !(1..=10_000).contains(&keep) {
                return Err(invalid("keep", &keep, "it is 1 to 10000"));
            }
            settings.keep = keep;
        }
        Ok(Some(settings))
    }
}

/// Whether a name matches a pattern in which `*` stands for any text. Linear: one place to come back to is enough.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for piece in pieces {
        if let Some(piece) = last.replace(piece) {
            let Some((_, behind)) = rest.split_once(piece) else {
                return false;
            };
            rest = behind;
        }
    }
    match last {
        None => rest.is_empty(),
        Some(piece) => rest.ends_with(piece),
    }
}

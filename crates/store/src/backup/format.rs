//! Lines of a backup: written one way, read one way, checked on the way.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{BufRead, Read as _};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::BackupError;
use crate::transaction::limits;
use crate::{Key, Revision, Value};

const FORMAT: u32 = 1;
/// A value in base64, a key whose every byte is escaped, and what stands around them.
const LINE_BYTES: u64 = (limits::VALUE_BYTES / 3 * 4 + limits::KEY_BYTES * 6 + 256) as u64;
/// Names of root keys that are remembered; a store has the one it is sealed with, and one more while keys are exchanged.
const ROOT_KEYS: usize = 16;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// When it was taken.
    pub created: Timestamp,
    /// The revision of the store that it shows.
    pub revision: Revision,
}

/// What is in a backup, or in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Summary {
    /// How many records.
    pub records: u64,
    /// Names of the root keys that open their secrets, see [`RootKey::id`](crate::RootKey::id).
    pub root_keys: BTreeSet<String>,
    /// SHA-256 of the export, in hexadecimal: equal content has equal digests.
    pub content: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeaderLine {
    countersign_backup: u32,
    created: Timestamp,
    revision: u64,
}

/// Tells a later format from no backup at all.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyHeader {
    countersign_backup: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    base64: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChecksumLine<'a> {
    #[serde(borrow)]
    sha256: Cow<'a, str>,
}

pub(super) fn header_line(header: &Header) -> Vec<u8> {
    line(&HeaderLine {
        countersign_backup: FORMAT,
        created: header.created,
        revision: header.revision.get(),
    })
}

pub(super) fn record_line(key: &Key, value: &[u8]) -> Vec<u8> {
    let json = one_line_json(value);
    line(&RecordLine {
        key: key.as_str().into(),
        value: json,
        base64: json.is_none().then(|| STANDARD.encode(value).into()),
    })
}

pub(super) fn summary_line(summary: &Summary) -> Vec<u8> {
    line(summary)
}

pub(super) fn checksum_line(sha256: &str) -> Vec<u8> {
    line(&ChecksumLine {
        sha256: sha256.into(),
    })
}

fn line(content: &impl Serialize) -> Vec<u8> {
    // Structs of strings and numbers, for which the serializer has no error.
    let mut bytes = serde_json::to_vec(content).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The value as JSON, if the line can have it byte for byte. `null` cannot be told from nothing.
fn one_line_json(value: &[u8]) -> Option<&RawValue> {
    let text = std::str::from_utf8(value).ok()?;
    let json: &RawValue = serde_json::from_str(text).ok()?;
    let exact = json.get().len() == value.len() && !text.contains(['\n', '\r']) && text != "null";
    exact.then_some(json)
}

/// Counts and digests records in the order of their keys.
pub(super) struct Content {
    sha256: Context,
    records: u64,
    root_keys: BTreeSet<String>,
    last: Option<Key>,
}

impl Content {
    pub(super) fn new() -> Self {
        Self {
            sha256: Context::new(&SHA256),
            records: 0,
            root_keys: BTreeSet::new(),
            last: None,
        }
    }

    /// Adds a record with its line. False when its key is not behind the last one.
    pub(super) fn add(&mut self, key: &Key, value: &[u8], line: &[u8]) -> bool {
        if self.last.as_ref().is_some_and(|last| last >= key) {
            return false;
        }
        self.last = Some(key.clone());
        self.sha256.update(line);
        self.records = self.records.saturating_add(1);
        for id in sealed_with(value) {
            if self.root_keys.len() < ROOT_KEYS && !self.root_keys.contains(id) {
                self.root_keys.insert(id.to_owned());
            }
        }
        true
    }

    pub(super) fn summary(self) -> Summary {
        Summary {
            records: self.records,
            root_keys: self.root_keys,
            content: hex(self.sha256.finish().as_ref()),
        }
    }
}

/// Names of the root keys in a value: every text that looks sealed, `"s1.KEYID.…`, wherever a record has it.
fn sealed_with(value: &[u8]) -> impl Iterator<Item = &str> {
    const START: &[u8] = b"\"s1.";
    const ID: usize = 8;
    memchr::memmem::find_iter(value, START).filter_map(|at| {
        let rest = value.get(at.checked_add(START.len())?..)?;
        let (id, rest) = rest.split_at_checked(ID)?;
        let shaped = rest.first() == Some(&b'.') && id.iter().all(u8::is_ascii_hexdigit);
        shaped.then_some(std::str::from_utf8(id).ok()?)
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a backup record by record; what was read is worth something only after the end was reached.
pub(crate) struct Reader<R> {
    input: R,
    line: u64,
    sha256: Context,
    content: Option<Content>,
    buffer: Vec<u8>,
    summary: Option<Summary>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    pub(crate) fn new(input: R) -> Result<(Header, Self), BackupError> {
        let mut reader = Self {
            input,
            line: 0,
            sha256: Context::new(&SHA256),
            content: Some(Content::new()),
            buffer: Vec::new(),
            summary: None,
        };
        let whole = reader.next_line().map_err(|error| match error {
            BackupError::Truncated { .. } | BackupError::Malformed { .. } => {
                BackupError::NotABackup
            }
            other => other,
        });
        whole?;
        let header = match serde_json::from_slice::<HeaderLine>(&reader.buffer) {
            Ok(header) if header.countersign_backup == FORMAT => header,
            _ => {
                return Err(match serde_json::from_slice::<AnyHeader>(&reader.buffer) {
                    Ok(AnyHeader {
                        countersign_backup: found,
                    }) if found > FORMAT => BackupError::Newer {
                        found,
                        known: FORMAT,
                    },
                    Ok(_) => BackupError::Malformed {
                        line: 1,
                        what: "the header is not one that was ever written",
                    },
                    Err(_) => BackupError::NotABackup,
                });
            }
        };
        reader.sha256.update(&reader.buffer);
        let header = Header {
            created: header.created,
            revision: Revision::new(header.revision),
        };
        Ok((header, reader))
    }

    /// The next record; none behind the last, when everything was checked.
    pub(crate) fn next_record(&mut self) -> Result<Option<(Key, Value)>, BackupError> {
        if self.summary.is_some() {
            return Ok(None);
        }
        self.next_line()?;
        if !self.buffer.starts_with(b"{\"key\":") {
            self.finish()?;
            return Ok(None);
        }
        self.sha256.update(&self.buffer);
        let record: RecordLine<'_> = serde_json::from_slice(&self.buffer)
            .map_err(|_| malformed(self.line, "not a record"))?;
        let key = Key::new(&*record.key).map_err(|_| malformed(self.line, "not a key"))?;
        let value: Value = match (record.value, record.base64) {
            (Some(json), None) => json.get().as_bytes().into(),
            (None, Some(text)) => STANDARD
                .decode(&*text)
                .map_err(|_| malformed(self.line, "not base64"))?
                .into(),
            _ => {
                return Err(malformed(
                    self.line,
                    "one of `value` and `base64` is needed",
                ));
            }
        };
        if value.len() > limits::VALUE_BYTES {
            return Err(malformed(self.line, "the value is too long"));
        }
        // What would be written otherwise is not what was written: the digest of the content stands for the line.
        if record_line(&key, &value) != self.buffer {
            return Err(malformed(self.line, "not written the way it is written"));
        }
        let content = self.content.as_mut();
        if !content.is_some_and(|content| content.add(&key, &value, &self.buffer)) {
            return Err(malformed(self.line, "the key is not behind the one before"));
        }
        Ok(Some((key, value)))
    }

    /// What was read; none before the end.
    pub(crate) fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// The last two lines, of which the first is in the buffer.
    fn finish(&mut self) -> Result<(), BackupError> {
        let said: Summary = serde_json::from_slice(&self.buffer)
            .map_err(|_| malformed(self.line, "neither a record nor the summary"))?;
        self.sha256.update(&self.buffer);
        self.next_line()?;
        let checksum: ChecksumLine<'_> = serde_json::from_slice(&self.buffer)
            .map_err(|_| malformed(self.line, "not the checksum"))?;
        if *checksum.sha256 != *hex(self.sha256.clone().finish().as_ref()) {
            return Err(BackupError::Checksum);
        }
        if !self.input.fill_buf().map_err(BackupError::Read)?.is_empty() {
            return Err(malformed(self.line, "something follows the last line"));
        }
        let found = self.content.take().map(Content::summary);
        if found.as_ref() != Some(&said) {
            return Err(malformed(self.line, "the summary is of other records"));
        }
        self.summary = found;
        Ok(())
    }

    /// Reads a line with its end into the buffer.
    fn next_line(&mut self) -> Result<(), BackupError> {
        self.buffer.clear();
        self.input
            .by_ref()
            .take(LINE_BYTES)
            .read_until(b'\n', &mut self.buffer)
            .map_err(BackupError::Read)?;
        if self.buffer.last() != Some(&b'\n') {
            return Err(if self.buffer.len() as u64 >= LINE_BYTES {
                malformed(self.line.saturating_add(1), "the line is too long")
            } else {
                BackupError::Truncated { line: self.line }
            });
        }
        self.line = self.line.saturating_add(1);
        Ok(())
    }
}

const fn malformed(line: u64, what: &'static str) -> BackupError {
    BackupError::Malformed { line, what }
}

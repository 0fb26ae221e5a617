//! The file of the log: appended to, begun anew by size and age, kept compressed.
//!
//! `audit.json` is written. A finished file is renamed to `audit.json.20260314T092653250Z` and then compressed to
//! `….gz`, by way of `….gz.tmp`. A crash between any two steps leaves files that the next start finishes: nothing is
//! ever in neither form. Two processes may append to one file; when one of them renames it, the other notices.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

/// `20260314T092653250Z`
const STAMP_CHARS: usize = 19;

/// The file that is written.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and inode, to see that somebody renamed it.
    identity: (u64, u64),
    /// Devices and pipes are neither measured nor renamed.
    regular: bool,
    length: u64,
    begun: Timestamp,
    /// What was there before breaks off inside a line.
    torn: bool,
}

impl LogFile {
    /// Opens the file for appending, and makes it if there is none.
    pub(super) fn open(path: &Path, now: Timestamp) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        let metadata = file.metadata()?;
        let regular = metadata.is_file();
        let begun = metadata
            .created()
            .or_else(|_| metadata.modified())
            .ok()
            .filter(|_| metadata.len() > 0)
            .and_then(|time| Timestamp::try_from(time).ok())
            .unwrap_or(now);
        let mut opened = Self {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            regular,
            length: metadata.len(),
            begun,
            file,
            torn: false,
        };
        opened.torn = regular && opened.ends_inside_a_line();
        Ok(opened)
    }

    /// Standard output. It is never begun anew, not even when it is a file: whoever redirected it looks after it.
    pub(super) fn stdout(now: Timestamp) -> io::Result<Self> {
        use std::os::fd::AsFd as _;
        Ok(Self {
            path: PathBuf::new(),
            file: io::stdout().as_fd().try_clone_to_owned()?.into(),
            identity: (0, 0),
            regular: false,
            length: 0,
            begun: now,
            torn: false,
        })
    }

    /// Whether a crash left half a line.
    fn ends_inside_a_line(&self) -> bool {
        use std::os::unix::fs::FileExt as _;
        let mut last = [b'\n'];
        let Some(at) = self.length.checked_sub(1) else {
            return false;
        };
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut last, at));
        read.is_ok() && last != [b'\n']
    }

    /// Whether the path names another file now, or none. Also learns what another process appended.
    pub(super) fn is_replaced(&mut self) -> bool {
        if !self.regular {
            return false;
        }
        match fs::metadata(&self.path) {
            Ok(now) if (now.dev(), now.ino()) == self.identity => {
                self.length = now.len();
                false
            }
            _ => true,
        }
    }

    /// Whether a new file is due before `more` bytes are written.
    pub(super) fn is_due(
        &self,
        more: usize,
        max_bytes: u64,
        max_age: Option<Duration>,
        now: Timestamp,
    ) -> bool {
        let age = Duration::try_from(now.duration_since(self.begun)).unwrap_or_default();
        self.regular
            && self.length > 0
            && (self.length.saturating_add(more as u64) > max_bytes
                || max_age.is_some_and(|most| age >= most))
    }

    /// Appends text. Says how many of its bytes are in the file, all of them unless there is an error: a caller who goes
    /// on behind them later writes nothing twice.
    pub(super) fn write(&mut self, mut text: &[u8]) -> (usize, io::Result<()>) {
        let whole = text.len();
        let mut append = |text: &[u8]| match self.file.write(text) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            other => other,
        };
        if self.torn {
            match append(b"\n") {
                Ok(written) => self.torn = written == 0,
                Err(error) => return (0, Err(error)),
            }
        }
        while !text.is_empty() {
            match append(text) {
                Ok(written) => {
                    self.length = self.length.saturating_add(written as u64);
                    text = text.get(written..).unwrap_or_default();
                }
                Err(error) => return (whole - text.len(), Err(error)),
            }
        }
        (whole, Ok(()))
    }

    /// Brings what was written to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.regular {
            self.file.sync_data()
        } else {
            Ok(())
        }
    }

    /// Renames the file and begins a new one. Returns what the old one is called now.
    pub(super) fn rotate(&mut self, now: Timestamp) -> io::Result<PathBuf> {
        self.sync()?;
        let finished = self.free_name(now);
        fs::rename(&self.path, &finished)?;
        let next = Self::open(&self.path, now);
        // The directory holds both names; until it is on disk, a crash of the machine may show the old one.
        if let Some(directory) = directory_of(&self.path) {
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        *self = next?;
        Ok(finished)
    }

    fn free_name(&self, now: Timestamp) -> PathBuf {
        let mut at = now;
        loop {
            let name = finished_name(&self.path, at);
            let compressed = with_suffix(&name, ".gz");
            if !name.exists() && !compressed.exists() {
                return name;
            }
            at = at
                .saturating_add(jiff::SignedDuration::from_millis(1))
                .unwrap_or(at);
        }
    }
}

/// Compresses finished files that are not yet, and removes the oldest beyond `keep`.
pub(super) fn tidy(path: &Path, keep: usize) -> io::Result<()> {
    let mut finished = finished_files(path)?;
    finished.sort();
    finished.dedup();
    let surplus = finished.len().saturating_sub(keep);
    for (index, stamp) in finished.iter().enumerate() {
        let raw = with_suffix(path, &format!(".{stamp}"));
        let compressed = with_suffix(&raw, ".gz");
        if index < surplus {
            remove(&raw)?;
            remove(&compressed)?;
            remove(&with_suffix(&compressed, ".tmp"))?;
        } else if raw.exists() {
            compress(&raw, &compressed)?;
        }
    }
    Ok(())
}

/// The stamps of all finished files.
fn finished_files(path: &Path) -> io::Result<Vec<String>> {
    let (Some(directory), Some(name)) = (directory_of(path), path.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut stamps = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else {
            continue;
        };
        let stamp = rest.strip_suffix(".gz").unwrap_or(rest);
        if is_stamp(stamp) {
            stamps.push(stamp.to_owned());
        }
    }
    Ok(stamps)
}

fn is_stamp(text: &str) -> bool {
    text.len() == STAMP_CHARS
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 => byte == b'T',
            18 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}

fn compress(raw: &Path, compressed: &Path) -> io::Result<()> {
    let temporary = with_suffix(compressed, ".tmp");
    let to = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    // Another process that writes the same log may be at it.
    if to.try_lock().is_err() {
        return Ok(());
    }
    match write_compressed(raw, &to) {
        Ok(()) => {
            fs::rename(&temporary, compressed)?;
            remove(raw)
        }
        Err(error) => {
            // The file stays as it is, and the next rotation tries again.
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

fn write_compressed(raw: &Path, to: &File) -> io::Result<()> {
    to.set_len(0)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut File::open(raw)?, &mut encoder)?;
    encoder.finish()?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn finished_name(path: &Path, at: Timestamp) -> PathBuf {
    with_suffix(path, &format!(".{}", at.strftime("%Y%m%dT%H%M%S%3fZ")))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The directory of a file; a bare name is in the working directory.
fn directory_of(path: &Path) -> Option<&Path> {
    match path.parent()? {
        parent if parent.as_os_str().is_empty() => Some(Path::new(".")),
        parent => Some(parent),
    }
}

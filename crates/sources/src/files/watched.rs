//! One file, and whether its content changed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};

/// A file that is looked at again and again.
///
/// Whether it changed is told by the hash of its content; inode, length and time of change tell whether it was being written
/// while it was read.
#[derive(Debug)]
pub struct WatchedFile {
    path: PathBuf,
    max_bytes: u64,
    settle: bool,
    /// The content that was handed out last; `None` before the first, and after the file was gone.
    seen: Option<Seen>,
    /// Content of an edit in place that was seen once.
    unsettled: Option<Seen>,
    reported: Option<FileProblem>,
    gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    hash: [u8; 32],
    file: Identity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// What a look at the file found.
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    /// The content is what it was.
    Unchanged,
    /// The content is new, or the file is there again.
    Changed {
        /// The content.
        text: String,
        /// The first 16 hex digits of its SHA-256.
        version: String,
    },
    /// The file could not be read at the last look; now it can, and its content is what it was.
    Readable,
    /// The file was there at the last look and is not there now.
    Gone,
    /// The file cannot be read. Reported once for as long as it stays the same.
    Problem(FileProblem),
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// The system says so.
    #[error("could not read `{path}`: {kind}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        kind: io::ErrorKind,
    },
    /// Not a plain file: reading a pipe or device could block for ever.
    #[error("`{0}` is no plain file")]
    NotPlain(PathBuf),
    /// Longer than the source allows.
    #[error("`{path}` has more than {max_bytes} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        max_bytes: u64,
    },
    /// Not text.
    #[error("`{0}` is not UTF-8")]
    NotUtf8(PathBuf),
}

impl WatchedFile {
    /// A file of at most `max_bytes`.
    ///
    /// With `settle`, an edit in place counts only when two looks in a row find the same: the beginning of a YAML text is a
    /// valid YAML text with less in it. A file that was replaced (another inode) counts at once.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, max_bytes: usize, settle: bool) -> Self {
        Self {
            path: path.into(),
            max_bytes: max_bytes as u64,
            settle,
            seen: None,
            unsettled: None,
            reported: None,
            gone: false,
        }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file. Blocks on the file system.
    pub fn poll(&mut self) -> Polled {
        match self.read() {
            Ok(Some((text, now))) => {
                self.gone = false;
                let recovered = self.reported.take().is_some();
                match self.compare(text, now) {
                    Polled::Unchanged if recovered => Polled::Readable,
                    polled => polled,
                }
            }
            // It was being written; the next look sees the end of it.
            Ok(None) => Polled::Unchanged,
            Err(FileProblem::Io {
                kind: io::ErrorKind::NotFound,
                path,
            }) => {
                self.reported = None;
                self.unsettled = None;
                if std::mem::replace(&mut self.gone, true) {
                    return Polled::Unchanged;
                }
                match self.seen.take() {
                    Some(_) => Polled::Gone,
                    None => Polled::Problem(FileProblem::Io {
                        kind: io::ErrorKind::NotFound,
                        path,
                    }),
                }
            }
            Err(problem) => {
                self.gone = false;
                if self.reported.as_ref() == Some(&problem) {
                    return Polled::Unchanged;
                }
                self.reported = Some(problem.clone());
                Polled::Problem(problem)
            }
        }
    }

    fn compare(&mut self, text: String, now: Seen) -> Polled {
        let Some(before) = self.seen else {
            return self.accept(text, now);
        };
        if before.hash == now.hash {
            self.seen = Some(now);
            self.unsettled = None;
            return Polled::Unchanged;
        }
        let in_place = (before.file.device, before.file.inode) == (now.file.device, now.file.inode);
        if self.settle && in_place && self.unsettled != Some(now) {
            self.unsettled = Some(now);
            return Polled::Unchanged;
        }
        self.accept(text, now)
    }

    fn accept(&mut self, text: String, now: Seen) -> Polled {
        self.seen = Some(now);
        self.unsettled = None;
        let [a, b, c, d, e, f, g, h, ..] = now.hash;
        let version = format!("{:016x}", u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        Polled::Changed { text, version }
    }

    /// The content, or nothing if the file was being written meanwhile.
    fn read(&self) -> Result<Option<(String, Seen)>, FileProblem> {
        let failed = |error: io::Error| FileProblem::Io {
            path: self.path.clone(),
            kind: error.kind(),
        };
        // Before opening: opening a pipe would wait for a writer.
        if !fs::metadata(&self.path).map_err(failed)?.is_file() {
            return Err(FileProblem::NotPlain(self.path.clone()));
        }
        let mut file = File::open(&self.path).map_err(failed)?;
        let before = Identity::of(&file.metadata().map_err(failed)?);
        let mut bytes = Vec::new();
        (&mut file)
            .take(self.max_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > self.max_bytes {
            return Err(FileProblem::TooLarge {
                path: self.path.clone(),
                max_bytes: self.max_bytes,
            });
        }
        if Identity::of(&file.metadata().map_err(failed)?) != before {
            return Ok(None);
        }
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(digest(&SHA256, &bytes).as_ref()) {
            *to = *from;
        }
        let text = String::from_utf8(bytes).map_err(|_| FileProblem::NotUtf8(self.path.clone()))?;
        Ok(Some((text, Seen { hash, file: before })))
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

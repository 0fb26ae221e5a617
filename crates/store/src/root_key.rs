//! The root key: what every sealed secret hangs on.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::random::{Random, RandomUnavailable};
use crate::redb_store::private;

const KEY_BYTES: usize = 32;
/// More than any accepted form of a key with white space around it.
const FILE_BYTES: u64 = 256;

/// 32 random bytes from which the keys that seal are derived.
///
/// As text it is 64 hexadecimal digits or base64; a generated file has base64 and a line end.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RootKey([u8; KEY_BYTES]);

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootKeyError {
    /// The file could not be read or written.
    #[error("could not use the root key file `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read the file.
    #[error(
        "the root key file `{path}` has mode {mode:04o}, so others can read or change it; run `chmod {want:04o} {path}`"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permission bits it should have.
        want: u32,
    },
    /// The text is not a key.
    #[error(
        "{origin} is not a root key: expected 32 bytes, written as base64 or as 64 hexadecimal digits"
    )]
    Malformed {
        /// Where the text is from: a file name in backticks, or a word such as `the given value`.
        origin: String,
    },
    /// No key could be generated.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
}

impl RootKey {
    /// Takes the bytes, which have to be random and known to nobody else.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads base64 or hexadecimal text, white space around it aside.
    ///
    /// # Errors
    /// When it is neither, or not 32 bytes.
    pub fn parse(text: &str, origin: &str) -> Result<Self, RootKeyError> {
        let malformed = || RootKeyError::Malformed {
            origin: origin.to_owned(),
        };
        let text = text.trim();
        let mut key = Self([0; KEY_BYTES]);
        if text.len() == 2 * KEY_BYTES {
            for (byte, pair) in key.0.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
                *byte = hex_byte(*pair).ok_or_else(malformed)?;
            }
            return Ok(key);
        }
        if text.len() > 2 * KEY_BYTES {
            return Err(malformed());
        }
        let decoded = Zeroizing::new(STANDARD.decode(text).map_err(|_| malformed())?);
        if decoded.len() != KEY_BYTES {
            return Err(malformed());
        }
        key.0.copy_from_slice(&decoded);
        Ok(key)
    }

    /// Reads a key that the operator gave. The file must not be accessible to everybody nor writable by its group; a
    /// group may read it, because a mounted Kubernetes Secret cannot be had otherwise without running as root.
    ///
    /// # Errors
    /// When the file cannot be read, is exposed, or holds no key.
    pub fn read(path: &Path) -> Result<Self, RootKeyError> {
        read_file(path, 0o027, 0o440)
    }

    /// Reads the key file that Countersign keeps for itself, or generates it with mode 0600.
    ///
    /// # Errors
    /// As [`read`](Self::read), and when the group may read it: nothing but this process has use for the file.
    pub fn read_or_generate(path: &Path, random: &Random) -> Result<Self, RootKeyError> {
        match read_file(path, 0o077, 0o600) {
            Err(RootKeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let key = Self(random.bytes()?);
        let failed = |source| RootKeyError::File {
            path: path.to_owned(),
            source,
        };
        match write_new(path, &key, random) {
            Ok(()) => Ok(key),
            // Another process was first; its key counts.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                read_file(path, 0o077, 0o600)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// A short name that tells root keys apart without telling anything about them.
    #[must_use]
    pub fn id(&self) -> String {
        let tag = self.derive("key id");
        tag.iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// A key for one purpose. Keys of different purposes tell nothing about each other or about the root key.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut context = hmac::Context::with_key(&root);
        context.update(b"countersign/root-key/1\0");
        context.update(purpose.as_bytes());
        let tag = context.sign();
        let mut derived = Zeroizing::new([0; KEY_BYTES]);
        for (to, from) in derived.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        derived
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({})", self.id())
    }
}

fn hex_byte(pair: [u8; 2]) -> Option<u8> {
    let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

fn read_file(path: &Path, forbidden: u32, want: u32) -> Result<RootKey, RootKeyError> {
    let failed = |source| RootKeyError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Of the open file and not of the path, so that what is checked is what is read.
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & forbidden != 0 {
            return Err(RootKeyError::Exposed {
                path: path.to_owned(),
                mode,
                want,
            });
        }
    }
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES as usize + 1));
    file.take(FILE_BYTES)
        .read_to_end(&mut text)
        .map_err(failed)?;
    let origin = format!("`{}`", path.display());
    let text = std::str::from_utf8(&text).map_err(|_| RootKeyError::Malformed {
        origin: origin.clone(),
    })?;
    RootKey::parse(text, &origin)
}

/// Writes the file so that it is there with the whole key, or not there: it gets its name only after it is on the disk.
fn write_new(path: &Path, key: &RootKey, random: &Random) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    crate::redb_store::create_directory(directory)?;
    let suffix = u64::from_le_bytes(random.bytes().map_err(io::Error::other)?);
    let temporary = path.with_extension(format!("{suffix:016x}.tmp"));
    let written = write_and_link(&temporary, path, key);
    let _ = fs::remove_file(&temporary);
    written?;
    File::open(directory)?.sync_all()
}

fn write_and_link(temporary: &Path, path: &Path, key: &RootKey) -> io::Result<()> {
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(temporary)?;
    let text = Zeroizing::new(STANDARD.encode(key.0) + "\n");
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match fs::hard_link(temporary, path) {
        // Some mounted file systems know no links. There, two first starts at one time are told apart by the lock of
        // the store only.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => {
            fs::rename(temporary, path)
        }
        other => other,
    }
}

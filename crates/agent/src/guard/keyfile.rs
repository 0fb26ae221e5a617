//! The key of session tokens, kept in memory over restarts of the agent on the same boot (imds spec, section 1.4).

use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use countersign_imds::session::{KEY_BYTES, NoKey, SessionFault, SessionKey};
use jiff::Timestamp;
use zeroize::Zeroizing;

/// The file's name.
const FILE: &str = "imds-session.key";
/// Where Linux says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("the key of session tokens cannot be kept in {path}: {error}")]
    File { path: String, error: io::Error },
    #[error("{path} must be a file that nobody but its owner can read and write")]
    Open { path: String },
    #[error(transparent)]
    Key(#[from] NoKey),
}

/// Makes and checks session tokens.
pub(crate) struct Sessions {
    key: Mutex<Arc<SessionKey>>,
    boot_id: Box<str>,
    path: PathBuf,
}

impl Sessions {
    /// With the key in the directory, or a new one that is put there.
    pub(crate) fn open(directory: &Path) -> Result<Self, KeyError> {
        let path = directory.join(FILE);
        let bytes = match read(&path)? {
            Some(bytes) => bytes,
            None => write(&path)?,
        };
        let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        Ok(Self {
            key: Mutex::new(Arc::new(SessionKey::new(&bytes)?)),
            boot_id: boot_id.trim().into(),
            path,
        })
    }

    fn key(&self) -> Arc<SessionKey> {
        Arc::clone(&self.key.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn issue(&self, pod_uid: &str, end: Timestamp) -> Result<String, NoKey> {
        let key = self.key();
        if key.is_spent() {
            // Tokens of the old key end; clients ask for new ones.
            let fresh = write(&self.path).map_err(|_| NoKey)?;
            let mut held = self.key.lock().unwrap_or_else(PoisonError::into_inner);
            *held = Arc::new(SessionKey::new(&fresh)?);
            return held.issue(pod_uid, &self.boot_id, end);
        }
        key.issue(pod_uid, &self.boot_id, end)
    }

    pub(crate) fn verify(
        &self,
        token: &str,
        pod_uid: &str,
        now: Timestamp,
    ) -> Result<(), SessionFault> {
        self.key().verify(token, pod_uid, &self.boot_id, now)
    }
}

/// The key in the file; one of another length counts as none.
fn read(path: &Path) -> Result<Option<Zeroizing<[u8; KEY_BYTES]>>, KeyError> {
    let shown = || path.display().to_string();
    let failed = |error| KeyError::File {
        path: shown(),
        error,
    };
    let mut file = match std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(NO_FOLLOW)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::Open { path: shown() });
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let whole = metadata.len() == KEY_BYTES as u64 && file.read_exact(&mut *bytes).is_ok();
    Ok(whole.then_some(bytes))
}

/// Makes a key and puts it into the file, at once and for the owner alone.
fn write(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let failed = |error| KeyError::File {
        path: path.display().to_string(),
        error,
    };
    let bytes = SessionKey::random()?;
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
    }
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let _ = std::fs::remove_file(&temporary);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&*bytes))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(failed)?;
    Ok(bytes)
}

/// `O_NOFOLLOW` of Linux on x86-64 and arm64's generic value differ.
const NO_FOLLOW: i32 = if cfg!(any(target_arch = "arm", target_arch = "aarch64")) {
    0o100_000
} else {
    0o400_000
};

//! Private files: written whole or not at all, readable by nobody else, locked while they are changed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 0600
    Private,
    /// 0644
    Public,
}

impl Mode {
    #[cfg(unix)]
    const fn bits(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// Writes `contents` to `path` atomically: readers see the old file or the new one, never a part.
///
/// A symbolic link is followed, so that the file it points to is replaced and the link stays.
///
/// # Errors
/// Those of the file system; nothing is left behind then.
pub fn write_atomically(path: &Path, contents: &[u8], mode: Mode) -> io::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let temporary = directory.join(format!(
        ".{}.{}.{}.tmp",
        target.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    // Left over from a process of this id that died; nobody else uses the name.
    let _ = std::fs::remove_file(&temporary);
    let written = (|| {
        let mut file = create_new(&temporary, mode)?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &target)?;
        // The rename itself has to survive a crash; not every file system can sync a directory.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
        Ok(())
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn create_new(path: &Path, mode: Mode) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    set_mode(&mut options, mode);
    let file = options.open(path)?;
    // The umask may have taken bits away.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.set_permissions(std::fs::Permissions::from_mode(mode.bits()))?;
    }
    Ok(file)
}

#[cfg(unix)]
fn set_mode(options: &mut OpenOptions, mode: Mode) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(mode.bits());
}

#[cfg(not(unix))]
fn set_mode(_: &mut OpenOptions, _: Mode) {}

/// Opens a private file for reading and writing, made with mode 0600 if it is missing.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    set_mode(&mut options, Mode::Private);
    options.open(path)
}

/// Makes the directory and those above it; new ones get mode 0700.
///
/// # Errors
/// Those of the file system.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// Whether group or others have any access to the file.
pub(crate) fn is_private(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        Ok(file.metadata()?.permissions().mode() & 0o077 == 0)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(true)
    }
}

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) attempts: u32,
    pub(crate) pause: Duration,
}

impl Patience {
    /// Up to one second, as the reference waits.
    pub(crate) const ONE_SECOND: Self = Self {
        attempts: 5,
        pause: Duration::from_millis(250),
    };
}

/// Takes an advisory lock; `false` if another process kept it for too long.
pub(crate) fn lock(file: &File, exclusive: bool, patience: Patience) -> io::Result<bool> {
    for attempt in 0..patience.attempts {
        if attempt > 0 {
            std::thread::sleep(patience.pause);
        }
        let tried = if exclusive {
            file.try_lock()
        } else {
            file.try_lock_shared()
        };
        match tried {
            Ok(()) => return Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// The lock that kubectl takes before it changes a kubeconfig: a file beside it that may not exist yet. Removed when dropped.
pub(crate) struct LockFile(PathBuf);

impl LockFile {
    pub(crate) fn take(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        create_new(&lock, Mode::Private)?;
        Ok(Self(lock))
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

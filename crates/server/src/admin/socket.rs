//! The server's end of the socket.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_store::{Directory, backup};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::execute::execute;
use super::frame::{MAX_REQUEST, receive, send};
use super::op::{AdminAnswer, AdminError, AdminOp};

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "admin.sock";

/// Connections at once; further ones wait.
const CONNECTIONS: usize = 16;
/// Time for a request to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for an answer to be done and taken, a backup aside.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Time in which the taker of a backup must take something.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The socket of a running server; gone when dropped.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    /// Tells our socket from one that a successor made in its place.
    inode: u64,
    task: AbortHandle,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminSocketError {
    /// Others could reach it, or put another in its place.
    #[error(
        "`{path}` has mode {mode:04o}; local administration needs a directory of its owner's alone: chmod 0700 {path}"
    )]
    Exposed {
        /// The data directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory, or the socket in it.
    #[error("could not use `{path}`")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Checks that nobody but its owner reaches into the directory; the owner's uid.
pub(super) fn owner_of(directory: &Path) -> Result<u32, AdminSocketError> {
    let metadata = fs::metadata(directory).map_err(|source| AdminSocketError::Io {
        path: directory.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(AdminSocketError::Exposed {
            path: directory.to_owned(),
            mode,
        });
    }
    Ok(metadata.uid())
}

impl AdminSocket {
    /// Listens in `directory`, whose store this process holds: a socket that is there already is one that a server left
    /// behind. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the directory is not its owner's alone, or the socket cannot be made.
    pub fn bind(directory: &Path, served: Directory) -> Result<Self, AdminSocketError> {
        let owner = owner_of(directory)?;
        let path = directory.join(SOCKET_NAME);
        let failed = |source| AdminSocketError::Io {
            path: path.clone(),
            source,
        };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        // Between bind and here the directory alone keeps others out; it was checked.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let made = fs::metadata(&path).map_err(failed)?;
        // Files that we make belong to the user we run as.
        let allowed = Allowed {
            server: made.uid(),
            owner,
        };
        let task = tokio::spawn(accept(listener, allowed, served)).abort_handle();
        Ok(Self {
            inode: made.ino(),
            path,
            task,
        })
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        self.task.abort();
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who may ask: root, the user the server runs as, and whose directory it is.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    server: u32,
    owner: u32,
}

impl Allowed {
    const fn has(self, uid: u32) -> bool {
        uid == 0 || uid == self.server || uid == self.owner
    }
}

async fn accept(listener: UnixListener, allowed: Allowed, served: Directory) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = served.clone();
                connections.spawn(async move {
                    if let Err(error) = connection(stream, allowed, &served).await {
                        tracing::debug!(%error, "a connection of local administration broke off");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the socket of local administration does not accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn connection(
    mut stream: UnixStream,
    allowed: Allowed,
    served: &Directory,
) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    if !allowed.has(peer.uid()) {
        tracing::warn!(
            uid = peer.uid(),
            "somebody else's request for local administration is refused"
        );
        return Ok(());
    }
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let request = tokio::time::timeout(REQUEST_TIMEOUT, receive(&mut stream, MAX_REQUEST))
        .await
        .map_err(|_| late())?;
    let op: AdminOp = match request {
        Ok(op) => op,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let answer: Result<AdminAnswer, _> = Err(AdminError::request(error));
            return send(&mut stream, &answer).await;
        }
        Err(error) => return Err(error),
    };
    tracing::info!(
        op = op.name(),
        uid = peer.uid(),
        pid = peer.pid(),
        "local administration"
    );
    tokio::time::timeout(ANSWER_TIMEOUT, async {
        let answer = execute(served, &op, Timestamp::now()).await;
        send(&mut stream, &answer).await
    })
    .await
    .map_err(|_| late())??;
    if let AdminOp::Backup {} = op {
        send_backup(&mut stream, served).await?;
    }
    stream.shutdown().await
}

/// The backup has its end and checksum in itself: whatever breaks off here is seen there.
async fn send_backup(stream: &mut UnixStream, served: &Directory) -> io::Result<()> {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let write = async move {
        let mut ours = ours;
        match backup::write(&**served.store(), Timestamp::now(), &mut ours).await {
            Ok((header, summary)) => tracing::info!(
                revision = %header.revision,
                records = summary.records,
                "a backup was taken"
            ),
            Err(error) => tracing::warn!(%error, "a backup broke off"),
        }
    };
    let copy = async move {
        // Owned here, so that the other side sees its end when this one breaks off.
        let mut theirs = theirs;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = theirs.read(&mut buffer).await?;
            let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else {
                return Ok(());
            };
            tokio::time::timeout(STALL_TIMEOUT, stream.write_all(chunk))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
    };
    let (copied, ()) = tokio::join!(copy, write);
    copied
}

//! The command's end of the socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::frame::{MAX_ANSWER, receive, send};
use super::op::{AdminAnswer, AdminError, AdminOp};
use super::socket::{AdminSocketError, SOCKET_NAME, owner_of};

/// Time for an answer to begin.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);

/// A connection to a running server, good for one operation.
#[derive(Debug)]
pub struct AdminClient {
    stream: UnixStream,
}

/// Why there is no connection to a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No server runs on this directory.
    #[error("no server runs on `{directory}`")]
    NotRunning {
        /// The data directory.
        directory: PathBuf,
    },
    /// The directory is not one for this.
    #[error(transparent)]
    Directory(#[from] AdminSocketError),
    /// Somebody else listens there.
    #[error(
        "the socket `{path}` belongs to uid {found}, the directory to uid {owner}; it is not asked anything"
    )]
    NotTheOwner {
        /// The socket.
        path: PathBuf,
        /// Who listens.
        found: u32,
        /// Whose the directory is.
        owner: u32,
    },
    /// The socket cannot be used.
    #[error("could not connect to `{path}`")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why there is no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The server did not do it.
    #[error(transparent)]
    Refused(#[from] AdminError),
    /// The server does not answer, or not in this version's words.
    #[error(
        "the server does not answer as this version does; is it of another version, or of another user?"
    )]
    Io(#[from] io::Error),
}

impl AdminClient {
    /// Connects to the server that holds the store in `directory`.
    ///
    /// # Errors
    /// [`ConnectError::NotRunning`] when there is none; see [`ConnectError`] for the rest.
    pub async fn connect(directory: &Path) -> Result<Self, ConnectError> {
        let path = directory.join(SOCKET_NAME);
        let not_running = || ConnectError::NotRunning {
            directory: directory.to_owned(),
        };
        if !path.exists() {
            return Err(not_running());
        }
        let owner = owner_of(directory)?;
        let failed = |source| ConnectError::Io {
            path: path.clone(),
            source,
        };
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Err(not_running());
            }
            Err(error) => return Err(failed(error)),
        };
        let found = stream.peer_cred().map_err(failed)?.uid();
        if found != owner && found != 0 {
            return Err(ConnectError::NotTheOwner { path, found, owner });
        }
        Ok(Self { stream })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the server refuses or does not answer within 75 s.
    pub async fn ask(mut self, op: &AdminOp) -> Result<AdminAnswer, AskError> {
        self.exchange(op).await
    }

    /// Has the server write a backup to `out`. It is whole only if it says so itself: check it before use.
    ///
    /// # Errors
    /// When the server refuses or breaks off, or `out` cannot be written.
    pub async fn backup(mut self, out: &mut (impl AsyncWrite + Unpin)) -> Result<(), AskError> {
        self.exchange(&AdminOp::Backup {}).await?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = self.stream.read(&mut buffer).await?;
            let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else {
                break;
            };
            out.write_all(chunk).await?;
        }
        out.flush().await?;
        Ok(())
    }

    async fn exchange(&mut self, op: &AdminOp) -> Result<AdminAnswer, AskError> {
        send(&mut self.stream, op).await?;
        let answer: Result<AdminAnswer, AdminError> =
            tokio::time::timeout(ANSWER_TIMEOUT, receive(&mut self.stream, MAX_ANSWER))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(answer?)
    }
}

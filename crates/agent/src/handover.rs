//! From one process of an agent to the next without a moment in which nobody listens (agent spec, section 10).
//!
//! ```text
//!   next process ── {"version":1,"agent":"<cluster>"} ──▶ this one
//!                ◀── {"listeners":["credentials 169.254.170.23:80", …]}, and the sockets (SCM_RIGHTS)
//!   it knows its pods and keys, and accepts connections; so does this one
//!                ── ready ──▶ this one accepts no more, answers what it accepted, and waits to be stopped
//!                ◀── left ──
//! ```
//!
//! They meet at a Unix socket in a directory that nobody else may enter, and look at each other's user id. Whatever goes wrong
//! before `ready`, this process goes on as if nobody had come. It does not end by itself: whoever supervises it would start it
//! again, and it would take the sockets back.

use std::collections::HashMap;
use std::fs::{DirBuilder, Metadata};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, recvmsg, sendmsg, sockopt,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::sockets::{Place, Role, Sockets};

/// The socket in the directory.
const NAME: &str = "agent.sock";
const VERSION: u32 = 1;
/// Most sockets in one message; an agent has two addresses of each kind.
const MOST_SOCKETS: usize = 32;
/// Longest line of the protocol.
const MOST_LINE: usize = 8 << 10;
/// Time for a line that needs no work.
const LINE: Duration = Duration::from_secs(5);
/// Time for a successor to begin to serve.
const TAKE_OVER: Duration = Duration::from_secs(60);
const READY: &str = "ready";
const LEFT: &str = "left";

/// Where processes of one agent meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// A directory of the agent's own user that nobody else may enter; made if it is not there.
    pub directory: PathBuf,
    /// What makes it the same agent: the name of its cluster.
    pub agent: String,
}

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// Somebody else could offer sockets in it, or take them.
    #[error(
        "{path} must be a directory of user {user} with mode 0700; it is {found}: give it to the user, or name one that is not there yet"
    )]
    NotOurs {
        /// The directory.
        path: String,
        /// The user id of this process.
        user: u32,
        /// What it is.
        found: String,
    },
    /// It cannot be made, or the socket in it.
    #[error("the directory {path} for handing over sockets cannot be used")]
    Unusable {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    version: u32,
    agent: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Offer {
    #[serde(default)]
    listeners: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The process before, which serves until it is relieved.
pub(crate) struct Predecessor {
    stream: UnixStream,
    pub(crate) sockets: HashMap<Place, std::net::TcpListener>,
}

impl Predecessor {
    /// It may leave: this process serves. Waits until it has left, so that it takes nothing with it that it would take when it is
    /// stopped.
    pub(crate) async fn relieve(self) {
        let relieved = async {
            write_all(&self.stream, format!("{READY}\n").as_bytes()).await?;
            read_line(&self.stream).await
        };
        match in_time(LINE, relieved).await {
            Ok(_) => tracing::info!("took over from the process before"),
            Err(error) => tracing::warn!(%error, "the process before is gone"),
        }
    }
}

impl Handover {
    /// Makes the directory, and makes sure of it.
    ///
    /// # Errors
    /// When it is not the agent's own.
    pub(crate) fn check(&self) -> Result<(), HandoverError> {
        let unusable = |source| self.unusable(source);
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unusable(error)),
        }
        let found = std::fs::symlink_metadata(&self.directory).map_err(unusable)?;
        let user = own_user().map_err(unusable)?;
        if is_private(&found, user) {
            return Ok(());
        }
        let kind = if found.is_dir() {
            "a directory"
        } else {
            "no directory"
        };
        let mode = found.permissions().mode() & 0o7777;
        Err(HandoverError::NotOurs {
            path: self.directory.display().to_string(),
            user,
            found: format!("{kind} of user {} with mode {mode:04o}", found.uid()),
        })
    }

    fn unusable(&self, source: io::Error) -> HandoverError {
        HandoverError::Unusable {
            path: self.directory.display().to_string(),
            source,
        }
    }

    /// The sockets of the process before, if there is one that gives them.
    pub(crate) async fn take(&self) -> Option<Predecessor> {
        let path = self.directory.join(NAME);
        let taken = match tokio::time::timeout(2 * LINE, self.ask(&path)).await {
            Ok(taken) => taken,
            Err(_) => Err(io::Error::from(ErrorKind::TimedOut)),
        };
        match taken {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "no sockets were taken over");
                None
            }
        }
    }

    async fn ask(&self, path: &Path) -> io::Result<Option<Predecessor>> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        check_peer(&stream)?;
        let hello = Hello {
            version: VERSION,
            agent: self.agent.clone(),
        };
        write_all(&stream, &line(&hello)?).await?;
        let (text, given) = receive(&stream).await?;
        let sockets = sockets_of(&text, given)?;
        tracing::info!(
            sockets = sockets.len(),
            "sockets were taken over; the process before serves until this one does"
        );
        Ok(Some(Predecessor { stream, sockets }))
    }

    /// Lets the process after find this one. From now on it finds this one and not the one before.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(crate) fn offer(&self) -> Result<UnixListener, HandoverError> {
        let own = self
            .directory
            .join(format!("{NAME}.{}", std::process::id()));
        let made = || {
            match std::fs::remove_file(&own) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&own)?;
            std::fs::rename(&own, self.directory.join(NAME))?;
            Ok(listener)
        };
        made().map_err(|source| self.unusable(source))
    }

    /// Hands the sockets to whoever comes, until somebody has them or `stop` becomes true. Then `shutdown` is told.
    pub(crate) async fn serve(
        self,
        listener: UnixListener,
        sockets: Arc<Sockets>,
        shutdown: watch::Sender<bool>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let given = match accepted {
                Ok((stream, _)) => tokio::select! {
                    given = self.give(&stream, &sockets) => given,
                    _ = stop.wait_for(|stop| *stop) => break,
                },
                Err(error) => Err(error),
            };
            match given {
                Ok(()) => {
                    tracing::info!(
                        "another process of this agent serves from now on; this one ends when it is stopped"
                    );
                    shutdown.send_replace(true);
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the sockets were not handed over");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        sockets.close();
    }

    async fn give(&self, stream: &UnixStream, sockets: &Sockets) -> io::Result<()> {
        check_peer(stream)?;
        let hello = in_time(LINE, read_line(stream)).await?;
        let hello: Hello = serde_json::from_str(&hello).map_err(invalid)?;
        let mut offer = Offer::default();
        if hello.version != VERSION || hello.agent != self.agent {
            let text = format!(
                "this is version {VERSION} of the agent of `{}`, not version {} of that of `{}`",
                self.agent, hello.version, hello.agent
            );
            offer.error = Some(text.clone());
            in_time(LINE, write_all(stream, &line(&offer)?)).await?;
            return Err(io::Error::other(text));
        }
        let mut given = sockets.for_successor()?;
        given.truncate(MOST_SOCKETS);
        for ((role, address), _) in &given {
            offer.listeners.push(format!("{} {address}", role.as_str()));
        }
        let own: Vec<BorrowedFd<'_>> = given.iter().map(|(_, own)| own.as_fd()).collect();
        in_time(LINE, send(stream, &line(&offer)?, &own)).await?;
        let word = in_time(TAKE_OVER, read_line(stream)).await?;
        if word != READY {
            return Err(invalid("another word than ready"));
        }
        sockets.leave();
        // Who was promised the sockets has them, whether it hears of it or not.
        let _ = in_time(LINE, write_all(stream, format!("{LEFT}\n").as_bytes())).await;
        Ok(())
    }
}

// === The directory and the peer ===

/// The user id of this process, as the kernel tells it to its peers.
fn own_user() -> io::Result<u32> {
    let (one, _other) = UnixStream::pair()?;
    Ok(one.peer_cred()?.uid())
}

fn is_private(found: &Metadata, user: u32) -> bool {
    found.is_dir() && found.uid() == user && found.permissions().mode() & 0o077 == 0
}

fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let (peer, own) = (stream.peer_cred()?.uid(), own_user()?);
    if peer == own {
        return Ok(());
    }
    Err(io::Error::new(
        ErrorKind::PermissionDenied,
        format!("the process at the other end is of user {peer}, not {own}"),
    ))
}

// === Messages ===

fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(message)?;
    text.push(b'\n');
    Ok(text)
}

fn invalid(why: impl ToString) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.to_string())
}

async fn in_time<T>(time: Duration, doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(time, doing)
        .await
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

async fn write_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The next line. Nothing comes behind it before it is answered.
async fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut text = Vec::new();
    let mut some = [0; 1024];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut some) {
            Ok(read) => {
                if take_some(&mut text, some.get(..read).unwrap_or_default())? {
                    return String::from_utf8(text).map_err(invalid);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Adds what was read to a line; whether the line is whole, without its end.
fn take_some(text: &mut Vec<u8>, some: &[u8]) -> io::Result<bool> {
    if some.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    text.extend_from_slice(some);
    if text.len() > MOST_LINE {
        return Err(invalid("a line is too long"));
    }
    let whole = text.last() == Some(&b'\n');
    if whole {
        text.pop();
    }
    Ok(whole)
}

/// A line with sockets. They travel with its first byte.
async fn send(stream: &UnixStream, text: &[u8], given: &[BorrowedFd<'_>]) -> io::Result<()> {
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !given.is_empty() && !control.push(SendAncillaryMessage::ScmRights(given)) {
                return Err(invalid("too many sockets"));
            }
            let text = [IoSlice::new(text)];
            sendmsg(stream, &text, &mut control, SendFlags::NOSIGNAL).map_err(io::Error::from)
        })
        .await?;
    write_all(stream, text.get(sent..).unwrap_or_default()).await
}

/// A line with sockets.
async fn receive(stream: &UnixStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let (mut text, mut given) = (Vec::new(), Vec::new());
    let mut some = [0; 1024];
    loop {
        let read = stream
            .async_io(Interest::READABLE, || {
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut into = [IoSliceMut::new(&mut some)];
                let flags = RecvFlags::CMSG_CLOEXEC;
                let read = recvmsg(stream, &mut into, &mut control, flags)?;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(sockets) = message {
                        given.extend(sockets);
                    }
                }
                if read.flags.contains(ReturnFlags::CTRUNC) || given.len() > MOST_SOCKETS {
                    return Err(invalid("too many sockets"));
                }
                Ok(read.bytes)
            })
            .await?;
        if take_some(&mut text, some.get(..read).unwrap_or_default())? {
            return Ok((String::from_utf8(text).map_err(invalid)?, given));
        }
    }
}

/// What an offer says of the sockets that came with it.
fn places(text: &str) -> io::Result<Vec<Option<Place>>> {
    let offer: Offer = serde_json::from_str(text).map_err(invalid)?;
    if let Some(error) = offer.error {
        let error: String = error.chars().take(512).collect();
        return Err(io::Error::other(format!(
            "the process before refused: {error}"
        )));
    }
    let place = |text: &String| {
        let (role, address) = text.split_once(' ')?;
        Some((Role::of(role)?, address.parse::<SocketAddr>().ok()?))
    };
    Ok(offer.listeners.iter().map(place).collect())
}

/// The sockets with what is served on them. One that is not what it is called is not used; one of a kind that this version does
/// not know is left to the process before.
fn sockets_of(
    text: &str,
    given: Vec<OwnedFd>,
) -> io::Result<HashMap<Place, std::net::TcpListener>> {
    let places = places(text)?;
    if places.len() != given.len() {
        return Err(invalid(format!(
            "{} sockets came, {} were announced",
            given.len(),
            places.len()
        )));
    }
    let mut sockets = HashMap::new();
    for (place, given) in places.into_iter().zip(given) {
        let Some((role, address)) = place else {
            continue;
        };
        let is_listener = sockopt::socket_type(&given).is_ok_and(|kind| kind == SocketType::STREAM)
            && sockopt::socket_acceptconn(&given).is_ok_and(|accepts| accepts);
        let listener = std::net::TcpListener::from(given);
        if !is_listener || listener.local_addr().ok() != Some(address) {
            return Err(invalid(format!("no listening socket of {address} came")));
        }
        sockets.insert((role, address), listener);
    }
    Ok(sockets)
}

/// Reads any line as an offer, for the fuzzer.
pub(crate) fn read_any(text: &str) {
    if let Ok(places) = places(text) {
        for (_, address) in places.into_iter().flatten() {
            assert_ne!(address.to_string(), "");
        }
    }
    let _ = serde_json::from_str::<Hello>(text);
}

//! Listening sockets of the agent: bound, or taken over from the process before, and kept ready for the one after.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What is served on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Credentials,
    Probes,
    Metrics,
    Guard,
    /// Who came by another interface than the guard is for.
    Strays,
}

impl Role {
    const ALL: [Self; 5] = [
        Self::Credentials,
        Self::Probes,
        Self::Metrics,
        Self::Guard,
        Self::Strays,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Probes => "probes",
            Self::Metrics => "metrics",
            Self::Guard => "imds",
            Self::Strays => "imds-strays",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// A socket, and what is served on it.
pub(crate) type Place = (Role, SocketAddr);

/// The sockets of one process.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// From the process before, and not yet served.
    inherited: Mutex<HashMap<Place, std::net::TcpListener>>,
    /// For the process after; nothing when there will be none.
    kept: Option<Mutex<Vec<(Place, OwnedFd)>>>,
    /// Whether another process serves them now.
    left: AtomicBool,
}

/// A socket that is listened on.
pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    pub(crate) sockets: Arc<Sockets>,
}

impl Sockets {
    /// `keeps` tells whether they may be handed over some day.
    pub(crate) fn new(keeps: bool, inherited: HashMap<Place, std::net::TcpListener>) -> Arc<Self> {
        Arc::new(Self {
            inherited: Mutex::new(inherited),
            kept: keeps.then(Mutex::default),
            left: AtomicBool::new(false),
        })
    }

    /// How many sockets of this role were inherited and are not served yet.
    pub(crate) fn inherited(&self, role: Role) -> usize {
        let inherited = lock(&self.inherited);
        inherited.keys().filter(|(of, _)| *of == role).count()
    }

    /// Listens on an address.
    pub(crate) fn bind(self: &Arc<Self>, role: Role, address: SocketAddr) -> io::Result<Listening> {
        let inherited = lock(&self.inherited).remove(&(role, address));
        let listener = match inherited {
            Some(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)?
            }
            None => bind(address)?,
        };
        if let Some(kept) = &self.kept {
            let address = listener.local_addr()?;
            let own = std::os::fd::AsFd::as_fd(&listener).try_clone_to_owned()?;
            lock(kept).push(((role, address), own));
        }
        Ok(Listening {
            listener,
            sockets: Arc::clone(self),
        })
    }

    /// The sockets for another process.
    pub(crate) fn for_successor(&self) -> io::Result<Vec<(Place, OwnedFd)>> {
        let Some(kept) = &self.kept else {
            return Ok(Vec::new());
        };
        lock(kept)
            .iter()
            .map(|(place, own)| Ok((*place, own.try_clone()?)))
            .collect()
    }

    /// Another process serves them from now on.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::SeqCst);
        self.close();
    }

    /// Keeps no socket open beside those that are served: nobody is to wait on one that nobody accepts from.
    pub(crate) fn close(&self) {
        if let Some(kept) = &self.kept {
            lock(kept).clear();
        }
        lock(&self.inherited).clear();
    }

    /// Whether another process serves them.
    pub(crate) fn have_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // Connections of the last instance that linger must not keep the next one from starting.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// No operation under the lock can leave half of one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

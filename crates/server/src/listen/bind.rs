//! Binding, and taking over from a running instance.
//!
//! kube-apiserver does not retry a refused connection, so a restart must not have a moment without a listener. Every
//! listener is therefore bound with `SO_REUSEPORT`: a new process started with `--takeover` binds beside the old one, waits
//! for its store, and serves; the old one drains. Without `--takeover` an address in use is an error, as it should be.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The text is no address.
    #[error("`{address}` is no address to listen on; write host:port, such as 127.0.0.1:4600")]
    Address {
        /// The text.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process listens there.
    #[error("{address} is in use; stop the process that listens there, or choose another address")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses.
    #[error("could not listen on {address}")]
    System {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Listens on `address` (`host:port`; port 0 picks a free one).
///
/// # Errors
/// When the text is no address, another process listens there and `takeover` is false, or the system refuses.
pub async fn bind(address: &str, takeover: bool) -> Result<TcpListener, BindError> {
    let wrong = |source| BindError::Address {
        address: address.to_owned(),
        source,
    };
    let resolved = lookup_host(address)
        .await
        .map_err(wrong)?
        .next()
        .ok_or_else(|| {
            wrong(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ))
        })?;
    let refused = |source: io::Error| {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::InUse { address: resolved }
        } else {
            BindError::System {
                address: resolved,
                source,
            }
        }
    };
    if !takeover && resolved.port() != 0 {
        // SO_REUSEPORT would share the address with a forgotten process without a word.
        let probe = socket(resolved).map_err(refused)?;
        probe.bind(resolved).map_err(refused)?;
        probe.listen(1).map_err(refused)?;
    }
    let socket = socket(resolved).map_err(refused)?;
    socket.set_reuseport(true).map_err(refused)?;
    socket.bind(resolved).map_err(refused)?;
    socket.listen(BACKLOG).map_err(refused)
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

//! Listeners: an accept loop that a hostile peer cannot exhaust.
//!
//! ```text
//!   accept ── permit (connection cap) ── TLS handshake (own task, timeout) ── HTTP/1.1 or h2 by ALPN ── handler
//!                                                                     header timeout, header and body caps
//! ```
//!
//! The loop stops accepting when told to shut down, lets requests under way finish, and gives up after a grace period.

mod bind;
mod body;
pub mod tls;

pub use bind::{BindError, bind};
pub use body::{BodyError, read_body};

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::audit::TlsFacts;

/// The answer of every handler: whole bodies, never streams.
pub type Answer = Response<Full<Bytes>>;

/// What a peer may cost before it has proven anything.
///
/// - `connections`: 4,096 open connections at once; further ones wait in the kernel's backlog.
/// - `handshake`: 10 s from accept to a finished TLS handshake.
/// - `headers`: 60 s for a request head, the reference's value; it also ends idle keep-alive connections.
/// - `head_bytes`: 64 KiB for request line and headers together, so that a presigned URL with a 4 KiB session token fits
///   with room to spare.
/// - `header_count`: 100.
/// - `grace`: 10 s for requests under way when the process stops.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections at once.
    pub connections: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for a request's head.
    pub headers: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header lines of a request.
    pub header_count: usize,
    /// Time for requests under way at shutdown.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(60),
            head_bytes: 64 << 10,
            header_count: 100,
            grace: Duration::from_secs(10),
        }
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The peer's address.
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// What the accept loop counts.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub failed_handshakes: AtomicU64,
    /// Connections that ended in an HTTP error.
    pub failed_connections: AtomicU64,
}

/// A request handler; cloned once per connection.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request. Errors are answers too.
    fn handle(&self, peer: Peer, request: Request<Incoming>)
    -> impl Future<Output = Answer> + Send;
}

/// Serves `handler` on `listener` until `shutdown` becomes true, then drains.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: H,
    limits: Limits,
    counters: Arc<ListenerCounters>,
    mut shutdown: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors or memory: without a pause this loop would spin.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let _ = stream.set_nodelay(true);
        let (tls, handler, counters) = (tls.clone(), handler.clone(), Arc::clone(&counters));
        let shutdown = shutdown.clone();
        connections.spawn(async move {
            let _permit = permit;
            let peer = Peer {
                address,
                tls: tls.is_some(),
            };
            let outcome = match tls {
                None => connection(stream, false, (peer, None), handler, limits, shutdown).await,
                Some(config) => {
                    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
                    let Ok(Ok(stream)) = tokio::time::timeout(limits.handshake, handshake).await
                    else {
                        counters.failed_handshakes.fetch_add(1, Ordering::Relaxed);
                        return;
                    };
                    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let facts = TlsFacts::of(stream.get_ref().1);
                    connection(stream, h2, (peer, facts), handler, limits, shutdown).await
                }
            };
            if outcome.is_err() {
                counters.failed_connections.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.grace, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            left = connections.len(),
            "requests still under way after the grace period were cut off"
        );
    }
}

async fn connection<H: Handler, T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
    h2: bool,
    (peer, facts): (Peer, Option<TlsFacts>),
    handler: H,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), hyper::Error> {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if let Some(facts) = facts {
            request.extensions_mut().insert(facts);
        }
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler.handle(peer, request).await) }
    });
    let io = TokioIo::new(stream);
    if h2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(250)
            .keep_alive_interval(limits.headers)
            .keep_alive_timeout(limits.handshake)
            .serve_connection(io, service);
        tokio::pin!(connection);
        tokio::select! {
            outcome = connection.as_mut() => return outcome,
            _ = shutdown.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    } else {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.headers)
            .max_headers(limits.header_count)
            .max_buf_size(limits.head_bytes)
            .half_close(false)
            .serve_connection(io, service);
        tokio::pin!(connection);
        tokio::select! {
            outcome = connection.as_mut() => return outcome,
            _ = shutdown.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}

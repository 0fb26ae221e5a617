//! An accept loop for plain HTTP/1.1 that a hostile pod cannot exhaust: bounded connections in all and from one address,
//! bounded heads, and a time for each.
//!
//! The bounds are those of the server's own loop; here there is no TLS, and an address that is bound late or again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::pods::Caller;
use crate::sockets::{Listening, Sockets};

/// How long idle connections stay open when another process has taken over: a request that is on its way is answered here, and
/// its answer says that the next one needs a connection of its own. Less than the grace period.
const LINGER: Duration = Duration::from_secs(3);

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The answer of every handler: whole bodies, never streams.
pub(crate) type Answer = Response<Full<Bytes>>;

/// What a peer may cost before it has shown a token.
///
/// - `connections`: 2048 open at once; further ones wait in the kernel's backlog.
/// - `per_address`: 64 of one address; further ones are closed.
/// - `local`: 512 of the node itself, whose address all host-network pods share.
/// - `head`: 30 s for a request's head, the reference's value; it also ends idle keep-alive connections.
/// - `head_bytes`: 32 KiB, so that a token of 16 KiB fits.
/// - `header_count`: 64.
/// - `grace`: 5 s for requests under way when the process stops, which is longer than a call takes.
#[derive(Debug, Clone, Copy)]
pub struct ListenLimits {
    /// Open connections at once.
    pub connections: usize,
    /// Open connections of one address.
    pub per_address: usize,
    /// Open connections of the node itself.
    pub local: usize,
    /// Time for a request's head.
    pub head: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header lines of a request.
    pub header_count: usize,
    /// Time for requests under way at shutdown.
    pub grace: Duration,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            connections: 2048,
            per_address: 64,
            local: 512,
            head: Duration::from_secs(30),
            head_bytes: 32 << 10,
            header_count: 64,
            grace: Duration::from_secs(5),
        }
    }
}

/// A request handler; cloned once per connection.
pub(crate) trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request. Errors are answers too.
    fn handle(
        &self,
        caller: Caller,
        request: Request<Incoming>,
    ) -> impl Future<Output = Answer> + Send;
}

/// Open connections of each address.
#[derive(Debug, Default)]
struct Connections(Mutex<HashMap<IpAddr, usize>>);

/// A place among the connections of its address.
struct Place {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    fn enter(self: &Arc<Self>, caller: Caller, limits: &ListenLimits) -> Option<Place> {
        let most = if caller.local {
            limits.local
        } else {
            limits.per_address
        };
        // A panic while counting cannot leave a number that matters.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(caller.address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place {
            connections: Arc::clone(self),
            address: caller.address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counts = &self.connections.0;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Serves `handler` on a socket until `shutdown` becomes true, then drains.
pub(crate) async fn serve<H: Handler>(
    Listening { listener, sockets }: Listening,
    handler: H,
    limits: ListenLimits,
    metrics: Arc<Metrics>,
    mut shutdown: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let addresses = Arc::new(Connections::default());
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
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors or memory: without a pause this loop would spin.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let destination = stream.local_addr().ok();
        let caller = Caller::new(source.ip(), destination.as_ref().map(SocketAddr::ip))
            .from_port(source.port());
        let Some(place) = addresses.enter(caller, &limits) else {
            metrics.turned_away();
            continue;
        };
        let (handler, shutdown) = (handler.clone(), shutdown.clone());
        let sockets = Arc::clone(&sockets);
        connections.spawn(async move {
            let _held = (permit, place);
            connection(stream, caller, handler, limits, sockets, shutdown).await;
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

async fn connection<H: Handler>(
    stream: TcpStream,
    caller: Caller,
    handler: H,
    limits: ListenLimits,
    sockets: Arc<Sockets>,
    mut shutdown: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let left = Arc::clone(&sockets);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (handler, left) = (handler.clone(), Arc::clone(&left));
        async move {
            let mut answer = handler.handle(caller, request).await;
            if left.have_left() {
                answer.headers_mut().insert(CONNECTION, CLOSE);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(limits.header_count)
        .max_buf_size(limits.head_bytes)
        // The buffer's own limit is one for what is read next; a head that came in one piece may be longer.
        .max_header_size(limits.head_bytes)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // How a peer ends its connection is its own affair.
        _ = connection.as_mut() => return,
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
    if sockets.have_left()
        && tokio::time::timeout(LINGER, connection.as_mut())
            .await
            .is_ok()
    {
        return;
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

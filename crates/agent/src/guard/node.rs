//! The node's metadata service, asked by the guard: each value once, with session tokens, at addresses that nobody but the
//! operator chose.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use countersign_imds::harmless::Harmless;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Longest answer that is read: user data has at most 16 KiB before it is encoded.
const MAX_BODY: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(1);
const WHOLE: Duration = Duration::from_secs(2);
/// How long a value that may change is kept, and that there is none.
const KEEP: Duration = Duration::from_secs(60);
/// A failure is not repeated for this long.
const KEEP_FAILURE: Duration = Duration::from_secs(1);
/// The life of our own session tokens, and when a new one is asked for.
const TOKEN_SECONDS: &str = "21600";
const TOKEN_FOR: Duration = Duration::from_secs(20_000);
/// Values at once. The list of what may be read bounds them, and MAC addresses are checked against the node's.
const MOST: usize = 1024;

const TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const MACS: &str = "/latest/meta-data/network/interfaces/macs/";

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeFailure {
    /// The service has none.
    NotFound,
    /// It does not answer, or not with a value.
    Unavailable,
}

/// An answer of the service.
pub(crate) struct NodeAnswer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

type Value = Result<Bytes, NodeFailure>;

#[derive(Default)]
struct Slot(tokio::sync::Mutex<Option<(Value, Option<Instant>)>>);

pub(crate) struct NodeMetadata {
    addresses: Vec<(SocketAddr, HeaderValue)>,
    /// Which of them was connected to last.
    reached: AtomicUsize,
    token: tokio::sync::Mutex<Option<(HeaderValue, Instant)>>,
    slots: Mutex<HashMap<Box<str>, Arc<Slot>>>,
}

impl NodeMetadata {
    /// At the first of these addresses that can be connected to.
    pub(crate) fn new(addresses: &[SocketAddr]) -> Self {
        let host = |address: &SocketAddr| {
            HeaderValue::from_str(&address.to_string())
                .unwrap_or(HeaderValue::from_static("169.254.169.254"))
        };
        Self {
            addresses: addresses.iter().map(|at| (*at, host(at))).collect(),
            reached: AtomicUsize::new(0),
            token: tokio::sync::Mutex::default(),
            slots: Mutex::default(),
        }
    }

    /// The value of a harmless path, asked once for all who want it.
    pub(crate) async fn value(&self, path: &Harmless) -> Value {
        if let Some(rest) = path.as_str().strip_prefix(MACS) {
            let mac = rest.split('/').next().unwrap_or_default();
            let macs = self.kept(MACS, false).await?;
            let known = String::from_utf8_lossy(&macs)
                .lines()
                .any(|line| line.trim().trim_end_matches('/') == mac);
            if !known {
                return Err(NodeFailure::NotFound);
            }
        }
        self.kept(path.as_str(), path.is_constant()).await
    }

    async fn kept(&self, path: &str, constant: bool) -> Value {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.len() >= MOST && !slots.contains_key(path) {
                slots.clear();
            }
            Arc::clone(slots.entry(path.into()).or_default())
        };
        // Held over the call, so that concurrent requests ask once.
        let mut held = slot.0.lock().await;
        let now = Instant::now();
        if let Some((value, until)) = &*held
            && until.is_none_or(|until| until > now)
        {
            return value.clone();
        }
        let old = held.take();
        let fresh = match self.get(path).await {
            Some(answer) if answer.status == StatusCode::OK => Ok(answer.body),
            Some(answer) if answer.status == StatusCode::NOT_FOUND => Err(NodeFailure::NotFound),
            _ => Err(NodeFailure::Unavailable),
        };
        let (value, keep) = match (fresh, old) {
            (Ok(body), _) => (Ok(body), (!constant).then_some(KEEP)),
            (Err(NodeFailure::NotFound), _) => (Err(NodeFailure::NotFound), Some(KEEP)),
            // The service was there before; what it said then is still the best answer.
            (Err(_), Some((Ok(old), _))) => (Ok(old), Some(KEEP_FAILURE)),
            (Err(failure), _) => (Err(failure), Some(KEEP_FAILURE)),
        };
        let until = keep.map(|keep| Instant::now() + keep);
        *held = Some((value.clone(), until));
        value
    }

    /// Asks for a path that was written anew: `audit`, and nothing else, hands the answer to a pod as it is.
    pub(crate) async fn get(&self, path: &str) -> Option<NodeAnswer> {
        let token = self.token().await;
        let answer = self.ask(Method::GET, path, token.as_ref(), false).await?;
        if answer.status == StatusCode::UNAUTHORIZED && token.is_some() {
            // The service was restarted, or the instance was moved: its tokens are gone.
            *self.token.lock().await = None;
            let token = self.token().await;
            return self.ask(Method::GET, path, token.as_ref(), false).await;
        }
        Some(answer)
    }

    /// Our own session token; none where the service knows only version 1.
    async fn token(&self) -> Option<HeaderValue> {
        let mut held = self.token.lock().await;
        if let Some((token, until)) = &*held
            && *until > Instant::now()
        {
            return Some(token.clone());
        }
        let answer = self
            .ask(Method::PUT, "/latest/api/token", None, true)
            .await
            .filter(|answer| answer.status == StatusCode::OK)?;
        let mut token = HeaderValue::from_bytes(answer.body.trim_ascii()).ok()?;
        token.set_sensitive(true);
        *held = Some((token.clone(), Instant::now() + TOKEN_FOR));
        Some(token)
    }

    /// A connection to the address that was reached last, or else to the first other one that can be: a node with IPv6 alone
    /// has no other service.
    async fn connect(&self) -> Option<(TcpStream, HeaderValue)> {
        let first = self.reached.load(Ordering::Relaxed);
        let all = self.addresses.iter().enumerate();
        for (at, (address, host)) in all.clone().skip(first).chain(all.take(first)) {
            let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
            if let Ok(Ok(stream)) = connected {
                self.reached.store(at, Ordering::Relaxed);
                return Some((stream, host.clone()));
            }
        }
        None
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&HeaderValue>,
        for_token: bool,
    ) -> Option<NodeAnswer> {
        let (stream, host) = self.connect().await?;
        let asked = tokio::time::timeout(WHOLE, async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .ok()?;
            let mut request = Request::new(Empty::<Bytes>::new());
            *request.method_mut() = method;
            *request.uri_mut() = path.parse().ok()?;
            let headers = request.headers_mut();
            headers.insert(HOST, host);
            if for_token {
                headers.insert(TTL, HeaderValue::from_static(TOKEN_SECONDS));
            }
            if let Some(token) = token {
                headers.insert(TOKEN, token.clone());
            }
            let exchange = async {
                let answer = sender.send_request(request).await.ok()?;
                let (head, body) = answer.into_parts();
                let body = Limited::new(body, MAX_BODY).collect().await.ok()?;
                Some(NodeAnswer {
                    status: head.status,
                    content_type: head.headers.get(CONTENT_TYPE).cloned(),
                    body: body.to_bytes(),
                })
            };
            tokio::pin!(connection);
            tokio::pin!(exchange);
            tokio::select! {
                answer = &mut exchange => answer,
                // It ends with the last byte, which the exchange may not have read yet.
                _ = &mut connection => exchange.await,
            }
        })
        .await;
        asked.ok().flatten()
    }
}

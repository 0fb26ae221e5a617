//! How connections are made: direct or through a proxy's `CONNECT`, to the resolved or to an overridden address.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_service::Service;

use super::addresses::AddressRules;

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// Opens the stream that TLS to the target then runs in.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    direct: HttpConnector<Resolver>,
    /// To the proxy itself, which may be `https://` too.
    to_proxy: HttpsConnector<HttpConnector>,
    proxies: Option<Arc<Matcher>>,
}

impl Dialer {
    pub(super) fn new(
        address: Option<SocketAddr>,
        rules: Option<Arc<AddressRules>>,
        proxies: Matcher,
        tls: ClientConfig,
        connect_timeout: Option<Duration>,
    ) -> Self {
        let mut direct = HttpConnector::new_with_resolver(match (address, rules) {
            (Some(address), _) => Resolver::Fixed(address),
            (None, Some(rules)) => Resolver::Checked(GaiResolver::new(), rules),
            (None, None) => Resolver::System(GaiResolver::new()),
        });
        direct.enforce_http(false);
        direct.set_nodelay(true);
        direct.set_connect_timeout(connect_timeout);
        let mut proxy = HttpConnector::new();
        proxy.enforce_http(false);
        proxy.set_connect_timeout(connect_timeout);
        let to_proxy = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(proxy);
        Self {
            direct,
            to_proxy,
            proxies: address.is_none().then(|| Arc::new(proxies)),
        }
    }
}

impl Service<Uri> for Dialer {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let intercept = self
            .proxies
            .as_ref()
            .filter(|_| target.scheme_str() == Some("https"))
            .and_then(|proxies| proxies.intercept(&target));
        match intercept {
            None => {
                let connecting = self.direct.call(target);
                Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) })
            }
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy.clone());
                if let Some(authorization) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                let connecting = tunnel.call(target);
                Box::pin(async move { Ok(connecting.await?) })
            }
        }
    }
}

/// A host name leads only to addresses that it may not lead to.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the host has no address that is public or allowed")]
pub(super) struct NotPublic;

/// Where host names lead.
#[derive(Debug, Clone)]
enum Resolver {
    System(GaiResolver),
    /// Only to addresses that the rules allow for the name. What is resolved here is what is connected to, so a name
    /// cannot lead elsewhere between the check and the connection.
    Checked(GaiResolver, Arc<AddressRules>),
    Fixed(SocketAddr),
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        match self {
            Self::System(system) => {
                let resolving = system.call(name);
                Box::pin(async move { Ok(resolving.await?.collect::<Vec<_>>().into_iter()) })
            }
            Self::Checked(system, rules) => {
                let rules = Arc::clone(rules);
                let host = name.as_str().to_owned();
                let resolving = system.call(name);
                Box::pin(async move {
                    let allowed: Vec<SocketAddr> = resolving
                        .await?
                        .filter(|address| rules.allow(&host, address.ip()))
                        .collect();
                    if allowed.is_empty() {
                        return Err(io::Error::other(NotPublic));
                    }
                    Ok(allowed.into_iter())
                })
            }
            Self::Fixed(address) => {
                let address = *address;
                Box::pin(async move { Ok(vec![address].into_iter()) })
            }
        }
    }
}

/// Whether any byte arrived since the last write. On HTTP/1.1 that is whether the answer to the request began.
#[derive(Debug, Clone, Default)]
pub(super) struct AnswerBegan(Arc<AtomicBool>);

impl AnswerBegan {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A connector whose connections tell whether an answer began.
#[derive(Debug, Clone)]
pub(super) struct Observed<C>(pub(super) C);

impl<C> Service<Uri> for Observed<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = TokioIo<ObservedStream<C::Response>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connecting = self.0.call(target);
        Box::pin(async move {
            Ok(TokioIo::new(ObservedStream {
                stream: TokioIo::new(connecting.await.map_err(Into::into)?),
                began: AnswerBegan::default(),
            }))
        })
    }
}

/// A stream that records whether bytes arrived since the last write.
#[derive(Debug)]
pub(super) struct ObservedStream<S> {
    stream: TokioIo<S>,
    began: AnswerBegan,
}

impl<S> Connection for ObservedStream<S>
where
    S: Connection,
{
    fn connected(&self) -> Connected {
        self.stream.inner().connected().extra(self.began.clone())
    }
}

impl<S> AsyncRead for ObservedStream<S>
where
    S: hyper::rt::Read + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.began.0.store(true, Ordering::Release);
        }
        polled
    }
}

impl<S> AsyncWrite for ObservedStream<S>
where
    S: hyper::rt::Write + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.began.0.store(false, Ordering::Release);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.began.0.store(false, Ordering::Release);
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

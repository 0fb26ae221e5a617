//! A TLS server on the loopback that stands where STS stands, and says what it was sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What to do with a request.
pub enum Reaction {
    /// Send these bytes and keep the connection.
    Send(Vec<u8>),
    /// Send these bytes and close the connection.
    SendAndClose(Vec<u8>),
    /// Reset the connection.
    Reset,
    /// Keep silent.
    Nothing,
}

type React = dyn Fn(&str, usize) -> Reaction + Send + Sync;

pub struct TlsServer {
    pub address: SocketAddr,
    pub ca_pem: String,
    /// Heads of the requests, in order.
    pub requests: Arc<Mutex<Vec<String>>>,
    pub connections: Arc<AtomicUsize>,
}

/// An HTTP answer with a length.
pub fn answer(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A new CA and a server configuration with a certificate of it for `names`.
pub fn certificate(names: &[&str], alpn: &[&[u8]]) -> (String, ServerConfig) {
    let (ca_pem, _, config) = certificate_chain(names, alpn, None);
    (ca_pem, config)
}

/// The same, with the DER of the CA. The server sends its certificate and `last`, if given; `Some(None)` is the CA's.
pub fn certificate_chain(
    names: &[&str],
    alpn: &[&[u8]],
    last: Option<Option<CertificateDer<'static>>>,
) -> (String, CertificateDer<'static>, ServerConfig) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let ca_der = ca_certificate.der().clone();
    let mut chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
    chain.extend(last.map(|last| last.unwrap_or_else(|| ca_der.clone())));
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    (ca_certificate.pem(), ca_der, config)
}

impl TlsServer {
    /// Serves HTTP/1.1 for `names`; the second argument of `react` is the number of the request, from 1.
    pub async fn start(
        names: &[&str],
        react: impl Fn(&str, usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let (ca_pem, config) = certificate(names, &[b"http/1.1"]);
        Self::start_with(ca_pem, config, react).await
    }

    /// The same with a certificate made before.
    pub async fn start_with(
        ca_pem: String,
        config: ServerConfig,
        react: impl Fn(&str, usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let react: Arc<React> = Arc::new(react);
        tokio::spawn({
            let (requests, connections) = (Arc::clone(&requests), Arc::clone(&connections));
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, Ordering::SeqCst);
                    let acceptor = acceptor.clone();
                    let (requests, react) = (Arc::clone(&requests), Arc::clone(&react));
                    tokio::spawn(async move {
                        if let Ok(mut stream) = acceptor.accept(stream).await
                            && serve(&mut stream, &requests, &*react).await
                        {
                            let (tcp, _) = stream.into_inner();
                            reset(tcp);
                        }
                    });
                }
            }
        });
        Self {
            address,
            ca_pem,
            requests,
            connections,
        }
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Whether to reset the connection at the end.
async fn serve(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    requests: &Mutex<Vec<String>>,
    react: &React,
) -> bool {
    while let Some(head) = read_head(stream).await {
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push(head.clone());
            requests.len()
        };
        match react(&head, number) {
            Reaction::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return false;
                }
            }
            Reaction::SendAndClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return false;
            }
            Reaction::Reset => return true,
            Reaction::Nothing => std::future::pending().await,
        }
        let _ = stream.flush().await;
    }
    false
}

/// Reads up to the empty line behind the head of a request.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Closes with a reset instead of an orderly end.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// A proxy that takes `CONNECT` requests and leads all of them to one address. Answers 407 unless the request has
/// `authorization`, if one is given.
pub async fn proxy(
    target: SocketAddr,
    authorization: Option<&'static str>,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let head = read_head(&mut client).await.unwrap();
                let admitted = authorization.is_none_or(|needed| head.contains(needed));
                seen.lock().unwrap().push(head);
                if !admitted {
                    let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
                    let _ = client.write_all(refusal).await;
                    return;
                }
                client
                    .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    .await
                    .unwrap();
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, heads)
}

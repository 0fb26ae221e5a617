//! Callers of the admission webhook that keep their connections, as kube-apiserver does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use rustls::pki_types::ServerName;
use serde_json::Value;

use crate::harness::tls_client;

/// The patch of an answered review, if there is one.
pub fn patch(answer: &Value) -> Option<Value> {
    let patch = answer["response"]["patch"].as_str()?;
    let patch = base64::engine::general_purpose::STANDARD
        .decode(patch)
        .unwrap();
    Some(serde_json::from_slice(&patch).unwrap())
}

/// A caller with one connection, made anew when the server closed it between two calls.
pub struct Caller {
    address: String,
    tls: Arc<rustls::ClientConfig>,
    stream: Option<BufReader<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>>,
}

impl Caller {
    pub fn new(webhook_url: &str, ca: &Path) -> Self {
        Self {
            address: webhook_url.strip_prefix("https://").unwrap().to_owned(),
            tls: tls_client(ca, None),
            stream: None,
        }
    }

    /// Trusts other CAs from the next connection on.
    pub fn hang_up(&mut self) {
        self.stream = None;
    }

    /// Posts a review; status and answer.
    pub fn post(&mut self, path: &str, body: &[u8]) -> std::io::Result<(u16, Value)> {
        if self.stream.is_some()
            && let Ok(answer) = self.try_post(path, body)
        {
            return Ok(answer);
        }
        self.stream = None;
        self.try_post(path, body)
    }

    /// Announces a body of that length, and sends none of it; the status of the answer.
    pub fn announce(&mut self, path: &str, length: usize) -> std::io::Result<u16> {
        self.connect()?;
        let stream = self.stream.as_mut().unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        self.stream = None;
        Ok(line.split(' ').nth(1).unwrap().parse().unwrap())
    }

    fn connect(&mut self) -> std::io::Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let connection = rustls::ClientConnection::new(Arc::clone(&self.tls), name)
                .map_err(std::io::Error::other)?;
            let stream = rustls::StreamOwned::new(connection, stream);
            self.stream = Some(BufReader::new(stream));
        }
        Ok(())
    }

    fn try_post(&mut self, path: &str, body: &[u8]) -> std::io::Result<(u16, Value)> {
        self.connect()?;
        let stream = self.stream.as_mut().unwrap();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.get_mut().write_all(&request)?;
        stream.get_mut().flush()?;
        let closed = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(closed());
        }
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .ok_or_else(closed)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

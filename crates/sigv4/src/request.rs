//! A borrowed view of the request as it arrived on the wire.

use std::fmt;

use crate::crypto::sha256;

/// A header line: name in any case, value as received.
pub type Header<'a> = (&'a str, &'a [u8]);

/// A request as received, before any decoding, normalising or re-encoding: the signature covers what was sent.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// Path of the request line, raw. Empty means `/`.
    pub path: &'a [u8],
    /// What follows the first `?` of the request line, raw; `None` and empty are the same.
    pub query: Option<&'a [u8]>,
    /// All header lines in the order received. Under HTTP/2 add the pseudo-header as `:authority`; it stands in for
    /// `host` when there is no such line.
    pub headers: &'a [Header<'a>],
    /// Takes the place of the `Host` line. Set it to `X-Forwarded-Host` when, and only when, the peer is a configured
    /// trusted proxy: anyone else could choose the host the signature is checked for.
    pub forwarded_host: Option<&'a [u8]>,
    /// Whether the request came over TLS. `UNSIGNED-PAYLOAD` is worth nothing without it.
    pub tls: bool,
    /// The body, or what is known of it.
    pub body: Payload<'a>,
}

/// The body of a request as far as a signature is concerned.
#[derive(Clone, Copy, Default)]
pub enum Payload<'a> {
    /// There is no body.
    #[default]
    Empty,
    /// The bytes as received: HTTP chunking removed, content encoding kept.
    Bytes(&'a [u8]),
    /// The SHA-256 of the bytes as received, hashed while they were read.
    Sha256([u8; 32]),
}

impl Payload<'_> {
    /// The digest of the body; `None` for no body, whose digest needs no computing.
    pub(crate) fn digest(&self) -> Option<[u8; 32]> {
        match self {
            Self::Empty => None,
            Self::Bytes(bytes) => Some(sha256(bytes)),
            Self::Sha256(digest) => Some(*digest),
        }
    }
}

impl<'a> Request<'a> {
    /// A request without headers and body over a plain connection; `target` is split at its first `?`.
    pub fn new(method: &'a str, target: &'a [u8]) -> Self {
        let mut parts = target.splitn(2, |b| *b == b'?');
        Self {
            method,
            path: parts.next().unwrap_or_default(),
            query: parts.next(),
            headers: &[],
            forwarded_host: None,
            tls: false,
            body: Payload::Empty,
        }
    }

    pub(crate) fn query_bytes(&self) -> &'a [u8] {
        self.query.unwrap_or_default()
    }

    /// All lines of a header in the order received. `host` and `:authority` are one thing under two names.
    pub(crate) fn lines<'s>(&self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + use<'a, 's> {
        let headers = self.headers;
        let has = |n: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(n));
        let is_host = is_host_name(name);
        let (forwarded, wanted) = match self.forwarded_host {
            Some(host) if is_host => (Some(host), None),
            _ if is_host && has("host") => (None, Some("host")),
            _ if is_host => (None, Some(":authority")),
            _ => (None, Some(name)),
        };
        let received = headers
            .iter()
            .filter(move |(name, _)| wanted.is_some_and(|w| name.eq_ignore_ascii_case(w)))
            .map(|(_, value)| *value);
        forwarded.into_iter().chain(received)
    }

    /// The first line of a header.
    pub(crate) fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.lines(name).next()
    }
}

/// Whether `name` means the host of the request.
pub(crate) fn is_host_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// Method, path and header names. Values and the query may be credentials.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &String::from_utf8_lossy(self.path))
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Sha256(_) => f.write_str("Sha256"),
        }
    }
}

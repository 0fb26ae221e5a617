//! Requests captured elsewhere: raw HTTP text, a `curl` command, an HTTP archive (HAR).
//!
//! People who hunt a signature mismatch have one of these at hand. The result is the request as it was sent, which
//! [`explain`](crate::explain) takes apart.

mod curl;
mod har;
mod raw;

use std::fmt;

use crate::auth::Offered;
use crate::request::{Header, Payload, Request};

/// A request that owns its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Captured {
    /// Method.
    pub method: String,
    /// Path and query as on the request line.
    pub target: Vec<u8>,
    /// Header lines in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Vec<u8>,
    /// Whether it went over TLS, as far as the capture tells.
    pub tls: bool,
}

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// There is nothing there.
    #[error("the capture is empty")]
    Empty,
    /// The first line is no request line.
    #[error("the first line is no request line such as `GET /path HTTP/1.1`")]
    RequestLine,
    /// A header line without a colon.
    #[error("line {line} is no `name: value` header")]
    HeaderLine {
        /// Counted from 1.
        line: usize,
    },
    /// A quote in a curl command that does not end.
    #[error("a quote in the curl command is not closed")]
    OpenQuote,
    /// A curl option that is not known here, or that cannot be followed, such as a multipart form.
    #[error("curl option `{0}` is not supported")]
    CurlOption(String),
    /// A curl option at the end without its value.
    #[error("curl option `{0}` lacks its value")]
    CurlValue(String),
    /// The curl command takes data from a file, which is not here.
    #[error("curl option `{0}` reads a file: give its content in the command instead")]
    CurlFile(String),
    /// No URL, or more than one.
    #[error("the curl command does not have exactly one URL")]
    CurlUrl,
    /// A URL that is not http or https.
    #[error("`{0}` is no http or https URL")]
    Url(String),
    /// The archive is not HAR.
    #[error("the text is no HTTP archive (HAR)")]
    Har(#[source] serde_json::Error),
    /// A body that claims to be base64 and is not.
    #[error("the body of entry {entry} of the archive is not base64")]
    HarBody {
        /// Counted from 1.
        entry: usize,
    },
    /// None of the requests is signed.
    #[error("no request in the capture carries an AWS signature")]
    NothingSigned,
}

impl Captured {
    /// Reads a capture of any known form: an archive when it begins with `{`, a command when it begins with `curl`,
    /// else raw HTTP. An archive may hold several requests; only signed ones are returned.
    pub fn detect(text: &[u8]) -> Result<Vec<Self>, CaptureError> {
        let start = text.trim_ascii_start();
        if start.is_empty() {
            return Err(CaptureError::Empty);
        }
        let is_curl = start
            .strip_prefix(b"curl")
            .is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_whitespace));
        if start.starts_with(b"{") {
            let mut signed = Self::from_har(text)?;
            signed.retain(|captured| captured.with_request(Offered::by) != Offered::Nothing);
            if signed.is_empty() {
                Err(CaptureError::NothingSigned)
            } else {
                Ok(signed)
            }
        } else if is_curl {
            Ok(vec![Self::from_curl(&String::from_utf8_lossy(text))?])
        } else {
            Ok(vec![Self::from_raw(text)?])
        }
    }

    /// Reads raw HTTP/1.x: request line, header lines (folded ones too), an empty line, the body to the end.
    pub fn from_raw(text: &[u8]) -> Result<Self, CaptureError> {
        raw::read(text)
    }

    /// Reads a `curl` command as a shell would, with the options that shape a request; those that only shape the
    /// connection or the output are ignored. Headers that curl adds by itself are added.
    pub fn from_curl(command: &str) -> Result<Self, CaptureError> {
        curl::read(command)
    }

    /// Reads all requests of an HTTP archive, version 1.2, as browsers and proxies export it.
    pub fn from_har(text: &[u8]) -> Result<Vec<Self>, CaptureError> {
        har::read(text)
    }

    /// Lends the request to `use_it`.
    pub fn with_request<T>(&self, use_it: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<Header<'_>> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        let mut request = Request::new(&self.method, &self.target);
        request.headers = &headers;
        request.tls = self.tls;
        if !self.body.is_empty() {
            request.body = Payload::Bytes(&self.body);
        }
        use_it(&request)
    }

    fn has_header(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case(name))
    }
}

/// Where a URL leads, split as a client splits it.
struct Url<'u> {
    tls: bool,
    /// Host and port; without the port that the scheme implies, as clients send it.
    host: &'u str,
    /// Path and query; not empty.
    target: String,
}

impl<'u> Url<'u> {
    fn read(url: &'u str) -> Result<Self, CaptureError> {
        let bad = || CaptureError::Url(url.split(['?', '#']).next().unwrap_or_default().to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let (tls, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "https" => (true, ":443"),
            "http" => (false, ":80"),
            _ => return Err(bad()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let host = host.strip_suffix(default_port).unwrap_or(host);
        if host.is_empty() {
            return Err(bad());
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            tls,
            host,
            target: format!("{slash}{target}"),
        })
    }
}

/// Method, path and header names; the rest may be a credential.
impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_request(|request| fmt::Debug::fmt(request, f))
    }
}

#[cfg(test)]
mod tests;

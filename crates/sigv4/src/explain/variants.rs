//! The variants of a request that a client may have signed instead.

use std::borrow::Cow;
use std::fmt;

use crate::auth::{Kind, SIGNATURE_PARAM, TOKEN_PARAM, is_named};
use crate::canonical::{Param, Parts, StringToSign, params, sort};
use crate::crypto::{EMPTY_SHA256, Sha256Sink, hex, same, sha256};
use crate::key::{SecretKey, SigningKey};
use crate::policy::{PathRule, ServicePolicy};
use crate::request::{Payload, Request};
use crate::time::AmzDate;
use crate::verify::{Parsed, UNSIGNED};

/// One way in which what was signed differs from what arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Variant {
    /// The path was percent-encoded once where the service wants it encoded again.
    PathEncodedOnce,
    /// The path was signed with its dot segments and double slashes.
    PathAsSent,
    /// The path was signed normalised, or encoded twice, where the service wants neither.
    PathNormalised,
    /// `+` in the query was signed as a plus sign, not as a blank.
    PlusAsEscape,
    /// The query was signed in the order sent.
    QueryOrder,
    /// The session token in the query was added after signing.
    TokenLeftOut,
    /// Another host was signed.
    Host {
        /// The host that was signed.
        signed: String,
        /// The host that arrived.
        received: String,
    },
    /// The body was signed without its last line end.
    BodyWithoutNewline,
    /// The body was signed with a line end that did not arrive.
    BodyWithNewline,
    /// An empty body was signed.
    BodyEmpty,
    /// The body was declared unsigned.
    UnsignedPayload,
    /// Another region was signed than the scope says.
    Region(String),
    /// The client's secret lacks white space that the given one has around it.
    SecretTrimmed,
    /// The client's secret has this white space around it, as from a file.
    SecretPadded {
        /// In front.
        before: &'static str,
        /// Behind.
        after: &'static str,
    },
    /// The client's secret has `\/` where the given one has `/`: text copied out of JSON.
    SecretEscaped,
    /// The given secret has `\/` where the client's has `/`.
    SecretUnescaped,
    /// A date was signed that many hours after the date sent.
    ClockShifted(i8),
}

/// The part of a request that a variant touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Part {
    /// The path.
    Path,
    /// The query.
    Query,
    /// The headers.
    Headers,
    /// The body.
    Payload,
    /// Region or date of the string to sign.
    Scope,
    /// The secret.
    Secret,
}

impl Variant {
    /// What it touches.
    pub fn part(&self) -> Part {
        match self {
            Self::PathEncodedOnce | Self::PathAsSent | Self::PathNormalised => Part::Path,
            Self::PlusAsEscape | Self::QueryOrder | Self::TokenLeftOut => Part::Query,
            Self::Host { .. } => Part::Headers,
            Self::BodyWithoutNewline
            | Self::BodyWithNewline
            | Self::BodyEmpty
            | Self::UnsignedPayload => Part::Payload,
            Self::Region(_) | Self::ClockShifted(_) => Part::Scope,
            Self::SecretTrimmed
            | Self::SecretPadded { .. }
            | Self::SecretEscaped
            | Self::SecretUnescaped => Part::Secret,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathEncodedOnce => f.write_str(
                "the client signed the path percent-encoded once, this service wants it encoded twice: its signer is \
                 set up for S3",
            ),
            Self::PathAsSent => f.write_str(
                "the client signed the path with its `.`, `..` or empty segments, the server removes them first: turn \
                 path normalisation on, or send a plain path",
            ),
            Self::PathNormalised => f.write_str(
                "the client signed the path normalised and encoded twice, as for every service but S3, and this is S3",
            ),
            Self::PlusAsEscape => f.write_str(
                "the client sent `+` in the query and signed it as a plus sign (%2B), the server reads a blank: send %2B",
            ),
            Self::QueryOrder => f.write_str(
                "the client signed the query parameters in the order sent, they have to be sorted by encoded name and value",
            ),
            Self::TokenLeftOut => f.write_str(
                "the client added X-Amz-Security-Token to the URL after signing, it has to be part of what is signed",
            ),
            Self::Host { signed, received } => {
                write!(f, "the client signed host {signed}, the server received {received}: {}", host_cause(signed, received))
            }
            Self::BodyWithoutNewline => f.write_str(
                "the client signed the body without its final line end: something appended one, or the file has one",
            ),
            Self::BodyWithNewline => f.write_str(
                "the client signed the body with a final line end that did not arrive: something trimmed it (curl -d does)",
            ),
            Self::BodyEmpty => f.write_str("the client signed an empty body and sent one that is not"),
            Self::UnsignedPayload => f.write_str(
                "the client signed UNSIGNED-PAYLOAD in place of the body's hash, which only S3 accepts, and only over TLS",
            ),
            Self::Region(region) => {
                write!(f, "the client signed for region {region} and wrote another one into the credential")
            }
            Self::SecretTrimmed => {
                f.write_str("the secret given here has white space around it that the client's has not")
            }
            Self::SecretPadded { .. } => f.write_str(
                "the client's secret has white space around it, often a line end from a file: trim it there",
            ),
            Self::SecretEscaped => f.write_str(
                "the client's secret has `\\/` in place of `/`, so it was copied out of JSON: remove the backslashes",
            ),
            Self::SecretUnescaped => f.write_str(
                "the secret given here has `\\/` in place of `/`, so it was copied out of JSON: the client's is right",
            ),
            Self::ClockShifted(hours) => write!(
                f,
                "the client signed a date {} hours {} the one it sent: it mixes time zones",
                hours.abs(),
                if *hours > 0 { "after" } else { "before" }
            ),
        }
    }
}

fn host_cause(signed: &str, received: &str) -> &'static str {
    match (split_port(signed), split_port(received)) {
        ((a, Some(_)), (b, None)) if a.eq_ignore_ascii_case(b) => "a proxy dropped the port",
        ((a, None), (b, Some(_))) if a.eq_ignore_ascii_case(b) => {
            "a proxy or the client's transport added the port"
        }
        ((a, Some(_)), (b, Some(_))) if a.eq_ignore_ascii_case(b) => "a proxy changed the port",
        _ if signed.eq_ignore_ascii_case(received) => "something changed its letter case",
        _ => "a proxy replaced the host",
    }
}

/// Host and port; an IPv6 address keeps its brackets.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

/// Ports on which AWS-style endpoints are found behind proxies.
const USUAL_PORTS: [&str; 8] = ["443", "80", "8443", "8080", "8000", "4566", "4600", "5000"];

/// All variants worth trying for a request, the likely ones first.
pub(super) fn candidates(
    request: &Request<'_>,
    parsed: &Parsed<'_>,
    policy: &ServicePolicy,
    secret: &SecretKey,
    external_hosts: &[String],
) -> Vec<Variant> {
    let mut tries: Vec<Variant> = hosts(request, external_hosts)
        .into_iter()
        .map(|(signed, received)| Variant::Host { signed, received })
        .collect();

    if matches!(request.body, Payload::Bytes(_) | Payload::Sha256(_)) {
        tries.push(Variant::BodyEmpty);
    }
    if let Payload::Bytes(body) = request.body {
        tries.extend(body.ends_with(b"\n").then_some(Variant::BodyWithoutNewline));
        tries.push(Variant::BodyWithNewline);
    }
    tries.push(Variant::UnsignedPayload);

    if policy.paths == PathRule::Single {
        tries.push(Variant::PathNormalised);
    } else {
        // In this order: without escapes in the path the two are the same text, and the dots are the cause.
        tries.extend([Variant::PathAsSent, Variant::PathEncodedOnce]);
    }
    if request.query_bytes().contains(&b'+') {
        tries.push(Variant::PlusAsEscape);
    }
    if parsed.params().len() > 1 {
        tries.push(Variant::QueryOrder);
    }
    if parsed.kind() == Kind::Query && parsed.session_token().is_some() {
        tries.push(Variant::TokenLeftOut);
    }
    if parsed.scope().region != "us-east-1" {
        tries.push(Variant::Region("us-east-1".to_owned()));
    }

    let text = secret.expose();
    tries.extend((text.trim() != text).then_some(Variant::SecretTrimmed));
    tries.extend(text.contains("\\/").then_some(Variant::SecretUnescaped));
    tries.extend(text.contains('/').then_some(Variant::SecretEscaped));
    for (before, after) in [
        ("", "\n"),
        ("", "\r\n"),
        ("", "\r"),
        ("", " "),
        (" ", ""),
        (" ", " "),
        ("", "\t"),
    ] {
        tries.push(Variant::SecretPadded { before, after });
    }
    tries.extend((-14..=14).filter(|h| *h != 0).map(Variant::ClockShifted));
    tries
}

/// Pairs of (host that may have been signed, host received).
fn hosts(request: &Request<'_>, external: &[String]) -> Vec<(String, String)> {
    let Some(received) = request.first("host") else {
        return Vec::new();
    };
    let received = String::from_utf8_lossy(received).trim().to_owned();
    let (name, port) = split_port(&received);
    let text = |name: &str| {
        request
            .first(name)
            .map(|v| String::from_utf8_lossy(v).trim().to_owned())
    };
    let mut hosts: Vec<String> = external.to_vec();
    // Without a trusted proxy these headers decide nothing when a request is verified. Here they are hints.
    hosts.extend(text("x-forwarded-host"));
    hosts.extend(text("x-forwarded-port").map(|port| format!("{name}:{port}")));
    if port.is_some() {
        hosts.push(name.to_owned());
    }
    hosts.extend(USUAL_PORTS.iter().map(|port| format!("{name}:{port}")));
    hosts.push(received.to_ascii_lowercase());
    let mut pairs: Vec<(String, String)> = Vec::new();
    for host in hosts {
        if host != received && !pairs.iter().any(|(signed, _)| *signed == host) {
            pairs.push((host, received.clone()));
        }
    }
    pairs
}

/// Everything a signature is computed from; a variant changes one thing.
#[derive(Clone)]
pub(super) struct Recipe<'r, 'p> {
    request: Request<'r>,
    parsed: &'p Parsed<'r>,
    paths: PathRule,
    plus_is_plus: bool,
    sorted: bool,
    with_token: bool,
    host: Option<String>,
    payload: Cow<'p, [u8]>,
    region: Cow<'p, str>,
    secret: Cow<'p, SecretKey>,
    date: AmzDate,
}

impl<'r, 'p> Recipe<'r, 'p> {
    /// The request as the server reads it.
    pub(super) fn of(
        request: &Request<'r>,
        parsed: &'p Parsed<'r>,
        policy: &ServicePolicy,
        secret: &'p SecretKey,
    ) -> Self {
        Self {
            request: *request,
            parsed,
            paths: policy.paths,
            plus_is_plus: false,
            sorted: true,
            with_token: true,
            host: None,
            payload: parsed.payload_text(request.body).into(),
            region: parsed.scope().region.as_str().into(),
            secret: Cow::Borrowed(secret),
            date: parsed.date(),
        }
    }

    pub(super) fn with(&self, variant: &Variant) -> Self {
        let mut next = self.clone();
        let body = match self.request.body {
            Payload::Bytes(body) => body,
            Payload::Empty | Payload::Sha256(_) => b"",
        };
        let secret = self.secret.expose();
        match variant {
            Variant::PathEncodedOnce => next.paths = PathRule::Single,
            Variant::PathAsSent => next.paths = PathRule::AsSent,
            Variant::PathNormalised => next.paths = PathRule::Normalise,
            Variant::PlusAsEscape => next.plus_is_plus = true,
            Variant::QueryOrder => next.sorted = false,
            Variant::TokenLeftOut => next.with_token = false,
            Variant::Host { signed, .. } => next.host = Some(signed.clone()),
            Variant::BodyWithoutNewline => {
                let trimmed = body.strip_suffix(b"\n").unwrap_or(body);
                next.payload = hash_text(trimmed.strip_suffix(b"\r").unwrap_or(trimmed));
            }
            Variant::BodyWithNewline => next.payload = hash_text(&[body, b"\n"].concat()),
            Variant::BodyEmpty => next.payload = Cow::Borrowed(EMPTY_SHA256),
            Variant::UnsignedPayload => next.payload = Cow::Borrowed(UNSIGNED),
            Variant::Region(region) => next.region = region.clone().into(),
            Variant::SecretTrimmed => next.secret = Cow::Owned(SecretKey::new(secret.trim())),
            Variant::SecretPadded { before, after } => {
                next.secret =
                    Cow::Owned(SecretKey::new(format!("{before}{}{after}", secret.trim())));
            }
            Variant::SecretEscaped => {
                next.secret = Cow::Owned(SecretKey::new(secret.replace('/', "\\/")))
            }
            Variant::SecretUnescaped => {
                next.secret = Cow::Owned(SecretKey::new(secret.replace("\\/", "/")))
            }
            Variant::ClockShifted(hours) => {
                next.date = self
                    .date
                    .plus_seconds(i64::from(*hours) * 3600)
                    .unwrap_or(self.date);
            }
        }
        next
    }

    /// Whether this is what was signed.
    pub(super) fn verifies(&self) -> bool {
        let query = self.query();
        let mut kept: Vec<Param<'_>> = params(&query)
            .filter(|p| self.parsed.kind() == Kind::Header || !is_named(p, SIGNATURE_PARAM))
            .filter(|p| self.with_token || !is_named(p, TOKEN_PARAM))
            .collect();
        if self.sorted {
            sort(&mut kept);
        }
        let mut request = self.request;
        request.forwarded_host = self
            .host
            .as_deref()
            .map(str::as_bytes)
            .or(request.forwarded_host);
        let mut hash = Sha256Sink::new();
        Parts {
            request: &request,
            path_rule: self.paths,
            params: &kept,
            signed_headers: self.parsed.signed_headers().as_str(),
            payload: &self.payload,
        }
        .write(&mut hash);
        let service = self.parsed.scope().service.as_str();
        let to_sign = StringToSign::new(
            self.date.as_str(),
            (self.date.day(), &self.region, service),
            hash.finish(),
        );
        let key = SigningKey::derive(&self.secret, self.date.day(), &self.region, service);
        same(&key.sign_hex(&to_sign.pieces()), self.parsed.signature())
    }

    fn query(&self) -> Cow<'r, [u8]> {
        let query = self.request.query_bytes();
        if !self.plus_is_plus {
            return Cow::Borrowed(query);
        }
        let escaped = query.iter().flat_map(|b| {
            if *b == b'+' {
                &b"%2B"[..]
            } else {
                std::slice::from_ref(b)
            }
        });
        Cow::Owned(escaped.copied().collect())
    }
}

fn hash_text(body: &[u8]) -> Cow<'static, [u8]> {
    Cow::Owned(hex(&sha256(body)).to_vec())
}

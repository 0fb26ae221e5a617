//! The checks of a request's head that need nothing but the head (agent spec, section 4, checks 2 and 3).

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, Method, Uri};

use crate::refusal::Refusal;
use crate::token::MAX_TOKEN_BYTES;

/// The only path.
pub const PATH: &str = "/v1/credentials";

/// Headers that say that the request was relayed. Only `X-Forwarded-For` is in the specification; the others mean the same,
/// and no SDK sends any of them.
const RELAYED: [&str; 6] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "forwarded",
    "x-real-ip",
    "via",
];

/// Path and method: what is answered before any limit, because it costs nothing.
///
/// # Errors
/// When the path is another one, or the method neither GET nor HEAD.
pub fn check_route(method: &Method, uri: &Uri) -> Result<(), Refusal> {
    if uri.path() != PATH {
        return Err(Refusal::Path);
    }
    if method != Method::GET && method != Method::HEAD {
        return Err(Refusal::Method);
    }
    Ok(())
}

/// The text of the token, once host and headers are in order. The first fault in the specified order answers.
///
/// # Errors
/// When the host is none of `hosts`, the request was forwarded, or there is not exactly one short `Authorization` header.
pub fn token_text<'r>(
    uri: &Uri,
    headers: &'r HeaderMap,
    hosts: &[IpAddr],
) -> Result<&'r str, Refusal> {
    check_host(uri, headers, hosts)?;
    for name in RELAYED {
        if headers.contains_key(HeaderName::from_static(name)) {
            return Err(Refusal::Forwarded(name));
        }
    }
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let value = match (lines.next(), lines.next()) {
        (None, _) => return Err(Refusal::NotAToken("there is none")),
        (Some(value), None) => value,
        // Which of the two counts is a question that another reader may answer differently.
        (Some(_), Some(_)) => return Err(Refusal::NotAToken("there are several")),
    };
    if value.len() > MAX_TOKEN_BYTES {
        return Err(Refusal::NotAToken("it is longer than 16384 bytes"));
    }
    match value.to_str() {
        Ok("") => Err(Refusal::NotAToken("it is empty")),
        Ok(text) => Ok(text),
        Err(_) => Err(Refusal::NotAToken("it is not a JSON Web Token")),
    }
}

/// A name that an attacker lets point here must not work from a browser or a lenient client, so the host must be an
/// address, and one of ours. A request line with a whole URL names a host as well; it must be ours too.
fn check_host(uri: &Uri, headers: &HeaderMap, hosts: &[IpAddr]) -> Result<(), Refusal> {
    let mut lines = headers.get_all(HOST).iter();
    let (Some(host), None) = (lines.next(), lines.next()) else {
        return Err(Refusal::Host);
    };
    let is_ours = |text: &str| address_of(text).is_some_and(|address| hosts.contains(&address));
    if !host.to_str().is_ok_and(is_ours) {
        return Err(Refusal::Host);
    }
    match uri.authority() {
        Some(authority) if !is_ours(authority.as_str()) => Err(Refusal::Host),
        _ => Ok(()),
    }
}

/// The address in a `Host` header: with or without port, IPv6 with or without brackets.
fn address_of(host: &str) -> Option<IpAddr> {
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    let (address, rest) = match host.strip_prefix('[') {
        Some(bracketed) => bracketed
            .split_once(']')
            .map(|(address, rest)| (address.parse().map(IpAddr::V6), rest))?,
        None => {
            let end = host.find(':').unwrap_or(host.len());
            let (address, rest) = host.split_at_checked(end)?;
            (address.parse().map(IpAddr::V4), rest)
        }
    };
    let port_is_fine = match rest.strip_prefix(':') {
        None => rest.is_empty(),
        Some(port) => port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()),
    };
    address.ok().filter(|_| port_is_fine)
}

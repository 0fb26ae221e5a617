//! Issuer URLs (IRSA spec, section 2.1).

use std::fmt;
use std::str::FromStr;

/// Most characters of an issuer's URL, as IAM has it.
pub const MAX_ISSUER_CHARS: usize = 255;

/// The URL of an issuer: `https`, a host name, perhaps a port, perhaps a path; no user, query or fragment.
///
/// Two are equal only byte for byte: a final slash makes another issuer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerUrl(Box<str>);

/// The text is not the URL of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidIssuer {
    /// It does not begin with `https://`.
    #[error("the URL of an issuer begins with `https://`")]
    Scheme,
    /// It is longer than [`MAX_ISSUER_CHARS`].
    #[error("the URL of an issuer has at most {MAX_ISSUER_CHARS} characters")]
    TooLong,
    /// The host is missing or has characters that host names do not have.
    #[error("the URL of an issuer has a host name of letters, digits, `-` and `.`")]
    Host,
    /// The port is none.
    #[error("the port in the URL of an issuer is a number from 1 to 65535")]
    Port,
    /// The path has a query, a fragment, or a character that URLs do not have.
    #[error(
        "the path in the URL of an issuer has no query, fragment, `.` or `..` segment, or character outside those of URLs"
    )]
    Path,
}

impl IssuerUrl {
    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL without `https://`: the name of the provider in ARNs and the prefix of condition keys.
    #[must_use]
    pub fn without_scheme(&self) -> &str {
        self.0.strip_prefix("https://").unwrap_or_default()
    }

    /// The host name.
    #[must_use]
    pub fn host(&self) -> &str {
        let rest = self.without_scheme();
        let authority = rest
            .split_once('/')
            .map_or(rest, |(authority, _)| authority);
        authority
            .split_once(':')
            .map_or(authority, |(host, _)| host)
    }
}

impl FromStr for IssuerUrl {
    type Err = InvalidIssuer;

    fn from_str(text: &str) -> Result<Self, InvalidIssuer> {
        let rest = text.strip_prefix("https://").ok_or(InvalidIssuer::Scheme)?;
        if text.len() > MAX_ISSUER_CHARS {
            return Err(InvalidIssuer::TooLong);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.split_once(':') {
            None => (authority, None),
            Some((host, port)) => (host, Some(port)),
        };
        if !is_host(host) {
            return Err(InvalidIssuer::Host);
        }
        let is_port = |port: &str| {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|number| number != 0)
        };
        if port.is_some_and(|port| !is_port(port)) {
            return Err(InvalidIssuer::Port);
        }
        let of_path =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
        let dots = |segment: &str| segment == "." || segment == "..";
        if !path.bytes().all(of_path) || path.split('/').any(dots) {
            return Err(InvalidIssuer::Path);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

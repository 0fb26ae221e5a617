//! Where an etcd is, and how it is spoken to; known in every build, so that a wrong address is explained by all of them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::SecretString;

/// The prefix when none is given.
pub const DEFAULT_PREFIX: &str = "/countersign/";
/// Bytes of a prefix. With it the largest transaction stays below etcd's 1.5 MiB for one request.
const PREFIX_BYTES: usize = 128;
const DEFAULT_PORT: u16 = 2379;
/// Endpoints of one cluster; etcd clusters have three to seven members.
const ENDPOINTS: usize = 16;
/// Bytes of a store URL that are looked at.
const URL_BYTES: usize = 4096;

/// Settings of the store on etcd.
#[derive(Clone)]
pub struct EtcdOptions {
    /// Where its members are, as `host:port`; used in turn, the next one when one does not answer.
    pub endpoints: Vec<String>,
    /// What the names of all our keys begin with; begins and ends with `/`. Default [`DEFAULT_PREFIX`].
    pub prefix: String,
    /// How the members are trusted, and how we prove ourselves by certificate; plain text without.
    pub tls: Option<EtcdTls>,
    /// User and password, where etcd's authentication is switched on.
    pub user: Option<EtcdUser>,
    /// How long one request may take. Default 2 s; an election takes about one.
    pub request_timeout: Duration,
    /// How long a connection may take to be made. Default 2 s.
    pub connect_timeout: Duration,
    /// How often a watch asks whether it is up to date, which is also how fast a lost etcd is noticed. Default 500 ms.
    pub heartbeat: Duration,
    /// The clock that writes are stamped with, so that other replicas can tell how late they see them.
    pub clock: fn() -> Timestamp,
}

/// Certificates for etcd. The files are read at every new connection, so that renewed ones are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The CAs that the members' certificates are from, PEM. Public CAs are never trusted: etcd has no public names.
    pub ca_file: PathBuf,
    /// Our certificate chain and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Who we are to etcd.
#[derive(Clone)]
pub struct EtcdUser {
    /// The user's name.
    pub name: String,
    /// Where the password is from; asked again whenever a token has to be had.
    pub password: EtcdPassword,
}

/// Where etcd's password is from.
#[derive(Clone)]
pub enum EtcdPassword {
    /// A file; one newline at its end is not part of the password.
    File(PathBuf),
    /// Given otherwise, as in an environment variable.
    Given(std::sync::Arc<SecretString>),
}

/// Why a text is no address of an etcd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEtcdUrl {
    /// Another scheme.
    #[error("it begins with neither `etcd://` nor `etcds://`")]
    Scheme,
    /// There is a user in it.
    #[error(
        "it has a user in it; give `username` and `passwordFile` apart, because addresses are logged"
    )]
    User,
    /// There is a query or a fragment in it.
    #[error("it has `?` or `#` in it; options stand beside the address, not in it")]
    Query,
    /// No endpoint, or too many.
    #[error("it names {0} endpoints; 1 to {ENDPOINTS} are possible")]
    Endpoints(usize),
    /// An endpoint that is none.
    #[error("`{0}` is no `host:port`")]
    Endpoint(String),
    /// A prefix that no key may begin with.
    #[error(
        "a prefix is at most {PREFIX_BYTES} characters of printable ASCII between slashes, and `{0}` is not"
    )]
    Prefix(String),
    /// More than 4,096 bytes.
    #[error("it is longer than {URL_BYTES} bytes")]
    TooLong,
}

impl EtcdOptions {
    /// Reads `etcd://host:2379,host2:2379/prefix`; with `etcds://` the connections are TLS, and the caller is told so.
    ///
    /// The port is 2379 when it is left out, and the prefix [`DEFAULT_PREFIX`].
    ///
    /// # Errors
    /// What is wrong with the text, without repeating more of it than the part that is wrong.
    pub fn parse(url: &str, clock: fn() -> Timestamp) -> Result<(Self, bool), InvalidEtcdUrl> {
        if url.len() > URL_BYTES {
            return Err(InvalidEtcdUrl::TooLong);
        }
        let (rest, tls) = match (url.strip_prefix("etcd://"), url.strip_prefix("etcds://")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => return Err(InvalidEtcdUrl::Scheme),
        };
        if rest.contains('@') {
            return Err(InvalidEtcdUrl::User);
        }
        if rest.contains(['?', '#']) {
            return Err(InvalidEtcdUrl::Query);
        }
        let (hosts, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let endpoints: Vec<&str> = hosts.split(',').collect();
        Ok((Self::new(&endpoints, path, clock)?, tls))
    }

    /// Settings for members and prefix, with the defaults for the rest.
    ///
    /// # Errors
    /// When an endpoint or the prefix is none; a prefix that is empty or `/` means [`DEFAULT_PREFIX`].
    pub fn new(
        endpoints: &[impl AsRef<str>],
        prefix: &str,
        clock: fn() -> Timestamp,
    ) -> Result<Self, InvalidEtcdUrl> {
        if endpoints.is_empty() || endpoints.len() > ENDPOINTS {
            return Err(InvalidEtcdUrl::Endpoints(endpoints.len()));
        }
        let endpoints = endpoints.iter().map(|endpoint| {
            let endpoint = endpoint.as_ref();
            read_endpoint(endpoint).ok_or_else(|| InvalidEtcdUrl::Endpoint(endpoint.to_owned()))
        });
        Ok(Self {
            endpoints: endpoints.collect::<Result<_, _>>()?,
            prefix: read_prefix(prefix).ok_or_else(|| InvalidEtcdUrl::Prefix(prefix.to_owned()))?,
            tls: None,
            user: None,
            request_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            heartbeat: Duration::from_millis(500),
            clock,
        })
    }
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("tls", &self.tls)
            .field("user", &self.user.as_ref().map(|user| &user.name))
            .finish_non_exhaustive()
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`, with the port in it.
fn read_endpoint(text: &str) -> Option<String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = match after {
                "" => None,
                after => Some(after.strip_prefix(':')?),
            };
            (format!("[{host}]"), port)
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let is_name = !host.is_empty()
                && host.len() <= 253
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
            if !is_name {
                return None;
            }
            (host.to_owned(), port)
        }
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0)?
        }
        Some(_) => return None,
    };
    Some(format!("{host}:{port}"))
}

/// The prefix with a slash at both ends.
fn read_prefix(text: &str) -> Option<String> {
    let inner = text.trim_matches('/');
    if inner.is_empty() {
        return Some(DEFAULT_PREFIX.to_owned());
    }
    let prefix = format!("/{inner}/");
    (prefix.len() <= PREFIX_BYTES && inner.bytes().all(|b| b.is_ascii_graphic())).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn addresses() {
        for (url, endpoints, prefix, tls) in [
            ("etcd://a", "a:2379", "/countersign/", false),
            ("etcd://a:1/", "a:1", "/countersign/", false),
            ("etcds://a,b:2380/x", "a:2379 b:2380", "/x/", true),
            (
                "etcd://[::1],[fd00::2]:99/x/y/",
                "[::1]:2379 [fd00::2]:99",
                "/x/y/",
                false,
            ),
            ("etcd://10.0.0.1:65535//x", "10.0.0.1:65535", "/x/", false),
        ] {
            let (options, secure) = EtcdOptions::parse(url, epoch).unwrap();
            assert_eq!(options.endpoints.join(" "), endpoints, "{url}");
            assert_eq!((options.prefix.as_str(), secure), (prefix, tls), "{url}");
        }
    }

    #[test]
    fn what_is_no_address() {
        let many = format!("etcd://{}", vec!["a"; 17].join(","));
        let long_prefix = format!("etcd://a/{}", "x".repeat(127));
        let too_long = format!("etcd://{}", "a".repeat(URL_BYTES));
        for (url, expected) in [
            ("http://a", "neither"),
            ("redb", "neither"),
            ("etcd://", "no `host:port`"),
            ("etcd://a,", "no `host:port`"),
            ("etcd://a:0", "no `host:port`"),
            ("etcd://a:+1", "no `host:port`"),
            ("etcd://a:65536", "no `host:port`"),
            ("etcd://a b", "no `host:port`"),
            ("etcd://[::1", "no `host:port`"),
            ("etcd://[::1]x", "no `host:port`"),
            ("etcd://[a]", "no `host:port`"),
            ("etcd://a\r\nhost", "no `host:port`"),
            ("etcd://user:secret@a", "has a user"),
            ("etcd://a/x?y", "`?`"),
            ("etcd://a/ä", "prefix"),
            ("etcd://a/x y", "prefix"),
            (&many, "17 endpoints"),
            (&long_prefix, "prefix"),
            (&too_long, "4096 bytes"),
        ] {
            let error = EtcdOptions::parse(url, epoch).unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let mut options = EtcdOptions::new(&["a"], "", epoch).unwrap();
        options.user = Some(EtcdUser {
            name: "countersign".into(),
            password: EtcdPassword::Given(std::sync::Arc::new(SecretString::new("hunter2"))),
        });
        let shown = format!("{options:?}");
        assert!(
            shown.contains("countersign") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}

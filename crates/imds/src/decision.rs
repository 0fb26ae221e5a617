//! What happens to a request: a pure function of its method, normalised path and what its headers said (imds spec, sections 5.4
//! and 5.8).
//!
//! Whatever is not named is refused. Nothing that is forwarded to the node's metadata service comes from the request: a path is
//! taken from the list of harmless ones; only `audit` passes a path on, and that one is written anew.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::harmless::{Harmless, HarmlessPaths};
use crate::path::{Path, PathFault, Version};

/// Longest life of a session token, seconds.
pub const MAX_TOKEN_SECONDS: u32 = 21_600;

/// What the guard does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Logs who asks for what and passes it on to the node's service, secrets included: for the time before `block`, to find out
    /// who depends on the node's role.
    Audit,
    /// Refuses credentials and secrets, answers harmless paths.
    Block,
    /// Answers with the pod's own role.
    Serve,
}

impl Mode {
    /// Its name on the command line and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Block => "block",
            Self::Serve => "serve",
        }
    }
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// The role of whoever runs here.
    Credentials(CredentialsPath),
    /// `api/token`.
    Token,
    /// A path that may be read.
    Harmless(Harmless),
    /// The list of `meta-data`, made from what may be read.
    Index,
    /// Secrets of the node: identity credentials, user data, signed identity, keys, tags.
    Secret,
    /// Anything else.
    Other,
}

/// Which of the credentials paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialsPath {
    /// `meta-data/iam/security-credentials/`.
    List,
    /// What stands behind it: a role's name, path and name, or ARN.
    Role(Box<str>),
    /// `meta-data/iam/info`.
    Info,
}

impl Class {
    /// The label of metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "credentials",
            Self::Token => "token",
            Self::Harmless(_) | Self::Index => "harmless",
            Self::Secret => "secret",
            Self::Other => "other",
        }
    }
}

/// Every label of [`Class::label`].
pub const CLASSES: [&str; 5] = ["credentials", "token", "harmless", "secret", "other"];

/// What is to be known about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'r> {
    /// The method.
    pub method: &'r str,
    /// The path as it was sent, without query.
    pub path: &'r str,
    /// The `Host` header, if there is one.
    pub host: Option<&'r str>,
    /// Whether there is an `X-Forwarded-For`.
    pub forwarded: bool,
    /// `X-aws-ec2-metadata-token-ttl-seconds`.
    pub ttl: Option<&'r str>,
    /// The session token.
    pub session: Session,
}

/// The session token of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// There is none: version 1 of the protocol.
    Absent,
    /// It is this pod's, and of this time.
    Valid,
    /// It has expired, or is somebody else's, or nothing.
    Invalid,
}

/// What the operator chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What the guard does.
    pub mode: Mode,
    /// Whether requests without a session token are answered (`--imds-v1=allow`).
    pub v1: bool,
    /// What may be read.
    pub harmless: HarmlessPaths,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A session token for the pod, with this life.
    Token {
        /// Seconds, 1 to [`MAX_TOKEN_SECONDS`].
        seconds: u32,
    },
    /// The list of what may be read.
    Index,
    /// The value of a harmless path.
    Harmless(Harmless),
    /// The pod's own role; only in `serve`.
    Role(CredentialsPath),
    /// The node's answer, whatever it is; only in `audit`.
    PassOn {
        /// The path, written anew.
        path: String,
    },
    /// Nothing.
    Refuse(Refusal),
}

/// A decision and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What the request is about. `Other` where the path was not looked at.
    pub class: Class,
    /// What happens to it.
    pub decision: Decision,
}

/// Why a request is refused; each has its status, code and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Neither GET, HEAD nor PUT.
    Method,
    /// The path is malformed or climbs.
    Path(PathFault),
    /// The `Host` is a name that somebody else could have pointed here.
    Host,
    /// It was relayed.
    Forwarded,
    /// A PUT of `api/token` under a dated version.
    DatedToken,
    /// The life of the token is missing or out of range.
    Ttl,
    /// There is no session token, and version 1 is not answered.
    NoSession,
    /// The session token is not good.
    Session,
    /// Credentials, in `block`.
    Credentials,
    /// A secret of the node.
    Secret,
    /// There is nothing there.
    NotFound,
}

impl Refusal {
    /// The status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Path(_) | Self::Ttl => 400,
            Self::NoSession | Self::Session => 401,
            Self::Host | Self::Forwarded | Self::DatedToken | Self::Secret => 403,
            Self::Credentials | Self::NotFound => 404,
            Self::Method => 405,
        }
    }

    /// The label of metrics, from a closed set.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Path(_) => "path",
            Self::Host => "host",
            Self::Forwarded => "forwarded",
            Self::DatedToken => "dated_token",
            Self::Ttl => "ttl",
            Self::NoSession => "no_session",
            Self::Session => "session",
            Self::Credentials => "credentials",
            Self::Secret => "secret",
            Self::NotFound => "not_found",
        }
    }

    /// The code in the body.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Path(_) | Self::Ttl => "BadRequest",
            Self::NoSession | Self::Session => "Unauthorized",
            Self::Host | Self::Forwarded | Self::DatedToken | Self::Secret => "Forbidden",
            Self::Credentials | Self::NotFound => "NotFound",
            Self::Method => "MethodNotAllowed",
        }
    }

    /// The text in the body.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Method => "use GET, HEAD or PUT",
            Self::Path(PathFault::TooLong) => "the path is too long",
            Self::Path(PathFault::NotAbsolute) => "the path must begin with a slash",
            Self::Path(PathFault::Escape) => "the path has a broken percent escape",
            Self::Path(PathFault::Character) => "the path must be printable ASCII",
            Self::Path(PathFault::Dots) => "the path must not have segments of dots",
            Self::Host => "call the metadata service by its address",
            Self::Forwarded => "requests that were forwarded are not answered",
            Self::DatedToken => "ask for tokens at /latest/api/token",
            Self::Ttl => "X-aws-ec2-metadata-token-ttl-seconds must be 1 to 21600",
            Self::NoSession => "a session token is required: PUT /latest/api/token",
            Self::Session => {
                "the session token is not one of this pod, or has expired: PUT /latest/api/token"
            }
            Self::Credentials => {
                "pods get no credentials of the node; give the service account a role with EKS Pod Identity"
            }
            Self::Secret => "this is a secret of the node",
            Self::NotFound => "there is nothing at this path",
        }
    }

    /// Every reason.
    pub const REASONS: [&'static str; 11] = [
        "method",
        "path",
        "host",
        "forwarded",
        "dated_token",
        "ttl",
        "no_session",
        "session",
        "credentials",
        "secret",
        "not_found",
    ];
}

/// What a path is about. Depends on the path and the list alone.
#[must_use]
pub fn classify(path: &Path, harmless: &HarmlessPaths) -> Class {
    const SECRET: [&[&str]; 5] = [
        &["meta-data", "identity-credentials"],
        &["user-data"],
        &["dynamic", "instance-identity"],
        &["meta-data", "public-keys"],
        &["meta-data", "tags"],
    ];
    if path.version.is_none() {
        return Class::Other;
    }
    if path.is(&["api", "token"]) {
        return Class::Token;
    }
    if let Some(rest) = path.below(&["meta-data", "iam", "security-credentials"]) {
        return Class::Credentials(if rest.is_empty() {
            CredentialsPath::List
        } else {
            CredentialsPath::Role(rest.join("/").into())
        });
    }
    if path.is(&["meta-data", "iam", "info"]) {
        return Class::Credentials(CredentialsPath::Info);
    }
    if SECRET.iter().any(|secret| path.below(secret).is_some()) {
        return Class::Secret;
    }
    if path.is(&["meta-data"]) {
        return Class::Index;
    }
    harmless.find(path).map_or(Class::Other, Class::Harmless)
}

/// Decides over a request.
///
/// The order: method, path, `Host`, then for PUT what a token needs, and for GET whether it was relayed, its session token, and at
/// last what it asks for. So whoever has no token learns nothing of what there is.
#[must_use]
pub fn decide(request: &Request<'_>, settings: &Settings) -> Decided {
    let refuse = |class, refusal| Decided {
        class,
        decision: Decision::Refuse(refusal),
    };
    if !matches!(request.method, "GET" | "HEAD" | "PUT") {
        return refuse(Class::Other, Refusal::Method);
    }
    let path = match Path::normalise(request.path) {
        Ok(path) => path,
        Err(fault) => return refuse(Class::Other, Refusal::Path(fault)),
    };
    let class = classify(&path, &settings.harmless);
    if request.host.is_some_and(|host| !is_own_host(host)) {
        return refuse(class, Refusal::Host);
    }
    if request.method == "PUT" {
        return put(request, &path, class);
    }
    let audit = settings.mode == Mode::Audit;
    // The real service checks only PUT; here nobody relays for somebody else. `audit` changes nothing for anybody.
    if request.forwarded && !audit {
        return refuse(class, Refusal::Forwarded);
    }
    match request.session {
        Session::Invalid if !audit => return refuse(class, Refusal::Session),
        Session::Absent if !audit && !settings.v1 => return refuse(class, Refusal::NoSession),
        _ => {}
    }
    let decision = match (&class, settings.mode) {
        (Class::Harmless(harmless), _) => Decision::Harmless(harmless.clone()),
        (_, Mode::Audit) => Decision::PassOn {
            path: path.to_string(),
        },
        (Class::Index, _) => Decision::Index,
        (Class::Credentials(path), Mode::Serve) => Decision::Role(path.clone()),
        (Class::Credentials(_), Mode::Block) => Decision::Refuse(Refusal::Credentials),
        (Class::Secret, _) => Decision::Refuse(Refusal::Secret),
        (Class::Token | Class::Other, _) => Decision::Refuse(Refusal::NotFound),
    };
    Decided { class, decision }
}

fn put(request: &Request<'_>, path: &Path, class: Class) -> Decided {
    let refusal = match (&class, &path.version) {
        _ if request.forwarded => Refusal::Forwarded,
        (Class::Token, Some(Version::Latest)) => match request.ttl.and_then(seconds) {
            Some(seconds) => {
                return Decided {
                    class,
                    decision: Decision::Token { seconds },
                };
            }
            None => Refusal::Ttl,
        },
        (Class::Token, _) => Refusal::DatedToken,
        _ => Refusal::NotFound,
    };
    Decided {
        class,
        decision: Decision::Refuse(refusal),
    }
}

/// 1 to [`MAX_TOKEN_SECONDS`], digits only.
fn seconds(text: &str) -> Option<u32> {
    let text = text.trim_matches([' ', '\t']);
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u32 = digits.then(|| text.parse().ok())??;
    (1..=MAX_TOKEN_SECONDS)
        .contains(&seconds)
        .then_some(seconds)
}

/// An IP address, whose owner cannot be changed by a name server, or one of the names that EC2's resolver gives the service.
fn is_own_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) => {
                return address.parse::<Ipv6Addr>().is_ok() && is_port(rest);
            }
            None => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let named = ["instance-data", "instance-data.ec2.internal"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own));
    (named || name.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok())
        && (is_port(port) || host.parse::<Ipv6Addr>().is_ok())
}

/// Nothing, or a colon and digits.
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        None => text.is_empty(),
        Some(port) => port.parse::<u16>().is_ok(),
    }
}

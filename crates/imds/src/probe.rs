//! What a probe from a pod saw (checks M1 to M4, imds spec, section 3): the three requests it sends, answers read, findings made.
//!
//! ```text
//!   GET  /latest/meta-data/                            without a token        M1
//!   PUT  /latest/api/token                             a token for a minute   M2
//!   GET  /latest/meta-data/iam/security-credentials/   with what the two gave M3: a name, never credentials
//! ```
//!
//! The same over IPv6 is M4. The addresses are the two of the service and nothing else. Answers of Countersign's own guard carry
//! [`GUARD_HEADER`], so that they are not taken for the node's.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use zeroize::Zeroizing;

use crate::checks::Finding;
use crate::decision::Mode;
use crate::{IPV4, IPV6};

/// What the guard puts on each of its answers: its mode.
pub const GUARD_HEADER: &str = "x-countersign-guard";
/// Bytes of an answer that are read; lists and tokens are far shorter.
pub const MAX_ANSWER: usize = 16 << 10;
/// Seconds that a probe's token lives.
const TOKEN_SECONDS: u32 = 60;
/// Longest token that is sent back; those of the service have 56 characters.
const MAX_TOKEN: usize = 512;

/// Where the service is, IPv4 first.
#[must_use]
pub const fn addresses() -> [SocketAddr; 2] {
    [
        SocketAddr::new(IpAddr::V4(IPV4), 80),
        SocketAddr::new(IpAddr::V6(IPV6), 80),
    ]
}

/// A request of the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The index, without a token.
    Version1,
    /// A session token.
    Token,
    /// The list of roles.
    List,
}

impl Ask {
    /// The request as it goes over the wire, to one of [`addresses`].
    #[must_use]
    pub fn request(self, to: IpAddr, token: Option<&Zeroizing<String>>) -> Zeroizing<String> {
        let host = match to {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let line = match self {
            Self::Version1 => "GET /latest/meta-data/",
            Self::Token => "PUT /latest/api/token",
            Self::List => "GET /latest/meta-data/iam/security-credentials/",
        };
        let mut text = Zeroizing::new(format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: countersign-imds-probe\r\nAccept: */*\r\nConnection: close\r\n"
        ));
        if self == Self::Token {
            text.push_str(&format!(
                "X-aws-ec2-metadata-token-ttl-seconds: {TOKEN_SECONDS}\r\nContent-Length: 0\r\n"
            ));
        }
        if let Some(token) = token {
            text.push_str("X-aws-ec2-metadata-token: ");
            text.push_str(token);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text
    }
}

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// The instance metadata service, or something else that is not the guard.
    Service,
    /// Countersign's guard, which passes requests on.
    GuardInAudit,
    /// Countersign's guard, which gives nothing of the node.
    Guard,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Outcome {
    /// There was an answer.
    Answered {
        /// Its status.
        status: u16,
        /// Whose it was.
        by: By,
    },
    /// The connection was refused or reset.
    Refused,
    /// Nothing came within a second: dropped on the way, or an answer that may not cross a hop.
    TimedOut,
    /// There is no way to the address, as where a pod has no IPv6.
    Unreachable,
    /// Something else, which says nothing about the service.
    Unclear {
        /// What it was.
        reason: String,
    },
    /// It was not asked, since neither version answered before.
    NotAsked,
}

impl Outcome {
    /// Whether it is a successful answer that holds something of the node.
    const fn is_open(&self) -> bool {
        matches!(
            self,
            Self::Answered {
                status: 200..=299,
                by: By::Service | By::GuardInAudit,
            }
        )
    }

    /// Why nothing follows from it.
    fn unclear(&self) -> Option<String> {
        match self {
            Self::Unclear { reason } => Some(reason.clone()),
            Self::Answered { status, .. } if *status == 429 || *status >= 500 => Some(format!(
                "status {status}: throttled or failing, try again later"
            )),
            _ => None,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered { status, by } => {
                let by = match by {
                    By::Service => "",
                    By::GuardInAudit => " (guard, audit)",
                    By::Guard => " (guard)",
                };
                write!(f, "{status}{by}")
            }
            Self::Refused => f.write_str("refused"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Unreachable => f.write_str("no way there"),
            Self::Unclear { reason } => f.write_str(reason),
            Self::NotAsked => f.write_str("not asked"),
        }
    }
}

/// An answer, as far as the probe looks at it.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// What became of the request.
    pub outcome: Outcome,
    body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Reply {
    /// Without the body, which may be a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            body: Zeroizing::default(),
        }
    }
}

impl Reply {
    /// Reads an answer of HTTP/1, up to [`MAX_ANSWER`] bytes of it.
    #[must_use]
    pub fn parse(answer: &[u8]) -> Self {
        Self::read(answer).unwrap_or_else(|| {
            Self::from(Outcome::Unclear {
                reason: "what answers there does not speak HTTP".into(),
            })
        })
    }

    fn read(answer: &[u8]) -> Option<Self> {
        let answer = answer.get(..answer.len().min(MAX_ANSWER))?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(answer.get(..end)?).ok()?;
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        first
            .next()
            .filter(|version| matches!(*version, "HTTP/1.1" | "HTTP/1.0"))?;
        let status = first.next().filter(|status| status.len() == 3)?;
        let status: u16 = status.parse().ok().filter(|status| *status >= 100)?;
        let mut by = By::Service;
        let mut length = None;
        let mut is_chunked = false;
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            if name.eq_ignore_ascii_case(GUARD_HEADER) {
                by = if value == Mode::Audit.as_str() {
                    By::GuardInAudit
                } else {
                    By::Guard
                };
            } else if name.eq_ignore_ascii_case("content-length") {
                length = value.parse::<usize>().ok();
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                is_chunked = true;
            }
        }
        let mut body = answer.get(end.checked_add(4)?..).unwrap_or_default();
        if let Some(length) = length {
            body = body.get(..length).unwrap_or(body);
        }
        if is_chunked {
            // The service sends none; a name or a token is not guessed from one.
            body = &[];
        }
        Some(Self {
            outcome: Outcome::Answered { status, by },
            body: Zeroizing::new(body.to_vec()),
        })
    }

    /// The session token of an answer to [`Ask::Token`], if it can stand in a header.
    #[must_use]
    pub fn token(&self) -> Option<Zeroizing<String>> {
        let fits = (1..=MAX_TOKEN).contains(&self.body.len())
            && self.body.iter().all(u8::is_ascii_graphic)
            && matches!(self.outcome, Outcome::Answered { status: 200, .. });
        fits.then(|| Zeroizing::new(String::from_utf8_lossy(&self.body).into_owned()))
    }

    /// The first name of an answer to [`Ask::List`], if it can be the name of a role.
    #[must_use]
    pub fn role(&self) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
        let line = self.body.split(|byte| *byte == b'\n').next()?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let fits = (1..=64).contains(&line.len())
            && line.iter().copied().all(plain)
            && matches!(self.outcome, Outcome::Answered { status: 200, .. });
        fits.then(|| String::from_utf8_lossy(line).into_owned())
    }
}

/// What one address of the service gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// The address.
    pub address: IpAddr,
    /// A request without a token.
    pub version1: Outcome,
    /// A request for a token.
    pub token: Outcome,
    /// The list of roles.
    pub list: Outcome,
    /// The first name of the list, where it is the node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

impl Seen {
    /// Asks an address through `ask`, which sends [`Ask::request`] and reads the answer within a second.
    pub fn look(
        address: SocketAddr,
        mut ask: impl FnMut(SocketAddr, &Zeroizing<String>) -> Reply,
    ) -> Self {
        let mut send = |what: Ask, token: Option<&Zeroizing<String>>| {
            ask(address, &what.request(address.ip(), token))
        };
        let version1 = send(Ask::Version1, None);
        let given = send(Ask::Token, None);
        let token = given.token();
        let is_answered = |reply: &Reply| {
            matches!(
                reply.outcome,
                Outcome::Answered {
                    status: 200..=299,
                    ..
                }
            )
        };
        let list = if token.is_some() || is_answered(&version1) {
            send(Ask::List, token.as_ref())
        } else {
            Reply::from(Outcome::NotAsked)
        };
        Self {
            address: address.ip(),
            role: list.role().filter(|_| list.outcome.is_open()),
            version1: version1.outcome,
            token: given.outcome,
            list: list.outcome,
        }
    }
}

/// M1 to M4 of what was seen, and what could not be found out.
#[must_use]
pub fn findings(all: &[Seen]) -> (Vec<Finding>, Vec<String>) {
    const CLOSE: &str = "run the agent with `--imds block` or `--imds serve`; set HttpTokens to `required` and HttpPutResponseHopLimit to 1 as a second line";
    let mut findings = Vec::new();
    let mut unclear = Vec::new();
    for seen in all {
        let is_audit = [&seen.version1, &seen.token, &seen.list]
            .iter()
            .any(|outcome| {
                matches!(
                    outcome,
                    Outcome::Answered {
                        by: By::GuardInAudit,
                        ..
                    }
                )
            });
        let role = seen.role.as_deref();
        let named = role.map_or_else(String::new, |role| format!(" ({role})"));
        let texts = [
            (
                "M1",
                &seen.version1,
                "answers pods without a session token".to_owned(),
            ),
            ("M2", &seen.token, "gives session tokens to pods".to_owned()),
            (
                "M3",
                &seen.list,
                format!(
                    "lists the node's role{named} to pods: its credentials are one request further"
                ),
            ),
        ];
        for (check, outcome, text) in texts {
            if outcome.is_open() {
                findings.push(Finding {
                    check: if seen.address.is_ipv6() { "M4" } else { check },
                    subject: seen.address.to_string(),
                    text: if is_audit {
                        format!("{text}, through the guard, which is in `audit`")
                    } else {
                        text
                    },
                    fix: CLOSE.into(),
                });
            }
            if let Some(reason) = outcome.unclear() {
                let address = seen.address;
                unclear.push(format!("{check} at {address}: {reason}"));
            }
        }
    }
    (findings, unclear)
}

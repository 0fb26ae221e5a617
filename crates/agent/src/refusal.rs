//! Why a request gets no credentials: status, code and text for the pod, a label for the operator (agent spec, section 7.4).

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

/// Longest text of the auth service that is handed on.
const MAX_MESSAGE_CHARS: usize = 1024;

/// Why a request is refused. `Display` is the message that the pod gets; it has no token and no secret in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The path is another one than `/v1/credentials`.
    #[error("there is nothing at this path; credentials are at /v1/credentials")]
    Path,
    /// The method is neither GET nor HEAD.
    #[error("credentials are read with GET")]
    Method,
    /// Too many requests of one pod, of one address that has shown no accepted token yet, or in all.
    #[error("too many requests: {0}; try again in a second")]
    TooMany(Limit),
    /// The `Host` header is not an address of the agent.
    #[error(
        "called through an invalid address; the Host header must be 169.254.170.23 or [fd00:ec2::23]"
    )]
    Host,
    /// Somebody relays for somebody else.
    #[error(
        "the request was forwarded (header `{0}`); call the agent directly, and list 169.254.170.23 and [fd00:ec2::23] in NO_PROXY"
    )]
    Forwarded(&'static str),
    /// No service account token that could be read.
    #[error("the Authorization header must be the service account token and nothing else: {0}")]
    NotAToken(&'static str),
    /// The token ran out.
    #[error("the service account token has expired; read the token file again for every request")]
    Expired,
    /// The token is readable and not one that gets credentials.
    #[error("the service account token is not valid: {0}")]
    InvalidToken(&'static str),
    /// The token belongs to somebody else than the caller.
    #[error("the service account token is not the caller's: {0}")]
    WrongCaller(&'static str),
    /// Who calls cannot be checked yet, and must be.
    #[error("the agent does not know the pods of this node yet")]
    PodsUnknown,
    /// The auth service refused for good (section 5.1): the code and text are its own.
    #[error("{message}")]
    Final {
        /// Its error code.
        code: FinalCode,
        /// Its text, one line of at most 1024 characters.
        message: Box<str>,
    },
    /// The auth service calls the request itself wrong.
    #[error("the auth service refused the request: {0}")]
    Rejected(Box<str>),
    /// The auth service limits the agent.
    #[error("the auth service is throttling this node; try again in a second")]
    Throttled,
    /// The auth service cannot be had, and nothing is cached.
    #[error("the auth service cannot be reached at the moment, and no credentials are cached")]
    Unavailable,
    /// The agent's own fault, or its node's: the text says which, the log says why.
    #[error("the agent could not get credentials: {0}")]
    Internal(&'static str),
}

/// A limit of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Requests of one pod.
    Pod,
    /// Requests of one source address without a token that was accepted before.
    Address,
    /// Requests in all.
    Total,
    /// New tokens of one source address that would have to be shown to the auth service.
    NewTokens,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pod => "this pod is over its limit",
            Self::Address => "this address is over its limit",
            Self::Total => "the agent is over its limit",
            Self::NewTokens => "this address shows too many new tokens",
        })
    }
}

/// The error codes of EKS Auth after which asking again with the same token is useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinalCode {
    /// The role may not be assumed, or this node may not ask.
    AccessDenied,
    /// The token ran out.
    ExpiredToken,
    /// The token's signature, issuer, audience or bound object is wrong.
    InvalidToken,
    /// No association for the service account, or no such cluster.
    ResourceNotFound,
}

impl FinalCode {
    /// The code as the auth service writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDeniedException",
            Self::ExpiredToken => "ExpiredTokenException",
            Self::InvalidToken => "InvalidTokenException",
            Self::ResourceNotFound => "ResourceNotFoundException",
        }
    }

    /// The code of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::AccessDenied,
            Self::ExpiredToken,
            Self::InvalidToken,
            Self::ResourceNotFound,
        ]
        .into_iter()
        .find(|code| code.as_str() == name)
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::AccessDenied | Self::ExpiredToken | Self::InvalidToken => StatusCode::BAD_REQUEST,
            Self::ResourceNotFound => StatusCode::NOT_FOUND,
        }
    }
}

impl Refusal {
    /// A final refusal with a text that came from outside: made one line, and cut.
    #[must_use]
    pub fn of_upstream(code: FinalCode, message: &str) -> Self {
        let message = if message.is_empty() {
            "the auth service gave no reason".into()
        } else {
            one_line(message)
        };
        Self::Final { code, message }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooMany(_) | Self::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Self::Host | Self::Forwarded(_) | Self::WrongCaller(_) => StatusCode::FORBIDDEN,
            Self::NotAToken(_) | Self::Expired | Self::InvalidToken(_) | Self::Rejected(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Final { code, .. } => code.status(),
            Self::PodsUnknown | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The `code` of the body.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Path => "NotFound",
            Self::Method => "MethodNotAllowed",
            Self::TooMany(_) | Self::Throttled => "ThrottlingException",
            Self::Host | Self::Forwarded(_) | Self::WrongCaller(_) => "AccessDenied",
            Self::NotAToken(_) | Self::Rejected(_) => "InvalidRequest",
            Self::Expired => "ExpiredTokenException",
            Self::InvalidToken(_) => "InvalidTokenException",
            Self::Final { code, .. } => code.as_str(),
            Self::PodsUnknown | Self::Unavailable => "ServiceUnavailable",
            Self::Internal(_) => "InternalServerException",
        }
    }

    /// Which refusal it was, from a closed set: the label of metrics and events.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Method => "method",
            Self::TooMany(Limit::Pod) => "limit_pod",
            Self::TooMany(Limit::Address) => "limit_address",
            Self::TooMany(Limit::Total) => "limit_total",
            Self::TooMany(Limit::NewTokens) => "limit_new_tokens",
            Self::Host => "host",
            Self::Forwarded(_) => "forwarded",
            Self::NotAToken(_) => "not_a_token",
            Self::Expired => "expired",
            Self::InvalidToken(_) => "invalid_token",
            Self::WrongCaller(_) => "wrong_caller",
            Self::PodsUnknown => "pods_unknown",
            Self::Final { code, .. } => match code {
                FinalCode::AccessDenied => "upstream_access_denied",
                FinalCode::ExpiredToken => "upstream_expired_token",
                FinalCode::InvalidToken => "upstream_invalid_token",
                FinalCode::ResourceNotFound => "upstream_not_found",
            },
            Self::Rejected(_) => "upstream_rejected",
            Self::Throttled => "upstream_throttled",
            Self::Unavailable => "upstream_unavailable",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether the auth service refused this very token, so that another token of the same pod may be better.
    #[must_use]
    pub const fn is_about_the_token(&self) -> bool {
        matches!(
            self,
            Self::Final {
                code: FinalCode::ExpiredToken | FinalCode::InvalidToken,
                ..
            }
        )
    }

    /// Seconds after which the caller may try again, where that helps.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u32> {
        match self {
            Self::TooMany(_) | Self::Throttled | Self::PodsUnknown | Self::Unavailable => Some(1),
            Self::Path
            | Self::Method
            | Self::Host
            | Self::Forwarded(_)
            | Self::NotAToken(_)
            | Self::Expired
            | Self::InvalidToken(_)
            | Self::WrongCaller(_)
            | Self::Final { .. }
            | Self::Rejected(_)
            | Self::Internal(_) => None,
        }
    }

    /// The JSON body. The members stand in it twice, because SDKs differ in the letter case that they look for.
    #[must_use]
    pub fn body(&self, request_id: &str) -> Bytes {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(rename = "requestId")]
            request_id: &'a str,
            #[serde(rename = "Code")]
            upper_code: &'a str,
            #[serde(rename = "Message")]
            upper_message: &'a str,
        }
        let message: Cow<'_, str> = self.to_string().into();
        serde_json::to_vec(&Body {
            code: self.code(),
            message: &message,
            request_id,
            upper_code: self.code(),
            upper_message: &message,
        })
        .map_or_else(|_| Bytes::from_static(b"{}"), Bytes::from)
    }
}

/// A text from outside on one line, cut to 1024 characters, without control characters.
pub(crate) fn one_line(text: &str) -> Box<str> {
    text.chars()
        .take(MAX_MESSAGE_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .into()
}

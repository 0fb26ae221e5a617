//! What STS answers to a replayed token: an identity, or a class of failure (authentication spec, section 2.5).

use std::borrow::Cow;
use std::fmt;

use countersign_arn::{CallerIdentity, InvalidCaller, Partition};
use serde::Deserialize;

/// Longest answer that is read, 64 KiB; whoever reads the body stops there and reports [`StsError::body_too_large`].
pub const MAX_BODY: usize = 64 * 1024;

/// What is known about a replayed token before STS answers.
#[derive(Debug, Clone, Copy)]
pub struct Replayed<'a> {
    /// The configured partition; the answer's ARN must be of it.
    pub partition: Partition,
    /// The access key id of the token.
    pub access_key_id: &'a str,
    /// The STS host that was asked.
    pub sts_endpoint: &'a str,
    /// The region label of the token, for the error text.
    pub region: &'a str,
}

/// How a call to STS failed; drives HTTP status, metrics and what may be cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StsErrorClass {
    /// An answer that is neither 200 nor 4xx nor 5xx; redirects are not followed.
    Error,
    /// STS throttles; not the caller's fault.
    Throttled,
    /// No connection, a timeout, an unreadable body, or a 5xx.
    Unreachable,
    /// STS refused the credentials or the signature, with this code (a bounded identifier).
    Rejected(Cow<'static, str>),
    /// 200, but the answer does not name a caller of the configured partition.
    BadResponse,
}

impl fmt::Display for StsErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => f.write_str("sts_error"),
            Self::Throttled => f.write_str("sts_throttled"),
            Self::Unreachable => f.write_str("sts_unreachable"),
            Self::Rejected(code) => write!(f, "sts_rejected:{code}"),
            Self::BadResponse => f.write_str("sts_bad_response"),
        }
    }
}

/// STS did not name a caller.
///
/// The text holds the code and the request id, never the body: that is untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsError {
    class: StsErrorClass,
    text: Box<str>,
    request_id: Option<Box<str>>,
}

impl StsError {
    /// No answer: the connection or the reading of the body failed.
    #[must_use]
    pub fn unreachable(what: impl fmt::Display, region: &str) -> Self {
        Self {
            class: StsErrorClass::Unreachable,
            text: format!("error during GET: {what} on {region} endpoint").into(),
            request_id: None,
        }
    }

    /// The answer is longer than [`MAX_BODY`].
    #[must_use]
    pub fn body_too_large() -> Self {
        Self::bad_response("the answer is longer than 65536 bytes")
    }

    /// The class.
    #[must_use]
    pub fn class(&self) -> &StsErrorClass {
        &self.class
    }

    /// The id STS gave the request, to ask AWS about it.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Whether the same token would get the same answer for a while, so that it may be remembered for some seconds
    /// (authentication spec, section 11.4).
    #[must_use]
    pub fn is_definite(&self) -> bool {
        match &self.class {
            StsErrorClass::Rejected(code) => matches!(
                &**code,
                "SignatureDoesNotMatch" | "InvalidClientTokenId" | "ExpiredToken"
            ),
            StsErrorClass::Error
            | StsErrorClass::Throttled
            | StsErrorClass::Unreachable
            | StsErrorClass::BadResponse => false,
        }
    }

    fn bad_response(text: impl Into<Box<str>>) -> Self {
        Self {
            class: StsErrorClass::BadResponse,
            text: text.into(),
            request_id: None,
        }
    }
}

impl fmt::Display for StsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.class {
            StsErrorClass::Throttled => "sts getCallerIdentity was throttled",
            _ => "sts getCallerIdentity failed",
        };
        write!(f, "{prefix}: {}", self.text)
    }
}

impl std::error::Error for StsError {}

/// Reads an answer to a replayed GetCallerIdentity.
///
/// # Errors
/// Unless the status is 200 and the body names a caller of the configured partition whose account, ARN and user id agree.
pub fn parse_response(
    status: u16,
    body: &[u8],
    replayed: &Replayed<'_>,
) -> Result<CallerIdentity, StsError> {
    if status != 200 {
        return Err(failure(status, body, replayed.region));
    }
    if body.len() > MAX_BODY {
        return Err(StsError::body_too_large());
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|source| {
        let (line, column) = (source.line(), source.column());
        StsError::bad_response(format!(
            "the answer is not the JSON of GetCallerIdentity (line {line}, column {column})"
        ))
    })?;
    let result = answer.response.result;
    let request_id = answer
        .response
        .metadata
        .and_then(|metadata| identifier(&metadata.request_id));
    let refuse = |text: String| StsError {
        request_id: request_id.clone(),
        ..StsError::bad_response(text)
    };
    let identity = CallerIdentity::new(
        &result.arn,
        &result.account,
        &result.user_id,
        replayed.access_key_id,
        replayed.sts_endpoint,
    )
    .map_err(|invalid| refuse(printable(&invalid)))?;
    let partition = identity.caller().partition();
    if partition != replayed.partition {
        return Err(refuse(format!(
            "the caller is of partition {partition}, this verifier of {}",
            replayed.partition
        )));
    }
    Ok(identity)
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "GetCallerIdentityResponse")]
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    #[serde(rename = "GetCallerIdentityResult")]
    result: CallerFields,
    #[serde(rename = "ResponseMetadata")]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CallerFields {
    account: String,
    arn: String,
    user_id: String,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "RequestId", default)]
    request_id: String,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(rename = "Error")]
    error: ErrorFields,
    #[serde(rename = "RequestId", default)]
    request_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorFields {
    code: String,
    #[serde(default)]
    message: String,
}

/// Classifies an answer that is not 200.
fn failure(status: u16, body: &[u8], region: &str) -> StsError {
    let body = body.get(..MAX_BODY).unwrap_or(body);
    let (code, message, request_id) = match serde_json::from_slice::<ErrorAnswer>(body) {
        Ok(answer) => (
            identifier(&answer.error.code),
            answer.error.message,
            identifier(&answer.request_id),
        ),
        Err(_) => {
            let body = String::from_utf8_lossy(body);
            (
                element(&body, "Code").and_then(identifier),
                element(&body, "Message").unwrap_or_default().to_owned(),
                element(&body, "RequestId").and_then(identifier),
            )
        }
    };
    let known = code.as_deref().unwrap_or("Unknown");
    let throttled = contains(body, b"Throttling")
        || status == 429
        || matches!(
            known,
            "RequestLimitExceeded" | "TooManyRequestsException" | "SlowDown"
        )
        || (status == 503 && known == "ServiceUnavailable" && sounds_throttled(&message));
    let class = match status {
        _ if throttled => StsErrorClass::Throttled,
        400..=499 => StsErrorClass::Rejected(rejection(known)),
        500..=599 => StsErrorClass::Unreachable,
        _ => StsErrorClass::Error,
    };
    let request = request_id.as_deref().unwrap_or("none");
    StsError {
        class,
        text: format!(
            "error from AWS (expected 200, got {status}) on {region} endpoint. Code: {known}, request id: {request}"
        )
        .into(),
        request_id,
    }
}

/// Codes that are expected are shared; others are kept only in error values, never as metric labels.
fn rejection(code: &str) -> Cow<'static, str> {
    const EXPECTED: [&str; 9] = [
        "AccessDenied",
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidAction",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "Unknown",
    ];
    EXPECTED
        .into_iter()
        .find(|expected| *expected == code)
        .map_or_else(|| Cow::Owned(code.to_owned()), Cow::Borrowed)
}

/// `text` if it can be an error code or request id: letters, digits, dots, hyphens, at most 64.
fn identifier(text: &str) -> Option<Box<str>> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    fits.then(|| text.into())
}

/// The text of the first XML element of this name; some intermediaries answer XML whatever was asked for.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value)
}

fn sounds_throttled(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "throttl",
        "slow down",
        "rate exceeded",
        "reduce your request rate",
    ]
    .iter()
    .any(|words| message.contains(words))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

/// The error without control characters: it may quote what STS sent.
fn printable(invalid: &InvalidCaller) -> String {
    invalid
        .to_string()
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

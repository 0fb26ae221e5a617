//! Why a request was not authenticated, as data, and how each protocol says so (signature spec, sections 5 and 5.2).

use std::borrow::Cow;
use std::fmt;

use crate::encode::EscapeFault;
use crate::time::AmzDate;

/// The first check that failed. `Display` and `Debug` are for logs and carry nothing that was sent as a signature or
/// token; [`AuthError::wire`] is what the client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Step 1: the request line or the header block cannot be trusted to mean one thing.
    #[error("unusable request: {0}")]
    BadRequest(BadRequest),
    /// Step 2: a POST to a query service that is no form.
    #[error("content type of a POST is not a form")]
    ContentType,
    /// Step 3: neither GET nor POST, at a query service.
    #[error("method is neither GET nor POST")]
    Method,
    /// Step 4: a broken percent-escape in the query.
    #[error("broken percent-escape in the query")]
    MalformedQuery(EscapeFault),
    /// Step 5: an `Authorization` header and `X-Amz-Algorithm` in the query.
    #[error("header and query authentication in one request")]
    BothKinds,
    /// Steps 5 and 7a: no authentication of a kind we know.
    #[error("request is not signed")]
    Missing,
    /// Two `Authorization` headers that both claim to be ours.
    #[error("more than one AWS4 Authorization header")]
    RepeatedAuthorization,
    /// Step 6a: another scheme or algorithm.
    #[error("unsupported authorization scheme")]
    UnsupportedAlgorithm(Sensitive),
    /// Step 6b: a part of the header without `=`.
    #[error("a part of the Authorization header is no key=value pair")]
    NotKeyValue {
        /// The part.
        part: Sensitive,
        /// The whole header.
        header: Sensitive,
    },
    /// Step 6d: parts of the header kind are missing.
    #[error("incomplete header authentication, missing {0}")]
    HeaderIncomplete(Missing),
    /// Step 7d: parts of the query kind are missing.
    #[error("incomplete query authentication, missing {0}")]
    QueryIncomplete(Missing),
    /// Step 8: the host is not signed.
    #[error("host is not a signed header")]
    HostNotSigned,
    /// Step 8: `X-Amz-Date` gives the date and is not signed.
    #[error("x-amz-date is not a signed header")]
    DateNotSigned,
    /// Step 9: not a date.
    #[error("unreadable date `{0}`")]
    BadDate(String),
    /// Step 10: older than the clock skew allows.
    #[error("signed at {sent}, more than {minutes} minutes before {now}")]
    Expired {
        /// The date sent.
        sent: AmzDate,
        /// The oldest date accepted.
        limit: AmzDate,
        /// The server's time.
        now: AmzDate,
        /// The allowed skew.
        minutes: i64,
    },
    /// Step 11: further in the future than the clock skew allows.
    #[error("signed at {sent}, more than {minutes} minutes after {now}")]
    NotYetCurrent {
        /// The date sent.
        sent: AmzDate,
        /// The latest date accepted.
        limit: AmzDate,
        /// The server's time.
        now: AmzDate,
        /// The allowed skew.
        minutes: i64,
    },
    /// Step 12: the credential does not have five parts.
    #[error("credential does not have five parts")]
    CredentialParts(String),
    /// Step 13: the scope is for something else. At least one fault, in the order region, service, terminator, date.
    #[error("credential scope: {}", joined(.0))]
    Scope(Vec<ScopeFault>),
    /// Step 14a: the session token does not open or belongs to another key.
    #[error("session token is invalid")]
    TokenInvalid,
    /// Step 14b: the session is over.
    #[error("session token is expired")]
    TokenExpired,
    /// Step 15: no such active key, or a temporary key without its token.
    #[error("access key is unknown, inactive or lacks its session token")]
    KeyInvalid,
    /// Step 16: the signature is not that of this request under this key.
    #[error("signature does not match")]
    SignatureMismatch,
    /// S3: `x-amz-content-sha256` is not the hash of the body.
    #[error("x-amz-content-sha256 is not the hash of the body")]
    ContentSha256Mismatch,
    /// S3: `X-Amz-Expires` is missing, no number, or outside 1–604800.
    #[error("X-Amz-Expires is not a number from 1 to 604800")]
    BadExpires,
    /// S3: a presigned URL past its end.
    #[error("presigned request has expired")]
    PresignedExpired,
    /// S3: a presigned URL before its beginning.
    #[error("presigned request is not valid yet")]
    PresignedNotYetValid,
}

/// Why a request line or header block is refused before authentication (step 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// The path does not begin with `/`.
    #[error("request target is not a path")]
    Target,
    /// A broken percent-escape in the path.
    #[error("broken percent-escape in the path")]
    PathEscape,
    /// More `..` than segments.
    #[error("path climbs above the root")]
    ClimbsAboveRoot,
    /// An empty, `.` or `..` segment where [`PathRule::Plain`](crate::PathRule::Plain) holds.
    #[error("path has an empty, `.` or `..` segment")]
    PathSegment,
    /// A header that decides how the request is read, given twice.
    #[error("repeated header `{0}`")]
    RepeatedHeader(&'static str),
    /// An authentication parameter given twice, also in different letter case (in-process presigned tokens only).
    #[error("repeated parameter `{0}`")]
    RepeatedParameter(&'static str),
    /// More query parameters than an in-process presigned token can have.
    #[error("too many query parameters")]
    TooManyParameters,
}

/// Which parts of an authentication are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missing {
    /// `Credential`.
    pub credential: bool,
    /// `Signature`.
    pub signature: bool,
    /// `SignedHeaders`.
    pub signed_headers: bool,
    /// `X-Amz-Date`, or `Date` with the header kind.
    pub date: bool,
}

impl Missing {
    fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.credential, "Credential"),
            (self.signature, "Signature"),
            (self.signed_headers, "SignedHeaders"),
            (self.date, "Date"),
        ]
        .into_iter()
        .filter_map(|(missing, name)| missing.then_some(name))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

/// One fault of a credential scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeFault {
    /// Not a region this server takes.
    Region(String),
    /// Another service than the one that was addressed.
    Service {
        /// The signing name it should be.
        expected: String,
    },
    /// Something else than `aws4_request`.
    Terminator(String),
    /// Not the day of the date sent.
    Date {
        /// The date in the scope.
        scope: String,
        /// The date of the request.
        sent: AmzDate,
    },
}

impl fmt::Display for ScopeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(got) => write!(
                f,
                "Credential should be scoped to a valid region, not '{got}'."
            ),
            Self::Service { expected } => {
                write!(
                    f,
                    "Credential should be scoped to correct service: '{expected}'."
                )
            }
            Self::Terminator(got) => write!(
                f,
                "Credential should be scoped with a valid terminator: 'aws4_request', not '{got}'."
            ),
            Self::Date { scope, sent } => write!(
                f,
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{scope}' != '{}', from '{sent}'.",
                sent.day()
            ),
        }
    }
}

fn joined(faults: &[ScopeFault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Text of the client that may hold a credential: goes back to the client, never into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(pub(crate) String);

impl Sensitive {
    /// The text, for an answer to the client who sent it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// The wire protocols that name errors differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// AWS Query: `sts`, `iam`. Errors in XML.
    Query,
    /// REST-JSON: `eks`, `eks-auth`. The code goes into `x-amzn-ErrorType`.
    RestJson,
    /// JSON 1.1: `sso`, `identitystore`. The code goes into `__type` as well; every client fault is a 400.
    Json11,
    /// EC2's form of Query.
    Ec2,
    /// REST-XML: S3. Names as in Query.
    RestXml,
}

/// What a client is told: status, code and message. Rendering is the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    /// HTTP status.
    pub status: u16,
    /// Error code; empty for step 1, which is answered with an empty body.
    pub code: &'static str,
    /// Message; empty when header and query authentication come together, as AWS answers.
    pub message: Cow<'static, str>,
    /// Value of an `Allow` header to send with it.
    pub allow: Option<&'static str>,
}

/// The rows of the table of error names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    NoSignature,
    Incomplete,
    UnknownKey,
    SessionOver,
    Mismatch,
}

impl AuthError {
    /// Status, code and message in a protocol. For a failure before the service is known use the protocol of the
    /// route; on `/` without an action, [`Protocol::Query`].
    pub fn wire(&self, protocol: Protocol) -> WireError {
        let (status, code) = match self {
            Self::BadRequest(_) => (400, ""),
            Self::ContentType => (415, "InvalidContentType"),
            Self::Method => (405, "MethodNotAllowed"),
            Self::MalformedQuery(_) => (400, "MalformedQueryString"),
            Self::Missing => Row::NoSignature.wire(protocol),
            Self::RepeatedAuthorization
            | Self::UnsupportedAlgorithm(_)
            | Self::NotKeyValue { .. }
            | Self::HeaderIncomplete(_)
            | Self::QueryIncomplete(_)
            | Self::BadDate(_)
            | Self::CredentialParts(_) => Row::Incomplete.wire(protocol),
            Self::BothKinds
            | Self::HostNotSigned
            | Self::DateNotSigned
            | Self::Expired { .. }
            | Self::NotYetCurrent { .. }
            | Self::Scope(_)
            | Self::SignatureMismatch => Row::Mismatch.wire(protocol),
            Self::TokenInvalid | Self::KeyInvalid => Row::UnknownKey.wire(protocol),
            Self::TokenExpired => Row::SessionOver.wire(protocol),
            Self::ContentSha256Mismatch => (400, "XAmzContentSHA256Mismatch"),
            Self::BadExpires => (400, "AuthorizationQueryParametersError"),
            Self::PresignedExpired | Self::PresignedNotYetValid => (403, "AccessDenied"),
        };
        let allow = matches!(self, Self::Method).then_some("GET, POST");
        WireError {
            status,
            code,
            message: self.message(),
            allow,
        }
    }

    /// The message for the client, the same in every protocol.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::BadRequest(_) | Self::BothKinds => "".into(),
            Self::ContentType => "Content-Type of a POST must be application/x-www-form-urlencoded".into(),
            Self::Method => "The method must be GET or POST".into(),
            Self::MalformedQuery(EscapeFault::Incomplete) => "Incomplete trailing escape % sequence".into(),
            Self::MalformedQuery(EscapeFault::NotHex(bytes)) => {
                format!("Illegal hex character in escape % pattern: %{}", String::from_utf8_lossy(bytes)).into()
            }
            Self::Missing => "Request is missing Authentication Token".into(),
            Self::RepeatedAuthorization => {
                "Authorization header with an AWS 'algorithm' must not be repeated.".into()
            }
            Self::UnsupportedAlgorithm(got) => format!("Unsupported AWS 'algorithm': '{}'.", got.0).into(),
            Self::NotKeyValue { part, header } => format!(
                "'{}' not a valid key=value pair (missing equal-sign) in Authorization header: '{}'",
                part.0, header.0
            )
            .into(),
            Self::HeaderIncomplete(missing) => {
                let mut text: Vec<String> = Missing { date: false, ..*missing }
                    .names()
                    .map(|name| format!("Authorization header requires '{name}' parameter."))
                    .collect();
                if missing.date {
                    text.push(
                        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.".into(),
                    );
                }
                text.push("Authorization=AWS4-HMAC-SHA256".into());
                text.join(" ").into()
            }
            Self::QueryIncomplete(missing) => {
                let mut text: Vec<String> = missing
                    .names()
                    .map(|name| format!("AWS query-string parameters must include 'X-Amz-{name}'."))
                    .collect();
                text.push("Re-examine the query-string parameters.".into());
                text.join(" ").into()
            }
            Self::HostNotSigned => {
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".into()
            }
            Self::DateNotSigned => "'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization.".into(),
            Self::BadDate(got) => format!(
                "Date must be in ISO-8601 'basic format'. Got '{got}'. See http://en.wikipedia.org/wiki/ISO_8601"
            )
            .into(),
            Self::Expired { sent, limit, now, minutes } => {
                format!("Signature expired: {sent} is now earlier than {limit} ({now} - {minutes} min.)").into()
            }
            Self::NotYetCurrent { sent, limit, now, minutes } => {
                format!("Signature not yet current: {sent} is still later than {limit} ({now} + {minutes} min.)").into()
            }
            Self::CredentialParts(got) => format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{got}'"
            )
            .into(),
            Self::Scope(faults) => joined(faults).into(),
            // Without a full stop here and with one below: AWS says it so, and scripts compare.
            Self::TokenInvalid => "The security token included in the request is invalid".into(),
            Self::TokenExpired => "The security token included in the request is expired".into(),
            Self::KeyInvalid => "The security token included in the request is invalid.".into(),
            Self::SignatureMismatch => MISMATCH.into(),
            Self::ContentSha256Mismatch => {
                "The provided 'x-amz-content-sha256' header does not match what was computed.".into()
            }
            Self::BadExpires => "X-Amz-Expires must be a number of seconds from 1 to 604800".into(),
            Self::PresignedExpired => "Request has expired".into(),
            Self::PresignedNotYetValid => "Request is not valid yet".into(),
        }
    }
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS \
                        Secret Access Key and signing method. Consult the service documentation for details.";

/// The message of a mismatch with the texts that the server computed, as AWS appends them. Only for callers on the
/// loopback interface or when signature debugging is configured; neither text holds key material, but the canonical
/// request repeats the caller's own session token.
pub fn mismatch_with_strings(canonical_request: &str, string_to_sign: &str) -> String {
    format!(
        "{MISMATCH}\n\nThe Canonical String for this request should have been\n'{canonical_request}'\n\n\
         The String-to-Sign should have been\n'{string_to_sign}'\n"
    )
}

impl Row {
    fn wire(self, protocol: Protocol) -> (u16, &'static str) {
        use Protocol::{Ec2, Json11, Query, RestJson, RestXml};
        let json_code = match self {
            Self::NoSignature => "MissingAuthenticationTokenException",
            Self::Incomplete => "IncompleteSignatureException",
            Self::UnknownKey => "UnrecognizedClientException",
            Self::SessionOver => "ExpiredTokenException",
            Self::Mismatch => "InvalidSignatureException",
        };
        match (protocol, self) {
            (RestJson, _) => (403, json_code),
            (Json11, _) => (400, json_code),
            (Query | RestXml, Self::NoSignature) => (403, "MissingAuthenticationToken"),
            (Query | RestXml | Ec2, Self::Incomplete) => (400, "IncompleteSignature"),
            (Query | RestXml, Self::UnknownKey) => (403, "InvalidClientTokenId"),
            (Query | RestXml, Self::SessionOver) => (403, "ExpiredToken"),
            (Query | RestXml | Ec2, Self::Mismatch) => (403, "SignatureDoesNotMatch"),
            (Ec2, Self::NoSignature | Self::UnknownKey) => (401, "AuthFailure"),
            (Ec2, Self::SessionOver) => (400, "RequestExpired"),
        }
    }
}

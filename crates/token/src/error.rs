//! Why a token is refused: a stable reason code, a text the reference would print, and a class that drives the answer.

use std::fmt;

/// What kind of failure a refusal is; drives HTTP status, metric label and logging (authentication spec, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The token is malformed or not acceptable. Nothing was asked of anybody.
    Format,
}

impl Class {
    /// The name used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Format => "format",
        }
    }
}

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The rule of the authentication spec (tables 2.1 and 2.2) that a token broke; a closed set, fit for metric labels.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ReasonCode { $($(#[$doc])* $variant,)* }

        impl ReasonCode {
            /// Every code, in the order of the rules.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it appears in logs, metrics and `status.error`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

reason_codes! {
    /// V1: longer than `maxTokenBytes`.
    TokenTooLarge = "token_too_large",
    /// V2: no `k8s-aws-v1.` prefix.
    BadPrefix = "bad_prefix",
    /// V3: not unpadded base64url.
    BadBase64 = "bad_base64",
    /// V4 and V8: not a URL of printable ASCII, or one with userinfo, fragment or `;`.
    BadUrl = "bad_url",
    /// V5: the scheme is not `https`.
    BadScheme = "bad_scheme",
    /// V6: the host is no STS host of the partition (H1 to H6).
    BadHost = "bad_host",
    /// V7: the path is not `/`.
    BadPath = "bad_path",
    /// V9: an invalid percent escape in the query.
    BadQuery = "bad_query",
    /// V10: two names differ only in letter case.
    DuplicateParam = "duplicate_param",
    /// V11: a name that a presigned GetCallerIdentity does not have.
    ForbiddenParam = "forbidden_param",
    /// V12: a name occurs twice.
    MultiValue = "multi_value",
    /// V13: the action is not `GetCallerIdentity`.
    BadAction = "bad_action",
    /// V14: the cluster header is not signed.
    ClusterHeaderUnsigned = "cluster_header_unsigned",
    /// V15: `X-Amz-Expires` is not an integer from 0 to 900.
    BadExpires = "bad_expires",
    /// V16: `X-Amz-Date` is missing.
    MissingDate = "missing_date",
    /// V17: `X-Amz-Date` is not a timestamp.
    BadDate = "bad_date",
    /// V18: signed more than 15 minutes ago.
    Expired = "expired",
    /// V19: signed more than 5 minutes in the future.
    NotYetValid = "not_yet_valid",
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A token was refused by a local rule.
///
/// `Display` prints what the reference implementation prints, so that operators find known texts; it may quote a part of the
/// token's host, path or parameter names (cut to a bounded length), never a signature or a security token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenError {
    reason: ReasonCode,
    text: Box<str>,
}

impl TokenError {
    pub(crate) fn new(reason: ReasonCode, text: impl Into<Box<str>>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }

    /// The rule that was broken.
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        self.reason
    }

    /// The text without the common prefix.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The class of the failure; every local rule is [`Class::Format`].
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Format
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input token was not properly formatted: {}", self.text)
    }
}

impl std::error::Error for TokenError {}

/// At most 256 characters of untrusted text, so that an error never carries a whole token.
pub(crate) fn shown(text: &str) -> String {
    const MAX: usize = 256;
    let mut cut: String = text.chars().take(MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// [`shown`] in double quotes, with quotes, backslashes and control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in shown(text).chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

//! The six fields of an ARN.

use std::fmt;

/// Longest ARN accepted anywhere (IAM's own limit for ARN parameters).
const MAX_LEN: usize = 2048;

/// An ARN split at its first five colons, borrowed from the text it was parsed from.
///
/// Fields may be empty: `arn:aws:iam::aws:policy/ReadOnlyAccess` has no region. The resource keeps its own colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arn<'a> {
    /// `aws`, `aws-cn`, ...; not checked against the known partitions.
    pub partition: &'a str,
    /// `iam`, `sts`, `eks`, ...
    pub service: &'a str,
    /// Empty for global services.
    pub region: &'a str,
    /// Twelve digits, empty, or `aws`; not checked here.
    pub account: &'a str,
    /// Everything behind the fifth colon.
    pub resource: &'a str,
}

/// Why a text is not an ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseArnError {
    /// The text does not begin with `arn:`.
    #[error("an ARN begins with `arn:`")]
    Prefix,
    /// Fewer than six fields.
    #[error(
        "an ARN has six fields separated by colons: arn:partition:service:region:account:resource"
    )]
    TooFewFields,
    /// Longer than 2,048 bytes.
    #[error("an ARN has at most 2048 characters")]
    TooLong,
    /// A space or control character.
    #[error("an ARN contains no white space or control characters")]
    Character,
}

impl<'a> Arn<'a> {
    /// Splits `text` into its six fields.
    ///
    /// # Errors
    /// When the text has another prefix, fewer fields, white space, or is too long.
    pub fn parse(text: &'a str) -> Result<Self, ParseArnError> {
        if text.len() > MAX_LEN {
            return Err(ParseArnError::TooLong);
        }
        let rest = text.strip_prefix("arn:").ok_or(ParseArnError::Prefix)?;
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(ParseArnError::Character);
        }
        let mut fields = rest.splitn(5, ':');
        let mut next = || fields.next().ok_or(ParseArnError::TooFewFields);
        Ok(Self {
            partition: next()?,
            service: next()?,
            region: next()?,
            account: next()?,
            resource: next()?,
        })
    }
}

impl fmt::Display for Arn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            service,
            region,
            account,
            resource,
        } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

//! Paths of the metadata service, normalised before anything is decided (imds spec, section 5.4).

use std::fmt;

/// Longest path that is looked at. The longest useful one names a role by its ARN, percent-encoded.
pub const MAX_PATH_BYTES: usize = 4096;

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathFault {
    /// Longer than [`MAX_PATH_BYTES`].
    #[error("the path is longer than 4096 bytes")]
    TooLong,
    /// Does not begin with a slash.
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits.
    #[error("the path has a `%` that is not followed by two hexadecimal digits")]
    Escape,
    /// Something other than printable ASCII, before or after decoding.
    #[error("the path has a character that is not printable ASCII")]
    Character,
    /// A segment `.` or `..`.
    #[error("the path has a segment `.` or `..`")]
    Dots,
}

/// The first segment of a metadata path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// `latest`.
    Latest,
    /// `1.0`, or a date such as `2021-03-23`; which dates exist is not known here, and all mean the same.
    Dated(Box<str>),
}

/// A path after decoding and collapsing: what every decision is a function of.
///
/// Percent-decoded once, so that what is still encoded afterwards is taken literally; empty segments dropped, so that `//` and a
/// slash at the end make no difference; never with a segment `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The version, if the first segment is one.
    pub version: Option<Version>,
    segments: Vec<Box<str>>,
    slash: bool,
}

impl Path {
    /// Normalises the path of a request, without its query.
    ///
    /// # Errors
    /// When it is too long, malformed, or tries to climb.
    pub fn normalise(raw: &str) -> Result<Self, PathFault> {
        if raw.len() > MAX_PATH_BYTES {
            return Err(PathFault::TooLong);
        }
        if !raw.starts_with('/') {
            return Err(PathFault::NotAbsolute);
        }
        let decoded = decode(raw)?;
        let mut segments: Vec<Box<str>> = Vec::new();
        for segment in decoded.split('/').filter(|segment| !segment.is_empty()) {
            if matches!(segment, "." | "..") {
                return Err(PathFault::Dots);
            }
            segments.push(segment.into());
        }
        let version = segments.first().and_then(|first| Version::read(first));
        if version.is_some() {
            segments.remove(0);
        }
        Ok(Self {
            version,
            segments,
            slash: decoded.ends_with('/'),
        })
    }

    /// The segments behind the version; all of them when there is none.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(|segment| &**segment)
    }

    /// Whether the segments behind the version are exactly these.
    #[must_use]
    pub fn is(&self, segments: &[&str]) -> bool {
        self.segments().eq(segments.iter().copied())
    }

    /// What stands behind these first segments, or `None` when it begins with others.
    #[must_use]
    pub fn below(&self, segments: &[&str]) -> Option<&[Box<str>]> {
        let (head, rest) = self.segments.split_at_checked(segments.len())?;
        let same = head
            .iter()
            .zip(segments)
            .all(|(own, wanted)| &**own == *wanted);
        same.then_some(rest)
    }
}

impl Version {
    fn read(segment: &str) -> Option<Self> {
        match segment {
            "latest" => Some(Self::Latest),
            "1.0" => Some(Self::Dated(segment.into())),
            _ => is_date(segment).then(|| Self::Dated(segment.into())),
        }
    }

    /// As it stands in a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Latest => "latest",
            Self::Dated(date) => date,
        }
    }
}

/// The path written anew: every segment encoded strictly, nothing of the raw form left.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_ref().map(Version::as_str);
        for segment in version.into_iter().chain(self.segments()) {
            f.write_str("/")?;
            for byte in segment.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
                    write!(f, "{}", char::from(byte))?;
                } else {
                    write!(f, "%{byte:02X}")?;
                }
            }
        }
        if self.slash {
            f.write_str("/")?;
        }
        Ok(())
    }
}

fn decode(raw: &str) -> Result<String, PathFault> {
    let mut decoded = String::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return Err(PathFault::Escape);
            };
            u8::try_from(high * 16 + low).map_err(|_| PathFault::Escape)?
        } else {
            byte
        };
        if !(byte.is_ascii_graphic() || byte == b' ') {
            return Err(PathFault::Character);
        }
        decoded.push(char::from(byte));
    }
    Ok(decoded)
}

/// `2021-03-23`.
fn is_date(segment: &str) -> bool {
    segment.len() == 10
        && segment.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

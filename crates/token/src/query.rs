//! Rules V9 to V12: the nine parameters of a presigned GetCallerIdentity, each once.

use std::borrow::Cow;

use crate::error::{ReasonCode, TokenError, quoted};

/// A parameter that the query may have; names compare without regard to letter case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parameter {
    /// `Action`
    Action,
    /// `Version`
    Version,
    /// `X-Amz-Algorithm`
    Algorithm,
    /// `X-Amz-Credential`
    Credential,
    /// `X-Amz-Date`
    Date,
    /// `X-Amz-Expires`
    Expires,
    /// `X-Amz-Security-Token`
    SecurityToken,
    /// `X-Amz-Signature`
    Signature,
    /// `X-Amz-SignedHeaders`
    SignedHeaders,
}

impl Parameter {
    const ALL: [(Self, &'static [u8]); 9] = [
        (Self::Action, b"action"),
        (Self::Version, b"version"),
        (Self::Algorithm, b"x-amz-algorithm"),
        (Self::Credential, b"x-amz-credential"),
        (Self::Date, b"x-amz-date"),
        (Self::Expires, b"x-amz-expires"),
        (Self::SecurityToken, b"x-amz-security-token"),
        (Self::Signature, b"x-amz-signature"),
        (Self::SignedHeaders, b"x-amz-signedheaders"),
    ];

    /// The parameter that the raw (still escaped) name means.
    fn of_raw_name(raw: &str) -> Option<Self> {
        let bytes = raw.as_bytes();
        let named = |matches: &dyn Fn(&[u8]) -> bool| {
            Self::ALL
                .iter()
                .find_map(|(parameter, name)| matches(name).then_some(*parameter))
        };
        if is_escaped(raw) {
            named(&|name| {
                decoded_bytes(raw)
                    .map(|b| b.to_ascii_lowercase())
                    .eq(name.iter().copied())
            })
        } else {
            named(&|name| bytes.eq_ignore_ascii_case(name))
        }
    }
}

/// Where in the raw query a value stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

/// Where the values of the nine parameters stand in the raw query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parameters([Option<Span>; 9]);

impl Parameters {
    /// Reads the raw query.
    ///
    /// CVE-2022-2385 was a verifier that folded names into a map and let letter case decide which of two values counts: every
    /// second occurrence is refused here, whatever its spelling.
    pub(crate) fn parse(query: &str) -> Result<Self, TokenError> {
        if !escapes_are_valid(query) {
            return Err(TokenError::new(
                ReasonCode::BadQuery,
                "malformed query parameter",
            ));
        }
        let mut found = Self::default();
        let mut clean = true;
        for (name, value) in pairs(query) {
            let slot = Parameter::of_raw_name(name).and_then(|p| found.0.get_mut(p as usize));
            match slot {
                Some(slot @ None) => *slot = Some(span_of(query, value)),
                _ => clean = false,
            }
        }
        if clean {
            Ok(found)
        } else {
            Err(first_violation(query))
        }
    }

    /// The value as it stands in the query, percent escapes and all; empty if the parameter is absent.
    pub(crate) fn raw<'q>(&self, query: &'q str, parameter: Parameter) -> &'q str {
        self.0
            .get(parameter as usize)
            .copied()
            .flatten()
            .and_then(|Span { start, end }| query.get(start as usize..end as usize))
            .unwrap_or("")
    }

    pub(crate) fn has(&self, parameter: Parameter) -> bool {
        self.0.get(parameter as usize).is_some_and(Option::is_some)
    }
}

/// The pairs of a query; empty pairs are skipped, a pair without `=` has an empty value.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn span_of(query: &str, value: &str) -> Span {
    // INVARIANT: `value` is a part of `query`, and a query is no longer than a token, which is at most 64 KiB.
    let start = (value.as_ptr() as usize).wrapping_sub(query.as_ptr() as usize);
    Span {
        start: u32::try_from(start).unwrap_or(u32::MAX),
        end: u32::try_from(start + value.len()).unwrap_or(u32::MAX),
    }
}

/// Which of V10, V11, V12 comes first; each rule looks at the whole query before the next. O(n log n), on the error path only.
fn first_violation(query: &str) -> TokenError {
    let names: Vec<Vec<u8>> = pairs(query)
        .map(|(name, _)| decoded_bytes(name).collect())
        .collect();
    let mut sorted: Vec<(Vec<u8>, usize)> = names
        .iter()
        .map(|name| name.to_ascii_lowercase())
        .zip(0..)
        .collect();
    sorted.sort_unstable();
    let same_name = sorted
        .windows(2)
        .filter_map(|pair| match pair {
            [(a, i), (b, j)] if a == b => Some((*i, *j)),
            _ => None,
        })
        .filter_map(|(i, j)| Some((names.get(i)?, names.get(j)?, j)));
    if let Some((_, name, _)) = same_name
        .clone()
        .filter(|(a, b, _)| a != b)
        .min_by_key(|(_, _, position)| *position)
    {
        return TokenError::new(
            ReasonCode::DuplicateParam,
            format!("duplicate query parameter found: {}", quoted_name(name)),
        );
    }
    let forbidden = pairs(query)
        .zip(&names)
        .find(|((raw, _), _)| Parameter::of_raw_name(raw).is_none());
    match forbidden {
        Some((_, name)) => TokenError::new(
            ReasonCode::ForbiddenParam,
            format!("non-whitelisted query parameter {}", quoted_name(name)),
        ),
        None => TokenError::new(
            ReasonCode::MultiValue,
            "query parameter with multiple values not supported",
        ),
    }
}

fn quoted_name(name: &[u8]) -> String {
    quoted(&String::from_utf8_lossy(name))
}

/// Every `%` is followed by two hex digits.
pub(crate) fn escapes_are_valid(text: &str) -> bool {
    text.match_indices('%').all(|(at, _)| {
        matches!(
            text.as_bytes().get(at + 1..at + 3),
            Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()
        )
    })
}

/// Whether decoding changes anything.
fn is_escaped(raw: &str) -> bool {
    raw.bytes().any(|b| matches!(b, b'%' | b'+'))
}

/// The bytes that a part of a query means: `%XX` is a byte, `+` a space.
pub(crate) fn decoded_bytes(raw: &str) -> impl Iterator<Item = u8> {
    let mut rest = raw.as_bytes();
    std::iter::from_fn(move || match *rest {
        [b'%', a, b, ref tail @ ..] => {
            rest = tail;
            let digit = |d: u8| char::from(d).to_digit(16).unwrap_or(0);
            u8::try_from(digit(a) * 16 + digit(b)).ok()
        }
        [b'+', ref tail @ ..] => {
            rest = tail;
            Some(b' ')
        }
        [byte, ref tail @ ..] => {
            rest = tail;
            Some(byte)
        }
        [] => None,
    })
}

/// [`decoded_bytes`] as text; borrowed if nothing is escaped. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn decoded(raw: &str) -> Cow<'_, str> {
    if is_escaped(raw) {
        let bytes: Vec<u8> = decoded_bytes(raw).collect();
        Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
    } else {
        Cow::Borrowed(raw)
    }
}

/// Whether the escaped `raw` means exactly `text`, without allocating.
pub(crate) fn means(raw: &str, text: &str) -> bool {
    raw == text || decoded_bytes(raw).eq(text.bytes())
}

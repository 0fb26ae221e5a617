//! The canonical request and the string to sign (signature spec, sections 2 and 3).
//!
//! ```text
//! METHOD \n CanonicalURI \n CanonicalQuery \n name1:value1 \n name2:value2 \n \n SignedHeaders \n PayloadHash
//! ```
//!
//! Every part is a function that writes into a [`Sink`]: verifier, signer, explanation and the in-process fast path
//! share them, so that a request cannot be canonical in one and not in another.

use std::cmp::Ordering;

use memchr::memchr;

use crate::crypto::{DIGEST, HEX, hex};
use crate::encode::{
    EscapeFault, Plus, Sink, Slash, check_escapes, compare_recoded, encode, recode,
};
use crate::error::BadRequest;
use crate::policy::PathRule;
use crate::request::Request;

/// The only algorithm there is. SigV4A is answered like any unknown algorithm.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// One query parameter, raw. A part without `=` has the empty value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Param<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Splits a raw query at `&`, skipping empty parts.
pub(crate) fn params(query: &[u8]) -> impl Iterator<Item = Param<'_>> {
    let mut rest = query;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (part, tail) = cut(rest, b'&');
            rest = tail;
            if !part.is_empty() {
                let (name, value) = cut(part, b'=');
                return Some(Param { name, value });
            }
        }
        None
    })
}

/// What is before and behind the first `mark`; all and nothing if there is none.
fn cut(text: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let at = memchr(mark, text).unwrap_or(text.len());
    let (before, behind) = text.split_at(at);
    (before, behind.get(1..).unwrap_or_default())
}

impl Param<'_> {
    pub(crate) fn check_escapes(&self) -> Result<(), EscapeFault> {
        check_escapes(self.name).and_then(|()| check_escapes(self.value))
    }

    fn order(&self, other: &Self) -> Ordering {
        compare_recoded(self.name, other.name)
            .then_with(|| compare_recoded(self.value, other.value))
    }
}

/// Sorts by encoded name, then encoded value.
pub(crate) fn sort(params: &mut [Param<'_>]) {
    params.sort_unstable_by(Param::order);
}

/// Writes `name=value` pairs joined with `&`, in the order given.
pub(crate) fn write_query<'a>(params: impl Iterator<Item = Param<'a>>, out: &mut impl Sink) {
    for (i, param) in params.enumerate() {
        if i > 0 {
            out.put(b"&");
        }
        recode(param.name, Plus::Blank, Slash::Encode, out);
        out.put(b"=");
        recode(param.value, Plus::Blank, Slash::Encode, out);
    }
}

/// Step 1 for the path: it is one, its escapes are whole, and it stays below the root.
pub(crate) fn check_path(path: &[u8], rule: PathRule) -> Result<(), BadRequest> {
    if !path.is_empty() && !path.starts_with(b"/") {
        return Err(BadRequest::Target);
    }
    check_escapes(path).map_err(|_| BadRequest::PathEscape)?;
    let mut depth = 0usize;
    for segment in path.split(|b| *b == b'/') {
        match segment {
            b"" | b"." => {}
            b".." if rule == PathRule::Single => {}
            b".." => depth = depth.checked_sub(1).ok_or(BadRequest::ClimbsAboveRoot)?,
            _ => depth += 1,
        }
    }
    if rule == PathRule::Plain && !is_plain(path) {
        Err(BadRequest::PathSegment)
    } else {
        Ok(())
    }
}

/// No `.` or `..` segment and no empty one but the last.
fn is_plain(path: &[u8]) -> bool {
    let Some(inner) = path.strip_prefix(b"/") else {
        return path.is_empty();
    };
    let inner = inner
        .strip_suffix(b"/")
        .filter(|rest| !rest.is_empty())
        .unwrap_or(inner);
    inner.is_empty()
        || inner
            .split(|b| *b == b'/')
            .all(|s| !matches!(s, b"" | b"." | b".."))
}

/// Writes the canonical URI.
pub(crate) fn write_path(path: &[u8], rule: PathRule, out: &mut impl Sink) {
    let path = if path.is_empty() { b"/" } else { path };
    match rule {
        PathRule::Single => recode(path, Plus::Literal, Slash::Keep, out),
        PathRule::Plain | PathRule::AsSent => encode(path, Slash::Keep, out),
        PathRule::Normalise if is_plain(path) => encode(path, Slash::Keep, out),
        PathRule::Normalise => write_normalised(path, out),
    }
}

fn write_normalised(path: &[u8], out: &mut impl Sink) {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|b| *b == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    for segment in &kept {
        out.put(b"/");
        encode(segment, Slash::Keep, out);
    }
    if kept.is_empty() || path.ends_with(b"/") {
        out.put(b"/");
    }
}

/// Writes one `name:value\n` line: the values of all field lines of that name, each trimmed and with runs of white
/// space collapsed (also inside quotes, as clients do), joined with `,`.
pub(crate) fn write_header<'a>(
    name: &str,
    values: impl Iterator<Item = &'a [u8]>,
    out: &mut impl Sink,
) {
    out.put(name.as_bytes());
    out.put(b":");
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.put(b",");
        }
        let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
        for (j, word) in value
            .split(blank)
            .filter(|word| !word.is_empty())
            .enumerate()
        {
            if j > 0 {
                out.put(b" ");
            }
            out.put(word);
        }
    }
    out.put(b"\n");
}

/// What a canonical request is made of, once the choices are made.
pub(crate) struct Parts<'p, 'r> {
    pub(crate) request: &'p Request<'r>,
    pub(crate) path_rule: PathRule,
    /// Sorted, without the signature.
    pub(crate) params: &'p [Param<'p>],
    /// `SignedHeaders` as received: a list that is not sorted or not lower-case is not repaired, so that a sloppy
    /// client that is consistent still verifies.
    pub(crate) signed_headers: &'p str,
    pub(crate) payload: &'p [u8],
}

impl Parts<'_, '_> {
    pub(crate) fn write(&self, out: &mut impl Sink) {
        out.put(self.request.method.as_bytes());
        out.put(b"\n");
        write_path(self.request.path, self.path_rule, out);
        out.put(b"\n");
        write_query(self.params.iter().copied(), out);
        out.put(b"\n");
        for name in self.signed_headers.split(';') {
            write_header(name, self.request.lines(name), out);
        }
        out.put(b"\n");
        out.put(self.signed_headers.as_bytes());
        out.put(b"\n");
        out.put(self.payload);
    }
}

/// The pieces of the string to sign; joined they are four lines without a final newline.
pub(crate) struct StringToSign<'a> {
    pub(crate) amz_date: &'a str,
    pub(crate) date: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    pub(crate) hash: [u8; HEX],
}

impl<'a> StringToSign<'a> {
    pub(crate) fn new(
        amz_date: &'a str,
        (date, region, service): (&'a str, &'a str, &'a str),
        hash: [u8; DIGEST],
    ) -> Self {
        Self {
            amz_date,
            date,
            region,
            service,
            hash: hex(&hash),
        }
    }

    pub(crate) fn pieces(&self) -> [&[u8]; 11] {
        [
            ALGORITHM.as_bytes(),
            b"\n",
            self.amz_date.as_bytes(),
            b"\n",
            self.date.as_bytes(),
            b"/",
            self.region.as_bytes(),
            b"/",
            self.service.as_bytes(),
            b"/aws4_request\n",
            &self.hash,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(raw: &str, rule: PathRule) -> String {
        let mut out = Vec::new();
        write_path(raw.as_bytes(), rule, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dot_and_empty_segments_are_normalised_away() {
        for (raw, want) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/./", "/"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("//a//b/./../c/", "/a/c/"),
            ("/a/.", "/a"),
            ("/%2e%2e/", "/%252e%252e/"),
        ] {
            assert_eq!(path(raw, PathRule::Normalise), want, "{raw}");
        }
    }

    #[test]
    fn s3_paths_are_encoded_once() {
        assert_eq!(
            path("/a%20b/./c+d%2f%7e", PathRule::Single),
            "/a%20b/./c%2Bd/~"
        );
        assert_eq!(path("//a/../%41", PathRule::AsSent), "//a/../%2541");
    }

    #[test]
    fn paths_that_routes_and_signers_could_read_differently_are_refused() {
        for (raw, want) in [
            ("/a//b", BadRequest::PathSegment),
            ("//", BadRequest::PathSegment),
            ("/a/./b", BadRequest::PathSegment),
            ("/a/..", BadRequest::PathSegment),
            ("/..", BadRequest::ClimbsAboveRoot),
            ("/a/../../b", BadRequest::ClimbsAboveRoot),
            ("a/b", BadRequest::Target),
            ("*", BadRequest::Target),
            ("/%zz", BadRequest::PathEscape),
        ] {
            assert_eq!(
                check_path(raw.as_bytes(), PathRule::Plain),
                Err(want),
                "{raw}"
            );
        }
        for raw in ["", "/", "/a", "/a/", "/a/b..c/.d"] {
            assert_eq!(check_path(raw.as_bytes(), PathRule::Plain), Ok(()), "{raw}");
        }
        assert_eq!(check_path(b"//a/../b", PathRule::Normalise), Ok(()));
        assert_eq!(
            check_path(b"/..", PathRule::Normalise),
            Err(BadRequest::ClimbsAboveRoot)
        );
    }

    #[test]
    fn header_values_are_trimmed_collapsed_unfolded_and_joined() {
        let mut out = Vec::new();
        let values: [&[u8]; 3] = [b"  a   \"b  c\" ", b"", b"d\r\n  e\tf"];
        write_header("x-h", values.into_iter(), &mut out);
        assert_eq!(out, b"x-h:a \"b c\",,d e f\n");
    }
}

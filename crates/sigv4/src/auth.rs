//! Finding and reading the authentication of a request: steps 1–7 of the order of checks.

use std::borrow::Cow;

use crate::canonical::{ALGORITHM, Param, check_path, params};
use crate::encode::{Plus, decode, decoded};
use crate::error::{AuthError, BadRequest, Missing, Protocol, Sensitive};
use crate::policy::ServicePolicy;
use crate::request::Request;

/// What kind of authentication a request carries, right or wrong.
///
/// For operations that need none: a request that offers [`Offered::Nothing`] may be let through to them. Anything else
/// must be verified, unless the operation ignores signatures (AssumeRoleWithWebIdentity, AssumeRoleWithSAML).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// Neither an `Authorization` header nor `X-Amz-Algorithm` in the query. Parameters in a form body do not count.
    Nothing,
    /// An `Authorization` header, of whatever scheme.
    Header,
    /// `X-Amz-Algorithm` in the query.
    Query,
    /// Header and query at once, which is refused.
    Both,
}

impl Offered {
    /// Looks at a request without judging it.
    pub fn by(request: &Request<'_>) -> Self {
        let query = params(request.query_bytes()).any(|p| is_named(&p, ALGORITHM_PARAM));
        match (request.first("authorization").is_some(), query) {
            (false, false) => Self::Nothing,
            (true, false) => Self::Header,
            (false, true) => Self::Query,
            (true, true) => Self::Both,
        }
    }
}

/// How a verified request was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `Authorization` header.
    Header,
    /// Presigned URL.
    Query,
}

pub(crate) const ALGORITHM_PARAM: &str = "X-Amz-Algorithm";
pub(crate) const CREDENTIAL_PARAM: &str = "X-Amz-Credential";
pub(crate) const DATE_PARAM: &str = "X-Amz-Date";
pub(crate) const EXPIRES_PARAM: &str = "X-Amz-Expires";
pub(crate) const SIGNED_HEADERS_PARAM: &str = "X-Amz-SignedHeaders";
pub(crate) const SIGNATURE_PARAM: &str = "X-Amz-Signature";
pub(crate) const TOKEN_PARAM: &str = "X-Amz-Security-Token";

/// The parts of an authentication as sent; nothing is judged yet but their presence.
pub(crate) struct Claims<'r> {
    pub(crate) kind: Kind,
    pub(crate) credential: Cow<'r, str>,
    pub(crate) signed_headers: Cow<'r, str>,
    pub(crate) signature: Cow<'r, [u8]>,
    pub(crate) date: DateText<'r>,
    pub(crate) token: Option<Cow<'r, str>>,
    pub(crate) expires: Option<Cow<'r, [u8]>>,
}

/// Where the date was found, and its text.
pub(crate) enum DateText<'r> {
    Amz(Cow<'r, [u8]>),
    Http(&'r [u8]),
}

/// Steps 1–4, for operations that need no signature; [`Parsed::from_request`](crate::Parsed::from_request) includes
/// them. Refuses what could be read in two ways, such as repeated headers, and for query services other methods and
/// content types. A POST with an empty content type passes: the form parser judges the body.
pub fn check_request(request: &Request<'_>, policy: &ServicePolicy) -> Result<(), AuthError> {
    check_path(request.path, policy.paths).map_err(AuthError::BadRequest)?;
    check_repeated(request).map_err(AuthError::BadRequest)?;
    if policy.protocol == Protocol::Query {
        if request.method == "POST" && !is_form(request.first("content-type").unwrap_or_default()) {
            return Err(AuthError::ContentType);
        }
        if !matches!(request.method, "GET" | "POST") {
            return Err(AuthError::Method);
        }
    }
    params(request.query_bytes())
        .try_for_each(|p| p.check_escapes())
        .map_err(AuthError::MalformedQuery)
}

/// Headers that decide what a request is, or who sent it: two of them, and two parsers may pick different ones.
fn check_repeated(request: &Request<'_>) -> Result<(), BadRequest> {
    const ONCE: [&str; 6] = [
        "host",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-content-sha256",
        "content-length",
        ":authority",
    ];
    let mut seen: [Option<&[u8]>; ONCE.len()] = [None; ONCE.len()];
    for (name, value) in request.headers {
        for (once, seen) in ONCE.iter().zip(&mut seen) {
            if name.eq_ignore_ascii_case(once) && seen.replace(value).is_some() {
                return Err(BadRequest::RepeatedHeader(once));
            }
        }
    }
    match seen {
        [Some(host), .., Some(authority)] if host != authority => {
            Err(BadRequest::RepeatedHeader("host"))
        }
        _ => Ok(()),
    }
}

fn is_form(content_type: &[u8]) -> bool {
    let media_type = content_type
        .split(|b| *b == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    media_type.is_empty() || media_type.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// Whether a parameter has this name once decoded. Letter case counts.
pub(crate) fn is_named(param: &Param<'_>, name: &str) -> bool {
    param.name == name.as_bytes()
        || (param.name.contains(&b'%') && decoded(param.name, Plus::Blank).eq(name.bytes()))
}

/// Steps 5–7.
pub(crate) fn read_claims<'r>(request: &Request<'r>) -> Result<Claims<'r>, AuthError> {
    match Offered::by(request) {
        Offered::Nothing => Err(AuthError::Missing),
        Offered::Both => Err(AuthError::BothKinds),
        Offered::Header => from_header(request),
        Offered::Query => from_query(request),
    }
}

fn from_header<'r>(request: &Request<'r>) -> Result<Claims<'r>, AuthError> {
    let mut ours = request
        .lines("authorization")
        .filter(|line| line.trim_ascii_start().starts_with(b"AWS4-"));
    let line = match (ours.next(), ours.next()) {
        (Some(_), Some(_)) => return Err(AuthError::RepeatedAuthorization),
        (Some(line), None) => line,
        (None, _) => request.first("authorization").unwrap_or_default(),
    };
    let header = utf8(line.trim_ascii());
    let parts = HeaderParts::read(&header)?;

    let amz_date = request.first("x-amz-date");
    let http_date = request.first("date");
    let missing = Missing {
        credential: parts.credential.is_none(),
        signature: parts.signature.is_none(),
        signed_headers: parts.signed_headers.is_none(),
        date: amz_date.is_none() && http_date.is_none(),
    };
    let (Some(credential), Some(signature), Some(signed_headers), Some(date)) = (
        parts.credential,
        parts.signature,
        parts.signed_headers,
        amz_date
            .map(|text| DateText::Amz(Cow::Borrowed(text.trim_ascii())))
            .or(http_date.map(DateText::Http)),
    ) else {
        return Err(AuthError::HeaderIncomplete(missing));
    };
    Ok(Claims {
        kind: Kind::Header,
        credential: credential.to_owned().into(),
        signed_headers: signed_headers.to_owned().into(),
        signature: signature.as_bytes().to_owned().into(),
        date,
        token: request
            .first("x-amz-security-token")
            .map(|text| utf8(text.trim_ascii())),
        expires: None,
    })
}

/// The three parts of an `Authorization` header, in any order, the last of duplicates, unknown ones ignored.
#[derive(Default)]
struct HeaderParts<'h> {
    credential: Option<&'h str>,
    signed_headers: Option<&'h str>,
    signature: Option<&'h str>,
}

impl<'h> HeaderParts<'h> {
    fn read(header: &'h str) -> Result<Self, AuthError> {
        const BLANKS: [char; 2] = [' ', '\t'];
        let (scheme, rest) = header.split_once(BLANKS).unwrap_or((header, ""));
        if scheme != ALGORITHM {
            return Err(AuthError::UnsupportedAlgorithm(Sensitive(
                scheme.to_owned(),
            )));
        }
        let mut parts = Self::default();
        if rest.trim_matches(BLANKS).is_empty() {
            return Ok(parts);
        }
        for part in rest.split(',') {
            let part = part.trim_matches(BLANKS);
            let Some((name, value)) = part.split_once('=') else {
                return Err(AuthError::NotKeyValue {
                    part: Sensitive(part.to_owned()),
                    header: Sensitive(header.to_owned()),
                });
            };
            match name {
                "Credential" => parts.credential = Some(value),
                "SignedHeaders" => parts.signed_headers = Some(value),
                "Signature" => parts.signature = Some(value),
                _ => {}
            }
        }
        Ok(parts)
    }
}

fn from_query<'r>(request: &Request<'r>) -> Result<Claims<'r>, AuthError> {
    let value = |name: &str| {
        let first = params(request.query_bytes()).find(|p| is_named(p, name));
        first.map(|p| decode(p.value, Plus::Blank))
    };
    if value(ALGORITHM_PARAM).as_deref() != Some(ALGORITHM.as_bytes()) {
        return Err(AuthError::Missing);
    }
    let (credential, signature, signed_headers, date) = (
        value(CREDENTIAL_PARAM),
        value(SIGNATURE_PARAM),
        value(SIGNED_HEADERS_PARAM),
        value(DATE_PARAM),
    );
    let missing = Missing {
        credential: credential.is_none(),
        signature: signature.is_none(),
        signed_headers: signed_headers.is_none(),
        date: date.is_none(),
    };
    let (Some(credential), Some(signature), Some(signed_headers), Some(date)) =
        (credential, signature, signed_headers, date)
    else {
        return Err(AuthError::QueryIncomplete(missing));
    };
    Ok(Claims {
        kind: Kind::Query,
        credential: utf8_owned(credential),
        signed_headers: utf8_owned(signed_headers),
        signature,
        date: DateText::Amz(date),
        token: value(TOKEN_PARAM).map(utf8_owned),
        expires: value(EXPIRES_PARAM),
    })
}

fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn utf8_owned(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => utf8(bytes),
        Cow::Owned(bytes) => Cow::Owned(utf8(&bytes).into_owned()),
    }
}

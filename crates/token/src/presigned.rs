//! A token that passed every local rule.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::error::{ReasonCode, TokenError, quoted, shown};
use crate::query::{Parameter, Parameters, decoded, decoded_bytes, escapes_are_valid, means};
use crate::region::RegionLabel;
use crate::rules::Rules;
use crate::{CLUSTER_ID_HEADER, host};

/// What every token begins with; there is no other version.
pub const PREFIX: &str = "k8s-aws-v1.";

/// How long a token is valid after its signing time, whatever `X-Amz-Expires` says.
///
/// STS ignores `X-Amz-Expires` for GetCallerIdentity, and clients reuse a token for 14 minutes although they write 60 seconds.
pub const LIFETIME: SignedDuration = SignedDuration::from_mins(15);

/// How far ahead of ours a client's clock may be.
const MAX_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// Whose STS a token was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndpointKind {
    /// An STS host of AWS (rules H1 to H6); verify by replaying the request.
    Aws,
    /// A trusted endpoint; verify in process, never by a request to the URL.
    Trusted,
}

/// A `k8s-aws-v1.` token that passed the local rules. Only [`PresignedToken::parse`] makes one.
///
/// It proves nothing yet: the signature has to be verified by STS, or in process when [`PresignedToken::endpoint`] is trusted.
/// The decoded URL is a bearer credential: it is wiped when dropped, and `Debug` does not print it.
pub struct PresignedToken {
    url: Zeroizing<String>,
    scheme_end: usize,
    path_start: usize,
    path_end: usize,
    query_start: usize,
    parameters: Parameters,
    endpoint: EndpointKind,
    region: RegionLabel,
    signed_at: Timestamp,
}

impl PresignedToken {
    /// Applies rules V1 to V19 of the authentication spec (section 2.1) in their order; the first violated rule decides.
    ///
    /// The one allocation of the accepting path is the decoded URL. `now` is compared exactly: a token is accepted up to and
    /// including 15 minutes after its signing time.
    ///
    /// # Errors
    /// The rule that was broken, with the reference's text.
    pub fn parse(text: &str, rules: &Rules, now: Timestamp) -> Result<Self, TokenError> {
        if text.len() > rules.max_token_bytes() {
            return refuse(ReasonCode::TokenTooLarge, "token is too large");
        }
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            return refuse(
                ReasonCode::BadPrefix,
                format!("token is missing expected \"{PREFIX}\" prefix"),
            );
        };
        let url = decode(encoded)?;
        let parts = UrlParts::split(&url)?;
        let aws_region = if rules.trusts(parts.without_query) {
            None
        } else {
            Some(parts.check_aws(rules)?)
        };
        parts.check_plain()?;
        let parameters = Parameters::parse(parts.query)?;
        let signed_at = check_parameters(parts.query, &parameters, now)?;
        let (endpoint, region) = match aws_region {
            Some(region) => (EndpointKind::Aws, region),
            None => {
                let credential = parameters.raw(parts.query, Parameter::Credential);
                let region = credential_fields(credential).nth(2).unwrap_or_default();
                (
                    EndpointKind::Trusted,
                    RegionLabel::of(region, rules.regions()),
                )
            }
        };
        let (scheme_end, path_end) = (parts.scheme.len(), parts.without_query.len());
        let (path_start, query_start) = (parts.path_start, parts.query_start);
        Ok(Self {
            url,
            scheme_end,
            path_start,
            path_end,
            query_start,
            parameters,
            endpoint,
            region,
            signed_at,
        })
    }

    /// The URL, to be replayed as it is. It is a credential: never log it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `https`, or `http` of a trusted endpoint.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.url.get(..self.scheme_end).unwrap_or_default()
    }

    /// The host as written, with its port if it has one.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url
            .get(self.scheme_end + "://".len()..self.path_start)
            .unwrap_or_default()
    }

    /// The path; `/` for AWS hosts.
    #[must_use]
    pub fn path(&self) -> &str {
        self.url
            .get(self.path_start..self.path_end)
            .unwrap_or_default()
    }

    /// The query byte for byte, without the question mark. It contains the signature: never log it.
    #[must_use]
    pub fn raw_query(&self) -> &str {
        self.url.get(self.query_start..).unwrap_or_default()
    }

    /// The value of `parameter`, decoded; borrowed if nothing was escaped, `None` if it is absent.
    ///
    /// Bytes that are not UTF-8 become U+FFFD: verify signatures over [`PresignedToken::raw_query`], not over this.
    #[must_use]
    pub fn parameter(&self, parameter: Parameter) -> Option<Cow<'_, str>> {
        self.parameters
            .has(parameter)
            .then(|| decoded(self.parameters.raw(self.raw_query(), parameter)))
    }

    /// The access key id: what stands before the first slash of `X-Amz-Credential`. May be empty, and is attacker-chosen until
    /// the signature was verified.
    #[must_use]
    pub fn access_key_id(&self) -> Cow<'_, str> {
        let raw = self.parameters.raw(self.raw_query(), Parameter::Credential);
        decoded(credential_fields(raw).next().unwrap_or_default())
    }

    /// The signature as written, the source of a fingerprint for logs: hash it, never print it.
    #[must_use]
    pub fn signature(&self) -> &str {
        self.parameters.raw(self.raw_query(), Parameter::Signature)
    }

    /// Whose STS the token was made for.
    #[must_use]
    pub fn endpoint(&self) -> EndpointKind {
        self.endpoint
    }

    /// The region as a metric label: that of the host, or that of the credential for trusted endpoints.
    #[must_use]
    pub fn region_label(&self) -> &RegionLabel {
        &self.region
    }

    /// When the token was signed, by the client's clock.
    #[must_use]
    pub fn signed_at(&self) -> Timestamp {
        self.signed_at
    }

    /// The last instant at which the token is valid.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.signed_at
            .checked_add(LIFETIME)
            .unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Debug for PresignedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresignedToken")
            .field("host", &self.host())
            .field("endpoint", &self.endpoint)
            .field("signed_at", &self.signed_at)
            .finish_non_exhaustive()
    }
}

/// V3 and the printable half of V4.
///
/// The decoder accepts the URL-safe alphabet only and refuses padding, line breaks and non-zero trailing bits, so that one URL
/// has one token.
fn decode(encoded: &str) -> Result<Zeroizing<String>, TokenError> {
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(encoded.len())]);
    let length = URL_SAFE_NO_PAD
        .decode_slice(encoded, &mut bytes)
        .map_err(|source| {
            let text = match source {
                base64::DecodeSliceError::DecodeError(base64::DecodeError::InvalidByte(at, _)) => {
                    format!("illegal base64 data at input byte {at}")
                }
                _ => "illegal base64 data".to_owned(),
            };
            TokenError::new(ReasonCode::BadBase64, text)
        })?;
    bytes.truncate(length);
    // No early exit, so that the loop is done in vectors.
    let unprintable = bytes
        .iter()
        .fold(false, |seen, b| seen | !(0x21..=0x7e).contains(b));
    if unprintable {
        return refuse(
            ReasonCode::BadUrl,
            "net/url: invalid control character in URL",
        );
    }
    let url = String::from_utf8(std::mem::take(&mut bytes))
        .map_err(|_| TokenError::new(ReasonCode::BadUrl, "net/url: invalid character in URL"))?;
    Ok(Zeroizing::new(url))
}

/// A URL cut at its delimiters, nothing decoded.
struct UrlParts<'u> {
    scheme: &'u str,
    /// Host and port, userinfo taken off.
    host: &'u str,
    has_userinfo: bool,
    path: &'u str,
    query: &'u str,
    has_fragment: bool,
    /// Everything before the first `?` or `#`: what trusted endpoints are compared with.
    without_query: &'u str,
    path_start: usize,
    query_start: usize,
}

impl<'u> UrlParts<'u> {
    /// The rest of V4.
    fn split(url: &'u str) -> Result<Self, TokenError> {
        let bad = |text: &str| refuse(ReasonCode::BadUrl, text);
        let (before_fragment, has_fragment) = match url.split_once('#') {
            Some((before, _)) => (before, true),
            None => (url, false),
        };
        let (without_query, query) = before_fragment
            .split_once('?')
            .unwrap_or((before_fragment, ""));
        let scheme = match without_query.split_once(':') {
            Some(("", _)) => return bad("missing protocol scheme"),
            Some((scheme, _)) if is_scheme(scheme) => scheme,
            _ => "",
        };
        let behind_scheme = without_query.get(scheme.len()..).unwrap_or_default();
        let rest = behind_scheme.strip_prefix("://").unwrap_or("");
        let authority = rest
            .split_once('/')
            .map_or(rest, |(authority, _)| authority);
        let path = rest.get(authority.len()..).unwrap_or_default();
        if !escapes_are_valid(path) {
            return bad("invalid URL escape in path");
        }
        let (has_userinfo, host) = match authority.rsplit_once('@') {
            Some((_, host)) => (true, host),
            None => (false, authority),
        };
        let path_start = without_query.len() - path.len();
        Ok(Self {
            scheme,
            host,
            has_userinfo,
            path,
            query,
            has_fragment,
            without_query,
            path_start,
            query_start: before_fragment.len() - query.len(),
        })
    }

    /// V5 to V7.
    fn check_aws(&self, rules: &Rules) -> Result<RegionLabel, TokenError> {
        if self.scheme != "https" {
            return refuse(
                ReasonCode::BadScheme,
                format!(
                    "unexpected scheme {} in pre-signed URL",
                    quoted(self.scheme)
                ),
            );
        }
        let region = host::check(self.host, rules)?;
        if self.path != "/" {
            return refuse(ReasonCode::BadPath, "unexpected path in pre-signed URL");
        }
        Ok(region)
    }

    /// V8. A port was refused with the host, or belongs to a trusted endpoint.
    fn check_plain(&self) -> Result<(), TokenError> {
        // The reference would send userinfo to STS as a Basic credential, next to the signature.
        if self.has_userinfo {
            return refuse(ReasonCode::BadUrl, "unexpected userinfo in pre-signed URL");
        }
        if self.has_fragment {
            return refuse(ReasonCode::BadUrl, "unexpected fragment in pre-signed URL");
        }
        // Some parsers split parameters at semicolons, others do not; a token must mean one thing to all.
        if self.query.contains(';') {
            return refuse(ReasonCode::BadUrl, "malformed query parameter");
        }
        Ok(())
    }
}

/// The fields of a raw credential; the slashes between them may be escaped.
fn credential_fields(raw: &str) -> impl Iterator<Item = &str> {
    raw.split('/')
        .flat_map(|part| part.split("%2F"))
        .flat_map(|part| part.split("%2f"))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// V13 to V19.
fn check_parameters(
    query: &str,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Timestamp, TokenError> {
    let raw = |parameter| parameters.raw(query, parameter);
    if !means(raw(Parameter::Action), "GetCallerIdentity") {
        return refuse(
            ReasonCode::BadAction,
            "unexpected action parameter in pre-signed URL",
        );
    }
    if !signs_cluster_header(raw(Parameter::SignedHeaders)) {
        return refuse(
            ReasonCode::ClusterHeaderUnsigned,
            format!("client did not sign the {CLUSTER_ID_HEADER} header in the pre-signed URL"),
        );
    }
    let expires = decoded(raw(Parameter::Expires)).parse::<i64>();
    if !matches!(expires, Ok(0..=900)) {
        let seen = expires.unwrap_or(0);
        return refuse(
            ReasonCode::BadExpires,
            format!("invalid X-Amz-Expires parameter in pre-signed URL: {seen}"),
        );
    }
    let date = decoded(raw(Parameter::Date));
    if date.is_empty() {
        return refuse(
            ReasonCode::MissingDate,
            "X-Amz-Date parameter must be present in pre-signed URL",
        );
    }
    let Some(signed_at) = parse_date(&date) else {
        return refuse(
            ReasonCode::BadDate,
            format!(
                "error parsing X-Amz-Date parameter {} into format 20060102T150405Z: it has the form yyyymmddThhmmssZ",
                shown(&date)
            ),
        );
    };
    let age = now.duration_since(signed_at);
    if age > LIFETIME {
        return refuse(
            ReasonCode::Expired,
            format!(
                "X-Amz-Date parameter is expired (15 minute expiration) {}",
                signed_at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
            ),
        );
    }
    if -age > MAX_AHEAD {
        return refuse(
            ReasonCode::NotYetValid,
            "X-Amz-Date parameter is more than 5 minutes in the future; check the clocks of client and server",
        );
    }
    Ok(signed_at)
}

/// V14: the list, split at `;`, contains the cluster header.
fn signs_cluster_header(raw: &str) -> bool {
    // What every current client writes.
    if raw == "host%3Bx-k8s-aws-id" {
        return true;
    }
    let mut bytes = decoded_bytes(raw).map(|b| b.to_ascii_lowercase());
    loop {
        let mut wanted = CLUSTER_ID_HEADER.bytes();
        let mut same = true;
        loop {
            match bytes.next() {
                Some(b';') => break,
                Some(byte) => same &= wanted.next() == Some(byte),
                None => return same && wanted.next().is_none(),
            }
        }
        if same && wanted.next().is_none() {
            return true;
        }
    }
}

/// `yyyymmddThhmmssZ`, exactly.
fn parse_date(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes.get(8) != Some(&b'T') || bytes.get(15) != Some(&b'Z') {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes.get(from..to)?.iter().try_fold(0i16, |n, b| {
            b.is_ascii_digit()
                .then(|| n * 10 + i16::from(b.wrapping_sub(b'0')))
        })
    };
    let small = |from: usize| number(from, from + 2).and_then(|n| i8::try_from(n).ok());
    let civil = jiff::civil::DateTime::new(
        number(0, 4)?,
        small(4)?,
        small(6)?,
        small(9)?,
        small(11)?,
        small(13)?,
        0,
    )
    .ok()?;
    jiff::tz::Offset::UTC.to_timestamp(civil).ok()
}

fn refuse<T>(reason: ReasonCode, text: impl Into<Box<str>>) -> Result<T, TokenError> {
    Err(TokenError::new(reason, text))
}

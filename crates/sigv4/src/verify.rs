//! Verification in two steps, so that the caller can look the key up in between:
//!
//! ```text
//! request ─▶ Parsed::from_request (steps 1–13) ─▶ key_id, session_token ─▶ Parsed::verify (steps 14–16) ─▶ Verified
//!                                                        │                        ▲
//!                                                        └── the caller's store ──┘ KeyLookup
//! ```

use std::borrow::Cow;
use std::fmt;
use std::hint::black_box;

use jiff::Timestamp;

use crate::auth::{
    Claims, DateText, Kind, SIGNATURE_PARAM, TOKEN_PARAM, check_request, is_named, read_claims,
};
use crate::canonical::{Param, Parts, StringToSign, params, sort};
use crate::crypto::{EMPTY_SHA256, HEX, Sha256Sink, hex, same, unhex};
use crate::error::AuthError;
use crate::key::{SecretKey, SigningKey};
use crate::policy::ServicePolicy;
use crate::request::{Payload, Request, is_host_name};
use crate::scope::{Credential, Scope};
use crate::time::AmzDate;

/// More signed headers than a request may have headers cannot all be there; such a list is a mismatch, not work.
const MAX_SIGNED_HEADERS: usize = 128;

/// A request whose authentication was read and found plausible. Nothing is proven yet.
pub struct Parsed<'r> {
    request: Request<'r>,
    policy: &'r ServicePolicy,
    kind: Kind,
    key_id: String,
    scope: Scope,
    signed_headers: SignedHeaders,
    signature: Cow<'r, [u8]>,
    date: AmzDate,
    token: Option<Cow<'r, str>>,
    /// Sorted and without the signature.
    params: Vec<Param<'r>>,
}

/// What the caller's store says about the key of a [`Parsed`] request.
#[derive(Debug, Clone, Copy)]
pub enum KeyLookup<'k> {
    /// The key exists and is active, and the session token, if there is one, opened and belongs to it.
    Secret(&'k SecretKey),
    /// The same, with the signing key for the request's scope at hand (see
    /// [`SigningKeyCache`](crate::SigningKeyCache)).
    SigningKey(&'k SigningKey),
    /// No such key.
    Unknown,
    /// The key exists and is not active.
    Inactive,
    /// A temporary key that came without a session token.
    TokenMissing,
    /// The session token does not open, belongs to another key, or came with a long-term key.
    TokenInvalid,
    /// The session is over.
    TokenExpired,
}

impl KeyLookup<'_> {
    pub(crate) fn refusal(&self) -> Option<AuthError> {
        match self {
            Self::Secret(_) | Self::SigningKey(_) => None,
            Self::TokenInvalid => Some(AuthError::TokenInvalid),
            Self::TokenExpired => Some(AuthError::TokenExpired),
            Self::Unknown | Self::Inactive | Self::TokenMissing => Some(AuthError::KeyInvalid),
        }
    }
}

/// Proof that the holder of a key signed this request. Only [`Parsed::verify`] and
/// [`VerifiedPresigned::to_verified`](crate::VerifiedPresigned::to_verified) make one.
#[derive(Debug, Clone)]
pub struct Verified {
    pub(crate) key_id: String,
    pub(crate) scope: Scope,
    pub(crate) signed_headers: SignedHeaders,
    pub(crate) date: AmzDate,
    pub(crate) kind: Kind,
    pub(crate) coverage: PayloadCoverage,
}

/// What a signature says about the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadCoverage {
    /// The whole body is signed.
    Whole,
    /// The body is not signed (S3 over TLS only).
    Unsigned,
    /// The body comes in chunks that must be verified one by one (S3 only); this crate does not do that.
    Streaming,
}

/// `SignedHeaders` as the client sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeaders(pub(crate) String);

impl SignedHeaders {
    /// The names in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(';')
    }

    /// Whether a header was signed; letter case does not matter.
    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|signed| signed.eq_ignore_ascii_case(name))
    }

    /// The list as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// No name is empty or given twice, and there are not absurdly many.
    fn is_proper(&self) -> bool {
        let mut seen: Vec<&str> = Vec::new();
        for name in self.iter() {
            let again = seen.iter().any(|s| s.eq_ignore_ascii_case(name));
            if name.is_empty() || again || seen.len() == MAX_SIGNED_HEADERS {
                return false;
            }
            seen.push(name);
        }
        true
    }
}

impl Verified {
    /// The access key that signed.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Day, region and service that were signed for.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// When the client says it signed; within the allowed skew of the time of verification.
    pub fn date(&self) -> AmzDate {
        self.date
    }

    /// Header or presigned URL.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The headers that are covered.
    pub fn signed_headers(&self) -> &SignedHeaders {
        &self.signed_headers
    }

    /// Whether a header may be trusted. A handler that uses a header for a security decision must ask this first.
    pub fn was_signed(&self, header: &str) -> bool {
        self.signed_headers.contains(header)
    }

    /// How far the body may be trusted.
    pub fn payload(&self) -> PayloadCoverage {
        self.coverage
    }
}

/// The payload line of a canonical request, and whether the body may have it.
struct PayloadLine<'a> {
    text: Cow<'a, [u8]>,
    coverage: PayloadCoverage,
    refused: Option<AuthError>,
}

impl<'r> Parsed<'r> {
    /// Steps 1–13: everything that can be judged without the key. The first fault answers.
    pub fn from_request(
        request: &Request<'r>,
        policy: &'r ServicePolicy,
        now: Timestamp,
    ) -> Result<Self, AuthError> {
        check_request(request, policy)?;
        Self::from_claims(request, policy, read_claims(request)?, Some(now))
    }

    /// The same without the checks of time, for explaining a request captured earlier.
    pub(crate) fn from_captured(
        request: &Request<'r>,
        policy: &'r ServicePolicy,
    ) -> Result<Self, AuthError> {
        check_request(request, policy)?;
        Self::from_claims(request, policy, read_claims(request)?, None)
    }

    /// Steps 8–13.
    fn from_claims(
        request: &Request<'r>,
        policy: &'r ServicePolicy,
        claims: Claims<'r>,
        now: Option<Timestamp>,
    ) -> Result<Self, AuthError> {
        let signed_headers = SignedHeaders(claims.signed_headers.into_owned());
        if !signed_headers.iter().any(is_host_name) {
            return Err(AuthError::HostNotSigned);
        }
        let date = match &claims.date {
            DateText::Amz(_)
                if claims.kind == Kind::Header && !signed_headers.contains("x-amz-date") =>
            {
                return Err(AuthError::DateNotSigned);
            }
            DateText::Amz(text) => AmzDate::parse(text).ok_or_else(|| bad_date(text))?,
            DateText::Http(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|t| {
                    AmzDate::parse(t.trim().as_bytes()).or_else(|| AmzDate::parse_http(t))
                })
                .ok_or_else(|| bad_date(text))?,
        };
        match now {
            Some(now) if policy.s3 && claims.kind == Kind::Query => {
                policy.check_expires(date, claims.expires.as_deref(), now)?;
            }
            Some(now) => policy.check_time(date, now)?,
            None => {}
        }
        let credential = Credential::parse(&claims.credential)
            .ok_or_else(|| AuthError::CredentialParts(claims.credential.clone().into_owned()))?;
        policy.check_scope(&credential, date)?;

        let mut params: Vec<Param<'r>> = params(request.query_bytes())
            .filter(|p| claims.kind == Kind::Header || !is_named(p, SIGNATURE_PARAM))
            .collect();
        sort(&mut params);
        Ok(Self {
            request: *request,
            policy,
            kind: claims.kind,
            key_id: credential.key_id.to_owned(),
            scope: credential.into(),
            signed_headers,
            signature: claims.signature,
            date,
            token: claims.token,
            params,
        })
    }

    /// The access key id to look up.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The session token that came along. It need not be signed: it is sealed and bound to the key id.
    pub fn session_token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// What the signing key is derived for.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The date that was signed.
    pub fn date(&self) -> AmzDate {
        self.date
    }

    /// The headers that the client claims to have signed. Not proven yet.
    pub fn signed_headers(&self) -> &SignedHeaders {
        &self.signed_headers
    }

    /// Steps 14–16 with the body given in the request.
    pub fn verify(&self, key: KeyLookup<'_>) -> Result<Verified, AuthError> {
        self.verify_body(key, self.request.body)
    }

    /// Steps 14–16 with a body that was read, or hashed, after the key was found.
    ///
    /// A refusal costs the same work whatever its reason, so that its duration does not tell whether a key exists: one
    /// derivation and one signature. A key that is refused is replaced by a fixed dummy, and when a signing key from a
    /// cache does not verify, the derivation that the cache saved is done for nothing.
    pub fn verify_body(
        &self,
        key: KeyLookup<'_>,
        body: Payload<'_>,
    ) -> Result<Verified, AuthError> {
        let derived;
        let signing_key = match key {
            KeyLookup::SigningKey(ready) => ready,
            KeyLookup::Secret(secret) => {
                derived = self.derive(secret);
                &derived
            }
            _ => {
                derived = self.derive(&SecretKey::dummy());
                &derived
            }
        };
        let payload = self.payload_line(body);
        let proper = self.signed_headers.is_proper();
        let mut matches = proper && self.matches(&self.params, &payload.text, signing_key);
        if proper
            && !matches
            && self.policy.retry_without_token
            && self.kind == Kind::Query
            && self.token.is_some()
        {
            let without: Vec<Param<'_>> = self
                .params
                .iter()
                .filter(|p| !is_named(p, TOKEN_PARAM))
                .copied()
                .collect();
            matches = self.matches(&without, &payload.text, signing_key);
        }
        let fault = if matches {
            payload.refused
        } else {
            Some(AuthError::SignatureMismatch)
        };
        match key.refusal().or(fault) {
            None => Ok(Verified {
                key_id: self.key_id.clone(),
                scope: self.scope.clone(),
                signed_headers: self.signed_headers.clone(),
                date: self.date,
                kind: self.kind,
                coverage: payload.coverage,
            }),
            Some(refusal) => {
                if matches!(key, KeyLookup::SigningKey(_)) {
                    black_box(self.derive(&SecretKey::dummy()));
                }
                Err(refusal)
            }
        }
    }

    /// The canonical request that the server computes, for an explanation; not for logs, since it repeats the session
    /// token.
    pub fn canonical_request(&self, body: Payload<'_>) -> String {
        let mut text = Vec::new();
        self.parts(&self.params, &self.payload_line(body).text)
            .write(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The string to sign that the server computes.
    pub fn string_to_sign(&self, body: Payload<'_>) -> String {
        let mut hash = Sha256Sink::new();
        self.parts(&self.params, &self.payload_line(body).text)
            .write(&mut hash);
        String::from_utf8_lossy(&self.to_sign(hash.finish()).pieces().concat()).into_owned()
    }

    pub(crate) fn params(&self) -> &[Param<'r>] {
        &self.params
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn payload_text(&self, body: Payload<'_>) -> Vec<u8> {
        self.payload_line(body).text.into_owned()
    }

    fn derive(&self, secret: &SecretKey) -> SigningKey {
        SigningKey::derive(
            secret,
            &self.scope.date,
            &self.scope.region,
            &self.scope.service,
        )
    }

    fn parts<'p>(&'p self, params: &'p [Param<'p>], payload: &'p [u8]) -> Parts<'p, 'r> {
        Parts {
            request: &self.request,
            path_rule: self.policy.paths,
            params,
            signed_headers: self.signed_headers.as_str(),
            payload,
        }
    }

    fn to_sign(&self, canonical_hash: [u8; 32]) -> StringToSign<'_> {
        let scope = (
            self.scope.date.as_str(),
            self.scope.region.as_str(),
            self.scope.service.as_str(),
        );
        StringToSign::new(self.date.as_str(), scope, canonical_hash)
    }

    fn matches(&self, params: &[Param<'_>], payload: &[u8], key: &SigningKey) -> bool {
        let mut hash = Sha256Sink::new();
        self.parts(params, payload).write(&mut hash);
        let expected = key.sign_hex(&self.to_sign(hash.finish()).pieces());
        same(&expected, &self.signature)
    }

    /// Chooses the payload line and checks a hash that the client declares against the body.
    fn payload_line(&self, body: Payload<'_>) -> PayloadLine<'r> {
        let declared = self
            .request
            .first("x-amz-content-sha256")
            .map(<[u8]>::trim_ascii);
        let whole = |text, refused| PayloadLine {
            text,
            coverage: PayloadCoverage::Whole,
            refused,
        };
        let hashed = || -> [u8; HEX] { body.digest().map_or(*EMPTY_SHA256, |digest| hex(&digest)) };
        let s3 = self.policy.s3;
        match declared {
            None if s3 && self.kind == Kind::Query => PayloadLine {
                text: Cow::Borrowed(UNSIGNED),
                coverage: PayloadCoverage::Unsigned,
                refused: None,
            },
            None => whole(Cow::Owned(hashed().to_vec()), None),
            Some(text) if unhex(text).is_some() => {
                let fits = unhex(text).is_some_and(|claimed| same(&hex(&claimed), &hashed()));
                let fault = if s3 {
                    AuthError::ContentSha256Mismatch
                } else {
                    AuthError::SignatureMismatch
                };
                whole(Cow::Borrowed(text), (!fits).then_some(fault))
            }
            Some(text) if text == UNSIGNED => PayloadLine {
                text: Cow::Borrowed(text),
                coverage: PayloadCoverage::Unsigned,
                refused: (!(s3 && self.request.tls)).then_some(AuthError::SignatureMismatch),
            },
            Some(text) => PayloadLine {
                text: Cow::Borrowed(text),
                coverage: PayloadCoverage::Streaming,
                refused: (!(s3 && STREAMING.contains(&text)))
                    .then_some(AuthError::SignatureMismatch),
            },
        }
    }
}

pub(crate) const UNSIGNED: &[u8] = b"UNSIGNED-PAYLOAD";

const STREAMING: [&[u8]; 3] = [
    b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
];

fn bad_date(text: &[u8]) -> AuthError {
    AuthError::BadDate(String::from_utf8_lossy(text).into_owned())
}

/// Neither signature nor token.
impl fmt::Debug for Parsed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parsed")
            .field("kind", &self.kind)
            .field("key_id", &self.key_id)
            .field("scope", &self.scope)
            .field("signed_headers", &self.signed_headers.0)
            .field("date", &self.date)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! The presigned GetCallerIdentity inside a `k8s-aws-v1` token, verified in process (authentication spec, section 2.7).
//!
//! The same rules and the same canonical text as [`Parsed`](crate::Parsed), for the narrow case that is hot: a GET
//! without a body, at most [`MAX_PARAMS`] parameters, headers supplied by the verifier. Nothing here allocates unless
//! the request is refused. Two differences, both from what tokens are:
//!
//! - Parameter names are matched without regard to letter case, since old SDKs wrote them so, and therefore a name that
//!   occurs twice in any letter case is refused: picking either one would let the signed and the used value differ.
//! - Every signed header must be one that the verifier supplies, and the list must be lower-case and sorted.
//!   A token may not depend on a header that only its maker knows.

use std::borrow::Cow;
use std::hint::black_box;

use jiff::Timestamp;

use crate::auth::{
    ALGORITHM_PARAM, CREDENTIAL_PARAM, DATE_PARAM, EXPIRES_PARAM, Kind, SIGNATURE_PARAM,
    SIGNED_HEADERS_PARAM, TOKEN_PARAM,
};
use crate::canonical::{ALGORITHM, Param, Parts, StringToSign, check_path, params, sort};
use crate::crypto::{DIGEST, EMPTY_SHA256, HEX, Sha256Sink, same};
use crate::encode::{Plus, decode, decoded, write_decoded};
use crate::error::{AuthError, BadRequest, Missing};
use crate::key::{SecretKey, SigningKey};
use crate::policy::ServicePolicy;
use crate::request::{Header, Payload, Request, is_host_name};
use crate::scope::Credential;
use crate::time::AmzDate;
use crate::verify::{KeyLookup, PayloadCoverage, SignedHeaders, Verified};

/// Query parameters a presigned token may have, the signature not counted; the token format knows eight others.
pub const MAX_PARAMS: usize = 16;

/// Headers a verifier may supply besides the host.
pub const MAX_EXTRA_HEADERS: usize = 7;

/// A presigned query that was read and found plausible. Nothing is proven yet.
pub struct Presigned<'q> {
    /// Sorted and without the signature.
    params: [Param<'q>; MAX_PARAMS],
    len: usize,
    credential: Short<192>,
    signed_headers: Short<128>,
    signature: Short<HEX>,
    date: AmzDate,
    token: Option<&'q [u8]>,
}

/// Proof that the holder of a key signed this token. Only [`Presigned::verify`] makes one.
pub struct VerifiedPresigned<'q>(Presigned<'q>);

/// A short decoded text without an allocation.
struct Short<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Short<N> {
    /// Decodes a query value; `None` when it is longer than any that could verify.
    fn decode(raw: &[u8]) -> Option<Self> {
        let mut short = Self {
            bytes: [0; N],
            len: 0,
        };
        for byte in decoded(raw, Plus::Blank) {
            *short.bytes.get_mut(short.len)? = byte;
            short.len += 1;
        }
        Some(short)
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Text that is not UTF-8 becomes empty, which no rule accepts.
    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// The authentication parameters as found, raw.
#[derive(Default)]
struct Found<'q> {
    algorithm: Option<&'q [u8]>,
    credential: Option<&'q [u8]>,
    date: Option<&'q [u8]>,
    expires: Option<&'q [u8]>,
    signed_headers: Option<&'q [u8]>,
    signature: Option<&'q [u8]>,
    token: Option<&'q [u8]>,
}

impl<'q> Found<'q> {
    /// Where a parameter of this name is kept, if it is one of ours.
    fn slot(&mut self, name: &[u8]) -> Option<(&'static str, &mut Option<&'q [u8]>)> {
        let slots = [
            (ALGORITHM_PARAM, &mut self.algorithm),
            (CREDENTIAL_PARAM, &mut self.credential),
            (DATE_PARAM, &mut self.date),
            (EXPIRES_PARAM, &mut self.expires),
            (SIGNED_HEADERS_PARAM, &mut self.signed_headers),
            (SIGNATURE_PARAM, &mut self.signature),
            (TOKEN_PARAM, &mut self.token),
        ];
        slots
            .into_iter()
            .find(|(ours, _)| is_named_in_any_case(name, ours))
    }
}

fn is_named_in_any_case(raw: &[u8], name: &str) -> bool {
    raw.eq_ignore_ascii_case(name.as_bytes())
        || (raw.contains(&b'%')
            && decoded(raw, Plus::Blank)
                .map(|b| b.to_ascii_lowercase())
                .eq(name.bytes().map(|b| b.to_ascii_lowercase())))
}

impl<'q> Presigned<'q> {
    /// Steps 4 and 7–13 for a raw query, everything that can be judged without the key. `X-Amz-Expires` is signed text
    /// and nothing else here.
    pub fn from_query(
        query: &'q str,
        policy: &ServicePolicy,
        now: Timestamp,
    ) -> Result<Self, AuthError> {
        let mut found = Found::default();
        let mut kept = [Param::default(); MAX_PARAMS];
        let mut len = 0;
        for param in params(query.as_bytes()) {
            param.check_escapes().map_err(AuthError::MalformedQuery)?;
            if let Some((name, slot)) = found.slot(param.name) {
                if slot.replace(param.value).is_some() {
                    return Err(AuthError::BadRequest(BadRequest::RepeatedParameter(name)));
                }
                if name == SIGNATURE_PARAM {
                    continue;
                }
            }
            let Some(free) = kept.get_mut(len) else {
                return Err(AuthError::BadRequest(BadRequest::TooManyParameters));
            };
            *free = param;
            len += 1;
        }
        if !found
            .algorithm
            .is_some_and(|raw| decoded(raw, Plus::Blank).eq(ALGORITHM.bytes()))
        {
            return Err(AuthError::Missing);
        }
        let (Some(credential), Some(signature), Some(signed_headers), Some(date)) = (
            found.credential,
            found.signature,
            found.signed_headers,
            found.date,
        ) else {
            return Err(AuthError::QueryIncomplete(Missing {
                credential: found.credential.is_none(),
                signature: found.signature.is_none(),
                signed_headers: found.signed_headers.is_none(),
                date: found.date.is_none(),
            }));
        };

        let signed_headers = Short::decode(signed_headers).ok_or(AuthError::SignatureMismatch)?;
        if !signed_headers.as_str().split(';').any(is_host_name) {
            return Err(AuthError::HostNotSigned);
        }
        let date = Short::<16>::decode(date)
            .and_then(|text| AmzDate::parse(text.as_bytes()))
            .ok_or_else(|| AuthError::BadDate(lossy(date)))?;
        policy.check_time(date, now)?;
        let credential = Short::decode(credential)
            .ok_or_else(|| AuthError::CredentialParts(lossy(credential)))?;
        let parts = Credential::parse(credential.as_str())
            .ok_or_else(|| AuthError::CredentialParts(credential.as_str().to_owned()))?;
        policy.check_scope(&parts, date)?;

        if let Some(used) = kept.get_mut(..len) {
            sort(used);
        }
        // A signature of another length is a mismatch later, at the cost of any other mismatch.
        let signature = Short::decode(signature).unwrap_or(Short {
            bytes: [0; HEX],
            len: 0,
        });
        Ok(Self {
            params: kept,
            len,
            credential,
            signed_headers,
            signature,
            date,
            token: found.token,
        })
    }

    /// Access key id, scope and terminator.
    pub fn credential(&self) -> Credential<'_> {
        const NONE: Credential<'static> = Credential {
            key_id: "",
            date: "",
            region: "",
            service: "",
            terminator: "",
        };
        Credential::parse(self.credential.as_str()).unwrap_or(NONE)
    }

    /// The date that was signed.
    pub fn date(&self) -> AmzDate {
        self.date
    }

    /// The session token; allocates when it holds escapes, as sealed tokens in base64 do.
    pub fn session_token(&self) -> Option<Cow<'q, str>> {
        self.token.map(|raw| match decode(raw, Plus::Blank) {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        })
    }

    /// SHA-256 of the session token, to find in a cache what was once unsealed from it. Does not allocate.
    pub fn session_token_sha256(&self) -> Option<[u8; DIGEST]> {
        self.token.map(|raw| {
            let mut hash = Sha256Sink::new();
            write_decoded(raw, Plus::Blank, &mut hash);
            hash.finish()
        })
    }

    /// Steps 14–16 for a GET of `path` at `host` with the headers that the verifier supplies, such as `x-k8s-aws-id`;
    /// no more than [`MAX_EXTRA_HEADERS`]. With [`KeyLookup::SigningKey`] this does not allocate. As in
    /// [`Parsed::verify_body`](crate::Parsed::verify_body), every refusal costs one derivation and one signature.
    pub fn verify(
        self,
        host: &str,
        path: &str,
        extra_headers: &[(&str, &str)],
        policy: &ServicePolicy,
        key: KeyLookup<'_>,
    ) -> Result<VerifiedPresigned<'q>, AuthError> {
        check_path(path.as_bytes(), policy.paths).map_err(AuthError::BadRequest)?;
        let mut headers: [Header<'_>; MAX_EXTRA_HEADERS + 1] =
            [("host", host.as_bytes()); MAX_EXTRA_HEADERS + 1];
        let mut supplied = extra_headers.len() <= MAX_EXTRA_HEADERS;
        for (slot, (name, value)) in headers.iter_mut().skip(1).zip(extra_headers) {
            *slot = (name, value.as_bytes());
        }
        let headers = headers.get(..=extra_headers.len()).unwrap_or_default();
        supplied &= are_supplied(self.signed_headers.as_str(), headers);

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
        let request = Request {
            method: "GET",
            path: path.as_bytes(),
            query: None,
            headers,
            forwarded_host: None,
            tls: true,
            body: Payload::Empty,
        };
        let mut hash = Sha256Sink::new();
        Parts {
            request: &request,
            path_rule: policy.paths,
            params: self.params.get(..self.len).unwrap_or_default(),
            signed_headers: self.signed_headers.as_str(),
            payload: EMPTY_SHA256,
        }
        .write(&mut hash);
        let scope = self.credential();
        let to_sign = StringToSign::new(
            self.date.as_str(),
            (scope.date, scope.region, scope.service),
            hash.finish(),
        );
        let expected = signing_key.sign_hex(&to_sign.pieces());
        let matches = same(&expected, self.signature.as_bytes()) && supplied;

        let fault = (!matches).then_some(AuthError::SignatureMismatch);
        match key.refusal().or(fault) {
            None => Ok(VerifiedPresigned(self)),
            Some(refusal) => {
                if matches!(key, KeyLookup::SigningKey(_)) {
                    black_box(self.derive(&SecretKey::dummy()));
                }
                Err(refusal)
            }
        }
    }

    fn derive(&self, secret: &SecretKey) -> SigningKey {
        let scope = self.credential();
        SigningKey::derive(secret, scope.date, scope.region, scope.service)
    }
}

/// Whether a list of signed headers is lower-case, strictly sorted, and names only headers that are at hand.
fn are_supplied(list: &str, headers: &[Header<'_>]) -> bool {
    let mut previous = "";
    list.split(';').all(|name| {
        let in_order = previous < name;
        previous = name;
        in_order
            && !name.bytes().any(|b| b.is_ascii_uppercase())
            && headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
    })
}

fn lossy(raw: &[u8]) -> String {
    String::from_utf8_lossy(&decode(raw, Plus::Blank)).into_owned()
}

impl VerifiedPresigned<'_> {
    /// The access key that signed.
    pub fn key_id(&self) -> &str {
        self.0.credential().key_id
    }

    /// Region that was signed for.
    pub fn region(&self) -> &str {
        self.0.credential().region
    }

    /// When the client says it signed.
    pub fn date(&self) -> AmzDate {
        self.0.date
    }

    /// Whether a header is covered; for tokens, `x-k8s-aws-id` must be.
    pub fn was_signed(&self, header: &str) -> bool {
        self.0
            .signed_headers
            .as_str()
            .split(';')
            .any(|name| name.eq_ignore_ascii_case(header))
    }

    /// The general form, which owns its text.
    pub fn to_verified(&self) -> Verified {
        let credential = self.0.credential();
        Verified {
            key_id: credential.key_id.to_owned(),
            scope: credential.into(),
            signed_headers: SignedHeaders(self.0.signed_headers.as_str().to_owned()),
            date: self.0.date,
            kind: Kind::Query,
            coverage: PayloadCoverage::Whole,
        }
    }
}

/// Neither signature nor token.
impl std::fmt::Debug for Presigned<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presigned")
            .field("credential", &self.credential.as_str())
            .field("signed_headers", &self.signed_headers.as_str())
            .field("date", &self.date)
            .finish_non_exhaustive()
    }
}

/// As [`Presigned`].
impl std::fmt::Debug for VerifiedPresigned<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("VerifiedPresigned").field(&self.0).finish()
    }
}

//! What a token claims (IRSA spec, sections 4.2 and 6.2).

use serde_json::Value;

use crate::aws_claims::AwsClaims;
use crate::error::TokenError;
use crate::json::Object;

/// Most characters of `sub`: the limit of `SubjectFromWebIdentityToken`.
pub const MAX_SUBJECT_CHARS: usize = 255;

/// The claims of a token that matter here. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// `iss`, not empty.
    pub issuer: Box<str>,
    /// `sub`, not empty and at most [`MAX_SUBJECT_CHARS`].
    pub subject: Box<str>,
    /// `aud`, one or more, distinct, in the token's order.
    pub audiences: Vec<Box<str>>,
    /// `azp`.
    pub authorized_party: Option<Box<str>>,
    /// `exp`.
    pub expires: i64,
    /// `iat`.
    pub issued: i64,
    /// `nbf`.
    pub not_before: Option<i64>,
    /// `amr`, empty when absent.
    pub authentication_methods: Vec<Box<str>>,
    /// `jti`.
    pub token_id: Option<Box<str>>,
    /// The claims under `https://aws.amazon.com/`.
    pub aws: AwsClaims,
    /// `kubernetes.io`, when it has the form that kube-apiserver gives it.
    pub kubernetes: Option<KubernetesClaims>,
}

/// The claim `kubernetes.io` of a service account's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesClaims {
    /// `namespace`.
    pub namespace: Box<str>,
    /// `serviceaccount`.
    pub service_account: BoundObject,
    /// `pod`, when the token is bound to one.
    pub pod: Option<BoundObject>,
    /// `node`, in tokens of newer API servers.
    pub node: Option<BoundObject>,
}

/// An object of Kubernetes that a token is about or bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundObject {
    /// `name`.
    pub name: Box<str>,
    /// `uid`.
    pub uid: Option<Box<str>>,
}

impl Claims {
    pub(crate) fn read(mut payload: Object) -> Result<Self, TokenError> {
        let issuer = required_text(&payload, "iss")?;
        let subject = required_text(&payload, "sub")?;
        if subject.chars().count() > MAX_SUBJECT_CHARS {
            return Err(invalid("sub", "at most 255 characters long"));
        }
        let audiences = audiences(&payload)?;
        let expires = time(&payload, "exp")?.ok_or(TokenError::MissingClaim("exp"))?;
        let issued = time(&payload, "iat")?.ok_or(TokenError::MissingClaim("iat"))?;
        Ok(Self {
            issuer,
            subject,
            audiences,
            expires,
            issued,
            not_before: time(&payload, "nbf")?,
            authorized_party: optional_text(&payload, "azp")?,
            authentication_methods: texts(&payload, "amr")?.unwrap_or_default(),
            // Only for the log: an issuer that numbers its tokens is not refused for it.
            token_id: payload.get("jti").and_then(Value::as_str).map(Into::into),
            aws: AwsClaims::read(&payload)?,
            kubernetes: payload
                .remove("kubernetes.io")
                .and_then(|claim| KubernetesClaims::read(&claim)),
        })
    }
}

impl KubernetesClaims {
    /// `None` for other forms: a generic issuer may use the name for something else.
    fn read(claim: &Value) -> Option<Self> {
        let object = |name| claim.get(name).and_then(BoundObject::read);
        Some(Self {
            namespace: text_of(claim.get("namespace")?)?,
            service_account: object("serviceaccount")?,
            pod: object("pod"),
            node: object("node"),
        })
    }
}

impl BoundObject {
    fn read(claim: &Value) -> Option<Self> {
        Some(Self {
            name: text_of(claim.get("name")?)?,
            uid: claim.get("uid").and_then(text_of),
        })
    }
}

fn text_of(value: &Value) -> Option<Box<str>> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(Into::into)
}

pub(crate) const fn invalid(claim: &'static str, must_be: &'static str) -> TokenError {
    TokenError::InvalidClaim { claim, must_be }
}

/// A claim that is there and not `null`.
pub(crate) fn present<'p>(payload: &'p Object, claim: &str) -> Option<&'p Value> {
    payload.get(claim).filter(|value| !value.is_null())
}

pub(crate) fn optional_text(
    payload: &Object,
    claim: &'static str,
) -> Result<Option<Box<str>>, TokenError> {
    present(payload, claim)
        .map(|value| text_of(value).ok_or(invalid(claim, "a text")))
        .transpose()
}

fn required_text(payload: &Object, claim: &'static str) -> Result<Box<str>, TokenError> {
    optional_text(payload, claim)?.ok_or(TokenError::MissingClaim(claim))
}

/// A whole number of seconds: AWS refuses fractions, and so it refuses `1.0`.
fn time(payload: &Object, claim: &'static str) -> Result<Option<i64>, TokenError> {
    present(payload, claim)
        .map(|value| value.as_i64().ok_or(invalid(claim, "an integer")))
        .transpose()
}

/// A text, or a list of texts.
pub(crate) fn texts(
    payload: &Object,
    claim: &'static str,
) -> Result<Option<Vec<Box<str>>>, TokenError> {
    let fault = invalid(claim, "a text or a list of texts");
    match present(payload, claim) {
        None => Ok(None),
        Some(Value::Array(list)) => list
            .iter()
            .map(|value| text_of(value).ok_or(fault.clone()))
            .collect::<Result<_, _>>()
            .map(Some),
        Some(value) => Ok(Some(vec![text_of(value).ok_or(fault)?])),
    }
}

fn audiences(payload: &Object) -> Result<Vec<Box<str>>, TokenError> {
    let mut distinct: Vec<Box<str>> = Vec::new();
    for audience in texts(payload, "aud")?.unwrap_or_default() {
        if distinct.len() == MAX_AUDIENCES {
            return Err(invalid("aud", "at most 100 audiences"));
        }
        if !distinct.contains(&audience) {
            distinct.push(audience);
        }
    }
    if distinct.is_empty() {
        return Err(TokenError::MissingClaim("aud"));
    }
    Ok(distinct)
}

/// Most audiences of a token: as many as a provider can have client ids.
const MAX_AUDIENCES: usize = 100;

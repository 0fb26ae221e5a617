//! Enveloped XML signatures, as far as SAML uses them (SAML core, section 5.4).
//!
//! A signature here covers exactly the element it stands in: one reference, by the element's ID, with the transforms
//! enveloped-signature and exclusive canonicalisation. Everything else that XML signatures can say is refused, because
//! every freedom of a signature is a way to have one thing signed and another one read.
//!
//! The outcome of [`verify`] is the canonical text that was signed. Readers parse that text and nothing else, so what is
//! read is what was signed whatever the document around it looks like.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};

use crate::canonical::{Canonicalization, TooLong};
use crate::key::{SignatureMethod, SigningKey};
use crate::text::base64;
use crate::xml::{Element, Limits, is_ncname};

/// The namespace of XML signatures.
pub(crate) const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
/// Exclusive canonicalisation without comments; also the namespace of `InclusiveNamespaces`.
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const EXCLUSIVE_WITH_COMMENTS: &str = "http://www.w3.org/2001/10/xml-exc-c14n#WithComments";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
/// Prefixes in one `InclusiveNamespaces`.
const MAX_PREFIXES: usize = 16;

/// Why an element is not signed by the identity provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFault {
    /// More than one signature in one element.
    #[error("`{0}` has more than one signature")]
    Several(String),
    /// A signature of another shape.
    #[error("the signature is not of the form SAML prescribes: {0}")]
    Form(&'static str),
    /// An algorithm that is not accepted.
    #[error("the {what} algorithm `{uri}` is not accepted")]
    Algorithm {
        /// Which of the signature's algorithms.
        what: &'static str,
        /// Its identifier, cut short.
        uri: String,
    },
    /// The reference is not to the element that the signature stands in.
    #[error("the signature refers to `{0}` and not to the element it stands in")]
    Reference(String),
    /// The digest in the reference is not that of the element.
    #[error("the signed element was changed: its digest differs")]
    Digest,
    /// None of the provider's keys made the signature.
    #[error("no key in the provider's metadata made the signature")]
    Value,
    /// The canonical form is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// Verifies the signature that stands directly in `element` against `keys` and returns the canonical text it covers:
/// the element without that signature. Nothing when the element has no signature.
///
/// `KeyInfo` is never looked at: a key that comes with the message proves nothing about its sender.
///
/// # Errors
/// When there is a signature and it is not a good one.
pub(crate) fn verify(
    element: Element<'_>,
    keys: &[SigningKey],
) -> Result<Option<String>, SignatureFault> {
    let mut signatures = element.children_named(DSIG, "Signature");
    let Some(signature) = signatures.next() else {
        return Ok(None);
    };
    if signatures.next().is_some() {
        return Err(SignatureFault::Several(shortened(element.local_name())));
    }
    let parts = Parts::of(signature)?;
    let info = SignedInfo::of(parts.info)?;
    let id = element.attribute("ID").filter(|id| is_ncname(id));
    if id.is_none() || info.uri.strip_prefix('#') != id {
        return Err(SignatureFault::Reference(shortened(info.uri)));
    }

    let octets = info
        .transform
        .write(element, Some(signature), Limits::RESPONSE.bytes)?;
    let digest = digest::digest(info.digest, octets.as_bytes());
    verify_slices_are_equal(digest.as_ref(), &info.expected).map_err(|_| SignatureFault::Digest)?;

    let signed = info
        .method_of_info
        .write(parts.info, None, Limits::RESPONSE.bytes)?;
    let verified = keys
        .iter()
        .any(|key| key.verifies(info.signature, signed.as_bytes(), &parts.value));
    if verified {
        Ok(Some(octets))
    } else {
        Err(SignatureFault::Value)
    }
}

/// `Signature`: `SignedInfo`, `SignatureValue`, at most one `KeyInfo`, nothing else. `Object` in particular is refused:
/// it is where wrapping attacks hide the original.
struct Parts<'d> {
    info: Element<'d>,
    value: Vec<u8>,
}

impl<'d> Parts<'d> {
    fn of(signature: Element<'d>) -> Result<Self, SignatureFault> {
        let mut children = signature.children();
        let info = named(children.next(), "SignedInfo")?;
        let value = named(children.next(), "SignatureValue")?;
        match children.next() {
            Some(key_info) if !key_info.is(DSIG, "KeyInfo") => {
                return Err(SignatureFault::Form(
                    "an element other than KeyInfo in Signature",
                ));
            }
            _ => {}
        }
        if children.next().is_some() {
            return Err(SignatureFault::Form(
                "an element behind KeyInfo in Signature",
            ));
        }
        let value = value.text().and_then(|text| base64(&text));
        let value = value.ok_or(SignatureFault::Form("SignatureValue is not base64"))?;
        Ok(Self { info, value })
    }
}

/// `SignedInfo`: how it is canonicalised and signed, and the one reference.
struct SignedInfo<'d> {
    method_of_info: Canonicalization,
    signature: SignatureMethod,
    uri: &'d str,
    transform: Canonicalization,
    digest: &'static digest::Algorithm,
    expected: Vec<u8>,
}

impl<'d> SignedInfo<'d> {
    fn of(info: Element<'d>) -> Result<Self, SignatureFault> {
        let mut children = info.children();
        let canonicalization = named(children.next(), "CanonicalizationMethod")?;
        let method = named(children.next(), "SignatureMethod")?;
        let reference = named(children.next(), "Reference")?;
        if children.next().is_some() {
            return Err(SignatureFault::Form("more than one Reference"));
        }
        let uri = plain_algorithm(method)?;
        let signature =
            SignatureMethod::from_uri(uri).ok_or_else(|| not_accepted("signature", uri))?;

        let mut children = reference.children();
        let transforms = named(children.next(), "Transforms")?;
        let digest_method = named(children.next(), "DigestMethod")?;
        let digest_value = named(children.next(), "DigestValue")?;
        if children.next().is_some() {
            return Err(SignatureFault::Form("an element behind DigestValue"));
        }
        let mut children = transforms.children();
        let enveloped = named(children.next(), "Transform")?;
        let exclusive = named(children.next(), "Transform")?;
        if children.next().is_some() {
            return Err(SignatureFault::Form("more than two transforms"));
        }
        let first = plain_algorithm(enveloped)?;
        if first != ENVELOPED {
            return Err(not_accepted("first transform", first));
        }
        let expected = digest_value.text().and_then(|text| base64(&text));
        Ok(Self {
            method_of_info: exclusive_of(canonicalization)?,
            signature,
            uri: reference
                .attribute("URI")
                .ok_or(SignatureFault::Form("a Reference without URI"))?,
            // A reference by ID leaves comments out, whatever the transform says of them (XML signatures, section
            // 4.4.3.3): they are not in the set of nodes that the transform is given.
            transform: Canonicalization {
                comments: false,
                ..exclusive_of(exclusive)?
            },
            digest: digest_of(plain_algorithm(digest_method)?)?,
            expected: expected.ok_or(SignatureFault::Form("DigestValue is not base64"))?,
        })
    }
}

fn named<'d>(
    element: Option<Element<'d>>,
    local: &'static str,
) -> Result<Element<'d>, SignatureFault> {
    element
        .filter(|element| element.is(DSIG, local))
        .ok_or(SignatureFault::Form(match local {
            "SignedInfo" => "SignedInfo is missing",
            "SignatureValue" => "SignatureValue is missing",
            "CanonicalizationMethod" => "CanonicalizationMethod is missing",
            "SignatureMethod" => "SignatureMethod is missing",
            "Reference" => "Reference is missing",
            "Transforms" => "Transforms are missing",
            "Transform" => "there must be two transforms, enveloped-signature and xml-exc-c14n",
            "DigestMethod" => "DigestMethod is missing",
            _ => "DigestValue is missing",
        }))
}

/// The algorithm of an element that takes no parameters: `HMACOutputLength`, XPath and the like have no place here.
fn plain_algorithm(element: Element<'_>) -> Result<&str, SignatureFault> {
    if element.children().next().is_some() {
        return Err(SignatureFault::Form("an algorithm with parameters"));
    }
    algorithm(element)
}

fn algorithm(element: Element<'_>) -> Result<&str, SignatureFault> {
    element
        .attribute("Algorithm")
        .ok_or(SignatureFault::Form("an algorithm without identifier"))
}

fn exclusive_of(element: Element<'_>) -> Result<Canonicalization, SignatureFault> {
    let comments = match algorithm(element)? {
        EXCLUSIVE => false,
        EXCLUSIVE_WITH_COMMENTS => true,
        uri => return Err(not_accepted("canonicalization", uri)),
    };
    let mut children = element.children();
    let inclusive = match children.next() {
        None => Vec::new(),
        Some(list) if list.is(EXCLUSIVE, "InclusiveNamespaces") && children.next().is_none() => {
            prefixes(list.attribute("PrefixList").unwrap_or_default())?
        }
        Some(_) => {
            return Err(SignatureFault::Form(
                "a canonicalization with other parameters",
            ));
        }
    };
    Ok(Canonicalization {
        comments,
        inclusive,
    })
}

fn prefixes(list: &str) -> Result<Vec<Box<str>>, SignatureFault> {
    let mut prefixes = Vec::new();
    for name in list.split_ascii_whitespace() {
        let prefix = if name == "#default" { "" } else { name };
        if prefixes.len() >= MAX_PREFIXES || !(prefix.is_empty() || is_ncname(prefix)) {
            return Err(SignatureFault::Form(
                "a PrefixList that is too long or malformed",
            ));
        }
        prefixes.push(prefix.into());
    }
    Ok(prefixes)
}

fn digest_of(uri: &str) -> Result<&'static digest::Algorithm, SignatureFault> {
    match uri {
        "http://www.w3.org/2001/04/xmlenc#sha256" => Ok(&SHA256),
        "http://www.w3.org/2001/04/xmldsig-more#sha384" => Ok(&SHA384),
        "http://www.w3.org/2001/04/xmlenc#sha512" => Ok(&SHA512),
        _ => Err(not_accepted("digest", uri)),
    }
}

fn not_accepted(what: &'static str, uri: &str) -> SignatureFault {
    let uri = shortened(uri);
    SignatureFault::Algorithm { what, uri }
}

/// What a message says about itself may be long; errors show its beginning.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

//! From the response of an identity provider to a verified [`Assertion`] (STS spec, section 2.4).
//!
//! ```text
//!   base64 ─▶ Document ─▶ one Response, one Assertion in it, IDs unique
//!                              │ signature of Response, of Assertion, or both
//!                   canonical text that was signed
//!                              │ read again, alone
//!              Issuer · Subject · Conditions · AuthnStatement · attributes ─▶ Assertion
//! ```

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use crate::assertion::{Assertion, NAMEID_FORMAT, UNSPECIFIED};
use crate::attributes::{self, Attributes};
use crate::metadata::{IdentityProvider, Metadata};
use crate::refusal::Refusal;
use crate::signature::{self, DSIG, shortened};
use crate::text::{base64, instant};
use crate::xml::{Document, Element, Limits, XML_NAMESPACE, is_blank};

pub(crate) const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
const CONDITIONS: [&str; 2] = [
    "NotBefore of the conditions",
    "NotOnOrAfter of the conditions",
];
const CONFIRMATION: [&str; 2] = [
    "NotBefore of the subject confirmation",
    "NotOnOrAfter of the subject confirmation",
];
/// How far clocks may differ (STS spec, section 2.4).
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// Longest NameID, in characters: the limit of SAML for persistent ones, four times over.
const MAX_SUBJECT: usize = 1024;

/// What this service is to identity providers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The SAML endpoints of the service, one of which has to be the `Recipient`.
    pub recipients: Vec<Box<str>>,
    /// The names of the service, one of which has to be in `AudienceRestriction`.
    pub audiences: Vec<Box<str>>,
}

impl Default for Options {
    /// Those of AWS, so that an identity provider that is set up for AWS needs no change:
    /// recipient `https://signin.aws.amazon.com/saml`; audiences `urn:amazon:webservices` and that recipient.
    fn default() -> Self {
        Self {
            recipients: vec!["https://signin.aws.amazon.com/saml".into()],
            audiences: vec![
                "urn:amazon:webservices".into(),
                "https://signin.aws.amazon.com/saml".into(),
            ],
        }
    }
}

/// Verifies `response`, the base64 of a SAML response, against the metadata of a SAML provider. The checks, in order:
///
/// 1. the metadata has not expired
/// 2. base64, XML within [`Limits::RESPONSE`], no ID twice
/// 3. a Response of version 2.0 with status Success and exactly one Assertion, which is not encrypted, directly inside;
///    no other assertion and no signature anywhere else
/// 4. the issuer is in the metadata: its keys count, not those of other entities
/// 5. the Response, the Assertion or both are signed; every signature that is there holds
/// 6. from here on only the signed text is read: version, ID, issuer
/// 7. `NotBefore` and `NotOnOrAfter` of the conditions and of the confirmation, with [`CLOCK_TOLERANCE`];
///    `SessionNotOnOrAfter` without, as it ends what the assertion is for
/// 8. the recipient, the audience, no unknown condition
/// 9. the attributes
///
/// Not looked at: `InResponseTo`, as nobody here asked for the assertion; `Destination`, which the signed `Recipient`
/// repeats; `IssueInstant`. Whether the assertion was used before is for a [`crate::ReplayMemory`] to say, whether it
/// names the role for [`Assertion::offers`].
///
/// # Errors
/// The first check that fails.
pub fn verify(
    response: &str,
    metadata: &Metadata,
    now: Timestamp,
    options: &Options,
) -> Result<Assertion, Refusal> {
    if let Some(until) = metadata.valid_until()
        && now >= until
    {
        return Err(Refusal::MetadataExpired { until });
    }
    let bytes = base64(response).ok_or(Refusal::Encoding)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Refusal::Encoding)?;
    let document = Document::parse(text, &Limits::RESPONSE)?;
    let signed = signed_text(&document, metadata)?;

    let document = Document::parse(&signed.text, &Limits::RESPONSE)?;
    let assertion = match signed.of {
        Signed::Assertion => document.root(),
        Signed::Response => document
            .root()
            .only_child(ASSERTION, "Assertion")
            .ok_or(Refusal::Form("the signed response has not one assertion"))?,
    };
    read(assertion, signed.provider, now, options)
}

enum Signed {
    Response,
    Assertion,
}

struct SignedText<'m> {
    of: Signed,
    text: String,
    provider: &'m IdentityProvider,
}

/// The text that the identity provider signed: the assertion where it is signed itself, else the response.
fn signed_text<'m>(document: &Document, metadata: &'m Metadata) -> Result<SignedText<'m>, Refusal> {
    let response = document.root();
    let assertion = only_assertion(document)?;
    succeeded(response)?;
    // Unsigned as yet: it only chooses the keys, and is compared again once it is known to be signed.
    let provider = provider_of(assertion, metadata)?;
    if let Some(issuer) = response.only_child(ASSERTION, "Issuer")
        && trimmed(issuer).as_deref() != Some(provider.entity_id())
    {
        return Err(Refusal::Issuer(shortened(
            &trimmed(issuer).unwrap_or_default(),
        )));
    }
    let of_response = signature::verify(response, provider.keys()).map_err(|fault| {
        let element = "Response";
        Refusal::Signature { element, fault }
    })?;
    let of_assertion = signature::verify(assertion, provider.keys()).map_err(|fault| {
        let element = "Assertion";
        Refusal::Signature { element, fault }
    })?;
    let (of, text) = match (of_response, of_assertion) {
        (_, Some(text)) => (Signed::Assertion, text),
        (Some(text), None) => (Signed::Response, text),
        (None, None) => return Err(Refusal::Unsigned),
    };
    Ok(SignedText { of, text, provider })
}

/// The one assertion of the response. Assertions and signatures in any other place are refused, not passed over: that is
/// where a wrapped original would be.
fn only_assertion(document: &Document) -> Result<Element<'_>, Refusal> {
    let response = document.root();
    if !response.is(PROTOCOL, "Response") || response.attribute("Version") != Some("2.0") {
        return Err(Refusal::Form("the root is not a Response of version 2.0"));
    }
    let mut ids = HashSet::new();
    let mut assertions = Vec::new();
    for element in document.elements() {
        for (namespace, name, value) in element.attributes() {
            let is_id = (namespace.is_empty() || namespace == XML_NAMESPACE)
                && name.eq_ignore_ascii_case("id");
            if is_id && !ids.insert(value) {
                return Err(Refusal::Form("an ID is there twice"));
            }
        }
        match (element.namespace(), element.local_name()) {
            (ASSERTION, "Assertion") => assertions.push(element),
            (ASSERTION, "EncryptedAssertion" | "EncryptedID" | "EncryptedAttribute") => {
                return Err(Refusal::Encrypted);
            }
            (DSIG, "Signature") => {
                let parent = element.parent();
                let at_its_place = parent.is_some_and(|parent| {
                    parent == response
                        || parent.is(ASSERTION, "Assertion") && parent.parent() == Some(response)
                });
                if !at_its_place {
                    return Err(Refusal::Form("a signature outside Response and Assertion"));
                }
            }
            _ => {}
        }
    }
    match assertions.as_slice() {
        [assertion] if assertion.parent() == Some(response) => Ok(*assertion),
        [] => Err(Refusal::Form("there is no assertion")),
        [_] => Err(Refusal::Form(
            "the assertion is not directly in the response",
        )),
        _ => Err(Refusal::Form("there is more than one assertion")),
    }
}

fn succeeded(response: Element<'_>) -> Result<(), Refusal> {
    let status = response
        .only_child(PROTOCOL, "Status")
        .and_then(|status| status.only_child(PROTOCOL, "StatusCode"))
        .and_then(|code| code.attribute("Value"))
        .ok_or(Refusal::Form("there is no status"))?;
    if status == SUCCESS {
        Ok(())
    } else {
        Err(Refusal::Status(shortened(status)))
    }
}

fn provider_of<'m>(
    assertion: Element<'_>,
    metadata: &'m Metadata,
) -> Result<&'m IdentityProvider, Refusal> {
    let issuer = assertion
        .only_child(ASSERTION, "Issuer")
        .and_then(trimmed)
        .ok_or(Refusal::Malformed("Issuer"))?;
    metadata
        .provider(&issuer)
        .ok_or_else(|| Refusal::Issuer(shortened(&issuer)))
}

/// Reads a signed assertion.
fn read(
    assertion: Element<'_>,
    provider: &IdentityProvider,
    now: Timestamp,
    options: &Options,
) -> Result<Assertion, Refusal> {
    if !assertion.is(ASSERTION, "Assertion") || assertion.attribute("Version") != Some("2.0") {
        return Err(Refusal::Malformed("Version"));
    }
    let id = assertion
        .attribute("ID")
        .filter(|id| !id.is_empty())
        .ok_or(Refusal::Malformed("ID"))?;
    let issuer = assertion
        .only_child(ASSERTION, "Issuer")
        .and_then(trimmed)
        .ok_or(Refusal::Malformed("Issuer"))?;
    if issuer != provider.entity_id() {
        return Err(Refusal::Issuer(shortened(&issuer)));
    }
    let subject = assertion
        .only_child(ASSERTION, "Subject")
        .ok_or(Refusal::Malformed("Subject"))?;
    let conditions = assertion
        .only_child(ASSERTION, "Conditions")
        .ok_or(Refusal::Malformed("Conditions"))?;
    let (name, format) = name_id(subject)?;
    let confirmation = confirmation_data(subject)?;

    let clock = Clock { now };
    let conditions_end = clock.within(conditions, CONDITIONS)?;
    let confirmation_end = clock
        .within(confirmation, CONFIRMATION)?
        .ok_or(Refusal::Malformed(
            "NotOnOrAfter in SubjectConfirmationData",
        ))?;
    let session_not_after = clock.session_end(assertion)?;
    let not_after = conditions_end
        .map_or(confirmation_end, |end| end.min(confirmation_end))
        .saturating_add(CLOCK_TOLERANCE)
        .unwrap_or(Timestamp::MAX);

    let recipient = confirmation
        .attribute("Recipient")
        .ok_or(Refusal::Malformed("Recipient"))?;
    if !options.recipients.iter().any(|known| **known == *recipient) {
        return Err(Refusal::Recipient(shortened(recipient)));
    }
    check_conditions(conditions, options)?;
    let Attributes { claims, context } = attributes::read(assertion)?;
    Ok(Assertion {
        id: id.into(),
        issuer: issuer.into(),
        subject: name.into(),
        subject_type: format.strip_prefix(NAMEID_FORMAT).unwrap_or(format).into(),
        recipient: recipient.into(),
        not_after,
        session_not_after,
        claims,
        context,
    })
}

fn name_id(subject: Element<'_>) -> Result<(String, &str), Refusal> {
    let name_id = subject
        .only_child(ASSERTION, "NameID")
        .ok_or(Refusal::Malformed("NameID"))?;
    let name = trimmed(name_id)
        .filter(|name| !name.is_empty() && name.chars().count() <= MAX_SUBJECT)
        .ok_or(Refusal::Malformed("NameID"))?;
    let format = name_id
        .attribute("Format")
        .filter(|format| !format.is_empty())
        .unwrap_or(UNSPECIFIED);
    if format.len() > MAX_SUBJECT {
        return Err(Refusal::Malformed("NameID Format"));
    }
    Ok((name, format))
}

/// The data of the one bearer confirmation; AWS takes no second one.
fn confirmation_data(subject: Element<'_>) -> Result<Element<'_>, Refusal> {
    subject
        .only_child(ASSERTION, "SubjectConfirmation")
        .filter(|confirmation| confirmation.attribute("Method") == Some(BEARER))
        .and_then(|confirmation| confirmation.only_child(ASSERTION, "SubjectConfirmationData"))
        .ok_or(Refusal::Malformed("bearer SubjectConfirmation"))
}

struct Clock {
    now: Timestamp,
}

impl Clock {
    /// Checks `NotBefore` and `NotOnOrAfter` of `element`, which `names` are for the operator, and returns the latter.
    fn within(
        &self,
        element: Element<'_>,
        names: [&'static str; 2],
    ) -> Result<Option<Timestamp>, Refusal> {
        let [begins, ends] = names;
        let earliest = self
            .now
            .saturating_add(CLOCK_TOLERANCE)
            .unwrap_or(Timestamp::MAX);
        let latest = self
            .now
            .saturating_sub(CLOCK_TOLERANCE)
            .unwrap_or(Timestamp::MIN);
        if let Some(from) = time(element, "NotBefore")?
            && from > earliest
        {
            return Err(self.missed(begins, from));
        }
        let until = time(element, "NotOnOrAfter")?;
        match until {
            Some(until) if until <= latest => Err(self.missed(ends, until)),
            _ => Ok(until),
        }
    }

    /// The earliest `SessionNotOnOrAfter`.
    fn session_end(&self, assertion: Element<'_>) -> Result<Option<Timestamp>, Refusal> {
        let mut earliest: Option<Timestamp> = None;
        for statement in assertion.children_named(ASSERTION, "AuthnStatement") {
            if let Some(end) = time(statement, "SessionNotOnOrAfter")? {
                earliest = Some(earliest.map_or(end, |other| other.min(end)));
            }
        }
        match earliest {
            Some(end) if end <= self.now => Err(self.missed("SessionNotOnOrAfter", end)),
            _ => Ok(earliest),
        }
    }

    const fn missed(&self, what: &'static str, bound: Timestamp) -> Refusal {
        let now = self.now;
        Refusal::Time { what, bound, now }
    }
}

fn time(element: Element<'_>, name: &'static str) -> Result<Option<Timestamp>, Refusal> {
    match element.attribute(name) {
        None => Ok(None),
        Some(text) => instant(text).map(Some).ok_or(Refusal::Malformed(name)),
    }
}

/// Every audience restriction has to name this service, and there has to be one. A condition of an unknown kind makes
/// an assertion invalid (SAML core, section 2.5.1); single use is what is granted anyhow.
fn check_conditions(conditions: Element<'_>, options: &Options) -> Result<(), Refusal> {
    let mut restricted = false;
    for condition in conditions.children() {
        match (condition.namespace(), condition.local_name()) {
            (ASSERTION, "AudienceRestriction") => {
                let named = condition
                    .children_named(ASSERTION, "Audience")
                    .filter_map(trimmed)
                    .any(|audience| options.audiences.iter().any(|own| **own == *audience));
                if !named {
                    return Err(Refusal::Audience);
                }
                restricted = true;
            }
            (ASSERTION, "OneTimeUse" | "ProxyRestriction") => {}
            (_, other) => return Err(Refusal::Condition(shortened(other))),
        }
    }
    if restricted {
        Ok(())
    } else {
        Err(Refusal::Audience)
    }
}

fn trimmed(element: Element<'_>) -> Option<String> {
    element
        .text()
        .map(|text| text.trim_matches(is_blank).to_owned())
}

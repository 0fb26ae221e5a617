//! The attributes of an assertion: those of AWS, and those that policies can ask for.

use crate::assertion::{Claims, RolePair};
use crate::refusal::Refusal;
use crate::response::ASSERTION;
use crate::signature::shortened;
use crate::xml::{Element, is_blank};

/// What the names of AWS's attributes begin with. They are compared with case.
const PREFIX: &str = "https://aws.amazon.com/SAML/Attributes/";
/// Seconds that `SessionDuration` may name.
const SESSION_DURATION: std::ops::RangeInclusive<u32> = 900..=43_200;

/// The condition keys of SAML attributes, without `saml:` and in lower case, each with the names its attribute goes by
/// (user guide, condition keys of SAML-based federation).
const CONTEXT: &[(&str, &[&str])] = &[
    (
        "edupersonaffiliation",
        &["urn:oid:1.3.6.1.4.1.5923.1.1.1.1"],
    ),
    ("edupersonnickname", &["urn:oid:1.3.6.1.4.1.5923.1.1.1.2"]),
    ("edupersonorgdn", &["urn:oid:1.3.6.1.4.1.5923.1.1.1.3"]),
    ("edupersonorgunitdn", &["urn:oid:1.3.6.1.4.1.5923.1.1.1.4"]),
    (
        "edupersonprimaryaffiliation",
        &["urn:oid:1.3.6.1.4.1.5923.1.1.1.5"],
    ),
    (
        "edupersonprincipalname",
        &["urn:oid:1.3.6.1.4.1.5923.1.1.1.6"],
    ),
    (
        "edupersonentitlement",
        &["urn:oid:1.3.6.1.4.1.5923.1.1.1.7"],
    ),
    (
        "edupersonprimaryorgunitdn",
        &["urn:oid:1.3.6.1.4.1.5923.1.1.1.8"],
    ),
    (
        "edupersonscopedaffiliation",
        &["urn:oid:1.3.6.1.4.1.5923.1.1.1.9"],
    ),
    (
        "edupersontargetedid",
        &["urn:oid:1.3.6.1.4.1.5923.1.1.1.10"],
    ),
    ("edupersonassurance", &["urn:oid:1.3.6.1.4.1.5923.1.1.1.11"]),
    ("eduorghomepageuri", &["urn:oid:1.3.6.1.4.1.5923.1.2.1.2"]),
    (
        "eduorgidentityauthnpolicyuri",
        &["urn:oid:1.3.6.1.4.1.5923.1.2.1.3"],
    ),
    ("eduorglegalname", &["urn:oid:1.3.6.1.4.1.5923.1.2.1.4"]),
    ("eduorgsuperioruri", &["urn:oid:1.3.6.1.4.1.5923.1.2.1.5"]),
    ("eduorgwhitepagesuri", &["urn:oid:1.3.6.1.4.1.5923.1.2.1.6"]),
    ("cn", &["urn:oid:2.5.4.3"]),
    (
        "name",
        &["http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"],
    ),
    (
        "commonname",
        &["http://schemas.xmlsoap.org/claims/CommonName"],
    ),
    (
        "givenname",
        &[
            "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname",
            "urn:oid:2.5.4.42",
        ],
    ),
    (
        "surname",
        &[
            "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname",
            "urn:oid:2.5.4.4",
        ],
    ),
    (
        "mail",
        &[
            "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
            "urn:oid:0.9.2342.19200300.100.1.3",
        ],
    ),
    (
        "primarygroupsid",
        &["http://schemas.microsoft.com/ws/2008/06/identity/claims/primarygroupsid"],
    ),
    ("uid", &["urn:oid:0.9.2342.19200300.100.1.1"]),
    (
        "organizationstatus",
        &["urn:oid:0.9.2342.19200300.100.1.45"],
    ),
    ("x500uniqueidentifier", &["urn:oid:2.5.4.45"]),
];

/// The attributes of an assertion that mean something here.
pub(crate) struct Attributes {
    pub(crate) claims: Claims,
    /// Condition keys without `saml:`, with their values.
    pub(crate) context: Vec<(&'static str, Vec<Box<str>>)>,
}

/// Reads every attribute statement of `assertion`.
pub(crate) fn read(assertion: Element<'_>) -> Result<Attributes, Refusal> {
    let mut reader = Reader::default();
    for statement in assertion.children_named(ASSERTION, "AttributeStatement") {
        if statement
            .children_named(ASSERTION, "EncryptedAttribute")
            .next()
            .is_some()
        {
            return Err(Refusal::Encrypted);
        }
        for attribute in statement.children_named(ASSERTION, "Attribute") {
            let name = attribute
                .attribute("Name")
                .ok_or(Refusal::Malformed("Attribute: its Name is missing"))?;
            match name.strip_prefix(PREFIX) {
                Some(own) => reader.own(own, attribute)?,
                None => reader.other(name, attribute),
            }
        }
    }
    let session_name = reader.session_name.ok_or(Refusal::NoSessionName)?;
    if !is_session_name(&session_name) {
        return Err(Refusal::SessionName);
    }
    let claims = Claims {
        session_name: session_name.into(),
        ..reader.claims
    };
    Ok(Attributes {
        claims,
        context: reader.context,
    })
}

#[derive(Default)]
struct Reader {
    claims: Claims,
    session_name: Option<String>,
    context: Vec<(&'static str, Vec<Box<str>>)>,
}

impl Reader {
    /// An attribute of AWS. Those that AWS may add later change nothing.
    fn own(&mut self, name: &str, attribute: Element<'_>) -> Result<(), Refusal> {
        let fault = |fault| Refusal::Attribute {
            name: shortened(name),
            fault,
        };
        match name {
            "Role" => {
                // A value that is no pair grants nothing.
                let values = texts(attribute).flatten();
                self.claims
                    .roles
                    .extend(values.filter_map(|value| RolePair::parse(&value)));
            }
            "RoleSessionName" => {
                let value = only_value(attribute).ok_or(Refusal::NoSessionName)?;
                if self.session_name.replace(value).is_some() {
                    return Err(Refusal::NoSessionName);
                }
            }
            "SessionDuration" => {
                let seconds = only_value(attribute)
                    .filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(|value| value.parse().ok())
                    .filter(|seconds| SESSION_DURATION.contains(seconds))
                    .ok_or_else(|| fault("must be one number from 900 to 43200"))?;
                if self.claims.session_duration.replace(seconds).is_some() {
                    return Err(fault("must be there once"));
                }
            }
            "SourceIdentity" => {
                let value = only_value(attribute)
                    .filter(|value| is_session_name(value) && !value.starts_with("aws:"))
                    .ok_or(Refusal::SourceIdentity)?;
                if self.claims.source_identity.replace(value.into()).is_some() {
                    return Err(Refusal::SourceIdentity);
                }
            }
            "TransitiveTagKeys" => {
                for value in texts(attribute) {
                    let key = value.ok_or_else(|| fault("must hold text only"))?;
                    self.claims.transitive_tag_keys.push(key.into());
                }
            }
            _ => {
                if let Some(key) = name.strip_prefix("PrincipalTag:") {
                    let value = only_value(attribute)
                        .ok_or_else(|| fault("must have exactly one value, which is text"))?;
                    self.claims.tags.push((key.into(), value.into()));
                }
            }
        }
        Ok(())
    }

    /// An attribute that policies may ask for. Values that are not text say nothing.
    fn other(&mut self, name: &str, attribute: Element<'_>) {
        let Some((key, _)) = CONTEXT.iter().find(|(_, names)| names.contains(&name)) else {
            return;
        };
        let values: Vec<Box<str>> = texts(attribute).flatten().map(Into::into).collect();
        match self.context.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => known.extend(values),
            None if values.is_empty() => {}
            None => self.context.push((key, values)),
        }
    }
}

/// The values of an attribute without white space around them; nothing for one that holds elements.
fn texts(attribute: Element<'_>) -> impl Iterator<Item = Option<String>> {
    attribute
        .children_named(ASSERTION, "AttributeValue")
        .map(|value| {
            value
                .text()
                .map(|text| text.trim_matches(is_blank).to_owned())
        })
}

fn only_value(attribute: Element<'_>) -> Option<String> {
    let mut values = texts(attribute);
    let first = values.next()??;
    values.next().is_none().then_some(first)
}

fn is_session_name(name: &str) -> bool {
    (2..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
}

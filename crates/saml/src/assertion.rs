//! What an assertion says, once its signature was verified (STS spec, section 2.4).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

/// The prefix that is left out of a subject type.
pub(crate) const NAMEID_FORMAT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:";
/// The format of a NameID without one (SAML core, sections 2.2.2 and 8.3.1).
pub(crate) const UNSPECIFIED: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";

/// A verified assertion. Only [`crate::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assertion {
    /// The assertion's `ID`.
    pub id: Box<str>,
    /// `Issuer`, which is an entityID of the metadata.
    pub issuer: Box<str>,
    /// The NameID: `saml:sub`.
    pub subject: Box<str>,
    /// The NameID's format without the usual prefix: `persistent`, `transient` or a full URI; `saml:sub_type`.
    pub subject_type: Box<str>,
    /// The `Recipient` of the subject confirmation: `saml:aud`, and `Audience` of the answer.
    pub recipient: Box<str>,
    /// From when on the same assertion can't be accepted whatever happens: how long it has to be remembered.
    pub not_after: Timestamp,
    /// When the session at the identity provider ends: nothing made from the assertion lasts longer.
    pub session_not_after: Option<Timestamp>,
    /// What AWS's attributes say.
    pub claims: Claims,
    /// Values of the attributes that policies can ask for: the keys `saml:…` without `saml:`, in lower case.
    pub context: Vec<(&'static str, Vec<Box<str>>)>,
}

/// The attributes below `https://aws.amazon.com/SAML/Attributes/`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// `Role`: roles with the provider for which each may be assumed.
    pub roles: Vec<RolePair>,
    /// `RoleSessionName`.
    pub session_name: Box<str>,
    /// `SessionDuration` in seconds, 900 to 43200; it is for console sign-in only.
    pub session_duration: Option<u32>,
    /// `PrincipalTag:…`: keys and values in the order given. Whether they are proper session tags is for the session
    /// rules to say.
    pub tags: Vec<(Box<str>, Box<str>)>,
    /// `TransitiveTagKeys`.
    pub transitive_tag_keys: Vec<Box<str>>,
    /// `SourceIdentity`.
    pub source_identity: Option<Box<str>>,
}

/// One value of the attribute `Role`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RolePair {
    /// The role's ARN.
    pub role: Box<str>,
    /// The SAML provider's ARN.
    pub provider: Box<str>,
}

impl RolePair {
    /// The pair that `value` names: the ARNs of a role and of a SAML provider in either order, divided by a comma, with
    /// blanks around them.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (first, second) = value.split_once(',')?;
        let (first, second) = (first.trim(), second.trim());
        let (role, provider) = if is_iam(second, "saml-provider/") {
            (first, second)
        } else {
            (second, first)
        };
        (is_iam(role, "role/") && is_iam(provider, "saml-provider/")).then(|| Self {
            role: role.into(),
            provider: provider.into(),
        })
    }
}

/// Whether `arn` has the shape of an IAM ARN of a resource that begins with `kind`.
fn is_iam(arn: &str, kind: &str) -> bool {
    let mut parts = arn.splitn(6, ':');
    parts.next() == Some("arn")
        && parts.next().is_some_and(|partition| !partition.is_empty())
        && parts.next() == Some("iam")
        && parts.next() == Some("")
        && parts.next().is_some_and(|account| !account.is_empty())
        && parts
            .next()
            .and_then(|resource| resource.strip_prefix(kind))
            .is_some_and(|name| !name.is_empty() && !name.contains([',', ' ']))
}

impl Assertion {
    /// Whether the identity provider lets the subject assume `role` through `provider`: exactly this pair has to be
    /// among the values of `Role`.
    #[must_use]
    pub fn offers(&self, role: &str, provider: &str) -> bool {
        let mut roles = self.claims.roles.iter();
        roles.any(|pair| *pair.role == *role && *pair.provider == *provider)
    }
}

/// `NameQualifier` and `saml:namequalifier`: base64 of the SHA-1 of issuer, account and the provider's name. SHA-1 names
/// a provider here and proves nothing.
#[must_use]
pub fn name_qualifier(issuer: &str, account: &str, provider_name: &str) -> String {
    let text = format!("{issuer}{account}/{provider_name}");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_pairs_come_in_either_order() {
        let role = "arn:aws:iam::111122223333:role/team/Dev";
        let provider = "arn:aws:iam::111122223333:saml-provider/corp";
        let cases = [
            (format!("{role},{provider}"), true),
            (format!("{provider},{role}"), true),
            (format!(" \n{provider} , {role}\t"), true),
            (format!("{role},{role}"), false),
            (format!("{provider},{provider}"), false),
            (format!("{role},{provider},{role}"), false),
            (format!("{provider},{role},{role}"), false),
            (role.to_owned(), false),
            (format!("{role},"), false),
            (
                format!("{role},arn:aws:iam::111122223333:saml-provider/"),
                false,
            ),
            (
                format!("{role},arn:aws:sts::111122223333:saml-provider/x"),
                false,
            ),
            (String::new(), false),
        ];
        for (value, good) in cases {
            let expected = good.then(|| RolePair {
                role: role.into(),
                provider: provider.into(),
            });
            assert_eq!(RolePair::parse(&value), expected, "{value}");
        }
    }

    #[test]
    fn the_name_qualifier_is_sha1_of_issuer_account_and_provider() {
        // printf 'https://idp.example.com/111122223333/corp' | openssl sha1 -binary | base64
        assert_eq!(
            name_qualifier("https://idp.example.com/", "111122223333", "corp"),
            "tp+KYGXzxRtGEAbuvbe5cMY18FA="
        );
    }
}

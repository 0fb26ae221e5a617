//! From the verified ID token of a person to a Kubernetes user (authentication spec, section 9.3).
//!
//! The rules give what kube-apiserver gives with `--oidc-*` flags, and refuse besides whoever would be called `system:`
//! something: there a token may put its bearer into `system:masters` when no prefix is configured.

use std::borrow::Cow;
use std::collections::BTreeMap;

use countersign_oidc::VerifiedIdToken;
use jiff::Timestamp;
use serde_json::Value;

use crate::identity::{Extra, KubernetesIdentity};
use crate::render::ENTRY_GROUP_PREFIX;

/// The attribute that says which token it was, as kube-apiserver writes it.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// Seconds that `nbf` may be ahead.
const NOT_BEFORE_SKEW: i64 = 60;
/// Google's tokens may name their issuer without a scheme.
const GOOGLE: &str = "https://accounts.google.com";

/// The issuer that a token means by its `iss`: that, but for Google's own short form.
#[must_use]
pub fn canonical_issuer(issuer: &str) -> &str {
    if GOOGLE.strip_prefix("https://") == Some(issuer) {
        GOOGLE
    } else {
        issuer
    }
}

/// What one identity provider config says of its tokens (EKS API spec, section 12). The texts are as they were configured;
/// defaults are applied here.
#[derive(Debug, Clone, Copy)]
pub struct PersonRules<'a> {
    /// The issuer.
    pub issuer_url: &'a str,
    /// What tokens must have among their audiences.
    pub client_id: &'a str,
    /// The claim that is the username; `None` for `sub`.
    pub username_claim: Option<&'a str>,
    /// What usernames begin with: `-` for nothing; `None` for nothing with the claim `email`, and for `ISSUER#` with others.
    pub username_prefix: Option<&'a str>,
    /// The claim that has the groups; without it there are none.
    pub groups_claim: Option<&'a str>,
    /// What groups begin with.
    pub groups_prefix: Option<&'a str>,
    /// Claims that must be there and have this value.
    pub required_claims: &'a BTreeMap<Box<str>, Box<str>>,
}

/// What nobody may be called by a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// `system:…`: Kubernetes' own users and groups.
    System,
    /// `countersign:entry:…`: the groups that access policies are bound to.
    AccessEntry,
}

/// Why a verified token makes nobody. Claims are named by the config, which is not the caller's; values are not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PersonRefused {
    /// `iss` is another.
    #[error("the token is of another issuer")]
    Issuer,
    /// `aud` is missing, malformed, or without the client id.
    #[error("the audience of the token is not the client id of the config")]
    Audience,
    /// `exp` is missing or no number.
    #[error("the token has no expiry")]
    NoExpiry,
    /// `exp` is over.
    #[error("the token expired {ago} s ago")]
    Expired {
        /// Seconds.
        ago: i64,
    },
    /// `nbf` is more than a minute ahead.
    #[error("the token is valid in {ahead} s only")]
    NotYetValid {
        /// Seconds.
        ahead: i64,
    },
    /// `nbf` is there and no number.
    #[error("the claim `nbf` of the token is no number")]
    NotBefore,
    /// The claim of the username is missing, no text, empty, or has control characters.
    #[error("the claim `{0}`, which is to be the username, is missing, empty or no plain text")]
    Username(Box<str>),
    /// `email_verified` is there and not `true`.
    #[error("the email address is not verified")]
    EmailNotVerified,
    /// The claim of the groups is neither a text nor a list of texts.
    #[error("the claim `{0}`, which is to be the groups, is neither a text nor a list of texts")]
    Groups(Box<str>),
    /// A required claim is missing or has another value.
    #[error("the claim `{0}` is missing or not what the config requires")]
    RequiredClaim(Box<str>),
    /// The username is reserved.
    #[error("the username is reserved: it begins with `{}`", .0.prefix())]
    ReservedUsername(Reserved),
    /// A group is reserved.
    #[error("a group is reserved: it begins with `{}`", .0.prefix())]
    ReservedGroup(Reserved),
}

impl Reserved {
    const ALL: [Self; 2] = [Self::System, Self::AccessEntry];

    /// What reserved names begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::System => "system:",
            Self::AccessEntry => ENTRY_GROUP_PREFIX,
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|reserved| name.starts_with(reserved.prefix()))
    }
}

impl PersonRefused {
    /// The reason as a word, from a closed set.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Issuer => "oidc_issuer",
            Self::Audience => "oidc_audience",
            Self::NoExpiry => "oidc_no_expiry",
            Self::Expired { .. } => "oidc_expired",
            Self::NotYetValid { .. } | Self::NotBefore => "oidc_not_yet_valid",
            Self::Username(_) => "oidc_username",
            Self::EmailNotVerified => "oidc_email_not_verified",
            Self::Groups(_) => "oidc_groups",
            Self::RequiredClaim(_) => "oidc_required_claim",
            Self::ReservedUsername(_) => "oidc_reserved_username",
            Self::ReservedGroup(_) => "oidc_reserved_group",
        }
    }
}

impl PersonRules<'_> {
    /// Whether a token that names `issuer` is one of this config: byte for byte, but for Google's own short form.
    #[must_use]
    pub fn is_issuer(&self, issuer: &str) -> bool {
        canonical_issuer(issuer) == self.issuer_url
    }

    /// What usernames begin with.
    #[must_use]
    pub fn username_prefix(&self) -> Cow<'_, str> {
        match self.username_prefix {
            Some("-") => Cow::Borrowed(""),
            Some(prefix) => Cow::Borrowed(prefix),
            None if self.username_claim() == "email" => Cow::Borrowed(""),
            None => Cow::Owned(format!("{}#", self.issuer_url)),
        }
    }

    /// The claim that is the username.
    #[must_use]
    pub fn username_claim(&self) -> &str {
        self.username_claim.unwrap_or("sub")
    }

    /// The user whom a token makes, whose signature was verified with keys of this config's issuer.
    ///
    /// # Errors
    /// Why it makes nobody; the first reason in the order of the specification.
    pub fn user(
        &self,
        token: VerifiedIdToken<'_>,
        now: Timestamp,
    ) -> Result<KubernetesIdentity, PersonRefused> {
        if !self.is_issuer(token.issuer()) {
            return Err(PersonRefused::Issuer);
        }
        if !self.is_audience(token.claim("aud")) {
            return Err(PersonRefused::Audience);
        }
        check_times(token, now.as_second())?;
        let username = self.username(token)?;
        let groups = self.groups(token)?;
        for (name, value) in self.required_claims {
            if token.claim(name).and_then(Value::as_str) != Some(value) {
                return Err(PersonRefused::RequiredClaim(name.clone()));
            }
        }
        if let Some(reserved) = Reserved::of(&username) {
            return Err(PersonRefused::ReservedUsername(reserved));
        }
        if let Some(reserved) = groups.iter().find_map(|group| Reserved::of(group)) {
            return Err(PersonRefused::ReservedGroup(reserved));
        }
        let credential = token.claim("jti").and_then(Value::as_str).map(|id| Extra {
            key: Cow::Borrowed(CREDENTIAL_ID),
            values: vec![format!("JTI={id}")],
        });
        Ok(KubernetesIdentity {
            username,
            uid: String::new(),
            groups,
            extra: credential.into_iter().collect(),
            scrubbed: false,
        })
    }

    fn is_audience(&self, claim: Option<&Value>) -> bool {
        match claim {
            Some(Value::String(audience)) => audience == self.client_id,
            Some(Value::Array(audiences)) => {
                audiences.iter().all(Value::is_string)
                    && audiences
                        .iter()
                        .any(|audience| audience.as_str() == Some(self.client_id))
            }
            _ => false,
        }
    }

    fn username(&self, token: VerifiedIdToken<'_>) -> Result<String, PersonRefused> {
        let claim = self.username_claim();
        let name = token
            .claim(claim)
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty() && !name.contains(char::is_control))
            .ok_or_else(|| PersonRefused::Username(claim.into()))?;
        if claim == "email"
            && token
                .claim("email_verified")
                .is_some_and(|verified| *verified != Value::Bool(true))
        {
            return Err(PersonRefused::EmailNotVerified);
        }
        Ok(format!("{}{name}", self.username_prefix()))
    }

    /// Groups that a token leaves to be asked for elsewhere (`_claim_sources`) are not there: nobody is asked, as the token
    /// would choose whom.
    fn groups(&self, token: VerifiedIdToken<'_>) -> Result<Vec<String>, PersonRefused> {
        let Some(claim) = self.groups_claim else {
            return Ok(Vec::new());
        };
        let malformed = || PersonRefused::Groups(claim.into());
        let prefix = self.groups_prefix.unwrap_or_default();
        let plain = |group: &&str| !group.contains(char::is_control);
        match token.claim(claim) {
            None => Ok(Vec::new()),
            Some(Value::String(group)) if plain(&group.as_str()) => {
                Ok(vec![format!("{prefix}{group}")])
            }
            Some(Value::Array(groups)) => groups
                .iter()
                .map(|group| {
                    let group = group.as_str().filter(plain).ok_or_else(malformed)?;
                    Ok(format!("{prefix}{group}"))
                })
                .collect(),
            Some(_) => Err(malformed()),
        }
    }
}

/// `exp` without leeway, `nbf` with a minute; `iat` is not looked at.
fn check_times(token: VerifiedIdToken<'_>, now: i64) -> Result<(), PersonRefused> {
    let expires = token
        .claim("exp")
        .and_then(seconds)
        .ok_or(PersonRefused::NoExpiry)?;
    if now >= expires {
        let ago = now.saturating_sub(expires);
        return Err(PersonRefused::Expired { ago });
    }
    match token.claim("nbf") {
        None => Ok(()),
        Some(claim) => {
            let begins = seconds(claim).ok_or(PersonRefused::NotBefore)?;
            let ahead = begins.saturating_sub(now);
            if ahead > NOT_BEFORE_SKEW {
                return Err(PersonRefused::NotYetValid { ahead });
            }
            Ok(())
        }
    }
}

/// Seconds since 1970; what is behind the point does not count.
fn seconds(claim: &Value) -> Option<i64> {
    let Value::Number(number) = claim else {
        return None;
    };
    if let Some(whole) = number.as_i64() {
        return Some(whole);
    }
    // `1.893456e9`: exact up to 2^53, far beyond any time there is.
    let float = number.as_f64().filter(|float| float.abs() < 9e15)?;
    format!("{:.0}", float.trunc()).parse().ok()
}

//! The identity provider behind a session.

use serde::Serialize;

/// Who vouched for the person or workload when the session was made (STS spec, section 8.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
pub enum Federation {
    /// A web identity token.
    Oidc {
        /// The provider's ARN, or the bare domain of one of the four built-in providers.
        provider: Box<str>,
        /// `iss`.
        issuer: Box<str>,
        /// The `aud` that was accepted.
        audience: Box<str>,
        /// `sub`.
        subject: Box<str>,
        /// `amr`.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        amr: Vec<Box<str>>,
    },
    /// A SAML assertion.
    Saml {
        /// The provider's ARN.
        provider: Box<str>,
        /// The assertion's issuer.
        issuer: Box<str>,
        /// The NameID.
        subject: Box<str>,
        /// The NameID's format, for `saml:sub_type`.
        #[serde(skip_serializing_if = "Option::is_none")]
        subject_type: Option<Box<str>>,
        /// The value of `saml:namequalifier`.
        #[serde(skip_serializing_if = "Option::is_none")]
        name_qualifier: Option<Box<str>>,
    },
}

impl Federation {
    /// The value of `aws:FederatedProvider`.
    #[must_use]
    pub fn provider(&self) -> &str {
        match self {
            Self::Oidc { provider, .. } | Self::Saml { provider, .. } => provider,
        }
    }

    /// Whether the provider is one of the four that AWS knows by domain. Only their `<issuer>:…` keys travel into later
    /// requests (policy language spec, section 7.5).
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        [
            "accounts.google.com",
            "cognito-identity.amazonaws.com",
            "graph.facebook.com",
            "www.amazon.com",
        ]
        .contains(&self.provider())
    }
}

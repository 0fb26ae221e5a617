//! Discovery documents (OpenID Connect Discovery 1.0, section 4; IRSA spec, section 2.2).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::algorithm::Algorithm;
use crate::json;
use crate::key_set::MAX_DOCUMENT_BYTES;

const MAX_URI_BYTES: usize = 2048;

/// What is needed of a discovery document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    jwks_uri: Box<str>,
}

/// A document that is no usable discovery document of the issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// More than [`MAX_DOCUMENT_BYTES`].
    #[error("the discovery document is larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    /// Not a JSON object, or one with a member twice.
    #[error("the discovery document is not a JSON object")]
    Malformed,
    /// `issuer` is another one. A final slash is the commonest difference.
    #[error("the discovery document is for the issuer `{found}`")]
    OtherIssuer {
        /// What it names, shortened.
        found: String,
    },
    /// `jwks_uri` is missing or not an absolute `https` URL.
    #[error("the discovery document has no `jwks_uri` that begins with `https://`")]
    KeySetUri,
}

impl Discovery {
    /// Reads the discovery document of `issuer`.
    ///
    /// # Errors
    /// When it is not one, names another issuer, or leads to keys that are not behind HTTPS.
    pub fn parse(document: &[u8], issuer: &str) -> Result<Self, DiscoveryError> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(DiscoveryError::TooLarge);
        }
        let document = json::object(document).ok_or(DiscoveryError::Malformed)?;
        let text = |member| document.get(member).and_then(Value::as_str);
        let found = text("issuer").unwrap_or_default();
        if found != issuer {
            return Err(DiscoveryError::OtherIssuer {
                found: found.chars().take(300).collect(),
            });
        }
        let uri = text("jwks_uri").unwrap_or_default();
        let rest = uri.strip_prefix("https://").unwrap_or_default();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let printable = uri
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        if authority.is_empty()
            || authority.contains('@')
            || uri.contains('#')
            || !printable
            || uri.len() > MAX_URI_BYTES
        {
            return Err(DiscoveryError::KeySetUri);
        }
        Ok(Self {
            jwks_uri: uri.into(),
        })
    }

    /// Where the key set is: an absolute `https` URL without user and fragment. Its host may be another than the issuer's.
    #[must_use]
    pub fn jwks_uri(&self) -> &str {
        &self.jwks_uri
    }
}

/// Where the discovery document of `issuer` is: one final slash of the issuer does not count here.
#[must_use]
pub fn discovery_url(issuer: &str) -> String {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    format!("{base}/.well-known/openid-configuration")
}

/// The JSON text of the discovery document of an issuer of ours whose keys serve `algorithms`.
#[must_use]
pub fn discovery_document(
    issuer: &str,
    jwks_uri: &str,
    algorithms: impl IntoIterator<Item = Algorithm>,
) -> String {
    let algorithms: BTreeSet<&str> = algorithms.into_iter().map(Algorithm::name).collect();
    json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "authorization_endpoint": "urn:kubernetes:programmatic_authorization",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "claims_supported": ["sub", "iss"],
        "id_token_signing_alg_values_supported": algorithms,
    })
    .to_string()
}

//! Metadata of identity providers (SAML metadata 2.0), as CreateSAMLProvider takes it.
//!
//! A signature on the metadata is not looked at: who may upload it is what makes it trusted.

use jiff::Timestamp;

use crate::key::{SigningKey, UnusableKey};
use crate::signature::{DSIG, shortened};
use crate::text::{base64, instant};
use crate::xml::{Document, Element, Limits, XmlError, is_blank};

const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
/// Identity providers, and keys of each, in one document: the quotas of a SAML provider (IAM spec, section 2.3).
pub const MAX_PROVIDERS: usize = 10;
/// See [`MAX_PROVIDERS`].
pub const MAX_KEYS: usize = 10;
/// Fewest characters of a metadata document (IAM spec, section 4.15).
pub const MIN_CHARS: usize = 1_000;
/// Most characters of a metadata document.
pub const MAX_CHARS: usize = 10_000_000;
/// Longest entity id, in characters (SAML metadata, section 2.2.1).
const MAX_ENTITY_ID: usize = 1024;

/// Why a document is not the metadata of an identity provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Not XML.
    #[error("the metadata is not XML: {0}")]
    Xml(#[from] XmlError),
    /// Another document.
    #[error(
        "the metadata must be an EntityDescriptor or EntitiesDescriptor of SAML 2.0, not `{0}`"
    )]
    Root(String),
    /// No entity is an identity provider.
    #[error("the metadata has no IDPSSODescriptor that supports SAML 2.0")]
    NoProvider,
    /// More identity providers than are stored.
    #[error("the metadata has more than {MAX_PROVIDERS} identity providers")]
    TooManyProviders,
    /// An entity without a usable name, or with that of another one.
    #[error("an EntityDescriptor has an entityID that is missing, too long or there twice")]
    EntityId,
    /// More keys than are stored.
    #[error("`{entity_id}` has more than {MAX_KEYS} signing certificates")]
    TooManyKeys {
        /// The entity.
        entity_id: String,
    },
    /// No key at all.
    #[error("`{entity_id}` has no signing certificate")]
    NoKey {
        /// The entity.
        entity_id: String,
    },
    /// A certificate that can't be used.
    #[error("a signing certificate of `{entity_id}` can't be used: {reason}")]
    Key {
        /// The entity.
        entity_id: String,
        /// Why.
        reason: UnusableKey,
    },
    /// A `validUntil` that is no instant.
    #[error("`{0}` is not an instant, as validUntil has to be")]
    ValidUntil(String),
}

/// What is read from the metadata of a SAML provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    providers: Vec<IdentityProvider>,
    valid_until: Option<Timestamp>,
}

/// One identity provider of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityProvider {
    entity_id: Box<str>,
    keys: Vec<SigningKey>,
}

impl IdentityProvider {
    /// The `entityID`, which is the issuer of its assertions.
    #[must_use]
    pub fn entity_id(&self) -> &str {
        &self.entity_id
    }

    /// The keys it signs with.
    #[must_use]
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }
}

impl Metadata {
    /// Reads a metadata document. How many characters it may have is for the caller to check ([`MIN_CHARS`],
    /// [`MAX_CHARS`]); its bytes, depth and counts are bounded here.
    ///
    /// # Errors
    /// When the document is no metadata with at least one identity provider, each with one to [`MAX_KEYS`] usable
    /// signing certificates.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let document = Document::parse(text, &Limits::METADATA)?;
        let root = document.root();
        let mut reader = Reader::default();
        if root.is(METADATA, "EntityDescriptor") {
            reader.entity(root)?;
        } else if root.is(METADATA, "EntitiesDescriptor") {
            reader.until(root)?;
            for entity in root.children_named(METADATA, "EntityDescriptor") {
                reader.entity(entity)?;
            }
        } else {
            return Err(MetadataError::Root(shortened(root.local_name())));
        }
        if reader.providers.is_empty() {
            return Err(MetadataError::NoProvider);
        }
        Ok(Self {
            providers: reader.providers,
            valid_until: reader.valid_until,
        })
    }

    /// The identity providers, in the order of the document; there is at least one.
    #[must_use]
    pub fn providers(&self) -> &[IdentityProvider] {
        &self.providers
    }

    /// The identity provider whose assertions have `issuer`.
    #[must_use]
    pub fn provider(&self, issuer: &str) -> Option<&IdentityProvider> {
        let mut providers = self.providers.iter();
        providers.find(|provider| *provider.entity_id == *issuer)
    }

    /// The earliest `validUntil` of the document and its identity providers; from then on nothing is accepted with it.
    #[must_use]
    pub const fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }
}

#[derive(Default)]
struct Reader {
    providers: Vec<IdentityProvider>,
    valid_until: Option<Timestamp>,
}

impl Reader {
    fn entity(&mut self, entity: Element<'_>) -> Result<(), MetadataError> {
        let roles: Vec<_> = entity
            .children_named(METADATA, "IDPSSODescriptor")
            .filter(|role| {
                let protocols = role.attribute("protocolSupportEnumeration");
                protocols
                    .unwrap_or_default()
                    .split(is_blank)
                    .any(|protocol| protocol == PROTOCOL)
            })
            .collect();
        if roles.is_empty() {
            return Ok(());
        }
        if self.providers.len() >= MAX_PROVIDERS {
            return Err(MetadataError::TooManyProviders);
        }
        let entity_id = entity.attribute("entityID").unwrap_or_default();
        let known = self
            .providers
            .iter()
            .any(|other| *other.entity_id == *entity_id);
        if entity_id.is_empty() || entity_id.chars().count() > MAX_ENTITY_ID || known {
            return Err(MetadataError::EntityId);
        }
        self.until(entity)?;
        let mut keys: Vec<SigningKey> = Vec::new();
        // A key of another kind beside a usable one does no harm: it verifies nothing.
        let mut unusable = None;
        let named = || shortened(entity_id);
        for role in roles {
            self.until(role)?;
            for certificate in signing_certificates(role) {
                let key = certificate
                    .text()
                    .and_then(|text| base64(&text))
                    .ok_or(UnusableKey::NotACertificate)
                    .and_then(|der| SigningKey::from_certificate(&der));
                let key = match key {
                    Ok(key) if keys.contains(&key) => continue,
                    Ok(key) => key,
                    Err(reason @ (UnusableKey::Type | UnusableKey::Size { .. })) => {
                        unusable = Some(reason);
                        continue;
                    }
                    Err(reason) => {
                        return Err(MetadataError::Key {
                            entity_id: named(),
                            reason,
                        });
                    }
                };
                if keys.len() >= MAX_KEYS {
                    return Err(MetadataError::TooManyKeys { entity_id: named() });
                }
                keys.push(key);
            }
        }
        if keys.is_empty() {
            let entity_id = named();
            return Err(match unusable {
                Some(reason) => MetadataError::Key { entity_id, reason },
                None => MetadataError::NoKey { entity_id },
            });
        }
        self.providers.push(IdentityProvider {
            entity_id: entity_id.into(),
            keys,
        });
        Ok(())
    }

    fn until(&mut self, element: Element<'_>) -> Result<(), MetadataError> {
        let Some(text) = element.attribute("validUntil") else {
            return Ok(());
        };
        let until = instant(text).ok_or_else(|| MetadataError::ValidUntil(shortened(text)))?;
        let earliest = self.valid_until.map_or(until, |other| other.min(until));
        self.valid_until = Some(earliest);
        Ok(())
    }
}

/// The certificates of the key descriptors that are for signing or for every use.
fn signing_certificates(role: Element<'_>) -> impl Iterator<Item = Element<'_>> {
    role.children_named(METADATA, "KeyDescriptor")
        .filter(|descriptor| matches!(descriptor.attribute("use"), None | Some("signing")))
        .flat_map(|descriptor| descriptor.children_named(DSIG, "KeyInfo"))
        .flat_map(|info| info.children_named(DSIG, "X509Data"))
        .flat_map(|data| data.children_named(DSIG, "X509Certificate"))
}

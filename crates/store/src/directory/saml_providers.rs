//! SAML providers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_arn::{AccountId, Tag};
use jiff::Timestamp;

use super::vacancy::Vacancy;
use super::{Directory, DirectoryError, Thing, missing};
use crate::records::{InvalidField, RecordKey, SamlProvider, check_tags};
use crate::snapshot::SamlProviderEntry;
use crate::{DirectorySnapshot, Key, Transaction};

/// Most characters of a packed document: what a value of the store holds, less room for everything else in the record.
const PACKED: usize = 400 * 1024;
/// Most bytes that a packed document unpacks to: more than a request that brings one may have.
const UNPACKED: usize = 16 << 20;
const UUID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A metadata document in the form it is stored in: deflated, in base64, small enough for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedMetadata(Box<str>);

impl PackedMetadata {
    /// Packs `document`. Takes up to a second for the largest ones: do it where nothing waits.
    ///
    /// # Errors
    /// [`DirectoryError::QuotaExceeded`] for `SAMLMetadataDocumentSize` when it stays too large for the store.
    pub fn pack(document: &str) -> Result<Self, DirectoryError> {
        let deflated = miniz_oxide::deflate::compress_to_vec(document.as_bytes(), 6);
        let packed = STANDARD.encode(deflated);
        if packed.len() > PACKED {
            return Err(DirectoryError::QuotaExceeded {
                quota: "SAMLMetadataDocumentSize",
                limit: PACKED,
            });
        }
        Ok(Self(packed.into()))
    }
}

impl SamlProvider {
    /// The metadata document as it was uploaded; nothing when the record is damaged.
    #[must_use]
    pub fn metadata(&self) -> Option<String> {
        let deflated = STANDARD.decode(&*self.document).ok()?;
        let bytes = miniz_oxide::inflate::decompress_to_vec_with_limit(&deflated, UNPACKED).ok()?;
        String::from_utf8(bytes).ok()
    }
}

/// A SAML provider to create.
#[derive(Debug, Clone)]
pub struct NewSamlProvider {
    /// The account it lives in.
    pub account: AccountId,
    /// The name, with case.
    pub name: Box<str>,
    /// The metadata.
    pub metadata: PackedMetadata,
    /// When the metadata ceases to be good.
    pub valid_until: Timestamp,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl Directory {
    /// Creates a SAML provider.
    ///
    /// # Errors
    /// When the account is not there, or has a provider of this name; see [`DirectoryError`].
    pub async fn create_saml_provider(
        &self,
        new: NewSamlProvider,
        now: Timestamp,
    ) -> Result<SamlProvider, DirectoryError> {
        check_name(&new.name)?;
        check_tags(&new.tags)?;
        let limit = self.quotas().saml_providers_per_account;
        let uuid = self.new_saml_uuid()?;
        self.write(|snapshot| {
            let place =
                Vacancy::in_account(snapshot, new.account, record_key(new.account, &new.name))?
                    .unless(
                        snapshot.saml_provider(new.account, &new.name).is_some(),
                        || DirectoryError::exists(Thing::SamlProvider, &new.name),
                    )?
                    .within(
                        "SAMLProvidersPerAccount",
                        limit,
                        snapshot.saml_providers(new.account).count(),
                    )?;
            let provider = SamlProvider {
                account: new.account,
                partition: place.partition,
                name: new.name.clone(),
                uuid: uuid.clone(),
                document: new.metadata.0.clone(),
                created: now,
                valid_until: new.valid_until,
                tags: new.tags.clone(),
            };
            Ok((place.fill(provider.encode()), provider))
        })
        .await
    }

    /// Puts other metadata in the place of a provider's.
    ///
    /// # Errors
    /// When the provider is not there; see [`DirectoryError`].
    pub async fn set_saml_metadata(
        &self,
        account: AccountId,
        name: &str,
        metadata: PackedMetadata,
        valid_until: Timestamp,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, provider) = find(snapshot, account, name)?;
            let changed = SamlProvider {
                document: metadata.0.clone(),
                valid_until,
                ..provider.record.clone()
            };
            let transaction = Transaction::new()
                .if_unchanged(&key, provider.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Deletes a provider. Roles that name it stay as they are and trust nobody by it.
    ///
    /// # Errors
    /// When the provider is not there; see [`DirectoryError`].
    pub async fn delete_saml_provider(
        &self,
        account: AccountId,
        name: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, provider) = find(snapshot, account, name)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, provider.modified)
                .delete(&key);
            Ok((transaction, ()))
        })
        .await
    }

    /// What GetSAMLProvider shows as `SAMLProviderUUID`: 22 to 64 capital letters and digits.
    fn new_saml_uuid(&self) -> Result<Box<str>, DirectoryError> {
        let bytes: [u8; 20] = self.0.random.bytes()?;
        let letters = bytes
            .iter()
            .filter_map(|byte| UUID_ALPHABET.get(usize::from(byte % 32)))
            .map(|letter| char::from(*letter));
        Ok("SAMLSP".chars().chain(letters).collect::<String>().into())
    }
}

fn record_key(account: AccountId, name: &str) -> RecordKey<'_> {
    RecordKey::SamlProvider { account, name }
}

fn find<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    name: &str,
) -> Result<(Key, &'s SamlProviderEntry), DirectoryError> {
    let key = record_key(account, name);
    let Some(provider) = snapshot.saml_provider(account, name) else {
        let error = DirectoryError::NoSuch {
            what: Thing::SamlProvider,
            name: name.into(),
        };
        return Err(missing(snapshot, key, error));
    };
    Ok((key.to_key()?, provider))
}

/// `[\w._-]{1,128}` (IAM API spec, section 2.1).
fn check_name(name: &str) -> Result<(), DirectoryError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=128).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(InvalidField {
        field: "the SAML provider name",
        expected: "1 to 128 letters, digits or characters of `._-`",
    }
    .into())
}

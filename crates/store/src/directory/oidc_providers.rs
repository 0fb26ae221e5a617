//! OpenID Connect providers.

use countersign_arn::{AccountId, Tag};
use jiff::Timestamp;

use super::vacancy::Vacancy;
use super::{Directory, DirectoryError, Thing, missing};
use crate::records::{InvalidField, OidcProvider, RecordKey, check_tags};
use crate::snapshot::OidcProviderEntry;
use crate::{DirectorySnapshot, Key, Transaction};

const THUMBPRINTS: usize = 5;

/// An OpenID Connect provider to create.
#[derive(Debug, Clone)]
pub struct NewOidcProvider {
    /// The account it lives in.
    pub account: AccountId,
    /// The issuer's URL without `https://`, host in lower case.
    pub url: Box<str>,
    /// Audiences.
    pub client_ids: Vec<Box<str>>,
    /// SHA-1 of CA certificates, 40 hexadecimal digits each.
    pub thumbprints: Vec<Box<str>>,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl Directory {
    /// Creates an OpenID Connect provider.
    ///
    /// # Errors
    /// When the account is not there, or has a provider of this URL; see [`DirectoryError`].
    pub async fn create_oidc_provider(
        &self,
        new: NewOidcProvider,
        now: Timestamp,
    ) -> Result<OidcProvider, DirectoryError> {
        check_url(&new.url)?;
        check_thumbprints(&new.thumbprints)?;
        check_tags(&new.tags)?;
        let limit = self.quotas().oidc_providers_per_account;
        let mut client_ids: Vec<Box<str>> = Vec::new();
        for id in &new.client_ids {
            if !client_ids.contains(id) {
                client_ids.push(id.clone());
            }
        }
        self.check_client_ids(&client_ids)?;
        self.write(|snapshot| {
            let place =
                Vacancy::in_account(snapshot, new.account, record_key(new.account, &new.url))?
                    .unless(
                        snapshot.oidc_provider(new.account, &new.url).is_some(),
                        || DirectoryError::exists(Thing::OidcProvider, &new.url),
                    )?
                    .within(
                        "OpenIdConnectProvidersPerAccount",
                        limit,
                        snapshot.oidc_providers(new.account).count(),
                    )?;
            let provider = OidcProvider {
                account: new.account,
                partition: place.partition,
                url: new.url.clone(),
                client_ids: client_ids.clone(),
                thumbprints: lower(&new.thumbprints),
                created: now,
                tags: new.tags.clone(),
            };
            Ok((place.fill(provider.encode()), provider))
        })
        .await
    }

    /// Adds an audience; one that is there already is left as it is.
    ///
    /// # Errors
    /// When the provider is not there, or has as many as it may; see [`DirectoryError`].
    pub async fn add_client_id(
        &self,
        account: AccountId,
        url: &str,
        client_id: &str,
    ) -> Result<(), DirectoryError> {
        self.change_provider(account, url, |provider| {
            if !provider
                .client_ids
                .iter()
                .any(|known| **known == *client_id)
            {
                provider.client_ids.push(client_id.into());
                self.check_client_ids(&provider.client_ids)?;
            }
            Ok(())
        })
        .await
    }

    /// Removes an audience; nothing happens when it is not there.
    ///
    /// # Errors
    /// When the provider is not there; see [`DirectoryError`].
    pub async fn remove_client_id(
        &self,
        account: AccountId,
        url: &str,
        client_id: &str,
    ) -> Result<(), DirectoryError> {
        self.change_provider(account, url, |provider| {
            provider.client_ids.retain(|known| **known != *client_id);
            Ok(())
        })
        .await
    }

    /// Puts other thumbprints in the place of a provider's.
    ///
    /// # Errors
    /// When the provider is not there, or they are not thumbprints; see [`DirectoryError`].
    pub async fn set_thumbprints(
        &self,
        account: AccountId,
        url: &str,
        thumbprints: &[Box<str>],
    ) -> Result<(), DirectoryError> {
        check_thumbprints(thumbprints)?;
        self.change_provider(account, url, |provider| {
            provider.thumbprints = lower(thumbprints);
            Ok(())
        })
        .await
    }

    /// Deletes a provider. Roles that name it stay as they are and trust nobody by it.
    ///
    /// # Errors
    /// When the provider is not there; see [`DirectoryError`].
    pub async fn delete_oidc_provider(
        &self,
        account: AccountId,
        url: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, provider) = find(snapshot, account, url)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, provider.modified)
                .delete(&key);
            Ok((transaction, ()))
        })
        .await
    }

    async fn change_provider(
        &self,
        account: AccountId,
        url: &str,
        change: impl Fn(&mut OidcProvider) -> Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, provider) = find(snapshot, account, url)?;
            let mut changed = provider.record.clone();
            change(&mut changed)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, provider.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    fn check_client_ids(&self, ids: &[Box<str>]) -> Result<(), DirectoryError> {
        let limit = self.quotas().client_ids_per_provider;
        if ids.len() > limit {
            return Err(DirectoryError::QuotaExceeded {
                quota: "ClientIdsPerOpenIdConnectProvider",
                limit,
            });
        }
        let fits = |id: &str| (1..=255).contains(&id.chars().count());
        check(
            ids.iter().all(|id| fits(id)),
            "the client id",
            "1 to 255 characters",
        )
    }
}

fn record_key(account: AccountId, url: &str) -> RecordKey<'_> {
    RecordKey::OidcProvider { account, url }
}

fn find<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    url: &str,
) -> Result<(Key, &'s OidcProviderEntry), DirectoryError> {
    let key = record_key(account, url);
    let Some(provider) = snapshot.oidc_provider(account, url) else {
        let error = DirectoryError::NoSuch {
            what: Thing::OidcProvider,
            name: url.into(),
        };
        return Err(missing(snapshot, key, error));
    };
    Ok((key.to_key()?, provider))
}

fn check(holds: bool, field: &'static str, expected: &'static str) -> Result<(), DirectoryError> {
    if holds {
        Ok(())
    } else {
        Err(InvalidField { field, expected }.into())
    }
}

/// A host, a port if need be, and a path; neither query nor fragment nor user information.
fn check_url(url: &str) -> Result<(), DirectoryError> {
    let (host, path) = match url.find('/') {
        Some(slash) => url.split_at(slash),
        None => (url, ""),
    };
    let (name, port) = host.rsplit_once(':').unwrap_or((host, "443"));
    let in_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let in_path = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&b);
    check(
        (1..=247).contains(&url.len())
            && !name.is_empty()
            && name.bytes().all(in_name)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
            && path.bytes().all(in_path),
        "the provider URL",
        "`https://`, a host in lower case and a path, without query and fragment, at most 255 characters",
    )
}

fn check_thumbprints(thumbprints: &[Box<str>]) -> Result<(), DirectoryError> {
    let is_sha1 = |text: &str| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    check(
        thumbprints.len() <= THUMBPRINTS && thumbprints.iter().all(|text| is_sha1(text)),
        "the thumbprint list",
        "at most 5 of 40 hexadecimal digits",
    )
}

fn lower(thumbprints: &[Box<str>]) -> Vec<Box<str>> {
    thumbprints
        .iter()
        .map(|text| text.to_ascii_lowercase().into())
        .collect()
}

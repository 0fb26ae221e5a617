//! What AssumeRoleWithSAML remembers between calls: metadata that was read, and assertions that were used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_saml::{Assertion, Metadata, Options, Replay, ReplayMemory};
use countersign_store::{Revision, SamlProviderEntry};
use jiff::Timestamp;

use crate::aws::{ApiError, internal_failure};

/// Providers whose metadata is kept; when there are more, all are forgotten and the busy ones come back.
const PROVIDERS: usize = 4096;

/// The SAML side of STS.
///
/// Used assertions are remembered by each replica for itself and not across restarts: an assertion lives for minutes,
/// and writing every one of them to the store would make each call wait for a durable commit. So with several replicas
/// an assertion buys at most one session at each of them, for the same subject and role.
#[derive(Debug, Default)]
pub(crate) struct SamlTrust {
    options: Options,
    known: Mutex<HashMap<Box<str>, Known>>,
    /// Held while metadata is read, which takes long for large documents: one at a time, and each once.
    reading: tokio::sync::Mutex<()>,
    used: Mutex<HashMap<Box<str>, ReplayMemory>>,
}

#[derive(Debug)]
struct Known {
    at: Revision,
    metadata: Arc<Metadata>,
}

impl SamlTrust {
    /// With other endpoints and audiences than those of AWS.
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// What this service is to identity providers.
    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    /// The metadata of a provider.
    ///
    /// # Errors
    /// `InternalFailure` when what is stored cannot be read.
    pub(crate) async fn metadata(
        &self,
        provider: &SamlProviderEntry,
    ) -> Result<Arc<Metadata>, ApiError> {
        if let Some(metadata) = self.known(provider) {
            return Ok(metadata);
        }
        let _one_at_a_time = self.reading.lock().await;
        if let Some(metadata) = self.known(provider) {
            return Ok(metadata);
        }
        let record = provider.record.clone();
        let read = tokio::task::spawn_blocking(move || {
            record.metadata().map(|text| Metadata::parse(&text))
        });
        let metadata = match read.await {
            Ok(Some(Ok(metadata))) => Arc::new(metadata),
            Ok(Some(Err(error))) => {
                tracing::error!(provider = &*provider.arn, %error, "the stored metadata of a SAML provider cannot be read");
                return Err(internal_failure());
            }
            Ok(None) | Err(_) => {
                tracing::error!(
                    provider = &*provider.arn,
                    "the record of a SAML provider cannot be unpacked"
                );
                return Err(internal_failure());
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= PROVIDERS {
            known.clear();
        }
        known.insert(
            (&*provider.arn).into(),
            Known {
                at: provider.modified,
                metadata: Arc::clone(&metadata),
            },
        );
        Ok(metadata)
    }

    fn known(&self, provider: &SamlProviderEntry) -> Option<Arc<Metadata>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&*provider.arn)?;
        (known.at == provider.modified).then(|| Arc::clone(&known.metadata))
    }

    /// Notes that the assertion is used.
    ///
    /// # Errors
    /// When it was used before, or too many are remembered.
    pub(crate) fn use_once(
        &self,
        provider: &SamlProviderEntry,
        assertion: &Assertion,
        now: Timestamp,
    ) -> Result<(), Replay> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= PROVIDERS && !used.contains_key(&*provider.arn) {
            used.retain(|_, memory| {
                memory.forget(now);
                !memory.is_empty()
            });
            if used.len() >= PROVIDERS {
                return Err(Replay::Full);
            }
        }
        used.entry((&*provider.arn).into()).or_default().note(
            &assertion.issuer,
            &assertion.id,
            assertion.not_after,
            now,
        )
    }
}

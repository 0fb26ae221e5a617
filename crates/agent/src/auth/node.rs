//! The node's own credentials: kept until shortly before their end, and asked for again when they were refused.

use std::sync::Arc;

use countersign_upstream::clock::Clock;
use countersign_upstream::ec2::{AwsCredentials, CredentialsError, ProvideCredentials};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

/// Renewal begins this long before the end.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(5);
/// Credentials without an end are read again after this time: a shared file may have been replaced (section 10).
const REREAD: SignedDuration = SignedDuration::from_mins(1);
/// After refused credentials the provider is asked again, not more often than this.
const BETWEEN_REFUSALS: SignedDuration = SignedDuration::from_secs(10);

/// Keeps what a provider gave, so that a burst of calls asks it once.
///
/// A provider that fails while the credentials at hand still work does no harm: they go on working until their end.
pub struct NodeCredentials {
    provider: Arc<dyn ProvideCredentials>,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    credentials: Option<AwsCredentials>,
    asked: Option<Timestamp>,
    refused: bool,
}

impl NodeCredentials {
    /// Keeps the credentials of `provider`.
    #[must_use]
    pub fn new(provider: Arc<dyn ProvideCredentials>, clock: Arc<dyn Clock>) -> Self {
        Self {
            provider,
            clock,
            held: Mutex::default(),
        }
    }

    /// Credentials that are valid now.
    ///
    /// # Errors
    /// When the provider has none and none are held.
    pub async fn get(&self) -> Result<AwsCredentials, CredentialsError> {
        // Held over the call, so that concurrent calls ask the provider once.
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        if let Some(credentials) = &held.credentials
            && !held.is_due(credentials, now)
        {
            return Ok(credentials.clone());
        }
        held.asked = Some(now);
        match self.provider.credentials().await {
            Ok(fresh) => {
                held.credentials = Some(fresh.clone());
                held.refused = false;
                Ok(fresh)
            }
            Err(error) => match &held.credentials {
                Some(old) if !held.refused && old.expires_at.is_none_or(|end| end > now) => {
                    tracing::warn!(%error, "the node's credentials could not be renewed; the present ones still work");
                    Ok(old.clone())
                }
                _ => Err(error),
            },
        }
    }

    /// The auth service refused these credentials: the next call asks the provider again.
    pub async fn refused(&self, key_id: &str) {
        let mut held = self.held.lock().await;
        let is_held = |held: &AwsCredentials| held.access_key_id == key_id;
        if held.credentials.as_ref().is_some_and(is_held) {
            held.refused = true;
        }
    }
}

impl Held {
    fn is_due(&self, credentials: &AwsCredentials, now: Timestamp) -> bool {
        let since_asked = self.asked.map(|asked| now.duration_since(asked));
        // A clock that was set back says nothing about how long ago that was.
        let waited = |span| since_asked.is_none_or(|since| since >= span || since.is_negative());
        if self.refused {
            return waited(BETWEEN_REFUSALS);
        }
        match credentials.expires_at {
            None => waited(REREAD),
            Some(end) if end <= now => true,
            // While the provider keeps giving what is about to end, it is not asked for every pod.
            Some(end) => end.duration_since(now) <= RENEW_BEFORE && waited(BETWEEN_REFUSALS),
        }
    }
}

impl std::fmt::Debug for NodeCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeCredentials").finish_non_exhaustive()
    }
}

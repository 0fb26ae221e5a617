//! The keys that an API server publishes, pulled (IRSA spec, sections 2.4 and 2.5).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_oidc::{KeySet, KeySetError};
use countersign_sources::kubernetes::TokenApiError;
use countersign_store::records::{Cluster, ClusterKeySource};
use countersign_store::{ClusterKeysEntry, ClusterPlace, DirectoryError, Revision};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::ClusterIssuers;
use super::api::ClusterApi;
use super::bound::BoundObjects;
use super::labels::PodQuestions;
use crate::webhook::entries::Registered;

/// How often every API server is asked.
pub(super) const REFRESH: Duration = Duration::from_secs(60);
/// How often one is asked for a key that nobody knows.
const BETWEEN: Duration = Duration::from_secs(30);
/// How far the clock of an API server, which dates tokens, may differ from ours, which dates its answers.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// A cluster whose API server can be asked.
#[derive(Debug)]
pub(super) struct Reachable {
    registered: Registered,
    pub(super) api: Arc<dyn ClusterApi>,
    pub(super) bound: BoundObjects,
    pub(super) pods: PodQuestions,
    /// Held while keys are pulled: who waits for it looks for what the pull brought.
    flight: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of which cluster, by its id, the API server had the keys that are stored, and when.
    confirmed: Option<(Box<str>, Timestamp)>,
    /// When it was asked for a key that nobody knows.
    forced: Option<Instant>,
    /// What was said last about a failure, so that the log has each once.
    told: Option<String>,
}

/// Keys that could not be pulled.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    #[error(transparent)]
    Api(#[from] TokenApiError),
    #[error("the key set of the API server: {0}")]
    KeySet(#[from] KeySetError),
    #[error("the keys of the API server were not stored: {0}")]
    Store(#[from] DirectoryError),
}

impl Reachable {
    pub(super) fn new(registered: Registered, api: Arc<dyn ClusterApi>) -> Self {
        Self {
            registered,
            api,
            bound: BoundObjects::new(),
            pods: PodQuestions::new(),
            flight: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }
    }

    pub(super) fn is_for(&self, cluster: &Cluster) -> bool {
        match &self.registered {
            Registered::At {
                account,
                region,
                name,
            } => *account == cluster.account && *region == cluster.region && *name == cluster.name,
            Registered::Id(id) => *id == cluster.id,
        }
    }

    pub(super) fn confirmed(&self, cluster_id: &str) -> Option<Timestamp> {
        let state = self.state();
        let (id, at) = state.confirmed.as_ref()?;
        (**id == *cluster_id).then_some(*at)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClusterIssuers {
    /// Pulls the keys of all clusters whose API server can be asked and whose keys come from there, for as long as the
    /// process runs. A cluster without keys gets those of its API server.
    pub async fn keep_keys(self: Arc<Self>) {
        loop {
            self.refresh(Timestamp::now()).await;
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// One round of [`keep_keys`](Self::keep_keys).
    pub async fn refresh(&self, now: Timestamp) {
        for reachable in &self.reachable {
            let snapshot = self.directory.snapshot();
            let Some(cluster) = reachable.registered.find(&snapshot) else {
                continue;
            };
            let known = snapshot.cluster_keys(&cluster.record.id);
            if known.is_some_and(|known| known.record.source != ClusterKeySource::ApiServer) {
                continue;
            }
            let _flight = reachable.flight.lock().await;
            if let Err(error) = self.pull(reachable, &cluster.record, now).await {
                let text = error.to_string();
                let mut state = reachable.state();
                if state.told.as_ref() != Some(&text) {
                    tracing::warn!(cluster = &*cluster.record.name, %error, "the keys of service account tokens were not pulled from the API server; those before stay for a day");
                    state.told = Some(text);
                }
            }
        }
    }

    /// Keys that are newer than those of `seen`, of an API server that may have them: what somebody else brought meanwhile,
    /// or what it says now, unless it was asked for this reason lately.
    pub(super) async fn beyond(
        &self,
        reachable: &Reachable,
        cluster: &Cluster,
        seen: Option<Revision>,
        now: Timestamp,
    ) -> Result<Option<Arc<ClusterKeysEntry>>, PullError> {
        let _flight = reachable.flight.lock().await;
        let newer = || {
            let snapshot = self.directory.snapshot();
            let entry = snapshot.cluster_keys(&cluster.id)?;
            (Some(entry.modified) != seen).then(|| Arc::clone(entry))
        };
        if let Some(newer) = newer() {
            return Ok(Some(newer));
        }
        {
            let mut state = reachable.state();
            let asked = Instant::now();
            if state.forced.is_some_and(|forced| asked < forced + BETWEEN) {
                return Ok(None);
            }
            state.forced = Some(asked);
        }
        self.pull(reachable, cluster, now).await?;
        Ok(newer())
    }

    /// Whether the keys that are known of `cluster` are all that can have signed a token that was here at `now` and says of
    /// itself that it was issued at the second `issued`. If not, a key that is unknown may be one that the API server took up
    /// since it was asked last, and says nothing against the token.
    #[must_use]
    pub fn knows_all_keys(&self, cluster: &Cluster, issued: i64, now: Timestamp) -> bool {
        let snapshot = self.directory.snapshot();
        let Some(entry) = snapshot.cluster_keys(&cluster.id) else {
            return false;
        };
        if entry.record.source != ClusterKeySource::ApiServer {
            return true;
        }
        let confirmed = self.confirmed(entry, self.reachable(cluster));
        is_settled(confirmed, issued, now)
    }

    async fn pull(
        &self,
        reachable: &Reachable,
        cluster: &Cluster,
        now: Timestamp,
    ) -> Result<(), PullError> {
        let pulled = self.pull_once(reachable, cluster, now).await;
        let result = match &pulled {
            Ok(()) => "ok",
            Err(PullError::Api(TokenApiError::Unreachable)) => "unreachable",
            Err(PullError::Api(_) | PullError::KeySet(_)) => "unusable",
            Err(PullError::Store(_)) => "not_stored",
        };
        self.counters.pulled(&self.issuer_url(cluster), result);
        pulled
    }

    async fn pull_once(
        &self,
        reachable: &Reachable,
        cluster: &Cluster,
        now: Timestamp,
    ) -> Result<(), PullError> {
        let document = reachable.api.key_set().await?;
        let keys = KeySet::parse(&document)?;
        let place = ClusterPlace {
            account: cluster.account,
            region: &cluster.region,
            name: &cluster.name,
        };
        let stored = self
            .directory
            .pulled_cluster_keys(place, &keys, false, now)
            .await?;
        let mut state = reachable.state();
        state.confirmed = Some((stored.cluster_id, now));
        if state.told.take().is_some() {
            tracing::info!(
                cluster = &*cluster.name,
                "the keys of service account tokens are pulled from the API server again"
            );
        }
        Ok(())
    }
}

/// Whether an API server that was last asked for its keys at `confirmed` published by then the key of a token that was here at
/// `now` and says of itself that it was issued at `issued`.
///
/// It did when it was asked after the token had come, or longer after the token was issued than clocks differ. A token that
/// was made up may say any time; it is never good, and a time that has yet to come is no reason to wait for.
fn is_settled(confirmed: Timestamp, issued: i64, now: Timestamp) -> bool {
    let skew = CLOCK_SKEW.as_secs();
    confirmed >= now
        || issued > now.as_second().saturating_add(skew)
        || confirmed.as_second() >= issued.saturating_add(skew)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_is_the_whole_truth_about_tokens_of_before_it() {
        let now = 1_893_456_000;
        // When the API server was asked, when the token says it was issued, both in seconds from now; whether that settles it.
        let cases = [
            (0, 0, true),
            (1, 0, true),
            (0, -3600, true),
            (-1, 0, false),
            (-1, -1, false),
            (-1, -60, false),
            (-1, -61, true),
            (-29, -30, false),
            (-29, -88, false),
            (-29, -89, true),
            (-3600, -3600, false),
            (-3600, -3661, true),
            // Within what clocks differ it may have been issued just now; later than that it cannot have been.
            (-1, 60, false),
            (-1, 61, true),
            (-1, i64::MAX - now, true),
            (-1, i64::MIN, true),
        ];
        for (confirmed, issued, settled) in cases {
            let at = |offset: i64| Timestamp::from_second(now + offset).unwrap();
            assert_eq!(
                is_settled(at(confirmed), now.saturating_add(issued), at(0)),
                settled,
                "asked {confirmed}, issued {issued}"
            );
        }
    }
}

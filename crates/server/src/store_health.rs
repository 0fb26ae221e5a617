//! Whether the store behind the snapshot is there, and for how long this replica may answer without it.

use std::time::Duration;

use countersign_store::{Directory, FeedState, LagHistogram, Revision};

use crate::health::{Report, State};

/// How long a replica answers from its snapshot when `maxStoreStaleness` does not say otherwise.
pub const DEFAULT_MAX_STALENESS: Duration = Duration::from_secs(300);

/// The store of a directory, as readiness, metrics and the request path see it. Clones share it.
#[derive(Debug, Clone)]
pub struct StoreHealth {
    directory: Directory,
    max_staleness: Duration,
}

/// Why this replica does not answer now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreAway {
    /// Changes have not arrived for longer than is allowed: what was revoked meanwhile would still be let in.
    #[error("the store has been away for {} s, at most {} s are allowed: {reason}", .stale.as_secs(), .allowed.as_secs())]
    Stale {
        /// For how long.
        stale: Duration,
        /// For how long it may be.
        allowed: Duration,
        /// Why it is away.
        reason: String,
    },
    /// This replica has acknowledged a write that it does not see yet: what that revoked would still be let in.
    #[error("this replica does not see revision {acknowledged} yet, which it acknowledged")]
    Unseen {
        /// The write.
        acknowledged: Revision,
    },
}

impl StoreHealth {
    /// The store of `directory`; without it, the replica answers for `max_staleness`.
    #[must_use]
    pub fn new(directory: Directory, max_staleness: Duration) -> Self {
        Self {
            directory,
            max_staleness,
        }
    }

    /// Whether the snapshot may be answered from. Takes no lock; the request path asks it for every request.
    ///
    /// # Errors
    /// Why it may not: API calls are `ServiceUnavailable` then, and reviews fail as when STS is away.
    pub fn check(&self) -> Result<(), StoreAway> {
        if let Some(acknowledged) = self.directory.unseen() {
            return Err(StoreAway::Unseen { acknowledged });
        }
        match &*self.directory.feed().state() {
            FeedState::Live => Ok(()),
            FeedState::Behind { since, reason } => {
                let stale = since.elapsed();
                if stale <= self.max_staleness {
                    return Ok(());
                }
                Err(StoreAway::Stale {
                    stale,
                    allowed: self.max_staleness,
                    reason: reason.clone(),
                })
            }
        }
    }

    /// Adds the check `store`: kind, revision and staleness.
    pub fn report(&self, report: &mut Report) {
        let feed = self.directory.feed();
        let (kind, revision) = (self.directory.store_kind(), feed.revision());
        let (state, detail) = match (self.check(), &*feed.state()) {
            (Err(away), _) => (State::Failed, away.to_string()),
            (Ok(()), FeedState::Live) => (State::Ok, "staleness 0 s".to_owned()),
            (Ok(()), FeedState::Behind { since, reason }) => {
                let stale = since.elapsed().as_secs();
                let left = self.max_staleness.as_secs().saturating_sub(stale);
                let detail = format!(
                    "staleness {stale} s, answering from the snapshot for {left} s more: {reason}"
                );
                (State::Warning, detail)
            }
        };
        report.add(
            "store",
            state,
            format!("{kind} at revision {revision}, {detail}"),
        );
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.directory.store_kind()
    }

    pub(crate) fn revision(&self) -> Revision {
        self.directory.feed().revision()
    }

    pub(crate) fn staleness(&self) -> Duration {
        self.directory.feed().staleness()
    }

    /// From the beginning of a commit until it is visible here.
    pub(crate) fn own_lag(&self) -> &LagHistogram {
        self.directory.write_lag()
    }

    /// From the beginning of anybody's commit until it arrives here.
    pub(crate) fn shared_lag(&self) -> Option<std::sync::Arc<LagHistogram>> {
        self.directory.store_lag()
    }
}

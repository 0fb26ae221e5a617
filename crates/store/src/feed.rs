//! Keeps a [`DirectorySnapshot`] up to date with its store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::{Batch, DirectorySnapshot, LoadError, Revision, Sealer, Store, WatchError};

/// Batches folded before the result is published; one publication costs a dozen pointer copies.
const FOLD: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A snapshot that follows its store. Clones share it; when the last one is dropped, it stops.
#[derive(Clone)]
pub struct SnapshotFeed(Arc<Running>);

struct Running {
    published: Arc<Published>,
    revision: watch::Receiver<Revision>,
    task: AbortHandle,
}

struct Published {
    snapshot: ArcSwap<DirectorySnapshot>,
    state: ArcSwap<FeedState>,
}

/// How the snapshot stands to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedState {
    /// Changes arrive.
    Live,
    /// The store cannot be watched. The last snapshot stays in force.
    Behind {
        /// When the store was lost.
        since: Instant,
        /// Why.
        reason: String,
    },
}

/// The feed does not run any more, so that nothing will be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot does not follow its store any more")]
pub struct FeedStopped;

impl SnapshotFeed {
    /// Loads the store, and follows it in a task of its own.
    ///
    /// # Errors
    /// When the first load fails.
    pub async fn start(store: Arc<dyn Store>, sealer: Arc<Sealer>) -> Result<Self, LoadError> {
        let snapshot = DirectorySnapshot::load(&*store, &sealer).await?;
        Ok(Self::follow(store, sealer, snapshot))
    }

    /// Follows the store from a snapshot of it.
    pub(crate) fn follow(
        store: Arc<dyn Store>,
        sealer: Arc<Sealer>,
        snapshot: DirectorySnapshot,
    ) -> Self {
        report_unusable(0, &snapshot);
        let (sender, revision) = watch::channel(snapshot.revision());
        let published = Arc::new(Published {
            snapshot: ArcSwap::from_pointee(snapshot),
            state: ArcSwap::from_pointee(FeedState::Live),
        });
        let follower = Follower {
            store,
            sealer,
            published: Arc::clone(&published),
            revision: sender,
        };
        let task = tokio::spawn(follower.run()).abort_handle();
        Self(Arc::new(Running {
            published,
            revision,
            task,
        }))
    }

    /// The snapshot of this moment, to use for one request. Takes no lock; hold it briefly.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<DirectorySnapshot>> {
        self.0.published.snapshot.load()
    }

    /// The snapshot of this moment, to keep.
    #[must_use]
    pub fn current(&self) -> Arc<DirectorySnapshot> {
        self.0.published.snapshot.load_full()
    }

    /// Waits until the snapshot has everything up to `revision`, as a write does before it is answered.
    ///
    /// # Errors
    /// When the feed has stopped.
    pub async fn wait_for(&self, revision: Revision) -> Result<(), FeedStopped> {
        let mut reached = self.0.revision.clone();
        reached
            .wait_for(|reached| *reached >= revision)
            .await
            .map_err(|_| FeedStopped)?;
        Ok(())
    }

    /// The revision of the snapshot of this moment.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.load().revision()
    }

    /// Whether changes arrive.
    #[must_use]
    pub fn state(&self) -> Arc<FeedState> {
        self.0.published.state.load_full()
    }

    /// For how long changes have not arrived; zero while they do.
    #[must_use]
    pub fn staleness(&self) -> Duration {
        match &*self.state() {
            FeedState::Live => Duration::ZERO,
            FeedState::Behind { since, .. } => since.elapsed(),
        }
    }
}

impl fmt::Debug for SnapshotFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotFeed")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task.
struct Follower {
    store: Arc<dyn Store>,
    sealer: Arc<Sealer>,
    published: Arc<Published>,
    revision: watch::Sender<Revision>,
}

impl Follower {
    async fn run(self) {
        let mut pause = Duration::ZERO;
        let mut reload = false;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            if reload {
                match DirectorySnapshot::load(&*self.store, &self.sealer).await {
                    // Whether it is still the latest when the watch begins is for the watch to say.
                    Ok(snapshot) => self.publish(snapshot, false),
                    Err(error) => {
                        self.behind(&error);
                        continue;
                    }
                }
            }
            let (error, had_news) = self.watch().await;
            reload = matches!(error, WatchError::Compacted { .. });
            if had_news {
                pause = Duration::ZERO;
            }
            self.behind(&error);
        }
    }

    /// Folds changes until the watch ends; says why, and whether there were any before.
    async fn watch(&self) -> (WatchError, bool) {
        let after = self.published.snapshot.load().revision();
        let mut items = self.store.watch(after).ready_chunks(FOLD);
        let mut had_news = false;
        while let Some(chunk) = items.next().await {
            let mut ended = None;
            let mut batches = Vec::with_capacity(chunk.len());
            for item in chunk {
                match item {
                    Ok(batch) => batches.push(batch),
                    Err(error) => ended = Some(error),
                }
            }
            if !batches.is_empty() {
                had_news |= batches.iter().any(|batch| !batch.changes.is_empty());
                self.fold(&batches);
            }
            if let Some(error) = ended {
                return (error, had_news);
            }
        }
        let ended = WatchError::Unavailable("the watch ended without an error".into());
        (ended, had_news)
    }

    fn fold(&self, batches: &[Batch]) {
        let mut next = DirectorySnapshot::clone(&self.published.snapshot.load());
        for batch in batches {
            next.apply(batch, &self.sealer);
        }
        self.publish(next, batches.last().is_none_or(|batch| !batch.catching_up));
    }

    /// `is_latest`: nothing newer was in the store when it was asked last. A replica that was cut off stays behind until then, or it
    /// would say that it follows while it still lets in what was revoked.
    fn publish(&self, snapshot: DirectorySnapshot, is_latest: bool) {
        let revision = snapshot.revision();
        let before = self.published.snapshot.load().unusable_count();
        report_unusable(before, &snapshot);
        self.published.snapshot.store(Arc::new(snapshot));
        if is_latest && **self.published.state.load() != FeedState::Live {
            self.published.state.store(Arc::new(FeedState::Live));
        }
        self.revision.send_replace(revision);
    }

    fn behind(&self, error: &(dyn std::error::Error + 'static)) {
        let reason = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        tracing::warn!(%reason, "the snapshot has lost its store; the last one stays in force");
        let since = match &**self.published.state.load() {
            FeedState::Live => Instant::now(),
            FeedState::Behind { since, .. } => *since,
        };
        self.published
            .state
            .store(Arc::new(FeedState::Behind { since, reason }));
    }
}

impl Drop for Follower {
    /// However the task ends, readers must not believe that it still follows.
    fn drop(&mut self) {
        self.behind(&FeedStopped);
    }
}

fn report_unusable(before: usize, snapshot: &DirectorySnapshot) {
    let count = snapshot.unusable_count();
    if count > before
        && let Some((key, reason)) = snapshot.unusable_records().next()
    {
        tracing::warn!(count, first = %key, %reason, "records that this version cannot use are kept and ignored");
    }
}

//! The bounded history that watches read from.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream;
use tokio::sync::watch;

use crate::{Batch, Change, LoadError, Revision, WatchError, WatchStream};

/// Batches handed to a watch in one go; bounds how long the lock is held.
const CHUNK: usize = 256;

/// Where readers find batches. The writing end is [`Publisher`].
#[derive(Clone)]
pub(super) struct History {
    ring: Arc<Mutex<Ring>>,
    reached: watch::Receiver<Revision>,
}

/// The writing end; when it is dropped, watches end.
pub(super) struct Publisher {
    ring: Arc<Mutex<Ring>>,
    reached: watch::Sender<Revision>,
}

struct Ring {
    batches: VecDeque<Batch>,
    /// INVARIANT: every batch with a revision above `floor` and up to `reached` is in `batches`.
    floor: Revision,
    reached: Revision,
    bytes: usize,
    max_batches: usize,
    max_bytes: usize,
}

struct Reader {
    history: History,
    after: Revision,
    ready: VecDeque<Batch>,
    greeted: bool,
    ended: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the store was closed")]
struct Closed;

/// A history that begins at `revision`: what was before is compacted.
pub(super) fn history(
    revision: Revision,
    max_batches: usize,
    max_bytes: usize,
) -> (Publisher, History) {
    let ring = Arc::new(Mutex::new(Ring {
        batches: VecDeque::new(),
        floor: revision,
        reached: revision,
        bytes: 0,
        max_batches,
        max_bytes,
    }));
    let (sender, receiver) = watch::channel(revision);
    (
        Publisher {
            ring: Arc::clone(&ring),
            reached: sender,
        },
        History {
            ring,
            reached: receiver,
        },
    )
}

impl Publisher {
    /// Makes batches visible; they are durable already, and follow the last one published.
    pub(super) fn publish(&self, batches: Vec<Batch>) {
        let Some(last) = batches.last().map(|batch| batch.revision) else {
            return;
        };
        {
            let mut ring = lock(&self.ring);
            for batch in batches {
                ring.push(batch);
            }
        }
        self.reached.send_replace(last);
    }
}

impl History {
    pub(super) fn watch(&self, after: Revision) -> WatchStream {
        let reader = Reader {
            history: self.clone(),
            after,
            ready: VecDeque::new(),
            greeted: false,
            ended: false,
        };
        Box::pin(stream::unfold(reader, |mut reader| async move {
            let item = reader.next().await?;
            Some((item, reader))
        }))
    }

    /// Waits until everything up to `revision` can be watched.
    pub(super) async fn reaches(&self, revision: Revision) -> Result<(), LoadError> {
        let mut reached = self.reached.clone();
        match reached.wait_for(|reached| *reached >= revision).await {
            Ok(_) => Ok(()),
            Err(_) => Err(LoadError::Unavailable(Box::new(Closed))),
        }
    }

    pub(super) fn compact(&self) {
        let mut ring = lock(&self.ring);
        ring.floor = ring.reached;
        ring.bytes = 0;
        ring.batches.clear();
    }
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Batch, WatchError>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.after = batch.revision;
                return Some(Ok(batch));
            }
            if self.ended {
                return None;
            }
            // Seen before the ring is read: a batch published in between wakes the wait below.
            self.history.reached.borrow_and_update();
            match lock(&self.history.ring).behind(self.after) {
                Ok(batches) => self.ready = batches,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
            if !self.greeted {
                self.greeted = true;
                return Some(Ok(Batch {
                    revision: self.after,
                    changes: Arc::default(),
                    catching_up: !self.ready.is_empty(),
                }));
            }
            if self.ready.is_empty() && self.history.reached.changed().await.is_err() {
                self.ended = true;
                return Some(Err(WatchError::Unavailable(Box::new(Closed))));
            }
        }
    }
}

impl Ring {
    fn push(&mut self, batch: Batch) {
        self.reached = batch.revision;
        self.bytes = self.bytes.saturating_add(size(&batch));
        self.batches.push_back(batch);
        while self.batches.len() > self.max_batches || self.bytes > self.max_bytes {
            let Some(oldest) = self.batches.pop_front() else {
                return;
            };
            self.floor = oldest.revision;
            self.bytes = self.bytes.saturating_sub(size(&oldest));
        }
    }

    fn behind(&self, after: Revision) -> Result<VecDeque<Batch>, WatchError> {
        if after < self.floor || after > self.reached {
            return Err(WatchError::Compacted { after });
        }
        let first = self
            .batches
            .partition_point(|batch| batch.revision <= after);
        Ok(self
            .batches
            .iter()
            .skip(first)
            .take(CHUNK)
            .cloned()
            .collect())
    }
}

/// The memory a batch keeps, roughly; deletions and small values count for their bookkeeping too.
fn size(batch: &Batch) -> usize {
    batch.changes.iter().fold(64, |sum, change| {
        let value = match change {
            Change::Put(_, value) => value.len(),
            Change::Delete(_) => 0,
        };
        sum.saturating_add(change.key().as_str().len())
            .saturating_add(value)
            .saturating_add(64)
    })
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Facts about instances: from memory, or by way of the task that asks in batches.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_mapping::{Ec2Facts, Ec2InstanceId, NodeNameSource};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::batch::Batcher;
use super::{AwsError, Ec2};
use crate::lru::Lru;

/// Limits of the lookups (authentication spec, section 3.10).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LookupOptions {
    /// Ids in one call. Default 100, which is also the most.
    pub batch: usize,
    /// How long an id waits for company. Default 50 ms.
    pub gather: Duration,
    /// Calls at once. Default 4.
    pub concurrent: usize,
    /// Calls per second in the long run (`ec2DescribeInstancesQps`). Default 15.
    pub per_second: f64,
    /// Calls that may follow each other at once (`ec2DescribeInstancesBurst`). Default 5.
    pub burst: f64,
    /// How long a lookup may take. Default 5 s.
    pub deadline: Duration,
    /// How long a name is kept. Default 12 h.
    pub keep: Duration,
    /// How long it is kept that an instance does not exist or is gone. Default 5 s.
    pub keep_missing: Duration,
    /// A name in use that is older than this is asked for again in the background, so that a terminated instance is noticed
    /// long before `keep` is over. Default 10 min.
    pub refresh_after: Duration,
    /// Pause before an instance without a name is asked for again, as long as somebody waits. Default 1 s.
    pub ask_again_after: Duration,
    /// Names kept at once. Default 65,536.
    pub capacity: usize,
    /// Lookups that may wait at once. Default 16,384.
    pub waiting: usize,
}

impl Default for LookupOptions {
    fn default() -> Self {
        Self {
            batch: 100,
            gather: Duration::from_millis(50),
            concurrent: 4,
            per_second: 15.0,
            burst: 5.0,
            deadline: Duration::from_secs(5),
            keep: Duration::from_secs(12 * 3600),
            keep_missing: Duration::from_secs(5),
            refresh_after: Duration::from_secs(600),
            ask_again_after: Duration::from_secs(1),
            capacity: 65_536,
            waiting: 16_384,
        }
    }
}

/// Why there are no facts about an instance. None of these is remembered but the first two, for seconds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The source does not know it.
    #[error("no such instance")]
    NotFound,
    /// It is terminated.
    #[error("the instance is terminated")]
    Terminated,
    /// It has no private DNS name yet.
    #[error("the instance has no private DNS name yet")]
    NoNameYet,
    /// No answer within the deadline.
    #[error("no answer about the instance in time")]
    Timeout,
    /// Too many lookups wait already.
    #[error("too many instance lookups are waiting")]
    Overloaded,
    /// The source failed.
    #[error("the instance could not be looked up")]
    Source(#[source] AwsError),
}

/// Looks instances up. Cheap to clone; the task that asks ends with the last clone.
#[derive(Debug, Clone)]
pub struct InstanceLookup {
    shared: Arc<Shared>,
    wanted: mpsc::Sender<Wanted>,
    _worker: Arc<Worker>,
}

/// What happened since the start.
#[derive(Debug, Default)]
pub struct LookupCounters {
    /// `ec2_describe_instances_calls_total`.
    pub calls: AtomicU64,
    /// Calls that got no answer.
    pub unreachable: AtomicU64,
    /// Calls that the source throttled.
    pub throttled: AtomicU64,
    /// Calls that the source refused or answered with something else.
    pub refused: AtomicU64,
    /// Lookups answered from memory.
    pub hits: AtomicU64,
    /// Lookups that had to ask.
    pub misses: AtomicU64,
    /// Names that left for others.
    pub evictions: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: LookupOptions,
    memory: Mutex<Memory>,
    waiting: AtomicUsize,
    pub(super) counters: LookupCounters,
}

/// What is known for now.
#[derive(Debug)]
pub(super) struct Memory {
    /// Instances with a name, and since when.
    pub(super) named: Lru<Ec2InstanceId, (Arc<Ec2Facts>, Instant)>,
    /// What holds for seconds, and until when.
    pub(super) brief: Lru<Ec2InstanceId, (Brief, Instant)>,
}

#[derive(Debug, Clone)]
pub(super) enum Brief {
    Missing(LookupError),
    /// An instance without a name, for those who do not need one.
    Nameless(Arc<Ec2Facts>),
}

#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: Ec2InstanceId,
    /// Absent for a refresh in the background.
    pub(super) waiter: Option<Waiter>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) needs_name: bool,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Found>,
}

pub(super) type Found = Result<Arc<Ec2Facts>, LookupError>;

#[derive(Debug)]
struct Worker(AbortHandle);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl InstanceLookup {
    /// Starts the task that asks; must be called within a tokio runtime.
    #[must_use]
    pub fn start(source: Arc<dyn Ec2>, options: LookupOptions) -> Self {
        let shared = Arc::new(Shared {
            memory: Mutex::new(Memory {
                named: Lru::new(options.capacity),
                brief: Lru::new(options.capacity.min(8192)),
            }),
            waiting: AtomicUsize::new(0),
            counters: LookupCounters::default(),
            options,
        });
        let (wanted, receiver) = mpsc::channel(1024);
        let batcher = Batcher::new(source, Arc::clone(&shared));
        let worker = Worker(tokio::spawn(batcher.run(receiver)).abort_handle());
        Self {
            shared,
            wanted,
            _worker: Arc::new(worker),
        }
    }

    /// The facts about one instance, from memory or by asking. A private DNS name is waited for only if that is where the
    /// node's name comes from.
    ///
    /// # Errors
    /// When the instance is unknown, terminated or still without the name, or nothing could be found out in time.
    pub async fn facts(
        &self,
        id: Ec2InstanceId,
        name_source: &NodeNameSource,
    ) -> Result<Arc<Ec2Facts>, LookupError> {
        let now = Instant::now();
        let needs_name = *name_source == NodeNameSource::PrivateDnsName;
        let counters = &self.shared.counters;
        if let Some(found) = self.remembered(id, needs_name, now) {
            counters.hits.fetch_add(1, Ordering::Relaxed);
            return found;
        }
        counters.misses.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting::enter(&self.shared).ok_or(LookupError::Overloaded)?;
        let deadline = now + self.shared.options.deadline;
        let (answer, found) = oneshot::channel();
        let waiter = Waiter {
            needs_name,
            deadline,
            answer,
        };
        let asked = async {
            let waiter = Some(waiter);
            self.wanted.send(Wanted { id, waiter }).await.ok()?;
            found.await.ok()
        };
        match tokio::time::timeout_at(deadline, asked).await {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => Err(LookupError::Timeout),
        }
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &LookupCounters {
        &self.shared.counters
    }

    /// How many names are kept.
    #[must_use]
    pub fn known(&self) -> usize {
        self.shared.memory().named.len()
    }

    /// How many lookups wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    fn remembered(&self, id: Ec2InstanceId, needs_name: bool, now: Instant) -> Option<Found> {
        let options = &self.shared.options;
        let mut memory = self.shared.memory();
        if let Some((facts, since)) = memory.named.get(&id) {
            let age = now.saturating_duration_since(*since);
            if age < options.keep {
                let facts = Arc::clone(facts);
                if age >= options.refresh_after {
                    // A full channel means that there is enough to do; the next use tries again.
                    let _ = self.wanted.try_send(Wanted { id, waiter: None });
                }
                return Some(Ok(facts));
            }
            memory.named.remove(&id);
        }
        match memory.brief.get(&id) {
            Some((_, until)) if now >= *until => {
                memory.brief.remove(&id);
                None
            }
            Some((Brief::Missing(error), _)) => Some(Err(error.clone())),
            Some((Brief::Nameless(facts), _)) if !needs_name => Some(Ok(Arc::clone(facts))),
            Some(_) | None => None,
        }
    }
}

impl Shared {
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one lookup that waits.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn enter(shared: &'a Shared) -> Option<Self> {
        let waiting = shared.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Self(shared);
        (waiting < shared.options.waiting).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

//! The changes, as etcd's watch brings them, made into batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{WatchOptions, WatchStream as Events};
use futures::future::BoxFuture;
use futures::stream;
use tokio::time::{Instant, sleep, timeout};

use super::connection::{ANSWER_BYTES, Connected, Connections, number, revision};
use super::failure::{Cause, Failure, Fate};
use super::layout::{Head, Named};
use super::lineage::Place;
use crate::metrics::LagHistogram;
use crate::{Batch, Change, Revision, Value, WatchError, WatchStream};

/// How long events may stay away while the head says that there are some.
const STUCK_AFTER: Duration = Duration::from_secs(5);

pub(super) fn watch(
    connections: &Arc<Connections>,
    lag: &Arc<LagHistogram>,
    after: Revision,
) -> WatchStream {
    let watcher = Watcher {
        connections: Arc::clone(connections),
        lag: Arc::clone(lag),
        after,
        position: after,
        ready: VecDeque::new(),
        open: None,
        ended: false,
    };
    Box::pin(stream::unfold(watcher, |mut watcher| async move {
        let item = watcher.next().await?;
        Some((item, watcher))
    }))
}

struct Watcher {
    connections: Arc<Connections>,
    lag: Arc<LagHistogram>,
    after: Revision,
    /// Everything up to here was handed out or stands in `ready`.
    position: Revision,
    ready: VecDeque<Batch>,
    open: Option<Open>,
    ended: bool,
}

/// A connected watch.
struct Open {
    connected: Connected,
    events: Events,
    /// The events of the revision that is being received; etcd cuts answers anywhere.
    partial: Partial,
    beat: BoxFuture<'static, Result<Place, Failure>>,
    /// Where etcd was when the watch began: what came before is history, and says nothing about how late it comes.
    began_at: Revision,
    /// Whether everything that was there when the watch began has come.
    caught_up: bool,
    /// Beats in a row without an answer.
    missed: u32,
    /// Since when the head has been ahead of the events.
    behind: Option<Instant>,
}

#[derive(Default)]
struct Partial {
    revision: Revision,
    changes: Vec<Change>,
    head: Option<Head>,
    /// Somebody else deleted it.
    head_gone: bool,
    foreign: u64,
}

/// Why a watch ends.
enum End {
    Compacted,
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        match failure.fate {
            Fate::Compacted | Fate::Future => Self::Compacted,
            _ => Self::Failed(failure),
        }
    }
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Batch, WatchError>> {
        if self.ended {
            return None;
        }
        let end = match self.advance().await {
            Ok(batch) => return Some(Ok(batch)),
            Err(end) => end,
        };
        self.ended = true;
        let open = self.open.take();
        Some(Err(match end {
            End::Compacted => WatchError::Compacted {
                after: self.after.max(self.position),
            },
            End::Failed(failure) => {
                self.connections.lost();
                if let Some(open) = open {
                    self.connections.failed(&open.connected, failure.fate);
                }
                WatchError::Unavailable(failure.source)
            }
        }))
    }

    async fn advance(&mut self) -> Result<Batch, End> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let Some(open) = &mut self.open else {
                // Members that are silent one after the other must not add up: who follows still believes that it does.
                let limit = self.connections.options.request_timeout * 2;
                let connecting = connect(&self.connections, self.position);
                let Ok(open) = timeout(limit, connecting).await else {
                    return Err(Failure::new(Fate::NotDone, Cause::Away(limit)).into());
                };
                let open = open?;
                let caught_up = open.caught_up;
                self.open = Some(open);
                self.connections.answered();
                return Ok(mark(self.position, !caught_up));
            };
            tokio::select! {
                biased;
                answer = open.events.message() => match answer {
                    Ok(Some(answer)) => self.take(answer.0)?,
                    Ok(None) => return Err(open.connected.nonsense().into()),
                    Err(error) => return Err(open.connected.failure(&error).into()),
                },
                place = &mut open.beat => {
                    let pause = self.connections.options.heartbeat;
                    open.beat = beat(&self.connections, &open.connected, pause);
                    self.beaten(place)?;
                }
            }
        }
    }

    /// Takes one answer of etcd's apart into batches.
    fn take(&mut self, answer: PbWatchResponse) -> Result<(), End> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        refused(&answer, &open.connected)?;
        open.behind = None;
        let mut partial = std::mem::take(&mut open.partial);
        let began_at = open.began_at;
        for event in answer.events {
            let Some(at) = event.kv.as_ref().map(|kv| revision(kv.mod_revision)) else {
                continue;
            };
            if at != partial.revision {
                self.finish(std::mem::take(&mut partial), began_at)?;
                partial.revision = at;
            }
            partial.add(&self.connections, event);
        }
        if answer.fragment {
            if let Some(open) = &mut self.open {
                open.partial = partial;
            }
            return Ok(());
        }
        self.finish(partial, began_at)
    }

    /// All events of one revision are there.
    fn finish(&mut self, partial: Partial, began_at: Revision) -> Result<(), End> {
        if partial.revision == Revision::ZERO {
            return Ok(());
        }
        // Behind what was announced: somebody else wrote below our prefix, and the head does not know of it.
        if partial.revision <= self.position {
            return Err(End::Compacted);
        }
        if partial.foreign > 0 {
            tracing::warn!(
                count = partial.foreign,
                revision = %partial.revision,
                "somebody else writes keys below the prefix of the store; they are ignored"
            );
        }
        if let Some(written) = partial.head.as_ref().and_then(|head| head.written)
            && partial.revision > began_at
        {
            let now = (self.connections.options.clock)();
            // The writer's clock may be ahead of ours.
            let lag = Duration::try_from(now.duration_since(written)).unwrap_or_default();
            self.lag.observe(lag);
        }
        let lineage = &self.connections.lineage;
        if partial.head_gone {
            lineage.forget(partial.revision);
        } else {
            lineage.advance(self.position, partial.revision, partial.head.as_ref());
        }
        self.position = partial.revision;
        let caught_up = self.open.as_mut().is_some_and(|open| {
            open.caught_up |= partial.revision >= began_at;
            open.caught_up
        });
        self.ready.push_back(Batch {
            revision: partial.revision,
            changes: partial.changes.into(),
            catching_up: !caught_up,
        });
        Ok(())
    }

    /// What a heartbeat found. Reads are linearizable, so the member that answers has a leader and is up to date.
    fn beaten(&mut self, place: Result<Place, Failure>) -> Result<(), End> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let place = match place {
            Ok(place) => place,
            Err(failure) => {
                self.connections.lost();
                open.missed = open.missed.saturating_add(1);
                // The first one may have met an election.
                return if open.missed > 1 || failure.fate == Fate::Refused {
                    Err(failure.into())
                } else {
                    Ok(())
                };
            }
        };
        open.missed = 0;
        self.connections.answered();
        let head = place
            .head
            .as_ref()
            .map_or(Revision::ZERO, |head| head.revision);
        if head > self.position || !open.partial.is_empty() {
            let since = *open.behind.get_or_insert_with(Instant::now);
            return if since.elapsed() < STUCK_AFTER {
                Ok(())
            } else {
                Err(Failure::new(Fate::Unknown, Cause::Stuck).into())
            };
        }
        open.behind = None;
        if !self.connections.lineage.continues(self.position, &place) {
            return Err(End::Compacted);
        }
        let was_behind = !std::mem::replace(&mut open.caught_up, true);
        if place.revision > self.position {
            self.connections
                .lineage
                .advance(self.position, place.revision, None);
            self.position = place.revision;
            self.ready.push_back(mark(place.revision, false));
        } else if was_behind {
            self.ready.push_back(mark(self.position, false));
        }
        Ok(())
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.revision == Revision::ZERO
    }

    fn add(&mut self, connections: &Connections, event: PbEvent) {
        /// A deletion, in etcd's numbering of kinds.
        const DELETE: i32 = 1;
        let Some(kv) = event.kv else { return };
        let is_delete = event.r#type == DELETE;
        match connections.layout.named(&kv.key) {
            Named::Record(key) if is_delete => self.changes.push(Change::Delete(key)),
            Named::Record(key) => self.changes.push(Change::Put(key, Value::from(kv.value))),
            Named::Head if is_delete => self.head_gone = true,
            Named::Head => self.head = Some(Head::read(revision(kv.mod_revision), &kv.value)),
            Named::Foreign => self.foreign = self.foreign.saturating_add(1),
        }
    }
}

/// Asks whether etcd still knows the way from where we are, and begins to watch.
async fn connect(connections: &Arc<Connections>, position: Revision) -> Result<Open, End> {
    let mut last = Failure::new(Fate::NotDone, Cause::Stuck);
    for _ in 0..=connections.members() {
        last = match connections.client().await {
            Ok(connected) => match connect_to(connections, position, &connected).await {
                Ok(open) => return Ok(open),
                Err(End::Compacted) => return Err(End::Compacted),
                Err(End::Failed(failure)) => {
                    connections.failed(&connected, failure.fate);
                    failure
                }
            },
            Err(failure) => failure,
        };
        if last.fate == Fate::Refused {
            break;
        }
    }
    Err(End::Failed(last))
}

async fn connect_to(
    connections: &Arc<Connections>,
    position: Revision,
    connected: &Connected,
) -> Result<Open, End> {
    let place = connections.place(connected, Some(position)).await?;
    if !connections.lineage.continues(position, &place) {
        return Err(End::Compacted);
    }
    let (from, end) = connections.layout.all();
    let options = WatchOptions::new()
        .with_range(end)
        .with_start_revision(number(position.next()))
        .with_fragment();
    let mut client = connected
        .client
        .watch_client()
        .max_decoding_message_size(ANSWER_BYTES);
    let limit = connections.options.request_timeout;
    let begin = async {
        let mut events = client.watch(from, Some(options)).await?;
        let created = events.message().await?;
        Ok((events, created))
    };
    let (events, created) = connected.within(limit, begin).await?;
    let created = created.ok_or_else(|| connected.nonsense())?.0;
    refused(&created, connected)?;
    if !created.created {
        return Err(connected.nonsense().into());
    }
    Ok(Open {
        connected: connected.clone(),
        events,
        partial: Partial::default(),
        // Whether there is anything to catch up on is known at the first beat, which therefore comes at once.
        beat: beat(connections, connected, Duration::ZERO),
        caught_up: place.revision <= position,
        began_at: place.revision,
        missed: 0,
        behind: None,
    })
}

/// The next heartbeat, after a pause.
fn beat(
    connections: &Arc<Connections>,
    connected: &Connected,
    pause: Duration,
) -> BoxFuture<'static, Result<Place, Failure>> {
    let (connections, connected) = (Arc::clone(connections), connected.clone());
    Box::pin(async move {
        sleep(pause).await;
        connections.place(&connected, None).await
    })
}

/// Whether etcd ended the watch, and why.
fn refused(answer: &PbWatchResponse, connected: &Connected) -> Result<(), End> {
    if answer.compact_revision > 0 {
        return Err(End::Compacted);
    }
    if answer.canceled {
        let message = if answer.cancel_reason.is_empty() {
            "the watch was cancelled".to_owned()
        } else {
            answer.cancel_reason.chars().take(300).collect()
        };
        return Err(connected.cancelled(message).into());
    }
    Ok(())
}

fn mark(revision: Revision, catching_up: bool) -> Batch {
    Batch {
        revision,
        changes: Arc::default(),
        catching_up,
    }
}

//! Records on their way to the writer: bounded in number and bytes, with places that calls take before they are executed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::record::MAX_RECORD;
use super::settings::{Capacity, OnFailure};

/// Why a record was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// A record of a read gave way, or found no room.
    Read,
    /// A record of another call found no room.
    Overflow,
    /// A record of a call without a verified caller found no room.
    Unauthenticated,
    /// The process stopped before the record could be written.
    Unwritten,
    /// The call was cut off after it had begun, and left no record.
    Abandoned,
}

impl DropReason {
    /// All reasons, in the order in which metrics print them.
    pub const ALL: [Self; 5] = [
        Self::Read,
        Self::Overflow,
        Self::Unauthenticated,
        Self::Unwritten,
        Self::Abandoned,
    ];

    /// The label of the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Overflow => "overflow",
            Self::Unauthenticated => "unauthenticated",
            Self::Unwritten => "unwritten",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What the log counts.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) written: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) rotations: AtomicU64,
    pub(super) queued: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl Counters {
    /// Records written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Bytes written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Calls refused because their record could not be kept.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Files that were finished.
    #[must_use]
    pub fn rotations(&self) -> u64 {
        self.rotations.load(Ordering::Relaxed)
    }

    /// Records in the queue.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Records dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped
            .get(reason as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Records dropped for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        DropReason::ALL
            .iter()
            .map(|reason| self.dropped(*reason))
            .sum()
    }

    pub(super) fn drop_records(&self, reason: DropReason, count: u64) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// How a record is kept when room is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// Gives way to the others.
    Read,
    /// Of a caller who was not verified: gives way as well. A flood of them must not cost a verified caller anything.
    Unauthenticated,
    /// Stays.
    Kept,
}

/// The queue between calls and the writer.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: Capacity,
    on_failure: OnFailure,
    state: Mutex<State>,
    /// Wakes the writer.
    filled: Condvar,
    /// Says that the writer is gone.
    finished: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Both in the order of arrival, by number; the writer joins them.
    kept: VecDeque<Queued>,
    yielding: VecDeque<Queued>,
    next: u64,
    bytes: usize,
    places: usize,
    reopen: bool,
    closed: bool,
    finished: bool,
}

#[derive(Debug)]
struct Queued {
    number: u64,
    rank: Rank,
    line: Vec<u8>,
}

/// What the writer gets.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Whole lines.
    pub(super) lines: Vec<u8>,
    /// How many.
    pub(super) records: u64,
    /// The file shall be opened anew.
    pub(super) reopen: bool,
    /// Nothing will come any more.
    pub(super) closed: bool,
}

impl Queue {
    pub(super) fn new(capacity: Capacity, on_failure: OnFailure) -> Self {
        Self {
            capacity,
            on_failure,
            state: Mutex::default(),
            filled: Condvar::new(),
            finished: Condvar::new(),
        }
    }

    /// Takes a place for one record; false when there is none.
    ///
    /// Under `count`, records that yield are dropped to make room. Under `refuse` they are not: their calls were answered on
    /// the promise that they are recorded. There, reads get places only while a quarter of the queue is free.
    pub(super) fn reserve(&self, rank: Rank, counters: &Counters) -> bool {
        let mut state = self.lock();
        if rank == Rank::Kept && self.on_failure == OnFailure::Count {
            self.make_room(&mut state, MAX_RECORD, counters);
        }
        let strict_read = rank != Rank::Kept && self.on_failure == OnFailure::Refuse;
        let (records, bytes) = if strict_read {
            (self.capacity.records / 4 * 3, self.capacity.bytes / 4 * 3)
        } else {
            (self.capacity.records, self.capacity.bytes)
        };
        let free = state.records() < records && state.bytes.saturating_add(MAX_RECORD) <= bytes;
        if free && !state.closed {
            state.places += 1;
            state.bytes += MAX_RECORD;
            true
        } else {
            false
        }
    }

    /// Gives a place back.
    pub(super) fn release(&self) {
        let mut state = self.lock();
        state.places = state.places.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(MAX_RECORD);
    }

    /// Puts a line into the place that was taken for it.
    pub(super) fn fill(&self, rank: Rank, line: Vec<u8>, counters: &Counters) {
        let mut state = self.lock();
        state.places = state.places.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(MAX_RECORD);
        self.push(state, rank, line, counters);
    }

    /// Puts a line into the queue without a place; false when there is no room.
    pub(super) fn offer(&self, rank: Rank, line: Vec<u8>, counters: &Counters) -> bool {
        let mut state = self.lock();
        if rank == Rank::Kept {
            self.make_room(&mut state, line.len(), counters);
        }
        let fits = state.records() < self.capacity.records
            && state.bytes.saturating_add(line.len()) <= self.capacity.bytes
            && !state.closed;
        if fits {
            self.push(state, rank, line, counters);
        }
        fits
    }

    fn push(
        &self,
        mut state: MutexGuard<'_, State>,
        rank: Rank,
        line: Vec<u8>,
        counters: &Counters,
    ) {
        let was_empty = state.kept.is_empty() && state.yielding.is_empty();
        let number = state.next;
        state.next += 1;
        state.bytes += line.len();
        let queued = Queued { number, rank, line };
        match rank {
            Rank::Kept => state.kept.push_back(queued),
            Rank::Read | Rank::Unauthenticated => state.yielding.push_back(queued),
        }
        counters.queued.store(state.queued(), Ordering::Relaxed);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn make_room(&self, state: &mut State, bytes: usize, counters: &Counters) {
        while state.records() >= self.capacity.records
            || state.bytes.saturating_add(bytes) > self.capacity.bytes
        {
            let Some(dropped) = state.yielding.pop_front() else {
                return;
            };
            state.bytes = state.bytes.saturating_sub(dropped.line.len());
            let reason = match dropped.rank {
                Rank::Unauthenticated => DropReason::Unauthenticated,
                Rank::Read | Rank::Kept => DropReason::Read,
            };
            counters.drop_records(reason, 1);
        }
    }

    /// Waits for records, at most `patience`, and takes as many as fit in `most` bytes, at least one if there is one.
    pub(super) fn take(&self, most: usize, patience: Duration, counters: &Counters) -> Taken {
        let state = self.lock();
        let (mut state, _) = self
            .filled
            .wait_timeout_while(state, patience, |state| {
                state.kept.is_empty() && state.yielding.is_empty() && !state.reopen && !state.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let mut taken = Taken::default();
        while let Some(next) = state.pop(most.saturating_sub(taken.lines.len()), taken.records == 0)
        {
            state.bytes = state.bytes.saturating_sub(next.line.len());
            taken.lines.extend_from_slice(&next.line);
            taken.records += 1;
        }
        taken.reopen = std::mem::take(&mut state.reopen);
        taken.closed = state.closed && state.queued() == 0;
        counters.queued.store(state.queued(), Ordering::Relaxed);
        taken
    }

    /// Asks the writer to open its file anew.
    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.filled.notify_one();
    }

    /// Whether the file shall be opened anew, once.
    pub(super) fn take_reopen(&self) -> bool {
        std::mem::take(&mut self.lock().reopen)
    }

    /// Lets the writer finish: nothing is taken in any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Whether [`close`](Self::close) was called.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The writer's last word.
    pub(super) fn finish(&self) {
        self.lock().finished = true;
        self.finished.notify_all();
    }

    /// Waits until the writer is gone; false when it took too long.
    pub(super) fn wait_finished(&self, patience: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self
            .finished
            .wait_timeout_while(state, patience, |state| !state.finished)
            .unwrap_or_else(PoisonError::into_inner);
        state.finished
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves a queue that can be used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queued(&self) -> u64 {
        u64::try_from(self.kept.len() + self.yielding.len()).unwrap_or(u64::MAX)
    }

    fn records(&self) -> usize {
        self.kept.len() + self.yielding.len() + self.places
    }

    /// The oldest record, if it fits in `room` or has to.
    fn pop(&mut self, room: usize, whatever: bool) -> Option<Queued> {
        let from = match (self.kept.front(), self.yielding.front()) {
            (None, None) => return None,
            (Some(kept), Some(yielding)) if yielding.number < kept.number => &mut self.yielding,
            (Some(_), _) => &mut self.kept,
            (None, Some(_)) => &mut self.yielding,
        };
        let fits = whatever || from.front()?.line.len() <= room;
        if fits { from.pop_front() } else { None }
    }
}

//! What the APIs hold of the log.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::event::{Event, Identity};
use super::queue::{Counters, DropReason, Queue, Rank};
use super::record::record;
use super::settings::{OnFailure, Output, Settings};
use super::tables::{Class, class};
use super::writer::{self, Shared};
use crate::health::{Report, State};

/// The audit log; cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    shared: Arc<Shared>,
}

/// Why the log cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("could not open the audit log {output}")]
pub struct StartAuditError {
    output: String,
    #[source]
    source: io::Error,
}

/// The call's record could not be kept, and such calls are refused: `ServiceUnavailable`, 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The request could not be recorded in the audit log. Try again later.")]
pub struct Unavailable;

/// Whether the log can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Good,
    /// The last write failed.
    Failing {
        /// What the operating system says.
        reason: String,
    },
}

impl Audit {
    /// A log that records nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Whether calls are recorded.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Opens the log and starts its threads.
    ///
    /// # Errors
    /// When the file cannot be opened or a thread not be started.
    pub fn start(settings: Settings) -> Result<Self, StartAuditError> {
        let shared = Arc::new(Shared {
            queue: Queue::new(settings.capacity, settings.on_failure),
            counters: Arc::default(),
            health: Mutex::new(Health::Good),
        });
        writer::start(settings.clone(), Arc::clone(&shared)).map_err(|source| StartAuditError {
            output: match &settings.output {
                Output::File(path) => format!("`{}`", path.display()),
                Output::Stdout => "on standard output".into(),
            },
            source,
        })?;
        Ok(Self(Some(Arc::new(Inner { settings, shared }))))
    }

    /// Takes the place for the record of a call, before the call is executed.
    ///
    /// # Errors
    /// Under `refuse`, when the log cannot be written or the queue is full. The call must not be executed then.
    pub fn admit(&self, service: &str, operation: &str) -> Result<Place, Unavailable> {
        let Some(inner) = &self.0 else {
            return Ok(Place(None));
        };
        let class = class(service, operation);
        if !inner.settings.includes(service, operation, class) {
            return Ok(Place(None));
        }
        let rank = match class {
            None | Some(Class::Read) => Rank::Read,
            Some(Class::Issue | Class::Write) => Rank::Kept,
        };
        let shared = &inner.shared;
        let strict = inner.settings.on_failure == OnFailure::Refuse;
        let writable = !strict || inner.health() == Health::Good;
        let reserved = writable && shared.queue.reserve(rank, &shared.counters);
        if strict && !reserved {
            shared
                .counters
                .refused
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return Err(Unavailable);
        }
        Ok(Place(Some(Taken {
            shared: Arc::clone(shared),
            rank,
            reserved,
        })))
    }

    /// Records a call that was refused before it had a place: its caller could not be verified, or it had none. Such records
    /// give way to all others, and are counted when they are dropped; nothing happened that they alone would tell.
    pub fn refused(&self, event: &Event<'_>) {
        let Some(inner) = &self.0 else { return };
        let class = class(event.service, event.operation);
        if !inner
            .settings
            .includes(event.service, event.operation, class)
        {
            return;
        }
        let rank = match event.identity {
            Identity::Unknown { .. } => Rank::Unauthenticated,
            _ => Rank::Read,
        };
        let shared = &inner.shared;
        if !shared.queue.offer(rank, line(event), &shared.counters) {
            let reason = match rank {
                Rank::Unauthenticated => DropReason::Unauthenticated,
                Rank::Read | Rank::Kept => DropReason::Read,
            };
            shared.counters.drop_records(reason, 1);
        }
    }

    /// Whether the log can be written; none when it is off.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        self.0.as_ref().map(|inner| inner.health())
    }

    /// What the log counts; none when it is off.
    #[must_use]
    pub fn counters(&self) -> Option<Arc<Counters>> {
        self.0
            .as_ref()
            .map(|inner| Arc::clone(&inner.shared.counters))
    }

    /// Adds the log to a readiness report. Under `refuse`, a log that cannot be written makes the process unready: it would
    /// refuse every call.
    pub fn report(&self, report: &mut Report) {
        let Some(inner) = &self.0 else { return };
        let counters = &inner.shared.counters;
        let strict = inner.settings.on_failure == OnFailure::Refuse;
        let dropped = counters.dropped_total();
        match inner.health() {
            Health::Failing { reason } if strict => {
                report.add(
                    "audit",
                    State::Failed,
                    format!("cannot be written, calls are refused: {reason}"),
                );
            }
            Health::Failing { reason } => {
                report.add(
                    "audit",
                    State::Warning,
                    format!("cannot be written: {reason}; {dropped} records dropped"),
                );
            }
            Health::Good if dropped > 0 => {
                report.add(
                    "audit",
                    State::Warning,
                    format!("{dropped} records dropped since the start"),
                );
            }
            Health::Good => report.add(
                "audit",
                State::Ok,
                format!("{} records written", counters.written()),
            ),
        }
    }

    /// Opens the file anew, after somebody renamed it.
    pub fn reopen(&self) {
        if let Some(inner) = &self.0 {
            inner.shared.queue.reopen();
        }
    }

    /// Writes what is queued and ends the log; false when it took longer than `patience`. Blocks.
    #[must_use]
    pub fn stop(&self, patience: Duration) -> bool {
        let Some(inner) = &self.0 else { return true };
        inner.shared.queue.close();
        inner.shared.queue.wait_finished(patience)
    }
}

impl Inner {
    fn health(&self) -> Health {
        self.shared
            .health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// The place of a call's record in the queue. Dropped without a record, it is given back and counted as abandoned.
#[derive(Debug)]
#[must_use = "a call that was admitted leaves a record"]
pub struct Place(Option<Taken>);

#[derive(Debug)]
struct Taken {
    shared: Arc<Shared>,
    rank: Rank,
    reserved: bool,
}

impl Place {
    /// Whether somebody will read the record; callers need not make the [`Event`] otherwise.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Records the call that is over now.
    pub fn finish(mut self, event: &Event<'_>) {
        let Some(taken) = self.0.take() else { return };
        let Taken {
            shared,
            rank,
            reserved,
        } = taken;
        // A call that was refused for want of credentials is no more than an attempt, whatever it asked for.
        let rank = match event.identity {
            Identity::Unknown { .. } => Rank::Unauthenticated,
            _ => rank,
        };
        let line = line(event);
        if reserved {
            shared.queue.fill(rank, line, &shared.counters);
        } else if !shared.queue.offer(rank, line, &shared.counters) {
            let reason = match rank {
                Rank::Read => DropReason::Read,
                Rank::Unauthenticated => DropReason::Unauthenticated,
                Rank::Kept => DropReason::Overflow,
            };
            shared.counters.drop_records(reason, 1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(taken) = self.0.take() {
            if taken.reserved {
                taken.shared.queue.release();
            }
            taken.shared.counters.drop_records(DropReason::Abandoned, 1);
        }
    }
}

fn line(event: &Event<'_>) -> Vec<u8> {
    let mut line = record(event);
    line.push(b'\n');
    line
}

/// Opens the file anew at every SIGHUP, for as long as the process runs.
pub async fn reopen_on_hangup(audit: Audit) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() {
        audit.reopen();
    }
}

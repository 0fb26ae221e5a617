//! The audit log: one CloudTrail record for every API call, whatever became of it (least-privilege spec, section 9).
//!
//! ```text
//!   call ── Audit::admit ── Place ──┬── the call is done ── Event ── record() ── Place::finish ─┐
//!                 │                 └── never begun: refused ── Audit::refused ─────────────────┤
//!      ServiceUnavailable,                                                                      ▼
//!      when `refuse` holds              writer thread ◀──────────────────────────────── bounded queue
//!                                             │
//!                                    file, rotated and compressed, or standard output
//! ```
//!
//! * [`record()`] is pure: an [`Event`] in, one line of JSON out. What must not be read by auditors is not in the line.
//! * A call takes its [`Place`] in the queue before it is executed. So a write whose record could not be kept is refused
//!   before it happens, and not regretted afterwards.
//! * Records are given to the operating system within a few milliseconds and to the disk within a second. A call is
//!   answered when its record is queued: a process that is killed loses what it queued in its last milliseconds, and
//!   nothing else.
//! * CloudTrail gives the second account of a cross-account call a record of its own. A deployment has one log for all of
//!   its accounts, and one record for each call; `recipientAccountId` is the caller's account.

mod event;
mod file;
mod handle;
mod identity;
mod json;
mod parameters;
mod queue;
mod record;
mod response;
mod settings;
mod tables;
mod writer;

pub use event::{Decision, Event, Identity, Outcome, PodFacts, TlsFacts};
pub use handle::{Audit, Health, Place, StartAuditError, Unavailable, reopen_on_hangup};
pub use queue::{Counters, DropReason};
pub use record::{MAX_RECORD, record};
pub use settings::{AuditOptions, Capacity, InvalidAudit, OnFailure, Output, Settings};
pub use tables::{Class, class};

/// What stands in the place of a value that auditors must not read; CloudTrail's own words.
pub const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

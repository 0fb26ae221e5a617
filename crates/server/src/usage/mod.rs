//! Who used what last: access keys, users, roles, services and actions (IAM API spec, sections 4.2, 4.4 and 5.4).
//!
//! ```text
//!   every verified call ── Usage::record ──▶ memory, by id ── once a minute ──▶ the store, merged
//!                                               │                                  │
//!                                               └────────── Usage::last_used ◀─────┘
//! ```
//!
//! Attempts count, allowed or not, as they do at AWS. A call costs two lookups and usually no lock that another call could
//! hold. A key that is used all the time is written once an hour, and exactly when it rests; a process
//! that is killed loses an hour of precision at most. Replicas merge: of every use the latest stays, whoever saw it.

mod memory;

use std::sync::Arc;
use std::time::Duration;

use countersign_arn::{AccountId, CallerIdentity};
use countersign_session::SessionRecord;
use countersign_store::records::LastUsed;
use countersign_store::{Directory, DirectoryError, DirectorySnapshot};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};

use memory::Memory;

/// How long a use is remembered; AWS reports at least as much.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(400 * 24);
/// How often uses are stored.
const FLUSH: Duration = Duration::from_secs(60);
/// How much later than the stored use one has to be, to be stored.
const PRECISION: SignedDuration = SignedDuration::from_hours(1);
/// Of what was not used for so long, the last use is stored exactly.
const RESTING: SignedDuration = SignedDuration::from_mins(5);
/// Records of one flush; the rest waits for the next.
const RECORDS_PER_FLUSH: usize = 10_000;
/// How often records of principals that are gone are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(6 * 3600);

/// One verified call, as far as last use is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    /// The account of the caller.
    pub account: AccountId,
    /// Unique id of the user or role; the account's id for its root.
    pub principal: &'a str,
    /// Id of the long-term key that signed; none for temporary credentials.
    pub access_key: Option<&'a str>,
    /// Namespace of the service, such as `sts`.
    pub service: &'a str,
    /// The operation.
    pub action: &'a str,
    /// The region of the signature.
    pub region: &'a str,
    /// When.
    pub at: Timestamp,
}

impl<'a> Use<'a> {
    /// What a verified caller used. A federated session counts for the user who made it, as its policies do.
    #[must_use]
    pub fn of(
        caller: &'a CallerIdentity,
        session: Option<&'a SessionRecord>,
        service: &'a str,
        action: &'a str,
        region: &'a str,
        at: Timestamp,
    ) -> Self {
        let principal = match session {
            None => caller.user_id(),
            Some(session) => session
                .principal
                .unique_id()
                .unwrap_or(session.account.as_str()),
        };
        Self {
            account: caller.account(),
            principal,
            access_key: session.is_none().then(|| caller.access_key_id()),
            service,
            action,
            region,
            at,
        }
    }
}

/// What was used last, as far as this process saw it.
#[derive(Debug, Default)]
pub struct Usage {
    memory: Memory,
    full: Notify,
}

impl Usage {
    /// Notes a call of a verified caller.
    pub fn record(&self, used: &Use<'_>) {
        let ids = [Some(used.principal), used.access_key];
        for id in ids.into_iter().flatten().filter(|id| !id.is_empty()) {
            if !self.memory.touch(id, used) {
                self.full.notify_one();
            }
        }
    }

    /// Notes that a user signed in with the password.
    pub fn record_sign_in(&self, account: AccountId, user_id: &str, at: Timestamp) {
        if !self.memory.touch_password(user_id, account, at) {
            self.full.notify_one();
        }
    }

    /// What the user, role, access key or root user with this id used last, here or anywhere, within 400 days of `now`.
    #[must_use]
    pub fn last_used(
        &self,
        snapshot: &DirectorySnapshot,
        id: &str,
        now: Timestamp,
    ) -> Option<LastUsed> {
        let stored = snapshot.last_used(id).map(|used| LastUsed::clone(used));
        let mut both = match (stored, self.memory.get(id)) {
            (Some(mut stored), Some(seen)) => {
                stored.merge(&seen);
                stored
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return None,
        };
        both.forget_before(oldest(now)).then_some(both)
    }

    /// Stores what is due; with `everything`, all that is not stored yet. Returns how many records were written.
    ///
    /// # Errors
    /// When the store cannot be written. What was seen stays in memory, and is stored the next time.
    pub async fn flush(
        &self,
        directory: &Directory,
        now: Timestamp,
        everything: bool,
    ) -> Result<usize, DirectoryError> {
        let snapshot = directory.snapshot();
        let due = self.memory.due(RECORDS_PER_FLUSH, |seen| {
            let rests = memory::latest(seen).is_none_or(|at| now.duration_since(at) >= RESTING);
            let precision = if everything || rests {
                SignedDuration::ZERO
            } else {
                PRECISION
            };
            let stored = snapshot.last_used(&seen.id).map(|used| &**used);
            is_due(stored, seen, precision)
        });
        let written = directory.merge_last_used(&due, oldest(now)).await?;
        self.memory.forget(&directory.snapshot(), now);
        Ok(written)
    }

    /// Uses that could not be noted because too many ids were in use at once.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.memory.missed()
    }
}

/// Stores what was used once a minute until told to stop, and then all of it.
pub async fn keep_usage(usage: Arc<Usage>, directory: Directory, mut stop: watch::Receiver<bool>) {
    let mut forgotten = tokio::time::Instant::now();
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(FLUSH) => false,
            () = usage.full.notified() => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        let now = Timestamp::now();
        if let Err(error) = usage.flush(&directory, now, stopping).await {
            tracing::warn!(%error, "what was used last could not be stored; trying again in a minute");
        }
        if stopping {
            return;
        }
        if forgotten.elapsed() >= FORGET_EVERY {
            forgotten = tokio::time::Instant::now();
            if let Err(error) = directory
                .forget_last_used(oldest(now), RECORDS_PER_FLUSH)
                .await
            {
                tracing::warn!(%error, "old records of what was used last could not be removed");
            }
        }
        // However fast the memory fills, the store is asked once in a while only.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn oldest(now: Timestamp) -> Timestamp {
    now.saturating_sub(REMEMBERED).unwrap_or(Timestamp::MIN)
}

/// Whether `seen` has a use that is not stored, or is later than the stored one by more than `precision`.
fn is_due(stored: Option<&LastUsed>, seen: &LastUsed, precision: SignedDuration) -> bool {
    let Some(stored) = stored else { return true };
    let later = |seen: Timestamp, stored: Timestamp| {
        let by = seen.duration_since(stored);
        by > SignedDuration::ZERO && by >= precision
    };
    let password = seen
        .password
        .is_some_and(|seen| stored.password.is_none_or(|stored| later(seen, stored)));
    password
        || seen.services.iter().any(|(service, seen)| {
            let Some(stored) = stored.services.get(service) else {
                return true;
            };
            let moved = seen.region != stored.region && seen.at > stored.at;
            moved
                || later(seen.at, stored.at)
                || seen.actions.iter().any(|(action, seen)| {
                    stored
                        .actions
                        .get(action)
                        .is_none_or(|stored| later(seen.at, stored.at))
                })
        })
}

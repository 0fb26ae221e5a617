//! Who may call STS now: a global limit of calls in flight, a rate, a bounded queue, and shares within all three.
//!
//! The order is first come, first served, and a share can only take away from it. Access key ids are chosen by whoever
//! makes the token, so a scheduler that served key by key would reward an attacker for inventing keys. Here an access key
//! has at most an eighth of the queue and a quarter of the calls in flight; beyond that it is passed over or refused.
//! Hosts are chosen by the token's maker too, and one behind a firewall holds a call until its deadline. Hosts that
//! did not answer lately therefore share a quarter of the queue and of the calls in flight among them.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::ThrottledBy;

/// Limits of the calls to STS (authentication spec, section 11.5).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallLimits {
    /// Calls in flight at once. Default 64.
    pub in_flight: usize,
    /// Calls per second in the long run. Default 200.
    pub per_second: f64,
    /// Calls that may follow each other at once after a quiet time. Default 400.
    pub burst: f64,
    /// Calls that may wait. Default 1024; 0 refuses what cannot start at once.
    pub queue: usize,
    /// How long a call may wait. Default 5 s.
    pub max_wait: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            in_flight: 64,
            per_second: 200.0,
            burst: 400.0,
            queue: 1024,
            max_wait: Duration::from_secs(5),
        }
    }
}

/// Consecutive failures after which a host counts as one that does not answer.
const FAILURES_UNTIL_SUSPECT: u32 = 3;
/// Hosts remembered as answering. There are a few dozen regions with four names each.
const MAX_PROVEN_HOSTS: usize = 256;
/// The share of the configured rate that is won back per second after it was halved.
const RECOVERY_PER_SECOND: f64 = 0.1;
/// The rate never falls below this share of the configured one, so that recovery is noticed.
const RATE_FLOOR: f64 = 0.01;

#[derive(Debug)]
pub(crate) struct Admission {
    limits: CallLimits,
    state: Mutex<State>,
    wake: Notify,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct State {
    tokens: f64,
    rate: f64,
    refilled: Instant,
    reduced: Option<Instant>,
    in_flight: usize,
    suspect: Load,
    owners: HashMap<Box<str>, Load>,
    proven_hosts: HashMap<Box<str>, u32>,
    queue: VecDeque<Waiting>,
}

/// What one access key, or all suspect hosts together, occupy.
#[derive(Debug, Default, Clone, Copy)]
struct Load {
    queued: usize,
    in_flight: usize,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    owner: Box<str>,
    host: Box<str>,
    /// Whether the host was suspect on entering; it may have become so since, or have answered.
    suspect: bool,
    grant: oneshot::Sender<Permit>,
}

/// The right to make one call; gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    owner: Box<str>,
    suspect: bool,
    granted: Instant,
}

impl Admission {
    /// Must be called within a tokio runtime: a task there hands out places as they become free.
    pub(crate) fn start(limits: CallLimits) -> Gate {
        let admission = Arc::new(Self {
            limits,
            state: Mutex::new(State {
                tokens: limits.burst,
                rate: limits.per_second,
                refilled: Instant::now(),
                reduced: None,
                in_flight: 0,
                suspect: Load::default(),
                owners: HashMap::new(),
                proven_hosts: HashMap::new(),
                queue: VecDeque::new(),
            }),
            wake: Notify::new(),
            next_id: AtomicU64::new(0),
        });
        let task = tokio::spawn(hand_out(Arc::clone(&admission))).abort_handle();
        Gate { admission, task }
    }

    /// Waits for a place.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        owner: &str,
        host: &str,
    ) -> Result<Permit, ThrottledBy> {
        let (id, granted) = {
            let mut state = self.lock();
            let now = Instant::now();
            state.refill(&self.limits, now);
            let suspect = !state.answers(host);
            if state.queue.is_empty() && state.may_start(&self.limits, owner, suspect) {
                state.tokens -= 1.0;
                state.begin(owner, suspect);
                return Ok(Permit {
                    admission: Arc::clone(self),
                    owner: owner.into(),
                    suspect,
                    granted: now,
                });
            }
            if state.queue.len() >= self.limits.queue {
                return Err(ThrottledBy::QueueFull);
            }
            let owner_queued = state.owners.get(owner).map_or(0, |load| load.queued);
            if owner_queued >= share(self.limits.queue, 8)
                || (suspect && state.suspect.queued >= share(self.limits.queue, 4))
            {
                return Err(ThrottledBy::Share);
            }
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let (grant, granted) = oneshot::channel();
            state.owners.entry(owner.into()).or_default().queued += 1;
            state.suspect.queued += usize::from(suspect);
            state.queue.push_back(Waiting {
                id,
                owner: owner.into(),
                host: host.into(),
                suspect,
                grant,
            });
            (id, granted)
        };
        self.wake.notify_one();
        let place = Place {
            admission: self,
            id,
        };
        let outcome = tokio::time::timeout(self.limits.max_wait, granted).await;
        drop(place);
        match outcome {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(ThrottledBy::QueueTimeout),
        }
    }

    /// STS said that it is asked too often: the rate is halved.
    ///
    /// Answers to calls that began before the rate was last reduced say nothing about the reduced rate and count only once;
    /// otherwise 64 calls in flight would reduce it to nothing.
    pub(crate) fn throttled(&self, permit: &Permit) {
        let now = Instant::now();
        let mut state = self.lock();
        state.refill(&self.limits, now);
        if state
            .reduced
            .is_some_and(|reduced| permit.granted <= reduced)
        {
            return;
        }
        state.reduced = Some(now);
        state.rate = (state.rate / 2.0).max(self.limits.per_second * RATE_FLOOR);
        state.tokens = state.tokens.min(state.rate);
    }

    /// `host` gave an HTTP answer, of whatever status.
    pub(crate) fn answered(&self, host: &str) {
        let mut state = self.lock();
        if let Some(failures) = state.proven_hosts.get_mut(host) {
            *failures = 0;
        } else if state.proven_hosts.len() < MAX_PROVEN_HOSTS {
            state.proven_hosts.insert(host.into(), 0);
        }
    }

    /// `host` could not be asked.
    pub(crate) fn failed(&self, host: &str) {
        let mut state = self.lock();
        if let Some(failures) = state.proven_hosts.get_mut(host) {
            *failures += 1;
            if *failures >= FAILURES_UNTIL_SUSPECT {
                state.proven_hosts.remove(host);
            }
        }
    }

    pub(crate) fn load(&self) -> AdmissionLoad {
        let mut state = self.lock();
        state.refill(&self.limits, Instant::now());
        AdmissionLoad {
            in_flight: state.in_flight,
            queued: state.queue.len(),
            rate: state.rate,
        }
    }

    /// Starts what may start, and says when to look again even if nothing happens till then.
    fn pump(self: &Arc<Self>) -> Option<Instant> {
        // A permit that nobody takes any more goes back when it is dropped, which locks again.
        let mut refused = Vec::new();
        let again = {
            let mut state = self.lock();
            let now = Instant::now();
            state.refill(&self.limits, now);
            loop {
                let eligible = state.queue.iter().enumerate().find_map(|(at, waiting)| {
                    let suspect = !state.answers(&waiting.host);
                    state
                        .has_place(&self.limits, &waiting.owner, suspect)
                        .then_some((at, suspect))
                });
                let Some((at, suspect)) = eligible else {
                    break None;
                };
                if state.tokens < 1.0 {
                    let missing = Duration::from_secs_f64((1.0 - state.tokens) / state.rate);
                    break Some(now + missing.max(Duration::from_millis(1)));
                }
                let Some(waiting) = state.queue.remove(at) else {
                    break None;
                };
                state.leave_queue(&waiting);
                state.tokens -= 1.0;
                state.begin(&waiting.owner, suspect);
                let permit = Permit {
                    admission: Arc::clone(self),
                    owner: waiting.owner,
                    suspect,
                    granted: now,
                };
                if let Err(permit) = waiting.grant.send(permit) {
                    refused.push(permit);
                }
            }
        };
        drop(refused);
        again
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How busy the calls to STS are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AdmissionLoad {
    pub(crate) in_flight: usize,
    pub(crate) queued: usize,
    pub(crate) rate: f64,
}

/// An [`Admission`] and the task that hands out its places; the task ends with this.
#[derive(Debug)]
pub(crate) struct Gate {
    admission: Arc<Admission>,
    task: AbortHandle,
}

impl Deref for Gate {
    type Target = Arc<Admission>;

    fn deref(&self) -> &Arc<Admission> {
        &self.admission
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hand_out(admission: Arc<Admission>) {
    loop {
        match admission.pump() {
            None => admission.wake.notified().await,
            Some(until) => {
                tokio::select! {
                    () = admission.wake.notified() => {}
                    () = tokio::time::sleep_until(until) => {}
                }
            }
        }
    }
}

impl State {
    fn refill(&mut self, limits: &CallLimits, now: Instant) {
        let seconds = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        let burst = limits.burst * self.rate / limits.per_second;
        self.tokens = (self.tokens + seconds * self.rate).min(burst.max(1.0));
        self.rate =
            (self.rate + seconds * limits.per_second * RECOVERY_PER_SECOND).min(limits.per_second);
    }

    fn may_start(&self, limits: &CallLimits, owner: &str, suspect: bool) -> bool {
        self.tokens >= 1.0 && self.has_place(limits, owner, suspect)
    }

    fn has_place(&self, limits: &CallLimits, owner: &str, suspect: bool) -> bool {
        self.in_flight < limits.in_flight
            && self
                .owners
                .get(owner)
                .is_none_or(|load| load.in_flight < share(limits.in_flight, 4))
            && (!suspect || self.suspect.in_flight < share(limits.in_flight, 4))
    }

    fn answers(&self, host: &str) -> bool {
        self.proven_hosts.contains_key(host)
    }

    fn begin(&mut self, owner: &str, suspect: bool) {
        self.in_flight += 1;
        self.suspect.in_flight += usize::from(suspect);
        if let Some(load) = self.owners.get_mut(owner) {
            load.in_flight += 1;
        } else {
            self.owners.entry(owner.into()).or_default().in_flight += 1;
        }
    }

    fn end(&mut self, owner: &str, suspect: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.suspect.in_flight = self.suspect.in_flight.saturating_sub(usize::from(suspect));
        self.change_owner(owner, |load| {
            load.in_flight = load.in_flight.saturating_sub(1);
        });
    }

    fn leave_queue(&mut self, waiting: &Waiting) {
        self.suspect.queued = self
            .suspect
            .queued
            .saturating_sub(usize::from(waiting.suspect));
        self.change_owner(&waiting.owner, |load| {
            load.queued = load.queued.saturating_sub(1);
        });
    }

    fn change_owner(&mut self, owner: &str, change: impl FnOnce(&mut Load)) {
        if let Some(load) = self.owners.get_mut(owner) {
            change(load);
            if load.queued == 0 && load.in_flight == 0 {
                self.owners.remove(owner);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.end(&self.owner, self.suspect);
        if !state.queue.is_empty() {
            self.admission.wake.notify_one();
        }
    }
}

/// A place in the queue, given up when the one who waits goes away.
struct Place<'a> {
    admission: &'a Admission,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        if let Some(at) = state.queue.iter().position(|w| w.id == self.id)
            && let Some(waiting) = state.queue.remove(at)
        {
            state.leave_queue(&waiting);
        }
    }
}

fn share(of: usize, parts: usize) -> usize {
    (of / parts).max(1)
}

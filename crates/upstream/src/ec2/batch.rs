//! The task that asks: lookups gathered into batches, one waiter list per id, few calls at once, a rate.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign_mapping::Ec2InstanceId;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::lookup::{Brief, Found, LookupError, Shared, Waiter, Wanted};
use super::{AwsError, Ec2, Instance, Profile};
use crate::http::ExchangeFailure;

pub(super) struct Batcher {
    source: Arc<dyn Ec2>,
    shared: Arc<Shared>,
    pending: HashMap<Ec2InstanceId, Pending>,
    /// Ids that were not asked yet.
    fresh: VecDeque<Ec2InstanceId>,
    gather_until: Option<Instant>,
    /// Ids to ask again, in the order of the times from which they may be. They only fill up batches or go when their time
    /// has come, behind the ids that were never asked.
    again: VecDeque<(Instant, Ec2InstanceId)>,
    calls: FuturesUnordered<BoxFuture<'static, Answered>>,
    tokens: f64,
    refilled: Instant,
    /// Instance profile ARN to role names, or to nothing if it could not be resolved; and until when that counts.
    profiles: HashMap<String, (Option<Vec<String>>, Instant)>,
}

#[derive(Default)]
struct Pending {
    waiters: Vec<Waiter>,
    refresh: bool,
}

struct Answered {
    ids: Vec<Ec2InstanceId>,
    instances: Result<Vec<Instance>, AwsError>,
    profiles: Vec<(String, Option<Vec<String>>)>,
}

/// Instance profiles remembered; a cluster has a few.
const MAX_PROFILES: usize = 1024;
/// How long the roles of a profile are kept: they hardly ever change, and replacing one should not take a restart.
const KEEP_PROFILE: Duration = Duration::from_secs(3600);
/// How long it is kept that a profile cannot be resolved, for want of permission as a rule.
const KEEP_UNRESOLVED: Duration = Duration::from_secs(60);

impl Batcher {
    pub(super) fn new(source: Arc<dyn Ec2>, shared: Arc<Shared>) -> Self {
        let tokens = shared.options.burst.max(1.0);
        Self {
            source,
            shared,
            pending: HashMap::new(),
            fresh: VecDeque::new(),
            gather_until: None,
            again: VecDeque::new(),
            calls: FuturesUnordered::new(),
            tokens,
            refilled: Instant::now(),
            profiles: HashMap::new(),
        }
    }

    pub(super) async fn run(mut self, mut wanted: mpsc::Receiver<Wanted>) {
        loop {
            let again_at = self.start_calls();
            let pause = async {
                match again_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(answered) = self.calls.next() => self.settle(answered),
                received = wanted.recv() => match received {
                    Some(wanted) => self.take(wanted),
                    None => return,
                },
                () = pause => {}
            }
        }
    }

    fn take(&mut self, wanted: Wanted) {
        let now = Instant::now();
        // The answer may have come between the look into the memory and this.
        if wanted.waiter.is_some() {
            let known = match self.shared.memory().named.get(&wanted.id) {
                Some((facts, since))
                    if now.saturating_duration_since(*since) < self.shared.options.keep =>
                {
                    Some(Arc::clone(facts))
                }
                _ => None,
            };
            if let Some(facts) = known
                && let Some(waiter) = wanted.waiter
            {
                let _ = waiter.answer.send(Ok(facts));
                return;
            }
        }
        let pending = match self.pending.get_mut(&wanted.id) {
            Some(pending) => pending,
            None => {
                self.fresh.push_back(wanted.id);
                self.gather_until
                    .get_or_insert(now + self.shared.options.gather);
                self.pending.entry(wanted.id).or_default()
            }
        };
        match wanted.waiter {
            Some(waiter) => pending.waiters.push(waiter),
            None => pending.refresh = true,
        }
    }

    /// Starts the calls that are due, and says when the next may be.
    fn start_calls(&mut self) -> Option<Instant> {
        let options = self.shared.options;
        loop {
            let now = Instant::now();
            let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
            self.refilled = now;
            self.tokens = (self.tokens + elapsed * options.per_second).min(options.burst.max(1.0));
            let due = [
                (self.fresh.len() >= options.batch).then_some(now),
                self.gather_until,
                self.again.front().map(|(at, _)| *at),
            ]
            .into_iter()
            .flatten()
            .min()?;
            if self.calls.len() >= options.concurrent.max(1) {
                // A finished call wakes the loop.
                return None;
            }
            if due > now {
                return Some(due);
            }
            if self.tokens < 1.0 {
                let missing = (1.0 - self.tokens) / options.per_second.max(0.001);
                return Some(
                    now + Duration::from_secs_f64(missing.min(60.0)).max(Duration::from_millis(1)),
                );
            }
            let ids = self.next_batch(now);
            if ids.is_empty() {
                continue;
            }
            self.tokens -= 1.0;
            self.shared.counters.calls.fetch_add(1, Ordering::Relaxed);
            self.calls.push(self.call(ids));
        }
    }

    fn next_batch(&mut self, now: Instant) -> Vec<Ec2InstanceId> {
        let size = self.shared.options.batch.clamp(1, 100);
        let mut ids = Vec::new();
        while ids.len() < size {
            let id = match self.fresh.pop_front() {
                Some(id) => id,
                None => match self.again.front() {
                    Some((at, _)) if *at <= now => match self.again.pop_front() {
                        Some((_, id)) => id,
                        None => break,
                    },
                    _ => break,
                },
            };
            if self.still_wanted(&id) {
                ids.push(id);
            }
        }
        if self.fresh.is_empty() {
            self.gather_until = None;
        }
        ids
    }

    fn still_wanted(&mut self, id: &Ec2InstanceId) -> bool {
        let Some(pending) = self.pending.get_mut(id) else {
            return false;
        };
        pending.waiters.retain(|waiter| !waiter.answer.is_closed());
        let wanted = pending.refresh || !pending.waiters.is_empty();
        if !wanted {
            self.pending.remove(id);
        }
        wanted
    }

    fn call(&self, ids: Vec<Ec2InstanceId>) -> BoxFuture<'static, Answered> {
        let source = Arc::clone(&self.source);
        let deadline = self.shared.options.deadline;
        let now = Instant::now();
        let resolved: Vec<String> = self
            .profiles
            .iter()
            .filter(|(_, (_, until))| now < *until)
            .map(|(arn, _)| arn.clone())
            .collect();
        Box::pin(async move {
            let instances = tokio::time::timeout(deadline, source.describe_instances(&ids))
                .await
                .unwrap_or(Err(AwsError::Unreachable(ExchangeFailure::Timeout)));
            let mut profiles: Vec<(String, Option<Vec<String>>)> = Vec::new();
            for instance in instances.as_deref().unwrap_or_default() {
                let Profile::Arn(arn) = &instance.profile else {
                    continue;
                };
                if resolved.contains(arn) || profiles.iter().any(|(known, _)| known == arn) {
                    continue;
                }
                let roles = tokio::time::timeout(deadline, source.profile_roles(arn))
                    .await
                    .unwrap_or(Err(AwsError::Unreachable(ExchangeFailure::Timeout)));
                if let Err(error) = &roles {
                    tracing::warn!(profile = %arn, %error, "the roles of an instance profile could not be found out");
                }
                profiles.push((arn.clone(), roles.ok()));
            }
            Answered {
                ids,
                instances,
                profiles,
            }
        })
    }

    fn settle(&mut self, answered: Answered) {
        let now = Instant::now();
        for (arn, roles) in answered.profiles {
            if self.profiles.len() >= MAX_PROFILES {
                self.profiles.clear();
            }
            let keep = match roles {
                Some(_) => KEEP_PROFILE,
                None => KEEP_UNRESOLVED,
            };
            self.profiles.insert(arn, (roles, now + keep));
        }
        match answered.instances {
            Ok(instances) => {
                let mut found: HashMap<Ec2InstanceId, Instance> = instances
                    .into_iter()
                    .map(|instance| (instance.id, instance))
                    .collect();
                for id in answered.ids {
                    let instance = found.remove(&id);
                    self.settle_one(id, instance, now);
                }
            }
            Err(error) => {
                let counters = &self.shared.counters;
                match &error {
                    AwsError::Throttled { .. } => {
                        counters.throttled.fetch_add(1, Ordering::Relaxed);
                    }
                    AwsError::Unreachable(_) => {
                        counters.unreachable.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => {
                        counters.refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
                tracing::warn!(%error, instances = answered.ids.len(), "instances could not be described");
                for id in answered.ids {
                    if error.is_transient() {
                        self.ask_again(id, now, LookupError::Source(error.clone()));
                    } else {
                        self.answer(id, &Err(LookupError::Source(error.clone())));
                    }
                }
            }
        }
    }

    fn settle_one(&mut self, id: Ec2InstanceId, instance: Option<Instance>, now: Instant) {
        let Some(instance) = instance else {
            return self.remember_missing(id, LookupError::NotFound, now);
        };
        if instance.is_terminated() {
            return self.remember_missing(id, LookupError::Terminated, now);
        }
        let roles = match &instance.profile {
            Profile::Arn(arn) => self.profiles.get(arn).and_then(|(roles, _)| roles.clone()),
            Profile::NotTold | Profile::Absent => None,
        };
        let facts = Arc::new(instance.into_facts(roles));
        if facts.private_dns_name.is_none() {
            let until = now + self.shared.options.keep_missing;
            let brief = Brief::Nameless(Arc::clone(&facts));
            self.shared.memory().brief.insert(id, (brief, until));
            self.answer_some(id, &Ok(facts), |waiter| !waiter.needs_name);
            return self.ask_again(id, now, LookupError::NoNameYet);
        }
        let evicted = {
            let mut memory = self.shared.memory();
            memory.brief.remove(&id);
            memory.named.insert(id, (Arc::clone(&facts), now))
        };
        if evicted.is_some() {
            let evictions = &self.shared.counters.evictions;
            evictions.fetch_add(1, Ordering::Relaxed);
        }
        self.answer(id, &Ok(facts));
    }

    fn remember_missing(&mut self, id: Ec2InstanceId, error: LookupError, now: Instant) {
        {
            let mut memory = self.shared.memory();
            memory.named.remove(&id);
            let until = now + self.shared.options.keep_missing;
            let brief = Brief::Missing(error.clone());
            memory.brief.insert(id, (brief, until));
        }
        self.answer(id, &Err(error));
    }

    /// Asks once more for those who can still wait for it; the others get `error`. Nothing is remembered.
    fn ask_again(&mut self, id: Ec2InstanceId, now: Instant, error: LookupError) {
        let at = now + self.shared.options.ask_again_after;
        self.answer_some(id, &Err(error), |waiter| waiter.deadline <= at);
        if let Some(pending) = self.pending.get_mut(&id) {
            // A refresh in the background is not repeated: the next use starts another.
            pending.refresh = false;
            if pending.waiters.is_empty() {
                self.pending.remove(&id);
            } else {
                self.again.push_back((at, id));
            }
        }
    }

    fn answer(&mut self, id: Ec2InstanceId, found: &Found) {
        self.answer_some(id, found, |_| true);
        self.pending.remove(&id);
    }

    fn answer_some(&mut self, id: Ec2InstanceId, found: &Found, who: impl Fn(&Waiter) -> bool) {
        if let Some(pending) = self.pending.get_mut(&id) {
            let waiters = std::mem::take(&mut pending.waiters);
            for waiter in waiters {
                if who(&waiter) {
                    let _ = waiter.answer.send(found.clone());
                } else {
                    pending.waiters.push(waiter);
                }
            }
        }
    }
}

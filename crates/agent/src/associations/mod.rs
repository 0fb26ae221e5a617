//! Associations that change: pods get credentials of the new role within seconds, and none of an association that is gone
//! (agent spec, section 7.2; AWS takes up to six hours).

mod eks;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

pub use eks::EksAssociations;
pub(crate) use eks::{first_listed, state_of};

use crate::cache::Cache;
use crate::token::PodIdentity;

/// How often associations are looked at.
const POLL: Duration = Duration::from_secs(30);
/// How far the clocks of the node and the control plane may differ.
const LEEWAY: SignedDuration = SignedDuration::from_mins(1);

/// Associations could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the associations cannot be read: {0}")]
pub struct AssociationsUnreadable(pub String);

/// An association, as far as its credentials in the cache depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssociationState {
    /// When it was changed last (`modifiedAt`).
    pub modified: Timestamp,
    /// Whether its sessions have the tags of their pod: `disableSessionTags` is not true.
    pub session_tags: bool,
    /// Whether it is for names that begin alike, so that a closer one may be made without any change of it.
    pub has_patterns: bool,
}

/// A service account: namespace and name.
pub type AccountName = (Box<str>, Box<str>);

/// Tells the state of associations.
pub trait Associations: Send + Sync + 'static {
    /// The state of each of these associations, by its id. One that does not exist is left out. An implementation ends within
    /// some seconds.
    fn states<'a>(
        &'a self,
        ids: &'a [Box<str>],
    ) -> BoxFuture<'a, Result<HashMap<Box<str>, AssociationState>, AssociationsUnreadable>>;

    /// The id of the association that is in force for each of these service accounts; nothing for those without one. An
    /// implementation ends within some seconds.
    fn in_force<'a>(
        &'a self,
        accounts: &'a [AccountName],
    ) -> BoxFuture<'a, Result<HashMap<AccountName, Box<str>>, AssociationsUnreadable>>;
}

/// The state of an association, and since when it is known.
#[derive(Debug, Clone, Copy)]
struct Seen {
    state: AssociationState,
    since: Instant,
}

impl Seen {
    /// Whether credentials that came at `fetched`, `fetched_at` on the wall clock, are of no pod in particular, as a look that
    /// began at `looked` says: they came before it, so that it saw what they were made by or something newer; and what it saw is
    /// no newer than they are, be it that it was known before they came, be it by clocks that may differ.
    fn are_of_no_pod(&self, fetched: Instant, fetched_at: Timestamp, looked: Instant) -> bool {
        !self.state.session_tags
            && fetched < looked
            && (fetched > self.since || self.state.modified <= fetched_at - LEEWAY)
    }
}

/// Looks at the associations of the cached credentials every 30 s, until `stop` becomes true.
///
/// An association that is seen for the first time may have changed between the call and the look. Its credentials are fetched
/// once more when it changed later than a minute before they came, which leaves room for clocks that differ. Of credentials by
/// an association with patterns it is asked whether another one is in force by now.
///
/// What a look says about session tags is what lets the cache share credentials, where it may at all; a look that fails takes
/// that away until the next one.
pub(crate) async fn follow(
    associations: Arc<dyn Associations>,
    cache: Arc<Cache>,
    mut stop: watch::Receiver<bool>,
) {
    let mut seen: HashMap<Box<str>, Seen> = HashMap::new();
    let mut failing = false;
    let mut tick = tokio::time::interval(POLL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        // The oldest credentials of each association.
        let mut ids: HashMap<Box<str>, Timestamp> = HashMap::new();
        for used in cache.uses() {
            let oldest = ids.entry(used.association_id).or_insert(used.fetched_at);
            *oldest = used.fetched_at.min(*oldest);
        }
        if ids.is_empty() {
            seen.clear();
            continue;
        }
        let asked: Vec<Box<str>> = ids.keys().cloned().collect();
        let looked = Instant::now();
        match look(&*associations, &cache, &asked).await {
            Ok((now, replaced)) => {
                failing = false;
                let is_changed = |id: &str| match (now.get(id), seen.get(id), ids.get(id)) {
                    (None, _, asked) => asked.is_some(),
                    (Some(now), Some(before), _) => *now != before.state,
                    (Some(now), None, Some(fetched)) => now.modified > *fetched - LEEWAY,
                    (Some(_), None, None) => false,
                };
                let changed = asked.iter().filter(|id| is_changed(id)).count();
                if changed > 0 || !replaced.is_empty() {
                    tracing::info!(
                        associations = changed,
                        accounts = replaced.len(),
                        "pod identity associations changed; their credentials are fetched anew"
                    );
                    cache.forget(|identity, id| {
                        is_changed(id) || replaced.contains(&account_of(identity))
                    });
                }
                let found = Instant::now();
                let known = |(id, state): (Box<str>, AssociationState)| {
                    let before = seen.get(&id).filter(|before| before.state == state);
                    let since = before.map_or(found, |before| before.since);
                    (id, Seen { state, since })
                };
                seen = now
                    .into_iter()
                    .filter(|(id, _)| ids.contains_key(id))
                    .map(known)
                    .collect();
                cache.share(|id, fetched, fetched_at| {
                    let seen = seen.get(id);
                    seen.is_some_and(|seen| seen.are_of_no_pod(fetched, fetched_at, looked))
                });
            }
            // What is cached stays: that associations cannot be read says nothing about them.
            Err(error) => {
                cache.share(|_, _, _| false);
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "changed associations are not noticed before the next renewal; it is tried again");
                }
            }
        }
    }
}

/// The states of these associations, and the service accounts with credentials by one of them that is not in force any more.
async fn look(
    associations: &dyn Associations,
    cache: &Cache,
    ids: &[Box<str>],
) -> Result<(HashMap<Box<str>, AssociationState>, HashSet<AccountName>), AssociationsUnreadable> {
    let states = associations.states(ids).await?;
    let is_pattern = |id: &str| states.get(id).is_some_and(|state| state.has_patterns);
    let by_pattern: Vec<(AccountName, Box<str>)> = cache
        .uses()
        .into_iter()
        .filter(|used| is_pattern(&used.association_id))
        .map(|used| (account_of(&used.identity), used.association_id))
        .collect();
    if by_pattern.is_empty() {
        return Ok((states, HashSet::new()));
    }
    let accounts: HashSet<&AccountName> = by_pattern.iter().map(|(account, _)| account).collect();
    let accounts: Vec<AccountName> = accounts.into_iter().cloned().collect();
    let in_force = associations.in_force(&accounts).await?;
    let replaced = by_pattern
        .into_iter()
        .filter(|(account, used)| in_force.get(account) != Some(used))
        .map(|(account, _)| account)
        .collect();
    Ok((states, replaced))
}

fn account_of(identity: &PodIdentity) -> AccountName {
    (identity.namespace.clone(), identity.service_account.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn credentials_are_of_no_pod_when_tags_were_off_before_and_after_they_came() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let time = |seconds: i64| Timestamp::from_second(1_893_456_000 + seconds);
        // Tags; when the association changed, and since when that is known; when the credentials came; when it was looked.
        let cases = [
            (false, -86_400, 100, 50, 90, true),
            (true, -86_400, 100, 50, 90, false),
            // They came while or after it was looked: it may have changed since.
            (false, -86_400, 100, 90, 90, false),
            (false, -86_400, 100, 95, 90, false),
            // By the clocks they may be older than the change, and it was not known before them.
            (false, 0, 100, 59, 90, false),
            (false, 0, 100, 60, 90, true),
            (false, 0, 40, 40, 90, false),
            (false, 0, 40, 41, 90, true),
            (false, 3600, 40, 41, 90, true),
        ];
        for (session_tags, modified, since, fetched, looked, shared) in cases {
            let seen = Seen {
                state: AssociationState {
                    modified: time(modified).unwrap_or_default(),
                    session_tags,
                    has_patterns: false,
                },
                since: at(since),
            };
            let fetched_at = time(i64::try_from(fetched).unwrap_or_default());
            assert_eq!(
                seen.are_of_no_pod(at(fetched), fetched_at.unwrap_or_default(), at(looked)),
                shared,
                "{session_tags} {modified} {since} {fetched} {looked}"
            );
        }
    }
}

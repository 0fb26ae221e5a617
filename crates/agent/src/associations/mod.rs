//! Associations that change: pods get credentials of the new role within seconds, and none of an association that is gone
//! (agent spec, section 7.2; AWS takes up to six hours).

mod eks;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

pub use eks::EksAssociations;
pub(crate) use eks::modified_at;

use crate::cache::Cache;

/// How often associations are looked at.
const POLL: Duration = Duration::from_secs(30);
/// How far the clocks of the node and the control plane may differ.
const LEEWAY: SignedDuration = SignedDuration::from_mins(1);

/// Associations could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the associations cannot be read: {0}")]
pub struct AssociationsUnreadable(pub String);

/// Tells the state of associations.
pub trait Associations: Send + Sync + 'static {
    /// When each of these associations was changed last (`modifiedAt`), by its id. One that does not exist is left out. An
    /// implementation ends within some seconds.
    fn modified<'a>(
        &'a self,
        ids: &'a [Box<str>],
    ) -> BoxFuture<'a, Result<HashMap<Box<str>, Timestamp>, AssociationsUnreadable>>;
}

/// Looks at the associations of the cached credentials every 30 s, until `stop` becomes true.
///
/// An association that is seen for the first time may have changed between the call and the look. Its credentials are fetched
/// once more when it changed later than a minute before they came, which leaves room for clocks that differ.
pub(crate) async fn follow(
    associations: Arc<dyn Associations>,
    cache: Arc<Cache>,
    mut stop: watch::Receiver<bool>,
) {
    let mut seen: HashMap<Box<str>, Timestamp> = HashMap::new();
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
        match associations.modified(&asked).await {
            Ok(now) => {
                failing = false;
                let is_changed = |id: &str| match (now.get(id), seen.get(id), ids.get(id)) {
                    (None, _, asked) => asked.is_some(),
                    (Some(now), Some(before), _) => now != before,
                    (Some(now), None, Some(fetched)) => *now > *fetched - LEEWAY,
                    (Some(_), None, None) => false,
                };
                let changed = asked.iter().filter(|id| is_changed(id)).count();
                if changed > 0 {
                    tracing::info!(
                        associations = changed,
                        "pod identity associations changed; their credentials are fetched anew"
                    );
                    cache.forget(|_, id| is_changed(id));
                }
                seen = now;
                seen.retain(|id, _| ids.contains_key(id));
            }
            // What is cached stays: that associations cannot be read says nothing about them.
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "changed associations are not noticed before the next renewal; it is tried again");
                }
            }
        }
    }
}

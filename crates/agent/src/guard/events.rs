//! Events on pods, each kind once an hour (imds spec, section 5.6).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{GuardApi, PodEvent};
use crate::pods::Pod;

/// An Event of one kind on one pod is not repeated for this long.
const EVENT_EVERY: Duration = Duration::from_secs(60 * 60);
/// Events that are remembered.
const EVENTS: usize = 4096;

/// Events on pods, each kind once an hour.
pub(crate) struct Events {
    api: Option<Arc<dyn GuardApi>>,
    told: Mutex<HashMap<(Box<str>, PodEvent), Instant>>,
    places: Arc<Semaphore>,
}

impl Events {
    pub(crate) fn new(api: Option<Arc<dyn GuardApi>>) -> Self {
        Self {
            api,
            told: Mutex::default(),
            places: Arc::new(Semaphore::new(4)),
        }
    }

    /// Tells about a pod, unless it was told lately or too much is being told.
    pub(crate) fn report(&self, pod: &Arc<Pod>, event: PodEvent) {
        let Some(api) = &self.api else { return };
        let now = Instant::now();
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (pod.uid.clone(), event);
            if told
                .get(&key)
                .is_some_and(|at| now.duration_since(*at) < EVENT_EVERY)
            {
                return;
            }
            if told.len() >= EVENTS {
                told.retain(|_, at| now.duration_since(*at) < EVENT_EVERY);
            }
            if told.len() >= EVENTS {
                return;
            }
            told.insert(key, now);
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return;
        };
        let (api, pod) = (Arc::clone(api), Arc::clone(pod));
        tokio::spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(5), api.event(&pod, event)).await;
            drop(place);
        });
    }
}

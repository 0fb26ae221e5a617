//! The labels of pods, as the API server of their cluster has them (Pod Identity spec, section 6).
//!
//! Asked once for each session that takes a tag from a label, and not remembered: a session lives for hours, and labels
//! change. Who may change a pod's labels chooses these tags.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use countersign_store::records::Cluster;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::ClusterIssuers;
use super::api::ClusterApi;

/// Questions at once to one API server.
const AT_ONCE: usize = 64;
/// How long nobody asks after a failure.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Why the labels of a pod are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LabelsUnknown {
    /// There is no such pod any more, or another one of its name.
    #[error("there is no such pod")]
    Gone,
    /// Nobody could be asked, or there was no usable answer.
    #[error("{0}")]
    Unread(String),
}

/// Questions about pods to one API server.
#[derive(Debug)]
pub(super) struct PodQuestions {
    permits: Semaphore,
    failed: Mutex<Option<Instant>>,
}

impl PodQuestions {
    pub(super) fn new() -> Self {
        Self {
            permits: Semaphore::new(AT_ONCE),
            failed: Mutex::default(),
        }
    }

    async fn ask(
        &self,
        api: &dyn ClusterApi,
        (namespace, name, uid): (&str, &str, &str),
    ) -> Result<BTreeMap<String, String>, LabelsUnknown> {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some_and(|failed| Instant::now() < failed + BACK_OFF) {
            return Err(unread("the API server did not answer a moment ago"));
        }
        let Ok(_permit) = self.permits.try_acquire() else {
            return Err(unread("too many questions to the API server are under way"));
        };
        match api.pod_labels(namespace, name).await {
            Ok(Some(pod)) if pod.uid == uid => Ok(pod.labels),
            Ok(_) => Err(LabelsUnknown::Gone),
            Err(error) => {
                self.failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .replace(Instant::now());
                Err(unread(&error.to_string()))
            }
        }
    }
}

fn unread(why: &str) -> LabelsUnknown {
    LabelsUnknown::Unread(why.to_owned())
}

impl ClusterIssuers {
    /// Whether the API server of a cluster is known here.
    pub(crate) fn asks(&self, cluster: &Cluster) -> bool {
        self.reachable(cluster).is_some()
    }

    /// The labels of the pod of this namespace, name and uid.
    ///
    /// # Errors
    /// When it is not there, or cannot be read at the moment.
    pub(crate) async fn pod_labels(
        &self,
        cluster: &Cluster,
        pod: (&str, &str, &str),
    ) -> Result<BTreeMap<String, String>, LabelsUnknown> {
        let Some(reachable) = self.reachable(cluster) else {
            return Err(unread("the API server of the cluster is not known here"));
        };
        reachable.pods.ask(&*reachable.api, pod).await
    }
}

//! What the API server of a cluster says of the annotations of a pod and of its namespace, and what follows: asked for when a pod
//! wants credentials, once for all who wait, and remembered for a few seconds.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_imds::annotated::{Annotations, Granted, NotGranted, Rules};
use countersign_sources::kubernetes::{AnnotationReads, ObjectAnnotations};
use countersign_store::records::Cluster;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::aws::eks_auth::error::Refusal;
use crate::aws::eks_auth::token::Pod;
use crate::issuer::ApiFuture;
use crate::webhook::entries::Registered;

/// How long an answer stands.
const REMEMBER: Duration = Duration::from_secs(5);
/// How long nobody asks after a failure.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Questions at once to one API server.
const AT_ONCE: usize = 32;
/// Pods and namespaces remembered of one cluster, each.
const REMEMBERED: usize = 2048;
/// Decisions at once: an expression of a namespace's list may take milliseconds to compile, and a list has up to 256.
const DECISIONS: usize = 2;
/// How long a pod waits for one of them.
const DECISION_WAIT: Duration = Duration::from_secs(2);

const UNREADABLE: Refusal = Refusal::Unavailable(
    "The annotations of the pod and of its namespace cannot be read at the moment.",
);
const BUSY: Refusal = Refusal::Unavailable(
    "The annotations of the pod and of its namespace cannot be looked at at the moment.",
);

/// What the API server of a cluster is asked about annotations.
pub trait AnnotationsApi: fmt::Debug + Send + Sync + 'static {
    /// Those of a pod; nothing when it is not there.
    fn pod<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> ApiFuture<'a, Option<ObjectAnnotations>>;

    /// Those of a namespace; nothing when it is not there.
    fn namespace<'a>(&'a self, name: &'a str) -> ApiFuture<'a, Option<ObjectAnnotations>>;
}

impl AnnotationsApi for AnnotationReads {
    fn pod<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> ApiFuture<'a, Option<ObjectAnnotations>> {
        Box::pin(Self::pod(self, namespace, name))
    }

    fn namespace<'a>(&'a self, name: &'a str) -> ApiFuture<'a, Option<ObjectAnnotations>> {
        Box::pin(Self::namespace(self, name))
    }
}

type Decision = Result<Arc<Granted>, NotGranted>;

/// A cluster whose pods get roles by annotations.
#[derive(Debug)]
pub struct AnnotatedCluster {
    registered: Registered,
    rules: Arc<Rules>,
    api: Arc<dyn AnnotationsApi>,
    /// By pod uid: a new pod of the same name is another one.
    pods: Remembered<Decision>,
    namespaces: Remembered<Arc<ObjectAnnotations>>,
    permits: Semaphore,
    decisions: Arc<Semaphore>,
    failed: Mutex<Option<Instant>>,
}

impl AnnotatedCluster {
    /// The annotations that [`AnnotationReads`] has to be made for.
    pub const PREFIX: &str = "iam.amazonaws.com";

    /// The cluster of this place, whose roles are given by `rules`, and whose API server is `api`.
    #[must_use]
    pub fn new(registered: Registered, rules: Rules, api: Arc<dyn AnnotationsApi>) -> Self {
        Self {
            registered,
            rules: rules.into(),
            api,
            pods: Remembered::default(),
            namespaces: Remembered::default(),
            permits: Semaphore::new(AT_ONCE),
            decisions: Arc::new(Semaphore::new(DECISIONS)),
            failed: Mutex::default(),
        }
    }

    pub(super) fn is_for(&self, cluster: &Cluster) -> bool {
        match &self.registered {
            Registered::At {
                account,
                region,
                name,
            } => *account == cluster.account && *region == cluster.region && *name == cluster.name,
            Registered::Id(id) => *id == cluster.id,
        }
    }

    /// The role of a pod whose token was checked.
    ///
    /// # Errors
    /// When it has none, may not have it, is gone, or nobody can say so at the moment.
    pub(super) async fn role(
        &self,
        cluster: &Cluster,
        pod: &Pod<'_>,
    ) -> Result<Arc<Granted>, Refusal> {
        let decided = self.pods.get(pod.uid, || self.decide(cluster, pod)).await?;
        decided.map_err(|why| {
            let text = format!(
                "Pod {} in namespace {} gets no role: {why}.",
                pod.name, pod.namespace
            );
            if why.is_absence() {
                Refusal::NoAnnotatedRole(text)
            } else {
                Refusal::RoleNotAllowed(text)
            }
        })
    }

    async fn decide(&self, cluster: &Cluster, pod: &Pod<'_>) -> Result<Decision, Refusal> {
        let of_pod = self.ask(self.api.pod(pod.namespace, pod.name)).await?;
        let of_pod = of_pod
            .filter(|object| *object.uid == *pod.uid)
            .ok_or_else(|| Refusal::InvalidToken("its pod is gone".to_owned()))?;
        let of_namespace = self
            .namespaces
            .get(pod.namespace, || async {
                let found = self.ask(self.api.namespace(pod.namespace)).await?;
                Ok(Arc::new(found.unwrap_or_default()))
            })
            .await?;
        let place = Arc::clone(&self.decisions).acquire_owned();
        let place = tokio::time::timeout(DECISION_WAIT, place).await;
        let place = place.map_err(|_| BUSY)?.map_err(|_| BUSY)?;
        let rules = Arc::clone(&self.rules);
        let owner = (cluster.partition, cluster.account);
        let decision = tokio::task::spawn_blocking(move || {
            let predecessor = rules.compat.predecessor;
            let lists = &of_namespace.annotations;
            let annotations = Annotations::of(predecessor, &of_pod.annotations, lists);
            let granted = rules.grant(owner, annotations).map(Arc::new);
            drop(place);
            granted
        });
        decision.await.map_err(|_| Refusal::Internal)
    }

    async fn ask<T>(&self, question: ApiFuture<'_, T>) -> Result<T, Refusal> {
        let lately = |failed: Instant| Instant::now() < failed + BACK_OFF;
        if lock(&self.failed).is_some_and(lately) {
            return Err(UNREADABLE);
        }
        let _permit = self.permits.try_acquire().map_err(|_| UNREADABLE)?;
        question.await.map_err(|error| {
            tracing::warn!(
                %error,
                "the annotations of a pod or a namespace cannot be read; `get` on pods and namespaces is needed"
            );
            lock(&self.failed).replace(Instant::now());
            UNREADABLE
        })
    }
}

type Slot<V> = tokio::sync::Mutex<Option<(V, Instant)>>;

/// Answers by key, each asked for once at a time.
#[derive(Debug)]
struct Remembered<V>(Mutex<HashMap<Box<str>, Arc<Slot<V>>>>);

impl<V> Default for Remembered<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> Remembered<V> {
    async fn get<F: Future<Output = Result<V, Refusal>>>(
        &self,
        key: &str,
        ask: impl FnOnce() -> F,
    ) -> Result<V, Refusal> {
        let slot = self.slot(key);
        // Held over the question: who waits for it has its answer.
        let mut held = slot.lock().await;
        if let Some((value, at)) = &*held
            && at.elapsed() < REMEMBER
        {
            return Ok(value.clone());
        }
        let value = ask().await?;
        *held = Some((value.clone(), Instant::now()));
        Ok(value)
    }

    fn slot(&self, key: &str) -> Arc<Slot<V>> {
        let mut slots = lock(&self.0);
        if slots.len() >= REMEMBERED && !slots.contains_key(key) {
            slots.retain(|_, slot| {
                slot.try_lock()
                    .is_ok_and(|held| held.as_ref().is_some_and(|(_, at)| at.elapsed() < REMEMBER))
            });
            if slots.len() >= REMEMBERED {
                slots.clear();
            }
        }
        Arc::clone(slots.entry(key.into()).or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

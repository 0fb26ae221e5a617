//! The taint of nodes that start closed to pods (imds spec, section 5.1): taken away once pods' requests reach the guard.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::GuardApiError;

/// Time for the API server.
const ANSWER: Duration = Duration::from_secs(30);
/// First and longest pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A node that is registered again has the taint again.
const AGAIN: Duration = Duration::from_secs(600);

/// The node's taint in Kubernetes.
pub trait NodeTaint: Send + Sync + 'static {
    /// Takes the taint away; whether it was there.
    fn remove(&self) -> BoxFuture<'_, Result<bool, GuardApiError>>;
}

/// Takes the taint away whenever `in_force` is true, until `stop` becomes true.
///
/// Rules that only drop keep it: pods that start then would get no metadata, while those that wait lose nothing.
pub(crate) async fn keep(
    node: Arc<dyn NodeTaint>,
    mut in_force: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let stopped = tokio::select! {
            open = in_force.wait_for(|open| *open) => open.is_err(),
            _ = stop.wait_for(|stop| *stop) => true,
        };
        if stopped {
            return;
        }
        let removed = tokio::select! {
            removed = tokio::time::timeout(ANSWER, node.remove()) => removed,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let removed =
            removed.unwrap_or_else(|_| Err(GuardApiError("no answer within 30 s".into())));
        let wait = match removed {
            Ok(was_there) => {
                if was_there {
                    tracing::info!(
                        taint = countersign_imds::advise::TAINT,
                        "the guard answers: the node's taint is removed"
                    );
                }
                pause = FIRST_PAUSE;
                AGAIN
            }
            Err(error) => {
                tracing::warn!(%error, "the node's taint cannot be removed; pods that do not tolerate it stay away until it is");
                let wait = pause;
                pause = LONGEST_PAUSE.min(pause.saturating_mul(2));
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    /// Fails so many times.
    struct Failing {
        left: Mutex<u32>,
        asked: Mutex<Vec<Instant>>,
    }

    impl NodeTaint for Failing {
        fn remove(&self) -> BoxFuture<'_, Result<bool, GuardApiError>> {
            self.asked.lock().unwrap().push(Instant::now());
            let mut left = self.left.lock().unwrap();
            let answer = match left.checked_sub(1) {
                Some(fewer) => {
                    *left = fewer;
                    Err(GuardApiError("conflict".into()))
                }
                None => Ok(true),
            };
            Box::pin(std::future::ready(answer))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_the_guard_and_tries_again_with_growing_pauses() {
        let node = Arc::new(Failing {
            left: Mutex::new(9),
            asked: Mutex::default(),
        });
        let (open, in_force) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(keep(node.clone(), in_force, stopped));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(node.asked.lock().unwrap().is_empty(), "no guard, no change");
        open.send_replace(true);
        tokio::time::sleep(Duration::from_secs(400)).await;
        let pauses: Vec<u64> = {
            let asked = node.asked.lock().unwrap();
            let pairs = asked.windows(2);
            pairs.map(|pair| (pair[1] - pair[0]).as_secs()).collect()
        };
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        // It is looked at again, and not while the guard is away.
        tokio::time::sleep(AGAIN).await;
        let asked = node.asked.lock().unwrap().len();
        assert_eq!(asked, 11);
        open.send_replace(false);
        tokio::time::sleep(AGAIN * 3).await;
        assert_eq!(node.asked.lock().unwrap().len(), asked);
        stop.send_replace(true);
        task.await.unwrap();
    }
}

//! Associations that are learnt from elsewhere and kept: an EKS API that is polled, or objects of the cluster that are watched
//! (webhook spec, sections 2 and 3.4). No store is needed for either.
//!
//! What was learnt last stays in force while nothing can be learnt. Only which service accounts have an association is kept: the
//! webhook needs no role, and knows none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_pods::{Association, Associations};
use countersign_sources::kubernetes::AssociationObjectsState;
use countersign_upstream::ec2::AwsError;
use countersign_upstream::eks::{ListAssociations, ListedAssociation};
use jiff::Timestamp;
use tokio::sync::watch;

use super::associations::{AssociationSource, FoundAssociation};

/// Time for a whole list, however many pages it has.
const LIST: Duration = Duration::from_secs(120);
/// Longest pause after failures.
const LONGEST: Duration = Duration::from_secs(60);
/// Shortest pause between two lists, whatever is configured: the API is shared with everybody in the account.
const SHORTEST: Duration = Duration::from_secs(1);

/// Where kept associations come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptFrom {
    /// The EKS API of AWS, or of another Countersign.
    Eks,
    /// `PodIdentityAssociation` objects.
    Objects,
}

impl KeptFrom {
    /// As the configuration has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eks => "eks",
            Self::Objects => "crd",
        }
    }
}

/// How kept associations are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadCounts {
    /// Lists and changes that were read.
    pub ok: u64,
    /// Answers that asked to be asked less.
    pub throttled: u64,
    /// Answers that refused.
    pub refused: u64,
    /// No answer, or one that could not be read.
    pub failed: u64,
}

/// What is known about kept associations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptHealth {
    /// Where they come from.
    pub from: KeptFrom,
    /// How many there are.
    pub associations: usize,
    /// Whether it was found out once which there are.
    pub listed: bool,
    /// When they were read last.
    pub read_at: Option<Timestamp>,
    /// Why they cannot be read now.
    pub problem: Option<String>,
    /// How often they were.
    pub reads: ReadCounts,
}

/// The associations that were learnt last. Clones share them.
#[derive(Debug, Clone)]
pub struct KeptAssociations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    from: KeptFrom,
    kept: ArcSwap<Kept>,
    ok: AtomicU64,
    throttled: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    associations: Arc<Associations>,
    listed: bool,
    read_at: Option<Timestamp>,
    problem: Option<String>,
}

/// How a read failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Throttled,
    Refused,
    Failed,
}

impl KeptAssociations {
    /// None yet.
    #[must_use]
    pub fn new(from: KeptFrom) -> Self {
        Self(Arc::new(Inner {
            from,
            kept: ArcSwap::default(),
            ok: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }))
    }

    /// Puts these in force in the place of all others. Names that are none are left out.
    pub fn publish(
        &self,
        associations: impl IntoIterator<Item = (Box<str>, Box<str>, Option<Box<str>>)>,
        now: Timestamp,
    ) {
        let entries = associations
            .into_iter()
            .map(|(namespace, account, id)| (format!("{namespace}/{account}"), Association { id }));
        let (associations, _) = Associations::build(entries);
        let before = self.0.kept.swap(Arc::new(Kept {
            associations: Arc::new(associations),
            listed: true,
            read_at: Some(now),
            problem: None,
        }));
        self.0.ok.fetch_add(1, Ordering::Relaxed);
        if let Some(problem) = &before.problem {
            tracing::info!(was = problem, "pod identity associations can be read again");
        }
    }

    /// Takes note of a failure; what was learnt last stays.
    fn fail(&self, failure: Failure, problem: &str, listed: bool) {
        let counter = match failure {
            Failure::Throttled => &self.0.throttled,
            Failure::Refused => &self.0.refused,
            Failure::Failed => &self.0.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let before = self.0.kept.load_full();
        if before.problem.as_deref() != Some(problem) {
            tracing::warn!(
                problem,
                from = self.0.from.as_str(),
                "pod identity associations cannot be read; those that are known stay"
            );
        }
        self.0.kept.store(Arc::new(Kept {
            problem: Some(problem.to_owned()),
            listed: before.listed || listed,
            ..Kept::clone(&before)
        }));
    }

    /// How they are doing.
    #[must_use]
    pub fn kept_health(&self) -> KeptHealth {
        let kept = self.0.kept.load();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KeptHealth {
            from: self.0.from,
            associations: kept.associations.len(),
            listed: kept.listed,
            read_at: kept.read_at,
            problem: kept.problem.clone(),
            reads: ReadCounts {
                ok: count(&self.0.ok),
                throttled: count(&self.0.throttled),
                refused: count(&self.0.refused),
                failed: count(&self.0.failed),
            },
        }
    }

    /// Polls an EKS API for ever: every `every`, a tenth more or less, and less often after failures.
    pub async fn poll(
        self,
        api: Arc<dyn ListAssociations>,
        every: Duration,
        clock: impl Fn() -> Timestamp + Send,
    ) {
        let every = every.max(SHORTEST);
        let mut failures: u32 = 0;
        loop {
            let listed = tokio::time::timeout(LIST, api.list()).await;
            match listed {
                Ok(Ok(listed)) => {
                    failures = 0;
                    self.publish(listed.into_iter().map(entry), clock());
                }
                Ok(Err(error)) => {
                    failures = failures.saturating_add(1);
                    self.fail(kind(&error), &told(&error), false);
                }
                Err(_) => {
                    failures = failures.saturating_add(1);
                    let problem = "the EKS API gave no complete list in two minutes";
                    self.fail(Failure::Failed, problem, false);
                }
            }
            tokio::time::sleep(pause(every, failures, super::random())).await;
        }
    }

    /// Follows the objects of a cluster until nobody watches them any more.
    ///
    /// An object counts when its spec can be read and it is not going away. Which of two for one service account counts, and
    /// whether an operator allows its role, decides what credentials there are and not whether pods ask for some.
    pub async fn follow(
        self,
        mut objects: watch::Receiver<Arc<AssociationObjectsState>>,
        clock: impl Fn() -> Timestamp + Send,
    ) {
        let mut failures = 0;
        loop {
            let state = objects.borrow_and_update().clone();
            if state.known && state.problem.is_none() {
                let named = state.objects.values().filter(|object| !object.deleting);
                let named = named.filter_map(|object| {
                    let spec = object.spec.as_ref().ok()?;
                    Some((object.namespace.clone(), spec.service_account.clone(), None))
                });
                self.publish(named, clock());
            } else if let Some(problem) = &state.problem
                && (state.failures != failures || !state.known)
            {
                self.fail(Failure::Failed, problem, state.listed);
            }
            failures = state.failures;
            if objects.changed().await.is_err() {
                return;
            }
        }
    }
}

impl AssociationSource for KeptAssociations {
    fn find(&self, namespace: &str, service_account: &str) -> Option<FoundAssociation> {
        let kept = self.0.kept.load();
        let found = kept.associations.find(namespace, service_account)?;
        Some(FoundAssociation {
            id: found.value.id.clone(),
            pattern: (!found.is_exact).then(|| found.key.into()),
        })
    }

    fn health(&self) -> Option<KeptHealth> {
        Some(self.kept_health())
    }
}

fn entry(listed: ListedAssociation) -> (Box<str>, Box<str>, Option<Box<str>>) {
    (listed.namespace, listed.service_account, Some(listed.id))
}

fn kind(error: &AwsError) -> Failure {
    match error {
        AwsError::Throttled { .. } => Failure::Throttled,
        AwsError::Refused { .. } | AwsError::Credentials(_) => Failure::Refused,
        _ => Failure::Failed,
    }
}

fn told(error: &AwsError) -> String {
    let error: String = error.to_string().chars().take(256).collect();
    format!("the EKS API: {error}")
}

/// The pause before the next list: doubled with each failure up to a minute, and a tenth more or less, so that many webhooks do
/// not ask at once.
fn pause(every: Duration, failures: u32, random: u64) -> Duration {
    let doubled = every.saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX));
    let base = doubled.min(LONGEST.max(every));
    // 0 to 200 thousandths.
    let thousandths = u32::try_from(random % 201).unwrap_or(100);
    base.mul_f64(0.9 + f64::from(thousandths) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use countersign_upstream::http::ExchangeFailure;
    use futures::future::BoxFuture;

    use super::*;

    #[test]
    fn pauses_grow_with_failures_and_differ() {
        let secs = Duration::from_secs;
        for (every, failures, random, expected) in [
            (secs(5), 0, 100, secs(5)),
            (secs(5), 0, 0, Duration::from_millis(4_500)),
            (secs(5), 0, 200, Duration::from_millis(5_500)),
            (secs(5), 1, 100, secs(10)),
            (secs(5), 3, 100, secs(40)),
            (secs(5), 4, 100, secs(60)),
            (secs(5), u32::MAX, 200, secs(66)),
            (secs(300), 2, 100, secs(300)),
        ] {
            let told = format!("{every:?} after {failures} with {random}");
            let difference = pause(every, failures, random).abs_diff(expected);
            assert!(difference < Duration::from_millis(1), "{told}");
        }
    }

    /// Answers by a script, the last answer for ever.
    #[derive(Debug)]
    struct Scripted(Mutex<Vec<Result<Vec<ListedAssociation>, AwsError>>>);

    impl ListAssociations for Scripted {
        fn list(&self) -> BoxFuture<'_, Result<Vec<ListedAssociation>, AwsError>> {
            let mut answers = self.0.lock().unwrap();
            let answer = if answers.len() > 1 {
                answers.remove(0)
            } else {
                answers[0].clone()
            };
            Box::pin(std::future::ready(answer))
        }
    }

    fn listed(names: &[(&str, &str)]) -> Vec<ListedAssociation> {
        let one = |(namespace, account): &(&str, &str)| ListedAssociation {
            namespace: (*namespace).into(),
            service_account: (*account).into(),
            id: "a-1".into(),
        };
        names.iter().map(one).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_list_stays_through_throttling_and_outage() {
        let throttled = || {
            Err(AwsError::Throttled {
                code: "ThrottlingException".into(),
            })
        };
        let refused = Err(AwsError::Refused {
            status: 403,
            code: "AccessDeniedException".into(),
        });
        let api = Scripted(Mutex::new(vec![
            refused,
            Ok(listed(&[("shop", "cart"), ("test-*", "*")])),
            throttled(),
            throttled(),
            Err(AwsError::Unreachable(ExchangeFailure::Connect)),
            Ok(listed(&[("shop", "till")])),
        ]));
        let kept = KeptAssociations::new(KeptFrom::Eks);
        let source = kept.clone();
        assert!(!source.kept_health().listed, "not before the first list");
        let now = || Timestamp::UNIX_EPOCH;
        tokio::spawn(kept.poll(Arc::new(api), Duration::from_secs(5), now));
        let has = |name: &str| source.find("shop", name).is_some();
        let until = async |reads: ReadCounts| {
            while source.kept_health().reads != reads {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            source.kept_health()
        };
        let mut reads = ReadCounts {
            refused: 1,
            ..ReadCounts::default()
        };
        let health = until(reads).await;
        assert!(!health.listed && !has("cart"));
        assert!(health.problem.unwrap().contains("AccessDeniedException"));
        reads.ok = 1;
        let health = until(reads).await;
        assert!(health.listed && health.problem.is_none() && has("cart"));
        let found = source.find("shop", "cart").unwrap();
        assert_eq!(found.id.as_deref(), Some("a-1"));
        assert!(
            source.find("test-1", "any").is_some(),
            "a pattern of another Countersign"
        );
        for failure in 0..3 {
            match failure {
                2 => reads.failed += 1,
                _ => reads.throttled += 1,
            }
            let health = until(reads).await;
            assert!(health.listed && health.problem.is_some() && has("cart"));
        }
        reads.ok = 2;
        let health = until(reads).await;
        assert!(health.problem.is_none() && has("till") && !has("cart"));
    }
}

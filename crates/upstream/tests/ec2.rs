//! Lookups of instances against a simulated EC2 (acceptance item 9).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_mapping::{Ec2Facts, Ec2InstanceId, InstanceState, NodeNameSource};
use countersign_upstream::ec2::{
    AwsError, Ec2, Instance, InstanceLookup, LookupError, LookupOptions, NamesFirst, Profile,
};
use countersign_upstream::http::ExchangeFailure;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep};

const NAME: NodeNameSource = NodeNameSource::PrivateDnsName;
const PROFILE: &str = "arn:aws:iam::444455556666:instance-profile/nodes";

fn id(n: usize) -> Ec2InstanceId {
    Ec2InstanceId::parse(&format!("i-{n:017x}")).unwrap()
}

fn instance(n: usize) -> Instance {
    Instance {
        state: Some("running".to_owned()),
        owner: "444455556666".parse().ok(),
        profile: Profile::Arn(PROFILE.to_owned()),
        ..Instance::named(id(n), format!("ip-10-0-{}-{}.internal", n / 250, n % 250))
    }
}

type Script = dyn Fn(&Simulated, usize) -> Result<(), AwsError> + Send + Sync;

/// An EC2 with some instances, which get their names some time after launch.
#[derive(Default)]
struct Simulated {
    instances: Mutex<HashMap<Ec2InstanceId, (Instance, Option<Instant>)>>,
    batches: Mutex<Vec<(Instant, Vec<Ec2InstanceId>)>>,
    now: AtomicUsize,
    most: AtomicUsize,
    profile_calls: AtomicUsize,
    profile_denied: Mutex<bool>,
    delay: Mutex<Duration>,
    script: Mutex<Option<Arc<Script>>>,
}

impl Simulated {
    fn new(instances: impl IntoIterator<Item = Instance>) -> Arc<Self> {
        let simulated = Self::default();
        for instance in instances {
            simulated.put(instance, None);
        }
        Arc::new(simulated)
    }

    fn put(&self, instance: Instance, named_at: Option<Instant>) {
        let mut instances = self.instances.lock().unwrap();
        instances.insert(instance.id, (instance, named_at));
    }

    fn calls(&self) -> usize {
        self.batches.lock().unwrap().len()
    }
}

impl Ec2 for Simulated {
    fn describe_instances<'a>(
        &'a self,
        ids: &'a [Ec2InstanceId],
    ) -> BoxFuture<'a, Result<Vec<Instance>, AwsError>> {
        Box::pin(async move {
            let number = {
                let mut batches = self.batches.lock().unwrap();
                batches.push((Instant::now(), ids.to_vec()));
                batches.len()
            };
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let delay = *self.delay.lock().unwrap();
            if !delay.is_zero() {
                sleep(delay).await;
            }
            self.now.fetch_sub(1, Ordering::SeqCst);
            let script = self.script.lock().unwrap().clone();
            if let Some(script) = script {
                script(self, number)?;
            }
            let instances = self.instances.lock().unwrap();
            Ok(ids
                .iter()
                .filter_map(|id| instances.get(id))
                .map(|(instance, named_at)| {
                    let mut instance = instance.clone();
                    if named_at.is_some_and(|at| Instant::now() < at) {
                        instance.private_dns_name.clear();
                    }
                    instance
                })
                .collect())
        })
    }

    fn profile_roles<'a>(
        &'a self,
        profile_arn: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, AwsError>> {
        Box::pin(async move {
            assert_eq!(profile_arn, PROFILE);
            self.profile_calls.fetch_add(1, Ordering::SeqCst);
            if *self.profile_denied.lock().unwrap() {
                return Err(AwsError::Refused {
                    status: 403,
                    code: "AccessDenied".to_owned(),
                });
            }
            Ok(vec!["NodeRole".to_owned()])
        })
    }
}

fn start(simulated: &Arc<Simulated>) -> InstanceLookup {
    InstanceLookup::start(Arc::clone(simulated) as _, LookupOptions::default())
}

type Task = JoinHandle<Result<Arc<Ec2Facts>, LookupError>>;

fn ask(lookup: &InstanceLookup, n: usize) -> Task {
    let lookup = lookup.clone();
    tokio::spawn(async move { lookup.facts(id(n), &NAME).await })
}

fn throttled() -> AwsError {
    AwsError::Throttled {
        code: "RequestLimitExceeded".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn five_thousand_nodes_join_at_once_with_unknown_ids_and_names_that_come_late() {
    let ec2 = Simulated::new([]);
    let started = Instant::now();
    // One in a hundred is unknown; the others get their name within the first ten seconds.
    for n in (0..5000).filter(|n| n % 100 != 99) {
        let named_at = started + Duration::from_millis(2 * n as u64);
        ec2.put(instance(n), Some(named_at));
    }
    let lookup = start(&ec2);
    let kubelets: Vec<JoinHandle<Result<String, LookupError>>> = (0..5000)
        .map(|n| {
            let lookup = lookup.clone();
            tokio::spawn(async move {
                for attempt in 1.. {
                    match lookup.facts(id(n), &NAME).await {
                        Ok(facts) => {
                            return Ok(facts.private_dns_name.clone().unwrap());
                        }
                        Err(LookupError::NotFound) if attempt >= 3 => {
                            return Err(LookupError::NotFound);
                        }
                        Err(_) => sleep(Duration::from_secs(1)).await,
                    }
                    assert!(attempt < 100, "node {n} never joins");
                }
                unreachable!()
            })
        })
        .collect();
    let mut joined = 0;
    for (n, kubelet) in kubelets.into_iter().enumerate() {
        let name = kubelet.await.unwrap();
        if n % 100 == 99 {
            assert_eq!(name, Err(LookupError::NotFound));
        } else {
            assert_eq!(name.unwrap(), instance(n).private_dns_name);
            joined += 1;
        }
    }
    assert_eq!(joined, 4950);
    assert!(started.elapsed() < Duration::from_secs(60));
    for (at, (when, ids)) in ec2.batches.lock().unwrap().iter().enumerate() {
        assert!(ids.len() <= 100);
        let distinct: HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "an id stands in a batch once");
        let allowed = 5.0 + 15.0 * when.duration_since(started).as_secs_f64() + 1.5;
        assert!((at as f64) < allowed, "call {at} came too early");
    }
    assert!(ec2.most.load(Ordering::SeqCst) <= 4);
    assert!(ec2.profile_calls.load(Ordering::SeqCst) <= 4);
    let calls = ec2.calls();
    for n in (0..5000).filter(|n| n % 100 != 99) {
        lookup.facts(id(n), &NAME).await.unwrap();
    }
    assert_eq!(ec2.calls(), calls, "from now on nothing is asked");
    assert_eq!((lookup.known(), lookup.waiting()), (4950, 0));
}

#[tokio::test(start_paused = true)]
async fn ids_gather_for_50_ms_or_until_there_are_a_hundred() {
    let ec2 = Simulated::new((0..300).map(instance));
    let lookup = start(&ec2);
    let started = Instant::now();
    ask(&lookup, 0).await.unwrap().unwrap();
    assert_eq!(started.elapsed(), Duration::from_millis(50));
    let started = Instant::now();
    let tasks: Vec<Task> = (100..300).map(|n| ask(&lookup, n)).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(
        started.elapsed() < Duration::from_millis(50),
        "two full batches go at once"
    );
    let sizes: Vec<usize> = ec2
        .batches
        .lock()
        .unwrap()
        .iter()
        .map(|(_, ids)| ids.len())
        .collect();
    assert_eq!(sizes, [1, 100, 100]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_four_calls_run_at_once() {
    let ec2 = Simulated::new((0..800).map(instance));
    *ec2.delay.lock().unwrap() = Duration::from_secs(1);
    let lookup = start(&ec2);
    let tasks: Vec<Task> = (0..800).map(|n| ask(&lookup, n)).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!((ec2.most.load(Ordering::SeqCst), ec2.calls()), (4, 8));
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_for_one_id_share_one_question() {
    let ec2 = Simulated::new([instance(1)]);
    *ec2.delay.lock().unwrap() = Duration::from_millis(200);
    let lookup = start(&ec2);
    let mut tasks: Vec<Task> = (0..100).map(|_| ask(&lookup, 1)).collect();
    sleep(Duration::from_millis(100)).await;
    tasks.extend((0..100).map(|_| ask(&lookup, 1)));
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let batches = ec2.batches.lock().unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].1, [id(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_kept_for_twelve_hours_and_a_missing_instance_for_five_seconds() {
    let ec2 = Simulated::new([instance(1)]);
    let options = LookupOptions {
        refresh_after: Duration::from_secs(365 * 86400),
        ..LookupOptions::default()
    };
    let lookup = InstanceLookup::start(Arc::clone(&ec2) as _, options);
    lookup.facts(id(1), &NAME).await.unwrap();
    advance(Duration::from_secs(12 * 3600 - 1)).await;
    lookup.facts(id(1), &NAME).await.unwrap();
    assert_eq!(ec2.calls(), 1);
    advance(Duration::from_secs(1)).await;
    lookup.facts(id(1), &NAME).await.unwrap();
    assert_eq!(ec2.calls(), 2);

    let missing = lookup.facts(id(2), &NAME).await;
    assert_eq!(missing, Err(LookupError::NotFound));
    ec2.put(instance(2), None);
    advance(Duration::from_millis(4900)).await;
    assert_eq!(lookup.facts(id(2), &NAME).await, Err(LookupError::NotFound));
    assert_eq!(ec2.calls(), 3);
    advance(Duration::from_millis(100)).await;
    lookup.facts(id(2), &NAME).await.unwrap();
    assert_eq!(ec2.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_empty_name_is_waited_for_within_the_deadline_and_never_kept() {
    let ec2 = Simulated::new([]);
    let started = Instant::now();
    ec2.put(instance(1), Some(started + Duration::from_secs(3)));
    ec2.put(instance(2), Some(started + Duration::from_secs(60)));
    let lookup = start(&ec2);
    let (soon, late) = (ask(&lookup, 1), ask(&lookup, 2));
    assert!(soon.await.unwrap().unwrap().private_dns_name.is_some());
    assert_eq!(late.await.unwrap(), Err(LookupError::NoNameYet));
    assert!(started.elapsed() <= Duration::from_secs(5));
    assert_eq!(lookup.known(), 1);
    advance(Duration::from_secs(60)).await;
    lookup.facts(id(2), &NAME).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_needs_no_private_dns_name_does_not_wait_for_one() {
    let ec2 = Simulated::new([Instance {
        private_dns_name: String::new(),
        ..instance(1)
    }]);
    let lookup = start(&ec2);
    let started = Instant::now();
    for source in [
        NodeNameSource::InstanceId,
        NodeNameSource::Tag("name".into()),
    ] {
        let facts = lookup.facts(id(1), &source).await.unwrap();
        assert_eq!(facts.private_dns_name, None);
        assert_eq!(facts.state, Some(InstanceState::Running));
    }
    assert_eq!(started.elapsed(), Duration::from_millis(50));
    assert_eq!(ec2.calls(), 1);
    assert_eq!(
        lookup.facts(id(1), &NAME).await,
        Err(LookupError::NoNameYet)
    );
    assert!(ec2.calls() > 1, "who needs a name has it asked for");
}

#[tokio::test(start_paused = true)]
async fn a_terminated_instance_is_dropped_when_a_refresh_finds_it() {
    let ec2 = Simulated::new([instance(1)]);
    let lookup = start(&ec2);
    lookup.facts(id(1), &NAME).await.unwrap();
    ec2.put(
        Instance {
            state: Some("terminated".to_owned()),
            private_dns_name: String::new(),
            ..instance(1)
        },
        None,
    );
    advance(Duration::from_secs(600)).await;
    lookup.facts(id(1), &NAME).await.unwrap();
    sleep(Duration::from_millis(60)).await;
    assert_eq!(
        lookup.facts(id(1), &NAME).await,
        Err(LookupError::Terminated)
    );
    assert_eq!((ec2.calls(), lookup.known()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failing_refresh_takes_nothing_away() {
    let ec2 = Simulated::new([instance(1)]);
    let lookup = start(&ec2);
    lookup.facts(id(1), &NAME).await.unwrap();
    *ec2.script.lock().unwrap() = Some(Arc::new(|_, _| Err(throttled())));
    advance(Duration::from_secs(600)).await;
    for _ in 0..3 {
        lookup.facts(id(1), &NAME).await.unwrap();
        sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(ec2.calls(), 4, "one question for each use, none by itself");
}

#[tokio::test(start_paused = true)]
async fn throttling_and_outages_are_waited_out_and_refusals_are_not() {
    let transient = [
        throttled(),
        AwsError::Unreachable(ExchangeFailure::Connect),
        AwsError::Failed { status: 503 },
    ];
    for error in transient {
        let ec2 = Simulated::new([instance(1)]);
        let first = error.clone();
        *ec2.script.lock().unwrap() = Some(Arc::new(move |_, number| match number {
            1 | 2 => Err(first.clone()),
            _ => Ok(()),
        }));
        let lookup = start(&ec2);
        assert!(lookup.facts(id(1), &NAME).await.is_ok(), "{error}");
        assert_eq!(ec2.calls(), 3);
    }
    for error in [
        AwsError::BadAnswer,
        AwsError::Credentials("none".to_owned()),
        AwsError::Refused {
            status: 403,
            code: "UnauthorizedOperation".to_owned(),
        },
    ] {
        let ec2 = Simulated::new([instance(1)]);
        let every = error.clone();
        *ec2.script.lock().unwrap() = Some(Arc::new(move |_, _| Err(every.clone())));
        let lookup = start(&ec2);
        let refused = lookup.facts(id(1), &NAME).await;
        assert_eq!(refused, Err(LookupError::Source(error)));
        assert_eq!(ec2.calls(), 1);
        *ec2.script.lock().unwrap() = None;
        assert!(
            lookup.facts(id(1), &NAME).await.is_ok(),
            "failures are not kept"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_out_gives_errors_within_the_deadline_and_few_calls() {
    let ec2 = Simulated::new([]);
    *ec2.script.lock().unwrap() = Some(Arc::new(|_, _| Err(throttled())));
    let lookup = start(&ec2);
    let started = Instant::now();
    let tasks: Vec<Task> = (0..2000).map(|n| ask(&lookup, n)).collect();
    for task in tasks {
        assert!(task.await.unwrap().is_err());
    }
    assert_eq!(started.elapsed().as_secs(), 5);
    assert!(ec2.calls() <= 5 + 15 * 5 + 1, "{}", ec2.calls());
    assert_eq!(lookup.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_gives_a_timeout_and_recovers() {
    let ec2 = Simulated::new((0..10).map(instance));
    *ec2.delay.lock().unwrap() = Duration::from_secs(3600);
    let lookup = start(&ec2);
    assert_eq!(lookup.facts(id(1), &NAME).await, Err(LookupError::Timeout));
    *ec2.delay.lock().unwrap() = Duration::ZERO;
    sleep(Duration::from_secs(6)).await;
    assert!(lookup.facts(id(1), &NAME).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_id_that_nobody_waits_for_any_more_is_not_asked() {
    let ec2 = Simulated::new([instance(1)]);
    let lookup = start(&ec2);
    let task = ask(&lookup, 1);
    sleep(Duration::from_millis(10)).await;
    task.abort();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ec2.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn too_many_waiting_lookups_are_refused_at_once() {
    let ec2 = Simulated::new([]);
    let options = LookupOptions {
        waiting: 10,
        ..LookupOptions::default()
    };
    let lookup = InstanceLookup::start(Arc::clone(&ec2) as _, options);
    let tasks: Vec<Task> = (0..15).map(|n| ask(&lookup, n)).collect();
    let mut overloaded = 0;
    for task in tasks {
        overloaded += usize::from(task.await.unwrap() == Err(LookupError::Overloaded));
    }
    assert_eq!(overloaded, 5);
}

#[tokio::test(start_paused = true)]
async fn the_roles_of_a_profile_are_found_out_once() {
    let ec2 = Simulated::new((0..500).map(instance));
    let lookup = start(&ec2);
    for n in [1, 2, 3] {
        let facts = lookup.facts(id(n), &NAME).await.unwrap();
        assert_eq!(
            facts.profile_roles.as_deref(),
            Some(&["NodeRole".to_owned()][..])
        );
        assert_eq!(facts.owner, "444455556666".parse().ok());
    }
    assert_eq!(ec2.profile_calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn roles_that_cannot_be_found_out_are_unknown_and_not_absent() {
    let ec2 = Simulated::new([
        instance(1),
        instance(2),
        Instance {
            profile: Profile::Absent,
            ..instance(3)
        },
    ]);
    *ec2.profile_denied.lock().unwrap() = true;
    let lookup = start(&ec2);
    assert_eq!(
        lookup.facts(id(1), &NAME).await.unwrap().profile_roles,
        None
    );
    assert_eq!(
        lookup.facts(id(3), &NAME).await.unwrap().profile_roles,
        Some(Vec::new())
    );
    *ec2.profile_denied.lock().unwrap() = false;
    advance(Duration::from_secs(61)).await;
    assert!(
        lookup
            .facts(id(2), &NAME)
            .await
            .unwrap()
            .profile_roles
            .is_some()
    );
    assert_eq!(ec2.profile_calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_table_of_names_comes_before_the_source_behind_it() {
    let ec2 = Simulated::new([instance(1), instance(2)]);
    let names = NamesFirst {
        names: HashMap::from([(id(1), "worker-1".to_owned())]),
        then: Some(Arc::clone(&ec2) as _),
    };
    let lookup = InstanceLookup::start(Arc::new(names), LookupOptions::default());
    let facts = lookup.facts(id(1), &NAME).await.unwrap();
    assert_eq!(facts.private_dns_name.as_deref(), Some("worker-1"));
    assert_eq!(
        (facts.owner, facts.state, &facts.profile_roles),
        (None, None, &None)
    );
    assert_eq!(ec2.calls(), 0);
    assert!(lookup.facts(id(2), &NAME).await.unwrap().owner.is_some());
    let alone = NamesFirst {
        names: HashMap::new(),
        then: None,
    };
    let lookup = InstanceLookup::start(Arc::new(alone), LookupOptions::default());
    assert_eq!(lookup.facts(id(1), &NAME).await, Err(LookupError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn an_outage_behind_the_table_does_not_touch_the_table() {
    let ec2 = Simulated::new([]);
    *ec2.script.lock().unwrap() = Some(Arc::new(|_, _| Err(throttled())));
    let names = NamesFirst {
        names: HashMap::from([(id(1), "worker-1".to_owned())]),
        then: Some(Arc::clone(&ec2) as _),
    };
    let lookup = InstanceLookup::start(Arc::new(names), LookupOptions::default());
    let (known, unknown) = (ask(&lookup, 1), ask(&lookup, 2));
    assert!(known.await.unwrap().is_ok());
    assert!(unknown.await.unwrap().is_err());
}

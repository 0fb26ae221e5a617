//! Coalescing, limits, shares and drills (acceptance items 10 and 12).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{
    CLUSTER, FakeSts, HOST, TestClock, identity, refusal, settle, signed_at, token, token_for,
    verifier,
};
use countersign_token::PresignedToken;
use countersign_upstream::http::ExchangeFailure;
use countersign_upstream::sts::{
    AnsweredFrom, CallLimits, StsError, StsOptions, StsVerifier, ThrottledBy, Verified,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance};

type Task = JoinHandle<Result<Verified, StsError>>;

fn ask(verifier: &StsVerifier, token: PresignedToken) -> Task {
    let verifier = verifier.clone();
    tokio::spawn(async move { verifier.verify(&token, CLUSTER).await })
}

fn with(limits: CallLimits) -> StsOptions {
    StsOptions {
        limits,
        ..StsOptions::default()
    }
}

/// Makes the host known as one that answers.
async fn prove(verifier: &StsVerifier, host: &str) {
    let token = token_for(host, "AKIAPROVE", 0, signed_at());
    verifier.verify(&token, CLUSTER).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn identical_tokens_in_flight_share_one_call() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    sts.hold();
    let tasks: Vec<Task> = (0..100)
        .map(|_| ask(&verifier, token("AKIA1", 1)))
        .collect();
    settle().await;
    let numbers = verifier.snapshot();
    assert_eq!(
        (numbers.waiters, numbers.coalesced, numbers.in_flight),
        (100, 99, 1)
    );
    sts.release(1);
    let mut shared = 0;
    for task in tasks {
        shared += usize::from(task.await.unwrap().unwrap().from == AnsweredFrom::SharedCall);
    }
    assert_eq!((shared, sts.count()), (99, 1));
    assert_eq!(verifier.snapshot().waiters, 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_takes_nothing_from_the_others() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    sts.hold();
    let starter = ask(&verifier, token("AKIA1", 1));
    settle().await;
    let other = ask(&verifier, token("AKIA1", 1));
    settle().await;
    starter.abort();
    settle().await;
    assert_eq!(verifier.snapshot().waiters, 1);
    sts.release(1);
    assert!(other.await.unwrap().is_ok());
    assert_eq!(sts.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_remembered_even_if_everybody_left_meanwhile() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    sts.hold();
    let only = ask(&verifier, token("AKIA1", 1));
    settle().await;
    only.abort();
    sts.release(1);
    settle().await;
    let later = verifier.verify(&token("AKIA1", 1), CLUSTER).await.unwrap();
    assert_eq!((later.from, sts.count()), (AnsweredFrom::Cache, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_shared_only_by_those_who_waited() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    sts.now_answers(|_, _| Err(ExchangeFailure::Reset));
    sts.hold();
    let tasks: Vec<Task> = (0..10).map(|_| ask(&verifier, token("AKIA1", 1))).collect();
    settle().await;
    sts.release(1);
    for task in tasks {
        assert!(task.await.unwrap().unwrap_err().is_outage());
    }
    assert_eq!(sts.count(), 1);
    sts.now_answers(|_, _| Ok(identity("ana")));
    sts.release(1);
    assert!(verifier.verify(&token("AKIA1", 1), CLUSTER).await.is_ok());
    assert_eq!(sts.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_that_nobody_waits_for_is_not_made() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let limits = CallLimits {
        in_flight: 1,
        ..CallLimits::default()
    };
    let verifier = verifier(with(limits), &sts, &clock);
    prove(&verifier, HOST).await;
    sts.hold();
    let first = ask(&verifier, token("AKIA1", 1));
    settle().await;
    let queued = ask(&verifier, token("AKIA2", 1));
    settle().await;
    assert_eq!(verifier.snapshot().queued, 1);
    queued.abort();
    settle().await;
    sts.release(1);
    assert!(first.await.unwrap().is_ok());
    settle().await;
    assert_eq!((sts.count(), verifier.snapshot().abandoned), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn never_more_calls_in_flight_than_the_limit() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    prove(&verifier, HOST).await;
    sts.takes(Duration::from_millis(100));
    let tasks: Vec<Task> = (0..600)
        .map(|n| ask(&verifier, token(&format!("AKIA{n}"), n)))
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(sts.most.load(Ordering::SeqCst), 64);
    assert_eq!(sts.count(), 601);
}

#[tokio::test(start_paused = true)]
async fn calls_keep_to_the_rate_behind_the_burst() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    prove(&verifier, HOST).await;
    let started = Instant::now();
    let tasks: Vec<Task> = (0..1200)
        .map(|n| ask(&verifier, token(&format!("AKIA{n}"), n)))
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for (at, call) in sts.started.lock().unwrap().iter().enumerate() {
        let allowed = 400.0 + 200.0 * call.duration_since(started).as_secs_f64() + 1.5;
        assert!((at as f64) < allowed, "call {at} came too early");
    }
    assert_eq!(sts.count(), 1201);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once_and_a_long_wait_after_five_seconds() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let limits = CallLimits {
        in_flight: 8,
        queue: 16,
        ..CallLimits::default()
    };
    let verifier = verifier(with(limits), &sts, &clock);
    prove(&verifier, HOST).await;
    sts.hold();
    let started = Instant::now();
    let tasks: Vec<Task> = (0..30)
        .map(|n| ask(&verifier, token(&format!("AKIA{n}"), n)))
        .collect();
    settle().await;
    let numbers = verifier.snapshot();
    assert_eq!(
        (
            numbers.in_flight,
            numbers.queued,
            numbers.refused_queue_full
        ),
        (8, 16, 6)
    );
    let mut refused = Vec::new();
    for task in tasks.into_iter().skip(8) {
        refused.push(task.await.unwrap().unwrap_err());
    }
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    let count = |by| {
        refused
            .iter()
            .filter(|e| **e == StsError::Throttled(by))
            .count()
    };
    assert_eq!(
        (
            count(ThrottledBy::QueueFull),
            count(ThrottledBy::QueueTimeout)
        ),
        (6, 16)
    );
    assert!(
        refused
            .iter()
            .all(|error| error.reason() == "sts_throttled")
    );
    assert_eq!(verifier.snapshot().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_in_the_queue_is_not_sent() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let limits = CallLimits {
        in_flight: 1,
        ..CallLimits::default()
    };
    let verifier = verifier(with(limits), &sts, &clock);
    prove(&verifier, HOST).await;
    sts.hold();
    let first = ask(&verifier, token("AKIA1", 1));
    settle().await;
    let second = ask(&verifier, token("AKIA2", 2));
    settle().await;
    clock.jump(900);
    sts.release(1);
    first.await.unwrap().unwrap();
    assert_eq!(second.await.unwrap(), Err(StsError::ExpiredWhileQueued));
    assert_eq!((sts.count(), verifier.snapshot().expired_in_queue), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn one_access_key_cannot_take_the_places_of_others() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    prove(&verifier, HOST).await;
    sts.hold();
    let greedy: Vec<Task> = (0..1000)
        .map(|n| ask(&verifier, token("AKIAGREEDY", n)))
        .collect();
    settle().await;
    let numbers = verifier.snapshot();
    assert_eq!(
        (numbers.in_flight, numbers.queued, numbers.refused_share),
        (16, 128, 856)
    );
    let modest = ask(&verifier, token("AKIAMODEST", 1));
    settle().await;
    assert_eq!(
        verifier.snapshot().in_flight,
        17,
        "passes by those over their share"
    );
    sts.release(145);
    assert!(modest.await.unwrap().is_ok());
    for task in greedy {
        let _ = task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn many_invented_access_keys_gain_nothing_over_first_come_first_served() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let limits = CallLimits {
        in_flight: 4,
        ..CallLimits::default()
    };
    let verifier = verifier(with(limits), &sts, &clock);
    prove(&verifier, HOST).await;
    sts.hold();
    let mut tasks: Vec<Task> = (0..4)
        .map(|n| ask(&verifier, token(&format!("A{n}"), n)))
        .collect();
    settle().await;
    let honest = ask(&verifier, token("AKIAHONEST", 1));
    settle().await;
    tasks.extend((0..500).map(|n| ask(&verifier, token(&format!("B{n}"), n))));
    settle().await;
    sts.release(5);
    settle().await;
    assert!(honest.is_finished(), "it came before the invented ones");
    sts.release(1000);
}

#[tokio::test(start_paused = true)]
async fn hosts_that_do_not_answer_hold_a_quarter_of_the_places_at_most() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    prove(&verifier, HOST).await;
    sts.hold();
    let dark: Vec<Task> = (0..600)
        .map(|n| {
            let host = format!("sts.dark-hole-{}.amazonaws.com", n % 90 + 10);
            ask(
                &verifier,
                token_for(&host, &format!("AKIA{n}"), n, signed_at()),
            )
        })
        .collect();
    settle().await;
    let numbers = verifier.snapshot();
    assert_eq!(
        (numbers.in_flight, numbers.queued, numbers.refused_share),
        (16, 256, 328)
    );
    let good: Vec<Task> = (0..48)
        .map(|n| ask(&verifier, token(&format!("AKIG{n}"), n)))
        .collect();
    settle().await;
    assert_eq!(verifier.snapshot().in_flight, 64);
    sts.release(1000);
    for task in good {
        task.await.unwrap().unwrap();
    }
    for task in dark {
        let _ = task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_halves_the_rate_once_and_it_recovers_by_a_tenth_each_second() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    prove(&verifier, HOST).await;
    sts.now_answers(|_, _| Ok(refusal(400, "Throttling")));
    sts.hold();
    let tasks: Vec<Task> = (0..40)
        .map(|n| ask(&verifier, token(&format!("AKIA{n}"), n)))
        .collect();
    settle().await;
    sts.release(41);
    for task in tasks {
        let error = task.await.unwrap().unwrap_err();
        assert_eq!(error.reason(), "sts_throttled");
    }
    let numbers = verifier.snapshot();
    assert_eq!(
        numbers.rate, 100.0,
        "40 answers to calls of one moment count once"
    );
    assert_eq!(numbers.throttled["eu-west-1"], 40);
    for (after, rate) in [(1, 120.0), (1, 140.0), (3, 200.0), (10, 200.0)] {
        advance(Duration::from_secs(after)).await;
        assert!((verifier.snapshot().rate - rate).abs() < 1e-6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttling_storm_makes_less_calls_and_recovers_by_itself() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    prove(&verifier, HOST).await;
    sts.takes(Duration::from_millis(20));
    sts.now_answers(|_, _| Ok(refusal(400, "Throttling")));
    // 400 clients, each asking again a second after its refusal, for a minute.
    let started = Instant::now();
    let clients: Vec<JoinHandle<()>> = (0..400)
        .map(|n| {
            let verifier = verifier.clone();
            tokio::spawn(async move {
                while started.elapsed() < Duration::from_secs(60) {
                    let _ = verifier
                        .verify(&token(&format!("AKIA{n}"), n), CLUSTER)
                        .await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let calls = sts.count();
    assert!(
        calls < 400 + 60 * 60,
        "{calls} calls in a minute of throttling"
    );
    sts.now_answers(|_, _| Ok(identity("ana")));
    advance(Duration::from_secs(10)).await;
    for n in 0..100 {
        verifier
            .verify(&token(&format!("AKIA{n}"), n), CLUSTER)
            .await
            .unwrap();
    }
    assert_eq!(verifier.snapshot().rate, 200.0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_retry_storm_and_needs_no_restart() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    prove(&verifier, HOST).await;
    sts.takes(Duration::from_secs(10));
    sts.now_answers(|_, _| Err(ExchangeFailure::Timeout));
    let before = sts.count();
    let started = Instant::now();
    let clients: Vec<JoinHandle<usize>> = (0..400)
        .map(|n| {
            let verifier = verifier.clone();
            tokio::spawn(async move {
                let mut reviews = 0;
                while started.elapsed() < Duration::from_secs(60) {
                    assert!(
                        verifier
                            .verify(&token(&format!("AKIA{n}"), n), CLUSTER)
                            .await
                            .is_err()
                    );
                    reviews += 1;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                reviews
            })
        })
        .collect();
    let mut reviews = 0;
    for client in clients {
        reviews += client.await.unwrap();
    }
    let calls = sts.count() - before;
    assert!(calls <= reviews, "one call for a review at most");
    assert!(
        calls <= 64 + 16 * 7,
        "{calls} calls: a host that is out gets a quarter of the places"
    );
    sts.takes(Duration::ZERO);
    sts.now_answers(|_, _| Ok(identity("ana")));
    for n in 0..100 {
        verifier
            .verify(&token(&format!("AKIB{n}"), n), CLUSTER)
            .await
            .unwrap();
    }
    let numbers = verifier.snapshot();
    assert_eq!(
        (numbers.waiters, numbers.queued, numbers.in_flight),
        (0, 0, 0)
    );
}

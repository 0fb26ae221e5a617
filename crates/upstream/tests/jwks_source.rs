//! Keys of issuers: kept, refreshed, fetched once for all, used while an issuer is down (IRSA spec, section 2.4).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_oidc::{Algorithm, IssuerUrl, KeySet, SigningKey};
use countersign_upstream::http::ExchangeFailure;
use countersign_upstream::jwks::{
    Fetch, FetchFailure, FetchResult, FetchedKeys, KeyFetch, KeySource, KeySourceOptions,
    Thumbprint,
};
use futures::future::{BoxFuture, join_all};
use tokio::time::{advance, sleep};

/// An issuer that answers in 100 ms what it was told to answer.
struct Issuer {
    answer: Mutex<Result<FetchedKeys, FetchFailure>>,
    asked: AtomicUsize,
    about: Mutex<Vec<Fetch>>,
}

impl Issuer {
    fn new(max_age: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Ok(answer(max_age))),
            asked: AtomicUsize::new(0),
            about: Mutex::default(),
        })
    }

    fn answers(&self, answer: Result<FetchedKeys, FetchFailure>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl KeyFetch for Issuer {
    fn fetch<'a>(&'a self, fetch: &'a Fetch) -> BoxFuture<'a, Result<FetchedKeys, FetchFailure>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.about.lock().unwrap().push(fetch.clone());
            sleep(Duration::from_millis(100)).await;
            self.answer.lock().unwrap().clone()
        })
    }
}

fn answer(max_age: Option<u64>) -> FetchedKeys {
    FetchedKeys {
        keys: keys(),
        max_age: max_age.map(Duration::from_secs),
    }
}

fn keys() -> Arc<KeySet> {
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    Arc::new(KeySet::of([key.public().clone()]).unwrap())
}

fn down() -> FetchFailure {
    FetchFailure::Unreachable {
        document: "key set",
        source: Some(ExchangeFailure::Timeout),
    }
}

fn issuer() -> IssuerUrl {
    "https://issuer.example/id/1".parse().unwrap()
}

fn source(issuer: &Arc<Issuer>) -> KeySource {
    let fetch: Arc<dyn KeyFetch> = Arc::<Issuer>::clone(issuer);
    KeySource::new(KeySourceOptions::default(), fetch)
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_once_for_all_who_wait() {
    let of = Issuer::new(None);
    let source = source(&of);
    let url = issuer();
    let all = join_all((0..1000).map(|_| source.keys(&url, &[]))).await;
    let first = all[0].as_ref().unwrap();
    assert!(
        all.iter()
            .all(|keys| Arc::ptr_eq(keys.as_ref().unwrap(), first))
    );
    assert_eq!(of.asked(), 1);
    source.keys(&url, &[]).await.unwrap();
    assert_eq!(of.asked(), 1);
    assert_eq!(source.counters().fetches(FetchResult::Ok), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_are_fresh_for_as_long_as_the_issuer_says_within_limits() {
    // (max-age, seconds after which no refresh is due, seconds after which a call waits for one)
    let day = 24 * 3600;
    for (max_age, quiet, late) in [
        (None, 2879, 3601),
        (Some(0), 47, 61),
        (Some(30), 47, 61),
        (Some(300), 239, 301),
        (Some(10 * day), 69_119, day + 1),
    ] {
        let of = Issuer::new(max_age);
        let source = source(&of);
        let first = source.keys(&issuer(), &[]).await.unwrap();
        pass(quiet).await;
        source.keys(&issuer(), &[]).await.unwrap();
        sleep(Duration::from_millis(200)).await;
        assert_eq!(of.asked(), 1, "{max_age:?}");
        of.answers(Ok(answer(None)));
        pass(late - quiet).await;
        let next = source.keys(&issuer(), &[]).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &next), "{max_age:?}");
        assert_eq!(of.asked(), 2, "{max_age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_service_refreshes_before_keys_are_old_and_nobody_waits() {
    let of = Issuer::new(Some(1000));
    let source = source(&of);
    let first = source.keys(&issuer(), &[]).await.unwrap();
    of.answers(Ok(answer(Some(1000))));
    pass(801).await;
    for _ in 0..100 {
        let keys = source.keys(&issuer(), &[]).await.unwrap();
        assert!(Arc::ptr_eq(&first, &keys));
    }
    sleep(Duration::from_millis(200)).await;
    let next = source.keys(&issuer(), &[]).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &next));
    assert_eq!(of.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_of_an_issuer_that_is_down_serve_for_a_day() {
    let of = Issuer::new(Some(600));
    let source = source(&of);
    source.keys(&issuer(), &[]).await.unwrap();
    of.answers(Err(down()));
    pass(601).await;
    // The first late call waits for the attempt, the next ones do not, and there is one attempt in thirty seconds.
    source.keys(&issuer(), &[]).await.unwrap();
    assert_eq!(of.asked(), 2);
    for _ in 0..50 {
        source.keys(&issuer(), &[]).await.unwrap();
    }
    assert_eq!((of.asked(), source.counters().stale_uses()), (2, 51));
    pass(31).await;
    source.keys(&issuer(), &[]).await.unwrap();
    source.keys(&issuer(), &[]).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(of.asked(), 3);
    pass(23 * 3600).await;
    source.keys(&issuer(), &[]).await.unwrap();
    pass(3600).await;
    assert_eq!(source.keys(&issuer(), &[]).await.unwrap_err(), down());
    assert_eq!(
        source.counters().fetches(FetchResult::Unreachable),
        of.asked() as u64 - 1
    );
    of.answers(Ok(answer(None)));
    pass(6).await;
    source.keys(&issuer(), &[]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_keys_is_remembered_for_five_seconds() {
    let of = Issuer::new(None);
    of.answers(Err(down()));
    let source = source(&of);
    let url = issuer();
    let all = join_all((0..100).map(|_| source.keys(&url, &[]))).await;
    assert!(
        all.iter()
            .all(|outcome| outcome.as_ref().unwrap_err() == &down())
    );
    assert_eq!(of.asked(), 1);
    pass(4).await;
    source.keys(&url, &[]).await.unwrap_err();
    assert_eq!(of.asked(), 1);
    of.answers(Ok(answer(None)));
    pass(1).await;
    source.keys(&url, &[]).await.unwrap();
    assert_eq!(of.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_causes_one_fetch_in_thirty_seconds() {
    let of = Issuer::new(None);
    let source = source(&of);
    let url = issuer();
    let old = source.keys(&url, &[]).await.unwrap();
    of.answers(Ok(answer(None)));
    let beyond = join_all((0..1000).map(|_| source.keys_beyond(&old, &url, &[]))).await;
    let new = beyond[0].as_ref().unwrap();
    assert!(!Arc::ptr_eq(&old, new));
    assert!(
        beyond
            .iter()
            .all(|keys| Arc::ptr_eq(keys.as_ref().unwrap(), new))
    );
    assert_eq!(of.asked(), 2);
    // Who still holds the old ones gets the new ones; who holds the new ones gets them back.
    for seen in [&old, new] {
        let told = source.keys_beyond(seen, &url, &[]).await.unwrap();
        assert!(Arc::ptr_eq(&told, new));
    }
    assert_eq!(of.asked(), 2);
    pass(30).await;
    of.answers(Err(down()));
    for _ in 0..20 {
        assert_eq!(
            source.keys_beyond(new, &url, &[]).await.unwrap_err(),
            down()
        );
    }
    assert_eq!(of.asked(), 3);
    // Known keys are not touched by that.
    assert!(Arc::ptr_eq(&source.keys(&url, &[]).await.unwrap(), new));
}

#[tokio::test(start_paused = true)]
async fn registered_keys_are_used_without_asking_anybody() {
    let of = Issuer::new(None);
    let source = source(&of);
    let ours = keys();
    source.register(issuer().as_str(), Arc::clone(&ours));
    let told = source.keys(&issuer(), &[]).await.unwrap();
    let beyond = source.keys_beyond(&ours, &issuer(), &[]).await.unwrap();
    assert!(Arc::ptr_eq(&told, &ours) && Arc::ptr_eq(&beyond, &ours));
    assert_eq!(of.asked(), 0);
    source.unregister(issuer().as_str());
    source.keys(&issuer(), &[]).await.unwrap();
    assert_eq!(of.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_take_the_fetch_along() {
    let of = Issuer::new(None);
    let source = source(&of);
    let url = issuer();
    let gone = tokio::time::timeout(Duration::from_millis(50), source.keys(&url, &[])).await;
    assert!(gone.is_err());
    source.keys(&url, &[]).await.unwrap();
    assert_eq!(of.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_issuers_is_bounded() {
    let of = Issuer::new(None);
    let options = KeySourceOptions {
        capacity: 2,
        ..KeySourceOptions::default()
    };
    let fetch: Arc<dyn KeyFetch> = Arc::<Issuer>::clone(&of);
    let source = KeySource::new(options, fetch);
    let url = |n: u8| -> IssuerUrl { format!("https://issuer.example/{n}").parse().unwrap() };
    for (n, asked) in [(1, 1), (2, 2), (1, 2), (3, 3), (1, 3), (2, 4)] {
        source.keys(&url(n), &[]).await.unwrap();
        assert_eq!(of.asked(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn thumbprints_count_only_when_they_are_trusted() {
    let print: Thumbprint = "00112233445566778899aabbccddeeff00112233".parse().unwrap();
    for (thumbprint_trust, expected) in [(false, 0), (true, 1)] {
        let of = Issuer::new(None);
        let options = KeySourceOptions {
            thumbprint_trust,
            ..KeySourceOptions::default()
        };
        let fetch: Arc<dyn KeyFetch> = Arc::<Issuer>::clone(&of);
        let source = KeySource::new(options, fetch);
        source.keys(&issuer(), &[print]).await.unwrap();
        assert_eq!(of.about.lock().unwrap()[0].thumbprints.len(), expected);
        // Providers that trust differently do not share what was fetched.
        source.keys(&issuer(), &[]).await.unwrap();
        assert_eq!(of.asked(), 1 + expected);
    }
}

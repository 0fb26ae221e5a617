//! Tokens, a clock and an STS for tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; not every test file uses all of them"
)]

pub mod tls;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_token::{Options, PresignedToken, Rules};
use countersign_upstream::clock::Clock;
use countersign_upstream::http::ExchangeFailure;
use countersign_upstream::sts::{StsAnswer, StsExchange, StsOptions, StsRequest, StsVerifier};
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub const SIGNED: &str = "2026-01-02T03:04:05Z";
pub const HOST: &str = "sts.eu-west-1.amazonaws.com";
pub const CLUSTER: &str = "demo-cluster";

pub fn signed_at() -> Timestamp {
    SIGNED.parse().unwrap()
}

/// A token of `access_key`; different numbers give different tokens.
pub fn token(access_key: &str, number: usize) -> PresignedToken {
    token_for(HOST, access_key, number, signed_at())
}

pub fn token_for(host: &str, access_key: &str, number: usize, signed: Timestamp) -> PresignedToken {
    let date = signed.strftime("%Y%m%dT%H%M%SZ");
    let url = format!(
        "https://{host}/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential={access_key}%2F20260102%2Feu-west-1%2Fsts%2Faws4_request&X-Amz-Date={date}&X-Amz-Expires=60\
         &X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Signature={number:064x}"
    );
    parse(&url, signed)
}

pub fn parse(url: &str, now: Timestamp) -> PresignedToken {
    let options = Options {
        trusted_endpoints: vec!["https://sts.cs.example/".to_owned()],
        ..Options::default()
    };
    let rules = Rules::new(options).unwrap();
    let text = format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url));
    PresignedToken::parse(&text, &rules, now).unwrap()
}

/// Runs with tokio's clock from one second after the signing time, and can be set forward on its own.
#[derive(Debug)]
pub struct TestClock {
    started: Instant,
    ahead: AtomicI64,
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            ahead: AtomicI64::new(1),
        })
    }

    /// Sets the wall clock forward without time going by.
    pub fn jump(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.started.elapsed()).unwrap();
        signed_at() + elapsed + SignedDuration::from_secs(self.ahead.load(Ordering::SeqCst))
    }
}

type Script = dyn Fn(&StsRequest, usize) -> Result<StsAnswer, ExchangeFailure> + Send + Sync;

/// Stands where STS stands: counts calls, holds them while told to, and answers by a script.
pub struct FakeSts {
    script: Mutex<Arc<Script>>,
    pub calls: AtomicUsize,
    pub now: AtomicUsize,
    pub most: AtomicUsize,
    pub by_host: Mutex<HashMap<String, usize>>,
    pub started: Mutex<Vec<Instant>>,
    gate: Semaphore,
    delay: Mutex<std::time::Duration>,
}

impl FakeSts {
    /// Answers every call at once with an identity of the access key.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Arc::new(|_, _| Ok(identity("ana")))),
            calls: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            by_host: Mutex::default(),
            started: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            delay: Mutex::default(),
        })
    }

    pub fn answering(
        script: impl Fn(&StsRequest, usize) -> Result<StsAnswer, ExchangeFailure>
        + Send
        + Sync
        + 'static,
    ) -> Arc<Self> {
        let sts = Self::new();
        sts.now_answers(script);
        sts
    }

    pub fn now_answers(
        &self,
        script: impl Fn(&StsRequest, usize) -> Result<StsAnswer, ExchangeFailure>
        + Send
        + Sync
        + 'static,
    ) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// From now on calls take this long.
    pub fn takes(&self, delay: std::time::Duration) {
        *self.delay.lock().unwrap() = delay;
    }

    /// From now on calls begin and do not end.
    pub fn hold(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Lets that many calls end.
    pub fn release(&self, calls: usize) {
        self.gate.add_permits(calls);
    }

    pub fn count(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl StsExchange for FakeSts {
    fn get<'a>(
        &'a self,
        request: &'a StsRequest,
    ) -> BoxFuture<'a, Result<StsAnswer, ExchangeFailure>> {
        Box::pin(async move {
            let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.started.lock().unwrap().push(Instant::now());
            *self
                .by_host
                .lock()
                .unwrap()
                .entry(request.host().to_owned())
                .or_default() += 1;
            let delay = *self.delay.lock().unwrap();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            self.gate.acquire().await.unwrap().forget();
            self.now.fetch_sub(1, Ordering::SeqCst);
            let script = Arc::clone(&self.script.lock().unwrap());
            script(request, number)
        })
    }
}

pub fn identity(session: &str) -> StsAnswer {
    let body = format!(
        r#"{{"GetCallerIdentityResponse":{{"GetCallerIdentityResult":{{"Account":"444455556666","Arn":"arn:aws:sts::444455556666:assumed-role/Ops/{session}","UserId":"AROAEXAMPLEEXAMPLE123:{session}"}},"ResponseMetadata":{{"RequestId":"6f0a"}}}}}}"#
    );
    StsAnswer {
        status: 200,
        body: body.into(),
    }
}

pub fn refusal(status: u16, code: &str) -> StsAnswer {
    let body = format!(
        r#"{{"Error":{{"Code":"{code}","Message":"no","Type":"Sender"}},"RequestId":"6f0b"}}"#
    );
    StsAnswer {
        status,
        body: body.into(),
    }
}

pub fn verifier(options: StsOptions, sts: &Arc<FakeSts>, clock: &Arc<TestClock>) -> StsVerifier {
    StsVerifier::start(options, Arc::clone(sts) as _, Arc::clone(clock) as _).unwrap()
}

/// Lets every task run until all of them wait.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

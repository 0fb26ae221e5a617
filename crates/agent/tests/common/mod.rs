//! A cluster that signs tokens, an auth service that answers by a script, a clock, and an agent that is asked without sockets.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests; not every test file uses all of them"
)]

pub mod eks_auth;
#[cfg(target_os = "linux")]
pub mod metadata_node;
#[cfg(target_os = "linux")]
pub mod namespace;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use countersign_agent::pods::{BindSource, Pod, PodTable};
use countersign_agent::token::{AUDIENCE, ClusterKeys};
use countersign_agent::{
    Agent, AgentConfig, AuthFailure, AuthService, Chance, Decision, DecisionLog, FinalCode, Issued,
};
use countersign_oidc::{Algorithm, KeySet, SigningKey};
use countersign_upstream::clock::Clock;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

pub const ISSUER: &str = "https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF";
pub const START: i64 = 1_893_456_000;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(Algorithm::Es256).unwrap());
static OTHER_KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(Algorithm::Es256).unwrap());

/// The claims of the token that kubelet gives to pod `number`.
pub fn claims(number: usize, issued: i64) -> Value {
    json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:orchard:picker-{number}"),
        "aud": [AUDIENCE],
        "iat": issued, "nbf": issued, "exp": issued + 86_400,
        "kubernetes.io": {
            "namespace": "orchard",
            "serviceaccount": {"name": format!("picker-{number}"), "uid": format!("account-{number}")},
            "pod": {"name": format!("picker-{number}-0"), "uid": format!("pod-{number}")},
        },
    })
}

pub fn token(number: usize, issued: i64) -> String {
    KEY.sign(&claims(number, issued)).unwrap()
}

pub fn sign(claims: &Value) -> String {
    KEY.sign(claims).unwrap()
}

/// The right claims under a key that is not the cluster's, with the key id of the cluster's.
pub fn forged(number: usize) -> String {
    forge(&claims(number, START))
}

pub fn forge(claims: &Value) -> String {
    let genuine = KEY.sign(claims).unwrap();
    let forged = OTHER_KEY.sign(claims).unwrap();
    let header = genuine.split('.').next().unwrap();
    let rest = forged.split_once('.').unwrap().1;
    format!("{header}.{rest}")
}

pub fn keys() -> watch::Receiver<Option<Arc<ClusterKeys>>> {
    let keys = KeySet::parse(KeySet::document([(KEY.public(), Algorithm::Es256)]).as_bytes());
    watch::channel(Some(Arc::new(ClusterKeys {
        issuer: ISSUER.into(),
        audience: AUDIENCE.into(),
        keys: keys.unwrap(),
    })))
    .1
}

pub fn claims_of(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    serde_json::from_slice(&payload.unwrap()).unwrap()
}

/// Runs with tokio's clock, and can be set forward on its own.
pub struct TestClock {
    started: Instant,
    ahead: AtomicI64,
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            ahead: AtomicI64::new(0),
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
        Timestamp::from_second(START + self.ahead.load(Ordering::SeqCst)).unwrap() + elapsed
    }
}

/// xorshift64, the same in every run.
pub struct Fixed(AtomicU64);

impl Default for Fixed {
    fn default() -> Self {
        Self(AtomicU64::new(0x9e37_79b9_7f4a_7c15))
    }
}

impl Chance for Fixed {
    fn unit(&self) -> f64 {
        let mut state = self.0.load(Ordering::Relaxed);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.store(state, Ordering::Relaxed);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What the auth service does.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Credentials { seconds: i64 },
    Refuse(FinalCode),
    Down,
    Throttle,
    NodeRefused,
    OtherAccount,
}

/// An auth service that verifies tokens as the real one does, and else answers as it is told.
pub struct FakeAuth {
    pub clock: Arc<TestClock>,
    pub answer: Mutex<Answer>,
    pub delay: Mutex<Duration>,
    /// When it was called, with which token.
    pub calls: Mutex<Vec<(Instant, String)>>,
}

impl FakeAuth {
    pub fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    pub fn calls_of(&self, token: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|(_, other)| other == token).count()
    }

    fn judge(&self, token: &str, call: usize) -> Result<Issued, AuthFailure> {
        let refused = |code, message: &str| {
            let message = message.into();
            Err(AuthFailure::Final { code, message })
        };
        let now = self.clock.now();
        let parsed = countersign_oidc::UnverifiedToken::parse(token).unwrap();
        let keys = keys();
        let keys = keys.borrow().clone().unwrap();
        let genuine = parsed.verify(&keys.keys).is_ok();
        let answer = *self.answer.lock().unwrap();
        match answer {
            Answer::Down => return Err(AuthFailure::Unavailable("down".into())),
            Answer::Throttle => return Err(AuthFailure::Throttled),
            Answer::NodeRefused => {
                return Err(AuthFailure::Node {
                    code: "ExpiredTokenException".into(),
                    message: "".into(),
                });
            }
            _ if !genuine => return refused(FinalCode::InvalidToken, "bad signature"),
            Answer::Refuse(code) => return refused(code, "no such luck"),
            Answer::Credentials { .. } | Answer::OtherAccount => {}
        }
        let claims = parsed.unverified_claims();
        if !claims.audiences.iter().any(|a| **a == *AUDIENCE) {
            return refused(FinalCode::InvalidToken, "wrong audience");
        }
        if claims.token_id.as_deref() == Some("withdrawn") {
            return refused(FinalCode::InvalidToken, "withdrawn");
        }
        let kubernetes = claims.kubernetes.as_ref().unwrap();
        let account = match answer {
            Answer::OtherAccount => "somebody-else",
            _ => &kubernetes.service_account.name,
        };
        let seconds = match answer {
            Answer::Credentials { seconds } => seconds,
            _ => 21_600,
        };
        Issued::from_answer(
            answer_json(
                account,
                &kubernetes.namespace,
                call,
                now.as_second() + seconds,
            )
            .to_string()
            .as_bytes(),
        )
    }
}

pub fn answer_json(account: &str, namespace: &str, call: usize, expiration: i64) -> Value {
    json!({
        "subject": {"namespace": namespace, "serviceAccount": account},
        "audience": AUDIENCE,
        "podIdentityAssociation": {
            "associationArn": format!("arn:aws:eks:eu-west-1:210987654321:podidentityassociation/orchard/a-{account}"),
            "associationId": format!("a-{account}"),
        },
        "assumedRoleUser": {
            "arn": format!("arn:aws:sts::210987654321:assumed-role/orchard-reader/eks-orchard-{account}"),
            "assumeRoleId": format!("AROAORCHARDREADER0001:eks-orchard-{account}"),
        },
        "credentials": {
            "accessKeyId": format!("ASIA{call:016}"),
            "secretAccessKey": SECRET,
            "sessionToken": SESSION_TOKEN,
            "expiration": expiration,
        },
    })
}

pub const SECRET: &str = "shhh/secret+access/key";
pub const SESSION_TOKEN: &str = "hush//session+token==";

impl AuthService for FakeAuth {
    fn assume<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Issued, AuthFailure>> {
        Box::pin(async move {
            let call = {
                let mut calls = self.calls.lock().unwrap();
                calls.push((Instant::now(), token.to_owned()));
                calls.len()
            };
            let delay = *self.delay.lock().unwrap();
            tokio::time::sleep(delay).await;
            self.judge(token, call)
        })
    }

    fn is_reachable(&self) -> BoxFuture<'_, bool> {
        let up = !matches!(*self.answer.lock().unwrap(), Answer::Down);
        Box::pin(std::future::ready(up))
    }
}

/// Keeps every decision as the JSON that would be written.
#[derive(Default)]
pub struct Recorded(Mutex<Vec<Value>>);

impl DecisionLog for Recorded {
    fn record(&self, decision: &Decision<'_>) {
        let line = serde_json::from_slice(&decision.to_json()).unwrap();
        self.0.lock().unwrap().push(line);
    }
}

impl Recorded {
    pub fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    pub fn of(&self, outcome: &str) -> Vec<Value> {
        let mut all = self.all();
        all.retain(|line| line["outcome"] == outcome);
        all
    }
}

/// An agent and everything around it.
pub struct World {
    pub agent: Agent,
    pub auth: Arc<FakeAuth>,
    pub clock: Arc<TestClock>,
    pub events: Arc<Recorded>,
    pub pods: watch::Sender<Option<Arc<PodTable>>>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|config, _| config).await
    }

    /// `change` gets the configuration and the watch of the pods, which is not connected unless it does so.
    pub async fn with(
        change: impl FnOnce(AgentConfig, watch::Receiver<Option<Arc<PodTable>>>) -> AgentConfig,
    ) -> Self {
        let clock = TestClock::new();
        let auth = Arc::new(FakeAuth {
            clock: Arc::clone(&clock),
            answer: Mutex::new(Answer::Credentials { seconds: 21_600 }),
            delay: Mutex::new(Duration::from_millis(50)),
            calls: Mutex::default(),
        });
        let events = Arc::new(Recorded::default());
        let (pods, watch) = watch::channel(None);
        let mut config = AgentConfig::new(Arc::clone(&auth) as Arc<dyn AuthService>);
        config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.probes = None;
        config.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        config.chance = Arc::new(Fixed::default());
        config.events = Arc::clone(&events) as Arc<dyn DecisionLog>;
        let agent = Agent::start(change(config, watch)).await.unwrap();
        Self {
            agent,
            auth,
            clock,
            events,
            pods,
        }
    }

    /// The pod's address.
    pub fn address(number: usize) -> IpAddr {
        let number = u16::try_from(number).unwrap().to_be_bytes();
        IpAddr::from([10, 0, number[0], number[1]])
    }

    /// Pod `number` sends its own token from its own address.
    pub async fn get(&self, number: usize, token: &str) -> Got {
        self.get_from(Self::address(number), token).await
    }

    pub async fn get_from(&self, source: IpAddr, token: &str) -> Got {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("169.254.170.23"));
        headers.insert(AUTHORIZATION, HeaderValue::from_str(token).unwrap());
        let uri = "/v1/credentials".parse().unwrap();
        let answer = self.agent.answer(source, &Method::GET, &uri, &headers);
        let (head, body) = answer.await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got {
            status: head.status.as_u16(),
            headers: head.headers,
            body: serde_json::from_slice(&body).unwrap(),
        }
    }

    /// The pods of the node are these.
    pub fn show_pods(&self, numbers: impl IntoIterator<Item = usize>) {
        let pods = numbers.into_iter().map(pod);
        let node = vec![IpAddr::from([192, 168, 0, 1])];
        self.pods
            .send_replace(Some(Arc::new(PodTable::new(pods, node))));
    }
}

pub fn pod(number: usize) -> Pod {
    Pod {
        uid: format!("pod-{number}").into(),
        namespace: "orchard".into(),
        name: format!("picker-{number}-0").into(),
        addresses: vec![World::address(number)],
        host_network: false,
        terminated: false,
        service_account: format!("picker-{number}").into(),
        annotations: Default::default(),
        deleted: None,
    }
}

pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Got {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn key(&self) -> &str {
        let key = self.body["AccessKeyId"].as_str();
        key.unwrap_or_else(|| panic!("{} {}", self.status, self.body))
    }
}

pub const ENFORCE: BindSource = BindSource::Enforce;

/// How often each value occurs.
pub fn histogram<T: std::hash::Hash + Eq>(
    values: impl IntoIterator<Item = T>,
) -> HashMap<T, usize> {
    let mut counts = HashMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    counts
}

//! A week of a node with a thousand pods, in simulated time: signing keys and tokens are rotated, the auth service is down, the
//! agent is restarted, pods come and go. No pod with a live token is ever without credentials, and no deleted pod gets any.
//!
//! The auth service verifies each token as the real one does: signature by the keys that are published at the moment, issuer,
//! audience, times, and whether the pod it is bound to is alive. Pods behave as SDKs do: they read their token from its file
//! when they ask, keep credentials, ask again long before the end, and every minute when they were refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod common;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Fixed, ISSUER, TestClock, answer_json};
use countersign_agent::pods::{BindSource, Pod, PodTable};
use countersign_agent::token::{AUDIENCE, ClusterKeys};
use countersign_agent::{Agent, AgentConfig, AuthFailure, AuthService, Chance, FinalCode, Issued};
use countersign_oidc::{Algorithm, KeySet, SigningKey, TimeRules, UnverifiedToken};
use countersign_upstream::clock::Clock;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

const DAYS: usize = 7;
const MINUTES: usize = DAYS * 24 * 60;
/// Life of a pod's token, and when kubelet replaces it.
const TOKEN_SECONDS: i64 = 86_400;
const ROTATED_AT: i64 = TOKEN_SECONDS * 8 / 10;
/// Life of a session.
const SESSION_SECONDS: i64 = 21_600;
/// Each pod asks every two hours.
const ASKS_EVERY: usize = 120;

/// 40, unless `COUNTERSIGN_TEST_WEEK_PODS` says another number.
fn how_many() -> usize {
    match std::env::var("COUNTERSIGN_TEST_WEEK_PODS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 40,
    }
}

/// The control plane: keys, pods, and an auth service that can be down.
struct Cluster {
    clock: Arc<TestClock>,
    /// Signing keys with the moment of their making, the newest last. Published as long as tokens under them may live.
    keys: Mutex<Vec<(SigningKey, i64)>>,
    alive: Mutex<HashSet<String>>,
    down: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    calls: usize,
    during_outages: usize,
    refused: Vec<String>,
    of_deleted_pods: Vec<String>,
}

impl Cluster {
    fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    fn rotate(&self) {
        let now = self.now();
        let mut keys = self.keys.lock().unwrap();
        keys.retain(|(_, made)| now - made < 2 * TOKEN_SECONDS + 3600);
        keys.push((SigningKey::generate(Algorithm::Es256).unwrap(), now));
    }

    fn published(&self) -> KeySet {
        let keys = self.keys.lock().unwrap();
        let public = keys.iter().map(|(key, _)| (key.public(), Algorithm::Es256));
        KeySet::parse(KeySet::document(public).as_bytes()).unwrap()
    }

    fn sign(&self, pod: &Member) -> String {
        let now = self.now();
        let claims = json!({
            "iss": ISSUER, "sub": format!("system:serviceaccount:orchard:picker-{}", pod.number),
            "aud": [AUDIENCE], "iat": now, "nbf": now, "exp": now + TOKEN_SECONDS,
            "kubernetes.io": {
                "namespace": "orchard",
                "serviceaccount": {"name": format!("picker-{}", pod.number), "uid": format!("account-{}", pod.number)},
                "pod": {"name": format!("picker-{}-0", pod.number), "uid": pod.uid()},
            },
        });
        self.keys
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .0
            .sign(&claims)
            .unwrap()
    }

    fn judge(&self, token: &str) -> Result<Issued, AuthFailure> {
        let mut log = self.log.lock().unwrap();
        log.calls += 1;
        if self.down.load(Ordering::SeqCst) {
            log.during_outages += 1;
            return Err(AuthFailure::Unavailable("down".into()));
        }
        let call = log.calls;
        let mut refuse = |code: FinalCode, why: String| {
            log.refused.push(why.clone());
            Err(AuthFailure::Final {
                code,
                message: why.into(),
            })
        };
        let parsed = UnverifiedToken::parse(token).unwrap();
        let keys = self.published();
        let rules = TimeRules {
            clock_skew_seconds: 0,
            ..TimeRules::default()
        };
        let accepted = parsed
            .verify(&keys)
            .and_then(|verified| verified.accept(&[AUDIENCE], rules, self.clock.now()));
        let accepted = match accepted {
            Ok(_) if parsed.issuer() != ISSUER => {
                return refuse(FinalCode::InvalidToken, "issuer".into());
            }
            Ok(accepted) => accepted,
            Err(error) => return refuse(FinalCode::InvalidToken, error.to_string()),
        };
        let claims = accepted.claims().kubernetes.clone().unwrap();
        let uid = claims.pod.as_ref().unwrap().uid.clone().unwrap();
        if !self.alive.lock().unwrap().contains(&*uid) {
            log.of_deleted_pods.push(uid.to_string());
            return Err(AuthFailure::Final {
                code: FinalCode::InvalidToken,
                message: "the pod is gone".into(),
            });
        }
        let end = self.now() + SESSION_SECONDS;
        let account = &claims.service_account.name;
        let answer = answer_json(account, &claims.namespace, call, end).to_string();
        Issued::from_answer(answer.as_bytes())
    }
}

impl AuthService for Cluster {
    fn assume<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Issued, AuthFailure>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.judge(token)
        })
    }

    fn is_reachable(&self) -> BoxFuture<'_, bool> {
        let up = !self.down.load(Ordering::SeqCst);
        Box::pin(std::future::ready(up))
    }
}

/// A pod with what its SDK holds.
struct Member {
    number: usize,
    /// How often it was replaced.
    life: usize,
    token: String,
    token_made: i64,
    /// The end of the credentials at hand.
    holds_until: Option<i64>,
    asks_at: usize,
}

impl Member {
    fn uid(&self) -> String {
        format!("pod-{}-{}", self.number, self.life)
    }

    fn address(&self) -> IpAddr {
        let [high, low] = u16::try_from(self.number).unwrap().to_be_bytes();
        IpAddr::from([10, 1, high, low])
    }

    fn pod(&self) -> Pod {
        Pod {
            uid: self.uid().into(),
            namespace: "orchard".into(),
            name: format!("picker-{}-0", self.number).into(),
            addresses: vec![self.address()],
            host_network: false,
            terminated: false,
            service_account: format!("picker-{}", self.number).into(),
            annotations: Default::default(),
            deleted: None,
        }
    }
}

/// The node: its agent, and the feeds that outlive it.
struct Node {
    cluster: Arc<Cluster>,
    pods: watch::Sender<Option<Arc<PodTable>>>,
    keys: watch::Sender<Option<Arc<ClusterKeys>>>,
    agent: Agent,
}

impl Node {
    async fn agent(
        cluster: &Arc<Cluster>,
        pods: &watch::Sender<Option<Arc<PodTable>>>,
        keys: &watch::Sender<Option<Arc<ClusterKeys>>>,
    ) -> Agent {
        let mut config = AgentConfig::new(Arc::clone(cluster) as Arc<dyn AuthService>)
            .for_pods(u32::try_from(how_many()).unwrap());
        config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.probes = None;
        config.clock = Arc::clone(&cluster.clock) as Arc<dyn Clock>;
        config.chance = Arc::new(Fixed::default()) as Arc<dyn Chance>;
        config.bind_source = BindSource::Enforce;
        config.pods = Some(pods.subscribe());
        config.keys = Some(keys.subscribe());
        Agent::start(config).await.unwrap()
    }

    async fn new(cluster: Arc<Cluster>) -> Self {
        let (pods, keys) = (watch::channel(None).0, watch::channel(None).0);
        let agent = Self::agent(&cluster, &pods, &keys).await;
        Self {
            cluster,
            pods,
            keys,
            agent,
        }
    }

    async fn restart(&mut self) {
        let next = Self::agent(&self.cluster, &self.pods, &self.keys).await;
        std::mem::replace(&mut self.agent, next).stop().await;
    }

    fn read_keys(&self) {
        self.keys.send_replace(Some(Arc::new(ClusterKeys {
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
            keys: self.cluster.published(),
        })));
    }

    fn see(&self, members: &[Member]) {
        let table = PodTable::new(members.iter().map(Member::pod), Vec::new());
        self.pods.send_replace(Some(Arc::new(table)));
        *self.cluster.alive.lock().unwrap() = members.iter().map(Member::uid).collect();
    }

    async fn ask(&self, from: IpAddr, token: &str) -> (u16, Value) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("169.254.170.23"));
        headers.insert(AUTHORIZATION, HeaderValue::from_str(token).unwrap());
        let uri = "/v1/credentials".parse().unwrap();
        let answer = self.agent.answer(from, &Method::GET, &uri, &headers).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), serde_json::from_slice(&body).unwrap())
    }
}

/// What happens at a minute of the day.
fn outage_begins(minute: usize) -> bool {
    matches!(minute % 1440, 310 | 1060)
}

fn outage_ends(minute: usize) -> bool {
    matches!(minute % 1440, 340 | 1090)
}

/// Once in the quiet, once while the auth service is down.
fn agent_restarts(minute: usize) -> bool {
    matches!(minute % 1440, 120 | 1075)
}

#[tokio::test(start_paused = true)]
async fn for_a_week_no_live_pod_is_without_credentials_and_no_deleted_pod_gets_any() {
    let pods = how_many();
    let clock = TestClock::new();
    let cluster = Arc::new(Cluster {
        clock,
        keys: Mutex::default(),
        alive: Mutex::default(),
        down: AtomicBool::new(false),
        log: Mutex::default(),
    });
    cluster.rotate();
    let mut node = Node::new(Arc::clone(&cluster)).await;
    node.read_keys();
    let mut members: Vec<Member> = (0..pods)
        .map(|number| Member {
            number,
            life: 0,
            token: String::new(),
            token_made: i64::MIN / 2,
            holds_until: None,
            asks_at: number / 100,
        })
        .collect();
    for member in &mut members {
        member.token = cluster.sign(member);
        member.token_made = cluster.now();
    }
    node.see(&members);
    let (mut asked, mut refused_in_outages, mut thieves, mut rotated) = (0, 0, 0, 0);
    for minute in 0..MINUTES {
        let now = cluster.now();
        // A new signing key every day; the agent reads it some minutes later.
        if minute % 1440 == 700 {
            cluster.rotate();
        }
        if minute % 1440 == 705 {
            node.read_keys();
        }
        if outage_begins(minute) {
            cluster.down.store(true, Ordering::SeqCst);
        }
        if outage_ends(minute) {
            cluster.down.store(false, Ordering::SeqCst);
        }
        if agent_restarts(minute) {
            node.restart().await;
        }
        let down = cluster.down.load(Ordering::SeqCst);
        // One pod in a hundred is replaced each hour. Somebody has kept their tokens, which are valid for hours.
        let mut stolen = Vec::new();
        if minute % 60 == 30 && !down && minute > 60 {
            for place in 0..pods.div_ceil(100) {
                let number = (minute / 60 * pods.div_ceil(100) + place) % pods;
                let member = &mut members[number];
                stolen.push((member.address(), member.token.clone()));
                member.life += 1;
                member.token = cluster.sign(member);
                member.token_made = now;
                member.holds_until = None;
                member.asks_at = minute;
            }
            node.see(&members);
        }
        for (address, token) in stolen {
            let (status, body) = node.ask(address, &token).await;
            thieves += 1;
            assert!(
                matches!(status, 400 | 403),
                "minute {minute}: {status} {body}"
            );
            assert!(body.get("AccessKeyId").is_none());
        }
        for member in &mut members {
            if now - member.token_made >= ROTATED_AT {
                member.token = cluster.sign(member);
                member.token_made = now;
                rotated += 1;
            }
            if minute >= member.asks_at {
                let (status, body) = node.ask(member.address(), &member.token).await;
                asked += 1;
                if status == 200 {
                    let end: Timestamp = body["Expiration"].as_str().unwrap().parse().unwrap();
                    assert!(end.as_second() > now + 15);
                    member.holds_until = Some(end.as_second());
                    // Spread after the first time.
                    member.asks_at = if minute < ASKS_EVERY {
                        ASKS_EVERY + member.number % ASKS_EVERY
                    } else {
                        minute + ASKS_EVERY
                    };
                } else {
                    assert!(down, "minute {minute}, {}: {status} {body}", member.uid());
                    refused_in_outages += 1;
                    member.asks_at = minute + 1;
                }
            }
            let is_fine = member.holds_until.is_none_or(|end| end > now + 60);
            assert!(
                is_fine,
                "minute {minute}: {} is without credentials",
                member.uid()
            );
            let started = member.asks_at > minute || down;
            assert!(started, "minute {minute}: {} never got any", member.uid());
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    {
        let log = cluster.log.lock().unwrap();
        eprintln!(
            "{asked} requests, {} calls ({} in outages), {rotated} tokens replaced, {refused_in_outages} refused in outages",
            log.calls, log.during_outages
        );
        assert_eq!(log.of_deleted_pods, Vec::<String>::new());
        assert_eq!(log.refused, Vec::<String>::new());
        assert!(thieves > pods && rotated >= 6 * pods && log.during_outages > 0);
        assert!(
            refused_in_outages > 0,
            "the agent was restarted while the service was down"
        );
    }
    node.agent.stop().await;
}

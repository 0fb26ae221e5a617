//! What the agent asks and tells beside the credentials: its own token in the place of a signature, changed associations, keys
//! that are missing, who uses what.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::eks_auth::{KEY_ID, Node, fault};
use common::{START, World, answer_json, claims, keys, sign, token};
use countersign_agent::{
    Agent, AgentConfig, AssociationState, Associations, AuthFailure, AuthLimits, AuthService,
    EksApi, EksAssociations, EksAuth, Endpoint, NodeCredentials, NodeIdentity, NodeToken,
};
use countersign_oidc::{Algorithm, SigningKey};
use countersign_upstream::clock::{Clock, SystemClock};
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

type Log = Arc<Mutex<Vec<(String, String, HeaderMap)>>>;

/// A server that writes down what it is asked and answers with `answer`.
async fn serve(
    answer: impl Fn(&str) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) -> (Endpoint, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::of_url(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let log = Log::default();
    let asked = Arc::clone(&log);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (answer, asked) = (answer.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let path = request.uri().path_and_query().unwrap().as_str().to_owned();
                    let line = (
                        request.method().to_string(),
                        path.clone(),
                        request.headers().clone(),
                    );
                    asked.lock().unwrap().push(line);
                    let answered = answer(&path);
                    async move { Ok::<_, Infallible>(answered) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (endpoint, log)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|value| value.to_str().unwrap());
    value.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn outside_aws_the_agents_own_token_stands_in_the_place_of_a_signature() {
    let (endpoint, log) = serve(|_| {
        let end = SystemClock.now().as_second() + 3600;
        Response::new(Full::new(
            answer_json("picker-1", "orchard", 1, end)
                .to_string()
                .into(),
        ))
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let node = NodeToken::new(file.path(), "node-a.example").unwrap();
    let auth = EksAuth::new(
        "home",
        "eu-west-1",
        endpoint,
        None,
        AuthLimits::default(),
        node,
        clock(),
    )
    .unwrap();
    let own = token(1, START);
    // kubelet replaces the file; each call has what is in it then.
    for own_token in ["aaa.bbb.ccc", "ddd.eee.fff\n"] {
        std::fs::write(file.path(), own_token).unwrap();
        let issued = auth.assume(&own).await.unwrap();
        assert_eq!(&*issued.service_account, "picker-1");
        let (method, path, headers) = log.lock().unwrap().last().unwrap().clone();
        assert_eq!(
            (method.as_str(), path.as_str()),
            ("POST", "/clusters/home/assume-role-for-pod-identity")
        );
        assert_eq!(
            text(&headers, "authorization"),
            format!("Bearer {}", own_token.trim())
        );
        assert_eq!(text(&headers, "x-countersign-node"), "node-a.example");
        assert!(
            !headers.contains_key("x-amz-date") && !headers.contains_key("x-amz-security-token")
        );
    }
    // Without a token nobody is asked.
    let asked = log.lock().unwrap().len();
    for content in ["", "two words", "a\r\nHost: b"] {
        std::fs::write(file.path(), content).unwrap();
        let failure = auth.assume(&own).await.unwrap_err();
        assert!(
            matches!(failure, AuthFailure::NoNodeCredentials(_)),
            "{content:?}"
        );
    }
    assert_eq!(log.lock().unwrap().len(), asked);
    for name in ["", "Node", "a b", "a\r\nb", &"a".repeat(254)] {
        assert!(NodeToken::new(file.path(), name).is_err(), "{name:?}");
    }
}

fn described(path: &str) -> Response<Full<Bytes>> {
    if let Some((_, query)) = path.split_once('?') {
        let listed = |ids: &[&str]| {
            let associations: Vec<_> = ids.iter().map(|id| json!({"associationId": id})).collect();
            let body = json!({"associations": associations});
            Response::new(Full::new(body.to_string().into()))
        };
        return match query {
            "matching=true&namespace=orchard&serviceAccount=picker" => {
                listed(&["a-close", "a-far"])
            }
            "matching=true&namespace=orchard&serviceAccount=nobody" => listed(&[]),
            "matching=true&namespace=meadow&serviceAccount=mower" => {
                fault(403, "AccessDeniedException", "no")
            }
            _ => Response::new(Full::new("{}".into())),
        };
    }
    let with = |modified: serde_json::Value, disabled: serde_json::Value| {
        let body = json!({"association": {
            "associationId": "a-x", "modifiedAt": modified, "disableSessionTags": disabled,
        }});
        Response::new(Full::new(body.to_string().into()))
    };
    let association = |modified| with(modified, serde_json::Value::Null);
    match path.rsplit('/').next().unwrap() {
        "a-one" => association(json!(1_893_456_000.25)),
        "a-two" => with(json!(1_893_456_001), json!(true)),
        "a-three" => with(json!(1_893_456_001), json!(false)),
        "a-odd-tags" => with(json!(1_893_456_001), json!("yes")),
        "a-pattern" => {
            let body = json!({"association": {"namespace": "dev-*", "serviceAccount": "x", "modifiedAt": 1}});
            Response::new(Full::new(body.to_string().into()))
        }
        "a-gone" => fault(404, "ResourceNotFoundException", "no"),
        "a-proxy" => Response::builder()
            .status(404)
            .body(Full::default())
            .unwrap(),
        "a-denied" => fault(403, "AccessDeniedException", "no"),
        "a-odd" => association(json!("yesterday")),
        "a-far" => association(json!(1e300)),
        other => fault(500, "InternalServerException", other),
    }
}

#[tokio::test]
async fn associations_are_described_one_by_one_in_the_nodes_name() {
    let (endpoint, log) = serve(described).await;
    let node: Arc<NodeIdentity> = NodeCredentials::new(Node::new(), clock()).into();
    let api = EksApi::new(
        "eu-west-1",
        endpoint.clone(),
        None,
        AuthLimits::default(),
        node,
        clock(),
    );
    let associations = EksAssociations::new("orchard", api.unwrap()).unwrap();
    let ids =
        |names: &[&str]| -> Vec<Box<str>> { names.iter().map(|name| (*name).into()).collect() };
    let asked = ids(&["a-one", "a-gone", "a-two", "a-one", "a-three", "a-two"]);
    let found = associations.states(&asked).await.unwrap();
    let state = |millis, session_tags| AssociationState {
        modified: Timestamp::from_millisecond(millis).unwrap(),
        session_tags,
        has_patterns: false,
    };
    assert_eq!(found.len(), 3);
    assert_eq!(found["a-one"], state(1_893_456_000_250, true));
    assert_eq!(found["a-two"], state(1_893_456_001_000, false));
    assert_eq!(found["a-three"], state(1_893_456_001_000, true));
    let found = associations.states(&ids(&["a-pattern"])).await.unwrap();
    assert!(found["a-pattern"].has_patterns);
    let (method, path, headers) = log.lock().unwrap()[0].clone();
    assert_eq!(
        (method.as_str(), path.as_str()),
        ("GET", "/clusters/orchard/pod-identity-associations/a-one")
    );
    let signed = text(&headers, "authorization");
    assert!(
        signed.contains(KEY_ID) && signed.contains("/eu-west-1/eks/aws4_request"),
        "{signed}"
    );
    // Without AWS credentials the agent's own token stands there too.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "aaa.bbb.ccc").unwrap();
    let own = NodeToken::new(file.path(), "node-a.example").unwrap();
    let api = EksApi::new(
        "eu-west-1",
        endpoint,
        None,
        AuthLimits::default(),
        own,
        clock(),
    );
    let by_token = EksAssociations::new("orchard", api.unwrap()).unwrap();
    let asked = ids(&["a-two", "a-gone"]);
    assert_eq!(
        by_token.states(&asked).await.unwrap(),
        [("a-two".into(), state(1_893_456_001_000, false))].into()
    );
    let (_, _, headers) = log.lock().unwrap().last().unwrap().clone();
    assert_eq!(text(&headers, "authorization"), "Bearer aaa.bbb.ccc");
    assert_eq!(text(&headers, "x-countersign-node"), "node-a.example");
    assert!(!headers.contains_key("x-amz-date"));
    // What cannot be told is not taken for gone, and ids that are none never become part of a path.
    let before = log.lock().unwrap().len();
    for id in [
        "a-proxy",
        "a-denied",
        "a-odd",
        "a-odd-tags",
        "a-far",
        "a-else",
    ] {
        assert!(
            associations.states(&ids(&["a-one", id])).await.is_err(),
            "{id}"
        );
    }
    let between = log.lock().unwrap().len();
    assert!(between > before);
    for id in ["", "a-", "../x", "a-b/c", "a-b?c", "b-x", "a-é"] {
        assert!(associations.states(&ids(&[id])).await.is_err(), "{id}");
    }
    assert_eq!(log.lock().unwrap().len(), between);
}

#[tokio::test]
async fn the_association_in_force_is_the_first_that_matches() {
    let (endpoint, log) = serve(described).await;
    let node: Arc<NodeIdentity> = NodeCredentials::new(Node::new(), clock()).into();
    let limits = AuthLimits::default();
    let api = EksApi::new("eu-west-1", endpoint, None, limits, node, clock());
    let associations = EksAssociations::new("orchard", api.unwrap()).unwrap();
    let account = |namespace: &str, name: &str| (namespace.into(), name.into());
    let asked = [account("orchard", "picker"), account("orchard", "nobody")];
    let found = associations.in_force(&asked).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(&*found[&asked[0]], "a-close");
    let before = log.lock().unwrap().len();
    for (namespace, name) in [("meadow", "mower"), ("meadow", "other")] {
        let asked = [account(namespace, name)];
        assert!(
            associations.in_force(&asked).await.is_err(),
            "{namespace}/{name}"
        );
    }
    let between = log.lock().unwrap().len();
    assert!(between > before);
    for (namespace, name) in [
        ("", "x"),
        ("a&b", "x"),
        ("x", "a/b"),
        ("x", "a*"),
        ("x", "A"),
    ] {
        let asked = [account(namespace, name)];
        assert!(
            associations.in_force(&asked).await.is_err(),
            "{namespace}/{name}"
        );
    }
    assert_eq!(log.lock().unwrap().len(), between);
}

#[tokio::test(start_paused = true)]
async fn a_token_under_a_new_key_goes_to_the_auth_service_and_the_keys_are_wanted() {
    let wanted = Arc::new(Notify::new());
    let world = World::with(|mut config, _| {
        config.keys = Some(keys());
        config.keys_wanted = Some(Arc::clone(&wanted));
        config
    })
    .await;
    let is_wanted = || async {
        tokio::time::timeout(Duration::from_millis(1), wanted.notified())
            .await
            .is_ok()
    };
    assert_eq!(world.get(1, &token(1, START)).await.status, 200);
    assert!(!is_wanted().await, "a key that is there");
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let under_new_key = key.sign(&claims(2, START)).unwrap();
    // The fake service does not know it either.
    assert_eq!(world.get(2, &under_new_key).await.status, 400);
    assert_eq!(world.auth.calls_of(&under_new_key), 1);
    assert!(is_wanted().await);
    let mut elsewhere = claims(3, START);
    elsewhere["iss"] = "https://other.example".into();
    world.get(3, &sign(&elsewhere)).await;
    assert!(
        !is_wanted().await,
        "keys of another issuer are not to be had"
    );
}

#[tokio::test(start_paused = true)]
async fn cached_credentials_are_found_by_their_pod() {
    let world = World::with(|mut config, pods| {
        config.pods = Some(pods);
        config
    })
    .await;
    world.show_pods([1, 2]);
    let credentials = world.agent.credentials();
    assert!(
        credentials.of("pod-1").is_none(),
        "nobody asked with its token yet"
    );
    let got = world.get(1, &token(1, START)).await;
    let cached = credentials.of("pod-1").unwrap();
    let body: serde_json::Value = serde_json::from_slice(&cached.body).unwrap();
    assert_eq!(body, got.body);
    assert!(!format!("{cached:?} {credentials:?}").contains(common::SECRET));
    assert!(credentials.of("pod-2").is_none());
    assert_eq!(world.agent.uses()[0].reads, 2, "it counts as a read");
    let table = world.agent.pods().unwrap().borrow().clone().unwrap();
    assert_eq!(
        table.pod_at(World::address(1)).unwrap().uid,
        table.pod("pod-1").unwrap().uid
    );
    assert!(table.is_of_node("192.168.0.1".parse().unwrap()));
    // With the pod its credentials are gone.
    world.show_pods([2]);
    assert!(credentials.of("pod-1").is_none());
    world.show_pods([1, 2]);
    world.get(1, &token(1, START)).await;
    assert!(credentials.of("pod-1").is_some());
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert!(credentials.of("pod-1").is_none(), "their end has come");
}

#[tokio::test]
async fn the_probe_port_tells_who_uses_credentials_and_the_metrics_port_does_not() {
    let server = common::eks_auth::EksAuthServer::start(Duration::ZERO).await;
    let mut config = AgentConfig::new(Arc::new(server.client(Node::new())));
    let free = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.listen = free.into_iter().collect();
    config.probes = free;
    config.metrics = free;
    let agent = Agent::start(config).await.unwrap();
    let now = SystemClock.now().as_second();
    for (number, times) in [(1, 1), (2, 3)] {
        let token = sign(&claims(number, now - 60));
        for _ in 0..times {
            let mut headers = HeaderMap::new();
            headers.insert("host", "169.254.170.23".parse().unwrap());
            headers.insert("authorization", token.parse().unwrap());
            let uri = "/v1/credentials".parse().unwrap();
            let answer = agent.answer(World::address(number), &http::Method::GET, &uri, &headers);
            assert_eq!(answer.await.status(), 200);
        }
    }
    let ask = async |to: SocketAddr| {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = b"GET /top HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = ask(agent.probes().unwrap()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let rows: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (rows[0]["pod"].as_str(), rows[0]["reads"].as_u64()),
        (Some("picker-2-0"), Some(3))
    );
    assert_eq!(rows[1]["associationId"], "a-picker-1");
    for secret in [common::SECRET, common::SESSION_TOKEN] {
        assert!(!answer.contains(secret));
    }
    assert!(
        ask(agent.metrics_address().unwrap())
            .await
            .starts_with("HTTP/1.1 404")
    );
    agent.stop().await;
}

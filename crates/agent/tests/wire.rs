//! Over real sockets: what pods send, what the auth service gets and answers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::eks_auth::{Canned, EksAuthServer, Node};
use common::{claims, histogram, sign};
use countersign_agent::{
    Agent, AgentConfig, AuthFailure, AuthLimits, AuthService, EksAuth, Endpoint, FinalCode,
    NodeCredentials,
};
use countersign_upstream::clock::{Clock, SystemClock};
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

fn now() -> i64 {
    SystemClock.now().as_second()
}

fn token(number: usize) -> String {
    sign(&claims(number, now() - 60))
}

async fn agent(server: &EksAuthServer) -> Agent {
    let mut config = AgentConfig::new(Arc::new(server.client(Node::new())));
    config.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    config.probes = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.metrics = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    Agent::start(config).await.unwrap()
}

struct Got {
    status: u16,
    head: String,
    body: String,
}

/// Sends bytes from a source address of the loopback network and reads until the end.
async fn send(source: Ipv4Addr, to: SocketAddr, request: &[u8]) -> Got {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    Got {
        status: status.unwrap_or(0),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

async fn get(source: Ipv4Addr, to: SocketAddr, headers: &str) -> Got {
    let request = format!("GET /v1/credentials HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    send(source, to, request.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_checked_in_order_and_refused_with_their_reason() {
    let server = EksAuthServer::start(Duration::ZERO).await;
    let agent = agent(&server).await;
    let to = agent.addresses()[0];
    let good = token(1);
    let long = format!("{}A", "x".repeat(16 << 10));
    let mut expired = claims(1, now() - 90_000);
    expired["exp"] = (now() - 1).into();
    let expired = sign(&expired);
    let soon = sign(&claims(1, now() + 3));
    let later = sign(&claims(1, now() + 60));
    let mut unbound = claims(1, now());
    unbound["kubernetes.io"]
        .as_object_mut()
        .unwrap()
        .remove("pod");
    let unbound = sign(&unbound);
    let mut endless = claims(1, now());
    endless.as_object_mut().unwrap().remove("exp");
    let endless = sign(&endless);
    let mut long_name = claims(1, now());
    long_name["kubernetes.io"]["pod"]["name"] = "p".repeat(300).into();
    let long_name = sign(&long_name);
    let host = "Host: 169.254.170.23\r\n";
    let cases = [
        // Hosts.
        ("Host: 169.254.170.23\r\n", good.as_str(), 200, ""),
        ("Host: 169.254.170.23:80\r\n", &good, 200, ""),
        ("Host: [fd00:ec2::23]\r\n", &good, 200, ""),
        ("Host: [fd00:ec2::23]:80\r\n", &good, 200, ""),
        ("Host: fd00:ec2::23\r\n", &good, 200, ""),
        (
            "Host: metadata.evil.example\r\n",
            &good,
            403,
            "AccessDenied",
        ),
        (
            "Host: 169.254.170.23.evil.example\r\n",
            &good,
            403,
            "AccessDenied",
        ),
        ("Host: 169.254.170.23:evil\r\n", &good, 403, "AccessDenied"),
        ("Host: 169.254.170.23:+80\r\n", &good, 403, "AccessDenied"),
        ("Host: [fd00:ec2::23\r\n", &good, 403, "AccessDenied"),
        ("Host: [169.254.170.23]\r\n", &good, 403, "AccessDenied"),
        ("Host: 127.0.0.1\r\n", &good, 403, "AccessDenied"),
        ("Host: 169.254.170.2\r\n", &good, 403, "AccessDenied"),
        ("Host: localhost\r\n", &good, 403, "AccessDenied"),
        ("Host: \r\n", &good, 403, "AccessDenied"),
        ("", &good, 403, "AccessDenied"),
        (
            "Host: 169.254.170.23\r\nHost: evil.example\r\n",
            &good,
            403,
            "AccessDenied",
        ),
        // Relays.
        (
            "Host: 169.254.170.23\r\nX-Forwarded-For: 10.0.0.1\r\n",
            &good,
            403,
            "AccessDenied",
        ),
        (
            "Host: 169.254.170.23\r\nx-forwarded-for:\r\n",
            &good,
            403,
            "AccessDenied",
        ),
        (
            "Host: 169.254.170.23\r\nX-FORWARDED-HOST: a\r\n",
            &good,
            403,
            "AccessDenied",
        ),
        (
            "Host: 169.254.170.23\r\nForwarded: for=10.0.0.1\r\n",
            &good,
            403,
            "AccessDenied",
        ),
        (
            "Host: 169.254.170.23\r\nVia: 1.1 proxy\r\n",
            &good,
            403,
            "AccessDenied",
        ),
        // The host comes before the token.
        ("Host: evil.example\r\n", "", 403, "AccessDenied"),
        // Tokens.
        (host, "", 400, "InvalidRequest"),
        (host, "eyJ", 400, "InvalidRequest"),
        (host, &format!("Bearer {good}"), 400, "InvalidRequest"),
        (
            host,
            &format!("{good}\r\nAuthorization: {good}"),
            400,
            "InvalidRequest",
        ),
        (host, &format!("{good}."), 400, "InvalidRequest"),
        (host, &long, 400, "InvalidRequest"),
        (host, "\u{fc}", 400, "InvalidRequest"),
        (host, &expired, 400, "ExpiredTokenException"),
        (host, &soon, 200, ""),
        (host, &later, 400, "InvalidTokenException"),
        (host, &unbound, 400, "InvalidTokenException"),
        (host, &endless, 400, "InvalidTokenException"),
        (host, &long_name, 400, "InvalidTokenException"),
    ];
    for (number, (headers, token, status, code)) in cases.into_iter().enumerate() {
        let source = Ipv4Addr::new(127, 1, 0, u8::try_from(number).unwrap() + 1);
        let authorization = if token.is_empty() && headers == host {
            String::new()
        } else {
            format!("Authorization: {token}\r\n")
        };
        let got = get(source, to, &format!("{headers}{authorization}")).await;
        let shown = token.chars().take(20).collect::<String>();
        assert_eq!(got.status, status, "{headers:?} {shown} {}", got.body);
        let body: serde_json::Value = serde_json::from_str(&got.body).unwrap();
        assert_eq!(body["code"].as_str().unwrap_or_default(), code);
        assert!(got.head.contains("cache-control: no-store"));
        assert!(status == 200 || !got.body.contains(common::SECRET));
        assert!(token.len() < 100 || !got.body.contains(token));
    }
    assert_eq!(server.calls().len(), 2, "the good one and the one of soon");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_and_methods_have_their_answers() {
    let server = EksAuthServer::start(Duration::ZERO).await;
    let agent = agent(&server).await;
    let to = agent.addresses()[0];
    let good = token(1);
    let cases = [
        ("GET /v1/credentials", 200),
        ("HEAD /v1/credentials", 200),
        ("GET /v1/credentials?x=y", 200),
        ("GET http://169.254.170.23/v1/credentials", 200),
        ("GET http://evil.example/v1/credentials", 403),
        ("POST /v1/credentials", 405),
        ("PUT /v1/credentials", 405),
        ("OPTIONS /v1/credentials", 405),
        ("GET /v1/credentials/", 404),
        ("GET /v1/Credentials", 404),
        ("GET /v1//credentials", 404),
        ("GET /v1/%63redentials", 404),
        ("GET /v1/../v1/credentials", 404),
        ("GET /", 404),
        ("CONNECT 169.254.170.23:80", 404),
        ("GET v1/credentials", 400),
    ];
    for (line, status) in cases {
        let request = format!(
            "{line} HTTP/1.1\r\nHost: 169.254.170.23\r\nAuthorization: {good}\r\nConnection: close\r\n\r\n"
        );
        let started = Instant::now();
        let got = send(Ipv4Addr::LOCALHOST, to, request.as_bytes()).await;
        assert_eq!(got.status, status, "{line}: {}", got.body);
        assert!(started.elapsed() < Duration::from_secs(5), "{line}");
        assert_eq!(
            got.body.is_empty(),
            line.starts_with("HEAD") || status == 400 && got.body.is_empty()
        );
        assert_eq!(
            got.head.contains("allow: get, head"),
            status == 405,
            "{line}"
        );
    }
    assert_eq!(server.calls().len(), 1);
    // A head that is too large does not get as far as the checks.
    let request = format!(
        "GET /v1/credentials HTTP/1.1\r\nHost: 169.254.170.23\r\nConnection: close\r\nX: {}\r\n\r\n",
        "y".repeat(33 << 10)
    );
    let got = send(Ipv4Addr::LOCALHOST, to, request.as_bytes()).await;
    // The peer is still sending when it is closed on, so it may see a reset in the place of the answer.
    assert!(matches!(got.status, 0 | 431), "{}", got.status);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_metrics_tell_how_it_is() {
    let server = EksAuthServer::start(Duration::ZERO).await;
    let agent = agent(&server).await;
    let (probes, metrics) = (agent.probes().unwrap(), agent.metrics_address().unwrap());
    let path = async |to, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        send(Ipv4Addr::LOCALHOST, to, request.as_bytes()).await
    };
    let good = token(1);
    let headers = format!("Host: 169.254.170.23\r\nAuthorization: {good}\r\n");
    for _ in 0..3 {
        get(Ipv4Addr::LOCALHOST, agent.addresses()[0], &headers).await;
    }
    get(Ipv4Addr::LOCALHOST, agent.addresses()[0], "Host: evil\r\n").await;
    for to in [probes, metrics] {
        for name in ["/healthz", "/readyz"] {
            let got = path(to, name).await;
            assert_eq!((got.status, got.body.as_str()), (200, "ok"));
        }
        assert!(
            path(to, "/readyz?verbose")
                .await
                .body
                .contains("[+]auth service ok")
        );
    }
    assert_eq!(path(probes, "/metrics").await.status, 404);
    let text = path(metrics, "/metrics").await.body;
    for line in [
        "pod_identity_http_response{code=\"200\"} 3",
        "pod_identity_http_response{code=\"403\"} 1",
        "pod_identity_cache_state{state=\"miss\"} 1",
        "countersign_agent_request_seconds_count{result=\"success\",source=\"cache\"} 2",
        "countersign_agent_request_seconds_count{result=\"success\",source=\"upstream\"} 1",
        "countersign_agent_upstream_seconds_count{result=\"success\"} 1",
        "countersign_agent_cache_entries 1",
        "countersign_agent_token_misuse_total 0",
        "countersign_agent_refusals_total{reason=\"host\"} 1",
        "countersign_agent_bind_up{address=\"127.0.0.1\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
    }
    for word in ["picker", "orchard", common::SECRET] {
        assert!(!text.contains(word));
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_needs_the_auth_service_once_and_liveness_never() {
    let server = EksAuthServer::start(Duration::ZERO).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let nowhere = EksAuth::new(
        "orchard",
        "eu-west-1",
        Endpoint::of_url("http://127.0.0.1:1").unwrap(),
        None,
        AuthLimits::default(),
        NodeCredentials::new(Node::new(), Arc::clone(&clock)),
        clock,
    );
    for (auth, ready) in [
        (Arc::new(nowhere.unwrap()), 503),
        (Arc::new(server.client(Node::new())), 200),
    ] {
        let mut config = AgentConfig::new(auth);
        config.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        config.probes = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let agent = Agent::start(config).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        for (path, status) in [("/healthz", 200), ("/readyz", ready), ("/", 404)] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let got = send(
                Ipv4Addr::LOCALHOST,
                agent.probes().unwrap(),
                request.as_bytes(),
            )
            .await;
            assert_eq!(got.status, status, "{path} {}", got.body);
        }
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_runs_until_it_is_told_to_stop_and_answers_what_is_under_way() {
    let server = EksAuthServer::start(Duration::from_millis(400)).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = free.local_addr().unwrap();
    drop(free);
    let mut config = AgentConfig::new(Arc::new(server.client(Node::new())));
    config.listen = vec![to];
    config.probes = None;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(Agent::run(config, async move {
        let _ = stopped.await;
    }));
    while std::net::TcpStream::connect(to).is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let headers = format!("Host: 169.254.170.23\r\nAuthorization: {}\r\n", token(1));
    let asking = tokio::spawn(async move { get(Ipv4Addr::LOCALHOST, to, &headers).await.status });
    while server.calls().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send(()).unwrap();
    assert_eq!(asking.await.unwrap(), 200);
    running.await.unwrap().unwrap();
    assert!(std::net::TcpStream::connect(to).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_and_fifty_pods_start_at_once() {
    let server = EksAuthServer::start(Duration::from_millis(50)).await;
    let agent = agent(&server).await;
    let to = agent.addresses()[0];
    let started = Instant::now();
    let pods = (0..250).map(|number| async move {
        let source = Ipv4Addr::new(127, 2, 0, u8::try_from(number).unwrap());
        let headers = format!(
            "Host: 169.254.170.23\r\nAuthorization: {}\r\n",
            token(number)
        );
        join_all((0..2).map(|_| get(source, to, &headers))).await
    });
    let answers = join_all(pods).await;
    let took = started.elapsed();
    for pod in &answers {
        assert_eq!(
            (pod[0].status, pod[1].status),
            (200, 200),
            "{}",
            pod[0].body
        );
        assert_eq!(pod[0].body, pod[1].body);
    }
    let calls = histogram(server.calls());
    assert_eq!(calls.len(), 250);
    assert!(calls.values().all(|count| *count == 1), "none twice");
    assert!(took < Duration::from_secs(3), "{took:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_and_an_address_that_is_not_there() {
    let server = EksAuthServer::start(Duration::ZERO).await;
    let config = |listen: &[&str], require_ipv4| {
        let mut config = AgentConfig::new(Arc::new(server.client(Node::new())));
        config.listen = listen.iter().map(|text| text.parse().unwrap()).collect();
        config.probes = None;
        config.require_ipv4 = require_ipv4;
        config
    };
    let first = Agent::start(config(&["127.0.0.1:0"], false)).await.unwrap();
    let taken = first.addresses()[0].to_string();
    let error = Agent::start(config(&[&taken], false)).await.err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with(&format!("{taken} is in use")), "{text}");
    if cfg!(target_os = "linux") {
        assert!(
            text.contains(&format!("(process {})", std::process::id())),
            "{text}"
        );
    }
    // 192.0.2.1 is no address of this machine: served without it, unless it is required or the only one.
    let both = ["192.0.2.1:0", "127.0.0.1:0"];
    let second = Agent::start(config(&both, false)).await.unwrap();
    assert_eq!(second.addresses().len(), 1);
    assert!(Agent::start(config(&both, true)).await.is_err());
    assert!(Agent::start(config(&both[..1], false)).await.is_err());
    assert!(Agent::start(config(&[], false)).await.is_err());
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_hold_all_connections() {
    let server = EksAuthServer::start(Duration::ZERO).await;
    let mut config = AgentConfig::new(Arc::new(server.client(Node::new())));
    config.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    config.probes = None;
    config.connections.local = 4;
    let agent = Agent::start(config).await.unwrap();
    let to = agent.addresses()[0];
    let idle = Ipv4Addr::new(127, 3, 0, 1);
    let mut held = Vec::new();
    for _ in 0..4 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((idle, 0))).unwrap();
        held.push(socket.connect(to).await.unwrap());
    }
    let host = "Host: evil\r\n";
    assert_eq!(get(Ipv4Addr::new(127, 3, 0, 2), to, host).await.status, 403);
    assert_eq!(
        get(idle, to, host).await.status,
        0,
        "closed without an answer"
    );
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(get(idle, to, host).await.status, 403);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_the_auth_service_is_classed() {
    let text = |text: &str| text.as_bytes().to_vec();
    let full = common::answer_json("picker-1", "orchard", 1, now() + 3600);
    let without = |pointer: &str| {
        let mut body = full.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        assert!(parent.remove(name).is_some());
        body.to_string().into_bytes()
    };
    let with = |pointer: &str, value: serde_json::Value| {
        let mut body = full.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        body.to_string().into_bytes()
    };
    let refused =
        |of_type| -> Canned { (400, Some(of_type), text(r#"{"message":"because\nof it"}"#)) };
    let mut cases: Vec<(Canned, &str)> = vec![
        ((200, None, full.to_string().into_bytes()), "success"),
        (
            (
                200,
                None,
                with("/credentials/expiration", 1_893_477_600.25.into()),
            ),
            "success",
        ),
        (refused("AccessDeniedException"), "AccessDeniedException"),
        (refused("ExpiredTokenException"), "ExpiredTokenException"),
        (
            refused("InvalidTokenException:http://x"),
            "InvalidTokenException",
        ),
        (
            (404, Some("ResourceNotFoundException"), text("{}")),
            "ResourceNotFoundException",
        ),
        (
            (
                404,
                None,
                text(r#"{"__type":"com.amazonaws#ResourceNotFoundException"}"#),
            ),
            "ResourceNotFoundException",
        ),
        (refused("InvalidParameterException"), "rejected"),
        (refused("InvalidRequestException"), "rejected"),
        ((429, Some("ThrottlingException"), text("{}")), "throttled"),
        ((400, Some("ThrottlingException"), text("{}")), "throttled"),
        (
            (500, Some("InternalServerException"), text("{}")),
            "unavailable",
        ),
        (
            (503, Some("ServiceUnavailableException"), text("{}")),
            "unavailable",
        ),
        // Only a refusal that says so is final: not a proxy's page, and not a code with the status of a fault.
        ((404, None, text("<html>not found</html>")), "unavailable"),
        (
            (500, Some("ResourceNotFoundException"), text("{}")),
            "unavailable",
        ),
        ((302, None, text("")), "unavailable"),
        (
            (403, Some("ExpiredTokenException"), text("{}")),
            "node_credentials",
        ),
        (
            (403, Some("AccessDeniedException"), text("{}")),
            "node_credentials",
        ),
        ((200, None, text("")), "bad_answer"),
        ((200, None, text("{}")), "bad_answer"),
        ((200, None, vec![b' '; 17 << 10]), "unavailable"),
    ];
    for pointer in [
        "/subject",
        "/subject/namespace",
        "/subject/serviceAccount",
        "/audience",
        "/podIdentityAssociation",
        "/podIdentityAssociation/associationArn",
        "/podIdentityAssociation/associationId",
        "/assumedRoleUser",
        "/assumedRoleUser/arn",
        "/assumedRoleUser/assumeRoleId",
        "/credentials",
        "/credentials/sessionToken",
        "/credentials/secretAccessKey",
        "/credentials/accessKeyId",
        "/credentials/expiration",
    ] {
        cases.push(((200, None, without(pointer)), "bad_answer"));
    }
    for (pointer, value) in [
        ("/credentials/secretAccessKey", "".into()),
        ("/credentials/expiration", (-1).into()),
        ("/credentials/expiration", 1e300.into()),
        ("/credentials/expiration", "2030-01-01T00:00:00Z".into()),
        (
            "/assumedRoleUser/arn",
            "arn:aws:iam::210987654321:role/x".into(),
        ),
        (
            "/assumedRoleUser/arn",
            "arn:aws:sts::1:assumed-role/x/y".into(),
        ),
    ] {
        cases.push(((200, None, with(pointer, value)), "bad_answer"));
    }
    let server = EksAuthServer::start(Duration::ZERO).await;
    let token = token(1);
    for (canned, label) in cases {
        let client = server.client(Node::new());
        let shown = format!(
            "{} {:?} {}",
            canned.0,
            canned.1,
            String::from_utf8_lossy(&canned.2)
                .chars()
                .take(400)
                .collect::<String>()
        );
        server.can([canned]);
        let got = client.assume(&token).await;
        assert_eq!(
            got.as_ref().map_or_else(AuthFailure::label, |_| "success"),
            label,
            "{shown}"
        );
        if let Err(AuthFailure::Final {
            code: FinalCode::AccessDenied,
            message,
        }) = &got
        {
            assert_eq!(&**message, "because of it", "one line");
        }
        let printed = format!("{got:?}");
        assert!(!printed.contains(common::SECRET) && !printed.contains(common::SESSION_TOKEN));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_node_credentials_are_asked_for_again() {
    let server = EksAuthServer::start(Duration::ZERO).await;
    let node = Node::new();
    let client = server.client(Arc::clone(&node) as _);
    let token = token(1);
    for _ in 0..3 {
        assert!(client.assume(&token).await.is_ok());
    }
    assert_eq!(*node.asked.lock().unwrap(), 1, "kept");
    server.set_secret("rotated");
    let refused = client.assume(&token).await;
    assert!(
        matches!(refused, Err(AuthFailure::Node { .. })),
        "{refused:?}"
    );
    assert_eq!(
        server.calls().len(),
        3,
        "no call counts without its signature"
    );
}

#[tokio::test(start_paused = true)]
async fn node_credentials_are_renewed_in_time_and_kept_when_the_provider_fails() {
    use countersign_upstream::ec2::ProvideCredentials;
    let clock = common::TestClock::new();
    let node = Node::new();
    let kept = NodeCredentials::new(
        Arc::clone(&node) as Arc<dyn ProvideCredentials>,
        Arc::clone(&clock) as _,
    );
    let asked = || *node.asked.lock().unwrap();
    // They end six hours after the system's clock; this clock is set relative to that.
    let end = kept.get().await.unwrap().expires_at.unwrap();
    let go_to =
        |before_end: i64| clock.jump(end.as_second() - before_end - clock.now().as_second());
    go_to(600);
    kept.get().await.unwrap();
    assert_eq!(asked(), 1);
    *node.secret.lock().unwrap() = String::new();
    go_to(200);
    assert!(kept.get().await.is_ok(), "the old ones still work");
    assert_eq!(asked(), 2);
    assert!(kept.get().await.is_ok());
    assert_eq!(
        asked(),
        2,
        "a provider that fails is not asked for every pod"
    );
    go_to(-1);
    assert!(kept.get().await.is_err());
    *node.secret.lock().unwrap() = "back".into();
    assert!(kept.get().await.is_ok());
    // Refused ones are replaced, not at once.
    let before = asked();
    go_to(-3600);
    kept.get().await.unwrap();
    kept.refused(common::eks_auth::KEY_ID).await;
    let between = asked();
    kept.get().await.unwrap();
    assert_eq!(asked(), between);
    clock.jump(11);
    kept.get().await.unwrap();
    assert!(asked() > before && asked() == between + 1);
}

#[test]
fn endpoints_are_what_the_operator_says() {
    let regions = [
        ("eu-west-1", Some("eks-auth.eu-west-1.api.aws")),
        (
            "cn-north-1",
            Some("eks-auth.cn-north-1.api.amazonwebservices.com.cn"),
        ),
        ("us-gov-west-1", Some("eks-auth.us-gov-west-1.api.aws")),
        ("evil.example/", None),
        ("", None),
    ];
    for (region, host) in regions {
        let endpoint = Endpoint::of_region(region);
        assert_eq!(
            endpoint.as_ref().ok().map(Endpoint::authority),
            host,
            "{region}"
        );
    }
    let urls = [
        ("https://auth.example", Some("auth.example")),
        ("https://auth.example:443/base/", Some("auth.example")),
        ("http://127.0.0.1:4600", Some("127.0.0.1:4600")),
        ("http://[::1]:80", Some("[::1]")),
        ("http://localhost:4600/base", Some("localhost:4600")),
        ("http://auth.example", None),
        ("http://10.0.0.1:4600", None),
        ("http://localhost.example:4600", None),
        ("auth.example", None),
        ("ftp://auth.example", None),
        ("https://user@auth.example", None),
        ("https://auth.example/?x", None),
        ("https://auth.example/#x", None),
        ("https://", None),
    ];
    for (url, host) in urls {
        let endpoint = Endpoint::of_url(url);
        assert_eq!(
            endpoint.as_ref().ok().map(Endpoint::authority),
            host,
            "{url}"
        );
    }
}

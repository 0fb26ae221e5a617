//! One process of the agent takes the listening sockets of another, under load and without a failed request.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests"
)]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream as Blocking;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::eks_auth::{EksAuthServer, Node};
use common::namespace::{inside, ip};
use common::{claims, sign};
use countersign_agent::guard::GuardConfig;
use countersign_agent::guard::capture::{Filter, FilterKind};
use countersign_agent::{Agent, AgentConfig, Handover, RequestLimits, StartError};
use countersign_imds::decision::{Mode, Settings};
use countersign_imds::harmless::HarmlessPaths;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const HELLO: &str = "{\"version\":1,\"agent\":\"orchard\"}\n";

/// What the processes of one agent have in common.
struct World {
    auth: EksAuthServer,
    directory: tempfile::TempDir,
    listen: [SocketAddr; 2],
    probes: SocketAddr,
    metrics: SocketAddr,
    guard: SocketAddr,
}

fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// No limit that the load of a test could reach.
fn most() -> countersign_agent::limit::Rate {
    countersign_agent::limit::Rate {
        per_second: 1e6,
        burst: 1_000_000,
    }
}

impl World {
    async fn new() -> Self {
        Self {
            auth: EksAuthServer::start(Duration::from_millis(20)).await,
            directory: tempfile::tempdir().unwrap(),
            listen: [free(), free()],
            probes: free(),
            metrics: free(),
            guard: free(),
        }
    }

    fn sockets(&self) -> std::path::PathBuf {
        self.directory.path().join("sockets")
    }

    fn config(&self, agent: &str) -> AgentConfig {
        let mut config = AgentConfig::new(Arc::new(self.auth.client(Node::new())));
        config.listen = self.listen.to_vec();
        config.probes = Some(self.probes);
        config.metrics = Some(self.metrics);
        config.requests = RequestLimits {
            per_pod: most(),
            per_address: most(),
            new_tokens: most(),
            total: most(),
        };
        config.handover = Some(Handover {
            directory: self.sockets(),
            agent: agent.into(),
        });
        config
    }

    fn guard(&self, filter: Option<Filter>) -> GuardConfig {
        let mut guard = GuardConfig::new(Settings {
            mode: Mode::Block,
            v1: false,
            harmless: HarmlessPaths::default(),
        });
        guard.listen = vec![self.guard];
        guard.state_dir = self.directory.path().join("state");
        guard.per_pod = most();
        guard.node = most();
        guard.filter = filter;
        guard
    }

    /// The next process of the agent, with its guard.
    async fn start(&self) -> Agent {
        let mut config = self.config("orchard");
        config.guard = Some(self.guard(None));
        Agent::start(config).await.unwrap()
    }
}

/// Asks all the time.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

/// One request on a connection: status, and whether the server will close it.
async fn ask(stream: &mut TcpStream, request: &str) -> Result<(u16, bool), String> {
    let failed = |error: std::io::Error| error.to_string();
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) => return Err(format!("{} bytes, then {error}", head.len())),
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(failed)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, head.contains("connection: close")))
}

impl Load {
    fn start(world: &World) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            done: Arc::default(),
            tasks: Vec::new(),
        };
        let now = jiff::Timestamp::now().as_second();
        let credentials = |number: usize, close: &str| {
            let token = sign(&claims(number, now - 60));
            format!(
                "GET /v1/credentials HTTP/1.1\r\nHost: 169.254.170.23\r\nAuthorization: {token}\r\n{close}\r\n"
            )
        };
        let get = |path: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        };
        for number in 0..8 {
            let to = world.listen[number % 2];
            load.spawn(to, credentials(number, "Connection: close\r\n"), 200);
            // These keep their connections for as long as they may.
            load.spawn(to, credentials(number, ""), 200);
        }
        load.spawn(world.probes, get("/healthz"), 200);
        load.spawn(world.metrics, get("/metrics"), 200);
        // Every request is answered, this one without a look at pods.
        let options = "OPTIONS / HTTP/1.1\r\nHost: 169.254.169.254\r\n";
        let close = format!("{options}Connection: close\r\n\r\n");
        load.spawn(world.guard, close, 405);
        load.spawn(world.guard, format!("{options}\r\n"), 405);
        load
    }

    fn spawn(&mut self, to: SocketAddr, request: String, wanted: u16) {
        let (stop, done) = (Arc::clone(&self.stop), Arc::clone(&self.done));
        self.tasks.push(tokio::spawn(async move {
            let mut failures = Vec::new();
            let mut kept: Option<TcpStream> = None;
            while !stop.load(Ordering::SeqCst) {
                let stream = match kept.take() {
                    Some(stream) => Ok(stream),
                    None => TcpStream::connect(to).await,
                };
                let mut stream = match stream {
                    Ok(stream) => stream,
                    Err(error) => {
                        failures.push(format!("{to}: not connected: {error}"));
                        continue;
                    }
                };
                match ask(&mut stream, &request).await {
                    Ok((status, closes)) if status == wanted => {
                        kept = (!closes).then_some(stream);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok((status, _)) => failures.push(format!("{to}: {status}")),
                    Err(error) => failures.push(format!("{to}: {error}")),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            failures
        }));
    }

    /// Waits until so many more requests were answered.
    async fn more(&self, requests: usize) {
        let until = self.done.load(Ordering::SeqCst) + requests;
        while self.done.load(Ordering::SeqCst) < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.unwrap());
        }
        failures
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_one_process_takes_over_from_another() {
    let world = World::new().await;
    let mut serving = world.start().await;
    let mode = std::fs::metadata(world.sockets())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o700);
    let load = Load::start(&world);
    load.more(300).await;
    for round in 0..3 {
        let calls = world.auth.calls().len();
        let next = world.start().await;
        assert_eq!(next.addresses(), world.listen);
        load.more(300).await;
        // The next one has a cache of its own: it is it that answers.
        assert!(world.auth.calls().len() > calls, "{round}");
        assert!(next.uses().iter().map(|used| used.reads).sum::<u64>() > 100);
        // The one before has let go of every socket, and ends as soon as it is told to.
        serving.stop().await;
        load.more(300).await;
        serving = next;
    }
    let failures = load.end().await;
    assert!(failures.is_empty(), "{}: {failures:?}", failures.len());
    serving.stop().await;
    for address in [world.listen[0], world.probes, world.metrics, world.guard] {
        assert!(TcpStream::connect(address).await.is_err(), "{address}");
    }
}

#[tokio::test]
async fn a_successor_that_gives_up_or_is_of_another_agent_changes_nothing() {
    let world = World::new().await;
    let first = world.start().await;
    let answers = async || {
        let mut stream = TcpStream::connect(world.probes).await.unwrap();
        let request = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        ask(&mut stream, request).await.unwrap().0
    };
    // What comes, and the beginning of what it gets.
    let cases = [
        (HELLO, "{\"listeners\":[\"credentials 127.0.0.1:"),
        (
            "{\"version\":1,\"agent\":\"meadow\"}\n",
            "{\"listeners\":[],\"error\":\"",
        ),
        (
            "{\"version\":2,\"agent\":\"orchard\"}\n",
            "{\"listeners\":[],\"error\":\"",
        ),
        ("GET / HTTP/1.1\n", ""),
        ("\n", ""),
        ("", ""),
    ];
    for (sent, begins) in cases {
        let path = world.sockets().join("agent.sock");
        let got = tokio::task::spawn_blocking(move || {
            let mut stream = Blocking::connect(path).unwrap();
            stream.write_all(sent.as_bytes()).unwrap();
            if sent.is_empty() {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let mut got = [0; 4096];
            let read = stream.read(&mut got).unwrap_or(0);
            String::from_utf8(got[..read].to_vec()).unwrap()
        })
        .await
        .unwrap();
        assert!(got.starts_with(begins), "{sent:?}: {got}");
        assert_eq!(got.is_empty(), begins.is_empty(), "{sent:?}: {got}");
        assert_eq!(answers().await, 200, "{sent:?}");
    }
    // The agent of another cluster finds the port taken, as it would without a directory.
    let other = Agent::start(world.config("meadow")).await;
    assert!(matches!(other, Err(StartError::InUse { .. })));
    assert_eq!(answers().await, 200);
    let second = world.start().await;
    first.stop().await;
    assert_eq!(answers().await, 200);
    second.stop().await;
    // A socket that nobody listens on any more is none.
    let third = world.start().await;
    assert_eq!(answers().await, 200);
    third.stop().await;
}

#[tokio::test]
async fn the_directory_must_be_the_agents_own() {
    let world = World::new().await;
    let path = world.directory.path();
    let made = |name: &str, mode: u32| {
        let made = path.join(name);
        std::fs::create_dir(&made).unwrap();
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(mode)).unwrap();
        made
    };
    let own = made("own", 0o700);
    std::fs::write(path.join("file"), "").unwrap();
    symlink(&own, path.join("link")).unwrap();
    let mut cases = vec![
        (own, true),
        (path.join("new"), true),
        (made("readable", 0o755), false),
        (made("group", 0o710), false),
        (path.join("file"), false),
        (path.join("link"), false),
        (path.join("no/parent"), false),
    ];
    let given = made("given", 0o700);
    if std::os::unix::fs::chown(&given, Some(65_534), None).is_ok() {
        cases.push((given, false));
    }
    for (directory, fine) in cases {
        let mut config = world.config("orchard");
        let shown = directory.display().to_string();
        config.handover = Some(Handover {
            directory,
            agent: "orchard".into(),
        });
        match Agent::start(config).await {
            Ok(agent) => {
                assert!(fine, "{shown}");
                agent.stop().await;
            }
            Err(error) => {
                assert!(!fine, "{shown}: {error}");
                assert!(matches!(error, StartError::Handover(_)), "{shown}: {error}");
            }
        }
    }
}

const PEER: &str = "COUNTERSIGN_TEST_HANDOVER_PEER";

/// Even where the directory lets somebody in, the other end is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_another_user_gets_no_sockets() {
    let test = "a_process_of_another_user_gets_no_sockets";
    if let Some(path) = std::env::var_os(PEER) {
        let mut stream = Blocking::connect(path).unwrap();
        let _ = stream.write_all(HELLO.as_bytes());
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        println!("GOT {}", got.len());
        return;
    }
    let world = World::new().await;
    let agent = world.start().await;
    let socket = world.sockets().join("agent.sock");
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    open(world.directory.path());
    open(&world.sockets());
    open(&socket);
    let run = |user: Option<u32>| {
        let program = world.directory.path().join("peer");
        if !program.exists() {
            std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
            open(&program);
        }
        let mut command = Command::new(program);
        command
            .args(["--exact", test, "--nocapture"])
            .current_dir("/")
            .env(PEER, &socket);
        if let Some(user) = user {
            command.uid(user);
        }
        command.output()
    };
    let other = tokio::task::block_in_place(|| run(Some(65_534)));
    let other = match other {
        Ok(output) if output.status.success() => output,
        failed => {
            eprintln!("SKIPPED {test}: it needs root to run a program as another user: {failed:?}");
            return;
        }
    };
    let text = String::from_utf8(other.stdout).unwrap();
    assert!(text.contains("GOT 0\n"), "{text}");
    agent.stop().await;
}

/// The rules of the packet filter stay open to the guard all the time: to the one process, then to the other.
#[test]
fn the_filter_of_the_guard_stays_open() {
    let test = "the_filter_of_the_guard_stays_open";
    if !Path::new("/usr/sbin/nft").exists() {
        eprintln!("SKIPPED {test}: it needs nft");
        return;
    }
    if !inside(test) {
        return;
    }
    ip("link set lo up");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        let start = async || {
            let mut config = world.config("orchard");
            config.guard = Some(world.guard(Some(Filter::new(FilterKind::Nft, vec![]))));
            Agent::start(config).await.unwrap()
        };
        let guard = world.guard;
        let is_open = move || {
            let listed = Command::new("nft").args(["list", "ruleset"]).output();
            let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
            let four = IpAddr::from([169, 254, 169, 254]).to_string();
            listed
                .split("set live4")
                .nth(1)
                .and_then(|set| set.split('}').next())
                .is_some_and(|set| set.contains(&format!("{four} timeout")))
                && listed.contains(&format!("dnat ip to {guard}"))
        };
        let mut serving = start().await;
        for _ in 0..200 {
            if is_open() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(is_open(), "the guard's filter opens");
        let (stop, looks) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let watching = (Arc::clone(&stop), Arc::clone(&looks));
        let is_still_open = is_open;
        let watcher = std::thread::spawn(move || {
            let (stop, looks) = watching;
            let mut closed = 0;
            while !stop.load(Ordering::SeqCst) {
                closed += usize::from(!is_still_open());
                looks.fetch_add(1, Ordering::SeqCst);
            }
            closed
        });
        for _ in 0..2 {
            let next = start().await;
            serving.stop().await;
            serving = next;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        stop.store(true, Ordering::SeqCst);
        let closed = tokio::task::spawn_blocking(|| watcher.join().unwrap())
            .await
            .unwrap();
        let looks = looks.load(Ordering::SeqCst);
        assert!(looks > 5 && closed == 0, "closed {closed} of {looks} times");
        // Nobody comes after the last one.
        serving.stop().await;
        assert!(!is_open());
    });
}

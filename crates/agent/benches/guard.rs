//! The metadata guard under the load of a full node: 250 pods, ten requests a second each. CPU and memory of the agent, the 99th
//! percentile of cached credentials next to a request that is refused before anybody looks for a pod, and how many requests the
//! node's metadata service gets.
//!
//! `cargo bench -p countersign-agent --bench guard`, as root: it runs in a network namespace of its own, where each pod has an
//! address. The packet filter is left out, since its work is the kernel's. The process under measurement is this program, started
//! once more; CPU time and memory are the kernel's numbers for that process alone. `COUNTERSIGN_BENCH_SECONDS` is the time of
//! each measurement, 20 if absent.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench: it prints and stops at the first surprise"
)]

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
#[path = "../tests/common/mod.rs"]
mod common;

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use countersign_agent::guard::{GuardApi, GuardApiError, GuardConfig, PodEvent};
    use countersign_agent::pods::{Pod, PodTable};
    use countersign_agent::{Agent, AgentConfig, AuthLimits, EksAuth, Endpoint, NodeCredentials};
    use countersign_imds::decision::{Mode, Settings};
    use countersign_imds::harmless::HarmlessPaths;
    use countersign_upstream::clock::{Clock, SystemClock};
    use futures::future::BoxFuture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use zeroize::Zeroizing;

    use super::common::eks_auth::{EksAuthServer, Node};
    use super::common::{keys, pod, token};

    /// Set inside the namespace.
    const INSIDE: &str = "COUNTERSIGN_BENCH_INSIDE";
    /// Set in the process that is measured: the URL of the auth service.
    const AUTH_SERVICE: &str = "COUNTERSIGN_BENCH_AUTH_SERVICE";
    const PODS: usize = 250;
    /// Time between two requests of a pod.
    const EVERY: Duration = Duration::from_millis(100);
    const GUARD: &str = "169.254.170.23:2706";
    const SERVICE: &str = "10.99.0.1:80";
    const LIST: &str = "/latest/meta-data/iam/security-credentials/";

    pub(super) fn main() {
        if std::env::args().any(|argument| argument == "--test") {
            return;
        }
        if std::env::var_os(INSIDE).is_none() {
            let status = Command::new("unshare")
                .arg("-n")
                .arg(std::env::current_exe().unwrap())
                .env(INSIDE, "1")
                .status();
            match status {
                Ok(status) if status.success() => {}
                other => println!("SKIPPED: it needs root, `unshare` and `ip` ({other:?})"),
            }
            return;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        match std::env::var(AUTH_SERVICE) {
            Ok(url) => runtime.block_on(be_measured(&url)),
            Err(_) => {
                ip("link set lo up");
                for address in ["169.254.170.23", "10.99.0.1"] {
                    ip(&format!("addr add {address}/32 dev lo"));
                }
                for pod in 0..PODS {
                    ip(&format!("addr add {}/32 dev lo", address(pod)));
                }
                runtime.block_on(measure());
            }
        }
    }

    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        assert!(status.unwrap().success(), "ip {arguments}");
    }

    fn address(pod: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, 0, u8::try_from(pod + 1).unwrap())
    }

    /// Kubernetes, as far as the guard asks it.
    struct Api;

    impl GuardApi for Api {
        fn token<'a>(
            &'a self,
            pod: &'a Pod,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Zeroizing<String>, GuardApiError>> {
            let number = pod.uid.rsplit('-').next().unwrap().parse().unwrap();
            let now = SystemClock.now().as_second();
            Box::pin(std::future::ready(Ok(token(number, now - 60).into())))
        }

        fn pods(&self) -> BoxFuture<'_, Result<PodTable, GuardApiError>> {
            Box::pin(std::future::ready(Err(GuardApiError("no".into()))))
        }

        fn event<'a>(&'a self, _: &'a Pod, _: PodEvent) -> BoxFuture<'a, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    /// The agent, until its standard input ends.
    async fn be_measured(url: &str) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let auth = EksAuth::new(
            "orchard",
            "eu-west-1",
            Endpoint::of_url(url).unwrap(),
            None,
            AuthLimits::default(),
            NodeCredentials::new(Node::new(), Arc::clone(&clock)),
            clock,
        );
        let pods = u32::try_from(PODS).unwrap();
        let mut config = AgentConfig::new(Arc::new(auth.unwrap())).for_pods(pods);
        config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.probes = None;
        let all = (0..PODS).map(|number| Pod {
            addresses: vec![IpAddr::V4(address(number))],
            ..pod(number)
        });
        let table = Some(Arc::new(PodTable::new(all, vec![])));
        let (_held, watch) = tokio::sync::watch::channel(table);
        config.pods = Some(watch);
        config.keys = Some(keys());
        let directory = tempfile::tempdir().unwrap();
        let mut guard = GuardConfig::new(Settings {
            mode: Mode::Serve,
            v1: false,
            harmless: HarmlessPaths::default(),
        })
        .for_pods(pods);
        guard.listen = vec![GUARD.parse().unwrap()];
        guard.services = vec![SERVICE.parse().unwrap()];
        guard.state_dir = directory.path().to_owned();
        guard.api = Some(Arc::new(Api));
        config.guard = Some(guard);
        let agent = Agent::start(config).await.unwrap();
        while TcpStream::connect(GUARD).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("ready");
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let _ = ended.await;
        agent.stop().await;
    }

    /// The node's metadata service; counts what it is asked.
    async fn service(asked: Arc<AtomicUsize>) {
        let listener = TcpListener::bind(SERVICE).await.unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                asked.fetch_add(1, Ordering::Relaxed);
                let body = if head[..read].starts_with(b"PUT") {
                    "node-token"
                } else {
                    "eu-west-1"
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    }

    struct Measured(Child);

    impl Measured {
        fn start(server: &EksAuthServer) -> Self {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .env(AUTH_SERVICE, format!("http://{}", server.address))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            output.read_line(&mut line).unwrap();
            assert_eq!(line.trim(), "ready");
            Self(child)
        }

        fn memory_mib(&self) -> f64 {
            let path = format!("/proc/{}/status", self.0.id());
            let status = std::fs::read_to_string(path).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:"));
            let kib = line.and_then(|line| line.split_whitespace().nth(1));
            kib.unwrap().parse::<f64>().unwrap() / 1024.0
        }

        /// CPU time of all its threads.
        fn cpu(&self) -> Duration {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
            let nanos = tasks.flatten().map(|task| {
                let text =
                    std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let first = text.split(' ').next().and_then(|n| n.parse().ok());
                first.unwrap_or(0)
            });
            Duration::from_nanos(nanos.sum())
        }
    }

    impl Drop for Measured {
        fn drop(&mut self) {
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    async fn measure() {
        let seconds = std::env::var("COUNTERSIGN_BENCH_SECONDS").ok();
        let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(20);
        let time = Duration::from_secs(seconds);
        let asked = Arc::new(AtomicUsize::new(0));
        tokio::spawn(service(Arc::clone(&asked)));
        let server = EksAuthServer::start(Duration::ZERO).await;
        let agent = Measured::start(&server);
        println!("memory idle: {:.1} MiB", agent.memory_mib());
        let tokens = all_tokens().await;
        println!(
            "memory with the credentials of {PODS} pods: {:.1} MiB, {} calls of the auth service",
            agent.memory_mib(),
            server.calls().len()
        );
        let nothing: Vec<_> = (0..PODS).map(|_| head("DELETE", "/", "")).collect();
        let credentials: Vec<_> = tokens
            .iter()
            .map(|token| head("GET", &format!("{LIST}orchard-reader"), token))
            .collect();
        let region: Vec<_> = tokens
            .iter()
            .map(|token| head("GET", "/latest/meta-data/placement/region", token))
            .collect();
        let mut baseline: Option<Load> = None;
        for (name, heads, expected, fresh) in [
            ("nothing (refused by its method)", nothing, "405", false),
            ("cached credentials", credentials.clone(), "200", false),
            ("the node's region", region, "200", false),
            (
                "cached credentials, a connection for each",
                credentials,
                "200",
                true,
            ),
        ] {
            let before = (agent.cpu(), asked.load(Ordering::Relaxed));
            let load = load(heads, expected, fresh, time).await;
            let took = load.took.as_secs_f64();
            let cores = (agent.cpu() - before.0).as_secs_f64() / took;
            let reached = (asked.load(Ordering::Relaxed) - before.1) as f64 / took;
            println!(
                "{name}: {:.0}/s of {PODS} pods, {} not as expected, {cores:.3} cores, median {:?}, 99th percentile {:?}; the node's service: {reached:.2}/s; {:.1} MiB",
                load.count as f64 / took,
                load.odd,
                load.half,
                load.tail,
                agent.memory_mib()
            );
            match &baseline {
                None => baseline = Some(Load { cores, ..load }),
                Some(base) => println!(
                    "  {:.2} times the CPU of nothing, {:.2} times its 99th percentile",
                    cores / base.cores,
                    load.tail.as_secs_f64() / base.tail.as_secs_f64()
                ),
            }
        }
        println!(
            "memory after all that: {:.1} MiB; requests to the node's service in all: {}",
            agent.memory_mib(),
            asked.load(Ordering::Relaxed)
        );
    }

    fn head(method: &str, path: &str, token: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: 169.254.169.254\r\nx-aws-ec2-metadata-token: {token}\r\n\r\n"
        )
    }

    async fn connect(pod: usize) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        let own = SocketAddr::new(IpAddr::V4(address(pod)), 0);
        socket.bind(own).unwrap();
        socket.connect(GUARD.parse().unwrap()).await.unwrap()
    }

    /// A session token of each pod, and its credentials in the cache.
    async fn all_tokens() -> Vec<String> {
        let mut tokens = Vec::new();
        for pod in 0..PODS {
            let mut stream = connect(pod).await;
            let put = "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n";
            let answer = ask(&mut stream, put).await;
            let token = answer.rsplit("\r\n").next().unwrap().to_owned();
            let answer = ask(&mut stream, &head("GET", LIST, &token)).await;
            assert!(answer.ends_with("orchard-reader"), "{answer}");
            tokens.push(token);
        }
        tokens
    }

    async fn ask(stream: &mut TcpStream, head: &str) -> String {
        let mut buffer = [0; 4 << 10];
        stream.write_all(head.as_bytes()).await.unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    struct Load {
        count: usize,
        /// Answers of another status.
        odd: usize,
        took: Duration,
        half: Duration,
        tail: Duration,
        cores: f64,
    }

    /// Each pod asks ten times a second, on one connection or on a fresh one each time; times are from when a request was sent,
    /// or its connection begun: timers of a client wake a millisecond late.
    async fn load(heads: Vec<String>, expected: &'static str, fresh: bool, time: Duration) -> Load {
        let begin = Instant::now() + EVERY;
        let each = u32::try_from(time.as_millis() / EVERY.as_millis()).unwrap();
        let tasks: Vec<_> = heads
            .into_iter()
            .enumerate()
            .map(|(pod, head)| {
                tokio::spawn(async move {
                    let first = begin + EVERY * u32::try_from(pod).unwrap() / 250;
                    let mut stream = connect(pod).await;
                    let (mut times, mut odd) = (Vec::new(), 0);
                    for number in 0..each {
                        tokio::time::sleep_until((first + EVERY * number).into()).await;
                        let sent = Instant::now();
                        if fresh {
                            stream = connect(pod).await;
                        }
                        let answer = ask(&mut stream, &head).await;
                        times.push(sent.elapsed());
                        odd += usize::from(answer.get(9..12) != Some(expected));
                    }
                    (times, odd)
                })
            })
            .collect();
        let (mut times, mut odd) = (Vec::new(), 0);
        for task in tasks {
            let (own, own_odd) = task.await.unwrap();
            times.extend(own);
            odd += own_odd;
        }
        let took = begin.elapsed();
        times.sort_unstable();
        Load {
            count: times.len(),
            odd,
            took,
            half: times[times.len() / 2],
            tail: times[times.len() * 99 / 100],
            cores: 0.0,
        }
    }
}

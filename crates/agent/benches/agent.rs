//! The agent as a process of its own, beside a client and an auth service: CPU of a cached answer, the 99th percentile at 800 requests a
//! second next to a handler that does nothing, memory, and 250 pods that start at once.
//!
//! `cargo bench -p countersign-agent --bench agent`. The process under measurement is this program, started once more with an address
//! in its environment; CPU time and memory are the kernel's numbers for that process alone. The baseline is the same process
//! answering a path that does not exist.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench: it prints and stops at the first surprise"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::eks_auth::{EksAuthServer, Node};
use common::{claims, sign};
use countersign_agent::limit::Rate;
use countersign_agent::{
    Agent, AgentConfig, AuthLimits, CallRate, EksAuth, Endpoint, NodeCredentials, RequestLimits,
};
use countersign_upstream::clock::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Set in the process that is measured: the URL of the auth service.
const AUTH_SERVICE: &str = "COUNTERSIGN_BENCH_AUTH_SERVICE";
const PODS: usize = 4000;

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    match std::env::var(AUTH_SERVICE) {
        Ok(url) => runtime.block_on(be_measured(&url)),
        Err(_) => runtime.block_on(measure()),
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
    let mut config =
        AgentConfig::new(Arc::new(auth.unwrap())).for_pods(u32::try_from(PODS).unwrap());
    config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.probes = None;
    // All pods have one address here.
    config.requests = RequestLimits {
        per_pod: Rate::OFF,
        per_address: Rate::OFF,
        new_tokens: Rate::OFF,
        total: Rate::OFF,
    };
    config.calls = CallRate {
        per_second: 1e6,
        ..CallRate::for_pods(250)
    };
    let agent = Agent::start(config).await.unwrap();
    println!("{}", agent.addresses()[0]);
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = ended.await;
    agent.stop().await;
}

/// A started agent.
struct Measured {
    child: Child,
    address: SocketAddr,
}

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
        Self {
            child,
            address: line.trim().parse().unwrap(),
        }
    }

    fn memory_mib(&self) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// CPU time of all its threads.
    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.flatten().map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let first = text.split(' ').next().and_then(|n| n.parse().ok());
            first.unwrap_or(0)
        });
        Duration::from_nanos(nanos.sum())
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

async fn measure() {
    let started = Instant::now();
    let server = EksAuthServer::start(Duration::ZERO).await;
    let agent = Measured::start(&server);
    println!("ready after {:?}", started.elapsed());
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("memory idle: {:.1} MiB", agent.memory_mib());
    let requests: Arc<Vec<String>> = Arc::new((0..PODS).map(request).collect());
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    for request in requests.iter() {
        assert!(ask(&mut stream, request).await, "cold");
    }
    println!("memory with {PODS} pods: {:.1} MiB", agent.memory_mib());
    let nothing = Arc::new(vec![
        "GET /nothing HTTP/1.1\r\nHost: 169.254.170.23\r\n\r\n".to_owned(),
    ]);
    let kinds = [("nothing", &nothing), ("cached", &requests)];
    for (name, requests) in kinds {
        let (rate, micros) = saturate(&agent, requests).await;
        println!("{name}: {rate:.0}/s on 16 connections, {micros:.1} us CPU of the agent each");
    }
    let mut tails = Vec::new();
    for (name, requests) in kinds {
        let (half, tail) = paced(agent.address, requests).await;
        println!("{name} at 800/s: median {half:?}, 99th percentile {tail:?}");
        tails.push(tail);
    }
    println!(
        "99th percentile of cached answers: {:.2} times that of nothing",
        tails[1].as_secs_f64() / tails[0].as_secs_f64()
    );
    println!("memory after all that: {:.1} MiB", agent.memory_mib());
    drop(agent);

    let slow = EksAuthServer::start(Duration::from_millis(50)).await;
    let agent = Measured::start(&slow);
    let started = Instant::now();
    let tasks: Vec<_> = (0..250)
        .map(|number| {
            let (to, request) = (agent.address, request(number));
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(to).await.unwrap();
                ask(&mut stream, &request).await
            })
        })
        .collect();
    let mut answered = 0;
    for task in tasks {
        answered += usize::from(task.await.unwrap());
    }
    println!(
        "250 pods at once, auth service at 50 ms: {answered} answered within {:?}, {} calls",
        started.elapsed(),
        slow.calls().len()
    );
}

/// A request with a token of the size that kube-apiserver's have.
fn request(number: usize) -> String {
    let mut claims = claims(number, SystemClock.now().as_second() - 60);
    claims["jti"] = "0d7b5f2e-7a41-4d5e-8a1f-5f1c2b9e7a10".repeat(6).into();
    let token = sign(&claims);
    format!(
        "GET /v1/credentials HTTP/1.1\r\nHost: 169.254.170.23\r\nAuthorization: {token}\r\n\r\n"
    )
}

/// Whether the answer was 200 or that of the baseline.
async fn ask(stream: &mut TcpStream, request: &str) -> bool {
    let mut buffer = [0; 16 << 10];
    stream.write_all(request.as_bytes()).await.unwrap();
    let read = stream.read(&mut buffer).await.unwrap();
    buffer[..read].starts_with(b"HTTP/1.1 200") || buffer[..read].starts_with(b"HTTP/1.1 404")
}

/// Requests a second on 16 connections, and microseconds of the agent's CPU for each.
async fn saturate(agent: &Measured, requests: &Arc<Vec<String>>) -> (f64, f64) {
    const TIME: Duration = Duration::from_secs(5);
    let before = agent.cpu();
    let started = Instant::now();
    let to = agent.address;
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let requests = Arc::clone(requests);
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(to).await.unwrap();
                let mut count = 0u32;
                for request in requests.iter().cycle().skip(task * 61) {
                    if started.elapsed() > TIME {
                        break;
                    }
                    assert!(ask(&mut stream, request).await);
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.unwrap();
    }
    let used = agent.cpu() - before;
    (
        f64::from(count) / started.elapsed().as_secs_f64(),
        used.as_secs_f64() * 1e6 / f64::from(count),
    )
}

/// Median and 99th percentile at 800 requests a second, each from when it was sent: timers of a client wake a millisecond late.
async fn paced(to: SocketAddr, requests: &Arc<Vec<String>>) -> (Duration, Duration) {
    const CONNECTIONS: u32 = 8;
    const EACH: u32 = 1000;
    let step = Duration::from_millis(10);
    let begin = Instant::now() + step;
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|task| {
            let requests = Arc::clone(requests);
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(to).await.unwrap();
                let first = begin + step * task / CONNECTIONS;
                let mut times = Vec::new();
                for number in 0..EACH {
                    let due = first + step * number;
                    tokio::time::sleep_until(due.into()).await;
                    let sent = Instant::now();
                    let at = (number * CONNECTIONS + task) as usize % requests.len();
                    assert!(ask(&mut stream, &requests[at]).await);
                    times.push(sent.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

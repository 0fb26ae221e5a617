//! What a cached answer costs, without and with HTTP, next to a handler that does nothing.
//!
//! `cargo bench -p countersign-agent`. CPU time of the whole process for the in-process part and the best of many rounds, since
//! the machine may be shared; the allocations are exact. The HTTP part counts client and server together, in one process over
//! the loopback: the baseline is the same server answering a path that does not exist.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench: it prints and stops at the first surprise"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::eks_auth::{EksAuthServer, Node};
use common::{claims, sign};
use countersign_agent::limit::Rate;
use countersign_agent::{Agent, AgentConfig, CallRate, RequestLimits};
use countersign_upstream::clock::{Clock, SystemClock};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PODS: usize = 1000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let server = EksAuthServer::start(Duration::ZERO).await;
    let mut config = AgentConfig::new(Arc::new(server.client(Node::new()))).for_pods(4000);
    config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.probes = None;
    config.requests = RequestLimits {
        per_pod: Rate::OFF,
        per_address: Rate::OFF,
        new_tokens: Rate::OFF,
        total: Rate::OFF,
    };
    config.calls = CallRate {
        per_second: 1e6,
        ..CallRate::for_pods(4000)
    };
    let agent = Agent::start(config).await.unwrap();
    let now = SystemClock.now().as_second();
    let heads: Vec<HeaderMap> = (0..PODS)
        .map(|number| {
            let token = sign(&padded(number, now));
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("169.254.170.23"));
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&token).unwrap());
            headers
        })
        .collect();
    let uri = "/v1/credentials".parse().unwrap();
    let source = [10, 0, 0, 1].into();
    let ask = async |headers| {
        let answer = agent.answer(source, &Method::GET, &uri, headers).await;
        assert_eq!(answer.status(), 200);
    };
    let started = Instant::now();
    for head in &heads {
        ask(head).await;
    }
    let cold = started.elapsed() / u32::try_from(PODS).unwrap();
    println!("cold answer over HTTP to an auth service beside us: {cold:?}");
    println!("token of {} bytes", heads[0][AUTHORIZATION].len());
    ask(&heads[0]).await;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    ask(&heads[0]).await;
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let mut best = f64::MAX;
    for _ in 0..30 {
        let cpu = cpu();
        for head in &heads {
            ask(head).await;
        }
        best = best.min((crate::cpu() - cpu).as_secs_f64() * 1e6 / PODS as f64);
    }
    println!("cached answer, checks and cache alone: {best:.2} us CPU, {allocations} allocations");

    let to = agent.addresses()[0];
    let nothing = vec!["GET /nothing HTTP/1.1\r\nHost: 169.254.170.23\r\n\r\n".to_owned()];
    let requests: Vec<String> = heads
        .iter()
        .map(|headers| {
            let token = headers[AUTHORIZATION].to_str().unwrap();
            format!("GET /v1/credentials HTTP/1.1\r\nHost: 169.254.170.23\r\nAuthorization: {token}\r\n\r\n")
        })
        .collect();
    for (name, requests) in [
        ("a path that is not there", nothing),
        ("cached credentials", requests),
    ] {
        let (rate, micros) = load(to, Arc::new(requests)).await;
        println!(
            "{name}, 16 connections: {rate:.0}/s, {micros:.1} us CPU of client and server together"
        );
    }
    println!("memory with {PODS} pods: {:.1} MiB", memory_mib());
}

/// Claims of the size that kube-apiserver's tokens have.
fn padded(number: usize, now: i64) -> serde_json::Value {
    let mut claims = claims(number, now);
    claims["jti"] = "0d7b5f2e-7a41-4d5e-8a1f-5f1c2b9e7a10".repeat(6).into();
    claims
}

async fn load(to: SocketAddr, requests: Arc<Vec<String>>) -> (f64, f64) {
    const TIME: Duration = Duration::from_secs(3);
    let before = cpu();
    let started = Instant::now();
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let requests = Arc::clone(&requests);
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(to).await.unwrap();
                let mut buffer = vec![0; 16 << 10];
                let mut count = 0u64;
                for request in requests.iter().cycle().skip(task * 61) {
                    if started.elapsed() > TIME {
                        break;
                    }
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let read = stream.read(&mut buffer).await.unwrap();
                    assert!(buffer[..read].starts_with(b"HTTP/1.1 "));
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
    let used = cpu() - before;
    let rate = count as f64 / started.elapsed().as_secs_f64();
    (rate, used.as_secs_f64() * 1e6 / count as f64)
}

/// CPU time of this process, from `/proc/self/schedstat` of all threads: nanoseconds.
fn cpu() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
    };
    Duration::from_nanos(threads.map(|thread| of(thread.path())).sum())
}

fn memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

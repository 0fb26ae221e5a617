//! AdmissionReviews over TLS with keep-alive: throughput, server CPU, latency at paced rates, memory with 5,000 service accounts.
//!
//! The server is the real command in its own process; the load and the Kubernetes API come from this one, on the same machine. The
//! baseline is the same server answering `/healthz` over the same connections. Measured are `up`, a whole server, and then
//! `pod-identity-webhook`, which is nothing but the webhook; with an argument `alone` only the latter.
//! Run: `cargo bench -p countersign --bench mutate [-- alone]`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a benchmark fails by panicking and reports on stdout; it uses a part of what it shares"
)]

mod common;
#[path = "../tests/it/mutate_api.rs"]
mod mutate_api;

use std::path::Path;
use std::time::Duration;

use common::{Server, Target, cpu_model, exchange, paced, saturate};
use mutate_api::{Api, ROLE};
use serde_json::json;

const ACCOUNTS: usize = 5_000;
const PATCHED: &[u8] = b"\"patchType\":\"JSONPatch\"";

/// A pod as the API server sent it, of another account.
fn request(name: &str, account: usize) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pods/tests/data/kube-1.36");
    let body = std::fs::read(folder.join(format!("admissionreview-v1-{name}.json"))).unwrap();
    let mut review: serde_json::Value = serde_json::from_slice(&body).unwrap();
    review["request"]["object"]["spec"]["serviceAccountName"] = json!(format!("account-{account}"));
    let body = review.to_string();
    format!(
        "POST /mutate?timeout=10s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!(
        "machine: {} cores, {}",
        std::thread::available_parallelism().unwrap(),
        cpu_model()
    );
    let api = Api::start(Duration::ZERO);
    for n in 0..ACCOUNTS {
        // One in ten has a role, as in a cluster that uses IRSA a lot.
        api.account(
            "lab-a",
            &format!("account-{n}"),
            (n % 10 == 0).then_some(ROLE),
        );
    }
    let wants = |name: &str| std::env::args().any(|argument| argument == name);
    if !wants("alone") {
        println!("\n`up`, a whole server with its store and APIs:");
        measure(&whole(&api), None).await;
    }
    println!("\n`pod-identity-webhook`, the webhook alone:");
    measure(&alone(&api), Some(20)).await;
}

fn whole(api: &Api) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    let text = format!(
        "server:\n  kubeconfig: {}\ncountersign:\n  podIdentityWebhook: {{}}\n",
        api.kubeconfig(dir.path())
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    Server::start("up", dir, &["--events", "off", "--config", &config])
}

/// It has no flag for decision events: they go to a file beside the log, as they would go to the log of a container.
fn alone(api: &Api) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    let (cert, private) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    std::fs::write(&cert, certificate).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    let flags = [
        "--in-cluster=false".to_owned(),
        format!("--tls-cert={}", cert.display()),
        format!("--tls-key={}", private.display()),
        format!("--kubeconfig={}", api.kubeconfig(dir.path())),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Server::admission(dir, &cert, &flags)
}

/// Prints the numbers of a server; `wanted` is its memory in MiB.
async fn measure(server: &Server, wanted: Option<u32>) {
    let time = Duration::from_secs(5);
    let target = Target::webhook(server);
    let requests: Vec<_> = (0..64).map(|n| request("pod-create", n * 70)).collect();
    let mut stream = target.connect().await;
    let mut buffer = Vec::new();
    let first = exchange(&mut *stream, &requests[0], &mut buffer, PATCHED).await;
    // The last page of the list may still be on its way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(first, "{}", String::from_utf8_lossy(&buffer));
    let wanted = wanted.map_or(String::new(), |mib| format!(" (wanted: {mib})"));
    println!(
        "memory with {ACCOUNTS} service accounts: {:.1} MiB{wanted}",
        server.memory_mib()
    );

    let nothing = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec();
    let baseline = saturate(|| server.cpu(), &target, 16, time, &[nothing], b"ok").await;
    println!(
        "baseline, /healthz over TLS keep-alive, 16 connections: {:.0}/s, {:.1} us server CPU",
        baseline.per_second, baseline.cpu_micros
    );
    let load = saturate(|| server.cpu(), &target, 16, time, &requests, PATCHED).await;
    println!(
        "AdmissionReview, IRSA, {} bytes, 16 connections: {:.0}/s ({:.2} of baseline; wanted: 20,000/s), {:.1} us server CPU ({:.2} of baseline)",
        requests[0].len(),
        load.per_second,
        load.per_second / baseline.per_second,
        load.cpu_micros,
        load.cpu_micros / baseline.cpu_micros
    );
    let without: Vec<_> = (0..64).map(|n| request("pod-create", n * 70 + 1)).collect();
    let load_without = saturate(
        || server.cpu(),
        &target,
        16,
        time,
        &without,
        b"\"decision\":\"none\"",
    )
    .await;
    println!(
        "AdmissionReview, nothing to add: {:.0}/s, {:.1} us server CPU",
        load_without.per_second, load_without.cpu_micros
    );
    for (rate, name) in [
        (1000.0, "1,000/s"),
        (load.per_second / 2.0, "half the maximum"),
    ] {
        let [p50, p99, p999] = paced(&target, rate, time, &requests, PATCHED).await;
        println!(
            "AdmissionReview, IRSA, at {name}: p50 {p50:.2} ms, p99 {p99:.2} ms (wanted: 5), p99.9 {p999:.2} ms"
        );
    }
    println!("memory after the load: {:.1} MiB", server.memory_mib());
}

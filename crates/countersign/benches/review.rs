//! TokenReview and SubjectAccessReview over TLS with keep-alive: throughput, server CPU, latency at paced rates, memory.
//!
//! The server is the real command in its own process; the load comes from this one, on the same machine. The baseline is the
//! same server answering `/healthz`, a handler that does nothing, over the same connections.
//! Run: `cargo bench -p countersign --bench review`. `REVIEWS=1000000` sets the length of the memory run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark fails by panicking and reports on stdout"
)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Server, Target, cpu_model, exchange, paced, saturate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn review_request(token: &str) -> Vec<u8> {
    let body = format!(
        "{{\"kind\":\"TokenReview\",\"apiVersion\":\"authentication.k8s.io/v1\",\"metadata\":{{}},\"spec\":{{\"token\":\"{token}\",\
         \"audiences\":[\"https://kubernetes.default.svc.cluster.local\"]}},\"status\":{{\"user\":{{}}}}}}"
    );
    format!(
        "POST /authenticate?timeout=30s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n\
         Accept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A SubjectAccessReview of the user that a TokenReview answered, as kube-apiserver sends it.
fn access_request(user: &serde_json::Value, namespace: &str) -> Vec<u8> {
    let body = serde_json::json!({
        "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
        "spec": {
            "resourceAttributes": {"namespace": namespace, "verb": "list", "version": "v1", "resource": "pods"},
            "user": user["username"], "uid": user["uid"], "groups": ["system:authenticated"], "extra": user["extra"],
        },
        "status": {"allowed": false},
    })
    .to_string();
    format!(
        "POST /authorize?timeout=3s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n\
         Accept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn review(target: &Target, request: &[u8]) -> serde_json::Value {
    let mut stream = target.connect().await;
    let mut buffer = Vec::new();
    let fine = exchange(
        &mut *stream,
        request,
        &mut buffer,
        b"\"authenticated\":true",
    )
    .await;
    assert!(fine, "{}", String::from_utf8_lossy(&buffer));
    let body = buffer
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap()
        + 4;
    serde_json::from_slice(&buffer[body..]).unwrap()
}

/// A TLS server that forwards to our STS after a delay: real STS answers take a round trip.
async fn delayed_sts(dir: &Path, upstream: String, delay: Duration) -> (String, String) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = dir.join("sts-ca.pem");
    std::fs::write(&ca, authority.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(authority, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = ["sts.us-east-1.amazonaws.com".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else {
                    return;
                };
                let Ok(mut server) = TcpStream::connect(&upstream).await else {
                    return;
                };
                let mut request = vec![0; 16 << 10];
                while let Ok(read @ 1..) = client.read(&mut request).await {
                    tokio::time::sleep(delay).await;
                    server.write_all(&request[..read]).await.unwrap();
                    let mut answer = vec![0; 16 << 10];
                    let Ok(read @ 1..) = server.read(&mut answer).await else {
                        return;
                    };
                    client.write_all(&answer[..read]).await.unwrap();
                }
            });
        }
    });
    (address, ca.display().to_string())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let time = Duration::from_secs(5);
    println!(
        "machine: {} cores, {}",
        std::thread::available_parallelism().unwrap(),
        cpu_model()
    );
    let embedded = Server::start("up", tempfile::tempdir().unwrap(), &["--events", "off"]);
    let target = Target::webhook(&embedded);
    let request = review_request(&embedded.get_token(true));
    let requests = [request.clone()];
    let reviewed = review(&target, &request).await;
    println!("memory after start: {:.1} MiB", embedded.memory_mib());

    let nothing = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let baseline = saturate(
        || embedded.cpu(),
        &target,
        16,
        time,
        &[nothing.to_vec()],
        b"ok",
    )
    .await;
    println!(
        "baseline, /healthz over TLS keep-alive, 16 connections: {:.0}/s, {:.1} us server CPU",
        baseline.per_second, baseline.cpu_micros
    );
    let load = saturate(
        || embedded.cpu(),
        &target,
        16,
        time,
        &requests,
        b"\"authenticated\":true",
    )
    .await;
    println!(
        "TokenReview, embedded, 16 connections: {:.0}/s ({:.2} of baseline), {:.1} us server CPU ({:.2} of baseline)",
        load.per_second,
        load.per_second / baseline.per_second,
        load.cpu_micros,
        load.cpu_micros / baseline.cpu_micros
    );
    for (rate, name) in [
        (800.0, "800/s"),
        (load.per_second / 2.0, "half the maximum"),
    ] {
        let [p50, p99, p999] =
            paced(&target, rate, time, &requests, b"\"authenticated\":true").await;
        println!(
            "TokenReview, embedded, at {name}: p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms"
        );
    }
    // Many namespaces, since kube-apiserver's own cache answers what was asked before.
    let accesses: Vec<_> = (0..64)
        .map(|n| access_request(&reviewed["status"]["user"], &format!("team-{n}")))
        .collect();
    let asked = saturate(
        || embedded.cpu(),
        &target,
        16,
        time,
        &accesses,
        b"\"allowed\":true",
    )
    .await;
    println!(
        "SubjectAccessReview, 16 connections: {:.0}/s ({:.2} of baseline), {:.1} us server CPU ({:.2} of baseline); wanted: 20,000/s",
        asked.per_second,
        asked.per_second / baseline.per_second,
        asked.cpu_micros,
        asked.cpu_micros / baseline.cpu_micros
    );
    for (rate, name) in [
        (2000.0, "2,000/s"),
        (asked.per_second / 2.0, "half the maximum"),
    ] {
        let [p50, p99, p999] = paced(&target, rate, time, &accesses, b"\"allowed\":true").await;
        println!(
            "SubjectAccessReview at {name}: p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms"
        );
    }
    let total: u64 = std::env::var("REVIEWS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let seconds = (total as f64 / load.per_second).ceil().max(1.0);
    let long = saturate(
        || embedded.cpu(),
        &target,
        16,
        Duration::from_secs_f64(seconds),
        &requests,
        b"\"authenticated\":true",
    )
    .await;
    println!(
        "memory after another {:.0} reviews: {:.1} MiB",
        long.per_second * seconds,
        embedded.memory_mib()
    );

    let dir = tempfile::tempdir().unwrap();
    let sts = embedded
        .field("endpointUrl")
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let (address, ca) = delayed_sts(dir.path(), sts, Duration::from_millis(20)).await;
    let state = dir.path().join("state");
    let config = dir.path().join("config.yaml");
    let text = format!(
        "clusterID: demo\nserver:\n  port: 0\n  stateDir: {0}\n  generateKubeconfig: {0}/kubeconfig.yaml\n  mapUsers:\n  - userarn: {1}\n    username: admin\n    groups: [ops]\n\
         countersign:\n  healthListen: \"off\"\n  events: \"off\"\n  upstream: {{connectTo: \"{address}\", caFile: {ca}}}\n",
        state.display(),
        embedded.field("admin.arn"),
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let upstream = Server::start("serve", dir, &["--config", &config]);
    let target = Target::webhook(&upstream);
    let request = review_request(&embedded.get_token(false));
    let requests = [request.clone()];
    review(&target, &request).await;
    let load = saturate(
        || upstream.cpu(),
        &target,
        16,
        time,
        &requests,
        b"\"authenticated\":true",
    )
    .await;
    println!(
        "TokenReview, upstream mode, one repeated token, 20 ms to STS, 16 connections: {:.0}/s, {:.1} us server CPU",
        load.per_second, load.cpu_micros
    );
}

//! TokenReview over TLS with keep-alive: throughput, server CPU, latency at paced rates, memory.
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

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

struct Server {
    child: Child,
    ready: Value,
    /// Removed after the process ended.
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(command: &str, dir: tempfile::TempDir, args: &[&str]) -> Self {
        let ready_file = dir.path().join("ready.json");
        let mut process = Command::new(BINARY);
        process
            .arg(command)
            .args(args)
            .arg("--ready-file")
            .arg(&ready_file);
        if command == "up" {
            process.arg("--data-dir").arg(dir.path().join("data"));
            process.args(["--listen", "127.0.0.1:0", "--webhook-listen", "127.0.0.1:0"]);
        }
        let stderr = std::fs::File::create(dir.path().join("stderr.log")).unwrap();
        let child = process
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let ready = loop {
            if let Ok(text) = std::fs::read(&ready_file) {
                break serde_json::from_slice(&text).unwrap();
            }
            assert!(
                Instant::now() < deadline,
                "{}",
                std::fs::read_to_string(dir.path().join("stderr.log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        Self {
            child,
            ready,
            _dir: dir,
        }
    }

    fn field(&self, path: &str) -> String {
        path.split('.')
            .fold(&self.ready, |value, key| &value[key])
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn get_token(&self, endpoint: bool) -> String {
        let mut command = Command::new(BINARY);
        command
            .args(["token", "-i", "demo", "--token-only"])
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", self.field("admin.accessKeyId"))
            .env("AWS_SECRET_ACCESS_KEY", self.field("admin.secretAccessKey"))
            .env("AWS_REGION", "us-east-1");
        if endpoint {
            command.env("AWS_ENDPOINT_URL", self.field("endpointUrl"));
        }
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// User and system CPU time so far.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    fn memory_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
            / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone)]
struct Target {
    address: String,
    tls: TlsConnector,
}

impl Target {
    fn of(server: &Server) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in
            CertificateDer::pem_file_iter(Path::new(&server.field("webhookCaFile"))).unwrap()
        {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = server
            .field("webhookUrl")
            .strip_prefix("https://")
            .unwrap()
            .to_owned();
        Self {
            address,
            tls: TlsConnector::from(Arc::new(config)),
        }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        self.tls
            .connect(ServerName::try_from("127.0.0.1").unwrap(), stream)
            .await
            .unwrap()
    }
}

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

/// One request, one answer; gives whether the answer contains `wanted`.
async fn exchange(
    stream: &mut TlsStream<TcpStream>,
    request: &[u8],
    buffer: &mut Vec<u8>,
    wanted: &[u8],
) -> bool {
    stream.write_all(request).await.unwrap();
    buffer.clear();
    loop {
        let read = stream.read_buf(buffer).await.unwrap();
        assert!(read > 0, "the server closed the connection");
        let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head]).unwrap();
        let length: usize = text
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .map(|n| n.parse().unwrap())
            })
            .unwrap();
        if buffer.len() >= head + 4 + length {
            return buffer[head..]
                .windows(wanted.len())
                .any(|window| window == wanted);
        }
    }
}

struct Load {
    per_second: f64,
    cpu_micros: f64,
}

/// As many requests as fit into `time` over `connections` keep-alive connections.
async fn saturate(
    server: &Server,
    target: &Target,
    connections: usize,
    time: Duration,
    request: &[u8],
    wanted: &'static [u8],
) -> Load {
    let count = Arc::new(AtomicU64::new(0));
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(target.connect().await);
    }
    let (cpu, start) = (server.cpu(), Instant::now());
    let mut tasks = Vec::new();
    for mut stream in streams {
        let (count, request) = (Arc::clone(&count), request.to_vec());
        tasks.push(tokio::spawn(async move {
            let mut buffer = Vec::with_capacity(4096);
            while start.elapsed() < time {
                assert!(
                    exchange(&mut stream, &request, &mut buffer, wanted).await,
                    "{}",
                    String::from_utf8_lossy(&buffer)
                );
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (elapsed, cpu) = (start.elapsed(), server.cpu() - cpu);
    let count = count.load(Ordering::Relaxed) as f64;
    Load {
        per_second: count / elapsed.as_secs_f64(),
        cpu_micros: cpu.as_secs_f64() * 1e6 / count,
    }
}

/// Latency percentiles at a fixed rate, measured from when each request was due, so that a stall counts for all it delays.
async fn paced(
    target: &Target,
    rate: f64,
    time: Duration,
    request: &[u8],
    wanted: &'static [u8],
) -> [f64; 3] {
    const CONNECTIONS: usize = 16;
    let mut tasks = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(target.connect().await);
    }
    let start = Instant::now() + Duration::from_millis(50);
    for (index, mut stream) in streams.into_iter().enumerate() {
        let request = request.to_vec();
        tasks.push(tokio::spawn(async move {
            let step = CONNECTIONS as f64 / rate;
            let mut buffer = Vec::with_capacity(4096);
            let mut latencies = Vec::new();
            let mut round = 0.0;
            loop {
                let due = start + Duration::from_secs_f64(index as f64 / rate + round * step);
                if due > start + time {
                    return latencies;
                }
                let now = Instant::now();
                if due > now + Duration::from_millis(2) {
                    tokio::time::sleep(due - now - Duration::from_millis(1)).await;
                }
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                assert!(exchange(&mut stream, &request, &mut buffer, wanted).await);
                latencies.push(due.elapsed().as_secs_f64() * 1e3);
                round += 1.0;
            }
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all.sort_by(f64::total_cmp);
    [0.5, 0.99, 0.999].map(|q| all[((all.len() - 1) as f64 * q) as usize])
}

async fn review(target: &Target, request: &[u8]) {
    let mut stream = target.connect().await;
    let mut buffer = Vec::new();
    let fine = exchange(&mut stream, request, &mut buffer, b"\"authenticated\":true").await;
    assert!(fine, "{}", String::from_utf8_lossy(&buffer));
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
    let target = Target::of(&embedded);
    let request = review_request(&embedded.get_token(true));
    review(&target, &request).await;
    println!("memory after start: {:.1} MiB", embedded.memory_mib());

    let nothing = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let baseline = saturate(&embedded, &target, 16, time, nothing, b"ok").await;
    println!(
        "baseline, /healthz over TLS keep-alive, 16 connections: {:.0}/s, {:.1} us server CPU",
        baseline.per_second, baseline.cpu_micros
    );
    let load = saturate(
        &embedded,
        &target,
        16,
        time,
        &request,
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
            paced(&target, rate, time, &request, b"\"authenticated\":true").await;
        println!(
            "TokenReview, embedded, at {name}: p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms"
        );
    }
    let total: u64 = std::env::var("REVIEWS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let seconds = (total as f64 / load.per_second).ceil().max(1.0);
    let long = saturate(
        &embedded,
        &target,
        16,
        Duration::from_secs_f64(seconds),
        &request,
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
    let target = Target::of(&upstream);
    let request = review_request(&embedded.get_token(false));
    review(&target, &request).await;
    let load = saturate(
        &upstream,
        &target,
        16,
        time,
        &request,
        b"\"authenticated\":true",
    )
    .await;
    println!(
        "TokenReview, upstream mode, one repeated token, 20 ms to STS, 16 connections: {:.0}/s, {:.1} us server CPU",
        load.per_second, load.cpu_micros
    );
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("model name\t: "))
        .unwrap_or("unknown processor")
        .to_owned()
}

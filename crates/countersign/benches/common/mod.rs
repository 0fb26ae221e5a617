//! What the benchmarks of the server share: the real command in a process of its own, and load over keep-alive connections
//! from this one, on the same machine.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

pub(crate) struct Server {
    child: Child,
    ready: Value,
    /// Removed after the process ended.
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(command: &str, dir: tempfile::TempDir, args: &[&str]) -> Self {
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

    /// Starts `pod-identity-webhook`, whose ports the log tells; `ca` is that of its certificate.
    pub(crate) fn admission(dir: tempfile::TempDir, ca: &Path, args: &[&str]) -> Self {
        let log = dir.path().join("stderr.log");
        let child = Command::new(BINARY)
            .args(["pod-identity-webhook", "--port=0", "--metrics-port=0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let port = loop {
            let text = std::fs::read_to_string(&log).unwrap();
            let told = text.split_once(" serving webhook=").map(|(_, rest)| rest);
            if let Some((address, _)) = told.and_then(|rest| rest.split_once(' ')) {
                break address.rsplit_once(':').unwrap().1.to_owned();
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(5));
        };
        let url = format!("https://127.0.0.1:{port}");
        Self {
            child,
            ready: serde_json::json!({"webhookUrl": url, "webhookCaFile": ca}),
            _dir: dir,
        }
    }

    pub(crate) fn field(&self, path: &str) -> String {
        path.split('.')
            .fold(&self.ready, |value, key| &value[key])
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn get_token(&self, endpoint: bool) -> String {
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
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    pub(crate) fn memory_mib(&self) -> f64 {
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

/// A connection, with or without TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where the load goes.
#[derive(Clone)]
pub(crate) struct Target {
    address: String,
    tls: Option<TlsConnector>,
}

impl Target {
    /// The webhook.
    pub(crate) fn webhook(server: &Server) -> Self {
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
        let url = server.field("webhookUrl");
        Self {
            address: url.strip_prefix("https://").unwrap().to_owned(),
            tls: Some(TlsConnector::from(Arc::new(config))),
        }
    }

    /// An address without TLS, such as that of the AWS APIs.
    pub(crate) fn plain(url: &str) -> Self {
        Self {
            address: url.strip_prefix("http://").unwrap().to_owned(),
            tls: None,
        }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) async fn connect(&self) -> Box<dyn Stream> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from("127.0.0.1").unwrap();
                Box::new(tls.connect(name, stream).await.unwrap())
            }
        }
    }
}

/// One request, one answer; gives whether the answer contains `wanted`.
pub(crate) async fn exchange(
    stream: &mut dyn Stream,
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

/// What came of a run.
pub(crate) struct Load {
    pub(crate) per_second: f64,
    pub(crate) cpu_micros: f64,
}

/// As many requests as fit into `time` over `connections` keep-alive connections.
pub(crate) async fn saturate(
    cpu_of: impl Fn() -> Duration,
    target: &Target,
    connections: usize,
    time: Duration,
    requests: &[Vec<u8>],
    wanted: &'static [u8],
) -> Load {
    let count = Arc::new(AtomicU64::new(0));
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(target.connect().await);
    }
    let (cpu, start) = (cpu_of(), Instant::now());
    let mut tasks = Vec::new();
    for mut stream in streams {
        let (count, requests) = (Arc::clone(&count), requests.to_vec());
        let target = target.clone();
        tasks.push(tokio::spawn(async move {
            let mut buffer = Vec::with_capacity(4096);
            for request in requests.iter().cycle() {
                if start.elapsed() >= time {
                    break;
                }
                assert!(
                    exchange(&mut *stream, request, &mut buffer, wanted).await,
                    "{}",
                    String::from_utf8_lossy(&buffer)
                );
                count.fetch_add(1, Ordering::Relaxed);
                // Some baselines do not keep connections alive.
                if buffer
                    .windows(17)
                    .any(|part| part.eq_ignore_ascii_case(b"connection: close"))
                {
                    stream = target.connect().await;
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (elapsed, cpu) = (start.elapsed(), cpu_of() - cpu);
    let count = count.load(Ordering::Relaxed) as f64;
    Load {
        per_second: count / elapsed.as_secs_f64(),
        cpu_micros: cpu.as_secs_f64() * 1e6 / count,
    }
}

/// Latency percentiles at a fixed rate, measured from when each request was due, so that a stall counts for all it delays.
pub(crate) async fn paced(
    target: &Target,
    rate: f64,
    time: Duration,
    requests: &[Vec<u8>],
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
        let requests = requests.to_vec();
        tasks.push(tokio::spawn(async move {
            let step = CONNECTIONS as f64 / rate;
            let mut buffer = Vec::with_capacity(4096);
            let mut latencies = Vec::new();
            let mut round = 0.0;
            for request in requests.iter().cycle() {
                let due = start + Duration::from_secs_f64(index as f64 / rate + round * step);
                if due > start + time {
                    break;
                }
                let now = Instant::now();
                if due > now + Duration::from_millis(2) {
                    tokio::time::sleep(due - now - Duration::from_millis(1)).await;
                }
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                assert!(exchange(&mut *stream, request, &mut buffer, wanted).await);
                latencies.push(due.elapsed().as_secs_f64() * 1e3);
                round += 1.0;
            }
            latencies
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all.sort_by(f64::total_cmp);
    [0.5, 0.99, 0.999].map(|q| all[((all.len() - 1) as f64 * q) as usize])
}

/// The processor's name.
pub(crate) fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("model name\t: "))
        .unwrap_or("unknown processor")
        .to_owned()
}
